"""Relaxation of moments at fixed lattice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    get_spins,
    random_directions,
    set_spins,
)
from deepspin_ase.optimize import relax_spins
from deepspin_ase.potentials import Heisenberg, Shells, Sum, UniaxialAnisotropy


def test_random_moments_find_the_ferromagnet() -> None:
    atoms = bulk("Fe", cubic=True).repeat(2)
    set_spins(atoms, {"Fe": 2.2}, pattern=random_directions(seed=3))
    exchange = Heisenberg(Shells([(np.sqrt(3) / 2 * 2.87, 0.02)]))
    easy_axis = UniaxialAnisotropy(1e-3, (0, 0, 1))
    atoms.calc = DeepSpinCalculator(Sum([exchange, easy_axis]))
    found = relax_spins(atoms, torque_max=1e-6, steps=2000)
    assert found.converged and found.n_calls < 2000
    spins = get_spins(atoms)
    np.testing.assert_allclose(np.linalg.norm(spins, axis=1), 2.2, rtol=1e-12)
    assert abs(spins[:, 2]).min() > 2.2 * (1 - 1e-5)
    assert atoms.get_potential_energy() == pytest.approx(-16 * (4 * 0.02 + 1e-3))


def test_canted_antiferromagnet_goes_back() -> None:
    atoms = bulk("NiO", "rocksalt", 4.2, cubic=True).repeat(2)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.2)
    set_spins(atoms, {"Ni": 1.3}, pattern=order)
    atoms.calc = DeepSpinCalculator(
        Heisenberg(Shells([(4.2, -0.019)]), elements=("Ni", "Ni"))
    )
    ground = atoms.get_potential_energy()
    rng = np.random.default_rng(0)
    spins = (
        get_spins(atoms)
        + 0.3 * rng.normal(size=(64, 3)) * (atoms.numbers == 28)[:, None]
    )
    set_spins(atoms, spins)
    assert atoms.get_potential_energy() > ground + 0.1
    assert relax_spins(atoms).converged
    assert atoms.get_potential_energy() == pytest.approx(ground, abs=1e-6)


def test_no_calculator() -> None:
    with pytest.raises(ValueError, match="calculator"):
        relax_spins(bulk("Fe"))


class Field(Calculator):
    """A plain ASE calculator: moments of atom 1 in a field along x, E = -m.B."""

    implemented_properties: ClassVar = ["energy", "magnetic_forces"]
    n_calls = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        field = np.array([[0.0, 0.0, 0.0], [0.01, 0.0, 0.0]])
        self.results = {
            "energy": -np.sum(get_spins(self.atoms) * field),
            "magnetic_forces": field,
        }


def in_a_field() -> Atoms:
    atoms = Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2.5)])
    set_spins(atoms, [(0.0, 0.0, 0.0), (-1.9, 0.0, 0.3)])
    atoms.calc = Field()
    return atoms


def test_any_calculator_with_magnetic_forces_will_do() -> None:
    atoms = in_a_field()
    found = relax_spins(atoms, torque_max=1e-9)
    assert found.converged
    assert found.n_calls == atoms.calc.n_calls
    length = np.hypot(1.9, 0.3)
    np.testing.assert_allclose(get_spins(atoms), [(0, 0, 0), (length, 0, 0)], atol=1e-6)


def test_out_of_steps() -> None:
    atoms = in_a_field()
    start = atoms.get_potential_energy()
    found = relax_spins(atoms, steps=3)
    assert (found.converged, found.n_calls) == (False, 3)
    assert found.residuals["torque"] > 1e-5
    assert atoms.calc.n_calls == 3
    assert atoms.get_potential_energy() < start


def test_nothing_to_do() -> None:
    atoms = in_a_field()
    set_spins(atoms, [(0, 0, 0), (2.0, 0, 0)])
    found = relax_spins(atoms)
    assert (found.converged, found.n_calls) == (True, 1)
    assert found.energy == pytest.approx(-0.02)


def test_soft_modes_converge_fast() -> None:
    """First and second neighbours of fcc: four sublattices that hardly couple."""
    atoms = bulk("Ni", "fcc", 4.2, cubic=True).repeat(2)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.2)
    set_spins(atoms, {"Ni": 1.3}, pattern=order)
    cant_spins(atoms, 0.05, seed=2)
    shells = Shells([(4.2 / np.sqrt(2), 0.0006), (4.2, -0.015)])
    atoms.calc = DeepSpinCalculator(Heisenberg(shells))
    found = relax_spins(atoms, torque_max=1e-7)
    assert found.converged and found.n_calls < 200
    assert atoms.get_potential_energy() == pytest.approx(-32 * 3 * 0.015, abs=1e-9)


def test_soft_modes_do_not_blur_stiff_ones() -> None:
    """From random moments: sublattices held by a very soft anisotropy."""
    for seed in range(2):
        atoms = bulk("Ni", "fcc", 4.2).repeat(2)
        set_spins(atoms, {"Ni": 1.3}, pattern=random_directions(seed))
        shells = Shells([(4.2 / np.sqrt(2), 0.0006), (4.2, -0.015)])
        easy_axis = UniaxialAnisotropy(-2e-5, (1, 1, 1))
        atoms.calc = DeepSpinCalculator(Sum([Heisenberg(shells), easy_axis]))
        found = relax_spins(atoms, torque_max=1e-6)
        assert found.converged and found.n_calls < 120
        assert atoms.get_potential_energy() == pytest.approx(-8 * 3 * 0.015, abs=1e-5)
