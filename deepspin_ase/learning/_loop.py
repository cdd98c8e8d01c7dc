"""The loop of active learning, as a row of files that a killed run goes on from."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms

from .._config import read_mapping
from .._digest import digest
from .._files import atomic_write, locked, make_folder
from ..build import perturbed
from ..data import Dataset, Frame, read_dataset
from ..io import read_extxyz, write_extxyz
from ..labels import (
    Engine,
    LabelError,
    Waiting,
    check_engine,
    label_structures,
    make_engine,
    write_job_script,
)
from ..potentials import Potential, load_potential
from ..spins import get_spins
from ..training import Trainer, collect, compare, load_batches, read_config, read_sets
from ..training._schedule import loss_weights
from ._config import LearnConfig
from ._explore import DEVIATIONS, Exploration, explore
from ._select import equations, most_informative

logger = logging.getLogger(__name__)


@dataclass
class Generation:
    """What one generation did, as its file ``generation.json`` holds it.

    Attributes
    ----------
    number : int
    labelled, failed, dropped : int
        Structures that were labelled, that the engine failed at, and that were dropped
        because of forces beyond what is physical.
    frames : int
        Frames of training and validation after it.
    errors, units : dict
        Root mean square errors on all frames held back, and their units, by label.
    before : dict
        The same on the new frames, of the model of the generation before.
    accurate, uncertain, lost, unphysical : int
        What the walkers met.
    selected : int
        Structures for the next generation.
    failure : str
        Why exploration ended early, if it did.
    seconds : dict
        Wall time by stage; of labels the sum over the structures.
    """

    number: int
    labelled: int = 0
    failed: int = 0
    dropped: int = 0
    frames: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    accurate: int = 0
    uncertain: int = 0
    lost: int = 0
    unphysical: int = 0
    selected: int = 0
    failure: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Share of accurate structures among those that walkers met."""
        total = self.accurate + self.uncertain + self.lost + self.unphysical
        return self.accurate / total if total else 0.0


