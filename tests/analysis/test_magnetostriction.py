"""Magnetostriction and magnetoelastic constants."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from torch import Tensor

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis.responses import (
    magnetostriction,
    thermal_magnetostriction,
)
from deepspin_ase.constraints import FixSpins
from deepspin_ase.neighbors import PairList
from deepspin_ase.optimize import relax
from deepspin_ase.potentials import (
    Harmonic,
    Heisenberg,
    Potential,
    Shells,
    Sum,
    finnis_sinclair_fe,
    register,
)
from deepspin_ase.potentials.terms import find_bonds, unit_spins
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

RANGE = 2.75


@register
class NeelPairs(Potential):
    """L. Neel's pair anisotropy, E = -sum over pairs l(r) (e_i.r^)(e_j.r^).

    With l = strength (1 - r/RANGE)^3.
    """

    is_local = True
    cutoff = RANGE

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, system: System, pairs: PairList) -> Tensor:
        bonds = find_bonds(system, pairs, RANGE)
        e, r = unit_spins(system), bonds.directions
        decay = self.strength * (1.0 - bonds.distances / RANGE) ** 3
        along = (e[bonds.i] * r).sum(dim=1) * (e[bonds.j] * r).sum(dim=1)
        return bonds.share(-decay * along)


def magnetoelastic_constants(atoms: Atoms, strength: float) -> tuple[float, float]:
    """B_1 and B_2 (eV/A^3) of NeelPairs on bcc: lattice sums over eight neighbors.

    d/de of l(r) (n.r^)^2 with r -> (1 + e) r.
    """
    a = np.cbrt(2.0 * atoms.get_volume() / len(atoms))
    r = (
        0.5
        * a
        * np.array([(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)])
    )
    d = np.linalg.norm(r[0])
    value, slope = (1 - d / RANGE) ** 3, -3.0 / RANGE * (1 - d / RANGE) ** 2

    def stress(n: np.ndarray) -> np.ndarray:
        total = np.zeros((3, 3))
        for vector in r:
            u = vector / d
            c = n @ u
            total += d * slope * c**2 * np.outer(u, u)
            total += value * (c * (np.outer(n, u) + np.outer(u, n)))
            total -= 2.0 * value * c**2 * np.outer(u, u)
        return -0.5 * strength * total / (0.5 * a**3)

    x = stress(np.array([1.0, 0.0, 0.0]))
    xy = stress(np.array([1.0, 1.0, 0.0]) / np.sqrt(2.0))
    return x[0, 0] - x[1, 1], 2.0 * xy[0, 1]


@pytest.mark.parametrize("cubic", [False, True], ids=["primitive", "cube"])
def test_constants_are_those_of_the_model(cubic: bool) -> None:
    strength = 0.0004
    atoms = bulk("Fe", a=2.8665, cubic=cubic)
    set_spins(atoms, {"Fe": 2.2})
    lattice = finnis_sinclair_fe()
    atoms.calc = DeepSpinCalculator(lattice + NeelPairs(strength))
    found = magnetostriction(atoms)
    B1, B2 = magnetoelastic_constants(atoms, strength)
    assert found.B1_GPa == pytest.approx(B1 / units.GPa, rel=1e-9, abs=0.0)
    assert found.B2_GPa == pytest.approx(B2 / units.GPa, rel=1e-9, abs=0.0)
    C = found.elastic
    lambda_100 = -2.0 / 3.0 * found.B1_GPa / (C[0, 0] - C[0, 1])
    assert found.lambda_100 == pytest.approx(lambda_100, rel=1e-6, abs=0.0)
    lambda_111 = -found.B2_GPa / (3.0 * C[3, 3])
    assert found.lambda_111 == pytest.approx(lambda_111, rel=1e-6, abs=0.0)
    cubic_C = np.diag([105.0, 105.0, 105.0, 122.0, 122.0, 122.0])
    cubic_C[:3, :3] += 138.0
    np.testing.assert_allclose(C, cubic_C, atol=0.6)
    assert found.residual < 1e-9
    np.testing.assert_allclose(
        found.extension((1, 0, 0), measured=(0, 1, 0)), -0.5 * lambda_100, rtol=1e-6
    )


def test_atoms_in_the_cell_relax_and_the_strain_is_that_of_relaxations() -> None:
    """In hcp, whose atoms are no centers of inversion: they move with the strain."""
    atoms = bulk("Co", "hcp", a=2.5, c=4.08)
    set_spins(atoms, {"Co": 1.6})
    model = Sum([Harmonic(3.0, 2.5, cutoff=3.0), NeelPairs(0.05)])
    atoms.calc = DeepSpinCalculator(model)
    atoms.set_constraint(FixSpins(range(2)))
    limits = {"fmax": 1e-8, "stress_max": 1e-11, "steps": 3000}
    relax(atoms, cell=True, spins=False, **limits)
    found = magnetostriction(atoms)

    def relaxed(n: np.ndarray) -> np.ndarray:
        new = atoms.copy()
        set_spins(new, [1.6 * n, 1.6 * n])
        new.calc = DeepSpinCalculator(model)
        relax(new, cell=True, spins=False, **limits)
        F = np.linalg.solve(atoms.cell.array, new.cell.array)
        return 0.5 * (F + F.T) - np.eye(3)

    x, y = np.eye(3)[:2]
    expected = relaxed(x) - relaxed(y)
    difference = found.strain(x) - found.strain(y)
    assert np.abs(expected).max() > 1e-5
    np.testing.assert_allclose(difference, expected, atol=3e-3 * abs(expected).max())


def test_exchange_alone_strains_no_direction() -> None:
    atoms = bulk("Fe", a=2.8665)
    set_spins(atoms, {"Fe": 2.2})
    exchange = Heisenberg(Shells([(2.48, 0.02)], 0.2))
    found = magnetostriction(atoms, model=finnis_sinclair_fe() + exchange)
    assert np.abs(found.coupling).max() < 1e-9
    assert np.abs(get_spins(atoms)[0] - [0, 0, 2.2]).max() == 0.0


@pytest.mark.slow
def test_thermal_average_of_free_moments() -> None:
    """Of moments that a field alone aligns: B(T) = B(0) L(x)^2, x = m mu_B B/kT."""
    strength, moment, field = 0.0004, 2.2, 2000.0
    atoms = bulk("Fe", a=2.8665, cubic=True)
    set_spins(atoms, {"Fe": moment})
    atoms.calc = DeepSpinCalculator(finnis_sinclair_fe() + NeelPairs(strength))
    found = thermal_magnetostriction(
        atoms,
        [300.0, 600.0],
        field_T=field,
        steps=3000,
        interval=5,
        seed=1,
        progress=False,
    )
    x = moment * MU_B * field / (units.kB * found.temperatures_K)
    order = 1.0 / np.tanh(x) - 1.0 / x
    np.testing.assert_allclose(found.magnetization, moment * order, rtol=0.03)
    B1, B2 = (b / units.GPa for b in magnetoelastic_constants(atoms, strength))
    for values, errors, at_rest in (
        (found.B1_GPa, found.B1_error, B1),
        (found.B2_GPa, found.B2_error, B2),
    ):
        assert (errors < 0.1 * abs(at_rest)).all()
        assert (np.abs(values - at_rest * order**2) < 4.0 * errors).all()
    C = found.elastic
    lambda_111 = -found.B2_GPa / (3.0 * C[3, 3])
    np.testing.assert_allclose(found.lambda_111, lambda_111, rtol=1e-6)


def test_bad_input() -> None:
    atoms = bulk("Fe", a=2.8665, cubic=True)
    atoms.calc = DeepSpinCalculator(finnis_sinclair_fe() + NeelPairs(0.01))
    set_spins(atoms, [(0, 0, 2.0), (0, 2.0, 0)])
    with pytest.raises(ValueError, match="these have no common axis"):
        magnetostriction(atoms)
    set_spins(atoms, [(0, 0, 0.0), (0, 0.0, 0)])
    with pytest.raises(ValueError, match="all moments are zero"):
        magnetostriction(atoms)
