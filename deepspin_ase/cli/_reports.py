"""Pages of what a command found: ``--report FILE.html``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import numpy as np
from ase import Atoms

from .._report import Report
from .._version import __version__
from ..analysis.view import plot_spins
from ..analysis.view._arrows import main_axis
from ..spins import get_spins

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
    """Add a figure of the moments of structures, in the colors of the last one."""
    import matplotlib.pyplot as plt

    spins = get_spins([*structures.values()][-1])
    lengths = np.linalg.norm(spins, axis=1, keepdims=True)
    axis = main_axis(spins / np.where(lengths > 0.0, lengths, 1.0))
    figure, axes = plt.subplots(
        ncols=len(structures),
        figsize=(4.2 * len(structures), 4.2),
        layout="constrained",
        subplot_kw={"projection": "3d"},
    )
    for ax, (title, atoms) in zip(axes, structures.items(), strict=True):
        plot_spins(atoms, ax, axis=axis).set_title(title)
    colors = "hue and brightness are its direction"
    if axis is not None:
        line = ", ".join(f"{x:.2f}" for x in axis)
        colors = f"red along ({line}), blue against it, pale across"
    report.figure(figure.axes[0], f"Moments: {colors}.")
