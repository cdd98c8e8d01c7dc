"""Damaged files of every format: the same numbers, or an error that names the file.

Bytes are flipped, zeroed, cut out and doubled; lines of text are dropped, doubled and
swapped, and their characters changed. Formats with checksums never give other numbers;
of the others, what is a sound file of other numbers cannot be known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from networks import FE_MODEL

from deepspin_ase import DeepSpinCalculator, relax, set_spins
from deepspin_ase.analysis import Result
from deepspin_ase.calculators._recorded import RecordedResults
from deepspin_ase.data import load_example, read_dataset, write_dataset
from deepspin_ase.dynamics import SpinDynamics, read_hdf5
from deepspin_ase.dynamics._config import read_run_config
from deepspin_ase.io import (
    read_extxyz,
    read_lammps_data,
    write_extxyz,
    write_lammps_data,
)
from deepspin_ase.potentials import (
    DeepSpinConfig,
    DeepSpinNetwork,
    Potential,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.deepmd import write_deepmd
from deepspin_ase.potentials.materials.reference import fe
from deepspin_ase.training import Trainer, read_config, read_learning_curve
from deepspin_ase.training._checkpoint import read_checkpoint

DEEPMD = Path(__file__).parent / "data" / "deepmd"

#: Mutations of a file in the default run, and in the slow one.
FEW, MANY = 12, 250


def iron() -> Atoms:
    atoms = bulk("Fe", a=2.87, cubic=True)
    set_spins(atoms, [[0.0, 0.0, 2.2], [0.3, 0.0, 2.1]])
    return atoms


def network() -> DeepSpinNetwork:
    return DeepSpinNetwork(DeepSpinConfig.from_dict(FE_MODEL))


# --- formats ---------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """How a file is written and read.

    Attributes
    ----------
    name : str
        Of the file.
    write, read : callable
        Of its path; what is read is compared.
    checked : bool
        Whether the file holds checksums of its numbers.
    text : bool
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    checked: bool = False
    text: bool = False


def _weights(path: Path) -> Any:
    potential: Potential = load_potential(path)
    return {k: v.numpy() for k, v in potential.state_dict().items()}


def _frames(path: Path) -> Any:
    return [_of_atoms(atoms) for atoms in read_hdf5(path)]


def _of_atoms(atoms: Atoms) -> dict[str, Any]:
    results = atoms.calc.results if atoms.calc is not None else {}
    return atoms.arrays | {"cell": atoms.cell.array} | results


def _driver(trajectory: Path | None = None) -> SpinDynamics:
    atoms = iron()
    atoms.calc = DeepSpinCalculator(fe())
    return SpinDynamics(atoms, 0.2 * units.fs, trajectory=trajectory)


def _trained(path: Path) -> None:
    write_dataset(path.parent / "data.extxyz", load_example("fe2_lda")[:2])
    values = {
        "model": FE_MODEL,
        "data": {"training": ["data.extxyz"]},
        "training": {"numb_steps": 2, "disp_freq": 1},
    }
    config = path.parent / "training.yaml"
    config.write_text(yaml.safe_dump(values))
    folder = path.parent
    dataset = read_dataset(folder / "data.extxyz")
    Trainer(read_config(config), dataset, output=folder).run(progress=False)


def _training_checkpoint(path: Path) -> Any:
    run = torch.load(path.with_name("run.pt"), weights_only=True)
    return _plain(read_checkpoint(path, run=run, device=torch.device("cpu")))


def _write_training_checkpoint(path: Path) -> None:
    _trained(path)
    state = torch.load(path, weights_only=True)
    torch.save(state["run"], path.with_name("run.pt"))


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _relaxed(path: Path) -> None:
    atoms = iron()
    atoms.rattle(0.05)
    atoms.calc = DeepSpinCalculator(fe())
    relax(atoms, checkpoint=path, steps=4)


def _recorded(path: Path) -> Any:
    record = RecordedResults(path)
    return {"run": record.run, "calls": len(record)}


@dataclass(frozen=True, eq=False)
class Numbers(Result):
    """A result.

    Attributes
    ----------
    values : (N,) array
    """

    values: np.ndarray


