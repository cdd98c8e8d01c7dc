"""DeepSPIN potentials of atoms and non-collinear spins in the ASE world."""

from __future__ import annotations

from ._version import __version__
from .calculators import DeepSpinCalculator
from .io import read_extxyz, write_extxyz
from .orders import antiferromagnetic, collinear, random_directions, spiral
from .spins import cant_spins, get_spins, rotate_spins, set_spins

__all__ = [
    "DeepSpinCalculator",
    "__version__",
    "antiferromagnetic",
    "cant_spins",
    "collinear",
    "get_spins",
    "random_directions",
    "read_extxyz",
    "rotate_spins",
    "set_spins",
    "spiral",
    "write_extxyz",
]
