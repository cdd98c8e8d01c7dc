"""Fields, torques, stresses and strains that change in the course of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.dynamics import (
    MonteCarlo,
    Oscillation,
    Pulse,
    Ramp,
    RotatingVector,
    SpinDynamics,
    SpinLatticeNPT,
    SpinLatticeNVE,
    SpinTorque,
    strain_ramp,
)
from deepspin_ase.dynamics._config import RunConfig, driver_arguments
from deepspin_ase.dynamics._waveforms import as_waveform
from deepspin_ase.potentials import (
    ElectricField,
    Harmonic,
    UniaxialAnisotropy,
    Zeeman,
    finnis_sinclair_fe,
)
from deepspin_ase.system import System
from deepspin_ase.units import G_FACTOR, HBAR, MU_B

K, MOMENT, ALPHA = 5e-4, 2.0, 0.3
#: Field of the anisotropy along its axis, T.
B_K = 2.0 * K / MOMENT / MU_B


def macrospin(tilt: float = 0.01) -> Atoms:
    """One moment near z, its easy axis."""
    atoms = Atoms("Fe", cell=[9.0] * 3, pbc=True)
    set_spins(atoms, [MOMENT * np.array([np.sin(tilt), 0.0, np.cos(tilt)])])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(K, (0, 0, 1)))
    return atoms


def tilt_of(atoms: Atoms) -> float:
    x, y, z = get_spins(atoms)[0]
    return float(np.arctan2(np.hypot(x, y), z))


@pytest.mark.parametrize("ratio", [0.7, 1.5])
def test_macrospin_switches_above_its_threshold(ratio: float) -> None:
    """At damping-like fields above alpha (B_K + B); tilts grow or decay at their rate.

    J. Z. Sun, Phys. Rev. B 62, 570 (2000), doi:10.1103/PhysRevB.62.570.
    """
    bias = 1.0
    threshold = ALPHA * (B_K + bias)
    atoms = macrospin()
    driver = SpinDynamics(
        atoms,
        10 * units.fs,
        damping=ALPHA,
        external_field_T=(0, 0, bias),
        spin_torque=SpinTorque((0, 0, -1), ratio * threshold),
        spin_integrator="sib",
    )
    driver.run(200)
    gamma = G_FACTOR * MU_B / HBAR
    rate = gamma / (1.0 + ALPHA**2) * (ratio - 1.0) * threshold
    expected = 0.01 * np.exp(rate * 2000 * units.fs)
    assert tilt_of(atoms) == pytest.approx(expected, rel=3e-3)
    driver.dt = 20 * units.fs
    driver.run(1500)
    assert get_spins(atoms)[0, 2] * (1.0 - ratio) > 0.999 * MOMENT * abs(1.0 - ratio)


def test_field_like_torque_is_a_magnetic_field() -> None:
    b, p = 3.0, np.array([0.6, 0.0, 0.8])
    runs = []
    for options in (
        {"external_field_T": b * p},
        {"spin_torque": SpinTorque(p, field_like_T=b)},
        {"spin_torque": {"polarization": p.tolist(), "field_like_T": b}},
    ):
        atoms = macrospin(0.4)
        SpinDynamics(atoms, 5 * units.fs, damping=ALPHA, **options).run(100)
        runs.append(get_spins(atoms))
    np.testing.assert_allclose(runs[1], runs[0], atol=1e-12)
    np.testing.assert_allclose(runs[2], runs[0], atol=1e-12)


def test_damping_like_torque_of_a_current() -> None:
    """hbar eta j/(2 e M t), and the asymmetry of Slonczewski's form."""
    torque = SpinTorque.of_current(
        1e11, (0, 0, 1), efficiency=0.4, thickness_A=10.0, magnetization_A_per_m=1e6
    )
    expected = 1.054571817e-34 * 0.4 * 1e11 / (2 * 1.602176634e-19 * 1e6 * 1e-9)
    assert torque.damping_like_T == pytest.approx(expected, rel=1e-6)
    system = System.from_atoms(macrospin(0.7))
    plain = SpinTorque((0, 0, 1), 2.0).field(system, 0.0)
    lopsided = SpinTorque((0, 0, 1), 2.0, asymmetry=0.5).field(system, 0.0)
    torch.testing.assert_close(lopsided * (1 + 0.5 * np.cos(0.7)), plain)
    assert not SpinTorque((0, 0, 1), 2.0, elements=["Ni"]).field(system, 0.0).any()


