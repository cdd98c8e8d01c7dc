"""Coupled magnons and phonons from the joint Hessian of positions and spins.

>>> joint = MagnonPhonons.from_atoms(atoms, repeat=3)  # relaxed, atoms.calc set
>>> plot_magnon_phonon_bands(joint.bands(k_path(atoms, "GX")))

To second order in displacements u and transverse deviations q of the unit vectors
the energy is u K u / 2 + u C q + q h q / 2, and the linearised equations of motion,

    M u'' = -K u - C q,    |m|/gamma q' = J (h q + C^T u),    J = [[0, -1], [1, 0]],

are those of :class:`deepspin_ase.dynamics.SpinLatticeNVE`. With the pairs (U, P) =
(sqrt(M W) u / hbar, p / sqrt(M W)), W any energy, and Q = q / sqrt(g/|m|) they take
the canonical form of :func:`~deepspin_ase.analysis.magnons.normal_modes`. Without C
the modes are the phonons at fixed moments and the magnons on a frozen lattice. Lengths
of moments are fixed. Non-analytical corrections for polar crystals are not applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._progress import bar
from ..._result import Result, plots
from ..._rotations import local_axes
from ...units import G_FACTOR, HBAR
from .._kpath import KPath, wave_vectors
from ..hessians._bloch import Blocks, fold_to_pairs, warn_of_aliasing
from ..hessians._response import Crystal
from ._bogoliubov import Modes, normal_modes
from ._spin_waves import SpinWaves, warn_unstable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Largest force of a structure that counts as relaxed, eV/A.
RELAXED = 0.05


@dataclass(frozen=True, eq=False)
class JointInstability(Result):
    """A joint deviation that lowers the energy of the reference state.

    Attributes
    ----------
    k : (3,) array
        Wave vector in reciprocal lattice units of the cell.
    curvature : float, eV
        Smallest eigenvalue of the canonical form; negative.
    displacements : (N, 3) complex array, A
        Of the atoms of the cell; times exp(i k.R) in other cells.
    deviations : (n, 3) complex array
        Of the unit vectors of the moments, to the same scale.
    growth : float, eV
        hbar times the fastest growth rate at this k.
    """

    k: np.ndarray
    curvature: float
    displacements: np.ndarray
    deviations: np.ndarray
    growth: float


@dataclass(frozen=True, eq=False)
class MagnonPhononBands(Result):
    """Coupled modes, 3N + n of them at each wave vector.

    Attributes
    ----------
    kpts : (K, 3) array
        Reciprocal lattice units of the cell.
    energies : (K, 3N + n) array, eV
        hbar omega, ascending.
    growth : (K, 3N + n) array, eV
        hbar times the growth rate of modes that do not oscillate.
    magnon_fraction : (K, 3N + n) array
        Weight of the spins in the mode: 0 for a phonon, 1 for a magnon.
    vectors : (K, 6N + 2n, 3N + n) complex array
        (U, P, Q) of every mode in columns, see :meth:`MagnonPhonons.pattern`.
    instability : JointInstability or None
        The worst of all wave vectors.
    path : KPath, optional
    """

    kpts: np.ndarray
    energies: np.ndarray
    growth: np.ndarray
    magnon_fraction: np.ndarray
    vectors: np.ndarray
    instability: JointInstability | None
    path: KPath | None = None

    @property
    def stable(self) -> bool:
        """Whether no deviation lowers the energy at any of the wave vectors."""
        return self.instability is None


class MagnonPhonons:
    """Linearised motion of atoms and spins about a reference state.

    Use :meth:`from_atoms`.

    Parameters
    ----------
    waves : SpinWaves
        The spins on the frozen lattice.
    force_constants : Blocks, eV/A^2
        K, (3, 3) between the N atoms of the cell.
    coupling : Blocks, eV/A
        C, (3, 2) from atoms to the transverse deviations of the n magnetic sites.
    """

    def __init__(
        self, waves: SpinWaves, force_constants: Blocks, coupling: Blocks
    ) -> None:
        self.waves = waves
        self.force_constants = force_constants
        self.coupling = coupling
        masses = waves.atoms.get_masses()
        n = 3 * len(masses)
        size = np.zeros(len(masses))
        norms = np.linalg.norm(force_constants.values, axis=(1, 2))
        np.add.at(size, force_constants.i, norms / masses[force_constants.i])
        #: W, eV: no phonon has more energy than this, where there are any.
        self._scale = max(
            HBAR * float(np.sqrt(size.max())), 1e-3 * waves.max_energy, 1e-9
        )
        self._mass = np.sqrt(np.repeat(masses, 3) * self._scale) / HBAR
        one, zero = np.eye(n), np.zeros((n, n))
        lattice = np.block([[zero, 1j * one], [-1j * one, zero]])
        edge = np.zeros((2 * n, len(waves.sigma)))
        self.sigma = np.block([[lattice, edge], [edge.T, waves.sigma]])

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        *,
        repeat: int | Sequence[int] | None = None,
        g_factor: float = G_FACTOR,
        check: bool = True,
    ) -> MagnonPhonons:
        """Take the second derivatives from the atoms' calculator.

        Parameters
        ----------
        atoms : Atoms
            The magnetic cell, positions and moments relaxed, with a calculator
            that gives forces and ``magnetic_forces``.
        repeat : int or three ints, optional
            Cells of the supercell in which derivatives are taken. By default
            enough for the interaction to end within it; for charges choose one.
        g_factor : float
        check : bool
            Refuse states on which forces or torques act.

        Raises
        ------
        ValueError
            If there is no calculator or moment, forces or torques act, or the
            range of the calculator is not known and ``repeat`` not given.
        """
        crystal = Crystal(atoms, repeat=repeat, positions=True)
        if check:
            _check_forces(crystal)
        waves = SpinWaves.from_atoms(
            atoms, repeat=crystal.repeat, g_factor=g_factor, check=check
        )
        K, C = _displacement_rows(crystal)
        everyone = np.arange(len(crystal.home))
        images = crystal.images(everyone, everyone)
        force_constants = fold_to_pairs(images, K, everyone)
        warn_of_aliasing(force_constants.fraction_beyond(images.radius))
        coupling = fold_to_pairs(crystal.images(everyone, crystal.sites), C, everyone)
        return cls(waves, force_constants, coupling)

    def hamiltonian(self, kpts: ArrayLike) -> np.ndarray:
        """Return the canonical form M(k), (K, 6N + 2n, 6N + 2n), eV; Hermitian."""
        k = self.waves.cartesian(kpts)
        K = self.force_constants.at(k) / np.outer(self._mass, self._mass)
        C = self.coupling.at(k) * np.outer(
            1.0 / self._mass, self.waves.deviation_scales
        )
        h = self.waves.hamiltonian(kpts)
        n = K.shape[1]
        M = np.zeros((len(k), *self.sigma.shape), dtype=complex)
        M[:, :n, :n] = 0.5 * (K + K.conj().transpose(0, 2, 1))
        M[:, n : 2 * n, n : 2 * n] = self._scale * np.eye(n)
        M[:, :n, 2 * n :] = C
        M[:, 2 * n :, :n] = C.conj().transpose(0, 2, 1)
        M[:, 2 * n :, 2 * n :] = h
        return M

    def modes(self, kpts: ArrayLike) -> Modes:
        """Return the normal modes at wave vectors (K, 3), without any warning."""
        tolerance = self.waves.relative_tolerance * max(
            self._scale, self.waves.max_energy
        )
        return normal_modes(self.hamiltonian(kpts), self.sigma, tolerance=tolerance)

    def pattern(
        self, vector: np.ndarray, k: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pattern of a mode; real parts are physical.

        Parameters
        ----------
        vector : (6N + 2n,) complex array
            A column of ``vectors`` at k; its phase advances as exp(-i omega t).
        k : (3,) array
            Reciprocal lattice units.

        Returns
        -------
        (N, 3) complex array, A
            Displacements.
        (N, 3) complex array, ASE units
            Momenta.
        (n, 3) complex array
            Deviations of the unit vectors of the moments. All for the atoms of the
            cell; times exp(i k.R) in other cells.
        """
        n = len(self._mass)
        U, P, Q = np.split(vector, [n, 2 * n])
        phases = np.exp(1j * self.waves.atoms.positions @ self.waves.cartesian(k)[0])
        return (
            phases[:, None] * (U / self._mass).reshape(-1, 3),
            phases[:, None] * (P * self._mass * HBAR).reshape(-1, 3),
            self.waves.pattern(Q, k),
        )

    def bands(self, kpts: ArrayLike | KPath) -> MagnonPhononBands:
        """Return the coupled modes at wave vectors or along a path.

        Parameters
        ----------
        kpts : (K, 3) array or KPath
            Reciprocal lattice units of the cell.

        Warns
        -----
        UnstableReferenceWarning
            If the reference state is not an energy minimum; the mode is in the result.
        """
        points, path = wave_vectors(kpts)
        modes = self.modes(points)
        instability = self._instability(points, modes)
        if instability is not None:
            warn_unstable(instability.k, f"growth {1000 * instability.growth:.3g} meV")
        return MagnonPhononBands(
            points,
            modes.energies,
            modes.growth,
            self._magnon_fraction(modes.vectors),
            modes.vectors,
            instability,
            path,
        )

    def _magnon_fraction(self, X: np.ndarray) -> np.ndarray:
        """Return the part of the spins in X^+ sigma X, or in |X|^2 where that is 0."""
        n = 2 * len(self._mass)
        part = np.einsum(
            "kam,ab,kbm->km", X[:, n:].conj(), self.waves.sigma, X[:, n:]
        ).real
        whole = np.einsum("kam,ab,kbm->km", X.conj(), self.sigma, X).real
        plain = (np.abs(X[:, n:]) ** 2).sum(axis=1) / (np.abs(X) ** 2).sum(axis=1)
        normal = np.abs(whole - 1.0) < 1e-3
        return np.where(normal, part, plain).clip(0.0, 1.0)

    def _instability(self, kpts: np.ndarray, modes: Modes) -> JointInstability | None:
        if modes.stable.all():
            return None
        worst = int(np.where(modes.stable, np.inf, modes.curvature).argmin())
        u, _, e = self.pattern(modes.softest[worst], kpts[worst])
        return JointInstability(
            kpts[worst],
            float(modes.curvature[worst]),
            u,
            e,
            float(modes.growth[worst].max()),
        )


