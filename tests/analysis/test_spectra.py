"""Spectra from dynamics: magnons, phonons, units, and trajectories beyond memory."""

from __future__ import annotations

import tracemalloc

import h5py
import matplotlib
import numpy as np
import pytest
from ase import Atoms, units

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins, set_spins
from deepspin_ase.analysis import (
    commensurate_path,
    plot_density_of_states,
    plot_spectrum,
    spin_density_of_states,
    spin_spectrum,
    structure_factor,
    velocity_spectrum,
    vibrational_density_of_states,
)
from deepspin_ase.analysis._time_series import TimeSeries
from deepspin_ase.dynamics import Midpoint, SpinDynamics
from deepspin_ase.dynamics.files._hdf5_file import append, create
from deepspin_ase.potentials import Heisenberg, Shells
from deepspin_ase.units import G_FACTOR, HBAR

matplotlib.use("Agg")

A, N, J, MOMENT = 2.5, 12, 0.01, 2.0
CELL = (A, 10, 10)


def chain(spins: np.ndarray) -> Atoms:
    atoms = Atoms("Fe", cell=CELL, pbc=(1, 0, 0)).repeat((len(spins), 1, 1))
    set_spins(atoms, spins)
    return atoms


def precessing_chain(
    sign: int, steps: int, dt_fs: float, *, seed: int = 0
) -> list[Atoms]:
    """Spins of a chain by fourth-order Runge-Kutta: dm/dt = -gamma m x B, small tilt.

    E = -sign J sum e_i.e_i+1, so B_i = sign J / m (e_i-1 + e_i+1).
    """
    rng = np.random.default_rng(seed)
    e = np.tile([0, 0, 1.0], (N, 1))
    if sign < 0:
        e[1::2] *= -1
    e[:, :2] += 1e-3 * rng.normal(size=(N, 2))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    gamma = G_FACTOR / HBAR * units.fs

    def rate(x: np.ndarray) -> np.ndarray:
        field = sign * J / MOMENT * (np.roll(x, 1, axis=0) + np.roll(x, -1, axis=0))
        return -gamma * np.cross(x, field)

    frames = []
    for k in range(steps):
        frame = chain(MOMENT * e)
        frame.info["time_fs"] = k * dt_fs
        frames.append(frame)
        a = rate(e)
        b = rate(e + dt_fs / 2 * a)
        c = rate(e + dt_fs / 2 * b)
        d = rate(e + dt_fs * c)
        e = e + dt_fs / 6 * (a + 2 * b + 2 * c + d)
    return frames


@pytest.fixture(scope="module")
def ferromagnet() -> list[Atoms]:
    return precessing_chain(1, 1200, 4.0)


def magnon(sign: int, q: np.ndarray) -> np.ndarray:
    """Closed formula of the chain, meV."""
    scale = 2e3 * G_FACTOR * J / MOMENT
    k = 2 * np.pi * q
    return scale * (1 - np.cos(k)) if sign > 0 else scale * np.abs(np.sin(k))


def test_magnons_of_a_ferromagnetic_chain(ferromagnet):
    path = commensurate_path(ferromagnet[0], (0, 0, 0), (0.5, 0, 0), CELL)
    found = spin_spectrum(iter(ferromagnet), path[1:], cell=CELL)
    assert found.q == pytest.approx(path[1:])
    assert found.peaks_meV == pytest.approx(magnon(1, path[1:, 0]), rel=5e-3)
    assert found.unit == "mu_B^2/meV"
    assert found.frequencies_THz == pytest.approx(
        found.energies_meV / 4.135667, rel=1e-6
    )


def test_magnons_of_an_antiferromagnetic_chain():
    frames = precessing_chain(-1, 1200, 4.0)
    q = np.outer([1 / 12, 1 / 6, 1 / 4, 1 / 3, 5 / 12], [1, 0, 0])
    found = spin_spectrum(frames, q, cell=CELL)
    assert found.peaks_meV == pytest.approx(magnon(-1, q[:, 0]), rel=5e-3)


