"""Crossings and peaks of curves with errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.polynomial import Polynomial
from numpy.polynomial.polynomial import polyvander
from numpy.typing import ArrayLike

from .._statistics import Estimate

#: Degree of the polynomials that curves are smoothed with.
_DEGREE = 3

#: Curves drawn within the errors.
_DRAWS = 200


def crossing(
    x: ArrayLike, curves: Sequence[tuple[ArrayLike, ArrayLike]], *, seed: int = 0
) -> Estimate:
    """Return the crossing of two curves, from values and errors at common points.

    Both are smoothed by weighted polynomials; the error is that of curves drawn
    within the errors of the values.

    Parameters
    ----------
    x : (T,) array
    curves : two of ((T,) values, (T,) errors)

    Raises
    ------
    ValueError
        If there are fewer than four points, or no crossing between the first and
        the last.
    """
    points = _ascending(x)
    first, second = ([np.asarray(c, float) for c in curve] for curve in curves)

    fits = [_fit(points, curve[1], _DEGREE) for curve in (first, second)]

    def cross(a: np.ndarray, b: np.ndarray) -> float:
        difference = _polynomial(points, fits[0] @ a - fits[1] @ b)
        roots = difference.roots()
        real = roots.real[abs(roots.imag) < 1e-9 * np.ptp(points)]
        inside = real[(real >= points[0]) & (real <= points[-1])]
        if not len(inside):
            return np.nan
        # Of several, the one where the curves part fastest.
        return float(inside[np.argmax(abs(difference.deriv()(inside)))])

    value = cross(first[0], second[0])
    if np.isnan(value):
        raise ValueError(
            f"the curves do not cross between {points[0]:g} and {points[-1]:g}: widen "
            "the range, or sample more"
        )
    return _estimate(value, cross, (first, second), seed)


def peak(
    x: ArrayLike, curve: tuple[ArrayLike, ArrayLike], *, seed: int = 0
) -> Estimate:
    """Return the peak of a curve, from values and errors; NaN if at an end.

    A parabola through the five points (four, at the ends) around the highest.

    Raises
    ------
    ValueError
        If there are fewer than four points.
    """
    points = _ascending(x)
    values, errors = (np.asarray(c, float) for c in curve)

    def top(y: np.ndarray) -> float:
        k = int(np.argmax(y))
        if k in (0, len(y) - 1):
            return np.nan
        near = slice(max(0, k - 2), k + 3)
        fit = _fit(points[near], errors[near], 2)
        parabola = _polynomial(points[near], fit @ y[near])
        (found,) = parabola.deriv().roots().real
        return float(found) if points[0] < found < points[-1] else np.nan

    return _estimate(top(values), top, ((values, errors),), seed)


def _ascending(x: ArrayLike) -> np.ndarray:
    points = np.asarray(x, float)
    if points.ndim != 1 or len(points) < 4 or not (np.diff(points) > 0).all():
        raise ValueError(f"expected four or more ascending points, got {points}")
    return points


def _fit(x: np.ndarray, errors: np.ndarray, degree: int) -> np.ndarray:
    """Return the matrix of a weighted fit of coefficients, (degree + 1, T)."""
    least = max(1e-12, 0.1 * float(np.nanmedian(errors)))
    weights = 1.0 / np.maximum(errors, least)
    table = polyvander(_scaled(x, x), min(degree, len(x) - 1))
    return np.linalg.pinv(weights[:, None] * table) * weights


def _scaled(x: np.ndarray, points: np.ndarray) -> np.ndarray:
    return (2.0 * x - points[0] - points[-1]) / (points[-1] - points[0])


def _polynomial(points: np.ndarray, coefficients: np.ndarray) -> Polynomial:
    ends = [points[0], points[-1]]
    return Polynomial(coefficients, domain=ends, window=[-1.0, 1.0])


def _estimate(
    value: float,
    function: Callable[..., float],
    curves: Sequence[Sequence[np.ndarray]],
    seed: int,
) -> Estimate:
    rng = np.random.default_rng(seed)
    drawn = [
        function(*(y + rng.normal(size=len(y)) * error for y, error in curves))
        for _ in range(_DRAWS)
    ]
    known = [d for d in drawn if np.isfinite(d)]
    # Where half of the draws have none, there is no error to state.
    enough = len(known) > _DRAWS // 2
    return Estimate(value, float(np.std(known)) if enough else np.nan)
