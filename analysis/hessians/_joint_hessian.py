"""Hessian of atoms and moments of constant length, its lowest and its zero modes."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
from ase import Atoms
from scipy.linalg import null_space
from scipy.sparse.linalg import LinearOperator, lobpcg

from ...optimize._defaults import SPIN_SCALE
from ._cartesian import cartesian_hessian
from ._tangent_space import TangentSpace
from ._zero_modes import ZeroModes, find_zero_modes

#: Up to this many coordinates, modes come from the whole matrix.
DENSE = 100


class JointHessian(LinearOperator):
    r"""Second derivatives of the energy by atoms and directions of moments.

    The coordinates q, in A, are those of a
    :class:`~deepspin_ase.analysis.hessians._tangent_space.TangentSpace`: free Cartesian
    coordinates, and two angles of each free moment times ``spin_scale``. Along the
    curve on which atoms move straight and moments rotate along great circles,
    E = E_0 + g.q + q.H q/2 + ... . With t = dm/dq this covariant Hessian is

        H = t^T (d2E/dm dm) t - (m.dE/dm)/spin_scale^2

    in the rows of a moment m: what bends the sphere towards its centre acts
    as an additional curvature (Absil, Mahony, Trumpf, Lecture Notes in Computer
    Science 8085, 361 (2013), doi:10.1007/978-3-642-40020-9_39).

    Products ``hessian @ q`` are exact with a DeepSpinCalculator, and differences
    of forces with other calculators; see
    :func:`~deepspin_ase.analysis.cartesian_hessian`.

    Parameters
    ----------
    atoms : Atoms
        With a calculator. Later changes are not seen.
    positions, spins : bool
        What moves; fixed atoms and moments do not (FixAtoms, FixCartesian,
        FixSpins), nor do moments of length zero.
    spin_scale : float
        Length of one radian, A.
    step : float
        Of the differences, A and mu_B.

    Attributes
    ----------
    space : TangentSpace
    energy : float, eV
    gradient : (D,) array, eV/A
    force, torque : float
        Largest force on a free atom, eV/A, and torque on a free moment, eV.

    Raises
    ------
    ValueError
        See TangentSpace and ``cartesian_hessian``.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        positions: bool = True,
        spins: bool = True,
        spin_scale: float = SPIN_SCALE,
        step: float = 1e-3,
    ) -> None:
        self.space = TangentSpace(
            atoms, positions=positions, spins=spins, spin_scale=spin_scale
        )
        super().__init__(np.dtype(float), (self.space.size, self.space.size))
        self._cartesian = cartesian_hessian(
            atoms, positions=positions, spins=spins, step=step
        )
        self._atoms = atoms.copy()
        self._read_gradient()
        self._matrix: np.ndarray | None = None

    def _read_gradient(self) -> None:
        space, gradients = self.space, self._cartesian.gradients
        self.energy = self._cartesian.energy
        self.gradient = space.gradient(*gradients)
        free, _ = space.directions(self.gradient)
        self.force = float(np.linalg.norm(free, axis=1).max())
        moments, fields = (
            space.spins[space.magnetic_sites],
            gradients[1][space.magnetic_sites],
        )
        torques = np.linalg.norm(np.cross(moments, fields), axis=1)
        self.torque = float(torques.max(initial=0.0))
        inward = np.sum(moments * fields, axis=1) / space.spin_scale**2
        self._bend = np.concatenate([np.zeros(len(space.free)), np.repeat(inward, 2)])

    @property
    def n_products(self) -> int:
        """Number of products with directions so far."""
        return self._cartesian.n_products

    def _matmat(self, q: np.ndarray) -> np.ndarray:
        if self._matrix is not None:
            return self._matrix @ q
        space = self.space
        found = self._cartesian.multiply(np.stack(space.directions(q.T), axis=1))
        return space.gradient(found[:, 0], found[:, 1]).T - self._bend[:, None] * q

    def _matvec(self, q: np.ndarray) -> np.ndarray:
        return self._matmat(q.reshape(-1, 1))[:, 0]

    def _adjoint(self) -> JointHessian:
        return self

    def matrix(self) -> np.ndarray:
        """Return the matrix (D, D), eV/A^2; D products, kept for later ones."""
        if self._matrix is None:
            matrix = self._matmat(np.eye(self.shape[0]))
            self._matrix = 0.5 * (matrix + matrix.T)
        return self._matrix

    @cached_property
    def stiffness(self) -> np.ndarray:
        """(D,) estimates of the diagonal, eV/A^2, positive: a preconditioner.

        The mean over the coordinates of each element, from products with random
        signs (Hutchinson's estimator).
        """
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(self.shape[0], 2))
        diagonal = np.mean(signs * (self @ signs), axis=1)
        groups = self.space.groups
        means = np.bincount(groups, diagonal) / np.bincount(groups)
        floor = max(1e-3 * abs(means).max(), np.finfo(float).tiny)
        return np.maximum(abs(means), floor)[groups]

    @cached_property
    def zero_modes(self) -> ZeroModes:
        """Translations and rotations along which the energy is constant."""
        tolerance = self._cartesian.accuracy * self.stiffness
        return find_zero_modes(
            self.space,
            self._atoms,
            self._cartesian.gradients,
            self._cartesian.multiply,
            tolerance,
        )

    def lowest(
        self,
        n: int = 1,
        *,
        start: np.ndarray | None = None,
        tolerance: float = 1e-3,
        iterations: int = 200,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the n lowest modes across the zero modes.

        From the whole matrix up to :data:`DENSE` coordinates, else by LOBPCG
        (Knyazev, SIAM J. Sci. Comput. 23, 517 (2001),
        doi:10.1137/S1064827500366124).

        Parameters
        ----------
        n : int
            At most the number of coordinates that are no zero modes.
        start : (D, K) array, optional
            Guesses.
        tolerance : float
            Largest residual |H v - c v| of LOBPCG, relative to the smallest
            stiffness of atoms or moments of an element.
        iterations : int
            Largest number of LOBPCG, of n products each.

        Returns
        -------
        (n,) array, eV/A^2
            Curvatures c, ascending.
        (D, n) array
            Modes v, orthonormal columns.
        """
        zero = self.zero_modes
        n = min(n, self.shape[0] - len(zero))
        if self.shape[0] <= DENSE:
            across = null_space(zero.vectors.T) if len(zero) else np.eye(self.shape[0])
            values, modes = np.linalg.eigh(across.T @ self.matrix() @ across)
            return values[:n], across @ modes[:, :n]
        rng = np.random.default_rng(0)
        block = rng.normal(size=(self.shape[0], n)) * self.stiffness[:, None] ** -0.5
        if start is not None:
            block[:, : start.shape[1]] = start[:, :n]
        block = np.linalg.qr(zero.removed(block))[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # not within the tolerance
            values, modes = lobpcg(
                self,
                block,
                M=lambda block: block / self.stiffness[:, None],
                Y=zero.vectors if len(zero) else None,
                tol=tolerance * float(self.stiffness.min()),
                maxiter=iterations,
                largest=False,
            )
        order = np.argsort(values)
        return values[order], modes[:, order]
