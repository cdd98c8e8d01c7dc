"""Append-only files of a run, truncated at a restart."""

from __future__ import annotations

import os
from contextlib import suppress
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

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def label(self) -> str:
        """Kind and name of the file, whatever its folder."""
        return f"{type(self).__name__} {self.path.name}"

    def write(self) -> None:
        """Append the present state."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what is still buffered."""


def append_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Append the whole text to a file or, where that fails, nothing.

    Parameters
    ----------
    path : Path
    text : str
    overwrite : bool
        Replace the content of the file.

    Raises
    ------
    OSError
        If it cannot be written, on a full disk for one.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_APPEND)
    # Unbuffered: a buffer would write its rest on closing, after a failure too.
    file = os.open(path, flags, 0o666)
    try:
        whole, left = os.fstat(file).st_size, text.encode()
        try:
            while left:
                left = left[os.write(file, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(file, whole)
            raise cannot_write(path, error) from error
    finally:
        os.close(file)


def cannot_write(path: Path, error: OSError) -> OSError:
    """Return the error for a file that cannot grow."""
    reason = error.strerror or error
    return OSError(
        f"cannot write to {path} ({reason}); what is there already is complete"
    )


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
