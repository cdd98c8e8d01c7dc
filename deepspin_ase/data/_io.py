"""Reading and writing of datasets in every format."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from .._extras import require
from ..io import read_extxyz, write_extxyz
from ..quantities import label_table
from . import _npy
from ._frames import Dataset, Frame

#: Formats that are read and written here; dpdata reads others.
FORMATS = ("deepmd/npy", "deepmd/npy/mixed", "extxyz")

PathLike = str | os.PathLike[str]


def read_dataset(
    path: PathLike | Iterable[PathLike],
    *,
    format: str | None = None,
    type_map: Sequence[str] | None = None,
) -> Dataset:
    """Read labelled frames from files and folders.

    Parameters
    ----------
    path : path or iterable of paths
        An extxyz file, a DeePMD system (a folder with ``type.raw``), or a
        folder with several systems at any depth, which are read in the order
        of their names.
    format : str, optional
        One of :data:`FORMATS`, or the name of any format of dpdata (e.g.
        ``"abacus/scf"``) that brings moments (extra ``dpdata``). Detected
        automatically for the former.
    type_map : sequence of str, optional
        Elements of DeePMD's types 0, 1, ... where ``type_map.raw`` is missing
        or names no elements.

    Returns
    -------
    Dataset
        Labels that a file lacks are None.

    Raises
    ------
    FileNotFoundError
        If there is no such path, or no data in it.
    ImportError
        If the format is one of dpdata, and dpdata is not installed.
    ValueError
        If data are damaged, disagree with each other, lack moments or hold
        numbers that are not finite; the message names the file.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if isinstance(type_map, str):
        raise ValueError(f"type_map must be a list of elements, not {type_map!r}")
    frames: list[Frame] = []
    for one in map(Path, paths):
        frames += _read_path(one, format, type_map)
    return Dataset(frames, name=", ".join(str(one) for one in paths))


def write_dataset(
    path: PathLike,
    dataset: Dataset,
    *,
    format: str | None = None,
    type_map: Sequence[str] | None = None,
) -> None:
    """Write a dataset, completely or not at all.

    DeePMD folders group frames of the same atoms, periodicity and labels into
    systems; several systems become subfolders, and the order of frames follows
    them. extxyz keeps the order and writes 8 decimals.

    Parameters
    ----------
    path : path
        An existing file is replaced; a folder must not exist or be empty.
    dataset : Dataset
    format : str, optional
        One of :data:`FORMATS`; by default extxyz for ``.xyz`` and ``.extxyz``,
        else ``deepmd/npy``.
    type_map : sequence of str, optional
        The order of types in DeePMD folders; by default by atomic number.

    Raises
    ------
    FileExistsError
        If ``path`` is a folder that is not empty.
    ValueError
        If the dataset is empty, the format is unknown or cannot hold the data,
        or ``type_map`` lacks an element.
    """
    path = Path(path)
    if format is None:
        format = "extxyz" if _is_extxyz(path) else "deepmd/npy"
    if format not in FORMATS:
        raise ValueError(f"cannot write {format!r}; choose one of {', '.join(FORMATS)}")
    if not len(dataset):
        raise ValueError(f"there are no frames to write to {path}")
    if format == "extxyz":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_extxyz(path, [frame.to_atoms() for frame in dataset])
        return
    names = _checked_type_map(dataset, type_map)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists; remove it or choose another folder")
    mixed = format == "deepmd/npy/mixed"
    with _atomic_folder(path) as folder:
        _npy.write_systems(folder, dataset, mixed=mixed, type_map=names)


def _is_extxyz(path: Path) -> bool:
    return path.suffix in (".xyz", ".extxyz")


def _read_path(
    path: Path, format: str | None, type_map: Sequence[str] | None
) -> list[Frame]:
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if format is not None and format not in FORMATS:
        return _read_dpdata(path, format, type_map)
    if path.is_file() and (format == "extxyz" or (not format and _is_extxyz(path))):
        return _read_extxyz(path)
    if path.is_file() or format == "extxyz":
        raise ValueError(
            f"{path} is not {format or 'of a known kind'}: expected an extxyz file or "
            "a DeePMD folder; name other formats by `format`"
        )
    systems = _npy.find_systems(path)
    if not systems:
        raise FileNotFoundError(
            f"{path} holds no DeePMD system (a folder with type.raw and set.*)"
        )
    frames: list[Frame] = []
    for system in systems:
        found = "deepmd/npy/mixed" if _npy.is_mixed(system) else "deepmd/npy"
        if format not in (None, found):
            raise ValueError(f"{system} is of format {found}, not {format}")
        frames += _npy.read_system(system, type_map=type_map)
    return frames


def _read_extxyz(path: Path) -> list[Frame]:
    frames = []
    for k, atoms in enumerate(read_extxyz(path)):
        try:
            frames.append(Frame.from_atoms(atoms))
        except ValueError as error:
            raise ValueError(f"{path}, frame {k}: {error}") from None
    if not frames:
        raise ValueError(f"{path} holds no frames")
    return frames


def _read_dpdata(
    path: Path, format: str, type_map: Sequence[str] | None
) -> list[Frame]:
    """Read one labelled system of a format that only dpdata knows."""
    dpdata = require("dpdata", f"formats such as {format!r}, not of deepspin_ase,")
    try:
        system = dpdata.LabeledSystem(
            str(path), fmt=format, type_map=list(type_map) if type_map else None
        )
    except NotImplementedError:
        raise ValueError(
            f"unknown format {format!r}; known are {', '.join(FORMATS)} and the "
            "formats of dpdata"
        ) from None
    data = system.data
    if "spins" not in data:
        raise ValueError(f"{path}: format {format!r} brings no moments from this file")
    names = np.array(data["atom_names"])[data["atom_types"]]
    numbers = np.array([atomic_numbers[name] for name in names])
    keys = {"positions": "coords", "cell": "cells", "spins": "spins"} | {
        name: quantity.dpdata_name
        for name, quantity in label_table().items()
        if quantity.dpdata_name is not None
    }
    pbc = np.full(3, not data.get("nopbc", False))
    return [
        Frame(
            numbers=numbers,
            pbc=pbc,
            **{ours: data[key][k] for ours, key in keys.items() if key in data},
        )
        for k in range(len(data["coords"]))
    ]


def _checked_type_map(
    dataset: Dataset, type_map: Sequence[str] | None
) -> tuple[str, ...]:
    if type_map is None:
        return dataset.elements
    missing = set(dataset.elements) - set(type_map)
    if missing:
        raise ValueError(
            f"type_map {list(type_map)} lacks {', '.join(sorted(missing))}, which "
            "the data contain"
        )
    if len(set(type_map)) < len(type_map):
        raise ValueError(f"type_map {list(type_map)} names an element twice")
    return tuple(type_map)


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder next to ``path``, renamed to it when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shelter = Path(
        tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    )
    try:
        folder = shelter / path.name
        folder.mkdir()
        yield folder
        os.replace(folder, path)
    finally:
        shutil.rmtree(shelter, ignore_errors=True)
