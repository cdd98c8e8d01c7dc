"""Joint relaxation of atoms, moments and cell by SpinLatticeLBFGS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.optimize
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength, FixedPlane
from ase.io import read
from calculators import Foreign
from structures import A_NIO, iron, nickel_oxide

from deepspin_ase import DeepSpinCalculator, get_spins, read_extxyz, set_spins
from deepspin_ase.cli import main
from deepspin_ase.constraints import FixSpins
from deepspin_ase.optimize import (
    SpinLatticeFilter,
    SpinLatticeLBFGS,
    relax,
    relax_batch,
)
from deepspin_ase.potentials.materials.reference import fe, nio

#: What relaxation of atoms, spins and cell asks a calculator for.
RELAXABLE = ("energy", "forces", "stress", "magnetic_forces")


def test_iron_goes_back_to_the_crystal() -> None:
    atoms = iron()
    found = relax(atoms, magnitudes=True, cell=True, fmax=1e-4, torque_max=1e-6)
    assert found.converged and found.n_calls < 30
    crystal = bulk("Fe", a=2.8665, cubic=True)
    set_spins(crystal, {"Fe": 2.36})
    crystal.calc = DeepSpinCalculator(fe())
    relax(crystal, magnitudes=True, cell=True, fmax=1e-5, torque_max=1e-7)
    assert found.energy / 16 == pytest.approx(
        crystal.get_potential_energy() / 2, abs=2e-6
    )
    np.testing.assert_allclose(
        np.linalg.norm(get_spins(atoms), axis=1), 2.36, rtol=2e-3
    )
    distances = atoms.get_all_distances(mic=True)[0]
    assert np.sort(distances)[1:9] == pytest.approx(np.sqrt(3) / 2 * 2.8665, abs=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: iron(),
        pytest.param(lambda: nickel_oxide((2, 2, 4)), marks=pytest.mark.slow),
    ],
)
def test_fewer_calls_than_ase(make: Callable[[], Atoms]) -> None:
    """At most half the calls of ASE's best, and a third of one part after the other."""
    counts = {}
    for name in ("BFGSLineSearch", "LBFGS"):
        atoms = make()
        atoms.calc = Foreign(atoms.calc.potential, RELAXABLE)
        coordinates = SpinLatticeFilter(atoms)
        assert getattr(ase.optimize, name)(coordinates, logfile=None).run(fmax=0.01)
        counts[name] = atoms.calc.n_calls
    atoms = make()
    # Thresholds alone, as in ASE; by default moments settle as well, in soft modes too.
    found = relax(atoms, fmax=0.01, torque_max=1e-4)
    assert found.converged
    assert 2 * found.n_calls <= min(counts.values())


def test_calls_are_counted() -> None:
    atoms = iron()
    atoms.calc = Foreign(fe(), RELAXABLE)
    found = relax(atoms, cell=True, magnitudes=True)
    assert found.converged
    assert atoms.calc.n_calls == found.n_calls
    assert found.energy == atoms.get_potential_energy()
    assert atoms.calc.n_calls == found.n_calls


def test_energy_never_rises() -> None:
    atoms = iron(rattle=0.15)
    optimizer = SpinLatticeLBFGS(atoms)
    energies: list[float] = []
    optimizer.attach(lambda: energies.append(atoms.get_potential_energy()), interval=1)
    states = [*optimizer.irun(fmax=1e-3, torque_max=1e-5)]
    assert states[-1] and not any(states[:-1])
    assert len(energies) == len(states) == optimizer.nsteps + 1
    assert (np.diff(energies) <= 1e-9).all()


def test_log_and_trajectories(tmp_path: Path) -> None:
    atoms = iron()
    logfile, text, binary = (tmp_path / n for n in ("a.log", "a.extxyz", "a.traj"))
    found = relax(atoms, logfile=logfile, trajectory=text, steps=3)
    assert not found.converged
    assert len(logfile.read_text().splitlines()) == 5
    frames = read_extxyz(text)
    assert len(frames) == 4
    np.testing.assert_allclose(get_spins(frames[-1]), get_spins(atoms), atol=1e-7)
    assert "magnetic_forces" in frames[-1].arrays
    relax(atoms, trajectory=binary)
    last = read(binary)
    np.testing.assert_array_equal(get_spins(last), get_spins(atoms))
    assert last.get_potential_energy() == atoms.get_potential_energy()


def test_constraints_hold() -> None:
    atoms = iron()
    atoms.set_constraint([FixAtoms([0, 1]), FixedPlane(2, (0, 0, 1)), FixSpins([0, 3])])
    before = atoms.copy()
    found = relax(atoms, magnitudes=True)
    assert found.converged
    np.testing.assert_array_equal(atoms.positions[:2], before.positions[:2])
    assert atoms.positions[2, 2] == before.positions[2, 2]
    held = [0, 3]
    np.testing.assert_allclose(get_spins(atoms)[held], get_spins(before)[held])
    assert abs(get_spins(atoms) - get_spins(before))[4:].max() > 0.01
    assert abs(atoms.positions - before.positions)[3:].max() > 0.01


