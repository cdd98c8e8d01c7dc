"""``deepspin md``: configurations, runs, and runs that are killed and resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms, units
from ase.build import bulk
from torch import Tensor

from deepspin_ase import DeepSpinCalculator, cant_spins, dynamics, set_spins
from deepspin_ase.cli import main
from deepspin_ase.dynamics import read_hdf5
from deepspin_ase.dynamics._config import (
    DRIVERS,
    RunConfig,
    driver_arguments,
    read_run_config,
    registered_driver,
)
from deepspin_ase.dynamics.integrators import with_lengths
from deepspin_ase.io import read_extxyz, write_extxyz
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import Potential, save_potential
from deepspin_ase.potentials import _registry as registry
from deepspin_ase.potentials.materials.reference import fe
from deepspin_ase.system import System

Values = dict[str, Any]

LANGEVIN: Values = {
    "driver": "langevin",
    "parameters": {"temperature_K": 300, "friction_per_fs": 0.02, "damping": 0.05},
}


def iron() -> Atoms:
    """16 atoms of bcc iron, canted."""
    atoms = bulk("Fe", a=2.87, cubic=True) * 2
    set_spins(atoms, {"Fe": 2.2})
    cant_spins(atoms, 0.05, seed=1)
    atoms.rattle(0.02, seed=1)
    return atoms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a structure and a model."""
    write_extxyz(tmp_path / "fe.extxyz", iron())
    save_potential(tmp_path / "fe.pt", fe())
    return tmp_path


def write_config(folder: Path, **changes: Any) -> Path:
    """Write a short run; None takes a key away."""
    values: Values = {
        "structure": "fe.extxyz",
        "model": "fe.pt",
        "driver": "nve",
        "timestep_fs": 0.5,
        "steps": 20,
        "initial_temperature_K": 300,
        "loginterval": 5,
        "checkpoint_interval": 10,
    }
    values = {k: v for k, v in (values | changes).items() if v is not None}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run(path: Path, *options: str) -> int:
    return main(["md", str(path), *options])


def contents(folder: Path) -> Values:
    """Return what a run wrote: text, datasets, and all of the checkpoint."""
    found: Values = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                found |= {f"{path.name}:{name}": file[name][:] for name in file}
        elif path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)
            del state["arguments"]  # paths
            found |= flat(state, path.name)
        elif path.suffix != ".yaml":
            found[path.name] = path.read_text()
    return found


def flat(value: Any, name: str) -> Values:
    """Return the leaves of nested data by their names."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, x in pairs for k, v in flat(x, f"{name}.{key}").items()}
    return {name: value.numpy() if isinstance(value, Tensor) else value}


def assert_same_run(first: Path, second: Path) -> None:
    mine, yours = contents(first), contents(second)
    assert mine.keys() == yours.keys()
    for name, value in yours.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)


# --- running ---------------------------------------------------------------------


def test_run_equals_the_driver(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run by hand, with every unit converted."""
    assert run(write_config(folder, **LANGEVIN, seed=7)) == 0
    out, err = capsys.readouterr()
    assert out == f"20 steps done; output is in {folder / 'md'}\n"
    assert err == ""
    names = {path.name for path in (folder / "md").iterdir()}
    assert names == {"run.extxyz", "run.log", "run.ckpt", "run.ckpt.yaml"}
    assert len(read_extxyz(folder / "md/run.extxyz")) == 5
    assert len((folder / "md/run.log").read_text().splitlines()) == 6

    from ase.md.velocitydistribution import thermalize_momenta

    atoms = read_extxyz(folder / "fe.extxyz", -1)
    atoms.calc = DeepSpinCalculator(fe())
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(7))
    driver = dynamics.SpinLatticeLangevin(
        atoms,
        0.5 * units.fs,
        temperature_K=300,
        friction=0.02 / units.fs,
        damping=0.05,
        rng=7,
    )
    driver.run(20)
    again = dynamics.SpinLatticeLangevin.restore(folder / "md/run.ckpt")
    assert again.nsteps == 20
    np.testing.assert_array_equal(again.atoms.positions, atoms.positions)
    np.testing.assert_array_equal(again.atoms.get_momenta(), atoms.get_momenta())


