"""Figure of a relaxation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._figures import figure_axes, with_symbols
from .._result import plots
from ._relax import Relaxation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UNITS = {"force": "eV/A", "torque": "eV", "stress": "eV/A^3"}


@plots(Relaxation)
def plot_relaxation(result: Relaxation, ax: Axes | None = None) -> Axes:
    """Draw the energy above that of the end, and what is left of the forces, by step.

    Raises
    ------
    ValueError
        If there is no history, as where the model failed for the first structure.
    """
    if not result.history:
        raise ValueError("the relaxation has no history: its model failed at the start")
    ax = figure_axes(ax)
    energies = np.array(result.history["energy"])
    above = energies - energies[-1]
    above[above <= 0.0] = np.nan  # round-off, and the end itself
    ax.semilogy(above, "k-", label="energy above the end (eV)")
    for name, unit in _UNITS.items():
        if name in result.history:
            label = f"largest {name} ({with_symbols(unit)})"
            ax.semilogy(result.history[name], ".-", label=label)
    ax.set(xlabel="step", ylabel="energy and residuals")
    ax.legend()
    return ax
