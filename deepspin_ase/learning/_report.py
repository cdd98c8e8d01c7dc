"""A page that shows what active learning did."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._figures import figure_axes
from .._files import atomic_write
from ..io import read_extxyz
from ._explore import DEVIATIONS
from ._loop import ActiveLearning, Generation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Active learning</title>
<style>
body {{ font-family: sans-serif; margin: 2em auto; max-width: 62em; color: #222 }}
table {{ border-collapse: collapse; margin: 1em 0 }}
th, td {{ padding: 0.25em 0.8em; text-align: right; border-bottom: 1px solid #ccc }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100% }}
pre {{ background: #f4f4f4; padding: 1em; overflow: auto }}
</style></head><body>
<h1>Active learning</h1>
<p>{verdict}</p>
<h2>Generations</h2>
{generations}
<h2>Errors on frames held back</h2>
<img alt="errors against the number of frames" src="{curve}">
<h2>Deviations of what walkers met</h2>
<img alt="histograms of deviations" src="{histograms}">
<h2>Where frames came from</h2>
{origins}
<h2>Cost</h2>
{cost}
<h2>Engine</h2>
<pre>{engine}</pre>
</body></html>
"""


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
    page = _PAGE.format(
        verdict=(
            f"{'Converged' if converged else 'Not converged'} after {len(done)} "
            f"generations with {done[-1].frames} frames; model: "
            f"<code>{html.escape(str(learning.model))}</code>."
        ),
        generations=_generations(done),
        curve=_encoded(plot_learning(done)),
        histograms=_encoded(plot_deviations(learning, done)),
        origins=_origins(learning, done),
        cost=_cost(done),
        engine=html.escape(json.dumps(learning.engine.provenance(), indent=1)),
    )
    path = learning.folder / "report.html"
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
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


def _encoded(ax: Axes) -> str:
    import matplotlib.pyplot as plt

    figure: Figure = ax.figure  # type: ignore[assignment]
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(header: list[str], rows: list[list[str]]) -> str:
    def line(tag: str, cells: list[str]) -> str:
        inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    lines = [line("th", header), *(line("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _generations(done: list[Generation]) -> str:
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
    return _table(header, rows)


def _origins(learning: ActiveLearning, done: list[Generation]) -> str:
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
    return _table(["generation", "origin", "structures"], rows)


def _cost(done: list[Generation]) -> str:
    names = list(dict.fromkeys(name for state in done for name in state.seconds))
    rows = [
        [str(s.number), *(f"{s.seconds.get(name, 0.0):.1f} s" for name in names)]
        for s in done
    ]
    return _table(["generation", *names], rows)
