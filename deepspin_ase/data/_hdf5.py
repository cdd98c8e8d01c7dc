"""DeePMD-kit's HDF5 files: npy folders as groups, and files in them as datasets.

A system is a group, named as ``data.hdf5#/group``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .._extras import require

_SUFFIXES = (".h5", ".hdf5")


def is_hdf5(path: Path) -> bool:
    """Return whether a path is that of an HDF5 file, or of a group in one."""
    file, _, _ = os.fspath(path).partition("#")
    return file.endswith(_SUFFIXES) and not path.is_dir()


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the DeePMD folders of a file, or of a group in it, in a temporary place.

    Errors that the block raises for files there name the file and the group instead.

    Raises
    ------
    FileNotFoundError
        If there is no such file, group or system.
    ImportError
        If h5py is not installed.
    """
    file, _, group = os.fspath(path).partition("#")
    h5py = require("h5py", "HDF5 files of DeePMD-kit")
    if not Path(file).is_file():
        raise FileNotFoundError(f"no file {file}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "data")
        folder.mkdir()
        with h5py.File(file, "r") as stored:
            name = group.strip("/")
            if name and not isinstance(stored.get(name), h5py.Group):
                raise FileNotFoundError(
                    f"{file} has no group {group}; those at its top are "
                    f"{', '.join(stored) or 'none'}"
                )
            stored[name or "/"].visititems(lambda n, item: _unpack(folder, n, item))
        try:
            yield folder
        except (ValueError, FileNotFoundError) as error:
            text = str(error).replace(str(folder), os.fspath(path))
            raise type(error)(text) from error


def _unpack(folder: Path, name: str, item: Any) -> None:
    """Write a dataset as the file that it stands for; groups have no ``shape``."""
    if not hasattr(item, "shape"):
        return
    if ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name} is no name of a file in a system")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, item[()])
        return
    words = np.ravel(item[()]).tolist()
    lines = [w.decode() if isinstance(w, bytes) else str(w) for w in words]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
