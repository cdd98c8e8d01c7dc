"""Reading and writing of datasets in every format."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from .._extras import require
from .._files import cannot_write, make_folder, reading, uncompressed
from .._validate import path_first
from ..io import read_extxyz, write_extxyz
from ..io._columns import NOT_LABELS, unused_columns
from ..io._structure import read_ase
from ..quantities import label_table
from . import _npy
from ._cfg import read_cfg
from ._frames import Dataset, Frame
from ._hdf5 import is_hdf5, unpacked
from .dft import READERS

logger = logging.getLogger(__name__)

#: Formats that are written.
FORMATS = ("deepmd/npy", "deepmd/npy/mixed", "extxyz")

#: Formats that are read here; dpdata reads others.
READ_FORMATS = (*FORMATS, "deepmd/hdf5", "ase", "mlip/cfg", *READERS)

#: Files by their endings.
_ENDINGS = {".xyz": "extxyz", ".extxyz": "extxyz", ".cfg": "mlip/cfg", ".traj": "ase"}

#: Endings that name a file, and no folder.
_OF_FILES = frozenset(
    ".cfg .cif .csv .db .dump .h5 .hdf5 .json .lmdb .lmp .npy .npz .pt .pth .traj .txt "
    ".vasp .xml .yaml".split()
)

Columns = Mapping[str, str]

PathLike = str | os.PathLike[str]


def read_dataset(
    path: PathLike | Iterable[PathLike],
    *,
    format: str | None = None,
    type_map: Sequence[str] | None = None,
    default_type_map: Sequence[str] | None = None,
    virtual_scale: Mapping[str, float] | None = None,
    columns: Columns | None = None,
    skip_failed: bool = False,
) -> Dataset:
    """Read labelled frames from files and folders.

    Parameters
    ----------
    path : path or iterable of paths
        A file (extxyz, ASE's traj, MLIP's cfg, or an output of constrained DFT), a
        DeePMD system (a folder with ``type.raw``; or in HDF5, all of a file or
        ``"file.hdf5#/group"``, extra ``hdf5``), the folder of a run of ABACUS, GPAW
        or VASP with constrained moments, or a folder with such at any depth, which are
        read in the order of their names; files in a folder are read where there are no
        systems or runs. Text files may be compressed (gz, bz2, xz). Patterns such as
        ``"runs/*/OUTCAR"`` are completed.
    format : str, optional
        One of :data:`READ_FORMATS`, or the name of any format of dpdata (e.g.
        ``"quip/gap/xyz"``) that brings moments (extra ``dpdata``). Detected
        automatically for the former.
    type_map : sequence of str, optional
        Elements of the types 0, 1, ... of DeePMD where ``type_map.raw`` is missing
        or names no elements, and of MLIP.
    default_type_map : sequence of str, optional
        The same, such as a model has it; it may disagree with ``type_map.raw``.
    virtual_scale : {symbol: float}, optional
        Distance of the pseudo-atoms of magnetic elements per moment, A/mu_B, in data of
        DeePMD-kit's TensorFlow back end, where they are further atoms: virtual_len /
        spin_norm there.
    columns : {quantity: name}, optional
        Names of moments and labels in extxyz and traj files, where they are not those
        of this or other programs, see :func:`deepspin_ase.io.read_extxyz`.
    skip_failed : bool
        Leave out runs of DFT that are refused, each with its reason in the log, instead
        of raising.

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
    deepmd = {
        "type_map": type_map,
        "default_type_map": default_type_map,
        "virtual_scale": virtual_scale,
    }
    frames: list[Frame] = []
    for one in (found for given in paths for found in _completed(Path(given))):
        with reading(one, f"labelled data ({format or 'extxyz or DeePMD npy'})"):
            frames += _read_path(one, format, columns, deepmd, skip_failed)
    if skip_failed and not frames:
        raise ValueError(f"all runs at {', '.join(map(str, paths))} are refused")
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
    TypeError
        If it is not given a path and a dataset, in this order.
    FileExistsError
        If ``path`` is a folder that is not empty.
    OSError
        If it cannot be written.
    ValueError
        If the dataset is empty, the format is unknown or cannot hold the data, the
        path ends like a file of another kind, or ``type_map`` lacks an element.
    """
    path_first("write_dataset", path, dataset, Dataset)
    path = Path(path)
    if format is None:
        format = "extxyz" if _is_extxyz(path) else "deepmd/npy"
        if format != "extxyz" and path.suffix.lower() in _OF_FILES:
            raise ValueError(
                f"{path} has the ending of a file that is not written here: end it in "
                ".extxyz, or give the name of a folder (for DeePMD's npy)"
            )
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


def _completed(path: Path) -> list[Path]:
    """Return the paths that a pattern stands for, or the path itself."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(glob.glob(str(path), recursive=True))
    if not found:
        raise FileNotFoundError(f"no file or folder fits {path}")
    return [Path(one) for one in found]


