"""Files of nested plain data and tensors, with checksums.

Archives as ``torch.save`` writes them. They are read with ``weights_only=True``, which
runs no code, and only if the checksums in them are right.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ._files import atomic_write, cannot_write, reading

#: Bytes of an entry's header in a zip archive besides name and extra field, where it
#: has the lengths of these, and most bytes between its end and the next entry.
_HEADER, _LENGTHS_AT, _DESCRIPTOR = 30, 26, 24


def save_plain(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write nested plain data and tensors, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; an earlier file of that name stays.
    """
    try:
        with atomic_write(path) as temporary:
            torch.save(content, temporary)
    except RuntimeError as error:  # torch's own, on a full disk
        raise cannot_write(path, error) from error


def load_plain(
    path: str | os.PathLike[str], *, expected: str, device: torch.device | str = "cpu"
) -> Any:
    """Read what :func:`save_plain` wrote; no code of a file runs.

    Parameters
    ----------
    path : path
    expected : str
        What the file should be, for messages.
    device : torch.device or str
        Where tensors go.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is truncated, damaged or something else, or could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected {expected}")
    check_archive(path, expected=expected)
    try:
        with reading(path, expected):
            return torch.load(path, map_location=device, weights_only=True)
    except ValueError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        raise ValueError(
            f"{path} holds something other than plain tensors and was not opened, "
            f"because loading it could run code; expected {expected}"
        ) from error


def check_archive(path: Path, *, expected: str) -> None:
    """Raise ValueError unless a zip archive is whole and its checksums are right.

    Torch does not look at the checksums (CRC-32) that it writes.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            damaged = archive.testzip() or _misplaced(archive, stream)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever the damage leads to
        raise ValueError(
            f"{path} is truncated or something else; expected {expected}"
        ) from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of {damaged} is wrong. Copy it again, or "
            f"write it again; expected {expected}"
        )


def _misplaced(archive: zipfile.ZipFile, stream: BinaryIO) -> str | None:
    """Return an entry that does not reach the next one; None if there is none.

    An entry of size and checksum zero in the table of contents would go unnoticed.
    """
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    starts = [entry.header_offset for entry in entries] + [archive.start_dir]
    for entry, start in zip(entries, starts[1:], strict=True):
        stream.seek(entry.header_offset + _LENGTHS_AT)
        head = _HEADER + sum(struct.unpack("<HH", stream.read(4)))
        end = entry.header_offset + head + entry.compress_size
        if not 0 <= start - end <= _DESCRIPTOR:
            return entry.filename
    return None