def test_waves_travel_along_q():
    """m ~ cos(q.r - omega t): at +q and +omega, and at -q and -omega."""
    energy, n_frames, dt = 10.0, 401, 5.0
    omega = energy / 1e3 / (HBAR / units.fs)
    frames = []
    for k in range(n_frames):
        phase = 2 * np.pi * np.arange(N) / 6 - omega * k * dt
        frames.append(chain(np.outer(np.cos(phase), [1.0, 0, 0])))
    q = np.outer([1 / 6, -1 / 6], [1, 0, 0])
    found = spin_spectrum(frames, q, cell=CELL, timestep_fs=dt)
    positive = found.energies_meV > 0
    forth, back = found.intensity
    assert found.peaks_meV[0] == pytest.approx(energy, abs=0.03)  # of 2.1 meV
    assert forth[positive].sum() > 1e3 * forth[~positive].sum()
    assert back[~positive].sum() > 1e3 * back[positive].sum()
    assert forth == pytest.approx(back[::-1], abs=1e-6 * forth.max())


def test_spectrum_integrates_to_the_structure_factor(ferromagnet):
    """Parseval: the variance in time of m(q), for no window."""
    q = [(0.25, 0, 0), (1 / 3, 0, 0)]
    found = spin_spectrum(ferromagnet, q, cell=CELL, window="boxcar")
    spacing = found.energies_meV[1] - found.energies_meV[0]
    total = found.tensor.sum(axis=1) * spacing
    static = structure_factor(ferromagnet, q, cell=CELL).tensor
    m = np.array([get_spins(f) for f in ferromagnet]).mean(axis=0)
    bragg = structure_factor(chain(m), q, cell=CELL).tensor
    assert total == pytest.approx(static - bragg, abs=1e-12)
    segments = spin_spectrum(ferromagnet, q, cell=CELL, segment=300)
    smooth = segments.intensity.sum(axis=1) * (
        segments.energies_meV[1] - segments.energies_meV[0]
    )
    assert smooth == pytest.approx(np.einsum("qaa->q", total).real, rel=0.05)


def test_phases_follow_the_sites_asked_for(ferromagnet):
    """Moments rigidly fixed, on atoms that shake: only instantaneous phases see it."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(64):
        frame = chain(np.tile([0, 0, 1.0], (N, 1)))
        frame.positions[:, 0] += 0.1 * rng.normal(size=N)
        frame.info["time_fs"] = float(k)
        frames.append(frame)
    q = (0.25, 0, 0)
    still = spin_spectrum(frames, q, cell=CELL, sites=ferromagnet[0])
    assert still.intensity.max() < 1e-20
    assert spin_spectrum(frames, q, cell=CELL).intensity.max() > 1e-6
    with pytest.raises(ValueError, match="sites"):
        spin_spectrum(frames, q, cell=CELL, sites=ferromagnet[0][:3])


# --- vibrations ---------------------------------------------------------------


def vibrating_chain(n_frames: int, dt_fs: float, *, cells: int = 8) -> list[Atoms]:
    """A chain of Na and Cl on springs, exactly: all normal modes with kT each."""
    masses = np.tile([22.99, 35.45], cells)
    n = 2 * cells
    force = 2.0 * (2 * np.eye(n) - np.roll(np.eye(n), 1, 0) - np.roll(np.eye(n), -1, 0))
    dynamical = force / np.sqrt(np.outer(masses, masses))
    squares, modes = np.linalg.eigh(dynamical)
    omega = np.sqrt(np.clip(squares, 0, None))
    omega[0] = 0.0
    rng = np.random.default_rng(0)
    phases = rng.uniform(0, 2 * np.pi, size=n)
    amplitude = np.where(omega > 0, 0.02 / np.where(omega > 0, omega, 1), 0.0)
    frames = []
    base = Atoms("NaCl", [[0, 0, 0], [2.5, 0, 0]], cell=[5, 9, 9], pbc=True)
    base = base.repeat((cells, 1, 1))
    base.set_masses(masses)
    for k in range(n_frames):
        t = k * dt_fs * units.fs
        u = modes @ (amplitude * np.cos(omega * t + phases)) / np.sqrt(masses)
        v = modes @ (-amplitude * omega * np.sin(omega * t + phases)) / np.sqrt(masses)
        frame = base.copy()
        frame.positions[:, 0] += u
        frame.set_velocities(np.outer(v, [1, 0, 0]))
        frame.info["time_fs"] = k * dt_fs
        frames.append(frame)
    return frames


def diatomic(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Acoustic and optical branch of the chain, meV; q in units of 2 pi / a."""
    m, w = 22.99, 35.45
    mean = 2.0 * (1 / m + 1 / w)
    root = np.sqrt(mean**2 - 4 * 4.0 * np.sin(np.pi * q) ** 2 / (m * w))
    return tuple(1e3 * HBAR * np.sqrt(mean + s * root) for s in (-1, 1))


