"""Symmetry operations of crystals: on sites, and of repeated cells."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from scipy.spatial import cKDTree

from ._spglib import SYMPREC, dataset, in_vacuum, operations, primitive_cell


def crystal_symmetry(
    atoms: Atoms, *, symprec: float = SYMPREC
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the symmetry operations of the atoms without moments.

    Directions that are not periodic count as vacuum.

    Returns
    -------
    (N, 3) array, (P, 3, 3) integers, (P, 3) array
        Scaled positions x; rotations W and translations w, x -> W x + w. The
        identity alone where no group is found.
    """
    return in_vacuum(atoms)[1], *operations(atoms, symprec=symprec)


def space_group(atoms: Atoms, *, symprec: float = SYMPREC) -> str:
    """Return the name and the number of the space group without moments.

    Such as "R3c (161)"; that of the identity alone where no group is found.
    """
    found = dataset(atoms, symprec=symprec)
    return "P1 (1)" if found is None else f"{found.international} ({found.number})"


def conventional_cell(atoms: Atoms, *, symprec: float = SYMPREC) -> np.ndarray | None:
    """Return the conventional cell of the atoms without moments, (3, 3), A.

    In their orientation; None where no group is found.
    """
    found = dataset(atoms, symprec=symprec)
    if found is None:
        return None
    return np.asarray(
        np.linalg.inv(found.transformation_matrix.T) @ in_vacuum(atoms)[0]
    )


def site_permutations(
    scaled: np.ndarray, rotations: np.ndarray, shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the permutations of sites by operations x -> W x + w.

    Parameters
    ----------
    scaled : (M, 3) array
        Scaled positions of the sites.
    rotations, shifts : (P, 3, 3) and (P, 3) arrays

    Returns
    -------
    (Q,) integers, (Q, M) integers
        Those of the P operations that map the sites onto each other, and the site
        to which each takes each.
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
    atoms: Atoms, *, symprec: float = SYMPREC, most: int = 2000
) -> Atoms:
    """Return repetitions of a cell that have all rotations of the crystal.

    The cell itself where it has them, and where more than ``most`` atoms would be
    needed. The atoms of the cell come first, then those of each copy in the same
    order. Directions that are not periodic become so, with vacuum between copies.
    """
    cell, scaled = in_vacuum(atoms)
    whole = Atoms(atoms.numbers, cell=cell, scaled_positions=scaled, pbc=True)
    primitive = primitive_cell(atoms, symprec=symprec)
    if primitive is None:
        return whole
    copies = cell @ np.linalg.inv(primitive.cell.array)
    every = len(operations(primitive, symprec=symprec)[0])
    count = round(abs(np.linalg.det(copies)))
    if len(operations(whole, symprec=symprec)[0]) >= every * count:
        return whole
    for n in range(2, count + 1):
        matrix = n * np.linalg.inv(copies)
        if len(atoms) * abs(np.linalg.det(matrix)) > most:
            return whole
        if np.allclose(matrix, np.round(matrix), atol=1e-3):
            return make_supercell(whole, np.round(matrix).astype(int))
    return whole
