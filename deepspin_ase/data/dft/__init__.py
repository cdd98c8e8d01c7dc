"""Outputs of density-functional calculations with constrained moments, as frames.

A reader takes a run only as a whole: self-consistent, constrained, with the moments
that were asked for, and with labels whose sign, unit and energy term its own numbers or
a version that was checked settle. Otherwise it raises ValueError with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .._frames import Frame
from . import _abacus, _vasp


@dataclass(frozen=True)
class Reader:
    """Finds and reads the runs of one code.

    Attributes
    ----------
    find : callable
        Returns the runs at a path, a file or a folder, without its subfolders.
    read : callable
        Returns the frames of such a run.
    """

    find: Callable[[Path], list[Path]]
    read: Callable[[Path], list[Frame]]


#: By the name of the format.
READERS = {
    "abacus/deltaspin": Reader(_abacus.find_runs, _abacus.read_run),
    "vasp/constrained": Reader(_vasp.find_runs, _vasp.read_run),
}
