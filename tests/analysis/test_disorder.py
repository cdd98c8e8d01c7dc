"""Transition temperatures and averages of disordered crystals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units

from deepspin_ase import set_spins
from deepspin_ase.analysis import curie_temperature
from deepspin_ase.analysis._statistics import mean_of_realizations, thermal_error
from deepspin_ase.build import random_alloy
from deepspin_ase.potentials import Heisenberg, Shells

J = 0.01
A = 2.5


def cubic() -> tuple[Heisenberg, Atoms]:
    atoms = Atoms("Fe", cell=[A] * 3, pbc=True)
    set_spins(atoms, {"Fe": 2.0})
    return Heisenberg(Shells([(A, J)])), atoms


def kelvin(*reduced: float) -> np.ndarray:
    return np.array(reduced) * J / units.kB


def diluted(share: float):
    return lambda atoms, seed: random_alloy(atoms, {"X": share}, seed=seed)


def test_mean_of_realizations_has_the_error_of_their_scatter() -> None:
    rng = np.random.default_rng(0)
    off = []
    for _ in range(300):
        values = 5.0 + 0.3 * rng.normal(size=10) + 0.1 * rng.normal(size=10)
        table = np.stack([values, np.full(10, 0.1)], axis=1)
        mean, error = mean_of_realizations(table)
        off.append((mean - 5.0) / error)
        assert thermal_error(table) == pytest.approx(0.1 / np.sqrt(10))
    assert np.std(off) == pytest.approx(1.0, abs=0.2)


def test_realizations_without_an_error_are_left_out() -> None:
    table = [[1.0, 0.1], [np.nan, np.nan], [3.0, 0.1]]
    np.testing.assert_allclose(mean_of_realizations(table), [2.0, 1.0])
    np.testing.assert_allclose(mean_of_realizations([[1.0, 0.1]]), [1.0, 0.1])


@pytest.fixture(scope="module")
def tenth():
    potential, atoms = cubic()
    return curie_temperature(
        atoms,
        kelvin(1.18, 1.25, 1.32, 1.40),
        sizes=(3, 5),
        steps=400,
        model=potential,
        disorder=diluted(0.1),
        realizations=4,
    )


def test_dilution_lowers_the_transition(tenth) -> None:
    """A tenth of the sites lowers it by somewhat more than a tenth."""
    found = tenth.temperature_K
    expected = 0.89 * kelvin(1.4429)[0]
    assert abs(found.value - expected) < 3.0 * found.error
    assert found.error < 0.06 * expected


def test_both_errors_are_told_apart(tenth) -> None:
    large = tenth.sizes[-1]
    assert large.realizations["order"].shape == (4, 4, 2)
    assert large.n_magnetic == 113  # of 125 sites
    thermal, disorder = large.errors("order")
    np.testing.assert_allclose(
        thermal**2 + disorder**2, large.order[:, 1] ** 2, rtol=1e-6
    )
    each = large.realizations["order"][..., 0]
    np.testing.assert_allclose(each.mean(axis=0), large.order[:, 0])
    assert each.std(axis=0).min() > 0.0


def test_disorder_that_changes_nothing(tmp_path: Path) -> None:
    """One realization of a perfect crystal is the crystal, also by its checkpoint."""
    potential, atoms = cubic()
    options = {
        "temperatures_K": kelvin(1.2, 1.35, 1.5, 1.65),
        "sizes": (2, 4),
        "steps": 200,
        "model": potential,
        "checkpoint": tmp_path,
    }
    plain = curie_temperature(atoms, **options)
    same = curie_temperature(
        atoms, **options, disorder=lambda cell, seed: cell, realizations=1
    )
    np.testing.assert_array_equal(plain.sizes[1].order, same.sizes[1].order)
    more = curie_temperature(
        atoms, **options, disorder=lambda cell, seed: cell, realizations=2
    )
    np.testing.assert_array_equal(
        more.sizes[1].realizations["order"][0], plain.sizes[1].order
    )


def test_disorder_that_is_none() -> None:
    potential, atoms = cubic()

    def run(disorder, **options):
        return curie_temperature(
            atoms,
            kelvin(1.2, 1.3, 1.4, 1.5),
            sizes=(2, 3),
            steps=200,
            model=potential,
            disorder=disorder,
            **options,
        )

    with pytest.raises(ValueError, match="must return Atoms"):
        run(lambda cell, seed: None)
    with pytest.raises(ValueError, match="changed the cell"):
        run(lambda cell, seed: cell.repeat(2))
    with pytest.raises(ValueError, match="realizations"):
        run(diluted(0.1), realizations=0)
    with pytest.raises(ValueError, match="nearest share that fits"):
        run(diluted(0.01))


@pytest.mark.slow
def test_dilution_down_to_percolation() -> None:
    """Tc/Tc(1) of the simple cubic magnet by its share of sites.

    Mean field has the share itself; correlations lower it further, to zero at
    the percolation threshold 0.3116, below which there are only finite clusters.
    """
    potential, atoms = cubic()
    found = {}
    for share, guess in ((0.9, 0.89), (0.7, 0.675), (0.5, 0.44)):
        result = curie_temperature(
            atoms,
            kelvin(*(1.4429 * guess * np.linspace(0.9, 1.1, 5))),
            sizes=(6, 8, 12),
            steps=2000,
            model=potential,
            disorder=diluted(1.0 - share),
            realizations=8,
        )
        found[share] = np.array(result.temperature_K) / kelvin(1.4429)[0]
        print(share, found[share])
    values = np.array([found[p][0] for p in (0.9, 0.7, 0.5)])
    assert (values < [0.9, 0.7, 0.5]).all()
    # Concave, and on the way to zero at the threshold
    assert np.interp(0.7, [0.5, 0.9], values[[2, 0]]) < values[1] + 0.01
    assert values[2] < (0.5 - 0.3116) / (1 - 0.3116) * 1.8
