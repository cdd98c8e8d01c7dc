"""Moments of varying length in a heat bath against exact answers."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import thermalize_momenta
from scipy.integrate import quad

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics import LongitudinalSpinLangevin
from deepspin_ase.dynamics.drivers import equipartition_temperature
from deepspin_ase.potentials import (
    CubicCut,
    Harmonic,
    Heisenberg,
    Landau,
    MomentExchange,
    Potential,
    Shells,
    Sum,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.potentials.materials import reference
from deepspin_ase.units import G_FACTOR, HBAR, MU_B

FS = units.fs
GAMMA = G_FACTOR / HBAR
KB = units.kB

#: A well of depth 0.08 eV with its minimum at 2 mu_B.
DOUBLE_WELL = Landau((-0.04, 0.005))


def moments(potential: Potential, count: int = 1, spin=(2.0, 0.0, 0.0)) -> Atoms:
    """Return ``count`` moments that do not see each other."""
    atoms = Atoms("Fe" * count, [(10.0 * k, 0, 0) for k in range(count)])
    set_spins(atoms, np.tile(spin, (count, 1)))
    atoms.calc = DeepSpinCalculator(potential)
    return atoms


def samples(dyn: LongitudinalSpinLangevin, *, skip: int, every: int, count: int):
    """Return moments (count, N, 3) after ``skip`` steps, ``every`` steps apart."""
    dyn.run(skip)
    found = []
    for _ in range(count):
        dyn.run(every)
        found.append(dyn.state.system.spins.numpy().copy())
    return np.stack(found)


class TestEquationOfMotion:
    @pytest.mark.parametrize("landau", [0.0, 0.2])
    def test_without_relaxation_a_moment_precesses(self, landau):
        # At any angle to the field; the length costs no accuracy.
        potential = Zeeman((0, 0, 10.0)) + Landau((-landau, landau / 20))
        atoms = moments(potential, spin=(0, 1.2, 1.6))
        dyn = LongitudinalSpinLangevin(
            atoms, FS, temperature_K=300, friction=None, gamma_L=0.0, rng=0
        )
        dyn.run(200)
        angle = np.pi / 2 + GAMMA * 10 * MU_B * 200 * FS
        exact = [1.2 * np.cos(angle), 1.2 * np.sin(angle), 1.6]
        assert get_spins(atoms)[0] == pytest.approx(exact, abs=1e-6)
        assert np.linalg.norm(get_spins(atoms)[0]) == pytest.approx(2.0, abs=1e-13)

    def test_a_landau_term_does_not_change_the_length_without_relaxation(self):
        atoms = moments(DOUBLE_WELL + Zeeman((0, 0, 100.0)), spin=(1.5, 0.5, 0.2))
        dyn = LongitudinalSpinLangevin(
            atoms, FS, temperature_K=300, friction=None, gamma_L=0.0
        )
        length = float(dyn.lengths[0])
        dyn.run(500)
        assert float(dyn.lengths[0]) == pytest.approx(length, abs=1e-12)

    @pytest.mark.parametrize("step_fs", [1.0, 0.5])
    def test_relaxation_in_a_harmonic_well_with_a_field(self, step_fs):
        # m_z -> b/k and m_xy -> 0 at the rate gamma_L k, turning at gamma b.
        k, field, relaxation = 0.2, 200.0, 0.05 / FS
        b, time = field * MU_B, 40 * FS
        atoms = moments(Landau((k / 2,)) + Zeeman((0, 0, field)))
        LongitudinalSpinLangevin(
            atoms, step_fs * FS, temperature_K=0, friction=None, gamma_L=relaxation
        ).run(round(40 / step_fs))
        decay, angle = np.exp(-relaxation * k * time), GAMMA * b * time
        exact = np.array(
            [
                2 * decay * np.cos(angle),
                2 * decay * np.sin(angle),
                b / k * (1 - decay),
            ]
        )
        assert np.abs(get_spins(atoms)[0] - exact).max() < 2e-4 * step_fs**2

    def test_zero_temperature_ends_in_the_minimum(self):
        # The ferromagnet of the Heisenberg-Landau iron has 2.36 mu_B.
        atoms = bulk("Fe", cubic=True).repeat(2)
        spins = np.random.default_rng(3).normal(size=(len(atoms), 3))
        set_spins(atoms, 0.7 * spins + np.array([0, 0, 1.5]))
        atoms.set_cell(np.eye(3) * 2 * 2.8665, scale_atoms=True)
        atoms.calc = DeepSpinCalculator(reference.fe())
        dyn = LongitudinalSpinLangevin(
            atoms, 0.5 * FS, temperature_K=0, friction=None, gamma_L=0.5 / FS
        )
        positions = atoms.get_positions()
        dyn.run(600)
        spins = get_spins(atoms)
        assert np.linalg.norm(spins, axis=1) == pytest.approx(2.36, abs=0.01)
        assert np.ptp(spins, axis=0).max() < 1e-3
        assert (atoms.positions == positions).all()
        field = dyn.prediction.magnetic_forces
        assert float(field.abs().max()) < 1e-4

    def test_weak_second_order(self):
        # The mean of f(m) after one step, by Gauss-Hermite quadrature over the six
        # random numbers of a moment, against f + h L f + h^2/2 L^2 f with the
        # generator L of the equation of motion.
        potential = Sum(
            [
                DOUBLE_WELL,
                Zeeman((100.0, 0, 150.0)),
                UniaxialAnisotropy(0.05, (1, 1, 0)),
            ]
        )
        start = torch.tensor([0.9, -0.7, 1.2], dtype=torch.float64, requires_grad=True)
        relaxation, kT = 0.3 / FS, 0.02
        nodes = np.array(list(itertools.product([-(3**0.5), 0, 3**0.5], repeat=6)))
        weights = np.where(nodes == 0, 2 / 3, 1 / 6).prod(axis=1)

        def one_step(h):
            atoms = moments(potential, len(nodes), start.detach().numpy())
            dyn = LongitudinalSpinLangevin(
                atoms, h, temperature_K=kT / KB, friction=None, gamma_L=relaxation
            )
            draws = iter(torch.from_numpy(nodes).split(3, dim=1))
            dyn.context.normal = lambda: next(draws)
            dyn.step()
            return dyn.state.system.spins

        def energy(m):
            square = m @ m
            along = (m[0] + m[1]) ** 2 / 2
            field = 100.0 * m[0] + 150.0 * m[2]
            landau = -0.04 * square + 0.005 * square**2
            return landau - MU_B * field - 0.05 * along / square

        def gradient(f, m):
            return torch.autograd.grad(f(m), m, create_graph=True)[0]

        def generator(f):
            def applied(m):
                field = -gradient(energy, m)
                drift = -GAMMA * torch.linalg.cross(m, field) + relaxation * field
                slope = gradient(f, m)
                laplacian = sum(
                    torch.autograd.grad(slope[k], m, create_graph=True)[0][k]
                    if slope.requires_grad
                    else 0.0
                    for k in range(3)
                )
                return slope @ drift + relaxation * kT * laplacian

            return applied

        for f in (
            lambda m: m[0],
            lambda m: m[2],
            lambda m: (m * m).sum(0),
            lambda m: m[0] * m[1],
            lambda m: m[1] ** 3,
        ):
            first, second = generator(f), generator(generator(f))
            errors = []
            for h in (0.2 * FS, 0.1 * FS):
                values = f(one_step(h).T)
                mean = float(torch.from_numpy(weights) @ values)
                exact = f(start) + h * first(start) + h**2 / 2 * second(start)
                errors.append(mean - float(exact.detach()))
            assert errors[0] / errors[1] == pytest.approx(8.0, rel=0.05)


class TestSampling:
    def test_harmonic_well_obeys_equipartition(self):
        # <m^2> = 3 kT/k; at x = dt gamma_L k, the scheme itself gives this times
        # (1 - x + x^2/2)/(1 - x + x^2/2 - x^3/8).
        k, x = 0.1, 0.4
        atoms = moments(Landau((k / 2,)), 2000, (0.5, 0, 0))
        dyn = LongitudinalSpinLangevin(
            atoms,
            FS,
            temperature_K=[100, 800],
            friction=None,
            gamma_L=x / (k * FS),
            rng=1,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = samples(dyn, skip=20, every=8, count=15)
        squares = (found**2).sum(2).reshape(15, 2, 2000).mean((0, 2))
        bias = (1 - x + x**2 / 2) / (1 - x + x**2 / 2 - x**3 / 8)
        exact = 3 * KB * np.array([100, 800]) / k * bias
        # 15 x 2000 x 3 numbers: the variance is known to 0.5 %.
        assert squares == pytest.approx(exact, rel=0.015)

    def test_lengths_and_directions_against_quadrature(self):
        # exp(-E/kT) d^3m with a field along z: p(|m|) ~ |m|^2 exp(-E_L/kT) sinh(c)/c,
        # c = |m| B/kT, and <m_z> = <|m| (coth c - 1/c)>.
        temperature, field = 300.0, 500.0
        kT, b = KB * temperature, field * MU_B
        atoms = moments(DOUBLE_WELL + Zeeman((0, 0, field)), 3000)
        dyn = LongitudinalSpinLangevin(
            atoms,
            FS,
            temperature_K=temperature,
            friction=None,
            gamma_L=1.0 / FS,
            rng=2,
        )
        found = samples(dyn, skip=400, every=50, count=20)

        def density(m):
            c = m * b / kT
            landau = -0.04 * m**2 + 0.005 * m**4
            return m**2 * np.exp(-landau / kT) * np.sinh(c) / c

        def mean(f, low=1e-9, high=6.0):
            return quad(lambda m: f(m) * density(m), low, high)[0]

        norm = mean(lambda m: 1.0)
        lengths = np.linalg.norm(found, axis=2)
        langevin = mean(lambda m: m / np.tanh(m * b / kT) - kT / b) / norm
        second = mean(lambda m: m**2) / norm
        assert found[:, :, 2].mean() == pytest.approx(langevin, rel=0.01)
        assert np.abs(found[:, :, :2].mean((0, 1))).max() < 0.03
        assert (lengths**2).mean() == pytest.approx(second, rel=0.01)
        edges = np.linspace(0, 4, 17)
        counts = np.histogram(lengths, edges)[0] / lengths.size
        exact = [
            mean(lambda m: 1.0, max(a, 1e-9), b) / norm
            for a, b in itertools.pairwise(edges)
        ]
        assert np.abs(counts - exact).max() < 0.006

    def test_coupled_moments_and_the_temperature_estimator(self):
        # E = k/2 (m1^2 + m2^2) - J m1.m2: <m1.m2> = 3 kT J/(k^2 - J^2).
        k, coupling, temperature, pairs = 0.2, 0.12, 400.0, 1000
        centres = np.repeat(np.arange(pairs) * 10.0, 2)
        centres[1::2] += 2.5
        atoms = Atoms("Fe" * 2 * pairs, [(x, 0, 0) for x in centres])
        set_spins(atoms, np.random.default_rng(0).normal(0, 0.6, (2 * pairs, 3)))
        potential = Landau((k / 2,)) + MomentExchange(Shells([(2.5, coupling)]))
        atoms.calc = DeepSpinCalculator(potential)
        dyn = LongitudinalSpinLangevin(
            atoms,
            0.5 * FS,
            temperature_K=temperature,
            friction=None,
            gamma_L=1.0 / FS,
            rng=4,
        )
        found = samples(dyn, skip=100, every=40, count=15)
        kT = KB * temperature
        product = (found[:, ::2] * found[:, 1::2]).sum(2).mean()
        exact = 3 * kT * coupling / (k**2 - coupling**2)
        assert product == pytest.approx(exact, rel=0.03)
        assert float(dyn.spin_temperature()[0]) == pytest.approx(temperature, rel=0.08)

    def test_atoms_and_moments_at_the_bath_temperature(self):
        atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(2)
        set_spins(atoms, {"Fe": 2.36})
        thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(5))
        atoms.calc = DeepSpinCalculator(reference.fe())
        dyn = LongitudinalSpinLangevin(
            atoms,
            0.5 * FS,
            temperature_K=[300.0] * 6,
            friction=0.05 / FS,
            gamma_L=0.3 / FS,
            rng=6,
        )
        dyn.run(150)
        kinetic, spins = [], []
        for _ in range(40):
            dyn.run(10)
            momenta = dyn.state.momenta
            kinetic.append(float((momenta**2 / dyn.mass).mean()) / KB)
            spins.append(float(dyn.spin_temperature().mean()))
        assert np.mean(kinetic) == pytest.approx(300, rel=0.05)
        assert np.mean(spins) == pytest.approx(300, rel=0.08)


def stretched() -> Atoms:
    """Return a few coupled atoms with springs, moments, and one without a moment."""
    atoms = Atoms("Fe4", [(0, 0, 0), (2.4, 0, 0), (0, 2.5, 0), (0.1, 0, 2.6)])
    set_spins(atoms, [(2, 0, 0.3), (1.8, 0.2, 0), (1.9, 0, 0), (0, 0, 0)])
    potential = Sum(
        [
            DOUBLE_WELL,
            Heisenberg(CubicCut(0.2, 5.0)),
            Harmonic(3.0, 2.5, cutoff=5.0),
        ]
    )
    atoms.calc = DeepSpinCalculator(potential)
    return atoms


def driver(atoms: Atoms, **changes) -> LongitudinalSpinLangevin:
    settings = {"temperature_K": 500, "friction": 0.02 / FS, "gamma_L": 0.3 / FS}
    return LongitudinalSpinLangevin(atoms, FS, **(settings | {"rng": 7} | changes))


class TestDriver:
    def test_lengths_follow_the_moments_and_zero_stays_zero(self):
        atoms = stretched()
        dyn = driver(atoms)
        dyn.run(20)
        lengths = np.linalg.norm(get_spins(atoms), axis=1)
        assert dyn.lengths[:, 0].numpy() == pytest.approx(lengths, abs=1e-14)
        assert np.abs(lengths[:3] - [2.02, 1.81, 1.9]).min() > 0.01
        assert (get_spins(atoms)[3] == 0).all()

    def test_constraints(self):
        atoms = stretched()
        before = atoms.copy()
        atoms.set_constraint([FixAtoms([0]), FixSpins([1])])
        driver(atoms).run(10)
        assert (atoms.positions[0] == before.positions[0]).all()
        assert (get_spins(atoms)[1] == get_spins(before)[1]).all()
        assert (atoms.positions[1:] != before.positions[1:]).any(axis=1).all()
        assert (get_spins(atoms)[[0, 2]] != get_spins(before)[[0, 2]]).all()

    def test_fixed_moments_do_not_count_in_the_temperature(self):
        atoms = stretched()
        atoms.set_constraint(FixSpins([1, 2]))
        dyn = driver(atoms)
        field = dyn.prediction.magnetic_forces[0].numpy()
        exact = -(get_spins(atoms)[0] @ field) / (3 * KB)
        assert float(dyn.spin_temperature()[0]) == pytest.approx(exact)
        alone = equipartition_temperature(
            dyn.state.system, dyn.prediction.magnetic_forces
        )
        assert float(alone[0]) != pytest.approx(exact)

    def test_two_model_calls_a_step(self):
        for friction in (None, 0.01 / FS):
            dyn = driver(stretched(), friction=friction)
            dyn.run(10)
            assert dyn.engine.n_calls <= 22

    def test_replicas_have_their_own_temperature(self):
        atoms = moments(Landau((0.05,)), 300)
        dyn = driver(atoms, friction=None, temperature_K=[0, 600])
        dyn.run(100)
        cold, hot = (get_spins(image) for image in dyn.images)
        assert np.ptp(cold, axis=0).max() == 0.0
        assert hot.std() > 0.3

    def test_set_temperature(self):
        dyn = driver(moments(Landau((0.05,)), 300), friction=None)
        dyn.set_temperature(0)
        dyn.run(5)
        assert np.ptp(get_spins(dyn.images[0]), axis=0).max() == 0.0

    @pytest.mark.parametrize("friction", [None, 0.02 / FS])
    def test_restart_is_exact(self, friction, tmp_path):
        atoms = stretched()
        dyn = driver(atoms, friction=friction)
        dyn.run(7)
        dyn.set_temperature(350)
        dyn.save(tmp_path / "run.ckpt")
        dyn.run(9)
        again = LongitudinalSpinLangevin.restore(tmp_path / "run.ckpt")
        again.run(9)
        other = again.images[0]
        assert (get_spins(other) == get_spins(atoms)).all()
        assert (other.positions == atoms.positions).all()
        assert (other.get_momenta() == atoms.get_momenta()).all()
        assert torch.equal(again.lengths, dyn.lengths)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"temperature_K": -1}, "temperature_K must be finite and >= 0"),
            ({"gamma_L": -0.1}, "gamma_L must be finite and >= 0"),
            ({"friction": -1.0}, "friction must be finite and >= 0"),
            ({"gamma_L": [0.1, 0.2]}, "gamma_L must be one number"),
        ],
    )
    def test_bad_values(self, changes, message):
        with pytest.raises(ValueError, match=message):
            driver(stretched(), **changes)

    def test_friction_must_be_said(self):
        with pytest.raises(TypeError, match="friction"):
            LongitudinalSpinLangevin(stretched(), FS, temperature_K=1, gamma_L=0.1)

    def test_large_turns_warn(self):
        atoms = moments(Zeeman((0, 0, 5000.0)))
        dyn = driver(atoms, friction=None)
        with pytest.warns(UserWarning, match="a spin rotates by"):
            dyn.run(1)

    def test_longitudinal_fields_do_not_warn(self):
        # A steep Landau term, 2 eV/mu_B along the moment, turns nothing.
        dyn = driver(moments(Landau((0.5,))), friction=None)
        dyn.run(1)
