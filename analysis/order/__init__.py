"""Magnetic order: series, local order, correlations, structure factors, topology."""

from __future__ import annotations

from ._correlations import (
    AngleDistribution,
    SpinCorrelation,
    canting_angles,
    neighbor_angles,
    plot_angles,
    plot_spin_correlation,
    spin_correlation,
)
from ._local_order import (
    Profile,
    neighbor_order,
    plot_profile,
    profile_along,
    staggered_moments,
)
from ._series import OrderSeries, order_series, plot_order
from ._structure_factor import (
    StructureFactor,
    plot_structure_factor,
    plot_structure_factor_plane,
    structure_factor,
)
from ._topology import TopologicalCharge, plot_topological_charge, topological_charge

__all__ = [
    "AngleDistribution",
    "OrderSeries",
    "Profile",
    "SpinCorrelation",
    "StructureFactor",
    "TopologicalCharge",
    "canting_angles",
    "neighbor_angles",
    "neighbor_order",
    "order_series",
    "plot_angles",
    "plot_order",
    "plot_profile",
    "plot_spin_correlation",
    "plot_structure_factor",
    "plot_structure_factor_plane",
    "plot_topological_charge",
    "profile_along",
    "spin_correlation",
    "staggered_moments",
    "structure_factor",
    "topological_charge",
]
