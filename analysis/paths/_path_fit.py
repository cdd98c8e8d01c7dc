"""Energy along a path from energies and slopes at its images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicHermiteSpline


class PathFit:
    """A curve through energies with given slopes, without extrema of its own making.

    Cubics; where energies and slopes of two images rise or fall together and a cubic
    would not, the rational quadratic of Gregory and Delbourgo (IMA J. Numer. Anal. 2,
    123 (1982), doi:10.1093/imanum/2.2.123), which does. From an end to a higher image
    the curve does not lead below that end.

    Parameters
    ----------
    coordinate : (P,) array, A
    energies : (P,) array, eV
    slopes : (P,) array, eV/A
    """

    def __init__(
        self, coordinate: np.ndarray, energies: np.ndarray, slopes: np.ndarray
    ) -> None:
        slopes = slopes.copy()
        if energies[1] >= energies[0]:
            slopes[0] = max(slopes[0], 0.0)
        if energies[-2] >= energies[-1]:
            slopes[-1] = min(slopes[-1], 0.0)
        self._coordinate, self._energies, self._slopes = coordinate, energies, slopes
        self._cubic = CubicHermiteSpline(coordinate, energies, slopes)
        mean = np.diff(energies) / np.diff(coordinate)
        ends = np.stack([slopes[:-1], slopes[1:]])
        rising = (mean >= 0.0) & (ends >= 0.0).all(axis=0)
        falling = (mean <= 0.0) & (ends <= 0.0).all(axis=0)
        # A cubic is monotone within this circle (Fritsch, Carlson, SIAM J. Numer.
        # Anal. 17, 238 (1980), doi:10.1137/0717021).
        steep = np.sum(ends**2, axis=0) > 9.0 * mean**2
        self._rational = (rising | falling) & steep

    def __call__(self, coordinate: ArrayLike) -> np.ndarray:
        """Return the energies at coordinates of the path, eV."""
        at = np.asarray(coordinate, dtype=float)
        last = len(self._coordinate) - 2
        k = np.clip(np.searchsorted(self._coordinate, at, "right") - 1, 0, last)
        return np.where(self._rational[k], self._monotone(at, k), self._cubic(at))

    def _monotone(self, at: np.ndarray, k: np.ndarray) -> np.ndarray:
        width = self._coordinate[k + 1] - self._coordinate[k]
        rise = self._energies[k + 1] - self._energies[k]
        t = np.clip((at - self._coordinate[k]) / width, 0.0, 1.0)
        mean, first, last = rise / width, self._slopes[k], self._slopes[k + 1]
        upper = mean * t**2 + first * t * (1.0 - t)
        lower = mean + (first + last - 2.0 * mean) * t * (1.0 - t)
        share = np.divide(upper, lower, out=np.zeros_like(upper), where=lower != 0.0)
        return np.asarray(self._energies[k] + rise * share)

    def highest(self) -> tuple[float, float]:
        """Return the coordinate (A) and energy (eV) of the highest point."""
        roots = self._cubic.derivative().roots(extrapolate=False)
        points = np.concatenate([self._coordinate, roots[np.isfinite(roots)]])
        values = self(points)
        top = int(values.argmax())
        return float(points[top]), float(values[top])
