"""Data of other programs: their names and formats, and what is not read is said."""

from __future__ import annotations

import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from deepspin_ase import get_spins, set_spins
from deepspin_ase.cli import main
from deepspin_ase.data import Dataset, Frame, keep_moments, read_dataset, write_dataset


def labelled(seed: int = 0, **arrays: np.ndarray) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("NiO", "rocksalt", a=4.17).repeat((1, 1, 2))
    atoms.positions += rng.normal(0.0, 0.05, (4, 3))
    atoms.arrays.update(arrays)
    results = {"energy": -20.0 - seed, "forces": rng.normal(size=(4, 3))}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def vectors(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 3))


@pytest.mark.parametrize(
    ("moments", "magnetic", "columns"),
    [
        ("spin", "mforce", None),
        ("REF_magmom", "REF_magforces", None),
        (
            "my_moments",
            "my_fields",
            {"moments": "my_moments", "magnetic_forces": "my_fields"},
        ),
    ],
)
def test_columns_of_extxyz(moments, magnetic, columns, tmp_path, caplog):
    atoms = labelled(**{moments: vectors(1), magnetic: vectors(2)})
    ase.io.write(tmp_path / "a.extxyz", atoms)
    (frame,) = read_dataset(tmp_path / "a.extxyz", columns=columns)
    assert frame.spins == pytest.approx(vectors(1), abs=1e-7)
    assert frame.magnetic_forces == pytest.approx(vectors(2), abs=1e-7)
    assert frame.energy == -20.0
    assert not caplog.records
    command = ["data", "convert", str(tmp_path / "a.extxyz"), str(tmp_path / "out")]
    if columns:
        command += ["--columns", *(f"{key}={name}" for key, name in columns.items())]
    assert main(command) == 0
    (again,) = read_dataset(tmp_path / "out")
    assert again.magnetic_forces == pytest.approx(vectors(2), abs=1e-7)


def test_numbers_along_z(tmp_path, caplog):
    """Collinear moments and magnetic forces; numbers beside vectors mean nothing."""
    moments, fields = vectors(1)[:, 2], vectors(2)[:, 2]
    ase.io.write(tmp_path / "a.extxyz", labelled(spin=moments, mforce=fields))
    (frame,) = read_dataset(tmp_path / "a.extxyz")
    assert frame.spins[:, 2] == pytest.approx(moments, abs=1e-7)
    assert frame.magnetic_forces[:, 2] == pytest.approx(fields, abs=1e-7)
    assert not frame.magnetic_forces[:, :2].any() and not caplog.records
    ase.io.write(tmp_path / "b.extxyz", labelled(spin=vectors(1), mforce=fields))
    (frame,) = read_dataset(tmp_path / "b.extxyz")
    assert frame.magnetic_forces is None
    assert "the column mforce is not read" in caplog.text


@pytest.mark.parametrize("name", ["charges", "spin_forces_vert", "fm_unknown"])
def test_columns_that_are_not_read_are_reported(name, tmp_path, caplog):
    frames = [labelled(0, spin=vectors(1)), labelled(1, spin=vectors(1))]
    frames[1].arrays[name] = vectors(3)
    ase.io.write(tmp_path / "a.extxyz", frames)
    with caplog.at_level(logging.WARNING):
        assert len(read_dataset(tmp_path / "a.extxyz")) == 2
    (record,) = caplog.records
    assert f"the column {name} is not read" in record.getMessage()
    assert ("across the moments only" in record.getMessage()) == ("vert" in name)


def test_moments_under_an_unknown_name(tmp_path, capsys):
    ase.io.write(tmp_path / "a.extxyz", labelled(mu=vectors(1)))
    with pytest.raises(ValueError, match=r"frame 0: .*not used: mu\. Name the one"):
        read_dataset(tmp_path / "a.extxyz")
    assert main(["data", "info", str(tmp_path / "a.extxyz"), "--columns", "mu"]) == 2
    assert "--columns takes QUANTITY=NAME" in capsys.readouterr().err
    command = ["data", "info", str(tmp_path / "a.extxyz"), "--columns", "moments=mu"]
    assert main(command) == 0


@pytest.mark.parametrize("name", ["a.traj", "a.extxyz"])
def test_labels_belong_to_computed_moments(name, tmp_path):
    atoms = labelled(initial_magmoms=vectors(5))
    atoms.calc.results["magmoms"] = vectors(6)
    expected = Frame.from_atoms(atoms).spins
    assert expected == pytest.approx(vectors(6))
    ase.io.write(tmp_path / name, atoms)
    (frame,) = read_dataset(tmp_path / name)
    assert frame.spins == pytest.approx(vectors(6), abs=1e-7)
    assert frame.energy == -20.0
    chosen = {"moments": "initial_magmoms"}
    (frame,) = read_dataset(tmp_path / name, columns=chosen)
    assert frame.spins == pytest.approx(vectors(5), abs=1e-7)
    atoms.calc.results["magmoms"] = np.array([1.0, 0.0, -1.0, 0.0])
    with pytest.raises(ValueError, match="nothing says which are the moments"):
        Frame.from_atoms(atoms)


# MLIP