def test_a_constraint_that_couples_atoms() -> None:
    atoms = iron()
    atoms.set_constraint(FixBondLength(0, 1))
    before = atoms.get_distance(0, 1)
    assert relax(atoms).converged
    assert atoms.get_distance(0, 1) == pytest.approx(before, abs=1e-8)


def test_all_atoms_fixed() -> None:
    atoms = iron()
    start = atoms.positions.copy()
    atoms.set_constraint(FixAtoms(range(len(atoms))))
    assert relax(atoms).converged
    np.testing.assert_array_equal(atoms.positions, start)
    atoms.set_constraint([FixAtoms(range(16)), FixSpins(range(16))])
    assert relax(atoms).n_calls == 1


@pytest.mark.parametrize(
    "shape", ["molecule", "slab", "chain", "one atom", "primitive"]
)
def test_any_surroundings(shape: str) -> None:
    """Few neighbours, periodic or not, cells shorter than the cutoff."""
    rng = np.random.default_rng(4)
    if shape == "one atom":
        atoms = Atoms("Fe", positions=[(0, 0, 0)])
    elif shape == "molecule":
        atoms = Atoms("Fe3", positions=[(0, 0, 0), (2.3, 0, 0), (1.1, 2.0, 0.1)])
    else:
        pbc = {"slab": (1, 1, 0), "chain": (0, 0, 1), "primitive": (1, 1, 1)}[shape]
        atoms = bulk("Fe", a=2.85, cubic=shape != "primitive")
        atoms.set_initial_magnetic_moments(None)
        atoms = atoms.repeat([1 if shape == "primitive" else 2] * 3)
        atoms.set_pbc(pbc)
    set_spins(atoms, rng.normal(size=(len(atoms), 3)) * 0.3 + (0, 0, 2.2))
    atoms.calc = DeepSpinCalculator(fe())
    found = relax(atoms, magnitudes=True, cell=shape == "primitive")
    assert found.converged and found.n_calls < 60


def test_one_magnetic_atom_among_others() -> None:
    """Only one nickel carries a moment; the anisotropy alone turns it."""
    atoms = nickel_oxide(model=nio())
    spins = get_spins(atoms)
    nickel = np.flatnonzero(atoms.numbers == 28)
    spins[nickel[1:]] = 0.0
    set_spins(atoms, spins)
    assert relax(atoms, torque_max=1e-6).converged
    assert not get_spins(atoms)[nickel[1:]].any()


def test_cell_under_pressure() -> None:
    atoms = iron(rattle=0.0)
    relax(atoms, cell=True, pressure_GPa=10.0, stress_max=1e-6)
    stress = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(stress, -0.0624150907 * np.eye(3), atol=2e-6)


def test_masked_cell() -> None:
    atoms = iron()
    cell = atoms.cell.array.copy()
    assert relax(atoms, cell=True, cell_mask=(0, 0, 1, 0, 0, 0)).converged
    np.testing.assert_allclose(atoms.cell.array[:2], cell[:2], atol=1e-12)
    assert abs(atoms.get_stress()[2]) < 5e-4


def test_single_precision() -> None:
    """Energies are noisy at 1e-6 eV/atom; the descent goes on by the slope."""
    atoms = iron()
    atoms.calc = DeepSpinCalculator(fe(), dtype="float32")
    found = relax(atoms, fmax=2e-3, torque_max=1e-4, magnitudes=True)
    assert found.converged and found.n_calls < 40


def test_scalar_moments_become_vectors() -> None:
    atoms = bulk("Fe", a=2.8, cubic=True)
    atoms.set_initial_magnetic_moments([2.2, 2.2])
    atoms.calc = DeepSpinCalculator(fe())
    assert relax(atoms, cell=True).converged
    assert get_spins(atoms) == pytest.approx(np.array([(0, 0, 2.2)] * 2))


def test_a_run_goes_on() -> None:
    atoms = iron()
    optimizer = SpinLatticeLBFGS(atoms)
    assert not optimizer.run(steps=3)
    assert optimizer.run(fmax=1e-4, torque_max=1e-6)
    assert optimizer.n_calls < 30
    assert optimizer.run(fmax=1e-4)
    atoms.rattle(0.02, seed=3)
    assert optimizer.run(fmax=1e-4)


def test_plain_atoms_without_moments() -> None:
    """With spins=False any ASE calculator will do."""
    atoms = bulk("Cu", cubic=True).repeat(2)
    del atoms[0]
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    found = relax(atoms, spins=False, cell=True)
    assert found.converged and found.n_calls < 25


