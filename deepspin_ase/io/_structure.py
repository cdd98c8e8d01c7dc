"""One structure with its moments from a file of any kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import filetype

from ..spins import get_spins, set_spins
from ._columns import standardize
from ._extxyz import read_extxyz
from ._lammps import is_lammps_data, read_lammps_data
from ._lammps_dump import is_lammps_dump, read_lammps_dump
from ._mcif import has_moments, read_mcif
from ._vasp import is_poscar, read_poscar

#: Formats whose moments ASE does not read as what they are.
_NOT_MOMENTS = {
    "abinit-in": "vectors of which the z components alone are read",
    "elk": "fields, of which the z components alone are read",
    "espresso-in": "fractions of the valence electrons, without their angles",
}


def read_structure(
    path: str | os.PathLike[str],
    *,
    elements: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Atoms:
    """Return the last structure of a file, with its moments.

    Moments come from extxyz (:func:`read_extxyz`), magnetic CIF (``.mcif`` or ``.cif``,
    such as those of MAGNDATA: the whole magnetic cell), POSCAR or CONTCAR with MAGMOM
    and SAXIS of the INCAR beside it, data files and dumps of LAMMPS'
    ``atom_style spin``, and any file that ASE reads. Where a file has moments that were
    computed and others that a calculation started from, they are the computed ones.

    Parameters
    ----------
    path : path
    elements : sequence of str, optional
        Of LAMMPS' atom types 1, 2, ...; by default what the file says.
    columns : {quantity: name}, optional
        Of extxyz files, see :func:`read_extxyz`.

    Returns
    -------
    Atoms
        Moments are (N, 3) vectors in mu_B; there are none where the file has none. No
        calculator is attached.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, holds no structure, or moments that cannot be read whole.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"the structure {path} {what}: give a file")
    if path.suffix in (".xyz", ".extxyz"):
        atoms = read_extxyz(path, -1, columns=columns)
    elif is_lammps_data(path):
        atoms = read_lammps_data(path, elements=elements)
    elif is_lammps_dump(path):
        atoms = read_lammps_dump(path, elements=elements)
    elif path.suffix in (".cif", ".mcif") and has_moments(path):
        atoms = read_mcif(path)
    else:
        atoms = _read_by_ase(path)
    atoms.calc = None
    if atoms.has("initial_magmoms"):
        set_spins(atoms, get_spins(atoms))
    return atoms


def is_single(path: Path) -> bool:
    """Return whether a file holds one structure whose moments ASE does not read."""
    is_mcif = path.suffix in (".cif", ".mcif") and has_moments(path)
    return is_lammps_data(path) or is_mcif or is_poscar(path)


def read_ase(
    path: Path, index: str = ":", *, columns: Mapping[str, str] | None = None
) -> list[Atoms]:
    """Return structures of a file by ASE's parsers, with moments and labels in place.

    Raises
    ------
    ValueError
        If the file is damaged, or two columns differ (:func:`standardize`).
    """
    format = "cif" if path.suffix == ".mcif" else None
    try:
        if is_poscar(path):
            images = [read_poscar(path)]
        else:
            images = list(ase.io.iread(path, index=index, format=format))
        for atoms in images:
            _refuse_other_moments(path, atoms)
            standardize(atoms, columns)
    except Exception as error:  # ASE's parsers raise whatever the damage leads to
        raise ValueError(
            f"{path} is damaged or not a structure ({type(error).__name__}: {error})"
        ) from error
    return images


def _refuse_other_moments(path: Path, atoms: Atoms) -> None:
    """Raise ValueError where ASE takes other numbers of a file for moments."""
    if not atoms.arrays.get("initial_magmoms", np.zeros(1)).any():
        return
    kind = filetype(str(path), read=True) if path.suffix != ".mcif" else "cif"
    if kind in _NOT_MOMENTS:
        raise ValueError(
            f"what {kind} files have for moments are {_NOT_MOMENTS[kind]}: write the "
            "structure in a format that holds moments in mu_B, such as extxyz"
        )


def _read_by_ase(path: Path) -> Atoms:
    """Return the last structure of a file by ASE's parsers, with whole atoms."""
    (atoms,) = read_ase(path, "-1:")
    if any(
        len(site) != 1 or min(site.values()) < 1.0
        for site in atoms.info.get("occupancy", {}).values()
    ):
        raise ValueError(f"{path} has partly occupied sites; models take whole atoms")
    return atoms