def _read_path(
    path: Path,
    format: str | None,
    columns: Columns | None,
    deepmd: Mapping[str, Any],
    skip_failed: bool,
) -> list[Frame]:
    """Read the data at or below a path; ``deepmd`` are options of DeePMD folders."""
    type_map = deepmd["type_map"]
    if format == "deepmd/hdf5" or (format is None and is_hdf5(path)):
        with unpacked(path) as folder:
            return _read_path(folder, None, columns, deepmd, skip_failed)
    if path.suffix == ".lmdb":
        raise ValueError(
            f"{path}: LMDB data of DeePMD-kit are not read here: convert them to npy "
            "folders, HDF5 or extxyz, or train on these"
        )
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if format is not None and format not in READ_FORMATS:
        with reading(path, f"{format!r} by dpdata"):
            return _read_dpdata(path, format, type_map)
    sources = list(_sources(path, format))
    if not sources and path.is_dir():
        raise FileNotFoundError(
            f"{path} holds no data"
            + (f" of format {format}" if format else "")
            + ": no DeePMD system (a folder with type.raw and set.*), run of "
            "constrained DFT, or file of known kind"
        )
    if not sources:
        raise ValueError(
            f"{path} is not {format or 'of a known kind'}: expected "
            f"{', '.join(_ENDINGS)}, a DeePMD folder or an output of constrained DFT; "
            "name other formats by `format`"
        )
    frames: list[Frame] = []
    for kind, source in sources:
        with reading(source, kind):
            if kind in READERS:
                frames += _read_run(kind, source, skip_failed)
            elif kind == "mlip/cfg":
                frames += read_cfg(source, type_map)
            elif kind in ("extxyz", "ase"):
                frames += _read_images(source, kind, columns)
            else:
                frames += _npy.read_system(source, **deepmd)
    return frames


def _read_run(kind: str, source: Path, skip_failed: bool) -> list[Frame]:
    """Read a run of DFT; none where it is refused and that is to be logged only."""
    try:
        return READERS[kind].read(source)
    except (ValueError, FileNotFoundError) as error:
        if not skip_failed:
            raise
        logger.warning("left out: %s", error)
        return []


def _sources(path: Path, format: str | None) -> Iterator[tuple[str, Path]]:
    """Yield formats and places of the data at or below a path."""
    if path.is_file() and format in ("extxyz", "ase", "mlip/cfg"):
        yield format, path
        return
    if path.is_file() and format is None and _ending(path) in _ENDINGS:
        yield _ENDINGS[_ending(path)], path
        return
    found = []
    if path.is_dir():
        for system in _npy.find_systems(path):
            kind = "deepmd/npy/mixed" if _npy.is_mixed(system) else "deepmd/npy"
            if format in ("deepmd/npy", "deepmd/npy/mixed") and format != kind:
                raise ValueError(f"{system} is of format {kind}, not {format}")
            found.append((kind, system))
    folders = [path, *(p for p in sorted(path.rglob("*")) if p.is_dir())]
    readers = {k: r for k, r in READERS.items() if r.detected or k == format}
    for kind, reader in readers.items():
        for folder in folders:
            found += [(kind, run) for run in reader.find(folder)]
    if path.is_dir() and not found:
        for file in sorted(path.rglob("*")):
            if _ending(file) in _ENDINGS and file.is_file():
                found.append((_ENDINGS[_ending(file)], file))
    yield from (one for one in found if format in (None, one[0]))


def _ending(path: Path) -> str:
    return uncompressed(path).suffix


def _read_images(path: Path, format: str, columns: Columns | None) -> list[Frame]:
    """Read a file of Atoms, and report the columns that are not used."""
    frames, unused = [], set()
    if format == "extxyz":
        images = read_extxyz(path, columns=columns)
    else:
        images = read_ase(path, columns=columns)
    for k, atoms in enumerate(images):
        unused.update(unused_columns(atoms))
        if not atoms.has("initial_magmoms"):
            names = ", ".join(sorted(unused)) or "none"
            raise ValueError(
                f"{path}, frame {k}: there are no magnetic moments; columns that are "
                f"not used: {names}. Name the one that holds them by columns "
                "(--columns moments=NAME)"
            )
        try:
            frames.append(Frame.from_atoms(atoms))
        except ValueError as error:
            raise ValueError(f"{path}, frame {k}: {error}") from None
    if not frames:
        raise ValueError(f"{path} holds no frames")
    for name in sorted(unused):
        why = NOT_LABELS.get(name.lower())
        logger.warning(
            "%s: the column %s is not read%s", path, name, f": it {why}" if why else ""
        )
    return frames


def _read_dpdata(
    path: Path, format: str, type_map: Sequence[str] | None
) -> list[Frame]:
    """Read one labelled system of a format that only dpdata knows.

    Runs of DFT with magnetic forces are left to the readers here, which see to signs,
    units and the energy of the constraint.
    """
    dpdata = require("dpdata", f"formats such as {format!r}, not of deepspin_ase,")
    try:
        system = dpdata.LabeledSystem(
            str(path), fmt=format, type_map=list(type_map) if type_map else None
        )
    except NotImplementedError:
        raise ValueError(
            f"{path}: unknown format {format!r}; known are {', '.join(READ_FORMATS)} "
            "and the formats of dpdata"
        ) from None
    data = system.data
    if "spins" not in data:
        raise ValueError(f"{path}: format {format!r} brings no moments from this file")
    own = [name for name in READERS if name.split("/")[0] == format.split("/")[0]]
    if own and "force_mags" in data:
        raise ValueError(
            f"{path}: read it as {own[0]!r}, not {format!r} of dpdata, which takes "
            "sign, unit and energy as they are printed"
        )
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
    make_folder(path.parent)
    shelter = None
    try:
        shelter = Path(
            tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        )
        folder = shelter / path.name
        folder.mkdir()
        yield folder
        os.replace(folder, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if shelter is not None:
            shutil.rmtree(shelter, ignore_errors=True)
