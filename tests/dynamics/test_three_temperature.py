"""Electrons, lattice and spins that exchange heat: energies and temperatures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import thermalize_momenta

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.dynamics import ThreeTemperature
from deepspin_ase.potentials import CubicCut, Harmonic, Heisenberg, Sum, Zeeman
from deepspin_ase.potentials.materials import reference
from deepspin_ase.units import MU_B

FS = units.fs
KB = units.kB
GAMMA_E = 5.2e-8


def iron(temperature_K: float = 300.0, seed: int = 0) -> Atoms:
    """Return 16 atoms of ferromagnetic iron with embedded atoms and exchange."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(2)
    set_spins(atoms, 0.2 * rng.normal(size=(len(atoms), 3)) + np.array([0, 0, 2.2]))
    thermalize_momenta(atoms, temperature_K=temperature_K, rng=rng)
    atoms.calc = DeepSpinCalculator(reference.fe(exchange="bethe-slater"))
    return atoms


def springs(repeat: int = 3, *, field_T: float = 0.0) -> Atoms:
    """Return a cheap ferromagnet: fcc, nearest neighbours, springs and exchange."""
    atoms = bulk("Fe", "fcc", 3.6, cubic=True).repeat(repeat)
    set_spins(atoms, {"Fe": 2.0})
    near = 3.6 / 2**0.5
    potential = Sum(
        [
            Harmonic(4.0, near, cutoff=3.2),
            Heisenberg(CubicCut(0.4, 3.5)),
            Zeeman((0, 0, field_T)),
        ]
    )
    atoms.calc = DeepSpinCalculator(potential)
    return atoms


def driver(atoms: Atoms | list[Atoms], step_fs: float = 0.5, **changes):
    settings = {
        "electron_temperature_K": 1000.0,
        "heat_capacity": GAMMA_E,
        "friction": 0.01 / FS,
        "damping": 0.05,
        "rng": 1,
    }
    return ThreeTemperature(atoms, step_fs * FS, **(settings | changes))


class TestElectronsAlone:
    def heated(self, **changes):
        """Run isolated electrons through the whole of a pulse."""
        return self.run(
            friction=0.0,
            damping=0.0,
            pulse_energy=0.02,
            pulse_center_fs=30.0,
            pulse_width_fs=10.0,
            **changes,
        )

    def run(self, **changes):
        dyn = driver(iron(), electron_temperature_K=300.0, **changes)
        dyn.run(120)
        return dyn

    def test_pulse_heats_by_the_analytic_law(self):
        # C_e = gamma T: T^2 = T0^2 + 2 Q/gamma.
        dyn = self.heated()
        exact = np.sqrt(300**2 + 2 * 0.02 / GAMMA_E)
        assert float(dyn.electron_temperature_K[0]) == pytest.approx(exact, rel=1e-9)
        assert float(dyn.absorbed_energy[0]) == pytest.approx(16 * 0.02, rel=1e-9)

    def test_constant_heat_capacity(self):
        dyn = self.heated(heat_capacity=lambda T: 2e-4)
        exact = 300 + 0.02 / 2e-4
        assert float(dyn.electron_temperature_K[0]) == pytest.approx(exact, rel=1e-9)

    def test_a_function_does_what_the_number_does(self):
        dyn = self.heated(heat_capacity=lambda T: GAMMA_E * T)
        exact = np.sqrt(300**2 + 2 * 0.02 / GAMMA_E)
        assert float(dyn.electron_temperature_K[0]) == pytest.approx(exact, rel=1e-6)

    def test_half_of_the_pulse_at_its_centre(self):
        dyn = driver(
            iron(),
            friction=0.0,
            damping=0.0,
            pulse_energy=0.02,
            pulse_center_fs=30.0,
            pulse_width_fs=10.0,
        )
        absorbed = []
        dyn.attach(lambda: absorbed.append(float(dyn.absorbed_energy[0]) / 0.32), 10)
        dyn.run(120)
        # A Gaussian has 76.1 % of its area within its full width at half maximum.
        assert absorbed[6] == pytest.approx(0.5)
        assert absorbed[7] - absorbed[5] == pytest.approx(0.76096, abs=1e-4)

    def test_uncoupled_electrons_keep_their_energy(self):
        dyn = self.run(friction=0.0, damping=0.0)
        assert float(dyn.electron_temperature_K[0]) == pytest.approx(300.0, rel=1e-13)

    def test_replicas_with_different_pulses(self):
        dyn = driver(
            iron(),
            electron_temperature_K=300.0,
            friction=0.0,
            damping=0.0,
            pulse_energy=[0.0, 0.01, 0.04],
            pulse_center_fs=10.0,
            pulse_width_fs=4.0,
        )
        dyn.run(40)
        exact = np.sqrt(300**2 + 2 * np.array([0, 0.01, 0.04]) / GAMMA_E)
        assert dyn.electron_temperature_K.numpy() == pytest.approx(exact, rel=1e-6)


