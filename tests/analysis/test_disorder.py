"""Transition temperatures and averages of disordered crystals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units

from deepspin_ase import set_spins
from deepspin_ase.analysis import curie_temperature
from deepspin_ase.analysis._statistics import mean_of_realizations, thermal_error
from deepspin_ase.analysis.transitions._finite_size import scaling_fit
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


def clusters_of_wolff() -> Callable[..., tuple[float, float]]:
    """Return a sampler of its own: <m^2> and <m^4> of a diluted cube at J = 1.

    U. Wolff, Phys. Rev. Lett. 62, 361 (1989), doi:10.1103/PhysRevLett.62.361.
    """
    numba = pytest.importorskip("numba")

    @numba.njit
    def sample(size, occupied, T, sweeps, rng):
        sites = np.flatnonzero(occupied)
        steps = np.array([1, -1, size, -size, size**2, -(size**2)])
        s = np.zeros((size**3, 3))
        s[sites, 2] = 1.0
        pending = np.empty(size**3, np.int64)
        flipped, count, second, fourth = 0, 0, 0.0, 0.0
        warm = sweeps // 5 * len(sites)
        while flipped < sweeps * len(sites):
            r = rng.normal(0.0, 1.0, 3)
            r /= np.sqrt((r * r).sum())
            start = sites[rng.integers(0, len(sites))]
            s[start] -= 2.0 * (s[start] * r).sum() * r
            pending[0], left = start, 1
            while left:
                left -= 1
                k = pending[left]
                flipped += 1
                along = (s[k] * r).sum()
                for step in steps:
                    j = k + step
                    width = abs(step) * size
                    if j // width != k // width or j < 0:
                        j -= np.sign(step) * width
                    across = (s[j] * r).sum()
                    if along * across < 0.0:
                        if rng.random() < 1.0 - np.exp(2.0 * along * across / T):
                            s[j] -= 2.0 * across * r
                            pending[left] = j
                            left += 1
            # After every cluster: chosen by their sizes, states would be biased.
            if flipped >= warm:
                square = (s.sum(axis=0) ** 2).sum() / len(sites) ** 2
                second, fourth, count = second + square, fourth + square**2, count + 1
        return second / count, fourth / count

    return sample


def cumulants_by_clusters(
    share: float, sizes: tuple[int, ...], temperatures: np.ndarray
) -> np.ndarray:
    """Return U4 and errors, (S, T, 2), of 16 diluted cubes of each size."""
    sample, rng, realizations = clusters_of_wolff(), np.random.default_rng(0), 16
    found = np.zeros((len(sizes), realizations, len(temperatures)))
    for row, size in zip(found, sizes, strict=True):
        for values in row:
            occupied = np.zeros(size**3, dtype=bool)
            occupied[rng.permutation(size**3)[: round(share * size**3)]] = True
            for t, T in enumerate(temperatures):
                second, fourth = sample(size, occupied, T, 400, rng)
                values[t] = 1.0 - fourth / (3.0 * second**2)
    error = found.std(axis=1, ddof=1) / np.sqrt(realizations)
    return np.stack([found.mean(axis=1), error], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "guess", "width"), [(0.9, 0.88, 0.1), (0.7, 0.62, 0.1), (0.5, 0.33, 0.14)]
)
def test_dilution_on_the_way_to_percolation(
    share: float, guess: float, width: float
) -> None:
    """Tc/Tc(1) of the simple cubic magnet by its share of sites, by two programs.

    0.87, 0.64 and 0.33. Mean field has the share itself; correlations lower it further,
    to zero at the percolation threshold 0.3116, below which there are only finite
    clusters.
    """
    potential, atoms = cubic()
    temperatures = 1.4429 * guess * np.linspace(1.0 - width, 1.0 + width, 5)
    sizes = (6, 10)
    expected = cumulants_by_clusters(share, sizes, temperatures)
    lengths = np.cbrt([share * size**3 for size in sizes])
    fit = scaling_fit(temperatures, lengths, *np.moveaxis(expected, 2, 0))
    result = curie_temperature(
        atoms,
        kelvin(*temperatures),
        sizes=sizes,
        steps=500,
        model=potential,
        disorder=diluted(1.0 - share),
        realizations=8,
    )
    binder = np.array([size.binder for size in result.sizes])
    error = np.hypot(binder[..., 1], expected[..., 1])
    print(share, (binder[..., 0] - expected[..., 0]) / error)
    assert (abs(binder[..., 0] - expected[..., 0]) < 4.0 * error + 0.004).all()
    found, error = np.array(result.temperature_K) / kelvin(1.0)[0]
    print(found / 1.4429, error / 1.4429, np.array(fit.transition_K) / 1.4429)
    assert error < 0.06 * found
    apart = found - fit.transition_K.value
    assert abs(apart) < 3.0 * np.hypot(error, fit.transition_K.error)
    assert (share - 0.3116) / 0.6884 < found / 1.4429 < share
