"""Training: loss, reproducibility, restarts, several processes, input files."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from networks import FE_MODEL
from scipy.spatial.transform import Rotation
from structures import labelled
from torch import Tensor

from deepspin_ase import set_spins
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, load_example, read_dataset, write_dataset
from deepspin_ase.potentials import (
    CubicCut,
    DampedCoulomb,
    DeepSpinNetwork,
    Exponential,
    Harmonic,
    Heisenberg,
    Mixture,
    PairPotential,
    Potential,
    SmoothShells,
    Sum,
    Switched,
    UniaxialAnisotropy,
    load_card,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.materials.reference import fe, nio
from deepspin_ase.system import System
from deepspin_ase.training import (
    Batch,
    Trainer,
    TrainingConfig,
    collect,
    compare,
    fit_baseline,
    fit_linear,
    load_batches,
    plot_learning_curve,
    plot_parity,
    read_config,
    read_learning_curve,
)
from deepspin_ase.training._config import LearningRateConfig, LossConfig
from deepspin_ase.training._loss import training_loss
from deepspin_ase.training._sampling import FrameSampler
from deepspin_ase.training._schedule import learning_rate, loss_weights, warmup_steps
from deepspin_ase.training._trainer import _initial_network

Values = dict[str, Any]
MODEL: Values = FE_MODEL
#: Large enough to learn something in seconds.
ABLE_MODEL = MODEL | {
    "descriptor": MODEL["descriptor"] | {"neuron": [8, 16], "sel": [27]},
    "fitting_net": {"neuron": [24, 24]},
}
NIO_MODEL = ABLE_MODEL | {
    "type_map": ["Ni", "O"],
    "spin": {"use_spin": [True, False], "virtual_scale": 0.2},
    "descriptor": ABLE_MODEL["descriptor"] | {"sel": [20, 20]},
}


def values_of(*, model: Values = MODEL, **sections: Values) -> Values:
    """Return a short, small training file; sections update its parts."""
    values: dict[str, Any] = {
        "model": model,
        "data": {"training": ["train.extxyz"]},
        "learning_rate": {"start_lr": 5e-3, "stop_lr": 1e-4, "warmup_steps": 2},
        "loss": {"start_pref_fr": 10.0, "start_pref_fm": 10.0},
        "training": {"numb_steps": 12, "disp_freq": 4, "save_freq": 100, "seed": 1},
    }
    return {name: part | sections.get(name, {}) for name, part in values.items()}


def config_of(**sections: Values) -> TrainingConfig:
    return TrainingConfig.from_dict(values_of(**sections))


def train_frames(n: int = 12) -> Dataset:
    return load_example("fe2_lda", split="train")[:n]


def valid_frames(n: int = 4) -> Dataset:
    return load_example("fe2_lda", split="valid")[:n]


def iron_images(sizes: list[int], seed: int = 0) -> list[Atoms]:
    """Strained bcc iron with displaced atoms and disordered moments."""
    rng = np.random.default_rng(seed)
    images = []
    for n in sizes:
        atoms = bulk("Fe", a=2.87, cubic=True) * (n, 1, 1)
        strain = np.eye(3) + rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(scale=0.06, size=atoms.positions.shape)
        moments = np.array([0, 0, 2.2]) + rng.normal(scale=0.4, size=(len(atoms), 3))
        set_spins(atoms, moments)
        images.append(atoms)
    return images


def nio_images(n: int, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        atoms = bulk("NiO", "rocksalt", a=4.18, cubic=True)
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        moments = rng.normal(size=(len(atoms), 3))
        moments *= 2.0 / np.linalg.norm(moments, axis=1, keepdims=True)
        moments[atoms.numbers == 8] = 0.0
        set_spins(atoms, moments)
        images.append(atoms)
    return images


def weights(potential: Potential) -> Tensor:
    values = [v.double().flatten() for v in potential.state_dict().values()]
    return torch.cat(values)


def trained(folder: Path, **sections: Values) -> tuple[Trainer, Potential]:
    config = config_of(**sections)
    trainer = Trainer(config, train_frames(), valid_frames(), output=folder)
    return trainer, trainer.run(progress=False)


# --- the course of a run ---------------------------------------------------------


def test_errors_fall(tmp_path: Path) -> None:
    run = {"numb_steps": 150, "batch_size": 4, "disp_freq": 10}
    rates = {"start_lr": 3e-2}
    trained(
        tmp_path,
        model=ABLE_MODEL,
        training=run,
        learning_rate=rates,
        loss={"limit_pref_fr": 10},
    )
    curve = read_learning_curve(tmp_path / "lcurve.csv")
    spread = np.sqrt(np.mean([np.square(f.forces) for f in valid_frames()]))
    assert curve["validation_rmse_forces"][-1] < 0.4 * spread
    assert curve["loss"][-1] < 0.4 * curve["loss"][0]
    assert np.all(np.diff(curve["lr"]) < 0)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_seed_fixes_the_run(tmp_path: Path, precision: str) -> None:
    run = {"precision": precision, "time_reversal": True, "spin_rotation": True}
    _, first = trained(tmp_path / "a", training=run)
    _, second = trained(tmp_path / "b", training=run)
    _, other = trained(tmp_path / "c", training=run | {"seed": 2})
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    curves = [(tmp_path / k / "lcurve.csv").read_text() for k in "ab"]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_result_equals_its_file(tmp_path: Path, precision: str) -> None:
    _, potential = trained(tmp_path, training={"precision": precision})
    loaded = load_potential(tmp_path / "model.pt")
    system = System.from_atoms(train_frames()[0].to_atoms())
    found, expected = loaded.evaluate(system), potential.evaluate(system)
    assert torch.equal(found.energy, expected.energy)
    assert torch.equal(found.magnetic_forces, expected.magnetic_forces)
    assert found.energy.dtype == torch.float64


AUGMENTED = {
    "numb_steps": 10,
    "batch_size": 3,
    "averaging": 0.9,
    "time_reversal": True,
    "spin_rotation": True,
    "save_freq": 7,
}


def stop_at(trainer: Trainer, step: int) -> None:
    """Press Ctrl-C in the middle of a step."""
    advance = trainer._advance

    def pressed(rank: int, world: int) -> float:
        if trainer.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return advance(rank, world)

    trainer._advance = pressed  # type: ignore[method-assign]


@pytest.mark.parametrize("step", [3, 7, 9])
def test_interrupted_run_continues_bit_for_bit(tmp_path: Path, step: int) -> None:
    whole, potential = trained(tmp_path / "whole", training=AUGMENTED)

    def trainer() -> Trainer:
        return Trainer(
            config_of(training=AUGMENTED),
            train_frames(),
            valid_frames(),
            output=tmp_path / "parts",
        )

    stopped = trainer()
    stop_at(stopped, step)
    before = signal.getsignal(signal.SIGINT)  # shells ignore it in the background
    with pytest.raises(KeyboardInterrupt):
        stopped.run(progress=False)
    assert stopped.step == step
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "parts" / "model.pt").exists()

    continued = trainer()
    continued.restore()
    assert continued.step == step
    result = continued.run(progress=False)
    assert torch.equal(weights(result), weights(potential))
    assert torch.equal(weights(continued.network), weights(whole.network))
    for name in ("lcurve.csv", "config.yaml"):
        texts = [(tmp_path / k / name).read_text() for k in ("whole", "parts")]
        assert texts[0] == texts[1]


def test_killed_run_continues_from_its_last_checkpoint(tmp_path: Path) -> None:
    """What was written after the checkpoint is forgotten."""
    _, whole = trained(tmp_path / "whole", training=AUGMENTED)

    def trainer() -> Trainer:
        return Trainer(
            config_of(training=AUGMENTED),
            train_frames(),
            valid_frames(),
            output=tmp_path / "parts",
        )

    killed = trainer()
    advance = killed._advance

    def dies(rank: int, world: int) -> float:
        if killed.step == 9:
            raise RuntimeError("killed")
        return advance(rank, world)

    killed._advance = dies  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="killed"):
        killed.run(progress=False)
    continued = trainer()
    continued.restore()
    assert continued.step == 7
    result = continued.run(progress=False)
    assert torch.equal(weights(result), weights(whole))
    texts = [(tmp_path / k / "lcurve.csv").read_text() for k in ("whole", "parts")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("damage", ["removed", "rows", "digits", "bytes"])
def test_the_curve_of_a_resumed_run_is_that_of_its_checkpoint(
    tmp_path: Path, damage: str
) -> None:
    """What became of the file meanwhile does not matter."""
    trainer, _ = trained(tmp_path, training={"numb_steps": 8})
    path = tmp_path / "lcurve.csv"
    whole = path.read_bytes()
    continued = Trainer(trainer.config, train_frames(), valid_frames(), output=tmp_path)
    if damage == "removed":
        path.unlink()
    elif damage == "rows":
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    elif damage == "digits":
        path.write_bytes(whole.replace(b"0.", b"7."))
    else:
        path.write_bytes(whole[: len(whole) // 2] + b"\xff\x00")
    continued.restore()
    continued.run(progress=False)
    assert path.read_bytes() == whole


def test_a_checkpoint_without_rows_of_an_earlier_release(tmp_path: Path) -> None:
    trainer, _ = trained(tmp_path, training={"numb_steps": 8})
    whole = (tmp_path / "lcurve.csv").read_bytes()
    checkpoint = tmp_path / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    del state["curve"]
    torch.save(state, checkpoint)
    continued = Trainer(trainer.config, train_frames(), valid_frames(), output=tmp_path)
    continued.restore()
    continued.run(progress=False)
    assert (tmp_path / "lcurve.csv").read_bytes() == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"step,loss\n", "holds no steps"),
        (b"", "the columns are missing"),
        (b"step,step\n1,2\n", "the columns are step, step"),
        (b"step,loss\n4\n", "line 2 has 1 of 2 numbers"),
        (b"step,loss\n4,1\n8,2e\n", "line 3: could not convert"),
        (b"step,loss\n8,1\n4,2\n", "the steps do not ascend"),
        (b"step,loss\n\xff,1\n", "can't decode byte"),
    ],
)
def test_files_that_are_no_learning_curve(
    tmp_path: Path, text: bytes, message: str
) -> None:
    path = tmp_path / "lcurve.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"lcurve\.csv .*{message}"):
        read_learning_curve(path)


def test_restoring_refuses_what_does_not_belong(tmp_path: Path) -> None:
    trained(tmp_path, training={"numb_steps": 2})

    def restore(data: Dataset, **sections: Values) -> None:
        Trainer(config_of(**sections), data, valid_frames(), output=tmp_path).restore()

    same = {"numb_steps": 2}
    # Names of files and how often errors are reported do not matter.
    renamed = Dataset(train_frames(), name="elsewhere")
    restore(renamed, training=same | {"disp_freq": 3})
    with pytest.raises(ValueError, match="another training run"):
        restore(train_frames(), training=same | {"batch_size": 2})
    with pytest.raises(ValueError, match=r"data differ"):
        restore(train_frames(11), training=same)
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a checkpoint"):
        restore(train_frames(), training=same)
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        restore(train_frames(), training=same)


@pytest.mark.filterwarnings("ignore:start_lr of 1e")
def test_diverging_run_raises_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    run = {"save_freq": 1, "numb_steps": 30}
    rates = {"start_lr": 1e200, "stop_lr": 1e199}
    with pytest.raises(FloatingPointError, match="lower start_lr"):
        trained(tmp_path, training=run, learning_rate=rates)
    assert not (tmp_path / "model.pt").exists()
    assert (tmp_path / "checkpoint.pt").exists()


def test_averaged_weights_follow_those_trained(tmp_path: Path) -> None:
    """The model is the running average of the weights, from the first step on."""
    decay = 0.8
    trainer = Trainer(
        config_of(training={"averaging": decay, "numb_steps": 5}),
        train_frames(),
        output=tmp_path,
    )
    name = "fittings.0.0.matrix"
    steps: list[Tensor] = []
    advance = trainer._advance

    def recorded(rank: int, world: int) -> float:
        loss = advance(rank, world)
        steps.append(trainer.network.state_dict()[name].clone())
        return loss

    trainer._advance = recorded  # type: ignore[method-assign]
    result = trainer.run(progress=False).state_dict()[name]
    expected = steps[0]
    for values in steps[1:]:
        expected = decay * expected + (1 - decay) * values
    torch.testing.assert_close(result, expected)
    assert not torch.allclose(result, steps[-1])


def test_gradient_clip_bounds_the_step(tmp_path: Path) -> None:
    """Adam does not know the scale of the gradient; its moments do."""

    def moments(folder: str, clip: float | None) -> float:
        trainer, _ = trained(
            tmp_path / folder, training={"numb_steps": 1, "gradient_clip": clip}
        )
        states = trainer.optimizer.state.values()
        return sum(float(s["exp_avg"].square().sum()) for s in states) ** 0.5

    assert moments("a", 1e-3) == pytest.approx(0.1 * 1e-3, rel=1e-4)
    assert moments("b", None) > 1e-3


def test_baseline_and_initial_model(tmp_path: Path) -> None:
    """A network on the exact baseline has nothing to learn, and starts so."""
    teacher = fe()
    data = labelled(teacher, iron_images([1, 2, 1]))
    trainer = Trainer(
        config_of(training={"numb_steps": 1}), data, output=tmp_path, baseline=teacher
    )
    for found in compare(trainer.potential, collect(trainer.frames)).values():
        assert found.rmse < 1e-10
    saved = trainer.run(progress=False)
    assert isinstance(saved, Sum)
    assert load_card(tmp_path / "model.pt")["baseline"] == "Sum"

    values = values_of() | {"init_model": str(tmp_path / "model.pt")}
    again = Trainer(TrainingConfig.from_dict(values), data, output=tmp_path / "2")
    old = next(m for m in saved.modules() if isinstance(m, DeepSpinNetwork))
    assert torch.equal(
        again.network.state_dict()["fittings.0.0.matrix"],
        old.state_dict()["fittings.0.0.matrix"],
    )
    other = values | {"model": MODEL | {"fitting_net": {"neuron": [11]}}}
    with pytest.raises(ValueError, match=r"differs .* in model\.fitting_net\.neuron;"):
        Trainer(TrainingConfig.from_dict(other), data, output=tmp_path / "3")
    moments = values | {"model": {"elements": ["Fe"], "magnetic": ["Fe"]}}
    with pytest.raises(ValueError, match=r"no single SpinMomentNetwork.*: DeepSpinNet"):
        Trainer(TrainingConfig.from_dict(moments), data, output=tmp_path / "4")


def _spins(scale: object) -> Values:
    model: Values = json.loads(json.dumps(MODEL))
    model["type_map"] = ["Fe", "O", "Ni"]
    model["spin"] = {"use_spin": [True, False, True], "virtual_scale": scale}
    model["descriptor"]["sel"] = [20, 20, 20]
    return model


@pytest.mark.parametrize("scale", [[0.2], [0.2, 0.2], [0.2, 0.0, 0.2], [0.2, 9.0, 0.2]])
def test_an_initial_model_spelt_otherwise(tmp_path: Path, scale: object) -> None:
    first = TrainingConfig.from_dict(values_of() | {"model": _spins(0.2)})
    save_potential(tmp_path / "model.pt", DeepSpinNetwork(first.model, seed=3))
    other = _spins(scale)
    other["descriptor"]["set_davg_zero"] = True
    values = values_of() | {"model": other, "init_model": str(tmp_path / "model.pt")}
    network = _initial_network(TrainingConfig.from_dict(values))
    expected = DeepSpinNetwork(first.model, seed=3).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"virtual_scale": [0.2, 0.3]}, "model.spin.virtual_scale"),
        ({"use_spin": [True, True, True]}, "model.spin.use_spin"),
        ({"use_spin": [False, False, True]}, "model.spin.use_spin"),
    ],
)
def test_an_initial_model_that_differs(
    tmp_path: Path, change: Values, names: str
) -> None:
    first = TrainingConfig.from_dict(values_of() | {"model": _spins(0.2)})
    save_potential(tmp_path / "model.pt", DeepSpinNetwork(first.model))
    other = _spins(0.2)
    other["spin"] |= change
    values = values_of() | {"model": other, "init_model": str(tmp_path / "model.pt")}
    with pytest.raises(ValueError, match=rf"differs .*{names}.*deepspin info"):
        _initial_network(TrainingConfig.from_dict(values))


# --- labels ----------------------------------------------------------------------


def test_mixed_sizes_in_one_batch_equal_single_frames() -> None:
    """The loss of a batch is that of its labels pooled, whatever the sizes."""
    data = labelled(fe(), iron_images([1, 3, 2]))
    net = DeepSpinNetwork(config_of().model)
    batches = load_batches(data, net)
    joined = Batch.cat(batches)
    weight = loss_weights(LossConfig(start_pref_v=1.0, limit_pref_v=1.0), 0.5)
    found = training_loss(net.evaluate(joined.system, joined.pairs), joined, weight)

    predictions = [net.evaluate(b.system, b.pairs) for b in batches]
    expected = 0.0
    for name, factor in weight.items():
        errors = []
        for batch, prediction in zip(batches, predictions, strict=True):
            error = getattr(prediction, name) - getattr(batch, name)
            if name in ("energy", "virial"):
                error = error / math.sqrt(batch.system.n_atoms)
            errors.append(error.flatten())
        expected += factor * float(torch.cat(errors).square().mean())
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        (8, 0, "4 frames for training repeat the structures of others"),
        (4, 2, "2 of 2 frames for validation are trained on, too"),
        (4, 6, "4 of 6 frames for validation are trained on, too"),
        (4, -2, None),
    ],
)
def test_frames_that_are_there_twice(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    training: int,
    validation: int,
    message: str | None,
) -> None:
    """Listed twice, or held back and trained on, also after a file of few decimals."""
    frames = train_frames()
    kept = [frames[k % 4] for k in range(training)]
    held = [frames[k] for k in (range(validation) if validation >= 0 else (4, 5))]
    write_dataset(tmp_path / "kept.extxyz", Dataset(kept))
    kept_frames = read_dataset(tmp_path / "kept.extxyz")
    config = config_of(training={"numb_steps": 1})
    Trainer(config, kept_frames, Dataset(held), output=tmp_path).run(progress=False)
    said = [
        r.getMessage()
        for r in caplog.records
        if r.levelname == "WARNING" and "frames for" in r.getMessage()
    ]
    assert [message in text for text in said] == ([True] if message else [])


def test_batches_of_mixed_sizes_train(tmp_path: Path) -> None:
    data = labelled(fe(), iron_images([1, 3, 2, 1]))
    trainer = Trainer(
        config_of(training={"batch_size": 3}), data, data[:2], output=tmp_path
    )
    trainer.run(progress=False)
    parity = compare(trainer.potential, collect(trainer.validation_frames))
    assert len(parity["forces"].label) == 3 * (2 + 6)
    assert len(parity["magnetic_forces_transverse"].label) == 2 * (2 + 6)
    assert len(parity["virial"].label) == 9 * 2


@pytest.mark.parametrize(
    "missing", ["energy", "forces", "magnetic_forces", "virial", "rows"]
)
def test_missing_labels_are_masked(missing: str) -> None:
    """What is not labelled neither counts nor spoils the gradient."""
    frames = list(labelled(fe(), iron_images([1, 2])))
    if missing == "rows":
        magnetic = np.array(frames[0].magnetic_forces)
        magnetic[1] = np.nan
        partly = frames[0].replace(magnetic_forces=magnetic)
    else:
        partly = frames[0].replace(**{missing: None})
    net = DeepSpinNetwork(config_of().model)
    weight = loss_weights(LossConfig(start_pref_v=1.0), 1.0)
    losses, gradients = [], []
    for frame in (frames[0], partly):
        batch = Batch.cat(load_batches(Dataset([frame, frames[1]]), net))
        loss = training_loss(
            net.evaluate(batch.system, batch.pairs, create_graph=True), batch, weight
        )
        grads = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        gradients.append(torch.cat([g.flatten() for g in grads if g is not None]))
        losses.append(loss.item())
    assert math.isfinite(losses[1])
    assert torch.isfinite(gradients[1]).all()
    assert losses[0] != losses[1]


def test_moments_of_length_zero_are_not_fitted() -> None:
    atoms = iron_images([1])[0]
    frame = labelled(fe(), [atoms])[0]
    spins = np.array(frame.spins)
    spins[1] = 0.0
    batch = Batch.from_frame(frame.replace(spins=spins), fe())
    assert torch.isnan(batch.magnetic_forces).all(1).tolist() == [False, True]


def test_prediction_that_is_not_finite_is_not_masked() -> None:
    net = DeepSpinNetwork(config_of().model)
    batch = load_batches(train_frames(1), net)[0]
    prediction = net.evaluate(batch.system, batch.pairs)
    broken = prediction.replace(forces=prediction.forces * torch.nan)
    assert math.isnan(float(training_loss(broken, batch, {"forces": 1.0})))


@pytest.mark.parametrize("delta", [0.01, 100.0])
def test_huber_loss(delta: float) -> None:
    net = DeepSpinNetwork(config_of().model)
    batch = load_batches(train_frames(1), net)[0]
    prediction = net.evaluate(batch.system, batch.pairs)
    found = training_loss(prediction, batch, {"forces": 2.0}, delta)
    error = (prediction.forces - batch.forces).abs()
    expected = torch.nn.functional.huber_loss(error, 0 * error, delta=delta)
    assert float(found) == pytest.approx(2.0 * 2.0 * float(expected))
    plain = training_loss(prediction, batch, {"forces": 2.0})
    assert (float(found) < 0.9 * float(plain)) == (delta < 1)


def test_element_energies_are_found() -> None:
    """Labels shifted per element shift the model's energies and nothing else."""
    data = Dataset(
        [labelled(nio(), nio_images(1))[0], labelled(fe(), iron_images([1]))[0]]
    )
    model = MODEL | {
        "type_map": ["O", "Fe", "Ni"],
        "spin": {"use_spin": [False, True, True], "virtual_scale": 0.2},
        "descriptor": MODEL["descriptor"] | {"sel": [20, 20, 20]},
    }
    shift = {8: -400.0, 26: -100.0, 28: 30.0}
    moved = Dataset(
        f.replace(energy=f.energy + sum(shift[z] for z in f.numbers)) for f in data
    )
    trainers = [
        Trainer(config_of(model=model), frames, output="unused")
        for frames in (data, moved)
    ]
    for frame in data:
        system = System.from_atoms(frame.to_atoms())
        before, after = (t.potential.evaluate(system).energy for t in trainers)
        total = sum(shift[z] for z in frame.numbers)
        assert float(after - before) == pytest.approx(total, abs=1e-8)
    energies = [t.references.elements for t in trainers]
    change = {z: energies[1][z] - energies[0][z] for z in shift}
    assert change[26] == pytest.approx(-100.0)
    # Two compositions determine Fe and the sum of Ni and O; the rest is shared.
    assert change[8] + change[28] == pytest.approx(-370.0)


