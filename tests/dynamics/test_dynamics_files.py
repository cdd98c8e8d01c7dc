"""What drivers write: trajectories, logs, checkpoints, also when things go wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.io import Trajectory, read
from ase.md.velocitydistribution import thermalize_momenta
from torch import Tensor

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins, set_spins
from deepspin_ase.dynamics import (
    SpinDynamics,
    SpinLatticeDynamics,
    SpinLatticeLangevin,
    SpinLatticeNVE,
    read_hdf5,
)
from deepspin_ase.io import read_extxyz
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import Committee, Potential, Zeeman
from deepspin_ase.potentials.materials.reference import fe
from deepspin_ase.system import System

FS = units.fs


def iron(n: int = 1, *, seed: int = 0) -> Atoms:
    """Bcc iron, 2 n^3 atoms, warm and canted."""
    atoms = bulk("Fe", a=2.87, cubic=True) * n
    set_spins(atoms, {"Fe": 2.2})
    cant_spins(atoms, 0.05, seed=seed)
    atoms.rattle(0.02, seed=seed)
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(seed))
    atoms.calc = DeepSpinCalculator(fe())
    return atoms


def langevin(atoms: Any, **options: Any) -> SpinLatticeLangevin:
    defaults: dict[str, Any] = {"temperature_K": 300, "rng": 1}
    parameters = {"friction": 0.02 / FS, "damping": 0.05}
    return SpinLatticeLangevin(atoms, 0.5 * FS, **(parameters | defaults | options))


def watch(driver: SpinLatticeDynamics, interval: int) -> list[list[Atoms]]:
    """Return the list that fills with what the driver's states are."""
    seen: list[list[Atoms]] = []
    driver.attach(lambda: seen.append(driver.frames()), interval)
    return seen


def read_any(path: Path, replica: int, n_replicas: int) -> list[Atoms]:
    if path.suffix == ".h5":
        return read_hdf5(path, replica=replica)
    if n_replicas > 1:
        path = path.with_suffix(f".{replica}{path.suffix}")
    return read_extxyz(path)


def assert_same_frame(found: Atoms, expected: Atoms, *, digits: int = 17) -> None:
    """Compare structures, moments, momenta and all results."""
    assert found.get_chemical_symbols() == expected.get_chemical_symbols()
    assert (found.pbc == expected.pbc).all()
    tolerance = {"rtol": 0, "atol": 0.0 if digits > 16 else 10.0**-digits}
    np.testing.assert_allclose(found.cell.array, expected.cell.array, **tolerance)
    np.testing.assert_allclose(found.positions, expected.positions, **tolerance)
    np.testing.assert_allclose(get_spins(found), get_spins(expected), **tolerance)
    np.testing.assert_allclose(found.get_momenta(), expected.get_momenta(), **tolerance)
    np.testing.assert_allclose(found.get_masses(), expected.get_masses())
    assert found.info["time_fs"] == pytest.approx(expected.info["time_fs"])
    mine, yours = found.calc.results, expected.calc.results
    assert mine.keys() == yours.keys()
    for name, values in yours.items():
        np.testing.assert_allclose(mine[name], values, **tolerance, err_msg=name)


def datasets(path: Path) -> dict[str, np.ndarray]:
    """Return everything that an HDF5 file holds."""
    with h5py.File(path, "r") as file:
        return {name: file[name][:] for name in file}


def assert_same_content(first: Path, second: Path) -> None:
    mine, yours = datasets(first), datasets(second)
    assert mine.keys() == yours.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], yours[name], err_msg=name)


# --- trajectories ----------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["extxyz", "h5"])
@pytest.mark.parametrize("n_replicas", [1, 2])
def test_trajectory_holds_the_states(
    tmp_path: Path, suffix: str, n_replicas: int
) -> None:
    path = tmp_path / f"run.{suffix}"
    atoms: Any = iron()
    if n_replicas == 2:  # of different size, cell and periodicity
        other = iron(2, seed=1)[:5]
        other.pbc = (True, True, False)
        other.set_masses([50.0, 51.0, 52.0, 53.0, 54.0])
        other.calc = atoms.calc
        atoms = [atoms, other]
    driver = langevin(atoms, trajectory=path, loginterval=3)
    seen = watch(driver, 3)
    driver.run(9)
    assert len(seen) == 4
    for k in range(n_replicas):
        frames = read_any(path, k, n_replicas)
        assert len(frames) == 4
        for found, states in zip(frames, seen, strict=True):
            assert_same_frame(found, states[k], digits=17 if suffix == "h5" else 7)
    assert ("stress" in frames[0].calc.results) == (n_replicas == 1)


