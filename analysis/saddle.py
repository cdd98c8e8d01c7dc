"""Saddle points of atoms and spins without a final state: mode following.

>>> saddle = find_saddle(atoms, kick=0.3, seed=1)  # out of a minimum
>>> saddle = find_saddle(image, direction=(displacements, turns))  # from a band
>>> print(saddle)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from tqdm import tqdm

from deepspin_ase.spins import set_spins

from .joint_hessian import JointHessian
from .tangent_space import SPIN_SCALE
from .zero_modes import ZeroModes

logger = logging.getLogger(__name__)

#: Lowest modes that are followed; more than one, for crossings are common.
BLOCK = 4

#: A curvature is taken for negative where it is below this share of the stiffness of
#: the softest kind of coordinates: what slides easily is not followed.
CONVEX = 1e-3

#: Trust radii, A: the largest step of any one atom or moment, first and smallest.
FIRST_RADIUS, SMALLEST_RADIUS = 0.05, 5e-3


@dataclass(frozen=True, eq=False, repr=False)
class SaddlePoint:
    """A stationary point that a search has ended at.

    Attributes
    ----------
    atoms : Atoms
        The structure; the one that was given.
    converged : bool
        Whether forces and torques are below the thresholds.
    energy : float, eV
    force, torque : float
        Largest left, eV/A and eV.
    curvatures : (n,) array, eV/A^2
        The lowest across the zero modes, ascending: all negative ones and the first
        positive one. A radian is ``spin_scale`` A.
    displacements : (N, 3) array, A
    turns : (N, 3) array, rad
        The mode of lowest curvature, as displacements and rotation vectors; with
        turns in units of ``1/spin_scale`` its length is 1 A.
    spin_scale : float
        A/rad.
    zero_modes : ZeroModes
        Translations and rotations that the energy does not feel.
    n_steps, n_calls, n_products : int
        Steps, evaluations of the gradient and products of the Hessian with a
        direction, about as dear.
    """

    atoms: Atoms
    converged: bool
    energy: float
    force: float
    torque: float
    curvatures: np.ndarray
    displacements: np.ndarray
    turns: np.ndarray
    spin_scale: float
    zero_modes: ZeroModes
    n_steps: int
    n_calls: int
    n_products: int

    @property
    def n_negative(self) -> int:
        """Number of directions in which the energy falls; 1 at a saddle point."""
        return int(np.sum(self.curvatures < 0.0))

    @property
    def is_saddle(self) -> bool:
        """Whether it is stationary and the energy falls in one direction only."""
        return self.converged and self.n_negative == 1

    def __str__(self) -> str:
        state = "converged" if self.converged else "not converged"
        curvatures = ", ".join(f"{c:.4g}" for c in self.curvatures)
        return (
            f"energy {self.energy:.6f} eV, {state} (force {self.force:.1e} eV/A, "
            f"torque {self.torque:.1e} eV)\n"
            f"lowest curvatures {curvatures} eV/A^2: {self.n_negative} negative\n"
            f"zero modes: {self.zero_modes}\n"
            f"{self.n_steps} steps, {self.n_calls} gradients, "
            f"{self.n_products} products with the Hessian"
        )


def find_saddle(
    atoms: Atoms,
    *,
    direction: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    kick: float = 0.0,
    fmax: float = 1e-3,
    torque_max: float = 1e-6,
    steps: int = 200,
    positions: bool = True,
    spins: bool = True,
    spin_scale: float = SPIN_SCALE,
    max_step: float = 0.2,
    step: float = 1e-3,
    seed: int | np.random.Generator | None = None,
) -> SaddlePoint:
    """Climb to a saddle point along an unstable mode, and make sure that it is one.

    Each step goes up along a mode of negative curvature and down across it: a
    Newton step of products of the Hessian with vectors (conjugate gradients in a
    trust region), which converges quadratically. Translations and rotations that
    leave the energy as it is are left out.

    From a point with one negative curvature already, such as the climbing image of
    a band, the search refines the saddle point. Out of a minimum it needs a kick; it
    goes on in the direction of the kick until a curvature becomes negative.

    Parameters
    ----------
    atoms : Atoms
        With a calculator, whose ``magnetic_forces`` (eV/mu_B) turn the moments.
        Changed in place. FixAtoms, FixCartesian and FixSpins hold.
    direction : (displacements, turns), optional
        (N, 3) arrays, A and rad (rotation vectors), or None: a guess of the mode
        to follow, and the direction of the kick.
    kick : float
        First move by this along ``direction``, or along a random one in which
        soft coordinates move most: the largest move of an atom, A, or of a
        moment, rad times ``spin_scale``.
    fmax, torque_max : float
        Converged when no force (eV/A) and torque m x (-dE/dm) (eV) exceeds these.
    steps : int
        Largest number of steps.
    positions, spins : bool
        What moves.
    spin_scale : float
        Length of one radian, A.
    max_step : float
        Largest move of an atom or moment in one step, A.
    step : float
        Of differences, A and mu_B, where the calculator is not a
        DeepSpinCalculator and the Hessian comes from differences of forces.
    seed : int or Generator, optional
        Of the random kick.

    Raises
    ------
    ValueError
        If the start is a minimum and there is no kick, shapes do not fit, nothing
        is free, a threshold is not positive, or the calculator or moments are
        missing.
    CalculationFailed
        If an energy or derivative is not finite.

    References
    ----------
    Lattices: Henkelman, Jonsson, J. Chem. Phys. 111, 7010 (1999),
    doi:10.1063/1.480097. Spins: Mueller, Bessarab, Vlasov, Lux, Kiselev, Bluegel,
    Uzdin, Jonsson, Phys. Rev. Lett. 121, 197202 (2018),
    doi:10.1103/PhysRevLett.121.197202. Out of a minimum: Malek, Mousseau, Phys. Rev. E
    62, 7723 (2000), doi:10.1103/PhysRevE.62.7723. Truncated conjugate gradients:
    Steihaug, SIAM J. Numer. Anal. 20, 626 (1983), doi:10.1137/0720042.
    """
    limits = {"fmax": fmax, "torque_max": torque_max, "max_step": max_step}
    for name, value in {**limits, "steps": steps}.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
    options = {
        "positions": positions,
        "spins": spins,
        "spin_scale": spin_scale,
        "step": step,
    }
    search = _Search(atoms, options, min(FIRST_RADIUS, max_step), max_step)
    if kick:
        search.kick(direction, kick, np.random.default_rng(seed))
    elif direction is not None:
        search.direction = search.read(direction)
    with tqdm(total=steps, desc="saddle point", disable=None) as progress:
        for _ in range(steps):
            search.follow()
            if search.converged(fmax, torque_max):
                break
            search.step()
            progress.set_postfix(force=search.hessian.force, refresh=False)
            progress.update()
    return search.result(fmax, torque_max)


class _Search:
    """The state of a search."""

    def __init__(
        self, atoms: Atoms, options: dict[str, Any], radius: float, largest: float
    ) -> None:
        self.atoms, self.options = atoms, options
        self.radius, self.largest = radius, largest
        self.modes: np.ndarray | None = None
        self.direction: np.ndarray | None = None
        self.n_steps = self.n_calls = self.n_products = 0
        self.hessian = self._here()

    def _here(self) -> JointHessian:
        self.n_calls += 1
        return JointHessian(self.atoms, **self.options)

    def read(self, direction: tuple[ArrayLike | None, ArrayLike | None]) -> np.ndarray:
        """Return a direction (displacements, turns) as a unit vector (D,)."""
        shape = (len(self.atoms), 3)
        parts = [np.zeros(shape) if x is None else np.asarray(x) for x in direction]
        if len(parts) != 2 or any(x.shape != shape for x in parts):
            raise ValueError(
                f"direction must be (displacements, turns), both {shape} or None; "
                f"got shapes {[x.shape for x in parts]}"
            )
        q = self.hessian.space.turning(*parts)
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
        """Move along a direction, or at random."""
        if direction is None:
            soft = self.hessian.stiffness**-0.5
            q = self.hessian.zero_modes.removed(soft * rng.normal(size=len(soft)))
        else:
            q = self.read(direction)
        self.direction = q / np.linalg.norm(q)
        self._accept(q, self._moved(q * (length / self._largest_row(q))))

    def _largest_row(self, q: np.ndarray) -> float:
        """Return the largest move of an atom or moment, A."""
        space = self.hessian.space
        rows = np.stack([space.directions(q)[0], space.spin_scale * space.turns(q)])
        return float(np.linalg.norm(rows, axis=-1).max())

    def _moved(self, q: np.ndarray) -> JointHessian:
        """Move the atoms along q and look there."""
        self.atoms.positions[:], spins = self.hessian.space.moved(q)
        if self.options["spins"]:
            set_spins(self.atoms, spins)
        return self._here()

    def _accept(self, q: np.ndarray, there: JointHessian) -> None:
        space = self.hessian.space
        if self.modes is not None:
            self.modes = space.carried(self.modes.T, q, there.space).T
        if self.direction is not None:
            self.direction = space.carried(self.direction, q, there.space)
        self.n_products += self.hessian.n_products
        self.hessian = there

    def follow(self) -> None:
        """Find the lowest modes, and choose where to climb.

        Along a mode of negative curvature: the one most like the last direction.
        Where the energy is convex, along the mode most like it (eigenvector
        following), or if none is, on in that direction (activation-relaxation).
        """
        hessian = self.hessian
        values, self.modes = hessian.lowest(
            BLOCK, start=self.modes, tolerance=5e-2, iterations=15
        )
        last = self.direction
        if last is None:  # uphill
            last = self.modes[:, 0] * np.sign(
                self.modes[:, 0] @ hessian.gradient or 1.0
            )
        alike = abs(self.modes.T @ last)
        clearly = values < -CONVEX * hessian.stiffness.min()
        eligible = (values < 0.0) & (clearly | (alike > 0.5))
        if eligible.any() or alike.max() > 0.5:
            choice = np.where(eligible, alike, 0.0) if eligible.any() else alike
            chosen = int(np.argmax(choice))
            mode, self.curvature = self.modes[:, chosen], values[chosen]
            self.direction = mode if mode @ last >= 0 else -mode
        else:
            last = hessian.zero_modes.removed(last)
            self.direction = last / np.linalg.norm(last)
            self.curvature = self.direction @ (hessian @ self.direction)
        logger.info(
            "step %d: energy %.6f eV, force %.2e eV/A, torque %.2e eV, "
            "curvature %.3e eV/A^2",
            self.n_steps,
            hessian.energy,
            hessian.force,
            hessian.torque,
            self.curvature,
        )

    def converged(self, fmax: float, torque_max: float) -> bool:
        """Whether this is a saddle point; a minimum to start from is an error."""
        hessian = self.hessian
        if hessian.force > fmax or hessian.torque > torque_max:
            return False
        if self.curvature > 0 and self.n_calls == 1:
            raise ValueError(
                "the search starts at a minimum: give a kick, such as kick=0.2"
            )
        return bool(self.curvature < 0)

    def step(self) -> None:
        """Take a step.

        The trust radius follows how well the Hessian foretells the change of the
        gradient; the shortest steps are taken in any case, over kinks of the energy.
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
            self.n_products += there.n_products
            self.radius = max(0.25 * length, SMALLEST_RADIUS)
        if error > 0.4:
            self.radius = max(0.5 * length, SMALLEST_RADIUS)
        elif error < 0.1:
            self.radius = min(2.0 * self.radius, self.largest)
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
        fixed = np.column_stack([mode, zero.vectors])
        across = _descent(hessian, gradient, fixed, self.radius)
        across *= min(1.0, self.radius / max(self._largest_row(across), 1e-300))
        along = up * mode * self.radius / self._largest_row(mode)
        if curvature < 0 and abs(slope / curvature) < np.linalg.norm(along):
            along = mode * (slope / -curvature)
        q = along + across
        return q * min(1.0, self.radius / self._largest_row(q))

    def result(self, fmax: float, torque_max: float) -> SaddlePoint:
        """Return where the search is, with all negative curvatures there."""
        hessian = self.hessian
        count = BLOCK
        while True:
            values, modes = hessian.lowest(count, start=self.modes, tolerance=1e-4)
            if values[-1] > 0 or len(values) < count:
                break
            count *= 2
        found = int(np.sum(values < 0.0)) + 1
        displacements, _ = hessian.space.directions(modes[:, 0])
        stationary = hessian.force <= fmax and hessian.torque <= torque_max
        return SaddlePoint(
            atoms=self.atoms,
            converged=bool(stationary and values[0] < 0),
            energy=hessian.energy,
            force=hessian.force,
            torque=hessian.torque,
            curvatures=values[:found],
            displacements=displacements,
            turns=hessian.space.turns(modes[:, 0]),
            spin_scale=hessian.space.spin_scale,
            zero_modes=hessian.zero_modes,
            n_steps=self.n_steps,
            n_calls=self.n_calls,
            n_products=self.n_products + hessian.n_products,
        )


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
