"""``--json`` of every command: one object, whose keys the documentation has."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase import Atoms

from deepspin_ase import cant_spins, set_spins, write_extxyz
from deepspin_ase.cli import full_parser, leaves, main
from deepspin_ase.data import load_example, write_dataset
from deepspin_ase.potentials import (
    Heisenberg,
    Shells,
    UniaxialAnisotropy,
    save_potential,
)
from deepspin_ase.potentials.materials.reference import fe

PAGE = Path(__file__).parents[2] / "docs" / "command_line.md"

#: A run of every command, in the folder below.
RUNS = {
    "demo": "-o demo",
    "data info": "data.extxyz",
    "data convert": "data.extxyz npy",
    "label": "up.extxyz -e model.pt",
    "train": "train.yaml",
    "learn": "learn.yaml --status",
    "test": "fe.pt data.extxyz --rotations 1 --plot parity.png",
    "relax": "canted.extxyz -m fe.pt --cell --report relax.html",
    "md": "md.yaml",
    "neb": "up.extxyz down.extxyz -m model.pt --axis x --images 5 --report neb.html",
    "curie": "cell.extxyz -m exchange.pt --sizes 2 3 --steps 200 -T 100:240:5 "
    "--report curie.html",
    "phases": "phases.yaml",
    "validate": "fe.pt --only structure",
    "view": "up.extxyz",
    "info": "model.pt",
    "get": "model.pt --name mine",
    "convert": "model.pt model.safetensors",
    "export": "NiO nio.pth",
    "completion": "bash",
}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of all commands by their names."""
    return {part.prog.partition(" ")[2]: part for part in leaves(full_parser())}


def documented() -> dict[str, set[str]]:
    """Return the keys of each command that the page has."""
    rows = re.findall(r"^\| `([a-z ]+)` \| (.*) \|$", PAGE.read_text("utf-8"), re.M)
    return {name: set(re.findall(r"`(\w+)`", text)) for name, text in rows}


def test_every_command_has_it_and_is_run_here_and_documented() -> None:
    known = parsers()
    assert set(RUNS) == set(known) == set(documented())
    for name, parser in known.items():
        assert "--json" in parser.format_help(), name


def test_every_argument_of_every_command_is_explained() -> None:
    for name, parser in parsers().items():
        assert parser.description, name
        for action in parser._actions:
            assert action.help, f"{name}: {action.dest}"
            if action.option_strings and action.nargs != 0 and not action.choices:
                assert action.metavar, f"{name}: {action.dest}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with structures, models, data and configurations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPSPIN_MODELS", str(tmp_path / "models"))
    atoms = Atoms("Fe", [[0, 0, 0]])
    for name, moment in (("up", 2.0), ("down", -2.0)):
        set_spins(atoms, [moment])
        write_extxyz(f"{name}.extxyz", atoms)
    save_potential("model.pt", UniaxialAnisotropy(1e-3, (0, 0, 1)))
    cell = Atoms("Ni", cell=[3.0] * 3, pbc=True)
    set_spins(cell, {"Ni": 1.0})
    write_extxyz("cell.extxyz", cell)
    save_potential("exchange.pt", Heisenberg(Shells([(3.0, 0.01)])))
    data = load_example("fe2_lda")[:2]
    write_dataset("data.extxyz", data)
    canted = data[0].to_atoms()
    cant_spins(canted, 0.1, seed=1)
    write_extxyz("canted.extxyz", canted)
    save_potential("fe.pt", fe())
    configurations: dict[str, dict[str, Any]] = {
        "md": {
            "structure": "up.extxyz",
            "model": "model.pt",
            "driver": "spin",
            "timestep_fs": 1.0,
            "steps": 2,
            "output": "md",
        },
        "train": {
            "model": {"elements": ["Fe"], "magnetic": ["Fe"], "cutoff": 3.0},
            "data": {"training": ["data.extxyz"]},
            "training": {"numb_steps": 1},
            "output": "training",
        },
        "learn": {
            "structures": "up.extxyz",
            "engine": "model.pt",
            "explore": {"temperature_K": [300]},
            "output": "learning",
        },
    }
    configurations["phases"] = {
        "structure": "cell.extxyz",
        "model": "exchange.pt",
        "repeat": 2,
        "temperatures_K": [100, 300],
        "steps": 200,
    }
    for name, content in configurations.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNS)
def test_one_object_whose_keys_are_documented(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*name.split(), *RUNS[name].split(), "--json"])
    said = capsys.readouterr()
    found = json.loads(said.out, parse_constant=refuse)
    assert found.pop("command") == name
    assert found.pop("exit_code") == code == 0, said.err
    assert found and found.keys() <= documented()[name]
    assert said.err
    for path in found.get("files", ()):
        assert (folder / path).exists(), path
    if "--report" in RUNS[name]:
        page = Path(RUNS[name].split()[-1]).read_text("utf-8")
        assert page.count("data:image/png;base64,") >= 2
        assert f"deepspin {name}" in page and not re.search('(src|href)="http', page)


def test_bad_input_is_an_object_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["relax", "no.xyz", "-m", "fe.pt", "--json"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["command"] == "relax" and found["exit_code"] == 2
    assert "no.xyz" in found["error"] and found["error"] in said.err
    with pytest.raises(SystemExit) as exit_:
        main(["data", "info", "--json"])
    assert exit_.value.code == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["command"] == "data info" and "required: path" in found["error"]
    assert "usage: deepspin data info" in said.err


def test_result_that_was_not_reached(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["relax", "canted.extxyz", "-m", "fe.pt", "--steps", "1", "--json"]
    assert main(command) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 3 and found["converged"] is False
    assert found["files"] == ["relaxed.extxyz", "relaxed.ckpt"]
