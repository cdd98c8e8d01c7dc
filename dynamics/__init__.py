"""Dynamics of atoms and spins: ASE-style drivers."""

from __future__ import annotations

from .langevin import SpinLatticeLangevin
from .nve import SpinLatticeNVE
from .spin_dynamics import SpinDynamics
from .spin_integrators import DepondtMertens, Midpoint, Rotation, SemiImplicitB

__all__ = [
    "DepondtMertens",
    "Midpoint",
    "Rotation",
    "SemiImplicitB",
    "SpinDynamics",
    "SpinLatticeLangevin",
    "SpinLatticeNVE",
]
