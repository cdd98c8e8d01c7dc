"""The loop of active learning: files, resumed runs, bad input."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk

from deepspin_ase._files import locked
from deepspin_ase.calculators import DeepSpinCalculator
from deepspin_ase.cli import main
from deepspin_ase.data import read_dataset
from deepspin_ase.io import read_extxyz, write_extxyz
from deepspin_ase.labels import ENGINES, CalculatorEngine, LabelError
from deepspin_ase.learning import ActiveLearning, LearnConfig, _loop
from deepspin_ase.potentials import load_potential, save_potential
from deepspin_ase.potentials.materials import reference
from deepspin_ase.spins import get_spins, set_spins

MODEL = {"basis": 6, "channels": 4, "angular": 3, "spin_channels": 3}
MODEL |= {"spin_angular": 2, "degree": 2, "spin_degree": 1, "four_body": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("learn")
    atoms = bulk("Fe", cubic=True, a=2.87)
    set_spins(atoms, np.tile([0.0, 0.0, 2.2], (2, 1)))
    write_extxyz(folder / "fe.extxyz", [atoms])
    save_potential(folder / "teacher.pt", reference.fe())
    return folder


def write(folder: Path, name: str, **changes: object) -> Path:
    values = {
        "structures": "fe.extxyz",
        "engine": "teacher.pt",
        "output": name,
        "generations": 2,
        "held_back": 4,
        "start": {"count": 12},
        "explore": {
            "temperature_K": [300.0, 900.0],
            "walkers": 4,
            "batch": 2,
            "time_fs": 10.0,
            "timestep_fs": 0.5,
            "interval_fs": 5.0,
        },
        "select": {
            "count": 6,
            "forces": {"low": 1e-4, "high": 1e3},
            "magnetic_forces": {"low": 1e-5, "high": 1e3},
        },
        "train": {"model": MODEL, "training": {"numb_steps": 20, "save_freq": 10}},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def same(a: Path, b: Path) -> None:
    """Require the same data and the same models of two runs."""
    for k in range(2):
        one, other = (x / f"generation-{k:02d}" for x in (a, b))
        for name in ("structures.extxyz", "training.extxyz", "validation.extxyz"):
            assert (one / name).read_text() == (other / name).read_text(), name
        models = [load_potential(x / "training" / "model.pt") for x in (one, other)]
        weights = [m.state_dict() for m in models]
        assert weights[0].keys() == weights[1].keys()
        for key, value in weights[0].items():
            assert torch.equal(value, weights[1][key]), key


@pytest.fixture(scope="module")
def whole(inputs) -> ActiveLearning:
    learning = ActiveLearning(LearnConfig.read(write(inputs, "whole")))
    learning.run(progress=False)
    return learning


def test_a_run_leaves_files(whole, capsys):
    done = whole.generations()
    assert [g.number for g in done] == [0, 1]
    assert done[0].labelled == 12 and done[0].frames == 12
    assert done[1].labelled == done[0].selected and 1 <= done[0].selected <= 6
    assert done[1].frames == 12 + done[0].selected
    assert done[0].uncertain + done[0].lost + done[0].accurate + done[0].unphysical == 8
    # Errors of the first model on the new frames, before it knew them.
    assert done[1].before["forces"] > 0.0 and not done[0].before
    first = whole.folder / "generation-00"
    assert len(read_extxyz(first / "validation.extxyz")) == 3
    # Every training can be repeated by its own file.
    assert yaml.safe_load((first / "training.yaml").read_text())["output"] == "training"
    labels = list((whole.folder / "labels" / "frames").iterdir())
    assert len(labels) == done[1].frames
    assert "derivatives of the energy" in (whole.folder / "check.txt").read_text()
    assert all(read_extxyz(x / "label.extxyz", -1).info["seconds"] >= 0 for x in labels)
    config = whole.folder.with_suffix(".yaml")
    assert main(["learn", str(config), "--status"]) == 0
    assert "2 of 2 generations done" in capsys.readouterr().out


def test_a_finished_run_is_not_repeated(whole, capsys):
    path = whole.folder / "generation-01" / "training" / "model.pt"
    before = path.stat().st_mtime_ns
    assert main(["learn", str(whole.folder.with_suffix(".yaml"))]) in (0, 3)
    assert path.stat().st_mtime_ns == before
    page = (whole.folder / "report.html").read_text()
    # Learning curve, parity, reliability, deviations of both kinds.
    assert page.count("data:image/png;base64,") == 5
    assert "Where frames came from" in page and "start" in page
    assert "derivatives of the energy" in page and "spin_starts" in page
    # The last model is judged by the frames that it was judged by in the run.
    last = whole.generations()[-1]
    cells = [f"<td>{1e3 * error:.3g}</td>" for error in last.errors.values()]
    assert f"generation 1, {last.frames} frames</td>{''.join(cells)}" in page


@pytest.mark.parametrize(
    "stage",
    [
        "explore",
        pytest.param("label_structures", marks=pytest.mark.slow),
        pytest.param("most_informative", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_as_a_whole_one(inputs, whole, monkeypatch, stage):
    config = LearnConfig.read(write(inputs, f"stopped_{stage}"))
    genuine, calls = getattr(_loop, stage), []

    def stopping(*arguments: object, **options: object) -> object:
        result = genuine(*arguments, **options)
        calls.append(stage)
        if len(calls) in (1, 3):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(_loop, stage, stopping)
    for _ in range(10):
        try:
            ActiveLearning(config).run(progress=False)
            break
        except KeyboardInterrupt:
            continue
    assert len(calls) >= 2
    same(whole.folder, Path(config.output))


def test_more_generations_go_on(inputs, whole):
    """One generation, and one more later, are two generations."""
    for count in (1, 2):
        path = write(inputs, "more", generations=count)
        done = ActiveLearning(LearnConfig.read(path)).run(progress=False)
    assert done[1].labelled == done[0].selected == whole.generations()[0].selected
    same(whole.folder, inputs / "more")


def test_workers_of_a_cluster_give_the_same_numbers(inputs, whole):
    """Labels and walkers of two processes: the data and the model of one."""
    pytest.importorskip("distributed")
    path = write(inputs, "spread", workers=2)
    assert main(["learn", str(path)]) == 3
    spread = ActiveLearning(LearnConfig.read(path))
    same(whole.folder, spread.folder)
    done = spread.generations()
    for here, there in zip(whole.generations(), done, strict=True):
        assert here.uncertain == there.uncertain and here.errors == there.errors


def test_data_and_crystals_with_other_names_of_columns(inputs, whole):
    path = whole.folder / "generation-00" / "training.extxyz"
    for old, new in ((path, "known.extxyz"), (inputs / "fe.extxyz", "odd.extxyz")):
        text = old.read_text().replace("initial_magmoms", "mu")
        (inputs / new).write_text(text)
    changes = {"structures": "odd.extxyz", "data": "known.extxyz", "generations": 1}
    changes |= {"start": {"count": 0}, "columns": {"moments": "mu"}}
    config = LearnConfig.read(write(inputs, "columns", **changes))
    (done,) = ActiveLearning(config).run(progress=False)
    assert done.frames == len(read_extxyz(path)) == 9 and done.labelled == 0
    copied = read_extxyz(Path(config.output) / "data.extxyz")
    assert get_spins(copied[0]) == pytest.approx(get_spins(read_extxyz(path, 0)))
    # Every fourth is kept to judge the model by.
    held = read_extxyz(Path(config.output) / "data-held-back.extxyz")
    assert len(copied) == 7 and len(held) == 2


def test_another_configuration_is_refused(inputs, whole):
    other = write(inputs, "whole", seed=5)
    with pytest.raises(ValueError, match="another seed"):
        ActiveLearning(LearnConfig.read(other)).run(progress=False)
    write(inputs, "whole")


class Opposite(CalculatorEngine):
    """Magnetic forces of the other sign."""

    def label(self, atoms, folder):
        frame = super().label(atoms, folder)
        return frame.replace(magnetic_forces=-frame.magnetic_forces)


class Unconverged(CalculatorEngine):
    def label(self, atoms, folder):
        raise LabelError("not converged after 60 iterations")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Opposite, r"labels of made fail the check: .*rotated -.*the other sign"),
        (Unconverged, r"made cannot label .*check \(not converged after 60"),
    ],
)
def test_engines_that_fail_the_check(inputs, monkeypatch, engine, message):
    made = engine(DeepSpinCalculator(reference.fe()))
    monkeypatch.setitem(ENGINES, "made", lambda settings: made)
    path = write(inputs, f"check_{engine.__name__}", engine="made")
    with pytest.raises(ValueError, match=message):
        ActiveLearning(LearnConfig.read(path)).run(progress=False)
    assert not (inputs / f"check_{engine.__name__}" / "labels").exists()


def test_structures_wait_for_a_code_elsewhere(inputs, capsys):
    engine = {"name": "abacus", "pseudo_dir": "/p", "orbital_dir": "/o"}
    engine |= {"pseudopotentials": {"Fe": "Fe.upf"}, "orbitals": {"Fe": "Fe.orb"}}
    path = write(inputs, "elsewhere", engine=engine, start={"count": 4})
    for _ in range(2):
        assert main(["learn", str(path)]) == 3
        said = capsys.readouterr().out
        assert "4 structures wait for the code" in said and "job.sh" in said
    assert len(list((inputs / "elsewhere" / "labels").glob("frames/*/STRU"))) == 4
    assert not (inputs / "elsewhere" / "generation-00" / "training.extxyz").exists()


def test_settings_may_change_until_there_are_labels(inputs, monkeypatch):
    """A run that failed at once is begun anew with what was mended."""
    failing = Unconverged(DeepSpinCalculator(reference.fe()))
    monkeypatch.setitem(ENGINES, "made", lambda settings: failing)
    changes = {"generations": 1, "start": {"count": 4}}
    path = write(inputs, "mended", engine="made", **changes)
    with pytest.raises(ValueError, match="made cannot label"):
        ActiveLearning(LearnConfig.read(path)).run(progress=False)
    path = write(inputs, "mended", generations=1, start={"count": 5})
    (done,) = ActiveLearning(LearnConfig.read(path)).run(progress=False)
    assert done.labelled == 5
    write(inputs, "mended", generations=1, start={"count": 6})
    with pytest.raises(ValueError, match="a run with another start"):
        ActiveLearning(LearnConfig.read(path)).run(progress=False)


def test_two_loops_in_one_folder_are_refused(inputs, tmp_path):
    config = LearnConfig.read(write(inputs, "locked"))
    Path(config.output).mkdir()
    code = "import sys, time; from deepspin_ase._files import locked\n"
    code += "with locked(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, config.output], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=str(holder.pid)):
            ActiveLearning(config).run(progress=False)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with locked(config.output):
        pass


def test_damaged_state_is_named(inputs, whole):
    path = whole.folder / "generation-01" / "generation.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"generation.json is damaged"):
        whole.generations()
    path.write_text(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"structures": "none.extxyz"}, "none.extxyz"),
        ({"engine": {"cutoff": 300}}, "the key 'name'"),
        ({"engine": "no-such-model"}, "no-such-model"),
        ({"start": {"count": 0}}, "no data to begin with"),
        ({"start": {"count": 3}}, r"no label is held back.*held_back \(4\)"),
        ({"train": {"data": {}}}, "unknown section data"),
        ({"explore": {}}, "'explore.temperature_K' is missing"),
        ({"generation": 3}, "did you mean 'generations'"),
    ],
)
def test_bad_input(inputs, changes, message):
    path = write(inputs, "bad", **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ActiveLearning(LearnConfig.read(path)).run(progress=False)


@pytest.mark.slow
def test_kills_lose_nothing(inputs, whole):
    """Killed twenty times, the run ends with the same data and model."""
    path = write(inputs, "killed")
    command = [sys.executable, "-m", "deepspin_ase", "learn", str(path)]
    rng = np.random.default_rng(0)
    kills = 0
    while kills < 20:
        process = subprocess.Popen(command)
        try:
            process.wait(timeout=rng.uniform(2.0, 9.0))
            # Done before it was killed: begin again, with the labels that are there.
            for folder in (inputs / "killed").glob("generation-*"):
                shutil.rmtree(folder)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    subprocess.run(command, check=False)
    same(whole.folder, inputs / "killed")


@pytest.mark.slow
def test_generations_with_gpaw(inputs):
    """Constrained DFT of trial quality: seeds, and what walkers found, are labelled."""
    pytest.importorskip("gpaw", reason="extra gpaw")
    engine = {"name": "gpaw", "cutoff": 250, "kpts": [1, 1, 1], "width": 0.3}
    engine |= {"density": 1e-4, "eigenstates": 1e-6}
    start = {"count": 6, "displacement": 0.05, "states": ["canted"]}
    path = write(inputs, "gpaw", engine=engine, start=start, select={"count": 2})
    learning = ActiveLearning(LearnConfig.read(path))
    first, second = learning.run(progress=False)
    assert first.failed == second.failed == 0
    assert first.labelled == 6 and second.labelled == first.selected == 2
    assert np.isfinite([*first.errors.values(), *second.before.values()]).all()
    # The logs that GPAW left hold what was trained on.
    folder = learning.folder / "labels" / "frames"
    logs = {f.energy: f for f in read_dataset(folder, format="gpaw")}
    assert len(logs) == 8
    for k in range(2):
        (frame, *_) = read_dataset(
            learning.folder / f"generation-{k:02d}" / "training.extxyz"
        )
        log = logs[min(logs, key=lambda energy: abs(energy - frame.energy))]
        assert log.energy == pytest.approx(frame.energy, abs=1e-6)
        assert log.forces == pytest.approx(frame.forces, abs=1e-5)
        assert log.magnetic_forces == pytest.approx(frame.magnetic_forces, abs=1e-5)
