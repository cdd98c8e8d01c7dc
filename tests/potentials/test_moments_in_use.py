"""The network on moments with everything that takes a potential.

It is fitted in closed form to a magnet that it can represent, whose answers it must
give.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.analysis import (
    SpinLatticeNEB,
    SpinWaves,
    cartesian_hessian,
    curie_temperature,
    exchange_tensors,
    interpolate,
)
from deepspin_ase.data import Dataset, Frame
from deepspin_ase.dynamics import SpinLatticeNVE
from deepspin_ase.potentials import (
    CubicCut,
    LennardJones,
    MomentExchange,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    Sum,
)
from deepspin_ase.training import fit_linear_term, load_batches

A = 3.5
MOMENT = 2.0
RADIUS = 3.2  # first neighbors
EXCHANGE = CubicCut(0.03, RADIUS)
MAGNET = Sum([LennardJones(0.3, 2.25, cutoff=RADIUS), MomentExchange(EXCHANGE)])


def crystal(repeat: int = 1) -> Atoms:
    atoms = bulk("Fe", "fcc", A, cubic=True).repeat(repeat)
    set_spins(atoms, np.tile([0, 0, MOMENT], (len(atoms), 1)))
    return atoms


def shaken(seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = crystal().repeat((2, 1, 1))
    strain = np.eye(3) + rng.normal(0, 0.01, (3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.normal(0, 0.06, atoms.positions.shape)
    moments = rng.normal(size=(len(atoms), 3))
    set_spins(atoms, MOMENT * moments / np.linalg.norm(moments, axis=1)[:, None])
    return atoms


@pytest.fixture(scope="module")
def network() -> SpinMomentNetwork:
    calculator = DeepSpinCalculator(MAGNET)
    frames = []
    for seed in range(24):
        atoms = shaken(seed)
        atoms.calc = calculator
        atoms.get_potential_energy()
        frames.append(Frame.from_atoms(atoms))
    config = SpinMomentConfig.from_dict(
        {
            "elements": ["Fe"],
            "magnetic": ["Fe"],
            "cutoff": RADIUS,
            "basis": 8,
            "channels": 8,
            "spin_channels": 8,
            "degree": 1,
            "spin_degree": 0,
            "four_body": 0,
        }
    )
    made = SpinMomentNetwork(config).requires_grad_(False)
    batches = load_batches(Dataset(frames), made)
    made.fit_statistics((b.system, b.pairs) for b in batches)
    made.start_from_zero()
    weights = dict.fromkeys(("energy", "forces", "magnetic_forces", "virial"), 1.0)
    found = fit_linear_term(made, batches, weights)
    made.element_energies = found.references.elements
    return made


def test_exchange_and_magnons(network: SpinMomentNetwork) -> None:
    found, expected = [], []
    for potential, results in ((network, found), (MAGNET, expected)):
        atoms = bulk("Fe", "fcc", A)
        set_spins(atoms, [[0, 0, MOMENT]])
        atoms.calc = DeepSpinCalculator(potential)
        tensors = exchange_tensors(atoms)
        near = tensors.distances < 2.6
        results += [
            tensors.isotropic[near],
            SpinWaves.from_atoms(atoms).bands([[0, 0, 0], [0.5, 0.5, 0], [0.2, 0, 0]]),
        ]
    assert len(found[0]) == len(expected[0]) == 12
    np.testing.assert_allclose(found[0], expected[0], rtol=0.02)
    np.testing.assert_allclose(
        found[1].energies, expected[1].energies, rtol=0.03, atol=1e-6
    )


def test_hessian(network: SpinMomentNetwork) -> None:
    """But for lengths of moments, of which the data hold one."""
    products = []
    directions = np.random.default_rng(0).normal(size=(2, 4, 3))
    directions[1, :, 2] = 0.0
    for potential in (network, MAGNET):
        atoms = crystal()
        atoms.calc = DeepSpinCalculator(potential)
        products.append(np.stack(cartesian_hessian(atoms).product(*directions)))
    for part, axes in ((0, 3), (1, 2)):
        found, expected = (product[part, :, :axes] for product in products)
        size = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.03 * size)


def test_bands_of_images(network: SpinMomentNetwork) -> None:
    """A moment turns over while its atom moves."""
    barriers = []
    for potential in (network, MAGNET):
        first = crystal()
        first.calc = DeepSpinCalculator(potential)
        last = first.copy()
        moments = np.tile([0, 0, MOMENT], (4, 1))
        moments[1] = [0.2, 0, -MOMENT]
        set_spins(last, moments)
        last.positions[1] += [0.05, 0.0, 0.0]
        neb = SpinLatticeNEB(interpolate(first, last, 5))
        with pytest.warns(UserWarning, match="minimum"):
            neb.run(fmax=1e-3, steps=4)
            barriers.append(np.ptp(neb.path().energies))
    assert barriers[0] == pytest.approx(barriers[1], rel=0.03)


def conserved(network: Potential, repeat: int, steps: int) -> tuple[float, float]:
    """Return drift and fluctuation of the conserved energy, eV per atom."""
    atoms = crystal(repeat)
    rng = np.random.default_rng(1)
    thermalize_momenta(atoms, 200, rng=rng)
    tilted = np.tile([0, 0, MOMENT], (len(atoms), 1))
    tilted = tilted + rng.normal(0, 0.2, tilted.shape)
    tilted *= MOMENT / np.linalg.norm(tilted, axis=1)[:, None]
    set_spins(atoms, tilted)
    atoms.calc = DeepSpinCalculator(network)
    dynamics = SpinLatticeNVE(atoms, 1.0 * units.fs)
    energies = []
    for _ in range(steps // 5):
        dynamics.run(5)
        energies.append(float(dynamics.conserved_energy()[0]) / len(atoms))
    half = len(energies) // 2
    drift = np.mean(energies[half:]) - np.mean(energies[:half])
    return abs(drift), float(np.std(energies))


def test_energy_is_conserved(network: SpinMomentNetwork) -> None:
    drift, spread = conserved(network, 2, 100)
    assert spread < 1e-4
    assert drift < 1e-4


@pytest.mark.slow
def test_energy_is_conserved_for_long(network: SpinMomentNetwork) -> None:
    drift, spread = conserved(network, 3, 3000)
    assert spread < 1e-4
    assert drift < 2e-5


@pytest.mark.slow
def test_curie_temperature(network: SpinMomentNetwork) -> None:
    strength = float(EXCHANGE(torch.tensor(A / np.sqrt(2.0)))) * MOMENT**2
    middle = 3.18 * strength / units.kB
    found = [
        curie_temperature(
            crystal(),
            middle * np.array([0.85, 0.95, 1.05, 1.15]),
            sizes=(2, 3),
            steps=900,
            model=potential,
            progress=False,
        ).temperature_K
        for potential in (network, MAGNET)
    ]
    error = np.hypot(found[0].error, found[1].error)
    assert abs(found[0].value - found[1].value) < max(3.0 * error, 0.03 * middle)
