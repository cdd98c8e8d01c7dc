"""Multiple histograms and the order of transitions against exact distributions."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from deepspin_ase.analysis.transitions import (
    MultiHistogram,
    TransitionOrder,
    transition_order,
)


def springs(stiffness: list[float], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return energies over kT of samples of harmonic springs in all of them."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, k**-0.5, count) for k in stiffness])
    owner = np.repeat(np.arange(len(stiffness)), count)
    return 0.5 * np.multiply.outer(stiffness, x**2), owner


def test_free_energies_of_springs() -> None:
    stiffness = [1.0, 2.0, 5.0, 12.0]
    reduced, owner = springs(stiffness, 4000)
    joined = MultiHistogram(reduced, owner)
    exact = 0.5 * np.log(stiffness)
    np.testing.assert_allclose(joined.free_energies, exact, atol=0.02)
    weights = joined.weights(3.0 * reduced[0])
    square, error = joined.estimate(weights, 2 * reduced[:1].T, lambda x: x[..., 0])
    assert square == pytest.approx(1 / 3.0, abs=4 * error)
    assert 0 < error < 0.01
    assert np.isnan(joined.weights(1e7 * reduced[0])).all()


def test_free_energies_equal_those_of_another_program() -> None:
    pymbar = pytest.importorskip("pymbar")
    reduced, owner = springs([1.0, 3.0, 9.0], 500)
    ours = MultiHistogram(reduced, owner, resamples=2).free_energies
    other = pymbar.MBAR(reduced, np.bincount(owner))
    np.testing.assert_allclose(ours, other.f_k - other.f_k[0], atol=1e-6)


def test_states_that_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 100), rng.normal(500, 1, 100)])
    reduced = 0.5 * np.stack([x**2, (x - 500) ** 2])
    with pytest.raises(ValueError, match="overlap too little"):
        MultiHistogram(reduced, np.repeat([0, 1], 100))
    with pytest.raises(ValueError, match="every state needs samples"):
        MultiHistogram(reduced, np.zeros(200, dtype=int))


def two_phases(apart: float) -> TransitionOrder:
    """Return what is found of a density of states of two Gaussians, ``apart`` eV.

    Both have the width 0.1 eV. At 1/kT = b their weights are as exp(-b apart) to
    exp(s), so that they are equal at b = s / apart.
    """
    width, middle = 0.1, 40.0
    beta = middle * np.linspace(0.8, 1.2, 9)[::-1]
    rng = np.random.default_rng(3)
    energies, orders = [], []
    for b in beta:
        upper = rng.random(4000) < 1 / (1 + np.exp((b - middle) * apart))
        mean = np.where(upper, apart, 0.0) - b * width**2
        energies.append(rng.normal(mean, width))
        orders.append(np.where(upper, 0.02, 1.0))
    temperatures = 1 / (units.kB * beta)
    return transition_order(temperatures, np.array(energies), np.array(orders), 10)


def test_two_phases_are_told_with_their_latent_heat() -> None:
    found = two_phases(0.6)
    assert found.first_order
    assert found.temperature_K.value == pytest.approx(1 / (units.kB * 40.0), rel=0.01)
    value, error = found.latent_heat
    assert value == pytest.approx(0.06, abs=4 * error + 0.002)
    # ln of the peak over the middle of two Gaussians at three widths each.
    assert found.barrier.value == pytest.approx(4.5 - np.log(2), abs=0.8)
    # U4 = 1 - 1/(3 p) of a share p of an order that is there or not.
    assert found.binder_minimum.value < 0.0
    assert "latent heat" in str(found)
    assert found.density.sum() * np.diff(found.energies)[0] == pytest.approx(1.0)
    found.plot().figure.clear()


def test_levels_that_are_occupied_one_by_one() -> None:
    """Schottky: a peak of the heat capacity at kT = 0.417 gaps, and no transition.

    Beside them are oscillators with k_B each, whose energies are continuous.
    """
    gap, count, oscillators = 0.02, 400, 40
    temperatures = gap / units.kB * np.linspace(0.28, 0.68, 13)
    rng = np.random.default_rng(5)
    kT = units.kB * temperatures[:, None]
    energies = gap * rng.binomial(count, 1 / (1 + np.exp(gap / kT)), (13, 2000))
    energies = energies + rng.gamma(oscillators, kT, (13, 2000))
    found = transition_order(temperatures, energies, 1.0 + energies, count)
    assert not found.first_order
    assert "no sign of first order" in str(found)
    assert found.latent_heat.value == 0.0
    at, _ = found.temperature_K
    assert units.kB * at / gap == pytest.approx(0.417, abs=0.04)


def test_a_transition_outside() -> None:
    rng = np.random.default_rng(0)
    temperatures = np.array([100.0, 120.0, 140.0])
    energies = rng.normal(-0.01 * 100 / temperatures[:, None], 0.01, (3, 500))
    with pytest.raises(ValueError, match="on both sides of the transition"):
        transition_order(temperatures, energies, np.ones((3, 500)), 1)
