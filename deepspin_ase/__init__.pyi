from . import (
    analysis,
    build,
    calculators,
    data,
    dynamics,
    io,
    optimize,
    potentials,
    quantities,
    symmetry,
    testing,
    training,
    units,
)
from ._version import __version__
from .calculators import DeepSpinCalculator
from .constraints import FixSpins
from .io import read_extxyz, write_extxyz
from .optimize import relax
from .orders import antiferromagnetic, collinear, random_directions, spiral
from .potentials import load_potential
from .spins import cant_spins, get_spins, rotate_spins, set_spins

__all__ = [
    "DeepSpinCalculator",
    "FixSpins",
    "__version__",
    "analysis",
    "antiferromagnetic",
    "build",
    "calculators",
    "cant_spins",
    "collinear",
    "data",
    "dynamics",
    "get_spins",
    "io",
    "load_potential",
    "optimize",
    "potentials",
    "quantities",
    "random_directions",
    "read_extxyz",
    "relax",
    "rotate_spins",
    "set_spins",
    "spiral",
    "symmetry",
    "testing",
    "training",
    "units",
    "write_extxyz",
]
