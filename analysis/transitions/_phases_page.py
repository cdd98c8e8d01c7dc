"""A page that shows a phase diagram, and how much of it is sampled."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ..._report import Report
from ..._version import __version__
from ._phase_diagram import LABELS, PhaseDiagram, line_arguments
from ._phase_maps import plot_phase_diagram


def write_page(
    diagram: PhaseDiagram,
    path: str | os.PathLike[str],
    *,
    shown: Sequence[str],
    lines: Sequence[Sequence[str]] = (),
    configuration: str = "",
) -> None:
    """Write maps, lines and numbers of a diagram, finished or not, as one HTML file.

    Parameters
    ----------
    diagram : PhaseDiagram
    path : path
    shown : sequence of str
        Quantities that are drawn.
    lines : sequence
        Arguments of :meth:`.PhaseDiagram.line`.
    configuration : str
        Shown at the end.
    """
    report = Report("Phase diagram")
    left = diagram.unfinished()
    total = diagram.drift.size
    state = "All" if not left else f"{total - left} of"
    report.text(f"{state} {total} points are sampled; deepspin-ase {__version__}.")
    drift = diagram.drift[np.isfinite(diagram.drift)]
    if (drift > 4.0).any():
        report.text(
            f"The order of both halves of the run differs at {(drift > 4.0).sum()} "
            "points, which are not in equilibrium: sample longer."
        )
    for name in shown:
        ax = plot_phase_diagram(
            diagram, quantity=name, lines=[tuple(line) for line in lines if not left]
        )
        report.figure(ax, name.replace("_", " "))
    if "sweep" in diagram.axes and not left:
        report.heading("Hysteresis")
        difference, error = np.moveaxis(diagram.hysteresis(), -1, 0)
        apart = int((abs(difference) > 4.0 * error).sum())
        report.text(
            f"At {apart} of {difference.size} points the order depends on the "
            "direction of the sweep."
        )
    if not left:
        for line in lines:
            title, header, rows = line_table(diagram, line)
            report.heading(f"Line: {title}")
            report.table(header, rows)
    if configuration:
        report.heading("Configuration")
        report.code(configuration)
    report.write_html(path)


def line_table(
    diagram: PhaseDiagram, line: Sequence[str]
) -> tuple[str, list[str], list[list[str]]]:
    """Return what a line is, the header of its table, and the rows.

    Parameters
    ----------
    diagram : PhaseDiagram
    line : sequence of str
        Arguments of :meth:`.PhaseDiagram.line`.
    """
    quantity, axis, kind = line_arguments(line)
    found = diagram.line(quantity, axis, kind=kind)
    others = [name for name in diagram.axes if name != axis]
    rows = []
    for index in np.ndindex(*found.shape[:-1]):
        value, error = found[index]
        at = [f"{diagram.axes[n][k]:.5g}" for n, k in zip(others, index, strict=True)]
        text = "-" if np.isnan(value) else f"{value:.5g} ± {error:.2g}"
        rows.append([*at, text])
    header = [LABELS[name] for name in (*others, axis)]
    return f"{kind} of the {quantity.replace('_', ' ')}", header, rows
