"""Transition temperatures, crossings, and work on several workers."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, set_spins
from deepspin_ase.analysis.crossing import crossing, peak
from deepspin_ase.analysis.distributed import map_tasks
from deepspin_ase.analysis.statistics import mean_with_error
from deepspin_ase.analysis.thermal_sampling import SamplingTask, sample
from deepspin_ase.analysis.transition import curie_temperature, plot_transition
from deepspin_ase.potentials import Heisenberg, Shells
from deepspin_ase.potentials.serialize import plain_data

J = 0.01
A = 2.5


def cubic(sign: float = 1.0) -> tuple[Heisenberg, Atoms]:
    atoms = Atoms("Fe", cell=[A] * 3, pbc=True)
    set_spins(atoms, {"Fe": 2.0})
    return Heisenberg(Shells([(A, sign * J)])), atoms


def kelvin(*reduced: float) -> np.ndarray:
    return np.array(reduced) * J / units.kB


def test_crossing_of_known_curves() -> None:
    x = np.linspace(0.0, 2.0, 9)
    rng = np.random.default_rng(0)
    error = np.full(9, 0.01)
    first = 0.5 - 0.2 * (x - 1.1) + 0.02 * (x - 1.1) ** 2
    second = 0.5 - 0.8 * (x - 1.1)
    exact = crossing(x, [(first, error), (second, error)])
    assert exact.value == pytest.approx(1.1, abs=1e-6)
    found = [
        crossing(x, [(c + 0.01 * rng.normal(size=9), error) for c in (first, second)])
        for _ in range(40)
    ]
    spread = np.std([f.value for f in found])
    assert 0.6 < exact.error / spread < 1.6


def test_peak_of_a_known_curve() -> None:
    x = np.linspace(0.0, 2.0, 11)
    errors = np.full(11, 0.01)
    assert peak(x, (2 - (x - 0.87) ** 2, errors)).value == pytest.approx(0.87)
    assert np.isnan(peak(x, (x, errors)).value)


def test_curves_that_do_not_cross() -> None:
    x = np.arange(5.0)
    with pytest.raises(ValueError, match="do not cross"):
        crossing(x, [(x, 0 * x + 0.1), (x + 1, 0 * x + 0.1)])
    with pytest.raises(ValueError, match="four or more"):
        crossing(x[:3], [(x[:3], x[:3]), (x[:3], x[:3])])


def test_curie_temperature_of_the_simple_cubic_ferromagnet() -> None:
    potential, atoms = cubic()
    temperatures = kelvin(1.30, 1.36, 1.42, 1.48, 1.54, 1.60)
    result = curie_temperature(
        potential, atoms, temperatures, sizes=(3, 6), steps=3000, interval=3, seed=1
    )
    expected = kelvin(1.4429)[0]
    assert result.temperature_K.error < 0.04 * expected
    # Small sizes cross a little high.
    assert abs(result.temperature_K.value / expected - 1.0) < 0.04
    small, large = result.sizes
    assert small.binder[0, 0] < large.binder[0, 0]
    assert small.binder[-1, 0] > large.binder[-1, 0]
    assert (np.diff(large.order[:, 0]) < 0).all()
    assert "6x6x6" in str(result)
    for quantity in ("binder", "order", "susceptibility", "heat_capacity"):
        axes = plot_transition(result, quantity=quantity)
        assert len(axes.containers) == 2
        axes.figure.clear()


def test_antiferromagnet_mirrors_the_ferromagnet() -> None:
    """Turning every other spin maps one onto the other."""
    ferro, atoms = cubic()
    anti, doubled = cubic(-1.0)
    doubled = doubled.repeat(2)
    set_spins(doubled, {"Fe": 2.0}, pattern=antiferromagnetic((0.5, 0.5, 0.5), cell=A))
    common = {"steps": 400, "equilibration": 200, "temperatures_K": (150.0, 200.0)}
    results = []
    for potential, cell, q in (
        (ferro, atoms.repeat(4), (0, 0, 0)),
        (anti, doubled.repeat(2), (1, 1, 1)),
    ):
        own = doubled.cell.array if q[0] else atoms.cell.array
        task = SamplingTask(plain_data(potential), cell, q=q, cell=own, **common)
        results.append(sample(task))
    means = [r.order.mean(axis=1) for r in results]
    np.testing.assert_allclose(means[0], means[1], rtol=0.1)
    assert np.linalg.norm(results[1].magnetisation, axis=2).mean() < 0.3
    (a, a_error), (b, b_error) = (
        np.transpose([mean_with_error(e) for e in r.energy]) for r in results
    )
    assert (abs(a - b) < 4.0 * np.hypot(a_error, b_error)).all()
    assert (a_error < 0.05 * abs(a)).all()


def test_a_run_that_was_stopped_goes_on(tmp_path) -> None:
    potential, atoms = cubic()
    common = {
        "model": plain_data(potential),
        "atoms": atoms.repeat(3),
        "temperatures_K": (100.0, 200.0),
        "q": (0.0, 0.0, 0.0),
        "cell": atoms.cell.array,
        "equilibration": 20,
        "interval": 2,
    }
    whole = sample(SamplingTask(steps=100, **common))
    name = str(tmp_path / "folder" / "run")
    sample(SamplingTask(steps=40, checkpoint=name, **common))
    rest = sample(SamplingTask(steps=100, checkpoint=name, **common))
    np.testing.assert_array_equal(whole.order, rest.order)
    np.testing.assert_array_equal(whole.energy, rest.energy)
    with pytest.raises(ValueError, match="other temperatures"):
        changed = common | {"temperatures_K": (100.0, 250.0)}
        sample(SamplingTask(steps=100, checkpoint=name, **changed))


def test_atoms_that_move() -> None:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True)
    set_spins(atoms, {"Fe": 2.36})
    from deepspin_ase.potentials import reference

    task = SamplingTask(
        plain_data(reference.fe()),
        atoms.repeat(2),
        (300.0, 900.0),
        (0.0, 0.0, 0.0),
        atoms.cell.array,
        steps=20,
        equilibration=10,
        method="langevin",
        options={"timestep_fs": 0.5},
    )
    found = sample(task)
    assert found.order.shape == (2, 20)
    assert np.ptp(found.energy, axis=1).min() > 0.0


def test_distributed_runs_give_the_same_numbers() -> None:
    distributed = pytest.importorskip("distributed")
    potential, atoms = cubic()
    task = SamplingTask(
        plain_data(potential),
        atoms.repeat(3),
        (100.0, 200.0),
        (0.0, 0.0, 0.0),
        atoms.cell.array,
        steps=30,
        equilibration=10,
    )
    here = map_tasks(sample, [task, task], progress=False)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = map_tasks(sample, [task, task], client=client, progress=False)
        with pytest.raises(ZeroDivisionError):
            map_tasks(_reciprocal, [1.0, 0.0], client=client, progress=False)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_array_equal(a.order, b.order)


def _reciprocal(x: float) -> float:
    return 1.0 / x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperatures_K": [100.0, 200.0]}, "at least four"),
        ({"temperatures_K": [-1.0, 1, 2, 3]}, "positive"),
        ({"temperatures_K": [1.0, 1, 2, 3]}, "twice"),
        ({"sizes": (4,)}, "two or more"),
        ({"sizes": (0, 4)}, "whole numbers"),
        ({"steps": 10}, "fewer than 100"),
        ({"method": "wolff"}, "method"),
        ({"q": (0.5, 0.5, 0.5), "sizes": (3, 4)}, "does not repeat"),
        ({"client": "cluster"}, "Client"),
        ({"temperatures_K": [400.0, 420.0, 440.0, 460.0]}, "below"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    potential, atoms = cubic()
    options = {
        "temperatures_K": [100.0, 150.0, 200.0, 250.0],
        "sizes": (2, 3),
        "steps": 300,
        "interval": 1,
    }
    with pytest.raises((ValueError, TypeError), match=message):
        curie_temperature(potential, atoms, **{**options, **change})


def test_moments_are_needed() -> None:
    potential, _ = cubic()
    with pytest.raises(ValueError, match="moments"):
        curie_temperature(
            DeepSpinCalculator(potential),
            Atoms("Fe", cell=[A] * 3, pbc=True),
            [100.0, 150.0, 200.0, 250.0],
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lattice", "reduced", "sizes"),
    [
        ("sc", 1.4429, (6, 10, 16)),
        ("bcc", 2.0542, (8, 12, 18)),
        ("fcc", 3.178, (8, 12, 18)),
    ],
)
def test_classical_heisenberg_models(
    lattice: str, reduced: float, sizes: tuple[int, ...]
) -> None:
    """k Tc/J of the classical Heisenberg models, to 0.5 %."""
    atoms = bulk("Fe", lattice, a=A)
    nearest = A * {"sc": 1.0, "bcc": 3**0.5 / 2, "fcc": 2**-0.5}[lattice]
    set_spins(atoms, {"Fe": 2.0})
    temperatures = kelvin(*(np.linspace(0.97, 1.03, 7) * reduced))
    result = curie_temperature(
        Heisenberg(Shells([(nearest, J)])),
        atoms,
        temperatures,
        sizes=sizes,
        steps=10000,
    )
    assert result.temperature_K.value == pytest.approx(kelvin(reduced)[0], rel=5e-3)
