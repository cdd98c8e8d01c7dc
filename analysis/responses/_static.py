"""Responses of a minimum to static fields: susceptibilities, magnetoelectric tensor.

At a minimum of the energy in the joint coordinates q (positions, directions of
moments, strain), fields f_a that act on X_a, E - sum_a f_a X_a, displace the minimum by
H^-1 g_a f_a with g_a = dX_a/dq, so that

    dX_a/df_b = g_a H^-1 g_b

(X. Wu, D. Vanderbilt and D. R. Hamann, Phys. Rev. B 72, 035105 (2005),
doi:10.1103/PhysRevB.72.035105; of spins and lattice: J. C. Wojdel and J. Iniguez, Phys.
Rev. Lett. 105, 037208 (2010), doi:10.1103/PhysRevLett.105.037208). X are the total
moment, V P, and V times the strain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms, units

from ..._figures import figure_axes
from ..._result import Result, plots
from ...calculators._deepspin import require_stress
from ...neighbors import build_pairs
from ...potentials import ElectricField
from ...system import System
from ...units import COULOMB, MU_B
from .._model import Model
from ..hessians import JointHessian
from ._derivatives import STRAINS, inverse_across, strain_derivatives
from ._model import with_calculator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Bohr magneton in J/T.
_MU_B_SI = MU_B / units.J

#: mu_0 mu_B per A^3 and tesla, without unit; and per A^3 and V/A in ps/m.
_MAGNETIC_SI = 4e-7 * np.pi * _MU_B_SI * 1e30
_ALPHA_SI = _MAGNETIC_SI * 1e-10 * 1e12

#: e/eps_0 in V A.
_E_EPS_0 = 4.0 * np.pi * COULOMB


@dataclass(frozen=True, eq=False)
class StaticResponse(Result):
    """Changes of moment, polarization and strain of a structure in weak fields.

    Of the whole structure and to first order; what was not asked for is None.

    Attributes
    ----------
    volume : float, A^3
    magnetic : (3, 3) array, mu_B/T
        dM_a/dB_b of the total moment.
    electric : (3, 3) array, e A^2/V, optional
        d(V P_a)/dE_b: the part of ions and moments; that of the electrons at fixed
        positions is not in it.
    magnetoelectric : (3, 3) array, mu_B A/V, optional
        dM_a/dE_b of the total moment.
    elastic : (6, 6) array, GPa, optional
        Elastic constants at zero field, atoms and moments relaxed; Voigt order.
    piezomagnetic : (6, 3) array, 1/T, optional
        Strains xx, yy, zz and shears 2 yz, 2 xz, 2 xy by the components of B.
    piezoelectric : (6, 3) array, A/V, optional
        The same by those of E; 1 A/V is 100 pm/V.
    """

    volume: float
    magnetic: np.ndarray
    electric: np.ndarray | None
    magnetoelectric: np.ndarray | None
    elastic: np.ndarray | None
    piezomagnetic: np.ndarray | None
    piezoelectric: np.ndarray | None

    @property
    def chi_magnetic(self) -> np.ndarray:
        """mu_0 dM/dB per volume, (3, 3): the susceptibility in SI units where small."""
        return _MAGNETIC_SI / self.volume * self.magnetic

    @property
    def chi_electric(self) -> np.ndarray | None:
        """dP/dE/eps_0, (3, 3): the static dielectric constant less the electrons'."""
        return None if self.electric is None else _E_EPS_0 / self.volume * self.electric

    @property
    def alpha_ps_per_m(self) -> np.ndarray | None:
        """mu_0 dM_a/dE_b per volume, (3, 3), ps/m."""
        if self.magnetoelectric is None:
            return None
        return _ALPHA_SI / self.volume * self.magnetoelectric


