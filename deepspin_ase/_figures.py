"""Axes of figures; matplotlib is imported where one is drawn."""

from __future__ import annotations

from typing import Any


def figure_axes(ax: Any = None, **options: Any) -> Any:
    """Return ``ax``, or new axes in a figure of their own, which gets ``options``."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained", **options)[1]
