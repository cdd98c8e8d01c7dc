"""``deepspin curie``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from deepspin_ase import set_spins
from deepspin_ase.analysis import Result
from deepspin_ase.cli import main
from deepspin_ase.io import write_extxyz
from deepspin_ase.potentials import Heisenberg, Shells, save_potential


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    atoms = Atoms("Ni", cell=[3.0] * 3, pbc=True)
    set_spins(atoms, {"Ni": 1.0})
    write_extxyz("cell.extxyz", atoms)
    save_potential("model.pt", Heisenberg(Shells([(3.0, 0.01)])))
    return tmp_path


def curie(*more: str) -> int:
    given = ["--sizes", "2", "4", "--steps", "200", "-T", "130:200:5"]
    return main(["curie", "cell.extxyz", "-m", "model.pt", *given, *more])


def test_numbers_and_figures_and_the_same_again(folder: Path, capsys) -> None:
    assert curie() == 0
    assert "transition at" in capsys.readouterr().out
    found = Result.load("curie.npz")
    assert found.temperatures_K.tolist() == [130.0, 147.5, 165.0, 182.5, 200.0]
    assert (folder / "curie_binder.png").stat().st_size > 10_000
    assert curie() == 0
    again = Result.load("curie.npz")
    np.testing.assert_array_equal(found.sizes[1].order, again.sizes[1].order)


def test_doped_crystals_are_averaged(folder: Path) -> None:
    doping = ["--doping", "X=0.25", "--realizations", "2", "-o", "doped.npz"]
    assert curie(*doping, "-T", "80:150:5") == 0
    sizes = Result.load("doped.npz").sizes
    assert [len(size.realizations["order"]) for size in sizes] == [2, 2]
    assert [size.n_magnetic for size in sizes] == [6, 48]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--doping", "Mg"], "--doping takes ELEMENT=NUMBER, such as Mg=0.1"),
        (["--doping", "Mg=0.1", "Mg=0.2"], "--doping gives Mg twice"),
        (["--doping", "Mg=0.01"], "nearest share that fits"),
        (["--sublattice", "Ni"], "--sublattice needs --doping"),
        (["-T", "1000:K:3"], "--temperatures: expected numbers"),
        (["-T", "100", "200"], "at least four temperatures"),
        (["-o", "curie.txt"], "must end in .npz"),
    ],
)
def test_what_cannot_be_run(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert curie(*more) == 2
    assert message in capsys.readouterr().err
