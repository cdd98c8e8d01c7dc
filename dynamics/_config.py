"""Configuration file of a run: structure, model, driver and output."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from inspect import Parameter
from typing import Annotated, Any, Literal

import numpy as np
from ase import units
from pydantic import Field, field_validator

from .._config import Configuration
from . import drivers, montecarlo  # noqa: F401 - they register their drivers
from .drivers._registry import DRIVERS, Registered

#: Arguments that are other keys of the file.
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
        Name of a registered driver: ``nve``, ``langevin``, ``npt``, ``spin``,
        ``longitudinal``, ``tspin``, ``three-temperature``, ``monte-carlo``.
    timestep_fs : float, optional
        Needed by all drivers except ``monte-carlo``.
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
    driver: str
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

    @field_validator("driver")
    @classmethod
    def _registered(cls, name: str) -> str:
        registered_driver(name)
        return name


def read_run_config(path: str | os.PathLike[str]) -> RunConfig:
    """Read the file of a run (YAML).

    Raises
    ------
    ValueError
        If the file is not YAML, a key is unknown or missing, or a value unfit.
    """
    return RunConfig.read(path)


def registered_driver(name: str) -> Registered:
    """Return the driver of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in DRIVERS:
        raise ValueError(f"there is no driver {name!r}; known: {', '.join(DRIVERS)}")
    return DRIVERS[name]


def driver_arguments(config: RunConfig) -> dict[str, Any]:
    """Return the arguments of the driver from ``timestep_fs`` and parameters.

    Raises
    ------
    ValueError
        If one is unknown, missing, or given without its unit.
    """
    registered = registered_driver(config.driver)
    known, powers = registered.cls.parameters(), registered.time_arguments
    arguments: dict[str, Any] = {}
    has_timestep = "timestep" in known
    if has_timestep != (config.timestep_fs is not None):
        verb = "needs" if has_timestep else "has no"
        raise ValueError(f"the driver {config.driver} {verb} timestep_fs")
    if config.timestep_fs is not None:
        arguments["timestep"] = config.timestep_fs * units.fs
    names = {_name_in_file(k, powers): k for k in known if k not in _ELSEWHERE}
    for name, value in config.parameters.items():
        if name not in names:
            raise ValueError(_unknown(name, list(names)))
        argument, value = names[name], _numbers(name, value)
        if argument in powers:
            value = _scaled(name, value, _unit(powers[argument]))
        arguments[argument] = value
    for name, argument in names.items():
        required = known[argument].default is Parameter.empty
        if required and argument not in arguments:
            raise ValueError(f"the driver {config.driver} needs parameters.{name}")
    return arguments


def _name_in_file(argument: str, powers: Mapping[str, int]) -> str:
    """Return the key of an argument: with ``_fs``, ``_fs2``, ``_per_fs`` ..."""
    power = powers.get(argument, 0)
    if power == 0:
        return argument
    exponent = "" if abs(power) == 1 else str(abs(power))
    return f"{argument}_{'per_' if power < 0 else ''}fs{exponent}"


def _unit(power: int) -> float:
    """Return fs to a power in ASE's units."""
    return units.fs**power if power > 0 else 1.0 / units.fs**-power


def _unknown(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return f"unknown key 'parameters.{name}'; {hint}"


def _numbers(name: str, value: Any) -> Any:
    """Return text that is a number, which YAML makes of 1e-3, as that number."""
    if isinstance(value, list):
        found = [_numbers(name, v) for v in value]
        kinds = {isinstance(v, str) for v in found}
        if len(kinds) > 1 or any(isinstance(v, bool) for v in found):
            raise ValueError(f"parameters.{name} must be numbers, got {value!r}")
        return found
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
