"""Thermal averages by size and temperature."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._result import Result
from .._statistics import (
    Estimate,
    mean_of_realizations,
    mean_with_error,
    thermal_error,
)
from ._fluctuations import binder_cumulant, heat_capacity, susceptibility
from ._thermal_sampling import ThermalSamples

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SizeAverages(Result):
    """Averages of one size at T temperatures, with standard errors.

    Attributes
    ----------
    size : (3,) tuple
        Repeats of the cell.
    n_magnetic : int
    order, susceptibility, binder, heat_capacity : (T, 2) arrays
        Value and error: size of the ordered moment (mu_B), its susceptibility per
        magnetic atom (mu_B^2/eV), U4, and heat capacity per magnetic atom (k_B; of the
        potential energy). An error is NaN where samples are too few for one.
    drift : (T,) array
        Difference of the mean order of both halves of the run, in standard errors.
    realizations : dict of (R, T, 2) arrays
        The quantities with errors of each realization of a disordered crystal, whose
        mean these are, by their names; empty without disorder.
    """

    size: tuple[int, int, int]
    n_magnetic: int
    order: np.ndarray
    susceptibility: np.ndarray
    binder: np.ndarray
    heat_capacity: np.ndarray
    drift: np.ndarray
    realizations: dict[str, np.ndarray] = field(default_factory=dict)

    def errors(self, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the parts (T,) of an error, by sampling and by realizations.

        Their squares add up to that of the error of ``quantity``, such as "order".
        """
        total = getattr(self, quantity)[:, 1]
        if not self.realizations:
            return total, np.zeros_like(total)
        thermal = thermal_error(self.realizations[quantity])
        return thermal, np.sqrt(np.maximum(total**2 - thermal**2, 0.0))


def size_averages(
    size: tuple[int, int, int], parts: Sequence[ThermalSamples]
) -> SizeAverages:
    """Average the samples of one size, whose temperatures come in parts.

    Parameters
    ----------
    size : (3,) tuple
        Repeats of the cell.
    parts : sequence of ThermalSamples
    """
    runs = [
        (t, order, energy)
        for part in parts
        for t, order, energy in zip(
            part.temperatures_K, part.order, part.energy, strict=True
        )
    ]
    n = parts[0].n_magnetic
    return SizeAverages(
        size,
        n,
        order=_table([mean_with_error(order) for _, order, _ in runs]),
        susceptibility=_table(
            [estimate_or_nan(susceptibility, order, t, n) for t, order, _ in runs]
        ),
        binder=_table(
            [estimate_or_nan(binder_cumulant, order) for _, order, _ in runs]
        ),
        heat_capacity=_table(
            [estimate_or_nan(heat_capacity, energy, t, n) for t, _, energy in runs]
        ),
        drift=np.array([half_difference(order) for _, order, _ in runs]),
    )


def disorder_average(realizations: Sequence[SizeAverages]) -> SizeAverages:
    """Return the mean over realizations of a disordered crystal of one size.

    Errors are those of the mean of independent realizations, which hold the errors of
    the samples of each.
    """
    if len(realizations) == 1:
        return realizations[0]
    each = {
        name: np.array([getattr(r, name) for r in realizations])
        for name in ("order", "susceptibility", "binder", "heat_capacity")
    }
    return SizeAverages(
        realizations[0].size,
        round(np.mean([r.n_magnetic for r in realizations])),
        **{name: mean_of_realizations(values) for name, values in each.items()},
        drift=np.max([r.drift for r in realizations], axis=0),
        realizations=each,
    )


def half_difference(order: np.ndarray) -> float:
    """Return how much the means of both halves of a run differ, in their error."""
    first, second = (mean_with_error(half) for half in np.array_split(order, 2))
    error = max(float(np.hypot(first.error, second.error)), 1e-12)
    return abs(first.value - second.value) / error


def _table(estimates: Sequence[Estimate]) -> np.ndarray:
    return np.array(estimates, dtype=float).reshape(-1, 2)


def estimate_or_nan(estimate: Callable[..., Estimate], *samples: Any) -> Estimate:
    """Return an estimate; NaN where samples are too few for an error."""
    try:
        return estimate(*samples)
    except ValueError as error:
        logger.info("%s", error)
        return Estimate(np.nan, np.nan)
