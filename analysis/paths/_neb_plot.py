"""Figures of paths."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._figures import figure_axes
from ._neb_path import NEBPath


def plot_path(
    result: NEBPath, ax: Any = None, *, parts: bool = False, label: str | None = None
) -> Any:
    """Draw the energy along a path: the fit as a curve, the images as dots.

    Parameters
    ----------
    result : NEBPath
    ax : Axes, optional
        Made here by default.
    parts : bool
        Draw the work of lattice, spins and cell too, where they move.
    label : str, optional
        Of the curve, to compare paths on one axes.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        If ``result`` is no NEBPath.
    """
    if not isinstance(result, NEBPath):
        raise TypeError(
            f"expected an NEBPath, such as neb.path(), got {type(result).__name__}"
        )

    ax = figure_axes(ax)
    start = result.energies[0]
    fine = np.linspace(0.0, result.length, 40 * (len(result.energies) - 1) + 1)
    (curve,) = ax.plot(fine, 1e3 * (result.fit(fine) - start), label=label)
    color = curve.get_color()
    energies = 1e3 * (result.energies - start)
    ax.plot(result.coordinate, energies, "o", color=color)
    climbing = result.climbing
    ax.plot(
        result.coordinate[climbing],
        energies[climbing],
        "o",
        markersize=10,
        markerfacecolor="none",
        color=color,
    )
    if parts:
        for name, done in result.work.items():
            if name == "magnitudes" or result.lengths[name].any():
                ax.plot(result.coordinate, 1e3 * done, "--", label=name)
    if parts or label is not None:
        ax.legend()
    ax.set(xlabel="path (Å)", ylabel="energy (meV)")
    return ax
