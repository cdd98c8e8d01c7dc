"""Dynamics and Monte Carlo of atoms and spins: ASE-style drivers."""

from __future__ import annotations

from ._state import State, Stateful
from .drivers import (
    TSPIN,
    LongitudinalSpinLangevin,
    SpinDynamics,
    SpinLatticeDynamics,
    SpinLatticeLangevin,
    SpinLatticeNPT,
    SpinLatticeNVE,
    ThreeTemperature,
    driver,
)
from .files import iread_hdf5, read_hdf5
from .integrators import DepondtMertens, Midpoint, Rotation, Scheme, SemiImplicitB
from .montecarlo import MonteCarlo

__all__ = [
    "TSPIN",
    "DepondtMertens",
    "LongitudinalSpinLangevin",
    "Midpoint",
    "MonteCarlo",
    "Rotation",
    "Scheme",
    "SemiImplicitB",
    "SpinDynamics",
    "SpinLatticeDynamics",
    "SpinLatticeLangevin",
    "SpinLatticeNPT",
    "SpinLatticeNVE",
    "State",
    "Stateful",
    "ThreeTemperature",
    "driver",
    "iread_hdf5",
    "read_hdf5",
]
