"""Entropy changes and magnetisation loops against closed formulas."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import (
    entropy_change,
    hysteresis,
    plot_entropy_change,
    plot_hysteresis,
)
from deepspin_ase.potentials import Heisenberg, Shells, UniaxialAnisotropy
from deepspin_ase.units import MU_B


def paramagnet(n: int) -> Atoms:
    atoms = Atoms(f"Fe{n}", positions=5.0 * np.arange(3 * n).reshape(-1, 3))
    set_spins(atoms, {"Fe": 4.0})
    return atoms


def test_entropy_of_free_moments() -> None:
    """Delta S/k = ln(sinh x/x) - x L(x) with x = m B/kT."""
    temperatures, fields = np.array([5.0, 20.0]), np.linspace(1.0, 10.0, 10)
    result = entropy_change(
        paramagnet(300),
        temperatures,
        fields,
        direction=(1, 1, 0),
        steps=400,
        equilibration=20,
        interval=1,
        options={"move": "uniform"},
        progress=False,
        model=Heisenberg(Shells([(2.0, 0.01)])),
    )
    x = 4.0 * MU_B * result.fields_T[1:] / (units.kB * temperatures[:, None])
    langevin = 1 / np.tanh(x) - 1 / x
    expected = np.log(np.sinh(x) / x) - x * langevin
    # 300 moments, 400 samples: a standard error of 0.007 without field.
    mean = result.magnetization[:, 1:]
    np.testing.assert_allclose(mean, 4 * langevin, rtol=0.05, atol=0.025)
    # The trapezoidal rule overestimates by up to 2 %.
    off = abs(result.entropy[:, 1:] - expected)
    assert (off < 4.0 * result.error[:, 1:] + 0.02 * abs(expected)).all()
    assert (result.error[:, 1:] < 0.1 * abs(expected[:, -1:])).all()
    assert not result.entropy[:, 0].any()
    assert len(plot_entropy_change(result).containers) == 10


def stoner_wohlfarth(angle_deg: float) -> tuple[Atoms, float]:
    """Return ferromagnetic moments, easy along z, and 2K/m in T."""
    K = 1e-3
    atoms = Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2.0)])
    set_spins(atoms, {"Fe": 2.0})
    model = Heisenberg(Shells([(2.0, 0.05)])) + UniaxialAnisotropy(K, (0, 0, 1))
    atoms.calc = DeepSpinCalculator(model)
    return atoms, 2.0 * K / (2.0 * MU_B)


@pytest.mark.parametrize("angle_deg", [5.0, 45.0, 80.0])
def test_switching_field_of_stoner_and_wohlfarth(angle_deg: float) -> None:
    """h_switch = (cos^2/3 a + sin^2/3 a)^-3/2 in units of 2K/m."""
    atoms, anisotropy = stoner_wohlfarth(angle_deg)
    a = np.deg2rad(angle_deg)
    switch = (np.cos(a) ** (2 / 3) + np.sin(a) ** (2 / 3)) ** -1.5
    step = 0.02
    down = np.array([0.5, *np.arange(0.09, -0.1, -step) - switch])
    result = hysteresis(
        atoms,
        anisotropy * down,
        direction=(np.sin(a), 0.0, np.cos(a)),
        torque_max=1e-8,
        progress=False,
    )
    jump = np.argmax(-np.diff(result.magnetization[:, 2]))
    assert -down[jump + 1] == pytest.approx(switch, abs=1.5 * step)
    np.testing.assert_allclose(np.linalg.norm(result.magnetization, axis=1), 2.0)
    assert atoms.calc.external_field_T is None
    assert plot_hysteresis(result).lines


def test_the_loop_is_odd_and_heat_narrows_it() -> None:
    atoms, anisotropy = stoner_wohlfarth(0.0)
    half = np.linspace(1.2, -1.2, 9)
    sweep = anisotropy * np.concatenate([half, half[::-1]])
    cold = hysteresis(atoms, sweep, progress=False)
    np.testing.assert_allclose(cold.along[:9], -cold.along[9:], atol=5e-3)
    coercive = np.sort(cold.coercive_fields_T()) / anisotropy
    np.testing.assert_allclose(coercive, [-1.05, 1.05], atol=0.16)
    set_spins(atoms, {"Fe": 2.0})
    hot = hysteresis(atoms, sweep, temperature_K=40.0, sweeps=100, progress=False)
    areas = [abs(np.sum(x.along[1:] * np.diff(x.fields_T))) for x in (cold, hot)]
    assert areas[1] < 0.8 * areas[0]
    assert np.linalg.norm(get_spins(atoms), axis=1) == pytest.approx(2.0)


def test_the_calculator_keeps_its_field_and_results() -> None:
    """While the sweep runs, too: others may use the calculator meanwhile."""
    reset = []

    class Recording(DeepSpinCalculator):
        def reset(self) -> None:
            reset.append(self)  # what a new field does
            super().reset()

    atoms, anisotropy = stoner_wohlfarth(0.0)
    model = atoms.calc.bare_potential
    atoms.calc = Recording(model, external_field_T=(0.0, 0.0, 1.0))
    other = atoms.copy()
    other.calc = atoms.calc
    energy = other.get_potential_energy()
    reset.clear()
    loop = hysteresis(atoms, [anisotropy, -anisotropy], direction="x", progress=False)
    assert atoms.calc not in reset
    assert atoms.calc.external_field_T == (0.0, 0.0, 1.0)
    assert other.get_potential_energy() == energy
    set_spins(other, {"Fe": 2.0})
    given = hysteresis(
        other,
        [anisotropy, -anisotropy],
        direction="x",
        model=model,
        progress=False,
    )
    np.testing.assert_array_equal(given.magnetization, loop.magnetization)


def test_bad_input() -> None:
    atoms, _ = stoner_wohlfarth(0.0)
    with pytest.raises(ValueError, match="fields_T"):
        hysteresis(atoms, [np.nan])
    with pytest.raises(ValueError, match="temperature_K must be finite and >= 0"):
        hysteresis(atoms, [1.0], temperature_K=-1.0)
    atoms.calc = None
    with pytest.raises(ValueError, match="DeepSpinCalculator"):
        hysteresis(atoms, [1.0])
    model = Heisenberg(Shells([(2.0, 0.05)]))
    with pytest.raises(ValueError, match="fields_T must be finite and > 0"):
        entropy_change(atoms, [300.0], [0.0, 1.0], model=model)
    with pytest.raises(ValueError, match="ascend"):
        entropy_change(atoms, [300.0], [2.0, 1.0], model=model)
    with pytest.raises(ValueError, match="temperatures_K"):
        entropy_change(atoms, [-300.0], [2.0], model=model)
