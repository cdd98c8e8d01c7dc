"""The command ``deepspin relax``: files, exit codes, and runs that are resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.io import read

from deepspin_ase import (
    DeepSpinCalculator,
    cant_spins,
    read_extxyz,
    relax,
    set_spins,
    write_extxyz,
)
from deepspin_ase.calculators._recorded import RecordedCalculator
from deepspin_ase.cli import main
from deepspin_ase.potentials import DipoleDipole, save_potential
from deepspin_ase.potentials.materials.reference import fe


def iron(n: int = 2):
    """Bcc iron, canted, displaced and strained."""
    atoms = bulk("Fe", a=2.8, cubic=True) * n
    set_spins(atoms, {"Fe": 2.2})
    cant_spins(atoms, 0.3, seed=1)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_extxyz(tmp_path / "fe.extxyz", iron())
    save_potential(tmp_path / "fe.pt", fe())
    return tmp_path


def command(folder: Path, *options: str, output: str = "relaxed.extxyz") -> list[str]:
    files = [str(folder / name) for name in ("fe.extxyz", "fe.pt", output)]
    return ["relax", files[0], "-m", files[1], "-o", files[2], *options]


def test_steps_and_resume_give_the_same_bits(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = ("-t", str(folder / "whole.xyz")), ("-t", str(folder / "parts.xyz"))
    assert main(command(folder, "--cell", *whole, output="whole.extxyz")) == 0
    assert main(command(folder, "--cell", "--steps", "4", *parts)) == 3
    said = capsys.readouterr().out
    assert "NOT converged" in said and "raise --steps" in said
    assert len(read_extxyz(folder / "parts.xyz")) == 5
    assert main(command(folder, "--cell", *parts)) == 2
    assert "continue it with --resume" in capsys.readouterr().err
    assert main(command(folder, "--cell", "--resume", *parts)) == 0
    assert not (folder / "relaxed.ckpt").exists()
    for mine, yours in (("relaxed.extxyz", "whole.extxyz"), ("parts.xyz", "whole.xyz")):
        assert (folder / mine).read_bytes() == (folder / yours).read_bytes()
    assert main(command(folder, "--cell", "--resume")) == 2
    assert "there is nothing to resume" in capsys.readouterr().err


def test_what_was_computed_is_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    atoms, again = iron(1), iron(1)
    atoms.calc, again.calc = DeepSpinCalculator(fe()), DeepSpinCalculator(fe())
    first = relax(atoms, checkpoint=path, cell=True)
    assert isinstance(atoms.calc, DeepSpinCalculator)
    assert atoms.get_potential_energy() == first.energy

    def fails(*_: object, **__: object) -> None:
        raise CalculationFailed("asked")

    again.calc.calculate = fails
    second = relax(again, checkpoint=path, cell=True)
    assert second == first
    np.testing.assert_array_equal(again.positions, atoms.positions)
    np.testing.assert_array_equal(again.cell.array, atoms.cell.array)


def test_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    """Neither where torques act, whose virial is not symmetric."""
    dipoles = DipoleDipole(cutoff=5.0, elements=["Fe"])
    found = []
    for checkpoint in (None, tmp_path / "run.ckpt"):
        atoms = iron(1)
        atoms.calc = DeepSpinCalculator(fe() + dipoles)
        strain = np.array([[1, 0.02, 0], [0.02, 1, 0.05], [0, 0.05, 1]])
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        relaxed = relax(atoms, cell=True, checkpoint=checkpoint, steps=6)
        assert abs(atoms.calc.results["virial"] - atoms.calc.results["virial"].T).max()
        found.append([relaxed.energy, *relaxed.residuals.values()])
    assert found[1] == pytest.approx(found[0], rel=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model", "model differ"),
        ("structure", "structure differ"),
        ("cell", "cell differ"),
    ],
)
def test_a_checkpoint_of_another_run(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "run.ckpt"
    atoms = iron(1)
    atoms.calc = DeepSpinCalculator(fe())
    relax(atoms, checkpoint=path, steps=1)
    other = iron(1)
    other.calc = DeepSpinCalculator(
        fe(lattice="finnis-sinclair") if change == "model" else fe()
    )
    if change == "structure":
        other.positions[0, 0] += 1e-12
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"run\.ckpt belongs .* run: {message}\. "):
        relax(other, checkpoint=path, steps=1, cell=change == "cell")
    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.97])
def test_a_checkpoint_that_was_cut_or_changed(tmp_path: Path, keep: float) -> None:
    """An end that is missing is computed again; a changed byte is refused."""
    path = tmp_path / "run.ckpt"
    found = []
    for _ in range(2):
        atoms = iron(1)
        atoms.calc = DeepSpinCalculator(fe())
        found.append(relax(atoms, checkpoint=path, steps=6))
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep * len(whole))])
    assert found[0] == found[1]
    middle = int(keep * len(whole)) // 2
    changed = bytes([whole[middle] ^ 4])
    path.write_bytes(whole[:middle] + changed + whole[middle + 1 :])
    atoms = iron(1)
    atoms.calc = DeepSpinCalculator(fe())
    with pytest.raises(ValueError, match=r"run\.ckpt is damaged .*begin anew"):
        relax(atoms, checkpoint=path, steps=6)
    assert not isinstance(atoms.calc, RecordedCalculator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-t", "nowhere/t.extxyz"), "cannot write to"),
        (("-o", "nowhere/relaxed.extxyz"), "does not exist"),
        (("-t", "fe.pt/t.traj"), "cannot write to"),
    ],
)
def test_outputs_are_tried_before_anything_is_computed(
    folder: Path,
    options: tuple[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert main(command(folder, *options)) == 2
    said = capsys.readouterr()
    assert message in said.err and "step" not in said.out
    assert sorted(folder.iterdir()) == before


def test_trajectory_of_ase(folder: Path) -> None:
    path = folder / "steps.traj"
    assert main(command(folder, "-t", str(path), "--steps", "2")) == 3
    assert len(read(path, ":")) == 3


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_killed_at_random_times(folder: Path) -> None:
    options = ("--cell", "--fmax", "1e-6", "--torque-max", "1e-9")
    assert main(command(folder, *options, output="whole.extxyz")) in (0, 3)
    checkpoint = folder / "relaxed.ckpt"
    rng = np.random.default_rng(1)
    killed = 0
    for _ in range(2):
        more = ["--resume"] if checkpoint.exists() else []
        words = [
            sys.executable,
            "-m",
            "deepspin_ase",
            *command(folder, *options, *more),
        ]
        size = checkpoint.stat().st_size if more else 0
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if checkpoint.exists() and checkpoint.stat().st_size > size:
                    time.sleep(rng.uniform(0.0, 0.02))
                    process.kill()
                    break
                time.sleep(0.001)
        killed += process.returncode == -signal.SIGKILL
    assert killed
    assert main(command(folder, *options, "--resume")) in (0, 3)
    mine, yours = (folder / f"{name}.extxyz" for name in ("relaxed", "whole"))
    assert mine.read_bytes() == yours.read_bytes()
