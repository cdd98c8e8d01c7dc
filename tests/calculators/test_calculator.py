from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import (
    CalculationFailed,
    PropertyNotImplementedError,
)
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import Trajectory
from ase.mep import NEB
from ase.optimize import BFGS

from deepspin_ase import (
    DeepSpinCalculator,
    get_spins,
    random_directions,
    rotate_spins,
    set_spins,
)
from deepspin_ase.potentials import (
    Committee,
    DzyaloshinskiiMoriya,
    Heisenberg,
    LennardJones,
    Potential,
    Sum,
    UniaxialAnisotropy,
    Zeeman,
    save_potential,
)
from deepspin_ase.potentials.radial import CubicCut
from deepspin_ase.units import MU_B

LEVI_CIVITA = np.cross(np.eye(3)[:, None], np.eye(3)[None]).transpose(2, 0, 1)


def hamiltonian(coupling: float = 0.05) -> Potential:
    """Return exchange, DM and anisotropy on a Lennard-Jones lattice, all smooth."""
    return Sum(
        [
            LennardJones(0.3, 2.25, cutoff=4.5),
            Heisenberg(CubicCut(coupling, 3.75)),
            DzyaloshinskiiMoriya(CubicCut(0.02, 3.75)),
            UniaxialAnisotropy(0.01, (0, 0, 1)),
        ]
    )


@pytest.fixture
def iron() -> Atoms:
    atoms = bulk("Fe", cubic=True) * (2, 2, 2)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * np.tri(3)), scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    set_spins(atoms, {"Fe": 2.2}, pattern=random_directions(2))
    return atoms


