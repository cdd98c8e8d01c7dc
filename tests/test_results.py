"""Results: saved, loaded, drawn and printed, all classes alike."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms, FixCartesian
from matplotlib.axes import Axes
from phonopy import Phonopy

import deepspin_ase
from deepspin_ase import DeepSpinCalculator, cant_spins, relax, set_spins
from deepspin_ase.analysis import (
    Result,
    calculate_phonons,
    k_path,
    phonon_bands,
    plot_hysteresis,
    thermal_phonons,
)
from deepspin_ase.analysis.transitions import Hysteresis
from deepspin_ase.constraints import FixSpins
from deepspin_ase.data import Dataset, Frame, check_dataset
from deepspin_ase.optimize import SpinLatticeLBFGS, search_magnetic_orders
from deepspin_ase.potentials import (
    Harmonic,
    Heisenberg,
    Shells,
    UniaxialAnisotropy,
    symmetry_violations,
)
from deepspin_ase.symmetry import magnetic_space_group
from deepspin_ase.training import collect, compare, load_batches

matplotlib.use("Agg")

PACKAGES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(deepspin_ase.__path__, "deepspin_ase.")
    if info.ispkg and not info.name.startswith("deepspin_ase.kernels")
]


def _subclasses(kind: type) -> Iterator[type[Result]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


KINDS = sorted(_subclasses(Result), key=lambda kind: kind.__name__)


def hysteresis_loop() -> Hysteresis:
    fields = np.array([1.0, 0.0, -1.0])
    moments = 2.0 * np.outer(np.sign(fields), [1.0, 0.0, 0.0])
    return Hysteresis(fields, moments, np.array([1.0, 0.0, 0.0]))


def structure() -> Atoms:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True)
    set_spins(atoms, [[0.0, 0.1, 2.0], [0.0, 0.0, -2.0]])
    atoms.set_masses([55.0, 56.0])
    atoms.info["time_fs"] = 3.5
    atoms.info["object"] = object()  # is left out
    fixed = FixAtoms([0]), FixCartesian([1], (True, False, True)), FixSpins([1])
    atoms.set_constraint(fixed)
    return atoms


def phonopy() -> Phonopy:
    atoms = bulk("Fe", "bcc", 2.8665)
    atoms.calc = DeepSpinCalculator(Harmonic(5.0, 2.48, cutoff=2.6))
    return calculate_phonons(atoms, 2)


class Filled:
    """Values of any annotated type, with numbers of all kinds in them."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, hint: typing.Any) -> typing.Any:
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            hints = typing.get_type_hints(hint)
            return hint(
                **{f.name: self(hints[f.name]) for f in dataclasses.fields(hint)}
            )
        if isinstance(hint, type) and hasattr(hint, "_fields"):
            return hint(*map(self, typing.get_type_hints(hint).values()))
        if hint is np.ndarray:
            array = self.rng.normal(size=(3, 4)) + 1j * self.rng.normal(size=(3, 4))
            array[0, 0] = np.nan
            return array if self.rng.random() < 0.5 else array.real
        plain = {
            float: lambda: float(self.rng.normal()),
            int: lambda: int(self.rng.integers(100)),
            bool: lambda: bool(self.rng.random() < 0.5),
            str: lambda: f"Fe {self.rng.integers(100)} Å",
            Atoms: structure,
            Phonopy: phonopy,
        }
        if hint in plain:
            return plain[hint]()
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            return self(arguments[0])
        if origin is tuple and arguments[-1] is not Ellipsis:
            return tuple(map(self, arguments))
        if origin in (list, tuple):
            return origin(self(arguments[0]) for _ in range(3))
        if origin is dict:
            return {self(arguments[0]): self(arguments[1]) for _ in range(2)}
        raise AssertionError(f"no value for {hint}: teach this test")


