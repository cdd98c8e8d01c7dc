"""Seeded, restartable sampling of training frames and of rotations of their moments."""

from __future__ import annotations

import json

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor


class FrameSampler:
    """Draws batches from random permutations of the frames.

    Every process draws the same global batch and takes its own share, so that
    the state is the same everywhere.
    """

    def __init__(self, n_frames: int, batch_size: int, *, seed: int) -> None:
        self.n_frames = n_frames
        self.batch_size = batch_size
        self._rng = np.random.default_rng(seed)
        self._queue: list[int] = []

    def draw(self, rank: int, world: int) -> list[int]:
        """Return this process's frames of the next batch."""
        needed = self.batch_size * world
        while len(self._queue) < needed:
            self._queue.extend(self._rng.permutation(self.n_frames).tolist())
        batch, self._queue = self._queue[:needed], self._queue[needed:]
        return batch[rank * self.batch_size : (rank + 1) * self.batch_size]

    def rotations(
        self, rank: int, world: int, *, rotate: bool, reverse: bool
    ) -> Tensor | None:
        """Return random rotations of all moments (batch_size, 3, 3), or None.

        ``rotate`` draws proper rotations, uniform over all of them;
        ``reverse`` a sign.
        """
        if not (rotate or reverse):
            return None
        n = self.batch_size * world
        matrices = np.broadcast_to(np.eye(3), (n, 3, 3))
        if rotate:
            matrices = Rotation.random(n, self._rng).as_matrix()
        if reverse:
            matrices = matrices * self._rng.choice([-1.0, 1.0], size=(n, 1, 1))
        own = slice(rank * self.batch_size, (rank + 1) * self.batch_size)
        return torch.tensor(matrices[own])

    def state(self) -> str:
        """Return the state as text."""
        return json.dumps(
            {"generator": self._rng.bit_generator.state, "queue": self._queue}
        )

    def restore(self, state: str) -> None:
        """Restore the state returned by :meth:`state`."""
        values = json.loads(state)
        self._rng.bit_generator.state = values["generator"]
        self._queue = values["queue"]