def test_waveforms() -> None:
    ramp = Ramp([0.0, 2.0], [1.0, 0.0], duration_fs=10.0, begin_fs=5.0)
    np.testing.assert_allclose(ramp(0.0), [0.0, 2.0])
    np.testing.assert_allclose(ramp(7.5), [0.25, 1.5])
    np.testing.assert_allclose(ramp(99.0), [1.0, 0.0])
    wave = Oscillation([0, 0, 2.0], frequency_THz=1.0, phase_deg=-90, offset=[1, 0, 0])
    np.testing.assert_allclose(wave(250.0), [1, 0, 2.0])
    turning = RotatingVector(3.0, 2.0, axis=(0, 0, 5), start=(1, 0, 1))
    np.testing.assert_allclose(turning(0.0), [3, 0, 0])
    np.testing.assert_allclose(turning(125.0), [0, 3, 0], atol=1e-12)
    pulse = Pulse((0, 0, 4.0), center_fs=100.0, width_fs=20.0)
    np.testing.assert_allclose(pulse(110.0), [0, 0, 2.0])
    for waveform in (ramp, wave, turning, pulse):
        again = as_waveform(waveform.as_dict())
        assert again == waveform


def test_resonance_in_a_rotating_field() -> None:
    """A field that rotates at the moment's frequency turns it over: Rabi's formula."""
    static, small = 10.0, 3.0
    gamma = G_FACTOR * MU_B / HBAR
    frequency_THz = gamma * static / (2 * np.pi) * units.fs * 1e3
    atoms = Atoms("Fe", cell=[9.0] * 3, pbc=True)
    set_spins(atoms, {"Fe": 1.0})
    atoms.calc = DeepSpinCalculator(Zeeman((0, 0, static)))
    field = RotatingVector(small, frequency_THz)
    driver = SpinDynamics(atoms, 20 * units.fs, external_field_T=field)
    steps = round(np.pi / (gamma * small) / driver.dt)
    driver.run(steps)
    assert get_spins(atoms)[0, 2] == pytest.approx(-1.0, abs=1e-3)


def test_a_driven_term_does_work() -> None:
    """Two ions on a spring in an oscillating electric field: a driven oscillator."""
    atoms = Atoms("NaCl", [(0, 0, 0), (2.5, 0, 0)], cell=(5.0, 9.0, 9.0), pbc=True)
    set_spins(atoms, [(0, 0, 1.0), (0, 0, 0)])
    atoms.set_masses([20.0, 20.0])
    start = atoms.positions.copy()
    charges = ElectricField((1, 0, 0), atoms, {"Na": 1.0, "Cl": -1.0})
    atoms.calc = DeepSpinCalculator(Harmonic(2.0, 2.5, cutoff=2.8))
    force, frequency_THz = 0.02, 2.0
    driver = SpinLatticeNVE(
        atoms,
        units.fs,
        driven_terms=[(charges, Oscillation(force, frequency_THz, phase_deg=-90))],
    )
    driver.run(300)
    # Relative coordinate: k = 2 x 2, reduced mass 10; force F sin(w t) from rest.
    own = np.sqrt(4.0 / 10.0)
    w = 2e-3 * np.pi * frequency_THz / units.fs
    t = 300 * units.fs
    moved = force / 10.0 / (own**2 - w**2) * (np.sin(w * t) - w / own * np.sin(own * t))
    found = atoms.positions - start
    assert found[0, 0] - found[1, 0] == pytest.approx(moved, rel=3e-3)
    assert driver.conserved_energy() is None


def test_restart_with_waveforms_torque_and_without_functions(tmp_path: Path) -> None:
    options = {
        "damping": 0.1,
        "external_field_T": Pulse((0, 5.0, 0), center_fs=60.0, width_fs=40.0),
        "spin_torque": SpinTorque((0, 1, 0), Ramp(0.0, 5.0, duration_fs=100.0)),
    }
    whole = macrospin(0.5)
    SpinDynamics(whole, 5 * units.fs, **options).run(20)
    path = tmp_path / "run.ckpt"
    half = macrospin(0.5)
    SpinDynamics(half, 5 * units.fs, checkpoint=path, **options).run(10)
    again = SpinDynamics.restore(path)
    again.run(10)
    np.testing.assert_array_equal(get_spins(again.images[0]), get_spins(whole))
    options["driven_terms"] = [(Zeeman((0, 0, 1)), lambda t: 1.0)]
    SpinDynamics(macrospin(0.5), 5 * units.fs, checkpoint=path, **options).run(2)
    with pytest.raises(ValueError, match="give driven_terms again"):
        SpinDynamics.restore(path)


def test_waveforms_and_torques_in_run_files() -> None:
    config = RunConfig.from_dict(
        {
            "structure": "a.extxyz",
            "model": "m.pt",
            "driver": "spin",
            "timestep_fs": 5.0,
            "steps": 10,
            "parameters": {
                "external_field_T": {
                    "waveform": "pulse",
                    "amplitude": [0, 0, 5],
                    "center_fs": 100,
                    "width_fs": 20,
                },
                "spin_torque": {"polarization": [0, 0, 1], "damping_like_T": 0.1},
            },
        }
    )
    driver = SpinDynamics(macrospin(), **driver_arguments(config))
    np.testing.assert_allclose(driver.external_field.at(100.0), [0, 0, 5 * MU_B])
    assert driver.external_field.spin_torque.damping_like_T == 0.1