def test_replicas(folder: Path) -> None:
    """One structure at several temperatures, each with its own momenta."""
    parameters = LANGEVIN["parameters"] | {"temperature_K": [100, 300]}
    path = write_config(
        folder,
        **(LANGEVIN | {"parameters": parameters}),
        trajectory="run.h5",
        initial_temperature_K=[50, 200],
    )
    assert run(path) == 0
    cold, hot = (
        read_hdf5(folder / "md/run.h5", 0, replica=k).get_momenta() for k in (0, 1)
    )
    ratio = np.abs(hot).mean() / np.abs(cold).mean()
    assert ratio == pytest.approx(2.0, rel=0.4)
    assert not np.allclose(hot, 2.0 * cold)
    structures = ["fe.extxyz", "fe.extxyz"]
    changes = {"structure": structures, "output": "two", "initial_temperature_K": 300}
    assert run(write_config(folder, **changes)) == 0
    first, second = (read_extxyz(folder / f"two/run.{k}.extxyz", 0) for k in (0, 1))
    np.testing.assert_array_equal(first.positions, second.positions)
    assert not np.allclose(first.get_momenta(), second.get_momenta())


def test_momenta_of_the_structure(folder: Path) -> None:
    atoms = iron()
    atoms.set_momenta(np.full((16, 3), 0.5))
    write_extxyz(folder / "fe.extxyz", atoms)
    assert run(write_config(folder, initial_temperature_K=None)) == 0
    frame = read_extxyz(folder / "md/run.extxyz", 0)
    np.testing.assert_allclose(frame.get_momenta(), 0.5)


def test_without_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(folder, logfile="-", steps=5)
    values = yaml.safe_load(path.read_text()) | {"trajectory": None, "checkpoint": None}
    path.write_text(yaml.safe_dump(values))
    assert run(path) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert list((folder / "md").iterdir()) == []
    assert run(path, "--resume") == 2
    assert "without a checkpoint file cannot be resumed" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["extxyz", "h5"])
@pytest.mark.parametrize("driver", ["nve", "langevin"])
def test_continued_run_equals_one_in_one_go(
    folder: Path, suffix: str, driver: str
) -> None:
    options: Values = {"trajectory": f"run.{suffix}"}
    options |= LANGEVIN if driver == "langevin" else {}
    assert run(write_config(folder, **options, output="whole", steps=30)) == 0
    assert run(write_config(folder, **options, steps=13)) == 0
    assert run(write_config(folder, **options, steps=30, resume=True)) == 0
    assert_same_run(folder / "md", folder / "whole")


#: Parameters with which every driver runs.
PARAMETERS: dict[str, Values] = {
    "nve": {},
    "langevin": {"temperature_K": 300, "friction_per_fs": 0.02, "damping": 0.05},
    "npt": {"temperature_K": 300, "damping": 0.05, "pressure_GPa": 1.0},
    "spin": {"temperature_K": 300, "damping": 0.05},
    "longitudinal": {
        "temperature_K": [300, 400],
        "friction_per_fs": 0.02,
        "gamma_L_per_fs": 0.2,
    },
    "tspin": {"temperature_K": 300, "tdamp_fs": 50.0},
    "three-temperature": {
        "electron_temperature_K": 1000,
        "heat_capacity": 5.2e-8,
        "friction_per_fs": 0.02,
        "damping": 0.05,
    },
    "monte-carlo": {"temperature_K": [300, 400], "exchange_interval": 2},
}


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_every_driver_continues_exactly(folder: Path, driver: str) -> None:
    options: Values = {"driver": driver, "parameters": PARAMETERS[driver]}
    options |= {"timestep_fs": None} if driver == "monte-carlo" else {}
    options |= {"trajectory": "run.h5", "loginterval": 2}
    assert run(write_config(folder, **options, output="whole", steps=12)) == 0
    assert run(write_config(folder, **options, steps=5)) == 0
    assert run(write_config(folder, **options, steps=12, resume=True)) == 0
    assert_same_run(folder / "md", folder / "whole")


