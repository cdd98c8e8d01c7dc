"""A page that shows what active learning did."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .._figures import figure_axes, label_logarithmic, with_symbols
from .._report import Report
from .._version import __version__
from ..data import Dataset
from ..io import read_extxyz
from ..potentials import load_potential
from ..training import (
    Comparison,
    collect,
    compare,
    load_batches,
    plot_parity,
    plot_reliability,
)
from ..training._report import table_of_errors
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
    report = Report("Active learning")
    report.text(_verdict(learning, done))
    check = learning.folder / "check.txt"
    if check.exists():
        report.heading("Check of the engine")
        report.text(
            "Energy differences over the work of the labels, near one structure."
        )
        report.code(check.read_text(encoding="utf-8").rstrip())
    report.heading("Generations")
    report.table(*_generations(done))
    for state in done:
        if state.failure:
            report.text(f"Generation {state.number}: walkers stopped, {state.failure}")
    _add_errors(report, learning, done)
    report.heading("Deviations of what walkers met")
    for column, name in enumerate(DEVIATIONS):
        ax = plot_deviations(learning, done, column=column)
        title = name.replace("_", " ")
        caption = f"Largest deviation of {title} in a structure; lines: the window."
        report.figure(ax, caption)
    report.heading("Where frames came from")
    report.table(*_origins(learning, done))
    report.heading("Cost")
    report.text("Wall time in seconds; of labels the sum over the structures.")
    report.table(*_cost(done))
    report.heading("Engine")
    report.code(json.dumps(learning.engine.provenance(), indent=1))
    report.heading("Configuration")
    report.code((learning.folder / "config.yaml").read_text(encoding="utf-8").rstrip())
    path = learning.folder / "report.html"
    report.write_html(path)
    return path


def _verdict(learning: ActiveLearning, done: list[Generation]) -> str:
    wanted = learning.config.select.accurate
    if learning.converged(done):
        said = f"Converged: {wanted:.0%} of what walkers met was accurate, twice."
    else:
        said = (
            f"Not converged: {done[-1].share:.0%} of what walkers met was accurate, "
            f"and {wanted:.0%} was wanted in two generations one after the other."
        )
    model = learning.model
    name = "none" if model is None else model.relative_to(learning.folder).as_posix()
    return (
        f"{said} {len(done)} generations, {done[-1].frames} labelled frames; model: "
        f"`{name}`, deepspin-ase {__version__}."
    )


def _add_errors(
    report: Report, learning: ActiveLearning, done: list[Generation]
) -> None:
    """Add tables and figures of errors on labels that no training saw."""
    report.heading("Errors on frames held back")
    held = learning.held_back(done[-1].number)
    report.text(
        f"Every {learning.config.held_back}th label is held back from training. The "
        f"models of all generations on all {len(held)} frames that were held back by "
        "the end; whether the last step of a training, a linear fit, is kept is "
        "decided by those that were there then."
    )
    compared = [_compared(learning, state, held) for state in done]
    last = compared[-1]
    errors = [{n: x.rmse for n, x in found.items()} for found in compared]
    named = {
        f"generation {s.number}, {s.frames} frames": found
        for s, found in zip(done, errors, strict=True)
    }
    named["spread of the labels"] = {n: float(x.label.std()) for n, x in last.items()}
    header, *rows = table_of_errors(named)
    report.table(header, rows)
    fresh = {f"of generation {s.number}": s.before for s in done if s.before}
    if fresh:
        report.text(
            "On new frames, of the model before them, which is what it was asked to be "
            "uncertain of:"
        )
        header, *rows = table_of_errors(fresh)
        report.table(header, rows)
    caption = "Errors on frames held back (circles), and on new frames (crosses)."
    report.figure(plot_learning(done, errors), caption)
    report.figure(plot_parity(last)[0], "The last model on the frames held back.")
    if any(found.deviation is not None for found in last.values()):
        reliability = plot_reliability(last)
        report.figure(reliability[0], "Its errors over their estimates.")


def _compared(
    learning: ActiveLearning, state: Generation, frames: Dataset
) -> dict[str, Comparison]:
    """Return labels and what the model of a generation predicts."""
    model = load_potential(learning.model_of(state.number))
    batches = collect(load_batches(frames, model))
    return compare(model, batches, deviations=True)


def plot_learning(
    done: list[Generation], errors: list[dict[str, float]], ax: Axes | None = None
) -> Axes:
    """Plot errors of the generations against the number of labelled frames.

    Broken lines are those on new frames, of the model before them.
    """
    ax = figure_axes(ax)
    frames = [state.frames for state in done]
    for name in errors[-1]:
        unit = with_symbols(f"m{done[-1].units[name]}")
        held, fresh = (
            [1e3 * found.get(name, np.nan) for found in each]
            for each in (errors, [state.before for state in done])
        )
        label = f"{name.replace('_', ' ')} ({unit})"
        (line,) = ax.loglog(frames, held, "o-", label=label)
        ax.loglog(frames[:-1], fresh[1:], "x--", c=line.get_color(), lw=0.8)
    ax.set_xlabel("labelled frames")
    ax.set_ylabel("root mean square error")
    label_logarithmic(ax)
    ax.legend(fontsize="small")
    return ax


def plot_deviations(
    learning: ActiveLearning,
    done: list[Generation],
    ax: Axes | None = None,
    *,
    column: int = 0,
) -> Axes:
    """Plot histograms of a column of the largest deviations, by generation."""
    ax = figure_axes(ax)
    name = DEVIATIONS[column]
    every = []
    for state in done:
        path = learning.folder / f"generation-{state.number:02d}" / "deviations.npz"
        with np.load(path) as arrays:
            every.append(arrays[name][arrays[name] > 0.0])
    known = np.concatenate(every)
    if len(known):
        edges = np.geomspace(known.min(), known.max() * 1.001, 40).tolist()
        for state, values in zip(done, every, strict=True):
            ax.hist(values, edges, histtype="step", label=f"{state.number}")
    window = getattr(learning.config.select, name)
    for limit in (window.low, window.high):
        ax.axvline(limit, c="k", lw=0.8, ls=":")
    ax.set_xscale("log")
    unit = with_symbols(("eV/A", "eV/mu_B")[column])
    ax.set_xlabel(f"largest deviation of {name.replace('_', ' ')} ({unit})")
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
        [str(s.number), *(f"{s.seconds.get(name, 0.0):.1f}" for name in names)]
        for s in done
    ]
    return ["generation", *names], rows
