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
    """Cold magnons of a ferromagnet: width alpha E in the LLG equation."""
    alpha, K, m, J = 0.15, 2e-3, 2.0, 5e-3
    n, a = 12, 2.5
    atoms = Atoms(f"Fe{n}", [(a * k, 0, 0) for k in range(n)], cell=(a * n, 9, 9))
    atoms.pbc = True
    set_spins(atoms, {"Fe": m})
    exchange = Heisenberg(Shells([(a, J)], 0.2))
    atoms.calc = DeepSpinCalculator(exchange + UniaxialAnisotropy(K, (0, 0, 1)))
    dt = 10 * units.fs
    driver = SpinDynamics(atoms, dt, temperature_K=0.1, damping=alpha, rng=1)
    driver.run(500)
    frames: list[Atoms] = []
    driver.attach(lambda: frames.append(atoms.copy()), 2)
    driver.run(16000)
    spectrum = spin_spectrum(
        frames, [[3, 0, 0], [6, 0, 0]], segment=300, timestep_fs=20.0
    )
    found = wave_lifetimes(spectrum)
    k = 2 * np.pi * np.array([3, 6]) / n
    # hbar omega = g (2 K + 2 J (1 - cos ka))/m, slowed by 1 + alpha^2.
    energy = 1e3 * G_FACTOR * (2 * K + 2 * J * (1 - np.cos(k))) / m / (1 + alpha**2)
    np.testing.assert_allclose(found.energies_meV, energy, rtol=0.05)
    np.testing.assert_allclose(found.widths_meV, alpha * energy, rtol=0.25)


def test_bad_input() -> None:
    e = np.linspace(-10, 10, 41)
    q = np.zeros((1, 3))
    empty = Spectrum(q, q, e, np.zeros((1, 41, 3, 3), complex), "x")
    assert np.isnan(wave_lifetimes(empty).energies_meV).all()
    with pytest.raises(ValueError, match="fewer than a peak needs"):
        wave_lifetimes(empty, min_meV=9.0)