class TestEnergy:
    @staticmethod
    def drift(step_fs: float, **changes) -> float:
        """Return the rms change of the conserved energy, eV per atom, in 60 fs."""
        dyn = driver(
            [iron(seed=k) for k in range(4)],
            step_fs,
            pulse_energy=0.05,
            pulse_center_fs=30.0,
            pulse_width_fs=20.0,
            **changes,
        )
        energies = [dyn.conserved_energy().numpy()]
        dyn.attach(lambda: energies.append(dyn.conserved_energy().numpy()), 5)
        dyn.run(round(60 / step_fs))
        return float(np.std(np.array(energies) - energies[0]) / 16)

    def test_total_energy_is_conserved_to_second_order(self):
        coarse, fine = self.drift(0.5), self.drift(0.25)
        assert coarse < 1e-4
        assert 3.0 < coarse / fine < 5.5

    def test_spins_alone_conserve_energy_to_round_off(self):
        # On a lattice that stands still, what the spins gain the electrons lose.
        atoms = iron(temperature_K=0.0)
        atoms.set_constraint(FixAtoms(range(16)))
        dyn = driver(atoms, friction=0.0, damping=0.2)
        before = dyn.conserved_energy()
        electrons = dyn.electron_energy
        dyn.run(100)
        assert float(abs(dyn.electron_energy - electrons)[0]) > 0.05
        assert torch.allclose(dyn.conserved_energy(), before, rtol=0, atol=1e-10)

    def test_electrons_pay_for_the_lattice(self):
        atoms = iron(temperature_K=100.0)
        dyn = driver(atoms, friction=0.1 / FS, damping=0.0, spin_integrator="midpoint")
        before, electrons = dyn.conserved_energy(), dyn.electron_energy
        dyn.run(50)
        assert float((electrons - dyn.electron_energy)[0]) > 0.1
        assert float(abs(dyn.conserved_energy() - before)[0]) < 16 * 5e-5

    def test_electrons_without_energy_take_and_do_not_give(self):
        dyn = driver(iron(), electron_temperature_K=0.0, damping=0.3)
        before, found = dyn.conserved_energy(), []
        dyn.attach(lambda: found.append(float(dyn.electron_temperature_K[0])))
        dyn.run(50)
        assert found[0] == min(found) == 0.0
        assert max(found) > 100.0
        assert float(abs(dyn.conserved_energy() - before)[0]) < 16 * 1e-4

    def test_a_field_that_changes_conserves_nothing(self):
        dyn = driver(iron(), external_field_T=lambda t: (0, 0, t))
        dyn.run(2)
        assert dyn.conserved_energy() is None

    def test_work_of_a_field_that_changes_is_no_heat(self):
        # Spins along a growing field stand still at T_e = 0: no heat is exchanged.
        dyn = driver(
            springs(2),
            electron_temperature_K=0.0,
            friction=0.0,
            external_field_T=lambda t: (0, 0, 100 + t),
        )
        dyn.run(5)
        assert float(dyn.electron_energy[0]) == pytest.approx(0.0, abs=1e-12)

    def test_heat_is_the_same_in_a_constant_field_of_driver_or_model(self):
        inside, outside = springs(2, field_T=100.0), springs(2)
        found = []
        for atoms, field in ((inside, None), (outside, (0, 0, 100.0))):
            dyn = driver(atoms, external_field_T=field)
            dyn.run(10)
            found.append(float(dyn.electron_energy[0]))
        assert found[0] == pytest.approx(found[1], rel=1e-9)


