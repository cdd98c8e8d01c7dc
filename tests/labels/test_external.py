"""Engines that run a code: what they write, run and read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io.vasp import read_vasp

from deepspin_ase.data import read_dataset
from deepspin_ase.labels import (
    ABACUSEngine,
    LabelError,
    VASPEngine,
    Waiting,
    label_structures,
    write_job_script,
)
from deepspin_ase.spins import set_spins

DATA = Path(__file__).parents[1] / "data" / "abacus"


def oxide() -> Atoms:
    """NiO with elements that alternate, so that files need another order."""
    a = 4.17
    cell = a * np.array([[0.5, 0.5, 1.0], [0.5, 1.0, 0.5], [1.0, 0.5, 0.5]])
    atoms = Atoms("NiONiO", cell=cell, pbc=True)
    atoms.set_scaled_positions([[0, 0, 0], [0.25] * 3, [0.5] * 3, [0.75] * 3])
    set_spins(atoms, [[0.3, 0.0, 1.6], [0, 0, 0], [0.7, 0.2, -1.5], [0, 0, 0]])
    return atoms


def abacus(**settings) -> ABACUSEngine:
    return ABACUSEngine(
        pseudopotentials={"Ni": "Ni.upf", "O": "O.upf"},
        orbitals={"Ni": "Ni.orb", "O": "O.orb"},
        pseudo_dir="/data",
        orbital_dir="/data",
        hubbard={"Ni": 6.0},
        **settings,
    )


def vasp(folder: Path, **settings) -> VASPEngine:
    for element in ("Ni", "O"):
        (folder / f"POTCAR.{element}").write_text(f"PAW {element}\n")
    return VASPEngine(
        potcars={x: str(folder / f"POTCAR.{x}") for x in ("Ni", "O")},
        radii={"Ni": 1.286, "O": 0.82},
        **settings,
    )


def test_abacus_inputs(tmp_path):
    engine = abacus(kpts=(2, 2, 2))
    with pytest.raises(Waiting, match="inputs are written"):
        engine.label(oxide(), tmp_path)
    lines = (tmp_path / "STRU").read_text().split("\n")
    nickel, oxygen = lines.index("Ni"), lines.index("O")
    assert lines[nickel + 2] == lines[oxygen + 2] == "2"
    first, second = lines[nickel + 3].split(), lines[nickel + 4].split()
    assert first[-4:] == second[-4:] == ["sc", "1", "1", "1"]
    assert [float(x) for x in first[8:11]] == [0.3, 0.0, 1.6]
    assert [float(x) for x in second[8:11]] == [0.7, 0.2, -1.5]
    assert [float(x) for x in second[:3]] == pytest.approx(oxide().positions[2])
    assert lines[oxygen + 3].endswith(
        "mag 0.0000000000 0.0000000000 0.0000000000 sc 0 0 0"
    )
    keys = dict(
        x.split(" ", 1) for x in (tmp_path / "INPUT").read_text().split("\n")[1:-1]
    )
    assert keys["nspin"] == "4" and keys["sc_mag_switch"] == "1"
    assert keys["orbital_corr"] == "2 -1" and keys["hubbard_u"] == "6.0 0.0"
    assert "\n2 2 2 0 0 0" in (tmp_path / "KPT").read_text()


def test_vasp_inputs(tmp_path):
    engine = vasp(tmp_path, hubbard={"Ni": 5.3})
    with pytest.raises(Waiting):
        engine.label(oxide(), tmp_path)
    written = read_vasp(tmp_path / "POSCAR")
    assert written.get_chemical_symbols() == ["Ni", "Ni", "O", "O"]
    assert written.positions[1] == pytest.approx(oxide().positions[2])
    assert (tmp_path / "POTCAR").read_text() == "PAW Ni\nPAW O\n"
    lines = (tmp_path / "INCAR").read_text().split("\n")
    incar = dict(line.split(" = ") for line in lines if line)
    moments = np.array(incar["M_CONSTR"].split(), dtype=float).reshape(4, 3)
    assert moments == pytest.approx(
        np.array([[0.3, 0, 1.6], [0.7, 0.2, -1.5], *[[0] * 3] * 2])
    )
    assert incar["MAGMOM"] == incar["M_CONSTR"]
    assert incar["I_CONSTRAINED_M"] == "2" and incar["LAMBDA"] == "10.0"
    assert incar["RWIGS"] == "1.2860 0.8200" and incar["LDAUU"] == "5.3 0.0"
    deltaspin = vasp(tmp_path, constraint="deltaspin", incar={"ENCUT": 600})
    (tmp_path / "d").mkdir()
    deltaspin.write_inputs(oxide()[[0, 2, 1, 3]], tmp_path / "d")
    text = (tmp_path / "d" / "INCAR").read_text()
    assert "SCTYPE = 1" in text and "LAMBDA" not in text and "ENCUT = 600" in text


def test_inputs_wait_for_a_job(tmp_path):
    found = label_structures([oxide()], abacus(), tmp_path, progress=False)
    assert not found.failures and list(found.waiting) == [0]
    script = write_job_script(tmp_path, found.waiting.values())
    text = script.read_text()
    assert "--array=1-1" in text
    assert os.path.relpath(found.waiting[0], tmp_path) in text
    assert label_structures([oxide()], abacus(), tmp_path, progress=False).waiting


def test_meshes_that_change_with_the_strain_are_told(tmp_path, caplog):
    engine = abacus(kpt_spacing=0.1)
    strained = oxide()
    strained.set_cell(1.02 * strained.cell.array, scale_atoms=True)
    meshes = [engine.mesh(atoms) for atoms in (oxide(), strained)]
    assert meshes[0] == meshes[1]
    label_structures([oxide(), strained], engine, tmp_path / "a", progress=False)
    assert not caplog.records
    edge = np.linalg.norm(oxide().cell.reciprocal().array, axis=1)[0] / meshes[0][0]
    engine = abacus(kpt_spacing=0.99 * edge)
    label_structures([strained, oxide()], engine, tmp_path / "b", progress=False)
    (record,) = caplog.records
    assert "1 of 2 structures have another mesh of k-points" in record.getMessage()
    # A supercell is another cell.
    more = [oxide(), oxide() * (2, 1, 1)]
    label_structures(more, engine, tmp_path / "c", progress=False)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("no-such-code", OSError, "no-such-code.*cannot be run"),
        ("echo 'out of memory'; exit 3", LabelError, "code 3: out of memory"),
        ("true", LabelError, "no complete outputs"),
    ],
)
def test_commands_that_fail(tmp_path, command, error, message):
    with pytest.raises(error, match=message):
        abacus(command=command).label(oxide(), tmp_path)


def test_what_is_not_given_is_named(tmp_path):
    iron = Atoms("Fe", cell=[3, 3, 3], pbc=True, magmoms=[2.0])
    with pytest.raises(ValueError, match="pseudopotentials of Fe"):
        abacus().label(iron, tmp_path)
    with pytest.raises(ValueError, match="potcars of Fe"):
        vasp(tmp_path).label(iron, tmp_path)
    with pytest.raises(ValueError, match="'basis_type'"):
        ABACUSEngine.from_dict({"basis_type": "pw"})
    locked = tmp_path / "code"
    locked.write_text("#!/bin/sh\n")
    locked.chmod(stat.S_IRUSR)
    with pytest.raises(OSError, match="cannot be run"):
        abacus(command=str(locked)).label(oxide(), tmp_path)


def test_outputs_are_read_and_put_in_the_order_of_the_atoms(tmp_path):
    """A command that leaves the outputs of a real run; atoms in another order."""
    source = DATA / "nio_pw_u"
    (run,) = read_dataset(source)
    shuffled = [0, 2, 1, 3]
    atoms = run.to_atoms()[shuffled]
    targets = np.array(
        [[0.2865194932, 0, 1.6249327925], [0.0] * 3, [0.0] * 3, [0.0] * 3]
    )
    targets[2] = [0.6552665822, 0.2384975314, -1.4954078486]
    set_spins(atoms, targets)
    engine = abacus(command=f"cp -r {source}/OUT.abacus . && echo done")
    found = label_structures([atoms], engine, tmp_path, progress=False)
    assert not found.failures
    (frame,) = found.frames
    assert frame.numbers.tolist() == run.numbers[shuffled].tolist()
    assert frame.energy == pytest.approx(run.energy, abs=1e-6)
    assert frame.forces == pytest.approx(run.forces[shuffled], abs=1e-7)
    assert frame.magnetic_forces == pytest.approx(
        run.magnetic_forces[shuffled], abs=1e-7
    )
    assert frame.spins == pytest.approx(run.spins[shuffled], abs=1e-7)
    # Outputs that were made with other settings are not read as those of these.
    (label,) = tmp_path.glob("frames/*/label.extxyz")
    label.unlink()
    with pytest.raises(ValueError, match="labels made with another settings"):
        label_structures([atoms], abacus(cutoff=80), tmp_path, progress=False)
    # What is complete is read again, not run again.
    idle = abacus(command="exit 1")
    (folder,) = (tmp_path / "frames").iterdir()
    assert idle.label(atoms, folder).energy == pytest.approx(run.energy)
