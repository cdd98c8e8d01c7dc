"""HDF5 trajectories for long runs: compact, exact, all replicas in one file.

Per frame: ``time`` (frames,), fs; ``cell`` (frames, B, 3, 3), A; ``positions``, A,
``spins``, mu_B, ``momenta``, ASE units, ``forces``, eV/A, ``magnetic_forces``,
eV/mu_B, each (frames, N, 3) with the atoms of all replicas one after the other;
``energies``, eV, (frames, N); ``energy``, eV, (frames, B); ``stress``, ``virial``
and deviations of committees where there are any; ``crc32``, the checksums of all these
(by name) for each replica, (frames, quantities, B). Once: ``numbers`` and ``masses``,
amu, (N,), ``structure`` (N,), the replica of an atom, and ``pbc`` (B, 3). Every
dataset has its unit as an attribute.

A file is open only while frames go into it, and then in the mode of HDF5 that keeps
it whole for readers at every moment (single writer, multiple readers): a run may be
killed at any time. After a kill at such a moment other programs must open it with
``h5py.File(path, "r", swmr=True)`` until the run has been resumed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses
from ase.io.formats import string2index

from ..._files import locked
from ...quantities import QUANTITIES, results_unknown_to_ase
from ...spins import get_spins, set_spins
from . import _hdf5_file as hdf5_file
from ._hdf5_file import BLOCK, Block
from ._writers import Snapshots, Writer

#: Datasets per atom besides the quantities.
_PER_ATOM = ("positions", "spins", "momenta")

#: Bytes that are read at once where frames are taken one by one: they take ten times
#: more as Atoms.
_READ_BLOCK = BLOCK // 16

#: Results that follow from the others.
_DERIVED = ("free_energy", "torques")


class HDF5Trajectory(Writer):
    """Frames of all replicas in one file, laid out as this module describes.

    Up to 4 MB of frames are buffered, until a checkpoint is written or a run ends.

    Parameters
    ----------
    path : Path
    source : Snapshots
    append : bool
        Continue an existing file of the same atoms.

    Raises
    ------
    ImportError
        If h5py is missing.
    ValueError
        If the file to continue is none of these, or of other atoms.
    """

    def __init__(self, path: Path, source: Snapshots, append: bool) -> None:
        super().__init__(path)
        self._source = source
        hdf5_file.h5py_module()
        self._buffer: list[Block] = []
        self._frames = 0
        if append and path.exists():
            with locked(path):
                self._frames = _frames_to_continue(path, source.images)

    def write(self) -> None:
        """Append the present state of every replica."""
        self._buffer.append(_record(self._source.frames()))
        size = sum(values.nbytes for values in self._buffer[0].values())
        if not self._frames or len(self._buffer) * size >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write the buffered frames.

        Raises
        ------
        OSError
            If they do not fit on the disk; the file stays as it was.
        """
        if not self._buffer:
            return
        if not self._frames:
            shapes = {name: values.shape for name, values in self._buffer[0].items()}
            hdf5_file.create(self.path, _constants(self._source.images), shapes)
        block = {
            name: np.stack([r[name] for r in self._buffer]) for name in self._buffer[0]
        }
        hdf5_file.append(self.path, block, self._frames)
        self._frames += len(self._buffer)
        self._buffer.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of frames in the file, after flushing the buffer."""
        self.flush()
        return {"frames": self._frames}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Cut the file back to where it was."""
        self._buffer.clear()
        self._frames = state["frames"]
        if self._frames:
            hdf5_file.truncate(self.path, self._frames)


@overload
def read_hdf5(
    path: str | os.PathLike[str], index: int, *, replica: int = 0
) -> Atoms: ...


@overload
def read_hdf5(
    path: str | os.PathLike[str], index: str | slice = ":", *, replica: int = 0
) -> list[Atoms]: ...


