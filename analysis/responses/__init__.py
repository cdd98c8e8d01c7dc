"""Responses to fields and temperature, of structures at rest and of runs."""

from __future__ import annotations

from ._conductivity import (
    ThermalConductivity,
    plot_thermal_conductivity,
    thermal_conductivity,
)
from ._fluctuations import ThermalResponse, plot_thermal_response, thermal_response
from ._heat_current import heat_current
from ._lifetimes import WaveLifetimes, plot_wave_lifetimes, wave_lifetimes
from ._magnetostriction import (
    Magnetostriction,
    ThermalMagnetostriction,
    magnetostriction,
    plot_magnetostriction,
    plot_thermal_magnetostriction,
    thermal_magnetostriction,
)
from ._relaxation import (
    SpinLatticeRelaxation,
    plot_spin_lattice_relaxation,
    spin_lattice_relaxation,
)
from ._static import StaticResponse, plot_static_response, static_response
from ._thermal_stress import (
    ElastocaloricChange,
    ThermalExpansion,
    elastocaloric_change,
    plot_elastocaloric_change,
    plot_thermal_expansion,
    thermal_expansion,
)

__all__ = [
    "ElastocaloricChange",
    "Magnetostriction",
    "SpinLatticeRelaxation",
    "StaticResponse",
    "ThermalConductivity",
    "ThermalExpansion",
    "ThermalMagnetostriction",
    "ThermalResponse",
    "WaveLifetimes",
    "elastocaloric_change",
    "heat_current",
    "magnetostriction",
    "plot_elastocaloric_change",
    "plot_magnetostriction",
    "plot_spin_lattice_relaxation",
    "plot_static_response",
    "plot_thermal_conductivity",
    "plot_thermal_expansion",
    "plot_thermal_magnetostriction",
    "plot_thermal_response",
    "plot_wave_lifetimes",
    "spin_lattice_relaxation",
    "static_response",
    "thermal_conductivity",
    "thermal_expansion",
    "thermal_magnetostriction",
    "thermal_response",
    "wave_lifetimes",
]
