"""Labels of many structures: kept one by one, resumed, spread over workers."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from .._digest import digest
from .._distributed import map_tasks
from .._files import atomic_write, locked, make_folder
from ..data import Dataset, Frame
from ..io import read_extxyz, write_extxyz
from ..spins import get_spins, set_spins
from ._engine import Engine, LabelError, Waiting

logger = logging.getLogger(__name__)

#: Digits of a structure's digest in the name of its folder.
_DIGITS = 16


@dataclass(frozen=True)
class LabelledStructures:
    """Result of :func:`label_structures`.

    Attributes
    ----------
    frames : Dataset
        Those that were labelled, in the order that was given.
    indices : tuple of int
        Their positions among the structures.
    failures : dict
        Reasons by position.
    waiting : dict
        Folders by position, of structures whose inputs are written and whose outputs
        are not there yet.
    seconds : tuple of float
        Wall time that the engine took for each frame, when it was labelled.
    """

    frames: Dataset
    indices: tuple[int, ...]
    failures: dict[int, str]
    waiting: dict[int, Path]
    seconds: tuple[float, ...]


def label_structures(
    structures: Sequence[Atoms],
    engine: Engine,
    folder: str | Path,
    *,
    retry: bool = False,
    client: Any = None,
    progress: bool | None = None,
) -> LabelledStructures:
    """Label structures, each in a folder of its own, and write what was found.

    A structure that the folder holds labels of is not computed again, so that the same
    call goes on where it was stopped or killed, and takes more structures later. Equal
    structures are computed once.

    Parameters
    ----------
    structures : sequence of Atoms
        With the moments that are asked for.
    engine : Engine
    folder : path
        Made if missing. ``labelled.extxyz`` and ``failed.extxyz`` are written when all
        is done, ``engine.json`` at the start; the files of the engine are in
        ``frames/<digest of the structure>/``.
    retry : bool
        Compute again what failed before.
    client : dask.distributed.Client, optional
        Label on its workers, which see the folder; see
        :func:`~deepspin_ase.analysis.map_tasks`.
    progress : bool, optional
        Progress bar; by default on a terminal.

    Returns
    -------
    LabelledStructures

    Raises
    ------
    ValueError
        If there are no structures, one has no moments, or the folder holds labels of
        another engine or other settings.
    ImportError, OSError
        If the engine cannot label anything, such as where a code is missing, or another
        process labels in the folder.
    """
    if not len(structures):
        raise ValueError("there are no structures to label")
    folder = Path(folder)
    targets = [_target(k, atoms) for k, atoms in enumerate(structures)]
    names = [digest(atoms)[:_DIGITS] for atoms in targets]
    new = dict(zip(names, targets, strict=True))
    make_folder(folder)
    with locked(folder):
        _record_engine(folder, engine)
        _compare_meshes(engine, targets)
        tasks = [
            (folder / "frames" / name, atoms)
            for name, atoms in new.items()
            if not _finished(folder / "frames" / name, retry)
        ]
        map_tasks(
            partial(_label_one, engine),
            tasks,
            client=client,
            description="labels",
            progress=progress,
        )
        return _collected(folder, names, targets)


def _target(k: int, atoms: Atoms) -> Atoms:
    """Return what is asked for of a structure: atoms, cell and moments alone."""
    try:
        spins = get_spins(atoms)
    except ValueError as error:
        raise ValueError(f"structure {k}: {error}") from None
    result = Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
    )
    set_spins(result, spins)
    return result


def _record_engine(folder: Path, engine: Engine) -> None:
    """Write what the labels depend on, or compare it with what is there."""
    path = folder / "engine.json"
    now = json.loads(json.dumps(engine.provenance()))
    frames = list(folder.glob("frames/*"))
    if path.exists() and any(
        (x / "label.extxyz").exists() or engine.finished(x) for x in frames
    ):
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != now:
            differ = sorted(
                k for k in before.keys() | now.keys() if before.get(k) != now.get(k)
            )
            raise ValueError(
                f"{folder} holds labels made with another {', '.join(differ)} (see "
                f"{path}): choose another folder, since labels of different origin do "
                "not belong together"
            )
        return
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(now, indent=1), encoding="utf-8")


def _compare_meshes(engine: Engine, structures: Sequence[Atoms]) -> None:
    """Warn where k-points differ between structures of nearly the same cell."""
    first: dict[str, Atoms] = {}
    differ = []
    for k, atoms in enumerate(structures):
        mesh = engine.mesh(atoms)
        like = first.setdefault(atoms.get_chemical_formula(), atoms)
        near = np.abs(atoms.cell.array - like.cell.array).max() < 0.1 * max(
            like.cell.lengths(), default=0.0
        )
        if near and mesh != engine.mesh(like):
            differ.append((k, mesh, engine.mesh(like)))
    if differ:
        k, mesh, usual = differ[0]
        logger.warning(
            "%d of %d structures have another mesh of k-points than others of nearly "
            "the same cell (structure %d: %s, not %s): energies jump by the error of "
            "the mesh; give kpts, or another kpt_spacing",
            len(differ),
            len(structures),
            k,
            mesh,
            usual,
        )


def _finished(folder: Path, retry: bool) -> bool:
    if (folder / "label.extxyz").exists():
        return True
    return not retry and (folder / "failure.txt").exists()


def _label_one(engine: Engine, task: tuple[Path, Atoms]) -> None:
    """Label one structure and keep the labels, or the reason why there are none."""
    folder, atoms = task
    folder.mkdir(parents=True, exist_ok=True)
    failure = folder / "failure.txt"
    begin = time.perf_counter()
    try:
        frame = engine.label(atoms, folder)
    except Waiting:
        return
    except LabelError as error:
        with atomic_write(failure) as temporary:
            temporary.write_text(f"{error}\n", encoding="utf-8")
        return
    _check_same(atoms, frame)
    labelled = frame.to_atoms()
    labelled.info["provenance"] = json.dumps(engine.provenance())
    labelled.info["seconds"] = round(time.perf_counter() - begin, 1)
    write_extxyz(folder / "label.extxyz", labelled)
    failure.unlink(missing_ok=True)


def _check_same(atoms: Atoms, frame: Frame) -> None:
    same = (
        len(atoms) == frame.n_atoms
        and (atoms.numbers == frame.numbers).all()
        and abs(atoms.cell.array - frame.cell).max() < 1e-6
        and abs(atoms.positions - frame.positions).max() < 1e-6
    )
    if not same:
        raise ValueError(
            "the engine labelled another structure than it was given: its files belong "
            "to something else, or its atoms are in another order"
        )


def _collected(
    folder: Path, names: Sequence[str], targets: Sequence[Atoms]
) -> LabelledStructures:
    """Read what there is of each structure, and write it as two files."""
    labelled, failed, indices, seconds = [], [], [], []
    failures, waiting = {}, {}
    for k, (name, target) in enumerate(zip(names, targets, strict=True)):
        inner = folder / "frames" / name
        if (inner / "label.extxyz").exists():
            labelled.append(read_extxyz(inner / "label.extxyz", -1))
            seconds.append(float(labelled[-1].info.pop("seconds", "nan")))
            indices.append(k)
        elif not (inner / "failure.txt").exists():
            waiting[k] = inner
        else:
            failures[k] = (inner / "failure.txt").read_text(encoding="utf-8").strip()
            failed.append(target.copy())
            failed[-1].info["failure"] = failures[k]
    for path, atoms in (("labelled.extxyz", labelled), ("failed.extxyz", failed)):
        if atoms:
            write_extxyz(folder / path, atoms)
        else:
            (folder / path).unlink(missing_ok=True)
    frames = Dataset((Frame.from_atoms(atoms) for atoms in labelled), name=str(folder))
    return LabelledStructures(frames, tuple(indices), failures, waiting, tuple(seconds))


def write_job_script(folder: str | Path, waiting: Iterable[Path]) -> Path:
    """Write a job array for SLURM that runs a code in folders; return its path.

    The command is to be filled in. A structure that fails can be run again by hand: the
    next call of :func:`label_structures` reads whatever outputs are complete.
    """
    folder = Path(folder).resolve()
    names = [os.path.relpath(path, folder) for path in waiting]
    listed = "\n".join(names)
    text = f"""#!/bin/sh
#SBATCH --job-name=labels
#SBATCH --array=1-{len(names)}
#SBATCH --chdir={folder}

# The command that runs the code in the present folder:
command="srun abacus"

folder=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" <<END
{listed}
END
)
cd "$folder" && $command > output.txt 2>&1
"""
    path = folder / "job.sh"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
