"""The one adapter to spglib: structures, tolerances, failures and warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import complete_cell

from ..spins import get_spins

#: Tolerance of positions, A.
SYMPREC = 1e-3

#: Tolerance of moments, mu_B: one percent of a typical moment, or a tilt by half a
#: degree. Relaxation to the default torque leaves less, so that relaxed orders keep
#: their group; weak ferromagnetism by canting may be as small and asks for less.
#: spglib finds no group where the scatter of the moments is about a third of the
#: tolerance: it then accepts some operations and not their products.
MAG_SYMPREC = 0.02

#: Distance between copies in directions that are not periodic, A.
_VACUUM = 10.0


def in_vacuum(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return a cell periodic in three directions and scaled positions in it.

    Vectors of directions that are not periodic are perpendicular to the periodic
    ones, with 10 A of vacuum between copies.

    Returns
    -------
    (3, 3) array, A, and (N, 3) array
    """
    cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    for axis in np.flatnonzero(~atoms.pbc):
        extent = np.ptp(atoms.positions @ cell[axis])  # the new vectors are unit ones
        cell[axis] *= extent + _VACUUM
    return cell, np.linalg.solve(cell.T, atoms.positions.T).T


def dataset(atoms: Atoms, *, symprec: float = SYMPREC) -> Any:
    """Return spglib's dataset of the atoms without moments, None where none is found.

    See Togo, Shinohara, Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024),
    doi:10.1080/27660400.2024.2384822.
    """
    return _ask(spglib.get_symmetry_dataset, _crystal(atoms), symprec=symprec)


def operations(
    atoms: Atoms, *, symprec: float = SYMPREC
) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations W (P, 3, 3) and translations w (P, 3), x -> W x + w.

    On the scaled positions of :func:`in_vacuum`. The identity alone where spglib
    finds no group.
    """
    found = _ask(spglib.get_symmetry, _crystal(atoms), symprec=symprec)
    if found is None:
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    return found["rotations"], found["translations"]


def primitive_cell(atoms: Atoms, *, symprec: float = SYMPREC) -> Atoms | None:
    """Return the primitive cell without moments, in the orientation of the atoms.

    None where spglib finds none.
    """
    found = _ask(
        spglib.standardize_cell,
        _crystal(atoms),
        to_primitive=True,
        no_idealize=True,  # which would rotate the crystal
        symprec=symprec,
    )
    if found is None:
        return None
    return Atoms(found[2], cell=found[0], scaled_positions=found[1], pbc=True)


def magnetic_dataset(
    atoms: Atoms, *, symprec: float = SYMPREC, mag_symprec: float = MAG_SYMPREC
) -> tuple[Any, Any] | None:
    """Return spglib's magnetic dataset and the type of the magnetic space group.

    None where spglib finds no group. See Shinohara, Togo, Tanaka, Acta Crystallogr. A
    79, 390 (2023), doi:10.1107/S2053273323005016.
    """
    found = _ask(
        spglib.get_magnetic_symmetry_dataset,
        (*_crystal(atoms), get_spins(atoms).tolist()),
        symprec=symprec,
        mag_symprec=mag_symprec,
    )
    if found is None:
        return None
    kind = _ask(spglib.get_magnetic_spacegroup_type, found.uni_number)
    return None if kind is None else (found, kind)


def _crystal(atoms: Atoms) -> tuple[Any, Any, Any]:
    cell, scaled = in_vacuum(atoms)
    return cell.tolist(), scaled.tolist(), atoms.numbers.tolist()


def _ask(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return an answer of spglib, or None where it fails, by exception or not."""
    with warnings.catch_warnings():
        # Every call warns until spglib 3 makes errors exceptions.
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        try:
            return function(*arguments, **options)
        except spglib.SpglibError:
            return None