CFG = """\
BEGIN_CFG
 Size
    2
 Supercell
    2.8 0 0
    0 2.9 0
    0 0 3.0
 AtomData:  id type  cartes_x cartes_y cartes_z  fx fy fz  {head}
             2    1  1.4 1.45 1.5   -0.1 0.2 0.0   {second}
             1    0  0.0 0.0 0.1    0.1 -0.2 0.0   {first}
 Energy
    -12.5
 PlusStress:  xx yy zz yz xz xy
    1.0 2.0 3.0 0.4 0.5 0.6
 Feature   EFS_by       VASP
END_CFG

"""


@pytest.mark.parametrize("kind", ["vector", "collinear", "no magnetic forces"])
def test_configurations_of_mlip(kind, tmp_path):
    path = tmp_path / "train.cfg"
    if kind == "vector":
        head = "magmom_x magmom_y magmom_z en_der_mx en_der_my en_der_mz"
        rows = {"first": "0.1 0.2 2.1 1e-2 0 -1e-2", "second": "0 0 -0.3 0 0 0.02"}
    elif kind == "collinear":
        head = "magmom en_der_m"
        rows = {"first": "2.1 -0.01", "second": "-0.3 0.02"}
    else:
        head, rows = "magmom", {"first": "2.1", "second": "-0.3"}
    path.write_text(2 * CFG.format(head=head, **rows))
    frames = read_dataset(path, type_map=["Fe", "Al"])
    assert len(frames) == 2
    frame = frames[1]
    assert frame.symbols == ["Fe", "Al"]
    assert frame.positions.tolist() == [[0, 0, 0.1], [1.4, 1.45, 1.5]]
    assert frame.forces.tolist() == [[0.1, -0.2, 0.0], [-0.1, 0.2, 0.0]]
    assert frame.energy == -12.5 and frame.pbc.all()
    expected = [[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]]
    assert frame.virial.tolist() == expected
    first = [0.1, 0.2, 2.1] if kind == "vector" else [0.0, 0.0, 2.1]
    assert frame.spins.tolist() == [first, [0.0, 0.0, -0.3]]
    if kind == "no magnetic forces":
        assert frame.magnetic_forces is None
    else:
        assert frame.magnetic_forces[1].tolist() == [0.0, 0.0, 0.02]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("END_CFG", "", "frame 0: there is no END_CFG"),
        ("    2\n Sup", "    3\n Sup", "frame 0: AtomData does not have 3 rows"),
        ("magmom", "spin", "frame 0: there are no moments among the columns id, type"),
        ("BEGIN_CFG", "", "holds no frames"),
    ],
)
def test_damaged_configurations(old, new, message, tmp_path):
    path = tmp_path / "train.cfg"
    text = CFG.format(head="magmom", first="2.1", second="-0.3")
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=rf"train\.cfg.*{message}"):
        read_dataset(path, type_map=["Fe", "Al"])
    path.write_text(text)
    with pytest.raises(ValueError, match="types have no elements"):
        read_dataset(path)
    with pytest.raises(ValueError, match="type 1 has no element"):
        read_dataset(path, type_map=["Fe"])


# Folders and patterns


def test_folders_and_patterns(tmp_path):
    for k, name in enumerate(["a.extxyz", "deep/b.xyz", "deep/c.traj"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        atoms = labelled(k)
        set_spins(atoms, vectors(k))
        atoms.calc = SinglePointCalculator(atoms, energy=-20.0 - k)
        ase.io.write(path, atoms)
    assert [f.energy for f in read_dataset(tmp_path)] == [-20.0, -21.0, -22.0]
    assert [f.energy for f in read_dataset(tmp_path / "*" / "*.*")] == [-21.0, -22.0]
    assert [f.energy for f in read_dataset(f"{tmp_path}/**/*.xyz")] == [-21.0]
    write_dataset(tmp_path / "deep" / "npy", read_dataset(tmp_path / "a.extxyz"))
    # Where there are systems, other files are not data.
    assert [f.energy for f in read_dataset(tmp_path)] == [-20.0]
    assert main(["data", "info", str(tmp_path / "*.extxyz")]) == 0


def test_moments_of_other_elements_are_dropped_by_name():
    atoms = labelled(initial_magmoms=vectors(1), magnetic_forces=vectors(2))
    data = [Frame.from_atoms(atoms)]
    kept, dropped = keep_moments(Dataset(data, name="a set"), ["Ni"])
    oxygen = np.array(data[0].symbols) == "O"
    assert not kept[0].spins[oxygen].any()
    assert not kept[0].magnetic_forces[oxygen].any()
    assert kept[0].spins[~oxygen] == pytest.approx(get_spins(atoms)[~oxygen])
    largest = np.linalg.norm(vectors(1)[oxygen], axis=1).max()
    assert dropped == {"O": pytest.approx(largest)}
    for names in (["Fe"], ["Ni", "Mn"]):
        with pytest.raises(ValueError, match=r"there is no .* in a set"):
            keep_moments(Dataset(data, name="a set"), names)
    with pytest.raises(ValueError, match="unknown element"):
        keep_moments(Dataset(data), ["Zz"])
