"""Files that grow while a driver runs, and are cut back at a restart."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..drivers._driver import SpinLatticeDynamics


class Writer:
    """Appends the states of a driver to a file.

    Attributes
    ----------
    path : Path
    driver : SpinLatticeDynamics
    """

    def __init__(self, path: Path, driver: SpinLatticeDynamics) -> None:
        self.path = path
        self.driver = driver

    def write(self) -> None:
        """Append the present state."""
        raise NotImplementedError

    def flush(self) -> None:
        """Bring to the file what is still held back."""

    def state(self) -> dict[str, Any]:
        """Return how far the file has come; nothing is held back after that."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Cut the file back to where it was."""
        raise NotImplementedError


def append_text(path: Path, text: str, *, anew: bool = False) -> None:
    """Append to a file the whole text or, where that fails, nothing.

    Parameters
    ----------
    path : Path
    text : str
    anew : bool
        Begin the file again.

    Raises
    ------
    OSError
        If it cannot be written, on a full disk for one.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if anew else os.O_APPEND)
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


def cut_back(path: Path, size: int) -> None:
    """Shorten a file to ``size`` bytes.

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
