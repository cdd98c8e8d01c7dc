"""Dynamics of atoms and spins: ASE-style drivers."""

from __future__ import annotations

from .hdf5 import read_hdf5
from .langevin import SpinLatticeLangevin
from .longitudinal import LongitudinalSpinLangevin
from .monte_carlo import MonteCarlo
from .npt import SpinLatticeNPT
from .nve import SpinLatticeNVE
from .spin_dynamics import SpinDynamics
from .spin_integrators import DepondtMertens, Midpoint, Rotation, SemiImplicitB
from .three_temperature import ThreeTemperature
from .tspin import TSPIN

__all__ = [
    "TSPIN",
    "DepondtMertens",
    "LongitudinalSpinLangevin",
    "Midpoint",
    "MonteCarlo",
    "Rotation",
    "SemiImplicitB",
    "SpinDynamics",
    "SpinLatticeLangevin",
    "SpinLatticeNPT",
    "SpinLatticeNVE",
    "ThreeTemperature",
    "read_hdf5",
]
