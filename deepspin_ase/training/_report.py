"""Figures of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._figures import figure_axes, write_figure
from ._metrics import Comparison, error_kinds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_learning_curve(
    curve: Mapping[str, np.ndarray], ax: Axes | None = None
) -> Axes:
    """Plot the errors over the steps, on logarithmic axes.

    Parameters
    ----------
    curve : mapping
        As :func:`deepspin_ase.training.read_learning_curve` returns it.
    ax : Axes, optional
    """
    ax = figure_axes(ax, figsize=(6, 4))
    for k, (name, errors) in enumerate(error_kinds().items()):
        label: str | None = f"{errors.title} ({errors.unit})"
        for kind, style in (("validation", "-"), ("training", ":")):
            column = f"{kind}_rmse_{name}"
            if column in curve:
                ax.loglog(curve["step"], curve[column], style, c=f"C{k}", label=label)
                label = None
    ax.set_xlabel("step")
    ax.set_ylabel("RMSE")
    ax.set_title("validation (solid), training (dotted)", fontsize="medium")
    ax.legend(fontsize="small", frameon=False)
    return ax


def plot_parity(
    comparisons: Mapping[str, Comparison], axes: np.ndarray | None = None
) -> np.ndarray:
    """Plot predictions over labels, a panel per kind.

    Parameters
    ----------
    comparisons : mapping
        As :func:`deepspin_ase.training.compare` returns it.
    axes : array of Axes, optional
        One per kind.
    """
    import matplotlib.pyplot as plt

    n = len(comparisons)
    if axes is None:
        axes = plt.subplots(1, n, figsize=(3.1 * n, 3.2), layout="constrained")[1]
    for ax, (name, found) in zip(np.ravel(axes), comparisons.items(), strict=True):
        shift = found.label.mean() if name == "energy" else 0.0
        label, prediction = (
            1e3 * (found.label - shift),
            1e3 * (found.prediction - shift),
        )
        ax.plot(label, prediction, ".", ms=3, alpha=0.5, rasterized=True)
        ends = [min(label.min(), prediction.min()), max(label.max(), prediction.max())]
        ax.plot(ends, ends, c="k", lw=0.8)
        ax.set_title(
            f"{found.title}\nRMSE {1e3 * found.rmse:.3g} m{found.unit}",
            fontsize="small",
        )
        ax.set_xlabel(f"label (m{found.unit})")
        ax.set_ylabel("prediction")
    return np.ravel(axes)


def save_figures(
    folder: Path, curve: Mapping[str, np.ndarray], comparisons: Mapping[str, Comparison]
) -> None:
    """Write ``lcurve.png`` and ``parity.png``."""
    axes = {
        "lcurve.png": plot_learning_curve(curve),
        "parity.png": plot_parity(comparisons)[0],
    }
    for name, ax in axes.items():
        write_figure(folder / name, ax)
