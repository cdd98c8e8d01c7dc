"""DeePMD-kit's input.json: every entry has its meaning here, or is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import Tensor

from deepspin_ase import set_spins
from deepspin_ase.data import Dataset, Frame, read_dataset, write_dataset
from deepspin_ase.potentials import Prediction
from deepspin_ase.potentials.deepmd._entries import (
    REQUIRED,
    SECTIONS,
    Entry,
    magnetic_elements,
)
from deepspin_ase.potentials.materials.reference import fe
from deepspin_ase.training import (
    Trainer,
    TrainingConfig,
    from_deepmd_input,
    read_config,
    read_sets,
)
from deepspin_ase.training._batch import Batch
from deepspin_ase.training._config import LossConfig
from deepspin_ase.training._loss import training_loss
from deepspin_ase.training._schedule import learning_rate, loss_weights

Values = dict[str, Any]

#: What DeePMD-kit 3.2.0 makes of an input with few entries (its out.json).
NORMALIZED = Path(__file__).parents[1] / "data" / "deepmd" / "normalized_input.json"
LOSS = NORMALIZED.with_name("loss.json")
RATES = NORMALIZED.with_name("learning_rates.json")
DP = os.environ.get("DEEPMD_DP")

DEEPMD: Values = {
    "_comment": "as in examples/spin/se_e2_a",
    "model": {
        "type_map": ["Ni", "O"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [60, 60],
            "rcut_smth": 5.4,
            "rcut": 5.6,
            "neuron": [25, 50, 100],
            "resnet_dt": False,
            "axis_neuron": 16,
            "type_one_side": True,
            "precision": "float32",
            "seed": 1,
            "_comment2": "that's all",
        },
        "fitting_net": {
            "neuron": [240, 240, 240],
            "resnet_dt": True,
            "precision": "float32",
            "seed": 1,
        },
        "data_stat_nbatch": 10,
        "spin": {
            "use_spin": [True, False],
            "virtual_scale": [0.314],
            "_comment": "that's all",
        },
    },
    "learning_rate": {
        "type": "exp",
        "decay_steps": 5000,
        "start_lr": 0.001,
        "stop_lr": 3.51e-8,
        "_comment": "that's all",
    },
    "loss": {
        "type": "ener_spin",
        "start_pref_e": 0.02,
        "limit_pref_e": 1,
        "start_pref_fr": 1000,
        "limit_pref_fr": 1,
        "start_pref_fm": 500,
        "limit_pref_fm": 10.0,
    },
    "training": {
        "training_data": {"systems": ["../data_0", "../data_1"], "batch_size": 3},
        "validation_data": {"systems": "../data_2", "batch_size": 1, "numb_btch": 3},
        "numb_steps": 100000,
        "seed": 10,
        "disp_file": "lcurve.out",
        "disp_freq": 100,
        "save_freq": 10000,
    },
}


def changed(*changes: tuple[str, object]) -> Values:
    """Return the input with some entries changed; ``...`` removes one."""
    values: Values = json.loads(json.dumps(DEEPMD))
    for path, value in changes:
        *sections, last = path.split(".")
        target = values
        for name in sections:
            target = target.setdefault(name, {})
        if value is ...:
            target.pop(last, None)
        else:
            target[last] = value
    return values


def mapped(*changes: tuple[str, object], folder: Path = Path()) -> TrainingConfig:
    return TrainingConfig.from_dict(from_deepmd_input(changed(*changes), folder=folder))


def with_entry(section: str, name: str, value: object) -> TrainingConfig:
    return mapped((f"{section}.{name}".removeprefix("."), value))


def entries(kind: str) -> list[Any]:
    return [
        pytest.param(section, name, entry, id=f"{section}.{name}")
        for section, table in SECTIONS.items()
        for name, entry in table.items()
        if entry.kind == kind
    ]


def write_iron(folder: Path, n_frames: int = 2, n_atoms: int = 2) -> None:
    """Write frames of iron with random labels as a DeePMD folder."""
    rng = np.random.default_rng(0)
    frames = [
        Frame(
            numbers=[26] * n_atoms,
            positions=2.5 * np.arange(n_atoms)[:, None]
            + 0.1 * rng.random((n_atoms, 3)),
            cell=2.5 * n_atoms * np.eye(3),
            pbc=[True] * 3,
            spins=rng.normal(size=(n_atoms, 3)),
            energy=rng.normal(),
            forces=rng.normal(size=(n_atoms, 3)),
            magnetic_forces=rng.normal(size=(n_atoms, 3)),
        )
        for _ in range(n_frames)
    ]
    write_dataset(folder, Dataset(frames))


def test_example_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.write_text(json.dumps(DEEPMD, indent="\t"))
    config = read_config(path)
    assert config.model.type_map == ["Ni", "O"]
    assert config.model.descriptor.sel == [60, 60]
    assert config.model.descriptor.type_one_side
    assert config.model.spin.scales() == [0.314, 0.0]
    assert config.model.fitting_net.neuron == [240, 240, 240]
    assert config.learning_rate.stop_lr == 3.51e-8
    assert config.learning_rate.decay == "exp"
    assert config.loss.weights["magnetic_forces"] == (500, 10)
    assert config.training.numb_steps == 100000
    assert config.training.batch_size == 3
    assert config.training.seed == 10
    assert config.training.precision == "float32"
    assert [Path(p).name for p in config.data.training] == ["data_0", "data_1"]
    assert config.data.training[0].startswith(str(tmp_path))
    assert len(config.data.validation) == 1


def test_omitted_entries_have_defaults_of_deepmd() -> None:
    few = {
        "model": {
            "type_map": ["Ni", "O"],
            "descriptor": {"type": "se_e2_a", "sel": [60, 60]},
            "spin": {"use_spin": [True, False], "virtual_scale": 0.3},
        },
        "learning_rate": {"start_lr": 0.002},
        "loss": {"type": "ener_spin"},
        "training": {
            "training_data": {"systems": ["a"], "batch_size": 1},
            "numb_steps": 100000,
        },
    }
    config = TrainingConfig.from_dict(from_deepmd_input(few))
    descriptor = config.model.descriptor
    assert (descriptor.rcut, descriptor.rcut_smth) == (6.0, 0.5)
    assert (descriptor.neuron, descriptor.axis_neuron) == ([10, 20, 40], 4)
    assert not descriptor.type_one_side and not descriptor.resnet_dt
    assert descriptor.env_protection == 0.01
    assert config.model.fitting_net.neuron == [120, 120, 120]
    assert config.model.fitting_net.resnet_dt
    assert config.loss.weights == {
        "energy": (0.02, 1.0),
        "forces": (1000.0, 1.0),
        "magnetic_forces": (10000.0, 10.0),
        "virial": (0.0, 0.0),
    }
    rate = config.learning_rate
    assert (rate.start_lr, rate.stop_lr, rate.warmup_steps) == (0.002, 5e-8, 0)
    assert (rate.decay, rate.decay_steps) == ("exp", 5000)
    run = config.training
    assert (run.precision, run.weight_decay, run.averaging) == ("float64", 0.0, 0.0)
    assert run.gradient_clip is None and not run.keep_best
    assert (run.disp_freq, run.save_freq) == (1000, 1000)


def test_normalized_input_of_deepmd_runs(tmp_path: Path) -> None:
    """What DeePMD-kit writes as out.json, with the loss of its documentation."""
    write_iron(tmp_path / "data")
    path = tmp_path / "out.json"
    path.write_text(NORMALIZED.read_text())
    config = read_config(path)
    assert config.loss.weights["magnetic_forces"] == (10000.0, 10.0)
    assert config.training.batch_size == 16  # "auto": 32 atoms
    data = read_dataset(config.data.training)
    Trainer(config, data, output=tmp_path / "run").run(progress=False)
    assert (tmp_path / "run" / "model.pt").is_file()


@pytest.mark.parametrize(("section", "name", "entry"), entries("fixed"))
def test_what_has_no_counterpart_is_refused(
    section: str, name: str, entry: Entry
) -> None:
    with pytest.raises(ValueError, match=rf"{name} = \[-3\.5\] has no counterpart"):
        with_entry(section, name, [-3.5])
    for neutral in (*entry.neutral, *([[]] if None in entry.neutral else [])):
        assert with_entry(section, name, neutral) == mapped()


@pytest.mark.parametrize(("section", "name", "entry"), entries("free"))
def test_what_changes_nothing_is_dropped(section: str, name: str, entry: Entry) -> None:
    assert with_entry(section, name, ["anything"]) == mapped()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.descriptor.type", "dpa2", "'dpa2'; only se_e2_a"),
        ("model.descriptor.type", ..., "None; only se_e2_a"),
        ("model.spin", ..., "no spin model"),
        ("model.spin.virtual_scale", ..., "needs virtual_scale, or virtual_len"),
        ("model.descriptor.sel", "automatic", "sel is 'automatic'; give the largest"),
        ("model.descriptor.sel", "auto:x", "sel is 'auto:x'"),
        ("model.descriptor.sel", 60, "60 must be a text or a list"),
        ("model.descriptor.sel", ..., "no file or folder"),
        ("model.descriptor.exclude_types", [[0, 1]], "exclude_types = "),
        ("model.descriptor.precision", "bfloat16", "precision = 'bfloat16'"),
        ("model.fitting_net.precision", "float64", "'float32' and .*'float64'"),
        ("model.fitting_net.type", "dipole", "'dipole' has no counterpart"),
        ("model.type", "linear_ener", "'linear_ener' has no counterpart"),
        ("model", {"type": "dpa4", "type_map": ["Ni"]}, "'dpa4' has no counterpart"),
        ("model", {"type_map": ["Ni"]}, "model.descriptor is missing"),
        ("model.fitting_net.atom_ener", [-3.0, None], "free atoms"),
        ("loss.type", "ener", "loss of this input is 'ener'"),
        ("loss.type", ..., "loss of this input is 'ener'"),
        ("loss", ..., "loss is missing"),
        ("learning_rate", ..., "learning_rate is missing"),
        ("learning_rate.type", "wsd", "'wsd' has no counterpart"),
        ("learning_rate.stop_lr_ratio", 0.1, "stop_lr and stop_lr_ratio"),
        ("learning_rate.decay_rate", 0.1, "below stop_lr"),
        ("optimizer.type", "LKF", "'LKF' has no counterpart"),
        ("optimizer.weight_decay", 0.1, "use AdamW"),
        ("training.numb_steps", ..., "numb_steps is missing"),
        ("training.num_steps", 5, "numb_steps and num_steps are the same"),
        ("training.numb_stepz", 3, "did you mean 'numb_steps'"),
        ("training.training_data", ["a"], "must be a section"),
        ("training.training_data.batch_size", [1, 2], "give one number"),
        ("training.training_data.batch_size", "filter:32", "give one number"),
        ("training.training_data.batch_size", "auto", "no DeePMD system"),
        ("training.training_data.rglob_patterns", ["*"], "no DeePMD system"),
        ("training.training_data.set_pre", "set", "did you mean 'set_prefix'"),
        ("modle", {}, "did you mean 'model'"),
        ("training.numb_steps", "many", "'many' must be a whole number"),
        ("training.seed", [1, 2], "must be a whole number"),
        ("training.training_data.batch_size", "auto:x", "as in 'auto:32'"),
        ("training.training_data.batch_size", "auto:0", "as in 'auto:32'"),
        ("training.training_data.systems", 3, "must be a text or a list"),
        ("learning_rate.start_lr", "0.1", "'0.1' must be a number"),
        ("learning_rate.start_lr", -1.0, "start_lr must be finite and > 0"),
        ("learning_rate.decay_steps", 0, "decay_steps must be a whole number >= 1"),
        ("loss.start_pref_e", True, "True must be a number"),
        ("model.descriptor.neuron", 25, "25 must be a list"),
        ("model.descriptor.resnet_dt", "yes", "'yes' must be true or false"),
        ("model.descriptor", [], "must be a section"),
    ],
)
def test_what_is_refused(path: str, value: object, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        mapped((path, value))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([True, False], [True, False]),
        (["Ni"], [True, False]),
        (["O", "Ni"], [True, True]),
        ([1], [False, True]),
        ([0, 1], [True, True]),
        ([], [False, False]),
    ],
)
def test_magnetic_elements(given: object, expected: list[bool]) -> None:
    assert mapped(("model.spin.use_spin", given)).model.spin.use_spin == expected


@pytest.mark.parametrize(
    "given",
    [["Fe"], [2], [-1], [True], [True, 1], ["Ni", 1], ["Ni", "Ni"], "Ni", None, [1.0]],
)
def test_magnetic_elements_that_are_none(given: object) -> None:
    with pytest.raises(ValueError, match=r"use_spin = .* must be one boolean"):
        magnetic_elements(given, ["Ni", "O"])


def test_spins_of_the_tensorflow_back_end() -> None:
    config = mapped(
        ("model.spin.virtual_scale", ...),
        ("model.spin.virtual_len", [0.4]),
        ("model.spin.spin_norm", [1.2737]),
    )
    assert config.model.spin.scales() == pytest.approx([0.4 / 1.2737, 0.0])
    with pytest.raises(ValueError, match="and not both"):
        mapped(("model.spin.virtual_len", [0.4]), ("model.spin.spin_norm", [1.2737]))
    with pytest.raises(ValueError, match="of each magnetic element"):
        mapped(
            ("model.spin.virtual_scale", ...),
            ("model.spin.virtual_len", [0.4, 0.4]),
            ("model.spin.spin_norm", [1.2737]),
        )


def test_weights_that_start_or_end_at_zero_are_off() -> None:
    weights = mapped(
        ("loss.start_pref_e", 0), ("loss.limit_pref_v", 1), ("loss.limit_pref_fm", 0)
    ).loss.weights
    assert weights["energy"] == weights["virial"] == (0.0, 0.0)
    assert weights["magnetic_forces"] == (0.0, 0.0)
    assert weights["forces"] == (1000.0, 1.0)


def test_counterparts_of_a_run() -> None:
    run = mapped(
        ("training.gradient_max_norm", 5.0),
        ("training.enable_ema", True),
        ("training.numb_steps", ...),
        ("training.stop_batch", 7),
        ("optimizer", {"type": "AdamW"}),
    ).training
    assert (run.gradient_clip, run.averaging, run.numb_steps) == (5.0, 0.999, 7)
    assert run.weight_decay == 1e-3
    old = mapped(("training.opt_type", "AdamW"), ("training.weight_decay", 0.1))
    assert old.training.weight_decay == 0.1


def test_learning_rates_of_deepmd(caplog: pytest.LogCaptureFixture) -> None:
    stairs = mapped(("training.numb_steps", 20000), ("learning_rate.stop_lr", 1e-5))
    rate = [learning_rate(stairs.learning_rate, k, 20000) for k in (0, 4999, 5000)]
    assert rate == pytest.approx([1e-3, 1e-3, 1e-3 * 10**-0.5])
    smooth = mapped(("learning_rate.smooth", True)).learning_rate
    assert smooth.decay_steps is None
    short = mapped(("training.numb_steps", 2000)).learning_rate
    assert short.decay_steps == 100
    by_rate = mapped(
        ("learning_rate.stop_lr", ...),
        ("learning_rate.decay_rate", 0.9),
        ("learning_rate.decay_steps", 10000),
    ).learning_rate
    assert by_rate.stop_lr == pytest.approx(1e-3 * 0.9**10)
    ratio = mapped(("learning_rate.stop_lr", ...), ("learning_rate.stop_lr_ratio", 0.1))
    assert ratio.learning_rate.stop_lr == pytest.approx(1e-4)
    assert not caplog.text
    warm = mapped(("learning_rate.warmup_ratio", 0.01)).learning_rate
    assert warm.warmup_steps == 1000
    assert "decays from the first" in caplog.text


@pytest.mark.parametrize("case", json.loads(RATES.read_text()))
def test_learning_rates_are_those_of_deepmd(case: Values) -> None:
    n_steps = case["steps of the training"]
    section = {"type": case["type"], "start_lr": 1e-3, **case["entries"]}
    config = mapped(
        ("learning_rate", section), ("training.numb_steps", n_steps)
    ).learning_rate
    found = [learning_rate(config, step, n_steps) for step in case["steps"]]
    assert found == pytest.approx(case["rates"], rel=1e-12)


def test_batches_are_counted_in_the_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_iron(tmp_path / "small", n_atoms=3)
    data = ("training.training_data.systems", ["small"])

    def frames(rule: str, *changes: tuple[str, object]) -> int:
        size = ("training.training_data.batch_size", rule)
        return mapped(data, size, *changes, folder=tmp_path).training.batch_size

    assert frames("auto") == 11
    assert frames("auto:4") == 2
    assert frames("max:4") == 1
    assert frames("mixed:7") == 7
    assert not caplog.text
    write_iron(tmp_path / "large", n_atoms=16)
    both = ("training.training_data.systems", ".")
    assert frames("auto", both) == 2
    assert "means 2 to 11 frames" in caplog.text


@pytest.mark.parametrize(
    ("sel", "rcut", "expected"),
    [("auto", 2.4, 8), ("auto", 2.7, 16), ("auto:1.3", 2.7, 20), (..., 2.7, 16)],
)
def test_slots_are_counted_in_the_data(
    tmp_path: Path, sel: object, rcut: float, expected: int
) -> None:
    """Of 8 and 14 neighbours: with a margin, the next multiple of four."""
    atoms = bulk("Fe", a=2.5, cubic=True)
    set_spins(atoms, [[0.0, 0.0, 2.0]] * 2)
    write_dataset(tmp_path / "fe", Dataset([Frame.from_atoms(atoms)]))
    values = json.loads(NORMALIZED.read_text())
    values["training"]["training_data"] = {"systems": ["fe"]}
    descriptor = values["model"]["descriptor"]
    descriptor |= {"sel": sel, "rcut": rcut, "rcut_smth": 2.0}
    if sel is ...:
        del descriptor["sel"]
    config = TrainingConfig.from_dict(from_deepmd_input(values, folder=tmp_path))
    assert config.model.descriptor.sel == [expected]


def test_the_loss_is_that_of_deepmd() -> None:
    given = json.loads(LOSS.read_text())
    magnetic = np.array([True, True, False, False])
    batches = []
    labels = given["labels"]
    for k, energy in enumerate(labels["energy"]):
        frame = Frame(
            numbers=[26, 26, 8, 8],
            positions=2.0 * np.arange(12).reshape(4, 3),
            cell=np.zeros((3, 3)),
            pbc=[False] * 3,
            spins=np.where(magnetic[:, None], np.ones((4, 3)), 0.0),
            energy=energy[0],
            forces=labels["force"][k],
            magnetic_forces=labels["force_mag"][k],
            virial=np.reshape(labels["virial"][k], (3, 3)),
        )
        batches.append(Batch.from_frame(frame, fe()))

    def tensor(name: str, *shape: int) -> Tensor:
        values = given["predictions"][name]
        return torch.tensor(values, dtype=torch.float64).reshape(shape)

    prediction = Prediction(
        energy=tensor("energy", 3),
        energies=torch.zeros(12, dtype=torch.float64),
        volume=torch.ones(3, dtype=torch.float64),
        forces=tensor("force", 12, 3),
        magnetic_forces=tensor("force_mag", 12, 3),
        virial=tensor("virial", 3, 3, 3),
    )
    config = LossConfig.from_dict(given["weights"])
    for rate, expected in given["losses"]:
        weights = loss_weights(config, rate / 1e-3)
        found = training_loss(prediction, Batch.cat(batches), weights)
        assert float(found) == pytest.approx(expected, rel=1e-12)


def test_only_systems_that_fit_the_patterns_are_read(tmp_path: Path) -> None:
    """A held-out system beside them is not trained on."""
    for name in ("a/train_1", "a/train_2", "a/held_out"):
        write_iron(tmp_path / name)
    path = tmp_path / "input.json"
    values = changed(
        ("training.training_data.systems", "."),
        ("training.training_data.rglob_patterns", ["train_*"]),
        ("training.validation_data.systems", ["a"]),
        ("training.validation_data.rglob_patterns", ["held*", "nothing"]),
    )
    path.write_text(json.dumps(values))
    config = read_config(path)
    names = [Path(p).name for p in config.data.training]
    assert names == ["train_1", "train_2"]
    assert [Path(p).name for p in config.data.validation] == ["held_out"]


@pytest.mark.parametrize(
    "changes", [{"sys_probs": [0.7, 0.3]}, {"rglob_patterns": ["*"]}]
)
def test_systems_by_absolute_paths_from_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Values
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    systems = [str(tmp_path / "data" / name) for name in ("a", "b")]
    for system in systems:
        write_iron(Path(system), 2)
    given = systems if "sys_probs" in changes else str(tmp_path / "data")
    values = json.loads(NORMALIZED.read_text())
    values["training"]["training_data"] = {"systems": given, "batch_size": 1} | changes
    values["training"]["validation_data"] = {"systems": systems[:1]}
    Path("input.json").write_text(json.dumps(values))
    config = read_config("input.json")
    sets = read_sets(config.data, config.model)
    assert sum(len(own.training) for own in sets) == 4


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({"sys_probs": [0.5, 0.3, 0.2]}, {"a": 3.0, "b": 0.9, "c": 0.4}),
        ({"sys_weights": [3, 0, 1]}, {"a": 4.5, "c": 0.5}),
        ({"auto_prob": "prob_uniform"}, {"a": 2.0, "b": 1.0, "c": 2.0 / 3.0}),
        (
            {"auto_prob_style": "prob_sys_size;0:1:0.5;1:3:0.5"},
            {"a": 3.0, "b": 0.6, "c": 0.6},
        ),
    ],
)
def test_probabilities_of_systems_are_weights(
    tmp_path: Path, changes: Values, weights: dict[str, float]
) -> None:
    """Systems of 2, 4 and 6 frames: the loss is the same on average."""
    for name, n_frames in (("a", 2), ("b", 4), ("c", 6)):
        write_iron(tmp_path / name, n_frames)
    data = {"systems": ["a", "b", "c"], "batch_size": 1} | changes
    values = json.loads(NORMALIZED.read_text())
    values["training"]["training_data"] = data
    values["training"]["validation_data"] = {"systems": ["a"]}
    (tmp_path / "input.json").write_text(json.dumps(values))
    config = read_config(tmp_path / "input.json")
    sets = read_sets(config.data, config.model)
    assert [own.name for own in sets] == list(weights)
    for own in sets:
        assert not own.offset
        expected = dict.fromkeys(own.weights, weights[own.name])
        assert own.weights == pytest.approx(expected)
    assert len(sets[0].validation) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sys_probs": [0.5, 0.5]}, "one number >= 0 for each of the 1 systems"),
        ({"sys_probs": [-1]}, "one number >= 0"),
        ({"sys_probs": [0]}, "one number >= 0"),
        ({"sys_probs": ["all"]}, "one number >= 0"),
        ({"sys_probs": 1.0}, "must be a list"),
        ({"auto_prob": "prob_sys"}, "'prob_sys' is unknown"),
        ({"auto_prob": "prob_sys_size;0:1"}, "block '0:1'"),
    ],
)
def test_probabilities_that_are_none(
    tmp_path: Path, changes: Values, message: str
) -> None:
    write_iron(tmp_path / "a")
    data = {"systems": ["a"], "batch_size": 1} | changes
    with pytest.raises(ValueError, match=message):
        mapped(("training.training_data", data), folder=tmp_path)


@pytest.mark.parametrize("use_spin", [[], [False], ["Fe"]])
def test_a_model_without_magnetic_elements_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, use_spin: list[object]
) -> None:
    write_iron(tmp_path / "data")
    values = json.loads(NORMALIZED.read_text())
    values["model"]["spin"]["use_spin"] = use_spin
    (tmp_path / "input.json").write_text(json.dumps(values))
    config = read_config(tmp_path / "input.json")
    Trainer(config, read_sets(config.data), output=tmp_path / "run")
    told = "Fe carry moments, but no element is magnetic" in caplog.text
    assert told == (use_spin != ["Fe"])


ARGUMENTS = """
import json
from deepmd.utils.argcheck import gen_args

