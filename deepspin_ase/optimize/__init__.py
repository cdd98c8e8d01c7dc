"""Relaxation of moments, of atoms and moments together, and of the cell."""

from __future__ import annotations

from .filter import SpinLatticeFilter
from .lbfgs import Relaxation, SpinLatticeLBFGS, relax
from .spins import relax_spins

__all__ = [
    "Relaxation",
    "SpinLatticeFilter",
    "SpinLatticeLBFGS",
    "relax",
    "relax_spins",
]
