"""Preconditioned Riemannian L-BFGS with backtracking, one model call at a time."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import CalculationFailed

from .._rotations import rotate
from ._filter import SpinLatticeFilter
from ._lbfgs_memory import LBFGSMemory
from ._preconditioner import Preconditioner

#: Largest steps: of an atom, A; of a moment, rad, or of ln of its length; of a strain.
_LIMITS = {"positions": 0.2, "spins": 0.3, "magnitudes": 0.1, "cell": 0.04}

#: Share of them that the first step may be, before any curvature is known.
_FIRST = 0.5

#: Share of the expected decrease of the energy that a step must bring (Armijo).
_DECREASE = 1e-4

#: Relative round-off of an energy. Within it, the slope at the end decides.
_ROUND_OFF = 1e-7

#: Steps taken back in a row after which the descent gives up.
_GIVE_UP = 12


class Descent:
    """Minimise the energy over the coordinates of a filter.

    L-BFGS with a ``Preconditioner`` for the first inverse
    Hessian. Moments move along great circles, and the L-BFGS history is
    parallel-transported (Huang, Gallivan, Absil, SIAM J. Optim. 25, 1660 (2015),
    doi:10.1137/140955483). A step is
    the full quasi-Newton step unless it is longer than a limit for each atom, moment
    and strain; one that does not lower the energy is taken back, and the limits
    shrink.

    The model calls are left to the caller, who may make those of many descents at
    once: :meth:`begin` at an evaluated structure, then :meth:`propose`, evaluate,
    :meth:`accept`, and so on.

    Attributes
    ----------
    filter : SpinLatticeFilter
    energy : float
        eV, at the last accepted point.
    n_calls, n_steps : int
        Points evaluated so far (the first one included), and steps accepted.
    stuck : bool
        No step lowers the energy any more.
    """

    def __init__(self, coordinates: SpinLatticeFilter) -> None:
        self.filter = coordinates
        self.n_calls = self.n_steps = 0
        self.stuck = False
        self._preconditioner = Preconditioner(coordinates)
        self._memory = LBFGSMemory()
        self._shares = dict.fromkeys(_LIMITS, _FIRST)
        self._x: np.ndarray | None = None
        self._taken_back = 0

    def begin(self) -> None:
        """Start or resume at the present structure."""
        x = self.filter.get_positions()
        if self._x is None or not np.array_equal(x, self._x):
            self._memory.clear()
            self.n_calls += 1
        self.stuck = False
        self._taken_back = 0
        self._take()

    def _take(self) -> None:
        """Make the present structure the point to step from."""
        self.filter.recenter()
        self._x = self.filter.get_positions()
        self.energy = self.filter.get_potential_energy()
        self._forces = self.filter.get_forces()
        _check_finite(self.energy, self._forces)

    def propose(self) -> None:
        """Move the structure by a step that has yet to be evaluated."""
        assert self._x is not None
        inverse = self._preconditioner.solve
        step = self._limited(self._memory.direction(self._forces, inverse))
        if np.sum(step * self._forces) <= 0.0:
            self._memory.clear()
            step = self._limited(inverse(self._forces))
        self.filter.set_positions(self._x + step)
        self._step = self.filter.get_positions() - self._x

    def accept(self) -> bool:
        """Accept the evaluated step, or take it back; return whether it is accepted.

        By the decrease of the energy (Armijo), or, where that is round-off, by the
        slope at the end (Hager, Zhang, SIAM J. Optim. 16, 170 (2005),
        doi:10.1137/030601880).
        """
        assert self._x is not None
        step = self._step
        self.n_calls += 1
        x, before, forces = self._x, self.energy, self._forces
        self.filter.recenter()
        try:
            energy = self.filter.get_potential_energy()
            end = self.filter.get_forces()
        except CalculationFailed:
            energy, end = np.nan, np.full_like(forces, np.nan)
        finite = bool(np.isfinite(energy) and np.isfinite(end).all())
        slope = float(np.sum(step * forces))
        fine = finite and (
            energy <= before - _DECREASE * slope
            or (
                energy <= before + _ROUND_OFF * abs(before)
                and np.sum(step * end) > -(1.0 - 2.0 * _DECREASE) * slope
            )
        )
        gradient_change = self._transported(forces) - end
        if finite:
            self._preconditioner.update(step, gradient_change)
        if not fine:
            self._take_back(x)
            return False
        self._memory.transport(self._transported)
        self._memory.update(step, gradient_change)
        self._widen()
        self._take()
        self._taken_back = 0
        self.n_steps += 1
        return True

    def _take_back(self, x: np.ndarray) -> None:
        self.filter.set_positions(x)
        self.filter.recenter()
        self._taken_back += 1
        self.stuck = self._taken_back >= _GIVE_UP
        if self._taken_back > 1:
            self._memory.clear()
        for name, size in self._sizes(self._step).items():
            self._shares[name] = 0.3 * size.max(initial=0.0) / _LIMITS[name] + 1e-9

    def _widen(self) -> None:
        for name in self._shares:
            self._shares[name] = min(1.0, 3.0 * self._shares[name])

    def _limited(self, step: np.ndarray) -> np.ndarray:
        """Return the step with each atom, moment and strain within its limit."""
        step = step.copy()
        for name, size in self._sizes(step).items():
            limit = self._shares[name] * _LIMITS[name]
            factor = np.minimum(1.0, limit / np.maximum(size, 1e-300))
            step[self.filter.blocks[name]] *= factor[:, None]
        return step

    def _sizes(self, step: np.ndarray) -> dict[str, np.ndarray]:
        """Return the lengths of the steps of atoms, moments and strain, by part."""
        scales = {"positions": 1.0, "cell": self.filter.cell_scale}
        sizes = {}
        for name, block in self.filter.blocks.items():
            size = np.linalg.norm(step[block], axis=1)
            if name == "cell":
                size = np.full(3, size.max())
            sizes[name] = size / scales.get(name, self.filter.spin_scale)
        return sizes

    def _transported(self, rows: np.ndarray) -> np.ndarray:
        """Return (..., rows, 3) parallel-transported along the step."""
        if "spins" not in self.filter.blocks:
            return rows
        block = self.filter.blocks["spins"]
        rows = rows.copy()
        rotations = self._step[block] / self.filter.spin_scale
        rows[..., block, :] = rotate(rows[..., block, :], rotations)
        return rows


def _check_finite(energy: float, forces: np.ndarray) -> None:
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise CalculationFailed(
            "energy, forces, stress or magnetic forces are not finite; the structure "
            "may be far outside the model's range"
        )
