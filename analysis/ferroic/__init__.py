"""Ferroelectric polarization and octahedral tilts."""

from __future__ import annotations

from ._octahedra import OctahedralTilts, octahedral_tilts, plot_tilts
from ._polarization import (
    LocalPolarization,
    Polarization,
    local_polarization,
    on_one_branch,
    plot_polarization,
    polarization,
)

__all__ = [
    "LocalPolarization",
    "OctahedralTilts",
    "Polarization",
    "local_polarization",
    "octahedral_tilts",
    "on_one_branch",
    "plot_polarization",
    "plot_tilts",
    "polarization",
]
