"""Magnetostriction: strains that follow the direction of the moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._rotations import rotate, rotations_between
from ..._validate import positive, positive_numbers
from ...calculators._deepspin import require_stress
from ...spins import get_spins, set_spins, unit_vector
from .._model import Model, model_of
from .._statistics import mean_with_error
from ..hessians import JointHessian
from ..transitions._thermal_sampling import check_run, run_sampling
from ._derivatives import (
    STRAINS,
    VOIGT,
    elastic_constants,
    inverse_across,
    strain_derivatives,
)
from ._model import with_calculator
from ._strained_runs import Run

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


@dataclass(frozen=True, eq=False)
class ThermalMagnetostriction(Result):
    """Magnetostriction of a cubic crystal at T temperatures.

    Attributes
    ----------
    temperatures_K : (T,) array
    magnetization : (T,) array, mu_B
        Mean moment along the field per magnetic atom, with the field along x.
    elastic : (6, 6) array, GPa
        Elastic constants at rest; Voigt order.
    B1_GPa, B1_error, B2_GPa, B2_error : (T,) arrays
        Magnetoelastic constants, with standard errors.
    """

    temperatures_K: np.ndarray
    magnetization: np.ndarray
    elastic: np.ndarray
    B1_GPa: np.ndarray
    B1_error: np.ndarray
    B2_GPa: np.ndarray
    B2_error: np.ndarray

    @property
    def lambda_100(self) -> np.ndarray:
        """-(2/3) B_1/(C11 - C12), (T,)."""
        return -2.0 / 3.0 * self.B1_GPa / _moduli(self.elastic)[0]

    @property
    def lambda_111(self) -> np.ndarray:
        """-B_2/(3 C44), (T,)."""
        return -self.B2_GPa / (3.0 * _moduli(self.elastic)[1])


def thermal_magnetostriction(
    atoms: Atoms,
    temperatures_K: ArrayLike,
    *,
    field_T: float,
    steps: int = 5000,
    equilibration: int | None = None,
    interval: int = 5,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> ThermalMagnetostriction:
    """Return the magnetostriction of a cubic magnet at finite temperature.

    From the mean stress of runs in a field along x and along [111], which holds the
    moment there: B_1 = sigma_xx - (sigma_yy + sigma_zz)/2 and B_2 = 3 sigma_xy. It
    falls with the magnetization m, of single ions as m^3 when it is cold (H. B. Callen
    and E. Callen, J. Phys. Chem. Solids 27, 1271 (1966),
    doi:10.1016/0022-3697(66)90012-6).

    Parameters
    ----------
    atoms : Atoms
        The whole periodic structure, at rest, with moments and cube axes along x, y, z.
    temperatures_K : (T,) array
        Positive; all run in one batch for each direction.
    field_T : float
        Positive: strong against the anisotropy, weak against the exchange.
    steps, equilibration, interval, method, options, model, seed, progress
        As for :func:`~deepspin_ase.analysis.curie_temperature`.

    Raises
    ------
    ValueError
        If there is no model or no stress, the structure is not at its minimum, samples
        are too few, temperatures or the field are not positive, or moments are missing.
    """
    temperatures = positive_numbers("temperatures_K", temperatures_K)
    field = positive("field_T", field_T)
    check_run(method, steps, interval)
    image = with_calculator(atoms, model)
    require_stress(image, purpose="magnetostriction")
    elastic, volume = elastic_constants(image), image.get_volume()
    found = []
    for n, pattern in (
        ((1.0, 0.0, 0.0), (1.0, -0.5, -0.5, 0.0, 0.0, 0.0)),
        ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)),
    ):
        axis = unit_vector(n)
        given = {**(options or {}), "external_field_T": tuple((field * axis).tolist())}
        start = atoms.copy()
        lengths = np.linalg.norm(get_spins(atoms), axis=1)
        set_spins(start, lengths[:, None] * axis)
        run = Run(method, steps, equilibration, interval, given, seed)
        given_model = model_of(atoms, model)
        task = run.task(
            start, given_model, temperatures, np.zeros(6), np.array([pattern])
        )
        samples = run_sampling(task, progress=progress)
        works = samples.observables["strain 0"] / volume / units.GPa
        found.append(np.array([mean_with_error(work) for work in works]).T)
        if len(found) == 1:
            magnetization = samples.magnetization.mean(axis=1) @ axis
    return ThermalMagnetostriction(
        temperatures, magnetization, elastic, *found[0], *found[1]
    )


@plots(ThermalMagnetostriction)
def plot_thermal_magnetostriction(
    result: ThermalMagnetostriction, ax: Axes | None = None
) -> Axes:
    """Draw lambda_100 and lambda_111 against temperature."""
    ax = figure_axes(ax)
    along, across = _moduli(result.elastic)
    for values, error, label in (
        (result.lambda_100, 2.0 / 3.0 * result.B1_error / along, "$\\lambda_{100}$"),
        (result.lambda_111, result.B2_error / (3.0 * across), "$\\lambda_{111}$"),
    ):
        ax.errorbar(
            result.temperatures_K,
            1e6 * values,
            1e6 * error,
            fmt="o-",
            ms=3,
            capsize=2,
            label=label,
        )
    ax.set(xlabel="temperature (K)", ylabel="magnetostriction (10⁻⁶)")
    ax.legend()
    return ax


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


def _moduli(elastic: np.ndarray) -> tuple[float, float]:
    """Return C11 - C12 and C44, means over the cube axes."""
    block = elastic[:3, :3]
    off = (block.sum() - np.trace(block)) / 6.0
    return float(np.trace(block) / 3.0 - off), float(np.trace(elastic[3:, 3:]) / 3.0)


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
