"""Calculators as Potentials: the same numbers in every driver and analysis."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from calculators import Foreign
from structures import iron

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import (
    CollectiveRotation,
    SpinLatticeNEB,
    SpinWaves,
    cartesian_hessian,
    curie_temperature,
    exchange_tensors,
    interpolate,
    scan_landscape,
)
from deepspin_ase.analysis._model import model_of
from deepspin_ase.analysis.hessians import CartesianHessian
from deepspin_ase.analysis.transitions._thermal_sampling import (
    SamplingTask,
    ThermalSamples,
    model_data,
    run_sampling,
)
from deepspin_ase.dynamics import MonteCarlo, SpinLatticeNPT, SpinLatticeNVE
from deepspin_ase.optimize import relax, relax_batch, relax_spins
from deepspin_ase.potentials import (
    CubicCut,
    Heisenberg,
    Potential,
    PotentialOf,
    UniaxialAnisotropy,
    reference,
    save_potential,
)
from deepspin_ase.system import System
from deepspin_ase.testing import check_potential

MAGNET = Heisenberg(CubicCut(0.3, 2.7)) + UniaxialAnisotropy(0.001, (0, 0, 1))

#: Moments order at about 1,000 K.
STRONG = Heisenberg(CubicCut(0.6, 4.0))


def of(potential: Potential) -> PotentialOf:
    return PotentialOf(DeepSpinCalculator(potential))


def both(atoms: Atoms, potential: Potential) -> tuple[Atoms, Atoms]:
    """Two copies, one with the potential, one with that of its calculator."""
    copies = atoms.copy(), atoms.copy()
    for image, model in zip(copies, (potential, of(potential)), strict=True):
        image.calc = DeepSpinCalculator(model)
    return copies


def same(first: Atoms, second: Atoms, tolerance: float) -> None:
    np.testing.assert_allclose(first.positions, second.positions, atol=tolerance)
    np.testing.assert_allclose(get_spins(first), get_spins(second), atol=tolerance)
    np.testing.assert_allclose(first.cell.array, second.cell.array, atol=tolerance)


def ordered(repeat: int = 1) -> Atoms:
    atoms = bulk("Fe", a=2.8665).repeat(repeat)
    set_spins(atoms, {"Fe": 2.2})
    return atoms


def test_contract() -> None:
    check_potential(of(reference.fe()), iron(1), tolerance=3e-5)


@pytest.mark.parametrize("cell", [False, True])
def test_relaxation(cell: bool) -> None:
    ours, theirs = both(iron(1), reference.fe())
    expected, found = (
        relax(atoms, cell=cell, magnitudes=True) for atoms in (ours, theirs)
    )
    assert expected.converged and found.converged
    assert found.n_calls == expected.n_calls
    assert found.energy == pytest.approx(expected.energy, abs=1e-9)
    same(ours, theirs, 1e-7)


def test_relaxation_of_moments_and_batches() -> None:
    ours, theirs = both(iron(1), reference.fe())
    assert relax_spins(ours).n_calls == relax_spins(theirs).n_calls
    same(ours, theirs, 1e-8)
    images = [iron(1, rattle=amplitude) for amplitude in (0.02, 0.05)]
    for image in images:
        image.calc = theirs.calc
    for found, image in zip(relax_batch(images), images, strict=True):
        alone = image.copy()
        alone.calc = ours.calc
        assert found.converged
        assert found.energy == pytest.approx(alone.get_potential_energy(), abs=1e-9)


def test_path() -> None:
    """Reversal of the moments over the hard plane, each image with its calculator."""
    barriers = []
    for model in (MAGNET, of(MAGNET), Foreign(MAGNET)):
        start, end = ordered(), ordered()
        set_spins(end, [[0, 1e-3, -2.2]])
        images = interpolate(start, end, 5, axis="x")
        calculator = model if isinstance(model, Foreign) else DeepSpinCalculator(model)
        for image in images:
            image.calc = calculator
        band = SpinLatticeNEB(images, positions=False, climb=True)
        band.run(steps=20)
        barriers.append(max(image.get_potential_energy() for image in images))
    np.testing.assert_allclose(barriers[1:], barriers[0], atol=1e-10)


def test_dynamics() -> None:
    ours, theirs = both(iron(1), reference.fe())
    for atoms in (ours, theirs):
        driver = SpinLatticeNVE(atoms, 0.5 * units.fs)
        driver.run(10)
    same(ours, theirs, 1e-9)


def test_monte_carlo() -> None:
    found = []
    for model in (MAGNET, of(MAGNET)):
        atoms = ordered(2)
        atoms.calc = DeepSpinCalculator(model)
        MonteCarlo(atoms, temperature_K=300, rng=1, simultaneous=False).run(3)
        found.append(get_spins(atoms))
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)
    with pytest.raises(ValueError, match="models of other programs"):
        MonteCarlo(atoms, temperature_K=300, simultaneous=True)


def test_second_derivatives() -> None:
    """Differences, since there is no graph; also in a sum with a term that has one."""
    atoms = iron(1)
    exact = cartesian_hessian(atoms).matrix()
    atoms.calc = DeepSpinCalculator(of(reference.fe()))
    found = cartesian_hessian(atoms)
    np.testing.assert_allclose(found.matrix(), exact, atol=1e-4 * abs(exact).max())
    with pytest.raises(ValueError, match="DifferenceHessian"):
        CartesianHessian(atoms.calc, atoms)
    more = Heisenberg(CubicCut(0.3, 2.7))
    atoms.calc = DeepSpinCalculator(reference.fe() + more)
    exact = cartesian_hessian(atoms).matrix()
    atoms.calc = DeepSpinCalculator(of(reference.fe()) + more)
    found = cartesian_hessian(atoms)
    np.testing.assert_allclose(found.matrix(), exact, atol=1e-4 * abs(exact).max())


def test_exchange_and_magnons() -> None:
    spectra, shells = [], []
    for model in (reference.fe(), of(reference.fe())):
        atoms = ordered()
        atoms.calc = DeepSpinCalculator(model)
        exchange = exchange_tensors(atoms, repeat=4)
        shells.append([shell.isotropic for shell in exchange.shells()[:3]])
        waves = SpinWaves.from_atoms(atoms, repeat=4)
        spectra.append(waves.bands([[0.1, 0.0, 0.0], [0.5, 0.5, 0.5]]).energies)
    assert abs(spectra[0]).min() > 1e-3
    np.testing.assert_allclose(shells[1], shells[0], atol=1e-5 * max(shells[0]))
    np.testing.assert_allclose(spectra[1], spectra[0], rtol=1e-4)


def test_landscape() -> None:
    angles = [0.0, 30.0, 90.0]
    surfaces = []
    for model in (MAGNET, of(MAGNET), DeepSpinCalculator(MAGNET), Foreign(MAGNET)):
        surface = scan_landscape(
            ordered(),
            coordinates=[CollectiveRotation("x")],
            grids=[angles],
            model=model,
        )
        surfaces.append(surface.energy)
    np.testing.assert_allclose(surfaces[1:], [surfaces[0]] * 3, atol=1e-12)
    expected = 0.001 * np.sin(np.radians(angles)) ** 2
    np.testing.assert_allclose(surfaces[1] - surfaces[1][0], expected, atol=1e-12)


def sampled(model: object, atoms: Atoms, **changes: object) -> ThermalSamples:
    task = SamplingTask(
        model_data(model_of(atoms, model)),
        atoms,
        temperatures_K=(500.0, 1500.0),
        q=(0.0, 0.0, 0.0),
        cell=atoms.cell.array,
        steps=6,
        equilibration=2,
        options={"simultaneous": False, "clusters": 0},
    )
    return run_sampling(replace(task, **changes), progress=False)


def test_thermal_averages(tmp_path) -> None:
    """The same random numbers, the same samples; a checkpoint continues them."""
    atoms = ordered(2)
    atoms.calc = Foreign(STRONG)
    whole = sampled(STRONG, atoms)
    for model in (of(STRONG), None):
        found = sampled(model, atoms)
        np.testing.assert_allclose(found.energy, whole.energy, atol=1e-9)
        np.testing.assert_allclose(found.order, whole.order, atol=1e-9)
    files = {"checkpoint": str(tmp_path / "run")}
    sampled(None, atoms, **files, steps=3)
    atoms.calc.n_calls = 0
    found = sampled(None, atoms, **files)
    np.testing.assert_allclose(found.energy, whole.energy, atol=1e-9)
    assert 0 < atoms.calc.n_calls < 4 * 2 * len(atoms)
    with pytest.raises(ValueError, match="of another run: model"):
        sampled(of(MAGNET), atoms, **files)


@pytest.mark.slow
def test_transition() -> None:
    options = {"sizes": (2, 3), "steps": 400, "interval": 1, "progress": False}
    options |= {"options": {"simultaneous": False, "clusters": 0}}
    found = [
        curie_temperature(ordered(), [600, 800, 1000, 1200], model=model, **options)
        for model in (STRONG, of(STRONG))
    ]
    expected = found[0].temperature_K.value
    assert 600 < expected < 1200
    assert found[1].temperature_K.value == pytest.approx(expected, rel=1e-6)


def test_free_energy_and_shares() -> None:
    """Forces are derivatives of the free energy; shares add up to it."""

    class Smeared(Foreign):
        def calculate(self, *arguments: object) -> None:
            super().calculate(*arguments)
            self.results["free_energy"] = self.results["energy"] - 0.5
            self.results["energies"] = np.full(len(self.atoms), 7.0)

    names = ("energy", "free_energy", "forces", "magnetic_forces")
    atoms = iron(1)
    system = System.from_atoms(atoms)
    found = PotentialOf(Smeared(reference.fe(), names)).evaluate(system)
    expected = atoms.get_potential_energy() - 0.5
    assert float(found.energy[0]) == pytest.approx(expected, abs=1e-9)
    assert float(found.energies.sum()) == pytest.approx(expected, abs=1e-9)


def test_without_stress(tmp_path) -> None:
    """Where no stress is needed, none is missed."""
    potential = PotentialOf(Foreign(reference.fe()))
    assert not potential.gives_virial
    atoms = iron(1)
    exact = atoms.get_forces()
    atoms.calc = DeepSpinCalculator(potential + MAGNET, external_field_T=(0, 0, 1))
    assert not {"stress", "virial"} & {*atoms.calc.implemented_properties}
    atoms.get_potential_energy()
    assert not {"stress", "virial"} & {*atoms.calc.results}
    atoms.calc = DeepSpinCalculator(potential)
    np.testing.assert_allclose(atoms.get_forces(), exact, atol=1e-9)
    driver = SpinLatticeNVE(
        atoms, 0.5 * units.fs, logfile=tmp_path / "log", trajectory=tmp_path / "t.h5"
    )
    driver.run(2)
    assert "nan" in (tmp_path / "log").read_text().splitlines()[-1]
    assert relax(atoms).converged
    with pytest.raises(ValueError, match="does not give stress"):
        relax(atoms, cell=True)
    with pytest.raises(ValueError, match="gives no stress"):
        SpinLatticeNPT(atoms, units.fs, temperature_K=300, damping=0.1)


def test_clusters_have_no_stress() -> None:
    names = ("energy", "forces", "magnetic_forces", "stress")
    atoms = iron(1)
    atoms.pbc = False
    atoms.calc = DeepSpinCalculator(PotentialOf(Foreign(reference.fe(), names[:3])))
    whole = DeepSpinCalculator(reference.fe())
    expected = whole.get_property("forces", atoms)
    np.testing.assert_allclose(atoms.get_forces(), expected, atol=1e-9)
    together = DeepSpinCalculator(PotentialOf(Foreign(reference.fe(), names)))
    (found,) = together.evaluate([iron(1)])
    expected = whole.get_property("stress", iron(1))
    np.testing.assert_allclose(found["stress"], expected, atol=1e-9)


def test_copies_share_the_calculator(tmp_path) -> None:
    potential = of(reference.fe())
    calculator = DeepSpinCalculator(potential)
    assert calculator.bare_potential.calculator is potential.calculator
    restored = pickle.loads(pickle.dumps(potential))
    assert restored.calculator is not potential.calculator
    atoms = iron(1)
    found = copy.deepcopy(calculator).get_property("forces", atoms)
    np.testing.assert_allclose(found, atoms.get_forces(), atol=1e-9)
    atoms.calc = DeepSpinCalculator(restored)
    np.testing.assert_allclose(found, atoms.get_forces(), atol=1e-9)
    with pytest.raises(ValueError, match="not the calculator DeepSpinCalculator with"):
        save_potential(tmp_path / "model.pt", potential)


def test_what_is_no_model() -> None:
    with pytest.raises(ValueError, match="EMT does not give magnetic_forces"):
        PotentialOf(EMT())
    with pytest.raises(TypeError, match="takes an ASE calculator, got str"):
        PotentialOf("NiO")  # type: ignore[arg-type]
    atoms = ordered()
    atoms.calc = EMT()
    angles = {"coordinates": [CollectiveRotation("x")], "grids": [[0.0]]}
    with pytest.raises(ValueError, match="EMT does not give magnetic_forces"):
        scan_landscape(atoms, **angles)
    potential = of(MAGNET)
    system = System.from_atoms(ordered())
    system = system.replace(spins=system.spins.requires_grad_())
    with pytest.raises(ValueError, match="no graph"):
        potential(system, None)
    with torch.no_grad():
        assert potential(system, None).shape == (1,)
    images = [iron(1), iron(1)]
    apart = PotentialOf.of_images(images)
    with pytest.raises(ValueError, match="of 2 structures got 1"):
        apart.evaluate(System.from_atoms(images[0]))
    images[1].calc = DeepSpinCalculator(potential)
    images[0].calc = DeepSpinCalculator(of(MAGNET))
    with pytest.raises(ValueError, match="another model than structure 0"):
        SpinLatticeNVE(images, units.fs)
