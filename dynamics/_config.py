"""The file of a run: what moves, by which driver, and what is written."""

from __future__ import annotations

import difflib
import inspect
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from ase import units
from pydantic import Field

from .._config import Configuration, read_mapping
from .drivers._driver import SpinLatticeDynamics

#: Drivers by their names in files: classes of :mod:`deepspin_ase.dynamics`.
DRIVERS = {
    "nve": "SpinLatticeNVE",
    "langevin": "SpinLatticeLangevin",
    "npt": "SpinLatticeNPT",
    "spin": "SpinDynamics",
    "longitudinal": "LongitudinalSpinLangevin",
    "tspin": "TSPIN",
    "three-temperature": "ThreeTemperature",
    "monte-carlo": "MonteCarlo",
}

#: Arguments in ASE's unit of time: their names in files, and that unit.
_IN_FS = {
    "friction": ("friction_per_fs", 1.0 / units.fs),
    "gamma_L": ("gamma_L_per_fs", 1.0 / units.fs),
    "tdamp": ("tdamp_fs", units.fs),
    "spin_tdamp": ("spin_tdamp_fs", units.fs),
    "pdamp": ("pdamp_fs", units.fs),
    "collision_time": ("collision_time_fs", units.fs),
    "lattice_timestep": ("lattice_timestep_fs", units.fs),
    "spin_mass": ("spin_mass_fs2", units.fs**2),
}

#: Arguments that the file has as keys of their own.
_ELSEWHERE = (
    "atoms",
    "timestep",
    "rng",
    "trajectory",
    "logfile",
    "loginterval",
    "append_trajectory",
    "checkpoint",
    "checkpoint_interval",
    "progress",
)

Count = Annotated[int, Field(gt=0)]
Temperature = Annotated[float, Field(ge=0)]


class RunConfig(Configuration):
    """A run of one driver.

    Attributes
    ----------
    structure : str or list of str
        A file with moments that ASE reads, extxyz for one; its last frame. Several
        files run as replicas. Relative to this file.
    model : str
        A model file, relative to this file, or the name of a shipped model.
    device : str, optional
        ``"cpu"``, ``"cuda"``; by default CUDA where there is one.
    dtype : "float64", "float32" or "mixed"
        Of the model; the dynamics is float64.
    driver : str
        One of :data:`DRIVERS`.
    timestep_fs : float, optional
        Needed by all drivers but ``monte-carlo``.
    steps : int
        All steps of the run, those before it was resumed included.
    parameters : dict
        Arguments of the driver by their names, ``temperature_K: 300``; those in
        ASE's unit of time in fs: ``friction_per_fs``, ``tdamp_fs``, ``pdamp_fs``.
    initial_temperature_K : float or list of float, optional
        Draw momenta from a Maxwell-Boltzmann distribution; otherwise those of the
        structure are taken.
    seed : int
        Of initial momenta and of the driver.
    output : str
        Folder for the files below, relative to this file.
    trajectory, logfile, checkpoint : str, optional
        File names in it; null for none. A trajectory is ``.extxyz`` or ``.h5``.
    loginterval, checkpoint_interval : int
        Steps between frames and log lines, and between checkpoints.
    resume : bool
        Continue from the checkpoint if there is one.
    """

    structure: str | Annotated[list[str], Field(min_length=1)]
    model: str
    device: str | None = None
    dtype: Literal["float64", "float32", "mixed"] = "float64"
    driver: Literal[
        "nve",
        "langevin",
        "npt",
        "spin",
        "longitudinal",
        "tspin",
        "three-temperature",
        "monte-carlo",
    ]
    timestep_fs: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(ge=0)]
    parameters: dict[str, Any] = Field(default={})
    initial_temperature_K: Temperature | list[Temperature] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    output: str = "md"
    trajectory: str | None = "run.extxyz"
    logfile: str | None = "run.log"
    loginterval: Count = 10
    checkpoint: str | None = "run.ckpt"
    checkpoint_interval: Count = 1000
    resume: bool = False


def read_run_config(path: str | os.PathLike[str]) -> RunConfig:
    """Read the file of a run (YAML).

    Raises
    ------
    ValueError
        If the file is not YAML, a key is unknown or missing, or a value unfit.
    """
    return RunConfig.from_dict(read_mapping(Path(path)))


def driver_class(name: str) -> type[SpinLatticeDynamics]:
    """Return the driver of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    from .. import dynamics

    found = getattr(dynamics, DRIVERS.get(name, ""), None)
    if found is None:
        raise ValueError(f"there is no driver {name!r}; known: {', '.join(DRIVERS)}")
    return found


def driver_arguments(config: RunConfig) -> dict[str, Any]:
    """Return the arguments that the driver takes from ``timestep_fs`` and parameters.

    Raises
    ------
    ValueError
        If one is unknown, missing, or given without its unit.
    """
    cls = driver_class(config.driver)
    known = _signature(cls)
    arguments = {}
    has_timestep = "timestep" in inspect.signature(cls.__init__).parameters
    if has_timestep != (config.timestep_fs is not None):
        verb = "needs" if has_timestep else "has no"
        raise ValueError(f"the driver {config.driver} {verb} timestep_fs")
    if config.timestep_fs is not None:
        arguments["timestep"] = config.timestep_fs * units.fs
    names = {_name_in_file(k): k for k in known if k not in _ELSEWHERE}
    for name, value in config.parameters.items():
        if name not in names:
            raise ValueError(_unknown(name, list(names)))
        argument, value = names[name], _numbers(value)
        if argument in _IN_FS:
            value = _scaled(name, value, _IN_FS[argument][1])
        arguments[argument] = value
    for name, argument in names.items():
        required = known[argument].default is inspect.Parameter.empty
        if required and argument not in arguments:
            raise ValueError(f"the driver {config.driver} needs parameters.{name}")
    return arguments


def _name_in_file(argument: str) -> str:
    return _IN_FS[argument][0] if argument in _IN_FS else argument


def _unknown(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return f"unknown key 'parameters.{name}'; {hint}"


def _numbers(value: Any) -> Any:
    """Return what YAML takes for text, such as 1e-3, as the number that it is."""
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _scaled(name: str, value: Any, unit: float) -> Any:
    """Return a number or numbers times a unit; None as it is."""
    if value is None:
        return None
    try:
        return (np.asarray(value, dtype=float) * unit).tolist()
    except (TypeError, ValueError):
        raise ValueError(f"parameters.{name} must be a number, got {value!r}") from None


def _signature(cls: type[SpinLatticeDynamics]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a driver, those it passes on to its bases included."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if constructor is None:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        own: dict[str, inspect.Parameter] = {}
        passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for parameter in parameters:
            # What is given by position to a base is the driver's own business.
            by_name = parameter.kind is parameter.KEYWORD_ONLY
            if by_name or (not found and parameter.kind is not parameter.VAR_KEYWORD):
                own[parameter.name] = parameter
        found = own | found
        if not passes_on:
            break
    return found
