"""Copies of potentials and calculators: pickle, copy and deepcopy, bit for bit."""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from structures import triclinic

from deepspin_ase import DeepSpinCalculator, cant_spins, set_spins
from deepspin_ase.potentials import (
    ZBL,
    Biquadratic,
    BismuthFerriteSpins,
    BondHamiltonian,
    BuckinghamCoulomb,
    Committee,
    CubicAnisotropy,
    CubicCut,
    DipoleDipole,
    DzyaloshinskiiMoriya,
    ElectricField,
    Harmonic,
    Heisenberg,
    Landau,
    LennardJones,
    MomentExchange,
    PairPotential,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    TimeReversal,
    UniaxialAnisotropy,
    Zeeman,
    ZeemanGradient,
    ZeemanWave,
    dudarev_derlet_fe,
)
from deepspin_ase.potentials._registry import _classes
from deepspin_ase.potentials.deepmd import DeepmdScript
from deepspin_ase.potentials.materials.reference import fe, nio

NIO = Path(__file__).parents[1] / "data" / "deepmd" / "nio_early.pth"
CUT = CubicCut(0.05, 3.5)

#: TorchScript is deprecated in PyTorch, but is what DeePMD-kit writes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def periodic() -> Atoms:
    atoms = triclinic()
    atoms.pbc = True
    return atoms


def iron() -> Atoms:
    atoms = bulk("Fe", a=2.8665, cubic=True).repeat((2, 1, 1))
    set_spins(atoms, np.linspace([0.1, 0, 2.0], [1, 2, 0.5], len(atoms)))
    atoms.rattle(0.05, seed=1)
    return atoms


def nickel_oxide() -> Atoms:
    atoms = bulk("NiO", "rocksalt", 4.17, cubic=True)
    set_spins(atoms, {"Ni": 1.2})
    cant_spins(atoms, 0.4, seed=1)
    atoms.rattle(0.05, seed=1)
    return atoms


def ferrite() -> Atoms:
    atoms = Atoms(
        "BiFeO3",
        scaled_positions=[
            (0.05, 0, 0),
            (0.5, 0.47, 0.5),
            (0.5, 0.5, 0),
            (0.5, 0, 0.5),
            (0, 0.5, 0.5),
        ],
        cell=[3.9, 4.0, 3.95],
        pbc=True,
    )
    atoms = atoms.repeat((2, 1, 1))
    set_spins(atoms, {"Fe": 4.0})
    cant_spins(atoms, 0.4, seed=1)
    return atoms


def dimer() -> Atoms:
    atoms = Atoms("Fe2", [(0.0, 0.0, 0.0), (2.5, 0.0, 0.0)])
    set_spins(atoms, [[0.0, 0.0, 2.0], [1.0, 0.0, 2.0]])
    return atoms


def moment_network() -> Potential:
    config = SpinMomentConfig(
        elements=["Fe", "Ni", "O"], magnetic=["Fe", "Ni"], cutoff=3.5, spin_orbit=True
    )
    return SpinMomentNetwork(config)


#: A potential of every class, and structures that it takes.
POTENTIALS: dict[str, tuple[Callable[[], Potential], Callable[[], Atoms]]] = {
    "Biquadratic": (lambda: Biquadratic(CUT), periodic),
    "BismuthFerriteSpins": (BismuthFerriteSpins, ferrite),
    "BondHamiltonian": (
        lambda: BondHamiltonian(dimer(), [0], [1], [(0, 0, 0)], [0.01]),
        dimer,
    ),
    "BuckinghamCoulomb": (
        lambda: BuckinghamCoulomb(
            {"Ni": 2.0, "O": -2.0}, {"Ni-O": (683.5, 0.3332, 0.0)}, cutoff=5.0
        ),
        nickel_oxide,
    ),
    "Committee": (lambda: Committee([fe(), dudarev_derlet_fe()]), iron),
    "CubicAnisotropy": (lambda: CubicAnisotropy(0.02, -0.03), periodic),
    "DeepSpinNetwork": (lambda: networks.model(**networks.EVERY["plain"]), periodic),
    "DipoleDipole": (DipoleDipole, periodic),
    "DzyaloshinskiiMoriya": (lambda: DzyaloshinskiiMoriya(CUT), periodic),
    "ElectricField": (
        lambda: ElectricField(
            (0.01, 0.0, 0.02),
            bulk("NiO", "rocksalt", 4.17, cubic=True),
            {"Ni": 2.2, "O": -2.2},
        ),
        nickel_oxide,
    ),
    "EmbeddedAtom": (dudarev_derlet_fe, iron),
    "Harmonic": (lambda: Harmonic(2.0, 2.5, cutoff=3.4), periodic),
    "Heisenberg": (lambda: Heisenberg(CUT), periodic),
    "Landau": (lambda: Landau((-0.7, 0.3, 0.01)), periodic),
    "LennardJones": (lambda: LennardJones(0.1, 2.3, cutoff=4.0), periodic),
    "Material": (nio, nickel_oxide),
    "MomentExchange": (lambda: MomentExchange(CUT, subtract_collinear=True), periodic),
    "PairPotential": (lambda: PairPotential(CUT, elements=("Fe", "Ni")), periodic),
    "SpinMomentNetwork": (moment_network, triclinic),
    "Sum": (lambda: Heisenberg(CUT) + UniaxialAnisotropy(0.02, (0, 1, 1)), periodic),
    "TimeReversal": (
        lambda: TimeReversal(networks.model(**networks.EVERY["plain"])),
        periodic,
    ),
    "UniaxialAnisotropy": (lambda: UniaxialAnisotropy(0.02, (1, 1, 0)), periodic),
    "ZBL": (lambda: ZBL(1.0, 3.5), periodic),
    "Zeeman": (lambda: Zeeman((1.0, 2.0, 3.0)), periodic),
    "ZeemanGradient": (
        lambda: ZeemanGradient([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -2.0)]),
        dimer,
    ),
    "ZeemanWave": (lambda: ZeemanWave((1.0, 0.0, 2.0), (1, 0, 2)), periodic),
    "timestep-gelu": (
        lambda: networks.model(**networks.EVERY["timestep-gelu"]),
        periodic,
    ),
    "DeepmdScript": (lambda: DeepmdScript(NIO), nickel_oxide),
}


