"""LAMMPS simulation boxes: transformation of structures and results, and its inverse.

LAMMPS wants a along x and b in the xy plane, a right-handed cell, and a finite
box in directions that are not periodic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism

#: Room around the outermost atoms in a direction that is not periodic, A.
_MARGIN = 1.0

#: Tilts that are smaller relative to the box are round-off.
_ROUND_OFF = 1e-13


@dataclass(frozen=True)
class LammpsBox:
    """A box, and the rotation into its orientation.

    Attributes
    ----------
    low : (3,) array, A
        Its corner: xlo, ylo, zlo.
    lengths : (3,) array, A
        xhi - xlo, yhi - ylo, zhi - zlo.
    tilts : (3,) array, A
        xy, xz, yz.
    rotation : (3, 3) array
        ``v @ rotation`` is the vector in LAMMPS' orientation; it is proper.
    """

    low: np.ndarray
    lengths: np.ndarray
    tilts: np.ndarray
    rotation: np.ndarray

    @classmethod
    def of(cls, atoms: Atoms, *, reduced: bool = False) -> LammpsBox:
        """Return the box of a structure.

        Periodic lattice vectors are kept, or all negated where they are
        left-handed, which is the same lattice. The vector of another direction
        is kept where it is perpendicular to them and reaches around all atoms,
        and replaced by one that does elsewhere.

        Parameters
        ----------
        atoms : Atoms
            Periodic lattice vectors must not be parallel.
        reduced : bool
            Take lattice vectors of the same lattice with the smallest tilts.
        """
        origin, cell = _right_handed(atoms)
        prism = Prism(cell, pbc=atoms.pbc)
        lower = prism.lammps_cell if reduced else prism.lammps_tilt
        tilts = lower[[1, 2, 2], [0, 0, 1]]
        tilts[np.abs(tilts) <= _ROUND_OFF * np.diag(lower).max()] = 0.0
        return cls(origin @ prism.rot_mat, np.diag(lower), tilts, prism.rot_mat)

    @property
    def cell(self) -> np.ndarray:
        """The lattice vectors (3, 3) in LAMMPS' orientation, A."""
        cell = np.diag(self.lengths)
        cell[[1, 2, 2], [0, 0, 1]] = self.tilts
        return cell


def _right_handed(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return the corner (3,) and a right-handed cell (3, 3) around all atoms."""
    cell, origin = atoms.cell.array.copy(), np.zeros(3)
    open_directions = np.flatnonzero(~atoms.pbc).tolist()
    done = np.flatnonzero(atoms.pbc).tolist()
    spans = {}
    for k in open_directions:
        direction = _perpendicular(cell[done], atoms.cell.array[k])
        spans[k] = _span(atoms, k, direction)
        cell[k] = direction
        done.append(k)
    if np.linalg.det(cell) < 0.0:
        if not spans:
            return origin, -cell
        low, high = spans[k]
        cell[k], spans[k] = -cell[k], (-high, -low)
    for k, (low, high) in spans.items():
        origin += low * cell[k]
        cell[k] *= high - low
    return origin, cell


def _perpendicular(vectors: np.ndarray, wish: np.ndarray) -> np.ndarray:
    """Return a unit vector perpendicular to ``vectors`` (M, 3), along ``wish`` if any.

    ``wish`` that is perpendicular already keeps its direction to the last bit.
    """
    basis = np.linalg.qr(vectors.T)[0].T
    wish_length = np.linalg.norm(wish)
    if wish_length > 0.0:
        rest = wish - basis.T @ (basis @ wish)
        length = np.linalg.norm(rest)
        if np.allclose(rest, wish, rtol=0.0, atol=_ROUND_OFF * wish_length):
            return wish / wish_length
        if length > 1e-6 * wish_length:
            return rest / length
    axes = np.eye(3) - (basis.T @ basis)
    rest = axes[np.linalg.norm(axes, axis=1).argmax()]
    return rest / np.linalg.norm(rest)


def _span(atoms: Atoms, k: int, direction: np.ndarray) -> tuple[float, float]:
    """Return from where to where the box reaches along an open direction, A."""
    along = atoms.positions @ direction
    low, high = float(along.min()), float(along.max())
    length = float(atoms.cell.array[k] @ direction)
    perpendicular = np.allclose(atoms.cell.array[k], length * direction, atol=1e-9)
    if perpendicular and 0.0 <= low and high < length:
        return 0.0, length
    return low - _MARGIN, high + _MARGIN
