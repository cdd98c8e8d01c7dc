"""Exchange of heat between spins and lattice."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixCartesian

from deepspin_ase import set_spins
from deepspin_ase.analysis import spin_lattice_relaxation
from deepspin_ase.analysis.responses._relaxation import _relaxation
from deepspin_ase.potentials import (
    Harmonic,
    Heisenberg,
    SmoothShells,
    UniaxialAnisotropy,
)
from deepspin_ase.units import G_FACTOR, HBAR

A = 2.5


def ring(n: int, mass: float, moment: float) -> Atoms:
    """Atoms on a circle that move along it."""
    atoms = Atoms(f"Fe{n}", [(A * k, 0, 0) for k in range(n)], cell=(A * n, 9, 9))
    atoms.pbc = True
    set_spins(atoms, {"Fe": moment})
    atoms.set_masses(np.full(n, mass))
    atoms.set_constraint(FixCartesian(range(n), (False, True, True)))
    return atoms


def test_a_fit_of_what_is_known() -> None:
    """Sums and temperatures of 20 replicas, whose scatter is that of the errors."""
    rng = np.random.default_rng(0)
    t = 10.0 * np.arange(120)
    spin, lattice = (220.0 + part * np.exp(-t / 150.0) for part in (-120.0, 60.0))
    off = []
    for _ in range(12):
        below = rng.gamma(50.0, 0.02, (20, len(t)))
        noise = 10.0 * rng.normal(size=below.shape)
        above = units.kB * below * (spin + noise)
        warm = lattice + 10.0 * rng.normal(size=below.shape)
        energy = np.zeros_like(below)
        series = np.stack([above, below, warm, energy], axis=-1)
        found = _relaxation(series, 10.0, 60.0)
        off.append((found.tau_fs.value - 150.0) / found.tau_fs.error)
    assert np.std(off) == pytest.approx(1.0, abs=0.5)
    assert abs(np.mean(off)) < 1.2
    assert found.tau_fs.value == pytest.approx(150.0, rel=0.08)
    assert found.difference_K.value == pytest.approx(-180.0, rel=0.05)
    assert found.spin_share.value == pytest.approx(1 / 3, abs=0.05)
    assert found.final_K.value == pytest.approx(220.0, abs=3.0)
    heat = units.kB * 60.0 * -60.0
    assert found.heat_eV[-1] == pytest.approx(heat, rel=0.2)
    coupling = 1e3 * units.kB * 60.0 / 3.0 / 150.0
    assert found.coupling_eV_per_K_ps == pytest.approx(coupling, rel=0.2)


def test_cold_spins_relax_by_their_damping() -> None:
    """tau = (1 + alpha^2)/(2 alpha omega) of moments that do not interact."""
    alpha, K, moment = 0.1, 0.01, 2.0
    atoms = ring(16, 50.0, moment)
    found = spin_lattice_relaxation(
        atoms,
        1.0,
        4.0,
        model=Harmonic(2.0, A, cutoff=3.9) + UniaxialAnisotropy(K, (0, 0, 1)),
        steps=480,
        equilibration=500,
        interval=8,
        replicas=48,
        damping=alpha,
        progress=False,
    )
    omega = G_FACTOR * 2 * K / (moment * HBAR)
    expected = (1 + alpha**2) / (2 * alpha * omega) / units.fs
    assert found.tau_fs.value == pytest.approx(expected, rel=0.1)
    assert abs(found.tau_fs.value - expected) < 4.0 * found.tau_fs.error
    assert found.spin_K[0] == pytest.approx(4.0, rel=0.1)
    left = 1.0 + 3.0 * np.exp(-found.times_fs[-5:] / expected).mean()
    assert found.spin_K[-5:].mean() == pytest.approx(left, abs=0.1)
    # Nothing couples to the lattice: what the spins lose, 3 K times k each, is gone.
    assert found.energy_eV[-1] == pytest.approx(-16 * 3.0 * units.kB, rel=0.15)


def test_heat_goes_through_exchange_that_depends_on_distance() -> None:
    """At constant energy, from the warm lattice to the spins and not beyond it."""
    exchange = Heisenberg(SmoothShells([(A, 0.1, -0.8)], 1.2))
    found = spin_lattice_relaxation(
        ring(16, 5.0, 10.0),
        400.0,
        100.0,
        model=Harmonic(2.0, A, cutoff=3.9) + exchange,
        steps=200,
        equilibration=200,
        interval=5,
        replicas=24,
        progress=False,
    )
    assert abs(found.energy_eV).max() < 1e-3
    assert found.difference_K.value < -50.0
    assert found.spin_K[-10:].mean() > found.spin_K[0] + 50.0
    assert found.spin_K[0] < found.final_K.value < 400.0


def test_what_cannot_relax() -> None:
    atoms = ring(4, 50.0, 2.0)
    anisotropy = UniaxialAnisotropy(0.01, (0, 0, 1))
    model = Harmonic(2.0, A, cutoff=3.9) + anisotropy
    options = {"model": model, "replicas": 4, "equilibration": 50, "progress": False}
    with pytest.raises(ValueError, match="there is nothing to relax"):
        spin_lattice_relaxation(atoms, 100.0, 100.0, **options)
    with pytest.raises(ValueError, match="does not decay within the run"):
        spin_lattice_relaxation(atoms, 100.0, 5.0, steps=40, interval=2, **options)
    with pytest.raises(ValueError, match="steps must be a whole number >= 200"):
        spin_lattice_relaxation(atoms, 100.0, 5.0, steps=100, **options)
