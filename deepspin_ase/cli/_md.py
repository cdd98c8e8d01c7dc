"""``deepspin md``: spin-lattice dynamics from a configuration file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.md.velocitydistribution import thermalize_momenta

from .._files import atomic_write, locked, make_folder, require_different
from .._plausible import warn_of_unusual
from ..calculators._deepspin import DeepSpinCalculator
from ..dynamics import SpinLatticeDynamics
from ..dynamics._config import (
    RunConfig,
    driver_arguments,
    read_run_config,
    registered_driver,
)
from ..dynamics.observables import kinetic_energy, magnetization
from ..potentials.adapters import beside
from ._inputs import read_magnetic
from ._outcome import Outcome

#: What of a configuration may change when a run is resumed.
_MAY_CHANGE = {"steps", "resume", "output"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Run dynamics of atoms and spins, or Monte Carlo, by a "
        "configuration file. A run that was stopped at any moment continues with "
        "--resume as if it had not been; a finished one, too, after its 'steps' were "
        "raised."
    )
    parser.add_argument("config", type=Path, help="configuration file (YAML)")
    parser.add_argument(
        "-r", "--resume", action="store_true", help="continue from its checkpoint"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    config = read_run_config(arguments.config)
    folder = arguments.config.parent
    files = _files(config, folder)
    require_different(**files)
    make_folder(folder / config.output)
    with locked(*_written(files)):
        resume = arguments.resume or config.resume
        driver = _run_or_resume(config, folder, files, resume=resume)
    return Outcome(_state(driver) | {"files": _written(files)})


def _run_or_resume(
    config: RunConfig, folder: Path, files: dict[str, Any], *, resume: bool
) -> SpinLatticeDynamics:
    if resume and "checkpoint" not in files:
        raise ValueError("a run without a checkpoint file cannot be resumed")
    if resume and files["checkpoint"].exists():
        driver = _restored(config, files)
    else:
        if not resume:
            _refuse_to_overwrite(files)
        driver = _new(config, folder, files)
    left = config.steps - driver.nsteps
    if left <= 0 < driver.nsteps:
        print(f"the run has {driver.nsteps} steps already; raise 'steps' to continue")
        return driver
    try:
        driver.run(left)
    except CalculationFailed as error:
        raise FloatingPointError(
            f"{error}; the trajectory ends with the last good state"
        ) from error
    print(f"{driver.nsteps} steps done; output is in {folder / config.output}")
    return driver


def _state(driver: SpinLatticeDynamics) -> dict[str, Any]:
    """Return the last state of a run, by replica."""
    system = driver.state.system
    kinetic = kinetic_energy(system, driver.state.momenta, driver.mass)
    return {
        "steps": driver.nsteps,
        "time_fs": driver.time_fs,
        "potential_energy_eV": driver.prediction.energy.tolist(),
        "kinetic_energy_eV": kinetic.tolist(),
        "moment_per_magnetic_atom_mu_B": magnetization(system).tolist(),
    }


def _files(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Return the paths of the files to write, by their arguments."""
    names = {
        "trajectory": config.trajectory,
        "logfile": config.logfile,
        "checkpoint": config.checkpoint,
    }
    return {
        key: name if name == "-" else folder / config.output / name
        for key, name in names.items()
        if name is not None
    }


def _written(files: dict[str, Any]) -> list[Path]:
    return [path for path in files.values() if path != "-"]


def _refuse_to_overwrite(files: dict[str, Any]) -> None:
    for path in _written(files):
        replicas = path.parent.glob(f"{path.stem}.*{path.suffix}")
        for found in (path, *replicas):
            if found.exists():
                raise ValueError(
                    f"{found} exists already: continue that run with --resume, or "
                    "choose another 'output'"
                )


def _new(config: RunConfig, folder: Path, files: dict[str, Any]) -> SpinLatticeDynamics:
    """Return the driver at the start of a run."""
    arguments = driver_arguments(config)
    images = _images(config, folder)
    calculator = _calculator(config, folder)
    for image in images:
        image.calc = calculator
    try:
        driver = registered_driver(config.driver).cls(
            images if len(images) > 1 else images[0],
            **arguments,
            **files,
            rng=config.seed,
            loginterval=config.loginterval,
            checkpoint_interval=config.checkpoint_interval,
        )
    except TypeError as error:
        raise ValueError(str(error)) from error
    if "checkpoint" in files:
        with atomic_write(_record(files["checkpoint"])) as temporary:
            text = yaml.safe_dump(config.to_dict(), sort_keys=False)
            temporary.write_text(text, encoding="utf-8")
    return driver


def _restored(config: RunConfig, files: dict[str, Any]) -> SpinLatticeDynamics:
    """Return the driver as the checkpoint has it."""
    checkpoint = files["checkpoint"]
    before = read_run_config(_record(checkpoint)).to_dict()
    now = config.to_dict()
    differ = [k for k in now if k not in _MAY_CHANGE and now[k] != before[k]]
    if differ:
        raise ValueError(
            f"{checkpoint} was written with another {', '.join(differ)} (see "
            f"{_record(checkpoint)}): a run is resumed as it began. Choose another "
            "'output' and start there from the last frame"
        )
    return registered_driver(config.driver).cls.restore(checkpoint, **files)


def _record(checkpoint: Path) -> Path:
    """Return the path of the configuration of a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.yaml")


def _images(config: RunConfig, folder: Path) -> list[Atoms]:
    """Return the structures, one per replica, with momenta."""
    given = config.structure
    paths = [given] if isinstance(given, str) else given
    images = [read_magnetic(folder / path) for path in paths]
    initial = config.initial_temperature_K
    lists = [v for k, v in config.parameters.items() if k.endswith("temperature_K")]
    lengths = [len(v) for v in (*lists, initial) if isinstance(v, list)]
    if len(images) == 1 and lengths:
        images = [images[0].copy() for _ in range(max(lengths))]
    if initial is None:
        return images
    temperatures = initial if isinstance(initial, list) else [initial] * len(images)
    if len(temperatures) != len(images):
        raise ValueError(
            f"initial_temperature_K has {len(temperatures)} numbers for "
            f"{len(images)} replicas"
        )
    warn_of_unusual("initial_temperature_K", initial)
    rng = np.random.default_rng(config.seed)
    for image, temperature in zip(images, temperatures, strict=True):
        thermalize_momenta(image, temperature_K=temperature, rng=rng)
    return images


def _calculator(config: RunConfig, folder: Path) -> DeepSpinCalculator:
    try:
        return DeepSpinCalculator(
            beside(folder, config.model),
            device=config.device,
            dtype=config.dtype,
        )
    except RuntimeError as error:  # torch, of an unknown or missing device
        raise ValueError(f"device {config.device!r}: {error}") from error
