"""Energy surfaces over collective displacements and spin rotations."""

from __future__ import annotations

from ._collective import CollectiveRotation, Coordinate, Displacement, RelativeRotation
from ._landscape import Landscape, plot_landscape, scan_landscape

__all__ = [
    "CollectiveRotation",
    "Coordinate",
    "Displacement",
    "Landscape",
    "RelativeRotation",
    "plot_landscape",
    "scan_landscape",
]
