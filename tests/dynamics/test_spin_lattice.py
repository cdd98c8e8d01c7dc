"""Atoms and spins that move together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from ase.md.velocitydistribution import thermalize_momenta
from ase.neighborlist import neighbor_list
from networks import PSEUDO_ATOMS
from torch import Tensor

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    collinear,
    get_spins,
    random_directions,
    set_spins,
)
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics import (
    TSPIN,
    Midpoint,
    MonteCarlo,
    SpinDynamics,
    SpinLatticeLangevin,
    SpinLatticeNPT,
    SpinLatticeNVE,
)
from deepspin_ase.dynamics.integrators._acceleration import LinearPrediction
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    Harmonic,
    Heisenberg,
    LennardJones,
    Potential,
    Shells,
    Sum,
    TimeReversal,
    Zeeman,
    load_potential,
)
from deepspin_ase.potentials.materials import reference
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

FS = units.fs


def iron(repeat: int = 2, *, temperature: float = 200.0, canted: float = 0.02) -> Atoms:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(repeat)
    set_spins(atoms, {"Fe": 2.2}, pattern=collinear())
    cant_spins(atoms, canted, seed=1)
    thermalize_momenta(atoms, temperature, rng=np.random.default_rng(2))
    atoms.calc = DeepSpinCalculator(reference.fe())
    return atoms


#: Of a simple cubic Heisenberg magnet: J (eV) and the distance of neighbours (A).
COUPLING, DISTANCE = 0.02, 2.5


class CubicSprings(Potential):
    """Springs to the first and second neighbours of a simple cubic lattice."""

    uses_spins = False

    @property
    def cutoff(self) -> float:
        """Between the second and third neighbours, A."""
        return 1.6 * DISTANCE

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        lengths = pairs.vectors(system).norm(dim=1)
        near, far = DISTANCE, 2**0.5 * DISTANCE
        rest = torch.where(lengths < 1.2 * DISTANCE, near, far)
        stretched = 1.25 * (lengths - rest).square() * (lengths < self.cutoff)
        return torch.zeros_like(system.positions[:, 0]).index_add(0, pairs.i, stretched)


def magnet(repeat: int) -> Atoms:
    """Return spins whose couplings the motion of the lattice leaves as they are."""
    atoms = bulk("Fe", "sc", DISTANCE).repeat(repeat)
    set_spins(atoms, {"Fe": 2.0})
    exchange = Heisenberg(Shells([(DISTANCE, COUPLING)], tolerance=0.5))
    atoms.calc = DeepSpinCalculator(Sum([exchange, CubicSprings()]))
    return atoms


def nickel_oxide() -> Atoms:
    """Return the ordered crystal with a pseudo-atom network."""
    atoms = bulk("NiO", "rocksalt", 4.2166).repeat(2)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.2166)
    set_spins(atoms, {"Ni": 1.277}, pattern=order)
    atoms.calc = DeepSpinCalculator(TimeReversal(load_potential(PSEUDO_ATOMS)))
    return atoms


def leading_error(dyn: SpinLatticeNVE) -> float:
    """Return by how much the total energy exceeds what NVE conserves, eV, O(dt^2).

    Terms of the modified Hamiltonian of B/2 A B/2, and of the midpoint rule in steps
    of dt/2 (E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration,
    Springer 2006, IX.4 and IX.9): with the velocities v of atoms and w of spins,

        dt^2 (F.M^-1 F/24 + v.dF_w/24 - v.U''v/12 + w.E''w/96)

    where dF_w is the change of the forces along w, and E'' that of the energy by the
    spins on their spheres.
    """
    state, mass = dyn.state, dyn.mass
    spins, velocity = state.system.spins, state.momenta / mass
    forces, field = dyn.prediction.forces, dyn.prediction.magnetic_forces
    turning = torch.linalg.cross(dyn.precession.rate(spins, field), spins)

    def along(name: str, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return by how much forces and fields change where ``name`` moves."""
        step = 1e-3 / float(rate.norm(dim=1).max())
        place = getattr(state.system, name)
        ends = [
            dyn.engine.evaluate(state.system.replace(**{name: place + h * rate}))
            for h in (step, -step)
        ]
        return tuple(
            (getattr(ends[0], what) - getattr(ends[1], what)) / (2.0 * step)
            for what in ("forces", "magnetic_forces")
        )

    forces_along_spins, field_along_spins = along("spins", turning)
    forces_along_atoms, _ = along("positions", velocity)
    squared = (spins * spins).sum(1, keepdim=True)
    curved = (spins * field).sum(1, keepdim=True) / torch.where(
        squared > 0, squared, 1.0
    )
    error = (
        (forces * forces / mass).sum() / 24
        + (velocity * forces_along_spins).sum() / 24
        + (velocity * forces_along_atoms).sum() / 12
        + (turning * (curved * turning - field_along_spins)).sum() / 96
    )
    return float(dyn.dt**2 * error)


