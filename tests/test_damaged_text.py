"""Text files: damage that a parser would overlook, encodings, and ``python -O``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from deepspin_ase import get_spins, set_spins
from deepspin_ase.io import (
    read_extxyz,
    read_lammps_data,
    write_extxyz,
    write_lammps_data,
)


def dimer(shift: float = 0.0) -> Atoms:
    atoms = Atoms("FeNi", [[0, 0, shift], [1.4, 1.4, 1.4]], cell=[2.8] * 3, pbc=True)
    set_spins(atoms, [[0, 0, 2.2], [0.5, 0, 0]])
    return atoms


# --- extended XYZ ----------------------------------------------------------------


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2.20000000\n", "2.20000000 1.0\n", "atom 0 of frame 0 has 8 columns; 7 are"),
        (":pos:R:3", ":pos:R:2", "atom 0 of frame 0 has 7 columns; 6 are announced"),
        ("Lattice=", "Lattic=", "periodic and has no Lattice"),
        ("pbc=", "pb\0=", "null bytes"),
        ("2\nLattice", "3\nLattice", "has 1 columns; 7 are announced"),
        ("2\nLattice", "1\nLattice", "frame 1 begins with 'Ni"),
        ("2\nLattice", "2x\nLattice", "frame 0 begins with '2x'"),
        ("Fe ", "\nFe ", "frame 0 has 0 atoms; 2 are announced"),
    ],
)
def test_damaged_extxyz(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.extxyz"
    write_extxyz(path, [dimer(), dimer(0.1)])
    replaced(path, old, new)
    with pytest.raises(ValueError, match=rf"a\.extxyz cannot be read .*{message}"):
        read_extxyz(path)


def test_something_after_a_blank_line(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    write_extxyz(path, dimer())
    whole = path.read_text()
    path.write_text(whole + "\n\n")
    assert len(read_extxyz(path)) == 1
    path.write_text(whole + "\n" + whole)
    with pytest.raises(ValueError, match="follows a blank line after 1 frames"):
        read_extxyz(path)


@pytest.mark.parametrize(
    "index", [":", "::2", "-1:", "1:3", "::-1", slice(4, None), 0, -1, 2, "1"]
)
def test_frames_are_those_of_ase(tmp_path: Path, index: int | str | slice) -> None:
    path = tmp_path / "a.extxyz"
    write_extxyz(path, [dimer(0.1 * k) for k in range(5)])
    found, expected = read_extxyz(path, index), read(path, index, format="extxyz")
    assert isinstance(found, Atoms) == isinstance(expected, Atoms)
    pairs = (
        [(found, expected)]
        if isinstance(found, Atoms)
        else zip(found, expected, strict=True)
    )
    for mine, yours in pairs:
        np.testing.assert_array_equal(mine.positions, yours.positions)
        assert (mine.cell == yours.cell).all() and (mine.pbc == yours.pbc).all()


# --- LAMMPS data -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.0 2.8 ylo yhi\n", "", "the bounds ylo yhi of the box are missing"),
        ("2 atom types\n", "", "0 numbers of atom types"),
        ("\nMasses\n", "\n", "has 0 masses"),
        ("1 55.845 # Fe\n", "", "announces 2 atom types and has 1 masses"),
        ("2 2 1.4", "1 2 1.4", "repeats the atom-ID 1"),
        ("2 2 1.4", "2 2 1.4x", "could not convert"),
    ],
)
def test_damaged_lammps_data(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.data"
    write_lammps_data(path, dimer())
    replaced(path, old, new)
    with pytest.raises(ValueError, match=rf"a\.data cannot be read .*{message}"):
        read_lammps_data(path)


# --- the interpreter -------------------------------------------------------------

_SCRIPT = """
import sys
from deepspin_ase.io import read_extxyz, write_extxyz
frames = read_extxyz(sys.argv[1])
frames[1].info["author"] = "J\\xf6rg, 2 \\xc5"
write_extxyz(sys.argv[2], frames)
assert False, "asserts must be off"
"""


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_python_without_asserts_and_without_utf8(tmp_path: Path, locale: str) -> None:
    before, after = tmp_path / "größe.extxyz", tmp_path / "später.extxyz"
    atoms = dimer(0.1)
    atoms.info["author"] = "Ångström"
    write_extxyz(before, [dimer(), atoms])
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-O", "-c", _SCRIPT, str(before), str(after)],
        env=os.environ | environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    found = read_extxyz(after)
    assert found[1].info["author"] == "Jörg, 2 Å"
    np.testing.assert_array_equal(get_spins(found[1]), get_spins(atoms))
    assert read_extxyz(before, 1).info["author"] == "Ångström"
