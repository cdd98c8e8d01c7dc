"""Drivers: equations of motion in the form of ASE's molecular dynamics."""

from __future__ import annotations

from ._driver import SpinLatticeDynamics
from ._langevin import SpinLatticeLangevin
from ._longitudinal import LongitudinalSpinLangevin, equipartition_temperature
from ._npt import SpinLatticeNPT
from ._nve import SpinLatticeNVE
from ._registry import driver
from ._spin_dynamics import SpinDynamics
from ._three_temperature import ThreeTemperature
from ._tspin import TSPIN

__all__ = [
    "TSPIN",
    "LongitudinalSpinLangevin",
    "SpinDynamics",
    "SpinLatticeDynamics",
    "SpinLatticeLangevin",
    "SpinLatticeNPT",
    "SpinLatticeNVE",
    "ThreeTemperature",
    "driver",
    "equipartition_temperature",
]
