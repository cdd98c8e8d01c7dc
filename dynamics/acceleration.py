"""Faster fixed points: extrapolation in time and secants that outlive a step."""

from __future__ import annotations

from math import comb
from typing import Any

import torch
from torch import Tensor

#: Secants kept.
MEMORY = 40

#: Directions weaker than this, relative to the strongest, are not trusted.
FLOOR = 1e-12


def extrapolate(values: list[Tensor]) -> Tensor:
    """Continue equidistant ``values`` by the polynomial through all of them."""
    order = len(values)
    return sum(
        ((-1) ** k * comb(order, k + 1) * values[-1 - k] for k in range(1, order)),
        start=order * values[-1],
    )


class SecantMemory:
    """Anderson acceleration of x -> x + f(x), whose secants carry over to later calls.

    Works where the response of f to x changes slowly from one problem to the next,
    as in a sequence of time steps.
    """

    def __init__(self) -> None:
        self._changes: list[Tensor] = []
        self._gains: list[Tensor] = []
        self._last: tuple[Tensor, Tensor] | None = None

    def next(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return where to try next, given f at x; tensors of any one shape."""
        self._learn(x, residual)
        self._last = (x, residual)
        if not self._gains:
            return x + residual
        gains = torch.stack([g.flatten() for g in self._gains])
        changes = torch.stack([c.flatten() for c in self._changes])
        values, vectors = torch.linalg.eigh(gains @ gains.T)
        trusted = values > FLOOR * values[-1]
        weights = torch.where(trusted, 1.0 / torch.where(trusted, values, 1.0), 0.0)
        flat = residual.flatten()
        mix = vectors @ (weights * (vectors.T @ (gains @ flat)))
        step = flat - (changes + gains).T @ mix
        return x + step.view_as(x)

    def end_step(self, x: Tensor, residual: Tensor) -> None:
        """Learn from the last evaluation of a problem; the next is another one."""
        self._learn(x, residual)
        self._last = None

    def _learn(self, x: Tensor, residual: Tensor) -> None:
        if self._last is None:
            return
        change, gain = x - self._last[0], residual - self._last[1]
        # Secants of unit length: old ones count as much as recent, tiny ones.
        size = torch.linalg.vector_norm(gain)
        if float(size) > 0.0:
            self._changes = [*self._changes, change / size][-MEMORY:]
            self._gains = [*self._gains, gain / size][-MEMORY:]

    def state(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {"changes": list(self._changes), "gains": list(self._gains)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self._changes = list(state["changes"])
        self._gains = list(state["gains"])
        self._last = None
