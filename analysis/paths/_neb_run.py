"""Limited-memory BFGS for bands, with scales of lattice, spins and cell apart."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..._progress import bar

if TYPE_CHECKING:
    from ._neb import SpinLatticeNEB

logger = logging.getLogger(__name__)

#: Steps and changes of the forces from which curvatures are estimated.
MEMORY = 20

#: No row of the coordinates of an image changes by more than this in one step, A.
MAX_STEP = 0.15

#: A step taken back is never made shorter than this, A.
MIN_STEP = 1e-3

#: The step before anything is known, per force, A^2/eV.
FIRST = 0.02

#: A band is written to its file every so many steps.
SAVE_EVERY = 10

#: A step that makes the forces larger than this, in units of those before, is bad.
GROWTH = 3.0


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
    """

    def __init__(self, parts: Sequence[slice]) -> None:
        self._parts = parts
        self._scales = np.full(len(parts), FIRST)
        self._history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=MEMORY)
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._trust = MAX_STEP

    def resume(self) -> None:
        """Start again from anywhere, with what is known of curvatures."""
        self._last = None

    def next(self, x: np.ndarray, forces: np.ndarray) -> np.ndarray:
        """Return where to go from ``x`` (P - 2, R, 3), A, by the forces there, eV/A."""
        if self._last is not None:
            start, before = self._last
            if self._norm(forces) > GROWTH * self._norm(before):
                self._history.clear()
                self._trust = max(0.25 * self._trust, MIN_STEP)
                return start + self._limited(0.25 * (x - start))
            self._trust = min(1.5 * self._trust, MAX_STEP)
            self._learn(x - start, before - forces)
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
        """Return the two-loop recursion's step."""
        step = forces.copy()
        factors = []
        for change, gain in reversed(self._history):
            factors.append(np.sum(change * step) / np.sum(change * gain))
            step -= factors[-1] * gain
        step = self._scaled(step)
        for (change, gain), factor in zip(
            self._history, reversed(factors), strict=True
        ):
            step += change * (factor - np.sum(gain * step) / np.sum(change * gain))
        if np.sum(step * forces) <= 0.0:
            self._history.clear()
            return self._scaled(forces)
        return step

    def _limited(self, step: np.ndarray) -> np.ndarray:
        longest = float(np.linalg.norm(step, axis=2).max())
        return step * min(1.0, self._trust / longest) if longest > 0.0 else step

    def _learn(self, step: np.ndarray, gain: np.ndarray) -> None:
        if np.sum(step * gain) <= 1e-8 * np.linalg.norm(step) * np.linalg.norm(gain):
            self._history.clear()
            return
        self._history.append((step, gain))
        for k, part in enumerate(self._parts):
            pairs = [(s[:, part], y[:, part]) for s, y in self._history]
            upper = sum(float(np.sum(s * y)) for s, y in pairs)
            lower = sum(float(np.sum(y * y)) for _, y in pairs)
            if upper > 0.0 and lower > 0.0:
                self._scales[k] = upper / lower


def run_band(
    neb: SpinLatticeNEB,
    optimizer: BandLBFGS,
    *,
    fmax: float,
    steps: int,
    output: str | os.PathLike[str] | None = None,
) -> bool:
    """Do what :meth:`.neb.SpinLatticeNEB.run` says."""
    optimizer.resume()
    with bar(total=steps, desc="band", unit="step") as progress:
        for step in range(steps + 1):
            forces = neb.get_forces()
            largest = {k: f"{x:.1e}" for k, x in neb.residuals(forces).items()}
            top = 1e3 * (neb.get_value() - neb.energies[0])
            progress.set_postfix({"top_meV": f"{top:.3f}", **largest})
            logger.info("step %d: top %.3f meV, %s", step, top, largest)
            converged = neb.converged(-forces.ravel(), fmax)
            last = converged or step == steps
            if output is not None and (last or step % SAVE_EVERY == 0):
                neb.write(output)
            if last:
                break
            x = neb.get_x().reshape(forces.shape)
            neb.set_x(optimizer.next(x, forces))
            progress.update()
    return converged
