"""The shipped Fe model: errors, symmetries, crystal, exchange and dynamics."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import SpinWaves, spin_stiffness
from deepspin_ase.data import load_example
from deepspin_ase.dynamics import LongitudinalSpinLangevin, SpinLatticeLangevin
from deepspin_ase.optimize import relax
from deepspin_ase.potentials import Potential, load_card, load_potential
from deepspin_ase.system import System
from deepspin_ase.testing import check_potential
from deepspin_ase.training import aligned, compare, load_batches

#: Lattice constant (A) and moment (mu_B) of the ferromagnet at rest.
LATTICE, MOMENT = 2.83, 2.2


@pytest.fixture(scope="module")
def model() -> Potential:
    return load_potential("Fe")


def energy(model: Potential, atoms: Atoms) -> float:
    found = model.evaluate(
        System.from_atoms(atoms), forces=False, magnetic_forces=False, virial=False
    )
    return float(found.energy) / len(atoms)


def crystal(structure: str, a: float, moment: float) -> Atoms:
    atoms = bulk("Fe", structure, a, cubic=True)
    set_spins(atoms, {"Fe": moment})
    return atoms


def canted(seed: int = 0) -> Atoms:
    """Strained, rattled, with moments of 1.5 to 2.5 mu_B that point anywhere."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Fe", "bcc", LATTICE, cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), True)
    atoms.positions += rng.normal(0, 0.1, (2, 3))
    spins = rng.normal(size=(2, 3))
    spins *= (rng.uniform(1.5, 2.5, 2) / np.linalg.norm(spins, axis=1))[:, None]
    set_spins(atoms, spins)
    return atoms


def test_symmetries(model: Potential) -> None:
    """All that hold without spin-orbit coupling, exactly."""
    check_potential(
        model,
        canted(),
        symmetries=("time_reversal", "rotation", "inversion", "spin_rotation"),
        tolerance=1e-5,
    )


def test_errors_of_the_example_data(model: Potential) -> None:
    """Of constrained LDA, another functional, which counted little in training."""
    card = load_card("Fe")
    frames = aligned(load_example("fe2_lda", split="valid"), card["sets"]["lda"])
    found = compare(model, load_batches(frames, model))
    for name, value in card["errors_by_kind"]["fe2_lda"].items():
        if name != "frames":
            assert found[name].rmse == pytest.approx(value, rel=1e-3), name


def test_ferromagnet(model: Potential) -> None:
    """Lattice constant, moment, and bulk modulus, of PBE within a few percent."""
    lattices, moments = np.linspace(2.76, 2.90, 8), np.linspace(1.9, 2.5, 7)
    energies = np.array(
        [[energy(model, crystal("bcc", a, m)) for m in moments] for a in lattices]
    )
    rest, length = [], []
    for row in energies:
        c2, c1, c0 = np.polyfit(moments - MOMENT, row, 2)
        rest.append(c0 - c1**2 / (4 * c2))
        length.append(MOMENT - c1 / (2 * c2))
    curve = np.polynomial.Polynomial.fit(lattices, rest, 3)
    a = next(
        x.real
        for x in curve.deriv().roots()
        if abs(x.imag) < 1e-9 and 2.76 < x.real < 2.90
    )
    assert a == pytest.approx(LATTICE, rel=0.003)
    assert np.interp(a, lattices, length) == pytest.approx(MOMENT, abs=0.05)
    volume = a**3 / 2
    modulus = curve.deriv(2)(a) * a**2 / (9.0 * volume) / units.GPa
    assert modulus == pytest.approx(182.0, rel=0.1)


def test_ferromagnet_is_the_ground_state(model: Potential) -> None:
    """Of bcc and fcc, and of orders and lengths of moments."""
    ground = energy(model, crystal("bcc", LATTICE, MOMENT))
    rng = np.random.default_rng(0)
    for moment in (0.0, 1.0, 2.0, 3.0):
        for structure, a in (("bcc", LATTICE), ("fcc", 3.45), ("fcc", 3.6)):
            atoms = crystal(structure, a, moment)
            assert energy(model, atoms) >= ground - 1e-3
            staggered = np.resize([1.0, -1.0], len(atoms))
            set_spins(atoms, moment * np.outer(staggered, [0, 0, 1]))
            assert energy(model, atoms) > ground
            spins = rng.normal(size=(len(atoms), 3))
            spins *= moment / np.linalg.norm(spins, axis=1, keepdims=True)
            set_spins(atoms, spins)
            assert energy(model, atoms) > ground


@pytest.mark.parametrize("volume", [9.0, 9.6, 10.2])
def test_compressed_crystals_are_not_the_ground_state(
    model: Potential, volume: float
) -> None:
    """Double layers of fcc and antiferromagnetic bcc, moments of any length."""
    ground = energy(model, crystal("bcc", LATTICE, MOMENT))
    a = (4.0 * volume) ** (1 / 3)
    layers = Atoms(
        "Fe4",
        scaled_positions=[[0.5 * (n % 2), 0.5 * (n % 2), 0.25 * n] for n in range(4)],
        cell=[a / 2**0.5, a / 2**0.5, 2 * a],
        pbc=True,
    )
    cube = bulk("Fe", "bcc", (2.0 * volume) ** (1 / 3), cubic=True)
    for atoms, signs in ((layers, [1, 1, -1, -1]), (cube, [1, -1])):
        for moment in (0.0, 1.0, 2.0, 2.8):
            set_spins(atoms, moment * np.outer(signs, [0.0, 0.0, 1.0]))
            assert energy(model, atoms) > ground + 0.03


