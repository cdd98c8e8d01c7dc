"""Mode following: climbing to saddle points along modes of negative curvature."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ...optimize._defaults import ROTATION_MAX, TIGHT_TORQUE_MAX
from ...spins import set_spins
from ..hessians._joint_hessian import JointHessian

logger = logging.getLogger(__name__)

#: Lowest modes that are followed; more than one, for crossings are common.
BLOCK = 4

#: A curvature is taken for negative where it is below this fraction of the stiffness of
#: the softest kind of coordinates: what slides easily is not followed.
CONVEX = 1e-3

#: A mode is taken for another one, or a part of several, from this overlap on.
ALIKE = 0.5

#: Trust radii, A: the largest step of any one atom or moment, first and smallest.
FIRST_RADIUS, SMALLEST_RADIUS = 0.05, 5e-3


class ModeFollowing:
    """A search for a saddle point, step by step.

    Parameters
    ----------
    atoms : Atoms
        Changed in place.
    options : dict
        Of the JointHessian.
    largest_step : float
        Of an atom, A, or a moment, rad times the spin scale.

    Attributes
    ----------
    hessian : JointHessian
        At the present place.
    modes : (D, n) array or None
        Lowest modes there.
    direction : (D,) array or None
        Where to climb, of length 1, and ...
    curvature : float, eV/A^2
        ... its curvature.
    others : (D, n) array
        More modes of negative curvature: ways down.
    sliding : (D, n) array
        Modes along which the minimum left by a kick slides at no cost, such as the
        displacement of a wall. Away from the minimum their curvatures may have any
        sign; they are neither followed nor in the way.
    n_steps, n_calls : int
        Steps, and evaluations of the gradient.
    """

    def __init__(
        self, atoms: Atoms, options: dict[str, Any], largest_step: float
    ) -> None:
        self.atoms, self.options = atoms, options
        self.largest_step = largest_step
        self._radius = min(FIRST_RADIUS, largest_step)
        self.modes: np.ndarray | None = None
        self.direction: np.ndarray | None = None
        self.n_steps = self.n_calls = self._n_products = 0
        self.hessian = self._here()
        self.sliding = np.zeros((self.hessian.shape[0], 0))

    def _here(self) -> JointHessian:
        self.n_calls += 1
        return JointHessian(self.atoms, **self.options)

    @property
    def n_products(self) -> int:
        """Number of products of a Hessian with a direction."""
        return self._n_products + self.hessian.n_products

    def read(self, direction: tuple[ArrayLike | None, ArrayLike | None]) -> np.ndarray:
        """Return a direction (displacements, rotations) as a unit vector (D,)."""
        shape = (len(self.atoms), 3)
        try:
            parts = [
                np.zeros(shape) if x is None else np.asarray(x, dtype=float)
                for x in direction
            ]
        except (TypeError, ValueError):
            parts = []
        if len(parts) != 2 or any(x.shape != shape for x in parts):
            raise ValueError(
                f"direction must be (displacements, rotations), both {shape} or None; "
                f"got {direction!r}"
            )
        q = self.hessian.space.from_rotations(*parts)
        length = np.linalg.norm(q)
        if not (np.isfinite(length) and length > 0):
            raise ValueError("the direction moves nothing that is free")
        return q / length

    def kick(
        self,
        direction: tuple[ArrayLike | None, ArrayLike | None] | None,
        length: float,
        rng: np.random.Generator,
    ) -> None:
        """Move along a direction, or at random, but not where the minimum slides.

        Unless the direction is one in which it does.
        """
        hessian = self.hessian
        values, modes = hessian.lowest(BLOCK)
        sliding = modes[:, abs(values) < CONVEX * hessian.stiffness.min()]
        if direction is None:
            soft = hessian.stiffness**-0.5
            q = hessian.zero_modes.removed(soft * rng.normal(size=len(soft)))
            q -= sliding @ (sliding.T @ q)
        else:
            q = self.read(direction)
        if np.linalg.norm(sliding.T @ q) < ALIKE * np.linalg.norm(q):
            self.sliding = sliding
        self.direction = q / np.linalg.norm(q)
        self._accept(q, self._moved(q * (length / self._largest_row(q))))

    def _largest_row(self, q: np.ndarray) -> float:
        """Return the largest move of an atom or moment, A."""
        space = self.hessian.space
        rows = np.stack(
            [space.directions(q)[0], space.spin_scale * space.rotation_vectors(q)]
        )
        return float(np.linalg.norm(rows, axis=-1).max())

    def _moved(self, q: np.ndarray) -> JointHessian:
        """Move the atoms along q and return the Hessian there."""
        self.atoms.positions[:], spins = self.hessian.space.moved(q)
        if self.options["spins"]:
            set_spins(self.atoms, spins)
        return self._here()

    def _accept(self, q: np.ndarray, there: JointHessian) -> None:
        space = self.hessian.space
        if self.modes is not None:
            self.modes = space.carried(self.modes.T, q, there.space).T
        self.sliding = space.carried(self.sliding.T, q, there.space).T
        if self.direction is not None:
            self.direction = space.carried(self.direction, q, there.space)
        self._n_products += self.hessian.n_products
        self.hessian = there

    def follow(self) -> None:
        """Find the lowest modes, and choose where to climb.

        Along a mode of negative curvature: the one most like the last direction.
        Where the energy is convex, along the mode most like it (eigenvector
        following), or if none is, on in that direction (activation-relaxation).
        Sliding modes do not count.
        """
        hessian = self.hessian
        values, self.modes = hessian.lowest(
            BLOCK + self.sliding.shape[1],
            start=self.modes,
            tolerance=5e-2,
            iterations=15,
        )
        slides = np.linalg.norm(self.sliding.T @ self.modes, axis=0) > ALIKE
        if slides.sum() == self.sliding.shape[1]:
            self.sliding = self.modes[:, slides]
        last = self.direction
        if last is None:  # uphill
            last = self.modes[:, 0] * np.sign(
                self.modes[:, 0] @ hessian.gradient or 1.0
            )
        alike = abs(self.modes.T @ last)
        alike[slides] = 0.0
        clearly = ~slides & (values < -CONVEX * hessian.stiffness.min())
        eligible = ~slides & (values < 0.0) & (clearly | (alike > ALIKE))
        if eligible.any() or alike.max() > ALIKE:
            choice = np.where(eligible, alike, 0.0) if eligible.any() else alike
            chosen = int(np.argmax(choice))
            mode, self.curvature = self.modes[:, chosen], values[chosen]
            self.direction = mode if mode @ last >= 0 else -mode
            clearly[chosen] = False
        else:
            last = hessian.zero_modes.removed(last)
            last = last - self.sliding @ (self.sliding.T @ last)
            self.direction = last / np.linalg.norm(last)
            self.curvature = self.direction @ (hessian @ self.direction)
        self.others = self.modes[:, clearly]
        logger.info(
            "step %d: energy %.6f eV, force %.2e eV/A, torque %.2e eV, "
            "curvature %.3e eV/A^2",
            self.n_steps,
            hessian.energy,
            hessian.force,
            hessian.torque,
            self.curvature,
        )

    def converged(self, fmax: float, torque_max: float | None) -> bool:
        """Whether this is a saddle point; a minimum to start from is an error."""
        if not self.stationary(fmax, torque_max):
            return False
        if self.curvature > 0 and self.n_calls == 1:
            raise ValueError(
                "the search starts at a minimum: give a kick, such as kick=0.2"
            )
        return bool(self.curvature < 0) and self.others.shape[1] == 0

    def stationary(self, fmax: float, torque_max: float | None) -> bool:
        """Whether forces and torques are small.

        At a saddle point, without a threshold for torques, the Newton step must not
        rotate a moment by more than ``ROTATION_MAX`` either.
        """
        hessian = self.hessian
        limit = TIGHT_TORQUE_MAX if torque_max is None else torque_max
        if hessian.force > fmax or hessian.torque > limit:
            return False
        if torque_max is not None or self.curvature > 0.0:
            return True
        rotations = hessian.space.rotation_vectors(self._choose())
        return bool(np.linalg.norm(rotations, axis=1).max() <= ROTATION_MAX)

    def step(self) -> None:
        """Take a step.

        The trust radius follows the error of the gradient change that the Hessian
        predicts; the shortest steps are taken in any case, over kinks of the energy.
        """
        here = self.hessian
        while True:
            q = self._choose()
            length = self._largest_row(q)
            expected = here @ q
            there = self._moved(q)
            back = -here.space.carried(q, q, there.space)
            gradient = there.space.carried(there.gradient, back, here.space)
            error = np.linalg.norm(gradient - here.gradient - expected)
            error /= max(np.linalg.norm(expected), np.finfo(float).tiny)
            if error < 1.0 or length < 1.01 * SMALLEST_RADIUS:
                break
            self._n_products += there.n_products
            self._radius = max(0.25 * length, SMALLEST_RADIUS)
        if error > 0.4:
            self._radius = max(0.5 * length, SMALLEST_RADIUS)
        elif error < 0.1:
            self._radius = min(2.0 * self._radius, self.largest_step)
        self._accept(q, there)
        self.n_steps += 1

    def _choose(self) -> np.ndarray:
        """Return a step (D,): up along the lowest mode, down across it."""
        assert self.direction is not None
        hessian, mode, curvature = self.hessian, self.direction, self.curvature
        zero = hessian.zero_modes
        gradient = zero.removed(hessian.gradient)
        slope = mode @ gradient
        up = -1.0 if curvature < 0 and slope < 0 else 1.0
        fixed = np.column_stack([mode, self.others, self.sliding, zero.vectors])
        fixed = np.linalg.qr(fixed)[0]
        down = np.where(gradient @ self.others > 0, -self._radius, self._radius)
        across = _descent(hessian, gradient, fixed, self._radius) + self.others @ down
        across += self._slide(gradient)
        across *= min(1.0, self._radius / max(self._largest_row(across), 1e-300))
        along = up * mode * self._radius / self._largest_row(mode)
        if curvature < 0 and abs(slope / curvature) < np.linalg.norm(along):
            along = mode * (slope / -curvature)
        q = along + across
        # Nothing is left to do at a saddle point of high symmetry.
        return q * min(1.0, self._radius / max(self._largest_row(q), 1e-300))

    def _slide(self, gradient: np.ndarray) -> np.ndarray:
        """Return a step (D,) down the gradient along the sliding modes.

        Newton's step where their curvature is positive.
        """
        if self.sliding.shape[1] == 0:
            return np.zeros_like(gradient)
        curvatures = np.sum(self.sliding * (self.hessian @ self.sliding), axis=0)
        slopes = gradient @ self.sliding
        longest = np.where(curvatures > 0, self._radius, SMALLEST_RADIUS)
        sizes = np.minimum(abs(slopes / curvatures), longest)
        sizes = np.where(curvatures > 0, sizes, longest)
        return self.sliding @ np.where(slopes > 0, -sizes, sizes)


def _descent(
    hessian: JointHessian, gradient: np.ndarray, fixed: np.ndarray, radius: float
) -> np.ndarray:
    """Return a step (D,) down the gradient across the columns of ``fixed``.

    Conjugate gradients on H d = -g, ended where d is longer than trusted or the
    curvature is not positive (Steihaug), and sooner far from a stationary point.
    """

    def across(q: np.ndarray) -> np.ndarray:
        return q - fixed @ (fixed.T @ q)

    scale = hessian.stiffness
    longest = radius * np.sqrt(len(gradient))
    d = np.zeros_like(gradient)
    residual = -across(gradient)
    first = np.linalg.norm(residual)
    goal = first * min(0.1, np.sqrt(first / scale.min()))
    p = z = across(residual / scale)
    for _ in range(min(len(d), 300)):
        if np.linalg.norm(residual) <= goal:
            break
        product = across(hessian @ p)
        curvature = p @ product
        if curvature <= 0:
            return d + p * (radius / np.linalg.norm(p))
        size = (residual @ z) / curvature
        d = d + size * p
        if np.linalg.norm(d) > longest:
            break
        last = residual @ z
        residual = residual - size * product
        z = across(residual / scale)
        p = z + p * ((residual @ z) / last)
    return d
