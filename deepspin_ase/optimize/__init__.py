"""Relaxation of atoms, moments and cell together; search of magnetic orders."""

from __future__ import annotations

from .filter import SpinLatticeFilter
from .ground_states import GroundState, GroundStates, search_magnetic_orders
from .lbfgs import Relaxation, SpinLatticeLBFGS, relax
from .spins import relax_spins
from .together import relax_together

__all__ = [
    "GroundState",
    "GroundStates",
    "Relaxation",
    "SpinLatticeFilter",
    "SpinLatticeLBFGS",
    "relax",
    "relax_spins",
    "relax_together",
    "search_magnetic_orders",
]