def read_hdf5(
    path: str | os.PathLike[str], index: int | str | slice = ":", *, replica: int = 0
) -> Atoms | list[Atoms]:
    """Read frames of an HDF5 trajectory, of a finished, running or killed run.

    Parameters
    ----------
    path : path
    index : int, str or slice
        Which frames, as in :func:`ase.io.read`; all by default.
    replica : int
        Which structure.

    Returns
    -------
    Atoms or list of Atoms
        With moments, momenta, the time in ``info["time_fs"]`` and results in a
        SinglePointCalculator, as :func:`deepspin_ase.io.read_extxyz` gives them,
        but with all digits.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or something else, or has no such frame or replica.
    ImportError
        If h5py is missing.
    """
    path = Path(path)
    chosen: Any = string2index(index) if isinstance(index, str) else index
    with hdf5_file.open_for_reading(path) as file, hdf5_file.readable_errors(path):
        rows = range(hdf5_file.count_frames(file))
        _check_replica(path, file, replica)
        found = rows[chosen] if isinstance(chosen, slice) else _one(rows, chosen)
        if not found:
            raise ValueError(
                f"{path} has no frame at index {index!r}; it has {len(rows)}"
            )
        frames = _Reader(file, replica, hdf5_file.time_dependent_datasets(file)).frames(
            found
        )
    return frames if isinstance(chosen, slice) else frames[0]


#: The name by which ASE looks for the reader of the format ``deepspin-hdf5``.
read_deepspin_hdf5 = read_hdf5