def energies(dyn: SpinLatticeNVE, steps: int, every: int = 20) -> np.ndarray:
    """Return the total energy along a run, and without its leading error, (2, n)."""
    found = []
    for _ in range(steps // every):
        dyn.run(every)
        total = float(dyn.conserved_energy()[0])
        found.append((total, total - leading_error(dyn)))
    return np.array(found).T


def rise(values: np.ndarray) -> float:
    """Return by how much the straight line through values rises from end to end."""
    return len(values) * float(np.polyfit(np.arange(len(values)), values, 1)[0])


def assert_runs_back(atoms: Atoms, steps: int) -> None:
    """With momenta and spins reversed, atoms come back to where they started."""
    positions, spins = atoms.positions.copy(), get_spins(atoms)
    momenta = atoms.get_momenta()
    SpinLatticeNVE(atoms, 0.5 * FS).run(steps)
    assert np.abs(get_spins(atoms) - spins).max() > 0.1
    atoms.set_momenta(-atoms.get_momenta())
    set_spins(atoms, -get_spins(atoms))
    SpinLatticeNVE(atoms, 0.5 * FS).run(steps)
    assert np.abs(atoms.positions - positions).max() < 1e-10
    assert np.abs(atoms.get_momenta() + momenta).max() < 1e-10
    assert np.abs(get_spins(atoms) + spins).max() < 1e-10


class TestNVE:
    def test_reversed_momenta_and_spins_run_back(self):
        assert_runs_back(iron(), 200)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
    @pytest.mark.slow
    @pytest.mark.parametrize("build", ["iron", "network", "magnet"])
    def test_a_thousand_steps_run_back(self, build):
        if build == "iron":
            atoms = iron()
        elif build == "network":
            # Near its order: further away, round-off grows tenfold every 20 fs.
            atoms = nickel_oxide()
            cant_spins(atoms, 0.03, seed=2)
            thermalize_momenta(atoms, 300, rng=np.random.default_rng(2))
        else:
            atoms = magnet(3)
            cant_spins(atoms, 0.05, seed=1)
            thermalize_momenta(atoms, 300, rng=np.random.default_rng(2))
        assert_runs_back(atoms, 1000)

    @pytest.mark.slow
    @pytest.mark.parametrize("build", ["iron", "network", "magnet"])
    def test_no_drift_over_twenty_picoseconds(self, build):
        if build == "iron":
            atoms, temperature = iron(3), 100.0
        elif build == "network":
            atoms, temperature = nickel_oxide(), 100.0
        else:
            atoms, temperature = magnet(3), 150.0
        SpinLatticeLangevin(
            atoms,
            1 * FS,
            temperature_K=temperature,
            friction=0.01 / FS,
            damping=0.1,
            rng=3,
        ).run(5000)
        scheme = Midpoint(tolerance=1e-7)
        dyn = SpinLatticeNVE(atoms, 1 * FS, spin_integrator=scheme)
        energy, conserved = energies(dyn, 20_000)
        assert conserved.std() < 0.2 * energy.std()
        assert abs(rise(conserved)) < energy.std()

    def test_drift_of_an_explicit_scheme_is_seen(self):
        atoms = magnet(3)
        cant_spins(atoms, 0.05, seed=1)
        thermalize_momenta(atoms, 300, rng=np.random.default_rng(2))
        dyn = SpinLatticeNVE(atoms, 1 * FS, spin_integrator="rotation")
        energy, conserved = energies(dyn, 400)
        assert abs(rise(conserved)) > 3.0 * energy.std()

    def test_energy_without_its_leading_error_is_conserved_to_fourth_order(self):
        def spread(timestep):
            dyn = SpinLatticeNVE(iron(), timestep * FS)
            dyn.run(int(8 / timestep))
            return energies(dyn, int(40 / timestep), 2).std(axis=1)

        coarse, fine = spread(0.5), spread(0.25)
        assert (coarse / fine)[0] == pytest.approx(4.0, abs=0.4)
        assert (coarse / fine)[1] > 12.0
        assert coarse[1] < 0.01 * coarse[0]

    def test_a_negative_time_step_runs_back_without_time_reversal_symmetry(self):
        # The network does not know that E(S) = E(-S); the integrator still is
        # symmetric in time.
        atoms = bulk("NiO", "rocksalt", 4.17).repeat((2, 1, 1))
        set_spins(atoms, [[0, 0.2, 1.7], [0, 0, 0], [0.3, 0, -1.7], [0, 0, 0]])
        thermalize_momenta(atoms, 300, rng=np.random.default_rng(2))
        atoms.calc = DeepSpinCalculator(PSEUDO_ATOMS)
        positions, spins = atoms.positions.copy(), get_spins(atoms)
        SpinLatticeNVE(atoms, 0.5 * FS).run(60)
        SpinLatticeNVE(atoms, -0.5 * FS).run(60)
        assert np.abs(atoms.positions - positions).max() < 1e-10
        assert np.abs(get_spins(atoms) - spins).max() < 1e-10

    def test_lengths_are_kept(self):
        atoms = iron()
        before = np.linalg.norm(get_spins(atoms), axis=1)
        SpinLatticeNVE(atoms, FS, spin_integrator="sib").run(50)
        after = np.linalg.norm(get_spins(atoms), axis=1)
        assert np.abs(after - before).max() < 1e-12

    def test_three_calls_a_step_without_drift(self):
        scheme = Midpoint(tolerance=1e-7)
        dyn = SpinLatticeNVE(iron(), 0.5 * FS, spin_integrator=scheme)
        dyn.run(60)  # predictions are learned
        first = float(dyn.conserved_energy()[0])
        calls = dyn.engine.n_calls
        dyn.run(200)
        assert dyn.engine.n_calls <= calls + 3 * 200
        drift = float(dyn.conserved_energy()[0]) - first
        assert abs(drift) / len(dyn.atoms) < 5e-5

    def test_drivers_may_share_a_scheme(self):
        # Settings are shared, what a scheme learns from earlier steps is not.
        def run(first, second):
            images = iron(canted=0.03), iron(canted=0.05)
            drivers = [
                SpinLatticeNVE(atoms, FS, spin_integrator=scheme)
                for atoms, scheme in zip(images, (first, second), strict=True)
            ]
            for _ in range(10):
                for dyn in drivers:
                    dyn.run(1)
            return images, [dyn.engine.n_calls for dyn in drivers]

        scheme = Midpoint(tolerance=1e-7)
        shared, calls = run(scheme, scheme)
        apart, expected = run(Midpoint(tolerance=1e-7), Midpoint(tolerance=1e-7))
        assert calls == expected
        for ours, own in zip(shared, apart, strict=True):
            assert np.array_equal(get_spins(ours), get_spins(own))
            assert np.array_equal(ours.positions, own.positions)

    def test_a_second_driver_leaves_the_memory_of_the_first(self):
        scheme = Midpoint(tolerance=1e-7)
        ours, own = iron(), iron()
        first = SpinLatticeNVE(ours, FS, spin_integrator=scheme)
        first.run(8)
        SpinLatticeNVE(iron(), FS, spin_integrator=scheme)
        first.run(8)
        SpinLatticeNVE(own, FS, spin_integrator=Midpoint(tolerance=1e-7)).run(16)
        assert np.array_equal(get_spins(ours), get_spins(own))

    def test_energy_flows_from_hot_spins_to_a_cold_lattice(self):
        atoms = iron(canted=0.1, temperature=1e-3)
        SpinLatticeNVE(atoms, FS, spin_integrator="sib").run(300)
        assert atoms.get_kinetic_energy() > 1e-4  # 2e-6 at the start

    def test_frozen_spins_give_velocity_verlet_like_lattice_dynamics(self):
        # ASE's own dynamics of the same forces, spins fixed.
        from ase.md.verlet import VelocityVerlet

        ours, theirs = iron(), iron()
        ours.set_constraint(FixSpins(range(len(ours))))
        start = get_spins(ours)
        SpinLatticeNVE(ours, 0.1 * FS).run(100)
        VelocityVerlet(theirs, 0.1 * FS).run(100)
        assert np.array_equal(get_spins(ours), start)
        assert ours.positions == pytest.approx(theirs.positions, abs=1e-5)

    def test_total_momentum_is_conserved_and_zeroed_on_request(self):
        atoms = iron()
        before = atoms.get_momenta().sum(axis=0)
        SpinLatticeNVE(atoms, FS, spin_integrator="sib").run(20)
        assert atoms.get_momenta().sum(axis=0) == pytest.approx(before, abs=1e-9)
        SpinLatticeNVE(atoms, FS, spin_integrator="sib", zero_momentum=True).run(20)
        assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9

    def test_a_batch_is_the_runs_one_by_one(self):
        images = [iron(canted=c) for c in (0.01, 0.02)]
        images.append(iron(1, canted=0.03))
        alone = [atoms.copy() for atoms in images]
        for atoms in alone:
            atoms.calc = images[0].calc
            SpinLatticeNVE(atoms, FS, spin_integrator="sib").run(20)
        for atoms in images:
            atoms.calc = alone[0].calc
        SpinLatticeNVE(images, FS, spin_integrator="sib").run(20)
        for ours, own in zip(images, alone, strict=True):
            assert ours.positions == pytest.approx(own.positions, abs=1e-10)
            assert get_spins(ours) == pytest.approx(get_spins(own), abs=1e-10)

    def test_any_calculator_with_magnetic_forces(self):
        class Own(DeepSpinCalculator):
            """Looks like a foreign calculator to the drivers."""

        class Foreign:
            def __init__(self):
                self.inner = Own(reference.fe())
                self.implemented_properties = self.inner.implemented_properties
                self.results = {}

            def get_property(self, name, atoms):
                value = self.inner.get_property(name, atoms)
                self.results = self.inner.results
                return value

        ours, theirs = iron(), iron()
        theirs.calc = Foreign()
        for atoms in (ours, theirs):
            SpinLatticeNVE(atoms, 0.5 * FS).run(10)
        assert theirs.positions == pytest.approx(ours.positions, abs=1e-11)
        assert get_spins(theirs) == pytest.approx(get_spins(ours), abs=1e-11)

    def test_a_single_precision_model_converges_as_far_as_it_can(self):
        atoms = iron()
        atoms.calc = DeepSpinCalculator(reference.fe(), dtype="float32")
        dyn = SpinLatticeNVE(atoms, 0.5 * FS)
        dyn.run(10)
        assert dyn.engine.n_calls < 22 * 10


class TestConstraints:
    def test_fixed_atoms_and_coordinates(self):
        atoms = iron()
        atoms.set_constraint(
            [FixAtoms([0, 3]), FixCartesian([5], mask=(True, False, True))]
        )
        start = atoms.positions.copy()
        SpinLatticeNVE(atoms, FS, spin_integrator="sib").run(20)
        moved = np.abs(atoms.positions - start)
        assert moved[[0, 3]].max() == 0
        assert moved[5, [0, 2]].max() == 0
        assert moved[5, 1] > 1e-4

    def test_constraints_that_ase_must_be_asked(self):
        atoms = iron()
        atoms.set_constraint(FixBondLength(0, 1))
        start = atoms.get_distance(0, 1)
        SpinLatticeNVE(atoms, FS, spin_integrator="sib").run(20)
        assert atoms.get_distance(0, 1) == pytest.approx(start, abs=1e-8)

    def test_fixed_spins(self):
        atoms = iron()
        atoms.set_constraint(FixSpins([2]))
        start = get_spins(atoms)
        SpinLatticeLangevin(
            atoms, FS, temperature_K=300, friction=0.01 / FS, damping=0.1, rng=1
        ).run(10)
        turned = np.abs(get_spins(atoms) - start).max(axis=1)
        assert turned[2] < 1e-14
        assert np.delete(turned, 2).min() > 1e-3


class TestLangevin:
    def test_equipartition_of_a_harmonic_crystal(self):
        atoms = bulk("Cu", "fcc", 3.6, cubic=True).repeat(2)
        set_spins(atoms, {"Cu": 1.0})
        atoms.calc = DeepSpinCalculator(
            Sum([Harmonic(2.0, 3.6 / np.sqrt(2), cutoff=3.0), Zeeman((0, 0, 50.0))])
        )
        dyn = SpinLatticeLangevin(
            atoms,
            4 * FS,
            temperature_K=[100.0] * 8 + [300.0] * 8,
            friction=0.02 / FS,
            damping=0.3,
            rng=4,
        )
        dyn.run(150)
        kinetic = []
        for _ in range(50):
            dyn.run(8)
            kinetic.append([i.get_temperature() for i in dyn.images])
        temperature = np.mean(kinetic, axis=0).reshape(2, 8).mean(axis=1)
        assert temperature == pytest.approx([100, 300], rel=0.03)

    def test_spins_and_lattice_at_temperatures_of_their_own(self):
        atoms = Atoms("Fe" * 300, [(12.0 * k, 0, 0) for k in range(300)])
        set_spins(atoms, {"Fe": 2.0}, pattern=random_directions(1))
        atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 300.0)))
        dyn = SpinLatticeLangevin(
            atoms,
            2 * FS,
            temperature_K=100,
            spin_temperature_K=600,
            friction=0.05 / FS,
            damping=1.0,
            rng=3,
        )
        dyn.run(200)
        lattice, along = [], []
        for _ in range(30):
            dyn.run(10)
            lattice.append(atoms.get_temperature())
            along.append(get_spins(atoms)[:, 2].mean() / 2)
        x = 2.0 * 300.0 * MU_B / (units.kB * 600)
        assert np.mean(lattice) == pytest.approx(100, rel=0.04)
        assert np.mean(along) == pytest.approx(1 / np.tanh(x) - 1 / x, abs=0.02)

    def test_two_calls_a_step(self):
        dyn = SpinLatticeLangevin(
            iron(), FS, temperature_K=300, friction=0.01 / FS, damping=0.1, rng=1
        )
        dyn.run(20)
        assert dyn.engine.n_calls <= 2 * 20 + 1

    def test_without_baths_energy_is_conserved(self):
        atoms = iron()
        before = atoms.get_total_energy()
        SpinLatticeLangevin(
            atoms,
            0.5 * FS,
            temperature_K=0,
            friction=0,
            damping=0,
            spin_integrator="sib",
        ).run(100)
        assert atoms.get_total_energy() == pytest.approx(before, abs=2e-5 * len(atoms))

    def test_new_temperatures_take_effect(self):
        dyn = SpinLatticeLangevin(
            iron(), FS, temperature_K=0, friction=0.05 / FS, damping=0.1, rng=1
        )
        dyn.run(100)
        cold = dyn.atoms.get_temperature()
        dyn.set_temperature(500)
        dyn.run(100)
        assert dyn.atoms.get_temperature() > 10 * cold + 100

    def test_replicas_have_random_numbers_of_their_own(self):
        dyn = SpinLatticeLangevin(
            iron(), FS, temperature_K=[300, 300], friction=0.05 / FS, damping=0.1, rng=1
        )
        dyn.run(5)
        first, second = dyn.images
        assert np.abs(first.get_momenta() - second.get_momenta()).max() > 0.1

    def test_negative_time_step(self):
        with pytest.raises(ValueError, match="timestep"):
            SpinLatticeLangevin(
                iron(1), -FS, temperature_K=300, friction=0.05 / FS, damping=0.1
            )

    def test_missing_temperature(self):
        with pytest.raises(TypeError, match="temperature_K"):
            SpinLatticeLangevin(iron(1), FS, friction=0.05 / FS, damping=0.1)


