"""Preconditioned Riemannian L-BFGS with backtracking, one model call at a time."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import CalculationFailed

from .._rotations import rotate
from ._defaults import ROTATION_MAX
from ._filter import SpinLatticeFilter
from ._lbfgs_memory import LBFGSMemory
from ._preconditioner import Preconditioner

#: Largest steps: of an atom, A; of a moment, rad, or of ln of its length; of a strain.
_LIMITS = {"positions": 0.2, "spins": 0.3, "magnitudes": 0.1, "cell": 0.04}

#: Share of them that the first step may be, before any curvature is known.
_FIRST = 0.5

#: Common rotation of moments that look settled, by which its curvature is found, rad.
_PROBE = 1e-3

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
    shrink. Its curvature counts in both cases. Where the curvature is not positive,
    as on a ridge, the next step is several times as long: how many steps it takes
    does not depend on the scale of the energy.

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
    history : list of dict
        ``energy`` (eV) and the filter's residuals at the accepted points.
    """

    def __init__(self, coordinates: SpinLatticeFilter) -> None:
        self.filter = coordinates
        self.n_calls = self.n_steps = 0
        self.history: list[dict[str, float]] = []
        self.stuck = False
        self._preconditioner = Preconditioner(coordinates)
        self._memory = LBFGSMemory()
        self._shares = dict.fromkeys(_LIMITS, _FIRST)
        self._x: np.ndarray | None = None
        self._newton: np.ndarray | None = None
        self._probed = False
        self._probe: np.ndarray | None = None
        self._taken_back = 0

    def begin(self) -> None:
        """Start or resume at the present structure."""
        x = self.filter.get_positions()
        if self._x is None or not np.array_equal(x, self._x):
            self._memory.clear()
            self.n_calls += 1
        elif self.history:
            self.history.pop()  # it is taken once more
        self.stuck = False
        self._taken_back = 0
        self._take()

    def _take(self) -> None:
        """Make the present structure the point to step from."""
        self.filter.recenter()
        self._x = self.filter.get_positions()
        self.energy = self.filter.get_potential_energy()
        self._forces = self.filter.get_forces()
        self._newton = None
        _check_finite(self.energy, self._forces)
        self.history.append({"energy": self.energy, **self.filter.residuals()})

    def converged(self, fmax: float) -> bool:
        """Return whether the filter's thresholds are met, and the moments settled.

        The latter where the filter was given no threshold for torques: a torque is
        large or small only next to the curvature of the energy. Moments are settled
        where the next step would rotate none of them by more than ``ROTATION_MAX``,
        or where round-off ends the descent. A common rotation of all moments, which
        may be softer than anything that was met so far, is tried before, until its
        curvature is positive.
        """
        if not self.filter.converged(fmax):
            return False
        explicit = self.filter.torque_max is not None
        if explicit or self.stuck or self.filter.torques_vanish():
            return True
        if self.n_steps == 0 or self._memory.provisional:
            return False
        sizes = self._sizes(self._direction())
        rotations = [sizes[k] for k in ("spins", "magnitudes") if k in sizes]
        if any(size.max() > ROTATION_MAX for size in rotations):
            return False
        self._probe = None if self._probed else self.filter.common_rotation(_PROBE)
        return self._probe is None

    def _direction(self) -> np.ndarray:
        """Return the quasi-Newton step at full length."""
        if self._newton is None:
            inverse = self._preconditioner.solve
            self._newton = self._memory.direction(self._forces, inverse)
            if np.sum(self._limited(self._newton) * self._forces) <= 0.0:
                self._memory.clear()
                self._newton = inverse(self._forces)
        return self._newton

    def propose(self) -> None:
        """Move the structure by a step that has yet to be evaluated."""
        assert self._x is not None
        step = self._limited(self._direction()) if self._probe is None else self._probe
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
        gradient_change = self._transported(forces, step) - end
        if self._probe is not None:
            self._probe = None
            self._probed = bool(np.sum(step * gradient_change) > 0.0)
        if finite:
            self._preconditioner.update(step, gradient_change)
        if not fine:
            self._take_back(x)
            if finite and self._taken_back == 1:
                self._memory.update(step, self._transported(gradient_change, -step))
            return False
        self._memory.transport(lambda pairs: self._transported(pairs, step))
        if not self._memory.update(step, gradient_change):
            self._memory.lengthen(step, gradient_change, end)
        self._widen()
        self._take()
        self._taken_back = 0
        self.n_steps += 1
        return True

    def _take_back(self, x: np.ndarray) -> None:
        self.filter.set_positions(x)
        self.filter.recenter()
        self._newton = None
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
        """Return the step with each atom, moment and strain within its limit.

        Where a step was taken back, all of a kind are shortened alike: the direction of
        a narrow valley is that of all of them together.
        """
        step = step.copy()
        for name, size in self._sizes(step).items():
            limit = self._shares[name] * _LIMITS[name]
            if self._shares[name] < _FIRST:
                size = np.full_like(size, size.max(initial=0.0))
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

    def _transported(self, rows: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return (..., rows, 3) parallel-transported along a step (rows, 3)."""
        if "spins" not in self.filter.blocks:
            return rows
        block = self.filter.blocks["spins"]
        rows = rows.copy()
        rotations = step[block] / self.filter.spin_scale
        rows[..., block, :] = rotate(rows[..., block, :], rotations)
        return rows


def _check_finite(energy: float, forces: np.ndarray) -> None:
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise CalculationFailed(
            "energy, forces, stress or magnetic forces are not finite; the structure "
            "may be far outside the model's range"
        )
