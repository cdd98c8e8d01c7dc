"""Accelerated fixed-point iteration: linear prediction and Anderson mixing.

The memory of both, and of the stopping criterion, is kept across time steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

import torch
from torch import Tensor

#: Secants kept. More of them slow down the eigenvalue problem of every call, and old
#: ones describe a response that the model no longer has.
MEMORY = 40

#: Eigenvalues of the secants' Gram matrix below this, relative to the largest, are its
#: round-off: the matrix holds squares, so half of the digits are left.
FLOOR = 1e-12


def extrapolate(values: list[Tensor]) -> Tensor:
    """Extrapolate equidistant ``values`` by the polynomial through all of them."""
    order = len(values)
    return sum(
        ((-1) ** k * comb(order, k + 1) * values[-1 - k] for k in range(1, order)),
        start=order * values[-1],
    )


class LinearPrediction:
    """Linear prediction of a sequence that is a sum of a few oscillations.

    x_n = sum_k a_k x_{n-k}, with one coefficient for all components from a least
    squares fit to the sequence so far (J. Makhoul, Proc. IEEE 63, 561 (1975),
    doi:10.1109/PROC.1975.9792). Where all frequencies are well below the sampling
    rate, as for spins that a time step resolves, the error falls with the order
    faster than that of a polynomial, and noise is not amplified. Polynomials serve
    until the sequence is long enough.

    Parameters
    ----------
    values : sequence of tensors
        The sequence so far.
    """

    #: Number of coefficients.
    ORDER = 16

    #: Equations for each coefficient.
    EQUATIONS = 40

    #: Order of the polynomial at the beginning.
    FIRST_ORDER = 6

    #: Singular values below this, relative to the largest, are round-off.
    FLOOR = 1e-13

    def __init__(self, values: Sequence[Tensor] = ()) -> None:
        self._values = list(values)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._values)

    @property
    def values(self) -> list[Tensor]:
        """The tensors that later predictions need."""
        return list(self._values)

    def append(self, value: Tensor) -> None:
        """Append the next tensor; all have the same shape."""
        kept = self.ORDER + self._windows(value)
        self._values = [*self._values, value][-kept:]

    def _windows(self, value: Tensor) -> int:
        """Return the number of fitted tensors, each from the ORDER before it."""
        windows = -(-self.EQUATIONS * self.ORDER // max(value.numel(), 1))
        return min(windows, self.ORDER)

    def next(self) -> Tensor:
        """Return the predicted next tensor."""
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


class AndersonMixing:
    """Anderson mixing for x -> x + f(x), whose secants carry over to later problems.

    D. G. Anderson, J. ACM 12, 547 (1965), doi:10.1145/321296.321305. Works where the
    response of f to x changes slowly from one problem to the next, as in a sequence
    of time steps. Another result of the evaluation, g(x), is carried to the new x by
    the same secants.

    Parameters
    ----------
    changes, residual_changes, other_changes : sequences of tensors
        Secants of earlier problems: differences of x, f and g.
    """

    def __init__(
        self,
        changes: Sequence[Tensor] = (),
        residual_changes: Sequence[Tensor] = (),
        other_changes: Sequence[Tensor] = (),
    ) -> None:
        self._changes = list(changes)
        self._residual_changes = list(residual_changes)
        self._other_changes = list(other_changes)
        self._last: tuple[Tensor, Tensor, Tensor | None] | None = None

    @property
    def secants(self) -> dict[str, list[Tensor]]:
        """The arguments that continue the mixing in another problem."""
        return {
            "changes": list(self._changes),
            "residual_changes": list(self._residual_changes),
            "other_changes": list(self._other_changes),
        }

    def next(
        self, x: Tensor, residual: Tensor, other: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the next x, and the g expected there.

        Parameters
        ----------
        x, residual : tensors of one shape
            ``residual`` is f(x).
        other : tensor, optional
            g(x), of any shape.
        """
        self._add_secant(x, residual, other)
        self._last = (x, residual, other)
        if not self._residual_changes:
            return x + residual, other
        gains = torch.stack([g.flatten() for g in self._residual_changes])
        changes = torch.stack([c.flatten() for c in self._changes])
        values, vectors = torch.linalg.eigh(gains @ gains.T)
        trusted = values > FLOOR * values[-1]
        weights = torch.where(trusted, 1.0 / torch.where(trusted, values, 1.0), 0.0)
        flat = residual.flatten()
        mix = vectors @ (weights * (vectors.T @ (gains @ flat)))
        step = flat - (changes + gains).T @ mix
        if other is not None:
            others = torch.stack([o.flatten() for o in self._other_changes])
            other = other - (others.T @ mix).view_as(other)
        return x + step.view_as(x), other

    def skip_secant(self) -> None:
        """Take no secant between the last evaluation and the next."""
        self._last = None

    def _add_secant(self, x: Tensor, residual: Tensor, other: Tensor | None) -> None:
        """Keep the differences to the last evaluation of this problem."""
        if self._last is None:
            return
        change, gain = x - self._last[0], residual - self._last[1]
        # Secants of unit length: old ones count as much as recent, tiny ones.
        size = torch.linalg.vector_norm(gain)
        size = torch.where(size > 0.0, size, 1.0)
        self._changes = [*self._changes, change / size][-MEMORY:]
        self._residual_changes = [*self._residual_changes, gain / size][-MEMORY:]
        if other is not None and self._last[2] is not None:
            moved = (other - self._last[2]) / size
            self._other_changes = [*self._other_changes, moved][-MEMORY:]


