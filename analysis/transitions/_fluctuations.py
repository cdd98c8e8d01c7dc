"""Fluctuation formulas: susceptibility, heat capacity and Binder cumulant.

Order parameters are means per magnetic atom, (F,) or (F, 3), mu_B, such as
:attr:`OrderSeries.magnetization <deepspin_ase.analysis.OrderSeries>` or its
staggered amplitude; they come from a run in equilibrium at one temperature. Errors
are those of :func:`~deepspin_ase.analysis.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result
from ..._validate import positive
from .._statistics import Estimate, bootstrap, mean_with_error
from ..order._series import OrderSeries

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def susceptibility(
    order: ArrayLike, temperature_K: float, n_magnetic: int, *, connected: bool = True
) -> Estimate:
    """Return the susceptibility per magnetic atom, mu_B^2/eV.

    chi = M (<m.m> - <|m|>^2) / (k T): mean moment per atom that a field of 1
    eV/mu_B would induce along the order, in the linear limit; times
    :data:`deepspin_ase.units.MU_B` it is per tesla.

    Parameters
    ----------
    order : (F,) or (F, 3) array, mu_B
        Mean moment or staggered moment per magnetic atom; may be complex.
    temperature_K : float
    n_magnetic : int
        Number M of magnetic atoms.
    connected : bool
        Without, <m.m> / 3 alone, per direction: above the transition, where the
        mean is zero up to finite-size effects.

    Raises
    ------
    ValueError
        If the temperature is not positive, or samples are too few or not finite.
    """
    size = _sizes(order)
    scale = n_magnetic / (units.kB * positive("temperature_K", temperature_K))
    if not connected:
        return bootstrap(size[:, None] ** 2, lambda x: scale * x[..., 0] / 3.0)
    return bootstrap(
        np.stack([size, size**2], axis=1),
        lambda x: scale * (x[..., 1] - x[..., 0] ** 2),
    )


def heat_capacity(
    energies: ArrayLike, temperature_K: float, n_atoms: int = 1
) -> Estimate:
    """Return the heat capacity (<E^2> - <E>^2) / (k T^2) per atom, in k_B.

    Of a run at constant temperature and volume. From potential energies it is the
    part of positions and spins; the momenta add 3/2 k_B per atom.

    Parameters
    ----------
    energies : (F,) array, eV
        Of the whole structure.
    temperature_K : float
    n_atoms : int
        What to divide by.

    Raises
    ------
    ValueError
        As for :func:`susceptibility`.
    """
    e = np.asarray(energies, dtype=float)
    if e.ndim != 1 or not np.isfinite(e).all():
        raise ValueError(
            "energies must be finite numbers (F,), eV; does every frame have an energy?"
        )
    # From the mean: differences of large squares would lose their digits.
    deviation = e - e.mean()
    scale = 1.0 / ((units.kB * positive("temperature_K", temperature_K)) ** 2 * n_atoms)
    return bootstrap(
        np.stack([deviation, deviation**2], axis=1),
        lambda x: scale * (x[..., 1] - x[..., 0] ** 2),
    )


def binder_cumulant(order: ArrayLike) -> Estimate:
    """Return U4 = 1 - <m^4> / (3 <m^2>^2).

    2/3 in perfect order, 4/9 for three free components without any; curves of
    different sizes cross at the transition (K. Binder, Z. Phys. B 43, 119 (1981),
    doi:10.1007/BF01293604), for classical Heisenberg models at about 0.62.

    Parameters
    ----------
    order : (F,) or (F, 3) array
        In any unit; may be complex.

    Raises
    ------
    ValueError
        If samples are too few or not finite.
    """
    square = _sizes(order) ** 2
    return bootstrap(
        np.stack([square, square**2], axis=1),
        lambda x: 1.0 - x[..., 1] / (3.0 * x[..., 0] ** 2),
    )


@dataclass(frozen=True)
class ThermalAverages(Result):
    """Averages of one temperature, each with its error.

    Attributes
    ----------
    temperature_K : float
    magnetization, staggered : Estimate, mu_B
        Mean size per magnetic atom.
    susceptibility, staggered_susceptibility : Estimate, mu_B^2/eV
        Per magnetic atom.
    binder, staggered_binder : Estimate
        U4 of magnetization and staggered order.
    heat_capacity : Estimate or None, k_B
        Per magnetic atom, of the potential energy; where all frames have one.
    n_frames : int
    """

    temperature_K: float
    magnetization: Estimate
    staggered: Estimate
    susceptibility: Estimate
    staggered_susceptibility: Estimate
    binder: Estimate
    staggered_binder: Estimate
    heat_capacity: Estimate | None
    n_frames: int


def thermal_averages(
    series: OrderSeries, temperature_K: float, *, skip: int = 0
) -> ThermalAverages:
    """Return the averages of a run at one temperature.

    Parameters
    ----------
    series : OrderSeries
    temperature_K : float
    skip : int
        Frames before equilibrium, which are left out.

    Raises
    ------
    ValueError
        If samples are too few or the temperature is not positive.
    """
    m, staggered = series.magnetization[skip:], series.staggered[skip:]
    energy, count = series.energy[skip:], series.n_magnetic
    known = len(energy) > 0 and bool(np.isfinite(energy).all())
    return ThermalAverages(
        positive("temperature_K", temperature_K),
        mean_with_error(_sizes(m)),
        mean_with_error(staggered),
        susceptibility(m, temperature_K, count),
        susceptibility(staggered, temperature_K, count),
        binder_cumulant(m),
        binder_cumulant(staggered),
        heat_capacity(energy, temperature_K, count) if known else None,
        len(m),
    )


def plot_thermal_averages(
    results: Mapping[float, ThermalAverages] | list[ThermalAverages],
    ax: Axes | None = None,
    *,
    quantity: str = "magnetization",
) -> Axes:
    """Draw one of the averages against temperature, with error bars.

    Raises
    ------
    ValueError
        If there is no such quantity.
    """
    rows = list(results.values()) if isinstance(results, Mapping) else list(results)
    rows.sort(key=lambda row: row.temperature_K)
    if quantity not in _LABELS:
        raise ValueError(f"quantity must be one of {[*_LABELS]}, got {quantity!r}")
    ax = figure_axes(ax)
    found = [(r.temperature_K, getattr(r, quantity)) for r in rows]
    known = [(t, x.value, x.error) for t, x in found if x is not None]
    t, value, error = np.array(known).reshape(-1, 3).T
    ax.errorbar(t, value, error, fmt="o-", markersize=3, capsize=2)
    ax.set(xlabel="temperature (K)", ylabel=_LABELS[quantity])
    return ax


_LABELS = {
    "magnetization": r"magnetization ($\mu_B$ per magnetic atom)",
    "staggered": r"staggered order ($\mu_B$ per magnetic atom)",
    "susceptibility": r"susceptibility ($\mu_B^2$/eV per magnetic atom)",
    "staggered_susceptibility": r"staggered susceptibility ($\mu_B^2$/eV)",
    "binder": "Binder cumulant of the magnetization",
    "staggered_binder": "Binder cumulant of the staggered order",
    "heat_capacity": r"heat capacity ($k_B$ per magnetic atom)",
}


def _sizes(order: ArrayLike) -> np.ndarray:
    """Return the sizes (F,) of order parameters (F,) or (F, C)."""
    values = np.asarray(order)
    if values.ndim not in (1, 2) or not np.isfinite(values).all():
        raise ValueError(
            f"an order parameter is finite numbers (F,) or (F, 3); got {values.shape}"
        )
    return np.asarray(np.linalg.norm(values.reshape(len(values), -1), axis=1))
