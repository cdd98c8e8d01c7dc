"""Functions of time of fields, stresses and strains, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .._validate import as_direction, finite, positive

#: A number or numbers: what varies in time.
Numbers: TypeAlias = float | Sequence[float] | np.ndarray

#: Waveforms by name.
WAVEFORMS: dict[str, type[Waveform]] = {}


@dataclass(frozen=True)
class Waveform:
    """A function of the time in fs, in files known by its name.

    A subclass is a frozen dataclass of plain data with a ``__call__``: checkpoints hold
    it, as run files do (``{waveform: pulse, amplitude: [0, 0, 5], ...}``).
    """

    #: Its name in files.
    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Register the waveform by its name."""
        WAVEFORMS[cls.name] = cls

    def __call__(self, time_fs: float) -> np.ndarray:
        """Return the value at a time."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Return name and settings, from which :func:`as_waveform` makes it again."""
        return {"waveform": self.name} | asdict(self)


@dataclass(frozen=True)
class Ramp(Waveform):
    """From ``start`` to ``end`` at a constant rate, constant before and after.

    Parameters
    ----------
    start, end : float or sequence
        In the unit of what they drive.
    duration_fs : float
    begin_fs : float
    """

    name = "ramp"

    start: Numbers
    end: Numbers
    duration_fs: float
    begin_fs: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for values that do not fit."""
        first, last = _values("start", self.start), _values("end", self.end)
        if first.shape != last.shape:
            raise ValueError(
                f"start and end of a ramp have as many numbers, got {self.start!r} and "
                f"{self.end!r}"
            )
        positive("duration_fs", self.duration_fs)
        finite("begin_fs", self.begin_fs)

    def __call__(self, time_fs: float) -> np.ndarray:
        """Return the value at a time."""
        done = min(max((time_fs - self.begin_fs) / self.duration_fs, 0.0), 1.0)
        start, end = np.asarray(self.start, float), np.asarray(self.end, float)
        return np.asarray((1.0 - done) * start + done * end)


@dataclass(frozen=True)
class Oscillation(Waveform):
    """offset + amplitude cos(2 pi frequency t + phase).

    Parameters
    ----------
    amplitude, offset : float or sequence
        In the unit of what they drive.
    frequency_THz : float
    phase_deg : float
    """

    name = "oscillation"

    amplitude: Numbers
    frequency_THz: float
    phase_deg: float = 0.0
    offset: Numbers = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for values that do not fit."""
        _values("amplitude", self.amplitude)
        _values("offset", self.offset)
        finite("frequency_THz", self.frequency_THz)
        finite("phase_deg", self.phase_deg)

    def __call__(self, time_fs: float) -> np.ndarray:
        """Return the value at a time."""
        phase = 2e-3 * math.pi * self.frequency_THz * time_fs
        wave = math.cos(phase + math.radians(self.phase_deg))
        return np.asarray(self.offset, float) + wave * np.asarray(self.amplitude, float)


@dataclass(frozen=True)
class RotatingVector(Waveform):
    """A vector that rotates about an axis, right-handed where the frequency is > 0.

    Parameters
    ----------
    amplitude : float
        Length of the vector that rotates.
    frequency_THz : float
    axis : (3,) sequence
    start : (3,) sequence
        Its part across the axis is the direction at time zero.
    offset : (3,) sequence
        A constant vector to be added.
    """

    name = "rotation"

    amplitude: float
    frequency_THz: float
    axis: Sequence[float] = (0.0, 0.0, 1.0)
    start: Sequence[float] = (1.0, 0.0, 0.0)
    offset: Sequence[float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Raise ValueError for values that do not fit."""
        finite("amplitude", self.amplitude)
        finite("frequency_THz", self.frequency_THz)
        _values("offset", self.offset)
        if np.linalg.norm(np.cross(self._axis, as_direction("start", self.start))) == 0:
            raise ValueError(
                f"start {self.start!r} lies along the axis {self.axis!r} of a rotation"
            )

    @property
    def _axis(self) -> np.ndarray:
        return np.array(as_direction("axis", self.axis))

    def __call__(self, time_fs: float) -> np.ndarray:
        """Return the vector at a time."""
        second = np.cross(self._axis, as_direction("start", self.start))
        second /= np.linalg.norm(second)
        phase = 2e-3 * math.pi * self.frequency_THz * time_fs
        first = np.cross(second, self._axis)
        turned = math.cos(phase) * first + math.sin(phase) * second
        return np.asarray(self.offset, float) + self.amplitude * turned


@dataclass(frozen=True)
class Pulse(Waveform):
    """offset + amplitude exp(-4 ln 2 (t - center)^2/width^2) cos(2 pi f (t - center)).

    Parameters
    ----------
    amplitude, offset : float or sequence
        In the unit of what they drive.
    center_fs : float
    width_fs : float
        Full width at half maximum of the envelope.
    frequency_THz : float
        Zero for the envelope alone.
    phase_deg : float
        Of the wave at the center.
    """

    name = "pulse"

    amplitude: Numbers
    center_fs: float
    width_fs: float
    frequency_THz: float = 0.0
    phase_deg: float = 0.0
    offset: Numbers = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for values that do not fit."""
        _values("amplitude", self.amplitude)
        _values("offset", self.offset)
        positive("width_fs", self.width_fs)
        for name in ("center_fs", "frequency_THz", "phase_deg"):
            finite(name, getattr(self, name))

    def __call__(self, time_fs: float) -> np.ndarray:
        """Return the value at a time."""
        away = time_fs - self.center_fs
        envelope = math.exp(-4.0 * math.log(2.0) * (away / self.width_fs) ** 2)
        phase = 2e-3 * math.pi * self.frequency_THz * away
        wave = envelope * math.cos(phase + math.radians(self.phase_deg))
        return np.asarray(self.offset, float) + wave * np.asarray(self.amplitude, float)


def as_waveform(value: Any) -> Any:
    """Return a waveform from its name and settings; anything else as it is.

    Raises
    ------
    ValueError
        If the name or a setting is unknown, or a setting is missing.
    """
    if not isinstance(value, Mapping) or "waveform" not in value:
        return value
    settings = dict(value)
    name = settings.pop("waveform")
    if name not in WAVEFORMS:
        raise ValueError(
            f"unknown waveform {name!r}; choose from {', '.join(WAVEFORMS)}"
        )
    try:
        return WAVEFORMS[name](**settings)
    except TypeError as error:
        raise ValueError(f"the waveform {name!r} does not fit: {error}") from None


def value_at(value: Numbers | Callable[[float], Numbers], time_fs: float) -> np.ndarray:
    """Return a constant, or the value of a function at a time, as an array."""
    return np.asarray(value(time_fs) if callable(value) else value, dtype=float)


def _values(name: str, value: Any) -> np.ndarray:
    """Return a number or numbers as an array; raise unless they are finite."""
    try:
        found = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        found = np.array(np.nan)
    if found.ndim > 1 or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a finite number or numbers, got {value!r}")
    return found
