"""Trajectories that are written while a driver runs, and cut back at a restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..constraints import FixSpins
from ..io import extxyz_text
from .logfile import cut_back

if TYPE_CHECKING:
    from .driver import SpinLatticeDynamics


class Trajectory:
    """Where frames go; one per driver and file."""

    def __init__(self, path: Path, driver: SpinLatticeDynamics) -> None:
        self.path = path
        self.driver = driver

    def write(self) -> None:
        """Append the present state."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return how far the file has come."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Cut the file back to where it was."""
        raise NotImplementedError


class ExtxyzTrajectory(Trajectory):
    """Extended XYZ: moments, magnetic forces, momenta and results, text.

    Replicas go to files of their own: run.0.extxyz, run.1.extxyz, ...
    """

    def __init__(self, path: Path, driver: SpinLatticeDynamics, append: bool) -> None:
        super().__init__(path, driver)
        count = driver.n_replicas
        self._paths = (
            [path]
            if count == 1
            else [path.with_suffix(f".{k}{path.suffix}") for k in range(count)]
        )
        self._started = append and all(p.exists() for p in self._paths)

    def write(self) -> None:
        """Append the present state of every replica."""
        texts = [extxyz_text([_plain(frame)]) for frame in self.driver.frames()]
        for path, text in zip(self._paths, texts, strict=True):
            with path.open("a" if self._started else "w") as file:
                whole = file.tell()
                try:
                    file.write(text)
                    file.flush()
                except OSError as error:
                    os.truncate(path, whole)  # no half frame is left
                    raise OSError(
                        f"cannot write to {path} ({error.strerror}); the frames "
                        "before this one are complete"
                    ) from error
        self._started = True

    def state(self) -> dict[str, Any]:
        """Return the sizes of the files."""
        sizes = [p.stat().st_size for p in self._paths] if self._started else []
        return {"started": self._started, "sizes": sizes}

    def restore(self, state: dict[str, Any]) -> None:
        """Cut the files back to where they were."""
        self._started = state["started"]
        for path, size in zip(self._paths, state["sizes"], strict=False):
            cut_back(path, size)


class AseTrajectory(Trajectory):
    """Any format of ASE that can be appended to, ``.traj`` for one: no cutting back."""

    def __init__(self, path: Path, driver: SpinLatticeDynamics, append: bool) -> None:
        super().__init__(path, driver)
        if driver.n_replicas > 1:
            raise ValueError(
                f"{path.name}: replicas are written to .extxyz or .h5 trajectories"
            )
        self._append = append

    def write(self) -> None:
        """Append the present state."""
        frame = _plain(self.driver.frames()[0])
        kept = {"energy", "free_energy", "forces", "stress", "energies"}
        results = {k: v for k, v in frame.calc.results.items() if k in kept}
        frame.calc = SinglePointCalculator(frame, **results)
        ase.io.write(self.path, frame, append=self._append)
        self._append = True

    def state(self) -> dict[str, Any]:
        """Return nothing: frames after the checkpoint stay."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on at the end of the file."""
        self._append = True


def _plain(frame: Atoms) -> Atoms:
    """Leave out what file formats of ASE do not know."""
    frame.set_constraint([c for c in frame.constraints if not isinstance(c, FixSpins)])
    return frame


def open_trajectory(
    path: str | os.PathLike[str], driver: SpinLatticeDynamics, *, append: bool
) -> Trajectory:
    """Return the trajectory for a path, by its suffix.

    Raises
    ------
    ValueError
        If the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"the folder of the trajectory {path} does not exist")
    if path.suffix in (".xyz", ".extxyz"):
        return ExtxyzTrajectory(path, driver, append)
    if path.suffix in (".h5", ".hdf5"):
        from .hdf5 import HDF5Trajectory

        return HDF5Trajectory(path, driver, append)
    return AseTrajectory(path, driver, append)