def test_resuming(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(folder)
    assert run(path, "--resume") == 0  # from the beginning: there is nothing yet
    before = contents(folder / "md")
    assert run(path) == 2
    assert "exists already: continue that run with --resume" in capsys.readouterr().err
    assert run(path, "--resume") == 0
    assert "has 20 steps already; raise 'steps'" in capsys.readouterr().out
    assert contents(folder / "md").keys() == before.keys()
    path = write_config(folder, timestep_fs=0.25, seed=2, steps=40)
    assert run(path, "--resume") == 2
    error = capsys.readouterr().err
    assert "run.ckpt was written with another timestep_fs, seed" in error
    assert "Traceback" not in error
    for name, value in contents(folder / "md").items():
        np.testing.assert_array_equal(value, before[name])


def test_trajectory_without_checkpoint_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "md").mkdir()
    (folder / "md/run.1.extxyz").write_text("of another run")
    assert run(write_config(folder)) == 2
    assert "run.1.extxyz exists already" in capsys.readouterr().err


def test_resumed_in_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative to the configuration, and all of it may move."""
    assert run(write_config(folder, output="whole", **LANGEVIN)) == 0
    (folder / "a").mkdir()
    for name in ("fe.extxyz", "fe.pt"):
        (folder / name).rename(folder / "a" / name)
    write_config(folder / "a", **LANGEVIN, steps=10)
    monkeypatch.chdir(folder / "a")
    assert run(Path("run.yaml")) == 0
    monkeypatch.chdir(folder)
    (folder / "a").rename(folder / "b")
    write_config(folder / "b", **LANGEVIN)
    assert run(Path("b/run.yaml"), "-r") == 0
    assert_same_run(folder / "b/md", folder / "whole")


# --- configurations --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 3}, "unknown key 'step'; did you mean 'steps'?"),
        ({"steps": True}, "steps must not be true"),
        ({"timestep_fs": True}, "timestep_fs must not be true"),
        ({"initial_temperature_K": [300, True]}, "_K must not be true"),
        ({"structure": "bare.extxyz"}, "bare.extxyz carries no magnetic moments"),
        ({"trajectory": "a.log", "logfile": "a.log"}, "trajectory and logfile are"),
        (
            {"parameters": {"external_field_T": [0, 0, "x"]}},
            "parameters.external_field_T must be numbers",
        ),
        ({"steps": -1}, "steps: Input should be greater than or equal to 0"),
        ({"steps": None}, "'steps' is missing"),
        ({"timestep_fs": 0}, "timestep_fs: Input should be greater than 0"),
        ({"timestep_fs": None}, "the driver nve needs timestep_fs"),
        ({"driver": "npe"}, "driver: there is no driver 'npe'; known: langevin"),
        ({"driver": "langevin"}, "the driver langevin needs parameters.temperature_K"),
        ({"parameters": {"g_facto": 2}}, "did you mean 'g_factor'?"),
        ({"parameters": {"trajectory": "a"}}, "unknown key 'parameters.trajectory'"),
        ({"parameters": {"spin_integrator": "none"}}, "spin_integrator"),
        ({"structure": "no.extxyz"}, "no.extxyz does not exist"),
        ({"structure": "run.yaml"}, "damaged or not a structure"),
        ({"structure": []}, "structure"),
        ({"model": "no.pt"}, "'no.pt' is neither a file nor a shipped model"),
        ({"device": "abacus"}, "got 'abacus'"),
        ({"dtype": "float16"}, "'float64', 'float32' or 'mixed'"),
        ({"trajectory": "run.cif"}, ".extxyz, .h5 or .traj files"),
        ({"initial_temperature_K": [1, 2], "structure": ["fe.extxyz"] * 3}, "3 repl"),
        ({"loginterval": 0}, "loginterval: Input should be greater than 0"),
    ],
)
def test_configurations_that_are_refused(
    folder: Path, changes: Values, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Atoms("Fe", cell=[3] * 3, pbc=True).write(folder / "bare.extxyz")
    assert run(write_config(folder, **changes)) == 2
    error = capsys.readouterr().err
    assert error.startswith("deepspin: error: ")
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("value", ["hot", -300, [300, -1], [300, "hot"], True])
def test_parameters_of_the_wrong_kind(
    folder: Path, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = LANGEVIN["parameters"] | {"temperature_K": value}
    assert run(write_config(folder, driver="langevin", parameters=parameters)) == 2
    assert "temperature_K must be" in capsys.readouterr().err


def test_friction_without_its_unit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {"temperature_K": 300, "friction": 0.02, "damping": 0.1}
    assert run(write_config(folder, driver="langevin", parameters=parameters)) == 2
    assert "did you mean 'friction_per_fs'?" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1, 2]", "a: b: c", "", "\x00"])
def test_files_that_are_no_configuration(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert run(tmp_path / "run.yaml") == 2
    assert "run.yaml" in capsys.readouterr().err
    assert run(tmp_path / "none.yaml") == 2


def test_numbers_that_yaml_takes_for_text() -> None:
    """1e-3 without a dot is a string in YAML 1.1."""
    values = yaml.safe_load(
        "{structure: a, model: b, driver: langevin, timestep_fs: 1e-1, steps: 1, "
        "parameters: {temperature_K: [1e2, 300], friction_per_fs: 1e-2, damping: .1}}"
    )
    arguments = driver_arguments(RunConfig.from_dict(values))
    assert arguments == {
        "timestep": pytest.approx(0.1 * units.fs),
        "temperature_K": [100.0, 300],
        "friction": pytest.approx(0.01 / units.fs),
        "damping": 0.1,
    }


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_drivers_by_name(name: str) -> None:
    """A registered driver is found, with every argument of it."""
    assert getattr(dynamics, DRIVERS[name].cls.__name__) is registered_driver(name).cls
    values = {"structure": "a", "model": "b", "driver": name, "steps": 1}
    values |= {} if name == "monte-carlo" else {"timestep_fs": 1.0}
    config = RunConfig.from_dict(values | {"parameters": {"nonsense": 1}})
    with pytest.raises(ValueError, match=r"known: .*external_field_T") as error:
        driver_arguments(config)
    known = str(error.value).split("known: ")[1].split(", ")
    assert "zero_momentum" in known
    assert not {"friction", "tdamp", "pdamp", "rng", "checkpoint", "atoms"} & {*known}


@pytest.fixture
def own_driver() -> Iterator[type[dynamics.SpinLatticeDynamics]]:
    """Register a driver for one test: spins that only lose energy."""

    @dynamics.driver("quench", time_arguments={"rate": -1, "pause": 2})
    class Quench(dynamics.SpinLatticeDynamics):
        def __init__(
            self,
            atoms: Any,
            timestep: float,
            *,
            rate: float,
            pause: float,
            **kwargs: Any,
        ) -> None:
            super().__init__(atoms, timestep, **kwargs)
            self.rate, self.pause = rate, pause

        def step(self) -> None:
            """Rotate the spins towards their fields."""
            system = self.state.system
            field = self.evaluate(system).magnetic_forces
            spins = with_lengths(
                system.spins + self.dt * self.rate * field, self.lengths
            )
            self.state = replace(
                self.state, system=system.replace(spins=spins), prediction=None
            )

    yield Quench
    del DRIVERS["quench"]


def test_a_driver_of_ones_own(
    folder: Path, own_driver: type[dynamics.SpinLatticeDynamics]
) -> None:
    """Registered from one place, it runs, is resumed and is known by its units."""
    parameters = {"rate_per_fs": 0.2, "pause_fs2": 3.0}
    quench: Values = {"driver": "quench", "parameters": parameters}
    config = read_run_config(write_config(folder, **quench))
    assert driver_arguments(config) == {
        "timestep": 0.5 * units.fs,
        "rate": pytest.approx(0.2 / units.fs),
        "pause": pytest.approx(3.0 * units.fs**2),
    }
    assert run(write_config(folder, **quench, steps=7)) == 0
    assert run(write_config(folder, **quench, steps=20), "--resume") == 0
    resumed = read_extxyz(folder / "md/run.extxyz")
    energies = [frame.get_potential_energy() for frame in resumed]
    assert len(energies) == 5
    assert (np.diff(energies) < 0).all()
    assert run(write_config(folder, **quench, output="whole")) == 0
    assert (folder / "whole/run.log").read_text() == (folder / "md/run.log").read_text()
    assert own_driver.__name__ == "Quench"


def test_drivers_that_are_not_registered(
    own_driver: type[dynamics.SpinLatticeDynamics],
) -> None:
    with pytest.raises(ValueError, match="'nve' is taken by SpinLatticeNVE"):
        dynamics.driver("nve")(own_driver)
    with pytest.raises(ValueError, match="Quench has no argument friction"):
        dynamics.driver("other", time_arguments={"friction": -1})(own_driver)


@registry.register
class Fence(Potential):
    """Has no finite energy where an atom is beyond x = 1 A."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        beyond = torch.where(system.positions[:, 0] > 1.0, torch.nan, 0.0)
        return 1e-3 * system.spins[:, 2] + beyond


