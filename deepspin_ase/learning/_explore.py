"""Dynamics of many walkers that stop where the model is uncertain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.data import covalent_radii
from ase.md.velocitydistribution import thermalize_momenta

from .._distributed import map_tasks
from ..build import perturbed
from ..calculators import DeepSpinCalculator
from ..dynamics import SpinLatticeDynamics, SpinLatticeLangevin, SpinLatticeNPT
from ..neighbors import build_pairs
from ..potentials import CompiledPotential, Potential
from ..system import System
from ._config import ExploreConfig, Window

#: Columns of :attr:`Exploration.deviations`.
DEVIATIONS = ("forces", "magnetic_forces")


@dataclass
class Exploration:
    """What walkers met.

    Attributes
    ----------
    candidates, beyond : list of Atoms
        Structures in the window, and those above it, without calculators. ``info``
        holds ``walker``, ``time_fs``, ``temperature_K``, and ``forces_deviation`` and
        ``magnetic_forces_deviation``: the largest of the atoms, eV/A and eV/mu_B.
    seen : list of (float, float)
        The same for all that was looked at.
    accurate, uncertain, lost, unphysical : int
        Numbers of structures that were looked at, by what they are.
    failure : str
        Why the dynamics of walkers ended early; empty if they did not.
    """

    candidates: list[Atoms] = field(default_factory=list)
    beyond: list[Atoms] = field(default_factory=list)
    seen: list[tuple[float, float]] = field(default_factory=list)
    accurate: int = 0
    uncertain: int = 0
    lost: int = 0
    unphysical: int = 0
    failure: str = ""

    @classmethod
    def joined(cls, parts: Sequence[Exploration]) -> Exploration:
        """Return what several batches of walkers met."""
        whole = cls()
        for part in parts:
            whole.candidates += part.candidates
            whole.beyond += part.beyond
            whole.seen += part.seen
            whole.accurate += part.accurate
            whole.uncertain += part.uncertain
            whole.lost += part.lost
            whole.unphysical += part.unphysical
            whole.failure = whole.failure or part.failure
        return whole

    @property
    def share(self) -> float:
        """Share of accurate structures."""
        total = self.accurate + self.uncertain + self.lost + self.unphysical
        return self.accurate / total if total else 0.0


class _Walkers:
    """Observer of a driver: judges every walker, and sends it back where it is lost."""

    def __init__(
        self,
        driver: SpinLatticeDynamics,
        numbers: Sequence[int],
        starts: Sequence[Atoms],
        windows: tuple[Window, Window],
        config: ExploreConfig,
        rng: np.random.Generator,
    ) -> None:
        self.driver = driver
        self.numbers = numbers
        self.starts = starts
        self.windows = windows
        self.config = config
        self.rng = rng
        self.model = driver.engine.compiled
        self.found = Exploration()

    def __call__(self) -> None:
        if not self.driver.nsteps:
            return
        system = self.driver.state.system
        every = largest_deviations(self.model, system)
        for k, (image, both) in enumerate(zip(self.driver.images, every, strict=True)):
            self._judge(k, image, (float(both[0]), float(both[1])))

    def _judge(self, k: int, image: Atoms, deviations: tuple[float, float]) -> None:
        found = self.found
        if closest_approach(image) < self.config.closest:
            found.unphysical += 1
            self._send_back(k, image)
            return
        found.seen.append(deviations)
        pairs = list(zip(deviations, self.windows, strict=True))
        if all(d < w.low for d, w in pairs):
            found.accurate += 1
            return
        lost = any(d > w.high for d, w in pairs)
        (found.beyond if lost else found.candidates).append(
            self._kept(k, image, deviations)
        )
        if lost:
            found.lost += 1
            self._send_back(k, image)
        else:
            found.uncertain += 1

    def _kept(self, k: int, image: Atoms, deviations: tuple[float, float]) -> Atoms:
        kept = image.copy()
        kept.calc = None
        temperature = self.driver.temperature_K
        assert temperature is not None
        kept.info = {
            "walker": self.numbers[k],
            "time_fs": self.driver.time_fs,
            "temperature_K": float(temperature[k]),
            **{
                f"{n}_deviation": d for n, d in zip(DEVIATIONS, deviations, strict=True)
            },
        }
        return kept

    def _send_back(self, k: int, image: Atoms) -> None:
        """Start a walker anew, from another structure about its crystal."""
        temperature = self.driver.temperature_K
        assert temperature is not None
        fresh = _start(
            self.numbers[k],
            self.starts[k],
            float(temperature[k]),
            self.config,
            self.rng,
        )
        image.set_cell(fresh.cell)
        for name in ("positions", "momenta", "initial_magmoms"):
            image.arrays[name][:] = fresh.arrays[name]


def explore(
    potential: Potential,
    structures: Sequence[Atoms],
    config: ExploreConfig,
    *,
    forces: Window,
    magnetic_forces: Window,
    seed: int = 0,
    client: Any = None,
    progress: bool | None = None,
) -> Exploration:
    """Run walkers, and collect structures at which the deviations are in the windows.

    Parameters
    ----------
    potential : Potential
        One that predicts deviations, such as a
        :class:`~deepspin_ase.potentials.Committee`.
    structures : sequence of Atoms
        With moments; walkers start from them in turn.
    config : ExploreConfig
    forces, magnetic_forces : Window
    seed : int
    client : dask.distributed.Client, optional
        Run batches of walkers on its workers, see
        :func:`~deepspin_ase.analysis.map_tasks`; the numbers are the same.
    progress : bool, optional
        Progress bar; by default on a terminal.

    Raises
    ------
    ValueError
        If the potential predicts no deviations.
    """
    n = max(config.walkers, len(config.temperature_K))
    batches = np.array_split(np.arange(n), -(-n // config.batch))
    seeds = np.random.SeedSequence(seed).spawn(len(batches))
    run = partial(
        _explore_batch,
        potential,
        [atoms.copy() for atoms in structures],
        config,
        (forces, magnetic_forces),
        progress if client is None else False,
    )
    parts = map_tasks(
        run,
        [(b.tolist(), s) for b, s in zip(batches, seeds, strict=True)],
        client=client,
        description="walkers",
        progress=False if client is None else progress,
    )
    return Exploration.joined(parts)


def _explore_batch(
    potential: Potential,
    structures: Sequence[Atoms],
    config: ExploreConfig,
    windows: tuple[Window, Window],
    progress: bool | None,
    task: tuple[list[int], np.random.SeedSequence],
) -> Exploration:
    """Run the walkers with these numbers in one batch."""
    walkers, seed = task
    rng = np.random.default_rng(seed)
    temperatures = config.temperature_K
    which = [k % len(temperatures) for k in walkers]
    spins = config.spin_temperature_K or temperatures
    starts = [_defective(structures[k % len(structures)], config, rng) for k in walkers]
    images = [
        _start(k, atoms, temperatures[t], config, rng)
        for k, atoms, t in zip(walkers, starts, which, strict=True)
    ]
    calculator = DeepSpinCalculator(potential)
    for image in images:
        image.calc = calculator
    common: dict[str, Any] = {
        "temperature_K": [temperatures[t] for t in which],
        "spin_temperature_K": [spins[t] for t in which],
        "damping": config.damping,
        "external_field_T": config.external_field_T,
        "rng": rng,
        "progress": progress,
    }
    timestep = config.timestep_fs * units.fs
    pressures = config.pressure_GPa
    driver: SpinLatticeDynamics
    if pressures is None:
        friction = config.friction_per_fs / units.fs
        driver = SpinLatticeLangevin(images, timestep, friction=friction, **common)
    else:
        pressure = [pressures[k % len(pressures)] for k in walkers]
        driver = SpinLatticeNPT(
            images, timestep, pressure_GPa=pressure, cell="flexible", **common
        )
    observer = _Walkers(driver, walkers, starts, windows, config, rng)
    interval = max(1, round(config.interval_fs / config.timestep_fs))
    driver.attach(observer, interval)
    with warnings.catch_warnings():
        # Walkers look for what is out of range, and hot spins turn fast.
        warnings.simplefilter("ignore", UserWarning)
        try:
            driver.run(max(1, round(config.time_fs / config.timestep_fs)))
        except CalculationFailed as error:
            observer.found.failure = str(error)
    return observer.found


def _defective(atoms: Atoms, config: ExploreConfig, rng: np.random.Generator) -> Atoms:
    """Return a crystal, or one with a vacancy or a substitution, by their shares."""
    atoms = atoms.copy()
    if rng.uniform() < config.substituted and config.substitutions:
        symbols = atoms.get_chemical_symbols()
        sites = [k for k, x in enumerate(symbols) if x in config.substitutions]
        if sites:
            site = int(rng.choice(sites))
            symbols[site] = config.substitutions[symbols[site]]
            atoms.set_chemical_symbols(symbols)
    if rng.uniform() < config.vacancies and len(atoms) > 1:
        del atoms[int(rng.integers(len(atoms)))]
    return atoms


def _start(
    k: int,
    atoms: Atoms,
    temperature_K: float,
    config: ExploreConfig,
    rng: np.random.Generator,
) -> Atoms:
    """Return a start of walker ``k``, with momenta."""
    (start,) = perturbed(
        atoms,
        1,
        displacement=0.0,
        strain=config.strain,
        reduced_temperature=0.05,
        length=config.length,
        states=[config.spin_starts[k % len(config.spin_starts)]],
        seed=rng,
    )
    thermalize_momenta(start, temperature_K=temperature_K, rng=rng)
    return start


def largest_deviations(model: CompiledPotential, system: System) -> np.ndarray:
    """Return the largest norm over the atoms of each structure, (B, 2).

    Of deviations of forces (eV/A) and of magnetic forces (eV/mu_B).

    Raises
    ------
    ValueError
        If the model predicts no deviations.
    """
    prediction = model.evaluate(system, virial=False, deviations=True)
    if any(name not in prediction.deviations for name in DEVIATIONS):
        raise ValueError(
            "the model does not know how certain it is: train one with deviations, or "
            "a Committee of several"
        )
    result = np.zeros((system.n_systems, len(DEVIATIONS)))
    index = system.index.cpu().numpy()
    for column, name in enumerate(DEVIATIONS):
        norms = prediction.deviations[name].norm(dim=1).cpu().numpy()
        np.maximum.at(result[:, column], index, norms)
    return result


def closest_approach(atoms: Atoms) -> float:
    """Return the least distance of two atoms over the sum of their covalent radii."""
    system = System.from_atoms(atoms)
    radii = covalent_radii[atoms.numbers]
    pairs = build_pairs(system, 2.0 * float(radii.max()))
    if not len(pairs.i):
        return np.inf
    distances = pairs.vectors(system).norm(dim=1).numpy()
    return float((distances / (radii[pairs.i.numpy()] + radii[pairs.j.numpy()])).min())
