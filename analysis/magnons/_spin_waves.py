"""Linear spin waves of any commensurate order.

>>> waves = SpinWaves.from_atoms(atoms)  # relaxed moments, atoms.calc set
>>> bands = waves.bands(k_path(atoms, "GXG"))
>>> plot_magnon_bands(bands)

Moments rotate at fixed lengths on a frozen lattice. With transverse deviations
q = (q1, q2) of every unit vector, e -> e + q1 t1 + q2 t2, the energy to second order
is q h q / 2 and the Landau-Lifshitz equation gives

    |m| / (gamma) dq/dt = J h q,   J = [[0, -1], [1, 0]],   gamma = g / hbar,

so that hbar omega are the eigenvalues of sigma_y w h w with w = sqrt(g / |m|): the
frequencies of :class:`deepspin_ase.dynamics.SpinDynamics` without damping. For
spins S = |m|/g these are the energies of linear spin-wave theory (Toth and Lake, J.
Phys.: Condens. Matter 27, 166002 (2015), doi:10.1088/0953-8984/27/16/166002). Waves
go as exp(i (k.r - omega t)). Spins are opposite to the moments: codes that write the
same energy for spins along the moments give the energies of -k where Dzyaloshinskii-
Moriya exchange distinguishes k from -k.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._result import Result
from ..._rotations import local_axes
from ...units import G_FACTOR
from .._kpath import KPath, wave_vectors
from ..exchange._tensors import ExchangeTensors
from ..hessians._bloch import Blocks, fold_to_pairs, warn_of_aliasing
from ..hessians._response import Crystal, check_torques, spin_rows
from ._bogoliubov import Modes, normal_modes

#: Negative curvatures up to this fraction of the largest are round-off.
TOLERANCE = 1e-8


class UnstableReferenceWarning(UserWarning):
    """The reference state is not an energy minimum."""


def warn_unstable(k: np.ndarray, how: str) -> None:
    """Warn the caller's caller that the state is unstable at wave vector k."""
    warnings.warn(
        f"the reference state is unstable: at k = ({_listed(k)}) a deviation lowers "
        f"the energy ({how}); see bands.instability",
        UnstableReferenceWarning,
        stacklevel=3,
    )


def _listed(k: np.ndarray) -> str:
    return ", ".join(f"{x:.4g}" for x in k)


@dataclass(frozen=True, eq=False)
class Instability(Result):
    """A deviation that lowers the energy of the reference state.

    Attributes
    ----------
    k : (3,) array
        Wave vector in reciprocal lattice units of the magnetic cell.
    curvature : float, eV
        Second derivative of the energy along the mode (per g/|m|); negative.
    deviations : (n, 3) complex array
        Change of the unit vector of each magnetic site of the cell; times
        exp(i k.R) in other cells. Normalised.
    growth : float, eV
        hbar times the fastest growth rate at this k; zero where the state
        precesses instead of falling.
    """

    k: np.ndarray
    curvature: float
    deviations: np.ndarray
    growth: float


@dataclass(frozen=True, eq=False)
class MagnonBands(Result):
    """Magnons along a path or at any list of wave vectors.

    Attributes
    ----------
    kpts : (K, 3) array
        Reciprocal lattice units of the magnetic cell.
    energies : (K, n) array, eV
        hbar omega, ascending; negative where the mode lowers the energy.
    growth : (K, n) array, eV
        hbar times the growth rate of modes that do not oscillate about the
        reference state; zero where it is stable.
    vectors : (K, 2n, n) complex array
        X of each mode; :meth:`SpinWaves.pattern` shows it.
    instability : Instability or None
        The worst of all wave vectors.
    path : KPath, optional
    """

    kpts: np.ndarray
    energies: np.ndarray
    growth: np.ndarray
    vectors: np.ndarray
    instability: Instability | None
    path: KPath | None = None

    @property
    def stable(self) -> bool:
        """Whether no deviation lowers the energy at any of the wave vectors."""
        return self.instability is None