def test_pressure_that_grows() -> None:
    """A cold crystal follows a slow ramp of the pressure, -dV/V = p/B."""
    atoms = bulk("Fe", a=2.8665, cubic=True).repeat(2)
    set_spins(atoms, {"Fe": 2.2})
    model = finnis_sinclair_fe() + UniaxialAnisotropy(1e-3, (0, 0, 1))
    atoms.calc = DeepSpinCalculator(model)
    start = atoms.get_volume()
    driver = SpinLatticeNPT(
        atoms,
        2 * units.fs,
        temperature_K=1.0,
        damping=0.0,
        pressure_GPa=Ramp(0.0, 2.0, duration_fs=1500.0),
        pdamp=2000 * units.fs,
        rng=1,
    )
    volumes: list[float] = []
    driver.attach(lambda: volumes.append(atoms.get_volume()))
    driver.run(1000)
    change = 1.0 - np.mean(volumes[800:]) / start
    assert change == pytest.approx(2.0 / 173.0, rel=0.1)
    assert driver.conserved_energy() is None


def test_strain_ramp() -> None:
    atoms = bulk("Fe", a=2.8665, cubic=True)
    set_spins(atoms, {"Fe": 2.2})
    atoms.calc = DeepSpinCalculator(finnis_sinclair_fe() + Zeeman((0, 0, 1)))
    cell = atoms.cell.array.copy()
    scaled = atoms.get_scaled_positions(wrap=False)
    driver = SpinLatticeNVE(atoms, units.fs)
    strain = np.array([0.01, -0.004, 0.0, 0.002, 0.0, 0.006])
    strain_ramp(driver, Ramp(np.zeros(6), strain, duration_fs=20.0))
    driver.run(10)
    full = np.array([[0.01, 0.003, 0.0], [0.003, -0.004, 0.001], [0.0, 0.001, 0.0]])
    half = cell @ (np.eye(3) + 0.5 * full)
    np.testing.assert_allclose(atoms.cell.array, half, atol=1e-12)
    driver.run(20)
    np.testing.assert_allclose(atoms.cell.array, cell @ (np.eye(3) + full), atol=1e-12)
    # Both atoms of bcc are centers of inversion: no force moves them in the cell.
    np.testing.assert_allclose(
        atoms.get_scaled_positions(wrap=False), scaled, atol=1e-9
    )
    other = atoms.copy()
    other.calc = atoms.calc
    energy = driver.prediction.energy.item()
    assert other.get_potential_energy() == pytest.approx(energy, abs=1e-9)


def test_bad_input() -> None:
    atoms = macrospin()
    torque = SpinTorque((0, 0, 1), 1.0)
    with pytest.raises(ValueError, match="follows an energy, which a spin torque"):
        SpinLatticeNVE(atoms, units.fs, spin_torque=torque)
    with pytest.raises(ValueError, match="follows an energy, which a spin torque"):
        MonteCarlo(atoms, temperature_K=10.0, spin_torque=torque)
    with pytest.raises(ValueError, match="has no time, and takes no driven_terms"):
        terms = [(Zeeman((0, 0, 1)), lambda t: t)]
        MonteCarlo(atoms, temperature_K=10.0, driven_terms=terms)
    with pytest.raises(TypeError, match="driven_terms are pairs"):
        SpinDynamics(atoms, units.fs, driven_terms=[(Zeeman((0, 0, 1)), 2.0)])
    with pytest.raises(ValueError, match="unknown waveform 'square'"):
        SpinDynamics(atoms, units.fs, external_field_T={"waveform": "square"})
    with pytest.raises(ValueError, match="the waveform 'pulse' does not fit"):
        SpinDynamics(atoms, units.fs, external_field_T={"waveform": "pulse"})
    with pytest.raises(ValueError, match="must be three finite numbers"):
        SpinDynamics(atoms, units.fs, external_field_T=Ramp(0.0, 1.0, 10.0))
    with pytest.raises(ValueError, match="asymmetry must lie in"):
        SpinTorque((0, 0, 1), 1.0, asymmetry=1.0)
    with pytest.raises(ValueError, match="polarization must not be the zero"):
        SpinTorque((0, 0, 0), 1.0)
    with pytest.raises(ValueError, match="six finite numbers"):
        strain_ramp(SpinDynamics(atoms, units.fs), Ramp(0.0, 1.0, 10.0))
    with pytest.raises(ValueError, match="lies along the axis"):
        RotatingVector(1.0, 1.0, start=(0, 0, 2))
