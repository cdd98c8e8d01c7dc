"""Dynamic structure factors S(q, omega) of moments and velocities.

Frames are read once, one after the other; ``max_memory_GB`` bounds what is kept of
them, whatever the length of the trajectory.

>>> path = commensurate_path(atoms, (0, 0, 0), (1, 0, 0), cell=2.87)
>>> plot_spectrum(spin_spectrum("run.h5", path, cell=2.87))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from typing_extensions import Unpack

from ..._figures import figure_axes, with_symbols
from ..._result import Result, plots
from .._time_series import (
    PLANCK_MEV_FS,
    Periodogram,
    SpectrumOptions,
    TimeSeries,
    collect_series,
    last_energy,
)
from .._trajectories import Frames, spins_of
from .._velocities import Velocities
from .._wavevectors import cartesian, commensurate, fourier_sums, reciprocal_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Spectrum(Result):
    """S^ab(q, omega), the spectrum of a vector at wave vectors q.

    Attributes
    ----------
    q : (Q, 3) array
        In reciprocal lattice units of the cell that was asked for.
    q_cartesian : (Q, 3) array, 1/A
        2 pi included, of the first frame.
    energies_meV : (W,) array
        hbar omega of both signs, ascending. A wave exp(i (q.r - omega t)) is found
        at q and +omega: positive energies at q are waves that travel along +q.
    tensor : (Q, W, 3, 3) complex array
        In ``unit``. Integrated over all energies it is the variance in time: the
        static structure factor without its Bragg part.
    unit : str
    """

    q: np.ndarray
    q_cartesian: np.ndarray
    energies_meV: np.ndarray
    tensor: np.ndarray
    unit: str

    @property
    def intensity(self) -> np.ndarray:
        """Trace of the tensor, (Q, W)."""
        return np.asarray(np.einsum("qwaa->qw", self.tensor).real)

    @property
    def frequencies_THz(self) -> np.ndarray:
        """Energies over h, THz."""
        return 1000.0 * self.energies_meV / PLANCK_MEV_FS

    @property
    def peaks_meV(self) -> np.ndarray:
        """Energies (Q,) of the highest intensity at positive energies.

        Between grid points by a parabola through the logarithms of the highest and
        its neighbours.
        """
        positive = self.energies_meV > 0
        e = self.energies_meV[positive]
        return np.array([_peak(e, s[positive]) for s in self.intensity])


def spin_spectrum(
    source: Frames,
    q: ArrayLike,
    *,
    cell: float | ArrayLike | None = None,
    sites: Atoms | None = None,
    **options: Unpack[SpectrumOptions],
) -> Spectrum:
    """Return the dynamic structure factor of the moments, mu_B^2/meV.

    S^ab(q, omega) = 1/(2 pi M) integral dt exp(i omega t) < m_a(-q, 0) m_b(q, t) >,
    m(q, t) = sum_j m_j(t) exp(-i q.r_j(t)), for M magnetic atoms, per meV; the means
    of m(q, t) in time are left out.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        Frames at equal intervals.
    q : (Q, 3) or (3,) array
        In reciprocal lattice units of ``cell``; each must repeat with the periodic
        cell (see :func:`~deepspin_ase.analysis.commensurate_path`).
    cell : optional
        As in :func:`deepspin_ase.antiferromagnetic`: the atoms' own by default.
    sites : Atoms, optional
        Take the phases at these positions in all frames, such as ideal sites; by
        default at those of each frame, as in scattering.
    **options
        See :class:`~deepspin_ase.analysis._time_series.SpectrumOptions`.

    Raises
    ------
    ValueError
        If there are too few frames, moments are missing or all zero, a q does not
        fit, or times are missing or uneven.
    """
    n_magnetic = 0

    def moments_of(frame: Atoms) -> np.ndarray:
        nonlocal n_magnetic
        moments = spins_of(frame)
        n_magnetic = n_magnetic or int(moments.any(axis=1).sum())
        return moments

    waves = _Waves(q, cell, sites, moments_of)
    with collect_series(source, waves, options) as (series, timestep_fs):
        tensor, energies = _tensor(series, timestep_fs, options)
    return Spectrum(waves.q, waves.q_cartesian, energies, tensor / n_magnetic, _SPINS)


def velocity_spectrum(
    source: Frames,
    q: ArrayLike,
    *,
    cell: float | ArrayLike | None = None,
    sites: Atoms | None = None,
    **options: Unpack[SpectrumOptions],
) -> Spectrum:
    """Return the phonon spectral function, of sqrt(mass) times velocity, eV/meV.

    As :func:`spin_spectrum` with sqrt(M_j) v_j in place of the moments, per atom.
    Integrated over all energies it is k T for each direction in equilibrium.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        Frames at equal intervals, with momenta; without, velocities are the steps
        from frame to frame.
    q, cell, **options
        As for :func:`spin_spectrum`.
    sites : Atoms, optional
        Positions of the phases; by default those of the first frame.

    Raises
    ------
    ValueError
        As for :func:`spin_spectrum`, or if atoms do not move.
    """
    velocities = Velocities()
    waves = _Waves(q, cell, sites, velocities, at_first=True)
    with collect_series(source, waves, options) as (series, timestep_fs):
        tensor, energies = _tensor(series, timestep_fs, options)
    scale = velocities.scale(energies, timestep_fs) / velocities.n_atoms
    tensor *= scale[:, None, None]
    return Spectrum(waves.q, waves.q_cartesian, energies, tensor, _VELOCITIES)


@plots(Spectrum)
def plot_spectrum(
    result: Spectrum,
    ax: Axes | None = None,
    *,
    logarithmic: bool = True,
    peaks: bool = False,
    max_meV: float | None = None,
) -> Axes:
    """Draw the intensity over the wave vectors, in their order, and energy.

    Parameters
    ----------
    result : Spectrum
    ax : Axes, optional
    logarithmic : bool
        Of the colours, over four decades.
    peaks : bool
        Mark the highest intensity of each wave vector.
    max_meV : float, optional
        Top of the energies drawn; by default where the intensity ends.
    """
    from matplotlib.colors import LogNorm, Normalize

    ax = figure_axes(ax)
    positive = result.energies_meV >= 0
    intensity = result.intensity[:, positive].T
    top = max(float(intensity.max()), 1e-300)
    norm = LogNorm(1e-4 * top, top) if logarithmic else Normalize(0.0, top)
    numbers = np.arange(len(result.q))
    mesh = ax.pcolormesh(
        numbers, result.energies_meV[positive], intensity, norm=norm, shading="nearest"
    )
    unit = with_symbols(result.unit)
    ax.figure.colorbar(mesh, ax=ax, label=f"S(q, ω) ({unit})", extend="min")
    if peaks:
        ax.plot(numbers, result.peaks_meV, "w.", markersize=4, label="peaks")
        ax.legend(facecolor="0.5", labelcolor="w")
    labels = ["\n".join(f"{x:.3g}" for x in q.round(6) + 0.0) for q in result.q]
    shown = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), 7)).astype(int))
    ax.set_xticks(shown, [labels[k] for k in shown])
    ax.set(xlabel="q (r.l.u.)", ylabel="energy (meV)")
    end = max_meV or last_energy(result.energies_meV[positive], intensity.max(axis=1))
    ax.set_ylim(0.0, end)
    return ax


_SPINS, _VELOCITIES = "mu_B^2/meV", "eV/meV"


class _Waves:
    """Fourier sums of per-atom vectors, frame by frame."""

    def __init__(
        self,
        q: ArrayLike,
        cell: float | ArrayLike | None,
        sites: Atoms | None,
        vectors_of: Callable[[Atoms], np.ndarray | None],
        *,
        at_first: bool = False,
    ) -> None:
        self.q, self._cell, self._sites = np.asarray(q, dtype=float), cell, sites
        self._vectors_of, self._at_first = vectors_of, at_first
        self._phases: np.ndarray | None = None

    def __call__(self, frame: Atoms) -> np.ndarray | None:
        """Return sum_j x_j exp(-i q.r_j), (3 Q,), of a frame."""
        if self._phases is None:
            self._phases = commensurate(frame, self.q, self._cell)
            self.q = reciprocal_units(frame, self._phases, self._cell)
            self.q_cartesian = cartesian(frame, self._phases)
            if self._at_first and self._sites is None:
                self._sites = frame.copy()
            if self._sites is not None and len(self._sites) != len(frame):
                raise ValueError(
                    f"there are {len(self._sites)} sites for {len(frame)} atoms"
                )
        vectors = self._vectors_of(frame)
        if vectors is None:
            return None
        sites = frame if self._sites is None else self._sites
        return fourier_sums(sites, self._phases, vectors).ravel()


def _tensor(
    series: TimeSeries, timestep_fs: float, options: SpectrumOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tensor (Q, W, 3, 3) of the series' columns and the energies (W,)."""
    periodogram = Periodogram(len(series), timestep_fs, options)
    energies = periodogram.energies_meV
    tensor = np.zeros((series.n_columns // 3, len(energies), 3, 3), dtype=complex)
    for columns, block in series.chunks(group=3):
        rows = slice(columns.start // 3, columns.stop // 3)
        for waves in periodogram.transforms(block):
            vectors = waves.reshape(-1, 3, len(energies))
            tensor[rows] += np.einsum("qaw,qbw->qwab", vectors.conj(), vectors)
    return tensor, energies


def _peak(energies: np.ndarray, intensity: np.ndarray) -> float:
    k = int(intensity.argmax())
    if not 0 < k < len(energies) - 1 or not (intensity[k - 1 : k + 2] > 0).all():
        return float(energies[k])
    left, top, right = np.log(intensity[k - 1 : k + 2])
    curvature = left - 2.0 * top + right
    shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float(energies[k] + shift * (energies[1] - energies[0]))
