"""Finite-size scaling of Binder cumulants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.polynomial import polyvander
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from ..._result import Result
from .._statistics import Estimate

#: Exponent omega of the first correction to scaling.
_CORRECTION = 0.8

#: Scale of U4, in which the scaling function is of order one, and its powers.
_SCALE = 0.1
_DEGREE = 5

#: What is expected without data: 1/nu, and errors of it, of c_k and of b.
_EXPONENT = 1.5
_PRIORS = np.array([0.3, *[1.0] * (_DEGREE - 1), 0.1])

#: Scaled distance |z| from the transition within which cumulants count.
_NEAR = 1.5

#: Fewest cumulants for a fit, and how many of the nearest always count.
_LEAST, _ALWAYS = 8, 10

#: Choices of those that count.
_ROUNDS = 8

#: Errors by which the cumulant must fall through the transition.
_CLEAR = 2.0


@dataclass(frozen=True)
class ScalingFit(Result):
    """Parameters of a finite-size scaling fit, with errors.

    Attributes
    ----------
    transition_K : Estimate
    exponent : Estimate
        1/nu; 1.41, 1.49 and 1.59 for Heisenberg, XY and Ising models in three
        dimensions.
    cumulant : Estimate
        U4 at the transition of an infinite system.
    chi_squared : float
        Per degree of freedom of the fit.
    n_points : int
        Cumulants used.
    """

    transition_K: Estimate
    exponent: Estimate
    cumulant: Estimate
    chi_squared: float
    n_points: int


def scaling_fit(
    temperatures_K: ArrayLike, lengths: ArrayLike, values: ArrayLike, errors: ArrayLike
) -> ScalingFit:
    """Fit finite-size scaling with its first correction to Binder cumulants.

        U4(T, L) = U* + s (z + sum_k c_k z^k) + b L^-omega
        z = a/s (T/Tc - 1) L^(1/nu)

    with k = 2 to 5, s = 0.2, and omega = 0.8, which is that of the three-dimensional
    Ising, XY and Heisenberg models within 0.04 (K. Binder, Z. Phys. B 43, 119 (1981),
    doi:10.1007/BF01293604; A. Pelissetto and E. Vicari, Phys. Rep. 368, 549 (2002),
    doi:10.1016/S0370-1573(02)00219-3). Two or a few sizes do not determine b, 1/nu and
    c_k well: they enter as 0 +- 0.1, 1.5 +- 0.3 and 0 +- 0.5, so that the error of Tc
    holds what is not known of them. Cumulants with |z| > 1 are left out.

    Parameters
    ----------
    temperatures_K : (T,) array
    lengths : (S,) array
        Linear sizes L: cube roots of the numbers of moments.
    values, errors : (S, T) arrays
        U4 and its standard errors; not used where they are not finite.

    Raises
    ------
    ValueError
        If fewer than eight cumulants are known, or they show no transition between
        the first and the last temperature.
    """
    size, temperature = np.meshgrid(lengths, temperatures_K, indexing="ij")
    columns = [np.asarray(a, dtype=float) for a in (temperature, size, values, errors)]
    data = np.stack([column.ravel() for column in columns])
    data = data[:, np.isfinite(data).all(axis=0)]
    if data.shape[1] < _LEAST or len(np.unique(data[1])) < 2:
        raise ValueError(
            f"only {data.shape[1]} cumulants are known, too few for a transition: "
            "sample more"
        )
    # Rare events that a short run has missed must not pin the fit.
    data[3] = np.maximum(data[3], max(0.1 * np.median(data[3]), 1e-12))
    used = np.ones(data.shape[1], dtype=bool)
    for _ in range(_ROUNDS):
        found, covariance, chi_squared = _fitted(data[:, used])
        distance = abs(_scaled(data, found))
        before, used = used, distance <= max(_NEAR, np.sort(distance)[:_ALWAYS][-1])
        if (used == before).all():
            break
    covariance *= max(1.0, chi_squared)
    sigma = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    first, last = np.min(temperatures_K), np.max(temperatures_K)
    known = first <= found[0] <= last and sigma[0] < 0.5 * (last - first)
    if not (known and _falls(found, covariance, data[1, before])):
        raise ValueError(
            "the cumulants show no transition between the first and the last "
            "temperature"
        )
    transition, exponent, cumulant = (
        Estimate(float(found[k]), float(sigma[k])) for k in range(3)
    )
    return ScalingFit(transition, exponent, cumulant, chi_squared, int(before.sum()))


def _falls(found: np.ndarray, covariance: np.ndarray, lengths: np.ndarray) -> bool:
    """Return whether U4 clearly falls at the transition, at the mean length."""
    log_length = np.log(lengths).mean()
    # Of ln|dU4/dT|, by 1/nu and a, which depend on each other.
    gradient = np.array([log_length, 1.0 / found[3]])
    part = covariance[np.ix_([1, 3], [1, 3])]
    error = np.sqrt(gradient @ part @ gradient)
    return bool(found[3] < 0.0 and error < 1.0 / _CLEAR)


def _fitted(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return Tc, 1/nu, U*, a, c_k and b, their covariance, and chi^2 per freedom."""
    temperature, length, values, errors = data
    scale = temperature.mean()
    expected = np.array([_EXPONENT, *[0.0] * _DEGREE])

    def residuals(p: np.ndarray) -> np.ndarray:
        off = (_cumulants(data, np.append(scale * p[0], p[1:])) - values) / errors
        return np.append(off, (np.append(p[1], p[4:]) - expected) / _PRIORS)

    def start(transition: float, exponent: float) -> np.ndarray:
        x = (temperature / transition - 1.0) * length**exponent
        table = polyvander(x, 1) / errors[:, None]
        line = np.linalg.lstsq(table, values / errors, rcond=None)[0]
        rest = np.zeros(_DEGREE)
        return np.array([transition / scale, exponent, *line, *rest])

    starts = [
        start(transition, _EXPONENT + off)
        for transition in np.linspace(temperature.min(), temperature.max(), 41)
        for off in (-_PRIORS[0], 0.0, _PRIORS[0])
    ]
    first = min(starts, key=lambda p: float((residuals(p) ** 2).sum()))
    best = least_squares(residuals, first, x_scale="jac", max_nfev=100)
    covariance = np.linalg.pinv(best.jac.T @ best.jac)
    found = best.x.copy()
    found[0] *= scale
    covariance[0] *= scale
    covariance[:, 0] *= scale
    freedom = len(best.fun) - len(found)
    return found, covariance, float((best.fun**2).sum() / freedom)


def _scaled(data: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return z."""
    return np.asarray(p[3] / _SCALE * (data[0] / p[0] - 1.0) * data[1] ** p[1])


def _cumulants(data: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the cumulants of the form that is fitted."""
    z = _scaled(data, p)
    powers = polyvander(z, _DEGREE)[:, 1:] @ np.append(1.0, p[4:-1])
    return np.asarray(p[2] + _SCALE * powers + p[-1] * data[1] ** -_CORRECTION)
