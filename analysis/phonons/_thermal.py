"""Spin-space averaged phonons of magnets at finite temperature.

>>> found = thermal_phonons(atoms, 2, temperature_K=1500, samples=50, seed=1)
>>> phonon_bands(found.phonon)

Spin configurations are sampled on the undisplaced lattice by Monte Carlo, or at random
for an infinite temperature; in each of them the moments stay fixed while atoms are
displaced (spin-space averaging: Koermann et al., Phys. Rev. B 85, 125104 (2012),
doi:10.1103/PhysRevB.85.125104). That is right for spins that are faster than the atoms,
except for the part of their motion that follows the atoms: the term -cov(F, F)/kT of
the free energy is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from phonopy import Phonopy

from ..._progress import bar
from ..._result import Result
from ...dynamics import MonteCarlo
from ...orders import random_directions
from ...spins import get_spins, set_spins
from ._force_constants import displaced_supercells, forces_of, prepare_phonopy


@dataclass(frozen=True, eq=False)
class ThermalPhonons(Result):
    """Phonons averaged over the spin configurations of a temperature.

    Attributes
    ----------
    phonon : Phonopy
        With the averaged force constants.
    temperature_K : float
    spins : (S, N, 3) array, mu_B
        The configurations of the supercell.
    forces : (S, D, N, 3) array, eV/A
        Change of the forces by each of D displacements in each of them.
    """

    phonon: Phonopy
    temperature_K: float
    spins: np.ndarray
    forces: np.ndarray

    @property
    def force_error(self) -> float:
        """Standard error of the averaged changes of forces, rms, eV/A.

        As if the samples were independent: leave enough sweeps between them.
        """
        spread = self.forces.std(axis=0, ddof=1)
        return float(np.sqrt(np.mean(spread**2) / len(self.forces)))


def thermal_phonons(
    atoms: Atoms,
    supercell: int | ArrayLike,
    *,
    temperature_K: float,
    samples: int = 20,
    equilibration: int = 500,
    interval: int = 20,
    distance: float = 0.01,
    symmetry: str = "magnetic",
    primitive_matrix: Any = None,
    seed: int = 0,
) -> ThermalPhonons:
    """Return phonons whose force constants are averages over spin configurations.

    Parameters
    ----------
    atoms : Atoms
        Relaxed, with moments and a calculator that gives ``magnetic_forces``.
    supercell : int, three ints or (3, 3) array
    temperature_K : float
        Infinite for random directions, as far above the transition.
    samples : int
        Number of configurations, at least 2.
    equilibration, interval : int
        Monte Carlo sweeps before the first of them, and between two.
    distance, symmetry, primitive_matrix
        As for :func:`~deepspin_ase.analysis.calculate_phonons`. The symmetry is
        that of the average; it holds for samples only on the average.
    seed : int

    Raises
    ------
    ValueError
        If moments or the calculator are missing, or arguments are not as described.
    """
    if samples < 2:
        raise ValueError(f"an average and its error need samples >= 2, got {samples}")
    if equilibration < 0 or interval < 1:
        raise ValueError("equilibration must not be negative, and interval positive")
    phonon = prepare_phonopy(
        atoms,
        supercell,
        distance=distance,
        symmetry=symmetry,
        primitive_matrix=primitive_matrix,
    )
    images = displaced_supercells(phonon, atoms)
    spins = _sampled(
        images[0], atoms, temperature_K, samples, equilibration, interval, seed
    )
    changes = []
    for configuration in bar(spins, desc="samples"):
        for image in images:
            image.calc = atoms.calc
            set_spins(image, configuration)
        forces = forces_of(images, atoms.calc)
        changes.append(forces[1:] - forces[0])
    phonon.forces = np.mean(changes, axis=0)
    phonon.produce_force_constants()
    return ThermalPhonons(phonon, float(temperature_K), spins, np.array(changes))


def _sampled(
    image: Atoms,
    atoms: Atoms,
    temperature_K: float,
    samples: int,
    equilibration: int,
    interval: int,
    seed: int,
) -> np.ndarray:
    """Return configurations (S, N, 3), mu_B, of the supercell ``image``."""
    if np.isposinf(temperature_K):
        lengths = np.linalg.norm(get_spins(image), axis=1)
        order = random_directions(np.random.default_rng(seed))
        found = []
        for _ in range(samples):
            set_spins(image, lengths, pattern=order)
            found.append(get_spins(image))
        return np.array(found)
    walker = image.copy()
    walker.calc = atoms.calc
    driver = MonteCarlo(
        walker,
        temperature_K=temperature_K,
        adaptation_steps=max(equilibration, 1),
        rng=seed,
    )
    driver.run(equilibration)
    found = []
    for _ in range(samples):
        driver.run(interval)
        found.append(get_spins(walker))
    return np.array(found)