@pytest.fixture(scope="module")
def salt() -> list[Atoms]:
    return vibrating_chain(1500, 3.0)


def test_vibrations_of_a_chain_are_its_normal_modes(salt):
    found = vibrational_density_of_states(salt)
    spacing = found.energies_meV[1]
    assert found.total.sum() * spacing == pytest.approx(3.0)
    assert set(found.partial) == {"Na", "Cl"}
    assert sum(found.partial.values()) == pytest.approx(found.total)
    acoustic, optical = diatomic(np.arange(5) / 8)
    # The optical modes at q = 0 and 1/8 are closer than the resolution.
    expected = np.concatenate([acoustic[1:], optical[1:]])
    inner = found.total[1:-1]
    high = (inner > found.total[:-2]) & (inner > found.total[2:])
    peaks = found.energies_meV[1:-1][high & (inner > 0.05 * inner.max())]
    assert np.sort(peaks) == pytest.approx(np.sort(expected), abs=0.6 * spacing)
    # The light atom has more of the optical branch.
    upper = found.energies_meV > (acoustic.max() + optical.min()) / 2
    assert found.partial["Na"][upper].sum() > 1.3 * found.partial["Cl"][upper].sum()


def test_positions_alone_give_the_same_vibrations(salt):
    coarse = salt[::8]  # steps in which the correction is 12 % at the top
    with_momenta = vibrational_density_of_states(coarse, segment=60)
    bare = []
    for frame in coarse:
        plain = frame.copy()
        del plain.arrays["momenta"]
        plain.translate([0, 0, 0.016 * len(bare)])  # the crystal as a whole drifts
        plain.wrap()
        bare.append(plain)
    found = vibrational_density_of_states(iter(bare), segment=60)
    top = with_momenta.total.max()
    assert found.total == pytest.approx(with_momenta.total, abs=0.04 * top)


def test_phonons_at_a_wave_vector(salt):
    q = np.outer(np.arange(1, 5) / 8, [1, 0, 0])
    found = velocity_spectrum(salt, q, cell=[5, 9, 9])
    _, optical = diatomic(q[:, 0])
    acoustic, _ = diatomic(q[:, 0])
    for k in range(4):
        near = np.minimum(
            np.abs(found.peaks_meV[k] - acoustic[k]),
            np.abs(found.peaks_meV[k] - optical[k]),
        )
        assert near < 0.3
    # Each mode has m <v^2> = 0.02^2 / 2: the trace of what a wave vector holds.
    spacing = found.energies_meV[1] - found.energies_meV[0]
    whole = velocity_spectrum(salt, q, cell=[5, 9, 9], window="boxcar")
    assert whole.intensity[0].sum() * spacing == pytest.approx(
        2 * 0.5 * 0.02**2 / 2, rel=0.5
    )


def test_moments_alone_integrate_to_their_variance(ferromagnet):
    found = spin_density_of_states(ferromagnet, window="boxcar")
    spins = np.array([get_spins(f) for f in ferromagnet])
    variance = spins.var(axis=0).sum() / N
    assert found.total.sum() * found.energies_meV[1] == pytest.approx(variance)
    assert list(found.partial) == ["Fe"]
    peaks = found.energies_meV[found.total > 0.2 * found.total.max()]
    closed = magnon(1, np.arange(7) / N)
    assert all(np.abs(closed - peak).min() < 2.0 for peak in peaks)