class TestMeanValues:
    """All ways to sample give the same averages: sc Heisenberg magnet, kT/J = 1."""

    @pytest.mark.slow
    def test_drivers_agree(self):
        heat = {"temperature_K": [COUPLING / units.kB] * 8}
        bath = heat | {"damping": 0.3}
        drivers = {
            "Monte Carlo": MonteCarlo(magnet(8), **heat, adaptation_steps=100, rng=1),
            "frozen": SpinDynamics(magnet(8), FS, **bath, rng=2),
            "Langevin": SpinLatticeLangevin(
                magnet(8), FS, **bath, friction=0.02 / FS, rng=3
            ),
            "NPT": SpinLatticeNPT(magnet(8), FS, **bath, pressure_GPa=0, rng=4),
            "TSPIN": TSPIN(magnet(8), FS, **heat, rng=5),
        }
        i, j = neighbor_list("ij", magnet(8), DISTANCE + 0.1)
        found = {}
        for name, dyn in drivers.items():
            steps = 4 if name == "Monte Carlo" else 20
            dyn.run(30 * steps)
            cosines = []
            for _ in range(40):
                dyn.run(steps)
                e = np.array([get_spins(image) for image in dyn.images]) / 2.0
                cosines.append((e[:, i] * e[:, j]).sum(axis=2).mean(axis=1))
            means = np.mean(cosines, axis=0)
            found[name] = means.mean(), means.std(ddof=1) / np.sqrt(8)
        mean, error = found.pop("Monte Carlo")
        for name, (other, its_error) in found.items():
            assert abs(other - mean) < 4 * np.hypot(error, its_error), (name, found)