def test_energy_that_is_not_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atoms = Atoms("Fe", cell=[9, 9, 9])
    set_spins(atoms, [[1.0, 0.0, 0.0]])
    atoms.set_momenta([[0.03 * 55.845 / units.fs, 0.0, 0.0]])
    write_extxyz(tmp_path / "fe.extxyz", atoms)
    save_potential(tmp_path / "fe.pt", Fence())
    path = write_config(tmp_path, timestep_fs=1.0, steps=50, initial_temperature_K=None)
    assert run(path) == 2
    error = capsys.readouterr().err
    assert "energy of structure 0 is not finite" in error
    assert "the trajectory ends with the last good state" in error
    frames = read_extxyz(tmp_path / "md/run.extxyz")
    assert [round(f.info["time_fs"]) for f in frames] == [0, 5, 10, 15, 20, 25, 30, 33]


# --- SIGKILL ---------------------------------------------------------------------


def start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "deepspin_ase", "md", str(path), "--resume"]
    return subprocess.Popen(command)


def kill_within(path: Path, seconds: float) -> bool:
    """Kill a run some time after it has begun to write; False if it was faster."""
    log = path.parent / "md" / "run.log"
    before = log.stat().st_mtime_ns if log.exists() else 0
    with start(path) as process:
        while process.poll() is None:
            if log.exists() and log.stat().st_mtime_ns != before:
                time.sleep(seconds)
                process.kill()
                break
            time.sleep(0.002)
    return process.returncode == -signal.SIGKILL


