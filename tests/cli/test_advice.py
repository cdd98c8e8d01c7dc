"""What commands advise can be done, and then they run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from structures import A_NIO, rocksalt_afm

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins, write_extxyz
from deepspin_ase.cli import main

TRAINING = {
    "model": {"elements": ["Ni", "O"], "magnetic": ["Ni"], "cutoff": 3.0},
    "data": {"training": ["data.extxyz"]},
    "training": {"numb_steps": 2, "disp_freq": 1},
    "output": "out",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with data whose oxygen has small moments, as DFT leaves."""
    frames = []
    for seed in range(2):
        atoms = rocksalt_afm(A_NIO, 1.277)
        atoms.rattle(0.02, seed=seed)
        calculator = DeepSpinCalculator("NiO")
        calculator.calculate(atoms)
        spins = get_spins(atoms)
        spins[atoms.numbers == 8] = (0.0, 0.0, 0.01)
        set_spins(atoms, spins)
        atoms.arrays["magnetic_forces"] = calculator.results["magnetic_forces"]
        atoms.arrays["forces"] = calculator.results["forces"]
        atoms.info["energy"] = calculator.results["energy"]
        frames.append(atoms)
    write_extxyz(tmp_path / "data.extxyz", frames)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(TRAINING))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["test NiO data.extxyz", "train train.yaml"])
def test_small_moments_on_elements_that_are_not_magnetic(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert re.search(r"O carries (a moment but is non-|moments .* not )magnetic", said)
    advice = re.search(r"deepspin (data convert [^')]*)", said)
    assert advice is not None
    words = shlex.split(advice[1].replace("INPUT OUTPUT", "data.extxyz new.extxyz"))
    assert main(words) == 0
    assert "moments of O, up to 0.01 mu_B, are set to zero" in capsys.readouterr().out
    (folder / "new.extxyz").replace(folder / "data.extxyz")
    assert main(command.split()) == 0


def test_hashes_of_data_and_models(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers that became others are seen by comparing."""

    def hash_of(*command: str) -> str:
        assert main(command) == 0
        found = re.search(r"sha-256 +([0-9a-f]{64})\n", capsys.readouterr().out)
        assert found is not None
        return found[1]

    data = folder / "data.extxyz"
    first = hash_of("data", "info", str(data))
    assert hash_of("data", "info", str(data)) == first
    text = data.read_text()
    digit = text.index(".", text.index("Ni ")) + 5
    changed = str((int(text[digit]) + 1) % 10)
    data.write_text(text[:digit] + changed + text[digit + 1 :])
    assert hash_of("data", "info", str(data)) != first
    assert len({hash_of("info", name) for name in ("NiO", "BiFeO3")}) == 2


def test_a_longer_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("data convert data.extxyz new.extxyz --magnetic Ni".split()) == 0
    (folder / "new.extxyz").replace(folder / "data.extxyz")

    def train(*options: str, **changes: object) -> int:
        values = TRAINING | {"training": TRAINING["training"] | changes}
        (folder / "train.yaml").write_text(yaml.safe_dump(values))
        return main(["train", "train.yaml", *options])

    assert train() == 0
    assert train("--restart") == 0
    assert "has 2 steps already; raise training.numb_steps" in capsys.readouterr().out
    assert train("--restart", numb_steps=4) == 0
    rows = (folder / "out" / "lcurve.csv").read_text().splitlines()[1:]
    assert [float(row.split(",")[0]) for row in rows] == [0, 1, 2, 3, 4]
    for change in ({"numb_steps": 1}, {"batch_size": 2}, {"seed": 5, "averaging": 0.5}):
        assert train("--restart", **({"numb_steps": 4} | change)) == 2
        said = capsys.readouterr().err
        names = ", ".join(sorted(f"training.{name}" for name in change))
        found = re.search(r"\(([\w., ]+) differ\)", said)
        assert found is not None
        assert ", ".join(sorted(found[1].split(", "))) == names
