"""Normal modes of quadratic Hamiltonians of canonical pairs.

Small deviations X of spins, and of atoms with their momenta, obey
i hbar dX/dt = sigma M X, where the energy is X^+ M X / 2, M is Hermitian and sigma is
Hermitian with sigma^2 = 1, half of its eigenvalues +1 and half -1. Modes are the
solutions of sigma M X = E X with X^+ sigma X = 1; they are half of the solutions,
the others have the opposite sign of E at the opposite wave vector. For spins this
is the Bogoliubov transformation of linear spin-wave theory (Colpa, Physica A 93,
327 (1978), doi:10.1016/0378-4371(78)90160-7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..._result import Result


@dataclass(frozen=True, eq=False)
class Modes(Result):
    """Normal modes at K wave vectors, n of them at each.

    Attributes
    ----------
    energies : (K, n) array, eV
        hbar omega, ascending. Negative where the mode lowers the energy of the
        reference state, which then is not a minimum.
    growth : (K, n) array, eV
        hbar times the rate at which the deviation grows; zero in a stable state.
    vectors : (K, 2n, n) complex array
        X of each mode in columns, with X^+ sigma X = 1; of length one where that
        vanishes (zero modes and growing ones).
    curvature : (K,) array, eV
        Smallest eigenvalue of M.
    softest : (K, 2n) complex array
        Its eigenvector.
    stable : (K,) bool array
        Whether the curvature is not negative.
    """

    energies: np.ndarray
    growth: np.ndarray
    vectors: np.ndarray
    curvature: np.ndarray
    softest: np.ndarray
    stable: np.ndarray


def normal_modes(M: np.ndarray, sigma: np.ndarray, *, tolerance: float) -> Modes:
    """Return the normal modes of sigma M.

    Parameters
    ----------
    M : (K, 2n, 2n) Hermitian array, eV
    sigma : (2n, 2n) Hermitian array
    tolerance : float, eV
        Curvatures that are negative by no more than this are round-off: such M is
        treated as positive semidefinite.
    """
    d, U = np.linalg.eigh(M)
    stable = d[:, 0] >= -tolerance
    n = M.shape[1] // 2
    energies, growth = np.zeros((2, len(M), n))
    vectors = np.zeros((len(M), 2 * n, n), dtype=complex)
    if stable.any():
        energies[stable], vectors[stable] = _semidefinite(
            d[stable], U[stable], sigma, tolerance
        )
    for k in np.flatnonzero(~stable):
        energies[k], growth[k], vectors[k] = _indefinite(M[k], sigma)
    return Modes(energies, growth, vectors, d[:, 0], U[:, :, 0], stable)


def _semidefinite(
    d: np.ndarray, U: np.ndarray, sigma: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return energies and vectors for M = U d U^+ >= 0.

    With M = K^+ K, the Hermitian K sigma K^+ has the same energies, and its
    eigenvectors y give X = sigma K^+ y / sqrt(E).
    """
    n = d.shape[1] // 2
    root = np.sqrt(d.clip(0.0))
    K = root[:, :, None] * U.conj().transpose(0, 2, 1)
    adjoint = K.conj().transpose(0, 2, 1)
    E, y = np.linalg.eigh(K @ sigma @ adjoint)
    energies, y = E[:, n:].clip(0.0), y[:, :, n:]
    zero = energies <= np.sqrt(tolerance * d[:, -1:].clip(tolerance))
    vectors = sigma @ adjoint @ y
    vectors /= np.sqrt(np.where(zero, 1.0, energies))[:, None, :]
    for k in np.flatnonzero(zero.any(axis=1)):
        count = int(zero[k].sum())
        # Among the directions of least curvature, those of largest norm.
        soft = U[k][:, : 2 * count]
        norms, mixed = np.linalg.eigh(soft.conj().T @ sigma @ soft)
        positive = np.where(norms[-count:] > 1e-6, norms[-count:], 1.0)
        vectors[k][:, :count] = soft @ mixed[:, -count:] / np.sqrt(positive)
    return energies, vectors


def _indefinite(
    M: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energies, growth rates and vectors where M has negative eigenvalues."""
    n = len(M) // 2
    E, X = np.linalg.eig(sigma @ M)
    norms = np.einsum("ak,ab,bk->k", X.conj(), sigma, X).real
    scale = np.abs(E).max()
    growing = np.abs(E.imag) > 1e-7 * scale
    # Solutions come in pairs: of norm +1 and -1, or growing and decaying.
    rank = np.where(growing, np.sign(E.imag), norms)
    chosen = np.argsort(-rank, kind="stable")[:n]
    chosen = chosen[np.argsort(E.real[chosen], kind="stable")]
    E, X = E[chosen], X[:, chosen]
    norms, growing = norms[chosen], growing[chosen]
    X = X / np.sqrt(np.where(growing | (norms < 1e-6), 1.0, norms))
    return E.real, np.where(growing, E.imag, 0.0), X
