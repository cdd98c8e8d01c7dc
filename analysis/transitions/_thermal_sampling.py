"""Thermal sampling of order and energy at many temperatures in one batch.

A :class:`SamplingTask` is plain data: it can be sent to another process, and with a
checkpoint an interrupted run resumes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._digest import digest
from ..._files import atomic_write, locked, make_folder, reading
from ..._plain_data import check_archive
from ..._progress import bar
from ..._result import Result
from ...calculators._deepspin import DeepSpinCalculator
from ...dynamics import (
    MonteCarlo,
    SpinLatticeDynamics,
    SpinLatticeLangevin,
    SpinLatticeNPT,
)
from ...potentials import Potential, load_potential
from ...potentials._files import from_plain_data, identifying_data, plain_data
from ...spins import get_spins
from .._wavevectors import commensurate

#: Steps between checkpoint-time checks in an equilibration.
_BLOCK = 50

#: Seconds between checkpoints.
_SECONDS = 60.0

#: Names of the samples that every run has.
_SERIES = ("order", "magnetization", "energy", "order_vectors")

#: Name of the structures that are kept for their mean, and samples between them.
_STRUCTURE, _APART = "structure", 8

#: Samples by quantity, one array for each sample.
Series = dict[str, list[np.ndarray]]

#: Moves after each sweep where clusters are not exact.
_COLLECTIVE = {"overrelaxation": 2, "rotations": 1}

METHODS: dict[str, type[SpinLatticeDynamics]] = {
    "monte-carlo": MonteCarlo,
    "langevin": SpinLatticeLangevin,
    "npt": SpinLatticeNPT,
}


@dataclass(frozen=True)
class SamplingTask:
    """Plain data of a sampling run.

    Attributes
    ----------
    model : dict or Potential
        The potential as :func:`deepspin_ase.potentials._files.plain_data`, or itself
        where it cannot be plain data.
    atoms : Atoms or tuple of Atoms
        With moments: where all replicas start, or each of them.
    temperatures_K : tuple of float
    q : (3,) tuple, or tuple of these
        Propagation vectors of the order, in reciprocal lattice units of ``cell``;
        several for the domains of one.
    cell : (3, 3) array, A
    steps, equilibration, interval : int
        Steps that are sampled, steps before, and steps between samples.
    method : {"monte-carlo", "langevin", "npt"}
    options : dict
        Of the driver.
    seed : int
    checkpoint : str or None
        Name of files without suffix.
    observables : dict
        Functions of Atoms that return a number, by name; sampled as well.
    mean_structure : bool
        Whether positions are averaged, over every eighth sample.
    """

    model: Mapping[str, Any] | Potential
    atoms: Atoms | tuple[Atoms, ...]
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
    observables: Mapping[str, Callable[[Atoms], float]] = field(default_factory=dict)
    mean_structure: bool = False


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
        Of the whole structure, up to a constant, without a field of the driver.
    n_magnetic, n_atoms : int
    order_vectors : (B, F, 2Q, 3) array, mu_B
        Cosine and sine of each propagation vector, whose norm ``order`` is.
    observables : dict of (B, F) arrays
    final : list of Atoms
        The structures at the end, B.
    mean : list of Atoms
        The mean structures, B; empty where they were not asked for.
    """

    temperatures_K: np.ndarray
    order: np.ndarray
    magnetization: np.ndarray
    energy: np.ndarray
    n_magnetic: int
    n_atoms: int
    order_vectors: np.ndarray
    observables: dict[str, np.ndarray]
    final: list[Atoms]
    mean: list[Atoms]


def model_data(
    potential: Potential | DeepSpinCalculator | str | os.PathLike[str],
) -> dict[str, Any] | Potential:
    """Return the ``model`` of a task, from what a DeepSpinCalculator is made of.

    Or from such a calculator; its field is kept. The potential itself where it cannot
    be plain data.

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
    try:
        return plain_data(potential)
    except ValueError:  # it holds what is no plain data
        return potential


def check_run(method: str, steps: int, interval: int) -> None:
    """Raise ValueError for an unknown method or too few samples."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if interval < 1 or steps < 100 * interval:
        raise ValueError(
            f"steps={steps} with interval={interval} are fewer than 100 samples"
        )


