"""Magnetic transition temperatures by Binder crossings and finite-size scaling.

>>> temperatures = np.linspace(450, 850, 5)  # K
>>> result = curie_temperature(atoms, temperatures, sizes=(2, 3), steps=1000)
>>> print(result)
transition at 6... K...
>>> axes = plot_transition(result)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._distributed import map_tasks, n_threads
from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive_numbers, whole
from .._model import Model, model_of
from .._statistics import Estimate
from ._crossing import crossing, peak
from ._domains import Size, domains
from ._finite_size import ScalingFit, scaling_fit
from ._size_averages import SizeAverages, disorder_average, size_averages
from ._thermal_sampling import SamplingTask, check_run, model_data, run_sampling

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Makes a realization of a disordered crystal from a supercell and a seed.
Disorder: TypeAlias = Callable[[Atoms, int], Atoms]

#: Halves of a run that differ by more of their errors than this are not equilibrium.
_DRIFT = 4.0

#: Powers of the number of moments by which the order falls with the size: 0 in order,
#: 1/2 without, and this at transitions in three dimensions (beta/3 nu).
CRITICAL = 0.17


@dataclass(frozen=True, eq=False)
class TransitionResult(Result):
    """Transition temperature, and the averages and fits behind it.

    Attributes
    ----------
    temperature_K : Estimate
        Transition of an infinite system, by
        :func:`~deepspin_ase.analysis.transitions.scaling_fit`. The error is of the
        samples and of the corrections to scaling.
    temperatures_K : (T,) array
    q : (Q, 3) array
        Propagation vector of the order, in reciprocal lattice units of the cell, and
        those of its other domains.
    sizes : list of SizeAverages
        From small to large.
    fit : ScalingFit
    crossings_K : list of Estimate
        Of the Binder cumulants of each size with the next larger one; NaN where they
        do not cross. They approach the transition as sizes grow, much faster than
        the peaks do.
    susceptibility_peaks_K, heat_capacity_peaks_K : list of Estimate
        By size; NaN where the highest value is at an end of the temperatures.
    """

    temperature_K: Estimate
    temperatures_K: np.ndarray
    q: np.ndarray
    sizes: list[SizeAverages]
    fit: ScalingFit
    crossings_K: list[Estimate]
    susceptibility_peaks_K: list[Estimate]
    heat_capacity_peaks_K: list[Estimate]

    @property
    def drift(self) -> float:
        """Largest drift of the order between both halves of a run, in its errors."""
        return float(max(np.max(entry.drift) for entry in self.sizes))

    def __str__(self) -> str:
        """Return the temperatures as a table."""
        rows = [
            f"transition at {_text(self.temperature_K)} K; halves of the runs differ "
            f"by {self.drift:.1f} errors or less",
            _HEADER,
        ]
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
    atoms: Atoms,
    temperatures_K: ArrayLike,
    *,
    sizes: Sequence[int | Sequence[int]] = (4, 6, 8),
    q: ArrayLike | None = None,
    steps: int = 10000,
    equilibration: int | None = None,
    interval: int = 2,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    disorder: Disorder | None = None,
    realizations: int = 8,
    seed: int = 0,
    client: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> TransitionResult:
    """Find the temperature at which a magnetic order vanishes.

    All temperatures of a size run in one batch, from the moments of ``atoms``. The
    transition is where the Binder cumulants U4 of different sizes cross (K. Binder,
    Z. Phys. B 43, 119 (1981), doi:10.1007/BF01293604), corrected for finite size.

    Parameters
    ----------
    atoms : Atoms
        Cell that is repeated, with moments in (or near) the order.
    temperatures_K : (T,) array
        At least four that bracket the transition, within about 5 % of it for an
        accurate one.
    sizes : sequence of int or of three integers
        Repeats of the cell, at least two; one number repeats it along its periodic
        directions. Three or more determine the corrections to
        scaling.
    q : (3,) or (Q, 3) array, optional
        Propagation vector of the order in reciprocal lattice units of ``atoms``; by
        default where the structure factor of its moments has its peak. The domains
        that the crystal's symmetry makes of one are added; several are taken as
        they are.
    steps : int
        Sweeps, or time steps, that are sampled.
    equilibration : int, optional
        Steps before; a fifth of ``steps`` by default.
    interval : int
        Steps between samples.
    method : {"monte-carlo", "langevin", "npt"}
        :class:`~deepspin_ase.dynamics.MonteCarlo`;
        :class:`~deepspin_ase.dynamics.SpinLatticeLangevin`, in which atoms move; or
        :class:`~deepspin_ase.dynamics.SpinLatticeNPT`, in which the cell moves, too.
    options : mapping, optional
        Of the driver. Monte Carlo flips clusters of spins or overrelaxes where this
        is exact; ``lattice_steps`` and ``lattice_timestep`` make its atoms move too.
        Langevin: ``timestep_fs`` (1), ``friction`` (0.01/fs), ``damping`` (0.1).
    model : Potential, Calculator, path or str, optional
        As for :class:`~deepspin_ase.DeepSpinCalculator`, or a calculator that gives
        magnetic forces; by default that of ``atoms``.
    disorder : callable, optional
        Makes a realization of a disordered crystal from the repeated cell and a seed:
        ``lambda atoms, seed: random_alloy(atoms, {"Mg": 0.1}, seed=seed)``; see
        :func:`~deepspin_ase.build.random_alloy`. The order is that of the moments that
        are left, and averages are over realizations.
    realizations : int
        Number of them at each size, with ``disorder``.
    seed : int
    client : dask.distributed.Client, optional
        Run sizes and groups of temperatures on its workers
        (:func:`~deepspin_ase.analysis.map_tasks`).
    checkpoint : path, optional
        Folder from which an interrupted run resumes, or one that is to have more
        ``steps``.
    progress : bool, optional
        Progress bar; by default on a terminal.

    Returns
    -------
    TransitionResult

    Raises
    ------
    ValueError
        If there is no model, temperatures or sizes are not as described, moments are
        missing, q does not repeat with the sizes, the energy does not depend on
        moments, there is no transition between the temperatures, or ``disorder``
        changes the cell or returns no structure.
    """
    plain = model_data(model_of(atoms, model))
    temperatures = _checked_temperatures(temperatures_K)
    repeats = checked_sizes(sizes, atoms)
    check_run(method, steps, interval)
    if equilibration is None:
        equilibration = steps // 5
    arms = domains(atoms, q, repeats)
    groups = np.array_split(temperatures, min(n_threads(client), len(temperatures)))
    structures = _realizations(atoms, repeats, disorder, realizations, seed)
    tasks = [
        SamplingTask(
            plain,
            structure,
            tuple(group.tolist()),
            tuple(map(tuple, arms.tolist())),
            atoms.cell.array,
            steps,
            equilibration,
            interval,
            method,
            options=dict(options or {}),
            seed=seed + 1000 * k + n + 1_000_000 * r,
            checkpoint=_name(checkpoint, size, n, r),
        )
        for k, size in enumerate(repeats)
        for r, structure in enumerate(structures[k])
        for n, group in enumerate(groups)
    ]
    shown = progress if client is None else False
    work = partial(run_sampling, progress=shown)
    # The longest first: the others fill the gaps.
    found = map_tasks(
        work, tasks[::-1], client=client, description="sizes", progress=progress
    )[::-1]
    parts = iter(found[k : k + len(groups)] for k in range(0, len(found), len(groups)))
    averages = [
        disorder_average([size_averages(size, next(parts)) for _ in structures[k]])
        for k, size in enumerate(repeats)
    ]
    return find_transition(averages, temperatures, arms)


def _realizations(
    atoms: Atoms,
    repeats: Sequence[Size],
    disorder: Disorder | None,
    count: int,
    seed: int,
) -> list[list[Atoms]]:
    """Return the structures of each size, one without disorder."""
    if disorder is None:
        return [[atoms.repeat(size)] for size in repeats]
    whole("realizations", count, 1)
    return [
        [
            _realized(disorder, atoms.repeat(size), seed + 1000 * k + r)
            for r in range(count)
        ]
        for k, size in enumerate(repeats)
    ]


def _realized(disorder: Disorder, supercell: Atoms, seed: int) -> Atoms:
    found = disorder(supercell.copy(), seed)
    if not isinstance(found, Atoms):
        raise ValueError(
            "disorder must return Atoms, such as random_alloy(atoms, {'Mg': 0.1}, "
            f"seed=seed), and returned {type(found).__name__}"
        )
    if not np.allclose(found.cell.array, supercell.cell.array):
        raise ValueError("disorder changed the cell, which sizes are repeats of")
    return found


def find_transition(
    averages: Sequence[SizeAverages], temperatures_K: np.ndarray, q: np.ndarray
) -> TransitionResult:
    """Find transition, crossings and peaks of averages at several sizes.

    Raises
    ------
    ValueError
        If there is no transition between the temperatures, or fewer than eight
        cumulants have errors.
    """
    _warn_of_drift(averages, temperatures_K)
    binder = np.array([entry.binder for entry in averages])
    lengths = [entry.n_magnetic ** (1 / 3) for entry in averages]
    try:
        fit = scaling_fit(temperatures_K, lengths, *np.moveaxis(binder, 2, 0))
    except ValueError as error:
        hint = _where(averages, temperatures_K)
        raise ValueError(f"{error}{hint}") from error
    return TransitionResult(
        fit.transition_K,
        temperatures_K,
        q,
        list(averages),
        fit,
        [
            _crossing(temperatures_K, small, large)
            for small, large in pairwise(averages)
        ],
        [peak(temperatures_K, tuple(a.susceptibility.T)) for a in averages],
        [peak(temperatures_K, tuple(a.heat_capacity.T)) for a in averages],
    )


@plots(TransitionResult)
def plot_transition(
    result: TransitionResult, ax: Axes | None = None, *, quantity: str = "binder"
) -> Axes:
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
    center, width = result.temperature_K
    name = f"{center:.0f} ± {width:.0f} K"
    ax.axvspan(center - width, center + width, color="0.85", zorder=0, label=name)
    ax.set(xlabel="temperature (K)", ylabel=_LABELS[quantity])
    ax.legend(title="size, transition")
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
    curves = [tuple(entry.binder[known].T) for entry in (small, large)]
    try:
        return crossing(temperatures_K[known], curves)
    except ValueError:
        return Estimate(np.nan, np.nan)


def _where(averages: Sequence[SizeAverages], temperatures_K: np.ndarray) -> str:
    """Return a hint in which direction the transition is."""
    small, large = averages[0], averages[-1]
    fall = np.log(small.order[:, 0] / large.order[:, 0])
    power = fall / np.log(large.n_magnetic / small.n_magnetic)
    first, last = temperatures_K[[0, -1]]
    if power.max() < CRITICAL:
        return f": the moments are still ordered at {last:g} K, go higher"
    if power.min() > CRITICAL:
        return (
            f": the moments are already disordered at {first:g} K, go lower; or their "
            "order is not that of the atoms given, which must be the ground state's"
        )
    k = int(np.argmax(power > CRITICAL))
    return (
        f"; it seems to be near {temperatures_K[k]:g} K: take temperatures nearer to "
        "it, larger sizes, or more steps"
    )


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


def _name(
    checkpoint: str | os.PathLike[str] | None, size: Size, group: int, realization: int
) -> str | None:
    if checkpoint is None:
        return None
    which = f"_r{realization}" if realization else ""
    return str(Path(checkpoint) / f"{'x'.join(map(str, size))}_{group}{which}")


def _text(estimate: Estimate | None) -> str:
    if estimate is None or not np.isfinite(estimate.value):
        return "-"
    return f"{estimate.value:.2f} +- {estimate.error:.2f}"


def _checked_temperatures(temperatures_K: ArrayLike) -> np.ndarray:
    """Return four or more temperatures, ascending.

    Raises
    ------
    ValueError
        If they are fewer, not positive, or not distinct.
    """
    values = np.asarray(temperatures_K, dtype=float)
    if values.ndim != 1 or len(values) < 4:
        raise ValueError(
            "at least four temperatures are needed for a crossing, got "
            f"{np.size(values)}: such as np.linspace(0.9, 1.1, 7) times the one "
            "expected"
        )
    ordered = np.sort(positive_numbers("temperatures_K", values))
    if not (np.diff(ordered) > 0).all():
        raise ValueError(f"temperatures must be distinct, got {ordered}")
    return ordered


def checked_sizes(sizes: Sequence[int | Sequence[int]], atoms: Atoms) -> list[Size]:
    """Return repeats along the three vectors, from few to many.

    Raises
    ------
    ValueError
        If they are fewer than two, not whole numbers, or repeat a direction that is
        not periodic.
    """
    if not atoms.pbc.any():
        raise ValueError(
            "a transition needs a crystal: none of the directions is periodic (pbc)"
        )
    found: list[Size] = []
    for size in [sizes] if np.ndim(sizes) == 0 else sizes:
        numbers = np.asarray(size)
        if numbers.dtype.kind not in "iuf":
            raise ValueError(f"a size is one or three whole numbers > 0, got {size}")
        triple = np.where(atoms.pbc, numbers, 1) if numbers.ndim == 0 else numbers
        if triple.shape != (3,) or (triple != np.rint(triple)).any() or min(triple) < 1:
            raise ValueError(f"a size is one or three whole numbers > 0, got {size}")
        if (triple[~atoms.pbc] > 1).any():
            raise ValueError(f"size {size} repeats a direction that is not periodic")
        found.append((int(triple[0]), int(triple[1]), int(triple[2])))
    ordered = sorted(found, key=np.prod)
    if len(ordered) < 2 or len({np.prod(size) for size in ordered}) < len(ordered):
        raise ValueError(
            "a crossing needs two or more different sizes, such as (4, 6, 8), got "
            f"{sizes}"
        )
    return ordered