def assert_same(a: typing.Any, b: typing.Any) -> None:
    if isinstance(a, np.float64):  # comes back as what it is, too: a float
        a = float(a)
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, Atoms):
        assert sorted(a.arrays) == sorted(b.arrays)
        for name, values in a.arrays.items():
            assert_same(values, b.arrays[name])
        np.testing.assert_array_equal(a.cell.array, b.cell.array)
        assert a.pbc.tolist() == b.pbc.tolist()
        assert b.info == {k: v for k, v in a.info.items() if k != "object"}
        pairs = zip(a.constraints, b.constraints, strict=True)
        assert all(repr(x.todict()) == repr(y.todict()) for x, y in pairs)
    elif isinstance(a, Phonopy):
        np.testing.assert_array_equal(a.force_constants, b.force_constants)
        path = k_path(bulk("Fe", "bcc", 2.8665), "GHP", npoints=9)
        np.testing.assert_array_equal(
            phonon_bands(a, path).frequencies_THz,
            phonon_bands(b, path).frequencies_THz,
        )
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b or (a != a and b != b)


#: Dataclasses and named tuples that public functions return and that are no results:
#: parts of potentials and drivers, what has files of its own, and an estimate, which
#: results hold.
NO_RESULTS = {
    "Baseline",
    "Bonds",
    "Couplings",
    "Estimate",
    "Exploration",
    "LabelledStructures",
    "RawExchange",
    "Scheme",
    "TrainingSet",
    "WrappedSites",
}


def inside(hint: typing.Any) -> Iterator[typing.Any]:
    yield hint
    for part in typing.get_args(hint):
        yield from inside(part)


def test_what_functions_return_is_a_result() -> None:
    functions = {
        value
        for package in PACKAGES
        for name in getattr(package, "__all__", ())
        for value in [getattr(package, name)]
        if inspect.isfunction(value) and not name.startswith("plot_")
    }
    returned = {
        kind
        for function in functions
        for kind in inside(typing.get_type_hints(function).get("return"))
        if isinstance(kind, type) and kind.__module__.startswith("deepspin_ase")
        if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
    }
    others = {kind.__name__ for kind in returned if not issubclass(kind, Result)}
    assert others == NO_RESULTS
    assert len(returned) > 40


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_result_is_frozen_and_comes_back_from_its_file(
    kind: type[Result], tmp_path: Path
) -> None:
    result = Filled()(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, dataclasses.fields(result)[0].name, None)
    path = tmp_path / "result.npz"
    result.save(path)
    assert_same(result, kind.load(path))
    assert_same(result, Result.load(path))


def test_optional_parts_may_be_missing(tmp_path: Path) -> None:
    whole = Filled()(next(k for k in KINDS if k.__name__ == "MagnonBands"))
    bare = dataclasses.replace(whole, instability=None, path=None)
    bare.save(tmp_path / "bands.npz")
    assert_same(bare, type(bare).load(tmp_path / "bands.npz"))


def test_arrays_are_read_without_this_package(tmp_path: Path) -> None:
    loop = hysteresis_loop()
    loop.save(tmp_path / "loop.npz")
    with np.load(tmp_path / "loop.npz") as arrays:
        np.testing.assert_array_equal(arrays["magnetization"], loop.magnetization)


def test_another_class_and_another_file_are_refused(tmp_path: Path) -> None:
    loop = hysteresis_loop()
    loop.save(tmp_path / "loop.npz")
    other = next(kind for kind in KINDS if kind.__name__ == "NEBPath")
    with pytest.raises(ValueError, match="holds Hysteresis, not NEBPath"):
        other.load(tmp_path / "loop.npz")
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("arrays.npz", "array.npy", "text.npz"):
        with pytest.raises(ValueError, match=r"as a result|expected a result"):
            Result.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path / "missing.npz")


def test_objects_are_not_pickled(tmp_path: Path) -> None:
    loop = hysteresis_loop()
    spoilt = dataclasses.replace(loop, fields_T=np.array([object()]))
    with pytest.raises(TypeError, match="fields_T is an array of objects"):
        spoilt.save(tmp_path / "loop.npz")
    assert not (tmp_path / "loop.npz").exists()


