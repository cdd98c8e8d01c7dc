"""Local magnetic order at defects, boundaries and domain walls.

:func:`staggered_moments` removes the alternation of a known propagation vector, so
that what is left is smooth; :func:`neighbor_order` compares each moment with those
around it and needs no lattice. :func:`profile_along` averages such values in slices or
planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive
from ...orders import antiferromagnetic
from ...spins import get_spins, set_spins, unit_vector
from .._nearest import pairs_within
from .._trajectories import Frames, directions_of, frames_of, spins_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Atoms this part of the cell below an edge count as on it.
_ON_EDGE = 1e-8


def staggered_moments(
    atoms: Atoms,
    q: ArrayLike,
    *,
    cell: float | ArrayLike | None = None,
    phase: float = 0.0,
    reference: Atoms | None = None,
    average_within: float | None = None,
) -> np.ndarray:
    """Return the moments times the signs of an antiferromagnetic order.

    In a perfect domain all are equal; across a domain wall they reverse; at a
    defect they shrink or tilt.

    Parameters
    ----------
    atoms : Atoms
        With moments.
    q : (3,) array
        Propagation vector in reciprocal lattice units of ``cell``; zero leaves the
        moments as they are.
    cell : optional
        As in :func:`deepspin_ase.antiferromagnetic`: the atoms' own by default.
    phase : float
        In periods.
    reference : Atoms, optional
        Take the signs at these positions, such as ideal sites.
    average_within : float, optional
        Average each over itself and the magnetic atoms within this distance, A.

    Returns
    -------
    (N, 3) array, mu_B
        Zero on non-magnetic atoms.

    Raises
    ------
    ValueError
        If moments are missing or all zero, the order does not repeat with the cell,
        or sites lie on its nodes.
    """
    moments = spins_of(atoms)
    magnetic = np.asarray(moments.any(axis=1))
    sites = atoms if reference is None else reference
    if len(sites) != len(atoms):
        raise ValueError(f"the reference has {len(sites)} atoms, not {len(atoms)}")
    marked = sites.copy()
    order = antiferromagnetic(q, direction="z", cell=cell, phase=phase)
    set_spins(marked, magnetic.astype(float), pattern=order)
    staggered = moments * get_spins(marked)[:, 2:]
    if average_within is None:
        return staggered
    i, j, _ = pairs_within(atoms, average_within, np.flatnonzero(magnetic))
    total = staggered.copy()
    np.add.at(total, i, staggered[j])
    counts = 1 + np.bincount(i, minlength=len(atoms))
    return total / counts[:, None]


def neighbor_order(
    source: Frames,
    cutoff: float,
    *,
    min_distance: float = 0.0,
    antiparallel: bool = False,
) -> np.ndarray:
    """Return the mean cosine between each moment and those around it.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        Averaged over the frames.
    cutoff, min_distance : float, A
        Distances of the neighbours that count: one shell, or several. For NiO the
        second shell (4.2 A) is the one in which all pairs are antiparallel.
    antiparallel : bool
        Change the sign: 1 is then perfect antiparallel order.

    Returns
    -------
    (N,) array
        From -1 to 1; NaN for atoms that carry no moment or have no such neighbours.

    Raises
    ------
    ValueError
        If moments are missing or all zero, or no atom has such neighbours.
    """
    total = count = np.zeros(0)
    for frame in frames_of(source):
        e, magnetic = directions_of(frame)
        i, j, _ = pairs_within(
            frame, cutoff, np.flatnonzero(magnetic), min_distance=min_distance
        )
        cosines = np.einsum("ij,ij->i", e[i], e[j])
        if not len(total):
            total = count = np.zeros(len(frame))
        total = total + np.bincount(i, cosines, minlength=len(frame))
        count = count + np.bincount(i, minlength=len(frame))
    if not count.any():
        raise ValueError(
            f"no two magnetic atoms are {min_distance:g} to {cutoff:g} A apart"
        )
    sign = -1.0 if antiparallel else 1.0
    return sign * total / np.where(count > 0, count, np.nan)


@dataclass(frozen=True, eq=False)
class Profile(Result):
    """Averages of per-atom values in slices.

    Attributes
    ----------
    edges : (K + 1,) array, A
        Of the slices, along the axis.
    centers : (K,) array, A
        Their middles along the axis, or the positions of planes of atoms.
    mean : (K,) or (K, ...) array
        Mean of the values in each slice; NaN where there are no atoms.
    deviation : same shape
        Standard deviation within the slice.
    counts : (K,) array
        Number of atoms in each slice.
    """

    edges: np.ndarray
    centers: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    counts: np.ndarray


def profile_along(
    atoms: Atoms,
    values: ArrayLike,
    *,
    axis: int | str | ArrayLike,
    bins: int = 50,
    planes: float | None = None,
) -> Profile:
    """Average per-atom values in slices across an axis, or in planes of atoms.

    Slices about as thick as the spacing of the planes of a crystal show a pattern of
    their own, as some hold two planes and some none: average in ``planes`` there.

    Parameters
    ----------
    atoms : Atoms
    values : (N,) or (N, ...) array
        Atoms with NaN are left out.
    axis : int, str or (3,) array
        0, 1 or 2: across the planes of the other two lattice vectors, from one
        plane to its periodic image, atoms wrapped into the cell. Otherwise the
        direction ``"x"``, ``"-z"``, ... or a Cartesian vector, over the extent of
        the atoms as they are.
    bins : int
        Number of slices.
    planes : float, optional
        Average planes instead: atoms with values of which each is closer than this to
        the next along the axis, A.

    Raises
    ------
    ValueError
        If shapes do not fit, there is no lattice vector along the axis, or no atom
        has a value.
    """
    data = np.asarray(values, dtype=float)
    if data.shape[:1] != (len(atoms),) or bins < 1:
        raise ValueError(
            f"expected values of {len(atoms)} atoms and bins > 0, got shape "
            f"{data.shape} and {bins} bins"
        )
    along, edges = _slices(atoms, axis, bins)
    flat = data.reshape(len(atoms), -1)
    known = ~np.isnan(flat).any(axis=1)
    if not known.any():
        raise ValueError("no atom has a value: all are NaN")
    if planes is None:
        inside = along[known] + _ON_EDGE * (edges[-1] - edges[0])
        rows = np.clip(np.searchsorted(edges, inside, side="right") - 1, 0, bins - 1)
        centers = 0.5 * (edges[1:] + edges[:-1])
    else:
        periodic = isinstance(axis, int | np.integer) and bool(atoms.pbc[axis])
        height = edges[-1] - edges[0] if periodic else None
        gap = positive("planes", planes)
        rows, centers, edges = _planes(along[known], gap, height)
        bins = len(centers)
    counts = np.bincount(rows, minlength=bins)
    shape = (bins, flat.shape[1])
    total, squares = np.zeros(shape), np.zeros(shape)
    np.add.at(total, rows, flat[known])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / counts[:, None]
        np.add.at(squares, rows, (flat[known] - mean[rows]) ** 2)
        deviation = np.sqrt(squares / counts[:, None])
    final = (bins, *data.shape[1:])
    return Profile(
        edges, centers, mean.reshape(final), deviation.reshape(final), counts
    )


@plots(Profile)
def plot_profile(
    result: Profile, ax: Axes | None = None, *, label: str = "value"
) -> Axes:
    """Draw the means of slices or planes with their standard deviations as bands."""
    ax = figure_axes(ax)
    mean = result.mean.reshape(len(result.counts), -1)
    deviation = result.deviation.reshape(len(result.counts), -1)
    for k in range(mean.shape[1]):
        name = "mean" if mean.shape[1] == 1 else f"mean of component {k}"
        (line,) = ax.plot(result.centers, mean[:, k], "o-", markersize=3, label=name)
        low, high = mean[:, k] - deviation[:, k], mean[:, k] + deviation[:, k]
        band = "standard deviation" if k == 0 else None
        color = line.get_color()
        ax.fill_between(result.centers, low, high, color=color, alpha=0.2, label=band)
    ax.legend()
    ax.set(xlabel="position (Å)", ylabel=label)
    return ax


def _planes(
    along: np.ndarray, gap: float, height: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the plane of each atom (N,), their positions (K,) and edges (K + 1,).

    Edges are halfway between planes. With a period ``height``, planes may lie across
    the face of the cell.
    """
    order = np.argsort(along, kind="stable")
    sorted_ = along[order]
    starts = np.concatenate([[True], np.diff(sorted_) > gap])
    label = np.cumsum(starts) - 1
    if height is not None and sorted_[0] + height - sorted_[-1] <= gap:
        last = (label == label[-1]) & (label > 0)
        sorted_ = np.where(last, sorted_ - height, sorted_)
        label = np.where(last, 0, label)
    centers = np.bincount(label, sorted_) / np.bincount(label)
    rows = np.empty_like(label)
    rows[order] = label
    middles = 0.5 * (centers[1:] + centers[:-1])
    if height is None:
        ends = np.array([along.min(), along.max()])
    else:
        ends = 0.5 * (centers[0] + centers[-1] - height) + np.array([0.0, height])
    return rows, centers, np.concatenate([ends[:1], middles, ends[1:]])


def _slices(
    atoms: Atoms, axis: int | str | ArrayLike, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (N,) along the axis and the edges of the slices, A."""
    if isinstance(axis, int | np.integer):
        if not (0 <= axis < 3 and atoms.cell.array[axis].any()):
            raise ValueError(f"there is no lattice vector {axis}")
        cell = complete_cell(atoms.cell)
        height = 1.0 / np.linalg.norm(np.linalg.inv(cell)[:, axis])
        fractions = np.linalg.solve(cell.T, atoms.positions.T)[axis]
        if atoms.pbc[axis]:
            # Rounding must not send a plane of atoms on an edge to both sides.
            fractions = (fractions + _ON_EDGE) % 1.0 - _ON_EDGE
            return height * fractions, np.linspace(0.0, height, bins + 1)
        along = height * fractions
    else:
        along = atoms.positions @ unit_vector(axis)
    low, high = along.min(), along.max()
    return along, np.linspace(low, max(high, low + 1e-9), bins + 1)
