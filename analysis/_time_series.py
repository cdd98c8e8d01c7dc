"""Out-of-core time series of trajectories and their periodograms.

A spectrum needs each column at all times, while frames come one after the other with
all columns. Series larger than memory are transposed via a scratch file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TypedDict

import numpy as np
from ase import Atoms, units
from scipy.fft import fft
from scipy.signal import get_window
from typing_extensions import Self

from .._progress import bar
from .._validate import positive
from ..units import HBAR
from ._trajectories import Frames, frames_of

#: h in meV fs: energy of a frequency.
PLANCK_MEV_FS = 2e3 * np.pi * HBAR / units.fs

#: Copies of a chunk of columns that exist at once while it is transformed.
_COPIES = 8

#: Frames that a spectrum needs at least.
_MIN_FRAMES = 8

#: Times between frames may differ by this part of their mean.
_EVEN = 1e-4


class SpectrumOptions(TypedDict, total=False):
    """Options of all spectra.

    Attributes
    ----------
    timestep_fs : float
        Time between frames; by default from their ``info["time_fs"]``.
    window : str
        Of :func:`scipy.signal.get_window`: ``"hann"`` by default, ``"boxcar"`` for
        none.
    segment : int
        Average the spectra of segments of so many frames, which overlap by half:
        smoother, of a resolution of h / (segment x timestep). All frames in one
        segment by default.
    max_memory_GB : float
        What may be kept of the frames in memory, 1 by default; beyond it a scratch
        file is used.
    replica : int
        Which structure of an HDF5 trajectory with several.
    """

    timestep_fs: float
    window: str
    segment: int
    max_memory_GB: float
    replica: int


class TimeSeries:
    """Rows that are appended frame by frame, and read back by column.

    Parameters
    ----------
    max_memory_GB : float
        Rows, and chunks of columns as they are transformed, take no more than this;
        the scratch file stands where :mod:`tempfile` puts it and has no name.

    Raises
    ------
    ValueError
        If the limit is not positive.
    """

    def __init__(self, max_memory_GB: float) -> None:
        self._limit = positive("max_memory_GB", max_memory_GB) * 1e9
        self._rows: list[np.ndarray] = []
        self._lengths: list[int] = []
        self._file: IO[bytes] | None = None

    @property
    def n_columns(self) -> int:
        """Number of columns C."""
        return self._n_columns

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(self._lengths) + len(self._rows)

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the scratch file."""
        if self._file is not None:
            self._file.close()

    def append(self, row: np.ndarray) -> None:
        """Append one frame's numbers (C,); the array must not be changed later."""
        self._n_columns, self._dtype = len(row), row.dtype
        self._rows.append(row)
        # Stacking and transposing take two more copies of the rows.
        if 4.0 * len(self._rows) * row.nbytes >= self._limit:
            self._to_file()

    def chunks(self, group: int = 1) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield columns (slice) with their numbers (c, F), c a multiple of ``group``.

        As many at a time as the limit allows, one group at least.
        """
        if self._file is not None and self._rows:
            self._to_file()
        n_columns, dtype = self._n_columns, self._dtype
        size = len(self) * dtype.itemsize * group * _COPIES
        step = group * max(1, int(self._limit / size))
        for start in range(0, n_columns, step):
            columns = slice(start, min(start + step, n_columns))
            yield columns, self._read(columns)

    def _to_file(self) -> None:
        block = np.array(self._rows)
        if self._file is None:
            self._file = tempfile.TemporaryFile()
        self._rows.clear()
        self._file.write(np.ascontiguousarray(block.T).data)
        self._lengths.append(len(block))

    def _read(self, columns: slice) -> np.ndarray:
        if self._file is None:
            return np.stack([row[columns] for row in self._rows], axis=1)
        count = columns.stop - columns.start
        found = np.empty((count, len(self)), self._dtype)
        offset = column = 0
        for length in self._lengths:
            width = length * self._dtype.itemsize
            self._file.seek(offset + columns.start * width)
            part = np.frombuffer(self._file.read(count * width), self._dtype)
            found[:, column : column + length] = part.reshape(count, length)
            offset += self._n_columns * width
            column += length
        return found


class Periodogram:
    """Power spectra of columns by windowed segments (Welch).

    Segments overlap by half; their squared transforms are averaged (P. D. Welch,
    IEEE Trans. Audio Electroacoust. 15, 70 (1967), doi:10.1109/TAU.1967.1161901).

    Parameters
    ----------
    n_frames : int
        Length F of the columns.
    timestep_fs : float
        Between frames.
    options : SpectrumOptions
        Window and segment.

    Attributes
    ----------
    energies_meV : (W,) array
        Of both signs, ascending; h over twice the time step is the largest.

    Raises
    ------
    ValueError
        If there are fewer than eight frames in a segment, or more than there are.
    """

    def __init__(
        self, n_frames: int, timestep_fs: float, options: SpectrumOptions
    ) -> None:
        length = int(options.get("segment", n_frames))
        if not _MIN_FRAMES <= length <= n_frames:
            raise ValueError(
                f"a spectrum needs segments of {_MIN_FRAMES} to all {n_frames} frames, "
                f"got {length}; is the trajectory too short?"
            )
        step = max(length // 2, 1)
        self._starts = range(0, n_frames - length + 1, step)
        self._shape = get_window(options.get("window", "hann"), length)
        # exp(+i omega t): a wave exp(i (q.r - omega t)) is found at q and +omega.
        frequencies = -np.fft.fftfreq(length, timestep_fs)
        self._order = np.argsort(frequencies, kind="stable")
        self.energies_meV = PLANCK_MEV_FS * frequencies[self._order]
        density = timestep_fs / (self._shape**2).sum() / PLANCK_MEV_FS
        self._scale = np.sqrt(density / len(self._starts))

    def transforms(self, columns: np.ndarray) -> Iterator[np.ndarray]:
        """Yield (c, W) arrays for columns (c, F), one for every segment.

        The sum of their squares is the spectral density per meV of the deviations
        from the mean: over all energies it integrates to the variance.
        """
        mean = columns.mean(axis=1, keepdims=True)
        for start in self._starts:
            part = columns[:, start : start + len(self._shape)] - mean
            part *= self._scale * self._shape
            yield fft(part, axis=1)[:, self._order]


@contextmanager
def collect_series(
    source: Frames,
    row_of: Callable[[Atoms], np.ndarray | None],
    options: SpectrumOptions,
) -> Iterator[tuple[TimeSeries, float]]:
    """Yield the series of ``row_of(frame)``, and the time between frames, fs.

    Frames of which it makes None are left out, at the beginning.

    Raises
    ------
    ValueError
        If an option is wrong, or times are missing or uneven.
    """
    unknown = sorted(set(options) - set(SpectrumOptions.__annotations__))
    if unknown:
        raise TypeError(f"unknown options of a spectrum: {', '.join(unknown)}")
    times: list[float] = []
    frames = frames_of(source, replica=options.get("replica", 0))
    with TimeSeries(options.get("max_memory_GB", 1.0)) as series:
        for frame in bar(frames, desc="spectrum", unit=" frames"):
            row = row_of(frame)
            if row is not None:
                series.append(row)
                times.append(time_of(frame))
        yield series, _time_step(times, options.get("timestep_fs"))


def _time_step(times_fs: list[float], given: float | None) -> float:
    if given is not None:
        return positive("timestep_fs", given)
    steps = np.diff(times_fs)
    if not np.isfinite(steps).all():
        raise ValueError(
            "the frames have no time (info['time_fs']); give timestep_fs, "
            "the time between frames"
        )
    if len(steps) < _MIN_FRAMES - 1:
        raise ValueError(
            f"a spectrum needs {_MIN_FRAMES} frames at least, got {len(times_fs)}"
        )
    mean = float(steps.mean())
    if not mean > 0 or np.abs(steps - mean).max() > _EVEN * mean:
        raise ValueError(
            f"the frames are not equally spaced in time: {steps.min():g} to "
            f"{steps.max():g} fs apart"
        )
    return mean


def time_of(frame: Atoms) -> float:
    """Return the time of a frame, fs; NaN where it has none."""
    return float(frame.info.get("time_fs", np.nan))


def last_energy(energies: np.ndarray, density: np.ndarray) -> float:
    """Return a little more than the highest energy at which a density matters."""
    seen = np.flatnonzero(density > 1e-3 * density.max())
    return min(1.1 * float(energies[seen[-1]]), float(energies[-1]))