def _check_forces(crystal: Crystal) -> None:
    forces = np.asarray(crystal.large.calc.get_property("forces", crystal.large))
    size = np.linalg.norm(forces, axis=1)[: len(crystal.home)]
    if size.max() > RELAXED:
        raise ValueError(
            f"a force of {size.max():.3g} eV/A acts on atom {size.argmax()}; relax the "
            "positions first"
        )


def _displacement_rows(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Return K (N, N', 3, 3), eV/A^2, and C (N, N', 3, 2), eV/A.

    Between the N atoms of the cell and the N' of the supercell; C is zero where
    there is no moment.
    """
    hessian = crystal.hessian(positions=True)
    count, columns = len(crystal.home), crystal.columns
    lengths = np.tile(crystal.lengths, crystal.n_cells)
    across = np.tile(local_axes(crystal.directions), (crystal.n_cells, 1, 1))
    K = np.zeros((count, hessian.n_atoms, 3, 3))
    C = np.zeros((count, hessian.n_atoms, 3, 2))
    with bar(total=3 * count, desc="force constants") as progress:
        for atom in range(count):
            for axis in range(3):
                direction = np.zeros((hessian.n_atoms, 3))
                direction[atom, axis] = 1.0
                forces, fields = hessian.product(displacements=direction)
                K[atom, :, axis] = forces
                C[atom, columns, axis] = lengths[:, None] * np.einsum(
                    "jxb,jb->jx", across, fields[columns]
                )
                progress.update()
    return K, C


@plots(MagnonPhononBands)
def plot_magnon_phonon_bands(result: MagnonPhononBands, ax: Axes | None = None) -> Axes:
    """Draw energies in meV, from blue (phonon) to red (magnon).

    Growth rates of an unstable state are drawn downwards as dashed red lines.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    ax = figure_axes(ax)
    path = result.path
    x = np.arange(len(result.kpts)) if path is None else path.distances
    y = 1000.0 * result.energies
    points = np.stack([np.broadcast_to(x[:, None], y.shape), y], axis=-1)
    segments = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    fraction = 0.5 * (result.magnon_fraction[:-1] + result.magnon_fraction[1:])
    colors = LinearSegmentedColormap.from_list(
        "phonon-magnon", ["tab:blue", "tab:purple", "tab:red"]
    )
    lines = LineCollection(
        list(segments), array=fraction.ravel(), cmap=colors, clim=(0, 1), lw=1.6
    )
    ax.add_collection(lines)
    ax.figure.colorbar(lines, ax=ax, label="magnon fraction")
    falling = np.where(result.growth > 0, -1000.0 * result.growth, np.nan)
    growing = ax.plot(x, falling, "--", color="tab:red", lw=1.2)
    if np.isfinite(falling).any():
        growing[0].set_label("minus the growth rate")
        ax.legend(frameon=False)
    bottom = min(0.0, y.min(), np.nanmin(falling, initial=0.0))
    ax.set(xlim=(x[0], x[-1]), ylim=(1.05 * bottom, 1.05 * y.max()))
    if path is not None:
        path.decorate(ax)
    ax.set_ylabel("energy (meV)")
    return ax
