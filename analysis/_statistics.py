"""Autocorrelation times, standard errors and block bootstrap of correlated samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._result import storable

#: Blocks that a series is at least cut into for an error.
_MIN_BLOCKS = 8

#: Lags of the autocorrelation that are summed, in autocorrelation times: more add
#: noise, fewer leave out correlation (Sokal takes 4 to 10).
_WINDOW = 5.0


@storable
class Estimate(NamedTuple):
    """A mean and its standard error, in the same unit."""

    value: float
    error: float


def autocorrelation_time(series: ArrayLike) -> float:
    """Return the integrated autocorrelation time tau of a series (F,), in samples.

    tau = 1 + 2 sum_t rho(t), summed up to the first lag of 5 tau or more (A. Sokal,
    "Monte Carlo methods in statistical mechanics", in Functional Integration,
    Springer 1997, doi:10.1007/978-1-4899-0319-8_6): F / tau samples are independent.
    1 for independent samples and for a constant, and never less.

    Raises
    ------
    ValueError
        If there are fewer than two samples, or they are not finite.
    """
    samples = np.asarray(series, dtype=float)
    if samples.ndim != 1 or len(samples) < 2 or not np.isfinite(samples).all():
        raise ValueError(
            "an autocorrelation time needs a series of two or more finite numbers, "
            f"got shape {samples.shape}"
        )
    deviation = samples - samples.mean()
    if np.abs(deviation).max() <= 1e-12 * max(np.abs(samples).max(), 1e-300):
        return 1.0
    # Zeros after the series keep the correlation from wrapping around.
    padded = 1 << (2 * len(deviation) - 1).bit_length()
    power = np.abs(np.fft.rfft(deviation, padded)) ** 2
    correlation = np.fft.irfft(power)[: len(deviation)]
    taus = 2.0 * np.cumsum(correlation / correlation[0]) - 1.0
    # The last sum is zero, as deviations are, so that there is always such a lag.
    window = np.argmax(np.arange(len(taus)) >= _WINDOW * taus)
    return max(1.0, float(taus[window]))


def mean_with_error(series: ArrayLike) -> Estimate:
    """Return the mean of a series (F,) and its error, sqrt(var tau / F)."""
    samples = np.asarray(series, dtype=float)
    tau = autocorrelation_time(samples)
    return Estimate(
        float(samples.mean()), float(np.sqrt(samples.var() * tau / len(samples)))
    )


def bootstrap(
    samples: ArrayLike,
    function: Callable[[np.ndarray], np.ndarray],
    *,
    n_resamples: int = 500,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Return a function of averages, with its error by a bootstrap of blocks.

    Samples are averaged in blocks of about two autocorrelation times of their
    slowest column, blocks are drawn with replacement, and the function is taken of
    their means (H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989),
    doi:10.1063/1.457480, for blocks; B. Efron, Ann. Stat. 7, 1 (1979),
    doi:10.1214/aos/1176344552, for the bootstrap).

    Parameters
    ----------
    samples : (F, K) array
        K quantities of F frames, such as m^2 and m^4.
    function : callable
        Of means (..., K), along the last axis; returns (...).
    n_resamples : int
    seed : int or numpy Generator

    Raises
    ------
    ValueError
        If there are too few samples for an error, at least 16 and eight blocks.
    """
    table = np.asarray(samples, dtype=float)
    if table.ndim != 2 or len(table) < 2 * _MIN_BLOCKS:
        raise ValueError(
            f"an error needs samples (F, K) of at least {2 * _MIN_BLOCKS} frames, got "
            f"shape {table.shape}"
        )
    tau = max(autocorrelation_time(column) for column in table.T)
    length = int(np.ceil(2.0 * tau))
    count = len(table) // length
    if count < _MIN_BLOCKS:
        raise ValueError(
            f"the {len(table)} frames are correlated over {tau:.0f} of them, too few "
            f"for an error: run {2 * _MIN_BLOCKS * tau / len(table):.1f} times longer "
            "or more, and leave out the frames before equilibrium"
        )
    # The first frames that fill no block are dropped: they know equilibrium least.
    blocks = table[len(table) - count * length :].reshape(count, length, -1).mean(1)
    rng = np.random.default_rng(seed)
    drawn = blocks[rng.integers(count, size=(n_resamples, count))].mean(axis=1)
    return Estimate(float(function(table.mean(axis=0))), float(function(drawn).std()))


def covariance(means: np.ndarray) -> np.ndarray:
    """Return <a b> - <a><b> from means (..., 3) of a, b and a b, for a bootstrap."""
    return np.asarray(means[..., 2] - means[..., 0] * means[..., 1])


def mean_of_realizations(values: ArrayLike) -> np.ndarray:
    """Return the mean (..., 2), with its error, of R values with errors (R, ..., 2).

    The scatter of independent realizations holds the error of each; where few of them
    happen to agree better than their own errors, these count. Realizations that are
    NaN are left out.
    """
    table = np.asarray(values, dtype=float)
    known = np.isfinite(table).all(axis=-1)
    count = known.sum(axis=0)
    each = np.where(known, table[..., 0], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = each.sum(axis=0) / count
        square = np.where(known, (each - mean) ** 2, 0.0).sum(axis=0)
        scatter = np.sqrt(square / (count - 1) / count)
    error = np.fmax(np.where(count > 1, scatter, np.nan), thermal_error(table))
    return np.stack([mean, error], axis=-1)


def thermal_error(values: ArrayLike) -> np.ndarray:
    """Return the part (...) of the error of a mean that the errors of R values give."""
    errors = np.asarray(values, dtype=float)[..., 1]
    count = np.isfinite(errors).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.nansum(errors**2, axis=0)) / count)
