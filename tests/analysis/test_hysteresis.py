"""Loops of coherent rotation: Stoner, Wohlfarth, Phil. Trans. A 240, 599 (1948)."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.analysis import hysteresis
from deepspin_ase.potentials import Heisenberg, Shells, Sum, UniaxialAnisotropy
from deepspin_ase.units import MU_B

MOMENT = 2.2


def magnet(anisotropy: float, n_atoms: int) -> Atoms:
    terms = [UniaxialAnisotropy(anisotropy, (0, 0, 1))]
    atoms = Atoms("Fe")
    if n_atoms > 1:
        atoms = bulk("Fe", cubic=True).repeat((n_atoms // 2, 1, 1))
        terms.append(Heisenberg(Shells([(np.sqrt(3) / 2 * 2.87, 0.02)])))
    atoms.calc = DeepSpinCalculator(Sum(terms))
    return atoms


def coherent(fields: np.ndarray, psi: float) -> np.ndarray:
    """Return m/m_s along a field (units of 2 K / m) at an angle psi to the axis.

    Newton's method from the last minimum, down the energy where that is none.
    """
    angle, found = psi, []  # of the moment to the easy axis
    for h in fields:
        for _ in range(20000):
            torque = -0.5 * np.sin(2.0 * angle) + h * np.sin(psi - angle)
            curvature = np.cos(2.0 * angle) + h * np.cos(psi - angle)
            if abs(torque) < 1e-12 and curvature > 0.0:
                break
            angle += torque / curvature if curvature > 0.1 else 0.1 * torque + 1e-9
        found.append(np.cos(angle - psi))
    return np.array(found)


@pytest.mark.parametrize(
    ("psi", "anisotropy", "n_atoms"),
    [
        (45.0, 1e-7, 1),
        (45.0, 1e-5, 1),
        (45.0, 1e-2, 1),
        (0.0, 1e-7, 4),
        (0.0, 1e-5, 4),
        (75.0, 1e-5, 4),
    ],
)
def test_loop_of_stoner_and_wohlfarth(
    psi: float, anisotropy: float, n_atoms: int
) -> None:
    atoms = magnet(anisotropy, n_atoms)
    direction = np.array([np.sin(np.radians(psi)), 0.0, np.cos(np.radians(psi))])
    set_spins(atoms, np.tile(MOMENT * direction, (len(atoms), 1)))
    fields = np.linspace(0.41, -1.19, 17)  # none at a switching field
    scale = 2.0 * anisotropy / (MOMENT * MU_B)
    found = hysteresis(atoms, scale * fields, direction=direction, progress=False)
    expected = coherent(fields, np.radians(psi))
    np.testing.assert_allclose(found.along / MOMENT, expected, atol=1e-3)


def test_canting_before_each_field_is_small() -> None:
    """By 1e-3 rad: more would carry spins over a barrier before it vanishes."""
    atoms = magnet(1e-5, 4)
    set_spins(atoms, np.tile([0.0, 0.0, MOMENT], (4, 1)))
    found = hysteresis(
        atoms, [0.0], direction="x", torque_max=0.05, progress=False, seed=1
    )
    across = np.linalg.norm(found.magnetization[0, :2]) / MOMENT
    assert 0.0 < across < 2e-3