def iread_hdf5(
    path: str | os.PathLike[str], *, replica: int = 0, results: bool = True
) -> Iterator[Atoms]:
    """Yield the frames of an HDF5 trajectory, with a few megabytes of them in memory.

    Parameters
    ----------
    path : path
    replica : int
        Which structure.
    results : bool
        Give results per atom too; without, half of the file is read.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As :func:`read_hdf5`; a file without frames yields none.
    """
    path = Path(path)
    with hdf5_file.open_for_reading(path) as file, hdf5_file.readable_errors(path):
        _check_replica(path, file, replica)
        names = [
            name
            for name in hdf5_file.time_dependent_datasets(file)
            if results or not _is_quantity_per_atom(name)
        ]
        sizes = [int(np.prod(file[n].shape[1:], dtype=int)) for n in names]
        step = max(_READ_BLOCK // (8 * sum(sizes)), 1)
        reader = _Reader(file, replica, names)
        n_frames = hdf5_file.count_frames(file)
        for start in range(0, n_frames, step):
            rows = range(start, min(start + step, n_frames))
            yield from reader.frames(rows)


def _check_replica(path: Path, file: Any, replica: int) -> None:
    n_replicas = len(file["pbc"])
    if not 0 <= replica < n_replicas:
        raise ValueError(
            f"{path} has {n_replicas} replicas, counted from 0; got {replica}"
        )


def _one(rows: range, number: int) -> range:
    """Return the row of that number, from the end if negative; empty if none."""
    return rows[number:][:1] if -len(rows) <= number else range(0)


class _Reader:
    """Reads frames of one replica, with the datasets ``names``."""

    def __init__(self, file: Any, replica: int, names: Sequence[str]) -> None:
        atoms_of = np.flatnonzero(file["structure"][:] == replica)
        own = slice(int(atoms_of[0]), int(atoms_of[-1]) + 1)
        self._datasets = {name: file[name] for name in _checked_names(names)}
        self._parts: dict[str, tuple[Any, ...]] = {
            name: (own if _is_per_atom(name) else replica,) for name in names
        }
        self._parts["time"] = ()
        self._path, self._replica = Path(file.filename), replica
        self._sums = file.get(hdf5_file.CHECKSUMS)
        self._order = _checked_names(hdf5_file.time_dependent_datasets(file))
        numbers, masses = file["numbers"][own], file["masses"][own]
        pbc = file["pbc"][replica]
        self._first = Atoms(numbers=numbers, cell=np.eye(3), pbc=pbc)
        if not np.array_equal(masses, atomic_masses[numbers]):
            self._first.set_masses(masses)

    def frames(self, rows: range) -> list[Atoms]:
        """Return the frames at ``rows``."""
        ascending = rows if rows.step > 0 else rows[::-1]
        wanted = slice(ascending.start, ascending.stop, ascending.step)
        columns: Block = {
            name: dataset[(wanted, *self._parts[name])][:: 1 if rows.step > 0 else -1]
            for name, dataset in self._datasets.items()
        }
        if self._sums is not None:
            sums = self._sums[wanted, :, self._replica][:: 1 if rows.step > 0 else -1]
            for name, values in columns.items():
                self._check(rows, name, values, sums[:, self._order.index(name)])
        return [
            _frame(self._first.copy(), {name: x[k] for name, x in columns.items()})
            for k in range(len(rows))
        ]

    def _check(
        self, rows: range, name: str, values: np.ndarray, sums: np.ndarray
    ) -> None:
        for row, value, expected in zip(rows, values, sums, strict=True):
            if _checksum(value) != expected:
                raise ValueError(
                    f"{self._path} is damaged: the checksum of {name} in frame {row} "
                    "is wrong; other frames can be read by their index"
                )


def _frame(atoms: Atoms, values: Block) -> Atoms:
    """Fill a frame."""
    atoms.info["time_fs"] = float(values.pop("time"))
    atoms.cell[:] = values.pop("cell")
    atoms.positions[:] = values.pop("positions")
    set_spins(atoms, values.pop("spins"))
    atoms.arrays["momenta"] = values.pop("momenta")
    results: dict[str, Any] = {
        name: value if np.ndim(value) else float(value)
        for name, value in values.items()
        if np.isfinite(value).all()
    }
    results["free_energy"] = results["energy"]
    if "magnetic_forces" in results:
        results["torques"] = np.cross(get_spins(atoms), results["magnetic_forces"])
    extra = results_unknown_to_ase(per_atom=True)
    atoms.arrays.update({k: results[k].copy() for k in extra if k in results})
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results.update(results)
    return atoms


def _constants(images: Sequence[Atoms]) -> Block:
    return {
        "numbers": np.concatenate([image.numbers for image in images]),
        "masses": np.concatenate([image.get_masses() for image in images]),
        "structure": np.repeat(np.arange(len(images)), [len(i) for i in images]),
        "pbc": np.array([image.pbc for image in images]),
    }


def _frames_to_continue(path: Path, images: Sequence[Atoms]) -> int:
    """Return the number of frames in a file of these atoms, and make it continuable."""
    with hdf5_file.open_for_reading(path) as file:
        for name, values in _constants(images).items():
            if not np.array_equal(file[name][:], values):
                raise ValueError(
                    f"{path} cannot be continued: it holds other atoms ({name} differ)"
                )
        n_frames = hdf5_file.count_frames(file)
    hdf5_file.truncate(path, n_frames)
    return n_frames


def _record(frames: Sequence[Atoms]) -> Block:
    """Return one frame of every dataset."""
    record = {
        "time": np.array(frames[0].info["time_fs"]),
        "cell": np.stack([frame.cell.array for frame in frames]),
        "positions": np.concatenate([frame.positions for frame in frames]),
        "spins": np.concatenate([get_spins(frame) for frame in frames]),
        "momenta": np.concatenate([frame.get_momenta() for frame in frames]),
    }
    results = [frame.calc.results for frame in frames]
    for name in sorted({name for found in results for name in found}):
        if name not in _DERIVED:
            parts = [found.get(name, np.full(6, np.nan)) for found in results]
            join = np.concatenate if _is_per_atom(name) else np.stack
            record[name] = join([np.asarray(part, dtype=float) for part in parts])
    record[hdf5_file.CHECKSUMS] = _checksums(record, [len(frame) for frame in frames])
    return record


def _checksums(record: Block, sizes: Sequence[int]) -> np.ndarray:
    """Return the checksums of a frame, (quantities, B)."""
    ends = np.cumsum(sizes)
    found = []
    for name in _checked_names(record):
        if name == "time":
            parts = [record[name]] * len(sizes)
        elif _is_per_atom(name):
            parts = np.split(record[name], ends[:-1])
        else:
            parts = list(record[name])
        found.append([_checksum(part) for part in parts])
    return np.array(found, dtype=float)


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(np.asarray(values, dtype=float).tobytes())


def _checked_names(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name != hdf5_file.CHECKSUMS)


def _is_per_atom(name: str) -> bool:
    return name in _PER_ATOM or _is_quantity_per_atom(name)


def _is_quantity_per_atom(name: str) -> bool:
    base = name.removesuffix("_deviation")
    return base in QUANTITIES and QUANTITIES[base].per_atom
