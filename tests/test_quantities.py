"""The table of quantities: a label that is declared in one row and one model, here."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from ase import units
from ase.data import atomic_numbers
from torch import Tensor, nn

from deepspin_ase import (
    DeepSpinCalculator,
    read_extxyz,
    set_spins,
    write_extxyz,
)
from deepspin_ase._config import Configuration
from deepspin_ase.cli import main
from deepspin_ase.data import (
    Dataset,
    Frame,
    check_dataset,
    load_example,
    read_dataset,
    write_dataset,
)
from deepspin_ase.dynamics import SpinLatticeNVE, read_hdf5
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    ARCHITECTURES,
    Committee,
    Harmonic,
    Prediction,
    Sum,
    TimeReversal,
    Trainable,
    Zeeman,
    _registry,
    architecture,
    load_potential,
)
from deepspin_ase.quantities import QUANTITIES, Quantity, label_table, register_quantity
from deepspin_ase.system import System
from deepspin_ase.training import (
    Batch,
    Trainer,
    TrainingConfig,
    collect,
    compare,
    load_batches,
    plot_learning_curve,
    plot_parity,
    read_learning_curve,
)
from deepspin_ase.training._config import LossConfig
from deepspin_ase.training._loss import loss_of_errors, training_loss

#: The row: a number per atom that is odd in the moments and unknown to ASE.
CHIRALITY = Quantity(
    "chirality",
    "atom",
    "e",
    title="scalar chirality",
    symbol="X",
    time_reversal=-1,
    deepmd_file="chirality",
)


class HeadConfig(Configuration):
    elements: list[str]


class Head(Trainable):
    """Springs and exchange; besides, per atom, a + b m_z."""

    config_class: ClassVar[type[HeadConfig]] = HeadConfig
    config: HeadConfig
    shifts: Tensor

    def __init__(self, config: HeadConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        self.numbers = [atomic_numbers[e] for e in config.elements]
        self.species = frozenset(self.numbers)
        self.exchange = nn.Parameter(torch.tensor(0.01, dtype=torch.float64))
        self.slope = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("shifts", torch.zeros(120, dtype=torch.float64))

    @property
    def cutoff(self) -> float:
        return 4.0

    def forward(self, system: System, pairs: PairList) -> Tensor:
        decay = torch.relu(1.0 - pairs.vectors(system).norm(dim=1) / self.cutoff) ** 3
        product = (system.spins[pairs.i] * system.spins[pairs.j]).sum(1)
        energies = self.shifts[system.species]
        return energies.index_add(0, pairs.i, self.exchange * decay * product)

    def further_quantities(self, system: System, pairs: PairList) -> dict[str, Tensor]:
        return {"chirality": self.slope[0] + self.slope[1] * system.spins[:, 2]}

    def fit_statistics(self, samples: Iterable[tuple[System, PairList]]) -> None:
        pass

    @property
    def element_energies(self) -> dict[int, float]:
        return {z: float(self.shifts[z]) for z in self.numbers}

    @element_energies.setter
    def element_energies(self, energies: Mapping[int, float]) -> None:
        for z, energy in energies.items():
            self.shifts[z] = energy


@pytest.fixture
def label() -> Iterator[None]:
    """Declare label and model in registries that end with the test."""
    with (
        patch.dict(QUANTITIES),
        patch.dict(ARCHITECTURES),
        patch.dict(_registry._classes),
    ):
        register_quantity(CHIRALITY)
        architecture("head")(Head)
        yield


def head(a: float = 0.0, b: float = 0.0) -> Head:
    model = Head(HeadConfig(elements=["Fe"]))
    with torch.no_grad():
        model.slope.copy_(torch.tensor([a, b], dtype=torch.float64))
    return model.requires_grad_(False)


def labelled(n: int = 12) -> Dataset:
    """Frames whose label is 0.5 - 0.3 m_z; the first lacks it."""
    frames = [
        frame.replace(chirality=0.5 - 0.3 * frame.spins[:, 2])
        for frame in load_example("fe2_lda", split="train")[:n]
    ]
    return Dataset([frames[0].replace(chirality=None), *frames[1:]], name="labelled")


@pytest.mark.usefixtures("label")
@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("npy", "deepmd/npy"),
        ("mixed", "deepmd/npy/mixed"),
        ("data.extxyz", "extxyz"),
    ],
)
def test_new_label_is_read_and_written(tmp_path: Path, name: str, format: str) -> None:
    data = labelled(4)
    write_dataset(tmp_path / name, data, format=format)
    found = read_dataset(tmp_path / name)
    assert found.count("chirality") == data.count("chirality") == 3
    assert check_dataset(found).labels["chirality"] == 3
    for frame in found:
        if frame.chirality is not None:
            expected = 0.5 - 0.3 * frame.spins[:, 2]
            np.testing.assert_allclose(frame.chirality, expected, atol=1e-8)
    if format != "extxyz":
        assert len(list((tmp_path / name).rglob("chirality.npy"))) == 1


@pytest.mark.usefixtures("label")
def test_new_label_is_checked() -> None:
    frame = labelled()[1]
    with pytest.raises(ValueError, match=r"chirality have shape \(3,\); expected"):
        frame.replace(chirality=np.zeros(3))
    with pytest.raises(ValueError, match="chirality are not finite"):
        frame.replace(chirality=[0.0, np.inf])


@pytest.mark.usefixtures("label")
def test_new_label_is_trained_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "train.extxyz", labelled())
    values = {
        "model": {"type": "head", "elements": ["Fe"]},
        "data": {"training": ["train.extxyz"]},
        "learning_rate": {"start_lr": 0.05, "stop_lr": 1e-3, "warmup_steps": 1},
        "loss": {"weights": {"chirality": [10.0, 10.0], "forces": [0.0, 0.0]}},
        "training": {
            "numb_steps": 120,
            "batch_size": 4,
            "disp_freq": 30,
            "keep_best": True,
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    output = tmp_path / "out"
    command = ["train", str(tmp_path / "config.yaml"), "--output", str(output)]
    assert main(command) == 0
    model = load_potential(output / "model.pt")
    torch.testing.assert_close(
        model.slope, torch.tensor([0.5, -0.3]).double(), rtol=0, atol=0.02
    )
    curve = read_learning_curve(output / "lcurve.csv")
    assert curve["training_rmse_chirality"][-1] < 0.02
    titles = [line.get_label() for line in plot_learning_curve(curve).lines]
    assert "scalar chirality (e)" in titles

    found = compare(model, collect(load_batches(labelled(), model)))
    assert len(found["chirality"].label) == 22
    axes = plot_parity({"chirality": found["chirality"]})
    assert axes[0].get_title().startswith("scalar chirality")
    capsys.readouterr()
    data = str(tmp_path / "train.extxyz")
    assert main(["test", str(output / "model.pt"), data]) == 0
    line = next(
        x for x in capsys.readouterr().out.splitlines() if x.startswith("chirality")
    )
    assert line.split()[-2:] == ["me", "22"]


@pytest.mark.usefixtures("label")
def test_errors_mean_the_loss_of_structures_of_one_size() -> None:
    """Kinds of errors share the weight of their quantity as its components do."""
    model = head(0.4, -0.2)
    virial = 0.1 * np.arange(9.0).reshape(3, 3)
    batch = Batch.cat(
        load_batches(Dataset(f.replace(virial=virial) for f in labelled()[1:]), model)
    )
    weights = {"energy": 2.0, "forces": 3.0, "magnetic_forces": 5.0, "virial": 7.0}
    weights["chirality"] = 11.0
    loss = training_loss(model.evaluate(batch.system, batch.pairs), batch, weights)
    found = loss_of_errors(compare(model, [batch]), weights, 2.0)
    assert found == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.usefixtures("label")
def test_weight_of_a_label_that_is_not_predicted(tmp_path: Path) -> None:
    values = {
        "model": {
            "type": "deepspin",
            "type_map": ["Fe"],
            "spin": {"use_spin": [True], "virtual_scale": 0.2},
            "descriptor": {"rcut": 4.0, "rcut_smth": 2.0, "sel": [30], "neuron": [4]}
            | {"axis_neuron": 2},
            "fitting_net": {"neuron": [4]},
        },
        "data": {"training": ["x"]},
        "loss": {"weights": {"chirality": [1.0, 0.0]}},
        "training": {"numb_steps": 1},
    }
    with pytest.raises(ValueError, match="weighs chirality, but DeepSpinNetwork pred"):
        Trainer(TrainingConfig.from_dict(values), labelled(), output=tmp_path)
    values["loss"] = {}
    Trainer(TrainingConfig.from_dict(values), labelled(), output=tmp_path)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"weights": {"force": [1, 1]}},
            "loss.weights: unknown label force; known: en",
        ),
        ({"weights": {"forces": [1]}}, "loss.weights.forces"),
        ({"weights": {"forces": [1, -1]}}, "loss.weights.forces.1"),
        ({"weights": 3}, "loss.weights"),
        (
            {"weights": {"forces": [1, 1]}, "limit_pref_fr": 2.0},
            "weights.forces and limit_pref_fr are the same: give one",
        ),
    ],
)
def test_weights_that_are_refused(loss: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig.from_dict(loss, where="loss")


def test_weights_under_both_names() -> None:
    ours = LossConfig.from_dict({"weights": {"energy": [0.5, 2.0], "virial": [0, 3]}})
    theirs = LossConfig.from_dict(
        {"start_pref_e": 0.5, "limit_pref_e": 2.0, "limit_pref_v": 3.0}
    )
    assert ours == theirs == LossConfig.from_dict(ours.to_dict())
    assert ours.weights["forces"] == (1000.0, 1.0)


@pytest.mark.usefixtures("label")
def test_new_quantity_of_combined_potentials() -> None:
    system = System.from_atoms([frame.to_atoms() for frame in labelled(2)])
    expected = 0.5 - 0.3 * system.spins[:, 2]
    one, two = head(0.5, -0.3), head(0.1, 0.0)
    total = Sum([one, Zeeman([0, 0, 10.0]), two]).evaluate(system)
    torch.testing.assert_close(total.chirality, expected + 0.1)
    alone = Sum([one, Harmonic(1.0, 2.4, cutoff=3.0)]).evaluate(system)
    torch.testing.assert_close(alone.chirality, expected)
    mean = Committee([one, two]).evaluate(system)
    torch.testing.assert_close(mean.chirality, 0.5 * (expected + 0.1))
    torch.testing.assert_close(
        mean.deviations["chirality"], 0.5 * (expected - 0.1).abs()
    )
    odd = TimeReversal(one).evaluate(system)
    torch.testing.assert_close(odd.chirality, -0.3 * system.spins[:, 2])
    assert Zeeman([0, 0, 10.0]).evaluate(system).chirality is None


@pytest.mark.usefixtures("label")
def test_new_quantity_in_results_and_files(tmp_path: Path) -> None:
    atoms = labelled(1)[0].to_atoms()
    set_spins(atoms, [[0, 0, 2.0], [0, 1.0, -1.0]])
    atoms.calc = DeepSpinCalculator(Committee([head(0.5, -0.3), head(0.1, 0.0)]))
    expected = [0.0, 0.45]
    np.testing.assert_allclose(
        atoms.calc.get_property("chirality", atoms), expected, atol=1e-12
    )
    np.testing.assert_allclose(atoms.calc.results["chirality_deviation"], [0.1, 0.35])

    write_extxyz(tmp_path / "one.extxyz", atoms)
    back = read_extxyz(tmp_path / "one.extxyz", 0)
    np.testing.assert_allclose(back.calc.results["chirality"], expected, atol=1e-8)
    assert "chirality_deviation" in back.arrays
    np.testing.assert_allclose(Frame.from_atoms(back).chirality, expected, atol=1e-8)

    h5py = pytest.importorskip("h5py")
    dyn = SpinLatticeNVE(atoms, 0.1 * units.fs, trajectory=tmp_path / "run.h5")
    dyn.run(2)
    last = read_hdf5(tmp_path / "run.h5", -1)
    found = last.calc.results["chirality"]
    np.testing.assert_allclose(
        found, 0.3 - 0.15 * last.get_initial_magnetic_moments()[:, 2]
    )
    np.testing.assert_array_equal(last.arrays["chirality"], found)
    with h5py.File(tmp_path / "run.h5", "r") as file:
        assert file["chirality"].attrs["unit"] == "e"


# --- the table and its records ---------------------------------------------------


def test_rows_have_names_of_their_own() -> None:
    with patch.dict(QUANTITIES):
        register_quantity(CHIRALITY)
        with pytest.raises(ValueError, match="'chirality' is registered already"):
            register_quantity(CHIRALITY)
    assert "chirality" not in label_table()
    assert list(label_table()) == ["energy", "forces", "magnetic_forces", "virial"]


def test_records_are_immutable_and_can_be_pickled() -> None:
    frame = load_example("fe2_lda", split="train")[0]
    batch = load_batches(Dataset([frame]), Zeeman([0, 0, 1.0]))[0]
    records: list[Any] = [frame, batch, Zeeman([0, 0, 1.0]).evaluate(batch.system)]
    for record in records:
        with pytest.raises(FrozenInstanceError, match=r"use .replace\(energy=...\)"):
            record.energy = 1.0
        again = pickle.loads(pickle.dumps(record))
        assert again.quantities().keys() == record.quantities().keys()
        np.testing.assert_array_equal(again.forces, record.forces)
        without = record.replace(forces=None)
        assert without.forces is None and record.forces is not None
        assert "forces" not in without.quantities()


def test_unknown_names_are_refused() -> None:
    frame = load_example("fe2_lda", split="train")[0]
    with pytest.raises(TypeError, match="no label charge; labels are energy"):
        frame.replace(charge=np.zeros(2))
    with pytest.raises(TypeError, match="no label energies"):
        frame.replace(energies=np.zeros(2))
    system = System.from_atoms(frame.to_atoms())
    with pytest.raises(TypeError, match="Prediction has no charge; quantities are"):
        Prediction(volume=system.volume, charge=system.volume)
    with pytest.raises(TypeError, match="Batch has no charge"):
        Batch(system, None, charge=system.volume)
