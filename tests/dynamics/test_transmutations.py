"""Changes of elements in Monte Carlo against sums over all occupations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from calculators import Foreign

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.potentials import (
    Heisenberg,
    LennardJones,
    PairPotential,
    Potential,
    Shells,
    Zeeman,
)
from deepspin_ase.units import MU_B

KT = 0.05
T = KT / units.kB
A = 2.8
MU = {"Fe": 0.01, "Al": -0.02, "Cu": 0.0}


def pairs() -> Potential:
    near = Shells([(A, -0.03)])
    far = Shells([(A, 0.02), (A * np.sqrt(2), -0.01)])
    return PairPotential(near, elements=("Fe", "Al")) + PairPotential(
        far, elements=("Cu", "Cu")
    )


def square(*, periodic: bool) -> Atoms:
    """Return six sites of a lattice that is two sites wide where it is periodic."""
    atoms = bulk("Fe", "sc", a=A).repeat((3, 2, 1))
    atoms.pbc = periodic
    set_spins(atoms, np.zeros(6))
    return atoms


def shares(symbols: list[str]) -> list[float]:
    return [symbols.count(s) / len(symbols) for s in MU]


@pytest.mark.parametrize(
    ("kind", "periodic", "steps"),
    [
        ("table", True, 300),
        pytest.param("table", False, 300, marks=pytest.mark.slow),
        ("local", False, 60),
    ],
)
def test_compositions_follow_boltzmann(kind: str, periodic: bool, steps: int) -> None:
    atoms = square(periodic=periodic)
    potential = pairs()
    if kind == "local":  # no sum of pair terms
        potential = potential + LennardJones(0.0, 2.0, cutoff=5.0)
    trial = atoms.copy()
    trial.calc = DeepSpinCalculator(potential)
    rows, energies = [], []
    for symbols in product(MU, repeat=6):
        trial.symbols[:] = symbols
        energy = trial.get_potential_energy()
        rows.append([*shares(list(symbols)), energy])
        energies.append(energy - sum(MU[s] for s in symbols))
    weight = np.exp(-(np.array(energies) - min(energies)) / KT)
    expected = weight @ np.array(rows) / weight.sum()
    atoms.calc = trial.calc
    dyn = MonteCarlo(
        atoms, temperature_K=[T] * 12, chemical_potentials=MU, rng=1, progress=False
    )
    dyn.run(10)
    sample = []
    for _ in dyn.irun(steps):
        energy = dyn.prediction.energy.numpy()
        found = [shares(image.get_chemical_symbols()) for image in dyn.images]
        sample.append(np.column_stack([found, energy]))
    means = np.array(sample)[1:].mean(axis=0)
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    assert (abs(means.mean(axis=0) - expected) < 4.5 * error).all()
    assert (error < 0.06).all()
    assert (dyn.acceptance["transmutation"] > 0.2).all()


def test_moments_come_and_go_with_their_elements() -> None:
    """Single atoms in a field: Z(Fe)/Z(Al) = exp(dmu/kT) sinh(x)/x."""
    atoms = Atoms("Fe400", positions=6.0 * np.arange(1200).reshape(-1, 3))
    set_spins(atoms, {"Fe": 2.0})
    x = 1.5
    field_T = x * KT / (2.0 * MU_B)
    atoms.calc = DeepSpinCalculator(Zeeman((0, 0, field_T)))
    dyn = MonteCarlo(
        atoms,
        temperature_K=T,
        chemical_potentials={"Fe": 0.0, "Al": 0.01},
        element_moments={"Fe": 2.0},
        rng=3,
    )
    dyn.run(20)
    sample = []
    for _ in dyn.irun(60):
        iron = dyn.atoms.numbers == 26
        spins = get_spins(dyn.atoms)
        sample.append([iron.mean(), spins[iron, 2].mean() / 2.0])
    np.testing.assert_allclose(np.linalg.norm(spins, axis=1), 2.0 * iron, atol=1e-9)
    ratio = np.exp(-0.01 / KT) * np.sinh(x) / x
    expected = [ratio / (1 + ratio), 1 / np.tanh(x) - 1 / x]
    error = np.std(sample, axis=0) / np.sqrt(len(sample) / 4)
    assert (abs(np.mean(sample, axis=0) - expected) < 4 * error).all()
    np.testing.assert_allclose(
        dyn.atoms.get_masses(), np.where(iron, 55.845, 26.982), atol=1e-2
    )


def test_a_restart_continues_to_the_same_bits(tmp_path) -> None:
    atoms = bulk("Fe", "sc", a=A).repeat(3)
    set_spins(atoms, {"Fe": 2.0})
    atoms.calc = DeepSpinCalculator(pairs() + Heisenberg(Shells([(A, 0.02)])))
    dyn = MonteCarlo(
        atoms,
        temperature_K=T,
        chemical_potentials={"Fe": 0.0, "Al": 0.0},
        element_moments={"Fe": 2.0},
        rng=2,
    )
    dyn.run(3)
    dyn.save(tmp_path / "run.ckpt")
    dyn.run(4)
    again = MonteCarlo.restore(tmp_path / "run.ckpt")
    again.run(4)
    np.testing.assert_array_equal(again.atoms.numbers, dyn.atoms.numbers)
    np.testing.assert_array_equal(get_spins(again.atoms), get_spins(dyn.atoms))
    assert 0 < (dyn.atoms.numbers == 13).sum() < 27


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chemical_potentials": {"Fe": 0.0}}, "two or more elements"),
        ({"chemical_potentials": {"Fe": 0.0, "Xx": 1.0}}, "Xx are no elements"),
        (
            {"chemical_potentials": {"Cu": 0.0, "Al": 1.0}},
            "structure 0 has no free atom",
        ),
        ({"chemical_potentials": {"Fe": 0.0, "Al": 0.0}}, "atom 0 carries 2 mu_B"),
        ({"element_moments": {"Fe": 2.0}}, "element_moments need chemical_potentials"),
        (
            {"chemical_potentials": MU, "element_moments": {"Ni": 1.0}},
            "of elements that change, not Ni",
        ),
        (
            {"chemical_potentials": MU, "swap_elements": ("Fe", "Al")},
            "go without swap_elements",
        ),
        ({"chemical_potentials": {"Fe": 0.0, "Al": np.nan}}, "must be finite"),
    ],
)
def test_what_cannot_change(options, message: str) -> None:
    atoms = square(periodic=False)
    set_spins(atoms, {"Fe": 2.0})
    atoms.calc = DeepSpinCalculator(pairs() + Heisenberg(Shells([(A, 0.02)])))
    with pytest.raises(ValueError, match=message):
        MonteCarlo(atoms, temperature_K=T, **options)


def test_models_of_other_programs_keep_their_elements() -> None:
    atoms = square(periodic=False)
    atoms.calc = Foreign(pairs())
    with pytest.raises(ValueError, match="need a potential of this package"):
        MonteCarlo(atoms, temperature_K=T, chemical_potentials=MU)
