"""Relaxation of atoms, moments and cell together; search of magnetic orders."""

from __future__ import annotations

from ._adiabatic import AdiabaticMoments
from ._filter import SpinLatticeFilter
from ._lbfgs import SpinLatticeLBFGS
from ._magnetic_orders import MagneticOrder, MagneticOrders, search_magnetic_orders
from ._plot import plot_relaxation
from ._relax import Relaxation, relax, relax_batch, relax_spins

__all__ = [
    "AdiabaticMoments",
    "MagneticOrder",
    "MagneticOrders",
    "Relaxation",
    "SpinLatticeFilter",
    "SpinLatticeLBFGS",
    "plot_relaxation",
    "relax",
    "relax_batch",
    "relax_spins",
    "search_magnetic_orders",
]
