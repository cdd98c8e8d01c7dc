"""Thermal expansion and elastocaloric entropy of moments in pairs, whose Z is known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.analysis._statistics import mean_with_error
from deepspin_ase.analysis.responses import elastocaloric_change, thermal_expansion
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.potentials import CubicCut, Heisenberg, finnis_sinclair_fe

CURVE = CubicCut(0.8, 3.2)
LENGTH = 2.5


def dimers(n: int = 4) -> Atoms:
    """n^3 pairs along x, farther from each other than the exchange reaches."""
    pair = Atoms("Fe2", [(0, 0, 0), (LENGTH, 0, 0)], cell=(6.0, 3.5, 3.5), pbc=True)
    atoms = pair.repeat((n, n, n))
    set_spins(atoms, {"Fe": 2.0})
    atoms.calc = DeepSpinCalculator(Heisenberg(CURVE))
    return atoms


def exchange(length: float) -> float:
    return 0.8 * (1.0 - length / 3.2) ** 3


def entropy(J: float, kT: float) -> float:
    """Of a pair with -J e.e, in k: ln(sinh x/x) - x L(x), up to a constant."""
    x = J / kT
    return np.log(np.sinh(x) / x) - x * (1.0 / np.tanh(x) - 1.0 / x)


def test_elastocaloric_entropy_of_pairs() -> None:
    found = elastocaloric_change(
        dimers(3),
        [60.0, 150.0],
        [0.01, 0.02, 0.03],
        steps=1500,
        interval=5,
        options={"move": "mixed"},
        progress=False,
    )
    for t, temperature in enumerate(found.temperatures_K):
        kT = units.kB * temperature
        expected = [
            0.5
            * (entropy(exchange(LENGTH * (1 + s)), kT) - entropy(exchange(LENGTH), kT))
            for s in found.strains
        ]
        assert expected[-1] > 0.01
        assert (found.error[t, 1:] < 0.1 * expected[-1]).all()
        assert (np.abs(found.entropy[t] - expected) <= 4 * found.error[t]).all()


@pytest.mark.slow
def test_magnetic_expansion_of_a_paramagnet() -> None:
    """The slope is that between mean stresses of other runs; expansion by C."""
    atoms = bulk("Fe", a=2.8665, cubic=True).repeat(2)
    set_spins(atoms, {"Fe": 2.2})
    exchange = Heisenberg(CubicCut(0.3, 3.2), subtract_collinear=True)
    atoms.calc = DeepSpinCalculator(finnis_sinclair_fe() + exchange)
    T = np.array([120.0, 150.0, 180.0])
    found = thermal_expansion(atoms, T, steps=2000, interval=4, seed=1, progress=False)
    cubic = np.diag([105.0, 105.0, 105.0, 122.0, 122.0, 122.0])
    cubic[:3, :3] += 138.0
    np.testing.assert_allclose(found.elastic, cubic, rtol=0.03, atol=1.0)
    means = []
    for k, temperature in enumerate((120.0, 180.0)):
        driver = MonteCarlo(atoms, temperature_K=temperature, rng=k, progress=False)
        driver.run(300)
        pressures = []
        for _ in range(400):
            driver.run(4)
            pressures.append(atoms.get_stress()[:3].mean() / units.GPa)
        means.append(mean_with_error(pressures))
    (low, low_error), (high, high_error) = means
    weights = np.array([1.0, 4.0, 1.0]) * 60.0 / 6.0  # Simpson's rule
    change = weights @ found.slope[:, :3].mean(axis=1)
    error = np.linalg.norm(weights @ found.slope_error[:, :3]) / 3.0
    allowed = 4.0 * np.linalg.norm([error, low_error, high_error])
    assert abs(high - low) > 1.5 * allowed
    assert abs(high - low - change) < allowed
    B = found.elastic[:3, :3].sum() / 9.0
    mean = -found.slope[:, :3].mean(axis=1) / (3.0 * B)
    np.testing.assert_allclose(found.linear, mean, rtol=0.02)


def test_bad_input() -> None:
    atoms = dimers(1)
    with pytest.raises(ValueError, match="strains must ascend or descend from zero"):
        elastocaloric_change(atoms, [100.0], [0.02, 0.01])
    with pytest.raises(ValueError, match="pattern must be six finite numbers"):
        elastocaloric_change(atoms, [100.0], [0.02], pattern=(1, 0, 0))
    with pytest.raises(ValueError, match="not at a minimum"):
        thermal_expansion(atoms, [100.0])