def test_hdf5_holds_what_a_committee_adds(tmp_path: Path) -> None:
    atoms = iron()
    committee = Committee([fe(), fe(lattice="finnis-sinclair")])
    atoms.calc = DeepSpinCalculator(committee)
    driver = SpinLatticeNVE(atoms, 0.5 * FS, trajectory=tmp_path / "run.h5")
    seen = watch(driver, 1)
    driver.run(2)
    frames = read_hdf5(tmp_path / "run.h5")
    assert frames[-1].calc.results["energy_deviation"] > 0
    for found, (state,) in zip(frames, seen, strict=True):
        assert_same_frame(found, state)


def test_hdf5_layout(tmp_path: Path) -> None:
    atoms = [iron(), iron(seed=1)]
    langevin(atoms, trajectory=tmp_path / "run.h5").run(4)
    with h5py.File(tmp_path / "run.h5", "r") as file:
        shapes = {name: dataset.shape for name, dataset in file.items()}
        assert file.attrs["version"] == 1
        assert file["magnetic_forces"].attrs["unit"] == "eV/mu_B"
        assert all("unit" in dataset.attrs for dataset in file.values())
        np.testing.assert_allclose(file["time"], 0.5 * np.arange(5))
        assert file["structure"][:].tolist() == [0, 0, 1, 1]
    vectors = ("positions", "spins", "momenta", "forces", "magnetic_forces")
    assert {shapes[name] for name in vectors} == {(5, 4, 3)}
    assert shapes["energy"] == (5, 2)
    assert shapes["energies"] == (5, 4)
    assert shapes["cell"] == shapes["virial"] == (5, 2, 3, 3)
    assert shapes["numbers"] == (4,)


@pytest.mark.parametrize(
    ("index", "times"),
    [
        (":", [0, 1, 2, 3, 4, 5]),
        ("1::2", [1, 3, 5]),
        (slice(None, None, -2), [5, 3, 1]),
        (slice(4, 1, -1), [4, 3, 2]),
        ("-2:", [4, 5]),
        (-1, 5),
        ("2", 2),
        (0, 0),
    ],
)
def test_index_of_hdf5_frames(tmp_path: Path, index: Any, times: Any) -> None:
    SpinDynamics(iron(), 1.0 * FS, trajectory=tmp_path / "run.h5").run(5)
    found = read_hdf5(tmp_path / "run.h5", index)
    if isinstance(times, list):
        assert [round(frame.info["time_fs"]) for frame in found] == times
    else:
        assert round(found.info["time_fs"]) == times


def test_hdf5_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_hdf5(path)
    SpinDynamics(iron(), 1.0 * FS, trajectory=path).run(2)
    for index in (3, -4, "5:"):
        with pytest.raises(ValueError, match="no frame at index"):
            read_hdf5(path, index)
    with pytest.raises(ValueError, match="has 1 replicas"):
        read_hdf5(path, replica=1)
    other = tmp_path / "other.h5"
    other.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="damaged"):
        read_hdf5(other)
    with h5py.File(other, "w", libver="latest") as file:
        file["a"] = 1
    with pytest.raises(ValueError, match="not a trajectory"):
        read_hdf5(other)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(ValueError, match="version 99"):
        read_hdf5(path)


def test_h5py_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"deepspin-ase\[hdf5\]"):
        SpinDynamics(iron(), FS, trajectory=tmp_path / "run.h5")


def test_hdf5_frames_are_gathered_but_none_is_lost(tmp_path: Path) -> None:
    """A long buffer: flushed by size, at the end of run and irun, by a checkpoint."""
    path = tmp_path / "run.h5"
    driver = SpinDynamics(iron(), FS, trajectory=path)

    def count() -> int:
        return len(read_hdf5(path))

    for k, _ in enumerate(driver.irun(7)):
        if k == 5:
            assert count() == 1  # the first shows that the file can be written
    assert count() == 8
    steps = iter(driver.irun(7))
    for _ in range(4):
        next(steps)
    assert count() == 8
    driver.save(tmp_path / "run.ckpt")
    assert count() == 11
    del steps
    driver.run(1)
    assert count() == 12