def _frozen(name: str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes((DEEPMD / name).read_bytes())


def _labelled(path: Path) -> None:
    frames = []
    for seed in range(3):
        atoms = iron()
        atoms.rattle(0.05, seed=seed)
        atoms.calc = SinglePointCalculator(
            atoms, energy=-1.0 - seed, forces=np.full((2, 3), 0.1)
        )
        frames.append(atoms)
    write_extxyz(path, frames)


def _npy(path: Path) -> None:
    write_dataset(path.parent / "system", load_example("fe2_lda")[:3])
    path.write_bytes((path.parent / "system" / "set.000" / "force.npy").read_bytes())


def _npy_frames(path: Path) -> Any:
    target = path.parent / "system" / "set.000" / "force.npy"
    target.write_bytes(path.read_bytes())
    try:
        frames = read_dataset(path.parent / "system")
    except (ValueError, OSError) as error:
        raise type(error)(str(error).replace(str(target), str(path))) from error
    return [frame.forces for frame in frames]


def _yaml_of_training(path: Path) -> None:
    write_dataset(path.parent / "data.extxyz", load_example("fe2_lda")[:2])
    values = {
        "model": FE_MODEL,
        "data": {"training": ["data.extxyz"]},
        "training": {"numb_steps": 2, "disp_freq": 1},
    }
    path.write_text(yaml.safe_dump(values))


def _yaml_of_a_run(path: Path) -> None:
    values = {
        "structure": "fe.extxyz",
        "model": "fe.pt",
        "driver": "langevin",
        "timestep_fs": 0.5,
        "steps": 20,
        "parameters": {"temperature_K": 300, "friction_per_fs": 0.02},
    }
    path.write_text(yaml.safe_dump(values))


FORMATS = [
    Format("model.pt", lambda p: save_potential(p, network()), _weights, checked=True),
    Format(
        "model.safetensors",
        lambda p: save_potential(p, network()),
        _weights,
        checked=True,
    ),
    Format("frozen.pth", _frozen("nio_early.pth"), _weights, checked=True),
    Format("iron.dp", _frozen("iron.dp"), _weights),
    Format("iron.yaml", lambda p: write_deepmd(p, network()), _weights, text=True),
    Format(
        "run.h5",
        lambda p: _driver(p).run(4),
        _frames,
        checked=True,
    ),
    Format(
        "run.ckpt",
        lambda p: _driver().save(p),
        lambda p: _plain(SpinDynamics.restore(p).state_dict()),
        checked=True,
    ),
    Format(
        "checkpoint.pt", _write_training_checkpoint, _training_checkpoint, checked=True
    ),
    Format("relaxed.ckpt", _relaxed, _recorded),
    Format(
        "result.npz",
        lambda p: Numbers(np.arange(40.0)).save(p),
        lambda p: Numbers.load(p).values,
        checked=True,
    ),
    Format("lcurve.csv", _trained, lambda p: dict(read_learning_curve(p)), text=True),
    Format(
        "data.extxyz",
        _labelled,
        lambda p: [_of_atoms(atoms) for atoms in read_extxyz(p)],
        text=True,
    ),
    Format(
        "atoms.data",
        lambda p: write_lammps_data(p, iron() * (2, 1, 1)),
        lambda p: _of_atoms(read_lammps_data(p)),
        text=True,
    ),
    Format("force.npy", _npy, _npy_frames),
    Format(
        "train.yaml",
        _yaml_of_training,
        lambda p: read_config(p).to_dict(),
        text=True,
    ),
    Format(
        "md.yaml",
        _yaml_of_a_run,
        lambda p: read_run_config(p).to_dict(),
        text=True,
    ),
]


# --- mutations -------------------------------------------------------------------


def mutated(content: bytes, rng: np.random.Generator, *, text: bool) -> bytes:
    """Return a file with one accident in it."""
    kinds = [_flipped, _truncated, _zeroed, _cut_out, _doubled]
    if text:
        kinds += [_without_line, _line_twice, _lines_swapped, _other_character] * 2
    return kinds[rng.integers(len(kinds))](content, rng)


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    k = rng.integers(len(content))
    return content[:k] + bytes([content[k] ^ 1 << rng.integers(8)]) + content[k + 1 :]


def _truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def _span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(content)))
    return start, start + int(rng.integers(1, 200))


def _zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    start, stop = _span(content, rng)
    return content[:start] + bytes(len(content[start:stop])) + content[stop:]


def _cut_out(content: bytes, rng: np.random.Generator) -> bytes:
    start, stop = _span(content, rng)
    return content[:start] + content[stop:]


def _doubled(content: bytes, rng: np.random.Generator) -> bytes:
    start, stop = _span(content, rng)
    return content[:stop] + content[start:]


def _without_line(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[rng.integers(len(lines))]
    return b"".join(lines)


def _line_twice(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    k = rng.integers(len(lines))
    return b"".join([*lines[: k + 1], *lines[k:]])


def _lines_swapped(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    j, k = rng.integers(len(lines), size=2)
    lines[j], lines[k] = lines[k], lines[j]
    return b"".join(lines)


def _other_character(content: bytes, rng: np.random.Generator) -> bytes:
    k = rng.integers(len(content))
    other = b"xO-e.,:\t'[{%#\xc3"[rng.integers(14) :][:1]
    return content[:k] + other + content[k + 1 :]


def same(mine: Any, yours: Any) -> bool:
    """Return whether nested data agree, to the last bit."""
    if isinstance(mine, dict):
        return (
            isinstance(yours, dict)
            and mine.keys() == yours.keys()
            and all(same(mine[k], yours[k]) for k in mine)
        )
    if isinstance(mine, list | tuple):
        return len(mine) == len(yours) and all(map(same, mine, yours))
    return np.array_equal(mine, yours)


def check(folder: Path, kind: Format, count: int, seed: int) -> list[str]:
    """Return what went wrong, and in which mutation."""
    path = folder / kind.name
    kind.write(path)
    whole, expected = path.read_bytes(), kind.read(path)
    rng = np.random.default_rng(seed)
    wrong = []
    for k in range(count):
        path.write_bytes(mutated(whole, rng, text=kind.text))
        try:
            found = kind.read(path)
        except (ValueError, OSError) as error:
            missing = isinstance(error, FileNotFoundError)  # another one that it names
            if str(path) not in str(error) and not missing:
                wrong.append(f"{k}: {path.name} is not in {error!r}")
            if type(error) not in (ValueError, OSError, FileNotFoundError):
                wrong.append(f"{k}: {error!r}")
        except Exception as error:
            wrong.append(f"{k}: {error!r}")
        else:
            if kind.checked and not same(found, expected):
                wrong.append(f"{k}: other numbers")
    return wrong


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_some_mutations(tmp_path: Path, kind: Format) -> None:
    assert check(tmp_path, kind, FEW, seed=0) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_many_mutations(tmp_path: Path, kind: Format) -> None:
    assert check(tmp_path, kind, MANY, seed=1) == []
