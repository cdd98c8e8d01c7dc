"""Outputs of density-functional calculations with constrained moments, as frames.

A reader takes a run only as a whole: self-consistent, constrained, with the moments
that were asked for, and with labels whose sign, unit and energy term its own numbers or
a version that was checked settle. Otherwise it raises ValueError with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .._frames import Frame
from . import _abacus, _gpaw, _vasp


@dataclass(frozen=True)
class Reader:
    """Finds and reads the runs of one code.

    Attributes
    ----------
    find : callable
        Returns the runs at a path, a file or a folder, without its subfolders.
    read : callable
        Returns the frames of such a run.
    detected : bool
        Whether runs are recognised; otherwise the format must be named.
    """

    find: Callable[[Path], list[Path]]
    read: Callable[[Path], list[Frame]]
    detected: bool = True


#: By the name of the format. The two that say whether the printed energy contains
#: lambda.M are for versions of ABACUS that were not checked.
READERS = {
    "abacus/deltaspin": Reader(_abacus.find_runs, _abacus.read_run),
    "abacus/deltaspin/with-field": Reader(
        _abacus.find_runs, partial(_abacus.read_run, with_field=True), detected=False
    ),
    "abacus/deltaspin/without-field": Reader(
        _abacus.find_runs, partial(_abacus.read_run, with_field=False), detected=False
    ),
    "gpaw": Reader(_gpaw.find_runs, _gpaw.read_run),
    "vasp/constrained": Reader(_vasp.find_runs, _vasp.read_run),
}
