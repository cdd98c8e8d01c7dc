"""Magnetic transition temperatures from sampling at several temperatures and sizes.

>>> result = curie_temperature(potential, atoms, np.linspace(900, 1200, 9))
>>> print(result)
>>> plot_transition(result)
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from deepspin_ase.calculator import DeepSpinCalculator
from deepspin_ase.figures import figure_axes
from deepspin_ase.potentials import Potential

from .crossing import crossing, peak
from .distributed import map_tasks, n_threads
from .fluctuations import binder_cumulant, heat_capacity, susceptibility
from .statistics import Estimate, mean_with_error
from .thermal_sampling import METHODS, SamplingTask, ThermalSamples, model_data, sample

logger = logging.getLogger(__name__)

#: Halves of a run that differ by more of their errors than this are not equilibrium.
_DRIFT = 4.0


@dataclass(frozen=True, eq=False)
class SizeAverages:
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
    """

    size: tuple[int, int, int]
    n_magnetic: int
    order: np.ndarray
    susceptibility: np.ndarray
    binder: np.ndarray
    heat_capacity: np.ndarray
    drift: np.ndarray


@dataclass(frozen=True, eq=False)
class TransitionResult:
    """What :func:`curie_temperature` found.

    Attributes
    ----------
    temperature_K : Estimate
        Where the Binder cumulants of the two largest sizes cross; with three sizes
        or more the error holds half the distance to the crossing before it.
    temperatures_K : (T,) array
    sizes : list of SizeAverages
        From small to large.
    crossings_K : list of Estimate
        Of each size with the next larger one.
    susceptibility_peaks_K, heat_capacity_peaks_K : list of Estimate
        By size; NaN where the highest value is at an end of the temperatures. They
        approach the transition as sizes grow.
    """

    temperature_K: Estimate
    temperatures_K: np.ndarray
    sizes: list[SizeAverages]
    crossings_K: list[Estimate]
    susceptibility_peaks_K: list[Estimate]
    heat_capacity_peaks_K: list[Estimate]

    def __str__(self) -> str:
        """Return the temperatures as a table."""
        rows = [f"transition at {_text(self.temperature_K)} K", _HEADER]
        crossings = [*self.crossings_K, None]
        for k, entry in enumerate(self.sizes):
            cells = (
                "x".join(map(str, entry.size)),
                _text(crossings[k]),
                _text(self.susceptibility_peaks_K[k]),
                _text(self.heat_capacity_peaks_K[k]),
            )
            rows.append("".join(f"{cell:>20}" for cell in cells))
        return "\n".join(rows)


_HEADER = "".join(
    f"{name:>20}" for name in ("size", "crossing with next", "peak of chi", "peak of c")
)


