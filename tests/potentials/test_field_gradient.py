"""Magnetic fields that grow in space: force, derivatives, Monte Carlo, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import Zeeman, ZeemanGradient
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

GRADIENT = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, -2.0]])


def cluster() -> Atoms:
    atoms = Atoms("FeNiO", np.random.default_rng(0).normal(size=(3, 3)))
    set_spins(atoms, [(1.0, 0.2, -2.0), (0.3, -0.8, 0.1), (0, 0, 0)])
    return atoms


def test_forces_and_fields() -> None:
    """mu_B G^T m on every atom, and the field of a Zeeman term where it stands."""
    atoms = cluster()
    origin = (0.1, 0.2, 0.3)
    term = ZeemanGradient(GRADIENT, origin=origin)
    found = term.evaluate(System.from_atoms(atoms))
    spins = atoms.arrays["initial_magmoms"]
    np.testing.assert_allclose(found.forces, MU_B * spins @ GRADIENT, atol=1e-14)
    for k in range(3):
        field = GRADIENT @ (atoms.positions[k] - origin)
        same = Zeeman(field).evaluate(System.from_atoms(atoms[[k]]))
        assert float(found.energies[k]) == pytest.approx(float(same.energy), abs=1e-15)
        np.testing.assert_allclose(found.magnetic_forces[k], same.magnetic_forces[0])


def test_strain_derivative_and_quadratic_form() -> None:
    system = System.from_atoms(cluster())
    term = ZeemanGradient(GRADIENT, elements=["Fe"])
    step, direction = 1e-3, torch.randn(1, 3, 3, dtype=torch.float64)
    up, down = (
        float(term.evaluate(system.strained(sign * step * direction)).energy)
        for sign in (1, -1)
    )
    slope = float((term.evaluate(system).virial * direction).sum())
    assert (up - down) / (2 * step) == pytest.approx(-slope, rel=1e-9)
    form = term.quadratic_form(system, build_pairs(system, 0.0))
    energy = -(form.fields * system.spins).sum()
    assert float(energy) == pytest.approx(float(term.evaluate(system).energy))


def test_cold_moments_point_along_the_field() -> None:
    atoms = cluster()[:2]
    atoms.calc = DeepSpinCalculator(ZeemanGradient(1e3 * GRADIENT))
    MonteCarlo(atoms, temperature_K=0.01, rng=1, progress=False).run(500)
    field = atoms.positions @ GRADIENT.T
    moments = atoms.arrays["initial_magmoms"]
    cosines = np.sum(field * moments, axis=1)
    cosines /= np.linalg.norm(field, axis=1) * np.linalg.norm(moments, axis=1)
    assert (cosines > 0.999).all()


def test_bad_input() -> None:
    atoms = cluster()
    atoms.cell = np.diag([5.0, 5.0, 5.0])
    atoms.pbc = (True, False, False)
    with pytest.raises(ValueError, match="grows along direction 0 of structure 0"):
        ZeemanGradient(GRADIENT).evaluate(System.from_atoms(atoms))
    across = np.diag([0.0, 1.0, -1.0])
    ZeemanGradient(across).evaluate(System.from_atoms(atoms))
    with pytest.raises(ValueError, match="three rows of three numbers"):
        ZeemanGradient(GRADIENT[:2])