class Springs(Potential):
    """Binds atoms to where they are, and moments to z."""

    uses_spins = True

    @property
    def cutoff(self) -> float:
        """Some distance, so that there is a pair list, A."""
        return 3.0

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        at_rest = system.positions.detach().round()
        return (system.positions - at_rest).square().sum(1) - 0.01 * system.spins[:, 2]


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_a_step_waits_for_the_device_two_or_three_times_a_call(monkeypatch, ensemble):
    # For the reach of the pair list, for finite results, and to end an iteration.
    atoms = iron()
    atoms.calc = DeepSpinCalculator(Springs())
    if ensemble == "nve":
        dyn = SpinLatticeNVE(atoms, 0.5 * FS)
    else:
        heat = {"temperature_K": 300, "friction": 0.01 / FS, "damping": 0.1}
        dyn = SpinLatticeLangevin(atoms, 0.5 * FS, **heat, rng=1)
    dyn.run(1)
    waits = []
    for name in ("__bool__", "__float__", "__int__", "item", "tolist", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, original=original, name=name):
            waits.append(name)
            return original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    before = dyn.engine.n_calls
    for _ in range(5):
        dyn.step()
    calls = dyn.engine.n_calls - before
    assert calls > 0
    assert len(waits) <= (3 if ensemble == "nve" else 2) * calls


