"""Magnetic order, its fluctuations, correlations, topology and symmetry."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    get_spins,
    random_directions,
    set_spins,
    spiral,
    write_extxyz,
)
from deepspin_ase.analysis import (
    canting_angles,
    commensurate_path,
    frames_of,
    neighbor_angles,
    neighbor_order,
    order_series,
    plot_order,
    plot_structure_factor,
    plot_thermal_averages,
    short_range_order,
    spin_correlation,
    structure_factor,
    thermal_averages,
    topological_charge,
)
from deepspin_ase.analysis._statistics import (
    autocorrelation_time,
    bootstrap,
    mean_with_error,
)
from deepspin_ase.analysis.order import (
    OrderSeries,
    plot_angles,
    plot_spin_correlation,
    plot_structure_factor_plane,
    plot_topological_charge,
)
from deepspin_ase.analysis.transitions import (
    binder_cumulant,
    heat_capacity,
    susceptibility,
)
from deepspin_ase.dynamics import SpinDynamics, read_hdf5
from deepspin_ase.potentials import Heisenberg, Shells

matplotlib.use("Agg")


def nickel_oxide() -> Atoms:
    atoms = bulk("NiO", "rocksalt", 4.17, cubic=True) * 2
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.17)
    set_spins(atoms, {"Ni": 1.9}, pattern=order)
    return atoms


def disordered(seed: int = 0) -> Atoms:
    atoms = bulk("Fe", "bcc", 2.87) * (3, 2, 2)
    atoms.rattle(0.3, seed=seed)
    rng = np.random.default_rng(seed)
    set_spins(atoms, rng.normal(size=(len(atoms), 3)))
    return atoms


# --- structure factor ---------------------------------------------------------


def test_structure_factor_is_the_sum_that_defines_it():
    atoms = disordered()
    q = np.array([(1 / 3, 0, 0), (0, 0.5, 0.5), (2 / 3, 1.0, -0.5)])
    primitive = atoms.cell.array / [[3], [2], [2]]
    found = structure_factor(atoms, q, cell=primitive)
    k = 2 * np.pi * q @ np.linalg.inv(primitive).T
    assert found.q_cartesian == pytest.approx(k)
    m = get_spins(atoms)
    sums = np.array([(np.exp(-1j * atoms.positions @ x) @ m) for x in k])
    tensor = sums[:, :, None].conj() * sums[:, None] / len(atoms)
    assert found.tensor == pytest.approx(tensor)
    across = [
        np.linalg.norm(np.cross(x / np.linalg.norm(x), s)) ** 2 / len(atoms)
        for x, s in zip(k, sums, strict=True)
    ]
    assert found.neutron == pytest.approx(np.array(across))


def test_intensity_of_a_brillouin_zone_is_the_squared_moment():
    atoms = bulk("Fe", "sc", 2.5) * 4
    set_spins(atoms, np.random.default_rng(0).normal(size=(64, 3)))
    q = np.indices((4, 4, 4)).reshape(3, -1).T / 4
    found = structure_factor(atoms, q, cell=2.5)
    assert found.intensity.sum() == pytest.approx((get_spins(atoms) ** 2).sum())


@pytest.mark.parametrize(
    ("lattice", "q", "m2_part"),
    [
        ("sc", (0, 0, 0), 1),
        ("sc", (0.5, 0.5, 0.5), 1),
        ("sc", (0.25, 0, 0), 0.5),
        ("fcc", (1, 0, 0), 1),
        ("fcc", (0.5, 0.5, 0.5), 1),
        ("bcc", (1, 0, 0), 1),
        ("bcc", (0.5, 0.5, 0), 1),
        ("bcc", (0, 0, 0), 1),
    ],
)
def test_peak_finds_the_propagation_vector(lattice, q, m2_part):
    atoms = (
        bulk("Fe", "sc", 3.0) * 4
        if lattice == "sc"
        else bulk("Fe", lattice, 3.0, cubic=True) * 2
    )
    set_spins(atoms, {"Fe": 2.0}, pattern=spiral(q, cell=3.0))
    cant_spins(atoms, 0.01, seed=1)
    found = structure_factor(atoms, cell=3.0)
    assert np.sort(np.abs(found.peak_q)) == pytest.approx(np.sort(q))
    expected = m2_part * len(atoms) * 4.0
    assert found.intensity.max() == pytest.approx(expected, rel=0.05)


def test_peak_of_nickel_oxide_and_its_order():
    series = order_series(nickel_oxide(), cell=4.17)
    assert series.q == pytest.approx([0.5] * 3)
    assert series.real_wave and series.n_magnetic == 32
    assert series.staggered == pytest.approx([1.9])
    assert series.magnetization == pytest.approx(np.zeros((1, 3)), abs=1e-12)
    # The order does not care where the crystal stands, or how its atoms are wrapped.
    moved = nickel_oxide()
    moved.translate([0.3, 7.1, -2.2])
    moved.wrap()
    assert order_series(moved, (0.5, 0.5, 0.5), cell=4.17).staggered == pytest.approx(
        [1.9]
    )


def test_spirals_and_waves_have_their_amplitude():
    atoms = bulk("Fe", "sc", 2.5) * (6, 1, 1)
    set_spins(atoms, {"Fe": 2.0}, pattern=spiral((1 / 6, 0, 0), cell=2.5))
    series = order_series(atoms, cell=2.5)
    assert not series.real_wave
    assert series.staggered == pytest.approx([2.0])
    wave = np.cos(2 * np.pi * np.arange(6) / 6)
    set_spins(atoms, 2.0 * wave)
    found = order_series(atoms, (1 / 6, 0, 0), cell=2.5).staggered
    assert found == pytest.approx([2.0 / np.sqrt(2)])


def test_wave_vectors_that_do_not_fit_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"nearest that does is \[0\.5 +0\. +0\."):
        structure_factor(nickel_oxide(), (0.4, 0, 0), cell=4.17)
    with pytest.raises(ValueError, match="three finite numbers"):
        order_series(nickel_oxide(), (0.5, 0.5))
    path = commensurate_path(nickel_oxide(), (0, 0, 0), (1, 1, 0), 4.17)
    assert path == pytest.approx(np.array([[0, 0, 0], [0.5, 0.5, 0], [1, 1, 0]]))


def test_slab_has_waves_in_its_plane_only():
    atoms = bulk("Fe", "sc", 2.5) * (2, 2, 3)
    atoms.center(vacuum=5.0, axis=2)
    atoms.pbc = (True, True, False)
    set_spins(atoms, {"Fe": 2.0}, pattern=antiferromagnetic((0.5, 0.5, 0), cell=2.5))
    found = structure_factor(atoms, cell=2.5)
    assert np.abs(found.peak_q) == pytest.approx([0.5, 0.5, 0])
    assert not found.q[:, 2].any()
    atoms.pbc = False
    with pytest.raises(ValueError, match="without periodic directions"):
        structure_factor(atoms, cell=2.5)
    single = structure_factor(atoms, (0.5, 0.5, 0.13), cell=2.5)
    assert single.intensity.shape == (1,)


# --- trajectories -------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Path]:
    """Return one run of warm spins as HDF5 and as extxyz."""
    folder = tmp_path_factory.mktemp("run")
    hdf5, extxyz = folder / "run.h5", folder / "run.extxyz"
    atoms = bulk("Fe", "sc", 2.5) * (4, 2, 2)
    set_spins(atoms, {"Fe": 2.0})
    cant_spins(atoms, 0.05, seed=0)
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.5, 0.01)])))
    dyn = SpinDynamics(
        atoms,
        2 * units.fs,
        temperature_K=400,
        damping=1.0,
        rng=0,
        trajectory=hdf5,
        loginterval=2,
    )
    dyn.run(200)
    write_extxyz(extxyz, read_hdf5(hdf5))
    return hdf5, extxyz


def test_all_sources_give_the_same(run):
    hdf5, extxyz = run
    frames = list(frames_of(hdf5))
    assert len(frames) == 101
    assert frames[1].info["time_fs"] == pytest.approx(4.0)
    expected = order_series(frames, (0.25, 0, 0), cell=2.5)
    assert expected.staggered.std() > 0
    assert np.isfinite(expected.energy).all() and expected.energy.std() > 0
    sources = (hdf5, str(extxyz), iter(frames), (f for f in frames))
    for source in sources:
        found = order_series(source, (0.25, 0, 0), cell=2.5)
        assert found.staggered == pytest.approx(expected.staggered, abs=1e-7)
        assert found.magnetization == pytest.approx(expected.magnetization, abs=1e-7)
        assert found.energy == pytest.approx(expected.energy)
        assert found.time_fs == pytest.approx(expected.time_fs)
    averaged = structure_factor(hdf5, (0.25, 0, 0), cell=2.5)
    each = [structure_factor(f, (0.25, 0, 0), cell=2.5).tensor for f in frames]
    assert averaged.tensor == pytest.approx(np.mean(each, axis=0))
    assert averaged.n_frames == 101


def test_bad_trajectories_are_refused(tmp_path, run):
    atoms = nickel_oxide()
    with pytest.raises(ValueError, match="no frames"):
        order_series([], (0, 0, 0))
    with pytest.raises(ValueError, match="same atoms"):
        order_series([atoms, atoms[:5]], (0, 0, 0))
    with pytest.raises(ValueError, match="only once"):
        order_series(iter([atoms]))
    with pytest.raises(TypeError, match="frames of"):
        order_series([1, 2], (0, 0, 0))
    with pytest.raises(TypeError, match="path of a trajectory"):
        order_series(3, (0, 0, 0))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        order_series(tmp_path / "none.h5", (0, 0, 0))
    with pytest.raises(ValueError, match="replicas"):
        next(frames_of(run[0], replica=1))
    damaged = tmp_path / "damaged.extxyz"
    damaged.write_text(run[1].read_text()[:-200])
    with pytest.raises(ValueError, match="damaged"):
        order_series(damaged, (0, 0, 0))
    bare = atoms.copy()
    bare.set_initial_magnetic_moments(None)
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        structure_factor(bare)
    set_spins(bare, np.zeros(64))
    with pytest.raises(ValueError, match="all moments are zero"):
        structure_factor(bare)


# --- fluctuations -------------------------------------------------------------


def autoregressive(phi: float, count: int, seed: int, columns: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.empty((count, columns))
    x[0] = rng.normal(size=columns)
    for k in range(1, count):
        x[k] = phi * x[k - 1] + np.sqrt(1 - phi**2) * rng.normal(size=columns)
    return x


def test_error_bars_of_correlated_samples():
    """AR(1): tau = (1 + phi) / (1 - phi); the error is that of the mean over runs."""
    phi, count = 0.8, 4000
    runs = autoregressive(phi, count, 1, 40)
    taus = [autocorrelation_time(x) for x in runs.T]
    assert np.mean(taus) == pytest.approx(9.0, rel=0.1)
    true_error = runs.mean(axis=0).std()
    errors = [mean_with_error(x).error for x in runs.T]
    assert np.mean(errors) == pytest.approx(true_error, rel=0.35)
    again = [bootstrap(x[:, None], lambda y: y[..., 0]).error for x in runs.T[:10]]
    assert np.mean(again) == pytest.approx(np.sqrt(9.0 / count), rel=0.2)
    assert autocorrelation_time(np.ones(50)) == 1.0


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.9, 0.97])
def test_autocorrelation_time_of_an_autoregressive_series(phi):
    """tau = (1 + phi) / (1 - phi), but never less than one sample."""
    count = 200_000
    (series,) = autoregressive(phi, count, 1, 1).T
    exact = max(1.0, (1.0 + phi) / (1.0 - phi))
    error = np.sqrt(2.0 * (10.0 * exact + 1.0) / count)  # relative (Sokal)
    assert autocorrelation_time(series) == pytest.approx(exact, rel=3.0 * error)


def test_autocorrelation_time_by_its_definition():
    """The sum over lags, up to the first of five times the sum so far."""
    (series,) = autoregressive(0.7, 60, 1, 1).T
    x = series - series.mean()
    tau, lag = 1.0, 0
    while lag < 5.0 * tau:
        lag += 1
        tau += 2.0 * (x[lag:] @ x[:-lag]) / (x @ x)
    assert autocorrelation_time(series) == pytest.approx(tau, rel=1e-12)


def test_paramagnet():
    """Free spins: chi = m^2 / 3kT per atom, U4 = 4/9 but for 1/M."""
    rng = np.random.default_rng(2)
    count, size, moment, temperature = 4000, 50, 2.0, 300.0
    e = rng.normal(size=(count, size, 3))
    e *= moment / np.linalg.norm(e, axis=2, keepdims=True)
    m = e.mean(axis=1)
    chi = susceptibility(m, temperature, size, connected=False)
    expected = moment**2 / (3 * units.kB * temperature)
    assert abs(chi.value - expected) < 4 * chi.error < 0.1 * expected
    # Maxwell distribution: <m^2> - <|m|>^2 = (1 - 8 / 3 pi) <m^2>.
    connected = susceptibility(m, temperature, size)
    assert connected.value == pytest.approx(3 * expected * (1 - 8 / 3 / np.pi), rel=0.1)
    u4 = binder_cumulant(m)
    assert abs(u4.value - 4 / 9) < 4 * u4.error + 1 / size
    assert binder_cumulant(np.ones((20, 3))).value == pytest.approx(2 / 3)


def test_heat_capacity_of_oscillators():
    """n classical harmonic degrees of freedom store n/2 k_B, by potential energy."""
    rng = np.random.default_rng(3)
    temperature, n = 400.0, 60
    energies = units.kB * temperature * rng.gamma(n / 2, size=5000)
    found = heat_capacity(energies + 1000.0, temperature, 20)
    assert abs(found.value - n / 2 / 20) < 4 * found.error < 0.1 * found.value


def test_thermal_averages_of_a_run(run):
    series = order_series(run[0], (0.5, 0.5, 0.5), cell=2.5)
    found = thermal_averages(series, 400, skip=20)
    assert found.n_frames == 81
    m = np.linalg.norm(series.magnetization[20:], axis=1)
    assert found.magnetization.value == pytest.approx(m.mean())
    kt = units.kB * 400
    assert found.susceptibility.value == pytest.approx(16 * m.var() / kt)
    assert found.heat_capacity is not None
    assert found.heat_capacity.value == pytest.approx(
        series.energy[20:].var() / kt**2 / 16
    )
    ax = plot_thermal_averages([found], quantity="heat_capacity")
    assert "k_B" in ax.get_ylabel()
    with pytest.raises(ValueError, match="quantity"):
        plot_thermal_averages([found], quantity="chi")


def test_fluctuations_are_checked():
    with pytest.raises(ValueError, match="at least 16"):
        binder_cumulant(np.ones((4, 3)))
    with pytest.raises(ValueError, match="longer"):
        binder_cumulant(np.linspace(0, 1, 100))
    with pytest.raises(ValueError, match="temperature_K must be finite and > 0"):
        susceptibility(np.ones(50), 0.0, 8)
    with pytest.raises(ValueError, match="every frame"):
        heat_capacity([1.0] * 20 + [np.nan], 300)
    with pytest.raises(ValueError, match="finite"):
        binder_cumulant(np.full((30, 3), np.inf))


def test_energy_of_another_state_is_not_taken():
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, {"Fe": 2.2})
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0)
    assert order_series(atoms, (0, 0, 0)).energy == pytest.approx([-3.0])
    atoms.positions[0, 0] += 0.1
    assert np.isnan(order_series(atoms, (0, 0, 0)).energy).all()


# --- correlations and angles --------------------------------------------------


def test_correlation_by_shells():
    found = spin_correlation(nickel_oxide(), 6.0)
    shells = {4.17 / 2**0.5: 0.0, 4.17: -1.0, 4.17 * 1.5**0.5: 0.0, 4.17 * 2**0.5: 1.0}
    known = found.n_pairs > 0
    assert found.distance[known] == pytest.approx([*shells])
    assert found.correlation[known] == pytest.approx([*shells.values()], abs=1e-12)
    assert found.n_pairs[known].tolist() == [32 * n // 2 for n in (12, 6, 24, 12)]
    with pytest.raises(ValueError, match="no pairs"):
        spin_correlation(nickel_oxide(), 6.0, between=("Ni", "O"))


def test_correlation_of_random_cones_is_the_squared_mean():
    atoms = bulk("Fe", "bcc", 2.87, cubic=True) * 6
    set_spins(atoms, {"Fe": 2.2})
    cant_spins(atoms, 0.2, seed=0)
    mean = np.linalg.norm(get_spins(atoms).mean(axis=0)) / 2.2
    found = spin_correlation([atoms], 5.0, width=5.0)
    assert found.correlation[0] == pytest.approx(mean**2, abs=0.01)
    assert canting_angles(atoms, "z").mean == pytest.approx(
        np.degrees(np.arccos(get_spins(atoms)[:, 2] / 2.2)).mean(), abs=0.5
    )


def test_correlation_of_a_small_cell_counts_its_images():
    atoms = bulk("Fe", "bcc", 2.87, cubic=True)
    set_spins(atoms, [[0, 0, 2.0], [0, 2.0, 0]])
    small, large = (spin_correlation(x, 9.0) for x in (atoms, atoms * 3))
    assert large.correlation == pytest.approx(small.correlation, nan_ok=True)
    assert (large.n_pairs == 27 * small.n_pairs).all()


def test_correlation_between_two_elements():
    atoms = bulk("MnNi", "cesiumchloride", 3.0)
    set_spins(atoms, {"Mn": 3.0, "Ni": -0.5})
    found = spin_correlation(atoms, 3.1, between=("Mn", "Ni"))
    assert found.correlation[found.n_pairs > 0] == pytest.approx([-1.0])
    assert found.distance[found.n_pairs > 0] == pytest.approx([3.0 * 0.75**0.5])


@pytest.mark.parametrize(("lattice", "a"), [("sc", 3.0), ("bcc", 2.8), ("fcc", 3.6)])
def test_shells_on_a_limit_are_whole(lattice, a):
    """Distances that are limits of intervals, however they are rounded."""
    atoms = bulk("Fe", lattice, a, cubic=True) * (3, 3, 3)
    rng = np.random.default_rng(0)
    set_spins(atoms, rng.normal(size=(len(atoms), 3)))
    moved = atoms.copy()
    moved.positions += rng.normal(size=3)
    moved.wrap()
    first, second = (spin_correlation(x, 2 * a, width=0.1) for x in (atoms, moved))
    np.testing.assert_array_equal(first.n_pairs, second.n_pairs)
    np.testing.assert_allclose(first.correlation, second.correlation, atol=1e-12)
    range_ = {"cutoff": a, "min_distance": a}
    for x in (atoms, moved):
        assert neighbor_angles(x, **range_).count == 6 * len(atoms)
    both = [neighbor_order(x, **range_) for x in (atoms, moved)]
    np.testing.assert_allclose(*both, atol=1e-12)
    for x in (atoms, moved):
        x.symbols[::2] = "Co"
    both = [short_range_order(x, [a, 1.5 * a]).alpha for x in (atoms, moved)]
    np.testing.assert_allclose(*both, atol=1e-12)


def test_angles():
    atoms = nickel_oxide()
    angles = neighbor_angles(atoms, 4.2, min_distance=4.1)
    assert (angles.mean, angles.count) == (pytest.approx(180.0), 192)
    spins = get_spins(atoms)
    for k in np.flatnonzero(spins[:, 2]):
        spins[k] = 1.9 * np.array([0, np.sin(0.1), np.sign(spins[k, 2]) * np.cos(0.1)])
    set_spins(atoms, spins)
    found = canting_angles(atoms, "z")
    assert found.mean == pytest.approx(np.degrees(0.1))
    assert found.deviation == pytest.approx(0.0, abs=1e-5)
    assert found.density.sum() * 1.0 == pytest.approx(1.0)
    # Uniform on the sphere: the angle to a line has the density sin.
    set_spins(atoms, {"Ni": 1.0}, pattern=random_directions(0))
    many = [atoms.copy() for _ in range(60)]
    for k, image in enumerate(many):
        set_spins(image, {"Ni": 1.0}, pattern=random_directions(k))
    assert canting_angles(iter(many), "x").mean == pytest.approx(57.3, abs=1.5)
    with pytest.raises(ValueError, match="no such pairs"):
        neighbor_angles(atoms, 1.5)


# --- topology and symmetry ----------------------------------------------------


def skyrmion(n: int, lattice: str, vorticity: int = 1) -> Atoms:
    b = [0, 3, 0] if lattice == "square" else [-1.5, 1.5 * 3**0.5, 0]
    atoms = Atoms("Fe", cell=[[3, 0, 0], b, [0, 0, 4]], pbc=(1, 1, 0)).repeat((n, n, 1))
    x, y, _ = (atoms.positions - atoms.cell.array[:2].sum(axis=0) / 2).T
    theta = np.pi * np.clip(1 - np.hypot(x, y) / (1.2 * n), 0, 1)
    phi = vorticity * np.arctan2(y, x)
    e = [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)]
    set_spins(atoms, np.transpose(e))
    return atoms


@pytest.mark.parametrize("lattice", ["square", "triangular"])
def test_skyrmions_have_whole_charges(lattice):
    atoms = skyrmion(14, lattice)
    found = topological_charge(atoms)
    assert found.charges == pytest.approx([-1.0])
    assert len(found.density) == 2 * len(atoms)
    assert topological_charge(skyrmion(14, lattice, -1)).total == pytest.approx(1.0)
    shaken = atoms.copy()
    shaken.rattle(0.3, seed=0)
    shaken.translate([7.7, 0.1, 3.0])
    shaken.wrap()
    assert topological_charge(shaken).total == pytest.approx(-1.0)
    set_spins(atoms, -get_spins(atoms))
    assert topological_charge(atoms).total == pytest.approx(1.0)


def test_any_periodic_texture_has_a_whole_charge():
    rng = np.random.default_rng(0)
    for n in (3, 5, 8):
        atoms = skyrmion(n, "square")
        set_spins(atoms, rng.normal(size=(n * n, 3)))
        charge = topological_charge(atoms).total
        assert charge == pytest.approx(round(charge), abs=1e-9)


def test_planes_are_told_apart():
    single = skyrmion(12, "square")
    single.pbc = True
    flat = single.copy()
    set_spins(flat, np.tile([0, 0, 1.0], (144, 1)))
    flat.positions[:, 2] += 2.0
    stack = single + flat
    stack.positions[:10, 2] -= 0.1  # across the boundary of the cell
    found = topological_charge(stack)
    assert found.heights == pytest.approx([-1 / 144, 2.0])
    assert found.charges == pytest.approx([-1.0, 0.0], abs=1e-9)
    with pytest.raises(ValueError, match="too few"):
        topological_charge(single[:2])


def test_staggered_texture():
    """A skyrmion of the Neel vector, in moments that alternate."""
    atoms = skyrmion(12, "square")
    signs = (-1.0) ** (np.arange(144) // 12 + np.arange(144) % 12)
    neel = get_spins(atoms)
    set_spins(atoms, signs[:, None] * neel)
    found = topological_charge(atoms, vectors=signs[:, None] * get_spins(atoms))
    assert found.total == pytest.approx(-1.0)


def test_plots(run, tmp_path):
    series = order_series(run[0], (0.5, 0.5, 0.5), cell=2.5)
    assert isinstance(series, OrderSeries)
    assert len(plot_order(series).lines) == 3
    factor = structure_factor(nickel_oxide(), cell=4.17)
    assert plot_structure_factor(factor).texts[0].get_text() == "q = (0.5, 0.5, 0.5)"
    plot_structure_factor_plane(factor, level=0.5)
    with pytest.raises(ValueError, match="no wave vector"):
        plot_structure_factor_plane(factor, level=0.3)
    plot_spin_correlation(spin_correlation(run[0], 5.0))
    plot_angles(neighbor_angles(run[0], 2.6))
    plot_topological_charge(topological_charge(skyrmion(8, "square")))
    matplotlib.pyplot.close("all")
    write_extxyz(tmp_path / "one.extxyz", nickel_oxide())
    assert order_series(tmp_path / "one.extxyz", (0.5, 0.5, 0.5), cell=4.17).n_magnetic
