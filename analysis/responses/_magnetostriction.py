"""Magnetostriction: strains that follow the direction of the moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._rotations import rotate, rotations_between
from ...calculators._deepspin import require_stress
from ...spins import get_spins, set_spins, unit_vector
from .._model import Model
from ..hessians import JointHessian
from ._derivatives import STRAINS, VOIGT, inverse_across, strain_derivatives
from ._model import with_calculator

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Magnetostriction(Result):
    """Magnetoelastic coupling of a crystal to the direction n of its moments.

    The energy density is 1/2 e C e + sum B_abcd e_ab n_c n_d for a strain e, so that
    the crystal strains by -C^-1 B n n.

    Attributes
    ----------
    elastic : (6, 6) array, GPa
        Elastic constants C at fixed directions of the moments, atoms relaxed; Voigt.
    coupling : (3, 3, 3, 3) array, GPa
        B, symmetric in a, b and in c, d, without trace in c, d.
    isotropic : (3, 3) array, GPa
        The stress that does not depend on n; zero in a relaxed cell.
    residual : float, GPa
        Largest component of the stress, of all directions, that is of fourth order in n
        or higher, and not in B.
    """

    elastic: np.ndarray
    coupling: np.ndarray
    isotropic: np.ndarray
    residual: float

    def strain(self, direction: str | ArrayLike) -> np.ndarray:
        """Return the strain (3, 3) with moments along a direction.

        Against the mean over all directions, the demagnetized crystal.
        """
        n = unit_vector(direction)
        stress = np.einsum("abcd,c,d->ab", self.coupling, n, n)
        voigt = np.array([stress[a, b] for a, b in VOIGT])
        return np.einsum("k,kab->ab", -np.linalg.solve(self.elastic, voigt), STRAINS)

    def extension(
        self, direction: str | ArrayLike, *, measured: str | ArrayLike | None = None
    ) -> float:
        """Return the relative change of length, lambda, with moments along a direction.

        Parameters
        ----------
        direction : (3,) array or str
            Of the moments.
        measured : (3,) array or str, optional
            In which the length is taken; the same by default.
        """
        line = unit_vector(direction if measured is None else measured)
        return float(line @ self.strain(direction) @ line)

    @property
    def B1_GPa(self) -> float:
        """B_1 of B_1 sum n_a^2 e_aa + B_2 (n_x n_y gamma_xy + ...), gamma = 2 e."""
        B = np.einsum("aabb->ab", self.coupling)
        return float(np.trace(B) / 3.0 - (B.sum() - np.trace(B)) / 6.0)

    @property
    def B2_GPa(self) -> float:
        """B_2; like B_1 of cube axes along x, y and z, the mean over them."""
        return float(2.0 * np.mean([self.coupling[a, b, a, b] for a, b in VOIGT[3:]]))

    @property
    def lambda_100(self) -> float:
        """Mean extension with moments along x, y, z.

        -(2/3) B_1/(C11 - C12) in cubic crystals.
        """
        return float(np.mean([self.extension(n) for n in np.eye(3)]))

    @property
    def lambda_111(self) -> float:
        """Mean extension with moments along the diagonals.

        -B_2/(3 C44) in cubic crystals.
        """
        diagonals = [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)]
        return float(np.mean([self.extension(n) for n in diagonals]))


def magnetostriction(atoms: Atoms, *, model: Model | None = None) -> Magnetostriction:
    """Return magnetoelastic coupling, elastic constants and magnetostriction at T = 0.

    Stress and forces with all moments turned together to 13 directions, and second
    derivatives by strain and positions: exact to first order in the coupling, also
    where it is far too weak for relaxations to show its strain (C. Kittel, Rev. Mod.
    Phys. 21, 541 (1949), doi:10.1103/RevModPhys.21.541; R. Wu and A. J. Freeman, J.
    Appl. Phys. 79, 6209 (1996), doi:10.1063/1.362073). Stress is taken at fixed
    Cartesian moments. Takes 51 model calls.

    Parameters
    ----------
    atoms : Atoms
        Relaxed with its cell, with collinear moments; cube axes along x, y and z for
        lambda_100, lambda_111, B_1 and B_2. Atoms that are fixed stay.
    model : Potential, Calculator, path or str, optional
        By default the calculator of ``atoms``.

    Raises
    ------
    ValueError
        If there is no model or no stress, moments are zero or not collinear, or the
        structure is not at its minimum.
    """
    image = with_calculator(atoms, model)
    require_stress(image, purpose="magnetostriction")
    axis = _axis(image)
    hessian = JointHessian(image, spins=False)
    mixed, stiffness, _ = strain_derivatives(image, hessian)
    matrix = hessian.matrix()
    zero = hessian.zero_modes.vectors
    inverse = inverse_across(matrix, zero, hessian.gradient)
    volume = image.get_volume()
    elastic = (stiffness - mixed.T @ inverse @ mixed) / volume / units.GPa
    directions, weights = _quadrature()
    stresses = np.zeros((len(directions), 6))
    spins = get_spins(image)
    for k, n in enumerate(directions):
        rotation = rotations_between(axis, n)
        set_spins(image, rotate(spins, np.broadcast_to(rotation, spins.shape)))
        get = image.calc.get_property
        forces, virial = image.get_forces(), get("virial", image)
        gradient = hessian.space.gradient(-forces, np.zeros_like(forces))
        # Of relaxed atoms: what their forces leave is taken away.
        by_strain = -np.einsum("kab,ab->k", STRAINS, virial)
        stresses[k] = (by_strain - mixed.T @ inverse @ gradient) / volume / units.GPa
    full = np.zeros((len(directions), 3, 3))
    for k, (a, b) in enumerate(VOIGT):
        full[:, a, b] = full[:, b, a] = stresses[:, k]
    isotropic = np.einsum("k,kab->ab", weights, full)
    traceless = directions[:, :, None] * directions[:, None, :] - np.eye(3) / 3.0
    # The mean of (n n - 1/3) (n n - 1/3) over the sphere is 2/15 on such tensors.
    coupling = 7.5 * np.einsum("k,kab,kcd->abcd", weights, full, traceless)
    fitted = isotropic + np.einsum("abcd,kcd->kab", coupling, traceless)
    return Magnetostriction(
        elastic, coupling, isotropic, float(np.abs(full - fitted).max())
    )


@plots(Magnetostriction)
def plot_magnetostriction(result: Magnetostriction, ax: Axes | None = None) -> Axes:
    """Draw the extension along the moments, which turn in the planes of z and x, xy."""
    ax = figure_axes(ax)
    angles = np.linspace(0.0, 180.0, 181)
    for axis, label in (((1, 0, 0), "z to x"), ((1, 1, 0), "z to x + y")):
        across = unit_vector(axis)
        values = [
            result.extension(np.cos(t) * np.array([0, 0, 1.0]) + np.sin(t) * across)
            for t in np.radians(angles)
        ]
        ax.plot(angles, 1e6 * np.array(values), label=label)
    ax.axhline(0.0, color="0.8", lw=1, zorder=0)
    ax.set(xlabel="angle of the moments (degrees)", ylabel="extension (10⁻⁶)")
    ax.legend()
    return ax


def _axis(atoms: Atoms) -> np.ndarray:
    """Return the axis (3,) of collinear moments."""
    spins = get_spins(atoms)
    if not spins.any():
        raise ValueError("all moments are zero: set them with deepspin_ase.set_spins")
    values, axes = np.linalg.eigh(spins.T @ spins)
    if values[1] > 1e-4 * values[2]:
        raise ValueError(
            "magnetostriction by direction is that of collinear moments; these have "
            "no common axis"
        )
    return axes[:, 2]


def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Return 13 directions (13, 3) and weights: exact to degree 7, for even functions.

    Half of the 26 points of V. I. Lebedev, USSR Comput. Math. Math. Phys. 15, 44
    (1975), doi:10.1016/0041-5553(75)90133-0.
    """
    signs = np.array([(1, 1), (1, -1)])
    edges = [np.insert(pair, k, 0) / np.sqrt(2.0) for k in range(3) for pair in signs]
    corners = np.array([(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)]) / np.sqrt(3.0)
    points = np.concatenate([np.eye(3), edges, corners])
    weights = np.repeat([2 / 21, 8 / 105, 9 / 140], [3, 6, 4])
    return points, weights