def run_sampling(task: SamplingTask, *, progress: bool | None = None) -> ThermalSamples:
    """Run a task, or resume it from its checkpoint.

    Parameters
    ----------
    task : SamplingTask
    progress : bool, optional
        Progress bar; by default on a terminal.

    Raises
    ------
    ValueError
        If moments are missing, a q does not repeat with the structure, the driver
        does not take the options, or the checkpoint is of another task.
    OSError
        If the checkpoint cannot be written, or another process writes to it.
    """
    given = [task.atoms] if isinstance(task.atoms, Atoms) else task.atoms
    starts = [atoms.copy() for atoms in given]
    waves = torch.from_numpy(wave_weights(starts[0], task.q, task.cell))
    if task.checkpoint is None:
        return _sample(task, starts, waves, None, progress=progress)
    files = _Checkpoint(task)
    with locked(files.driver, files.samples):
        return _sample(task, starts, waves, files, progress=progress)


def _sample(
    task: SamplingTask,
    starts: list[Atoms],
    waves: torch.Tensor,
    files: _Checkpoint | None,
    *,
    progress: bool | None,
) -> ThermalSamples:
    resumed = None if files is None else files.read(METHODS[task.method])
    driver, equilibration, found = resumed or (
        _driver(task, starts),
        task.equilibration,
        {name: [] for name in (*_SERIES, *map(_column, task.observables), _STRUCTURE)},
    )

    def checkpoint(*, last: bool = False) -> None:
        if files is not None and (last or files.due()):
            files.write(driver, equilibration, found)

    while driver.nsteps < equilibration:
        driver.run(min(_BLOCK, equilibration - driver.nsteps))
        checkpoint()
    n_samples = task.steps // task.interval
    with bar(
        progress=progress,
        total=n_samples,
        initial=min(n_samples, len(found["energy"])),
        desc=f"{len(starts[0])} atoms",
        leave=False,
    ) as shown:
        while len(found["energy"]) < n_samples:
            for name, value in _measure(driver, task, waves).items():
                found[name].append(value)
            if task.mean_structure and len(found["energy"]) % _APART == 0:
                found[_STRUCTURE].append(_structures(driver))
            checkpoint(last=len(found["energy"]) == n_samples)
            shown.update()
    kept = found.pop(_STRUCTURE)
    series = {name: np.stack(rows[:n_samples], 1) for name, rows in found.items()}
    magnetic = int(np.any(get_spins(starts[0]), axis=1).sum())
    return ThermalSamples(
        np.array(task.temperatures_K),
        **{name: series[name] for name in _SERIES},
        n_magnetic=magnetic,
        n_atoms=len(starts[0]),
        observables={name: series[_column(name)] for name in task.observables},
        final=[_bare(image) for image in driver.images],
        mean=_means(driver.images, kept),
    )


def _structures(driver: SpinLatticeDynamics) -> np.ndarray:
    """Return cells, A, and scaled positions of the replicas, (B, 3 + N, 3)."""
    rows = [
        np.concatenate([i.cell.array, i.get_scaled_positions(wrap=False)])
        for i in driver.images
    ]
    return np.array(rows, dtype=np.float32)


def _means(images: list[Atoms], kept: list[np.ndarray]) -> list[Atoms]:
    """Return mean structures of the replicas, which have drifted as a whole."""
    if not kept:
        return []
    rows = np.array(kept, dtype=float)
    drift = rows[:, :, 3:].mean(axis=2, keepdims=True)
    rows[:, :, 3:] -= drift - drift[:1]
    found = []
    for image, mean in zip(images, rows.mean(axis=0), strict=True):
        copy = _bare(image)
        copy.set_cell(mean[:3])
        copy.set_scaled_positions(mean[3:])
        found.append(copy)
    return found


