"""Warnings of values that are possible, but so unusual that a unit may be wrong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import units


@dataclass(frozen=True)
class Usual:
    """What values of a quantity are usual.

    Attributes
    ----------
    least, most : float
        Sizes beyond which a warning is due; zero always is fine.
    usual : str
        The usual range, for the message.
    unit : str
        Of all these.
    scale : float
        The unit in units of the argument.
    signed : bool
        Whether negative values have a meaning.
    """

    least: float
    most: float
    usual: str
    unit: str
    scale: float = 1.0
    signed: bool = False


_FS = units.fs
_TEMPERATURE = Usual(0.0, 1e4, "up to 3000", "K")
_PRESSURE = Usual(0.0, 1e3, "up to 100", "GPa", signed=True)
_CUTOFF = Usual(1.5, 15.0, "4 to 8", "A")
_TIME = Usual(1.0, 1e6, "20 to 5000", "fs", _FS)

#: By the names of arguments.
USUAL: dict[str, Usual] = {
    "moments": Usual(0.0, 25.0, "up to 11", "mu_B"),
    "friction": Usual(1e-6, 1.0, "0.001 to 0.1", "1/fs", 1.0 / _FS),
    "damping": Usual(1e-6, 1.0, "0.001 to 0.5", ""),
    "gamma_L": Usual(0.0, 10.0, "0.01 to 1", "mu_B^2/(eV fs)", 1.0 / _FS),
    "g_factor": Usual(0.5, 20.0, "near 2", ""),
    "timestep": Usual(1e-3, np.inf, "0.1 to 2", "fs", _FS, signed=True),
    "lattice_timestep": Usual(1e-3, 100.0, "0.5 to 2", "fs", _FS),
    "temperature_K": _TEMPERATURE,
    "spin_temperature_K": _TEMPERATURE,
    "initial_temperature_K": _TEMPERATURE,
    "electron_temperature_K": Usual(0.0, 1e5, "up to 10000", "K"),
    "external_field_T": Usual(0.0, 5e3, "up to 100", "T", signed=True),
    "pressure_GPa": _PRESSURE,
    "stress_GPa": _PRESSURE,
    "tdamp": _TIME,
    "spin_tdamp": _TIME,
    "pdamp": _TIME,
    "collision_time": _TIME,
    "spin_mass": Usual(0.01, 1e3, "near 3", "eV fs^2/mu_B^2", _FS**2),
    "pulse_energy": Usual(0.0, 10.0, "up to 1", "eV per atom"),
    "pulse_width_fs": Usual(0.1, 1e6, "10 to 1000", "fs"),
    "heat_capacity": Usual(1e-10, 1e-5, "1e-8 to 1e-6", "eV/K^2 per atom"),
    "masses": Usual(0.5, 400.0, "1 to 240", "amu"),
    "rcut": _CUTOFF,
    "cutoff": _CUTOFF,
    "start_lr": Usual(0.0, 0.1, "1e-4 to 0.02", ""),
    "fmax": Usual(0.0, 1.0, "0.0001 to 0.1", "eV/A"),
    "torque_max": Usual(0.0, 0.1, "1e-7 to 0.001", "eV"),
    "stress_max": Usual(0.0, 0.1, "1e-5 to 0.01", "eV/A^3"),
}

#: A response time must be so many time steps at least.
_STEPS = 10.0


def warn_of_unusual(name: str, value: Any, *, stacklevel: int = 3) -> bool:
    """Warn where a value, or one of several, is far from what is usual.

    What others refuse (no numbers, not finite, negative) and names that :data:`USUAL`
    does not have are passed over. Returns whether there was a warning.
    """
    usual = USUAL.get(name)
    if usual is None or value is None or callable(value):
        return False
    try:
        numbers = np.asarray(value)
    except ValueError:  # ragged
        return False
    if numbers.dtype.kind not in "iuf":
        return False
    sizes = numbers.ravel() / usual.scale
    sizes = abs(sizes) if usual.signed else sizes
    known = np.isfinite(sizes) & (sizes > 0.0)
    far = sizes[known & ((sizes < usual.least) | (sizes > usual.most))]
    if len(far):
        unit = f" {usual.unit}" if usual.unit else ""
        warnings.warn(
            f"{name} of {far.max():.4g}{unit} is far from what is usual "
            f"({usual.usual}{unit}): check {'its unit' if unit else 'it'}",
            stacklevel=stacklevel,
        )
    return len(far) > 0


def warn_of_short_time(
    name: str, value: Any, timestep: float, *, stacklevel: int = 3
) -> bool:
    """Warn where a response time is shorter than ten time steps, both ASE time.

    Returns whether it is.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    short = number and 0.0 < value < _STEPS * abs(timestep)
    if short:
        warnings.warn(
            f"{name} of {value / _FS:.4g} fs is less than {_STEPS:g} time steps of "
            f"{abs(timestep) / _FS:.4g} fs, which do not resolve it: usual are "
            f"{USUAL[name].usual} fs",
            stacklevel=stacklevel,
        )
    return short
