"""Crash-safe, append-only HDF5 files."""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..._extras import require
from ..._files import atomic_write, cannot_write
from ...quantities import QUANTITIES
from ._writers import too_short

FORMAT = "deepspin-ase trajectory"
VERSION = 1

#: Bytes that are written at once, and of one chunk of a dataset.
BLOCK, CHUNK = 2**22, 2**16

#: Bytes that a file may need besides its chunks when frames are appended, and as a
#: fraction of its size: the index of chunks grows in steps.
_OVERHEAD, _OVERHEAD_PART = 2**18, 2**-14

#: Format of HDF5 1.10 and later; older ones have no safe appending.
_VERSIONS = ("v110", "v110")

#: Datasets by name.
Block = dict[str, np.ndarray]

#: Dataset of checksums (CRC-32) of every quantity (those besides, by name) of every
#: replica, (frames, quantities, B), and attribute of the file, of what is constant.
CHECKSUMS = "crc32"

#: How often something is read that a writer may just be changing: up to 0.1 s.
_ATTEMPTS = 26

#: Datasets that hold one value for all frames.
CONSTANT = ("numbers", "masses", "structure", "pbc")

#: Units of what is not in the table of quantities.
_UNITS = {
    "time": "fs",
    "positions": "Angstrom",
    "cell": "Angstrom",
    "spins": "mu_B",
    "momenta": "sqrt(amu eV)",
    "stress": "eV/Angstrom^3",
    "numbers": "1",
    "masses": "amu",
    "structure": "1",
    "pbc": "1",
    CHECKSUMS: "1",
}


def h5py_module() -> Any:
    """Return h5py.

    Raises
    ------
    ImportError
        If it is missing.
    """
    return require("h5py", "HDF5 trajectories")


