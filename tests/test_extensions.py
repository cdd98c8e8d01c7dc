"""What docs/architecture.md says about extensions is enough to write them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.build import bulk

import deepspin_ase as ds
from deepspin_ase.cli import main
from deepspin_ase.data import load_example, write_dataset
from deepspin_ase.dynamics.drivers._registry import DRIVERS
from deepspin_ase.potentials import ARCHITECTURES, _registry, load_potential
from deepspin_ase.quantities import QUANTITIES, label_table
from deepspin_ase.testing import check_potential

TEXT = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """End with the test what it registers."""
    tables: tuple[dict, ...] = (ARCHITECTURES, _registry._classes, DRIVERS, QUANTITIES)
    with patch.dict(tables[0]), patch.dict(tables[1]):
        with patch.dict(tables[2]), patch.dict(tables[3]):
            yield


@pytest.fixture
def declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """Return a function that imports the example of a section as a module."""

    def declare(title: str) -> ModuleType:
        name = "".join(re.findall(r"\w", title))
        (tmp_path / f"{name}.py").write_text(example(title))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(sys.modules, name, None)  # so that it is gone afterwards
        del sys.modules[name]
        return importlib.import_module(name)

    return declare


def example(title: str) -> str:
    section = re.search(rf"^### {title}\n(.*?)(?=^##)", TEXT, re.M | re.S)
    assert section, title
    (code,) = re.findall(r"^```python\n(.*?)^```$", section.group(1), re.M | re.S)
    return str(code)


def structure() -> Atoms:
    atoms = bulk("Fe", cubic=True)
    atoms.rattle(0.1, seed=0)
    ds.set_spins(atoms, [[0.0, 0.3, 2.1], [1.5, 0.2, -0.4]])
    return atoms


def test_pair_term_and_function_of_distance(declared, tmp_path) -> None:
    function = declared("a potential that is a function of distance").Bump
    term = declared("a pair term with a dependence on moments").Canting
    canting = term(function(0.1, 4.0))
    check_potential(canting, structure(), symmetries=("time_reversal", "spin_rotation"))
    assert canting.pair_term((26,)) is not None
    ds.potentials.save_potential(tmp_path / "model.pt", canting)
    atoms = structure()
    atoms.calc = ds.DeepSpinCalculator(tmp_path / "model.pt")
    assert atoms.get_potential_energy() != 0.0


def test_network(declared, tmp_path) -> None:
    network = declared("a network type").Gaussians
    potential = network(network.config_class(elements=["Fe"]))
    symmetries = ("time_reversal", "rotation", "spin_rotation")
    check_potential(potential, structure(), symmetries=symmetries)
    frames = load_example("fe2_lda", split="train")
    write_dataset(tmp_path / "train.extxyz", frames)
    config = {
        "model": {"type": "gaussians", "elements": ["Fe"]},
        "data": {"training": ["train.extxyz"]},
        "training": {"numb_steps": 3, "disp_freq": 3, "save_freq": 3},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    output = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "train.yaml"), "--output", output]) == 0
    assert isinstance(load_potential(tmp_path / "run" / "model.pt"), network)


def test_driver(declared) -> None:
    driver = declared("a driver").Overdamped
    atoms = structure()
    atoms.calc = ds.DeepSpinCalculator(ds.potentials.LennardJones(0.1, 2.3, cutoff=4.0))
    start, spins = atoms.positions.copy(), ds.get_spins(atoms)
    forces = atoms.get_forces()
    driver(atoms, units.fs, mobility=0.1 / units.fs).run(1)
    np.testing.assert_allclose(atoms.positions - start, 0.1 * forces, atol=1e-12)
    np.testing.assert_array_equal(ds.get_spins(atoms), spins)
    assert "overdamped" in DRIVERS


def test_label(declared) -> None:
    potential = declared("a label").Valences()
    assert "valences" in label_table()
    atoms = bulk("Fe", cubic=True) * 2
    atoms.calc = ds.DeepSpinCalculator(potential)
    atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.calc.results["valences"], 0.25 * 14)
