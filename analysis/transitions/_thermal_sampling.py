"""Order and energy at many temperatures, sampled in one batch.

A :class:`SamplingTask` is plain data: it can be sent to another process, and with a
checkpoint it goes on where it was stopped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from ..._progress import bar
from ...calculators._deepspin import DeepSpinCalculator
from ...dynamics import MonteCarlo, SpinLatticeLangevin
from ...dynamics.drivers._driver import SpinLatticeDynamics
from ...potentials import Potential, load_potential
from ...potentials._files import from_plain_data, plain_data
from ...spins import get_spins
from .._result import Result
from .._wavevectors import commensurate
from ._sampling_files import SamplingFiles

#: Steps between looks at the clock in an equilibration.
_BLOCK = 50

METHODS = {"monte-carlo": MonteCarlo, "langevin": SpinLatticeLangevin}


@dataclass(frozen=True)
class SamplingTask:
    """What to sample.

    Attributes
    ----------
    model : dict
        The potential as :func:`deepspin_ase.potentials._files.plain_data`.
    atoms : Atoms
        With moments: where all replicas start.
    temperatures_K : tuple of float
    q : (3,) tuple, or tuple of these
        Propagation vectors of the order, in reciprocal lattice units of ``cell``;
        several for the domains of one.
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
    q: tuple[Any, ...]
    cell: np.ndarray
    steps: int
    equilibration: int
    interval: int = 1
    method: str = "monte-carlo"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    checkpoint: str | None = None


@dataclass(frozen=True, eq=False)
class ThermalSamples(Result):
    """Samples of B temperatures.

    Attributes
    ----------
    temperatures_K : (B,) array
    order : (B, F) array, mu_B
        Size of the ordered moment, per magnetic atom.
    magnetization : (B, F, 3) array, mu_B
        Mean moment per magnetic atom.
    energy : (B, F) array, eV
        Of the whole structure but for a constant.
    n_magnetic, n_atoms : int
    """

    temperatures_K: np.ndarray
    order: np.ndarray
    magnetization: np.ndarray
    energy: np.ndarray
    n_magnetic: int
    n_atoms: int


def model_data(
    potential: Potential | DeepSpinCalculator | str | os.PathLike[str],
) -> dict[str, Any]:
    """Return the ``model`` of a task, from what a DeepSpinCalculator is made of.

    Or from such a calculator; its field is kept.

    Raises
    ------
    TypeError
        For what is none of these.
    ValueError
        If the energy does not depend on moments.
    """
    if isinstance(potential, DeepSpinCalculator):
        potential = potential.potential
    elif isinstance(potential, str | os.PathLike):
        potential = load_potential(potential)
    if not isinstance(potential, Potential):
        raise TypeError(
            "expected a Potential, a DeepSpinCalculator or the name of a model, got "
            f"{type(potential).__name__}"
        )
    if not potential.uses_spins:
        raise ValueError(
            "the potential does not depend on moments, so that they have no order to "
            "lose; add an exchange, such as potential + Heisenberg(...)"
        )
    return plain_data(potential)


def run_sampling(
    task: SamplingTask, *, progress: bool | None = False
) -> ThermalSamples:
    """Run a task, or what is left of it.

    Raises
    ------
    ValueError
        If moments are missing, a q does not repeat with the structure, the driver
        does not take the options, or the checkpoint is of another task.
    """
    atoms = task.atoms.copy()
    waves = _waves(atoms, task)
    files = None if task.checkpoint is None else SamplingFiles(task)
    kept = None if files is None else files.read(METHODS[task.method])
    driver, equilibration, found = kept or (
        _driver(task, atoms),
        task.equilibration,
        {name: [] for name in ("order", "magnetization", "energy")},
    )

    def keep(*, last: bool = False) -> None:
        if files is not None and (last or files.due()):
            files.write(driver, equilibration, found)

    while driver.nsteps < equilibration:
        driver.run(min(_BLOCK, equilibration - driver.nsteps))
        keep()
    n_samples = task.steps // task.interval
    with bar(
        progress=progress,
        total=n_samples,
        initial=min(n_samples, len(found["energy"])),
        desc=f"{len(atoms)} atoms",
        leave=False,
    ) as shown:
        while len(found["energy"]) < n_samples:
            for name, value in _measure(driver, task.interval, waves).items():
                found[name].append(value)
            keep(last=len(found["energy"]) == n_samples)
            shown.update()
    series = {name: np.stack(rows[:n_samples], 1) for name, rows in found.items()}
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
        for faster in _faster(atoms):
            with suppress(ValueError):
                return MonteCarlo(atoms, **{**faster, **options})
        return MonteCarlo(atoms, **options)
    timestep = options.pop("timestep_fs", 1.0) * units.fs
    options.setdefault("friction", 0.01 / units.fs)
    options.setdefault("damping", 0.1)
    return SpinLatticeLangevin(atoms, timestep, **options)


def _faster(atoms: Atoms) -> tuple[dict[str, int], ...]:
    """Return what shortens the correlations of Monte Carlo, where energies allow it.

    At a transition a cluster holds some M^(2/3) of M moments.
    """
    count = int(np.any(get_spins(atoms), axis=1).sum())
    return {"clusters": int(np.ceil(2.0 * count ** (1 / 3)))}, {"overrelaxation": 3}


def _waves(atoms: Atoms, task: SamplingTask) -> torch.Tensor:
    """Return what moments are summed with, (1 + 2Q, N): the mean, cosines and sines."""
    magnetic = np.any(get_spins(atoms), axis=1)
    if not magnetic.any():
        raise ValueError("all moments are zero: set them with deepspin_ase.set_spins")
    away = atoms.positions - atoms.positions[np.flatnonzero(magnetic)[0]]
    fractions = np.linalg.solve(atoms.cell.complete().array.T, away.T).T
    rows = [np.ones(len(atoms))]
    for phases in commensurate(atoms, np.atleast_2d(task.q), task.cell):
        wave = np.exp(2j * np.pi * fractions @ phases)
        # Where the sine vanishes the wave is real; elsewhere that at -q counts too.
        scale = 1.0 if abs(wave.imag[magnetic]).max() < 1e-3 else np.sqrt(2.0)
        rows += [scale * wave.real, scale * wave.imag]
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
        "magnetization": sums[:, 0].cpu().numpy(),
        "energy": energy.cpu().numpy(),
    }