class TestEquilibrium:
    def test_all_three_reach_one_temperature(self):
        # Hot electrons, cold lattice and spins; a large electronic heat capacity so
        # that the common temperature is known well.
        atoms = springs(3, field_T=1500.0)
        thermalize_momenta(atoms, temperature_K=100, rng=np.random.default_rng(2))
        dyn = driver(
            atoms,
            electron_temperature_K=[500.0] * 3,
            heat_capacity=lambda T: 20 * KB,
            friction=0.1 / FS,
            damping=0.3,
        )
        dyn.run(200)
        found: dict[str, list[float]] = {}
        for _ in range(30):
            dyn.run(10)
            for name, values in dyn.temperatures().items():
                found.setdefault(name, []).append(float(values.mean()))
        means = {name: np.mean(values) for name, values in found.items()}
        assert 300.0 < means["electrons"] < 470.0
        assert means["lattice"] == pytest.approx(means["electrons"], rel=0.03)
        assert means["spins"] == pytest.approx(means["electrons"], rel=0.04)

    def test_electrons_of_huge_heat_capacity_are_a_langevin_bath(self):
        # Free moments in a field: <m_z>/m = coth x - 1/x; atoms: equipartition.
        atoms = Atoms("Fe" * 4000, [(10.0 * k, 0, 0) for k in range(4000)])
        set_spins(atoms, {"Fe": 2.0})
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 400.0)))
        dyn = driver(
            atoms,
            electron_temperature_K=500.0,
            heat_capacity=lambda T: 1e6,
            friction=0.1 / FS,
            damping=0.3,
        )
        dyn.run(350)
        heights, kinetic = [], []
        for _ in range(20):
            dyn.run(35)
            heights.append(float(dyn.state.system.spins[:, 2].mean()) / 2.0)
            kinetic.append(float((dyn.state.momenta**2 / dyn.mass).mean()) / KB)
        x = 2.0 * 400.0 * MU_B / (KB * 500.0)
        # Some 12 independent states of 4000 spins: a standard error of 0.8 %.
        assert float(dyn.electron_temperature_K[0]) == pytest.approx(500.0, rel=1e-7)
        assert np.mean(heights) == pytest.approx(1 / np.tanh(x) - 1 / x, rel=0.03)
        assert np.mean(kinetic) == pytest.approx(500.0, rel=0.02)

    def test_lattice_heats_at_the_rate_of_the_friction(self):
        # dT_l/dt = 2 friction (T_e - T_l) of free atoms.
        atoms = Atoms("Fe" * 2000, [(10.0 * k, 0, 0) for k in range(2000)])
        set_spins(atoms, {"Fe": 2.0})
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        friction, steps = 0.02 / FS, 40
        dyn = driver(
            atoms,
            electron_temperature_K=600.0,
            heat_capacity=lambda T: 3 * KB,
            friction=friction,
            damping=0.0,
        )
        dyn.run(steps)
        # Heat capacities 3 k and 3/2 k: T_e - T_l decays at 2 friction (1 + 1/2).
        gap = 600.0 * np.exp(-3 * friction * steps * 0.5 * FS)
        found = dyn.temperatures()
        lattice = float(found["lattice"][0])
        assert lattice == pytest.approx(400.0 - 2 / 3 * gap, rel=0.04)
        assert float(found["electrons"][0]) == pytest.approx(600 - lattice / 2)