def test_big_hdf5_frames_are_not_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepspin_ase.dynamics.files._hdf5.BLOCK", 2000)
    path = tmp_path / "run.h5"
    driver = SpinDynamics(iron(), FS, trajectory=path)
    counts = [len(read_hdf5(path)) for _ in driver.irun(20)]
    size = sum(v[0].nbytes for v in datasets(path).values() if len(v) == 21)
    held = np.arange(1, 22) - counts
    assert 1 <= held.max() <= 2000 / size


@pytest.mark.parametrize("suffix", ["extxyz", "h5"])
def test_files_are_continued_or_begun_again(tmp_path: Path, suffix: str) -> None:
    path, log = tmp_path / f"run.{suffix}", tmp_path / "run.log"

    def run(steps: int, **options: Any) -> None:
        driver = SpinDynamics(iron(), FS, trajectory=path, logfile=log, **options)
        driver.run(steps)

    run(3)
    run(2, append_trajectory=True)
    assert len(read_any(path, 0, 1)) == 7
    assert len(log.read_text().splitlines()) == 8
    run(1)
    assert len(read_any(path, 0, 1)) == 2
    assert len(log.read_text().splitlines()) == 3


def test_hdf5_of_other_atoms_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    SpinDynamics(iron(), FS, trajectory=path).run(1)
    before = path.read_bytes()
    for other in (iron(2), [iron(), iron()]):
        with pytest.raises(ValueError, match="holds other atoms"):
            SpinDynamics(other, FS, trajectory=path, append_trajectory=True)
    heavy = iron()
    heavy.set_masses([60.0, 60.0])
    with pytest.raises(ValueError, match="masses differ"):
        SpinDynamics(heavy, FS, trajectory=path, append_trajectory=True)
    assert path.read_bytes() == before


def test_trajectories_of_ase(tmp_path: Path) -> None:
    """By name, and attached as with ASE's own dynamics."""
    atoms = iron()
    driver = SpinLatticeNVE(
        atoms, 0.5 * FS, trajectory=tmp_path / "own.traj", loginterval=2
    )
    with Trajectory(str(tmp_path / "attached.traj"), "w", atoms) as attached:
        driver.attach(attached, interval=2)
        seen = watch(driver, 2)
        driver.run(6)
    for name in ("own", "attached"):
        frames = read(tmp_path / f"{name}.traj", index=":")
        assert len(frames) == 4
        for found, (state,) in zip(frames, seen, strict=True):
            np.testing.assert_array_equal(found.positions, state.positions)
            np.testing.assert_array_equal(get_spins(found), get_spins(state))
            np.testing.assert_array_equal(found.get_momenta(), state.get_momenta())
            assert found.get_potential_energy() == state.get_potential_energy()
            np.testing.assert_array_equal(found.get_forces(), state.get_forces())


def test_restart_cuts_a_trajectory_of_ase_back(tmp_path: Path) -> None:
    path = tmp_path / "run.traj"
    driver = langevin(iron(), trajectory=path)
    driver.run(3)
    driver.save(tmp_path / "run.ckpt")
    driver.run(3)
    expected = read(path, index=":")
    SpinLatticeLangevin.restore(tmp_path / "run.ckpt").run(3)
    frames = read(path, index=":")
    assert len(frames) == len(expected) == 7
    for mine, yours in zip(frames, expected, strict=True):
        assert mine == yours
        assert mine.get_potential_energy() == yours.get_potential_energy()
    SpinLatticeLangevin.restore(
        tmp_path / "run.ckpt", trajectory=tmp_path / "new.traj"
    ).run(1)
    assert len(read(tmp_path / "new.traj", index=":")) == 1
    path.unlink()
    with pytest.raises(ValueError, match="missing or shorter"):
        SpinLatticeLangevin.restore(tmp_path / "run.ckpt")