def test_together_as_alone() -> None:
    """Structures of several sizes in one batch end where each ends alone."""
    shared = DeepSpinCalculator(fe())
    images = [iron(1), iron(2), iron(2, rattle=0.1)]
    alone = [relax(image).energy for image in images]
    images = [iron(1), iron(2), iron(2, rattle=0.1)]
    for image in images:
        image.calc = shared
    found = relax_batch(images, progress=False)
    assert all(own.converged for own in found)
    energies = [image.get_potential_energy() for image in images]
    assert energies == pytest.approx(alone, abs=1e-9)
    assert [own.energy for own in found] == energies
    for own in found:
        assert own.residuals["force"] <= 0.01
        assert own.residuals["torque"] <= 1e-4


class Broken(Foreign):
    """Gives NaN from the third call on."""

    def calculate(self, *arguments: Any) -> None:
        super().calculate(*arguments)
        if self.n_calls > 2:
            self.results["energy"] = np.nan


def test_not_a_number() -> None:
    atoms = iron(1)
    atoms.calc = Broken(fe())
    found = relax(atoms, fmax=1e-5)
    assert not found.converged
    with pytest.raises(CalculationFailed, match="finite"):
        relax(iron_of(Broken(fe()), calls=5))
    image = iron_of(Broken(fe()), calls=5)
    (left_out,) = relax_batch([image], progress=False)
    assert not left_out.converged and np.isnan(left_out.energy)
    assert left_out.residuals == {}


def iron_of(calculator: Broken, *, calls: int) -> Atoms:
    calculator.n_calls = calls
    atoms = iron(1)
    atoms.calc = calculator
    return atoms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": False, "spins": False}, "nothing may move"),
        ({"cell": True, "cell_mask": (1, 1)}, "cell_mask"),
        ({"spin_scale": 0.0}, "spin_scale"),
        ({"torque_max": -1.0}, "torque_max"),
        ({"stress_max": float("nan")}, "stress_max"),
        ({"cell_scale": -2.0, "cell": True}, "cell_scale"),
        ({"fmax": 0.0}, "fmax"),
        ({"steps": -1}, "steps must be a whole number"),
        ({"cell": True, "pressure_GPa": float("inf")}, "pressure_GPa must be finite"),
        ({"cell": True, "cell_mask": "xx"}, "cell_mask must be six booleans"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relax(iron(1), **options)


@pytest.mark.parametrize("name", ["positions", "cell", "spins", "magnitudes"])
def test_what_moves_is_true_or_false(name: str) -> None:
    for value in ("no", None, 1, [True, True, False]):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            relax(iron(1), **{name: value})


def test_steps_are_whole() -> None:
    with pytest.raises(TypeError, match="steps must be a whole number"):
        relax(iron(1), steps=2.5)  # type: ignore[arg-type]


def test_structures_that_cannot_relax() -> None:
    atoms = iron(1)
    atoms.calc = None
    with pytest.raises(ValueError, match="calculator"):
        relax(atoms)
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="magnetic_forces"):
        relax(atoms)
    atoms = iron(1)
    atoms.set_initial_magnetic_moments(None)
    with pytest.raises(ValueError, match="set_spins"):
        relax(atoms)
    set_spins(atoms, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="all moments are zero"):
        relax(atoms)
    atoms = iron(1)
    atoms.positions[1, 0] = np.nan
    with pytest.raises(ValueError, match="position of atom 1 is not finite"):
        relax(atoms, spins=False)
    with pytest.raises(TypeError, match=r"expected ase\.Atoms"):
        relax_batch("fe")  # type: ignore[arg-type]
    atoms = iron(1)
    atoms.set_pbc((1, 1, 0))
    with pytest.raises(ValueError, match="periodic in three directions"):
        relax(atoms, cell=True)


# The command


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atoms = nickel_oxide()
    atoms.set_initial_magnetic_moments(None)
    path, output = tmp_path / "nio.extxyz", tmp_path / "relaxed.extxyz"
    atoms.write(path)
    command = ["relax", str(path), "--model", "NiO", "-o", str(output)]
    assert main(command) == 2
    assert "--moments" in capsys.readouterr().err
    order = ["--order", ".5", ".5", ".5", "--direction=x"]
    assert main([*command, *order]) == 2
    command += ["--moments", "Ni=1.277", *order, "--cell"]
    assert main([*command, "--order-cell", str(A_NIO)]) == 0
    assert "converged after" in capsys.readouterr().out
    relaxed = read_extxyz(output, 0)
    assert abs(relaxed.get_forces()).max() < 0.01
    assert abs(get_spins(relaxed).sum(axis=0)).max() < 1e-3
    assert main([*command, "--fmax", "-1"]) == 2
    assert main([*command[:-1], "--pressure-GPa", "1"]) == 2
    assert main([*command, "-o", "relaxed.cif"]) == 2
