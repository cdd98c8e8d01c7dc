"""Structures with spins, their results, and files of other programs.

extxyz is the format that keeps everything; :func:`read_structure` reads a structure of
any other.
"""

from __future__ import annotations

from ._extxyz import read_extxyz, write_extxyz
from ._lammps import read_lammps_data, write_lammps_data
from ._lammps_dump import read_lammps_dump
from ._structure import read_structure
from ._vasp import write_vasp

__all__ = [
    "read_extxyz",
    "read_lammps_data",
    "read_lammps_dump",
    "read_structure",
    "write_extxyz",
    "write_lammps_data",
    "write_vasp",
]
