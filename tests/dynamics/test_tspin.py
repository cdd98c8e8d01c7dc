"""Inertial spins against exact ensembles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import thermalize_momenta
from scipy.integrate import quad

from deepspin_ase import DeepSpinCalculator, get_spins, random_directions, set_spins
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics import TSPIN
from deepspin_ase.dynamics.baths import NoseHooverChain
from deepspin_ase.dynamics.observables import kinetic_energy
from deepspin_ase.potentials import (
    Harmonic,
    Heisenberg,
    Landau,
    LennardJones,
    Potential,
    Shells,
    SmoothShells,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.units import MU_B

FS = units.fs
#: Settings for moments that do not interact, at 2 fs a step.
QUICK = {"spin_mass": 0.1, "collision_time": 200 * units.fs}
KT = units.kB * 300.0


def langevin(x: float) -> float:
    return 1 / np.tanh(x) - 1 / x


def crystal(*, seed: int = 0, temperature_K: float = 300.0) -> Atoms:
    """Return a ferromagnetic fcc crystal with J(r) on springs, 32 atoms."""
    r = 3.6 / np.sqrt(2)
    atoms = bulk("Fe", "fcc", a=3.6, cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(seed)
    tilted = rng.normal([0, 0, 2.0], size=(len(atoms), 3))
    set_spins(atoms, np.full(len(atoms), 2.0), pattern=tilted)
    springs = Harmonic(3.0, r, cutoff=3.1)
    exchange = Heisenberg(SmoothShells([(r, 0.02, -0.04)], 0.8))
    atoms.calc = DeepSpinCalculator(
        springs + exchange + UniaxialAnisotropy(0.01, (1, 1, 0))
    )
    # Springs of 12 neighbours bind an atom with 4 k in every direction.
    atoms.rattle(np.sqrt(units.kB * temperature_K / 12.0), rng=rng)
    thermalize_momenta(atoms, temperature_K=temperature_K, rng=rng)
    return atoms


def isolated(count: int, potential: Potential, *, size: int = 1) -> Atoms:
    """Return ``count`` rigid molecules of ``size`` moments of 2 mu_B, 2.5 A apart."""
    at = [(20.0 * k + 2.5 * i, 0, 0) for k in range(count) for i in range(size)]
    atoms = Atoms(f"Fe{len(at)}", at)
    set_spins(atoms, np.full(len(at), 2.0), pattern=random_directions(seed=5))
    atoms.calc = DeepSpinCalculator(potential)
    atoms.set_constraint(FixAtoms(range(len(atoms))))
    return atoms


def averages(
    dyn: TSPIN, observe: Callable[[TSPIN], torch.Tensor], steps: int, every: int = 10
) -> np.ndarray:
    """Return values (steps / every, ...) along a run."""
    values = []
    for _ in range(steps // every):
        dyn.run(every)
        values.append(observe(dyn).numpy().copy())
    return np.array(values)


def spread(dyn: TSPIN, femtoseconds: float) -> float:
    """Return the standard deviation of the conserved energy, eV."""
    steps = round(femtoseconds * FS / dyn.dt)
    energy = averages(dyn, lambda d: d.conserved_energy(), steps, 1)
    return float(energy.std())


class TestMechanics:
    def test_reversible(self):
        atoms = crystal()
        dyn = TSPIN(atoms, FS, ensemble="nve", temperature_K=300, rng=1)
        first, momenta = atoms.copy(), dyn.spin_momenta.clone()
        dyn.run(200)
        assert np.abs(get_spins(atoms) - get_spins(first)).max() > 0.5
        dyn.dt = -dyn.dt
        dyn.run(200)
        assert atoms.positions == pytest.approx(first.positions, abs=1e-10)
        assert get_spins(atoms) == pytest.approx(get_spins(first), abs=1e-10)
        assert torch.allclose(dyn.spin_momenta, momenta, atol=1e-10, rtol=0)

    def test_chains_are_reversible(self):
        atoms = crystal()
        dyn = TSPIN(
            atoms, FS, temperature_K=300, rng=1, tdamp=30 * FS, collision_time=None
        )
        first = atoms.copy()
        dyn.run(100)
        dyn.dt = -dyn.dt
        dyn.run(100)
        assert get_spins(atoms) == pytest.approx(get_spins(first), abs=1e-9)
        assert dyn.chain.energy().item() == pytest.approx(0.0, abs=1e-8)

    @pytest.mark.parametrize(
        "settings",
        [
            {"ensemble": "nve"},
            {"ensemble": "nvt"},
            {"ensemble": "nvt", "magnitudes": True},
            {"ensemble": "npt", "pressure_GPa": 1.0},
            {"ensemble": "npt", "cell": "flexible", "stress_GPa": (1, 0, 0, 0, 1, 0)},
        ],
    )
    def test_extended_energy_is_conserved_to_second_order(self, settings):
        coarse, fine = (
            spread(
                TSPIN(
                    crystal(),
                    dt * FS,
                    temperature_K=300,
                    rng=1,
                    tdamp=30 * FS,
                    pdamp=300 * FS,
                    collision_time=None,
                    **settings,
                ),
                80.0,
            )
            for dt in (1.0, 0.5)
        )
        assert coarse < 2e-3
        assert coarse / fine == pytest.approx(4.0, abs=0.4)

    def test_heat_of_collisions_is_accounted_for(self):
        dyn = TSPIN(crystal(), FS, temperature_K=300, rng=1, collision_time=20 * FS)
        energy = averages(dyn, lambda d: d.conserved_energy(), 200, 1)
        assert np.ptp(energy) < 0.01
        assert abs(float(dyn.collision_heat[0])) > 0.1

    def test_moments_keep_their_lengths_and_tangential_momenta(self):
        dyn = TSPIN(crystal(), FS, temperature_K=1000, rng=1)
        dyn.run(300)
        spins = dyn.state.system.spins
        assert spins.norm(dim=1).numpy() == pytest.approx(2.0, abs=1e-12)
        assert float((spins * dyn.spin_momenta).sum(1).abs().max()) < 1e-12

    def test_one_model_call_a_step(self):
        dyn = TSPIN(crystal(), FS, ensemble="npt", temperature_K=300, rng=1)
        dyn.run(1)
        calls = dyn.engine.n_calls
        dyn.run(20)
        assert dyn.engine.n_calls == calls + 20

    def test_a_rotor_swings_with_the_period_of_its_mass(self):
        # A small swing about the field: omega^2 = B / (mu |m|).
        atoms = Atoms("Fe", [(0, 0, 0)])
        set_spins(atoms, [[2e-3, 0, 2.0]])
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1000.0)))
        dyn = TSPIN(atoms, 0.2 * FS, ensemble="nve", spin_mass=0.05)
        omega = np.sqrt(1000.0 * MU_B / (0.05 * 2.0))
        dyn.run(round(np.pi / omega / dyn.dt))
        assert get_spins(atoms)[0, 0] == pytest.approx(-2e-3, rel=1e-3)

    def test_what_is_held_stays(self):
        atoms = crystal()
        atoms.set_constraint([FixAtoms([0, 1]), FixSpins([1, 2])])
        moments = get_spins(atoms)
        moments[5] = 0.0
        set_spins(atoms, moments)
        first = atoms.copy()
        dyn = TSPIN(atoms, FS, temperature_K=300, rng=1)
        assert float(dyn._spins.degrees_of_freedom(dyn.state.system)[0]) == 58
        assert float(dyn.degrees_of_freedom[0]) == 90
        dyn.run(50)
        assert np.array_equal(atoms.positions[:2], first.positions[:2])
        assert np.array_equal(get_spins(atoms)[[1, 2, 5]], moments[[1, 2, 5]])
        assert np.abs(get_spins(atoms)[0] - moments[0]).max() > 1e-3


class TestEnsembles:
    @pytest.mark.parametrize(
        ("count", "steps"),
        [(150, 2000), pytest.param(600, 20000, marks=[pytest.mark.slow])],
    )
    def test_langevin_function_of_free_moments(self, count, steps):
        field = 2.0 * KT / (2.0 * MU_B)
        atoms = isolated(count, Zeeman((0, 0, field)))
        temperatures = [150.0, 300.0, 1200.0]
        dyn = TSPIN(atoms, 2 * FS, temperature_K=temperatures, rng=2, **QUICK)
        dyn.run(500)
        height = averages(dyn, lambda d: d.state.system.spins[:, 2] / 2.0, steps)
        for k, temperature in enumerate(temperatures):
            mean = height.mean(axis=0).reshape(3, count)[k]
            error = mean.std() / np.sqrt(count)
            exact = langevin(2.0 * 300.0 / temperature)
            assert mean.mean() == pytest.approx(exact, abs=3 * error)
            assert error < 0.025

    @pytest.mark.parametrize("x", [1.0, 4.0])
    def test_heisenberg_dimers(self, x):
        atoms = isolated(150, Heisenberg(Shells([(2.5, x * KT)])), size=2)
        dyn = TSPIN(atoms, 2 * FS, temperature_K=300, rng=3, **QUICK)
        dyn.run(500)

        def alignment(d: TSPIN) -> torch.Tensor:
            spins = d.state.system.spins
            return (spins[::2] * spins[1::2]).sum(1) / 4.0

        mean = averages(dyn, alignment, 2000).mean(axis=0)
        error = mean.std() / np.sqrt(len(mean))
        assert mean.mean() == pytest.approx(langevin(x), abs=3 * error)
        assert error < 0.025

    @pytest.mark.slow
    def test_heisenberg_chain_with_default_settings(self):
        # An open chain of classical spins: <e_i.e_i+1> = coth x - 1/x exactly.
        count, size, x = 20, 100, 3.0
        atoms = isolated(1, Heisenberg(Shells([(2.5, x * KT)])), size=size)
        dyn = TSPIN(atoms, FS, temperature_K=[300.0] * count, rng=3)
        dyn.run(5000)

        def alignment(d: TSPIN) -> torch.Tensor:
            spins = d.state.system.spins.reshape(count, size, 3)
            return (spins[:, 1:] * spins[:, :-1]).sum(2).mean(1) / 4.0

        mean = averages(dyn, alignment, 15000).mean(axis=0)
        error = mean.std() / np.sqrt(count)
        assert mean.mean() == pytest.approx(langevin(x), abs=3 * error)
        assert error < 0.002

    def test_lengths_follow_the_landau_energy(self):
        c1, c2 = -0.05, 0.008
        atoms = isolated(200, Landau([c1, c2]))
        dyn = TSPIN(atoms, 2 * FS, temperature_K=300, rng=4, magnitudes=True, **QUICK)
        dyn.run(500)
        square = averages(dyn, lambda d: d.state.system.spins.square().sum(1), 3000)
        mean = square.mean(axis=0)

        def weight(m: float, power: int) -> float:
            return m ** (2 + power) * np.exp(-(c1 * m**2 + c2 * m**4) / KT)

        exact = quad(weight, 0, 6, (2,))[0] / quad(weight, 0, 6, (0,))[0]
        error = mean.std() / np.sqrt(len(mean))
        assert mean.mean() == pytest.approx(exact, abs=3 * error)
        assert error < 0.02 * exact

    @pytest.mark.parametrize(
        ("count", "steps", "tight"),
        [
            (10, 1000, 0.02),
            pytest.param(24, 10000, 0.005, marks=[pytest.mark.slow]),
        ],
    )
    def test_equipartition_and_canonical_fluctuations(self, count, steps, tight):
        # Kinetic energies of f momenta: mean f kT/2, variance f (kT)^2/2.
        images = [crystal(seed=k) for k in range(count)]
        dyn = TSPIN(images, 2 * FS, temperature_K=300, rng=4, collision_time=300 * FS)
        assert np.allclose(dyn.degrees_of_freedom, 93)
        dyn.run(300)

        def energies(d: TSPIN) -> torch.Tensor:
            system = d.state.system
            lattice = kinetic_energy(system, d.state.momenta, d.mass)
            return torch.stack([lattice, d.spin_kinetic_energy])

        found = averages(dyn, energies, steps)
        for k, f in ((0, 93), (1, 64)):
            mean = found[:, k].mean(axis=0)
            error = mean.std() / np.sqrt(count)
            assert mean.mean() == pytest.approx(f * KT / 2, abs=3 * error)
            assert error < tight * f * KT / 2
            variance = ((found[:, k] - f * KT / 2) ** 2).mean(axis=0)
            error = variance.std() / np.sqrt(count)
            assert variance.mean() == pytest.approx(f * KT**2 / 2, abs=3 * error)

    @pytest.mark.slow
    def test_heat_capacity_of_a_harmonic_crystal(self):
        # Var E = k T^2 C with C = (3 N - 3) k for potential and kinetic energy.
        count = 24
        images = [crystal(seed=k, temperature_K=100) for k in range(count)]
        for image in images:
            image.calc = DeepSpinCalculator(Harmonic(5.0, 3.6 / np.sqrt(2), cutoff=3.1))
        dyn = TSPIN(images, 2 * FS, temperature_K=100, rng=4)
        dyn.run(2000)

        def energy(d: TSPIN) -> torch.Tensor:
            system = d.state.system
            return d.prediction.energy + kinetic_energy(system, d.state.momenta, d.mass)

        found = averages(dyn, energy, 15000)
        kT = units.kB * 100
        mean = found.mean(axis=0)
        error = mean.std() / np.sqrt(count)
        assert mean.mean() == pytest.approx(93 * kT, abs=3 * error + 0.005 * 93 * kT)
        capacity = found.var(axis=0) / kT**2
        error = capacity.std() / np.sqrt(count)
        assert capacity.mean() == pytest.approx(93, abs=3 * error)
        assert error < 5

    def test_npt_reaches_the_pressure(self):
        # Moments and lattice carry it together.
        count = 8
        images = [crystal(seed=k) for k in range(count)]
        dyn = TSPIN(
            images,
            2 * FS,
            ensemble="npt",
            temperature_K=300,
            pressure_GPa=3.0,
            pdamp=300 * FS,
            collision_time=300 * FS,
            rng=5,
        )
        dyn.run(300)
        mean = averages(dyn, _pressure_GPa, 1000).mean(axis=0)
        error = mean.std() / np.sqrt(count)
        assert mean.mean() == pytest.approx(3.0, abs=3 * error + 0.01)
        assert error < 0.05


def _pressure_GPa(dyn: TSPIN) -> torch.Tensor:
    system, found = dyn.state.system, dyn.prediction
    kinetic = kinetic_energy(system, dyn.state.momenta, dyn.mass)
    trace = found.virial.diagonal(dim1=1, dim2=2).sum(1)
    return (2 * kinetic + trace) / (3 * system.volume) / units.GPa


class TestDriver:
    def test_replicas_equal_single_runs(self):
        images = [crystal(seed=k) for k in range(3)]
        settings = {
            "ensemble": "npt",
            "cell": "anisotropic",
            "collision_time": None,
        }
        temperatures, pressures = [100.0, 300.0, 500.0], [0.0, 1.0, -1.0]
        copies = [image.copy() for image in images]
        for copied, image in zip(copies, images, strict=True):
            copied.calc = image.calc
        batch = TSPIN(
            copies,
            FS,
            temperature_K=temperatures,
            pressure_GPa=pressures,
            rng=1,
            **settings,
        )
        momenta = batch.spin_momenta.reshape(3, -1, 3).clone()
        batch.run(30)
        for k, image in enumerate(images):
            single = TSPIN(
                image,
                FS,
                temperature_K=temperatures[k],
                pressure_GPa=pressures[k],
                **settings,
            )
            single.spin_momenta = momenta[k]
            single.run(30)
            assert image.positions == pytest.approx(copies[k].positions, abs=1e-9)
            assert image.cell.array == pytest.approx(copies[k].cell.array, abs=1e-9)
            assert get_spins(image) == pytest.approx(get_spins(copies[k]), abs=1e-9)

    @pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
    def test_restart_is_exact(self, tmp_path, ensemble):
        atoms = crystal()
        dyn = TSPIN(
            atoms,
            FS,
            ensemble=ensemble,
            temperature_K=300,
            rng=1,
            collision_time=20 * FS,
        )
        dyn.run(20)
        dyn.save(tmp_path / "run.ckpt")
        dyn.run(30)
        again = TSPIN.restore(tmp_path / "run.ckpt")
        again.run(30)
        other = again.images[0]
        assert np.array_equal(other.positions, atoms.positions)
        assert np.array_equal(other.cell.array, atoms.cell.array)
        assert np.array_equal(get_spins(other), get_spins(atoms))
        assert torch.equal(again.spin_momenta, dyn.spin_momenta)
        assert torch.equal(again.conserved_energy(), dyn.conserved_energy())

    def test_temperature_can_be_changed_and_restored(self, tmp_path):
        dyn = TSPIN(crystal(), FS, temperature_K=300, rng=1)
        dyn.set_temperature(600.0)
        dyn.run(5)
        dyn.save(tmp_path / "run.ckpt")
        again = TSPIN.restore(tmp_path / "run.ckpt")
        assert again.temperature_K == [600.0]
        assert torch.equal(again.conserved_energy(), dyn.conserved_energy())

    def test_moments_turned_by_an_observer_are_taken_up(self):
        atoms = crystal()
        dyn = TSPIN(atoms, FS, temperature_K=300, rng=1)
        dyn.run(5)
        set_spins(atoms, get_spins(atoms)[::-1].copy())
        dyn.run(5)
        spins = dyn.state.system.spins
        assert float((spins * dyn.spin_momenta).sum(1).abs().max()) < 1e-12

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"ensemble": "npH"}, "ensemble must be one of"),
            ({}, "needs temperature_K"),
            ({"temperature_K": 0.0}, "temperature_K must be"),
            ({"temperature_K": 300, "spin_mass": 0}, "spin_mass must be"),
            ({"temperature_K": 300, "tdamp": -1.0}, "tdamp must be"),
            ({"temperature_K": 300, "collision_time": 0.0}, "collision_time must be"),
            ({"temperature_K": 300, "pressure_GPa": 1.0}, "ensemble='npt'"),
            ({"temperature_K": 300, "cell": "flexible"}, "ensemble='npt'"),
        ],
    )
    def test_bad_input(self, settings, message):
        with pytest.raises(ValueError, match=message):
            TSPIN(crystal(), FS, **settings)


def test_a_chain_without_momenta_does_nothing():
    chain = NoseHooverChain(torch.tensor([0.0]), torch.tensor([KT]), 10.0)
    factor = torch.ones(1, dtype=torch.float64)
    for _ in range(100):
        factor = factor * chain.advance(torch.zeros(1, dtype=torch.float64), 1.0)
    assert factor.item() == 1.0
    assert chain.energy().item() == pytest.approx(0.0, abs=1e-2 * KT)


def test_lattice_of_lennard_jones_atoms_keeps_its_total_momentum():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 2)
    set_spins(atoms, np.ones(len(atoms)))
    atoms.calc = DeepSpinCalculator(LennardJones(0.0103, 3.4, cutoff=5.0))
    thermalize_momenta(atoms, temperature_K=50, rng=np.random.default_rng(0))
    TSPIN(atoms, FS, temperature_K=50, rng=1).run(50)
    assert atoms.get_momenta().sum(axis=0) == pytest.approx(0.0, abs=1e-9)
