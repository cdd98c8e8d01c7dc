"""Magnetic orders: patterns of directions for :func:`deepspin_ase.set_spins`.

Each function returns an order, which gives the directions of the magnetic sites
only; non-magnetic atoms may be anywhere. Propagation vectors
q are in units of the reciprocal lattice (of 2 pi) of a crystallographic cell
that is stated: the atoms' own, or ``cell``. So rock-salt NiO in a supercell of
any shape, cube axes along x, y, z, and G-type BiFeO3 in its hexagonal cell are

>>> set_spins(nio, {"Ni": 1.9}, pattern=antiferromagnetic((.5, .5, .5), cell=4.17))
>>> set_spins(bfo, {"Fe": 4.1}, pattern=antiferromagnetic((0, 0, 3)))

An order that does not repeat with the periodic cell, for instance because q was
meant in units of another cell, is refused with the periods that would fit it.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.cell import Cell
from numpy.typing import ArrayLike

from ._rotations import perpendicular
from ._validate import positive
from .spins import Order, unit_vector

__all__ = [
    "antiferromagnetic",
    "collinear",
    "random_directions",
    "spiral",
]

#: q . A of a lattice vector A may differ from an integer by this much; it is rounded.
COMMENSURATE = 0.05

#: |cos| below which a site counts as a node of an antiferromagnetic wave.
_NODE = 0.1


def collinear(direction: str | ArrayLike = "z", *, signs: ArrayLike = 1.0) -> Order:
    """Return the collinear order along ``direction``.

    Parameters
    ----------
    direction : (3,) array or str
        Cartesian, of any length, or ``"x"``, ``"-z"``, ...
    signs : (M,) array, optional
        +1 or -1 for each of the M magnetic sites, in the order of the atoms.
        All +1 (ferromagnetic) by default.
    """
    axis = unit_vector(direction)
    sign = np.asarray(signs, dtype=float)
    if (np.abs(sign) != 1.0).any():
        raise ValueError("signs must be +1 or -1")

    def order(sites: Atoms) -> np.ndarray:
        if sign.ndim and sign.shape != (len(sites),):
            raise ValueError(
                f"signs have shape {sign.shape}, but {len(sites)} atoms carry a moment"
            )
        return np.broadcast_to(sign, len(sites))[:, None] * axis

    return order


def antiferromagnetic(
    q: ArrayLike,
    *,
    direction: str | ArrayLike = "z",
    cell: float | ArrayLike | None = None,
    phase: float = 0.0,
) -> Order:
    """Return the order sign(cos 2 pi (q.r + phase)) along ``direction``.

    Parameters
    ----------
    q : (3,) array
        Propagation vector in reciprocal lattice units of ``cell``.
    direction : (3,) array or str
    cell : float, (3,), (6,) or (3, 3) array or Cell, A, optional
        The cell that q refers to: the edge of a cube along x, y, z, or
        anything from which ASE makes a cell. The atoms' own by default.
    phase : float
        Added to q.r, which is counted from the first magnetic site, in units of
        2 pi. Needed where that would put sites on nodes, as for the up-up-down-down
        order of q = 1/4, whose phase is -1/8.

    Notes
    -----
    Type II of rock-salt oxides (NiO): q = (1/2, 1/2, 1/2) of the cubic cell or
    of the primitive one. G type of perovskites (BiFeO3) and simple cubic:
    (1/2, 1/2, 1/2) of the pseudo-cubic cell, (0, 0, 3) of the hexagonal one.
    C type: (1/2, 1/2, 0), A type: (0, 0, 1/2). Two sublattices of bcc:
    (0, 0, 1) of the cubic cell.

    Raises
    ------
    ValueError
        When applied: if a magnetic site lies on a node of the wave, or the
        wave does not repeat with the periodic cell.
    """
    axis = unit_vector(direction)

    def order(sites: Atoms) -> np.ndarray:
        wave = np.cos(2.0 * np.pi * (_phases(sites, q, cell) + phase))
        nodes = np.flatnonzero(np.abs(wave) < _NODE)
        if len(nodes):
            raise ValueError(
                f"{len(nodes)} of {len(sites)} magnetic sites, the first at "
                f"{sites.positions[nodes[0]]} A, lie on nodes of the wave q = "
                f"{np.asarray(q)} and get no sign; check q and the cell it refers "
                "to (cell=), or shift the wave (phase=)"
            )
        return np.sign(wave)[:, None] * axis

    return order


def spiral(
    q: ArrayLike,
    *,
    normal: str | ArrayLike = "z",
    cone_angle_deg: float = 90.0,
    cell: float | ArrayLike | None = None,
    phase: float = 0.0,
) -> Order:
    """Return the spiral that rotates about ``normal`` by 2 pi q.r.

    e(r) = cos(c) n + sin(c) (u cos(p) + v sin(p)), p = 2 pi (q.r + phase), with
    the normal n, the cone angle c and (u, v, n) right-handed. A helix has the
    normal along q, a cycloid across it. q.r is counted from the first magnetic
    site, which points along u for the flat spiral: perpendicular to n and to the
    Cartesian axis that is the farthest from n.

    Parameters
    ----------
    q : (3,) array
        Propagation vector in reciprocal lattice units of ``cell``.
    normal : (3,) array or str
    cone_angle_deg : float
        Angle between moments and normal, degrees; 90 is the flat spiral.
    cell : float, (3,), (6,) or (3, 3) array or Cell, A, optional
        As in :func:`antiferromagnetic`.
    phase : float
        In units of 2 pi.

    Raises
    ------
    ValueError
        When applied: if the spiral does not repeat with the periodic cell.
    """
    n = unit_vector(normal)
    u = perpendicular(n)
    v = np.cross(n, u)
    cone = np.radians(cone_angle_deg)

    def order(sites: Atoms) -> np.ndarray:
        angle = 2.0 * np.pi * (_phases(sites, q, cell) + phase)[:, None]
        return np.cos(cone) * n + np.sin(cone) * (np.cos(angle) * u + np.sin(angle) * v)

    return order


def random_directions(seed: int | np.random.Generator | None = None) -> Order:
    """Return directions drawn independently and uniformly from the sphere.

    A seed gives the same directions each time the order is applied; a
    Generator continues its sequence.
    """

    def order(sites: Atoms) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(len(sites), 3))

    return order


def phases_per_vector(
    atoms: Atoms, q: ArrayLike, cell: float | ArrayLike | None = None
) -> np.ndarray:
    """Return the phases of waves, in periods, per lattice vector of ``atoms``.

    Parameters
    ----------
    atoms : Atoms
        A direction without lattice vector is completed by a unit vector.
    q : (3,) or (Q, 3) array
        Propagation vectors in reciprocal lattice units of ``cell``.
    cell : float, (3,), (6,) or (3, 3) array or Cell, A, optional
        As in :func:`antiferromagnetic`; the atoms' own by default.

    Returns
    -------
    Array of the shape of ``q``; whole numbers where a wave repeats with the cell

    Raises
    ------
    ValueError
        If q or ``cell`` is malformed, or q has a component where the cell has no
        lattice vector.
    """
    q = np.asarray(q, dtype=float)
    if q.ndim not in (1, 2) or q.shape[-1] != 3 or not np.isfinite(q).all():
        raise ValueError(f"q must be three finite numbers, got {q}")
    if cell is None:
        unit = atoms.cell
    else:
        unit = Cell.new([positive("cell", cell)] * 3 if np.ndim(cell) == 0 else cell)
        if not np.isfinite(unit.array).all():
            raise ValueError(f"the cell of an order must be finite, got {cell}")
    if (q[..., ~unit.array.any(axis=1)] != 0.0).any():
        raise ValueError(
            "q has a component along a direction in which the cell has no lattice "
            "vector; say which cell q refers to (cell=)"
        )
    reciprocal = unit.complete().reciprocal().array
    return np.asarray(q @ reciprocal @ atoms.cell.complete().array.T)


def _phases(sites: Atoms, q: ArrayLike, cell: float | ArrayLike | None) -> np.ndarray:
    """Return q.(r - r_0) of all sites, (M,), in periods, exactly cell-periodic."""
    per_vector = phases_per_vector(sites, np.reshape(q, -1), cell)
    whole = np.round(per_vector)
    if (np.abs(per_vector - whole) > COMMENSURATE)[sites.pbc].any():
        raise ValueError(
            f"the order does not repeat with the periodic cell: its phase advances "
            f"by {np.round(per_vector, 3)} periods along the lattice vectors, which "
            "must be whole numbers; check q and the cell it refers to (cell=), or "
            "repeat the cell"
        )
    per_vector = np.where(sites.pbc, whole, per_vector)
    from_first = sites.positions - sites.positions[:1]
    return np.asarray(sites.cell.complete().scaled_positions(from_first) @ per_vector)
