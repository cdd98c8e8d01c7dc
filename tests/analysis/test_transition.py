"""Transition temperatures, crossings, and work on several workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    random_directions,
    set_spins,
)
from deepspin_ase.analysis import curie_temperature, map_tasks, plot_transition
from deepspin_ase.analysis._statistics import mean_with_error
from deepspin_ase.analysis.transitions import (
    SamplingTask,
    crossing,
    peak,
    run_sampling,
    scaling_fit,
)
from deepspin_ase.analysis.transitions._thermal_sampling import _faster_moves
from deepspin_ase.analysis.transitions._transition import checked_sizes
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.potentials import (
    DzyaloshinskiiMoriya,
    Heisenberg,
    Potential,
    Shells,
    UniaxialAnisotropy,
)
from deepspin_ase.potentials._files import plain_data
from deepspin_ase.potentials.materials import reference
from deepspin_ase.symmetry import star

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


def cumulants(
    temperature: np.ndarray, length: float, *, slope: float, correction: float
) -> np.ndarray:
    """A transition at 1000 K between order, 2/3, and disorder, 4/9."""
    x = slope * (temperature / 1000.0 - 1.0) * length**1.406
    between = (2 / 9) / (1.0 + np.exp(x - 1.33))
    return 4 / 9 + between + correction * length**-0.79


@pytest.mark.parametrize(
    ("lengths", "half_width", "slope", "correction"),
    [((8, 12, 18), 0.03, 1.2, 0.05), ((5, 9), 0.06, 1.5, -0.05)],
)
def test_scaling_fit_of_known_cumulants(
    lengths: tuple[float, ...], half_width: float, slope: float, correction: float
) -> None:
    temperatures = 1000.0 * np.linspace(1 - half_width, 1 + half_width, 7)
    exact = np.array(
        [
            cumulants(temperatures, length, slope=slope, correction=correction)
            for length in lengths
        ]
    )
    rng = np.random.default_rng(0)
    error = np.full(exact.shape, 0.002)
    found = []
    for _ in range(12):
        noisy = exact + error * rng.normal(size=exact.shape)
        found.append(scaling_fit(temperatures, lengths, noisy, error).transition_K)
    off = np.array([(f.value - 1000.0) / f.error for f in found])
    assert abs(off.mean()) < 1.2
    assert 0.2 < off.std() < 1.6
    assert max(f.error for f in found) < 300.0 * half_width
    with pytest.raises(ValueError, match="too few"):
        scaling_fit(temperatures[:3], lengths[:2], exact[:2, :3], error[:2, :3])


@pytest.mark.parametrize(("first", "last"), [(200, 500), (800, 880), (1250, 1600)])
def test_scaling_fit_without_a_transition(first: float, last: float) -> None:
    temperatures = np.linspace(first, last, 6)
    rng = np.random.default_rng(1)
    for _ in range(2):
        values = np.array(
            [
                cumulants(temperatures, length, slope=1.2, correction=0.02)
                for length in (6, 9, 12)
            ]
        )
        values += 0.001 * rng.normal(size=values.shape)
        with pytest.raises(ValueError, match="no transition"):
            scaling_fit(temperatures, (6, 9, 12), values, np.full(values.shape, 0.001))


def test_curie_temperature_of_the_simple_cubic_ferromagnet() -> None:
    potential, atoms = cubic()
    temperatures = kelvin(1.38, 1.30, 1.42, 1.46, 1.50, 1.58)
    result = curie_temperature(
        atoms,
        temperatures,
        sizes=(3, 6),
        steps=2400,
        interval=2,
        seed=1,
        model=potential,
    )
    expected = kelvin(1.4429)[0]
    assert result.temperature_K.error < 0.04 * expected
    off = abs(result.temperature_K.value - expected)
    assert off < 3.0 * result.temperature_K.error
    assert abs(result.crossings_K[0].value / expected - 1.0) < 0.04
    assert (np.diff(result.temperatures_K) > 0).all()
    assert not result.q.any()
    assert 0.0 < result.drift < 4.0
    small, large = result.sizes
    assert small.binder[0, 0] < large.binder[0, 0]
    assert small.binder[-1, 0] > large.binder[-1, 0]
    assert (np.diff(large.order[:, 0]) < 0).all()
    assert "6x6x6" in str(result)
    for quantity in ("binder", "order", "susceptibility", "heat_capacity"):
        axes = plot_transition(result, quantity=quantity)
        assert len(axes.containers) == 2
        axes.figure.clear()


def test_order_of_an_antiferromagnet_is_found() -> None:
    """The Neel temperature is the Curie temperature of the ferromagnet."""
    potential, atoms = cubic(-1.0)
    atoms = atoms.repeat(2)
    set_spins(atoms, {"Fe": 2.0}, pattern=antiferromagnetic((0.5, 0.5, 0.5), cell=A))
    result = curie_temperature(
        atoms,
        kelvin(1.30, 1.40, 1.50, 1.60),
        sizes=(2, 3),
        steps=800,
        interval=1,
        model=potential,
    )
    np.testing.assert_allclose(result.q, [[1.0, 1.0, 1.0]])
    off = abs(result.temperature_K.value - kelvin(1.4429)[0])
    assert off < 3.0 * result.temperature_K.error
    assert result.temperature_K.error < 0.06 * kelvin(1.4429)[0]


def test_order_counts_all_domains() -> None:
    """Moments of another domain than the one that q names."""
    nio = bulk("NiO", "rocksalt", 4.178, cubic=True) * 2
    set_spins(nio, {"Ni": 2.0}, pattern=antiferromagnetic((0.5, -0.5, 0.5), cell=4.178))
    arms = star(bulk("NiO", "rocksalt", 4.178, cubic=True), (0.5, 0.5, 0.5))
    for q, expected in ((tuple(map(tuple, arms)), 2.0), ((0.5, 0.5, 0.5), 0.0)):
        task = SamplingTask(
            plain_data(reference.nio(lattice=False)),
            nio,
            (0.01,),
            q,
            np.diag([4.178] * 3),
            steps=1,
            equilibration=0,
        )
        assert run_sampling(task).order == pytest.approx(expected, abs=0.05)


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
        results.append(run_sampling(task))
    means = [r.order.mean(axis=1) for r in results]
    np.testing.assert_allclose(means[0], means[1], rtol=0.1)
    assert np.linalg.norm(results[1].magnetization, axis=2).mean() < 0.3
    (a, a_error), (b, b_error) = (
        np.transpose([mean_with_error(e) for e in r.energy]) for r in results
    )
    assert (abs(a - b) < 4.0 * np.hypot(a_error, b_error)).all()
    assert (a_error < 0.05 * abs(a)).all()


def stopped_run() -> SamplingTask:
    potential, atoms = cubic()
    return SamplingTask(
        plain_data(potential),
        atoms.repeat(3),
        (100.0, 200.0),
        (0.0, 0.0, 0.0),
        atoms.cell.array,
        steps=100,
        equilibration=20,
        interval=2,
    )


def test_a_run_that_was_stopped_goes_on(tmp_path) -> None:
    task = stopped_run()
    whole = run_sampling(task)
    name = str(tmp_path / "folder" / "run")
    # The equilibration is that of the first run, whatever is asked for later.
    run_sampling(replace(task, steps=40, checkpoint=name))
    rest = run_sampling(replace(task, equilibration=50, checkpoint=name))
    np.testing.assert_array_equal(whole.order, rest.order)
    np.testing.assert_array_equal(whole.energy, rest.energy)
    again = run_sampling(replace(task, steps=60, checkpoint=name))
    np.testing.assert_array_equal(whole.order[:, :30], again.order)
    for change in (
        {"temperatures_K": (100.0, 250.0)},
        {"seed": 1},
        {"model": plain_data(cubic(-1.0)[0])},
    ):
        with pytest.raises(ValueError, match="another run"):
            run_sampling(replace(task, checkpoint=name, **change))


def test_a_moving_lattice_that_was_stopped_goes_on(tmp_path) -> None:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True)
    set_spins(atoms, {"Fe": 2.36})
    task = SamplingTask(
        plain_data(reference.fe()),
        atoms.repeat(2),
        (900.0, 1500.0),
        (0.0, 0.0, 0.0),
        atoms.cell.array,
        steps=8,
        equilibration=4,
        options={"lattice_steps": 2, "lattice_timestep": 4.0 * units.fs},
    )
    whole = run_sampling(task)
    assert np.ptp(whole.energy, axis=1).min() > 0.0
    name = str(tmp_path / "run")
    run_sampling(replace(task, steps=3, checkpoint=name))
    rest = run_sampling(replace(task, checkpoint=name))
    np.testing.assert_array_equal(whole.order, rest.order)
    np.testing.assert_array_equal(whole.energy, rest.energy)


_KILLED = """
import sys
from deepspin_ase.analysis.transitions import _thermal_sampling as sampling_files
from deepspin_ase.analysis.transitions._thermal_sampling import run_sampling
from test_transition import replace, stopped_run
sampling_files._SECONDS = 0.0
run_sampling(replace(stopped_run(), steps=10**7, checkpoint=sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_run_that_was_killed_goes_on(tmp_path) -> None:
    name = tmp_path / "run"
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(name)],
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        while not name.with_suffix(".ckpt").exists() and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    rest = run_sampling(replace(stopped_run(), checkpoint=str(name)))
    np.testing.assert_array_equal(run_sampling(stopped_run()).order, rest.order)


def test_atoms_that_move() -> None:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True)
    set_spins(atoms, {"Fe": 2.36})
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
    found = run_sampling(task)
    assert found.order.shape == (2, 20)
    assert np.ptp(found.energy, axis=1).min() > 0.0