class Counting(Potential):
    """A Potential that counts how often it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = hamiltonian()
        self.n_calls = 0

    @property
    def cutoff(self) -> float:
        return self.inner.cutoff

    def forward(self, system, pairs):
        self.n_calls += 1
        return self.inner(system, pairs)


class Knows(Potential):
    """A network-like potential of known elements, for input checks."""

    def __init__(self, species, magnetic) -> None:
        super().__init__()
        self.species, self.magnetic_species = frozenset(species), frozenset(magnetic)

    def forward(self, system, pairs):
        return system.spins.square().sum(1)


class TestDerivatives:
    def test_forces_and_stress_against_ase_finite_differences(self, iron):
        iron.calc = DeepSpinCalculator(hamiltonian())
        forces, stress = iron.get_forces(), iron.get_stress()
        numerical = calculate_numerical_forces(iron, eps=1e-4)
        np.testing.assert_allclose(forces, numerical, atol=1e-7)
        numerical = calculate_numerical_stress(iron, eps=1e-5)
        np.testing.assert_allclose(stress, numerical, atol=1e-8)

    @pytest.mark.parametrize("field", [None, (3.0, -20.0, 50.0)])
    def test_magnetic_forces_against_finite_differences(self, iron, field):
        iron.calc = DeepSpinCalculator(hamiltonian(), external_field_T=field)
        magnetic_forces = iron.calc.get_magnetic_forces(iron)
        spins, step = get_spins(iron), 1e-4
        for atom, axis in [(0, 0), (3, 1), (7, 2), (15, 0)]:
            energies = []
            for sign in (1, -1):
                moved = spins.copy()
                moved[atom, axis] += sign * step
                set_spins(iron, moved)
                energies.append(iron.get_potential_energy())
            assert magnetic_forces[atom, axis] == pytest.approx(
                (energies[1] - energies[0]) / (2 * step), abs=1e-8
            )

    def test_torques_are_the_work_of_turning(self, iron):
        iron.calc = DeepSpinCalculator(hamiltonian())
        torques = iron.calc.get_torques(iron)
        np.testing.assert_allclose(
            torques, np.cross(get_spins(iron), iron.calc.get_magnetic_forces(iron))
        )
        energies = []
        for angle in (0.01, -0.01):
            turned = iron.copy()
            rotate_spins(turned, angle, axis="y", indices=[4])
            turned.calc = iron.calc
            energies.append(turned.get_potential_energy())
        work = (energies[1] - energies[0]) / np.radians(0.02)
        assert torques[4, 1] == pytest.approx(work, rel=1e-6)

    def test_virial_is_minus_the_unsymmetrised_strain_derivative(self, iron):
        iron.calc = DeepSpinCalculator(hamiltonian())
        iron.get_potential_energy()
        virial = iron.calc.results["virial"]
        numerical = np.zeros((3, 3))
        for a, b in np.ndindex(3, 3):
            for sign in (1, -1):
                strained = iron.copy()
                strain = np.eye(3)
                strain[a, b] += sign * 1e-5
                strained.set_cell(iron.cell @ strain.T, scale_atoms=True)
                strained.calc = iron.calc
                numerical[a, b] -= sign * strained.get_potential_energy() / 2e-5
        np.testing.assert_allclose(virial, numerical, atol=1e-6)

    def test_antisymmetric_virial_balances_the_torques(self, iron):
        """Turning lattice and spins together costs nothing without fixed axes."""
        iron.calc = DeepSpinCalculator(DzyaloshinskiiMoriya(CubicCut(0.02, 3.75)))
        torque = iron.calc.get_torques(iron).sum(0)
        virial = iron.calc.results["virial"]
        assert np.abs(torque).max() > 1e-3
        antisymmetric = np.einsum("abc,cb->a", LEVI_CIVITA, virial)
        np.testing.assert_allclose(antisymmetric, -torque, atol=1e-12)

    def test_invariance(self, iron):
        calc = DeepSpinCalculator(hamiltonian() + Heisenberg(CubicCut(0.1, 3.0)))
        isotropic = DeepSpinCalculator(DzyaloshinskiiMoriya(CubicCut(0.02, 3.75)))
        energy = calc.get_potential_energy(iron)
        shifted = iron.copy()
        shifted.translate((0.3, -7.0, 11.0))
        assert calc.get_potential_energy(shifted) == pytest.approx(energy, abs=1e-10)
        shifted.wrap()
        assert calc.get_potential_energy(shifted) == pytest.approx(energy, abs=1e-10)
        permuted = iron[np.random.default_rng(0).permutation(len(iron))]
        assert calc.get_potential_energy(permuted) == pytest.approx(energy, abs=1e-10)
        repeated = iron * (2, 1, 1)
        assert calc.get_potential_energy(repeated) == pytest.approx(2 * energy)
        turned = iron.copy()
        rotate_spins(turned, 71.0, axis=(1, 2, 3), lattice=True)
        assert isotropic.get_potential_energy(turned) == pytest.approx(
            isotropic.get_potential_energy(iron), abs=1e-10
        )


class TestField:
    def test_zeeman_energy(self, iron):
        field = np.array([1.0, 2.0, -5.0])
        calc = DeepSpinCalculator(hamiltonian())
        without = calc.get_potential_energy(iron)
        forces, magnetic = calc.get_forces(iron), calc.get_magnetic_forces(iron)
        calc.external_field_T = field
        zeeman = -MU_B * get_spins(iron) @ field
        assert calc.get_potential_energy(iron) - without == pytest.approx(zeeman.sum())
        assert calc.results["energies"].sum() == pytest.approx(calc.results["energy"])
        np.testing.assert_allclose(
            calc.get_magnetic_forces(iron) - magnetic,
            np.tile(MU_B * field, (len(iron), 1)),
            atol=1e-14,
        )
        np.testing.assert_array_equal(calc.get_forces(iron), forces)

    def test_assignment_clears_the_results(self, iron):
        calc = iron.calc = DeepSpinCalculator(hamiltonian())
        without = iron.get_potential_energy()
        calc.external_field_T = (0, 0, 100)
        assert not calc.results
        assert calc.external_field_T == (0.0, 0.0, 100.0)
        assert iron.get_potential_energy() != without
        calc.set(external_field_T=None)
        assert iron.get_potential_energy() == without

    @pytest.mark.parametrize("field", [1.0, (0, 1), (0, 0, np.nan), np.zeros((2, 3))])
    def test_malformed_field(self, field):
        with pytest.raises(ValueError, match="three finite numbers in tesla"):
            DeepSpinCalculator(hamiltonian(), external_field_T=field)

    def test_a_field_acts_on_moments_that_the_potential_ignores(self, iron):
        calc = DeepSpinCalculator(LennardJones(0.3, 2.25), external_field_T=(0, 0, 1))
        np.testing.assert_allclose(calc.get_magnetic_forces(iron)[:, 2], MU_B)


class TestCache:
    def test_one_evaluation_gives_everything(self, iron):
        calc = iron.calc = DeepSpinCalculator(Counting())
        iron.get_potential_energy()
        iron.get_potential_energy(force_consistent=True)
        iron.get_potential_energies()
        iron.get_forces()
        iron.get_stress()
        calc.get_torques(iron)
        calc.get_magnetic_forces(iron)
        calc.get_property("virial", iron)
        assert calc.potential.n_calls == 1

    def test_every_change_counts(self, iron):
        calc = iron.calc = DeepSpinCalculator(Counting())

        def evaluations() -> int:
            before = calc.potential.n_calls
            iron.get_forces()
            return calc.potential.n_calls - before

        assert evaluations() == 1
        assert evaluations() == 0
        iron.positions[3, 1] += 1e-10
        assert evaluations() == 1
        iron.arrays["initial_magmoms"][5, 0] += 1e-10
        assert evaluations() == 1
        set_spins(iron, np.linalg.norm(get_spins(iron), axis=1))
        assert evaluations() == 1
        iron.cell[0, 0] += 1e-10
        assert evaluations() == 1
        iron.pbc = (True, True, False)
        assert evaluations() == 1
        iron.set_initial_charges(np.ones(len(iron)))
        iron.info["note"] = 1
        assert evaluations() == 0

    def test_neighbour_list_is_kept_within_the_skin(self, iron):
        calc = iron.calc = DeepSpinCalculator(hamiltonian(), skin=1.0)
        fresh = DeepSpinCalculator(hamiltonian(), skin=0.0)
        for seed in range(4):
            iron.rattle(0.02, seed=seed)
            np.testing.assert_allclose(
                iron.get_forces(), fresh.get_forces(iron), atol=1e-12
            )
        assert calc.compiled.neighbors.n_builds == 1
        assert fresh.compiled.neighbors.n_builds == 4

    def test_results_are_copies(self, iron):
        calc = DeepSpinCalculator(hamiltonian())
        calc.get_torques(iron)[:] = 0.0
        assert calc.get_torques(iron).any()


class TestResults:
    def test_no_stress_without_three_periodic_directions(self, iron):
        iron.pbc = (True, True, False)
        iron.calc = DeepSpinCalculator(hamiltonian())
        assert np.isfinite(iron.get_forces()).all()
        with pytest.raises(PropertyNotImplementedError):
            iron.get_stress()
        cluster = Atoms("Fe2", [(0, 0, 0), (0, 0, 2.3)], magmoms=[2, -2])
        cluster.calc = DeepSpinCalculator(hamiltonian())
        cluster.get_potential_energy()
        assert "stress" not in cluster.calc.results
        assert np.isfinite(cluster.calc.results["virial"]).all()

    def test_ase_names_pass_through_get_properties(self, iron):
        iron.calc = DeepSpinCalculator(hamiltonian())
        properties = iron.get_properties(["energy", "forces", "stress"])
        assert properties["energy"] == iron.get_potential_energy()
        assert "torques" not in properties

    def test_committee_adds_deviations(self, iron):
        members = [hamiltonian(0.04), hamiltonian(0.06)]
        separate = [DeepSpinCalculator(m) for m in members]
        iron.calc = DeepSpinCalculator(Committee(members), external_field_T=(0, 0, 9))
        energy = [c.get_potential_energy(iron) for c in separate]
        magnetic = np.array([c.get_magnetic_forces(iron) for c in separate])
        forces = np.array([c.get_forces(iron) for c in separate])
        get = iron.calc.get_property
        assert get("energy_deviation", iron) == pytest.approx(np.std(energy))
        np.testing.assert_allclose(
            get("magnetic_forces_deviation", iron), magnetic.std(0), atol=1e-12
        )
        np.testing.assert_allclose(
            get("forces_deviation", iron), forces.std(0), atol=1e-12
        )
        assert get("virial_deviation", iron).shape == (3, 3)
        with pytest.raises(PropertyNotImplementedError):
            separate[0].get_property("forces_deviation", iron)

    def test_a_committee_in_a_sum_keeps_its_deviations(self, iron):
        committee = Committee([hamiltonian(0.04), hamiltonian(0.06)])
        alone = DeepSpinCalculator(committee)
        summed = DeepSpinCalculator(Sum([LennardJones(0.1, 2.0), committee]))
        name = "forces_deviation"
        np.testing.assert_allclose(
            summed.get_property(name, iron), alone.get_property(name, iron)
        )

    def test_single_precision(self, iron):
        double = DeepSpinCalculator(hamiltonian())
        single = DeepSpinCalculator(hamiltonian(), dtype="float32")
        assert single.get_forces(iron).dtype == np.float64
        error = np.abs(single.get_forces(iron) - double.get_forces(iron)).max()
        assert 0 < error < 1e-5
        named = DeepSpinCalculator(hamiltonian(), dtype=torch.float32)
        np.testing.assert_array_equal(named.get_forces(iron), single.get_forces(iron))


class TestModel:
    def test_from_a_file(self, iron, tmp_path):
        save_potential(tmp_path / "model.pt", hamiltonian())
        iron.calc = DeepSpinCalculator(tmp_path / "model.pt")
        expected = DeepSpinCalculator(hamiltonian()).get_potential_energy(iron)
        assert iron.get_potential_energy() == expected

    def test_a_potential_is_copied(self):
        class Scaled(Knows):
            def __init__(self) -> None:
                super().__init__([26], [26])
                self.layer = torch.nn.Linear(1, 1, dtype=torch.float64)

        mine = Scaled().train()
        DeepSpinCalculator(mine, dtype="float32")
        assert mine.training
        assert mine.layer.weight.requires_grad
        assert mine.layer.weight.dtype == torch.float64

    def test_todict_is_json(self, tmp_path):
        calc = DeepSpinCalculator(hamiltonian(), external_field_T=np.ones(3))
        assert json.loads(json.dumps(calc.todict())) == {
            "model": "Sum",
            "device": str(calc.device),
            "dtype": "float64",
            "backend": "fused",
            "skin": 0.5,
            "external_field_T": [1.0, 1.0, 1.0],
        }
        save_potential(tmp_path / "model.pt", hamiltonian())
        calc = DeepSpinCalculator(tmp_path / "model.pt")
        assert calc.todict()["model"] == str(tmp_path / "model.pt")
        assert calc.name == "deepspin"

    def test_bad_arguments(self):
        with pytest.raises(FileNotFoundError, match="neither a file nor a shipped"):
            DeepSpinCalculator("no_such_model")
        with pytest.raises(ValueError, match="'float64', 'float32' or 'mixed'"):
            DeepSpinCalculator(hamiltonian(), dtype="float16")
        with pytest.raises(ValueError, match="skin"):
            DeepSpinCalculator(hamiltonian(), skin=-1)
        with pytest.raises(ValueError, match="dtype cannot be changed"):
            DeepSpinCalculator(hamiltonian()).set(dtype="float32")


class TestBadInput:
    def test_unknown_element_is_refused_when_attached(self):
        nio = bulk("NiO", "rocksalt", a=4.17)
        with pytest.raises(ValueError, match="does not know the element Ni; it knows"):
            nio.calc = DeepSpinCalculator(Knows([8, 26], [26]))
        calc = DeepSpinCalculator(Knows([8, 26], [26]), external_field_T=(0, 0, 1))
        with pytest.raises(ValueError, match="does not know the element Ni"):
            nio.calc = calc
        set_spins(nio, {"Ni": 1})
        with pytest.raises(ValueError, match="does not know the element Ni"):
            calc.get_potential_energy(nio)

    def test_moment_on_a_non_magnetic_element(self):
        nio = bulk("NiO", "rocksalt", a=4.17)
        nio.calc = DeepSpinCalculator(Knows([8, 28], [28]))
        set_spins(nio, {"Ni": 1, "O": 0.1})
        with pytest.raises(ValueError, match="O carries a moment but is non-magnetic"):
            nio.get_potential_energy()

    def test_missing_and_malformed_moments(self, iron):
        iron.calc = DeepSpinCalculator(hamiltonian())
        energy = iron.get_potential_energy()
        spins = get_spins(iron)
        iron.set_initial_magnetic_moments(None)
        with pytest.raises(ValueError, match="carry no magnetic moments"):
            iron.get_potential_energy()
        iron.arrays["initial_magmoms"] = np.zeros((len(iron), 6))
        with pytest.raises(ValueError, match=r"shape \(16, 6\)"):
            iron.get_potential_energy()
        iron.arrays["initial_magmoms"] = np.full((len(iron), 3), np.nan)
        with pytest.raises(ValueError, match="moment of atom 0 is not finite"):
            iron.get_potential_energy()
        set_spins(iron, spins)
        assert iron.get_potential_energy() == energy

    def test_a_failure_leaves_no_results_of_other_atoms(self, iron):
        iron.calc = DeepSpinCalculator(hamiltonian())
        iron.get_potential_energy()
        iron.positions[1] = iron.positions[0]
        for _ in range(2):
            with pytest.raises(ValueError, match="coincide"):
                iron.get_properties(["energy"])
            with pytest.raises(ValueError, match="coincide"):
                iron.get_potential_energy()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_positions_that_are_not_finite(self, iron, value):
        iron.positions[2, 0] = value
        with pytest.raises(ValueError, match="position of atom 2 is not finite"):
            DeepSpinCalculator(hamiltonian()).get_potential_energy(iron)

    def test_coincident_atoms(self, iron):
        iron.positions[1] = iron.positions[0] + iron.cell[0]
        with pytest.raises(ValueError, match="0 and 1"):
            DeepSpinCalculator(hamiltonian()).get_potential_energy(iron)

    def test_empty_atoms(self):
        with pytest.raises(ValueError, match="empty"):
            DeepSpinCalculator(hamiltonian()).get_potential_energy(Atoms())

    def test_a_result_that_is_not_finite(self, iron):
        class Broken(Knows):
            def forward(self, system, pairs):
                return system.positions[:, 0] / 0.0

        iron.calc = DeepSpinCalculator(Broken([26], [26]))
        with pytest.raises(CalculationFailed, match="energy that is not finite"):
            iron.get_potential_energy()
        assert not iron.calc.results


class TestWithAse:
    def test_relaxation_and_trajectory(self, iron, tmp_path):
        iron.calc = DeepSpinCalculator(hamiltonian())
        before = iron.get_potential_energy()
        with BFGS(iron, logfile=None, trajectory=tmp_path / "relax.traj") as optimizer:
            optimizer.run(fmax=0.05, steps=100)
        assert iron.get_potential_energy() < before
        with Trajectory(tmp_path / "relax.traj") as trajectory:
            last = trajectory[-1]
        np.testing.assert_array_equal(get_spins(last), get_spins(iron))
        assert last.get_potential_energy() == iron.get_potential_energy()

    def test_nudged_elastic_band_with_vector_moments(self, iron):
        calc = DeepSpinCalculator(hamiltonian())
        images = [iron.copy() for _ in range(3)]
        images[-1].rattle(0.1, seed=5)
        for image in images:
            image.calc = calc
        band = NEB(images, method="improvedtangent", allow_shared_calculator=True)
        band.interpolate()
        assert np.isfinite(band.get_forces()).all()
        separate = DeepSpinCalculator(hamiltonian())
        assert images[1].get_potential_energy() == pytest.approx(
            separate.get_potential_energy(images[1])
        )

    def test_zeeman_potential_is_the_field(self, iron):
        field = (0.0, 3.0, 4.0)
        inside = DeepSpinCalculator(hamiltonian() + Zeeman(field))
        outside = DeepSpinCalculator(hamiltonian(), external_field_T=field)
        assert inside.get_potential_energy(iron) == pytest.approx(
            outside.get_potential_energy(iron)
        )
