"""Labels: engines, runs that are resumed, and the check of five structures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import Bohr, Hartree, Rydberg

from deepspin_ase.calculators import DeepSpinCalculator
from deepspin_ase.cli import main
from deepspin_ase.data import Frame, read_dataset
from deepspin_ase.io import read_extxyz, write_extxyz
from deepspin_ase.labels import (
    CalculatorEngine,
    Engine,
    GPAWEngine,
    LabelError,
    check_engine,
    label_structures,
    make_engine,
)
from deepspin_ase.labels._gpaw import require_checked_version
from deepspin_ase.potentials import Heisenberg, Shells, save_potential
from deepspin_ase.potentials.materials import reference
from deepspin_ase.spins import get_spins, set_spins


def iron(seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Fe", cubic=True, a=2.85)
    atoms.rattle(0.05, rng=rng)
    set_spins(atoms, 0.4 * rng.normal(size=(2, 3)) + [0.0, 0.0, 2.2])
    return atoms


def engine() -> CalculatorEngine:
    return CalculatorEngine(DeepSpinCalculator(reference.fe()), name="fe")


class Faulty(CalculatorEngine):
    """An engine with a fault."""

    def __init__(self, fault) -> None:
        super().__init__(DeepSpinCalculator(reference.fe()))
        self.fault = fault

    def label(self, atoms: Atoms, folder: Path) -> Frame:
        return self.fault(super().label(atoms, folder))


class Recording(CalculatorEngine):
    """Counts what it labels, and fails for cells of more than two atoms."""

    def __init__(self) -> None:
        super().__init__(DeepSpinCalculator(reference.fe()))
        self.calls = 0

    def label(self, atoms: Atoms, folder: Path) -> Frame:
        self.calls += 1
        if len(atoms) > 2:
            raise LabelError("not converged after 60 iterations")
        return super().label(atoms, folder)


def test_labels_are_those_of_the_calculator(tmp_path):
    structures = [iron(k) for k in range(3)]
    found = label_structures(structures, engine(), tmp_path, progress=False)
    assert found.indices == (0, 1, 2) and not found.failures
    for atoms, frame in zip(structures, found.frames, strict=True):
        atoms.calc = DeepSpinCalculator(reference.fe())
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
        assert frame.forces == pytest.approx(atoms.get_forces(), abs=2e-8)
        expected = atoms.calc.get_magnetic_forces(atoms)
        assert frame.magnetic_forces == pytest.approx(expected, abs=2e-8)
        assert frame.spins == pytest.approx(get_spins(atoms), abs=2e-8)
    written = read_extxyz(tmp_path / "labelled.extxyz")
    provenance = json.loads(written[0].info["provenance"])
    assert provenance["code"] == "fe"
    assert len(read_dataset(tmp_path / "labelled.extxyz")) == 3
    assert not (tmp_path / "failed.extxyz").exists()


def test_runs_go_on_and_failures_are_kept_apart(tmp_path):
    large = iron() * (2, 1, 1)
    recording = Recording()
    first = label_structures([iron(0), large], recording, tmp_path, progress=False)
    assert recording.calls == 2
    assert first.failures == {1: "not converged after 60 iterations"}
    (failed,) = read_extxyz(tmp_path / "failed.extxyz")
    assert failed.info["failure"] == first.failures[1] and len(failed) == 4
    # More structures, one of them twice, in another order: only the new one is new.
    more = [iron(1), iron(0), large, iron(1)]
    second = label_structures(more, recording, tmp_path, progress=False)
    assert recording.calls == 3
    assert second.indices == (0, 1, 3) and set(second.failures) == {2}
    assert second.frames[1].energy == first.frames[0].energy
    label_structures(more, recording, tmp_path, retry=True, progress=False)
    assert recording.calls == 4


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (lambda f: f.replace(magnetic_forces=-f.magnetic_forces), "other sign"),
        (
            lambda f: f.replace(magnetic_forces=f.magnetic_forces / Rydberg),
            "in Ry/mu_B: multiply",
        ),
        (
            lambda f: f.replace(magnetic_forces=-f.magnetic_forces / Rydberg),
            r"in Ry/mu_B with the other sign",
        ),
        (
            lambda f: f.replace(energy=f.energy + (f.magnetic_forces * f.spins).sum()),
            "did not contain the energy of the constraining field",
        ),
        (lambda f: f.replace(energy=f.energy / Hartree), "energies were in Ha"),
        (
            lambda f: f.replace(forces=f.forces / (Rydberg / Bohr)),
            "forces were in Ry and bohr",
        ),
        (lambda f: f.replace(virial=-f.virial), "virial had the other sign"),
        (
            lambda f: f.replace(magnetic_forces=0.5 * f.magnetic_forces),
            "twice as large",
        ),
    ],
)
def test_faults_of_labels_are_named(tmp_path, fault, meaning):
    found = check_engine(Faulty(fault), iron(), tmp_path)
    assert not found.ok
    assert len(found.faults) == 1
    assert meaning in found.faults[0]
    assert "NOT derivatives" in str(found)


def test_right_labels_pass(tmp_path):
    found = check_engine(engine(), iron(), tmp_path)
    assert found.ok and not found.faults
    assert found.names == ("rotated", "stretched", "moved", "strained")
    assert found.ratios == pytest.approx(1.0, abs=0.02)


def test_an_unknown_fault_is_called_unknown(tmp_path):
    found = check_engine(
        Faulty(lambda f: f.replace(forces=f.forces[::-1].copy() + 0.3)),
        iron(),
        tmp_path,
    )
    assert not found.ok and not found.faults
    assert "no known fault" in str(found)


def test_what_cannot_be_tested_is_said(tmp_path):
    perfect = bulk("Fe", cubic=True, a=2.85)
    set_spins(perfect, np.array([[0.0, 0.0, 2.2]] * 2))
    found = check_engine(
        Faulty(lambda f: f.replace(virial=None, energy=0.0 * f.energy)),
        perfect,
        tmp_path,
    )
    assert found.untested["strained"] == "the engine gives no stress"
    with pytest.raises(ValueError, match="no magnetic moments"):
        check_engine(engine(), Atoms("Fe"), tmp_path)


@pytest.mark.parametrize(
    ("made", "wrong", "message"),
    [
        (lambda: engine(), lambda: Faulty(lambda f: f), "another code"),
        (
            lambda: CalculatorEngine(DeepSpinCalculator(reference.fe()), name="A"),
            lambda: CalculatorEngine(DeepSpinCalculator(reference.fe()), name="B"),
            "another code",
        ),
    ],
)
def test_labels_of_two_origins_are_not_mixed(tmp_path, made, wrong, message):
    label_structures([iron()], made(), tmp_path, progress=False)
    with pytest.raises(ValueError, match=message):
        label_structures([iron(1)], wrong(), tmp_path, progress=False)


def test_models_without_parameters_are_told_apart(tmp_path):
    terms = [Heisenberg(Shells([(2.5, energy)])) for energy in (0.02, 0.03)]
    for k, term in enumerate(terms):
        save_potential(tmp_path / f"{k}.pt", term)
    found = [make_engine(str(tmp_path / f"{k}.pt")).provenance() for k in range(2)]
    assert found[0]["digest"] != found[1]["digest"]
    again = make_engine(str(tmp_path / "0.pt")).provenance()
    assert again["digest"] == found[0]["digest"]


def test_versions_of_gpaw_that_were_not_checked():
    require_checked_version("26.7.0")
    for version in ("25.7.0", "26.70.0", "26.8.0b1"):
        with pytest.raises(ImportError, match=rf"GPAW {version} was not checked"):
            require_checked_version(version)


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="no structures"):
        label_structures([], engine(), tmp_path)
    with pytest.raises(ValueError, match=r"structure 1: .*moments"):
        label_structures([iron(), Atoms("Fe")], engine(), tmp_path)
    with pytest.raises(ValueError, match="magnetic_forces"):
        label_structures([iron()], CalculatorEngine(EMT()), tmp_path)
    with pytest.raises(ValueError, match=r"unknown key 'cuttoff'.*'cutoff'"):
        make_engine("gpaw", {"cuttoff": 300})
    with pytest.raises(ValueError, match="key 'model' only"):
        make_engine("NiO", {"kpts": [2, 2, 2]})


class Shuffled(CalculatorEngine):
    """Returns the atoms in another order."""

    def label(self, atoms: Atoms, folder: Path) -> Frame:
        return super().label(atoms[::-1], folder)


def test_another_order_of_atoms_is_noticed(tmp_path):
    shuffled = Shuffled(DeepSpinCalculator(reference.fe()))
    with pytest.raises(ValueError, match="another order"):
        label_structures([iron()], shuffled, tmp_path, progress=False)


def test_command(tmp_path, capsys):
    save_potential(tmp_path / "teacher.pt", reference.fe())
    write_extxyz(tmp_path / "s.extxyz", [iron(k) for k in range(2)])
    arguments = ["label", str(tmp_path / "s.extxyz"), "-o", str(tmp_path / "labels")]
    arguments += ["-e", str(tmp_path / "teacher.pt")]
    assert main(arguments) == 0
    assert "2 of 2 structures labelled" in capsys.readouterr().out
    assert main([*arguments, "--check"]) == 0
    assert "derivatives of the energy" in capsys.readouterr().out


def test_command_with_names_of_columns(tmp_path, capsys):
    save_potential(tmp_path / "teacher.pt", reference.fe())
    path, labels = tmp_path / "s.extxyz", tmp_path / "labels"
    write_extxyz(path, [iron()])
    path.write_text(path.read_text().replace("initial_magmoms", "mu"))
    arguments = ["label", str(path), "-o", str(labels)]
    arguments += ["-e", str(tmp_path / "teacher.pt")]
    assert main(arguments) == 2
    assert "moments" in capsys.readouterr().err
    assert main([*arguments, "--columns", "moments=mu"]) == 0
    found = read_extxyz(labels / "labelled.extxyz", -1)
    assert get_spins(found) == pytest.approx(get_spins(iron()), abs=1e-7)
    # Magnetic forces of others by their name, too, where a model is compared.
    data = tmp_path / "data.extxyz"
    text = (labels / "labelled.extxyz").read_text()
    data.write_text(text.replace("magnetic_forces", "fields"))
    command = ["test", str(tmp_path / "teacher.pt"), str(data)]
    assert main([*command, "--columns", "magnetic_forces=fields"]) == 0
    assert "magnetic forces" in capsys.readouterr().out


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path):
    """Killed ten times at random times, the labels are those of one run."""
    save_potential(tmp_path / "teacher.pt", reference.fe())
    write_extxyz(tmp_path / "s.extxyz", [iron(k) * (2, 2, 2) for k in range(40)])
    command = [sys.executable, "-m", "deepspin_ase", "label"]
    command += [str(tmp_path / "s.extxyz"), "-e", str(tmp_path / "teacher.pt"), "-o"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    rng = np.random.default_rng(1)
    for _ in range(10):
        process = subprocess.Popen([*command, str(tmp_path / "killed")])
        time.sleep(3.0 + 3.0 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    whole, killed = (tmp_path / x / "labelled.extxyz" for x in ("whole", "killed"))
    assert whole.read_text() == killed.read_text()


@pytest.mark.slow
def test_gpaw(tmp_path):
    """Constrained DFT: labels are derivatives of the energy, torques cancel."""
    pytest.importorskip("gpaw", reason="extra gpaw")
    gpaw = GPAWEngine(cutoff=300, kpts=(2, 2, 2), eigenstates=1e-8, density=1e-6)
    found = check_engine(gpaw, iron(), tmp_path)
    assert set(found.names) == {"rotated", "stretched", "moved"}
    assert found.ratios == pytest.approx(1.0, abs=0.03)
    frame = gpaw.label(iron(), tmp_path)
    torque = np.cross(frame.spins, frame.magnetic_forces)
    assert np.abs(torque.sum(axis=0)).max() < 1e-3 * np.abs(torque).max()


def test_engines_are_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Engine()
