"""Trajectories in extended XYZ and in ASE's own format, and the choice by suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..._files import append_text, atomic_write
from ...constraints import FixSpins
from ...io._extxyz import extxyz_text
from ._hdf5 import HDF5Trajectory
from ._writers import Snapshots, Writer, too_short, truncate_to


class ExtxyzTrajectory(Writer):
    """Extended XYZ: moments, magnetic forces, momenta and results, text.

    Each replica has its file: run.0.extxyz, run.1.extxyz, ...
    """

    def __init__(self, path: Path, source: Snapshots, append: bool) -> None:
        super().__init__(path)
        self._source = source
        count = source.n_replicas
        self._paths = (
            [path]
            if count == 1
            else [path.with_suffix(f".{k}{path.suffix}") for k in range(count)]
        )
        self._started = append and all(p.exists() for p in self._paths)

    @property
    def files(self) -> list[Path]:
        """Those of the replicas."""
        return self._paths

    def write(self) -> None:
        """Append the present state of every replica."""
        texts = [extxyz_text([_plain(frame)]) for frame in self._source.frames()]
        for path, text in zip(self._paths, texts, strict=True):
            append_text(path, text, overwrite=not self._started)
        self._started = True

    def state_dict(self) -> dict[str, Any]:
        """Return the sizes of the files."""
        sizes = [p.stat().st_size for p in self._paths] if self._started else []
        return {"started": self._started, "sizes": sizes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Cut the files back to where they were."""
        self._started = state["started"]
        for path, size in zip(self._paths, state["sizes"], strict=False):
            truncate_to(path, size)


class AseTrajectory(Writer):
    """A ``.traj`` file of ASE, without magnetic forces."""

    def __init__(self, path: Path, source: Snapshots, append: bool) -> None:
        super().__init__(path)
        self._source = source
        if source.n_replicas > 1:
            raise ValueError(
                f"{path.name}: replicas are written to .extxyz or .h5 trajectories"
            )
        self._frames = 0
        if append and path.exists():
            with ase.io.Trajectory(str(path)) as file:
                self._frames = len(file)

    def write(self) -> None:
        """Append the present state."""
        frame = _plain(self._source.frames()[0])
        known = {"energy", "free_energy", "forces", "stress", "energies"}
        results = {k: v for k, v in frame.calc.results.items() if k in known}
        frame.calc = SinglePointCalculator(frame, **results)
        with ase.io.Trajectory(str(self.path), "a" if self._frames else "w") as file:
            file.write(frame)
        self._frames += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the number of frames in the file."""
        return {"frames": self._frames}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Cut the file back to where it was."""
        self._frames = state["frames"]
        if not self._frames:
            return
        if not self.path.exists():
            raise too_short(self.path)
        with ase.io.Trajectory(str(self.path)) as old:
            if len(old) < self._frames:
                raise too_short(self.path)
            with (
                atomic_write(self.path) as temporary,
                ase.io.Trajectory(str(temporary), "w") as new,
            ):
                for k in range(self._frames):
                    new.write(old[k])


def _plain(frame: Atoms) -> Atoms:
    """Return the frame without constraints that ASE's formats do not know."""
    frame.set_constraint([c for c in frame.constraints if not isinstance(c, FixSpins)])
    return frame


def open_trajectory(
    path: str | os.PathLike[str], source: Snapshots, *, append: bool
) -> Writer:
    """Return the trajectory for a path, by its suffix.

    Raises
    ------
    ValueError
        If the folder does not exist, or the suffix is unknown.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"the folder of the trajectory {path} does not exist")
    if path.suffix in (".xyz", ".extxyz"):
        return ExtxyzTrajectory(path, source, append)
    if path.suffix in (".h5", ".hdf5"):
        return HDF5Trajectory(path, source, append)
    if path.suffix == ".traj":
        return AseTrajectory(path, source, append)
    raise ValueError(f"trajectories are .extxyz, .h5 or .traj files, not {path.name}")