def test_trajectories_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the folder .* does not exist"):
        SpinDynamics(iron(), FS, trajectory=tmp_path / "none" / "run.extxyz")
    with pytest.raises(
        ValueError, match=r"\.extxyz, \.h5 or \.traj files, not run.cif"
    ):
        SpinDynamics(iron(), FS, trajectory=tmp_path / "run.cif")
    with pytest.raises(ValueError, match="replicas are written to"):
        SpinDynamics([iron(), iron()], FS, trajectory=tmp_path / "run.traj")


# --- log and observers -----------------------------------------------------------


def test_log_columns(tmp_path: Path) -> None:
    """Against the observables of each frame."""
    path = tmp_path / "run.log"
    driver = SpinLatticeNVE(
        [iron(2), iron(2, seed=1)], 0.5 * FS, logfile=path, loginterval=2
    )
    seen = watch(driver, 2)
    spin_temperatures: list[np.ndarray] = []
    driver.attach(
        lambda: spin_temperatures.append(driver.spin_temperature().numpy()), 2
    )
    driver.run(6)
    header, *lines = path.read_text().splitlines()
    table = np.array([[float(x) for x in line.split()] for line in lines])
    columns = dict(zip(header[1:].split(), table.T.reshape(-1, 4, 2), strict=True))
    np.testing.assert_array_equal(columns["replica"], [[0, 1]] * 4)
    np.testing.assert_allclose(columns["time_fs"][:, 0], [0, 1, 2, 3])
    first = None
    for k, states in enumerate(seen):
        for r, frame in enumerate(states):
            row = {name: values[k, r] for name, values in columns.items()}
            spins = get_spins(frame)
            expected = {
                "total_eV": frame.get_total_energy(),
                "potential_eV": frame.get_potential_energy(),
                "kinetic_eV": frame.get_kinetic_energy(),
                "T_lattice_K": frame.get_temperature(),
                "T_spin_K": spin_temperatures[k][r],
                "m_muB": np.linalg.norm(spins.mean(axis=0)),
                "staggered_muB": np.linalg.norm(spins.mean(axis=0)),
                "pressure_GPa": -frame.get_stress(include_ideal_gas=True)[:3].mean()
                / units.GPa,
            }
            for name, value in expected.items():
                digits = {"T": 0.006, "p": 2e-5 if "GPa" in name else 1e-8}
                tolerance = digits.get(name[0], 1e-6)
                assert row[name] == pytest.approx(value, abs=tolerance), name
        energies = np.array([frame.get_total_energy() for frame in states])
        first = energies if first is None else first
        drift = (energies - first) / 16
        np.testing.assert_allclose(columns["drift_eV"][k], drift, rtol=1e-3)
    assert np.abs(columns["drift_eV"][1:]).min() > 0


def test_log_of_staggered_order_and_screen(capsys: pytest.CaptureFixture[str]) -> None:
    atoms = iron()
    set_spins(atoms, [2.0, -2.0])
    langevin(atoms, logfile="-", loginterval=5).run(5)
    header, first, last = capsys.readouterr().out.splitlines()
    row = dict(zip(header[1:].split(), map(float, first.split()), strict=True))
    assert row["m_muB"] == 0.0
    assert row["staggered_muB"] == pytest.approx(2.0)
    assert np.isnan(row["drift_eV"])
    assert float(last.split()[0]) == pytest.approx(2.5)


def test_log_of_order_is_per_magnetic_atom(tmp_path: Path) -> None:
    atoms = Atoms("FeOFe", [(0, 0, 0), (3, 0, 0), (6, 0, 0)])
    set_spins(atoms, [[0, 0, 2.0], [0, 0, 0], [0, 0, -1.0]])
    atoms.calc = DeepSpinCalculator(Zeeman((0, 0, 1.0)))
    SpinDynamics(atoms, FS, logfile=tmp_path / "run.log").run(1)
    header, first, _ = (tmp_path / "run.log").read_text().splitlines()
    row = dict(zip(header[1:].split(), map(float, first.split()), strict=True))
    assert row["m_muB"] == pytest.approx(0.5)
    assert row["staggered_muB"] == pytest.approx(1.5)


