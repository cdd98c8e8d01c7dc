"""Training on data sets of different origin, and what is said of bad data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from networks import FE_MODEL
from structures import labelled as labelled_by

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, Frame, keep_moments, write_dataset
from deepspin_ase.potentials import (
    CubicCut,
    Heisenberg,
    Landau,
    PairPotential,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    Sum,
    load_card,
    load_potential,
    save_potential,
)
from deepspin_ase.quantities import label_table
from deepspin_ase.training import (
    Batch,
    Trainer,
    TrainingConfig,
    TrainingSet,
    aligned,
    compare,
    fit_linear_term,
    load_batches,
    read_config,
    read_sets,
)
from deepspin_ase.training._config import LossConfig
from deepspin_ase.training._energies import ReferenceColumns, fit_reference_energies
from deepspin_ase.training._loss import training_loss
from deepspin_ase.training._scales import fit_scales
from deepspin_ase.training._weights import SHARES, label_sizes, with_weights

LABELS = tuple(label_table())
EVERYTHING = dict.fromkeys(LABELS, 1.0)
SMALL = {"channels": 2, "spin_channels": 2, "basis": 3, "degree": 2, "four_body": 0}
#: Iron whose energy depends on distances, on directions and on lengths of moments.
IRON = Sum(
    [
        PairPotential(CubicCut(0.8, 3.2)),
        Heisenberg(CubicCut(0.1, 3.2)),
        Landau([-0.1, 0.03], elements=["Fe"]),
    ]
)


def structures(symbols: Sequence[str], seed: int) -> list[Atoms]:
    """Strained bcc cells of four atoms with any moments on iron, one per entry."""
    rng = np.random.default_rng(seed)
    found = []
    for symbol in symbols:
        atoms = bulk("Fe", "bcc", a=2.87, cubic=True).repeat((2, 1, 1))
        atoms.symbols[:] = symbol
        strain = np.eye(3) + rng.normal(0, 0.01, (3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(0, 0.05, (4, 3))
        moments = np.array([0, 0, 2.0]) + rng.normal(size=(4, 3))
        moments *= rng.uniform(0.8, 1.6, (4, 1)) / np.linalg.norm(
            moments, axis=1, keepdims=True
        )
        set_spins(atoms, moments * (atoms.numbers == 26)[:, None])
        found.append(atoms)
    return found


def labelled(
    images: Sequence[Atoms], potential: Potential = IRON, name: str = "labelled"
) -> Dataset:
    return labelled_by(potential, images, name)


def network_for(*elements: str, **changes: Any) -> SpinMomentNetwork:
    values = {"elements": list(elements), "magnetic": ["Fe"], "cutoff": 3.5, **SMALL}
    config = SpinMomentConfig.from_dict(values | changes)
    return SpinMomentNetwork(config).requires_grad_(False)


@pytest.fixture(scope="module")
def teacher() -> SpinMomentNetwork:
    """A linear model of iron, which others of its kind can learn exactly."""
    network = network_for("Fe")
    batches = load_batches(labelled(structures(["Fe"] * 8, 3)), network)
    network.fit_statistics((b.system, b.pairs) for b in batches)
    network.start_from_zero()
    network.linear.normal_(generator=torch.Generator().manual_seed(1))
    return network


def only(frame: Frame, *names: str, **changes: Any) -> Frame:
    """Return a frame without other labels."""
    return frame.replace(**{n: None for n in LABELS if n not in names}, **changes)


# --- labels that data lack -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["energy", "forces", "torques", "virial", "no forces"])
def test_each_label_alone_is_learned(teacher: SpinMomentNetwork, kind: str) -> None:
    names = {
        "torques": ("magnetic_forces",),
        "no forces": ("energy", "magnetic_forces"),
    }.get(kind, (kind,))
    count = 90 if kind == "energy" else 30
    data = labelled(structures(["Fe"] * (count + 10), 4), teacher)
    whole = kind != "torques"
    train, rest = (
        Dataset(only(f, *names, longitudinal=whole) for f in part)
        for part in (data[:count], data[count:])
    )
    network = network_for("Fe")
    batches = load_batches(train, network)
    network.fit_statistics((b.system, b.pairs) for b in batches)
    network.start_from_zero()
    found = fit_linear_term(network, batches, EVERYTHING)
    network.element_energies = found.references.elements
    left = compare(network, load_batches(rest, network))
    expected = {
        n + end
        for n in names
        for end in (
            ["_transverse", "_longitudinal"][: 1 + whole] if "mag" in n else [""]
        )
    }
    assert set(left) == expected
    for name, both in left.items():
        assert both.rmse < 3e-3 * np.std(both.label), name


def test_parts_along_moments_do_not_count_where_directions_are_constrained(
    teacher: SpinMomentNetwork,
) -> None:
    frames = labelled(structures(["Fe"] * 4, 5))
    own = TrainingSet(frames, name="a", moments="directions")
    rng = np.random.default_rng(0)
    moved = Dataset(
        f.replace(magnetic_forces=f.magnetic_forces + rng.normal(size=(4, 1)) * f.spins)
        for f in frames
    )
    loss = config_for([own]).loss
    results = []
    for data in (frames, moved):
        batches = load_batches(own.prepared(data, 1.0, loss), teacher)
        batch = Batch.cat(batches)
        prediction = teacher.evaluate(batch.system, batch.pairs)
        student = network_for("Fe")
        student.fit_statistics((b.system, b.pairs) for b in batches)
        student.start_from_zero()
        fit_linear_term(student, batches, EVERYTHING)
        results.append(
            (training_loss(prediction, batch, EVERYTHING), student.linear.clone())
        )
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    # Two of three components count, and their errors are those across.
    across = compare(teacher, batches)["magnetic_forces_transverse"].rmse ** 2
    alone = training_loss(prediction, batch, {"magnetic_forces": 1.0})
    assert float(alone) == pytest.approx(across, rel=1e-9)


def test_self_consistent_moments_have_no_magnetic_forces() -> None:
    frames = labelled(structures(["Fe"] * 2, 6))
    own = TrainingSet(frames, name="a", moments="self-consistent")
    loss = config_for([own]).loss
    bare = Dataset(only(f, "energy", "forces") for f in frames)
    for frame in own.prepared(bare, 1.0, loss):
        np.testing.assert_array_equal(frame.magnetic_forces, np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"frame 0: .*declared self-consistent, but"):
        own.prepared(frames, 1.0, loss)


# --- zeros of energy, and moments ----------------------------------------------------


def test_offsets_are_those_that_compositions_determine() -> None:
    """The first set is the zero; what cannot be told apart belongs to the elements."""
    symbols = [
        ["Fe", "FeO2Fe", "O"],  # the zero, of both elements
        ["Fe3O", "FeO3", "O2FeO"],  # offsets of both
        ["Fe2O2", "O2Fe2"],  # one composition: an offset of all atoms
        ["Ni", "Ni2NiNi"],  # an element that nothing else has
        ["Fe", "Fe"],  # not to be shifted
    ]
    free = [False, True, True, True, False]
    zeros = {"Fe": -8.0, "O": -4.0, "Ni": -6.0}
    shifts = [{}, {"Fe": 1.0, "O": -0.3}, {"Fe": 0.2, "O": 0.2}, {"Ni": 0.5}, {}]
    network = network_for("Fe", "O", "Ni", channels=3)
    network.start_from_zero()
    batches = []
    for member, some in enumerate(symbols):
        for formula in some:
            names = Atoms(formula).get_chemical_symbols()
            atoms = structures([names if len(names) > 1 else names[0]], member)[0]
            energy = sum(zeros[s] + shifts[member].get(s, 0.0) for s in atoms.symbols)
            frame = Frame.from_atoms(atoms).replace(energy=energy)
            batches.append(Batch.from_frame(frame, network, member=member))
    silent = frame.replace(energy=1e4, weights={"energy": 0.0})
    batches.append(Batch.from_frame(silent, network))
    columns = ReferenceColumns(network.species, batches, free)
    assert [member for member, _ in columns.offsets] == [1, 1, 2]
    found = fit_reference_energies(network, batches, columns)
    assert found.elements == pytest.approx({8: -4.0, 26: -8.0, 28: -5.5}, abs=1e-8)
    assert found.offsets[1][26] == pytest.approx(1.0, abs=1e-8)
    assert found.offsets[1][8] == pytest.approx(-0.3, abs=1e-8)
    assert found.offsets[2][26] == found.offsets[2][8] == pytest.approx(0.2, abs=1e-8)
    assert found.offsets[0] == found.offsets[3] == found.offsets[4] == {}
    for batch in batches[:-1]:
        assert float(found.of(batch)) == pytest.approx(float(batch.energy), abs=1e-7)


def other_code(dataset: Dataset, factor: float, shift: float) -> Dataset:
    """Return the labels of a code with other moments, and another zero of energy."""
    return Dataset(
        (
            f.replace(
                spins=f.spins / factor,
                magnetic_forces=f.magnetic_forces * factor,
                energy=f.energy + shift * f.n_atoms,
            )
            for f in dataset
        ),
        name="other",
    )


def test_scale_of_moments_is_found() -> None:
    first = labelled(structures(["Fe"] * 16, 7))
    second = other_code(labelled(structures(["Fe"] * 16, 8)), 1.4, 2.0)
    both = ([False, True], [False, True], EVERYTHING, ["first", "second"])
    scales = fit_scales([first, second], *both)
    assert scales[0] == 1.0
    assert scales[1] == pytest.approx(1.4, rel=0.01)
    without = Dataset(f.replace(spins=0.0 * f.spins) for f in second)
    with pytest.raises(ValueError, match="cannot be fitted: it needs moments"):
        fit_scales([first, without], *both)


def test_a_given_ridge_against_numpy(teacher: SpinMomentNetwork) -> None:
    """As lstsq has it, with rows that hold coefficients and leave element energies."""
    data = labelled(structures(["Fe"] * 9, 13))
    weights = {"energy": 3.0, "forces": 1.0, "magnetic_forces": 10.0, "virial": 0.1}
    student = network_for("Fe")
    batches = load_batches(data, student)
    student.fit_statistics((b.system, b.pairs) for b in batches)
    student.start_from_zero()
    found = fit_linear_term(student, batches, weights, ridge=1e-5)
    assert found.ridge == 1e-5

    rows, labels = [], []
    for frame, batch in zip(data, batches, strict=True):
        n = frame.n_atoms
        design = student.design(batch.system, batch.pairs).numpy()
        root = np.sqrt(
            np.r_[
                weights["energy"] / n,
                np.full(3 * n, weights["forces"] / (3 * n)),
                np.full(3 * n, weights["magnetic_forces"] / (3 * n)),
                np.full(9, weights["virial"] / (9 * n)),
            ]
        )
        count = np.r_[n, np.zeros(len(design) - 1)]
        rows.append(root[:, None] * np.column_stack([design, count]))
        derivatives = (frame.forces, frame.magnetic_forces, frame.virial)
        labels.append(
            root
            * np.concatenate(
                [[frame.energy], *(-label.ravel() for label in derivatives)]
            )
        )
    matrix, right = np.concatenate(rows), np.concatenate(labels)
    sizes = student.linear_sizes().numpy()
    scaled = matrix[:, :-1] * sizes
    count = matrix[:, -1:]
    free = scaled - count @ np.linalg.lstsq(count, scaled, rcond=None)[0]
    largest = np.linalg.norm(free, 2) ** 2
    held = np.c_[np.sqrt(1e-5 * largest) * np.eye(len(sizes)), np.zeros(len(sizes))]
    solution = np.linalg.lstsq(
        np.r_[np.c_[scaled, count], held],
        np.r_[right, np.zeros(len(sizes))],
        rcond=None,
    )[0]
    expected = solution[:-1] * sizes
    difference = np.abs(student.linear.numpy().ravel() - expected).max()
    assert difference < 1e-7 * np.abs(expected).max()
    assert found.references.elements[26] == pytest.approx(solution[-1], rel=1e-9)
    left = matrix @ np.r_[expected, solution[-1]] - right
    assert found.loss == pytest.approx(left @ left / len(data), rel=1e-6)
    with pytest.raises(ValueError, match="ridge must be finite and > 0"):
        fit_linear_term(student, batches, weights, ridge=0.0)


# --- the trainer ---------------------------------------------------------------------


def test_closed_form_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No steps, a ridge, weights of the limit: the model is what the fit gives."""
    data = labelled(structures(["Fe"] * 12, 14))
    write_dataset(tmp_path / "train.xyz", data[:9])
    write_dataset(tmp_path / "valid.xyz", data[9:])
    values = {
        "model": {"cutoff": 3.5, **SMALL},
        "data": {"training": ["train.xyz"], "validation": ["valid.xyz"]},
        "loss": {"weights": {"energy": [0.0, 3.0], "forces": [7.0, 1.0]}},
        "training": {"numb_steps": 0, "ridge": 1e-5, "precision": "float64"},
        "output": "fe",
    }
    file = tmp_path / "fe.yaml"
    file.write_text(yaml.safe_dump(values))
    assert main(["train", str(file)]) == 0
    model, card = (f(tmp_path / "fe" / "model.pt") for f in (load_potential, load_card))
    assert card["training"]["training"]["ridge"] == 1e-5
    weights = {
        n: limit for n, (_, limit) in card["training"]["loss"]["weights"].items()
    }
    student = network_for("Fe")
    batches = load_batches(data[:9], student)
    student.fit_statistics((b.system, b.pairs) for b in batches)
    student.start_from_zero()
    fit_linear_term(student, batches, weights, ridge=1e-5)
    torch.testing.assert_close(model.linear, student.linear, rtol=1e-5, atol=1e-5)
    curve = (tmp_path / "fe" / "lcurve.csv").read_text().splitlines()
    assert len(curve) == 2 and curve[1].startswith("0.0,")
    # A run that exists is not written over, and cannot be continued by nothing.
    assert main(["train", str(file)]) != 0
    assert "already holds a training run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "start, training, message",
    [
        ("deepspin", {"numb_steps": 0}, "no linear term that could be fitted"),
        ("deepspin", {"numb_steps": 1, "ridge": 1e-6}, "ridge is that of a linear"),
        ("init_model", {"numb_steps": 0}, "init_model is not fitted again"),
    ],
)
def test_closed_form_where_there_is_none(
    tmp_path: Path, start: str, training: dict[str, Any], message: str
) -> None:
    own = TrainingSet(labelled(structures(["Fe"] * 4, 15)), name="a")
    values = config_for([own]).to_dict() | {"training": training}
    if start == "init_model":
        save_potential(tmp_path / "start.pt", network_for("Fe"))
        values["init_model"] = str(tmp_path / "start.pt")
    else:
        values["model"] = FE_MODEL
    config = TrainingConfig.from_dict(values)
    with pytest.raises(ValueError, match=message):
        Trainer(config, [own], output=tmp_path / "run")


