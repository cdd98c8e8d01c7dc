"""Relaxation of atoms, moments and cell together; search of magnetic orders."""

from __future__ import annotations

from ._filter import SpinLatticeFilter
from ._ground_states import GroundState, GroundStates, search_magnetic_orders
from ._lbfgs import Relaxation, SpinLatticeLBFGS, relax
from ._spins import relax_spins
from ._together import relax_together

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
