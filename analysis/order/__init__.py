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
from ._short_range import (
    LocalEnvironments,
    ShortRangeOrder,
    local_environments,
    plot_local_environments,
    plot_short_range_order,
    short_range_order,
)
from ._structure_factor import (
    StructureFactor,
    plot_structure_factor,
    plot_structure_factor_plane,
    structure_factor,
)
from ._topology import TopologicalCharge, plot_topological_charge, topological_charge

__all__ = [
    "AngleDistribution",
    "LocalEnvironments",
    "OrderSeries",
    "Profile",
    "ShortRangeOrder",
    "SpinCorrelation",
    "StructureFactor",
    "TopologicalCharge",
    "canting_angles",
    "local_environments",
    "neighbor_angles",
    "neighbor_order",
    "order_series",
    "plot_angles",
    "plot_local_environments",
    "plot_order",
    "plot_profile",
    "plot_short_range_order",
    "plot_spin_correlation",
    "plot_structure_factor",
    "plot_structure_factor_plane",
    "plot_topological_charge",
    "profile_along",
    "short_range_order",
    "spin_correlation",
    "staggered_moments",
    "structure_factor",
    "topological_charge",
]
