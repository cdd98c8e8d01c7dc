"""Responses to fields: against relaxations, formulas and other codes' units."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixCartesian

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis.responses import static_response, thermal_response
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.optimize import relax
from deepspin_ase.potentials import (
    BondHamiltonian,
    ElectricField,
    Harmonic,
    Potential,
    Sum,
    UniaxialAnisotropy,
    Zeeman,
    finnis_sinclair_fe,
    reference,
)
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

J, K, SLOPE, MOMENT, CHARGE, SPRING = 0.1, 0.03, 0.5, 2.0, 1.5, 4.0


def antiferromagnet() -> Atoms:
    """A chain along x of two ions, antiparallel along y, that move along x."""
    atoms = Atoms("FeNi", [(0, 0, 0), (2.5, 0, 0)], cell=(5.0, 9.0, 9.0), pbc=True)
    set_spins(atoms, [(0, MOMENT, 0), (0, -MOMENT, 0)])
    atoms.set_constraint(FixCartesian([0, 1], (False, True, True)))
    return atoms


def charges() -> ElectricField:
    return ElectricField((0, 0, 0), antiferromagnet(), {"Fe": CHARGE, "Ni": -CHARGE})


def magnetoelectric() -> list[Potential]:
    """Exchange -J, an axis y, and a DM vector along z of one bond's length."""
    atoms = antiferromagnet()
    axis = np.zeros((2, 3, 3))
    axis[:, 1, 1] = K
    slopes = np.zeros((2, 3, 3))
    slopes[0, 0, 1], slopes[0, 1, 0] = SLOPE, -SLOPE
    bonds = [0, 0], [1, 1], [(0, 0, 0), (-1, 0, 0)]
    spins = BondHamiltonian(atoms, *bonds, [-J / 2, -J / 2], slopes=slopes, onsite=axis)
    return [Harmonic(SPRING / 2, 2.5, cutoff=2.8), spins]


def test_magnetoelectric_chain_has_its_closed_form() -> None:
    """Two ions on springs, u = Z E/k, that cant moments by D' u/(J + K)."""
    atoms = antiferromagnet()
    atoms.calc = DeepSpinCalculator(Sum(magnetoelectric()))
    found = static_response(atoms, electric=charges())
    stiff = (J + K) * SPRING - SLOPE**2
    electric = CHARGE**2 * (J + K) / stiff
    assert found.electric[0, 0] == pytest.approx(electric, rel=1e-9)
    alpha = MOMENT * SLOPE * CHARGE / stiff
    assert abs(found.magnetoelectric[0, 0]) == pytest.approx(alpha, rel=1e-9)
    assert np.abs(found.magnetoelectric).sum() == pytest.approx(alpha, rel=1e-9)
    across = MU_B * MOMENT**2 / (J + K)
    assert found.magnetic[2, 2] == pytest.approx(across, rel=1e-9)
    along_x = MU_B * MOMENT**2 * SPRING / stiff
    assert found.magnetic[0, 0] == pytest.approx(along_x, rel=1e-9)
    assert found.magnetic[1, 1] == pytest.approx(0.0, abs=1e-15)


def polar_magnet() -> tuple[Atoms, list[Potential], ElectricField]:
    """Two ions in a box of no symmetry, with exchange that depends on distances."""
    rng = np.random.default_rng(3)
    cell = 2.9 * np.eye(3) + 0.1 * rng.normal(size=(3, 3))
    atoms = Atoms("FeNi", scaled_positions=[[0] * 3, [0.52, 0.49, 0.5]], cell=cell)
    atoms.pbc = True
    set_spins(atoms, [(0.2, 1.0, 2.0), (0.5, -0.4, -1.5)])
    steps = [(a, b, c) for a in (-1, 0) for b in (-1, 0) for c in (-1, 0)]
    bonds = np.zeros(8, int), np.ones(8, int), steps
    spins = BondHamiltonian(
        atoms,
        *bonds,
        -0.02 + 0.005 * rng.normal(size=(8, 3, 3)),
        slopes=0.03 * rng.normal(size=(8, 3, 3)),
        onsite=0.02 * (np.ones((2, 3, 3)) + np.diag([0, 1, 2])),
    )
    lattice = Harmonic(4.0, 2.5, cutoff=2.75) + Harmonic(2.0, 2.9, cutoff=3.6)
    charges = ElectricField((0, 0, 0), atoms, {"Fe": 1.2, "Ni": -1.2})
    return atoms, [lattice, spins], charges


def relaxed(atoms: Atoms, terms: list[Potential]) -> Atoms:
    new = atoms.copy()
    new.calc = DeepSpinCalculator(Sum(terms))
    limits = {"fmax": 1e-7, "torque_max": 1e-9, "stress_max": 1e-10, "steps": 3000}
    assert relax(new, cell=True, **limits).converged
    return new