def test_vacancy(model: Potential) -> None:
    """Formation energy, measured: 2.0 eV; lengths of moments stay what they are."""
    atoms = crystal("bcc", LATTICE, MOMENT).repeat(3)
    ground = energy(model, atoms)
    del atoms[0]
    atoms.calc = DeepSpinCalculator(model)
    found = relax(atoms, fmax=0.02, spins=False, magnitudes=True)
    assert found.converged
    assert 1.8 < atoms.get_potential_energy() - 53 * ground < 2.7
    lengths = np.linalg.norm(get_spins(atoms), axis=1)
    assert 1.8 < lengths.min() < lengths.max() < 2.6


def test_spin_stiffness(model: Potential) -> None:
    """Of the crystal at rest. Neutrons: 280 meV A^2; other PBE: from 230 on."""
    atoms = bulk("Fe", "bcc", LATTICE)
    set_spins(atoms, {"Fe": MOMENT})
    atoms.calc = DeepSpinCalculator(model)
    relax(atoms, fmax=1e-3, cell=True, magnitudes=True)
    stiffness = spin_stiffness(SpinWaves.from_atoms(atoms))
    np.testing.assert_allclose(stiffness, stiffness[0, 0] * np.eye(3), atol=1e-3)
    assert 0.220 < stiffness[0, 0] < 0.330


def exchange_field(model: Potential, atoms: Atoms) -> float:
    """Return the energy that holds one moment of a ferromagnet, eV: sum of its J."""
    angle = 0.05
    spins = get_spins(atoms)
    length = np.linalg.norm(spins[0])
    spins[0] = length * np.array([np.sin(angle), 0.0, np.cos(angle)])
    set_spins(atoms, spins)
    found = model.evaluate(System.from_atoms(atoms))
    torque = np.cross(spins[0], found.magnetic_forces[0].numpy())
    return float(torque[1] / -np.sin(angle))


@pytest.mark.parametrize(("shift", "fastest"), [(0.0, -2.0), (0.12, -6.0)])
def test_exchange_hardly_grows_with_the_volume(
    model: Potential, shift: float, fastest: float
) -> None:
    """It falls, or stays in crystals at rest; wide margins in hot ones."""
    fields = []
    for a in (2.78, 2.89):
        found = []
        for seed in range(4):
            atoms = crystal("bcc", a, MOMENT).repeat(3)
            atoms.rattle(shift, seed=seed)
            found.append(exchange_field(model, atoms))
        fields.append(np.mean(found))
    power = np.log(fields[1] / fields[0]) / (3.0 * np.log(2.89 / 2.78))
    assert np.mean(fields) == pytest.approx(0.42, rel=0.2)
    assert fastest < power < 0.5


def test_order_with_moving_atoms(model: Potential) -> None:
    """Well below the transition, 1043 K, order stays while atoms move."""
    atoms = crystal("bcc", 2.845, MOMENT).repeat(3)
    atoms.calc = DeepSpinCalculator(model)
    dynamics = SpinLatticeLangevin(
        atoms,
        0.9 * units.fs,
        temperature_K=700,
        friction=0.03 / units.fs,
        damping=1.0,
        rng=1,
    )
    dynamics.run(400)
    found = []
    for _ in range(20):
        dynamics.run(10)
        found.append(np.linalg.norm(get_spins(atoms).mean(axis=0)) / MOMENT)
    assert np.mean(found) > 0.6


def test_shear_and_phonons(model: Potential) -> None:
    """C44 and phonons of H and N, measured: 122 GPa; 8.56 and 4.53, 6.45, 9.26 THz."""
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = 0.005
    atoms = crystal("bcc", LATTICE, MOMENT)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.calc = DeepSpinCalculator(model)
    stress = atoms.get_stress(voigt=False)[0, 1] / units.GPa
    assert stress / 0.01 == pytest.approx(121.9, rel=0.1)
    for cell, known in (
        (crystal("bcc", LATTICE, MOMENT), [8.56, 8.56, 8.56]),
        (bulk("Fe", "bcc", LATTICE) * (2, 1, 1), [4.53, 6.45, 9.26]),
    ):
        set_spins(cell, {"Fe": MOMENT})
        cell.calc = DeepSpinCalculator(model)
        rows = []
        for displacement in 0.01 * np.eye(3):
            forces = []
            for sign in (1.0, -1.0):
                cell.positions[0] += sign * displacement
                forces.append(cell.get_forces())
                cell.positions[0] -= sign * displacement
            change = (forces[1] - forces[0]) / 0.02
            rows.append(change[0] - change[1])
        squares = np.linalg.eigvalsh(rows) / cell.get_masses()[0]
        frequencies = 1e3 * units.fs * np.sqrt(squares) / (2.0 * np.pi)
        np.testing.assert_allclose(frequencies, known, rtol=0.06)


def test_hot_dynamics_is_stable(model: Potential) -> None:
    """At 1200 K, lengths of moments free to change."""
    atoms = bulk("Fe", "bcc", 2.87, cubic=True).repeat(3)
    set_spins(atoms, {"Fe": MOMENT})
    atoms.calc = DeepSpinCalculator(model)
    start = atoms.positions.copy()
    dynamics = LongitudinalSpinLangevin(
        atoms,
        0.5 * units.fs,
        temperature_K=1200,
        friction=0.02 / units.fs,
        gamma_L=0.2 / units.fs,
        rng=0,
    )
    dynamics.run(400)
    lengths = np.linalg.norm(get_spins(atoms), axis=1)
    assert 1.4 < lengths.mean() < 2.6
    assert lengths.max() < 4.0
    moved = atoms.positions - start
    moved -= moved.mean(axis=0)
    assert np.sqrt((moved**2).sum(axis=1).mean()) < 0.6
    cold = energy(model, crystal("bcc", LATTICE, MOMENT))
    assert energy(model, atoms) - cold < 0.6
