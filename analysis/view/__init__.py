"""Moments as arrows: figures, web pages and OVITO files."""

from __future__ import annotations

from ._arrows import arrow_scale, direction_colors, plot_spins
from ._html import write_html
from ._ovito import write_ovito

__all__ = [
    "arrow_scale",
    "direction_colors",
    "plot_spins",
    "write_html",
    "write_ovito",
]