def create(path: Path, constants: Block, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write a file without frames, whole or not at all."""
    # Built in memory: a full disk must never be met by HDF5 itself, which then
    # leaves damaged files.
    with h5py_module().File(
        path, "w", driver="core", backing_store=False, libver=_VERSIONS
    ) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs[CHECKSUMS] = _checksum(constants)
        for name, values in constants.items():
            file[name] = values
        for name, shape in shapes.items():
            size = 8 * int(np.prod(shape, dtype=int))
            rows = min(max(CHUNK // max(size, 1), 1), 1024)
            file.create_dataset(
                name,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(rows, *shape),
                dtype="f8",
            )
        for name in (*constants, *shapes):
            file[name].attrs["unit"] = _unit(name.removesuffix("_deviation"))
        file.flush()
        image = file.id.get_file_image()
    with atomic_write(path) as temporary:
        temporary.write_bytes(image)


def _unit(name: str) -> str:
    if name in QUANTITIES:
        return QUANTITIES[name].unit.replace("A", "Angstrom")
    return _UNITS[name]


def append(path: Path, block: Block, start: int) -> None:
    """Write frames from number ``start`` on, so that a kill leaves the file whole."""
    with open_for_reading(path) as file:
        if CHECKSUMS not in file:  # of an earlier release
            block = {name: x for name, x in block.items() if name != CHECKSUMS}
        stop = start + len(block["time"])
        needed = sum(_growth(file[name], start, stop) for name in block)
    needed += _OVERHEAD + int(_OVERHEAD_PART * path.stat().st_size)
    size = _reserve(path, needed)
    try:
        file = _open_for_appending(path)
    except OSError as error:
        os.truncate(path, size)
        raise cannot_write(path, error) from error
    with file:
        # Time goes last: its length is the number of complete frames.
        for name in sorted(block, key=lambda name: name == "time"):
            dataset = file[name]
            dataset.resize(stop, axis=0)
            dataset[start:stop] = block[name]
            dataset.flush()


def _open_for_appending(path: Path) -> Any:
    """Open a file as its single writer next to readers, by one mark in its head.

    ``h5py.File(path, "r+")`` and ``swmr_mode = True`` set two marks one after the
    other; a file left with the first alone cannot be opened any more.
    """
    h5py = h5py_module()
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_file_locking(False, True)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    flags = h5py.h5f.ACC_RDWR | h5py.h5f.ACC_SWMR_WRITE
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


def _growth(dataset: Any, start: int, stop: int) -> int:
    """Return the bytes of the chunks that frames start...stop lie in."""
    rows = dataset.chunks[0]
    n_chunks = -(-stop // rows) - start // rows
    return int(n_chunks * np.prod(dataset.chunks, dtype=int) * 8)


def _reserve(path: Path, n_bytes: int) -> int:
    """Lengthen a file, which HDF5 cuts to what it uses; return its present size.

    Raises
    ------
    OSError
        If the disk is full; the file stays as it was.
    """
    size = path.stat().st_size
    try:
        with path.open("ab", buffering=0) as file:
            left = n_bytes
            while left:
                left -= file.write(bytes(min(left, BLOCK)))
    except OSError as error:
        os.truncate(path, size)
        raise cannot_write(path, error) from error
    return size


@contextmanager
def open_for_reading(path: Path) -> Iterator[Any]:
    """Open a trajectory for reading, also while it is written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with readable_errors(path):
        closed = _is_closed(path)
        file = (
            h5py_module().File(path, "r", locking=False)
            if closed
            else _open_beside_writer(path)
        )
    with file:
        with readable_errors(path):
            kind, version = file.attrs.get("format"), file.attrs.get("version")
        if kind != FORMAT:
            raise ValueError(f"{path} is not a trajectory of deepspin-ase")
        if version != VERSION:
            raise ValueError(
                f"{path} has version {version}; this release reads version {VERSION}"
            )
        _check_layout(path, file)
        yield file


def _check_layout(path: Path, file: Any) -> None:
    """Raise ValueError unless all datasets are there and fit to each other."""
    with readable_errors(path):
        constants = {name: file[name][:] for name in CONSTANT}
        n_atoms, n_replicas = len(constants["numbers"]), len(constants["pbc"])
        fits = {
            "masses": constants["masses"].shape == (n_atoms,),
            "structure": constants["structure"].shape == (n_atoms,)
            and np.array_equal(np.unique(constants["structure"]), range(n_replicas)),
            "pbc": constants["pbc"].shape == (n_replicas, 3),
            "constants": file.attrs.get(CHECKSUMS) in (None, _checksum(constants)),
            "time": file["time"].ndim == 1,
        }
    for name, fine in fits.items():
        if not fine:
            raise ValueError(f"{path} is damaged: {name} is not what was written")


def _checksum(constants: Block) -> int:
    return zlib.crc32(b"".join(constants[name].tobytes() for name in CONSTANT))


def _open_beside_writer(path: Path) -> Any:
    """Open a file that is being written, or was when its writer was killed.

    HDF5 then reads what has a wrong checksum again, each time after waiting twice as
    long; by default 100 times, which does not end where the file is damaged.
    """
    h5py = h5py_module()
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_file_locking(False, True)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    library = ctypes.CDLL(h5py.h5p.__file__)  # h5py has no name for the setting
    if hasattr(library, "H5Pset_metadata_read_attempts"):
        library.H5Pset_metadata_read_attempts(
            ctypes.c_int64(access.id), ctypes.c_uint(_ATTEMPTS)
        )
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Raise the errors of h5py while it reads as ValueError."""
    try:
        yield
    except (OSError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged or not an HDF5 trajectory ({error}); frames before the "
            "damage can be read by their index"
        ) from error


def count_frames(file: Any) -> int:
    """Return the number of complete frames."""
    return min(file[name].shape[0] for name in time_dependent_datasets(file))


def time_dependent_datasets(file: Any) -> list[str]:
    """Return the names of the datasets that grow with the frames."""
    return [name for name in file if name not in CONSTANT]


def truncate(path: Path, n_frames: int) -> None:
    """Truncate a file to ``n_frames``, and repair one that was left open.

    Raises
    ------
    ValueError
        If it is missing, damaged, or shorter than that.
    """
    if not path.exists():
        raise too_short(path)
    with open_for_reading(path) as file:
        names = time_dependent_datasets(file)
        lengths = {file[name].shape[0] for name in names}
        if min(lengths) < n_frames:
            raise too_short(path)
        if lengths == {n_frames} and _is_closed(path):
            return
        # A copy: to shorten a file in place is not safe.
        with atomic_write(path) as temporary:
            shapes = {name: file[name].shape[1:] for name in names}
            create(temporary, {name: file[name][:] for name in CONSTANT}, shapes)
            size = 8 * sum(int(np.prod(shape, dtype=int)) for shape in shapes.values())
            step = max(BLOCK // size, 1)
            for start in range(0, n_frames, step):
                stop = min(start + step, n_frames)
                with readable_errors(path):
                    block = {name: file[name][start:stop] for name in names}
                append(temporary, block, start)


def _is_closed(path: Path) -> bool:
    """Return whether the last program that wrote the file also closed it.

    Byte 11 of the head holds the marks of a writer (HDF5 File Format Specification
    3.0, superblock version 3).
    """
    with path.open("rb") as file:
        return file.read(12)[11:] == b"\0"
