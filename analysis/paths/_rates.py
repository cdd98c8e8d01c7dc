"""Rates of thermally activated transitions of atoms and spins.

>>> saddle = find_saddle(top)  # such as the highest image of a band
>>> rate = transition_rate(minimum, saddle.atoms, damping=0.1)
>>> rate.attempt_frequency_per_s() > rate.rate_per_s(temperature_K=10.0)
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike
from scipy.linalg import null_space
from scipy.optimize import brentq

from ..._result import Result
from ..._validate import non_negative
from ...optimize._defaults import FMAX, SPIN_SCALE, TORQUE_MAX
from ...units import G_FACTOR, HBAR
from ..hessians._joint_hessian import JointHessian
from ..hessians._tangent_space import TangentSpace


@dataclass(frozen=True, eq=False, repr=False)
class TransitionRate(Result):
    r"""The rate of escape from a minimum over a saddle point, by harmonic theory.

    Langer's formula (Ann. Phys. 54, 258 (1969), doi:10.1016/0003-4916(69)90153-5),

        k = (kappa/2 pi) (V_s/V_m) (2 pi k_B T)^((P_m - P_s)/2)
            (prod l_m / |prod l_s|)^(1/2) exp(-(E_s - E_m)/k_B T)

    with curvatures l_m at the minimum and l_s at the saddle point, P_m and P_s zero
    modes, left out of the products, of volumes V_m and V_s, and kappa the rate at
    which the linearised equations of motion leave the saddle point. For atoms alone
    without friction this is Vineyard's formula (J. Phys. Chem. Solids 3, 121
    (1957), doi:10.1016/0022-3697(57)90059-8); for spins alone compare Bessarab, Uzdin,
    Jonsson, Phys. Rev. B 85, 184409 (2012), doi:10.1103/PhysRevB.85.184409.

    Attributes
    ----------
    barrier : float, eV
    growth_rate : float
        kappa, 1/ASE time.
    minimum_curvatures, saddle_curvatures : arrays, eV/A^2
        Ascending, without zero modes; a radian is ``spin_scale`` A.
    minimum_zero_modes, saddle_zero_modes : int
    volume_ratio : float
        V_s/V_m, A^(P_s - P_m).
    spin_scale : float, A/rad
    """

    barrier: float
    growth_rate: float
    minimum_curvatures: np.ndarray
    saddle_curvatures: np.ndarray
    minimum_zero_modes: int
    saddle_zero_modes: int
    volume_ratio: float
    spin_scale: float

    def attempt_frequency_per_s(self, temperature_K: float | None = None) -> float:
        """Return the rate's factor before exp(-barrier/kT), 1/s.

        Raises
        ------
        ValueError
            If there is no temperature though the numbers of zero modes differ.
        """
        power = 0.5 * (self.minimum_zero_modes - self.saddle_zero_modes)
        if power and temperature_K is None:
            raise ValueError(
                f"the prefactor depends on the temperature, with "
                f"{self.minimum_zero_modes} zero modes at the minimum and "
                f"{self.saddle_zero_modes} at the saddle point: give temperature_K"
            )
        logarithm = 0.5 * (
            np.log(self.minimum_curvatures).sum()
            - np.log(abs(self.saddle_curvatures)).sum()
        )
        if power:
            logarithm += power * np.log(2.0 * np.pi * _thermal_energy(temperature_K))
        frequency = self.growth_rate / (2.0 * np.pi) * self.volume_ratio
        return float(frequency * np.exp(logarithm) * units.second)

    def rate_per_s(self, temperature_K: ArrayLike) -> np.ndarray | float:
        """Return the rate, 1/s, at one or several temperatures."""
        temperatures = np.asarray(temperature_K, dtype=float)
        rates = [
            self.attempt_frequency_per_s(t) * np.exp(-self.barrier / _thermal_energy(t))
            for t in temperatures.flat
        ]
        found = np.reshape(rates, temperatures.shape)
        return float(found) if found.ndim == 0 else found

    def __str__(self) -> str:
        if self.minimum_zero_modes == self.saddle_zero_modes:
            attempt = f"{self.attempt_frequency_per_s():.4g} /s"
        else:
            attempt = f"{self.attempt_frequency_per_s(300.0):.4g} /s at 300 K"
        return (
            f"barrier {self.barrier:.6f} eV, attempt frequency {attempt}\n"
            f"zero modes: {self.minimum_zero_modes} at the minimum, "
            f"{self.saddle_zero_modes} at the saddle point"
        )


def _thermal_energy(temperature_K: float | None) -> float:
    if temperature_K is None or not (np.isfinite(temperature_K) and temperature_K > 0):
        raise ValueError(f"the temperature must be above 0 K, got {temperature_K}")
    return units.kB * temperature_K


def transition_rate(
    minimum: Atoms,
    saddle: Atoms,
    *,
    positions: bool = True,
    spins: bool = True,
    damping: float = 0.0,
    friction: float = 0.0,
    g_factor: float = G_FACTOR,
    volume_ratio: float | None = None,
    fmax: float = FMAX,
    torque_max: float = TORQUE_MAX,
    spin_scale: float = SPIN_SCALE,
    step: float = 1e-3,
) -> TransitionRate:
    """Return the rate of escape from ``minimum`` over ``saddle``.

    The moments obey the Landau-Lifshitz-Gilbert equation, the atoms Newton's.
    Takes two Hessians as matrices: for some hundred atoms.

    Parameters
    ----------
    minimum, saddle : Atoms
        Relaxed structures of the same atoms, with calculators; constraints
        (FixAtoms, FixCartesian, FixSpins) are those of ``minimum``.
    positions, spins : bool
        What moves.
    damping : float
        Gilbert damping alpha of the moments.
    friction : float
        Friction of the atoms, 1/ASE time, as in Langevin dynamics.
    g_factor : float
    volume_ratio : float, optional
        V_s/V_m of the zero modes, A^(P_s - P_m), a radian being ``spin_scale`` A.
        1 by default if both points have equal numbers of them; needed otherwise.
    fmax, torque_max : float
        Largest force (eV/A) and torque (eV) that a stationary point may have.
    spin_scale, step : float
        See :class:`~deepspin_ase.analysis.JointHessian`.

    Raises
    ------
    ValueError
        If the structures are of different atoms, cells or lengths of moments, are
        not stationary, not a minimum and a saddle point of one negative curvature,
        have different numbers of zero modes and no ``volume_ratio``, or if nothing
        drives the moments away from the saddle point without damping.
    """
    for name, value in (("damping", damping), ("friction", friction)):
        non_negative(name, value)
    _check_same(minimum, saddle)
    over = saddle.copy()
    over.calc = saddle.calc
    over.set_constraint(minimum.constraints)
    hessians = [
        JointHessian(
            atoms, positions=positions, spins=spins, spin_scale=spin_scale, step=step
        )
        for atoms in (minimum, over)
    ]
    low, high = hessians
    if not (
        np.array_equal(low.space.magnetic_sites, high.space.magnetic_sites)
        and np.allclose(low.space.lengths, high.space.lengths, rtol=1e-6)
    ):
        raise ValueError("minimum and saddle have moments of different lengths")
    names = ("minimum", "saddle point")
    curvatures = []
    for name, hessian, negative in zip(names, hessians, (0, 1), strict=True):
        _check_stationary(name, hessian, fmax, torque_max)
        curvatures.append(_curvatures(name, hessian, negative))
    if volume_ratio is None:
        _check_zero_modes(low, high)
        volume_ratio = 1.0
    masses = np.repeat(minimum.get_masses(), 3)[high.space.free]
    motion = _Motion(high.space, masses, damping, friction, g_factor / HBAR)
    return TransitionRate(
        barrier=high.energy - low.energy,
        growth_rate=motion.growth_rate(_projected(high)),
        minimum_curvatures=curvatures[0],
        saddle_curvatures=curvatures[1],
        minimum_zero_modes=len(low.zero_modes),
        saddle_zero_modes=len(high.zero_modes),
        volume_ratio=float(volume_ratio),
        spin_scale=spin_scale,
    )


def _check_same(minimum: Atoms, saddle: Atoms) -> None:
    for atoms in (minimum, saddle):
        if not isinstance(atoms, Atoms):
            raise TypeError(f"expected Atoms, got {type(atoms).__name__}")
    if not np.array_equal(minimum.numbers, saddle.numbers):
        raise ValueError("minimum and saddle must hold the same atoms in one order")
    if not np.allclose(minimum.cell.array, saddle.cell.array, atol=1e-8):
        raise ValueError("minimum and saddle must have the same cell")


def _check_stationary(
    name: str, hessian: JointHessian, fmax: float, torque_max: float
) -> None:
    if hessian.force > fmax or hessian.torque > torque_max:
        raise ValueError(
            f"the {name} is not stationary: a force of {hessian.force:.2e} eV/A and a "
            f"torque of {hessian.torque:.2e} eV are left (fmax {fmax}, torque_max "
            f"{torque_max}); relax it, or refine it with find_saddle"
        )


def _check_zero_modes(minimum: JointHessian, saddle: JointHessian) -> None:
    zero, over = minimum.zero_modes, saddle.zero_modes
    if len(zero) != len(over):
        raise ValueError(
            f"the minimum has {len(zero)} zero modes ({zero}), the saddle point "
            f"{len(over)} ({over}): give the ratio of their volumes, volume_ratio, in "
            f"A^{len(over) - len(zero)}"
        )


def _curvatures(name: str, hessian: JointHessian, negative: int) -> np.ndarray:
    """Return the curvatures across the zero modes; ``negative`` ones are expected."""
    zero = hessian.zero_modes
    across = null_space(zero.vectors.T) if len(zero) else np.eye(hessian.shape[0])
    values = np.linalg.eigvalsh(across.T @ hessian.matrix() @ across)
    found = int(np.sum(values < 0.0))
    if found != negative:
        raise ValueError(
            f"the {name} has {found} negative curvatures instead of {negative}: "
            f"{values[: found + 1]} eV/A^2"
        )
    return values


def _projected(hessian: JointHessian) -> np.ndarray:
    """Return the matrix with exact zeros for the zero modes."""
    zero = hessian.zero_modes
    return zero.removed(zero.removed(hessian.matrix()).T)


class _Motion:
    """Linearised equations of motion about a saddle point.

    With exp(kappa t), displacements u and angles of moments (a, b) obey

        [H + kappa^2 M + kappa (zeta M + (|m|/gamma) (alpha + e))] q = 0

    M the masses and zeta the friction of the atoms, and for each moment e =
    ((0, -1), (1, 0)): the Gilbert form gamma (m x dE/dm) = dm/dt - (alpha/|m|) m x
    dm/dt in the frame of a, b and m.
    """

    def __init__(
        self,
        space: TangentSpace,
        masses: np.ndarray,
        damping: float,
        friction: float,
        gamma: float,
    ) -> None:
        n_lattice, size = len(masses), space.size
        self._angular = space.lengths / (gamma * space.spin_scale**2)
        angular = np.repeat(self._angular, 2)
        self._inertia = np.concatenate([masses, np.zeros(size - n_lattice)])
        self._drag = np.diag(np.concatenate([friction * masses, damping * angular]))
        first = np.arange(n_lattice, size, 2)
        self._drag[first, first + 1] -= angular[::2]
        self._drag[first + 1, first] += angular[::2]

    def growth_rate(self, hessian: np.ndarray) -> float:
        """Return the one kappa > 0, 1/ASE time: a zero of the determinant.

        It is the only one, as one curvature is negative.
        """
        stiffest = np.linalg.norm(hessian, 2)
        inertia = self._inertia[self._inertia > 0]
        fastest = np.concatenate(
            [np.sqrt(stiffest / inertia), stiffest / self._angular]
        ).max()

        def determinant(rate: float) -> tuple[float, float]:
            matrix = hessian + rate * self._drag
            matrix[np.diag_indices_from(matrix)] += rate**2 * self._inertia
            sign, logarithm = np.linalg.slogdet(matrix)
            return float(sign), float(logarithm)

        upper = 10.0 * fastest
        for _ in range(60):
            sign, size = determinant(0.5 * upper)
            if sign < 0:
                break
            upper *= 0.5
        else:
            raise ValueError(
                "nothing drives the system away from the saddle point: precession "
                "alone conserves what would have to change; give a damping"
            )

        def scaled(logarithm: float) -> float:
            sign, other = determinant(np.exp(logarithm))
            return sign * np.exp(other - size)

        ends = np.log(0.5 * upper), np.log(upper)
        return float(np.exp(brentq(scaled, *ends, xtol=1e-14, rtol=1e-14)))
