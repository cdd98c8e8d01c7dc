"""Saddle-point search of atoms and spins by mode following.

>>> saddle = find_saddle(top)  # such as the highest image of a band
>>> saddle = find_saddle(minimum, kick=0.3, seed=1)  # out of a minimum
>>> saddle.is_saddle
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._progress import bar
from ..._result import Result
from ..._validate import finite, positive, whole
from ...optimize._defaults import SPIN_SCALE, TIGHT_FMAX
from ..hessians._zero_modes import ZeroModes
from ._mode_following import BLOCK, ModeFollowing


@dataclass(frozen=True, eq=False, repr=False)
class SaddlePoint(Result):
    """The stationary point at which a search ended.

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
    rotations : (N, 3) array, rad
        The mode of lowest curvature, as displacements and rotation vectors; with
        rotations in units of ``1/spin_scale`` its length is 1 A.
    spin_scale : float
        A/rad.
    zero_modes : ZeroModes
        Translations and rotations that leave the energy constant.
    n_steps, n_calls, n_products : int
        Steps, evaluations of the gradient, and Hessian-vector products, which cost
        about the same.
    """

    atoms: Atoms
    converged: bool
    energy: float
    force: float
    torque: float
    curvatures: np.ndarray
    displacements: np.ndarray
    rotations: np.ndarray
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
    fmax: float = TIGHT_FMAX,
    torque_max: float | None = None,
    steps: int = 200,
    positions: bool = True,
    spins: bool = True,
    spin_scale: float = SPIN_SCALE,
    max_step: float = 0.2,
    step: float = 1e-3,
    seed: int | np.random.Generator = 0,
) -> SaddlePoint:
    """Climb to a saddle point along an unstable mode, and make sure that it is one.

    Each step goes up along a mode of negative curvature and down across it: a
    Newton step of products of the Hessian with vectors (conjugate gradients in a
    trust region), which converges quadratically. Translations and rotations that
    leave the energy as it is are left out.

    From a point with one negative curvature already, such as the climbing image of
    a band, the search refines the saddle point. Out of a minimum it needs a kick; it
    continues in the direction of the kick until a curvature becomes negative. Modes
    along which the minimum slides at next to no cost, as a skyrmion or a wall does,
    are not followed unless they are kicked. Which saddle point is found is a matter
    of chance where there are many soft modes: give the direction in which something
    should happen, such as the mode of :class:`~deepspin_ase.analysis.JointHessian` that
    shrinks a skyrmion. Where the other side is known, start from a band.

    Parameters
    ----------
    atoms : Atoms
        With a calculator, whose ``magnetic_forces`` (eV/mu_B) rotate the moments.
        Changed in place. FixAtoms, FixCartesian and FixSpins hold.
    direction : (displacements, rotations), optional
        (N, 3) arrays, A and rad (rotation vectors), or None: a guess of the mode
        to follow, and the direction of the kick.
    kick : float
        First move by this along ``direction``, or along a random one in which
        soft coordinates move most: the largest move of an atom, A, or of a
        moment, rad times ``spin_scale``.
    fmax, torque_max : float
        Converged when no force (eV/A) and torque m x (-dE/dm) (eV) exceeds these. By
        default the torque is at most 1e-6 eV, and the next step would rotate no moment
        by more than 0.001 rad, whatever the scale of the energy.
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
    seed : int or Generator
        Of the random kick.

    Raises
    ------
    ValueError
        If the start is a minimum and there is no kick, shapes do not fit, nothing
        is free, a number is not as described, or the calculator or moments are
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
    limits = {"fmax": fmax, "max_step": max_step}
    if torque_max is not None:
        limits["torque_max"] = torque_max
    for name, value in {**limits, "spin_scale": spin_scale, "step": step}.items():
        positive(name, value)
    whole("steps", steps, 1)
    finite("kick", kick)
    options = {
        "positions": positions,
        "spins": spins,
        "spin_scale": spin_scale,
        "step": step,
    }
    search = ModeFollowing(atoms, options, max_step)
    if kick:
        search.kick(direction, kick, np.random.default_rng(seed))
    elif direction is not None:
        search.direction = search.read(direction)
    with bar(total=steps, desc="saddle point") as progress:
        for _ in range(steps):
            search.follow()
            if search.converged(fmax, torque_max):
                break
            search.step()
            progress.set_postfix(force=search.hessian.force, refresh=False)
            progress.update()
    return _result(search, fmax, torque_max)


def _result(
    search: ModeFollowing, fmax: float, torque_max: float | None
) -> SaddlePoint:
    """Return the state of the search, with all negative curvatures."""
    hessian = search.hessian
    count = BLOCK
    while True:
        values, modes = hessian.lowest(count, start=search.modes, tolerance=1e-4)
        if values[-1] > 0 or len(values) < count:
            break
        count *= 2
    found = int(np.sum(values < 0.0)) + 1
    displacements, _ = hessian.space.directions(modes[:, 0])
    stationary = search.stationary(fmax, torque_max)
    return SaddlePoint(
        atoms=search.atoms,
        converged=bool(stationary and values[0] < 0),
        energy=hessian.energy,
        force=hessian.force,
        torque=hessian.torque,
        curvatures=values[:found],
        displacements=displacements,
        rotations=hessian.space.rotation_vectors(modes[:, 0]),
        spin_scale=hessian.space.spin_scale,
        zero_modes=hessian.zero_modes,
        n_steps=search.n_steps,
        n_calls=search.n_calls,
        n_products=search.n_products,
    )
