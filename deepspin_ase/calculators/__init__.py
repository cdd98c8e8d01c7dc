"""ASE calculators of potentials with spins, and LAMMPS as an engine."""

from __future__ import annotations

from ._deepspin import DeepSpinCalculator
from ._magnetic import MagneticCalculator
from .lammps import DeepSpinLammps

__all__ = [
    "DeepSpinCalculator",
    "DeepSpinLammps",
    "MagneticCalculator",
]
