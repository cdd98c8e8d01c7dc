"""Calculators without a stress run in all drivers, with all files and observers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.io import read
from calculators import Foreign

from deepspin_ase import cant_spins, set_spins
from deepspin_ase.dynamics import (
    SpinDynamics,
    SpinLatticeLangevin,
    SpinLatticeNPT,
    SpinLatticeNVE,
    read_hdf5,
)
from deepspin_ase.io import read_extxyz
from deepspin_ase.optimize import relax
from deepspin_ase.potentials.materials.reference import fe

FS = units.fs


def iron(properties: tuple[str, ...] = ("energy", "forces", "magnetic_forces")):
    atoms = bulk("Fe", a=2.87, cubic=True)
    set_spins(atoms, {"Fe": 2.2})
    cant_spins(atoms, 0.05, seed=1)
    atoms.rattle(0.02, seed=1)
    atoms.calc = Foreign(fe(), properties)
    return atoms


class OfCrystals(Foreign):
    """A calculator that announces a stress and has none of clusters, as ASE's EMT."""

    implemented_properties = property(  # type: ignore[assignment]
        lambda self: [*self.known, "stress"], lambda self, names: None
    )
    known = ("energy", "forces", "magnetic_forces")

    def calculate(self, atoms, properties, system_changes) -> None:
        Calculator.calculate(self, atoms, properties, system_changes)
        self.results = {k: self.inner.get_property(k, self.atoms) for k in self.known}


@pytest.mark.parametrize("suffix", ["extxyz", "h5", "traj"])
def test_spins_move_without_forces(tmp_path: Path, suffix: str) -> None:
    atoms = iron(("energy", "magnetic_forces"))
    files = {"trajectory": tmp_path / f"run.{suffix}", "logfile": tmp_path / "run.log"}
    SpinDynamics(atoms, 0.5 * FS, loginterval=1, **files).run(2)
    other = iron()
    SpinDynamics(other, 0.5 * FS).run(2)
    np.testing.assert_array_equal(
        atoms.get_initial_magnetic_moments(), other.get_initial_magnetic_moments()
    )
    assert len((tmp_path / "run.log").read_text().splitlines()) >= 3


@pytest.mark.parametrize(
    "names", [("trajectory", "logfile"), ("trajectory", "checkpoint")]
)
def test_files_of_a_run_differ(tmp_path: Path, names: tuple[str, str]) -> None:
    """They were written into each other, also by relaxations."""
    path = tmp_path / "run.extxyz"
    files = {name: tmp_path / "." / "run.extxyz" for name in names}
    message = f"{names[0]} and {names[1]} are the same file"
    with pytest.raises(ValueError, match=message):
        SpinLatticeNVE(iron(), 0.5 * FS, **files)
    with pytest.raises(ValueError, match=message):
        relax(iron(), **files)
    assert not path.exists()


@pytest.mark.parametrize("driver", [SpinLatticeNVE, SpinLatticeLangevin])
def test_atoms_do_not_move_without_forces(driver: type) -> None:
    heat = {"temperature_K": 300, "friction": 0.01 / FS, "damping": 0.1}
    options = heat if driver is SpinLatticeLangevin else {}
    with pytest.raises(ValueError, match="does not give forces; use"):
        driver(iron(("energy", "magnetic_forces")), 0.5 * FS, **options).run(1)


@pytest.mark.parametrize("suffix", ["extxyz", "h5", "traj"])
def test_trajectories(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run.{suffix}"
    SpinLatticeNVE(iron(), 0.5 * FS, trajectory=path).run(2)
    readers = {"extxyz": read_extxyz, "h5": read_hdf5}
    frames = readers[suffix](path) if suffix in readers else read(path, ":")
    assert len(frames) == 3
    assert "stress" not in frames[-1].calc.results
    assert np.abs(frames[-1].get_forces()).max() > 0.0


@pytest.mark.parametrize("driver", [SpinDynamics, SpinLatticeNVE, SpinLatticeLangevin])
def test_logs_and_observers(tmp_path: Path, driver: type) -> None:
    options = {}
    if driver is SpinLatticeLangevin:
        options = {"temperature_K": 300, "friction": 0.01 / FS, "damping": 0.1}
    run = driver(iron(), 0.5 * FS, logfile=tmp_path / "run.log", **options)
    energies: list[float] = []
    run.attach(lambda: energies.append(run.atoms.get_potential_energy()), 1)
    run.run(2)
    head, *rows = (tmp_path / "run.log").read_text().splitlines()
    column = head.lstrip("#").split().index("pressure_GPa")
    assert [row.split()[column] for row in rows] == ["nan"] * 3
    total = head.lstrip("#").split().index("potential_eV")
    found = [float(row.split()[total]) for row in rows]
    np.testing.assert_allclose(found, energies, atol=1e-7)


def test_a_cluster_of_a_calculator_that_has_stress_of_crystals_only(
    tmp_path: Path,
) -> None:
    atoms = Atoms("Fe2", [[0, 0, 0], [2.3, 0, 0]])
    set_spins(atoms, [2.2, 2.2])
    atoms.calc = OfCrystals(fe())
    SpinLatticeNVE(atoms, 0.5 * FS, trajectory=tmp_path / "a.h5").run(1)
    assert "stress" not in read_hdf5(tmp_path / "a.h5", -1).calc.results


def test_the_pressure_is_there_where_the_stress_is(tmp_path: Path) -> None:
    names = ("energy", "forces", "magnetic_forces", "stress")
    run = SpinLatticeNVE(iron(names), 0.5 * FS, logfile=tmp_path / "run.log")
    run.run(1)
    row = (tmp_path / "run.log").read_text().splitlines()[-1].split()
    assert np.isfinite(float(row[9])) and float(row[9]) != 0.0


def test_a_barostat_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="gives no stress, which a barostat needs"):
        SpinLatticeNPT(
            iron(), 0.5 * FS, temperature_K=300, damping=0.1, pressure_GPa=0.0
        )