def test_log_takes_columns_of_drivers(tmp_path: Path) -> None:
    class Driver(SpinDynamics):
        def log_columns(self) -> dict[str, Tensor]:
            return {"answer": torch.tensor([42.0])}

    Driver(iron(), FS, logfile=tmp_path / "run.log").run(1)
    header, first, _ = (tmp_path / "run.log").read_text().splitlines()
    assert header.split()[-1] == "answer"
    assert float(first.split()[-1]) == 42.0


def test_what_observers_change_is_taken_up() -> None:
    """A run whose observer intervenes equals one that is started from there."""
    atoms = iron()
    driver = SpinLatticeNVE(atoms, 0.5 * FS)
    changed: list[Atoms] = []

    def intervene() -> None:
        atoms.positions[0] += 0.01
        atoms.set_momenta(-atoms.get_momenta())
        set_spins(atoms, get_spins(atoms)[::-1] * 1.1)
        changed.append(atoms.copy())

    driver.attach(intervene, -3)
    driver.run(6)
    (again,) = changed
    again.calc = atoms.calc
    SpinLatticeNVE(again, 0.5 * FS).run(3)
    np.testing.assert_allclose(again.positions, atoms.positions, atol=1e-12)
    np.testing.assert_allclose(get_spins(again), get_spins(atoms), atol=1e-12)
    np.testing.assert_allclose(again.get_momenta(), atoms.get_momenta(), atol=1e-12)


def test_irun_shows_and_takes_every_state() -> None:
    atoms, same = iron(), iron()
    driver, other = SpinLatticeNVE(atoms, FS), SpinLatticeNVE(same, FS)
    energies = [atoms.get_total_energy() for _ in driver.irun(5)]
    assert len(energies) == 6
    assert np.std(energies) < 1e-3
    assert len({atoms.positions.tobytes(), iron().positions.tobytes()}) == 2
    other.run(5)
    np.testing.assert_array_equal(atoms.positions, same.positions)
    for k, _ in enumerate(driver.irun(2)):
        if k == 1:
            atoms.set_momenta(np.zeros((2, 3)))
            before = atoms.get_potential_energy()
    assert atoms.get_total_energy() == pytest.approx(before, abs=1e-4)


def test_calculator_has_the_results_at_observers() -> None:
    """No second evaluation where an observer asks for what is known."""
    atoms = iron()
    driver = SpinLatticeNVE(atoms, FS)
    calls: list[int] = []

    def look() -> None:
        before = driver.engine.n_calls
        atoms.get_potential_energy()
        calls.append(driver.engine.n_calls - before)
        assert not atoms.calc.calculation_required(atoms, ["magnetic_forces"])

    driver.attach(look)
    driver.run(3)
    assert calls == [0] * 4


# --- restart ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["extxyz", "h5"])
@pytest.mark.parametrize("n_replicas", [1, 2])
def test_restart_cuts_files_back(tmp_path: Path, suffix: str, n_replicas: int) -> None:
    """The run went on after the checkpoint; restored, it writes the same again."""
    (tmp_path / "a").mkdir()
    path, log = tmp_path / "a" / f"run.{suffix}", tmp_path / "a" / "run.log"
    checkpoint = tmp_path / "run.ckpt"
    atoms = [iron(seed=k) for k in range(n_replicas)]
    driver = langevin(
        atoms, trajectory=path, logfile=log, loginterval=2, zero_momentum=True
    )
    driver.run(5)
    driver.save(checkpoint)
    driver.run(6)
    final = [image.copy() for image in driver.images]
    saved = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    (tmp_path / "a").rename(tmp_path / "b")  # the folder may move
    moved = {
        "trajectory": tmp_path / "b" / path.name,
        "logfile": tmp_path / "b/run.log",
    }
    again = SpinLatticeLangevin.restore(checkpoint, **moved)
    for k in range(n_replicas):
        assert len(read_any(moved["trajectory"], k, n_replicas)) == 3
    again.run(6)
    for mine, yours in zip(again.images, final, strict=True):
        for name in ("positions", "initial_magmoms", "momenta"):
            np.testing.assert_array_equal(mine.arrays[name], yours.arrays[name])
    for name, content in saved.items():
        if suffix == "h5" and name.endswith("h5"):
            (tmp_path / "before.h5").write_bytes(content)
            assert_same_content(tmp_path / "b" / name, tmp_path / "before.h5")
        else:
            assert (tmp_path / "b" / name).read_bytes() == content


