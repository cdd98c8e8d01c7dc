"""DeepSPIN potentials of atoms and non-collinear spins in the ASE world."""

from __future__ import annotations

from .calculator import DeepSpinCalculator
from .io import read_extxyz, write_extxyz
from .magnetic_order import antiferromagnetic, collinear, random_directions, spiral
from .spins import cant_spins, get_spins, rotate_spins, set_spins

__version__ = "0.1.0"

__all__ = [
    "DeepSpinCalculator",
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