class ActiveLearning:
    """Training, exploration, selection and labelling, again and again.

    Every stage writes its result whole, and is skipped where that exists: a run that
    was killed goes on where it was, and ends with the same data and the same model.
    Folders ``generation-00``, ... hold ``structures.extxyz`` (to be labelled),
    ``training.extxyz`` and ``validation.extxyz`` (their labels), ``training.yaml`` and
    ``training/`` (the model), ``candidates.extxyz`` (what walkers found) and
    ``generation.json`` (numbers); ``labels/`` holds the labels of all of them, and
    ``data.extxyz`` and ``data-held-back.extxyz`` the data that were there before.

    Parameters
    ----------
    config : LearnConfig
    client : dask.distributed.Client, optional
        Labels are made, and walkers run, on its workers.
    """

    def __init__(self, config: LearnConfig, *, client: Any = None) -> None:
        self.config = config
        self.folder = Path(config.output)
        self.client = client
        settings = dict(config.engine)
        self.engine: Engine = make_engine(settings.pop("name"), settings)

    def run(self, *, progress: bool | None = None) -> list[Generation]:
        """Run until the model is accurate where walkers go, or generations are over.

        Raises
        ------
        ValueError
            If the folder holds a run of another configuration, no structure could be
            labelled, or the labels of the engine are no derivatives of the energy.
        Waiting
            If structures are to be labelled by a code that runs on its own.
        BlockingIOError
            If another process works in the folder.
        """
        make_folder(self.folder)
        with locked(self.folder):
            self._record()
            done: list[Generation] = []
            for number in range(self.config.generations):
                done.append(self._generation(number, progress))
                if self.converged(done):
                    break
            return done

    def generations(self) -> list[Generation]:
        """Return the generations that are finished."""
        found = []
        for number in range(self.config.generations):
            path = self._path(number, "generation.json")
            if not path.exists():
                break
            found.append(_read_generation(path))
        return found

    def converged(self, done: Sequence[Generation]) -> bool:
        """Return whether the last two generations found the model accurate."""
        wanted = self.config.select.accurate
        last = done[-2:]
        return len(last) == 2 and all(g.share >= wanted for g in last)

    def held_back(self, number: int) -> Dataset:
        """Return the labels that were kept from training up to a generation."""
        _, validation = self._all_files(number)
        return read_dataset(validation)

    @property
    def model(self) -> Path | None:
        """The model file of the last generation that has one."""
        paths = map(self.model_of, range(self.config.generations))
        existing = [path for path in paths if path.exists()]
        return existing[-1] if existing else None

    def model_of(self, number: int) -> Path:
        """Return the model file of a generation."""
        return self._path(number, "training", "model.pt")

    def _path(self, number: int, *names: str) -> Path:
        return self.folder.joinpath(f"generation-{number:02d}", *names)

    def _record(self) -> None:
        """Keep the configuration, and refuse to go on with another."""
        path = self.folder / "config.yaml"
        may_change = {"generations", "output", "workers"}
        now = json.loads(json.dumps(self.config.to_dict()))
        if path.exists():
            # Keys that were not known then have their defaults.
            before = LearnConfig.from_dict(read_mapping(path)).to_dict()
            before = json.loads(json.dumps(before))
            differ = [k for k in now if k not in may_change and now[k] != before.get(k)]
            made = ("labels/frames/*/label.extxyz", "generation-*/training.yaml")
            if differ and not any(any(self.folder.glob(x)) for x in made):
                # Nothing was labelled yet: begin anew.
                for name in ("generation-00", "check"):
                    shutil.rmtree(self.folder / name, ignore_errors=True)
                for old in (self.folder / "check.txt", *self._given_files()):
                    old.unlink(missing_ok=True)
            elif differ:
                raise ValueError(
                    f"{self.folder} holds a run with another {', '.join(differ)} (see "
                    f"{path}): choose another output, and give the data of this one as "
                    "'data' to go on from there"
                )
        with atomic_write(path) as temporary:
            temporary.write_text(yaml.safe_dump(now, sort_keys=False), encoding="utf-8")

    def _generation(self, number: int, progress: bool | None) -> Generation:
        path = self._path(number, "generation.json")
        if path.exists():
            return _read_generation(path)
        make_folder(path.parent)
        state = Generation(number)
        stages: tuple[tuple[str, Callable[[Generation, bool | None], None]], ...] = (
            ("structures", self._first_structures),
            ("check", self._check),
            ("labels", self._label),
            ("training", self._train),
            ("exploration", self._explore),
        )
        for name, stage in stages:
            begin = time.perf_counter()
            stage(state, progress)
            state.seconds.setdefault(name, round(time.perf_counter() - begin, 1))
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
        logger.info("%s", summary(state))
        return state

    # Stages

    def _seed(self, number: int, stage: str) -> int:
        """Return a seed of its own for a stage of a generation."""
        return int(digest([self.config.seed, number, stage])[:8], 16)

    def _crystals(self) -> list[Atoms]:
        found = []
        for path in self.config.structures:
            for atoms in read_extxyz(path, columns=self.config.columns):
                get_spins(atoms)
                found.append(atoms)
        return found

    def _first_structures(self, state: Generation, progress: bool | None) -> None:
        path = self._path(0, "structures.extxyz")
        start = self.config.start
        if state.number or path.exists() or not start.count:
            return
        crystals = self._crystals()
        rng = np.random.default_rng(self._seed(0, "start"))
        found: list[Atoms] = []
        for k, crystal in enumerate(crystals):
            # Every crystal once as it is, and shares that differ by one at most.
            count = (start.count - k + len(crystals) - 1) // len(crystals)
            scattered = perturbed(
                crystal,
                max(0, count - 1),
                **start.model_dump(exclude={"count"}),
                seed=rng,
            )
            found += [crystal.copy(), *scattered][:count]
        write_extxyz(path, _bare(found))

    def _check(self, state: Generation, progress: bool | None) -> None:
        """Ask the engine for labels near one structure, and whether they agree."""
        path = self._path(0, "structures.extxyz")
        kept = self.folder / "check.txt"
        if state.number or not self.config.check or kept.exists() or not path.exists():
            return
        # The last one: scattered, if any is, so that little vanishes by symmetry.
        atoms = read_extxyz(path, -1)
        name = self.config.engine["name"]
        try:
            found = check_engine(self.engine, atoms, self.folder / "check")
        except Waiting as waiting:
            logger.warning("labels of %s are not checked: %s", name, waiting)
            return
        except LabelError as error:
            raise ValueError(
                f"{name} cannot label the structure of the check ({error}): mend the "
                "settings of the engine, or go on without by 'check: false'"
            ) from error
        if not found.ok:
            ratios = ", ".join(
                f"{n} {r:.3f}" for n, r in zip(found.names, found.ratios, strict=True)
            )
            faults = "; ".join(f"it would agree if {x}" for x in found.faults)
            raise ValueError(
                f"labels of {name} fail the check: energy differences over their work "
                f"are {ratios or 'not known'}; {faults or 'no known fault explains it'}"
                ". Mend the settings of the engine, or go on without by 'check: false'"
            )
        with atomic_write(kept) as temporary:
            temporary.write_text(f"{found}\n", encoding="utf-8")

    def _label(self, state: Generation, progress: bool | None) -> None:
        path = self._path(state.number, "structures.extxyz")
        if not path.exists():  # data to begin with, and no structures beside them
            return
        structures = read_extxyz(path)
        found = label_structures(
            structures,
            self.engine,
            self.folder / "labels",
            client=self.client,
            progress=progress,
        )
        if found.waiting:
            script = write_job_script(self.folder / "labels", found.waiting.values())
            raise Waiting(
                f"{len(found.waiting)} structures wait for the code: complete and "
                f"submit {script}, then run again"
            )
        state.seconds["labels"] = round(float(np.nansum(found.seconds)), 1)
        state.failed = len(found.failures)
        good = [f for f in found.frames if _largest(f) <= self.config.largest_force]
        state.labelled = len(good)
        state.dropped = len(found.frames) - len(good)
        for reason in sorted(set(found.failures.values()))[:3]:
            logger.warning("a structure could not be labelled: %s", reason)
        if not good and not self.config.data and state.number == 0:
            raise ValueError(
                f"no structure could be labelled; the reasons are in "
                f"{self.folder / 'labels' / 'failed.extxyz'}"
            )
        self._split(good, *self._files(state.number))

    def _split(self, frames: Sequence[Frame], training: Path, validation: Path) -> None:
        """Write frames to two files, as far as they do not exist."""
        every = self.config.held_back
        held = [f for k, f in enumerate(frames) if k % every == every - 1]
        kept = [f for k, f in enumerate(frames) if k % every != every - 1]
        for file, part in ((validation, held), (training, kept)):
            if part and not file.exists():
                write_extxyz(file, [f.to_atoms() for f in part])

    def _files(self, number: int) -> tuple[Path, Path]:
        return (
            self._path(number, "training.extxyz"),
            self._path(number, "validation.extxyz"),
        )

    def _all_files(self, number: int) -> tuple[list[Path], list[Path]]:
        """Return the files of training and validation up to a generation."""
        pairs = [self._given(), *(self._files(k) for k in range(number + 1))]
        training, validation = zip(*pairs, strict=True)
        return (
            [path for path in training if path.exists()],
            [path for path in validation if path.exists()],
        )

    def _given_files(self) -> tuple[Path, Path]:
        return self.folder / "data.extxyz", self.folder / "data-held-back.extxyz"

    def _given(self) -> tuple[Path, Path]:
        """Return files of the data to begin with, written at their first use."""
        config = self.config
        paths = self._given_files()
        if config.data and not paths[0].exists():
            frames = list(read_dataset(config.data, columns=config.columns))
            self._split(frames, *paths)
        return paths

    def _train(self, state: Generation, progress: bool | None) -> None:
        number = state.number
        training, validation = self._all_files(number)
        if not validation:
            raise ValueError(
                "no label is held back, and without one the model cannot be judged: "
                f"give more structures or data than held_back "
                f"({self.config.held_back}), or make it smaller"
            )
        held = self.held_back(number)
        frames = read_dataset(training)
        state.frames = len(frames) + len(held)
        fresh = [path for path in self._files(number) if path.exists()]
        if number and fresh:
            before = load_potential(self.model_of(number - 1))
            state.before, _ = _errors(before, read_dataset(fresh))
        output = self._path(number, "training")
        if not (output / "model.pt").exists():
            self._run_training(number, training, validation, output, progress)
        model = load_potential(output / "model.pt")
        state.errors, state.units = _errors(model, held)

    def _run_training(
        self,
        number: int,
        training: Sequence[Path],
        validation: Sequence[Path],
        output: Path,
        progress: bool | None,
    ) -> None:
        folder = self._path(number)
        values = {
            **self.config.train,
            "data": {
                "training": [os.path.relpath(p, folder) for p in training],
                "validation": [os.path.relpath(p, folder) for p in validation],
            },
            "output": "training",
        }
        path = folder / "training.yaml"
        with atomic_write(path) as temporary:
            text = yaml.safe_dump(values, sort_keys=False)
            temporary.write_text(text, encoding="utf-8")
        config = read_config(path)
        trainer = Trainer(
            config,
            read_sets(config.data, config.model),
            output=config.output,
            baseline=load_potential(config.baseline) if config.baseline else None,
        )
        if (output / "checkpoint.pt").exists():
            trainer.restore()
        trainer.run(progress=progress)

    def _explore(self, state: Generation, progress: bool | None) -> None:
        number = state.number
        model = load_potential(self.model_of(number))
        found = explore(
            model,
            self._crystals(),
            self.config.explore,
            forces=self.config.select.forces,
            magnetic_forces=self.config.select.magnetic_forces,
            seed=self._seed(number, "explore"),
            client=self.client,
            progress=progress,
        )
        state.accurate, state.uncertain = found.accurate, found.uncertain
        state.lost, state.unphysical = found.lost, found.unphysical
        state.failure = found.failure
        self._keep(found, number)
        # After the last one, too: 'generations' may be raised later.
        state.selected = self._select(model, found, number)

    def _keep(self, found: Exploration, number: int) -> None:
        seen = np.array(found.seen).reshape(-1, len(DEVIATIONS))
        with atomic_write(self._path(number, "deviations.npz")) as temporary:
            np.savez(temporary, forces=seen[:, 0], magnetic_forces=seen[:, 1])
        if found.candidates:
            write_extxyz(self._path(number, "candidates.extxyz"), found.candidates)

    def _select(self, model: Potential, found: Exploration, number: int) -> int:
        """Write the structures of the next generation; return their number."""
        make_folder(self._path(number + 1))
        path = self._path(number + 1, "structures.extxyz")
        count = self.config.select.count
        training, _ = self._all_files(number)
        known = [frame.to_atoms() for frame in read_dataset(training)]
        config = read_config(self._path(number, "training", "config.yaml"))
        weights = loss_weights(config.loss, 0.0)
        chosen = _informative(model, found.candidates, count, known, weights)
        if len(chosen) < count and found.beyond:
            # Walkers that step over the window: what is least far beyond it.
            order = np.argsort([a.info["forces_deviation"] for a in found.beyond])
            near = [found.beyond[k] for k in order[: 2 * count]]
            chosen += _informative(
                model, near, count - len(chosen), known + chosen, weights
            )
        if chosen:
            write_extxyz(path, _bare(chosen))
        return len(chosen)