def test_files_of_other_names_begin_anew(tmp_path: Path) -> None:
    paths = {"trajectory": tmp_path / "run.h5", "logfile": tmp_path / "run.log"}
    driver = SpinDynamics(iron(), FS, **paths)
    driver.run(4)
    driver.save(tmp_path / "run.ckpt")
    before = {p: p.read_bytes() for p in paths.values()}
    other = {"trajectory": tmp_path / "more.extxyz", "logfile": tmp_path / "more.log"}
    SpinDynamics.restore(tmp_path / "run.ckpt", **other).run(2)
    assert len(read_extxyz(other["trajectory"])) == 2
    assert {p: p.read_bytes() for p in paths.values()} == before
    SpinDynamics.restore(tmp_path / "run.ckpt", trajectory=None, logfile=None).run(1)
    assert {p: p.read_bytes() for p in paths.values()} == before


@pytest.mark.parametrize("suffix", ["extxyz", "h5"])
@pytest.mark.parametrize("harm", ["missing", "shorter"])
def test_trajectory_shorter_than_the_checkpoint_knew(
    tmp_path: Path, suffix: str, harm: str
) -> None:
    path, checkpoint = tmp_path / f"run.{suffix}", tmp_path / "run.ckpt"
    driver = SpinDynamics(iron(), FS, trajectory=path)
    driver.run(4)
    driver.save(checkpoint)
    if harm == "missing":
        path.unlink()
    else:
        SpinDynamics(iron(), FS, trajectory=path).run(1)
    with pytest.raises(ValueError, match="missing or shorter"):
        SpinDynamics.restore(checkpoint)


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    with pytest.raises(FileNotFoundError, match="nothing to restore"):
        SpinLatticeNVE.restore(path)
    SpinLatticeNVE(iron(), FS).save(path)
    with pytest.raises(
        ValueError, match=r"of SpinLatticeNVE, not of SpinDynamics: use"
    ):
        SpinDynamics.restore(path)
    content = torch.load(path, weights_only=True)
    torch.save(content | {"version": 99}, path)
    with pytest.raises(ValueError, match=r"version 99; this release reads version 2"):
        SpinLatticeNVE.restore(path)
    torch.save(content | {"format": "deepspin-ase training"}, path)
    with pytest.raises(ValueError, match="not a checkpoint of a driver"):
        SpinLatticeNVE.restore(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="not a checkpoint of a driver"):
        SpinLatticeNVE.restore(path)
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"truncated .* a checkpoint of SpinLatticeN"):
        SpinLatticeNVE.restore(path)


def test_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"format": "deepspin-ase dynamics", "evil": Evil()}, tmp_path / "c")
    with pytest.raises(ValueError, match="could run code"):
        SpinLatticeNVE.restore(tmp_path / "c")
    assert not (tmp_path / "touched").exists()


# --- what cannot run -------------------------------------------------------------


def test_atoms_that_cannot_run() -> None:
    atoms = iron()
    atoms.calc = None
    with pytest.raises(ValueError, match="has no calculator"):
        SpinLatticeNVE(atoms, FS)
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="EMT does not give magnetic_forces"):
        SpinLatticeNVE(atoms, FS)
    atoms = iron()
    set_spins(atoms, np.zeros(2))
    with pytest.raises(ValueError, match="all moments are zero"):
        SpinLatticeNVE(atoms, FS)
    atoms.set_initial_magnetic_moments(None)
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        SpinLatticeNVE(atoms, FS)
    with pytest.raises(ValueError, match="steps must be a whole number >= 0, got -1"):
        SpinLatticeNVE(iron(), FS).run(-1)


class Cliff(Potential):
    """Has no finite energy where an atom is beyond x = 1 A."""

    uses_spins = True

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        beyond = torch.where(system.positions[:, 0] > 1.0, torch.nan, 0.0)
        return 1e-3 * system.spins[:, 2] + beyond


