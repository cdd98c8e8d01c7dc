"""Descents from a ridge take as many calls at every scale of the energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.optimize import relax, relax_batch, relax_spins
from deepspin_ase.potentials import (
    DzyaloshinskiiMoriya,
    Heisenberg,
    Shells,
    Sum,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.units import MU_B

SCALES = (1e-7, 1e-5, 1e-2, 1.0)

#: Angle to the hard axis at the start, rad.
AWAY = 0.01


def one_moment(scale: float) -> Atoms:
    atoms = Atoms("Fe")
    set_spins(atoms, [(2.2 * np.cos(AWAY), 0.0, 2.2 * np.sin(AWAY))])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(scale, (0, 0, 1)))
    return atoms


def sixteen_moments(scale: float, exchange: float = 0.02) -> Atoms:
    """Iron whose moments differ by 1e-3 rad, close to the hard plane."""
    atoms = bulk("Fe", cubic=True).repeat(2)
    e = np.array([np.cos(AWAY), 0.0, np.sin(AWAY)])
    e = e + 1e-3 * np.random.default_rng(0).normal(size=(16, 3))
    set_spins(atoms, 2.2 * e / np.linalg.norm(e, axis=1, keepdims=True))
    shells = Shells([(np.sqrt(3) / 2 * 2.87, exchange)])
    easy_axis = UniaxialAnisotropy(scale, (0, 0, 1))
    atoms.calc = DeepSpinCalculator(Sum([Heisenberg(shells), easy_axis]))
    return atoms


@pytest.mark.parametrize("scale", SCALES)
def test_one_moment_leaves_its_hard_axis(scale: float) -> None:
    """L-BFGS-B of scipy needs 9 calls."""
    atoms = one_moment(scale)
    found = relax_spins(atoms, torque_max=1e-4 * scale)
    assert found.converged and found.n_calls <= 15
    assert get_spins(atoms)[0, 2] == pytest.approx(2.2, rel=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_sixteen_coupled_moments_leave_their_hard_plane(scale: float) -> None:
    atoms = sixteen_moments(scale)
    found = relax_spins(atoms, torque_max=1e-3 * scale)
    assert found.converged and found.n_calls <= 30
    assert get_spins(atoms)[:, 2].min() == pytest.approx(2.2, rel=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("make", [one_moment, sixteen_moments])
@pytest.mark.parametrize("function", [relax_spins, relax, relax_batch])
def test_defaults_follow_the_scale(function: Any, make: Any, scale: float) -> None:
    """A torque of 1e-9 eV is large where the anisotropy is 1e-7 eV."""
    atoms = make(scale)
    if function is relax_spins:
        found = relax_spins(atoms)
    elif function is relax:
        found = relax(atoms, positions=False)
    else:
        (found,) = relax_batch([atoms], positions=False, progress=False)
    assert found.converged and found.n_calls <= 25
    assert get_spins(atoms)[:, 2].min() > 2.2 * np.cos(0.01)


def test_a_skyrmion_slides_to_its_minimum() -> None:
    """Off a site it gains 1e-7 eV, along a valley that exchange makes narrow.

    About a site it is a saddle point, whose torques fall to 1e-9 eV just as well.
    """
    exchange, chiral, field = 0.01, 0.006, 0.003
    atoms = Atoms("Fe", cell=[1, 1, 0], pbc=(True, True, False)) * (12, 12, 1)
    direction = {"direction": "interfacial", "axis": (0, 0, 1)}
    atoms.calc = DeepSpinCalculator(
        Heisenberg(Shells([(1.0, exchange)]))
        + DzyaloshinskiiMoriya(Shells([(1.0, chiral)]), **direction)
        + Zeeman((0, 0, field / MU_B))
    )
    x, y, _ = (atoms.positions - [6, 6, 0]).T
    r = np.hypot(x, y)
    polar = 2 * np.arctan2(2.0, r + 1e-9) * np.exp(-((r / 6) ** 2))
    unit = np.stack([-x, -y]) / np.maximum(r, 1.0)
    set_spins(atoms, np.stack([*(np.sin(polar) * unit), np.cos(polar)], axis=1))
    about = relax_spins(atoms, torque_max=1e-6)
    found = relax_spins(atoms, torque_max=1e-9)
    assert found.converged and found.n_calls < 300
    assert 1e-8 < about.energy - found.energy < 1e-5


def test_explicit_thresholds_are_absolute() -> None:
    atoms = one_moment(1e-7)
    assert relax_spins(atoms, torque_max=1e-6).n_calls == 1


def test_rotations_without_energy_cost_nothing_more() -> None:
    """Exchange alone: a common rotation is no soft mode to look for."""
    atoms = sixteen_moments(0.0)
    found = relax_spins(atoms)
    assert found.converged and found.n_calls <= 6


def test_round_off_is_no_torque() -> None:
    """A collinear order at the maximum of its anisotropy stays there."""
    atoms = sixteen_moments(1e-3)
    set_spins(atoms, {"Fe": 2.2}, pattern=np.tile([1.0, 0.0, 0.0], (16, 1)))
    assert relax_spins(atoms).n_calls == 1


class DoubleWell(Calculator):
    """E = scale (x^2 - 1)^2 for the first atom, x in A."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions[0, 0]
        forces = np.zeros((len(self.atoms), 3))
        forces[0, 0] = -self.scale * 4.0 * x * (x**2 - 1.0)
        self.results = {"energy": self.scale * (x**2 - 1.0) ** 2, "forces": forces}


@pytest.mark.parametrize("scale", SCALES)
def test_one_atom_leaves_a_ridge(scale: float) -> None:
    atoms = Atoms("Fe", positions=[(0.01, 0.0, 0.0)])
    atoms.calc = DoubleWell(scale)
    found = relax(atoms, spins=False, fmax=1e-4 * scale)
    assert found.converged and found.n_calls <= 25
    assert atoms.positions[0, 0] == pytest.approx(1.0, abs=1e-4)