@functools.cache
def made(name: str) -> Potential:
    """Return the potential, which calculators copy."""
    return POTENTIALS[name][0]()


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": pickled,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def results(calculator: DeepSpinCalculator, atoms: Atoms) -> dict[str, Any]:
    calculator.calculate(atoms)
    return calculator.results


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_there_is_a_potential_of_every_class() -> None:
    kinds = {
        name
        for name, kind in _classes.items()  # tests register some, too
        if issubclass(kind, Potential) and kind.__module__.startswith("deepspin_ase")
    }
    assert kinds - {"SevenNet"} <= POTENTIALS.keys()  # SevenNet needs a download


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, "pickle") for name in POTENTIALS),
        *itertools.product(("Committee", "DeepmdScript"), ("copy", "deepcopy")),
    ],
)
def test_copies_of_calculators_and_potentials(name: str, way: str) -> None:
    potential, atoms = made(name), POTENTIALS[name][1]()
    calculator = DeepSpinCalculator(potential, external_field_T=(0.0, 1.0, 2.0))
    expected = results(calculator, atoms)
    copied = WAYS[way](calculator)
    # What it knew comes along, and the copy is as good as new.
    assert_same(copied.results, expected)
    assert copied.parameters == calculator.parameters
    atoms.positions[0] += 0.01  # the pair list is kept
    assert_same(results(copied, atoms), results(calculator, atoms))
    copied.external_field_T = None
    calculator.external_field_T = None
    assert_same(results(copied, atoms), results(calculator, atoms))
    fresh = DeepSpinCalculator(WAYS[way](potential))
    assert_same(results(fresh, atoms), results(DeepSpinCalculator(potential), atoms))


def test_a_shallow_copy_shares_nothing_that_changes() -> None:
    atoms = iron()
    calculator = DeepSpinCalculator(fe())
    expected = results(calculator, atoms)
    copied = copy.copy(calculator)
    assert copied.bare_potential is calculator.bare_potential
    copied.external_field_T = (0.0, 0.0, 100.0)
    assert calculator.external_field_T is None
    assert results(copied, atoms)["energy"] != expected["energy"]
    assert_same(calculator.results, expected)


def energy(calculator: DeepSpinCalculator, atoms: Atoms) -> float:
    return float(calculator.get_property("energy", atoms))


@pytest.mark.slow  # another process imports torch
def test_other_processes_take_calculators() -> None:
    calculator, atoms = (
        DeepSpinCalculator(networks.model(**networks.EVERY["plain"])),
        periodic(),
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(energy, calculator, atoms).result()
    assert found == energy(calculator, atoms)


def test_a_program_whose_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(NIO.read_bytes())
    written = pickle.dumps(DeepmdScript(path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.pth is missing"):
        pickle.loads(written)


def test_a_program_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pth").write_bytes(NIO.read_bytes())
    monkeypatch.chdir(tmp_path)
    written = pickle.dumps(DeepmdScript("model.pth"))
    monkeypatch.chdir(tmp_path.parent)
    found = DeepSpinCalculator(pickle.loads(written))
    expected = DeepSpinCalculator(made("DeepmdScript"))
    atoms = nickel_oxide()
    assert_same(results(found, atoms), results(expected, atoms))
