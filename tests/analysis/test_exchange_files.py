"""Exchange for other codes: numbers in their conventions, and read back by magnopy.

Spirit is asked where DEEPSPIN_SPIRIT_PYTHON names a Python that has it (``pip install
spirit``).
"""

from __future__ import annotations

import json
import os
import subprocess
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
    bare = replace(exchange, onsite=np.zeros((3, 3, 3)))
    write_tb2j(bare, tmp_path / "exchange.out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = magnopy.io.load_tb2j(tmp_path / "exchange.out", quiet=False)
    back = from_magnopy(read)
    assert len(back.distances) == len(exchange.distances)
    # The reference state is in the file: an antiferromagnet stays one.
    assert back.directions == pytest.approx(exchange.directions, abs=1e-9)
    e = random_directions(3)
    assert back.energy(e) == pytest.approx(bare.energy(e), abs=1e-9)
    assert np.sort(back.distances) == pytest.approx(np.sort(exchange.distances))
    dm = [np.linalg.norm(x.dm, axis=1) for x in (back, exchange)]
    assert np.sort(dm[0]) == pytest.approx(np.sort(dm[1]), abs=1e-9)


@pytest.mark.usefixtures("magnopy")
def test_magnopy_and_back(exchange):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = from_magnopy(to_magnopy(exchange))
    assert back.directions == pytest.approx(exchange.directions)
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


def plain(magnopy, **atoms):
    """Return a chain of two atoms in magnopy's hands, without parameters."""
    convention = magnopy.Convention(
        multiple_counting=True, spin_normalized=True, c1=-1, c21=-1, c22=-0.5
    )
    sites = {"names": ["Mn1", "Mn2"], "positions": [[0, 0, 0], [0.5, 0, 0]]}
    sites |= {"spins": [1.0, 1.0], "g_factors": [2.0, 2.0]} | atoms
    return magnopy.SpinHamiltonian(np.diag([4.0, 9.0, 9.0]), sites, convention)


@pytest.mark.parametrize("listed", ["both", "one", "unequal"])
def test_bonds_listed_from_one_end(listed, magnopy):
    """The energy of magnopy's Hamiltonian, and both ends of every bond."""
    hamiltonian = plain(magnopy, magnetic_moments=[2.0, -2.0])
    J = np.diag([-3.0, -3.0, -3.2])
    J[0, 1], J[1, 0] = 0.4, -0.4
    share = {"both": (1.0, 1.0), "one": (2.0, 0.0), "unequal": (0.5, 1.5)}[listed]
    for shift in (0, -1):
        hamiltonian.add(nus=[(shift, 0, 0)], alphas=[0, 1], parameter=share[0] * J)
        if share[1]:
            back = share[1] * J.T
            hamiltonian.add(nus=[(-shift, 0, 0)], alphas=[1, 0], parameter=back)
    found = from_magnopy(hamiltonian)
    assert len(found.distances) == 4
    assert found.tensors[found.i == 0][0] == pytest.approx(1e-3 * J)
    assert found.directions.tolist() == [[0, 0, 1], [0, 0, -1]]
    e = random_directions(2)
    theirs = 1e-3 * magnopy.Energy(hamiltonian).E_0(e)
    assert found.energy(e) == pytest.approx(theirs, abs=1e-12)
    # The antiferromagnet of the file is stable: no magnon below zero.
    modes = SpinWaves.from_exchange(found).modes([(0.1, 0, 0), (0.25, 0, 0)])
    assert (modes.energies > 0.0).all()


def test_what_magnopy_says_of_the_reference_state(exchange, magnopy):
    silent = plain(magnopy)
    silent.add(nus=[(0, 0, 0)], alphas=[0, 1], parameter=np.eye(3))
    with pytest.raises(ValueError, match="how its moments are directed"):
        from_magnopy(silent)
    assert from_magnopy(silent, "x").directions.tolist() == [[1, 0, 0]] * 2
    with pytest.raises(ValueError, match=r"vectors with a length, \(2, 3\)"):
        from_magnopy(silent, [[0, 0, 1], [0, 0, 0]])
    # Fields of single sites are kept.
    field = np.random.default_rng(3).normal(scale=1e-3, size=(3, 3))
    fielded = replace(exchange, fields=field)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = from_magnopy(to_magnopy(fielded))
    e = random_directions(3)
    assert back.energy(e) == pytest.approx(fielded.energy(e), abs=1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
def test_sign_of_dm_vectors_in_uppasd(sign, exchange, tmp_path):
    write_uppasd(exchange, tmp_path, dm_sign=sign)
    D = table(tmp_path / "dmfile")
    i, j = D[:, 0].astype(int) - 1, D[:, 1].astype(int) - 1
    e = random_directions(3)
    total = sign * (D[:, 5:] * np.cross(e[i], e[j])).sum() * units.Ry / 1000
    b = exchange.blocks
    ours = -0.5 * (exchange.dm * np.cross(e[b.i], e[b.j])).sum()
    assert total == pytest.approx(ours, abs=1e-9)
    assert f"E = {'-+'[sign > 0]} D.(e_i x e_j)" in (tmp_path / "inpsd.dat").read_text()
    with pytest.raises(ValueError, match="dm_sign must be -1 or 1"):
        write_uppasd(exchange, tmp_path, dm_sign=0)


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
    # Otherwise all sites become the last material.
    sites = [line.split() for line in lines[lines.index("3 3") + 1 :][:3]]
    for site in sites:
        number = int(site[4]) + 1
        assert f"material[{number}]:unit-cell-category={number}" in material


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


#: Prints Spirit's energies per cell, meV, of orders that repeat with the cell.
ENERGIES_OF_SPIRIT = """
import json, sys
import numpy as np
from spirit import state, system
with state.State(sys.argv[1], quiet=True) as s:
    spins = system.get_spin_directions(s)
    energies = []
    for order in json.loads(sys.argv[2]):
        cells = len(spins) // len(order)
        spins[:] = np.tile(order, (cells, 1))
        system.update_data(s)
        energies.append(system.get_energy(s) / cells)
print("answer", json.dumps(energies))
"""


@pytest.mark.skipif(
    "DEEPSPIN_SPIRIT_PYTHON" not in os.environ,
    reason="DEEPSPIN_SPIRIT_PYTHON is not set",
)
def test_spirit_gets_our_energies(exchange, tmp_path):
    write_spirit(exchange, tmp_path / "input.cfg")
    orders = [random_directions(3), exchange.directions, np.tile(AXIS, (3, 1))]
    python = [os.environ["DEEPSPIN_SPIRIT_PYTHON"], "-c", ENERGIES_OF_SPIRIT]
    given = json.dumps([order.tolist() for order in orders])
    command = [*python, str(tmp_path / "input.cfg"), given]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout.split("answer")[-1])
    # Our A has no trace: sum K/3 is a constant.
    ours = [1e3 * (exchange.energy(e) - 3 * K / 3) for e in orders]
    assert theirs == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize(
    "write", [write_tb2j, write_uppasd, write_vampire, write_spirit]
)
def test_fields_are_not_dropped_in_silence(write, exchange, tmp_path):
    bare = replace(exchange, onsite=0 * exchange.onsite)
    write(bare, tmp_path / "written")
    assert (tmp_path / "written").exists()
    with pytest.raises(ValueError, match=r"no fields at single sites.* 3 meV"):
        write(replace(bare, fields=np.full((3, 3), 0.003)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


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