def test_spins_of_a_moving_lattice_follow_its_couplings() -> None:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(2)
    set_spins(atoms, {"Fe": 2.36})
    atoms.calc = DeepSpinCalculator(reference.fe())
    driver = MonteCarlo(
        atoms,
        temperature_K=1500.0,
        lattice_steps=3,
        lattice_timestep=4.0 * units.fs,
        clusters=2,
        rng=3,
        progress=False,
    )
    driver.run(3)
    assert driver.acceptance["lattice"] > 0.0
    energies = [driver.spin_energies().item() - atoms.get_potential_energy()]
    set_spins(atoms, {"Fe": 2.36}, pattern=random_directions(0))
    driver.state = driver._sync.read(driver.engine.device)
    energies.append(driver.spin_energies().item() - atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


@pytest.mark.slow
def test_averages_of_a_moving_lattice() -> None:
    """Hybrid Monte Carlo with clusters samples what single spins by the model do."""
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(2)
    set_spins(atoms, {"Fe": 2.36})
    atoms.set_constraint(FixAtoms(range(12)))
    means = []
    for options in ({"clusters": 4}, {"simultaneous": True}):
        replicas = [atoms.copy() for _ in range(2)]
        for replica in replicas:
            replica.calc = DeepSpinCalculator(reference.fe())
        driver = MonteCarlo(
            replicas,
            temperature_K=1500.0,
            lattice_steps=2,
            lattice_timestep=5.0 * units.fs,
            adaptation_steps=20,
            rng=3,
            progress=False,
            **options,
        )
        driver.run(20)
        rows = []
        for _ in range(60):
            driver.run(1)
            rows.append(driver.prediction.energy.numpy())
        means.append(mean_with_error(np.mean(rows, axis=1)))
    (a, a_error), (b, b_error) = means
    assert abs(a - b) < 4.0 * np.hypot(a_error, b_error)
    assert a_error < 0.2


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
    here = map_tasks(run_sampling, [task, task], progress=False)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = map_tasks(run_sampling, [task, task], client=client, progress=False)
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
        ({"temperatures_K": 100.0}, "at least four"),
        ({"temperatures_K": [-1.0, 1, 2, 3]}, "finite and > 0"),
        ({"temperatures_K": [1.0, 1, 2, 3]}, "distinct"),
        ({"sizes": (4,)}, "two or more"),
        ({"sizes": 4}, "two or more"),
        ({"sizes": (4, 4)}, "two or more"),
        ({"sizes": [(2, 2), (3, 3)]}, "three whole numbers"),
        ({"sizes": (0, 4)}, "whole numbers"),
        ({"steps": 10}, "fewer than 100"),
        ({"method": "wolff"}, "method"),
        ({"q": (0.5, 0.5, 0.5), "sizes": (3, 4)}, "does not repeat"),
        ({"client": "cluster"}, "Client"),
        ({"temperatures_K": [400.0, 420.0, 440.0, 460.0]}, "go lower"),
        ({"temperatures_K": [20.0, 25.0, 30.0, 35.0]}, "go higher"),
        ({"q": (1.0, 1.0)}, "three"),
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
        curie_temperature(atoms, **{**options, **change}, model=potential)


@pytest.mark.parametrize("faulty", [{"move": "jump"}, {"steps_of_lattice": 3}])
def test_a_wrong_option_is_reported_at_once(
    faulty: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after faster moves were tried in vain, each with the same error."""
    calls = []
    real = MonteCarlo.__init__

    def counted(self: MonteCarlo, *arguments: object, **options: object) -> None:
        calls.append(options)
        real(self, *arguments, **options)

    monkeypatch.setattr(MonteCarlo, "__init__", counted)
    potential, atoms = cubic()
    task = SamplingTask(
        plain_data(potential), atoms, (100.0,), (0.0, 0.0, 0.0), atoms.cell.array, 10, 0
    )
    with pytest.raises((TypeError, ValueError), match=r"move|steps_of_lattice"):
        run_sampling(replace(task, options=faulty))
    assert len(calls) <= 1


@pytest.mark.parametrize(
    ("term", "moves"),
    [
        (None, (5, 0)),
        (UniaxialAnisotropy(1e-3, (0, 0, 1)), (0, 2)),
        (DzyaloshinskiiMoriya(Shells([(A, 1e-3)])), (0, 2)),
    ],
)
def test_faster_moves_are_made_where_they_are_exact(
    term: Potential | None, moves: tuple[int, int]
) -> None:
    potential, atoms = cubic()
    atoms = atoms.repeat(2)
    atoms.calc = DeepSpinCalculator(potential if term is None else potential + term)
    options = {"temperature_K": 100.0, "rng": 0, "progress": False}
    found = _faster_moves(atoms, options)
    assert (found.get("clusters", 0), found.get("overrelaxation", 0)) == (
        (int(np.ceil(2.0 * len(atoms) ** (1 / 3))), 0) if moves[0] else moves
    )
    MonteCarlo(atoms, **options, **found)
    assert not _faster_moves(atoms, {**options, "clusters": 0})


def test_the_model_is_the_calculator_by_default() -> None:
    potential, atoms = cubic()
    temperatures = np.linspace(*kelvin(1.2, 1.7), 5)
    options = {"sizes": (3, 4), "steps": 200, "interval": 1, "progress": False}
    with pytest.raises(ValueError, match="there is no model"):
        curie_temperature(atoms, temperatures, **options)
    with pytest.raises(TypeError, match=r"expected ase\.Atoms as first argument"):
        curie_temperature(potential, temperatures, **options)


def test_moments_are_needed() -> None:
    potential, _ = cubic()
    with pytest.raises(ValueError, match="moments"):
        curie_temperature(
            Atoms("Fe", cell=[A] * 3, pbc=True),
            [100.0, 150.0, 200.0, 250.0],
            model=DeepSpinCalculator(potential),
        )


def test_what_cannot_have_a_transition() -> None:
    potential, atoms = cubic()
    temperatures = [100.0, 150.0, 200.0, 250.0]
    with pytest.raises(ValueError, match="does not depend on moments"):
        curie_temperature(atoms, temperatures, model=reference.fe(exchange=None))
    with pytest.raises(TypeError, match="Potential"):
        curie_temperature(atoms, temperatures, model=3.0)
    cluster = atoms.copy()
    cluster.pbc = False
    with pytest.raises(ValueError, match="periodic"):
        curie_temperature(cluster, temperatures, model=potential)
    film = atoms.copy()
    film.pbc = (True, True, False)
    assert checked_sizes((3, 2), film) == [(2, 2, 1), (3, 3, 1)]
    with pytest.raises(ValueError, match="not periodic"):
        checked_sizes(((2, 2, 2), (3, 3, 3)), film)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lattice", "reduced", "sizes"),
    [
        ("sc", 1.4429, (6, 10, 16)),
        ("bcc", 2.0542, (6, 10, 15)),
        ("fcc", 3.178, (6, 9, 12)),
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
        atoms,
        temperatures,
        sizes=sizes,
        steps=4000,
        model=Heisenberg(Shells([(nearest, J)])),
    )
    value, error = result.temperature_K
    assert value == pytest.approx(kelvin(reduced)[0], rel=5e-3)
    assert error < 5e-3 * value
    # Of the Heisenberg universality class.
    assert abs(result.fit.cumulant.value - 0.620) < 3.0 * result.fit.cumulant.error
    assert abs(result.fit.exponent.value - 1.406) < 3.0 * result.fit.exponent.error
