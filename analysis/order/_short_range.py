"""Chemical short-range order, and what the surroundings of an atom do to its moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive, positive_numbers
from ...units import MU_B
from .._nearest import ROUNDING, pairs_within, sites_of
from .._trajectories import Frames, frames_of, spins_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class ShortRangeOrder(Result):
    """Warren-Cowley parameters of S shells between K elements.

    Attributes
    ----------
    elements : list of str
    shares : (K,) array
        Of the elements among the sites.
    shells_A : (S, 2) array
        Distances between which a shell lies.
    alpha : (S, K, K) array
        alpha_ab = 1 - P(b near a) / c_b, the mean over the frames; NaN where there are
        no such pairs.
    error : (S, K, K) array
        Standard error by the scatter of the frames; NaN for a single one.
    """

    elements: list[str]
    shares: np.ndarray
    shells_A: np.ndarray
    alpha: np.ndarray
    error: np.ndarray


def short_range_order(
    source: Frames,
    shells_A: ArrayLike,
    *,
    elements: Sequence[str] | None = None,
) -> ShortRangeOrder:
    """Return the Warren-Cowley parameters of an alloy.

    alpha_ab = 1 - P_ab / c_b with the share P_ab of b among the neighbors of a in a
    shell (J. M. Cowley, Phys. Rev. 77, 669 (1950), doi:10.1103/PhysRev.77.669): zero in
    a random alloy, negative where a and b attract each other, positive where
    they separate; 1 - 1/c_b where all neighbors of a are b.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        Averaged over the frames, such as realizations or samples.
    shells_A : (S + 1,) array
        Distances that part the shells, A, ascending: halfway between neighbor
        distances.
    elements : sequence of symbols, optional
        The sublattice: atoms of other elements do not count.

    Raises
    ------
    ValueError
        If distances do not ascend, an element is missing, or there is only one.
    """
    bounds = np.atleast_1d(np.asarray(shells_A, dtype=float))
    if bounds.ndim != 1 or len(bounds) < 2 or (np.diff(bounds) <= 0).any():
        raise ValueError(
            "shells_A needs two or more ascending distances that part the shells, such "
            f"as (2.0, 2.7, 3.2) for two, got {shells_A!r}"
        )
    positive_numbers("shells_A", bounds[1:])
    found, shares = [], []
    names: list[str] | None = list(elements) if elements is not None else None
    for frame in frames_of(source, same_atoms=False):
        symbols = np.array(frame.get_chemical_symbols())
        names = sorted(set(symbols)) if names is None else names
        _check_elements(names, symbols)
        kinds = np.array([names.index(s) if s in names else -1 for s in symbols])
        sites = np.flatnonzero(kinds >= 0)
        shares.append(np.bincount(kinds[sites], minlength=len(names)) / len(sites))
        found.append(_parameters(frame, bounds, kinds, sites, shares[-1]))
    assert names is not None
    alpha = np.array(found)
    count = len(alpha)
    error = (
        alpha.std(axis=0, ddof=1) / np.sqrt(count)
        if count > 1
        else np.full(alpha.shape[1:], np.nan)
    )
    return ShortRangeOrder(
        names,
        np.mean(shares, axis=0),
        np.stack([bounds[:-1], bounds[1:]], axis=1),
        alpha.mean(axis=0),
        error,
    )


def _check_elements(names: list[str], symbols: np.ndarray) -> None:
    if missing := [name for name in names if name not in symbols]:
        raise ValueError(f"a frame holds no {', '.join(missing)}")
    if len(names) < 2:
        raise ValueError(
            f"short-range order is between two or more elements, got {', '.join(names)}"
        )


def _parameters(
    frame: Atoms,
    bounds: np.ndarray,
    kinds: np.ndarray,
    sites: np.ndarray,
    shares: np.ndarray,
) -> np.ndarray:
    """Return the parameters (S, K, K) of one frame."""
    i, j, vectors = pairs_within(frame, bounds[-1], sites)
    distances = np.linalg.norm(vectors, axis=1) + ROUNDING
    shell = np.minimum(np.digitize(distances, bounds), len(bounds) - 1) - 1
    inside = shell >= 0
    counts = np.zeros((len(bounds) - 1, len(shares), len(shares)))
    np.add.at(counts, (shell[inside], kinds[i[inside]], kinds[j[inside]]), 1.0)
    neighbors = counts.sum(axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1.0 - counts / neighbors / shares)


@plots(ShortRangeOrder)
def plot_short_range_order(result: ShortRangeOrder, ax: Axes | None = None) -> Axes:
    """Draw the parameters of each pair of elements against the distance."""
    ax = figure_axes(ax)
    middle = result.shells_A.mean(axis=1)
    for a, first in enumerate(result.elements):
        for b, second in enumerate(result.elements[a:], a):
            ax.errorbar(
                middle,
                result.alpha[:, a, b],
                result.error[:, a, b],
                fmt="o-",
                ms=4,
                capsize=2,
                label=f"{first}-{second}",
            )
    ax.axhline(0.0, color="0.6", lw=0.8)
    ax.set(xlabel="distance (Å)", ylabel="Warren-Cowley parameter")
    ax.legend()
    return ax


@dataclass(frozen=True, eq=False)
class LocalEnvironments(Result):
    """Moments and fields of the atoms of one element by their surroundings.

    Attributes
    ----------
    element, neighbor : str
    counts : (G,) array
        Numbers of neighbors of that element, ascending.
    n_atoms : (G,) array
        Atoms with as many, in all frames.
    moment : (G, 2) array, mu_B
        Mean length of their moments and its standard error.
    field_T : (G, 2) array, T
        Mean of the field along the moment and its error; NaN where frames carry no
        magnetic forces.
    """

    element: str
    neighbor: str
    counts: np.ndarray
    n_atoms: np.ndarray
    moment: np.ndarray
    field_T: np.ndarray


def local_environments(
    source: Frames, element: str, neighbor: str, cutoff: float
) -> LocalEnvironments:
    """Return moments and fields of an element by the number of neighbors of another.

    Such as of Ni in NiO by the Mg among its twelve nearest cation sites. The field
    along the moment is B = F_m.m/(|m| mu_B), from the magnetic forces that frames
    carry.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        With moments.
    element, neighbor : symbols
    cutoff : float, A
        Out to which neighbors count.

    Raises
    ------
    ValueError
        If moments or elements are missing.
    """
    rows = []
    for frame in frames_of(source, same_atoms=False):
        atoms = sites_of(frame, element)
        i, j, _ = pairs_within(frame, positive("cutoff", cutoff))
        near = np.bincount(i[frame.symbols[j] == neighbor], minlength=len(frame))
        moments = spins_of(frame)
        lengths = np.linalg.norm(moments, axis=1)
        results = {} if frame.calc is None else frame.calc.results
        forces = results.get("magnetic_forces", np.full_like(moments, np.nan))
        with np.errstate(invalid="ignore", divide="ignore"):
            field = np.einsum("ij,ij->i", forces, moments) / lengths / MU_B
        rows.append(np.stack([near, lengths, field], axis=1)[atoms])
    found = np.concatenate(rows)
    counts = np.unique(found[:, 0])
    groups = [found[found[:, 0] == n] for n in counts]
    return LocalEnvironments(
        element,
        neighbor,
        counts.astype(int),
        np.array([len(group) for group in groups]),
        np.array([_mean(group[:, 1]) for group in groups]),
        np.array([_mean(group[:, 2]) for group in groups]),
    )


def _mean(values: np.ndarray) -> tuple[float, float]:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


@plots(LocalEnvironments)
def plot_local_environments(result: LocalEnvironments, ax: Axes | None = None) -> Axes:
    """Draw the mean moment against the number of neighbors."""
    ax = figure_axes(ax)
    mean, error = result.moment.T
    ax.errorbar(result.counts, mean, error, fmt="o-", ms=4, capsize=2)
    ax.set(
        xlabel=f"{result.neighbor} neighbors",
        ylabel=rf"moment of {result.element} ($\mu_B$)",
    )
    return ax
