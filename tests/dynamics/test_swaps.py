"""Swaps of atoms in Monte Carlo against sums over all arrangements."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from calculators import Foreign

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis.transitions import binder_cumulant, crossing
from deepspin_ase.build import random_alloy
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.potentials import (
    Heisenberg,
    LennardJones,
    PairPotential,
    Potential,
    Shells,
    UniaxialAnisotropy,
)

KT = 0.05
T = KT / units.kB
A = 2.8
V = 0.01


def pairs(first: float = -V, second: float = 0.4 * V) -> Potential:
    """Energies of Fe-Al, Fe-Cu and Al-Cu pairs at two distances."""
    shells = Shells([(A, first), (A * np.sqrt(2), second)])
    other = Shells([(A, 0.5 * V)])
    return (
        PairPotential(shells, elements=("Fe", "Al"))
        + PairPotential(other, elements=("Fe", "Cu"))
        + PairPotential(other, elements=("Al", "Al"))
    )


def cube(symbols: str, *, periodic: bool) -> Atoms:
    atoms = bulk("Fe", "sc", a=A).repeat(2)
    atoms.symbols[:] = symbols
    atoms.pbc = periodic
    if not periodic:
        atoms.cell = None
    set_spins(atoms, np.zeros(8))
    return atoms


def exact(atoms: Atoms, potential: Potential) -> tuple[float, float]:
    """Mean and mean square of the energy over all arrangements."""
    trial = atoms.copy()
    trial.calc = DeepSpinCalculator(potential)
    spins = get_spins(atoms)
    kinds = [(z, *m) for z, m in zip(atoms.numbers, spins, strict=True)]
    found = []
    for order in sorted(set(permutations(kinds))):
        trial.numbers[:] = [int(k[0]) for k in order]
        set_spins(trial, np.array([k[1:] for k in order]))
        found.append(trial.get_potential_energy())
    energy = np.array(found)
    weight = np.exp(-(energy - energy.min()) / KT)
    weight /= weight.sum()
    return float(weight @ energy), float(weight @ energy**2)


def sampled(atoms: Atoms, *, steps: int, elements, count: int = 16) -> np.ndarray:
    """Return energies of replicas after each sweep."""
    dyn = MonteCarlo(atoms, temperature_K=[T] * count, swap_elements=elements, rng=3)
    dyn.run(10)
    energies = []
    for _ in dyn.irun(steps):
        energies.append(dyn.prediction.energy.numpy().copy())
    return np.array(energies)[1:]


def agrees(energies: np.ndarray, expected: tuple[float, float]) -> bool:
    """Within four errors, taken from the replicas."""
    close = []
    for power, value in zip((1, 2), expected, strict=True):
        means = (energies**power).mean(axis=0)
        error = means.std(ddof=1) / np.sqrt(len(means))
        close.append(abs(means.mean() - value) < 4.0 * error)
    return all(close)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("symbols", ["Fe4Al4", "Fe3Al3Cu2"])
def test_tables_follow_boltzmann(symbols: str, periodic: bool) -> None:
    """In the small cell pairs count twice, and atoms are their own neighbors."""
    atoms = cube(symbols, periodic=periodic)
    atoms.calc = DeepSpinCalculator(pairs())
    elements = ("Fe", "Al", "Cu") if "Cu" in symbols else ("Fe", "Al")
    energies = sampled(atoms, steps=150, elements=elements)
    assert agrees(energies, exact(atoms, pairs()))


def magnet() -> tuple[Atoms, Potential]:
    """Three moments of fixed, different directions among three other atoms."""
    atoms = Atoms("Fe3Al3", [[A * k, 0.3 * (k % 2), 0.0] for k in range(6)])
    set_spins(
        atoms, [2.0, 2.0, 2.0, 0, 0, 0], pattern=[[0, 0, 1], [0, 0, -1], [1, 0, 0]] * 2
    )
    atoms.set_constraint(FixSpins(range(6)))
    exchange = Heisenberg(LongShells) + UniaxialAnisotropy(0.01, (0, 0, 1))
    return atoms, exchange + PairPotential(LongShells, elements=("Fe", "Al"))


LongShells = Shells([(np.hypot(A, 0.3), 0.5 * V), (2 * A, 0.2 * V)])


@pytest.mark.parametrize("model", ["local", "calculator"])
def test_moments_go_with_their_atoms(model: str) -> None:
    atoms, potential = magnet()
    expected = exact(atoms, potential)
    calculator = DeepSpinCalculator(potential)
    atoms.calc = calculator if model == "local" else Foreign(potential)
    count = 16 if model == "local" else 8
    energies = sampled(atoms, steps=25, elements=("Fe", "Al"), count=count)
    assert agrees(energies, expected)


def test_swaps_of_distant_atoms_are_tried_together() -> None:
    """Many in one call, with the averages of a table."""
    atoms = random_alloy(bulk("Fe", "sc", a=A).repeat(4), {"Al": 0.4}, seed=1)
    set_spins(atoms, np.zeros(len(atoms)))
    means = []
    for potential in (pairs(), pairs() + UniaxialAnisotropy(0.01, (0, 0, 1))):
        atoms.calc = DeepSpinCalculator(potential)
        dyn = MonteCarlo(
            atoms, temperature_K=[T] * 8, swap_elements=("Fe", "Al"), rng=5
        )
        dyn.run(10)
        energies = []
        for _ in dyn.irun(20):
            energies.append(dyn.prediction.energy.numpy().copy())
        means.append(np.mean(energies, axis=0))
    assert 0.0 < dyn.acceptance["swap"].min()
    error = np.hypot(*(m.std(ddof=1) / np.sqrt(8) for m in means))
    assert abs(means[0].mean() - means[1].mean()) < 4.0 * error


def test_atoms_keep_what_is_theirs_and_sites_stay() -> None:
    atoms, potential = magnet()
    atoms.calc = DeepSpinCalculator(potential)
    before, sites = get_spins(atoms), np.sort(atoms.positions, axis=0)
    dyn = MonteCarlo(atoms, temperature_K=T, swap_elements=("Fe", "Al"), rng=1)
    dyn.run(20)
    assert str(atoms.symbols) == "Fe3Al3"
    np.testing.assert_array_equal(get_spins(atoms), before)
    np.testing.assert_allclose(np.sort(atoms.positions, axis=0), sites)
    assert (atoms.positions[:3] != sites[:3]).any()
    fresh = atoms.copy()
    fresh.calc = DeepSpinCalculator(potential)
    assert fresh.get_potential_energy() == pytest.approx(
        float(dyn.prediction.energy[0]), abs=1e-10
    )


def test_fixed_atoms_are_not_swapped() -> None:
    atoms = cube("Fe4Al4", periodic=True)
    atoms.calc = DeepSpinCalculator(pairs())
    atoms.set_constraint(FixAtoms([0, 5]))
    held = atoms.positions[[0, 5]]
    MonteCarlo(atoms, temperature_K=T, swap_elements=("Fe", "Al"), rng=1).run(20)
    np.testing.assert_array_equal(atoms.positions[[0, 5]], held)


def test_a_restart_continues_to_the_same_bits(tmp_path) -> None:
    path = tmp_path / "run.ckpt"

    def start() -> MonteCarlo:
        atoms = random_alloy(bulk("Fe", "sc", a=A).repeat(3), {"Al": 0.4}, seed=1)
        set_spins(atoms, {"Fe": 2.0})
        atoms.calc = DeepSpinCalculator(pairs() + Heisenberg(Shells([(A, 0.01)])))
        return MonteCarlo(
            atoms, temperature_K=[T, 2 * T], swap_elements=("Fe", "Al"), rng=2
        )

    whole = start()
    whole.run(8)
    half = start()
    half.run(4)
    half.save(path)
    again = MonteCarlo.restore(path)
    again.run(4)
    for a, b in zip(whole.images, again.images, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(get_spins(a), get_spins(b))
    np.testing.assert_array_equal(whole.acceptance["swap"], again.acceptance["swap"])


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (("Fe",), "two or more elements"),
        ("FeAl", "two or more elements"),
        (("Fe", "Alu"), "Alu are no elements"),
        (("Fe", "Co"), "fewer than two of the elements"),
    ],
)
def test_elements_that_cannot_be_swapped(elements, message: str) -> None:
    atoms = cube("Fe4Al4", periodic=True)
    atoms.calc = DeepSpinCalculator(LennardJones(0.1, 2.3))
    with pytest.raises(ValueError, match=message):
        MonteCarlo(atoms, temperature_K=T, swap_elements=elements)


@pytest.mark.slow
def test_transition_of_an_alloy_that_orders_as_cesium_chloride() -> None:
    """The Ising model on the bcc lattice: kT/J = 6.3547, with J = V/2.

    P. H. Lundow, K. Markström and A. Rosengren, Phil. Mag. 89, 2009 (2009),
    doi:10.1080/14786430802680512, have 6.35435 for its inverse 0.157371.
    """
    a = 2.0 * A / np.sqrt(3.0)
    potential = PairPotential(Shells([(A, -V)]), elements=("Fe", "Al"))
    temperatures = 6.3547 * np.linspace(0.97, 1.03, 7) * V / 2 / units.kB
    curves = []
    for size in (5, 8):
        atoms = bulk("Fe", cubic=True, a=a).repeat(size)
        corner = np.arange(len(atoms)) % 2 == 0
        atoms.numbers[corner] = 13
        set_spins(atoms, np.zeros(len(atoms)))
        atoms.calc = DeepSpinCalculator(potential)
        dyn = MonteCarlo(
            atoms, temperature_K=temperatures, swap_elements=("Fe", "Al"), rng=7
        )
        sites = np.round(atoms.positions * 2 / a).astype(int)
        dyn.run(500)
        order = []
        for _ in dyn.irun(6000):
            now = [i.positions[corner, 0] * 2 / a for i in dyn.images]
            order.append([np.mean(1 - 2 * (np.rint(x) % 2)) for x in now])
        assert (sites[corner] % 2 == 0).all()
        found = [binder_cumulant(m) for m in np.array(order).T]
        curves.append(tuple(np.array(found).T))
    reduced = crossing(temperatures * units.kB * 2 / V, curves)
    print(reduced)
    assert abs(reduced.value / 6.3547 - 1.0) < 0.005 + 2 * reduced.error / 6.3547