# --- beyond memory ------------------------------------------------------------


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A trajectory of 21 MB: 1600 frames of 100 atoms with everything in them."""
    path = tmp_path_factory.mktemp("long") / "run.h5"
    n, count = 100, 1600
    rng = np.random.default_rng(0)
    constants = {
        "numbers": np.full(n, 26),
        "masses": np.full(n, 55.845),
        "structure": np.zeros(n, dtype=int),
        "pbc": np.ones((1, 3), dtype=bool),
    }
    names = ("positions", "spins", "momenta", "forces", "magnetic_forces")
    shapes = {"time": (), "cell": (1, 3, 3), "energy": (1,), "energies": (n,)}
    shapes |= {name: (n, 3) for name in names}
    create(path, constants, shapes)
    for start in range(0, count, 200):
        block = {k: rng.normal(size=(200, *shape)) for k, shape in shapes.items()}
        block["time"] = 2.0 * np.arange(start, start + 200)
        block["cell"][:] = 10.0 * np.eye(3)
        append(path, block, start)
    return path


def test_trajectories_larger_than_memory(long_run):
    """A limit of 0.5 MB, for 40 times as much in the file, gives the same."""
    limit = 5e-4
    assert long_run.stat().st_size > 40 * limit * 1e9
    expected = spin_density_of_states(long_run, segment=64)
    tracemalloc.start()
    found = spin_density_of_states(long_run, segment=64, max_memory_GB=limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One block of the file, as it is read, and its frames come on top.
    assert peak < limit * 1e9 + 5e6
    assert found.total == pytest.approx(expected.total)
    q = np.outer(np.arange(5), [1, 1, 0])
    by_file = spin_spectrum(long_run, q, segment=64, max_memory_GB=1e-5)
    whole = spin_spectrum(long_run, q, segment=64)
    assert by_file.tensor == pytest.approx(whole.tensor)


def test_kept_rows_stay_below_the_limit():
    tracemalloc.start()
    rng = np.random.default_rng(0)
    total = 0.0
    with TimeSeries(1e-3) as series:
        for _ in range(2000):
            row = rng.normal(size=1000)
            total += row[123]
            series.append(row)
        sums = np.concatenate([block.sum(axis=1) for _, block in series.chunks()])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3e6  # of 16 MB of rows
    assert sums[123] == pytest.approx(total)


# --- errors -------------------------------------------------------------------


def test_bad_trajectories_are_refused(ferromagnet, tmp_path):
    q = (0.25, 0, 0)
    with pytest.raises(ValueError, match="8 frames at least"):
        spin_spectrum(ferromagnet[:4], q, cell=CELL)
    with pytest.raises(ValueError, match="segments of 8 to all 20"):
        spin_spectrum(ferromagnet[:20], q, cell=CELL, segment=40)
    with pytest.raises(ValueError, match="equally spaced"):
        spin_spectrum(ferromagnet[:20] + ferromagnet[30:40], q, cell=CELL)
    timeless = [chain(get_spins(f)) for f in ferromagnet[:20]]
    with pytest.raises(ValueError, match="timestep_fs"):
        spin_spectrum(timeless, q, cell=CELL)
    with pytest.raises(ValueError, match="timestep_fs must be finite and > 0"):
        spin_spectrum(timeless, q, cell=CELL, timestep_fs=-1.0)
    with pytest.raises(ValueError, match="nearest that does"):
        spin_spectrum(ferromagnet, (0.3, 0, 0), cell=CELL)
    with pytest.raises(ValueError, match="do not move"):
        vibrational_density_of_states(ferromagnet[:20])
    with pytest.raises(TypeError, match="unknown options"):
        spin_spectrum(ferromagnet, q, cell=CELL, segments=4)
    with pytest.raises(ValueError, match="max_memory_GB"):
        spin_spectrum(ferromagnet, q, cell=CELL, max_memory_GB=0)
    bare = Atoms("Fe", cell=[2, 2, 2], pbc=True)
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        spin_spectrum([bare] * 20, (0, 0, 0), timestep_fs=1.0)
    empty = tmp_path / "empty.h5"
    with h5py.File(empty, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="not a trajectory"):
        spin_spectrum(empty, q)


def test_plots(ferromagnet, salt):
    path = commensurate_path(ferromagnet[0], (0, 0, 0), (0.5, 0, 0), CELL)
    spectrum = spin_spectrum(ferromagnet, path, cell=CELL)
    assert "meV" in plot_spectrum(spectrum, peaks=True).get_ylabel()
    dos = vibrational_density_of_states(salt, segment=500)
    assert "THz" in plot_density_of_states(dos, THz=True).get_xlabel()
    matplotlib.pyplot.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1, -1])
def test_magnons_of_the_package_own_dynamics(sign, tmp_path):
    """Small precession by SpinDynamics, to 1 % of the closed formula."""
    pattern = np.ones(8) if sign > 0 else (-1.0) ** np.arange(8)
    atoms = chain(np.outer(pattern, [0, 0, MOMENT]))
    cant_spins(atoms, 1e-4, seed=1)
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(A, sign * J)])))
    path = tmp_path / "run.h5"
    midpoint = Midpoint(tolerance=1e-6)
    dyn = SpinDynamics(atoms, 4 * units.fs, trajectory=path, spin_integrator=midpoint)
    dyn.run(750)
    q = np.outer(np.arange(1, 4) / 8, [1, 0, 0])
    found = spin_spectrum(path, q, cell=CELL)
    assert found.peaks_meV == pytest.approx(magnon(sign, q[:, 0]), rel=0.01)
