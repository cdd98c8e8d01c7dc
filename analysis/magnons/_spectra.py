"""Density of states, stiffness and group velocities of spin waves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from .._kpath import KPath, wave_vectors
from ._spin_waves import MagnonBands, SpinWaves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Steps of the stiffness's differences, in shortest reciprocal lattice vectors.
_STEP = 0.01

#: Modes whose energies differ by less than this fraction of the largest are degenerate.
_DEGENERATE = 1e-7


@dataclass(frozen=True, eq=False)
class MagnonDOS(Result):
    """Density of magnon states.

    Attributes
    ----------
    energies : (E,) array, eV
    dos : (E,) array, states / eV
        Per magnetic cell; the integral is the number of its magnetic atoms.
    width : float, eV
        Standard deviation of the Gaussian that every state is spread by.
    """

    energies: np.ndarray
    dos: np.ndarray
    width: float


def magnon_dos(
    waves: SpinWaves,
    mesh: int | tuple[int, int, int] = 20,
    *,
    energies: ArrayLike | None = None,
    width: float | None = None,
) -> MagnonDOS:
    """Return the density of states on a mesh of wave vectors around Gamma.

    Parameters
    ----------
    waves : SpinWaves
    mesh : int or three ints
        Wave vectors along each reciprocal lattice vector; one where the cell is
        not periodic.
    energies : (E,) array, eV, optional
        501 of them, up to past the highest magnon, by default.
    width : float, eV, optional
        Standard deviation of the Gaussian that every state is spread by; a hundredth
        of the highest magnon by default.

    Raises
    ------
    ValueError
        If the mesh is not positive or the reference state is unstable.
    """
    counts = np.array([mesh] * 3 if np.ndim(mesh) == 0 else mesh, dtype=int)
    if counts.shape != (3,) or counts.min() < 1:
        raise ValueError(f"mesh must be positive integers, got {mesh}")
    counts[~waves.atoms.pbc] = 1
    kpts = np.stack(
        np.meshgrid(*(np.arange(n) / n for n in counts), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    modes = waves.modes(kpts)
    waves.require_stable(modes, kpts, "a density of states")
    top = float(modes.energies.max())
    width = top / 100.0 if width is None else width
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    if energies is None:
        energies = np.linspace(0.0, top + 5.0 * width, 501)
    grid = np.asarray(energies, dtype=float)
    dos = np.zeros(len(grid))
    for chunk in np.array_split(
        modes.energies.ravel(), 1 + modes.energies.size // 4096
    ):
        dos += np.exp(-0.5 * ((grid[:, None] - chunk) / width) ** 2).sum(axis=1)
    dos /= np.sqrt(2.0 * np.pi) * width * len(kpts)
    return MagnonDOS(grid, dos, width)


def spin_stiffness(waves: SpinWaves) -> np.ndarray:
    """Return the spin stiffness tensor D of hbar omega = gap + k.D.k.

    From symmetric differences of the lowest branch at small k, extrapolated to
    k = 0; a term linear in k (Dzyaloshinskii-Moriya) drops out.

    Returns
    -------
    (3, 3) array, eV A^2

    Raises
    ------
    ValueError
        If the reference state is unstable or has no net moment, or the lowest
        branch is not quadratic: those of antiferromagnets are linear in k, see
        :func:`group_velocities`.
    """
    moments = waves.lengths[:, None] * waves.directions
    if np.linalg.norm(moments.sum(axis=0)) < 1e-3 * waves.lengths.sum():
        raise ValueError(
            "a stiffness needs a net moment; the branches of an antiferromagnet are "
            "linear in k, see group_velocities"
        )
    reciprocal = 2.0 * np.pi * waves.atoms.cell.reciprocal().array[waves.atoms.pbc]
    if not len(reciprocal):
        raise ValueError("a stiffness needs a periodic cell")
    step = _STEP * np.linalg.norm(reciprocal, axis=1).min()
    axes = [(a, b) for a in range(3) for b in range(a, 3)]
    unit = np.array([np.eye(3)[a] + np.eye(3)[b] for a, b in axes])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    steps = step * np.array([1.0, 2.0, 4.0])
    k = steps[:, None, None] * unit
    cartesian = np.concatenate([np.zeros((1, 3)), k.reshape(-1, 3), -k.reshape(-1, 3)])
    kpts = cartesian @ waves.atoms.cell.array.T / (2.0 * np.pi)
    modes = waves.modes(kpts)
    waves.require_stable(modes, kpts, "a stiffness")
    lowest = modes.energies[:, 0]
    there, back = lowest[1:].reshape(2, 3, 6)
    curved = 0.5 * (there + back - 2.0 * lowest[0]) / steps[:, None] ** 2
    if (np.abs(curved[0] - curved[1]) > 0.2 * np.abs(curved).max()).any():
        raise ValueError(
            "the lowest branch is not quadratic in k at small k, as that of a canted "
            "antiferromagnet is not; see group_velocities"
        )
    once = (4.0 * curved[:-1] - curved[1:]) / 3.0
    along = (16.0 * once[0] - once[1]) / 15.0
    D = np.zeros((3, 3))
    for (a, b), value in zip(axes, along, strict=True):
        D[a, b] = D[b, a] = value
    # Along (a + b)/sqrt 2 it is (D_aa + D_bb)/2 + D_ab.
    for a, b in ((0, 1), (0, 2), (1, 2)):
        D[a, b] = D[b, a] = D[a, b] - 0.5 * (D[a, a] + D[b, b])
    return D


def group_velocities(waves: SpinWaves, kpts: ArrayLike | KPath) -> np.ndarray:
    """Return the slopes d(hbar omega)/dk of all branches.

    By first-order perturbation theory in k, X^+ (dM/dk) X with X^+ sigma X = 1.
    Degenerate branches are separated by their slope along a direction of
    no symmetry.

    Parameters
    ----------
    waves : SpinWaves
    kpts : (K, 3) array or KPath
        Reciprocal lattice units of the magnetic cell.

    Returns
    -------
    (K, n, 3) array, eV A
        Divide by :data:`deepspin_ase.units.HBAR` for velocities. Not a number at
        zero energy, where branches that are linear in k have no derivative.

    Raises
    ------
    ValueError
        If the reference state is unstable.
    """
    points, _ = wave_vectors(kpts)
    modes = waves.modes(points)
    waves.require_stable(modes, points, "a group velocity")
    cartesian = waves.cartesian(points)
    scale = np.outer(waves.deviation_scales, waves.deviation_scales)
    slopes = np.stack(
        [waves.blocks.slope(cartesian, axis) * scale for axis in range(3)], axis=1
    )
    slopes = 0.5 * (slopes + slopes.conj().swapaxes(2, 3))
    top = waves.max_energy * waves.relative_tolerance + modes.energies.max()
    general = np.array([0.8, 0.5, 0.33])
    result = np.full((*modes.energies.shape, 3), np.nan)
    for k, (E, X) in enumerate(zip(modes.energies, modes.vectors, strict=True)):
        gaps = np.flatnonzero(np.diff(E) > _DEGENERATE * top) + 1
        for level in np.split(np.arange(len(E)), gaps):
            if E[level[0]] < 1e-6 * top:
                continue
            inside = X[:, level].conj().T @ slopes[k] @ X[:, level]
            mixed = np.linalg.eigh(np.tensordot(general, inside, axes=1))[1]
            own = np.einsum("xm,axy,ym->ma", mixed.conj(), inside, mixed)
            result[k, level] = own.real
    return result


@plots(MagnonBands)
def plot_magnon_bands(
    result: MagnonBands, ax: Axes | None = None, **style: Any
) -> Axes:
    """Draw magnon energies in meV along a path, or against their number.

    Where the reference state is unstable, growth rates are drawn downwards as
    dashed red lines.

    Parameters
    ----------
    **style
        Passed to ``ax.plot``.
    """
    ax = figure_axes(ax)
    path = result.path
    x = np.arange(len(result.kpts)) if path is None else path.distances
    drawn: dict[str, Any] = {"color": "C0", "lw": 1.2} | style
    label = drawn.pop("label", None)
    lines = ax.plot(x, 1000.0 * result.energies, **drawn)
    lines[0].set_label(label)
    if result.growth.any():
        falling = np.where(result.growth > 0, -1000.0 * result.growth, np.nan)
        growing = ax.plot(x, falling, "--", color="C3", lw=1.2)
        growing[0].set_label("minus the growth rate")
    if label is not None or result.growth.any():
        ax.legend(frameon=False)
    ax.axhline(0.0, color="0.8", lw=0.8, zorder=0)
    if path is not None:
        path.decorate(ax)
    ax.set_ylabel("magnon energy (meV)")
    return ax


@plots(MagnonDOS)
def plot_magnon_dos(result: MagnonDOS, ax: Axes | None = None, **style: Any) -> Axes:
    """Draw the density of states per meV against energy in meV.

    Parameters
    ----------
    **style
        Passed to ``ax.plot``.
    """
    ax = figure_axes(ax)
    ax.plot(1000.0 * result.energies, result.dos / 1000.0, **style)
    ax.set(
        xlabel="magnon energy (meV)", ylabel="states per meV and cell", ylim=(0, None)
    )
    return ax
