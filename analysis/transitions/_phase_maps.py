"""Maps and curves of phase diagrams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._figures import figure_axes
from ..._result import plots
from ._phase_diagram import (
    LABELS,
    NAMES,
    QUANTITIES,
    PhaseDiagram,
    line_arguments,
    nearest_point,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@plots(PhaseDiagram)
def plot_phase_diagram(
    result: PhaseDiagram,
    ax: Axes | None = None,
    *,
    quantity: str = "order",
    against: str | None = None,
    at: Mapping[str, float] | None = None,
    lines: Sequence[str | tuple[str, ...]] = (),
) -> Axes:
    """Draw a quantity as a map over temperature and another axis, or as a curve.

    Parameters
    ----------
    quantity : str
        See :class:`PhaseDiagram`; "phase" or "space group" for their names, each in
        its color.
    against : str, optional
        The other axis; by default the first of several points. Without any, curves
        against temperature.
    at : {axis: value}, optional
        Points of the axes that are left; their first by default.
    lines : sequence of str or tuple
        Transition lines that are drawn on the map: a quantity, whose peak along the
        temperature is meant, or the arguments quantity, axis and kind of
        :meth:`PhaseDiagram.line`, such as ``("order_along", "field_T", "step")``. Those
        of a sweep in both directions.

    Raises
    ------
    ValueError
        If there is no such quantity or axis.
    """
    named = quantity in NAMES
    table = getattr(result, NAMES[quantity]) if named else result._table(quantity)
    others = [name for name in result.axes if name != "temperature_K"]
    many = [n for n in others if len(result.axes[n]) > 1 and n != "sweep"]
    if against is None and many:
        against = many[0]
    if against is not None:
        result._position(against)
    index: dict[str, Any] = {
        name: slice(None)
        if name == against
        else nearest_point(result.axes[name], (at or {}).get(name))
        for name in others
    }
    chosen = table[tuple(index.values())]
    ax = figure_axes(ax)
    temperatures = result.axes["temperature_K"]
    label = QUANTITIES.get(quantity, quantity)
    if named:
        _draw_phases(ax, temperatures, chosen, result.axes.get(against or ""))
    elif against is None:
        curves = {"": chosen}
        if "sweep" in result.axes:
            both = [{**index, "sweep": k} for k in range(2)]
            parts = [table[tuple(i.values())] for i in both]
            curves = dict(zip(("rising", "falling"), parts, strict=True))
        for name, curve in curves.items():
            value, error = curve.T
            ax.errorbar(
                temperatures, value, error, fmt="o-", ms=4, capsize=2, label=name
            )
        if len(curves) > 1:
            ax.legend()
        ax.set(ylabel=label)
    else:
        drawn = ax.pcolormesh(
            temperatures, result.axes[against], chosen[..., 0], shading="nearest"
        )
        ax.figure.colorbar(drawn, ax=ax, label=label)
    ax.set(xlabel=LABELS["temperature_K"])
    if against is None:
        return ax
    for number, line in enumerate(lines):
        arguments = (line,) if isinstance(line, str) else line
        _draw_line(result, ax, against, index, arguments, f"C{number + 1}")
    if lines:
        ax.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0))
    ax.set(ylabel=LABELS[against])
    return ax


def _draw_phases(
    ax: Axes, temperatures: np.ndarray, phases: np.ndarray, other: np.ndarray | None
) -> None:
    """Draw names of phases (n, T) in colors, or (..., T) one above the other."""
    from matplotlib.colors import ListedColormap

    names = [name for name in np.unique(phases) if name]
    codes = np.searchsorted(names, phases).astype(float)
    codes[phases == ""] = np.nan
    if other is None:
        for row in codes.reshape(-1, len(temperatures)):
            ax.plot(temperatures, row, "o")
        ax.set_yticks(range(len(names)), names)
        return
    colors = ListedColormap([f"C{k}" for k in range(len(names))])
    drawn = ax.pcolormesh(temperatures, other, codes, shading="nearest", cmap=colors)
    drawn.set_clim(-0.5, len(names) - 0.5)
    bar = ax.figure.colorbar(drawn, ax=ax, ticks=range(len(names)))
    bar.ax.set_yticklabels(names)


def _draw_line(
    result: PhaseDiagram,
    ax: Axes,
    against: str,
    index: Mapping[str, Any],
    arguments: Sequence[str],
    color: str,
) -> None:
    """Draw a transition line on a map, in both directions of a sweep."""
    quantity, axis, kind = line_arguments(arguments)
    table = result.line(quantity, axis, kind=kind)
    name = f"{kind}: {QUANTITIES.get(quantity, quantity).partition(' (')[0]}"
    directions = {"": index}
    if "sweep" in index:
        both = ({**index, "sweep": k} for k in range(2))
        directions = dict(zip((", rising", ", falling"), both, strict=True))
    for k, (which, at) in enumerate(directions.items()):
        kept = {
            n: i
            for n, i in (dict(at) | {"temperature_K": slice(None)}).items()
            if n != axis
        }
        value, error = table[tuple(kept.values())].T
        style: dict[str, Any] = {
            "fmt": "o" + "-:"[k],
            "mec": "k",
            "ms": 5,
            "capsize": 2,
            "color": color,
            "label": name + which,
        }
        if axis == "temperature_K":
            ax.errorbar(value, result.axes[against], xerr=error, **style)
        else:
            ax.errorbar(result.axes["temperature_K"], value, yerr=error, **style)