def config_for(sets: Sequence[TrainingSet], **sections: Any) -> TrainingConfig:
    elements = sorted({s for own in sets for s in own.training.elements})
    values: dict[str, Any] = {
        "model": {"elements": elements, "magnetic": ["Fe"], "cutoff": 3.5, **SMALL},
        "data": {"training": ["x"]},
        "training": {"numb_steps": 4, "disp_freq": 2},
    }
    for name, part in sections.items():
        values[name] = values.get(name, {}) | part
    return TrainingConfig.from_dict(values)


def test_sets_train_together(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a file: offsets and scales are found, and kept in the model's card."""
    data = labelled(structures(["Fe"] * 40, 9))
    write_dataset(tmp_path / "first.xyz", data[:14])
    write_dataset(tmp_path / "valid.xyz", data[14:18])
    write_dataset(tmp_path / "torques.xyz", other_code(data[18:32], 1.4, 2.0))
    bare = Dataset(only(f, "energy", "forces") for f in data[32:])
    write_dataset(tmp_path / "bare.xyz", other_code_energies(bare, -3.0))
    entries = [
        {"files": "first.xyz", "validation": ["valid.xyz"], "name": "first"},
        {"files": ["torques.xyz"], "moments": "directions", "scale": 1.4}
        | {"name": "torques", "uncertainty": {"energy": 0.001}},
        {"files": ["bare.xyz"], "weight": {"forces": 0.5}, "offset": True},
    ]
    file = tmp_path / "fe.yaml"
    model = {"cutoff": 3.5, **SMALL}
    run = {"numb_steps": 4, "disp_freq": 2}
    file.write_text(
        yaml.safe_dump(
            {"model": model, "data": {"training": entries}, "training": run}
            | {"output": "fe"}
        )
    )
    with caplog.at_level("INFO"):
        assert main(["train", str(file)]) == 0
    for text in (
        "elements: Fe; magnetic: Fe (0.8",
        "36 frames for training (144 atoms) and 4 for validation",
        "step 2 of 4, 0 min ",
    ):
        assert text in caplog.text
    card = load_card(tmp_path / "fe" / "model.pt")
    sets = card["sets"]
    assert list(sets) == ["first", "torques", "bare.xyz"]
    assert sets["torques"]["errors"]["on"] == "training"
    assert [own["scale"] for own in sets.values()] == [1.0, 1.4, 1.0]
    assert sets["first"]["offset"] == {}
    assert sets["torques"]["offset"]["Fe"] == pytest.approx(2.0, abs=0.03)
    assert sets["bare.xyz"]["offset"]["Fe"] == pytest.approx(-3.0, abs=0.03)
    again = read_sets(read_config(tmp_path / "fe" / "config.yaml").data)
    assert [own.name for own in again] == list(sets)
    # The errors of a set are those of its data as they were, brought to the model.
    moved = aligned(other_code(data[14:18], 1.4, 2.0), sets["torques"])
    model_ = load_potential(tmp_path / "fe" / "model.pt")
    found = compare(model_, load_batches(moved, model_))
    expected = sets["first"]["errors"]["magnetic_forces_transverse"]["rmse"]
    assert found["magnetic_forces_transverse"].rmse == pytest.approx(expected, rel=1e-4)
    assert "magnetic_forces_longitudinal" not in found
    write_dataset(tmp_path / "later.xyz", other_code(data[14:18], 1.4, 2.0))
    command = ["test", str(tmp_path / "fe" / "model.pt"), str(tmp_path / "later.xyz")]
    assert main([*command, "--set", "nothing"]) == 2
    capsys.readouterr()
    command += [str(tmp_path / "torques.xyz"), "--set", "torques", "--rotations", "1"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    later = next(line for line in lines if line.startswith(str(tmp_path / "later.xyz")))
    assert float(later.split()[3]) == pytest.approx(1e3 * expected, rel=0.01)
    assert any(line.startswith(str(tmp_path / "torques.xyz")) for line in lines)


def other_code_energies(dataset: Dataset, shift: float) -> Dataset:
    return Dataset(f.replace(energy=f.energy + shift * f.n_atoms) for f in dataset)


def test_weights_of_sets_and_frames(tmp_path: Path) -> None:
    """A weight of zero is as good as no label; uncertainty lessens the weight."""
    data = labelled(structures(["Fe"] * 9, 10))
    config = config_for([TrainingSet(data)])
    rest = Dataset(f.replace(forces=9.0 + f.forces) for f in data[6:])
    found = []
    for extra in (
        [TrainingSet(rest, name="b", weights={"forces": 0.0})],
        [
            TrainingSet(
                Dataset(only(f, *{*LABELS} - {"forces"}) for f in rest), name="b"
            )
        ],
    ):
        sets = [TrainingSet(data[:6], name="a"), *extra]
        trainer = Trainer(config, sets, output=tmp_path)
        batch = Batch.cat(trainer._training)
        prediction = trainer.network.evaluate(batch.system, batch.pairs)
        parts = {"energy": 1.0, "magnetic_forces": 1.0}
        found.append([trainer.network.linear, training_loss(prediction, batch, parts)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)
    own = TrainingSet(data, uncertainty={"forces": 0.02, "energy": 0.01})
    loss = LossConfig.from_dict({"weights": {"energy": [10, 10], "forces": [1, 1]}})
    weights = own.prepared(data, 1.0, loss)[0].weights
    assert weights["forces"] == pytest.approx(0.5)  # as large as the expected error
    # The loss weighs energies by 10 over the number of atoms.
    assert weights["energy"] == pytest.approx(1 / (1 + 40 * 0.25))


def odd_columns(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames with names of columns that nobody knows."""
    write_dataset(path, Dataset(frames))
    text = path.read_text()
    for old, new in (("initial_magmoms", "mu"), ("magnetic_forces", "field")):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_names_of_columns_in_training_files(tmp_path: Path) -> None:
    """Of files without a mapping, and of the entries that have one."""
    made = list(labelled_by(IRON, structures(["Fe"] * 4, 7)))
    odd_columns(tmp_path / "a.extxyz", made[:3])
    odd_columns(tmp_path / "b.extxyz", made[3:])
    columns = {"moments": "mu", "magnetic_forces": "field"}
    plain = {"training": ["a.extxyz"], "validation": ["b.extxyz"], "columns": columns}
    entry = {"files": "a.extxyz", "validation": "b.extxyz", "columns": columns}
    for data in (plain, {"training": [entry]}):
        values = {"model": SMALL, "data": data, "training": {"numb_steps": 1}}
        (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
        config = read_config(tmp_path / "train.yaml")
        # Elements were found in the data.
        assert config.model.magnetic == ["Fe"]
        (own,) = read_sets(config.data, config.model)
        for found, expected in zip([*own.training, *own.validation], made, strict=True):
            np.testing.assert_allclose(found.spins, expected.spins, atol=1e-7)
            np.testing.assert_allclose(
                found.magnetic_forces, expected.magnetic_forces, atol=1e-7
            )
    write = (tmp_path / "train.yaml").write_text
    write(yaml.safe_dump(values | {"data": plain | {"columns": {"spin": "mu"}}}))
    with pytest.raises(ValueError, match=r"data\.columns: columns name no spin"):
        read_config(tmp_path / "train.yaml")
    write(yaml.safe_dump(values | {"data": {"training": [entry], "columns": columns}}))
    with pytest.raises(ValueError, match="give columns in the entries of training"):
        read_config(tmp_path / "train.yaml")


def test_patience_ends_a_training(tmp_path: Path) -> None:
    data = labelled(structures(["Fe"] * 8, 11))
    run = {"numb_steps": 1000, "disp_freq": 1, "patience": 3}
    rate = {"start_lr": 1e-9, "stop_lr": 1e-9}
    config = config_for([TrainingSet(data)], training=run, learning_rate=rate)
    trainer = Trainer(config, data[:6], data[6:], output=tmp_path)
    trainer.run(progress=False)
    assert 3 <= trainer.step < 1000
    assert load_card(tmp_path / "model.pt")["errors"]["on"] == "validation"


def test_linear_term_is_fitted_once_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After steps that change the rest; the model is the better one."""
    data = labelled(structures(["Fe"] * 30, 19))
    run = {"numb_steps": 40, "disp_freq": 10, "precision": "float64"}
    weights = {"energy": [10, 10], "forces": [1, 1], "magnetic_forces": [50, 50]}
    config = config_for([TrainingSet(data)], training=run, loss={"weights": weights})
    trainer = Trainer(config, data[:24], data[24:], output=tmp_path)
    with caplog.at_level("INFO"):
        potential = trainer.run(progress=False)
    assert "fitted once more, lowers the loss" in caplog.text
    rows = (tmp_path / "lcurve.csv").read_text().splitlines()
    column = rows[0].split(",").index("validation_rmse_forces")
    found = compare(potential, load_batches(data[24:], potential))
    assert found["forces"].rmse < float(rows[-1].split(",")[column])


# --- bad data ------------------------------------------------------------------------


def told(data: Dataset, caplog: pytest.LogCaptureFixture, **model: Any) -> str:
    config = config_for([TrainingSet(data)], model=model)
    with caplog.at_level("WARNING"):
        Trainer(config, data, output="unused")
    return caplog.text


def test_what_cannot_be_learned_is_said(caplog: pytest.LogCaptureFixture) -> None:
    data = labelled(structures(["Fe"] * 8, 12))
    assert "not learned" not in told(data, caplog)
    unit = Dataset(
        f.replace(spins=f.spins / np.linalg.norm(f.spins, axis=1, keepdims=True))
        for f in data
    )
    assert "all moments of Fe are 1.000 mu_B long" in told(unit, caplog)
    caplog.clear()
    along = Dataset(f.replace(spins=f.spins * [0, 0, 1]) for f in data)
    assert "lie along one axis" in told(along, caplog)
    assert "no magnetic forces" not in caplog.text
    caplog.clear()
    bare = Dataset(only(f, "energy", "forces") for f in data)
    assert "there are no magnetic forces or torques" in told(bare, caplog)
    caplog.clear()
    none = Dataset(f.replace(spins=0.0 * f.spins) for f in data)
    assert "no atom of the training data carries a moment" in told(none, caplog)
    caplog.clear()
    assert "has no magnetic element" in told(data, caplog, magnetic=[])


def test_labels_that_are_nan_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    data = list(labelled(structures(["Fe"] * 8, 13)))
    forces = np.array(data[0].forces)
    forces[:2] = np.nan
    data[0] = data[0].replace(forces=forces)
    data[1] = data[1].replace(energy=np.nan)
    text = told(Dataset(data), caplog)
    assert "energy of 1 of 8 frames, forces of 2 of 32 atoms" in text


PSEUDO_ATOMS = {
    **FE_MODEL,
    "type_map": ["Fe", "Ni"],
    "spin": {"use_spin": [True, True], "virtual_scale": 0.3},
    "descriptor": {**FE_MODEL["descriptor"], "sel": [30, 30]},
}


@pytest.mark.parametrize("kind", ["moments", "pseudo-atoms"])
def test_elements_without_a_frame(
    tmp_path: Path,
    kind: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No model knows them, which users are told; later training keeps what is known."""
    data = labelled(structures(["Fe"] * 6, 14))
    held = labelled(structures(["Fe"] * 2, 15))
    both = {"elements": ["Fe", "Ni"], "magnetic": ["Fe", "Ni"]}
    first = config_for([TrainingSet(data)], model=both).to_dict()
    if kind == "pseudo-atoms":
        first["model"] = PSEUDO_ATOMS
    Trainer(TrainingConfig.from_dict(first), data, held, output=tmp_path / "a").run(
        progress=False
    )
    assert "has Ni, but no frame for training does" in caplog.text
    model = str(tmp_path / "a" / "model.pt")
    assert main(["info", model]) == 0
    assert "no frame with Ni, which calculators refuse" in capsys.readouterr().out
    calculator, atoms = DeepSpinCalculator(model), data[0].to_atoms()
    assert np.isfinite(calculator.get_property("forces", atoms)).all()
    assert np.isfinite(atoms.get_potential_energy())
    atoms.numbers[0] = 28
    with pytest.raises(ValueError, match="lists Ni among its elements, but no frame"):
        calculator.get_property("energy", atoms)
    # From there to nickel alone: what was known of iron is.
    nickel = labelled(structures(["Ni"] * 6, 16))
    second = first | {"init_model": model}
    trainer = Trainer(TrainingConfig.from_dict(second), nickel, output=tmp_path / "b")
    known = trainer.potential.training_range
    assert known.elements == {"Fe", "Ni"} and known.n_frames == 6
    trained_on_iron = load_potential(model).training_range
    name = "distance Fe-Fe"
    assert known.bounds[name] == trained_on_iron.bounds[name]
    assert known.bounds["volume"] != trained_on_iron.bounds["volume"]


def test_sets_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    data = labelled(structures(["Fe"] * 3, 15))
    first = TrainingSet(data, name="first")
    config = config_for([first])
    silent = {"forces": 0.0, "magnetic_forces": 0.0, "virial": 0.0}
    bare = Dataset(only(f, "virial") for f in data)
    for sets, message in (
        ([first, first], "two data sets have the name 'first'"),
        ([first, TrainingSet(Dataset([]), name="b")], "no training frames of b"),
        (
            [first, TrainingSet(bare, name="b", weights=silent)],
            "training data of b carry none of energy, .* have: virial",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(config, sets, output=tmp_path)
    with pytest.raises(ValueError, match="are given with the sets"):
        Trainer(config, [first], data, output=tmp_path)


def test_moments_on_other_elements_are_refused_with_advice(tmp_path: Path) -> None:
    images = structures(["Fe", ["Fe", "Fe", "O", "O"]], 16)
    data = labelled(images, Heisenberg(CubicCut(0.1, 3.2)))
    moments = np.array(data[1].spins)
    moments[2] = [0.0, 0.0, 0.03]
    data = Dataset([data[0], data[1].replace(spins=moments)])
    with pytest.raises(ValueError, match=r"O carries .* 0.03 mu_B.* --magnetic Fe'"):
        Trainer(config_for([TrainingSet(data)]), data, output=tmp_path)
    kept, _ = keep_moments(data, ["Fe"])
    assert kept.magnetic_elements == ("Fe",)
    Trainer(config_for([TrainingSet(kept)]), kept, output=tmp_path)


@pytest.mark.parametrize("factor", [-1.0, 3.0])
def test_labels_that_are_not_conjugate(
    factor: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(17)
    (start,) = structures(["Fe"], 17)
    images = []
    for _ in range(12):
        atoms = start.copy()
        atoms.positions += rng.normal(0, 0.02, (4, 3))
        set_spins(
            atoms, start.get_initial_magnetic_moments() + rng.normal(0, 0.05, (4, 3))
        )
        images.append(atoms)
    data = labelled(images)
    wrong = Dataset(f.replace(forces=factor * f.forces) for f in data)
    config = config_for([TrainingSet(data)])
    with caplog.at_level("WARNING"):
        Trainer(config, data, output=tmp_path)
        assert "conjugate" not in caplog.text
        if factor < 0:
            with pytest.raises(ValueError, match="the forces have the wrong sign"):
                Trainer(config, wrong, output=tmp_path)
        else:
            Trainer(config, wrong, output=tmp_path)
            assert "forces are not conjugate to the energies: dE = 0.33" in caplog.text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"files": "x", "moment": "free"}, "unknown key 'moment'; did you mean"),
        ({"files": "x", "moments": "free"}, "moments: .*'directions'"),
        ({"name": "x"}, "'files' is missing"),
        ({"files": "x", "scale": -1.0}, "scale"),
        ({"files": "x", "weight": {"energies": 1.0}}, "unknown label energies"),
    ],
)
def test_entries_that_are_refused(entry: dict[str, Any], message: str) -> None:
    values = {"model": {"elements": ["Fe"], "magnetic": []}, "training": {}}
    with pytest.raises(ValueError, match=f"data.training.0: .*{message}"):
        TrainingConfig.from_dict(values | {"data": {"training": [entry]}})
    with pytest.raises(ValueError, match="give validation in the entries"):
        data = {"training": [{"files": "x"}], "validation": ["y"]}
        TrainingConfig.from_dict(values | {"data": data})


@pytest.mark.slow
def test_two_processes_keep_the_same_best_model(tmp_path: Path) -> None:
    """torchrun: closed form, offsets and the best weights as of one process."""
    data = labelled(structures(["Fe"] * 16, 18))
    write_dataset(tmp_path / "a.xyz", data[:8])
    write_dataset(tmp_path / "b.xyz", other_code_energies(data[8:12], 1.0))
    write_dataset(tmp_path / "valid.xyz", data[12:])
    training = [{"files": "a.xyz", "validation": "valid.xyz"}, {"files": "b.xyz"}]
    run = {"numb_steps": 6, "disp_freq": 2, "precision": "float64"}
    for processes, size in ((1, 2), (2, 1)):
        values = {
            "model": {"cutoff": 3.5, **SMALL},
            "data": {"training": training},
            "training": run | {"batch_size": size},
            "output": f"out{processes}",
        }
        file = tmp_path / f"{processes}.yaml"
        file.write_text(yaml.safe_dump(values))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes), "-m", "deepspin_ase", "train"]
        subprocess.run([*command, str(file)], check=True, capture_output=True)
    one, two = (load_potential(tmp_path / f"out{k}" / "model.pt") for k in (1, 2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9)
    cards = [load_card(tmp_path / f"out{k}" / "model.pt") for k in (1, 2)]
    assert cards[0]["sets"] == cards[1]["sets"]


# --- weights of the loss from the sizes of labels ------------------------------------


def weights_of(data: Dataset, **given: Any) -> dict[str, tuple[float, float]]:
    own = TrainingSet(data, name="a")
    return with_weights(config_for([own], loss={"weights": given}).loss, [own]).ends


def test_weights_follow_the_sizes_of_labels() -> None:
    """Labels that are scaled by a factor weigh less by its square."""
    data = labelled(structures(["Fe"] * 12, 21))
    before = weights_of(data)
    factors = {"energy": 3.0, "forces": 1.0, "magnetic_forces": 0.1, "virial": 5.0}
    scaled = Dataset(
        f.replace(**{n: x * getattr(f, n) for n, x in factors.items()}) for f in data
    )
    after = weights_of(scaled)
    for name, factor in factors.items():
        expected = before[name][1] / factor**2
        assert after[name] == pytest.approx((expected,) * 2, rel=0.06), name
    sizes = label_sizes([TrainingSet(data)])
    for name in ("forces", "magnetic_forces"):
        rms = [np.sqrt(np.mean(getattr(f, name) ** 2)) for f in data]
        assert sizes[name] == pytest.approx(np.median(rms), rel=1e-12)
        expected = SHARES[name] / sizes[name] ** 2
        assert before[name] == pytest.approx((expected,) * 2, rel=0.06), name


def sizes_of(frames: Iterable[Frame]) -> dict[str, float]:
    return label_sizes([TrainingSet(Dataset(frames))])


def test_sizes_of_labels_know_no_zero_of_energy_and_no_outliers() -> None:
    data = labelled(structures(["Fe"] * 11, 22))
    sizes = sizes_of(data)
    moved = Dataset(f.replace(energy=f.energy - 900.0) for f in data)
    wild = data[0].replace(forces=1e4 * data[0].forces)
    still = data[1].replace(magnetic_forces=np.zeros((4, 3)))
    assert sizes_of(moved) == pytest.approx(sizes, rel=1e-6)
    assert sizes_of([wild, *data[1:]])["forces"] == pytest.approx(
        sizes["forces"], rel=0.3
    )
    found = sizes_of([data[0], still, *data[2:]])["magnetic_forces"]
    assert found == pytest.approx(sizes["magnetic_forces"], rel=0.3)
    # Atoms without a moment have no magnetic forces, and do not make them smaller.
    mixed = labelled(structures([["Fe", "O"] * 2] * 4, 23))
    rms = [np.sqrt(np.mean(f.magnetic_forces[[0, 2]] ** 2)) for f in mixed]
    assert sizes_of(mixed)["magnetic_forces"] == pytest.approx(np.median(rms))


def test_weights_that_are_given_are_kept_and_found_ones_written(tmp_path: Path) -> None:
    data = labelled(structures(["Fe"] * 12, 24))
    own = TrainingSet(data[:8], data[8:], name="a")
    given = {"weights": {"forces": [3.0, 2.0]}}
    run = {"numb_steps": 1, "disp_freq": 1}
    config = config_for([own], loss=given, training=run)
    Trainer(config, [own], output=tmp_path).run(progress=False)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["loss"]["weights"]
    assert written["forces"] == [3.0, 2.0]
    found = weights_of(data[:8])
    for name in ("energy", "magnetic_forces", "virial"):
        assert tuple(written[name]) == found[name]
    # Labels that do not count have no size.
    still = TrainingSet(data, name="a", weights={"magnetic_forces": 0.0})
    ends = with_weights(config_for([still]).loss, [still]).ends
    assert ends["magnetic_forces"] == (50.0, 50.0)
    assert ends["energy"] == weights_of(data)["energy"]
