"""Memory of limited-memory BFGS: curvature pairs and the two-loop recursion."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

#: Least cosine between a step and its change of the gradient for a curvature that is
#: positive beyond round-off.
_LEAST_COSINE = 1e-8

#: Along a step of negative curvature the next one is at least so many times as long.
_GROWTH = 3.0


class LBFGSMemory:
    """Steps s with their changes y of the gradient, the last ``size`` of them.

    Nocedal, Math. Comput. 35, 773 (1980), doi:10.2307/2006193.

    Parameters
    ----------
    size : int
        Largest number of pairs.

    Attributes
    ----------
    pairs : deque of (s, y)
        Arrays of one shape, the oldest first.
    provisional : bool
        Whether the last one is of :meth:`lengthen`.
    """

    def __init__(self, size: int = 20) -> None:
        self.pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=size)
        self.provisional = False

    def clear(self) -> None:
        """Discard all pairs."""
        self.pairs.clear()
        self.provisional = False

    def update(self, step: np.ndarray, gradient_change: np.ndarray) -> bool:
        """Add a pair if its curvature s.y is positive; return whether it is."""
        curvature = np.sum(step * gradient_change)
        size = np.linalg.norm(step) * np.linalg.norm(gradient_change)
        if curvature <= _LEAST_COSINE * size:
            return False
        self._drop_provisional()
        self.pairs.append((step, gradient_change))
        return True

    def lengthen(
        self, step: np.ndarray, gradient_change: np.ndarray, forces: np.ndarray
    ) -> None:
        """Take a step without positive curvature for the way down.

        Until the next pair, it counts with a positive curvature: the absolute value,
        or what makes the next step along it ``_GROWTH`` times as long, where that is
        less.

        Parameters
        ----------
        step, gradient_change : array
            Of curvature s.y <= 0.
        forces : array
            Minus the gradient at its end.
        """
        self._drop_provisional()
        square = np.sum(step**2)
        curvature = abs(np.sum(step * gradient_change))
        curvature = min(curvature, np.sum(step * forces) / _GROWTH) / square
        if curvature > 0.0:
            self.pairs.append((step, curvature * step))
            self.provisional = True

    def _drop_provisional(self) -> None:
        if self.provisional:
            self.pairs.pop()
            self.provisional = False

    def transport(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replace all pairs, given as (K, 2, ...), by what ``function`` returns."""
        if self.pairs:
            moved = function(np.array(self.pairs))
            self.pairs.clear()
            self.pairs.extend((pair[0], pair[1]) for pair in moved)

    def direction(
        self, forces: np.ndarray, inverse: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Return the quasi-Newton step by the two-loop recursion.

        Parameters
        ----------
        forces : array
            Minus the gradient.
        inverse : callable
            Product of the first approximate inverse Hessian with an array.
        """
        rest, factors = forces.copy(), []
        for s, y in reversed(self.pairs):
            factors.append(np.sum(s * rest) / np.sum(s * y))
            rest -= factors[-1] * y
        step = inverse(rest)
        for (s, y), factor in zip(self.pairs, reversed(factors), strict=True):
            step += s * (factor - np.sum(y * step) / np.sum(s * y))
        return step
