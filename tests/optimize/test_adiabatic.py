"""Moments that are minimised at every call, under ASE's own drivers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.stress import full_3x3_to_voigt_6_stress
from calculators import Foreign
from scipy.optimize import minimize

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins, set_spins
from deepspin_ase.analysis import calculate_phonons, cartesian_hessian
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics import SpinLatticeNVE
from deepspin_ase.optimize import AdiabaticMoments, relax
from deepspin_ase.potentials import (
    CubicCut,
    Harmonic,
    Heisenberg,
    Landau,
    MomentExchange,
    Potential,
    PotentialOf,
    reference,
)

#: Lengths and directions depend on distances: a ferromagnet with stiff moments.
MAGNET = reference.fe() + MomentExchange(CubicCut(0.4, 4.0))

#: Two atoms on a spring: moments for distances below 2.5 A, none above.
SPRING = Harmonic(2.0, 2.4, cutoff=4.0)
PAIR = SPRING + MomentExchange(CubicCut(1.0, 4.0)) + Landau([0.0264, 0.01])


def iron(what: str, potential: Potential = MAGNET, *, cant: float = 0.1) -> Atoms:
    atoms = bulk("Fe", a=2.87, cubic=True)
    set_spins(atoms, {"Fe": 2.2})
    cant_spins(atoms, cant, seed=1)
    atoms.rattle(0.05, seed=1)
    atoms.calc = AdiabaticMoments(DeepSpinCalculator(potential), what)
    return atoms


def slope(energy: Callable[[float], float], h: float = 2e-3) -> float:
    weights = {-2: 1.0, -1: -8.0, 1: 8.0, 2: -1.0}
    return sum(w * energy(k * h) for k, w in weights.items()) / (12.0 * h)


@pytest.mark.parametrize("what", ["lengths", "directions", "vectors"])
def test_derivatives_of_the_minimised_energy(what: str) -> None:
    atoms = iron(what)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    moments = atoms.get_magnetic_moments()
    rng = np.random.default_rng(0)
    u, strain = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    strain = 0.5 * (strain + strain.T)

    def moved(step: float) -> float:
        image = atoms.copy()
        image.calc = atoms.calc
        image.positions += step * u
        return image.get_potential_energy()

    def strained(step: float) -> float:
        image = atoms.copy()
        image.calc = atoms.calc
        image.set_cell(image.cell @ (np.eye(3) + step * strain), scale_atoms=True)
        return image.get_potential_energy()

    assert -np.sum(forces * u) == pytest.approx(slope(moved), abs=4e-6)
    expected = slope(strained, 1e-3) / atoms.get_volume()
    weights = full_3x3_to_voigt_6_stress(strain) * [1, 1, 1, 2, 2, 2]
    assert stress @ weights == pytest.approx(expected, abs=4e-6)
    left = atoms.calc.get_magnetic_forces(atoms)
    if what == "vectors":
        assert abs(left).max() < 1e-6
    elif what == "lengths":
        assert abs(np.sum(left * moments, axis=1)).max() < 5e-6
    else:
        assert abs(np.cross(left, moments)).max() < 5e-6


def test_minimum_of_lengths() -> None:
    atoms = iron("lengths")
    directions = get_spins(atoms) / np.linalg.norm(get_spins(atoms), axis=1)[:, None]
    frozen = atoms.copy()
    frozen.calc = DeepSpinCalculator(MAGNET)

    def energy(lengths: np.ndarray) -> float:
        set_spins(frozen, lengths[:, None] * directions)
        return frozen.get_potential_energy()

    found = minimize(energy, [2.2, 2.2], method="Nelder-Mead", options={"xatol": 1e-7})
    assert atoms.get_potential_energy() == pytest.approx(found.fun, abs=1e-9)
    moments = atoms.get_magnetic_moments()
    np.testing.assert_allclose(moments, found.x[:, None] * directions, atol=1e-4)
    assert np.ptp(np.linalg.norm(moments, axis=1)) < 1.0
    assert abs(np.linalg.norm(moments, axis=1) - 2.2).min() > 0.05


def test_optimizer_reaches_the_joint_minimum() -> None:
    atoms = iron("vectors")
    given = get_spins(atoms)
    BFGS(atoms, logfile=None).run(fmax=1e-3)
    joint = iron("vectors")
    joint.calc = DeepSpinCalculator(MAGNET)
    assert relax(joint, magnitudes=True, fmax=1e-3, torque_max=1e-6).converged
    expected = joint.get_potential_energy()
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(get_spins(atoms), given)


def test_dynamics_conserves_the_energy() -> None:
    """To second order in the time step; a warm start takes few model calls."""
    spread, calls = [], []
    for timestep in (1.0, 2.0):
        atoms = iron("lengths")
        rng = np.random.default_rng(2)
        atoms.set_momenta(rng.normal(size=(2, 3)))
        atoms.get_forces()
        before = atoms.calc.n_calls
        driver = VelocityVerlet(atoms, timestep * units.fs)
        energies = []
        driver.attach(
            lambda kept=energies, of=atoms: kept.append(of.get_total_energy())
        )
        driver.run(round(24 / timestep))
        spread.append(np.ptp(energies))
        calls.append((atoms.calc.n_calls - before) * timestep / 24)
    lengths = np.linalg.norm(atoms.get_magnetic_moments(), axis=1)
    assert abs(lengths - 2.2).max() > 0.05
    assert spread[1] < 0.02 * np.ptp([0.0, atoms.get_kinetic_energy()])
    assert spread[0] == pytest.approx(spread[1] / 4.0, rel=0.15)
    assert max(calls) < 8


def test_force_constants() -> None:
    """Those of the lattice less what the moments give way, K - C M^-1 C^T."""
    atoms = Atoms("Fe2", [[0, 0, 0], [2.2, 0, 0]])
    set_spins(atoms, {"Fe": 1.0})
    atoms.calc = AdiabaticMoments(DeepSpinCalculator(PAIR), magnetic_force_max=1e-9)
    relaxed = atoms.copy()
    set_spins(relaxed, atoms.get_magnetic_moments())
    relaxed.calc = DeepSpinCalculator(PAIR)
    K = cartesian_hessian(relaxed).matrix()
    along = np.kron(np.eye(2), [[0.0], [0.0], [1.0]])
    lattice, cross = K[:6, :6], K[:6, 6:] @ along
    moments = along.T @ K[6:, 6:] @ along
    expected = lattice - cross @ np.linalg.inv(moments) @ cross.T
    found = np.zeros((6, 6))
    for k in range(6):

        def forces(step: float, k: int = k) -> np.ndarray:
            image = atoms.copy()
            image.calc = atoms.calc
            image.positions[k // 3, k % 3] += step
            return image.get_forces().ravel()

        found[k] = -(forces(1e-3) - forces(-1e-3)) / 2e-3
    np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())
    assert abs(lattice - expected).max() > 0.05 * abs(expected).max()


def test_phonons() -> None:
    """Of phonopy, by forces at moments that follow the atoms."""
    atoms = iron("lengths", cant=0.0)
    atoms.positions[:] = bulk("Fe", a=2.87, cubic=True).positions
    found = calculate_phonons(atoms, 2, distance=0.01)
    found.run_mesh([1, 1, 1])
    energies = found.mesh.frequencies
    assert abs(energies[0, :3]).max() < 0.05
    assert energies[0, 3:].min() > 1.0


def test_bands() -> None:
    """An exchange of two atoms on a ring, each image with its own moments."""
    start = Atoms("Fe2", [[0, 0, 0], [2.2, 0, 0]])
    set_spins(start, [[0, 0, 1.0], [0, 0, 1.0]])
    end = start.copy()
    end.positions[1] = [0, 2.2, 0]
    images = [start, *(start.copy() for _ in range(3)), end]
    surface = AdiabaticMoments(DeepSpinCalculator(PAIR), "lengths")
    for image in images:
        image.calc = copy.copy(surface)
    band = NEB(images, method="improvedtangent", climb=False)
    band.interpolate()
    BFGS(band, logfile=None).run(fmax=0.01, steps=50)
    lengths = [np.linalg.norm(x.get_magnetic_moments(), axis=1).max() for x in images]
    # In the middle of the straight way the atoms are closest: 1.56 A.
    distances = [x.get_distance(0, 1) for x in images]
    for image, length, r in zip(images, lengths, distances, strict=True):
        assert length == pytest.approx(exact(r)[0], abs=1e-4)
        expected = exact(r)[1]
        assert image.get_potential_energy() == pytest.approx(expected, abs=1e-8)


def exact(r: float) -> tuple[float, float]:
    """Length of the moments, mu_B, and energy, eV, of the pair at a distance."""
    import torch

    J = float(CubicCut(1.0, 4.0)(torch.tensor([r], dtype=torch.float64)))
    slope_ = 2.0 * 0.0264 - J  # of m^2 for two moments
    square = max(0.0, -slope_ / (4.0 * 0.01))
    energy = 0.5 * 2.0 * (r - 2.4) ** 2 + slope_ * square + 0.02 * square**2
    return np.sqrt(square), energy


@pytest.mark.parametrize("what", ["lengths", "vectors"])
def test_moments_vanish_and_come_back(what: str) -> None:
    """Through the transition and back, with the forces of the exact energy."""
    atoms = Atoms("Fe2", [[0, 0, 0], [2.0, 0, 0]])
    set_spins(
        atoms, [[0, 0, 1.0], [0, 0.6, 0.8]] if what == "vectors" else [[0, 0, 1]] * 2
    )
    atoms.calc = AdiabaticMoments(DeepSpinCalculator(PAIR), what)
    seen = []
    for r in (2.0, 2.3, 2.45, 2.6, 2.9, 2.6, 2.4, 2.2):
        atoms.positions[1, 0] = r
        length, energy = exact(r)
        seen.append(length)
        moments = atoms.get_magnetic_moments()
        lengths = np.linalg.norm(moments, axis=1)
        np.testing.assert_allclose(lengths, length, atol=2e-4)
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-8)
        force = -slope(lambda step, r=r: exact(r + step)[1], 1e-4)
        assert atoms.get_forces()[1, 0] == pytest.approx(force, abs=1e-5)
    assert seen[0] > 1.0 and seen[3] == seen[4] == 0.0 and seen[-1] > 0.5


def test_start_and_state(tmp_path: Path) -> None:
    atoms = iron("lengths")
    given = get_spins(atoms)
    first = atoms.get_magnetic_moments()
    np.testing.assert_array_equal(get_spins(atoms), given)
    np.testing.assert_allclose(
        atoms.calc.get_magnetic_moment(atoms), first.sum(axis=0), atol=1e-12
    )
    calls = atoms.calc.n_calls
    atoms.get_forces()
    atoms.get_stress()
    assert atoms.calc.n_calls == calls
    for twin in (
        copy.copy(atoms.calc),
        copy.deepcopy(atoms.calc),
        pickle.loads(pickle.dumps(atoms.calc)),
    ):
        moved = atoms.copy()
        moved.positions[0, 0] += 0.05
        moved.calc = twin
        assert abs(moved.get_magnetic_moments() - first).max() > 1e-4
        np.testing.assert_array_equal(atoms.get_magnetic_moments(), first)
    atoms.write(tmp_path / "a.traj")
    stored = read(tmp_path / "a.traj")
    np.testing.assert_array_equal(stored.get_forces(), atoms.get_forces())
    assert atoms.get_properties(["energy"])["energy"] == atoms.get_potential_energy()
    # Reversed moments of the atoms are another start.
    set_spins(atoms, -given)
    np.testing.assert_allclose(atoms.get_magnetic_moments(), -first, atol=1e-5)


def test_fixed_and_bare_moments_stay() -> None:
    atoms = iron("vectors")
    spins = get_spins(atoms)
    atoms.set_constraint(FixSpins([0]))
    found = atoms.get_magnetic_moments()
    np.testing.assert_array_equal(found[0], spins[0])
    assert abs(found[1] - spins[1]).max() > 0.01
    atoms.set_constraint()
    spins[0] = 0.0
    set_spins(atoms, spins)
    np.testing.assert_array_equal(atoms.get_magnetic_moments()[0], 0.0)


def test_other_calculators() -> None:
    atoms, other = iron("lengths"), iron("lengths")
    other.calc = AdiabaticMoments(Foreign(MAGNET), "lengths")
    np.testing.assert_allclose(other.get_forces(), atoms.get_forces(), atol=1e-8)
    found = other.get_magnetic_moments()
    np.testing.assert_allclose(found, atoms.get_magnetic_moments(), atol=1e-8)
    with pytest.raises(NotImplementedError):
        other.get_stress()


class Collinear(Foreign):
    """A calculator whose magnetic forces are numbers."""

    def calculate(self, *arguments: object) -> None:
        super().calculate(*arguments)
        self.results["magnetic_forces"] = self.results["magnetic_forces"][:, 2]


def test_magnetic_forces_that_are_no_vectors() -> None:
    atoms = iron("lengths")
    atoms.calc = AdiabaticMoments(Collinear(MAGNET))
    with pytest.raises(ValueError, match=r"magnetic_forces of shape \(2,\) for"):
        atoms.get_potential_energy()
    atoms.calc = Collinear(MAGNET)
    with pytest.raises(ValueError, match=r"magnetic_forces of shape \(2,\) for"):
        relax(atoms)
    atoms.calc = DeepSpinCalculator(PotentialOf(Collinear(MAGNET)))
    with pytest.raises(ValueError, match=r"magnetic_forces of shape \(2,\) for"):
        atoms.get_potential_energy()


def test_it_is_no_potential() -> None:
    """Its energy does not depend on the moments as they are given."""
    with pytest.raises(ValueError, match="changes the moments that it is given"):
        PotentialOf(iron("lengths").calc)
    atoms = iron("lengths")
    with pytest.raises(ValueError, match="changes the moments that it is given"):
        SpinLatticeNVE(atoms, units.fs)


def test_phonons_of_ase(tmp_path: Path) -> None:
    """Of a calculator without stress, as phonopy has them by ours."""
    atoms = bulk("Fe", a=2.87)
    set_spins(atoms, {"Fe": 2.2})
    phonons = Phonons(
        atoms,
        AdiabaticMoments(Foreign(MAGNET)),
        supercell=(2, 2, 2),
        delta=0.01,
        name=str(tmp_path / "phonons"),
    )
    phonons.run()
    phonons.read(acoustic=True)
    # At (1/2 -1/2 1/2) all is in the supercell.
    energies = phonons.band_structure([[0.5, -0.5, 0.5]])[0]
    atoms.calc = AdiabaticMoments(DeepSpinCalculator(MAGNET))
    found = calculate_phonons(atoms, 2, distance=0.01)
    found.run_qpoints([[0.5, -0.5, 0.5]])
    expected = found.qpoints.frequencies[0] * 1e12 * units._hplanck / units._e
    np.testing.assert_allclose(energies, expected, rtol=1e-3)
    assert expected.min() > 0.03


def test_cells_by_filters_of_ase() -> None:
    """Where the joint relaxation of atoms, moments and cell goes."""
    atoms, joint = iron("vectors"), iron("vectors")
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3)
    joint.calc = DeepSpinCalculator(MAGNET)
    assert relax(joint, magnitudes=True, cell=True, fmax=1e-3).converged
    expected = joint.get_potential_energy()
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-5)
    assert atoms.get_volume() == pytest.approx(joint.get_volume(), rel=2e-3)


def test_no_minimum() -> None:
    atoms = iron("lengths", MomentExchange(CubicCut(0.4, 4.0)))
    atoms.calc.steps = 20
    with pytest.raises(CalculationFailed, match="no minimum in 20 model calls"):
        atoms.get_potential_energy()
    rotated = iron("directions", Heisenberg(CubicCut(0.4, 4.0)), cant=0.5)
    rotated.calc.steps = 1
    with pytest.raises(CalculationFailed, match=r"a torque of .* eV is left"):
        rotated.get_potential_energy()
    with pytest.raises(ValueError, match="EMT does not give magnetic_forces"):
        AdiabaticMoments(EMT())
    for wrong, message in (
        ("Fe", r"takes an ASE calculator, got str: DeepSpinCalculator\(model\) makes"),
        (MAGNET, "takes an ASE calculator, got Sum"),
        (DeepSpinCalculator, "got the class DeepSpinCalculator: make one"),
    ):
        with pytest.raises(TypeError, match=message):
            AdiabaticMoments(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="minimises moments already"):
        AdiabaticMoments(rotated.calc)
    with pytest.raises(ValueError, match="what must be one of lengths, directions"):
        AdiabaticMoments(DeepSpinCalculator(MAGNET), "angles")
    bare = bulk("Fe", a=2.87)
    bare.set_initial_magnetic_moments(None)
    bare.calc = AdiabaticMoments(DeepSpinCalculator(MAGNET))
    with pytest.raises(ValueError, match="moments"):
        bare.get_potential_energy()
