"""Symmetries of crystals and of magnetic orders, by spglib."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

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


def site_permutations(
    scaled: np.ndarray, rotations: np.ndarray, shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where symmetries x -> W x + w take sites.

    Parameters
    ----------
    scaled : (M, 3) array
        Scaled positions of the sites.
    rotations, shifts : (P, 3, 3) and (P, 3) arrays

    Returns
    -------
    (Q,) integers, (Q, M) integers
        Those of the P symmetries that take the sites to each other, and the site to
        which each takes each.
    """
    own = _in_cell(scaled)
    tree = cKDTree(own, boxsize=1.0)
    found = np.empty((len(rotations), len(own)), dtype=np.intp)
    for k, (rotation, shift) in enumerate(zip(rotations, shifts, strict=True)):
        _, found[k] = tree.query(_in_cell(own @ rotation.T + shift))
    whole = (np.sort(found, axis=1) == np.arange(len(own))).all(axis=1)
    return np.flatnonzero(whole), found[whole]


def _in_cell(scaled: np.ndarray) -> np.ndarray:
    # Twice: the first may round to 1.
    return scaled % 1.0 % 1.0


def symmetric_supercell(
    atoms: Atoms, *, symprec: float = 1e-3, most: int = 2000
) -> Atoms:
    """Return repetitions of a cell with all rotations of the crystal.

    The cell itself where it has them, and where more than ``most`` atoms would be
    needed. The atoms of the cell come first, then those of each copy in the same
    order. Directions that are not periodic are so with vacuum between.
    """
    cell, scaled = _in_vacuum(atoms)
    whole = Atoms(atoms.numbers, cell=cell, scaled_positions=scaled, pbc=True)
    found = _ask(
        spglib.find_primitive,
        (cell.tolist(), scaled.tolist(), atoms.numbers.tolist()),
        symprec=symprec,
    )
    if found is None:
        return whole
    copies = cell @ np.linalg.inv(found[0])
    primitive = Atoms(found[2], cell=found[0], scaled_positions=found[1], pbc=True)
    every = len(crystal_symmetry(primitive, symprec=symprec)[1])
    count = round(abs(np.linalg.det(copies)))
    if len(crystal_symmetry(whole, symprec=symprec)[1]) >= every * count:
        return whole
    for n in range(2, count + 1):
        matrix = n * np.linalg.inv(copies)
        if len(atoms) * abs(np.linalg.det(matrix)) > most:
            return whole
        if np.allclose(matrix, np.round(matrix), atol=1e-3):
            return make_supercell(whole, np.round(matrix).astype(int))
    return whole


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
