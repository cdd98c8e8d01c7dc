"""Static magnetic structure factor and propagation vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from .._nearest import nearest_neighbors
from .._trajectories import Frames, frames_of, spins_of
from .._wavevectors import (
    cartesian,
    commensurate,
    commensurate_q,
    fourier_sums,
    reciprocal_units,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Peaks this near to the highest, as a part of it, are as high.
_TIE = 1e-6


@dataclass(frozen=True, eq=False)
class StructureFactor(Result):
    """S^ab(q) = < m_a(q)* m_b(q) > / M, with m(q) = sum_j m_j exp(-i q.r_j).

    Averaged over the frames; M is the number of atoms that carry a moment.

    Attributes
    ----------
    q : (Q, 3) array
        Wave vectors in reciprocal lattice units of the cell that was asked for.
    q_cartesian : (Q, 3) array, 1/A
        2 pi included, of the first frame.
    tensor : (Q, 3, 3) complex array, mu_B^2
    n_frames : int
    """

    q: np.ndarray
    q_cartesian: np.ndarray
    tensor: np.ndarray
    n_frames: int

    @property
    def intensity(self) -> np.ndarray:
        """S(q), the trace of the tensor, (Q,), mu_B^2."""
        return np.asarray(np.einsum("qaa->q", self.tensor).real)

    @property
    def neutron(self) -> np.ndarray:
        """Sum over ab of (delta_ab - q_a q_b / q^2) S^ab, (Q,), mu_B^2.

        What unpolarised neutrons see, without form factors; at q = 0 two thirds of
        the trace, the mean over the directions of q.
        """
        length = np.linalg.norm(self.q_cartesian, axis=1, keepdims=True)
        unit = self.q_cartesian / np.where(length > 0, length, 1.0)
        along = np.einsum("qa,qab,qb->q", unit, self.tensor, unit).real
        return np.where(length[:, 0] > 0, self.intensity - along, self.intensity / 1.5)

    @property
    def peak(self) -> int:
        """Number of the wave vector of the highest S(q); the shortest of equals."""
        intensity = self.intensity
        high = np.flatnonzero(intensity >= (1.0 - _TIE) * intensity.max())
        lengths = np.linalg.norm(self.q_cartesian[high], axis=1).round(6)
        # Of q and -q, and of equivalent arms, the one with the larger components.
        ranks = np.lexsort((*(-self.q[high].T[::-1].round(6)), lengths))
        return int(high[ranks[0]])

    @property
    def peak_q(self) -> np.ndarray:
        """The wave vector (3,) of the peak, in the units of ``q``."""
        return self.q[self.peak]


def structure_factor(
    source: Frames,
    q: ArrayLike | None = None,
    *,
    cell: float | ArrayLike | None = None,
    q_max: float | None = None,
) -> StructureFactor:
    """Return the static structure factor of the moments, averaged over frames.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
    q : (Q, 3) or (3,) array, optional
        In reciprocal lattice units of ``cell``; each must repeat with the periodic
        cell. By default all that do, up to ``q_max``.
    cell : optional
        As in :func:`deepspin_ase.antiferromagnetic`: the atoms' own by default.
    q_max : float, 1/A, optional
        By default 2 pi over the shortest distance between magnetic atoms, which
        covers the Brillouin zone of the magnetic sites.

    Raises
    ------
    ValueError
        If moments are missing or all zero, or a q does not fit.

    Notes
    -----
    Positions are those of each frame. Where a crystal of M equivalent sites is fully
    ordered, S(q) at the propagation vector is M m^2, shared between q and -q
    unless they are equivalent.
    """
    total: np.ndarray | None = None
    n_frames = n_magnetic = 0
    for frame in frames_of(source):
        moments = spins_of(frame)
        if total is None:
            first = frame
            if q is not None:
                phases = commensurate(frame, q, cell)
            else:
                phases = commensurate_q(frame, q_max or _default_q_max(frame, moments))
            total = np.zeros((len(phases), 3, 3), dtype=complex)
            n_magnetic = int(moments.any(axis=1).sum())
        sums = fourier_sums(frame, phases, moments)
        total += sums[:, :, None].conj() * sums[:, None, :]
        n_frames += 1
    assert total is not None
    return StructureFactor(
        reciprocal_units(first, phases, cell),
        cartesian(first, phases),
        total / (n_frames * n_magnetic),
        n_frames,
    )


@plots(StructureFactor)
def plot_structure_factor(result: StructureFactor, ax: Axes | None = None) -> Axes:
    """Draw S(q) against |q|, with the peak named."""
    ax = figure_axes(ax)
    lengths = np.linalg.norm(result.q_cartesian, axis=1)
    ax.vlines(lengths, 0.0, result.intensity, linewidth=1)
    ax.plot(lengths, result.intensity, "o", markersize=3)
    k = result.peak
    name = ", ".join(f"{x:.4g}" for x in result.q[k] + 0.0)
    ax.annotate(
        f"q = ({name})",
        (lengths[k], result.intensity[k]),
        xytext=(6, 0),
        textcoords="offset points",
        verticalalignment="center",
    )
    ax.set(xlabel="|q| (1/Å)", ylabel="S(q) (μ_B²)".replace("μ_B", r"$\mu_B$"))
    ax.set_ylim(bottom=0.0)
    return ax


def plot_structure_factor_plane(
    result: StructureFactor,
    ax: Axes | None = None,
    *,
    normal: int = 2,
    level: float = 0.0,
) -> Axes:
    """Draw log10 S(q) in the plane where component ``normal`` of q is ``level``.

    Raises
    ------
    ValueError
        If no wave vector lies in that plane.
    """
    inside = np.abs(result.q[:, normal] - level) < 1e-6
    if not inside.any():
        known = np.unique(result.q[:, normal].round(6))
        raise ValueError(
            f"no wave vector has component {normal} at {level}; there are {known}"
        )
    ax = figure_axes(ax)
    a, b = (k for k in range(3) if k != normal)
    intensity = result.intensity[inside]
    floor = max(intensity.max() * 1e-6, 1e-12)
    x, y = result.q[inside][:, [a, b]].T
    points = ax.scatter(x, y, c=np.log10(np.maximum(intensity, floor)), s=40)
    ax.figure.colorbar(points, ax=ax, label=r"$\log_{10}$ S(q) ($\mu_B^2$)")
    ax.set(xlabel=f"$q_{'xyz'[a]}$ (r.l.u.)", ylabel=f"$q_{'xyz'[b]}$ (r.l.u.)")
    ax.set_aspect("equal")
    return ax


def _default_q_max(atoms: Atoms, moments: np.ndarray) -> float:
    """Return 2 pi over the shortest distance between magnetic atoms, 1/A."""
    magnetic = np.flatnonzero(moments.any(axis=1))
    if not atoms.pbc.any():
        raise ValueError(
            "without periodic directions there are no wave vectors to choose from; "
            "give q and the cell it refers to (cell=)"
        )
    _, vectors = nearest_neighbors(atoms, magnetic, magnetic, 1)
    return float(2.0 * np.pi / np.linalg.norm(vectors, axis=2).min())
