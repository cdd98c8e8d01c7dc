"""Runs that are killed, interrupted, doubled and left without disk, at random times.

Their home is read-only. What they end with is what they end with undisturbed, to the
last bit.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from structures import iron

from deepspin_ase import set_spins, write_extxyz
from deepspin_ase.analysis import Result
from deepspin_ase.build import perturbed
from deepspin_ase.data import load_example, write_dataset
from deepspin_ase.potentials import (
    Heisenberg,
    Sum,
    UniaxialAnisotropy,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.materials.reference import fe
from deepspin_ase.potentials.radial import Shells

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")


@dataclass(frozen=True)
class Run:
    """A run that can be stopped and resumed.

    Attributes
    ----------
    command : callable
        Arguments of Python by folder, and whether there is something to resume.
    checkpoint : str
        File that grows or changes while it runs, or a pattern of such.
    outcome : callable
        What is compared, by folder.
    """

    command: Callable[[Path, bool], list[str]]
    checkpoint: str
    outcome: Callable[[Path], Any]


def deepspin(*words: object) -> list[str]:
    return ["-m", "deepspin_ase", *map(str, words)]


# --- the runs --------------------------------------------------------------------

MD = {
    "structure": "fe.extxyz",
    "model": "fe.pt",
    "driver": "langevin",
    "parameters": {"temperature_K": 300, "friction_per_fs": 0.02, "damping": 0.05},
    "timestep_fs": 0.5,
    "steps": 300,
    "initial_temperature_K": 300,
    "loginterval": 5,
    "checkpoint_interval": 10,
    "output": "md",
}
TRAINING = {
    "model": {"elements": ["Fe"], "magnetic": ["Fe"], "cutoff": 3.0},
    "data": {"training": ["data.extxyz"]},
    "training": {"numb_steps": 60, "disp_freq": 5, "save_freq": 10},
    "output": "training",
}
LEARN = {
    "structures": "fe.extxyz",
    "engine": "fe.pt",
    "generations": 2,
    "held_back": 3,
    "start": {"count": 6},
    "explore": {"temperature_K": [300], "walkers": 2, "time_fs": 20, "interval_fs": 5},
    "select": {
        "count": 2,
        "forces": {"low": 1e-4, "high": 1e3},
        "magnetic_forces": {"low": 1e-5, "high": 1e3},
    },
    "train": {
        "model": {"cutoff": 3.0, "basis": 4, "channels": 4, "spin_channels": 3},
        "training": {"numb_steps": 10, "save_freq": 5},
    },
}
SAMPLING = """
import sys
from ase.build import bulk
from deepspin_ase import set_spins, load_potential
from deepspin_ase.analysis.transitions import (
    SamplingTask, _thermal_sampling as files, run_sampling
)
from deepspin_ase.potentials._files import plain_data
files._SECONDS = 0.2
atoms = bulk("Fe", cubic=True) * 4
set_spins(atoms, {"Fe": 2.0})
task = SamplingTask(
    plain_data(load_potential(sys.argv[1] + "/exchange.pt")), atoms, (300.0, 900.0),
    (0.0, 0.0, 0.0), bulk("Fe", cubic=True).cell.array, steps=3000, equilibration=300,
    checkpoint=sys.argv[1] + "/run",
)
try:
    run_sampling(task).save(sys.argv[1] + "/result.npz")
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)
"""


PHASES = {
    "structure": "fe.extxyz",
    "model": "exchange.pt",
    "repeat": 2,
    "temperatures_K": [300, 600, 900],
    "fields_T": [0, 50, 100],
    "steps": 400,
    "tempering": "field",
}
#: The command line, with checkpoints that are written often.
OFTEN = """
import sys
from deepspin_ase.analysis.transitions import _thermal_sampling as files
from deepspin_ase.cli import _phases, main
files._SECONDS = _phases._SECONDS = 0.2
sys.exit(main(sys.argv[1:]))
"""


def prepare(folder: Path) -> None:
    """Write structures, models, data and configurations."""
    folder.mkdir()
    write_extxyz(folder / "fe.extxyz", iron())
    save_potential(folder / "fe.pt", fe())
    exchange = Heisenberg(Shells([(2.48, 0.02)]))
    save_potential(folder / "exchange.pt", exchange)
    spin = Atoms("Fe", [[0, 0, 0]])
    for name, moment in (("up", [0, 0, 2.0]), ("down", [0, 0, -2.0])):
        set_spins(spin, [moment])
        write_extxyz(folder / f"{name}.extxyz", spin)
    hard, easy = (
        UniaxialAnisotropy(-2e-3, (0, 1, 0)),
        UniaxialAnisotropy(1e-3, (1, 0, 2)),
    )
    save_potential(folder / "spin.pt", Sum([hard, easy]))
    write_dataset(folder / "data.extxyz", load_example("fe2_lda")[:8])
    (folder / "md.yaml").write_text(yaml.safe_dump(MD))
    (folder / "train.yaml").write_text(yaml.safe_dump(TRAINING))
    (folder / "learn.yaml").write_text(yaml.safe_dump(LEARN))
    (folder / "phases.yaml").write_text(yaml.safe_dump(PHASES))
    alone = PHASES | {"tempering": "temperature", "output": "points"}
    (folder / "points.yaml").write_text(yaml.safe_dump(alone))
    write_extxyz(folder / "many.extxyz", perturbed(iron(), 40, seed=1))


def _relax(folder: Path, resume: bool) -> list[str]:
    files = folder / "fe.extxyz", "-m", folder / "fe.pt", "-o", folder / "out.extxyz"
    limits = "--cell", "--fmax", "1e-7", "--torque-max", "1e-11", "--steps", "60"
    return deepspin("relax", *files, *limits, *(["--resume"] if resume else []))


def _neb(folder: Path, resume: bool) -> list[str]:
    ends = folder / "up.extxyz", folder / "down.extxyz"
    files = "-m", folder / "spin.pt", "-o", folder / "out.extxyz"
    options = "--axis", "1,1,0", "--climb", "--torque-max", "1e-12", "--steps", "100"
    return deepspin("neb", *ends, *files, *options)


def _label(folder: Path, resume: bool) -> list[str]:
    files = folder / "many.extxyz", "-e", folder / "fe.pt", "-o", folder / "labels"
    return deepspin("label", *files)


def _curie(folder: Path, resume: bool) -> list[str]:
    files = folder / "fe.extxyz", "-m", folder / "exchange.pt"
    output = "-o", folder / "tc.npz", "--sizes", "2", "3"
    grid = "-T", "250:700:4", "--steps", "600"
    return ["-c", OFTEN, *map(str, ("curie", *files, *output, *grid))]


def _transition(folder: Path) -> Any:
    sizes = Result.load(folder / "tc.npz").sizes  # type: ignore[attr-defined]
    return [(size.binder.tobytes(), size.order.tobytes()) for size in sizes]


def _diagram(name: str) -> Callable[[Path], Any]:
    def outcome(folder: Path) -> Any:
        found = Result.load(folder / name / "diagram.npz")
        return {
            name: values.tobytes()
            for name, values in found.quantities.items()  # type: ignore[attr-defined]
        }

    return outcome


def _learned(folder: Path) -> Any:
    last = folder / "learning" / "generation-01"
    state = load_potential(last / "training" / "model.pt").state_dict()
    data = (last / "training.extxyz").read_bytes()
    return data, {name: value.numpy().tobytes() for name, value in state.items()}


def _text(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [(folder / name).read_bytes() for name in names]


def _trained(folder: Path) -> Any:
    state = load_potential(folder / "training" / "model.pt").state_dict()
    curve = (folder / "training" / "lcurve.csv").read_bytes()
    return curve, {name: value.numpy().tobytes() for name, value in state.items()}


def _sampled(folder: Path) -> Any:
    found = Result.load(folder / "result.npz")
    return found.order.tobytes(), found.energy.tobytes()  # type: ignore[attr-defined]


RUNS = {
    "md": Run(
        lambda f, resume: deepspin("md", f / "md.yaml", "--resume"),
        "md/run.log",
        _text("md/run.extxyz", "md/run.log"),
    ),
    "train": Run(
        lambda f, resume: deepspin(
            "train", f / "train.yaml", *(["--restart"] if resume else [])
        ),
        "training/checkpoint.pt",
        _trained,
    ),
    "label": Run(_label, "labels/frames", _text("labels/labelled.extxyz")),
    "learn": Run(
        lambda f, resume: deepspin("learn", f / "learn.yaml"),
        "learning/**/*",
        _learned,
    ),
    "relax": Run(_relax, "out.ckpt", _text("out.extxyz")),
    "neb": Run(_neb, "out.ckpt", _text("out.extxyz", "out.npz")),
    "sampling": Run(lambda f, resume: ["-c", SAMPLING, str(f)], "run.ckpt", _sampled),
    "curie": Run(_curie, "tc.samples/*.ckpt", _transition),
    "phases": Run(
        lambda f, resume: ["-c", OFTEN, "phases", str(f / "points.yaml")],
        "points/points/*.ckpt",
        _diagram("points"),
    ),
    "phases in one": Run(
        lambda f, resume: ["-c", OFTEN, "phases", str(f / "phases.yaml")],
        "phases/points/*.ckpt",
        _diagram("phases"),
    ),
}


# --- accidents -------------------------------------------------------------------


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let runs take Ctrl-C where the tests ignore it, as a shell's jobs do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(words: list[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a run whose home cannot be written to, nor be where matplotlib looks."""
    home = folder.parent / "home"
    home.mkdir(mode=0o555, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in _FOLDERS}
    may_all = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("setpriv")
    return subprocess.Popen(
        [*(_WITHOUT_RIGHTS if may_all else []), sys.executable, *words],
        env=environment | {"HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


#: What would give a run a folder of its own for caches and settings.
_FOLDERS = ("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")

#: Without it, root may write to what is read-only.
_WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all")


def written(run: Run, folder: Path) -> int:
    """Return when a run last wrote, 0 if it never did."""
    times = [0]
    for path in folder.glob(run.checkpoint):
        with suppress(FileNotFoundError):  # a temporary file
            times.append(path.stat().st_mtime_ns)
    return max(times)


def under_way(
    process: subprocess.Popen[str], run: Run, folder: Path, seconds: float
) -> bool:
    """Wait until a run has written, and some time more; False if it has ended."""
    before = written(run, folder)
    while process.poll() is None:
        if written(run, folder) != before:
            time.sleep(seconds)
            return process.poll() is None
        time.sleep(0.002)
    return False


def kill(run: Run, folder: Path, seconds: float) -> bool:
    """Stop a run by a signal that it does not notice."""
    return _signal(run, folder, seconds, signal.SIGKILL)


def interrupt(run: Run, folder: Path, seconds: float) -> bool:
    """Press Ctrl-C."""
    return _signal(run, folder, seconds, signal.SIGINT)


def _signal(run: Run, folder: Path, seconds: float, number: int) -> bool:
    resume = written(run, folder) > 0
    with start(run.command(folder, resume), folder) as process:
        happened = under_way(process, run, folder, seconds)
        if happened:
            process.send_signal(number)
        process.communicate()
    if number == signal.SIGINT and happened:
        assert process.returncode in (0, 3, 130)
    return happened


def double(run: Run, folder: Path, seconds: float) -> bool:
    """Start a second process while the first one runs; then kill that."""
    resume = written(run, folder) > 0
    with start(run.command(folder, resume), folder) as process:
        happened = under_way(process, run, folder, seconds)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            if happened:
                with start(run.command(folder, True), folder) as second:
                    said = second.communicate()[1]
                assert second.returncode == 2, said
                assert f"is being written by process {process.pid} " in said
        finally:
            process.kill()
            process.communicate()
    return happened


def fill_disk(run: Run, folder: Path, seconds: float) -> bool:
    """Let no file grow beyond a size that is reached some time."""
    largest = max((p.stat().st_size for p in folder.rglob("*.*")), default=0)
    limit = int(largest * seconds * 20)

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    resume = written(run, folder) > 0
    with start(run.command(folder, resume), folder, preexec_fn=bound) as process:
        said = process.communicate()[1]
    assert process.returncode in (0, 2, 3), said
    if process.returncode == 2:
        assert "cannot write to " in said
    return process.returncode == 2


ACCIDENTS = [kill, interrupt, double, fill_disk]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_accidents_at_random_times(tmp_path: Path, name: str) -> None:
    run = RUNS[name]
    whole, folder = tmp_path / "whole", tmp_path / "disturbed"
    for path in (whole, folder):
        prepare(path)
    with start(run.command(whole, False), whole) as process:
        said = process.communicate()[1]
    assert process.returncode in (0, 3), said
    rng = np.random.default_rng(1)
    happened = [
        accident(run, folder, rng.uniform(0.0, 0.05))
        for accident in rng.permutation(ACCIDENTS)
    ]
    assert sum(happened) >= 2
    resume = written(run, folder) > 0
    with start(run.command(folder, resume), folder) as process:
        said = process.communicate()[1]
    assert process.returncode in (0, 3), said
    assert run.outcome(folder) == run.outcome(whole)
    left = [p.name for p in folder.rglob(".*") if p.is_file()]
    assert left == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """Yield a file system of its own, and what sets its size in bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount file systems")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    yield folder, resize
    subprocess.run(["umount", str(folder)], check=True)


def _used(folder: Path) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_full_disk(small_disk: tuple[Path, Callable[[int], None]], name: str) -> None:
    disk, resize = small_disk
    run = RUNS[name]
    whole, folder = disk / "whole", disk / "disturbed"
    prepare(whole)
    before = _used(disk)
    with start(run.command(whole, False), whole) as process:
        said = process.communicate()[1]
    assert process.returncode in (0, 3), said
    needed = _used(disk) - before
    expected = run.outcome(whole)
    shutil.rmtree(whole)
    prepare(folder)
    before = _used(disk)
    full = 0
    for part in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9):
        resize(before + int(part * needed))
        resume = written(run, folder) > 0
        with start(run.command(folder, resume), folder) as process:
            said = process.communicate()[1]
        assert process.returncode in (0, 2, 3), said
        if process.returncode == 2:
            assert "No space left" in said or "cannot write to " in said, said
            full += 1
    assert full >= 2
    resize(2**26)
    resume = written(run, folder) > 0
    with start(run.command(folder, resume), folder) as process:
        said = process.communicate()[1]
    assert process.returncode in (0, 3), said
    assert run.outcome(folder) == expected
