"""``deepspin view``: moments as arrows in a web page."""

from __future__ import annotations

import argparse
import webbrowser
from collections import deque
from collections.abc import Callable
from pathlib import Path

from .._figures import write_figure
from ..analysis._trajectories import frames_of
from ..analysis.view import plot_spins, write_html, write_ovito
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Write a web page that shows atoms and moments in three "
        "dimensions, with a slider for trajectories. It works offline."
    )
    parser.add_argument(
        "trajectory", type=Path, help="extxyz, HDF5 or any file ASE reads"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="the page (.html; next to the trajectory by default), a figure (.png, "
        ".pdf, .svg) of the last frame, or a trajectory for OVITO (.extxyz)",
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="one frame of N (page)"
    )
    parser.add_argument(
        "--scale", type=float, metavar="L", help="length of the arrows, A/mu_B"
    )
    parser.add_argument(
        "--axis", metavar="AXIS", help="x, y or z: red along it and blue against it"
    )
    parser.add_argument(
        "--projection",
        metavar="AXIS",
        help="draw a figure as seen from x, y, z, or --projection=-x, ...; in three "
        "dimensions by default",
    )
    parser.add_argument(
        "--replica",
        type=int,
        default=0,
        help="which one of an HDF5 file with several (default: %(default)s)",
    )
    parser.add_argument(
        "--open", action="store_true", help="open the page in the browser"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    source = arguments.trajectory
    output = arguments.output or source.with_suffix(".html")
    if output.resolve() == source.resolve():
        raise ValueError(f"{output} is the trajectory itself: choose another --output")
    if output.suffix not in _WRITERS:
        raise ValueError(f"{output} must end in {', '.join(_WRITERS)}")
    frames, told = _WRITERS[output.suffix](output, arguments)
    print(told)
    if arguments.open:
        webbrowser.open(output.resolve().as_uri())
    return Outcome({"trajectory": source, "frames": frames, "files": [output]})


def _page(output: Path, arguments: argparse.Namespace) -> tuple[int, str]:
    count = write_html(
        output,
        arguments.trajectory,
        every=arguments.every,
        scale=arguments.scale,
        axis=arguments.axis,
        title=arguments.trajectory.name,
        replica=arguments.replica,
    )
    size = output.stat().st_size / 1e6
    return count, f"{count} frames are in {output} ({size:.1f} MB)"


def _figure(output: Path, arguments: argparse.Namespace) -> tuple[int, str]:
    frames = frames_of(arguments.trajectory, replica=arguments.replica)
    (last,) = deque(frames, maxlen=1)
    axes = plot_spins(
        last, view=arguments.projection, axis=arguments.axis, scale=arguments.scale
    )
    write_figure(output, axes, dpi=200)
    return 1, f"the last frame is drawn in {output}"


def _ovito(output: Path, arguments: argparse.Namespace) -> tuple[int, str]:
    count = write_ovito(output, arguments.trajectory, replica=arguments.replica)
    return count, f"{count} frames for OVITO are in {output}"


#: By suffix, what writes a file; returns the number of frames in it, and a line on it.
_WRITERS: dict[str, Callable[[Path, argparse.Namespace], tuple[int, str]]] = {
    ".html": _page,
    ".png": _figure,
    ".pdf": _figure,
    ".svg": _figure,
    ".extxyz": _ovito,
}