def test_virial_in_the_loss(tmp_path: Path) -> None:
    """Of two runs, the one that is shown the virial predicts it."""
    data = labelled(fe(exchange=None), iron_images([1] * 16))
    errors = {}
    for weight in (0.0, 1.0):
        trainer = Trainer(
            config_of(
                model=ABLE_MODEL,
                training={"numb_steps": 150, "batch_size": 4, "disp_freq": 150},
                learning_rate={"start_lr": 3e-2},
                loss={
                    "start_pref_v": weight,
                    "limit_pref_v": weight,
                    "start_pref_fr": weight,
                    "limit_pref_fr": weight,
                },
            ),
            data,
            output=tmp_path / str(weight),
        )
        found = compare(trainer.run(progress=False), collect(trainer.frames))
        errors[weight] = found["virial"].rmse
    assert errors[1.0] < 0.5 * float(np.std(found["virial"].label))
    assert errors[1.0] < 0.5 * errors[0.0]


def test_nio_with_two_elements_trains(tmp_path: Path) -> None:
    data = labelled(nio(), nio_images(6))
    run = {"numb_steps": 80, "batch_size": 2, "precision": "float32"}
    trainer = Trainer(
        config_of(model=NIO_MODEL, training=run, learning_rate={"start_lr": 3e-2}),
        data,
        output=tmp_path,
    )
    found = compare(trainer.run(progress=False), collect(trainer.frames))
    assert found["forces"].rmse < 0.6 * float(np.std(found["forces"].label))


