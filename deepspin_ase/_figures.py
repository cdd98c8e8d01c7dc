"""Axes and files of figures; matplotlib is imported where one is drawn."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from ._files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Units as they are written in plain text, the longer ones first, and in figures.
_SYMBOLS = {
    "mu_B^2": r"$\mu_B^2$",
    "mu_B": r"$\mu_B$",
    "A^2": "Å²",
    "A^3": "Å³",
    "A": "Å",
}


def figure_axes(ax: Axes | None = None, **options: Any) -> Axes:
    """Return ``ax``, or new axes in a figure of their own, which gets ``options``."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    axes: Axes = plt.subplots(layout="constrained", **options)[1]
    return axes


def with_symbols(unit: str) -> str:
    """Return a unit such as eV/A^3 or meV/mu_B with symbols, for a label."""
    plain = "|".join(map(re.escape, _SYMBOLS))
    return re.sub(rf"\b({plain})(?!\w)", lambda match: _SYMBOLS[match[0]], unit)


def label_logarithmic(ax: Axes) -> None:
    """Label logarithmic axes of few decades: 1, 2, 5, and all within one decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high > 8.0 * low else range(1, 10)
        axis.set_major_locator(LogLocator(subs=[float(x) for x in subs]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def write_figure(path: str | os.PathLike[str], ax: Axes, *, dpi: int = 150) -> None:
    """Write the figure of ``ax`` to a file, complete or not at all, and close it."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    figure = ax.figure
    assert isinstance(figure, Figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    plt.close(figure)
