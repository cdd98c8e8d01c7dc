"""Lifetimes of waves: the damping of magnons that is put in comes out."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.analysis import spin_spectrum
from deepspin_ase.analysis.responses import wave_lifetimes
from deepspin_ase.analysis.spectra import Spectrum
from deepspin_ase.dynamics import SpinDynamics
from deepspin_ase.potentials import Heisenberg, Shells, UniaxialAnisotropy
from deepspin_ase.units import G_FACTOR


def lorentzian(e: np.ndarray, e_0: float, gamma: float) -> np.ndarray:
    return gamma / ((e - e_0) ** 2 + gamma**2) + gamma / ((e + e_0) ** 2 + gamma**2)


def test_width_of_a_line_with_noise() -> None:
    rng = np.random.default_rng(0)
    e = np.linspace(-200.0, 200.0, 2001)
    lines = np.array([lorentzian(e, 60.0, 4.0), lorentzian(e, 120.0, 9.0)])
    noisy = lines * rng.gamma(40.0, 1 / 40.0, lines.shape)  # of 40 segments
    tensor = noisy[..., None, None] * np.eye(3) / 3.0
    q = np.array([[0.1, 0, 0], [0.2, 0, 0]])
    found = wave_lifetimes(Spectrum(q, q, e, tensor + 0j, "x"), resolution_meV=1e-6)
    np.testing.assert_allclose(found.energies_meV, [60.0, 120.0], rtol=0.01)
    np.testing.assert_allclose(found.widths_meV, [4.0, 9.0], rtol=0.06)
    assert (np.abs(found.widths_meV - [4, 9]) < 4 * found.widths_error).all()
    np.testing.assert_allclose(found.lifetimes_fs, 658.2 / (2 * found.widths_meV), 1e-3)


@pytest.mark.slow
def test_magnons_decay_as_gilbert_damping_says() -> None:
    """Cold magnons of a ferromagnet: width alpha E in the LLG equation.

    Of chains side by side, whose waves at q along x and any q across are independent.
    """
    alpha, K, m, J = 0.15, 2e-3, 2.0, 5e-3
    n, chains, a = 12, 12, 2.5
    atoms = Atoms("Fe", cell=(a, 9, 9), pbc=True).repeat((n, chains, 1))
    set_spins(atoms, {"Fe": m})
    exchange = Heisenberg(Shells([(a, J)], 0.2))
    atoms.calc = DeepSpinCalculator(exchange + UniaxialAnisotropy(K, (0, 0, 1)))
    dt = 6 * units.fs
    driver = SpinDynamics(atoms, dt, temperature_K=0.1, damping=alpha, rng=1)
    driver.run(800)
    frames: list[Atoms] = []
    driver.attach(lambda: frames.append(atoms.copy()), 3)
    driver.run(12000)
    q = [[along, across, 0] for along in (3, 6) for across in range(chains)]
    spectrum = spin_spectrum(frames, q, segment=500, timestep_fs=18.0)
    found = wave_lifetimes(spectrum)
    energies, widths = (
        x.reshape(2, chains) for x in (found.energies_meV, found.widths_meV)
    )
    k = 2 * np.pi * np.array([3, 6]) / n
    # hbar omega = g (2 K + 2 J (1 - cos ka))/m, slowed by 1 + alpha^2.
    energy = 1e3 * G_FACTOR * (2 * K + 2 * J * (1 - np.cos(k))) / m / (1 + alpha**2)
    np.testing.assert_allclose(energies.mean(axis=1), energy, rtol=0.015)
    error = widths.std(axis=1, ddof=1) / np.sqrt(chains)
    print(widths.mean(axis=1) / (alpha * energy), error / (alpha * energy))
    assert (error < 0.05 * alpha * energy).all()
    np.testing.assert_allclose(widths.mean(axis=1), alpha * energy, rtol=0.1)


def test_bad_input() -> None:
    e = np.linspace(-10, 10, 41)
    q = np.zeros((1, 3))
    empty = Spectrum(q, q, e, np.zeros((1, 41, 3, 3), complex), "x")
    assert np.isnan(wave_lifetimes(empty).energies_meV).all()
    with pytest.raises(ValueError, match="fewer than a peak needs"):
        wave_lifetimes(empty, min_meV=9.0)