def kill_and_compare(
    folder: Path, *, driver: str, suffix: str, kills: int, steps: int, seed: int
) -> int:
    """Kill a run at random times, finish it, and compare; return the true kills."""
    options: Values = {
        "trajectory": f"run.{suffix}",
        "steps": steps,
        "loginterval": 2,
        "checkpoint_interval": 5,
    }
    options |= LANGEVIN if driver == "langevin" else {}
    began = time.perf_counter()
    assert run(write_config(folder, output="whole", **options)) == 0
    duration = time.perf_counter() - began
    path = write_config(folder, **options)
    rng = np.random.default_rng(seed)
    killed = 0
    for _ in range(kills):
        killed += kill_within(path, rng.uniform(0.0, 1.2 * duration / kills))
    with start(path) as process:
        assert process.wait() == 0
    for leftover in (folder / "md").glob(".*.tmp.*"):
        leftover.unlink()  # of a checkpoint that was just being written
    assert_same_run(folder / "md", folder / "whole")
    return killed


@pytest.mark.parametrize(
    ("driver", "suffix", "seed"), [("nve", "h5", 1), ("langevin", "extxyz", 2)]
)
def test_killed_runs_end_as_if_they_had_not_been(
    folder: Path, driver: str, suffix: str, seed: int
) -> None:
    killed = kill_and_compare(
        folder, driver=driver, suffix=suffix, kills=2, steps=100, seed=seed
    )
    assert killed > 0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["extxyz", "h5"])
@pytest.mark.parametrize("driver", ["nve", "langevin"])
def test_killed_at_twenty_random_times(folder: Path, driver: str, suffix: str) -> None:
    killed = kill_and_compare(
        folder, driver=driver, suffix=suffix, kills=20, steps=1000, seed=3
    )
    assert killed >= 15
