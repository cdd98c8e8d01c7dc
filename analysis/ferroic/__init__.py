"""Ferroelectric polarisation and octahedral tilts."""

from __future__ import annotations

from ._octahedra import OctahedralTilts, octahedral_tilts, plot_tilts
from ._polarisation import (
    LocalPolarisation,
    Polarisation,
    local_polarisation,
    on_one_branch,
    plot_polarisation,
    polarisation,
)

__all__ = [
    "LocalPolarisation",
    "OctahedralTilts",
    "Polarisation",
    "local_polarisation",
    "octahedral_tilts",
    "on_one_branch",
    "plot_polarisation",
    "plot_tilts",
    "polarisation",
]