class StoppingCriterion:
    """Stopping criterion of a fixed-point iteration.

    A correction leaves an error of its size times ``contraction``, the largest
    ratio of recent consecutive corrections. Every tenth problem that would end with
    its first correction makes a second one to measure the ratio.

    Parameters
    ----------
    tolerance : float
        Of the remaining error.
    contraction, round_off : float
        Measured in earlier problems: the ratio, and the largest correction that was
        round-off.
    unchecked : int
        Problems since the ratio was measured.
    """

    #: Factor by which the expected error must be smaller than the tolerance.
    SAFETY = 10.0

    #: Decay per measurement of a large ratio.
    DECAY = 0.7

    #: Problems after which the ratio is measured again.
    CHECK = 10

    #: The largest correction that may be the last: f is not quite linear.
    LARGEST = 1e-6

    #: Corrections below this may be a float32 model's round-off.
    ROUND_OFF = 1e-5

    def __init__(
        self,
        tolerance: float,
        contraction: float = 1.0,
        round_off: float = 0.0,
        unchecked: int = 0,
    ) -> None:
        self.tolerance = tolerance
        self._contraction = contraction
        self._round_off = round_off
        self._unchecked = unchecked
        self._last: float | None = None
        self._smallest, self._idle = float("inf"), 0

    @property
    def measured(self) -> dict[str, Any]:
        """The arguments, besides the tolerance, for the next problem."""
        return {
            "contraction": self._contraction,
            "round_off": self._round_off,
            "unchecked": self._unchecked,
        }

    @property
    def above_round_off(self) -> bool:
        """Whether the last correction was more than round-off."""
        return self._last is None or self._last > 10.0 * self._round_off

    def is_met(self, size: float) -> bool:
        """Return whether a correction of this size is the last that is needed."""
        first = self._last is None
        if self._last:
            ratio = max(self.DECAY * self._contraction, size / self._last)
            self._contraction = min(ratio, 1.0)
            self._unchecked = 0
        self._last = size
        # Corrections shrink until the round-off of f is reached.
        self._idle = self._idle + 1 if size > 0.5 * self._smallest else 0
        self._smallest = min(size, self._smallest)
        if self._idle >= 2 and size < self.ROUND_OFF:
            self._round_off = max(self._round_off, size)
            return True
        if size <= self.tolerance:
            return True
        if first:
            self._unchecked += 1
        due = first and self._unchecked > self.CHECK
        left = self.SAFETY * self._contraction * size
        return size < self.LARGEST and left <= self.tolerance and not due