def test_comparison_splits_magnetic_forces() -> None:
    """Errors along the moment are longitudinal, those across it transverse."""
    data = labelled(fe(), iron_images([2]))
    frame = data[0]
    along = frame.spins / np.linalg.norm(frame.spins, axis=1, keepdims=True)
    across = np.cross(along, [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    moved = frame.replace(
        energy=frame.energy + 0.4,
        forces=frame.forces + np.array([0.1, 0.0, 0.0]),
        magnetic_forces=frame.magnetic_forces + 0.03 * along + 0.04 * across,
        virial=frame.virial + 0.8 * np.eye(3),
    )
    found = compare(fe(), load_batches(Dataset([moved]), fe()))
    assert found["energy"].rmse == found["energy"].mae == pytest.approx(0.1)
    assert found["forces"].rmse == pytest.approx(0.1 / 3**0.5)
    assert found["forces"].mae == pytest.approx(0.1 / 3)
    assert found["magnetic_forces_longitudinal"].rmse == pytest.approx(0.03)
    assert found["magnetic_forces_transverse"].rmse == pytest.approx(0.04 / 2**0.5)
    assert found["virial"].rmse == pytest.approx(0.2 / 3**0.5)
    bare = Dataset([frame.replace(energy=None, virial=None)])
    assert "energy" not in compare(fe(), load_batches(bare, fe()))
    assert "virial" not in compare(fe(), load_batches(bare, fe()))


# --- augmentation and sampling -----------------------------------------------------


def test_turned_batches_are_those_of_turned_structures() -> None:
    """For a Hamiltonian with the symmetry, labels of turned moments are exact."""
    potential = fe()
    batch = Batch.cat(load_batches(labelled(potential, iron_images([1, 2])), potential))
    turns = torch.tensor(Rotation.random(2, 3).as_matrix())
    turns[1] *= -1.0
    turned = batch.with_rotated_spins(turns)
    found = potential.evaluate(turned.system, turned.pairs)
    for name in ("energy", "forces", "magnetic_forces", "virial"):
        torch.testing.assert_close(
            getattr(turned, name), getattr(found, name), rtol=1e-8, atol=1e-9
        )
    assert not torch.allclose(turned.magnetic_forces, batch.magnetic_forces)


def test_sampler_sees_every_frame_once_per_epoch() -> None:
    sampler = FrameSampler(10, 4, seed=0)
    drawn = [k for _ in range(5) for k in sampler.draw(0, 1)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]


def test_processes_share_one_batch() -> None:
    whole = FrameSampler(10, 4, seed=0)
    parts = [FrameSampler(10, 2, seed=0) for _ in range(2)]
    for _ in range(4):
        expected = whole.draw(0, 1)
        turns = whole.rotations(0, 1, rotate=True, reverse=True)
        found = [p.draw(rank, 2) for rank, p in enumerate(parts)]
        assert found[0] + found[1] == expected
        shares = [
            p.rotations(rank, 2, rotate=True, reverse=True)
            for rank, p in enumerate(parts)
        ]
        assert torch.equal(torch.cat(shares), turns)


def test_turns_are_rotations_and_signs() -> None:
    sampler = FrameSampler(10, 200, seed=0)
    assert sampler.rotations(0, 1, rotate=False, reverse=False) is None
    signs = sampler.rotations(0, 1, rotate=False, reverse=True)
    assert set(signs[:, 0, 0].tolist()) == {-1.0, 1.0}
    assert torch.equal(signs, signs[:, :1, :1] * torch.eye(3))
    for reverse in (False, True):
        turns = sampler.rotations(0, 1, rotate=True, reverse=reverse)
        torch.testing.assert_close(
            turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(200, 3, 3)
        )
        assert set(torch.linalg.det(turns).round().tolist()) == (
            {-1.0, 1.0} if reverse else {1.0}
        )


@pytest.mark.parametrize("decay", ["exp", "cosine"])
def test_schedule(decay: str) -> None:
    rates = LearningRateConfig(start_lr=1e-2, stop_lr=1e-4, decay=decay, warmup_steps=4)
    found = [learning_rate(rates, step, 100) for step in range(101)]
    assert found[0] == pytest.approx(1e-2 / 4)
    assert found[-1] == pytest.approx(1e-4)
    assert found[50] == pytest.approx(1e-3 if decay == "exp" else 0.5 * (1e-2 + 1e-4))
    assert np.all(np.diff(found[4:]) < 0)
    assert [warmup_steps(LearningRateConfig(), n) for n in (40, 9999)] == [10, 200]
    weight = loss_weights(LossConfig(start_pref_e=0.0, limit_pref_e=2.0), 0.25)
    assert weight["energy"] == pytest.approx(1.5)


# --- linear fits -------------------------------------------------------------------


def test_linear_fit_recovers_coefficients() -> None:
    true = {"J": 0.03, "K": -0.002, "k": 2.5}
    terms: list[Callable[[float], Potential]] = [
        lambda c: Heisenberg(CubicCut(c, 4.0)),
        lambda c: UniaxialAnisotropy(c, [0, 0, 1]),
        lambda c: Harmonic(c, 2.4, cutoff=3.3),
    ]
    teacher = Sum([term(c) for term, c in zip(terms, true.values(), strict=True)])
    data = labelled(teacher, iron_images([2] * 4))
    fit = fit_linear([term(1.0) for term in terms], data, ridge=0.0)
    np.testing.assert_allclose(fit.coefficients, list(true.values()), rtol=1e-8)
    for before, after in fit.rmse.values():
        assert after < 1e-8 < before
    spins_only = fit_linear(
        [term(1.0) for term in terms[:2]],
        data,
        weights={"energy": 0.0, "forces": 0.0},
        ridge=0.0,
    )
    np.testing.assert_allclose(spins_only.coefficients, [0.03, -0.002], rtol=1e-8)


def test_linear_fit_copes_with_idle_terms_and_missing_labels() -> None:
    exchange, idle = Heisenberg(CubicCut(1.0, 4.0)), Harmonic(1.0, 0.3, cutoff=0.5)
    frames = labelled(Heisenberg(CubicCut(0.03, 4.0)), iron_images([2] * 3))
    partly = Dataset(f.replace(energy=None, forces=None) for f in frames)
    fit = fit_linear([exchange, idle], partly, ridge=0.0)
    np.testing.assert_allclose(fit.coefficients, [0.03, 0.0], atol=1e-10)
    assert set(fit.rmse) == {"magnetic_forces"}
    bare = Dataset(f.replace(magnetic_forces=None) for f in partly)
    with pytest.raises(ValueError, match="carry no"):
        fit_linear([exchange], bare)
    with pytest.raises(ValueError, match=r"unknown weights \['force'\]"):
        fit_linear([exchange], frames, weights={"force": 1.0})


def test_baseline_of_pairs_and_exchange_is_recovered() -> None:
    near = {
        ("Ni", "O"): [Exponential(0.3, 2.0, 5.0), Exponential(0.5, 2.0, 5.0)],
        ("O", "O"): [Exponential(0.4, 3.0, 5.0)],
        ("Ni", "Ni"): [],
    }
    charges = {("Ni", "O"): -1.0, ("O", "O"): 1.0, ("Ni", "Ni"): 1.0}
    coulomb = Switched(DampedCoulomb(0.2, 5.0), 4.0)
    true = Sum(
        [
            PairPotential(
                Mixture([(0.3 * charges[bond], coulomb), *((0.7, r) for r in some)]),
                elements=bond,
            )
            for bond, some in near.items()
        ]
        + [Heisenberg(SmoothShells(((2.95, 0.02, -0.1),), 0.6), elements=("Ni", "Ni"))]
    )
    data = labelled(true, nio_images(6))
    found = fit_baseline(
        data,
        near=near,
        coulomb=coulomb,
        charges=charges,
        magnetic=("Ni", "Ni"),
        shells=(2.95,),
        width=0.6,
        ridge=0.0,
    )
    expected = [0.3, 0.7, 0.7, 0.7, 0.02, -0.1]
    np.testing.assert_allclose(found.fit.coefficients, expected, rtol=1e-6)
    again = labelled(Sum([*found.lattice, found.exchange]), nio_images(1, seed=9))
    other = labelled(true, nio_images(1, seed=9))
    assert again[0].energy == pytest.approx(other[0].energy, rel=1e-6)
    np.testing.assert_allclose(again[0].forces, other[0].forces, atol=1e-5)
    assert str(found.fit).count("rms of labels") == 3
    with pytest.raises(ValueError, match="must name the same bonds"):
        fit_baseline(
            data,
            near=near,
            coulomb=coulomb,
            charges={("Ni", "O"): -1.0},
            magnetic=("Ni", "Ni"),
            shells=(2.95,),
            width=0.6,
        )


# --- files ---------------------------------------------------------------------------


def test_output_files(tmp_path: Path) -> None:
    trainer, potential = trained(tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {
        "model.pt",
        "checkpoint.pt",
        "config.yaml",
        "lcurve.csv",
        "lcurve.png",
        "parity.png",
    }
    with open(tmp_path / "lcurve.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["step"]) for row in rows] == [4, 8, 12]
    curve = read_learning_curve(tmp_path / "lcurve.csv")
    found = compare(potential, collect(trainer.validation_frames))
    for name, both in found.items():
        assert curve[f"validation_rmse_{name}"][-1] == pytest.approx(both.rmse)
        assert curve[f"validation_mae_{name}"][-1] == pytest.approx(both.mae)
    card = load_card(tmp_path / "model.pt")
    assert card["errors"]["energy"]["rmse"] == pytest.approx(found["energy"].rmse)
    again = TrainingConfig.from_dict(
        yaml.safe_load((tmp_path / "config.yaml").read_text())
    )
    assert again == trainer.config
    for name in ("lcurve.png", "parity.png"):
        assert (tmp_path / name).stat().st_size > 5000
    ax = plot_learning_curve(curve)
    # Four labels, twice, and what the two styles mean.
    assert len(ax.lines) == 10
    assert len(plot_parity(found)) == 4


def test_tensorboard_log(tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    trained(tmp_path, training={"tensorboard": True})
    log = events.EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    values = log.Scalars("validation_rmse_energy")
    curve = read_learning_curve(tmp_path / "lcurve.csv")
    assert [event.step for event in values] == [4, 8, 12]
    np.testing.assert_allclose(
        [event.value for event in values], curve["validation_rmse_energy"], rtol=1e-6
    )


def test_data_that_cannot_be_trained_on(tmp_path: Path) -> None:
    config = config_of()
    with pytest.raises(ValueError, match="no training frames"):
        Trainer(config, Dataset([]), output=tmp_path)
    frame = train_frames(1)[0]
    bare = frame.replace(energy=None, forces=None, magnetic_forces=None)
    with pytest.raises(ValueError, match="validation data carry none of energy"):
        Trainer(config, train_frames(), Dataset([bare]), output=tmp_path)
    nickel = frame.replace(numbers=np.full(2, 28))
    with pytest.raises(ValueError, match=r"odd, frame 1: .*element Ni; it knows Fe"):
        Trainer(config, Dataset([frame, nickel], name="odd"), output=tmp_path)
    assert not list(tmp_path.iterdir())


def write_inputs(folder: Path, values: Values) -> Path:
    write_dataset(folder / "train.extxyz", train_frames())
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_inputs(tmp_path, values_of())
    output = str(tmp_path / "out")
    assert main(["train", str(path), "--output", output]) == 0
    assert "model.pt" in capsys.readouterr().out
    assert main(["train", str(path), "--output", output]) == 2
    assert "--restart" in capsys.readouterr().err
    assert main(["train", str(path), "--output", output, "--restart"]) == 0

    model, data = f"{output}/model.pt", str(tmp_path / "train.extxyz")
    figure = tmp_path / "parity.png"
    assert main(["test", model, data, "--plot", str(figure)]) == 0
    text = capsys.readouterr().out
    expected = compare(load_potential(model), load_batches(train_frames(), fe()))
    for name, both in expected.items():
        line = next(x for x in text.splitlines() if name.replace("_", " ") in x)
        numbers = [float(x) for x in line.split() if x[0].isdigit()]
        assert numbers[0] == pytest.approx(1e3 * both.rmse, abs=1e-3)
        assert numbers[1] == pytest.approx(1e3 * both.mae, abs=1e-3)
    assert "E(S) - E(-S)" in text
    assert figure.exists()
    with np.load(tmp_path / "parity.npz") as numbers:
        np.testing.assert_allclose(
            numbers["energy_prediction"], expected["energy"].prediction
        )

    assert main(["info", model]) == 0
    text = capsys.readouterr().out
    for part in ("DeepSpinNetwork", "elements    Fe", "cutoff      4 A", "rcut_smth"):
        assert part in text
    assert main(["info", str(tmp_path / "nowhere.pt")]) == 2
    assert "neither a file nor a shipped model" in capsys.readouterr().err


def test_info_of_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_potential(tmp_path / "fe.pt", fe(), card={"citation": "nobody"})
    assert main(["info", str(tmp_path / "fe.pt")]) == 0
    text = capsys.readouterr().out
    for part in ("kind        Sum", "MomentExchange", "Landau", "nobody"):
        assert text.count(part) == 1
    assert main(["info"]) == 0


def run_processes(path: Path, output: Path, n: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(n), "-m", "deepspin_ase", "train"]
    subprocess.run(
        [*command, str(path), "--output", str(output)],
        check=True,
        capture_output=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_two_processes_equal_a_batch_of_two(tmp_path: Path) -> None:
    """torchrun on gloo: gradients of the shares average to that of the batch."""
    run = {"numb_steps": 6, "disp_freq": 3, "time_reversal": True}
    path = write_inputs(tmp_path, values_of(training=run))
    run_processes(path, tmp_path / "two", 2)
    _, alone = trained(tmp_path / "one", training=run | {"batch_size": 2})
    together = load_potential(tmp_path / "two" / "model.pt")
    torch.testing.assert_close(weights(together), weights(alone), rtol=1e-9, atol=1e-11)
    curves = [
        read_learning_curve(tmp_path / name / "lcurve.csv") for name in ("one", "two")
    ]
    np.testing.assert_allclose(curves[1]["loss"], curves[0]["loss"], rtol=1e-8)
    _, other = trained(tmp_path / "other", training=run)
    assert not torch.allclose(weights(other), weights(alone), rtol=1e-3)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trainning": {}}, "unknown key 'trainning'; did you mean 'training'"),
        (
            {"training": {"numb_steps": 1, "numb_stepz": 2}},
            "'training.numb_stepz'; did you mean 'numb_steps'",
        ),
        (
            {"model": MODEL | {"descriptor": MODEL["descriptor"] | {"rcutt": 3.0}}},
            "'model.descriptor.rcutt'; did you mean 'rcut'",
        ),
        ({"loss": {"start_pref_f": 1.0}}, "'loss.start_pref_f'; did you mean"),
        ({"training": {}}, "'training.numb_steps' is missing"),
        ({"training": {"numb_steps": -1}}, "numb_steps: .*greater than or equal to 0"),
        ({"training": {"numb_steps": 0, "ridge": 0.0}}, "training.ridge: .*than 0"),
        ({"training": {"numb_steps": 5, "seed": "one"}}, "training.seed"),
        ({"training": {"numb_steps": 5, "seed": -1}}, "training.seed"),
        ({"training": {"numb_steps": True}}, "numb_steps must not be true"),
        ({"learning_rate": {"start_lr": True}}, "start_lr must not be true"),
        ({"training": {"numb_steps": 5, "averaging": 1.0}}, "training.averaging"),
        ({"learning_rate": {"stop_lr": 1.0}}, "stop_lr must not exceed start_lr"),
        ({"learning_rate": {"start_lr": math.nan}}, "learning_rate.start_lr"),
        ({"data": {"training": []}}, "data.training"),
        ({"training": None}, "training"),
    ],
)
def test_misspelt_and_unfit_keys(
    tmp_path: Path, sections: Values, message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values_of() | sections))
    with pytest.raises(ValueError, match=message):
        read_config(path)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)):
        read_config(path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "base.pt").touch()
    values = values_of(data={"validation": ["/somewhere/else"]})
    path = write_inputs(tmp_path, values | {"baseline": "base.pt"})
    config = read_config(path)
    assert config.data.training == [str(tmp_path / "train.extxyz")]
    assert config.data.validation == ["/somewhere/else"]
    assert config.baseline == str(tmp_path / "base.pt")
