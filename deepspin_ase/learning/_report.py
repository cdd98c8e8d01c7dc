"""A page that shows what active learning did."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .._figures import figure_axes
from .._report import Report
from ..io import read_extxyz
from ._explore import DEVIATIONS
from ._loop import ActiveLearning, Generation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Header and rows.
Table: TypeAlias = tuple[list[str], list[list[str]]]


def write_report(learning: ActiveLearning) -> Path:
    """Write ``report.html`` into the folder of a run; return its path.

    Raises
    ------
    ValueError
        If no generation is finished.
    """
    done = learning.generations()
    if not done:
        raise ValueError(f"{learning.folder} holds no finished generation")
    converged = learning.converged(done)
    report = Report("Active learning")
    report.text(
        f"{'Converged' if converged else 'Not converged'} after {len(done)} "
        f"generations with {done[-1].frames} frames; model: `{learning.model}`."
    )
    report.heading("Generations")
    report.table(*_generations(done))
    report.heading("Errors on frames held back")
    report.figure(plot_learning(done), "Errors against the number of frames.")
    report.heading("Deviations of what walkers met")
    report.figure(plot_deviations(learning, done), "Histograms of deviations.")
    report.heading("Where frames came from")
    report.table(*_origins(learning, done))
    report.heading("Cost")
    report.table(*_cost(done))
    report.heading("Engine")
    report.code(json.dumps(learning.engine.provenance(), indent=1))
    path = learning.folder / "report.html"
    report.write_html(path)
    return path


def plot_learning(done: list[Generation], ax: Axes | None = None) -> Axes:
    """Plot errors on frames held back against the number of frames."""
    ax = figure_axes(ax)
    frames = [state.frames for state in done]
    for name in dict.fromkeys(n for state in done for n in state.errors):
        values = [1e3 * state.errors.get(name, np.nan) for state in done]
        unit = f"m{done[-1].units[name]}".replace("A", "Å").replace("mu_B", "μ$_B$")
        ax.loglog(frames, values, "o-", label=f"{name.replace('_', ' ')} ({unit})")
    ax.set_xlabel("labelled frames")
    ax.set_ylabel("root mean square error")
    ax.legend()
    return ax


def plot_deviations(
    learning: ActiveLearning, done: list[Generation], ax: Axes | None = None
) -> Axes:
    """Plot histograms of the largest deviation of a force, by generation."""
    ax = figure_axes(ax)
    for state in done:
        path = learning.folder / f"generation-{state.number:02d}" / "deviations.npz"
        with np.load(path) as arrays:
            values = arrays[DEVIATIONS[0]]
        values = values[values > 0.0]
        if not len(values):
            continue
        edges = np.geomspace(values.min(), values.max() * 1.001, 40).tolist()
        ax.hist(values, edges, histtype="step", label=f"{state.number}")
    ax.set_xscale("log")
    ax.set_xlabel("largest deviation of a force in a structure (eV/Å)")
    ax.set_ylabel("structures")
    ax.legend(title="generation")
    return ax


def _generations(done: list[Generation]) -> Table:
    header = [
        "generation",
        "labelled",
        "failed",
        "dropped",
        "frames",
        "accurate",
        "uncertain",
        "lost",
        "unphysical",
        "selected",
    ]
    rows = [
        [
            str(s.number),
            *(str(x) for x in (s.labelled, s.failed, s.dropped, s.frames)),
            f"{s.share:.1%}",
            *(str(x) for x in (s.uncertain, s.lost, s.unphysical, s.selected)),
        ]
        for s in done
    ]
    return header, rows


def _origins(learning: ActiveLearning, done: list[Generation]) -> Table:
    rows = []
    for state in done:
        folder = learning.folder / f"generation-{state.number:02d}"
        if not (folder / "structures.extxyz").exists():
            continue
        structures = read_extxyz(folder / "structures.extxyz")
        found = Counter(
            f"{a.info['temperature_K']:.0f} K" if "temperature_K" in a.info else "start"
            for a in structures
        )
        rows += [
            [str(state.number), origin, str(count)]
            for origin, count in sorted(found.items())
        ]
    return ["generation", "origin", "structures"], rows


def _cost(done: list[Generation]) -> Table:
    names = list(dict.fromkeys(name for state in done for name in state.seconds))
    rows = [
        [str(s.number), *(f"{s.seconds.get(name, 0.0):.1f} s" for name in names)]
        for s in done
    ]
    return ["generation", *names], rows
