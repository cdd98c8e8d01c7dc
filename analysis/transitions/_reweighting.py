"""Averages between sampled states from all of their samples: multiple histograms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components

from .._statistics import Estimate, autocorrelation_time

#: Newton steps, and the residual per sample at which they end.
_STEPS, _CONVERGED = 100, 1e-9

#: Least part of its samples that a state shares with one that it is joined to.
_OVERLAP = 0.01

_APART = (
    "the sampled states overlap too little to be joined: take temperatures and fields "
    "that are closer, or a smaller structure"
)

#: Fewest samples that a state must rest on.
_EFFECTIVE = 30.0

#: Resamples for an error.
_RESAMPLES = 30


class MultiHistogram:
    """Samples of K states joined by the multistate Bennett acceptance ratio.

    The limit of multiple-histogram reweighting (A. M. Ferrenberg and R. H. Swendsen,
    Phys. Rev. Lett. 63, 1195 (1989), doi:10.1103/PhysRevLett.63.1195) for bins of no
    width (M. R. Shirts and J. D. Chodera, J. Chem. Phys. 129, 124105 (2008),
    doi:10.1063/1.2978177):

        f_k = -ln sum_n exp(-u_k(x_n)) / sum_j N_j exp(f_j - u_j(x_n))

    Parameters
    ----------
    reduced : (K, N) array
        u_k(x_n), energies over kT of every sample in every state.
    state : (N,) integer array
        The state that each sample is of.
    resamples : int
        Of the samples of each state, for errors.
    seed : int

    Attributes
    ----------
    free_energies : (K,) array
        f_k, over kT; the first is zero.

    Raises
    ------
    ValueError
        If a state has no samples, or the states overlap too little to be joined.
    """

    def __init__(
        self,
        reduced: ArrayLike,
        state: ArrayLike,
        *,
        resamples: int = _RESAMPLES,
        seed: int = 0,
    ) -> None:
        u, owner = np.asarray(reduced, dtype=float), np.asarray(state)
        counts = np.bincount(owner, minlength=len(u)).astype(float)
        if len(counts) != len(u) or not (counts > 0).all():
            raise ValueError("every state needs samples")
        rng = np.random.default_rng(seed)
        groups = [np.flatnonzero(owner == k) for k in range(len(u))]
        times = [np.ones(u.shape[1])]
        for _ in range(resamples):
            drawn = np.concatenate([rng.choice(g, len(g)) for g in groups])
            times.append(np.bincount(drawn, minlength=u.shape[1]).astype(float))
        self._times = np.array(times)
        start = _first_guess(u, groups)
        found: list[np.ndarray] = []
        for row in self._times:
            found.append(_solved(u, counts, row, found[0] if found else start))
        _require_overlap(u, counts, found[0])
        self.free_energies = found[0]
        self._mixture = np.array([_log_mixture(u, counts, f) for f in found])

    def weights(self, reduced: ArrayLike) -> np.ndarray:
        """Return the weights (1 + R, N) of the samples in another state, u(x_n) (N,).

        The first row is the estimate, the others are the resamples. NaN where fewer
        than 30 samples have weight.
        """
        logs = -np.asarray(reduced, dtype=float) - self._mixture
        weights = self._times * np.exp(logs - logs.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        if 1.0 / (weights[0] ** 2).sum() < _EFFECTIVE:
            return np.full_like(weights, np.nan)
        return weights

    def estimate(
        self,
        weights: np.ndarray,
        values: ArrayLike,
        function: Callable[[np.ndarray], np.ndarray],
    ) -> Estimate:
        """Return a function of means, as :func:`.bootstrap` does, with its error.

        Parameters
        ----------
        weights : (1 + R, N) array
        values : (N, C) array
        function : callable
            Of means (..., C), along the last axis; returns (...).
        """
        found = function(weights @ np.asarray(values, dtype=float))
        return Estimate(float(found[0]), float(np.std(found[1:])))


def independent(series: ArrayLike) -> np.ndarray:
    """Return the numbers of the samples of a series (F, C) that are independent.

    One in each autocorrelation time of the slowest column.
    """
    table = np.asarray(series, dtype=float)
    tau = max(autocorrelation_time(column) for column in table.T)
    return np.arange(0, len(table), int(np.ceil(tau)))


def _first_guess(u: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    """Return f_k by the mean differences between one state and the next."""
    steps = [
        0.5 * ((u[k + 1] - u[k])[groups[k]].mean())
        + 0.5 * ((u[k + 1] - u[k])[groups[k + 1]].mean())
        for k in range(len(u) - 1)
    ]
    return np.concatenate([[0.0], np.cumsum(steps)])


def _log_mixture(u: np.ndarray, counts: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return ln sum_k N_k exp(f_k - u_k) of all samples, (N,)."""
    logs = (np.log(counts) + f)[:, None] - u
    highest = logs.max(axis=0)
    return np.asarray(highest + np.log(np.exp(logs - highest).sum(axis=0)))


def _require_overlap(u: np.ndarray, counts: np.ndarray, f: np.ndarray) -> None:
    """Raise ValueError unless the overlap matrix links all states."""
    shares = np.exp((np.log(counts) + f)[:, None] - u - _log_mixture(u, counts, f))
    overlap = shares @ shares.T / counts[:, None]
    if connected_components(overlap > _OVERLAP, directed=False)[0] > 1:
        raise ValueError(_APART)


def _solved(
    u: np.ndarray, counts: np.ndarray, times: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return f (K,), f_0 = 0, which minimizes a convex function, by Newton's method.

    sum_n w_n ln sum_k N_k exp(f_k - u_k(x_n)) - sum_k N_k f_k
    """

    def value(f: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = _log_mixture(u, counts, f)
        return float(times @ mixture - counts @ f), mixture

    f = start
    now, mixture = value(f)
    for _ in range(_STEPS):
        shares = np.exp((np.log(counts) + f)[:, None] - u - mixture)
        weighted = shares * times
        gradient = weighted.sum(axis=1) - counts
        if abs(gradient).max() < _CONVERGED * counts.sum():
            return np.asarray(f - f[0])
        hessian = np.diag(weighted.sum(axis=1)) - weighted @ shares.T
        # A shift of all f changes nothing: the first one is held.
        step = np.zeros_like(f)
        step[1:] = np.linalg.lstsq(hessian[1:, 1:], -gradient[1:], rcond=None)[0]
        size = 1.0
        while size > 1e-6:
            then, mixture = value(f + size * step)
            if then <= now + 1e-4 * size * float(gradient @ step):
                break
            size *= 0.5
        else:
            # Round-off ends the descent.
            if abs(gradient).max() < 1e-4 * counts.sum():
                return np.asarray(f - f[0])
            break
        f, now = f + size * step, then
    raise ValueError(_APART)