class SpinWaves:
    """Linear spin-wave theory about a reference state.

    Use :meth:`from_atoms` or :meth:`from_exchange`.

    Parameters
    ----------
    atoms : Atoms
        The magnetic cell.
    sites : (n,) integer array
        Its magnetic atoms.
    lengths : (n,) array, mu_B
        Lengths of their moments.
    directions : (n, 3) array
        Unit vectors along them.
    blocks : Blocks, eV
        Second derivatives h of the energy by the transverse deviations, 2 x 2,
        along :func:`~deepspin_ase._rotations.local_axes` of the directions.
    g_factor : float
    relative_tolerance : float
        Negative curvatures up to this fraction of the largest are round-off.

    Attributes
    ----------
    deviation_scales : (2n,) array
        w = sqrt(g/|m|) of every deviation.
    sigma : (2n, 2n) array
        See :func:`~deepspin_ase.analysis.magnons.normal_modes`.
    max_energy : float, eV
        Upper bound of the magnon energies.
    """

    def __init__(
        self,
        atoms: Atoms,
        sites: np.ndarray,
        lengths: np.ndarray,
        directions: np.ndarray,
        blocks: Blocks,
        *,
        g_factor: float = G_FACTOR,
        relative_tolerance: float = TOLERANCE,
    ) -> None:
        self.atoms = atoms
        self.sites = sites
        self.lengths = lengths
        self.directions = directions
        self.blocks = blocks
        self.g_factor = g_factor
        self.deviation_scales = np.repeat(np.sqrt(g_factor / lengths), 2)
        n = len(sites)
        # No curvature at any k is larger than this.
        rows = np.zeros(n)
        np.add.at(rows, blocks.i, np.linalg.norm(blocks.values, axis=(1, 2)))
        self.max_energy = float(np.max(rows * g_factor / lengths))
        self.relative_tolerance = relative_tolerance
        self.sigma = np.kron(np.eye(n), np.array([[0.0, -1j], [1j, 0.0]]))

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        *,
        repeat: int | Sequence[int] | None = None,
        g_factor: float = G_FACTOR,
        check: bool = True,
    ) -> SpinWaves:
        """Take the second derivatives from the atoms' calculator.

        No form of the energy is assumed: biquadratic terms, networks and
        anisotropies of any order count as they are at the reference state.

        Parameters
        ----------
        atoms : Atoms
            The magnetic cell in its (relaxed) magnetic order, with a calculator
            that gives ``magnetic_forces``.
        repeat : int or three ints, optional
            Cells of the supercell in which derivatives are taken. By default
            enough for the interaction to end within it.
        g_factor : float
        check : bool
            Refuse states on which torques act.

        Raises
        ------
        ValueError
            If there is no calculator or moment, torques act, the range of the
            calculator is not known and ``repeat`` not given, or the supercell is
            too small for nearest neighbours.
        """
        crystal = Crystal(atoms, repeat=repeat)
        crystal.check_size()
        rows, accuracy = spin_rows(crystal)
        if check:
            crystal.check_stationary(float(np.abs(rows).max()))
        images = crystal.images(crystal.sites, crystal.sites)
        blocks = fold_to_pairs(images, rows, crystal.sites)
        warn_of_aliasing(blocks.fraction_beyond(images.radius))
        return cls(
            crystal.home,
            crystal.sites,
            crystal.lengths,
            crystal.directions,
            blocks,
            g_factor=g_factor,
            relative_tolerance=max(TOLERANCE, accuracy),
        )

    @classmethod
    def from_exchange(
        cls,
        exchange: ExchangeTensors,
        *,
        directions: ArrayLike | None = None,
        g_factor: float = G_FACTOR,
    ) -> SpinWaves:
        """Use exchange tensors, on-site anisotropies and fields.

        Parameters
        ----------
        exchange : ExchangeTensors
        directions : (n, 3) array, optional
            The order: directions of the magnetic sites. By default that of the
            reference state of ``exchange``.
        g_factor : float

        Raises
        ------
        ValueError
            If torques act in this order.
        """
        if not isinstance(exchange, ExchangeTensors):
            raise TypeError(
                f"expected ExchangeTensors, got {type(exchange).__name__}; for Atoms "
                "there is SpinWaves.from_atoms"
            )
        e = exchange.directions if directions is None else _unit(directions, exchange)
        fields, curvature = _site_terms(exchange, e)
        along = np.einsum("ia,ia->i", e, fields)
        check_torques(np.cross(e, fields), float(np.abs(along).max()), exchange.sites)
        t = local_axes(e)
        pairs = exchange.blocks
        values = -np.einsum("pxa,pab,pyb->pxy", t[pairs.i], pairs.values, t[pairs.j])
        own = np.einsum("ixa,iab,iyb->ixy", t, curvature, t) + (
            along[:, None, None] * np.eye(2)
        )
        n = len(e)
        zero = np.zeros((n, 3))
        blocks = Blocks(
            np.append(pairs.i, np.arange(n)),
            np.append(pairs.j, np.arange(n)),
            np.concatenate([pairs.shift, zero.astype(int)]),
            np.concatenate([pairs.vectors, zero]),
            np.concatenate([values, own]),
            (n, n),
        )
        return cls(
            exchange.atoms,
            exchange.sites,
            exchange.lengths,
            e,
            blocks,
            g_factor=g_factor,
            relative_tolerance=max(TOLERANCE, exchange.accuracy),
        )

    def hamiltonian(self, kpts: ArrayLike) -> np.ndarray:
        """Return M(k) = w h(k) w, (K, 2n, 2n), eV; Hermitian."""
        M = self.blocks.at(self.cartesian(kpts)) * np.outer(
            self.deviation_scales, self.deviation_scales
        )
        return 0.5 * (M + M.conj().transpose(0, 2, 1))

    def cartesian(self, kpts: ArrayLike) -> np.ndarray:
        """Return wave vectors (K, 3), 1/A, of ``kpts`` (K, 3) or (3,)."""
        points, _ = wave_vectors(kpts)
        return 2.0 * np.pi * points @ self.atoms.cell.reciprocal().array

    def modes(self, kpts: ArrayLike) -> Modes:
        """Return the normal modes at wave vectors (K, 3), without any warning."""
        tolerance = self.relative_tolerance * self.max_energy
        return normal_modes(self.hamiltonian(kpts), self.sigma, tolerance=tolerance)

    def pattern(self, vector: np.ndarray, k: ArrayLike) -> np.ndarray:
        """Return the deviations of a mode; the real part is physical.

        Parameters
        ----------
        vector : (2n,) complex array
            A column of ``vectors`` at k; its phase advances as exp(-i omega t).
        k : (3,) array
            Reciprocal lattice units.

        Returns
        -------
        (n, 3) complex array
            Of the unit vectors of the sites; times exp(i k.R) in other cells.
        """
        q = (vector * self.deviation_scales).reshape(-1, 2)
        phases = np.exp(1j * self.atoms.positions[self.sites] @ self.cartesian(k)[0])
        return phases[:, None] * np.einsum("ix,ixa->ia", q, local_axes(self.directions))

    def bands(self, kpts: ArrayLike | KPath) -> MagnonBands:
        """Return the magnons at wave vectors or along a path.

        Parameters
        ----------
        kpts : (K, 3) array or KPath
            Reciprocal lattice units of the magnetic cell.

        Warns
        -----
        UnstableReferenceWarning
            If the reference state is not an energy minimum; the mode is in the result.
        """
        points, path = wave_vectors(kpts)
        modes = self.modes(points)
        instability = self._instability(points, modes)
        if instability is not None:
            warn_unstable(
                instability.k,
                f"curvature {1000 * instability.curvature:.3g} meV, growth "
                f"{1000 * instability.growth:.3g} meV",
            )
        return MagnonBands(
            points, modes.energies, modes.growth, modes.vectors, instability, path
        )

    def _instability(self, kpts: np.ndarray, modes: Modes) -> Instability | None:
        if modes.stable.all():
            return None
        worst = int(np.where(modes.stable, np.inf, modes.curvature).argmin())
        e = self.pattern(modes.softest[worst], kpts[worst])
        return Instability(
            kpts[worst],
            float(modes.curvature[worst]),
            e / np.linalg.norm(e),
            float(modes.growth[worst].max()),
        )

    def require_stable(self, modes: Modes, kpts: np.ndarray, what: str) -> None:
        """Raise ValueError where modes are meaningless: the state is unstable."""
        found = self._instability(kpts, modes)
        if found is not None:
            raise ValueError(
                f"{what} needs a stable reference state; this one is unstable at k = "
                f"({_listed(found.k)}), curvature "
                f"{1000 * found.curvature:.3g} meV. Relax the moments, or see "
                "SpinWaves.bands for the mode"
            )


def _site_terms(
    exchange: ExchangeTensors, e: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return -dE/de (n, 3) and the on-site d2E/de2 (n, 3, 3), eV."""
    pairs = exchange.blocks
    fields = exchange.fields + 2.0 * np.einsum("iab,ib->ia", exchange.onsite, e)
    np.add.at(fields, pairs.i, np.einsum("pab,pb->pa", pairs.values, e[pairs.j]))
    return fields, -2.0 * exchange.onsite


def _unit(directions: ArrayLike, exchange: ExchangeTensors) -> np.ndarray:
    e = np.asarray(directions, dtype=float)
    if e.shape != (len(exchange.sites), 3) or not np.isfinite(e).all():
        raise ValueError(
            f"directions must be finite, ({len(exchange.sites)}, 3), one for each "
            f"magnetic site; got {e.shape}"
        )
    lengths = np.linalg.norm(e, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("a direction has no length")
    return e / lengths
