"""Vibrational and spin densities of states from trajectories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from typing_extensions import Unpack

from ..._figures import figure_axes, with_symbols
from ..._result import Result, plots
from .._time_series import (
    PLANCK_MEV_FS,
    Periodogram,
    SpectrumOptions,
    collect_series,
    last_energy,
)
from .._trajectories import Frames, spins_of
from .._velocities import Velocities

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class DensityOfStates(Result):
    """Spectral density of all atoms.

    Attributes
    ----------
    energies_meV : (W,) array
        From zero up.
    total : (W,) array
        In ``unit``.
    partial : {element: (W,) array}
        Parts of the elements, which add up to the total.
    unit : str
    """

    energies_meV: np.ndarray
    total: np.ndarray
    partial: dict[str, np.ndarray]
    unit: str

    @property
    def frequencies_THz(self) -> np.ndarray:
        """Energies over h, THz."""
        return 1000.0 * self.energies_meV / PLANCK_MEV_FS


def vibrational_density_of_states(
    source: Frames, **options: Unpack[SpectrumOptions]
) -> DensityOfStates:
    """Return the vibrational density of states, states/meV per atom.

    The power spectrum of sqrt(mass) times velocity of all atoms (J. M. Dickey and A.
    Paskin, Phys. Rev. 188, 1407 (1969), doi:10.1103/PhysRev.188.1407), normalised to
    3 states per atom. Of classical dynamics in equilibrium, in which every mode has
    the same energy.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        Frames at equal intervals, with momenta; without, velocities are the steps
        from frame to frame, where no atom may move by half a cell.
    **options
        See :class:`~deepspin_ase.analysis._time_series.SpectrumOptions`.

    Raises
    ------
    ValueError
        If there are too few frames, times are missing or uneven, or atoms do not
        move.
    """
    velocities = Velocities()
    energies, timestep_fs, partial = _densities(source, velocities, options)
    scale = velocities.scale(energies, timestep_fs)
    states = sum((scale * x).sum() for x in partial.values()) * energies[1]
    if not states > 0:
        raise ValueError("the atoms do not move: there are no vibrations to see")
    scale *= 3.0 / states
    return _result(energies, {k: scale * x for k, x in partial.items()}, _STATES)


def spin_density_of_states(
    source: Frames, **options: Unpack[SpectrumOptions]
) -> DensityOfStates:
    """Return the spectrum of the moments' fluctuations, mu_B^2/meV per magnetic atom.

    The power spectrum of m_i(t), its mean in time left out, averaged over the atoms
    that carry a moment: integrated over all energies it is their variance. For small
    oscillations about a ferromagnet its peaks are those of the magnon density of
    states; as classical spins have k T in every mode, low energies weigh more.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        Frames at equal intervals.
    **options
        See :class:`~deepspin_ase.analysis._time_series.SpectrumOptions`.

    Raises
    ------
    ValueError
        If there are too few frames, moments are missing or all zero, or times are
        missing or uneven.
    """
    magnetic: np.ndarray | None = None

    def moments_of(frame: Atoms) -> np.ndarray:
        nonlocal magnetic
        moments = spins_of(frame)
        if magnetic is None:
            magnetic = np.asarray(moments.any(axis=1))
        return moments

    energies, _, partial = _densities(source, moments_of, options)
    assert magnetic is not None
    count = int(magnetic.sum())
    partial = {k: x / count for k, x in partial.items() if x.any()}
    return _result(energies, partial, _FLUCTUATIONS)


@plots(DensityOfStates)
def plot_density_of_states(
    result: DensityOfStates, ax: Axes | None = None, *, THz: bool = False
) -> Axes:
    """Draw the total and the elements' parts against energy, or frequency in THz."""
    ax = figure_axes(ax)
    x = result.frequencies_THz if THz else result.energies_meV
    ax.plot(x, result.total, "k", linewidth=1, label="total")
    if len(result.partial) > 1:
        for symbol, values in result.partial.items():
            ax.plot(x, values, linewidth=1, label=symbol)
        ax.legend()
    unit = with_symbols(result.unit)
    ax.set(
        xlabel="frequency (THz)" if THz else "energy (meV)",
        ylabel=f"density of states ({unit})",
    )
    end = last_energy(result.energies_meV, result.total)
    ax.set_xlim(0.0, np.interp(end, result.energies_meV, x))
    ax.set_ylim(bottom=0.0)
    return ax


_STATES, _FLUCTUATIONS = "states/meV per atom", "mu_B^2/meV per magnetic atom"


def _result(
    energies: np.ndarray, partial: dict[str, np.ndarray], unit: str
) -> DensityOfStates:
    total = sum(partial.values(), np.zeros(len(energies)))
    return DensityOfStates(energies, total, partial, unit)


def _densities(
    source: Frames,
    vectors_of: Callable[[Atoms], np.ndarray | None],
    options: SpectrumOptions,
) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
    """Return energies (W,), the time step and the summed spectra by element."""
    symbols: list[str] = []

    def row_of(frame: Atoms) -> np.ndarray | None:
        if not symbols:
            symbols.extend(frame.get_chemical_symbols())
        vectors = vectors_of(frame)
        return None if vectors is None else vectors.ravel()

    with collect_series(source, row_of, options) as (series, timestep_fs):
        periodogram = Periodogram(len(series), timestep_fs, options)
        elements, of_atom = np.unique(symbols, return_inverse=True)
        element = np.repeat(of_atom, 3)
        power = np.zeros((len(elements), len(periodogram.energies_meV)))
        for columns, block in series.chunks():
            for waves in periodogram.transforms(block):
                np.add.at(power, element[columns], np.abs(waves) ** 2)
    # Of real columns both signs are the same: fold them.
    positive = periodogram.energies_meV >= 0
    folded = power[:, positive]
    negative = power[:, ~positive][:, ::-1]
    folded[:, 1 : 1 + negative.shape[1]] += negative
    names = [str(symbol) for symbol in elements]
    energies = periodogram.energies_meV[positive]
    return energies, timestep_fs, dict(zip(names, folded, strict=True))
