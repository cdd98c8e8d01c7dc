"""Axes that properties share: numbers of a model beside those known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..._figures import figure_axes
from ._property import Findings, Known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Marker and color by the kind of a reference.
STYLES = {"experiment": ("s", "C3"), "DFT": ("D", "C2"), "model": ("^", "C4")}


def compared(
    findings: Findings, known: Known, keys: list[str], unit: str, *, label: str
) -> Axes:
    """Draw values in a row, with references at their sides."""
    ax = figure_axes(figsize=(max(3.2, 0.8 * len(keys) + 1.2), 3.2))
    shown = [findings.values[key] for key in keys]
    errors = [value.error or 0.0 for value in shown]
    x = np.arange(len(keys))
    ax.bar(x, [v.value for v in shown], 0.5, yerr=errors, color="C0", alpha=0.6)
    ax.axhline(0.0, color="0.6", lw=0.8)
    handles = {"model": ax.containers[-1]}
    for k, key in enumerate(keys):
        for reference in known.get(key, ()):
            marker, color = STYLES[reference.kind]
            name = "another model" if reference.kind == "model" else reference.kind
            handles[name] = ax.errorbar(
                k, reference.value, reference.error, fmt=marker, color=color, capsize=2
            )
    ax.set_xlim(-0.8, len(keys) - 0.2)
    ax.set_xticks(x, [key.replace(" ", "\n") for key in keys])
    ax.set_ylabel(f"{label} ({unit})")
    ax.legend(
        handles.values(),
        handles.keys(),
        frameon=False,
        fontsize="small",
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        columnspacing=1.0,
    )
    return ax


def numbers(values: object) -> np.ndarray:
    """Return plain data as an array of floats; null is not a number."""
    return np.array(values, dtype=float)