def static_response(
    atoms: Atoms,
    *,
    electric: ElectricField | None = None,
    cell: bool = False,
    model: Model | None = None,
) -> StaticResponse:
    """Return the responses of a relaxed structure to magnetic and electric fields.

    What relaxations in small fields would give, from second derivatives: exact to
    first order in the fields, at zero temperature and constant lengths of moments.

    Parameters
    ----------
    atoms : Atoms
        At a minimum, with moments; atoms and moments that are fixed (FixAtoms,
        FixCartesian, FixSpins) stay.
    electric : ElectricField, optional
        Whose charges and reference give V P; its own field does not act. Without, there
        is no response to electric fields.
    cell : bool
        Whether the cell strains, too, at zero stress. Takes 24 more model calls.
    model : Potential, Calculator, path or str, optional
        By default the calculator of ``atoms``.

    Returns
    -------
    StaticResponse

    Raises
    ------
    ValueError
        If there is no model, the structure is not at a minimum, or a field moves it
        along a mode that costs no energy, such as a ferromagnet without anisotropy.
    """
    image = with_calculator(atoms, model)
    hessian = JointHessian(image)
    matrix, gradient = hessian.matrix(), hessian.gradient
    zero = hessian.zero_modes.vectors
    space, size = hessian.space, hessian.shape[0]
    # dX/dq of the total moment.
    slopes = [space.directions(np.eye(size))[1].sum(axis=1)]
    dipole = None if electric is None else _dipole_slopes(image, electric)
    if dipole is not None:
        by_positions, by_moments, by_strain = dipole
        slopes.append(space.gradient(by_positions, by_moments).T)
    if cell:
        require_stress(image, purpose="cell=True")
        mixed, stiffness, stress = strain_derivatives(image, hessian)
        matrix = np.block([[matrix, mixed], [mixed.T, stiffness]])
        gradient = np.concatenate([gradient, stress])
        zero = np.concatenate([zero, np.zeros((6, zero.shape[1]))])
        slopes[0] = np.concatenate([slopes[0], np.zeros((6, 3))])
        if dipole is not None:
            slopes[1] = np.concatenate([slopes[1], by_strain])
        slopes.append(np.concatenate([np.zeros((size, 6)), np.eye(6)]))
    inverse = inverse_across(matrix, zero, gradient)
    for name, slope in zip(("magnetic", "electric"), slopes, strict=False):
        _check_zero_modes(name, slope, zero)
    response = [[a.T @ inverse @ b for b in slopes] for a in slopes]
    volume = image.get_volume() if image.cell.rank == 3 else np.nan
    found: dict[str, np.ndarray | None] = {
        "electric": None,
        "magnetoelectric": None,
        "elastic": None,
        "piezomagnetic": None,
        "piezoelectric": None,
    }
    if dipole is not None:
        found["electric"] = response[1][1]
        found["magnetoelectric"] = response[0][1]
    if cell:
        strain = slopes[-1].T @ inverse
        found["elastic"] = np.linalg.inv(strain @ slopes[-1]) / volume / units.GPa
        found["piezomagnetic"] = MU_B * strain @ slopes[0]
        if dipole is not None:
            found["piezoelectric"] = strain @ slopes[1]
    return StaticResponse(volume, MU_B * response[0][0], **found)


@plots(StaticResponse)
def plot_static_response(result: StaticResponse, ax: Axes | None = None) -> Axes:
    """Draw the magnetoelectric tensor in ps/m, or the magnetic one in mu_B/T."""
    alpha = result.alpha_ps_per_m
    values, label = (
        (result.magnetic, "dM/dB (μ$_B$/T)")
        if alpha is None
        else (alpha, "dM/dE (ps/m)")
    )
    ax = figure_axes(ax)
    largest = float(np.abs(values).max()) or 1.0
    image = ax.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
    for (a, b), value in np.ndenumerate(values):
        ax.text(b, a, f"{value:.3g}", ha="center", va="center")
    ax.set_xticks(range(3), list("xyz"))
    ax.set_yticks(range(3), list("xyz"))
    ax.set(xlabel="field along", ylabel="moment along")
    ax.figure.colorbar(image, ax=ax, label=label)
    return ax


def _dipole_slopes(
    atoms: Atoms, electric: ElectricField
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return derivatives of V P, e A, by positions, moments and strains.

    Returns
    -------
    (3, N, 3), (3, N, 3), (6, 3) arrays
    """
    system = System.from_atoms(atoms, require_spins=electric.uses_spins)
    electric.check(system)
    pairs = build_pairs(system, electric.pair_cutoff(system))
    positions = system.positions.requires_grad_()
    spins = system.spins.requires_grad_()
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        moved = system.replace(positions=positions, spins=spins).strained(strain)
        dipole = electric.dipole(moved, pairs)[0]
        rows = [
            torch.autograd.grad(
                component,
                [positions, spins, strain],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for component in dipole
        ]
    by_positions, by_moments, by_strain = (
        np.array([row[k].numpy() for row in rows]) for k in range(3)
    )
    return (
        by_positions,
        by_moments,
        np.einsum("kab,cab->kc", STRAINS, by_strain[:, 0]),
    )


def _check_zero_modes(name: str, slopes: np.ndarray, zero: np.ndarray) -> None:
    """Raise ValueError where a field acts on a mode without stiffness."""
    along = np.abs(zero.T @ slopes).max(initial=0.0)
    if along > 1e-6 * max(np.abs(slopes).max(initial=0.0), 1e-12):
        raise ValueError(
            f"a {name} field moves the structure along a mode that costs no energy, so "
            "that the response has no bound: add an anisotropy, or fix a moment with "
            "FixSpins"
        )
