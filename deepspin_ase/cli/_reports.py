"""Pages of what a command found: ``--report FILE.html``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ase import Atoms

from .._report import Report
from .._version import __version__
from ..analysis.view import plot_spins

#: Units of residuals, by name.
RESIDUALS = {"force": "eV/Å", "torque": "eV", "stress": "eV/Å³"}


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add ``--report``."""
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="write what was found as one page, with its figures in it",
    )


def check_report(path: Path | None) -> None:
    """Raise ValueError unless a page can be written there."""
    if path is None:
        return
    if path.suffix != ".html":
        raise ValueError(f"the report {path} must end in .html")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} of the report does not exist")


def write_report(report: Report, arguments: argparse.Namespace) -> list[Path]:
    """Write a page, which ends with the command that made it; return its path."""
    path: Path = arguments.report
    report.heading("Run")
    report.code(shlex.join(["deepspin", *arguments.words]))
    report.text(f"deepspin-ase {__version__}")
    report.write_html(path)
    print(f"wrote {path}")
    return [path]


def add_moments(report: Report, structures: dict[str, Atoms]) -> None:
    """Add a figure of the moments of structures next to each other."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        ncols=len(structures),
        figsize=(4.2 * len(structures), 4.2),
        layout="constrained",
        subplot_kw={"projection": "3d"},
    )
    for ax, (title, atoms) in zip(axes, structures.items(), strict=True):
        plot_spins(atoms, ax).set_title(title)
    report.figure(
        figure.axes[0],
        "Moments: red and blue along the line on which most of a structure lie, both "
        "ways; by hue, around z, where they lie on none.",
    )
