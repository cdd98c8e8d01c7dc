"""Relaxation of moments at fixed lattice."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
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
    atoms.calc = DeepSpinCalculator(Sum([exchange, UniaxialAnisotropy(1e-3, (0, 0, 1))]))
    converged, calls = relax_spins(atoms, torque_max=1e-6, steps=2000)
    assert converged and calls < 2000
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
    spins = get_spins(atoms) + 0.3 * rng.normal(size=(64, 3)) * (
        atoms.numbers == 28
    )[:, None]
    set_spins(atoms, spins)
    assert atoms.get_potential_energy() > ground + 0.1
    assert relax_spins(atoms)[0]
    assert atoms.get_potential_energy() == pytest.approx(ground, abs=1e-6)


def test_no_calculator() -> None:
    with pytest.raises(ValueError, match="calculator"):
        relax_spins(bulk("Fe"))
