"""Figures and tables of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._figures import figure_axes, label_logarithmic, with_symbols, write_figure
from ._metrics import Comparison, error_kinds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Groups of numbers by their estimates in a plot of reliability, at most, and numbers
#: in each, at least.
GROUPS, LEAST = 12, 8


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
        label: str | None = f"{errors.title} ({with_symbols(errors.unit)})"
        for kind, style in (("validation", "-"), ("training", ":")):
            column = f"{kind}_rmse_{name}"
            if column in curve:
                ax.loglog(curve["step"], curve[column], style, c=f"C{k}", label=label)
                label = None
    ax.set_xlabel("step")
    ax.set_ylabel("RMSE")
    ax.plot([], [], "k-", label="validation")
    ax.plot([], [], "k:", label="training")
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
        ax.plot(ends, ends, c="k", lw=0.8, label="prediction = label")
        unit = with_symbols(f"m{found.unit}")
        ax.set_title(
            f"{found.title}\nRMSE {1e3 * found.rmse:.3g} {unit}", fontsize="small"
        )
        ax.set_xlabel(f"label ({unit})")
        ax.set_ylabel(f"prediction ({unit})")
    np.ravel(axes)[0].legend(fontsize="small", frameon=False)
    return np.ravel(axes)


def plot_reliability(
    comparisons: Mapping[str, Comparison], axes: np.ndarray | None = None
) -> np.ndarray:
    """Plot errors over their estimates, a panel per kind that has any.

    Numbers are sorted by their estimates into groups of the same size, of which the
    roots of the mean squares are shown. Right estimates lie on the line.

    Parameters
    ----------
    comparisons : mapping
        As :func:`deepspin_ase.training.compare` returns it with ``deviations``.
    axes : array of Axes, optional
        One per kind with estimates.

    Raises
    ------
    ValueError
        If there are no estimates.
    """
    import matplotlib.pyplot as plt

    shown = [x for x in comparisons.values() if x.deviation is not None]
    if not shown:
        raise ValueError("there are no estimates of errors to compare with errors")
    if axes is None:
        n = len(shown)
        axes = plt.subplots(1, n, figsize=(3.1 * n, 3.2), layout="constrained")[1]
    for ax, found in zip(np.ravel(axes), shown, strict=True):
        estimated, observed = reliability(found)
        ends = [
            min(estimated.min(), observed.min()),
            max(estimated.max(), observed.max()),
        ]
        ax.loglog(1e3 * estimated, 1e3 * observed, "o", ms=4, label="groups of numbers")
        line = 1e3 * np.array(ends)
        ax.loglog(line, line, c="k", lw=0.8, label="RMSE = deviation")
        ax.set_title(found.title, fontsize="small")
        unit = with_symbols(f"m{found.unit}")
        ax.set_xlabel(f"estimated deviation ({unit})")
        ax.set_ylabel(f"RMSE ({unit})")
        label_logarithmic(ax)
    np.ravel(axes)[0].legend(fontsize="small", frameon=False)
    return np.ravel(axes)


def reliability(found: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Return estimated and observed root mean squared errors, in groups by estimate."""
    assert found.deviation is not None
    order = np.argsort(found.deviation, kind="stable")
    n = min(GROUPS, max(1, len(order) // LEAST))
    errors = found.prediction - found.label

    def sizes(values: np.ndarray) -> np.ndarray:
        groups = np.array_split(values[order], n)
        return np.array([np.sqrt(np.mean(group**2)) for group in groups])

    return sizes(found.deviation), sizes(errors)


def table_of_errors(errors: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Return the cells of a table of root mean squared errors, titles first.

    Parameters
    ----------
    errors : mapping
        For every row by its name the errors by their kind, see :func:`compare`.
    """
    kinds = {
        name: kind
        for name, kind in error_kinds().items()
        if any(name in found for found in errors.values())
    }
    rows = [["", *(f"{x.title} (m{x.unit})" for x in kinds.values())]]
    for title, found in errors.items():
        cells = (f"{1e3 * found[k]:.3g}" if k in found else "-" for k in kinds)
        rows.append([title, *cells])
    return rows


def table_of_sets(sets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of data sets: scale, offset and errors (rmse).

    Parameters
    ----------
    sets : mapping
        As in a model's card, by the name of the set.
    """
    errors = {
        title: {
            kind: found["rmse"] for kind, found in own["errors"].items() if kind != "on"
        }
        for title, own in sets.items()
    }
    first, *rest = table_of_errors(errors)
    rows = [["set", "frames", "errors on", "scale", "offset (eV/atom)", *first[1:]]]
    for (title, own), (_, *cells) in zip(sets.items(), rest, strict=True):
        offset = ", ".join(f"{s} {value:.4f}" for s, value in own["offset"].items())
        scale = f"{own['scale']:.4f}"
        frames, part = str(own["frames"]), str(own["errors"]["on"])
        rows.append([title, frames, part, scale, offset or "0", *cells])
    return aligned_columns(rows)


def aligned_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of cells below each other, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(w) for cell, w in rest)]
        lines.append("  ".join(cells).rstrip())
    return lines


def save_figures(
    folder: Path, curve: Mapping[str, np.ndarray], comparisons: Mapping[str, Comparison]
) -> None:
    """Write parity.png, lcurve.png of steps and, of estimates, reliability.png."""
    axes = {"parity.png": plot_parity(comparisons)[0]}
    if curve["step"][-1] > 0:
        axes["lcurve.png"] = plot_learning_curve(curve)
    if any(found.deviation is not None for found in comparisons.values()):
        axes["reliability.png"] = plot_reliability(comparisons)[0]
    for name, ax in axes.items():
        write_figure(folder / name, ax)
