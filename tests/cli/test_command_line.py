"""Clumsy hands on the command line: a sentence and an exit code, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, Frame, write_dataset
from deepspin_ase.potentials import CompiledPotential, Potential, save_potential
from deepspin_ase.potentials.deepmd import write_deepmd
from deepspin_ase.potentials.materials.reference import fe

CUDA = torch.cuda.is_available()


@pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices of Linux")
@pytest.mark.parametrize(
    "words", [["info"], ["info", "NiO"], ["data", "info", "fe.xyz"]]
)
def test_output_that_nobody_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    """``deepspin info | head`` ends when head does; a full disk is told."""
    _training(tmp_path)
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        assert main(words) == 141
    assert capsys.readouterr().err == ""
    full = open("/dev/full", "w")
    monkeypatch.setattr(sys, "stdout", full)
    assert main(words) == 2
    assert "No space left on device" in capsys.readouterr().err
    with suppress(OSError):
        full.close()


def _training(tmp_path: Path) -> list[str]:
    atoms = Atoms("Fe", [[0, 0, 0]], cell=[2.5] * 3, pbc=True, magmoms=[[0, 0, 2.0]])
    atoms.calc = DeepSpinCalculator(fe(), device="cpu")
    atoms.get_potential_energy()
    write_dataset(tmp_path / "fe.xyz", Dataset([Frame.from_atoms(atoms)]))
    (tmp_path / "c.yaml").write_text(
        "data: {training: [fe.xyz]}\n"
        "model: {elements: [Fe], magnetic: [Fe], cutoff: 3.0}\n"
        "training: {numb_steps: 1}\n"
    )
    return ["train", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "run")]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpuu", "device must be 'cpu', 'cuda' or one such as 'cuda:1', got 'gpuu'"),
        ("meta", "got 'meta'"),
        ("", "got ''"),
        pytest.param(
            "cuda", "torch finds no CUDA", marks=pytest.mark.skipif(CUDA, reason="CUDA")
        ),
        ("cuda:99", "torch finds"),
    ],
)
def test_devices_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str, message: str
) -> None:
    assert main([*_training(tmp_path), "--device", device]) == 2
    assert message in capsys.readouterr().err
    for make in (DeepSpinCalculator, CompiledPotential):
        with pytest.raises(ValueError, match=message):
            make(fe(), device=device)
    with pytest.raises(TypeError, match="device must be a name"):
        DeepSpinCalculator(fe(), device=0)


@pytest.mark.parametrize(
    ("write", "value", "kind"),
    [
        (save_potential, fe(), "Potential"),
        (write_deepmd, fe(), "Potential"),
        (write_dataset, Dataset([]), "Dataset"),
    ],
)
def test_arguments_in_the_wrong_order(
    tmp_path: Path, write: Callable[..., Any], value: Potential | Dataset, kind: str
) -> None:
    with pytest.raises(TypeError, match=rf"{write.__name__} takes a path and then a "):
        write(value, tmp_path / "model.pt")
    with pytest.raises(TypeError, match=rf"a {kind}, got PosixPath and str"):
        write(tmp_path / "model.pt", "NiO")
    assert not list(tmp_path.iterdir())
