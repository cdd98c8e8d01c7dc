"""Magnetic fields that vary in space: derivatives, sampling, work, magnons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.dynamics import (
    MonteCarlo,
    Oscillation,
    Pulse,
    SpinDynamics,
    SpinLatticeNVE,
    travelling_wave,
)
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    Harmonic,
    Heisenberg,
    Shells,
    UniaxialAnisotropy,
    Zeeman,
    ZeemanGradient,
    ZeemanWave,
)
from deepspin_ase.system import System
from deepspin_ase.units import G_FACTOR, HBAR, MU_B

GRADIENT = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, -2.0]])


def cluster() -> Atoms:
    atoms = Atoms("FeNiO", np.random.default_rng(0).normal(size=(3, 3)))
    set_spins(atoms, [(1.0, 0.2, -2.0), (0.3, -0.8, 0.1), (0, 0, 0)])
    return atoms


def test_forces_and_fields() -> None:
    """mu_B G^T m on every atom, and the field of a Zeeman term where it stands."""
    atoms = cluster()
    origin = (0.1, 0.2, 0.3)
    term = ZeemanGradient(GRADIENT, origin=origin)
    found = term.evaluate(System.from_atoms(atoms))
    spins = atoms.arrays["initial_magmoms"]
    np.testing.assert_allclose(found.forces, MU_B * spins @ GRADIENT, atol=1e-14)
    for k in range(3):
        field = GRADIENT @ (atoms.positions[k] - origin)
        same = Zeeman(field).evaluate(System.from_atoms(atoms[[k]]))
        assert float(found.energies[k]) == pytest.approx(float(same.energy), abs=1e-15)
        np.testing.assert_allclose(found.magnetic_forces[k], same.magnetic_forces[0])


def test_strain_derivative_and_quadratic_form() -> None:
    system = System.from_atoms(cluster())
    term = ZeemanGradient(GRADIENT, elements=["Fe"])
    step, direction = 1e-3, torch.randn(1, 3, 3, dtype=torch.float64)
    up, down = (
        float(term.evaluate(system.strained(sign * step * direction)).energy)
        for sign in (1, -1)
    )
    slope = float((term.evaluate(system).virial * direction).sum())
    assert (up - down) / (2 * step) == pytest.approx(-slope, rel=1e-9)
    form = term.quadratic_form(system, build_pairs(system, 0.0))
    energy = -(form.fields * system.spins).sum()
    assert float(energy) == pytest.approx(float(term.evaluate(system).energy))


def test_cold_moments_point_along_the_field() -> None:
    atoms = cluster()[:2]
    atoms.calc = DeepSpinCalculator(ZeemanGradient(1e3 * GRADIENT))
    MonteCarlo(atoms, temperature_K=0.01, rng=1, progress=False).run(500)
    field = atoms.positions @ GRADIENT.T
    moments = atoms.arrays["initial_magmoms"]
    cosines = np.sum(field * moments, axis=1)
    cosines /= np.linalg.norm(field, axis=1) * np.linalg.norm(moments, axis=1)
    assert (cosines > 0.999).all()


def test_bad_input() -> None:
    atoms = cluster()
    atoms.cell = np.diag([5.0, 5.0, 5.0])
    atoms.pbc = (True, False, False)
    with pytest.raises(ValueError, match="grows along direction 0 of structure 0"):
        ZeemanGradient(GRADIENT).evaluate(System.from_atoms(atoms))
    across = np.diag([0.0, 1.0, -1.0])
    ZeemanGradient(across).evaluate(System.from_atoms(atoms))
    with pytest.raises(ValueError, match="three rows of three numbers"):
        ZeemanGradient(GRADIENT[:2])


def ring(n: int = 12) -> Atoms:
    a = 2.5
    atoms = Atoms(f"Fe{n}", [(a * k, 0, 0) for k in range(n)], cell=(a * n, 9, 9))
    atoms.pbc = True
    set_spins(atoms, {"Fe": 2.0})
    return atoms


def test_derivatives_of_a_wave() -> None:
    """Of a sheared cell; field at the atoms, and none of the energy in its strain."""
    atoms = ring(3)
    atoms.set_cell([[7.5, 0, 0], [2.0, 9, 0], [1.0, -3.0, 8]])
    atoms.rattle(0.3, seed=2)
    set_spins(atoms, np.random.default_rng(1).normal(size=(3, 3)))
    term = ZeemanWave((1.0, 0.5, -2.0), (1, -2, 1), phase_deg=20.0)
    system = System.from_atoms(atoms)
    found = term.evaluate(system)
    phase = 2 * np.pi * atoms.get_scaled_positions() @ (1, -2, 1) + np.radians(20.0)
    expected = MU_B * np.cos(phase)[:, None] * (1.0, 0.5, -2.0)
    np.testing.assert_allclose(found.magnetic_forces, expected, atol=1e-15)
    step = 1e-4
    for k, axis in np.ndindex(3, 3):
        energies = []
        for sign in (1.0, -1.0):
            moved = system.positions.clone()
            moved[k, axis] += sign * step
            energies.append(
                float(term.evaluate(system.replace(positions=moved)).energy)
            )
        slope = (energies[0] - energies[1]) / (2 * step)
        assert float(found.forces[k, axis]) == pytest.approx(-slope, abs=1e-11)
    strain = torch.randn(1, 3, 3, dtype=torch.float64)
    strained = float(term.evaluate(system.strained(0.01 * strain)).energy)
    assert strained == pytest.approx(float(found.energy), abs=1e-15)
    assert float(found.virial.abs().max()) < 1e-15


def test_waves_that_do_not_fit() -> None:
    with pytest.raises(
        ValueError, match=r"1\.5 waves do not fit a cell that is period"
    ):
        ZeemanWave((1, 0, 0), (1.5, 0, 0)).evaluate(System.from_atoms(ring()))
    with pytest.raises(ValueError, match="three lattice vectors"):
        ZeemanWave((1, 0, 0), (1, 0, 0)).evaluate(System.from_atoms(cluster()))
    free = cluster()
    free.cell = np.eye(3)
    ZeemanWave((1, 0, 0), (1.5, 0, 0)).evaluate(System.from_atoms(free))


def test_magnons_in_a_wave_that_travels() -> None:
    """Excited at its wave vector alone, with gamma B/2 at their frequency.

    m_x - i m_y of a magnon goes as exp(i (q.r - omega t)): that of g > 0, whose moments
    turn about the field of the others in the sense of dm/dt = -gamma m x B.
    """
    J, K, moment, n, waves, B = 5e-3, 2e-3, 2.0, 12, 3, 0.2
    atoms = ring(n)
    exchange = Heisenberg(Shells([(2.5, J)], 0.2))
    atoms.calc = DeepSpinCalculator(exchange + UniaxialAnisotropy(K, (0, 0, 1)))
    q = 2 * np.pi * waves / n
    rate = G_FACTOR * (2 * K + 2 * J * (1 - np.cos(q))) / (moment * HBAR)
    frequency_THz = rate / (2 * np.pi) * units.fs * 1e3
    drive = travelling_wave((B, 0, 0), (waves, 0, 0), frequency_THz)
    driver = SpinDynamics(atoms, 5 * units.fs, driven_terms=drive)
    driver.run(round(4 * 2 * np.pi / rate / driver.dt))
    spins = atoms.arrays["initial_magmoms"]
    amplitude = np.fft.fft(spins[:, 0] + 1j * spins[:, 1]) / n / moment
    size = np.abs(amplitude)
    time = driver.nsteps * driver.dt
    expected = 0.5 * G_FACTOR * MU_B / HBAR * B * time
    main = int(size.argmax())
    assert main in (waves, n - waves)
    assert size[main] == pytest.approx(expected, rel=0.02)
    assert np.delete(size, main).max() < 0.15 * expected
    back = travelling_wave((B, 0, 0), (-waves, 0, 0), frequency_THz)
    again = ring(n)
    again.calc = atoms.calc
    SpinDynamics(again, 5 * units.fs, driven_terms=back).run(driver.nsteps)
    spins = again.arrays["initial_magmoms"]
    size = np.abs(np.fft.fft(spins[:, 0] + 1j * spins[:, 1]))
    assert int(size.argmax()) == n - main


@pytest.mark.parametrize("kind", ["wave", "gradient"])
def test_work_of_a_field_in_space_and_time(kind: str) -> None:
    """The energy changes by the integral of the terms times the rates of factors."""
    atoms = ring(6)
    atoms.rattle(0.05, seed=3)
    if kind == "wave":
        drive = travelling_wave((200.0, 0, 100.0), (2, 0, 0), 5.0)
    else:
        atoms.pbc = False
        turned = np.roll(GRADIENT, 1, axis=0)
        drive = [
            (ZeemanGradient(40 * GRADIENT), Pulse(1.0, 30.0, 40.0, 8.0)),
            (ZeemanGradient(40 * turned), Oscillation(2.0, 8.0, phase_deg=-90.0)),
        ]
    springs = Harmonic(2.0, 2.5, cutoff=3.5)
    exchange = Heisenberg(Shells([(2.5, 0.02)], 0.4))
    atoms.calc = DeepSpinCalculator(springs + exchange)
    driver = SpinLatticeNVE(atoms, 0.5 * units.fs, driven_terms=drive)
    rates, totals = [], []

    def measure() -> None:
        system, t = driver.state.system, driver.time_fs
        rates.append(
            sum(
                float(term.evaluate(system).energy)
                * (factor(t + 1e-3) - factor(t - 1e-3))
                / 2e-3
                for term, factor in drive
            )
        )
        kinetic = atoms.get_kinetic_energy()
        totals.append(float(driver.prediction.energy) + kinetic)

    driver.attach(measure, 1)
    driver.run(100)
    work = np.trapezoid(rates, dx=0.5)
    gained = totals[-1] - totals[0]
    assert abs(gained) > 1e-3
    assert gained == pytest.approx(work, rel=0.01)