def _informative(
    model: Potential,
    structures: Sequence[Atoms],
    count: int,
    known: Sequence[Atoms],
    weights: Mapping[str, float],
) -> list[Atoms]:
    """Return structures whose labels tell what those of known ones do not."""
    told = equations(model, structures, weights)
    if told is None:
        # The most uncertain ones, where no term is linear.
        order = np.argsort([-a.info["forces_deviation"] for a in structures])
        return [structures[k] for k in order[:count]]
    chosen = most_informative(told, count, equations(model, known, weights) or [])
    return [structures[k] for k in chosen]


def summary(state: Generation) -> str:
    """Return a line that says what a generation did."""
    errors = ", ".join(f"{n} {1e3 * x:.1f}" for n, x in state.errors.items())
    return (
        f"generation {state.number}: {state.labelled} labelled, {state.failed} failed, "
        f"{state.frames} frames; errors (meV, A, mu_B) {errors}; {state.share:.0%} of "
        f"what walkers met is accurate; {state.selected} selected"
    )


def _bare(structures: Sequence[Atoms]) -> list[Atoms]:
    """Return structures with atoms, cell, moments and what is said of their origin."""
    found = []
    for atoms in structures:
        bare = Atoms(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            magmoms=get_spins(atoms),
        )
        bare.info = dict(atoms.info)
        found.append(bare)
    return found


def _largest(frame: Frame) -> float:
    if frame.forces is None:
        return 0.0
    return float(np.linalg.norm(frame.forces, axis=1).max())


def _errors(
    potential: Potential, frames: Dataset
) -> tuple[dict[str, float], dict[str, str]]:
    """Return root mean square errors and their units, by label."""
    found = compare(potential, collect(load_batches(frames, potential)))
    return {n: x.rmse for n, x in found.items()}, {n: x.unit for n, x in found.items()}


def _read_generation(path: Path) -> Generation:
    try:
        return Generation(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and its stages are read again"
        ) from None
