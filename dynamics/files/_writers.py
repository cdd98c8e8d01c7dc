"""Append-only files of a run, truncated at a restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from ase import Atoms

from ...potentials import Prediction
from .._state import Stateful


class Snapshots(Protocol):
    """Source of the states that go into a file: a driver, or anything like it."""

    images: list[Atoms]

    @property
    def n_replicas(self) -> int:
        """Number of structures that run together."""

    @property
    def time_fs(self) -> float:
        """Time since the first step, fs."""

    @property
    def prediction(self) -> Prediction:
        """Prediction of the model for the present state, virial included."""

    def frames(self) -> list[Atoms]:
        """Return copies of all structures as they are now, with their results."""


class Writer(Stateful):
    """File to which the states of a run are appended.

    Its own state is how far the file has come; restoring it cuts the file back.

    Attributes
    ----------
    path : Path
    """

    #: Whether this is a file, and not the screen.
    on_disk = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def label(self) -> str:
        """Kind and name of the file, whatever its folder."""
        return f"{type(self).__name__} {self.path.name}"

    @property
    def files(self) -> list[Path]:
        """All files that are written."""
        return [self.path] if self.on_disk else []

    def write(self) -> None:
        """Append the present state."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what is still buffered."""


def truncate_to(path: Path, size: int) -> None:
    """Truncate a file to ``size`` bytes.

    Raises
    ------
    ValueError
        If it is missing or shorter than that.
    """
    if not path.exists() or path.stat().st_size < size:
        raise too_short(path)
    os.truncate(path, size)


def too_short(path: Path) -> ValueError:
    """Return the error for a file that a checkpoint knew to be longer."""
    return ValueError(
        f"{path} is missing or shorter than when the checkpoint was written; "
        "put it back, or restore with another file name"
    )
