"""Files of nested plain data and tensors, with checksums.

Archives as ``torch.save`` writes them. They are read with ``weights_only=True``, which
runs no code, and only if the checksums in them are right.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ._files import atomic_write, cannot_write


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
    except (OSError, RuntimeError) as error:  # torch's own, on a full disk
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
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds something other than plain tensors and was not opened, "
            f"because loading it could run code; expected {expected}"
        ) from error
    except Exception as error:  # whatever the damage leads to
        raise ValueError(f"{path} is damaged; expected {expected}") from error


def check_archive(path: Path, *, expected: str) -> None:
    """Raise ValueError unless a zip archive is whole and its checksums are right.

    Torch does not look at the checksums (CRC-32) that it writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # whatever the damage leads to
        raise ValueError(
            f"{path} is truncated or something else; expected {expected}"
        ) from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of {damaged} is wrong. Copy it again, or "
            f"write it again; expected {expected}"
        )
