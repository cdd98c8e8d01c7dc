"""Models of torch-sim: what ASE gives, for moments that are kept or relaxed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from structures import rocksalt_afm

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins
from deepspin_ase.optimize import AdiabaticMoments

ts = pytest.importorskip("torch_sim", reason="the extra torch-sim is missing")

from deepspin_ase.torchsim import DeepSpinModel, atoms_of, state_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")

STEP = torch.tensor(units.fs, dtype=torch.float64)


def oxide(seed: int) -> Atoms:
    atoms = rocksalt_afm(4.18, 1.277)
    cant_spins(atoms, 0.1, seed=seed)
    atoms.rattle(0.02, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def model() -> DeepSpinModel:
    return DeepSpinModel("NiO")


def test_batches_give_what_the_calculator_gives(model: DeepSpinModel) -> None:
    images = [oxide(1), oxide(2).repeat((2, 1, 1))]
    state = state_of(images, model)
    found = model(state)
    for k, atoms in enumerate(images):
        atoms.calc = DeepSpinCalculator("NiO")
        own = state.system_idx == k
        assert float(found["energy"][k]) == pytest.approx(
            atoms.get_potential_energy(), abs=1e-9
        )
        for name, expected in (
            ("forces", atoms.get_forces()),
            ("magnetic_forces", atoms.calc.get_magnetic_forces(atoms)),
            ("spins", get_spins(atoms)),
        ):
            np.testing.assert_allclose(found[name][own], expected, atol=1e-9)
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(found["stress"][k], stress, atol=1e-9)
    (last,) = atoms_of(state[[1]])
    np.testing.assert_array_equal(get_spins(last), get_spins(images[1]))


def test_nve_is_that_of_ase(model: DeepSpinModel) -> None:
    atoms = oxide(1)
    momenta = np.random.default_rng(0).normal(0.0, 1.0, (len(atoms), 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    state = ts.nve_init(state_of(atoms, model), model, kT=0.0 * STEP)
    state.momenta = torch.from_numpy(atoms.get_momenta())
    atoms.calc = DeepSpinCalculator("NiO")
    dynamics = VelocityVerlet(atoms, units.fs)
    for _ in range(20):
        state = ts.nve_step(state, model, dt=STEP)
        dynamics.run(1)
    np.testing.assert_allclose(state.positions, atoms.positions, atol=1e-9)
    assert float(state.energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_array_equal(state.spins, get_spins(atoms))


def test_fire_reaches_a_minimum(model: DeepSpinModel) -> None:
    final = ts.optimize(
        state_of([oxide(1), oxide(2)], model),
        model,
        optimizer=ts.Optimizer.fire,
        convergence_fn=ts.generate_force_convergence_fn(0.01),
        max_steps=500,
    )
    for k, atoms in enumerate(atoms_of(final)):
        atoms.calc = DeepSpinCalculator("NiO")
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.01
        assert float(final.energy[k]) == pytest.approx(
            atoms.get_potential_energy(), abs=1e-9
        )
        np.testing.assert_array_equal(get_spins(atoms), get_spins(oxide(k + 1)))


def test_relaxed_moments_are_those_of_the_minimum() -> None:
    model = DeepSpinModel("NiO", relax="directions")
    images = [oxide(1), oxide(2)]
    state = state_of(images, model)
    found = model(state)
    torques = torch.linalg.cross(found["spins"], found["magnetic_forces"])
    assert torques.abs().max() < 1e-5
    for k, atoms in enumerate(images):
        atoms.calc = AdiabaticMoments(DeepSpinCalculator("NiO"), "directions")
        assert float(found["energy"][k]) == pytest.approx(
            atoms.get_potential_energy(), abs=1e-9
        )


def test_energy_is_conserved_while_moments_follow() -> None:
    model = DeepSpinModel("NiO", relax="directions", magnetic_force_max=1e-7)
    state = ts.nve_init(state_of(oxide(1), model), model, kT=0.0 * STEP)
    state.momenta = torch.zeros_like(state.momenta)
    before, energies = state.spins, []
    for _ in range(25):
        state = ts.nve_step(state, model, dt=STEP)
        kinetic = 0.5 * (state.momenta**2 / state.masses[:, None]).sum()
        energies.append((float(state.energy), float(state.energy + kinetic)))
    potential, total = np.ptp(energies, axis=0)
    assert potential > 0.02 and total < 0.01 * potential
    assert (state.spins - before).abs().max() > 1e-4


def test_bad_input(model: DeepSpinModel) -> None:
    bare = Atoms("NiO", [(0, 0, 0), (2.1, 0, 0)], cell=[4.2] * 3, pbc=True)
    with pytest.raises(ValueError, match="moments"):
        state_of(bare, model)
    plain = ts.io.atoms_to_state([bare], model.device, model.dtype)
    with pytest.raises(ValueError, match="make it by deepspin_ase"):
        model(plain)
    with pytest.raises(ValueError, match="steps: for moments that relax only"):
        DeepSpinModel("NiO", steps=3)
    with pytest.raises(ValueError, match="what must be one of"):
        DeepSpinModel("NiO", relax="all")