def _column(observable: str) -> str:
    """Return the name under which samples of an observable are kept."""
    return f"observable {observable}"


def _bare(image: Atoms) -> Atoms:
    """Return a copy without velocities, which are no part of a configuration."""
    copy = image.copy()
    copy.arrays.pop("momenta", None)
    return copy


def _driver(task: SamplingTask, starts: list[Atoms]) -> SpinLatticeDynamics:
    calculator = _calculator(task.model)
    for start in starts:
        start.calc = calculator
    atoms = starts[0] if len(starts) == 1 else starts
    temperatures = list(task.temperatures_K)
    options: dict[str, Any] = {
        "temperature_K": temperatures,
        "rng": task.seed,
        "progress": False,
        **task.options,
    }
    if task.method == "monte-carlo":
        options.setdefault("adaptation_steps", max(1, task.equilibration // 2))
        options |= _faster_moves(starts[0], options)
        return MonteCarlo(atoms, **options)
    timestep = options.pop("timestep_fs", 1.0) * units.fs
    options.setdefault("damping", 0.1)
    if task.method == "npt":
        return SpinLatticeNPT(atoms, timestep, **options)
    options.setdefault("friction", 0.01 / units.fs)
    return SpinLatticeLangevin(atoms, timestep, **options)


def _calculator(model: Mapping[str, Any] | Potential) -> DeepSpinCalculator:
    if not isinstance(model, Potential):
        model = from_plain_data(dict(model))
    return DeepSpinCalculator(model)


def _faster_moves(atoms: Atoms, options: Mapping[str, Any]) -> dict[str, int]:
    """Return moves that shorten the correlations of Monte Carlo, where they are exact.

    At a transition a cluster holds about M^(2/3) of M moments.
    """
    if "clusters" in options:
        return {}
    trial = atoms.copy()
    trial.calc = atoms.calc
    driver = MonteCarlo(trial, **options)
    if driver.allows_clusters:
        count = int(np.any(get_spins(atoms), axis=1).sum())
        return {"clusters": int(np.ceil(2.0 * count ** (1 / 3)))}
    if not driver.allows_overrelaxation:
        return {}
    return {k: v for k, v in _COLLECTIVE.items() if k not in options}


def wave_weights(
    atoms: Atoms, q: ArrayLike, cell: float | ArrayLike | None = None
) -> np.ndarray:
    """Return weights of moments, (1 + 2Q, N): of the mean, cosines and sines.

    Sums of the moments with them are parts of the ordered moments of the waves q
    (Q, 3), in reciprocal lattice units of ``cell``.

    Raises
    ------
    ValueError
        If all moments are zero, or a q does not repeat with the structure.
    """
    magnetic = np.any(get_spins(atoms), axis=1)
    if not magnetic.any():
        raise ValueError("all moments are zero: set them with deepspin_ase.set_spins")
    away = atoms.positions - atoms.positions[np.flatnonzero(magnetic)[0]]
    fractions = np.linalg.solve(atoms.cell.complete().array.T, away.T).T
    rows = [np.ones(len(atoms))]
    for phases in commensurate(atoms, np.atleast_2d(q), cell):
        wave = np.exp(2j * np.pi * fractions @ phases)
        # Where the sine vanishes the wave is real; elsewhere that at -q counts too.
        scale = 1.0 if abs(wave.imag[magnetic]).max() < 1e-3 else np.sqrt(2.0)
        rows += [scale * wave.real, scale * wave.imag]
    return np.stack(rows) * magnetic / magnetic.sum()


def _measure(
    driver: SpinLatticeDynamics, task: SamplingTask, waves: torch.Tensor
) -> dict[str, np.ndarray]:
    """Make the steps between samples and return those (B, ...)."""
    driver.run(task.interval)
    system = driver.state.system
    spins = system.spins.reshape(system.n_systems, -1, 3)
    sums = torch.einsum("wn,bnc->bwc", waves.to(spins), spins)
    if isinstance(driver, MonteCarlo) and driver.fixed_lattice:
        energy = driver.spin_energies()
    else:
        energy = driver.prediction.energy
        if driver.external_field.field_T is not None:
            field = driver.external_field.on_atoms(system, driver.time_fs)
            energy = energy + system.sum((system.spins * field).sum(dim=1))
    return {
        "order": sums[:, 1:].flatten(1).norm(dim=1).cpu().numpy(),
        "magnetization": sums[:, 0].cpu().numpy(),
        "energy": energy.cpu().numpy(),
        "order_vectors": sums[:, 1:].cpu().numpy(),
        **{
            _column(name): np.array([float(function(i)) for i in driver.images])
            for name, function in task.observables.items()
        },
    }


class _Checkpoint:
    """Files of the driver's state and of the samples so far, of one task.

    Parameters
    ----------
    task : SamplingTask
        With a ``checkpoint``; its ``steps`` and ``equilibration`` may differ from
        those of the run that is continued.
    """

    def __init__(self, task: SamplingTask) -> None:
        self.driver = Path(f"{task.checkpoint}.ckpt")
        self.samples = Path(f"{task.checkpoint}.npz")
        self._task = _identity(task)
        #: Of a model that the driver's state cannot hold.
        self._calculator = (
            _calculator(task.model) if isinstance(task.model, Potential) else None
        )
        self._interval = task.interval
        self._written = time.monotonic()
        make_folder(self.samples.parent)

    def due(self) -> bool:
        """Return whether the files are older than a minute."""
        return time.monotonic() - self._written >= _SECONDS

    def write(
        self, driver: SpinLatticeDynamics, equilibration: int, found: Series
    ) -> None:
        """Write the samples and the state after them, each whole or not at all."""
        arrays: dict[str, Any] = {name: np.array(rows) for name, rows in found.items()}
        arrays |= {"task": self._task, "equilibration": equilibration}
        with atomic_write(self.samples) as temporary:
            np.savez(temporary, **arrays)
        driver.save(self.driver)
        self._written = time.monotonic()

    def read(
        self, kind: type[SpinLatticeDynamics]
    ) -> tuple[SpinLatticeDynamics, int, Series] | None:
        """Return driver, equilibration and samples of an earlier run, if there is one.

        Samples that were written after the driver's state are left out.

        Raises
        ------
        ValueError
            If it is damaged, or was another task's.
        """
        if not (self.driver.exists() and self.samples.exists()):
            return None
        kind_of_file = "samples of a run"
        check_archive(self.samples, expected=kind_of_file)
        with reading(self.samples, kind_of_file), np.load(self.samples) as stored:
            arrays = dict(stored)
        if str(arrays.pop("task", "")) != self._task:
            raise ValueError(
                f"{self.samples} is of another run: model, structure, temperatures, "
                "q, seed or options differ. Remove it, or name another checkpoint "
                "folder"
            )
        equilibration = int(arrays.pop("equilibration"))
        driver = kind.restore(self.driver, calculator=self._calculator)
        count = max(0, driver.nsteps - equilibration) // self._interval
        kept = {_STRUCTURE: count // _APART}
        series = {k: list(v[: kept.get(k, count)]) for k, v in arrays.items()}
        return driver, equilibration, series


def _identity(task: SamplingTask) -> str:
    """Return a digest that identifies a task, ignoring its length."""
    free = {"steps", "equilibration", "checkpoint"}
    known = {k: v for k, v in vars(task).items() if k not in free}
    known["observables"] = {k: _name_of(f) for k, f in task.observables.items()}
    if isinstance(task.model, Potential):
        known["model"] = identifying_data(task.model)
    return digest(known)


def _name_of(function: Callable[[Atoms], float]) -> Any:
    """Return what identifies an observable in every process: name, or contents."""
    if is_dataclass(function):
        return {"class": type(function).__name__, **vars(function)}
    return getattr(function, "__qualname__", type(function).__qualname__)
