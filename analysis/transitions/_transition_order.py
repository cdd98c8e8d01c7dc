"""Transitions of first and of second order told apart by their energies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from ..._figures import figure_axes
from ..._result import Result, plots
from .._statistics import Estimate
from ._reweighting import MultiHistogram, independent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Temperatures that are looked at, and bins in a standard deviation of the energy.
_TEMPERATURES, _BINS = 161, 20

#: Width of the kernel that smooths densities: times n^-1/5 for n samples, in standard
#: deviations of the energy. Narrow, since what is looked for is a dip.
_KERNEL = 0.5

#: Least distance of two peaks in standard deviations: that of two equal Gaussians is
#: 1.4 where a dip appears between them.
_DISTANT = 1.2

#: Errors by which a dip between two peaks must be clear, and its least depth.
_CLEAR, _DEEP = 4.0, 0.1


@dataclass(frozen=True, eq=False)
class TransitionOrder(Result):
    """Energies at a transition.

    Attributes
    ----------
    temperature_K : Estimate
        Where both peaks of the energies are as high or, where there is one, of the
        highest heat capacity.
    latent_heat : Estimate
        Distance of the peaks, eV/atom; zero where there is one.
    barrier : Estimate
        ln of the ratio of their height to that of the dip between them: the free
        energy of the wall between two phases over kT; zero where there is one peak.
        Of a first-order transition it grows with the cross-section of the structure.
    binder_minimum : Estimate
        Lowest U4 of the order over all temperatures. Without order U4 is 4/9 (three
        components) or more; where two phases coexist it dips below, and falls with
        size (K. Vollmayr et al., Z. Phys. B 91, 113 (1993), doi:10.1007/BF01316713).
    energies, density : (n,) arrays
        eV/atom, and the density of the energy at ``temperature_K``, per eV/atom.
    """

    temperature_K: Estimate
    latent_heat: Estimate
    barrier: Estimate
    binder_minimum: Estimate
    energies: np.ndarray
    density: np.ndarray

    @property
    def first_order(self) -> bool:
        """Whether there are two peaks, with a clear dip between them."""
        return self.barrier.value > 0.0

    def __str__(self) -> str:
        """Return a sentence, with numbers."""
        at = f"{self.temperature_K.value:.4g} +- {self.temperature_K.error:.2g} K"
        if not self.first_order:
            return f"no sign of first order at {at}: the energies have one peak"
        heat, error = 1e3 * np.array(self.latent_heat)
        return (
            f"first order at {at}: latent heat {heat:.3g} +- {error:.1g} meV/atom, "
            f"barrier {self.barrier.value:.2g} +- {self.barrier.error:.1g} kT"
        )


def transition_order(
    temperatures_K: ArrayLike,
    energies: ArrayLike,
    order: ArrayLike,
    n_atoms: int,
    *,
    seed: int = 0,
) -> TransitionOrder:
    """Tell the order of a transition from samples at temperatures on both sides.

    All samples together, by multiple histograms, give the density of the energy at any
    temperature between (A. M. Ferrenberg and R. H. Swendsen, Phys. Rev. Lett. 63, 1195
    (1989), doi:10.1103/PhysRevLett.63.1195). At a transition of first order it has two
    peaks (M. S. S. Challa, D. P. Landau and K. Binder, Phys. Rev. B 34, 1841 (1986),
    doi:10.1103/PhysRevB.34.1841). One size is a hint; a barrier that grows with size
    tells for sure.

    Parameters
    ----------
    temperatures_K : (T,) array
    energies : (T, F) array, eV
        Of the whole structure, with that of a field.
    order : (T, F) array
        Size of the order parameter.
    n_atoms : int
    seed : int

    Raises
    ------
    ValueError
        If the heat capacity is highest at the first or the last of the temperatures
        whose energies overlap: take others, or closer ones; a strong first-order
        transition may have none, but shows in a sweep in both directions.
    """
    temperatures = np.asarray(temperatures_K, dtype=float)
    table, sizes = np.asarray(energies, dtype=float), np.asarray(order, dtype=float)
    highest = int(np.argmax(table.var(axis=1) / temperatures**2))
    window = temperatures[[max(0, highest - 2), min(len(table) - 1, highest + 2)]]
    near = _around(highest, temperatures, table)
    temperatures, table, sizes = temperatures[near], table[near], sizes[near]
    chosen = [independent(np.stack(x, axis=1)) for x in zip(table, sizes, strict=True)]
    energy = np.concatenate([e[k] for e, k in zip(table, chosen, strict=True)])
    m = np.concatenate([e[k] for e, k in zip(sizes, chosen, strict=True)])
    state = np.repeat(np.arange(len(temperatures)), list(map(len, chosen)))
    energy = energy - energy.mean()
    beta = 1.0 / (units.kB * temperatures)
    joined = MultiHistogram(beta[:, None] * energy, state, seed=seed)
    grid = np.linspace(temperatures[0], temperatures[-1], _TEMPERATURES)

    def weights(temperature: float) -> np.ndarray:
        return joined.weights(energy / (units.kB * temperature))

    means = [_means(weights(t), energy, m) for t in grid]
    capacity, binder = np.moveaxis(np.array(means), 1, 0)
    capacity /= (units.kB * grid[:, None]) ** 2
    # Far from the peak few samples make a variance.
    capacity[(grid < window[0]) | (grid > window[1])] = np.nan
    top = _inside(capacity)
    spread = np.sqrt(capacity[top, 0]) * units.kB * grid[top]
    step = spread / _BINS
    bins = np.arange(energy.min() - spread, energy.max() + spread, step)
    which = np.digitize(energy, bins) - 1

    def densities(k: int, rows: slice) -> np.ndarray:
        found = weights(grid[k])
        width = _KERNEL * _BINS * (found[0] ** 2).sum() ** 0.2
        counts = [np.bincount(which, w, len(bins)) for w in found[rows]]
        return gaussian_filter1d(np.array(counts), width, axis=1)

    # Two peaks are as high within the width of the peak of the heat capacity.
    wide = np.flatnonzero(capacity[:, 0] > 0.25 * capacity[top, 0])
    pairs = {int(k): _peaks(densities(int(k), slice(1))[0]) for k in wide}
    deep = {k: p.imbalance for k, p in pairs.items() if p and p.barrier > _DEEP}
    best = min(deep, key=lambda k: deep[k]) if deep else top
    every = [_peaks(row) for row in densities(best, slice(None))]
    heat = np.array([step * p.distance if p else 0.0 for p in every]) / n_atoms
    barrier = np.array([p.barrier if p else 0.0 for p in every])
    if barrier[0] < max(_DEEP, _CLEAR * barrier[1:].std()):
        best, heat, barrier = top, 0.0 * heat, 0.0 * barrier
    tops = grid[np.argmax(np.nan_to_num(capacity[:, 1:]), axis=0)]
    lowest = int(np.nanargmin(binder[:, 0]))
    mean = float((table / n_atoms).mean())
    return TransitionOrder(
        Estimate(float(grid[best]), float(np.std(tops))),
        Estimate(float(heat[0]), float(heat[1:].std())),
        Estimate(float(barrier[0]), float(barrier[1:].std())),
        Estimate(float(binder[lowest, 0]), float(binder[lowest, 1:].std())),
        mean + (bins + 0.5 * step) / n_atoms,
        densities(best, slice(1))[0] * n_atoms / step,
    )


def _around(top: int, temperatures: np.ndarray, energies: np.ndarray) -> slice:
    """Return the temperatures whose energies overlap in a row, about one of them."""

    def overlap(k: int) -> bool:
        pair = energies[k : k + 2]
        values = np.concatenate(pair) - pair.mean()
        beta = 1.0 / (units.kB * temperatures[k : k + 2])
        owner = np.repeat([0, 1], pair.shape[1])
        try:
            MultiHistogram(beta[:, None] * values, owner, resamples=0)
        except ValueError:
            return False
        return True

    first, last = top, top
    while first > 0 and overlap(first - 1):
        first -= 1
    while last < len(temperatures) - 1 and overlap(last):
        last += 1
    return slice(first, last + 1)


@plots(TransitionOrder)
def plot_transition_order(result: TransitionOrder, ax: Axes | None = None) -> Axes:
    """Draw the density of the energy at the transition."""
    ax = figure_axes(ax)
    kept = result.density > 1e-4 * result.density.max()
    ax.plot(1e3 * result.energies[kept], 1e-3 * result.density[kept])
    ax.set(xlabel="energy (meV/atom)", ylabel="density (atom/meV)", ylim=(0, None))
    ax.set_title(f"{result.temperature_K.value:.4g} K")
    return ax


@dataclass(frozen=True)
class _Pair:
    """Two peaks: their distance in bins, and logarithms of heights.

    Attributes
    ----------
    distance : int
    barrier : float
        Of the lower peak to the dip.
    imbalance : float
        Of the higher to the lower peak.
    """

    distance: int
    barrier: float
    imbalance: float


def _peaks(density: np.ndarray) -> _Pair | None:
    """Return the two peaks with the deepest dip between them."""
    logs = np.log(np.maximum(density, 1e-300))
    inner = logs[1:-1]
    tops = 1 + np.flatnonzero((inner > logs[:-2]) & (inner >= logs[2:]))
    best: _Pair | None = None
    for a, left in enumerate(tops):
        for right in tops[a + 1 :]:
            if right - left < _DISTANT * _BINS:
                continue
            low = min(logs[left], logs[right])
            depth = float(low - logs[left:right].min())
            if low < logs.max() - 3.0:  # a tail
                continue
            if best is None or depth > best.barrier:
                off = float(abs(logs[left] - logs[right]))
                best = _Pair(int(right - left), depth, off)
    return best


def _inside(capacity: np.ndarray) -> int:
    values = np.where(np.isfinite(capacity[:, 0]), capacity[:, 0], -np.inf)
    top = int(np.argmax(values))
    if top in (0, len(values) - 1) or not np.isfinite(values).any():
        raise ValueError(
            "the heat capacity is highest at the first or the last of the temperatures "
            "whose energies overlap: take temperatures on both sides of the "
            "transition, or closer ones"
        )
    return top


def _means(weights: np.ndarray, energy: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return the variance of the energy and U4, by resample, (2, 1 + R)."""
    means = weights @ np.stack([energy, energy**2, m**2, m**4], axis=1)
    variance = means[:, 1] - means[:, 0] ** 2
    return np.stack([variance, 1.0 - means[:, 3] / (3.0 * means[:, 2] ** 2)])
