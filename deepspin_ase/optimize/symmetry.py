"""Symmetries of crystals and of magnetic orders, by spglib."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import complete_cell

from ..spins import get_spins

#: Distance between copies in directions that are not periodic, A.
_VACUUM = 10.0

#: Moments that differ by less are the same to a symmetry, mu_B.
_MOMENT_TOLERANCE = 0.02


def crystal_symmetry(
    atoms: Atoms, *, symprec: float = 1e-3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the symmetries of the atoms without moments.

    Directions that are not periodic count as vacuum.

    Returns
    -------
    (N, 3) array, (P, 3, 3) integers, (P, 3) array
        Scaled positions x; rotations W and translations w, x -> W x + w. The
        identity alone where none is found.
    """
    cell, scaled = _in_vacuum(atoms)
    found = _ask(
        spglib.get_symmetry,
        (cell.tolist(), scaled.tolist(), atoms.numbers.tolist()),
        symprec=symprec,
    )
    if found is None:
        return scaled, np.eye(3, dtype=int)[None], np.zeros((1, 3))
    return scaled, found["rotations"], found["translations"]


def magnetic_group(atoms: Atoms, *, symprec: float = 1e-3) -> tuple[int, str]:
    """Return the magnetic space group of atoms with moments.

    Directions that are not periodic count as vacuum.

    Returns
    -------
    int, str
        UNI number and BNS number, such as (115, "15.90"); 0 and "-" where none is
        found.
    """
    cell, scaled = _in_vacuum(atoms)
    found = _ask(
        spglib.get_magnetic_symmetry_dataset,
        (
            cell.tolist(),
            scaled.tolist(),
            atoms.numbers.tolist(),
            get_spins(atoms).tolist(),
        ),
        symprec=symprec,
        mag_symprec=_MOMENT_TOLERANCE,
    )
    if found is None:
        return 0, "-"
    kind = _ask(spglib.get_magnetic_spacegroup_type, found.uni_number)
    return int(found.uni_number), str(kind.bns_number)


def _in_vacuum(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return a periodic cell (3, 3), A, and scaled positions (N, 3)."""
    cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    for axis in np.flatnonzero(~atoms.pbc):
        extent = np.ptp(atoms.positions @ cell[axis])  # the new vectors are unit ones
        cell[axis] *= extent + _VACUUM
    return cell, np.linalg.solve(cell.T, atoms.positions.T).T


def _ask(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what spglib finds, or None where it fails, by exception or not."""
    with warnings.catch_warnings():
        # Every call warns until spglib 3 makes errors exceptions.
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        try:
            return function(*arguments, **options)
        except spglib.SpglibError:
            return None
