"""Limited-memory BFGS for bands, with separate scales of lattice, spins and cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...optimize._lbfgs_memory import LBFGSMemory

#: No row of the coordinates of an image changes by more than this in one step, A, ...
MAX_STEP = 0.15

#: ... nor by more than this share of its way to the next image, but this much it may:
#: images that overtake each other leave no path.
SHARE, LEAST_LIMIT = 0.5, 0.03

#: A step taken back is never made shorter than this, A.
MIN_STEP = 1e-3

#: The first step per force, A^2/eV.
FIRST = 0.02

#: A step that makes the forces larger than this, in units of those before, is bad.
GROWTH = 3.0

#: Where the curvature is negative, steps grow by at least this factor.
LONGER = 3.0


class BandLBFGS:
    """Steps that lead the forces on a band to zero.

    Forces on a band are no gradient, so there is no energy to go by: a
    step is taken back and shortened where the forces grow too much. Sheppard, Terrell,
    Henkelman, J. Chem. Phys. 128, 134106 (2008), doi:10.1063/1.2841941, found L-BFGS
    of all images together the best optimizer of bands. The first guess of the inverse
    Hessian is one number for each of lattice, spins and cell, from the steps made: sum
    of s.y over sum of y.y in that part.

    Parameters
    ----------
    parts : sequence of slices
        The rows of each part.
    max_step : float
        Largest change of a row of an image in one step, A.
    """

    def __init__(self, parts: Sequence[slice], max_step: float = MAX_STEP) -> None:
        self._parts = parts
        self._max_step = max_step
        self._scales = np.full(len(parts), FIRST)
        self._memory = LBFGSMemory()
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._trust = max_step

    def resume(self) -> None:
        """Restart from any point, with the curvatures found so far."""
        self._last = None

    def next(self, x: np.ndarray, forces: np.ndarray) -> np.ndarray:
        """Return the next point after ``x`` (P - 2, R, 3), A; forces in eV/A."""
        if self._last is not None:
            start, before = self._last
            if self._norm(forces) > GROWTH * self._norm(before):
                self._memory.clear()
                self._trust = max(0.25 * self._trust, MIN_STEP)
                return start + self._limited(0.25 * (x - start))
            self._trust = min(1.5 * self._trust, self._max_step)
            self._update(x - start, before - forces)
        self._last = x.copy(), forces
        return x + self._limited(self._newton(forces))

    def _norm(self, forces: np.ndarray) -> float:
        squares = [np.sum(forces[:, rows] ** 2) for rows in self._parts]
        return float(np.sqrt(np.dot(squares, self._scales)))

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty_like(rows)
        for part, scale in zip(self._parts, self._scales, strict=True):
            out[:, part] = scale * rows[:, part]
        return out

    def _newton(self, forces: np.ndarray) -> np.ndarray:
        """Return the quasi-Newton step, or that of the scales where it leads uphill."""
        step = self._memory.direction(forces, self._scaled)
        if np.sum(step * forces) <= 0.0:
            self._memory.clear()
            return self._scaled(forces)
        return step

    def _limited(self, step: np.ndarray) -> np.ndarray:
        longest = float(np.linalg.norm(step, axis=2).max())
        return step * min(1.0, self._trust / longest) if longest > 0.0 else step

    def _update(self, step: np.ndarray, gradient_change: np.ndarray) -> None:
        if not self._memory.update(step, gradient_change):
            self._memory.clear()
            self._lengthen(step, gradient_change)
            return
        for k, part in enumerate(self._parts):
            pairs = [(s[:, part], y[:, part]) for s, y in self._memory.pairs]
            upper = sum(float(np.sum(s * y)) for s, y in pairs)
            lower = sum(float(np.sum(y * y)) for _, y in pairs)
            if upper > 0.0 and lower > 0.0:
                self._scales[k] = upper / lower

    def _lengthen(self, step: np.ndarray, gradient_change: np.ndarray) -> None:
        """Rescale parts of negative curvature by its size, for longer steps.

        Down a ridge, the length of a step must not depend on the scale of the energy.
        """
        for k, part in enumerate(self._parts):
            s, y = step[:, part], gradient_change[:, part]
            curvature = float(np.sum(s * y))
            if curvature < 0.0:
                newton = -curvature / float(np.sum(y * y))
                self._scales[k] = max(newton, LONGER * self._scales[k])
