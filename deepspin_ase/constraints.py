"""Constraints on moments, in addition to ASE's constraints on atoms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.constraints.constraint import IndexedConstraint

__all__ = [
    "FixSpins",
]


class FixSpins(IndexedConstraint):
    """Keep the moments of some atoms as they are; their positions stay free.

    A constraint of the atoms like any of ASE's, observed by the drivers and
    optimizers of this package:

    >>> atoms.set_constraint([FixAtoms([0]), FixSpins([0, 1])])

    Parameters
    ----------
    indices : sequence of int
    mask : sequence of bool
        Either of the two.
    """

    def get_removed_dof(self, atoms: Atoms) -> int:
        """Return 0: no degree of freedom of the lattice is removed."""
        return 0

    def adjust_positions(self, atoms: Atoms, new: np.ndarray) -> None:
        """Leave the positions free."""

    def adjust_forces(self, atoms: Atoms, forces: np.ndarray) -> None:
        """Leave the forces as they are."""

    def todict(self) -> dict[str, Any]:
        """Return the constraint as plain data."""
        return {"name": "FixSpins", "kwargs": {"indices": self.index.tolist()}}


def fixed_spins(atoms: Atoms) -> np.ndarray:
    """Return a mask (N,) of atoms with fixed moments."""
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in _spin_constraints(atoms.constraints):
        fixed[constraint.index] = True
    return fixed


#: Constraints that fix coordinates one by one, and nothing else.
MASKS = (FixAtoms, FixCartesian, FixSpins)


def free_coordinates(atoms: Atoms) -> np.ndarray:
    """Return (N, 3): one where :data:`MASKS` leave a coordinate free, else zero."""
    free = np.ones((len(atoms), 3))
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            free[constraint.index] = 0.0
        elif isinstance(constraint, FixCartesian):
            free[constraint.index] *= ~constraint.mask
    return free


def _spin_constraints(constraints: Iterable[Any]) -> list[FixSpins]:
    return [c for c in constraints if isinstance(c, FixSpins)]