@pytest.mark.parametrize("suffix", ["extxyz", "h5"])
@pytest.mark.parametrize("interval", [1, 10])
@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_energy_that_is_not_finite_stops_the_run(
    tmp_path: Path, suffix: str, interval: int, ensemble: str
) -> None:
    """The atom flies 0.03 A a step: steps 0 to 33 are good."""
    atoms = Atoms("Fe", cell=[9, 9, 9])
    set_spins(atoms, [[1.0, 0.0, 0.0]])
    atoms.set_momenta(atoms.get_masses()[:, None] * [[0.03 / FS, 0, 0]])
    atoms.calc = DeepSpinCalculator(Cliff())
    path, checkpoint = tmp_path / f"run.{suffix}", tmp_path / "run.ckpt"
    options = {
        "trajectory": path,
        "logfile": tmp_path / "run.log",
        "loginterval": interval,
        "checkpoint": checkpoint,
        "checkpoint_interval": 20,
    }
    if ensemble == "nve":
        driver: SpinLatticeDynamics = SpinLatticeNVE(atoms, FS, **options)
    else:
        cold = {"temperature_K": 0, "friction": 0.0, "damping": 0.0}
        driver = langevin(atoms, **cold, **options)
        driver.dt = FS
    with pytest.raises(CalculationFailed, match="structure 0 is not finite at step 34"):
        driver.run(100)
    frames = read_any(path, 0, 1)
    times = [round(frame.info["time_fs"]) for frame in frames]
    assert times == sorted({*range(0, 34, interval), 33})
    assert all(np.isfinite(frame.get_potential_energy()) for frame in frames)
    assert atoms.positions[0, 0] == pytest.approx(0.99)
    assert len((tmp_path / "run.log").read_text().splitlines()) == 1 + len(times)
    assert torch.load(checkpoint, weights_only=True)["state"]["nsteps"] == 20


# --- a full disk and SIGKILL -----------------------------------------------------

SCRIPT = """
import os, resource, signal, sys
from pathlib import Path
import h5py
from deepspin_ase.dynamics.files import _hdf5_file as hdf5_file
sys.path.insert(0, {tests!r})
from test_dynamics_files import FS, SpinDynamics, iron

hdf5_file.CHUNK = 2**13
folder, suffix, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
driver = SpinDynamics(
    iron(2), FS, trajectory=folder / ("run." + suffix), logfile=folder / "run.log",
    checkpoint=folder / "run.ckpt", checkpoint_interval=5,
)
left = int(sys.argv[4])

def count():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

if what == "open":  # kill when the file has just been opened for appending
    original = hdf5_file._open_for_appending
    hdf5_file._open_for_appending = lambda path: (original(path), count())[0]
elif what == "flush":  # when only some of the datasets have grown
    original = h5py.Dataset.flush
    h5py.Dataset.flush = lambda self: (count(), original(self))[1]
elif what == "close":  # when all have grown, and the file is not yet closed
    original = h5py.File.close

    def close(self):
        path = driver.writers[0].path
        if path.exists() and path.read_bytes()[11]:
            count()
        original(self)

    h5py.File.close = close
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, left))
try:
    driver.run(40)
except OSError as error:
    print(error)
    sys.exit(3)
"""


