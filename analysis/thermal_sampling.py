"""Order and energy at many temperatures, sampled in one batch.

A :class:`SamplingTask` is plain data: it can be sent to another process, and with a
checkpoint it goes on where it was stopped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from deepspin_ase.calculator import DeepSpinCalculator
from deepspin_ase.dynamics import MonteCarlo, SpinLatticeLangevin
from deepspin_ase.dynamics.driver import SpinLatticeDynamics
from deepspin_ase.files import written_whole
from deepspin_ase.potentials import Potential, load_potential
from deepspin_ase.potentials.serialize import from_plain_data, plain_data
from deepspin_ase.spins import get_spins

from .wavevectors import commensurate

#: Samples between checkpoints.
_BLOCK = 500

#: What shortens the correlations of Monte Carlo, where the energy allows it.
_FASTER = ({"clusters": 5}, {"overrelaxation": 3})

METHODS = ("monte-carlo", "langevin")


@dataclass(frozen=True)
class SamplingTask:
    """What to sample.

    Attributes
    ----------
    model : dict
        The potential as :func:`deepspin_ase.potentials.serialize.plain_data`.
    atoms : Atoms
        With moments: where all replicas start.
    temperatures_K : tuple of float
    q : (3,) tuple
        Propagation vector of the order, in reciprocal lattice units of ``cell``.
    cell : (3, 3) array, A
    steps, equilibration, interval : int
        Steps that are sampled, steps before, and steps between samples.
    method : {"monte-carlo", "langevin"}
    options : dict
        Of the driver.
    seed : int
    checkpoint : str or None
        Name of files without suffix.
    """

    model: Mapping[str, Any]
    atoms: Atoms
    temperatures_K: tuple[float, ...]
    q: tuple[float, float, float]
    cell: np.ndarray
    steps: int
    equilibration: int
    interval: int = 1
    method: str = "monte-carlo"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    checkpoint: str | None = None


@dataclass(frozen=True, eq=False)
class ThermalSamples:
    """Samples of B temperatures.

    Attributes
    ----------
    temperatures_K : (B,) array
    order : (B, F) array, mu_B
        Size of the ordered moment at q, per magnetic atom.
    magnetisation : (B, F, 3) array, mu_B
        Mean moment per magnetic atom.
    energy : (B, F) array, eV
        Of the whole structure but for a constant.
    n_magnetic, n_atoms : int
    """

    temperatures_K: np.ndarray
    order: np.ndarray
    magnetisation: np.ndarray
    energy: np.ndarray
    n_magnetic: int
    n_atoms: int


def model_data(
    potential: Potential | DeepSpinCalculator | str | os.PathLike[str],
) -> dict[str, Any]:
    """Return the ``model`` of a task, from what a DeepSpinCalculator is made of.

    Or from such a calculator; its field is kept.
    """
    if isinstance(potential, DeepSpinCalculator):
        return plain_data(potential.potential)
    if not isinstance(potential, Potential):
        potential = load_potential(potential)
    return plain_data(potential)


def sample(task: SamplingTask) -> ThermalSamples:
    """Run a task, or what is left of it.

    Raises
    ------
    ValueError
        If moments are missing, q does not repeat with the structure, or the driver
        does not take the options.
    """
    atoms = task.atoms.copy()
    waves = _waves(atoms, task)
    files = None if task.checkpoint is None else _files(task.checkpoint)
    driver, series = _resumed(task, files) or (_driver(task, atoms), _empty(task))
    n_samples = task.steps // task.interval
    while series["energy"].shape[1] < n_samples:
        if driver.nsteps < task.equilibration:
            driver.run(task.equilibration - driver.nsteps)
        block = min(_BLOCK, n_samples - series["energy"].shape[1])
        found = [_measure(driver, task.interval, waves) for _ in range(block)]
        for name, values in series.items():
            new = np.stack([f[name] for f in found], axis=1)
            series[name] = np.concatenate([values, new], axis=1)
        if files is not None:
            _keep(files, driver, series)
    magnetic = int(np.any(get_spins(atoms), axis=1).sum())
    return ThermalSamples(
        np.array(task.temperatures_K), **series, n_magnetic=magnetic, n_atoms=len(atoms)
    )


def _driver(task: SamplingTask, atoms: Atoms) -> SpinLatticeDynamics:
    atoms.calc = DeepSpinCalculator(from_plain_data(dict(task.model)))
    temperatures = list(task.temperatures_K)
    options: dict[str, Any] = {
        "temperature_K": temperatures,
        "rng": task.seed,
        "progress": False,
        **task.options,
    }
    if task.method == "monte-carlo":
        options.setdefault("adaptation_steps", max(1, task.equilibration // 2))
        for faster in _FASTER:
            with suppress(ValueError):
                return MonteCarlo(atoms, **{**faster, **options})
        return MonteCarlo(atoms, **options)
    timestep = options.pop("timestep_fs", 1.0) * units.fs
    options.setdefault("friction", 0.01 / units.fs)
    options.setdefault("damping", 0.1)
    return SpinLatticeLangevin(atoms, timestep, **options)


def _waves(atoms: Atoms, task: SamplingTask) -> torch.Tensor:
    """Return what moments are summed with, (3, N): the mean, cosine and sine of q."""
    magnetic = np.any(get_spins(atoms), axis=1)
    if not magnetic.any():
        raise ValueError("all moments are zero: set them with deepspin_ase.set_spins")
    turns = commensurate(atoms, task.q, task.cell)[0]
    first = np.flatnonzero(magnetic)[0]
    away = atoms.positions - atoms.positions[first]
    phase = 2 * np.pi * np.linalg.solve(atoms.cell.complete().array.T, away.T).T @ turns
    # Where the sine vanishes the wave is real; elsewhere that at -q counts too.
    sine = np.sin(phase)
    scale = 1.0 if abs(sine[magnetic]).max() < 1e-3 else np.sqrt(2.0)
    rows = [np.ones(len(atoms)), scale * np.cos(phase), scale * sine]
    return torch.from_numpy(np.stack(rows) * magnetic / magnetic.sum())


def _measure(
    driver: SpinLatticeDynamics, interval: int, waves: torch.Tensor
) -> dict[str, np.ndarray]:
    """Make ``interval`` steps and return what is sampled, (B, ...)."""
    driver.run(interval)
    system = driver.state.system
    spins = system.spins.reshape(system.n_systems, -1, 3)
    sums = torch.einsum("wn,bnc->bwc", waves.to(spins), spins)
    if isinstance(driver, MonteCarlo) and driver.fixed_lattice:
        energy = driver.spin_energies()
    else:
        energy = driver.prediction.energy
    return {
        "order": sums[:, 1:].flatten(1).norm(dim=1).cpu().numpy(),
        "magnetisation": sums[:, 0].cpu().numpy(),
        "energy": energy.cpu().numpy(),
    }


def _empty(task: SamplingTask) -> dict[str, Any]:
    count = len(task.temperatures_K)
    return {
        "order": np.empty((count, 0)),
        "magnetisation": np.empty((count, 0, 3)),
        "energy": np.empty((count, 0)),
    }


def _files(name: str) -> tuple[Path, Path]:
    return Path(f"{name}.ckpt"), Path(f"{name}.npz")


def _keep(
    files: tuple[Path, Path], driver: SpinLatticeDynamics, series: dict[str, Any]
) -> None:
    os.makedirs(files[0].parent, exist_ok=True)
    with written_whole(files[1]) as temporary:
        np.savez(temporary, **series)
    driver.save(files[0])


def _resumed(
    task: SamplingTask, files: tuple[Path, Path] | None
) -> tuple[SpinLatticeDynamics, dict[str, Any]] | None:
    """Return driver and samples of an earlier run, samples after its checkpoint cut."""
    if files is None or not all(path.exists() for path in files):
        return None
    kind = MonteCarlo if task.method == "monte-carlo" else SpinLatticeLangevin
    driver = kind.restore(files[0])
    if not np.allclose(driver.temperature_K, task.temperatures_K, rtol=1e-9):
        raise ValueError(
            f"{files[0]} is of other temperatures ({driver.temperature_K} K): remove "
            "it, or name another checkpoint folder"
        )
    with np.load(files[1]) as stored:
        count = max(0, driver.nsteps - task.equilibration) // task.interval
        return driver, {name: stored[name][:, :count] for name in _empty(task)}