class TestDriver:
    def test_three_model_calls_a_step(self):
        dyn = driver(iron())
        dyn.run(10)
        assert dyn.engine.n_calls <= 31

    def test_lengths_are_kept(self):
        atoms = iron()
        lengths = np.linalg.norm(get_spins(atoms), axis=1)
        driver(atoms, damping=0.5).run(20)
        assert np.linalg.norm(get_spins(atoms), axis=1) == pytest.approx(
            lengths, abs=1e-12
        )

    def test_restart_is_exact(self, tmp_path):
        atoms = iron()
        pulse = {"pulse_energy": 0.05, "pulse_center_fs": 8.0, "pulse_width_fs": 6.0}
        dyn = driver(atoms, **pulse)
        dyn.run(7)
        dyn.save(tmp_path / "run.ckpt")
        dyn.run(9)
        again = ThreeTemperature.restore(tmp_path / "run.ckpt")
        again.run(9)
        assert (get_spins(again.images[0]) == get_spins(atoms)).all()
        assert (again.images[0].positions == atoms.positions).all()
        assert torch.equal(again.electron_energy, dyn.electron_energy)
        assert torch.equal(again.absorbed_energy, dyn.absorbed_energy)

    def test_restart_with_a_function(self, tmp_path):
        def constant(temperature):
            return 1e-4

        dyn = driver(iron(), heat_capacity=constant)
        dyn.run(3)
        dyn.save(tmp_path / "run.ckpt")
        with pytest.raises(ValueError, match="give heat_capacity again"):
            ThreeTemperature.restore(tmp_path / "run.ckpt")
        again = ThreeTemperature.restore(tmp_path / "run.ckpt", heat_capacity=constant)
        dyn.run(3)
        again.run(3)
        assert torch.equal(again.electron_energy, dyn.electron_energy)

    def test_a_step_that_fails_charges_nothing(self):
        dyn = driver(iron(), pulse_energy=1, pulse_center_fs=0, pulse_width_fs=9)
        dyn.run(2)
        energy, absorbed = dyn.electron_energy, dyn.absorbed_energy
        evaluate, calls = dyn.engine.evaluate, []

        def fail_at_the_end(*args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                raise CalculationFailed("not finite")
            return evaluate(*args, **kwargs)

        dyn.engine.evaluate = fail_at_the_end
        with pytest.raises(CalculationFailed):
            dyn.run(1)
        assert torch.equal(dyn.electron_energy, energy)
        assert torch.equal(dyn.absorbed_energy, absorbed)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"electron_temperature_K": -5}, "electron_temperature_K must be finite"),
            ({"heat_capacity": -1e-8}, "heat_capacity must be gamma_e > 0"),
            ({"heat_capacity": 0.0}, "heat_capacity must be gamma_e > 0"),
            ({"heat_capacity": lambda T: 1e-3 - 1e-6 * T}, "at 1000 K it is"),
            ({"friction": -1.0}, "friction must be finite and >= 0"),
            ({"damping": -0.1}, "damping must be finite and >= 0"),
            ({"pulse_energy": -0.1}, "pulse_energy must be finite and >= 0"),
            ({"pulse_energy": 0.1}, "needs pulse_center_fs and pulse_width_fs"),
            (
                {"pulse_energy": 0.1, "pulse_center_fs": 9, "pulse_width_fs": 0},
                "pulse_width_fs > 0",
            ),
            (
                {"pulse_energy": [0.1, 0.2], "electron_temperature_K": [1, 2, 3]},
                "numbers of replicas differ",
            ),
        ],
    )
    def test_bad_values(self, changes, message):
        with pytest.raises(ValueError, match=message):
            driver(iron(), **changes)
