"""The magnetic space group of a structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from .._result import Result
from ._spglib import MAG_SYMPREC, SYMPREC, dataset, magnetic_dataset


@dataclass(frozen=True, eq=False)
class MagneticSpaceGroup(Result):
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
    atoms: Atoms, *, symprec: float = SYMPREC, mag_symprec: float = MAG_SYMPREC
) -> MagneticSpaceGroup:
    """Return the magnetic space group of atoms with their moments.

    Moments are axial vectors that rotate with the lattice. The tolerance of moments
    is one percent of a typical one by default: take less for orders that are known
    more closely, such as weak ferromagnets. Where the moments scatter by about a
    third of the tolerance, spglib finds no group.

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
    found = find_magnetic_space_group(atoms, symprec=symprec, mag_symprec=mag_symprec)
    if found is None:
        raise ValueError(
            f"spglib finds no magnetic space group with symprec={symprec} and "
            f"mag_symprec={mag_symprec}; other tolerances may, unless atoms overlap"
        )
    return found


def find_magnetic_space_group(
    atoms: Atoms, *, symprec: float = SYMPREC, mag_symprec: float = MAG_SYMPREC
) -> MagneticSpaceGroup | None:
    """Return the group as :func:`magnetic_space_group`, None where none is found.

    Directions that are not periodic count as vacuum.
    """
    lattice = dataset(atoms, symprec=symprec)
    found = magnetic_dataset(atoms, symprec=symprec, mag_symprec=mag_symprec)
    if found is None or lattice is None:
        return None
    group, kind = found
    return MagneticSpaceGroup(
        uni_number=int(group.uni_number),
        bns_number=kind.bns_number.strip(),
        og_number=kind.og_number.strip(),
        type=group.msg_type,
        crystal=f"{lattice.international} ({lattice.number})",
        rotations=group.rotations,
        translations=group.translations,
        time_reversals=np.asarray(group.time_reversals, dtype=bool),
        equivalent_atoms=group.equivalent_atoms,
    )
