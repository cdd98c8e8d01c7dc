"""Rotations of the BX6 octahedra of perovskites."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ..._figures import figure_axes
from ..._result import Result, plots
from .._nearest import nearest_neighbors, pairs_within, sites_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: An anion further than this many times the nearest one is no corner.
_CORNER = 1.6


@dataclass(frozen=True, eq=False)
class OctahedralTilts(Result):
    """Rotations of M octahedra.

    Attributes
    ----------
    sites : (M,) array
        Indices of the B atoms.
    axes : (3, 3) array
        Rows are the pseudo-cubic axes, unit vectors, right-handed.
    vectors_deg : (M, 3) array, degrees
        Rotation vectors: components along the pseudo-cubic axes, length the angle,
        right-handed. NaN where an octahedron is incomplete.
    coordinates : (M, 3) integer array
        Position of each octahedron in the pseudo-cubic lattice of B atoms, counted
        from the first.
    """

    sites: np.ndarray
    axes: np.ndarray
    vectors_deg: np.ndarray
    coordinates: np.ndarray

    @property
    def angles_deg(self) -> np.ndarray:
        """Total rotation angle (M,) of each octahedron, degrees."""
        return np.linalg.norm(self.vectors_deg, axis=1)

    def mode(self, q: ArrayLike = (0.5, 0.5, 0.5)) -> np.ndarray:
        """Return the mean of cos(2 pi q.n) times the rotation vectors, (3,), degrees.

        ``q`` is in reciprocal lattice units of the pseudo-cubic cell: (1/2, 1/2, 1/2)
        for antiphase tilts (Glazer's a-), (0, 1/2, 1/2), (1/2, 0, 1/2) and (1/2,
        1/2, 0) for in-phase tilts about x, y and z (a+). Incomplete octahedra are
        left out.
        """
        wave = np.cos(2.0 * np.pi * self.coordinates @ np.asarray(q, dtype=float))
        return np.nanmean(wave[:, None] * self.vectors_deg, axis=0)


def octahedral_tilts(
    atoms: Atoms,
    *,
    b: str | ArrayLike,
    anion: str | ArrayLike = "O",
    axes: ArrayLike | None = None,
) -> OctahedralTilts:
    """Return the rotation of each octahedron against the pseudo-cubic axes.

    The rotation maps the axes onto the three pairs of opposite anions by least squares
    (Kabsch). A shift of the B atom within its octahedron
    does not matter. Rotations must stay below 45 degrees.

    Parameters
    ----------
    atoms : Atoms
        A perovskite or another network of octahedra that share corners, periodic or
        not.
    b, anion : str or indices
        Elements of the sites, or indices of their atoms.
    axes : (3, 3) array, optional
        Rows are the pseudo-cubic axes, at right angles. By default they come from
        the directions between neighbouring B atoms, the mean over all octahedra,
        with the first axis as near to x as can be.

    Raises
    ------
    ValueError
        If there are no such atoms, the axes are not at right angles or cannot be
        found, or no octahedron is complete.
    """
    sites, anions = sites_of(atoms, b), sites_of(atoms, anion)
    _, corners = nearest_neighbors(atoms, sites, anions, 6)
    links = _links(atoms, sites)
    rows = _axes_of(links) if axes is None else _orthonormal(axes)
    steps = np.linalg.norm(_mean_links(links, rows), axis=1)
    lengths = np.linalg.norm(corners, axis=2)
    complete = lengths[:, -1] < _CORNER * lengths[:, 0]
    vectors = np.full((len(sites), 3), np.nan)
    for m in np.flatnonzero(complete):
        vectors[m] = _rotation(corners[m] @ rows.T)
    if np.isnan(vectors).all():
        raise ValueError(
            f"no atom of {b!r} stands in an octahedron of {anion!r} that is rotated by "
            "less than 45 degrees from the pseudo-cubic axes"
        )
    along = (atoms.positions[sites] - atoms.positions[sites[0]]) @ rows.T
    coordinates = np.round(along / np.where(steps > 0, steps, np.inf)).astype(int)
    return OctahedralTilts(sites, rows, np.degrees(vectors), coordinates)


@plots(OctahedralTilts)
def plot_tilts(result: OctahedralTilts, ax: Axes | None = None) -> Axes:
    """Draw the distribution of rotation angles about the pseudo-cubic axes."""
    ax = figure_axes(ax)
    known = result.vectors_deg[~np.isnan(result.vectors_deg).any(axis=1)]
    top = max(np.abs(known).max(), 1.0)
    bins = np.linspace(-1.05 * top, 1.05 * top, 64).tolist()
    for angles, label in zip(known.T, "xyz", strict=True):
        ax.hist(angles, bins, histtype="step", label=f"about {label}")
    ax.set(xlabel="octahedral rotation (degrees)", ylabel="octahedra")
    ax.legend()
    return ax


def _rotation(corners: np.ndarray) -> np.ndarray:
    """Return the rotation vector (3,) of an octahedron, rad, or NaN.

    ``corners`` (6, 3) are the vectors from B in pseudo-cubic axes.
    """
    centred = corners - corners.mean(axis=0)
    axis = np.abs(centred).argmax(axis=1)
    positive = centred[np.arange(6), axis] > 0
    edges = np.empty((3, 3))
    for k in range(3):
        up, down = centred[(axis == k) & positive], centred[(axis == k) & ~positive]
        if len(up) != 1 or len(down) != 1:
            return np.full(3, np.nan)
        edges[k] = up[0] - down[0]
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    rotation, _ = Rotation.align_vectors(edges, np.eye(3))
    return np.asarray(rotation.as_rotvec())


def _links(atoms: Atoms, sites: np.ndarray) -> np.ndarray:
    """Return the vectors (E, 3), A, between neighbouring B atoms."""
    if len(sites) == 1 and not atoms.pbc.any():
        return np.empty((0, 3))
    _, first = nearest_neighbors(atoms, sites, sites, 1)
    cutoff = 1.25 * np.linalg.norm(first, axis=2).max()
    return pairs_within(atoms, cutoff, np.unique(sites))[2]


def _axes_of(links: np.ndarray) -> np.ndarray:
    """Return the pseudo-cubic axes (3, 3) that the links (E, 3) lie along."""
    unit = links / np.linalg.norm(links, axis=1, keepdims=True)
    axes: list[np.ndarray] = []
    for _ in range(3):
        # Whatever is furthest from the axes there are; at first, any link.
        taken = np.abs(unit @ np.array(axes).T).max(axis=1) if axes else np.zeros(1)
        if not len(unit) or taken.min() > 0.5:
            raise ValueError(
                "the B atoms are no neighbours of each other along three axes; give "
                "axes="
            )
        axes.append(unit[taken.argmin()])
    return _ordered(_orthonormal(_mean_links(links, np.array(axes)), exact=False))


def _mean_links(links: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean (3, 3), A, of the links along +-each of the unit ``rows``.

    A row of zeros where there are none.
    """
    along = links @ rows.T / np.linalg.norm(links, axis=1, keepdims=True)
    means = np.zeros((3, 3))
    for k in range(3):
        near = np.abs(along[:, k]) > 0.8
        if near.any():
            means[k] = (np.sign(along[near, k])[:, None] * links[near]).mean(axis=0)
    return means


def _orthonormal(axes: ArrayLike, *, exact: bool = True) -> np.ndarray:
    """Return the nearest right-handed orthonormal rows."""
    given = np.asarray(axes, dtype=float)
    lengths = np.linalg.norm(given, axis=-1, keepdims=True)
    if given.shape != (3, 3) or not np.isfinite(given).all() or (lengths == 0).any():
        raise ValueError(f"axes must be three vectors of finite length, got {given}")
    u, _, v = np.linalg.svd(given / lengths)
    rows = u @ v
    if exact and np.abs(rows - given / lengths).max() > 0.02:
        raise ValueError("the pseudo-cubic axes must be at right angles")
    if np.linalg.det(rows) < 0:
        if exact:
            raise ValueError("the pseudo-cubic axes must be right-handed")
        rows[2] *= -1.0
    return rows


def _ordered(rows: np.ndarray) -> np.ndarray:
    """Permute and flip the axes so that they lie as near to x, y, z as they can."""
    choices = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            candidate = rows[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(candidate) > 0:
                # Rounded, so that ties are broken by the order of the choices.
                choices.append((round(float(np.trace(candidate)), 6), candidate))
    return max(choices, key=lambda choice: choice[0])[1]
