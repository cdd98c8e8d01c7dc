"""Spins on a frozen lattice against exact solutions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import (
    DeepSpinCalculator,
    cant_spins,
    collinear,
    get_spins,
    random_directions,
    set_spins,
)
from deepspin_ase.dynamics import Midpoint, SpinDynamics, SpinLatticeNVE
from deepspin_ase.potentials import (
    DzyaloshinskiiMoriya,
    Heisenberg,
    Shells,
    Sum,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.units import G_FACTOR, HBAR, MU_B

FS = units.fs
GAMMA = G_FACTOR / HBAR
SCHEMES = ["midpoint", "sib", "depondt-mertens", "rotation"]


def moments(count: int, moment: float = 2.0, *, spacing: float = 10.0) -> Atoms:
    """Return moments along x that do not see each other."""
    atoms = Atoms("Fe" * count, [(spacing * k, 0, 0) for k in range(count)])
    set_spins(atoms, {"Fe": moment}, pattern=np.tile([1.0, 0, 0], (count, 1)))
    return atoms


def dimer(angle: float, moment: float = 1.5) -> Atoms:
    atoms = Atoms("Fe2", [(0, 0, 0), (2.5, 0, 0)])
    half = angle / 2
    set_spins(
        atoms,
        [
            [moment * np.sin(half), 0, moment * np.cos(half)],
            [-moment * np.sin(half), 0, moment * np.cos(half)],
        ],
    )
    return atoms


class TestPrecession:
    @pytest.mark.parametrize(
        ("scheme", "damping"),
        [(s, a) for s in SCHEMES for a in (0.0, 0.1, 0.5) if a == 0 or s != "rotation"],
    )
    def test_damped_precession_of_one_spin(self, scheme, damping):
        # m_z = tanh(alpha w t/(1+alpha^2)), azimuth w t/(1+alpha^2), w = gamma B.
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 10.0)))
        dyn = SpinDynamics(atoms, FS, damping=damping, spin_integrator=scheme)
        dyn.run(200)
        turned = GAMMA * 10.0 * MU_B * 200 * FS / (1 + damping**2)
        height = np.tanh(damping * turned)
        across = np.sqrt(1 - height**2)
        exact = [across * np.cos(turned), across * np.sin(turned), height]
        assert get_spins(atoms)[0] / 2.0 == pytest.approx(exact, abs=1e-6)

    def test_field_of_the_driver_adds_to_that_of_the_model(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 4.0)))
        dyn = SpinDynamics(atoms, FS, external_field_T=(0, 0, 6.0))
        dyn.run(100)
        angle = GAMMA * 10.0 * MU_B * 100 * FS
        assert np.arctan2(*get_spins(atoms)[0, [1, 0]]) == pytest.approx(angle)
        energy = float(dyn.prediction.energy[0])
        assert energy == pytest.approx(-10 * MU_B * get_spins(atoms)[0, 2])

    def test_a_field_that_turns_with_the_spin_drives_it_round(self):
        # In the frame that turns at the Larmor frequency of B_z, only the field b
        # across is left: m_z = m cos(gamma b t), whatever B_z.
        across, along = 5.0, 20.0
        larmor = GAMMA * along * MU_B

        def field(time_fs):
            phase = larmor * time_fs * FS
            return (across * np.cos(phase), across * np.sin(phase), along)

        atoms = moments(1)
        set_spins(atoms, [[0, 0, 2.0]])
        atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.5, 0.1)])))
        dyn = SpinDynamics(atoms, FS, external_field_T=field)
        dyn.run(500)
        exact = 2.0 * np.cos(GAMMA * across * MU_B * 500 * FS)
        assert get_spins(atoms)[0, 2] == pytest.approx(exact, abs=1e-5)
        assert dyn.conserved_energy() is None

    def test_g_factor(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 10.0)))
        SpinDynamics(atoms, FS, g_factor=1.0).run(100)
        angle = 10.0 * MU_B * 100 * FS / HBAR
        assert np.arctan2(*get_spins(atoms)[0, [1, 0]]) == pytest.approx(angle)

    @pytest.mark.parametrize("scheme", ["midpoint", "sib", "depondt-mertens"])
    def test_two_coupled_spins_relax(self, scheme):
        # E = -J e1.e2: the angle theta closes at the rate
        # 2 alpha gamma J/(m (1 + alpha^2)) sin(theta): tan(theta/2) decays.
        coupling, moment, damping, start = 0.02, 1.5, 0.2, 2.0
        atoms = dimer(start, moment)
        atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.5, coupling)])))
        steps = 1250
        dyn = SpinDynamics(atoms, 0.08 * FS, damping=damping, spin_integrator=scheme)
        dyn.run(steps)
        rate = 2 * damping * GAMMA * coupling / (moment * (1 + damping**2))
        decay = np.exp(-rate * steps * 0.08 * FS)
        exact = 2 * np.arctan(np.tan(start / 2) * decay)
        first, second = get_spins(atoms) / moment
        angle = np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)
        assert exact < 1.5
        assert angle == pytest.approx(exact, abs=1e-5)

    def test_spin_wave_of_a_chain(self):
        # w = (gamma / m) 2 J (1 - cos q) for a small amplitude.
        count, coupling, moment = 8, 0.03, 2.0
        atoms = Atoms("Fe" * count, [(2.5 * k, 0, 0) for k in range(count)])
        atoms.set_cell([2.5 * count, 20, 20])
        atoms.pbc = (True, False, False)
        q, small = 2 * np.pi / count, 1e-4
        phase = q * np.arange(count)
        spins = np.stack(
            [small * np.cos(phase), small * np.sin(phase), np.ones(count)], axis=1
        )
        spins *= moment / np.linalg.norm(spins, axis=1, keepdims=True)
        set_spins(atoms, spins)
        atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.5, coupling)])))
        SpinDynamics(atoms, 0.5 * FS).run(60)
        omega = GAMMA / moment * 2 * coupling * (1 - np.cos(q))
        turned = np.angle(
            np.sum(get_spins(atoms)[:, :2] @ [1, 1j] * np.exp(-1j * phase))
        )
        assert turned == pytest.approx(omega * 60 * 0.5 * FS, rel=1e-4)


class TestConservation:
    @staticmethod
    def crystal(seed: int = 3) -> Atoms:
        atoms = bulk("Fe", "sc", 2.5).repeat(4)
        set_spins(atoms, {"Fe": 2.0}, pattern=random_directions(seed))
        atoms.calc = DeepSpinCalculator(
            Sum(
                [
                    Heisenberg(Shells([(2.5, 0.01)])),
                    DzyaloshinskiiMoriya(Shells([(2.5, 0.004)])),
                    UniaxialAnisotropy(0.003, (0, 0, 1)),
                ]
            )
        )
        return atoms

    def test_energy_and_lengths(self):
        atoms = self.crystal()
        dyn = SpinDynamics(atoms, 2 * FS)
        before = atoms.get_potential_energy()
        dyn.run(200)
        assert atoms.get_potential_energy() == pytest.approx(
            before, abs=2e-3 * 64 * 0.01
        )
        lengths = np.linalg.norm(get_spins(atoms), axis=1)
        assert np.abs(lengths - 2.0).max() < 1e-12

    def test_total_spin_is_conserved_by_exchange(self):
        # The midpoint rule keeps linear invariants that the field respects.
        atoms = self.crystal()
        atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.5, 0.01)])))
        before = get_spins(atoms).sum(axis=0)
        SpinDynamics(atoms, 2 * FS).run(100)
        assert get_spins(atoms).sum(axis=0) == pytest.approx(before, abs=1e-8)

    @pytest.mark.parametrize("scheme", ["midpoint", "sib", "depondt-mertens"])
    def test_second_order(self, scheme):
        def final(steps):
            atoms = self.crystal()
            SpinDynamics(atoms, 24 / steps * FS, spin_integrator=scheme).run(steps)
            return get_spins(atoms)

        exact = final(384)
        coarse, fine = (np.abs(final(n) - exact).max() for n in (24, 48))
        assert coarse / fine == pytest.approx(4.0, abs=0.6)

    def test_reversed_spins_run_back(self):
        atoms = self.crystal()
        set_spins(atoms, {"Fe": 2.0}, pattern=collinear())
        cant_spins(atoms, 0.05, seed=1)
        start = get_spins(atoms)
        SpinDynamics(atoms, FS).run(1000)
        set_spins(atoms, -get_spins(atoms))
        SpinDynamics(atoms, FS).run(1000)
        assert np.abs(get_spins(atoms) + start).max() < 1e-10

    def test_few_calls_where_reversibility_is_given_up(self):
        dyn = SpinDynamics(self.crystal(), FS, spin_integrator=Midpoint(max_calls=2))
        dyn.run(50)
        assert dyn.engine.n_calls <= 2 * 50 + 1


class TestHeatBath:
    @pytest.mark.parametrize(
        ("scheme", "damping", "timestep"),
        [
            ("sib", 0.2, 2.0),
            ("sib", 1.0, 1.0),
            ("depondt-mertens", 0.5, 0.5),
        ],
    )
    def test_langevin_function(self, scheme, damping, timestep):
        # <m_z>/m = coth x - 1/x; replicas: temperatures, atoms: independent moments.
        field, moment = 400.0, 2.0
        temperatures = [60.0, 250.0, 1000.0]
        atoms = moments(3000, moment)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, field)))
        dyn = SpinDynamics(
            atoms,
            timestep * FS,
            temperature_K=temperatures,
            damping=damping,
            spin_integrator=scheme,
            rng=5,
        )
        decay = int(50 / (damping * timestep))
        dyn.run(4 * decay)
        samples = []
        for _ in range(8):
            dyn.run(decay)
            samples.append([get_spins(i)[:, 2].mean() / moment for i in dyn.images])
        mean = np.mean(samples, axis=0)
        error = np.std(samples, axis=0, ddof=1) / np.sqrt(len(samples))
        x = moment * MU_B * field / (units.kB * np.array(temperatures))
        exact = 1 / np.tanh(x) - 1 / x
        assert (np.abs(mean - exact) < 3 * error + 0.005 * exact).all()

    def test_both_sublattices_of_a_ferrimagnet_have_the_bath_temperature(self):
        # Uncoupled moments of 2 and 7 mu_B: the noise must know each length.
        atoms = moments(4000)
        set_spins(atoms, np.where(np.arange(4000) < 2000, 2.0, 7.0))
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 300.0)))
        dyn = SpinDynamics(atoms, 2 * FS, temperature_K=400, damping=0.5, rng=1)
        dyn.run(200)
        samples = []
        for _ in range(10):
            dyn.run(40)
            spins = get_spins(atoms)
            across = (spins[:, :2] ** 2).sum(axis=1).reshape(2, 2000).sum(axis=1)
            along = spins[:, 2].reshape(2, 2000).sum(axis=1)
            samples.append([across, along])
        across, along = np.mean(samples, axis=0)
        temperature = MU_B * 300.0 * across / (2 * units.kB * along)
        assert temperature == pytest.approx(np.full(2, 400.0), rel=0.02)

    def test_boltzmann_distribution_of_a_uniaxial_spin(self):
        from scipy.integrate import cumulative_trapezoid
        from scipy.stats import kstest

        strength, temperature = 0.02, 200.0
        atoms = moments(2000)
        set_spins(atoms, {"Fe": 2.0}, pattern=random_directions(2))
        atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(strength, (0, 0, 1)))
        dyn = SpinDynamics(atoms, FS, temperature_K=temperature, damping=1.0, rng=2)
        dyn.run(600)
        z = np.linspace(0, 1, 2001)
        weight = np.exp(strength * z**2 / (units.kB * temperature))
        total = cumulative_trapezoid(weight, z, initial=0.0)
        found = np.abs(get_spins(atoms)[:, 2]) / 2.0
        test = kstest(found, lambda x: np.interp(x, z, total / total[-1]))
        assert test.pvalue > 1e-3

    def test_the_same_seed_gives_the_same_run(self):
        def run(seed):
            atoms = moments(3)
            atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 100.0)))
            SpinDynamics(atoms, FS, temperature_K=300, damping=0.1, rng=seed).run(10)
            return get_spins(atoms)

        assert np.array_equal(run(1), run(1))
        assert not np.array_equal(run(1), run(2))


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"temperature_K": -1.0, "damping": 0.1}, "temperature_K"),
            ({"temperature_K": np.nan, "damping": 0.1}, "temperature_K"),
            ({"damping": -0.1}, "damping"),
            ({"spin_integrator": "euler"}, "spin_integrator"),
            ({"g_factor": np.inf}, "g_factor"),
            ({"loginterval": 0}, "loginterval"),
            ({"checkpoint_interval": 0}, "checkpoint_interval"),
            ({"external_field_T": (1, 2)}, "external_field_T"),
            ({"temperature_K": [1, 2], "damping": [0.1, 0.2, 0.3]}, "damping"),
        ],
    )
    def test_arguments(self, arguments, message):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(ValueError, match=message):
            SpinDynamics(atoms, FS, **arguments)

    @pytest.mark.parametrize("timestep", ["1 fs", None, True])
    def test_time_step_of_the_wrong_kind(self, timestep):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(TypeError, match="timestep"):
            SpinDynamics(atoms, timestep)

    @pytest.mark.parametrize("value", ["300", None, True, ["300"], [1, [2, 3]]])
    def test_numbers_of_the_wrong_kind(self, value):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(TypeError, match="damping must be a number"):
            SpinDynamics(atoms, FS, damping=value)

    def test_a_large_turn_warns_with_the_number(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1000.0)))
        with pytest.warns(UserWarning, match=r"rotates by 1\.7\d rad"):
            SpinDynamics(atoms, 10 * FS).run(1)

    def test_strong_random_turns_warn(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.warns(UserWarning, match="heat bath rotates a spin"):
            SpinDynamics(atoms, 10 * FS, temperature_K=1000, damping=1.0)

    def test_a_shorter_time_step_does_not_warn(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1000.0)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            SpinDynamics(atoms, 2 * FS).run(1)

    def test_atoms_without_moments(self):
        atoms = Atoms("Fe")
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(ValueError, match="no magnetic moments"):
            SpinDynamics(atoms, FS)

    def test_moments_that_are_all_zero(self):
        atoms = Atoms("Fe")
        set_spins(atoms, [0.0])
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(ValueError, match="all moments are zero"):
            SpinDynamics(atoms, FS)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"temperature_K": []}, ValueError, "temperature_K is empty"),
            ({"rng": "a"}, ValueError, "rng must be a seed"),
            ({"logfile": "none/run.log"}, ValueError, "folder of the logfile"),
            ({"checkpoint": "none/a.ckpt"}, ValueError, "folder of the checkpoint"),
        ],
    )
    def test_a_newcomers_arguments(self, arguments, error, message):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(error, match=message):
            SpinDynamics(atoms, FS, **arguments)

    def test_the_same_atoms_twice(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(ValueError, match="given twice"):
            SpinDynamics([atoms, atoms], FS)
        with pytest.raises(TypeError, match=r"expected ase\.Atoms, got NoneType"):
            SpinDynamics(None, FS)

    def test_intervals_of_the_wrong_kind(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(TypeError, match="checkpoint_interval must be a whole"):
            SpinDynamics(atoms, FS, checkpoint_interval=2.5)

    @pytest.mark.parametrize("steps", [1.5, "3", True])
    def test_steps_of_the_wrong_kind(self, steps):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        with pytest.raises(TypeError, match="steps must be a whole number"):
            SpinDynamics(atoms, FS).run(steps)

    def test_a_time_step_meant_in_fs_warns(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        SpinDynamics(atoms, 1.0)  # spins alone may take long steps
        with pytest.warns(UserWarning, match=r"10\.2 fs is long for atoms"):
            SpinLatticeNVE(atoms, 1.0)

    def test_momenta_that_are_not_finite(self):
        atoms = moments(1)
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
        atoms.set_momenta([[np.nan, 0, 0]])
        with pytest.raises(ValueError, match="momenta are not finite"):
            SpinDynamics(atoms, FS)

    def test_spins_without_stiffness_have_no_temperature(self):
        atoms = moments(2)
        set_spins(atoms, [[1, 0, 0], [0, 0, 1.0]])
        atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(10.0, 0.02)])))
        assert abs(float(SpinDynamics(atoms, FS).spin_temperature()[0])) < 1e9

    def test_no_calculator(self):
        with pytest.raises(ValueError, match="no calculator"):
            SpinDynamics(moments(1), FS)

    def test_a_calculator_without_magnetic_forces(self):
        from ase.calculators.lj import LennardJones

        atoms = moments(2)
        atoms.calc = LennardJones()
        with pytest.raises(ValueError, match="does not give magnetic_forces"):
            SpinDynamics(atoms, FS)


def test_collinear_order_stands_still():
    atoms = bulk("Fe", "bcc", 2.87, cubic=True)
    set_spins(atoms, {"Fe": 2.2}, pattern=collinear())
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.485, 0.02)])))
    SpinDynamics(atoms, FS).run(10)
    assert get_spins(atoms) == pytest.approx(np.tile([0, 0, 2.2], (2, 1)))
