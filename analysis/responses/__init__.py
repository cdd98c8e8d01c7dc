"""Responses to fields and temperature, of structures at rest and of runs."""

from __future__ import annotations

from ._fluctuations import ThermalResponse, plot_thermal_response, thermal_response
from ._magnetostriction import (
    Magnetostriction,
    magnetostriction,
    plot_magnetostriction,
)
from ._static import StaticResponse, plot_static_response, static_response

__all__ = [
    "Magnetostriction",
    "StaticResponse",
    "ThermalResponse",
    "magnetostriction",
    "plot_magnetostriction",
    "plot_static_response",
    "plot_thermal_response",
    "static_response",
    "thermal_response",
]