def curie_temperature(
    potential: Potential | DeepSpinCalculator | str | os.PathLike[str],
    atoms: Atoms,
    temperatures_K: ArrayLike,
    *,
    sizes: Sequence[int | Sequence[int]] = (4, 6, 8),
    q: ArrayLike = (0.0, 0.0, 0.0),
    steps: int = 20000,
    equilibration: int | None = None,
    interval: int = 5,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    client: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> TransitionResult:
    """Find the temperature at which a magnetic order vanishes.

    All temperatures of a size run in one batch, from the moments of ``atoms``. The
    transition is where the Binder cumulants U4 of different sizes cross (K. Binder,
    Z. Phys. B 43, 119 (1981), doi:10.1007/BF01293604).

    Parameters
    ----------
    potential : Potential, DeepSpinCalculator, path or str
        As for :class:`~deepspin_ase.DeepSpinCalculator`.
    atoms : Atoms
        Cell that is repeated, with moments in (or near) the order.
    temperatures_K : (T,) array
        At least four that bracket the transition, within some 10 % of it for an
        accurate crossing.
    sizes : sequence of int or of three integers
        Repeats of the cell; at least two.
    q : (3,) array
        Propagation vector of the order in reciprocal lattice units of ``atoms``; zero
        for ferromagnets, and wherever the order is that of the cell's mean moment.
    steps : int
        Sweeps, or time steps, that are sampled.
    equilibration : int, optional
        Steps before; a fifth of ``steps`` by default.
    interval : int
        Steps between samples.
    method : {"monte-carlo", "langevin"}
        :class:`~deepspin_ase.dynamics.MonteCarlo`, or
        :class:`~deepspin_ase.dynamics.SpinLatticeLangevin`, in which atoms move.
    options : mapping, optional
        Of the driver. Monte Carlo overrelaxes where it can; ``lattice_steps`` and
        ``lattice_timestep`` make its atoms move too. Langevin: ``timestep_fs`` (1),
        ``friction`` (0.01/fs), ``damping`` (0.1).
    seed : int
    client : dask.distributed.Client, optional
        Run sizes and groups of temperatures on its workers (:func:`~.map_tasks`).
    checkpoint : path, optional
        Folder from which a run that was stopped goes on, and one that is to have more
        ``steps``.
    progress : bool, optional
        Progress bar; by default on a terminal.

    Returns
    -------
    TransitionResult

    Raises
    ------
    ValueError
        If temperatures or sizes are not as described, moments are missing, q does not
        repeat with the sizes, or the cumulants do not cross between the temperatures.
    """
    temperatures = _temperatures(temperatures_K)
    repeats = _sizes(sizes)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if steps < 100 * interval or interval < 1:
        raise ValueError(
            f"steps={steps} with interval={interval} are fewer than 100 samples"
        )
    if equilibration is None:
        equilibration = steps // 5
    model = model_data(potential)
    count = min(n_threads(client), len(temperatures))
    groups = np.array_split(temperatures, count)
    tasks = [
        SamplingTask(
            model,
            atoms.repeat(size),
            tuple(group.tolist()),
            tuple(np.asarray(q, dtype=float).tolist()),
            atoms.cell.array,
            steps,
            equilibration,
            interval,
            method,
            options=dict(options or {}),
            seed=seed + 1000 * k + n,
            checkpoint=_name(checkpoint, size, n),
        )
        for k, size in enumerate(repeats)
        for n, group in enumerate(groups)
    ]
    # The longest first: the others fill the gaps.
    found = map_tasks(
        sample, tasks[::-1], client=client, description="sizes", progress=progress
    )[::-1]
    parts = [found[k : k + len(groups)] for k in range(0, len(found), len(groups))]
    return analyse(
        [_averages(size, part) for size, part in zip(repeats, parts, strict=True)],
        temperatures,
    )


def analyse(
    averages: Sequence[SizeAverages], temperatures_K: np.ndarray
) -> TransitionResult:
    """Find crossings and peaks of averages at several sizes.

    Raises
    ------
    ValueError
        If the cumulants do not cross, or fewer than four temperatures have errors.
    """
    _warn_of_drift(averages, temperatures_K)
    crossings = [
        _crossing(temperatures_K, small, large) for small, large in pairwise(averages)
    ]
    last = crossings[-1]
    spread = 0.5 * abs(last.value - crossings[-2].value) if len(crossings) > 1 else 0.0
    return TransitionResult(
        Estimate(last.value, float(np.hypot(last.error, spread))),
        temperatures_K,
        list(averages),
        crossings,
        [peak(temperatures_K, tuple(a.susceptibility.T)) for a in averages],
        [peak(temperatures_K, tuple(a.heat_capacity.T)) for a in averages],
    )


def plot_transition(
    result: TransitionResult, ax: Any = None, *, quantity: str = "binder"
) -> Any:
    """Draw ``binder``, ``order``, ``susceptibility`` or ``heat_capacity`` by size.

    Raises
    ------
    ValueError
        If there is no such quantity.
    """
    if quantity not in _LABELS:
        raise ValueError(f"quantity must be one of {[*_LABELS]}, got {quantity!r}")
    ax = figure_axes(ax)
    for entry in result.sizes:
        value, error = getattr(entry, quantity).T
        label = "×".join(map(str, entry.size))
        ax.errorbar(
            result.temperatures_K, value, error, fmt="o-", ms=3, capsize=2, label=label
        )
    centre, width = result.temperature_K
    ax.axvspan(centre - width, centre + width, color="0.85", zorder=0)
    ax.set(xlabel="temperature (K)", ylabel=_LABELS[quantity])
    ax.legend(title="size")
    return ax


_LABELS = {
    "binder": "Binder cumulant",
    "order": r"ordered moment ($\mu_B$)",
    "susceptibility": r"susceptibility ($\mu_B^2$/eV per magnetic atom)",
    "heat_capacity": r"heat capacity ($k_B$ per magnetic atom)",
}


def _crossing(
    temperatures_K: np.ndarray, small: SizeAverages, large: SizeAverages
) -> Estimate:
    known = np.isfinite(small.binder[:, 1]) & np.isfinite(large.binder[:, 1])
    if known.sum() < 4:
        raise ValueError(
            f"only {known.sum()} temperatures have enough independent samples at sizes "
            f"{small.size} and {large.size}: sample more steps"
        )
    curves = [tuple(entry.binder[known].T) for entry in (small, large)]
    try:
        return crossing(temperatures_K[known], curves)
    except ValueError as error:
        ordered = large.binder[:, 0] > small.binder[:, 0]
        side = "above" if ordered.mean() > 0.5 else "below"
        raise ValueError(
            f"the Binder cumulants of sizes {small.size} and {large.size} do not cross "
            f"between {temperatures_K[0]:g} and {temperatures_K[-1]:g} K; the "
            f"transition seems to be {side}"
        ) from error


def _averages(
    size: tuple[int, int, int], parts: Sequence[ThermalSamples]
) -> SizeAverages:
    runs = [
        (t, order, energy)
        for part in parts
        for t, order, energy in zip(
            part.temperatures_K, part.order, part.energy, strict=True
        )
    ]
    n = parts[0].n_magnetic
    halves = [
        [mean_with_error(half) for half in np.array_split(order, 2)]
        for _, order, _ in runs
    ]
    return SizeAverages(
        size,
        n,
        order=_table([mean_with_error(order) for _, order, _ in runs]),
        susceptibility=_table(
            [_with_error(susceptibility, order, t, n) for t, order, _ in runs]
        ),
        binder=_table([_with_error(binder_cumulant, order) for _, order, _ in runs]),
        heat_capacity=_table(
            [_with_error(heat_capacity, energy, t, n) for t, _, energy in runs]
        ),
        drift=np.array(
            [
                abs(a.value - b.value) / max(np.hypot(a.error, b.error), 1e-12)
                for a, b in halves
            ]
        ),
    )


def _table(estimates: Sequence[Estimate]) -> np.ndarray:
    return np.array(estimates, dtype=float).reshape(-1, 2)


def _with_error(estimate: Callable[..., Estimate], *samples: Any) -> Estimate:
    """Return an estimate; NaN where samples are too few for an error."""
    try:
        return estimate(*samples)
    except ValueError as error:
        logger.info("%s", error)
        return Estimate(np.nan, np.nan)


def _warn_of_drift(averages: Sequence[SizeAverages], temperatures: np.ndarray) -> None:
    for entry in averages:
        moved = np.flatnonzero(entry.drift > _DRIFT)
        if len(moved):
            shown = ", ".join(f"{t:g}" for t in temperatures[moved])
            warnings.warn(
                f"size {entry.size} is not in equilibrium at {shown} K: the order of "
                "both halves of the run differs; sample longer, equilibrate longer",
                stacklevel=4,
            )


def _temperatures(temperatures_K: ArrayLike) -> np.ndarray:
    values = np.asarray(temperatures_K, dtype=float)
    if values.ndim != 1 or len(values) < 4:
        raise ValueError(
            "at least four temperatures are needed for a crossing, got "
            f"{np.size(values)}"
        )
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"temperatures must be positive, in K, got {values}")
    ordered = np.sort(values)
    if not (np.diff(ordered) > 0).all():
        raise ValueError(f"a temperature is there twice: {ordered}")
    return ordered


def _sizes(sizes: Sequence[int | Sequence[int]]) -> list[tuple[int, int, int]]:
    found = []
    for size in sizes:
        triple = np.broadcast_to(np.asarray(size), 3)
        if (triple != np.rint(triple)).any() or (triple < 1).any():
            raise ValueError(f"a size is one or three whole numbers > 0, got {size}")
        found.append((int(triple[0]), int(triple[1]), int(triple[2])))
    ordered = sorted(found, key=np.prod)
    volumes = [np.prod(size) for size in ordered]
    if len(ordered) < 2 or len(set(volumes)) < len(volumes):
        raise ValueError(f"a crossing needs two or more different sizes, got {sizes}")
    return ordered


def _name(
    checkpoint: str | os.PathLike[str] | None, size: tuple[int, int, int], n: int
) -> str | None:
    if checkpoint is None:
        return None
    return str(Path(checkpoint) / f"{'x'.join(map(str, size))}_{n}")


def _text(estimate: Estimate | None) -> str:
    if estimate is None or not np.isfinite(estimate.value):
        return "-"
    return f"{estimate.value:.2f} +- {estimate.error:.2f}"
