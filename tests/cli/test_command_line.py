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
from deepspin_ase.io import write_extxyz, write_lammps_data
from deepspin_ase.potentials import CompiledPotential, save_potential
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


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("relax fe.xyz -m fe.pt -o fe.xyz", "structure and output are the same file"),
        ("relax fe.xyz -m fe.pt -o a.xyz -t fe.xyz", "structure and trajectory are"),
        ("relax fe.xyz -m fe.pt -o a.xyz -t ./a.xyz", "output and trajectory are the"),
        ("relax fe.xyz -m fe.pt -o a.xyz -t a.h5", ".xyz or .traj files, not a.h5"),
        ("relax . -m fe.pt", "the structure . is a folder: give a file"),
        ("relax fe.xyz -m fe.pt -o a.cif", "a.cif must end in .extxyz or .xyz"),
        ("neb fe.xyz bare.xyz -m fe.pt", "bare.xyz carries no magnetic moments; give"),
        ("neb fe.xyz fe.xyz -m fe.pt -o fe.xyz", "output and initial are the same"),
        ("neb fe.xyz fe.xyz -m fe.pt -o a.npz", "a.npz must end in .extxyz or .xyz"),
        ("data convert fe.xyz ../here/fe.xyz", "input and output are the same file"),
        ("data convert fe.xyz a.h5", "the ending of a file that is not written here"),
        ("data convert fe.xyz a.npz", "the ending of a file that is not written here"),
        ("convert fe.pt fe.pt", "input and output are the same file"),
        ("view ../here", "the trajectory ../here is a folder: give a file"),
        ("train .", ". is a folder; expected a configuration file"),
        ("md no.yaml", "no.yaml does not exist; expected a configuration file"),
        ("export fe.pt /dev/full/a.pth", "cannot write to /dev/full/a.pth"),
        ("relax fe.xyz -m fe.pt --report a.txt", "the report a.txt must end in .html"),
        ("relax fe.xyz -m fe.pt --report no/a.html", "the folder no of the report"),
        ("neb fe.xyz fe.xyz -m fe.pt --report a.pdf", "the report a.pdf must end in"),
        ("curie fe.xyz -m fe.pt -T 1:9:5 --report a.md", "the report a.md must end in"),
        ("data convert fe.xyz /dev/full/a", "cannot make the folder /dev/full"),
    ],
)
def test_files_that_are_in_the_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    """What would be overwritten stays, and what cannot be written is named."""
    here = tmp_path / "here"
    here.mkdir()
    _training(here)
    monkeypatch.chdir(here)
    save_potential("fe.pt", fe())
    Atoms("Fe").write("bare.xyz", format="extxyz")
    before = {path: path.read_bytes() for path in here.iterdir()}
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"curie fe.xyz -m fe.pt -T 1:9:5 --sizes 2 {10**20}", "whole numbers > 0"),
        ("neb fe.xyz fe.xyz -m fe.pt --images 0", "images"),
        ("view fe.xyz --scale nan", "scale must be finite and > 0, got nan"),
        ("view fe.xyz --scale=-1 -o a.png", "scale must be finite and > 0, got -1"),
        ("view fe.xyz --replica 1", "holds no replica 1: HDF5 trajectories may"),
        (
            "relax fe.xyz -m fe.pt --moments Fe=2 --order 0 0 0 --order-cell nan",
            "cell must be finite and > 0, got nan",
        ),
    ],
)
def test_numbers_that_are_odd(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    _training(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_potential("fe.pt", fe())
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("write", "value", "kind"),
    [
        (save_potential, fe(), "Potential"),
        (write_deepmd, fe(), "Potential"),
        (write_dataset, Dataset([]), "Dataset"),
        (write_extxyz, Atoms("Fe"), "Atoms"),
        (write_lammps_data, Atoms("Fe"), "Atoms"),
    ],
)
def test_arguments_in_the_wrong_order(
    tmp_path: Path, write: Callable[..., Any], value: Any, kind: str
) -> None:
    with pytest.raises(TypeError, match=rf"{write.__name__} takes a path and then a "):
        write(value, tmp_path / "model.pt")
    with pytest.raises(TypeError, match=rf"a {kind}, got PosixPath and str"):
        write(tmp_path / "model.pt", "NiO")
    assert not list(tmp_path.iterdir())