def test_linear_prediction_continues_oscillations():
    times = 0.3 * torch.arange(60, dtype=torch.float64)[:, None, None]
    phases = torch.linspace(0, 6, 30, dtype=torch.float64).reshape(10, 3)
    signal = sum(torch.cos(w * times + w**2 * phases) for w in (0.0, 0.1, 0.7, 1.0))
    prediction = LinearPrediction()
    errors = []
    for now, then in pairwise(signal):
        prediction.append(now)
        errors.append(float((prediction.next() - then).abs().max()))
    assert errors[10] > 1e-5  # the polynomial of the beginning
    assert max(errors[40:]) < 1e-9


def test_lennard_jones_lattice_is_untouched_by_free_spins():
    atoms = bulk("Ar", "fcc", 5.3, cubic=True)
    set_spins(atoms, {"Ar": 1.0})
    atoms.calc = DeepSpinCalculator(LennardJones(0.0104, 3.4, cutoff=8.0))
    thermalize_momenta(atoms, 40, rng=np.random.default_rng(1))
    dyn = SpinLatticeNVE(atoms, 2 * FS)
    dyn.run(20)
    assert dyn.engine.n_calls <= 2 * 20 + 1
    assert get_spins(atoms) == pytest.approx(np.tile([0, 0, 1.0], (4, 1)))