def rows(section, argument, tags):
    fields = list(argument.sub_fields.values())
    for variant in argument.sub_variants.values():
        tag = tags.get((section, variant.flag_name))
        if tag is not None:
            fields += variant.choice_dict[tag].sub_fields.values()
    for one in fields:
        default = one.default if isinstance(
            one.default, (int, float, str, bool, list, type(None))) else "none"
        default = "none" if type(one.default).__name__ == "_Flags" else default
        yield section, one.name, list(one.alias), default
        yield from rows(f"{section}.{one.name}", one, tags)

tags = {("model", "type"): "standard", ("model.descriptor", "type"): "se_e2_a",
        ("model.fitting_net", "type"): "ener", ("learning_rate", "type"): "exp",
        ("optimizer", "type"): "Adam", ("loss", "type"): "ener_spin"}
result = []
for argument in gen_args():
    result += [["", argument.name, list(argument.alias), "none"]]
    result += [list(row) for row in rows(argument.name, argument, tags)]
print("ARGUMENTS", json.dumps(result))
"""


@pytest.mark.skipif(DP is None, reason="needs deepmd-kit: set DEEPMD_DP to dp's path")
def test_the_table_is_that_of_deepmd() -> None:
    """Names, aliases and defaults of all entries, as DeePMD-kit declares them."""
    assert DP is not None
    python = Path(DP).with_name("python")
    run = subprocess.run(
        [python, "-W", "ignore", "-c", ARGUMENTS],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [x for x in run.stdout.splitlines() if x.startswith("ARGUMENTS")]
    checked = 0
    for section, name, aliases, default in json.loads(line.removeprefix("ARGUMENTS")):
        if section not in SECTIONS:
            continue  # inside an entry that has no counterpart
        table = SECTIONS[section]
        entry = table.get(name)
        assert entry is not None, f"{section}.{name} is unknown"
        for alias in aliases:
            assert alias in entry.aliases or alias in table, f"{section}.{alias}"
        if default == "none":
            continue
        if entry.kind == "fixed":
            assert entry.is_neutral(default), f"{section}.{name} = {default!r}"
        elif entry.kind == "used" and entry.default is not REQUIRED:
            changed_later = (section, name) == ("optimizer", "weight_decay")
            assert changed_later or entry.default == default, f"{section}.{name}"
        checked += 1
    assert checked > 80
