"""The magnetic space group of a structure, found by spglib."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms

from ..spins import get_spins


@dataclass(frozen=True, eq=False)
class MagneticSpaceGroup:
    """A magnetic space group and its operations on the structure given.

    Attributes
    ----------
    uni_number : int
        1 to 1651, of Gonzalez-Platas, Katcho and Rodriguez-Carvajal.
    bns_number, og_number : str
        Of Belov, Neronova and Smirnova, such as "15.90" for NiO with moments along
        [11-2], and of Opechowski and Guccione.
    type : int
        1: no operation with time reversal; 2: non-magnetic; 3: time reversal with
        rotations; 4: with translations, as in most antiferromagnets.
    crystal : str
        Space group of the atoms alone, such as "Fm-3m (225)".
    rotations : (K, 3, 3) integer array
    translations : (K, 3) array
        On fractional coordinates: x -> R x + t.
    time_reversals : (K,) bool array
    equivalent_atoms : (N,) integer array
        The first atom that each is equivalent to.
    """

    uni_number: int
    bns_number: str
    og_number: str
    type: int
    crystal: str
    rotations: np.ndarray
    translations: np.ndarray
    time_reversals: np.ndarray
    equivalent_atoms: np.ndarray

    def __str__(self) -> str:
        return (
            f"BNS {self.bns_number} (UNI {self.uni_number}), type {self.type}, of the "
            f"crystal {self.crystal}"
        )


def magnetic_space_group(
    atoms: Atoms, *, symprec: float = 1e-3, mag_symprec: float = 1e-2
) -> MagneticSpaceGroup:
    """Return the magnetic space group of atoms with their moments.

    Moments are axial vectors that turn with the lattice.

    Parameters
    ----------
    atoms : Atoms
        Periodic in three directions.
    symprec : float, A
        Tolerance of positions.
    mag_symprec : float, mu_B
        Tolerance of moments.

    Raises
    ------
    ValueError
        If the cell is not periodic in three directions, moments are missing, or no
        group is found within the tolerances.
    """
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ValueError("a space group needs a cell periodic in three directions")
    crystal: Any = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    moments = get_spins(atoms)
    with warnings.catch_warnings():
        # spglib 2 warns of its own way to report that it has found nothing.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        found = spglib.get_magnetic_symmetry_dataset(
            (*crystal, moments), symprec=symprec, mag_symprec=mag_symprec
        )
        lattice = spglib.get_symmetry_dataset(crystal, symprec=symprec)
        number = 0 if found is None else found.uni_number
        kind = spglib.get_magnetic_spacegroup_type(number) if number else None
    if found is None or lattice is None or kind is None:
        raise ValueError(
            f"spglib finds no magnetic space group with symprec={symprec} and "
            f"mag_symprec={mag_symprec}; other tolerances may, unless atoms overlap"
        )
    return MagneticSpaceGroup(
        uni_number=found.uni_number,
        bns_number=kind.bns_number.strip(),
        og_number=kind.og_number.strip(),
        type=found.msg_type,
        crystal=f"{lattice.international} ({lattice.number})",
        rotations=found.rotations,
        translations=found.translations,
        time_reversals=np.asarray(found.time_reversals, dtype=bool),
        equivalent_atoms=found.equivalent_atoms,
    )
