"""Files from which a sampling that was stopped goes on."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms

from ..._files import atomic_write
from ...dynamics.drivers._driver import SpinLatticeDynamics

if TYPE_CHECKING:
    from ._thermal_sampling import SamplingTask

#: Seconds between checkpoints.
_SECONDS = 60.0

Series = dict[str, list[np.ndarray]]


class SamplingFiles:
    """Checkpoint of the driver, and the samples so far, of one task.

    Parameters
    ----------
    task : SamplingTask
        With a ``checkpoint``; its ``steps`` and ``equilibration`` may differ from
        those of the run that is continued.
    """

    def __init__(self, task: SamplingTask) -> None:
        self.driver = Path(f"{task.checkpoint}.ckpt")
        self.samples = Path(f"{task.checkpoint}.npz")
        self._task = _digest(task)
        self._interval = task.interval
        self._written = time.monotonic()

    def due(self) -> bool:
        """Return whether it is time to write."""
        return time.monotonic() - self._written >= _SECONDS

    def write(
        self, driver: SpinLatticeDynamics, equilibration: int, found: Series
    ) -> None:
        """Write the samples and the state after them, each whole or not at all."""
        os.makedirs(self.samples.parent, exist_ok=True)
        arrays: dict[str, Any] = {name: np.array(rows) for name, rows in found.items()}
        arrays |= {"task": self._task, "equilibration": equilibration}
        with atomic_write(self.samples) as temporary:
            np.savez(temporary, **arrays)
        driver.save(self.driver)
        self._written = time.monotonic()

    def read(
        self, kind: type[SpinLatticeDynamics]
    ) -> tuple[SpinLatticeDynamics, int, Series] | None:
        """Return driver, equilibration and samples of an earlier run, if there is one.

        Samples that were written after the driver's state are left out.

        Raises
        ------
        ValueError
            If it was another task's.
        """
        if not (self.driver.exists() and self.samples.exists()):
            return None
        with np.load(self.samples) as stored:
            kept = dict(stored)
        if str(kept.pop("task", "")) != self._task:
            raise ValueError(
                f"{self.samples} is of another run: model, structure, temperatures, "
                "q, seed or options differ. Remove it, or name another checkpoint "
                "folder"
            )
        equilibration = int(kept.pop("equilibration"))
        driver = kind.restore(self.driver)
        count = max(0, driver.nsteps - equilibration) // self._interval
        return driver, equilibration, {k: list(v[:count]) for k, v in kept.items()}


def _digest(task: SamplingTask) -> str:
    """Return what tells a task from others but for its length."""
    free = {"steps", "equilibration", "checkpoint"}
    digest = hashlib.sha256()
    for name, value in vars(task).items():
        if name not in free:
            digest.update(name.encode() + _bytes(value))
    return digest.hexdigest()


def _bytes(value: Any) -> bytes:
    """Return nested plain data, arrays, tensors or Atoms as bytes."""
    if isinstance(value, Atoms):
        return _bytes(value.arrays | {"cell": value.cell.array, "pbc": value.pbc})
    if isinstance(value, dict):
        return b"".join(repr(k).encode() + _bytes(value[k]) for k in sorted(value))
    if isinstance(value, list | tuple):
        return b"".join(_bytes(part) + b"," for part in value)
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return str(value.shape).encode() + value.tobytes()
    return repr(value).encode()
