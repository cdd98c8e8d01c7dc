"""Derivatives by strain, and inverses of Hessians across their zero modes."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from scipy.linalg import null_space

from ..hessians import JointHessian

#: Axes of Voigt's components.
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))

#: Symmetric strains (6, 3, 3) of one in each of Voigt's components, shears gamma.
STRAINS = np.zeros((6, 3, 3))
for _k, (_a, _b) in enumerate(VOIGT):
    STRAINS[_k, _a, _b] += 0.5
    STRAINS[_k, _b, _a] += 0.5

#: Points and weights of a first derivative by differences, in steps.
STENCIL = ((-2.0, 1.0 / 12.0), (-1.0, -2.0 / 3.0), (1.0, 2.0 / 3.0), (2.0, -1.0 / 12.0))

#: Strain of the differences.
_STEP = 1e-4

#: Largest distance from the minimum, A or as a fraction of a strain.
_STATIONARY = 1e-2


def strain_derivatives(
    atoms: Atoms, hessian: JointHessian
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return d2E/dq dstrain (D, 6), d2E/dstrain2 (6, 6) and dE/dstrain (6,), eV.

    Positions are x = (1 + strain) x_0 + u, with u of the coordinates q.
    """
    mixed = np.zeros((hessian.shape[0], 6))
    stiffness = np.zeros((6, 6))

    def gradients(strain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        deform = np.eye(3) + strain
        image = atoms.copy()
        image.calc = atoms.calc
        image.set_constraint()
        image.set_cell(atoms.cell.array @ deform, scale_atoms=True)
        get = image.calc.get_property
        by_q = hessian.space.gradient(
            -image.get_forces(), -get("magnetic_forces", image)
        )
        by_strain = -get("virial", image) @ np.linalg.inv(deform)
        return by_q, np.einsum("kab,ab->k", STRAINS, by_strain)

    for k, strain in enumerate(STRAINS):
        for step, weight in STENCIL:
            by_q, by_strain = gradients(step * _STEP * strain)
            mixed[:, k] += weight / _STEP * by_q
            stiffness[k] += weight / _STEP * by_strain
    return mixed, 0.5 * (stiffness + stiffness.T), gradients(np.zeros((3, 3)))[1]


def inverse_across(
    matrix: np.ndarray, zero: np.ndarray, gradient: np.ndarray
) -> np.ndarray:
    """Return the inverse of a Hessian (D, D) across its zero modes (D, n).

    Coordinates are lengths or strains; ``gradient`` (D,) is that of the energy.

    Raises
    ------
    ValueError
        If the structure is not at a minimum.
    """
    across = null_space(zero.T) if zero.shape[1] else np.eye(len(matrix))
    if across.shape[1] == 0:
        return np.zeros_like(matrix)
    reduced = across.T @ matrix @ across
    values = np.linalg.eigvalsh(reduced)
    if values[0] <= 1e-10 * values[-1]:
        raise ValueError(
            "the structure is not at a minimum: the least curvature is "
            f"{values[0]:.3g} eV/A^2; displace it along its lowest mode "
            "(JointHessian(atoms).lowest()) and relax it, or fix what is free to move"
        )
    inverse = across @ np.linalg.inv(reduced) @ across.T
    away = float(np.abs(inverse @ gradient).max())
    if away > _STATIONARY:
        raise ValueError(
            f"the structure is {away:.2g} A (or strain) away from its minimum: relax "
            "it with a smaller fmax and torque_max, with cell=True if the cell moves"
        )
    return inverse


def elastic_constants(atoms: Atoms) -> np.ndarray:
    """Return C (6, 6), GPa, at fixed moments, with atoms relaxed; Voigt order.

    Raises
    ------
    ValueError
        If the structure is not at its minimum.
    """
    hessian = JointHessian(atoms, spins=False)
    mixed, stiffness, _ = strain_derivatives(atoms, hessian)
    zero = hessian.zero_modes.vectors
    inverse = inverse_across(hessian.matrix(), zero, hessian.gradient)
    relaxed = stiffness - mixed.T @ inverse @ mixed
    return np.asarray(relaxed / atoms.get_volume() / units.GPa)
