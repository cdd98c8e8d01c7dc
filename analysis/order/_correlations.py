"""Spin-spin correlations and distributions of angles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive, whole
from ...spins import unit_vector
from .._nearest import ROUNDING, pairs_within, sites_of
from .._trajectories import Frames, directions_of, frames_of, spins_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class SpinCorrelation(Result):
    """Mean of e_i.e_j of pairs at a distance, e the directions of the moments.

    Attributes
    ----------
    edges : (K + 1,) array, A
        Of the intervals of distance.
    distance : (K,) array, A
        Mean distance of the pairs of each; NaN where there are none.
    correlation : (K,) array
        From -1 to 1; NaN where there are no pairs.
    n_pairs : (K,) array
        Pairs of all frames, each once.
    """

    edges: np.ndarray
    distance: np.ndarray
    correlation: np.ndarray
    n_pairs: np.ndarray


def spin_correlation(
    source: Frames,
    r_max: float,
    *,
    width: float = 0.1,
    between: tuple[str | ArrayLike, str | ArrayLike] | None = None,
) -> SpinCorrelation:
    """Return the correlation of directions against distance, averaged over frames.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
    r_max : float, A
        May exceed the cell: images count as pairs.
    width : float, A
        Of the intervals.
    between : two elements or sets of indices, optional
        Only pairs of one with the other. All magnetic atoms by default.

    Raises
    ------
    ValueError
        If moments are missing or all zero, or no pairs are within ``r_max``.
    """
    count = int(np.ceil(positive("r_max", r_max) / positive("width", width) - 1e-9))
    totals = np.zeros((3, count))
    for frame in frames_of(source):
        e, magnetic = directions_of(frame)
        i, j, vectors = pairs_within(frame, r_max, np.flatnonzero(magnetic))
        if between is not None:
            a, b = (np.isin(np.arange(len(frame)), sites_of(frame, x)) for x in between)
            kept = (a[i] & b[j]) | (b[i] & a[j])
            i, j, vectors = i[kept], j[kept], vectors[kept]
        r = np.linalg.norm(vectors, axis=1)
        rows = np.minimum(((r + ROUNDING) / width).astype(int), count - 1)
        cosines = np.einsum("ij,ij->i", e[i], e[j])
        for k, weights in enumerate((None, r, cosines)):
            totals[k] += np.bincount(rows, weights, minlength=count)
    pairs, distances, cosine = totals
    if not pairs.any():
        raise ValueError(f"there are no pairs of such magnetic atoms within {r_max} A")
    filled = np.where(pairs > 0, pairs, np.nan)
    return SpinCorrelation(
        width * np.arange(count + 1),
        distances / filled,
        cosine / filled,
        (pairs / 2).astype(int),
    )


@plots(SpinCorrelation)
def plot_spin_correlation(result: SpinCorrelation, ax: Axes | None = None) -> Axes:
    """Draw the correlation against distance."""
    ax = figure_axes(ax)
    known = result.n_pairs > 0
    ax.axhline(0.0, color="0.7", linewidth=0.8)
    ax.plot(result.distance[known], result.correlation[known], "o-", markersize=3)
    ax.set(xlabel="distance (Å)", ylabel=r"$\langle e_i \cdot e_j \rangle$")
    return ax


@dataclass(frozen=True, eq=False)
class AngleDistribution(Result):
    """Distribution of angles.

    Attributes
    ----------
    edges : (K + 1,) array, degrees
    density : (K,) array, 1/degree
        Integrates to one.
    mean, deviation : float, degrees
        Of the angles themselves.
    count : int
        Number of angles, of all frames.
    label : str
        What the angle is.
    """

    edges: np.ndarray
    density: np.ndarray
    mean: float
    deviation: float
    count: int
    label: str


def canting_angles(
    source: Frames, axis: str | ArrayLike | None = None, *, bins: int = 90
) -> AngleDistribution:
    """Return the canting angles of moments from the axis of a collinear order.

    The angle, 0 to 90 degrees, between each moment and the line of ``axis``: both
    sublattices of an antiferromagnet count alike.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
    axis : (3,) array or str, optional
        By default, frame by frame, the line that the moments lie along best: the
        leading eigenvector of sum_i m_i m_i^T.
    bins : int

    Raises
    ------
    ValueError
        If moments are missing or all zero.
    """
    histogram = _Histogram(90.0, bins)
    for frame in frames_of(source):
        e, magnetic = directions_of(frame)
        if axis is None:
            moments = spins_of(frame)
            line = np.linalg.eigh(moments.T @ moments).eigenvectors[:, -1]
        else:
            line = unit_vector(axis)
        along = np.abs(e[magnetic] @ line)
        across = np.linalg.norm(np.cross(e[magnetic], line), axis=1)
        histogram.add(np.degrees(np.arctan2(across, along)))
    return histogram.result("angle to the main axis")


def neighbor_angles(
    source: Frames, cutoff: float, *, min_distance: float = 0.0, bins: int = 90
) -> AngleDistribution:
    """Return the angles, 0 to 180 degrees, between neighbouring moments.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
    cutoff, min_distance : float, A
        Distances of the pairs that count.
    bins : int

    Raises
    ------
    ValueError
        If moments are missing or all zero, or there are no such pairs.
    """
    histogram = _Histogram(180.0, bins)
    for frame in frames_of(source):
        e, magnetic = directions_of(frame)
        i, j, _ = pairs_within(
            frame, cutoff, np.flatnonzero(magnetic), min_distance=min_distance
        )
        a, b = e[i], e[j]
        across = np.linalg.norm(np.cross(a, b), axis=1)
        histogram.add(np.degrees(np.arctan2(across, np.einsum("ij,ij->i", a, b))))
    return histogram.result("angle between neighbours")


@plots(AngleDistribution)
def plot_angles(result: AngleDistribution, ax: Axes | None = None) -> Axes:
    """Draw the distribution of angles."""
    ax = figure_axes(ax)
    ax.stairs(result.density, result.edges, fill=True, alpha=0.5)
    ax.axvline(result.mean, color="k", linewidth=1, label=f"mean {result.mean:.1f}°")
    ax.set(xlabel=f"{result.label} (degrees)", ylabel="density (1/degree)")
    ax.legend()
    return ax


class _Histogram:
    """Counts angles of many frames."""

    def __init__(self, top: float, bins: int) -> None:
        whole("bins", bins, 1)
        self.edges = np.linspace(0.0, top, bins + 1)
        self.counts = np.zeros(bins)
        self.sums = np.zeros(3)

    def add(self, angles: np.ndarray) -> None:
        """Count angles, degrees."""
        self.counts += np.histogram(angles, self.edges)[0]
        self.sums += len(angles), angles.sum(), (angles**2).sum()

    def result(self, label: str) -> AngleDistribution:
        """Return the distribution."""
        count, total, squares = self.sums
        if not count:
            raise ValueError(f"there is no {label}: no such pairs of magnetic atoms")
        mean = total / count
        deviation = np.sqrt(max(squares / count - mean**2, 0.0))
        density = self.counts / count / np.diff(self.edges)
        return AngleDistribution(
            self.edges, density, float(mean), float(deviation), int(count), label
        )
