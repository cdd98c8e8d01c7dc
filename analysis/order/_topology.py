"""Topological charge of spin textures in planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.spatial import Delaunay

from ..._figures import figure_axes
from ..._result import Result, plots
from .._trajectories import spins_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Sites are displaced by this part of their spacing, the same for all images, so
#: that the triangulation of a square lattice is unique and periodic.
_GENERIC = 1e-4


@dataclass(frozen=True, eq=False)
class TopologicalCharge(Result):
    """Charges of L planes of spins.

    Attributes
    ----------
    heights : (L,) array, A
        Mean height of each plane along its normal.
    charges : (L,) array
        Q of each plane; whole numbers where both directions are periodic.
    centers : (T, 3) array, A
        Middles of all triangles.
    density : (T,) array
        Charge of each triangle, Omega / 4 pi.
    planes : (T,) array
        The plane of each triangle.
    """

    heights: np.ndarray
    charges: np.ndarray
    centers: np.ndarray
    density: np.ndarray
    planes: np.ndarray

    @property
    def total(self) -> float:
        """Sum over the planes."""
        return float(self.charges.sum())


def topological_charge(
    atoms: Atoms,
    *,
    normal: int = 2,
    vectors: ArrayLike | None = None,
    separation: float = 0.8,
) -> TopologicalCharge:
    """Return the topological charge of the moments, plane by plane.

    Q = 1/(4 pi) sum over triangles of the solid angle Omega of their three moments,

    tan(Omega/2) = e1.(e2 x e3) / (1 + e1.e2 + e2.e3 + e3.e1)

    (B. Berg and M. Luescher, Nucl. Phys. B 190, 412 (1981),
    doi:10.1016/0550-3213(81)90568-X), the lattice form of (1/4 pi) times the
    integral of e.(d_x e x d_y e) with (x, y, normal) right-handed. A Neel or Bloch
    skyrmion whose core points against its surroundings, along -normal, has Q = -1.

    Parameters
    ----------
    atoms : Atoms
        Magnetic atoms in one or more planes, in any arrangement, distorted too: the
        triangles are those of Delaunay.
    normal : int
        Planes are spanned by the two other lattice vectors.
    vectors : (N, 3) array, optional
        Take these in place of the moments, such as
        :func:`~deepspin_ase.analysis.staggered_moments` of an
        antiferromagnet; atoms with zero are left out.
    separation : float, A
        Atoms whose heights differ by less belong to one plane.

    Raises
    ------
    ValueError
        If moments are missing or all zero, or a plane has fewer than three sites.
    """
    texture = spins_of(atoms) if vectors is None else np.asarray(vectors, dtype=float)
    if texture.shape != (len(atoms), 3) or not np.isfinite(texture).all():
        raise ValueError(
            f"vectors must be finite numbers of shape ({len(atoms)}, 3), got "
            f"{texture.shape}"
        )
    lengths = np.linalg.norm(texture, axis=1)
    sites = np.flatnonzero(lengths > 0)
    if normal not in (0, 1, 2):
        raise ValueError(f"normal must be 0, 1 or 2, got {normal}")
    frame = _Frame(atoms[sites], normal)
    e = texture[sites] / lengths[sites, None]
    planes = _planes(frame, separation)
    heights = np.array([frame.heights[rows].mean() for rows in planes])
    charges = np.zeros(len(planes))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for k, rows in enumerate(planes):
        corners, centers = _triangles(frame, rows)
        density = _solid_angles(e[corners]) / (4.0 * np.pi)
        charges[k] = density.sum()
        parts.append((centers, density, np.full(len(density), k)))
    centers, density, plane = (np.concatenate(x) for x in zip(*parts, strict=True))
    return TopologicalCharge(heights, charges, centers, density, plane)


@plots(TopologicalCharge)
def plot_topological_charge(
    result: TopologicalCharge, ax: Axes | None = None, *, plane: int = 0
) -> Axes:
    """Draw the charge of the triangles of one plane, seen along z."""
    ax = figure_axes(ax)
    own = result.planes == plane
    if not own.any():
        raise ValueError(f"there is no plane {plane}; there are {len(result.heights)}")
    top = max(np.abs(result.density[own]).max(), 1e-12)
    x, y = result.centers[own, :2].T
    points = ax.scatter(
        x, y, c=result.density[own], cmap="RdBu_r", vmin=-top, vmax=top, s=12
    )
    ax.figure.colorbar(points, ax=ax, label="topological charge")
    ax.set(xlabel="x (Å)", ylabel="y (Å)", title=f"Q = {result.charges[plane]:.3f}")
    ax.set_aspect("equal")
    return ax


class _Frame:
    """Sites along two lattice vectors, and their heights above that plane.

    Attributes
    ----------
    positions : (M, 3) array, A
        Wrapped into the cell in the plane.
    in_plane : (2, 3) array, A
        The two lattice vectors.
    periodic : (2,) bool array
        Whether the plane repeats with them.
    basis : (2, 3) array
        Orthonormal, right-handed with the normal.
    heights : (M,) array, A
    period : float, A
        Of the heights; zero where not periodic.
    """

    def __init__(self, sites: Atoms, normal: int) -> None:
        plane = [(normal + 1) % 3, (normal + 2) % 3]
        cell = sites.cell.complete().array
        self.in_plane, self.periodic = cell[plane], sites.pbc[plane]
        up = np.cross(*self.in_plane)
        # The sense of rotation is about the lattice vector, in left-handed cells too.
        up *= np.sign(up @ cell[normal]) / np.linalg.norm(up)
        first = self.in_plane[0] / np.linalg.norm(self.in_plane[0])
        self.basis = np.array([first, np.cross(up, first)])
        fractions = np.linalg.solve(cell.T, sites.positions.T).T
        home = np.where(sites.pbc, np.floor(fractions), 0.0)
        home[:, normal] = 0.0
        self.positions = sites.positions - home @ cell
        self.heights = self.positions @ up
        self.period = float(cell[normal] @ up) if sites.pbc[normal] else 0.0
        if self.period:
            self.heights = self.heights % self.period


def _planes(frame: _Frame, separation: float) -> list[np.ndarray]:
    """Return the rows of the sites of each plane, from the lowest up."""
    order = np.argsort(frame.heights, kind="stable")
    cuts = np.flatnonzero(np.diff(frame.heights[order]) > separation) + 1
    groups = np.split(order, cuts)
    low, high = frame.heights[order[0]], frame.heights[order[-1]]
    if frame.period and len(groups) > 1 and low + frame.period - high <= separation:
        # One plane on both sides of the cell's boundary.
        frame.heights[groups[-1]] -= frame.period
        groups[0] = np.concatenate([groups.pop(), groups[0]])
    return groups


def _triangles(frame: _Frame, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (T, 3), counter-clockwise, and middles (T, 3), A.

    Of all triangles of a plane, each taken once among its periodic images.
    """
    if len(rows) < 3:
        raise ValueError(
            f"a plane at height {frame.heights[rows].mean():.2f} A has {len(rows)} "
            "magnetic sites, too few for a texture; is `normal` right, and "
            "`separation` large enough?"
        )
    # Images far enough that the triangles of the cell itself see no edge.
    repeats = np.where(frame.periodic, 2 if len(rows) < 64 else 1, 0)
    grid = np.indices((2 * repeats + 1).tolist()).reshape(2, -1).T - repeats
    points = frame.positions[rows] @ frame.basis.T
    plane = frame.in_plane @ frame.basis.T
    spacing = np.sqrt(abs(np.linalg.det(plane)) / len(rows))
    jitter = np.random.default_rng(0).normal(size=points.shape)
    points += _GENERIC * spacing * jitter
    images = (points + (grid @ plane)[:, None]).reshape(-1, 2)
    simplices = Delaunay(images).simplices  # counter-clockwise
    fractions = images[simplices].mean(axis=1) @ np.linalg.inv(plane)
    inside = (np.floor(fractions) == 0.0) | ~frame.periodic
    simplices = simplices[inside.all(axis=1)]
    site, image = simplices % len(rows), simplices // len(rows)
    offsets = (grid @ frame.in_plane)[image]
    centers = (frame.positions[rows][site] + offsets).mean(axis=1)
    return rows[site], centers


def _solid_angles(e: np.ndarray) -> np.ndarray:
    """Return the signed solid angles (T,) of triangles of unit vectors (T, 3, 3)."""
    a, b, c = e[:, 0], e[:, 1], e[:, 2]
    volume = np.einsum("ij,ij->i", a, np.cross(b, c))
    cosines = sum(np.einsum("ij,ij->i", x, y) for x, y in ((a, b), (b, c), (c, a)))
    return np.asarray(2.0 * np.arctan2(volume, 1.0 + cosines))
