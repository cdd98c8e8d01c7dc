"""Exchange for other codes: numbers in their conventions, and read back by magnopy."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from structures import triclinic

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.analysis import (
    SpinWaves,
    exchange_tensors,
    from_magnopy,
    to_magnopy,
    write_spirit,
    write_tb2j,
    write_uppasd,
    write_vampire,
)
from deepspin_ase.analysis.exchange import ExchangeTensors
from deepspin_ase.potentials import (
    CubicCut,
    DipoleDipole,
    DzyaloshinskiiMoriya,
    Heisenberg,
    Sum,
    UniaxialAnisotropy,
)

#: Easy axis and its anisotropy, eV.
AXIS, K = np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0), 0.002


@pytest.fixture(scope="module")
def magnopy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("magnopy")


@pytest.fixture(scope="module")
def exchange() -> ExchangeTensors:
    atoms = triclinic()
    atoms.pbc = True
    # Sites outside the cell, whose translations must follow.
    atoms.positions[1] -= atoms.cell.array[0] + 2 * atoms.cell.array[1]
    terms = [
        Heisenberg(CubicCut(0.3, 3.5)),
        DzyaloshinskiiMoriya(CubicCut(0.1, 3.5)),
        UniaxialAnisotropy(K, AXIS),
    ]
    atoms.calc = DeepSpinCalculator(Sum(terms))
    return exchange_tensors(atoms)


def table(path: Path, skip: int = 0) -> np.ndarray:
    return np.loadtxt(path, skiprows=skip, ndmin=2)


def random_directions(count: int) -> np.ndarray:
    e = np.random.default_rng(5).normal(size=(count, 3))
    return e / np.linalg.norm(e, axis=1, keepdims=True)


def test_tb2j_is_read_by_magnopy(exchange, magnopy, tmp_path):
    write_tb2j(exchange, tmp_path / "exchange.out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = magnopy.io.load_tb2j(tmp_path / "exchange.out", quiet=False)
    back = from_magnopy(read, exchange.directions)
    assert len(back.distances) == len(exchange.distances)
    e = random_directions(3)
    bare = replace(exchange, onsite=np.zeros((3, 3, 3)))
    assert back.energy(e) == pytest.approx(bare.energy(e), abs=1e-9)
    assert np.sort(back.distances) == pytest.approx(np.sort(exchange.distances))
    dm = [np.linalg.norm(x.dm, axis=1) for x in (back, exchange)]
    assert np.sort(dm[0]) == pytest.approx(np.sort(dm[1]), abs=1e-9)


@pytest.mark.usefixtures("magnopy")
def test_magnopy_and_back(exchange):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = from_magnopy(to_magnopy(exchange), exchange.directions)
    assert back.lengths == pytest.approx(exchange.lengths)
    assert back.atoms.get_chemical_symbols() == ["Fe", "Ni", "Fe"]
    e = random_directions(3)
    assert back.energy(e) == pytest.approx(exchange.energy(e), abs=1e-12)
    k = np.random.default_rng(1).uniform(-0.5, 0.5, (4, 3))
    # About a polarised order both have the same waves; a field would hold it.
    strong = np.tile(AXIS, (3, 1))
    hold = {"fields": 5.0 * strong}
    waves = [
        SpinWaves.from_exchange(replace(x, **hold), directions=strong).modes(k)
        for x in (exchange, back)
    ]
    assert waves[0].energies == pytest.approx(waves[1].energies, abs=1e-12)


def test_uppasd(exchange, tmp_path):
    write_uppasd(exchange, tmp_path / "uppasd")
    folder = tmp_path / "uppasd"
    assert not (folder / "pdfile").exists()
    places = table(folder / "posfile")[:, 2:]
    assert (places >= 0).all() and (places < 1).all()
    moments = table(folder / "momfile")
    assert moments[:, 2] == pytest.approx(exchange.lengths)
    J, D = table(folder / "jfile"), table(folder / "dmfile")
    i, j = J[:, 0].astype(int) - 1, J[:, 1].astype(int) - 1
    bond = (places[j] + J[:, 2:5] - places[i]) @ exchange.atoms.cell.array
    assert np.linalg.norm(bond, axis=1) == pytest.approx(np.sort(exchange.distances))
    e = random_directions(3)
    total = -(J[:, 5] * (e[i] * e[j]).sum(axis=1)).sum()
    total -= (D[:, 5:] * np.cross(e[i], e[j])).sum()
    k = table(folder / "kfile")
    total += (k[:, 2] * (k[:, 4:7] * e).sum(axis=1) ** 2).sum()
    # Our A has no trace: sum K/3 is a constant.
    ours = exchange.energy(e) - 3 * K / 3
    assert total * units.Ry / 1000 == pytest.approx(ours, abs=1e-9)
    text = (folder / "inpsd.dat").read_text()
    assert "maptype 2" in text and "dm ./dmfile" in text and "BC P P P" in text


def test_vampire(exchange, tmp_path):
    write_vampire(exchange, tmp_path)
    lines = (tmp_path / "vampire.UCF").read_text().splitlines()
    start = lines.index(f"{len(exchange.distances)} tensorial")
    rows = np.array([line.split() for line in lines[start + 1 :]], dtype=float)
    assert rows[:, 0].tolist() == list(range(len(exchange.distances)))
    i, j = rows[:, 1].astype(int), rows[:, 2].astype(int)
    tensors = rows[:, 6:].reshape(-1, 3, 3)
    e = random_directions(3)
    total = -0.5 * np.einsum("pa,pab,pb->", e[i], tensors, e[j]) * units.J
    bare = replace(exchange, onsite=np.zeros((3, 3, 3)))
    assert total == pytest.approx(bare.energy(e), abs=1e-9)
    material = (tmp_path / "vampire.mat").read_text()
    assert f"uniaxial-anisotropy-constant={K / units.J:.10e}" in material
    assert "material:num-materials=3" in material


def test_spirit(exchange, tmp_path):
    write_spirit(exchange, tmp_path / "input.cfg")
    lines = (tmp_path / "input.cfg").read_text().splitlines()
    count = len(exchange.distances) // 2
    start = lines.index(f"n_interaction_pairs {count}")
    rows = np.array([line.split() for line in lines[start + 2 :]], dtype=float)
    assert len(rows) == count
    i, j = rows[:, 0].astype(int), rows[:, 1].astype(int)
    e = random_directions(3)
    total = -(rows[:, 5] * (e[i] * e[j]).sum(axis=1)).sum()
    total -= (rows[:, 7:] * np.cross(e[i], e[j])).sum()
    assert np.linalg.norm(rows[:, 7:], axis=1) == pytest.approx(rows[:, 6])
    bare = replace(exchange, onsite=np.zeros((3, 3, 3)))
    assert total / 1000 == pytest.approx(bare.energy(e), abs=1e-9)


def test_what_a_format_cannot_hold(exchange, tmp_path):
    two = replace(exchange, onsite=np.tile(np.diag([1e-3, 0.0, -1e-3]), (3, 1, 1)))
    with pytest.raises(ValueError, match="two axes"):
        write_uppasd(two, tmp_path / "none")
    pair = Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2.5)])
    set_spins(pair, {"Fe": 2.0})
    pair.calc = DeepSpinCalculator(DipoleDipole(cutoff=6.0))
    dipoles = exchange_tensors(pair)
    with pytest.raises(ValueError, match="lattice vectors"):
        write_tb2j(dipoles, tmp_path / "exchange.out")
    dipoles.atoms.cell[:] = 10 * np.eye(3)
    with pytest.raises(ValueError, match="symmetric"):
        write_spirit(dipoles, tmp_path / "input.cfg")
    write_uppasd(dipoles, tmp_path / "dipoles")
    rows = table(tmp_path / "dipoles" / "pdfile")
    assert rows[:, 5:8].sum(axis=1) == pytest.approx(0.0, abs=1e-9)
    assert "BC 0 0 0" in (tmp_path / "dipoles" / "inpsd.dat").read_text()
    assert not (tmp_path / "input.cfg").exists()
