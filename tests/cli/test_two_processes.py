"""Two processes at the same files: the second one is refused and changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.build import bulk
from processes import other_process

from deepspin_ase import DeepSpinCalculator, set_spins, write_extxyz
from deepspin_ase._files import locked
from deepspin_ase.analysis.transitions import SamplingTask, run_sampling
from deepspin_ase.cli import main
from deepspin_ase.data import load_example, write_dataset
from deepspin_ase.dynamics import SpinDynamics
from deepspin_ase.optimize import SpinLatticeFilter, SpinLatticeLBFGS, relax
from deepspin_ase.potentials import UniaxialAnisotropy, save_potential
from deepspin_ase.potentials._files import plain_data


def content(folder: Path) -> dict[str, bytes]:
    """Return all files that are no locks."""
    paths = [
        p for p in folder.rglob("*") if p.is_file() and not p.name.endswith("lock")
    ]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a spin up and down, a model, and files for runs."""
    atoms = Atoms("Fe", [[0, 0, 0]])
    for name, moment in (("up", 2.0), ("down", -2.0)):
        set_spins(atoms, [moment])
        write_extxyz(tmp_path / f"{name}.extxyz", atoms)
    save_potential(tmp_path / "model.pt", UniaxialAnisotropy(1e-3, (0, 0, 1)))
    md = {
        "structure": "up.extxyz",
        "model": "model.pt",
        "driver": "spin",
        "timestep_fs": 1.0,
        "steps": 4,
        "output": "md",
    }
    (tmp_path / "md.yaml").write_text(yaml.safe_dump(md))
    write_dataset(tmp_path / "data.extxyz", load_example("fe2_lda")[:2])
    training = {
        "model": {"elements": ["Fe"], "magnetic": ["Fe"], "cutoff": 3.0},
        "data": {"training": ["data.extxyz"]},
        "training": {"numb_steps": 2},
        "output": "training",
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(training))
    learning = {
        "structures": "up.extxyz",
        "engine": "model.pt",
        "explore": {"temperature_K": [300]},
        "output": "learning",
    }
    (tmp_path / "learn.yaml").write_text(yaml.safe_dump(learning))
    for name in ("learning", "labels"):
        (tmp_path / name).mkdir()
    return tmp_path


def command_of(folder: Path, name: str) -> tuple[list[str], Path]:
    """Return a command, and a path that it writes to."""
    at = {n: str(folder / n) for n in ("up.extxyz", "down.extxyz", "model.pt")}
    model = ["--model", at["model.pt"], "--output"]
    band, relaxed = folder / "band.extxyz", folder / "relaxed.extxyz"
    ends = [at["up.extxyz"], at["down.extxyz"]]
    return {
        "md": (["md", str(folder / "md.yaml")], folder / "md" / "run.extxyz"),
        "train": (["train", str(folder / "train.yaml")], folder / "training"),
        "learn": (["learn", str(folder / "learn.yaml")], folder / "learning"),
        "label": (
            ["label", at["up.extxyz"], "-e", at["model.pt"], "-o", f"{folder}/labels"],
            folder / "labels",
        ),
        "neb": (["neb", *ends, *model, str(band), "--axis", "x"], band),
        "relax": (["relax", at["up.extxyz"], *model, str(relaxed)], relaxed),
    }[name]


@pytest.mark.parametrize("name", ["md", "train", "learn", "label", "neb", "relax"])
def test_commands(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, path = command_of(folder, name)
    (folder / "md").mkdir()
    (folder / "training").mkdir()
    before = content(folder)
    with other_process(path) as owner:
        assert main(command) == 2
    said = capsys.readouterr().err
    assert f"{path} is being written by process {owner.pid}" in said
    assert content(folder) == before


def test_resuming_a_living_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, path = command_of(folder, "md")
    assert main(command) == 0
    before = content(folder)
    with other_process(path):
        assert main([*command, "--resume"]) == 2
    assert "being written" in capsys.readouterr().err
    assert content(folder) == before


def test_a_driver_and_its_restart(tmp_path: Path) -> None:
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, {"Fe": 2.0})
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(1e-3, (1, 0, 0)))
    files = {name: tmp_path / name for name in ("logfile", "checkpoint")}
    driver = SpinDynamics(atoms, units.fs, trajectory=tmp_path / "run.extxyz", **files)
    for path in (tmp_path / "run.extxyz", *files.values()):
        with other_process(path), pytest.raises(BlockingIOError, match=path.name):
            driver.run(1)
        assert driver.nsteps == 0
    driver.run(2)
    before = content(tmp_path)
    with other_process(files["logfile"]), pytest.raises(BlockingIOError):
        SpinDynamics.restore(files["checkpoint"])
    assert content(tmp_path) == before
    steps = driver.irun(3)
    next(steps)
    with pytest.raises(AssertionError), other_process(files["checkpoint"]):
        pass  # the other one is refused while the steps are not all taken
    steps.close()
    with other_process(files["checkpoint"]):
        pass


@pytest.mark.parametrize("name", ["path.extxyz", "path.traj", "path.log"])
def test_a_relaxation_in_python(tmp_path: Path, name: str) -> None:
    atoms = Atoms("Fe", magmoms=[[0.1, 0, 2.0]])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(1e-3, (0, 0, 1)))
    path = tmp_path / name
    path.write_text("of the other process")
    files = {"logfile" if path.suffix == ".log" else "trajectory": path}
    with other_process(path) as process:
        with pytest.raises(BlockingIOError, match=f"process {process.pid} "):
            relax(atoms, positions=False, **files)
    assert path.read_text() == "of the other process"
    optimizer = SpinLatticeLBFGS(SpinLatticeFilter(atoms, positions=False), **files)
    with other_process(path) as process:
        with pytest.raises(BlockingIOError, match=f"process {process.pid} "):
            optimizer.run(steps=1)
    assert optimizer.run(fmax=0.01)
    assert not list(tmp_path.glob(".*"))


def test_sampling(tmp_path: Path) -> None:
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, {"Fe": 2.0})
    task = SamplingTask(
        plain_data(UniaxialAnisotropy(1e-3, (1, 0, 0))),
        atoms,
        (100.0,),
        (0.0, 0.0, 0.0),
        atoms.cell.array,
        steps=2,
        equilibration=1,
        checkpoint=str(tmp_path / "new" / "run"),
    )
    samples = run_sampling(task)
    with (
        other_process(tmp_path / "new" / "run.ckpt"),
        pytest.raises(BlockingIOError, match=r"run\.ckpt is being written"),
    ):
        run_sampling(task)
    np.testing.assert_array_equal(run_sampling(task).order, samples.order)
    with locked(tmp_path / "new"):  # a killed run has left a lock
        assert content(tmp_path / "new").keys() == {"run.ckpt", "run.npz"}