def run_script(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    code = SCRIPT.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(folder), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both trajectories, log and checkpoint of 40 undisturbed steps."""
    folder = tmp_path_factory.mktemp("whole")
    for suffix in ("h5", "extxyz"):
        SpinDynamics(
            iron(2),
            FS,
            trajectory=folder / f"run.{suffix}",
            logfile=folder / "run.log",
            checkpoint=folder / "run.ckpt",
            checkpoint_interval=5,
        ).run(40)
    return folder


def assert_resumed_equals(folder: Path, whole: Path, suffix: str) -> None:
    """Resume, and compare state, trajectory and log."""
    driver = SpinDynamics.restore(folder / "run.ckpt")
    driver.run(40 - driver.nsteps)
    name = f"run.{suffix}"
    if suffix == "h5":
        assert_same_content(folder / name, whole / name)
    else:
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert (folder / "run.log").read_bytes() == (whole / "run.log").read_bytes()
    mine, yours = (
        torch.load(f / "run.ckpt", weights_only=True)["images"][0]["arrays"]
        for f in (folder, whole)
    )
    assert all(torch.equal(mine[name], yours[name]) for name in yours)


@pytest.mark.parametrize(
    ("suffix", "limit"),
    # Of bytes in a file: the trajectory meets it in the middle, or at a checkpoint.
    [("extxyz", 100_000), ("h5", 470_000)],
)
def test_full_disk(tmp_path: Path, whole_run: Path, suffix: str, limit: int) -> None:
    """A limit of the size of files stands for the disk: the run stops cleanly."""
    done = run_script(tmp_path, suffix, "full", limit)
    assert done.returncode == 3, done.stderr
    assert (
        f"cannot write to {tmp_path / f'run.{suffix}'} (File too large)" in done.stdout
    )
    assert done.stderr == ""
    frames = read_any(tmp_path / f"run.{suffix}", 0, 1)
    expected = read_any(whole_run / f"run.{suffix}", 0, 1)[: len(frames)]
    assert 0 < len(frames) < 41
    for mine, yours in zip(frames, expected, strict=True):
        assert_same_frame(mine, yours)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {f"run.{suffix}", "run.log", "run.ckpt"}  # no leftovers
    assert_resumed_equals(tmp_path, whole_run, suffix)


def test_full_disk_at_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.ckpt"
    driver = SpinDynamics(iron(), FS)
    driver.save(path)
    before = path.read_bytes()

    def full(content: object, temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"cannot write to .*run.ckpt \(No space"):
        driver.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_under_the_log(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write to /dev/full \(No space left"):
        SpinDynamics(iron(), FS, logfile="/dev/full", append_trajectory=True).run(1)


@pytest.mark.parametrize(
    ("moment", "n"), [("open", 2), ("flush", 14), ("flush", 50), ("close", 4)]
)
def test_killed_while_hdf5_writes(
    tmp_path: Path, whole_run: Path, moment: str, n: int
) -> None:
    """SIGKILL while the file is open: it stays readable and is mended."""
    done = run_script(tmp_path, "h5", moment, n)
    assert done.returncode == -signal.SIGKILL, done.stderr
    path = tmp_path / "run.h5"
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path, "r")  # proof that it was left open
    frames = read_hdf5(path)
    known = torch.load(tmp_path / "run.ckpt", weights_only=True)
    (state,) = (v for k, v in known["state"]["writers"].items() if "h5" in k)
    assert len(frames) >= state["frames"]
    for mine, yours in zip(frames, read_hdf5(whole_run / "run.h5"), strict=False):
        assert_same_frame(mine, yours)
    assert_resumed_equals(tmp_path, whole_run, "h5")


def test_killed_file_is_appended_to(tmp_path: Path) -> None:
    """Without a checkpoint: append_trajectory mends the file, too."""
    run_script(tmp_path, "h5", "close", 2)
    path = tmp_path / "run.h5"
    before = len(read_hdf5(path))
    driver = SpinDynamics(iron(2), FS, trajectory=path, append_trajectory=True)
    driver.run(1)
    assert len(read_hdf5(path)) == before + 2
    with h5py.File(path, "r") as file:
        assert len(file["time"]) == before + 2


def test_hdf5_beside_a_reader(tmp_path: Path) -> None:
    """A notebook that holds the file open does not stop the run."""
    path = tmp_path / "run.h5"
    driver = SpinDynamics(iron(), FS, trajectory=path)
    driver.run(2)
    code = f"import h5py; f = h5py.File({str(path)!r}); print('open'); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        driver.run(2)
        reader.communicate(b"\n")
    assert len(read_hdf5(path)) == 5


@pytest.mark.parametrize("n_replicas", [1, 2])
def test_frames_are_on_the_disk_before_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_replicas: int
) -> None:
    """After a loss of power a checkpoint must not know of frames that are gone."""
    events: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        events.append(name.split(".tmp.")[-1])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    files = {"trajectory": tmp_path / "run.extxyz", "logfile": tmp_path / "run.log"}
    atoms = iron() if n_replicas == 1 else [iron(), iron(seed=1)]
    if n_replicas == 2:
        atoms[1].calc = atoms[0].calc
    SpinDynamics(atoms, FS, checkpoint=tmp_path / "run.ckpt", **files).run(1)
    names = ["run.extxyz"] if n_replicas == 1 else ["run.0.extxyz", "run.1.extxyz"]
    assert events[: len(names) + 2] == [*names, "run.log", "run.ckpt"]
