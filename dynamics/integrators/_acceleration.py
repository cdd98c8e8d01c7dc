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


class LinearPrediction:
    """Continues a sequence of tensors as the sum of few oscillations that it is.

    x_n = sum_k a_k x_{n-k}, one coefficient for all components, which least squares
    takes from the sequence so far (J. Makhoul, Proc. IEEE 63, 561 (1975),
    doi:10.1109/PROC.1975.9792). Where all frequencies are well below the sampling
    rate, as for spins that a time step resolves, the error falls with the order
    faster than that of a polynomial, and noise is not amplified. Polynomials serve
    until the sequence is long enough.
    """

    #: Number of coefficients.
    ORDER = 16

    #: Equations for each coefficient.
    EQUATIONS = 40

    #: Order of the polynomial at the beginning.
    FIRST_ORDER = 6

    #: Singular values below this, relative to the largest, are round-off.
    FLOOR = 1e-13

    def __init__(self) -> None:
        self._values: list[Tensor] = []

    def __len__(self) -> int:
        """Return how many tensors there are."""
        return len(self._values)

    def append(self, value: Tensor) -> None:
        """Take up the next tensor; all have one shape."""
        kept = self.ORDER + self._windows(value)
        self._values = [*self._values, value][-kept:]

    def _windows(self, value: Tensor) -> int:
        """Return how many tensors are fitted, each from the ORDER before it."""
        windows = -(-self.EQUATIONS * self.ORDER // max(value.numel(), 1))
        return min(windows, self.ORDER)

    def next(self) -> Tensor:
        """Return where the sequence goes."""
        windows = self._windows(self._values[-1])
        if len(self._values) < self.ORDER + windows:
            return extrapolate(self._values[-self.FIRST_ORDER :])
        rows = torch.stack([value.flatten() for value in self._values])
        earlier = torch.cat(
            [rows[k : k + self.ORDER].T for k in range(windows)]
        )  # (windows * size, ORDER)
        q, r = torch.linalg.qr(earlier)
        u, values, v = torch.linalg.svd(r)
        trusted = values > self.FLOOR * values[0]
        inverse = torch.where(trusted, 1.0 / torch.where(trusted, values, 1.0), 0.0)
        projected = u.T @ (q.T @ rows[self.ORDER :].flatten())
        coefficients = v.T @ (inverse * projected)
        return (coefficients @ rows[-self.ORDER :]).view_as(self._values[-1])

    def state(self) -> list[Tensor]:
        """Return what a restart needs."""
        return list(self._values)

    def restore(self, state: list[Tensor]) -> None:
        """Take up what :meth:`state` returned."""
        self._values = list(state)


class SecantMemory:
    """Anderson acceleration of x -> x + f(x), whose secants carry over to later calls.

    Works where the response of f to x changes slowly from one problem to the next,
    as in a sequence of time steps. What else an evaluation gives, g(x), is brought
    to the new x by the same secants.
    """

    def __init__(self) -> None:
        self._changes: list[Tensor] = []
        self._gains: list[Tensor] = []
        self._others: list[Tensor] = []
        self._last: tuple[Tensor, Tensor, Tensor | None] | None = None

    def next(
        self, x: Tensor, residual: Tensor, other: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return where to try next, and what g should be there.

        Parameters
        ----------
        x, residual : tensors of one shape
            ``residual`` is f(x).
        other : tensor, optional
            g(x), of any shape.
        """
        self.learn(x, residual, other)
        self._last = (x, residual, other)
        if not self._gains:
            return x + residual, other
        gains = torch.stack([g.flatten() for g in self._gains])
        changes = torch.stack([c.flatten() for c in self._changes])
        values, vectors = torch.linalg.eigh(gains @ gains.T)
        trusted = values > FLOOR * values[-1]
        weights = torch.where(trusted, 1.0 / torch.where(trusted, values, 1.0), 0.0)
        flat = residual.flatten()
        mix = vectors @ (weights * (vectors.T @ (gains @ flat)))
        step = flat - (changes + gains).T @ mix
        if other is not None:
            others = torch.stack([o.flatten() for o in self._others])
            other = other - (others.T @ mix).view_as(other)
        return x + step.view_as(x), other

    def end_step(self) -> None:
        """Go on to another problem."""
        self._last = None

    def learn(self, x: Tensor, residual: Tensor, other: Tensor | None = None) -> None:
        """Keep how f and g changed since the last evaluation of this problem."""
        if self._last is None:
            return
        change, gain = x - self._last[0], residual - self._last[1]
        # Secants of unit length: old ones count as much as recent, tiny ones.
        size = torch.linalg.vector_norm(gain)
        size = torch.where(size > 0.0, size, 1.0)
        self._changes = [*self._changes, change / size][-MEMORY:]
        self._gains = [*self._gains, gain / size][-MEMORY:]
        if other is not None and self._last[2] is not None:
            moved = (other - self._last[2]) / size
            self._others = [*self._others, moved][-MEMORY:]

    def state(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {
            "changes": list(self._changes),
            "gains": list(self._gains),
            "others": list(self._others),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self._changes = list(state["changes"])
        self._gains = list(state["gains"])
        self._others = list(state["others"])
        self._last = None


class Control:
    """Tells which correction of an iteration is the last that is needed.

    A correction leaves an error of its own size times ``gain``, the largest ratio of
    consecutive corrections of late. That is checked now and then by one more.

    Parameters
    ----------
    tolerance : float
        Of the error that is left.
    """

    #: By how much errors must be expected to be smaller than the tolerance.
    SAFETY = 10.0

    #: How fast a bad gain is forgotten.
    DECAY = 0.7

    #: Problems after which a forecast is checked.
    CHECK = 10

    #: The largest correction that may be the last: f is not quite linear.
    LARGEST = 1e-6

    #: Corrections below this may be a float32 model's round-off.
    ROUND_OFF = 1e-5

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self._gain = 1.0
        self._unchecked = 0
        self._floor = 0.0
        self.begin()

    @property
    def teaches(self) -> bool:
        """Whether the last correction was more than round-off."""
        return self._last is None or self._last > 10.0 * self._floor

    def begin(self) -> None:
        """Begin another problem."""
        self._last: float | None = None
        self._smallest, self._idle = float("inf"), 0

    def solved(self, size: float) -> bool:
        """Return whether a correction of this size is the last that is needed."""
        first = self._last is None
        if self._last:
            self._gain = min(max(self.DECAY * self._gain, size / self._last), 1.0)
            self._unchecked = 0
        self._last = size
        # Corrections shrink until the round-off of f is reached.
        self._idle = self._idle + 1 if size > 0.5 * self._smallest else 0
        self._smallest = min(size, self._smallest)
        if self._idle >= 2 and size < self.ROUND_OFF:
            self._floor = max(self._floor, size)
            return True
        if size <= self.tolerance:
            return True
        if first:
            self._unchecked += 1
        due = first and self._unchecked > self.CHECK
        left = self.SAFETY * self._gain * size
        return size < self.LARGEST and left <= self.tolerance and not due

    def state(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {
            "gain": self._gain,
            "unchecked": self._unchecked,
            "floor": self._floor,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self._gain, self._unchecked = state["gain"], state["unchecked"]
        self._floor = state["floor"]
        self.begin()
