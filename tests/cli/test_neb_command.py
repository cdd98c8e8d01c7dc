"""The command ``deepspin neb``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from deepspin_ase import read_extxyz, set_spins, write_extxyz
from deepspin_ase.analysis.paths import NEBPath
from deepspin_ase.cli import main
from deepspin_ase.potentials import Sum, UniaxialAnisotropy, Zeeman, save_potential
from deepspin_ase.units import MU_B

K, H = 1e-3, 0.3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a uniaxial spin in a field, up and down."""
    atoms = Atoms("Fe", [[0, 0, 0]])
    for name, moment in (("up", 2.0), ("down", -2.0)):
        set_spins(atoms, [moment])
        write_extxyz(tmp_path / f"{name}.extxyz", atoms)
    field = Zeeman((0.0, 0.0, H * 2 * K / (2.0 * MU_B)))
    model = Sum([UniaxialAnisotropy(K, (0, 0, 1)), field])
    save_potential(tmp_path / "model.pt", model)
    return tmp_path


def run(folder: Path, *options: str, final: str = "down", output: str = "band") -> int:
    return main(
        [
            "neb",
            str(folder / "up.extxyz"),
            str(folder / f"{final}.extxyz"),
            "--model",
            str(folder / "model.pt"),
            "--output",
            str(folder / f"{output}.extxyz"),
            *options,
        ]
    )


def test_barrier_and_going_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--axis", "0,1,0", "--images", "6", "--climb", "--torque-max", "1e-6")
    assert run(folder, *options, "--steps", "3") == 3
    said = capsys.readouterr().out
    assert "not converged" in said and "climbing" in said
    assert len(read_extxyz(folder / "band.extxyz")) == 6
    assert run(folder, *options) == 0
    said = capsys.readouterr().out
    assert "going on with the steps in" in said and "\nconverged" in said
    assert "--images, --axis ignored" in said
    assert not (folder / "band.ckpt").exists()
    path = NEBPath.load(folder / "band.npz")
    assert path.barrier_forward == pytest.approx(K * (1 + H) ** 2, rel=1e-5)
    assert f"forward barrier {1e3 * path.barrier_forward:.4f} meV" in said
    assert (folder / "band.png").stat().st_size > 0
    results = read_extxyz(folder / "band.extxyz", 3).calc.results
    assert results["energy"] == pytest.approx(path.energies[3])
    assert np.abs(results["torques"]).max() > 0.0


def test_a_resumed_band_is_the_same_to_the_last_bit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--axis", "0,1,0", "--images", "5", "--climb", "--torque-max", "1e-7")
    assert run(folder, *options, output="whole") == 0
    for steps in ("2", "4"):
        assert run(folder, *options, "--steps", steps) == 3
    assert run(folder, *options) == 0
    # What is left where the disk was full from the beginning.
    (folder / "empty.ckpt").touch()
    assert run(folder, *options, output="empty") == 0
    for suffix in (".extxyz", ".npz"):
        both = [folder / f"{name}{suffix}" for name in ("whole", "band")]
        assert both[0].read_bytes() == both[1].read_bytes()
    capsys.readouterr()
    assert run(folder, "--climb", "--torque-max", "1e-7") == 0
    assert "going on with the 5 images" in capsys.readouterr().out


def test_another_run_begins_with_the_band_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("--torque-max", "1e-9", "--steps", "1")
    assert run(folder, "--axis", "x", "--images", "6", "--climb", *limits) == 3
    assert run(folder, *limits) == 3
    said = capsys.readouterr().out
    assert "climb differ from those of" in said and "with the 6 images" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--axis", "1,2,z"), "--axis takes"),
        (("--axis", "z"), "along the spin"),
        (("--axis", "x", "--images", "2"), "at least 3 images"),
        (("--axis", "x", "--cell"), "periodic direction"),
    ],
)
def test_bad_options(
    folder: Path,
    options: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(folder, *options) == 2
    assert message in capsys.readouterr().err


def test_another_band_is_not_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--axis", "x", "--images", "3", "--steps", "1") == 0
    tilted = Atoms("Fe", [[0, 0, 0]])
    set_spins(tilted, [[2.0, 0.0, 0.0]])
    write_extxyz(folder / "tilted.extxyz", tilted)
    assert run(folder, final="tilted") == 2
    assert "another final structure" in capsys.readouterr().err
    assert run(folder, final="missing") == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_lattice_is_held(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--axis", "0,1,0", "--images", "5", "--climb", "--fix-positions")
    assert run(folder, *options) == 0
    said = capsys.readouterr().out
    assert "torque" in said and "force" not in said
    assert "residual of the work between images" in said
    path = NEBPath.load(folder / "band.npz")
    assert path.barrier_forward == pytest.approx(K * (1 + H) ** 2, rel=1e-4)


def test_spins_that_differ_are_not_held(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--axis", "0,1,0", "--images", "5", "--fix-spins") != 0
    assert "spins=False holds what differs" in capsys.readouterr().err
