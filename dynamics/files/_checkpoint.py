"""Checkpoint files of drivers: plain data from which a run continues bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import dict2constraint
from ase.io.jsonio import decode, encode

from ..._plain_data import load_plain, save_plain
from ...calculators._deepspin import DeepSpinCalculator
from ...constraints import FixSpins
from ...potentials._files import from_plain_data, plain_data
from .._spin_torque import SpinTorque
from .._waveforms import Waveform
from ..integrators._schemes import Scheme, as_scheme

FORMAT = "deepspin-ase dynamics"
VERSION = 2


def save(
    path: str | os.PathLike[str],
    *,
    driver: str,
    arguments: Mapping[str, Any],
    images: Sequence[Atoms],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : path
    driver : str
        Name of the driver's class.
    arguments : mapping
        Of its constructor, except for the structures.
    images : sequence of Atoms
        With the calculator that they share.
    state : mapping
        Plain data, see :meth:`.drivers.SpinLatticeDynamics.state_dict`.

    Raises
    ------
    OSError
        If it cannot be written; an earlier checkpoint of that name stays.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "driver": driver,
        "arguments": {k: _plain(v) for k, v in arguments.items()},
        "images": [_pack(image) for image in images],
        "model": _model(images[0].calc),
        "state": dict(state),
    }
    save_plain(path, content)


def load(
    path: str | os.PathLike[str],
    *,
    driver: str,
    calculator: Calculator | None,
    changes: Mapping[str, Any],
) -> tuple[list[Atoms], dict[str, Any], dict[str, Any]]:
    """Read a checkpoint of the driver with that name.

    Parameters
    ----------
    path : path
    driver : str
    calculator : Calculator, optional
        Instead of the one in the file.
    changes : mapping
        Arguments that replace those in the file.

    Returns
    -------
    images : list of Atoms
        With their calculator.
    arguments, state : dict
        Of the constructor, and what follows it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, of another driver or version, or lacks a function or the
        model.
    """
    content = _read(Path(path), driver)
    arguments = {k: _live(v) for k, v in content["arguments"].items()} | dict(changes)
    missing = [k for k, v in arguments.items() if v is _LOST]
    if missing:
        raise ValueError(
            f"{path} cannot hold functions: give {', '.join(missing)} again, "
            f"{driver}.restore(path, {missing[0]}=...)"
        )
    images = [_unpack(packed) for packed in content["images"]]
    calculator = calculator or _calculator(path, content["model"])
    for image in images:
        image.calc = calculator
    return images, arguments, content["state"]


def _read(path: Path, driver: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: there is nothing to restore")
    content = load_plain(path, expected=f"a checkpoint of {driver}")
    kind = content.get("format") if isinstance(content, dict) else None
    if kind != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of a driver, but: {kind}")
    if content["version"] != VERSION:
        raise ValueError(
            f"{path} has version {content['version']}; this release reads version "
            f"{VERSION}: continue with the release that wrote it"
        )
    if content["driver"] != driver:
        raise ValueError(
            f"{path} is a checkpoint of {content['driver']}, not of {driver}: "
            f"use {content['driver']}.restore"
        )
    return dict(content)


class _Lost:
    """Placeholder of an argument that a file cannot hold."""


_LOST = _Lost()

#: What stands for it in the file.
_LOST_DATA = {"lost": True}


def _plain(value: Any) -> Any:
    """Return an argument as plain data."""
    if isinstance(value, Scheme):
        return {"scheme": value.name, "settings": asdict(value)}
    if isinstance(value, Waveform | SpinTorque):
        return _plain(value.as_dict())
    if isinstance(value, np.random.Generator):
        return None  # its state lives on in the driver's own generator
    if callable(value):
        return _LOST_DATA
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        found = {k: _plain(v) for k, v in value.items()}
        return _LOST_DATA if _LOST_DATA in found.values() else {"mapping": found}
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [_plain(v) for v in value]
        return _LOST_DATA if _LOST_DATA in parts else parts
    return value


def _live(value: Any) -> Any:
    """Return an argument from plain data."""
    if not isinstance(value, dict):
        return value
    if "lost" in value:
        return _LOST
    if "mapping" in value:
        return {k: _live(v) for k, v in value["mapping"].items()}
    return as_scheme(value["scheme"], **value["settings"])


def _pack(image: Atoms) -> dict[str, Any]:
    constraints = [c.todict() for c in image.constraints]
    arrays = {k: v for k, v in image.arrays.items() if v.dtype.kind in "fiub"}
    return {
        "arrays": {k: torch.from_numpy(v.copy()) for k, v in arrays.items()},
        "cell": torch.from_numpy(image.cell.array.copy()),
        "pbc": image.pbc.tolist(),
        "constraints": encode(constraints),
    }


def _unpack(packed: dict[str, Any]) -> Atoms:
    arrays = {k: v.numpy() for k, v in packed["arrays"].items()}
    image = Atoms(arrays.pop("numbers"), arrays.pop("positions"))
    image.cell[:] = packed["cell"].numpy()
    image.pbc = packed["pbc"]
    for name, values in arrays.items():
        image.arrays[name] = values
    image.set_constraint(
        [
            FixSpins(**c["kwargs"]) if c["name"] == "FixSpins" else dict2constraint(c)
            for c in decode(packed["constraints"])
        ]
    )
    return image


def _model(calculator: Calculator | None) -> dict[str, Any] | None:
    """Return the calculator as plain data, or None where that cannot be."""
    if not isinstance(calculator, DeepSpinCalculator):
        return None
    try:
        potential = plain_data(calculator.bare_potential)
    except (TypeError, ValueError):
        return None
    keys = ("device", "dtype", "skin", "external_field_T")
    return potential | {"parameters": {k: calculator.parameters[k] for k in keys}}


def _calculator(path: object, model: dict[str, Any] | None) -> DeepSpinCalculator:
    if model is None:
        raise ValueError(
            f"{path} does not hold the model; give it: restore(path, calculator=...)"
        )
    return DeepSpinCalculator(from_plain_data(model), **model["parameters"])
