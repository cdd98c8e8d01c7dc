"""Isothermal entropy change in a field (magnetocaloric effect)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._distributed import map_tasks
from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive_numbers
from ...spins import unit_vector
from ...units import MU_B
from .._model import Model, model_of
from .._statistics import bootstrap, covariance
from ._thermal_sampling import SamplingTask, ThermalSamples, model_data, run_sampling

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class EntropyChange(Result):
    """Isothermal entropy change between zero field and each of F fields.

    Attributes
    ----------
    temperatures_K : (T,) array
    fields_T : (F,) array
        Zero first.
    entropy : (T, F) array, k_B per magnetic atom
        S(T, B) - S(T, 0); negative where the field orders.
    error : (T, F) array
        Standard errors.
    magnetization : (T, F) array, mu_B
        Mean moment along the field per magnetic atom; zero at zero field.
    """

    temperatures_K: np.ndarray
    fields_T: np.ndarray
    entropy: np.ndarray
    error: np.ndarray
    magnetization: np.ndarray


def entropy_change(
    atoms: Atoms,
    temperatures_K: ArrayLike,
    fields_T: ArrayLike,
    *,
    direction: str | ArrayLike = "z",
    steps: int = 5000,
    equilibration: int | None = None,
    interval: int = 2,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    seed: int = 0,
    client: Any = None,
    progress: bool | None = None,
) -> EntropyChange:
    """Return the entropy change of a magnet in a field.

    By Maxwell's relation, Delta S = int_0^B (dM/dT)_B' dB', with the derivative from
    the fluctuations at each temperature, (dM/dT)_B = (<M H> - <M><H>)/(k T^2), where H
    holds the energy in the field (K. A. Gschneidner Jr. and V. K. Pecharsky, Annu.
    Rev. Mater. Sci. 30, 387 (2000), doi:10.1146/annurev.matsci.30.1.387). At B' = 0 it
    vanishes by time reversal. Integrated with the trapezoidal rule; use a fine grid of
    fields where M(B) is curved.

    Parameters
    ----------
    atoms : Atoms
        The whole periodic structure, with moments.
    temperatures_K : (T,) array
        Positive; all run in one batch for each field.
    fields_T : (F,) array, T
        Positive ones, ascending; zero is added.
    direction : (3,) array or str
        Of the field.
    steps, equilibration, interval, method, options, model, seed, client, progress
        As for :func:`~deepspin_ase.analysis.curie_temperature`.

    Raises
    ------
    ValueError
        If there is no model, temperatures or fields are not as described, or moments
        are missing.
    """
    temperatures = positive_numbers("temperatures_K", temperatures_K)
    fields = positive_numbers("fields_T", fields_T)
    if (np.diff(fields) <= 0).any():
        raise ValueError(f"fields_T must ascend, got {fields}")
    axis = unit_vector(direction)
    common = {
        "model": model_data(model_of(atoms, model)),
        "atoms": atoms,
        "temperatures_K": tuple(temperatures.tolist()),
        "q": (0.0, 0.0, 0.0),
        "cell": atoms.cell.array,
        "steps": steps,
        "equilibration": steps // 5 if equilibration is None else equilibration,
        "interval": interval,
        "method": method,
    }
    tasks = [
        SamplingTask(
            **common,
            options={**(options or {}), "external_field_T": tuple((b * axis).tolist())},
            seed=seed + k,
        )
        for k, b in enumerate(fields)
    ]
    found = map_tasks(
        partial(run_sampling, progress=False),
        tasks,
        client=client,
        description="fields",
        progress=progress,
    )
    return _integrated(temperatures, fields, found, axis)


def _integrated(
    temperatures: np.ndarray,
    fields: np.ndarray,
    found: list[ThermalSamples],
    axis: np.ndarray,
) -> EntropyChange:
    """Integrate the slopes of the entropy over the fields (F,), T."""
    slopes = np.zeros((len(temperatures), len(fields) + 1, 2))
    moments = np.zeros(slopes.shape[:2])
    for k, (b, samples) in enumerate(zip(fields, found, strict=True)):
        slopes[:, k + 1], moments[:, k + 1] = _slopes(samples, axis, b)
    every = np.concatenate([[0.0], fields])
    # Weights of the trapezoidal rule up to each field.
    weights = np.zeros((len(every), len(every)))
    for k, width in enumerate(np.diff(every)):
        weights[k + 1 :, k : k + 2] += 0.5 * width
    return EntropyChange(
        temperatures,
        every,
        slopes[..., 0] @ weights.T,
        np.sqrt(slopes[..., 1] ** 2 @ weights.T**2),
        moments,
    )


@plots(EntropyChange)
def plot_entropy_change(result: EntropyChange, ax: Axes | None = None) -> Axes:
    """Draw minus the entropy change against temperature, a line for each field."""
    ax = figure_axes(ax)
    for k, field in enumerate(result.fields_T[1:], 1):
        ax.errorbar(
            result.temperatures_K,
            -result.entropy[:, k],
            result.error[:, k],
            fmt="o-",
            ms=3,
            capsize=2,
            label=f"{field:g} T",
        )
    ax.set(xlabel="temperature (K)", ylabel=r"$-\Delta S$ ($k_B$ per magnetic atom)")
    ax.legend()
    return ax


def _slopes(
    samples: ThermalSamples, axis: np.ndarray, field: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return dS/dB with its error, (T, 2), k_B/T, and the moments (T,), mu_B."""
    rows = []
    along = samples.magnetization @ axis
    for t, m, energy in zip(samples.temperatures_K, along, samples.energy, strict=True):
        total = energy - MU_B * field * samples.n_magnetic * m
        a, b = m - m.mean(), total - total.mean()
        found = bootstrap(np.stack([a, b, a * b], axis=1), covariance)
        rows.append(np.array(found) * MU_B / (units.kB * t) ** 2)
    return np.array(rows), along.mean(axis=1)
