"""Checkpoints of drivers: plain data from which a run continues bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import dict2constraint
from ase.io.jsonio import decode, encode

from ..._files import atomic_write
from ...calculators._deepspin import DeepSpinCalculator
from ...constraints import FixSpins
from ...potentials import Prediction
from ...potentials._files import from_plain_data, plain_data
from ..integrators._schemes import Scheme, as_scheme
from ._writers import Writer

if TYPE_CHECKING:
    from ..drivers._driver import SpinLatticeDynamics

FORMAT = "deepspin-ase dynamics"
VERSION = 1


def save(path: str | os.PathLike[str], driver: SpinLatticeDynamics) -> None:
    """Write everything that the rest of a run depends on.

    Raises
    ------
    OSError
        If it cannot be written; an earlier checkpoint of that name stays.
    """
    driver.publish()
    prediction = driver.state.prediction
    content = {
        "format": FORMAT,
        "version": VERSION,
        "driver": type(driver).__name__,
        "arguments": {k: _plain(v) for k, v in driver._arguments.items()},
        "images": [_pack(image) for image in driver.images],
        "model": _model(driver),
        "nsteps": driver.nsteps,
        "observed": driver._observing,
        "prediction": None if prediction is None else dict(vars(prediction)),
        "lengths": driver.lengths,
        "engine": driver.engine.state(),
        "generator": driver.generator.get_state(),
        "extra": driver.extra_state(),
        "writers": {_label(writer): writer.state() for writer in driver._writers},
    }
    try:
        with atomic_write(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"cannot write the checkpoint {path} ({error}); is the disk full? An "
            "earlier one is as it was"
        ) from error


def restore(
    path: str | os.PathLike[str],
    cls: type[SpinLatticeDynamics],
    calculator: Calculator | None,
    changes: Mapping[str, Any],
) -> SpinLatticeDynamics:
    """Build the driver of a checkpoint again."""
    content = _read(Path(path), cls)
    arguments = {k: _live(v) for k, v in content["arguments"].items()}
    arguments |= changes
    missing = [k for k, v in arguments.items() if v is _LOST]
    if missing:
        raise ValueError(
            f"{path} cannot hold functions: give {', '.join(missing)} again, "
            f"{cls.__name__}.restore(path, {missing[0]}=...)"
        )
    images = [_unpack(packed) for packed in content["images"]]
    calculator = calculator or _calculator(path, content["model"])
    for image in images:
        image.calc = calculator
    single = len(images) == 1
    driver = cls(images[0] if single else images, **arguments)
    driver.nsteps = content["nsteps"]
    driver._observed_step = driver.nsteps if content["observed"] else None
    driver.lengths = content["lengths"].to(driver.engine.device)
    driver.state = driver._mirror.read(driver.engine.device)
    if content["prediction"] is not None:
        prediction = Prediction(**_on(content["prediction"], driver.engine.device))
        driver.state = replace(driver.state, prediction=prediction)
    driver.engine.restore(_on(content["engine"], driver.engine.device))
    driver.restore_extra_state(_on(content["extra"], driver.engine.device))
    driver.generator.set_state(content["generator"])
    written = _on(content["writers"], driver.engine.device)
    for writer in driver._writers:
        if _label(writer) in written:
            writer.restore(written[_label(writer)])
    return driver


def _label(writer: Writer) -> str:
    """Tell a file from others, wherever its folder is now."""
    return f"{type(writer).__name__} {writer.path.name}"


def _read(path: Path, cls: type[SpinLatticeDynamics]) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: there is nothing to restore")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        kind = content["format"]
    except Exception as error:
        raise ValueError(f"{path} is damaged or not a checkpoint") from error
    if kind != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of a driver, but: {kind}")
    if content["version"] != VERSION:
        raise ValueError(
            f"{path} has version {content['version']}; this release reads version "
            f"{VERSION}: continue with the release that wrote it"
        )
    if content["driver"] != cls.__name__:
        raise ValueError(
            f"{path} is a checkpoint of {content['driver']}, not of {cls.__name__}: "
            f"use {content['driver']}.restore"
        )
    return dict(content)


class _Lost:
    """Stands for an argument that a file cannot hold."""


_LOST = _Lost()


def _plain(value: Any) -> Any:
    """Return an argument as plain data."""
    if isinstance(value, Scheme):
        return {"scheme": value.name, "settings": asdict(value)}
    if isinstance(value, np.random.Generator):
        return None  # its state lives on in the driver's own generator
    if callable(value):
        return {"lost": True}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {"mapping": {k: _plain(v) for k, v in value.items()}}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
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


def _model(driver: SpinLatticeDynamics) -> dict[str, Any] | None:
    """Return the calculator as plain data, or None where that cannot be."""
    calculator = driver.images[0].calc
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


def _on(value: Any, device: torch.device) -> Any:
    """Move the tensors of nested plain data."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _on(v, device) for k, v in value.items()}
    if isinstance(value, list):
        return [_on(v, device) for v in value]
    return value
