"""Training of an architecture that is declared in one place: here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar
from unittest.mock import patch

import pytest
import torch
import yaml
from ase.data import atomic_numbers
from pydantic import Field
from torch import Tensor, nn

from deepspin_ase._config import Configuration
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, load_example, write_dataset
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    ARCHITECTURES,
    Trainable,
    _registry,
    architecture,
    load_potential,
    save_potential,
)
from deepspin_ase.system import System
from deepspin_ase.training import TrainingConfig, read_config, read_learning_curve


class TinyConfig(Configuration):
    """Hyper-parameters of the network below."""

    elements: list[str]
    rcut: Annotated[float, Field(gt=0)]
    width: int = 4


class Tiny(Trainable):
    """Energies from Gaussians of distances, with and without the moments' product."""

    config_class: ClassVar[type[TinyConfig]] = TinyConfig
    config: TinyConfig
    scale: Tensor
    shifts: Tensor

    def __init__(self, config: TinyConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        self.numbers = [atomic_numbers[e] for e in config.elements]
        self.species = frozenset(self.numbers)
        start = torch.randn(
            2, config.width, generator=torch.Generator().manual_seed(seed)
        )
        self.weights = nn.Parameter(0.1 * start.double())
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("shifts", torch.zeros(120, dtype=torch.float64))

    @property
    def cutoff(self) -> float:
        return self.config.rcut

    def forward(self, system: System, pairs: PairList) -> Tensor:
        r = pairs.vectors(system).norm(dim=1) / self.config.rcut
        centers = torch.linspace(0.3, 0.9, self.config.width, dtype=r.dtype)
        basis = torch.exp(-((r[:, None] - centers) ** 2) / 0.02)
        basis = basis * ((1 - r.clamp(max=1.0) ** 2) ** 3)[:, None] / self.scale
        product = (system.spins[pairs.i] * system.spins[pairs.j]).sum(1)
        energy = basis @ self.weights[0] + product * (basis @ self.weights[1])
        return self.shifts[system.species].index_add(0, pairs.i, energy)

    def fit_statistics(self, samples: Iterable[tuple[System, PairList]]) -> None:
        counts = [len(pairs.i) / system.n_atoms for system, pairs in samples]
        self.scale.fill_(sum(counts) / len(counts))

    @property
    def element_energies(self) -> dict[int, float]:
        return {z: float(self.shifts[z]) for z in self.numbers}

    @element_energies.setter
    def element_energies(self, energies: Mapping[int, float]) -> None:
        for z, energy in energies.items():
            self.shifts[z] = energy

    @torch.no_grad()
    def start_from_zero(self) -> None:
        self.weights.zero_()


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Declare the network in registries that end with the test."""
    with patch.dict(ARCHITECTURES), patch.dict(_registry._classes):
        architecture("tiny")(Tiny)
        yield


def written(folder: Path, **changes: Any) -> Path:
    """Write a training file, and data that another such network has labelled."""
    teacher = Tiny(TinyConfig(elements=["Fe"], rcut=5.0), seed=7)
    teacher.element_energies = {26: -1000.0}
    frames = []
    for frame in load_example("fe2_lda", split="train")[:24]:
        found = teacher.evaluate(System.from_atoms(frame.to_atoms()))
        labels: dict[str, Any] = {
            "energy": float(found.energy[0]),
            "forces": found.forces.numpy(),
        }
        labels["magnetic_forces"] = found.magnetic_forces.numpy()
        frames.append(frame.replace(**labels))
    write_dataset(folder / "train.extxyz", Dataset(frames))
    values = {
        "model": {"type": "tiny", "elements": ["Fe"], "rcut": 5.0},
        "data": {"training": ["train.extxyz"]},
        "learning_rate": {"start_lr": 1e-1, "stop_lr": 1e-2, "warmup_steps": 2},
        "training": {"numb_steps": 60, "batch_size": 4, "disp_freq": 5},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def test_command_trains_restarts_and_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = str(written(tmp_path)), str(tmp_path / "out")
    assert main(["train", path, "--output", output]) == 0
    curve = read_learning_curve(tmp_path / "out" / "lcurve.csv")
    forces, magnetic = (
        curve[f"training_rmse_{name}"]
        for name in ("forces", "magnetic_forces_transverse")
    )
    assert forces[-1] < 0.95 * forces[0]
    assert magnetic[-1] < 0.6 * magnetic[0]
    potential = load_potential(tmp_path / "out" / "model.pt")
    assert isinstance(potential, Tiny)
    assert float(potential.scale) > 5.0
    assert potential.element_energies[26] == pytest.approx(-1000.0, abs=5.0)
    assert main(["train", path, "--output", output, "--restart"]) == 0
    again = load_potential(tmp_path / "out" / "model.pt")
    assert torch.equal(again.weights, potential.weights)
    capsys.readouterr()
    assert main(["info", f"{output}/model.pt"]) == 0
    text = capsys.readouterr().out
    for part in ("kind        Tiny", "rcut: 5.0", "width: 4", "type: tiny"):
        assert part in text
    assert read_config(tmp_path / "out" / "config.yaml").model == potential.config


def test_it_starts_from_zero_on_a_baseline_and_from_a_model(tmp_path: Path) -> None:
    base = Tiny(TinyConfig(elements=["Fe"], rcut=4.0))
    base.element_energies = {26: -1000.0}
    save_potential(tmp_path / "base.pt", base)
    run = {"numb_steps": 1, "disp_freq": 1}
    rates = {"start_lr": 1e-12, "stop_lr": 1e-12}
    path = written(tmp_path, baseline="base.pt", learning_rate=rates, training=run)
    assert main(["train", str(path), "-o", str(tmp_path / "a")]) == 0
    trained = load_potential(tmp_path / "a" / "model.pt").members[1]
    assert trained.weights.abs().max() < 1e-9

    base = Tiny(TinyConfig(elements=["Fe"], rcut=5.0), seed=3)
    save_potential(tmp_path / "base.pt", base)
    path = written(tmp_path, init_model="base.pt", learning_rate=rates, training=run)
    assert main(["train", str(path), "-o", str(tmp_path / "b")]) == 0
    trained = load_potential(tmp_path / "b" / "model.pt")
    torch.testing.assert_close(trained.weights, base.weights, rtol=0, atol=1e-9)


def test_sections_without_a_type_are_those_of_deepspin() -> None:
    model = {
        "type_map": ["Fe"],
        "spin": {"use_spin": [True], "virtual_scale": 0.2},
        "descriptor": {"rcut": 4.0, "rcut_smth": 2.0, "sel": [30]},
    }
    rest: dict[str, Any] = {
        "data": {"training": ["x"]},
        "training": {"numb_steps": 1},
    }
    bare = TrainingConfig.from_dict({"model": model, **rest})
    named = TrainingConfig.from_dict({"model": {"type": "deepspin", **model}, **rest})
    assert bare == named
    assert bare.to_dict()["model"]["type"] == "deepspin"
    assert TrainingConfig.from_dict(bare.to_dict()) == bare


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "tinny"}, "model.type: unknown architecture 'tinny'; known: deeps"),
        ({"type": ["tiny"]}, "model.type: unknown architecture"),
        ({"type": "tiny", "elements": ["Fe"]}, "'model.rcut' is missing"),
        (
            {"type": "tiny", "elements": ["Fe"], "rcut": 5.0, "widht": 3},
            "'model.widht'; did you mean 'width'",
        ),
        ({"type": "tiny", "elements": ["Fe"], "rcut": -5.0}, "model.rcut: "),
    ],
)
def test_sections_that_are_refused(
    tmp_path: Path, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_config(written(tmp_path, model=model))


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="'tiny' is registered already"):
        architecture("tiny")(Tiny)