def test_responses_are_those_of_relaxations_in_fields() -> None:
    atoms, terms, charges = polar_magnet()
    start = relaxed(atoms, terms)
    found = static_response(start, electric=charges, cell=True)
    np.testing.assert_allclose(found.elastic, found.elastic.T, atol=1e-6)
    field = 1e-2 * np.array([0.6, -0.3, 0.7])  # V/A

    def ends(term, scale: float) -> list[Atoms]:
        return [
            relaxed(start, [*terms, term(sign * scale * field)]) for sign in (1.0, -1.0)
        ]

    def dipole(image: Atoms) -> np.ndarray:
        system = System.from_atoms(image)
        return charges.dipole(system, build_pairs(system, 0.0))[0].numpy()

    def strain(image: Atoms) -> np.ndarray:
        e = np.linalg.solve(start.cell.array, image.cell.array) - np.eye(3)
        e = 0.5 * (e + e.T)
        return np.array([*e.diagonal(), 2 * e[1, 2], 2 * e[0, 2], 2 * e[0, 1]])

    up, down = ends(charges.in_field, 1.0)
    moment = (get_spins(up) - get_spins(down)).sum(axis=0) / 2
    np.testing.assert_allclose(
        found.magnetoelectric @ field, moment, atol=1e-3 * abs(moment).max()
    )
    change = (dipole(up) - dipole(down)) / 2
    np.testing.assert_allclose(
        found.electric @ field, change, atol=1e-3 * abs(change).max()
    )
    expected = (strain(up) - strain(down)) / 2
    np.testing.assert_allclose(
        found.piezoelectric @ field, expected, atol=1e-3 * abs(expected).max()
    )
    tesla = 1e4 * field
    up, down = ends(lambda b: Zeeman(1e4 * b), 1.0)
    moment = (get_spins(up) - get_spins(down)).sum(axis=0) / 2
    np.testing.assert_allclose(
        found.magnetic @ tesla, moment, atol=1e-3 * abs(moment).max()
    )
    change = (dipole(up) - dipole(down)) / 2
    np.testing.assert_allclose(
        MU_B * found.magnetoelectric.T @ tesla, change, atol=1e-3 * abs(change).max()
    )
    expected = (strain(up) - strain(down)) / 2
    np.testing.assert_allclose(
        found.piezomagnetic @ tesla, expected, atol=1e-3 * abs(expected).max()
    )


def test_elastic_constants_of_iron() -> None:
    """Those that Finnis and Sinclair fitted, GPa."""
    atoms = bulk("Fe", a=2.8665)
    set_spins(atoms, {"Fe": 2.36})
    atoms.calc = DeepSpinCalculator(
        finnis_sinclair_fe() + UniaxialAnisotropy(0.001, (0, 0, 1))
    )
    C = static_response(atoms, cell=True).elastic
    cubic = np.diag([105.0, 105.0, 105.0, 122.0, 122.0, 122.0])
    cubic[:3, :3] += 138.0
    np.testing.assert_allclose(C, cubic, atol=0.6)


def test_static_response_needs_a_minimum_and_an_axis() -> None:
    atoms = antiferromagnet()
    atoms.calc = DeepSpinCalculator(Sum(magnetoelectric()))
    atoms.positions[0, 0] += 0.05
    with pytest.raises(ValueError, match="away from its minimum: relax"):
        static_response(atoms)
    set_spins(atoms, [(MOMENT, 0, 0), (-MOMENT, 0, 0)])
    with pytest.raises(ValueError, match="not at a minimum: the least curvature"):
        static_response(atoms)
    iron = bulk("Fe", a=2.8665, cubic=True)
    set_spins(iron, {"Fe": 2.36})
    iron.calc = DeepSpinCalculator(reference.fe(exchange="bethe-slater"))
    with pytest.raises(ValueError, match="a magnetic field moves the"):
        static_response(iron)


def test_fluctuations_of_free_moments() -> None:
    """Curie's law, dM/dB = N mu_B m^2/(3 kT) in every direction."""
    atoms = bulk("Fe", "sc", a=2.5).repeat(6)
    set_spins(atoms, {"Fe": 2.0})
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(0.0, (0, 0, 1)))
    found = thermal_response(
        atoms,
        [100.0, 300.0],
        steps=2000,
        options={"move": "uniform"},
        seed=1,
        progress=False,
    )
    expected = 216 * MU_B * 4.0 / (3.0 * units.kB * found.temperatures_K)
    expected = expected[:, None, None] * np.eye(3)
    assert (np.abs(found.magnetic - expected) < 4.0 * found.magnetic_error).all()
    assert (found.magnetic_error < 0.1 * expected.max(axis=(1, 2))[:, None, None]).all()
    assert found.electric is None


@pytest.mark.slow
def test_magnetoelectric_response_by_fluctuations() -> None:
    """The same tensor as by relaxation, where angles are small."""
    atoms = antiferromagnet()
    atoms.calc = DeepSpinCalculator(Sum(magnetoelectric()))
    expected = static_response(atoms, electric=charges())
    found = thermal_response(
        atoms,
        [8.0] * 16,
        electric=charges(),
        steps=8000,
        interval=10,
        method="langevin",
        options={"damping": 0.3, "friction": 0.05 / units.fs},
        progress=False,
    )
    for name in ("magnetic", "electric", "magnetoelectric"):
        mean = getattr(found, name)[:, 0, 0].mean()
        error = np.linalg.norm(getattr(found, f"{name}_error")[:, 0, 0]) / 16
        exact = getattr(expected, name)[0, 0]
        assert error < 0.05 * abs(exact)
        assert abs(mean - exact) < 4.0 * error, name
