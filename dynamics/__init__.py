"""Dynamics of atoms and spins: ASE-style drivers."""

from __future__ import annotations

from .drivers._driver import SpinLatticeDynamics
from .drivers._langevin import SpinLatticeLangevin
from .drivers._longitudinal import LongitudinalSpinLangevin
from .drivers._npt import SpinLatticeNPT
from .drivers._nve import SpinLatticeNVE
from .drivers._spin_dynamics import SpinDynamics
from .drivers._three_temperature import ThreeTemperature
from .drivers._tspin import TSPIN
from .files._hdf5 import read_hdf5
from .integrators._schemes import DepondtMertens, Midpoint, Rotation, SemiImplicitB
from .montecarlo._monte_carlo import MonteCarlo

__all__ = [
    "TSPIN",
    "DepondtMertens",
    "LongitudinalSpinLangevin",
    "Midpoint",
    "MonteCarlo",
    "Rotation",
    "SemiImplicitB",
    "SpinDynamics",
    "SpinLatticeDynamics",
    "SpinLatticeLangevin",
    "SpinLatticeNPT",
    "SpinLatticeNVE",
    "ThreeTemperature",
    "read_hdf5",
]
