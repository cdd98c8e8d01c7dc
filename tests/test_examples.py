"""Every example (``>>>``) in a docstring runs, and prints what stands below it.

Examples use public names without importing them, and a few structures: ``iron``,
``nio``, ``bfo`` (BiFeO3), ``atoms`` (ferromagnetic iron, exchange and anisotropy),
``minimum`` and ``top`` (a moment along its easy axis, and where it turns over), and in
the working folder ``model.pt`` (that Hamiltonian) and ``run.h5`` (a short run).
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.optimize import BFGS, FIRE

import deepspin_ase as ds
from deepspin_ase.potentials import (
    Heisenberg,
    Shells,
    UniaxialAnisotropy,
    bismuth_ferrite,
)

matplotlib.use("Agg")

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST


class Checker(doctest.OutputChecker):
    """Compares output where the example shows some."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


#: Needs an interpreter with MPI and LAMMPS.
ELSEWHERE = {"deepspin_ase.calculators.lammps._worker"}


def examples() -> list[doctest.DocTest]:
    found = []
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(ds.__path__, "deepspin_ase."):
        path = Path(info.module_finder.path, *info.name.split(".")[-1:])  # type: ignore
        source = path / "__init__.py" if info.ispkg else path.with_suffix(".py")
        if ">>>" in source.read_text() and info.name not in ELSEWHERE:
            found += finder.find(importlib.import_module(info.name), info.name)
    return [test for test in found if test.examples]


def ferromagnet() -> Atoms:
    atoms = bulk("Fe", cubic=True)
    ds.set_spins(atoms, {"Fe": 2.2})
    exchange = Heisenberg(Shells([(2.48, 0.0195), (2.87, 0.011)]))
    atoms.calc = ds.DeepSpinCalculator(exchange + UniaxialAnisotropy(1e-4, (0, 0, 1)))
    return atoms


def moment_at_rest(direction: tuple[float, float, float]) -> Atoms:
    atom = Atoms("Co", [(0, 0, 0)])
    ds.set_spins(atom, [1.7 * np.array(direction)])
    hard = UniaxialAnisotropy(-1e-3, (0, 1, 0))
    atom.calc = ds.DeepSpinCalculator(UniaxialAnisotropy(1e-3, (0, 0, 1)) + hard)
    return atom


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for package in (ds.potentials, ds.training, ds.data, ds.build, ds.calculators):
        names |= {name: getattr(package, name) for name in package.__all__}
    for package in (ds.optimize, ds.dynamics, ds.symmetry, ds.analysis, ds):
        names |= {name: getattr(package, name) for name in package.__all__}
    names |= {"ds": ds, "np": np, "units": units, "bulk": bulk, "Atoms": Atoms}
    names |= {"FixAtoms": FixAtoms, "BFGS": BFGS, "FIRE": FIRE}
    atoms = ferromagnet()
    ds.potentials.save_potential("model.pt", atoms.calc.potential, card={})
    names |= {"iron": bulk("Fe", cubic=True), "atoms": atoms}
    names["nio"] = bulk("NiO", "rocksalt", 4.17, cubic=True) * 2
    names["bfo"] = bismuth_ferrite()
    names["minimum"], names["top"] = (moment_at_rest(n) for n in ((0, 0, 1), (1, 0, 0)))
    return names


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_example_runs(example: doctest.DocTest, namespace: dict[str, Any]) -> None:
    text = example.docstring or ""
    if "run.h5" in text:
        moving = namespace["atoms"].repeat(2)
        moving.calc = namespace["atoms"].calc
        ds.cant_spins(moving, 0.1, seed=1)
        options = {"trajectory": "run.h5", "loginterval": 1}
        ds.dynamics.SpinDynamics(moving, units.fs, **options).run(20)
    example.globs |= namespace
    report: list[str] = []
    runner = doctest.DocTestRunner(Checker(), optionflags=OPTIONS)
    runner.run(example, out=report.append)
    plt.close("all")
    assert not report, "".join(report)
