"""``deepspin phases``: a phase diagram from a configuration file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .._distributed import local_workers
from .._files import atomic_write, locked, make_folder
from ..analysis import phase_diagram
from ..analysis.transitions import PhaseDiagram, PhasesConfig, line_table, write_page
from ._options import add_run
from ._outcome import Outcome

#: Seconds between pages of a run.
_SECONDS = 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Sample a magnet on a grid of temperatures, fields, pressures, strains and "
        "compositions. The folder of the run holds diagram.npz and report.html, which "
        "is written anew while points are added. Run the command again to go on."
    )
    add_run(parser, PhasesConfig.__name__)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    config = PhasesConfig.read(arguments.config)
    folder = Path(config.output)
    kept = folder / "diagram.npz"
    if arguments.status:
        return _status(kept)
    given = config.arguments()
    make_folder(folder)
    text = arguments.config.read_text(encoding="utf-8")
    with locked(folder), local_workers(config.workers) as client:
        with atomic_write(folder / "config.yaml") as temporary:
            temporary.write_text(text, encoding="utf-8")
        keep = _keeper(config, kept, text)
        found = phase_diagram(
            **given,
            client=client,
            checkpoint=folder / "points",
            observe=_now_and_then(keep),
        )
        keep(found)
    names, counts = np.unique(found.phases, return_counts=True)
    for name, count in zip(names, counts, strict=True):
        print(f"{count} {'point' if count == 1 else 'points'}: {name}")
    lines = {}
    for line in config.lines:
        title, header, rows = line_table(found, line)
        lines[title] = [dict(zip(header, row, strict=True)) for row in rows]
        print(title)
        for row in lines[title]:
            print("  " + ", ".join(f"{name}: {text}" for name, text in row.items()))
    report = folder / "report.html"
    print(f"diagram: {kept}; report: {report}")
    told = {
        "points": found.drift.size,
        "points_done": found.drift.size - found.unfinished(),
        "axes": found.axes,
        "quantities": found.quantities,
        "phases": found.phases,
        "lines": lines,
        "files": [kept, report],
    }
    return Outcome(told)


def _status(kept: Path) -> Outcome:
    if not kept.exists():
        print(f"no point is done: {kept} does not exist")
        return Outcome({"points_done": 0})
    diagram = PhaseDiagram.load(kept)
    total = diagram.drift.size
    done = total - diagram.unfinished()
    print(f"{done} of {total} points are done")
    return Outcome({"points": total, "points_done": done})


def _keeper(
    config: PhasesConfig, kept: Path, text: str
) -> Callable[[PhaseDiagram], None]:
    """Return what writes numbers and page of a diagram."""

    def keep(diagram: PhaseDiagram) -> None:
        diagram.save(kept)
        write_page(
            diagram,
            kept.with_name("report.html"),
            shown=config.shown,
            lines=config.lines,
            configuration=text.rstrip(),
        )

    return keep


def _now_and_then(
    keep: Callable[[PhaseDiagram], None],
) -> Callable[[PhaseDiagram], None]:
    last = -_SECONDS

    def observe(diagram: PhaseDiagram) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS:
            keep(diagram)
            last = time.monotonic()

    return observe
