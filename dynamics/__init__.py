"""Dynamics and Monte Carlo of atoms and spins: ASE-style drivers."""

from __future__ import annotations

from ._field import travelling_wave
from ._spin_torque import SpinTorque
from ._state import State, Stateful
from ._strain_ramp import strain_ramp
from ._waveforms import Oscillation, Pulse, Ramp, RotatingVector, Waveform
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
    "Oscillation",
    "Pulse",
    "Ramp",
    "RotatingVector",
    "Rotation",
    "Scheme",
    "SemiImplicitB",
    "SpinDynamics",
    "SpinLatticeDynamics",
    "SpinLatticeLangevin",
    "SpinLatticeNPT",
    "SpinLatticeNVE",
    "SpinTorque",
    "State",
    "Stateful",
    "ThreeTemperature",
    "Waveform",
    "driver",
    "iread_hdf5",
    "read_hdf5",
    "strain_ramp",
    "travelling_wave",
]
