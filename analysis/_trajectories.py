"""Lazy iteration over trajectory frames.

Functions of this subpackage that take a source average over its frames or return one
row for each. What is made of one structure at a time follows a run in a loop:

>>> charges = [topological_charge(frame).total for frame in frames_of("run.h5")]
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import ase.io
import numpy as np
from ase import Atoms

from ..io._columns import standardize
from ..io._lammps_dump import is_lammps_dump, read_lammps_dump
from ..io._structure import is_single, read_structure
from ..spins import get_spins

#: A structure, structures, or a file of them (``.extxyz``, ``.h5``, LAMMPS dumps, what
#: ``read_structure`` reads, any of ASE's). Of an HDF5 file with replicas,
#: ``frames_of(path, replica=k)`` is a source.
Frames: TypeAlias = Atoms | Iterable[Atoms] | str | os.PathLike[str]


def frames_of(
    source: Frames, *, replica: int = 0, same_atoms: bool = True
) -> Iterator[Atoms]:
    """Yield the frames of a structure, a list, an iterator or a file.

    Files are read block by block. Frames of HDF5 trajectories come without the
    results per atom.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
    replica : int
        Which structure of an HDF5 trajectory with several.
    same_atoms : bool
        Refuse frames that have other atoms than the first.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If the source yields anything else than Atoms.
    ValueError
        If there are no frames, frames have other atoms than the first, or a file
        is damaged.
    """
    first: Atoms | None = None
    for frame in _opened(source, replica):
        if not isinstance(frame, Atoms):
            raise TypeError(f"expected frames of ase.Atoms, got {type(frame).__name__}")
        if first is None:
            first = frame
            if len(frame) == 0:
                raise ValueError("the frames have no atoms")
        elif same_atoms and not np.array_equal(frame.numbers, first.numbers):
            raise ValueError(
                "the frames do not have the same atoms in the same order: "
                f"{first.get_chemical_formula()} and {frame.get_chemical_formula()}"
            )
        yield frame
    if first is None:
        raise ValueError("the trajectory has no frames")


def spins_of(atoms: Atoms) -> np.ndarray:
    """Return the moments (N, 3), mu_B, of a frame in which some atom carries one.

    Raises
    ------
    ValueError
        If moments are missing or all zero.
    """
    spins = get_spins(atoms)
    if not spins.any():
        raise ValueError("all moments are zero: there is no magnetic order to look at")
    return spins


def directions_of(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return directions (N, 3), zero without moment, and who carries one (N,).

    Raises
    ------
    ValueError
        If moments are missing or all zero.
    """
    moments = spins_of(atoms)
    lengths = np.linalg.norm(moments, axis=1)
    magnetic = lengths > 0
    return moments / np.where(magnetic, lengths, 1.0)[:, None], magnetic


def _opened(source: Frames, replica: int) -> Iterable[Atoms]:
    if isinstance(source, Atoms):
        return [source]
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, Iterable):
            raise TypeError(
                "expected Atoms, an iterable of Atoms, or the path of a trajectory, "
                f"got {type(source).__name__}"
            )
        return source
    path = Path(source)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"the trajectory {path} {what}: give a file")
    if path.suffix in (".h5", ".hdf5"):
        from ..dynamics import iread_hdf5

        return iread_hdf5(path, replica=replica, results=False)
    if replica:
        raise ValueError(f"{path} holds no replica {replica}: HDF5 trajectories may")
    if is_lammps_dump(path):
        return read_lammps_dump(path, slice(None))
    if is_single(path):
        return [read_structure(path)]
    return _read_by_ase(path)


def _read_by_ase(path: Path) -> Iterator[Atoms]:
    """Yield frames of a file that ASE reads, with moments as vectors."""
    format = "extxyz" if path.suffix in (".xyz", ".extxyz") else None
    frames = ase.io.iread(path, index=":", format=format)
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            return
        except Exception as error:  # ASE's parsers raise whatever the damage leads to
            raise ValueError(
                f"{path} is damaged or no trajectory ({type(error).__name__}: {error})"
            ) from error
        standardize(atoms)
        yield atoms