def test_a_result_draws_itself_as_its_function_does() -> None:
    loop = hysteresis_loop()
    ax = loop.plot()
    assert isinstance(ax, Axes)
    assert loop.plot(ax) is ax
    first, again = ax.lines[0], plot_hysteresis(loop).lines[0]
    np.testing.assert_array_equal(first.get_xydata(), again.get_xydata())
    matplotlib.pyplot.close("all")


def test_a_result_without_figure_says_so() -> None:
    shell = Filled()(next(k for k in KINDS if k.__name__ == "ExchangeShell"))
    with pytest.raises(TypeError, match="no figure of ExchangeShell"):
        shell.plot()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_result_prints_briefly(kind: type[Result]) -> None:
    if "__str__" in vars(kind):
        pytest.skip("prints itself; tested where it is made")
    text = str(Filled()(kind))
    assert text.startswith(kind.__name__)
    assert all(field.name in text for field in dataclasses.fields(kind))
    assert len(text) < 100 * (1 + len(dataclasses.fields(kind)))


def test_averaged_phonons_come_back(tmp_path: Path) -> None:
    atoms = bulk("Fe", "bcc", 2.8665)
    set_spins(atoms, {"Fe": 2.0})
    atoms.calc = DeepSpinCalculator(
        Harmonic(5.0, 2.48, cutoff=2.6) + UniaxialAnisotropy(1e-3, (0, 0, 1))
    )
    found = thermal_phonons(
        atoms, 2, temperature_K=100, samples=2, equilibration=5, interval=1, seed=1
    )
    found.save(tmp_path / "phonons.npz")
    assert_same(found, type(found).load(tmp_path / "phonons.npz"))


def ferromagnet() -> Atoms:
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True)
    set_spins(atoms, {"Fe": 2.0})
    exchange = Heisenberg(Shells([(2.48, 0.02)]))
    atoms.calc = DeepSpinCalculator(
        Harmonic(5.0, 2.48, cutoff=2.6) + exchange + UniaxialAnisotropy(1e-3, (0, 0, 1))
    )
    cant_spins(atoms, 0.2, seed=1)
    atoms.rattle(0.02, seed=1)
    return atoms


def test_what_was_really_found_comes_back(tmp_path: Path) -> None:
    atoms = ferromagnet()
    atoms.get_potential_energy()
    data = Dataset([Frame.from_atoms(atoms)])
    potential = atoms.calc.potential
    batches = collect(load_batches(data, potential))
    results = [
        relax(atoms),
        search_magnetic_orders(atoms, n_random=2, moments={"Fe": 2.0}),
        check_dataset(data),
        magnetic_space_group(atoms),
        symmetry_violations(potential, [b.system for b in batches], n_rotations=2),
        *compare(potential, batches).values(),
    ]
    path = tmp_path / "result.npz"
    for result in results:
        result.save(path)
        assert_same(result, Result.load(path))


def test_a_result_is_read_where_nothing_is_imported(tmp_path: Path) -> None:
    """Of any room, whichever extras are missing."""
    path = tmp_path / "result.npz"
    magnetic_space_group(ferromagnet()).save(path)
    code = (
        "import sys; sys.modules['gpaw'] = None\n"
        "from deepspin_ase.analysis import Result\n"
        f"print(type(Result.load({str(path)!r})).__name__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert said.stdout.strip() == "MagneticSpaceGroup", said.stderr


def test_history_of_a_relaxation() -> None:
    atoms = ferromagnet()
    before = atoms.get_potential_energy()
    found = relax(atoms, cell=True)
    assert set(found.history) == {"energy", "force", "torque", "stress"}
    energies = found.history["energy"]
    assert energies[0] == before and energies[-1] == found.energy
    assert (np.diff(energies) < 1e-7 * abs(before)).all()
    assert {k: v[-1] for k, v in found.history.items() if k != "energy"} == (
        found.residuals
    )
    atoms, again = ferromagnet(), ferromagnet()
    optimizer = SpinLatticeLBFGS(atoms)
    optimizer.run(steps=2)
    optimizer.run(steps=2)
    whole = relax(again, steps=4)
    assert [s["energy"] for s in optimizer.descent.history] == pytest.approx(
        whole.history["energy"]
    )
