"""Files: whole or not at all, and written by one process at a time.

- :func:`atomic_write` puts a new file in the place of the old one when it is complete
  and on the disk (``fsync``), so that neither a kill nor a loss of power leaves half.
- :func:`append_text` and :func:`append_bytes` append all or nothing.
- :func:`open_text` opens compressed files, too.
- :func:`reading` gives errors of damaged files their names.
- :func:`locked` keeps other processes from the files of a run, and removes what a
  killed one left behind.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

#: Functions that open compressed files, by their suffix.
_COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

#: Temporary files are named .xxxxxxxx.tmp.NAME.
_TEMPORARY = ".????????.tmp."

#: Process and thread by the lock files that they hold.
_held: dict[Path, tuple[int, int]] = {}


@contextmanager
def atomic_write(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` that replaces it when the block ends.

    If the block raises, the temporary file is removed and ``path`` is unchanged. The
    content is on the disk before the name is, and the name when this returns.

    Raises
    ------
    OSError
        If the file cannot be written; it is named. A device or pipe is refused, which
        the file would take the place of.

    >>> with atomic_write("result.npz") as temporary:
    ...     np.savez(temporary, energy=-8.3)
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(f"{path} is a device or pipe: choose a file for the output")
    # The suffix is kept: numpy and ASE choose the format by it.
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp.{path.name}")
    try:
        yield temporary
        to_disk(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # not every file system can do this
            to_disk(path.parent)
    except OSError as error:
        other = error.filename is not None and Path(error.filename) != temporary
        if error.errno is None or other:
            raise
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # it is not there
            temporary.unlink()


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    # Windows flushes files that are open for writing only.
    mode = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Append a text as UTF-8; see :func:`append_bytes`."""
    append_bytes(path, text.encode(), overwrite=overwrite)


def append_bytes(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Append the whole content to a file or, where that fails, nothing.

    Parameters
    ----------
    path : Path
    content : bytes
    overwrite : bool
        Replace the content of the file.

    Raises
    ------
    OSError
        If it cannot be written, on a full disk for one.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_APPEND)
    made = not os.path.exists(path)
    try:
        # Unbuffered: a buffer would write its rest on closing, after a failure too.
        file = os.open(path, flags, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        whole, left = os.fstat(file).st_size, content
        try:
            while left:
                left = left[os.write(file, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(file, whole)
                if made:
                    os.unlink(path)
            raise cannot_write(path, error) from error
    finally:
        os.close(file)


def cannot_write(path: PathLike, error: Exception) -> OSError:
    """Return the error for a file that cannot be written, or cannot grow."""
    reason = getattr(error, "strerror", None) or error
    return OSError(
        f"cannot write to {os.fspath(path)} ({reason}); what is there already is "
        "complete: free space or mend the permissions, then go on"
    )


def open_text(path: Path, *, errors: str = "strict") -> IO[str]:
    """Open a text file in UTF-8, compressed where its suffix says so.

    A byte order mark at its beginning is left out.
    """
    opened = _COMPRESSED.get(path.suffix, open)
    return opened(path, "rt", encoding="utf-8-sig", errors=errors)


def uncompressed(path: Path) -> Path:
    """Return a path without the suffix of a compression."""
    return path.with_suffix("") if path.suffix in _COMPRESSED else path


def existing(path: Path) -> Path:
    """Return the path, or that of a compressed file where it is that which exists."""
    candidates = [path.with_name(path.name + suffix) for suffix in _COMPRESSED]
    return next((x for x in [path, *candidates] if x.is_file()), path)


@contextmanager
def reading(path: PathLike, expected: str) -> Iterator[None]:
    """Raise whatever a damaged file leads to as ValueError with its name.

    Errors that name the file, and those of missing files and packages, stay::

        with reading(path, "a training file (YAML)"):
            values = parse(path)
    """
    name = os.fspath(path)
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except IsADirectoryError as error:
        raise ValueError(f"{name} is a folder; expected {expected}") from error
    except Exception as error:
        if isinstance(error, ValueError | OSError) and name in str(error):
            raise
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(
            f"{name} cannot be read as {expected} ({kind}{error}); is it truncated or "
            "damaged? Write it again, or copy it again"
        ) from error


def require_different(**paths: object) -> None:
    """Raise ValueError where two of some named files are the same one.

    What is no path, such as an open file or "-", is passed over.
    """
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        if not isinstance(path, str | os.PathLike) or path == "-":
            continue
        other = seen.setdefault(Path(path).resolve(), name)
        if other != name:
            raise ValueError(
                f"{other} and {name} are the same file, {os.fspath(path)}: choose "
                "another place for one of them"
            )


def make_folder(path: PathLike) -> None:
    """Make a folder, and those above it, unless it exists.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot make the folder {os.fspath(path)} ({error.strerror}): choose "
            "another place for the output"
        ) from error


# Locks


@contextmanager
def locked(*paths: PathLike) -> Iterator[None]:
    """Keep other processes from files or folders while the block runs.

    The lock is that of the operating system (``flock``) on a hidden file beside a
    file, ``.NAME.lock``, or in a folder, ``.lock``: it ends with the process, however
    that ends, and needs no cleaning up. On network file systems it holds between
    machines where they share locks (NFS does by default). Where there are none, as on
    Windows, a run goes on without. Temporary files that killed processes left behind
    are removed.

    A thread may lock again what it holds.

    Raises
    ------
    BlockingIOError
        If another process, or another thread, writes there; it is named.
    OSError
        If the folder cannot be written to.
    """
    with ExitStack() as stack:
        for path in {Path(path).resolve() for path in paths}:
            stack.enter_context(_locked(path))
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    folder = path if path.is_dir() else path.parent
    name = "" if path.is_dir() else f".{path.name}"
    file = folder / f"{name}.lock"
    me = os.getpid(), threading.get_ident()
    if _held.get(file) == me:
        yield
        return
    descriptor = _acquire(file, path)
    _held[file] = me
    try:
        for leftover in folder.glob(f"{_TEMPORARY}{name[1:] or '*'}"):
            leftover.unlink(missing_ok=True)
        yield
    finally:
        del _held[file]
        # Before the lock goes: afterwards the file may be the next owner's.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(file: Path, path: Path) -> int:
    """Return the descriptor of a lock file that is locked."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OSError(f"cannot write to {path} ({error.strerror})") from error
        try:
            _lock(descriptor, path)
            # The owner before may have removed the file since it was opened.
            if os.fstat(descriptor).st_ino == file.stat().st_ino:
                break
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    with suppress(OSError):  # a full disk: the lock holds without a name, too
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _description().encode())
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 1000).decode(errors="replace")
        raise BlockingIOError(
            f"{path} is being written by {owner or 'another process'}; wait for it, "
            "end it, or write to another place"
        ) from None
    except OSError as error:
        logger.warning(
            "%s cannot be locked (%s): see that no other process writes there",
            path,
            error.strerror,
        )


def _description() -> str:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"process {os.getpid()} on {socket.gethostname()} ({command!r}, since "
        f"{started})"
    )
