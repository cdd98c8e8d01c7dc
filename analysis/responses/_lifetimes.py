"""Lifetimes of waves from the widths of their peaks in a spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import curve_fit

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive
from .._time_series import PLANCK_MEV_FS
from ..spectra import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Half width of the line of a Hann window, in spacings of the energies.
_HANN = 0.72

#: Points on a peak that a fit needs at least.
_MIN_POINTS = 5


@dataclass(frozen=True, eq=False)
class WaveLifetimes(Result):
    """Energies and widths of waves, one for each of Q wave vectors.

    NaN where no peak was found.

    Attributes
    ----------
    q : (Q, 3) array
        Of the spectrum.
    energies_meV, energies_error : (Q,) arrays
    widths_meV, widths_error : (Q,) arrays
        Half widths at half maximum Gamma, and standard errors of the fit.
    resolution_meV : float
        Half width that a wave without damping has in this spectrum; taken away.
    spectrum : (Q, W) array
        Intensities at positive energies.
    grid_meV : (W,) array
        These energies.
    """

    q: np.ndarray
    energies_meV: np.ndarray
    energies_error: np.ndarray
    widths_meV: np.ndarray
    widths_error: np.ndarray
    resolution_meV: float
    spectrum: np.ndarray
    grid_meV: np.ndarray

    @property
    def lifetimes_fs(self) -> np.ndarray:
        """hbar/(2 Gamma), (Q,): the time in which intensities fall to 1/e."""
        with np.errstate(divide="ignore"):
            return PLANCK_MEV_FS / (4.0 * np.pi * self.widths_meV)


def wave_lifetimes(
    spectrum: Spectrum,
    *,
    resolution_meV: float | None = None,
    min_meV: float = 0.0,
    max_meV: float | None = None,
) -> WaveLifetimes:
    """Fit a damped oscillator to the highest peak at every wave vector.

    Intensities are A Gamma/((E - E_0)^2 + Gamma^2) and its mirror image at -E_0: a wave
    whose amplitude decays as exp(-Gamma t/hbar) (Lorentzian line; S. W. Lovesey, Theory
    of Neutron Scattering from Condensed Matter, Oxford 1984). Of spin spectra these are
    magnons, of velocity spectra phonons. The resolution of the spectrum is a part of
    each width and is taken away as that of a Gaussian (J. J. Olivero and R. L.
    Longbothum, J. Quant. Spectrosc. Radiat. Transf. 17, 233 (1977),
    doi:10.1016/0022-4073(77)90161-3), so that segments must be several lifetimes long.

    Parameters
    ----------
    spectrum : Spectrum
        Of :func:`~deepspin_ase.analysis.spin_spectrum` or
        :func:`~deepspin_ase.analysis.velocity_spectrum`, better of many segments: a
        single one scatters by its own size.
    resolution_meV : float, optional
        Half width of a wave without damping; by default that of a Hann window, 0.72
        spacings of the energies.
    min_meV, max_meV : float
        Where peaks are looked for; from the elastic line on.

    Raises
    ------
    ValueError
        If a number is not as described, or no energy of the spectrum lies between the
        bounds.
    """
    chosen = spectrum.energies_meV > min_meV
    if max_meV is not None:
        chosen &= spectrum.energies_meV <= positive("max_meV", max_meV)
    chosen &= spectrum.energies_meV > 0.0
    grid = spectrum.energies_meV[chosen]
    if len(grid) < _MIN_POINTS:
        raise ValueError(
            f"the spectrum has {len(grid)} energies between {min_meV:g} and "
            f"{max_meV if max_meV is not None else np.inf:g} meV, fewer than a peak "
            "needs: take a longer segment, or other bounds"
        )
    spacing = float(grid[1] - grid[0])
    resolution = (
        _HANN * spacing
        if resolution_meV is None
        else positive("resolution_meV", resolution_meV)
    )
    intensity = spectrum.intensity[:, chosen]
    fits = np.array([_fit(grid, values, spacing) for values in intensity])
    energies, energy_errors, widths, width_errors = fits.T
    return WaveLifetimes(
        q=spectrum.q,
        energies_meV=energies,
        energies_error=energy_errors,
        widths_meV=_without(widths, resolution),
        widths_error=width_errors,
        resolution_meV=resolution,
        spectrum=intensity,
        grid_meV=grid,
    )


@plots(WaveLifetimes)
def plot_wave_lifetimes(result: WaveLifetimes, ax: Axes | None = None) -> Axes:
    """Draw the widths against the energies of the waves."""
    ax = figure_axes(ax)
    ax.errorbar(
        result.energies_meV,
        result.widths_meV,
        result.widths_error,
        result.energies_error,
        fmt="o",
        ms=3,
        capsize=2,
    )
    ax.axhline(result.resolution_meV, color="0.7", ls=":", label="resolution")
    ax.set(xlabel="energy (meV)", ylabel="half width (meV)")
    ax.legend()
    return ax


def _without(widths: np.ndarray, resolution: float) -> np.ndarray:
    """Return widths of Lorentzians from those of their convolutions with Gaussians.

    Inverts w = 0.5346 w_L + sqrt(0.2166 w_L^2 + w_G^2); NaN below the resolution.
    """
    square = np.where(widths > resolution, widths**2 - resolution**2, np.nan)
    a, b = 0.5346**2 - 0.2166, 2.0 * 0.5346 * widths
    return (b - np.sqrt(b * b - 4.0 * a * square)) / (2.0 * a)


def _fit(
    grid: np.ndarray, values: np.ndarray, spacing: float
) -> tuple[float, float, float, float]:
    """Return energy and half width of the highest peak, each with its error, meV."""
    missing = np.nan, np.nan, np.nan, np.nan
    top = int(values.argmax())
    if not values[top] > 0.0:
        return missing
    # Out to a tenth of the height on both sides, where the line is above others.
    low = high = top
    while low > 0 and values[low] > 0.1 * values[top]:
        low -= 1
    while high < len(grid) - 1 and values[high] > 0.1 * values[top]:
        high += 1
    low, high = max(0, low - 2), min(len(grid) - 1, high + 2)
    x, y = grid[low : high + 1], values[low : high + 1] / values[top]
    if len(x) < _MIN_POINTS:
        return missing
    half = max(0.5 * spacing * np.count_nonzero(y > 0.5), spacing)

    def line(e: np.ndarray, e_0: float, gamma: float, area: float) -> np.ndarray:
        up, down = ((e - sign * e_0) ** 2 + gamma**2 for sign in (1.0, -1.0))
        return np.asarray(area * gamma * (1.0 / up + 1.0 / down))

    found = np.array([grid[top], half, half])
    try:
        # Periodograms scatter by their own size: relative to the line as it is known.
        for _ in range(3):
            found, covariance = curve_fit(
                line,
                x,
                y,
                p0=found,
                sigma=np.maximum(line(x, *found), 0.05),
                bounds=([0.0, 0.0, 0.0], np.inf),
            )
    except RuntimeError:  # no convergence
        return missing
    errors = np.sqrt(np.diag(covariance))
    return float(found[0]), float(errors[0]), float(found[1]), float(errors[1])
