"""Magnetization and staggered order along a trajectory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ...io._extxyz import current_results
from .._time_series import time_of
from .._trajectories import Frames, frames_of, spins_of
from .._wavevectors import commensurate, fourier_sums, reciprocal_units
from ._structure_factor import structure_factor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: 2 q.r of all sites is whole to this part of a period: q is equivalent to -q.
_REAL = 0.1


@dataclass(frozen=True, eq=False)
class OrderSeries(Result):
    """Magnetic order of F frames.

    Means are per magnetic atom, one that carries a moment in the first frame.

    Attributes
    ----------
    q : (3,) array
        Propagation vector, in reciprocal lattice units of the cell asked for.
    magnetization : (F, 3) array, mu_B
        Mean moment.
    amplitude : (F, 3) complex array, mu_B
        (1/M) sum_j m_j exp(-i q.(r_j - r_0)), r_0 the first magnetic site.
    real_wave : bool
        Whether q is equivalent to -q, as for two sublattices.
    length : (F,) array, mu_B
        Mean length of the moments.
    energy : (F,) array, eV
        Potential energy of the frames; NaN where a frame has none.
    time_fs : (F,) array, fs
        From the frames' ``info["time_fs"]``; NaN where a frame has none.
    n_magnetic : int
        Number M of magnetic atoms.
    """

    q: np.ndarray
    magnetization: np.ndarray
    amplitude: np.ndarray
    real_wave: bool
    length: np.ndarray
    energy: np.ndarray
    time_fs: np.ndarray
    n_magnetic: int

    @property
    def staggered(self) -> np.ndarray:
        """Size (F,) of the ordered moment at q, mu_B: its root mean square.

        |amplitude| where q is equivalent to -q; otherwise sqrt(2) |amplitude|, the
        wave at -q counted too. A perfect antiferromagnet and a perfect spiral both
        give the length of their moments.
        """
        size = np.linalg.norm(self.amplitude, axis=1)
        return np.asarray(size if self.real_wave else np.sqrt(2.0) * size)


def order_series(
    source: Frames,
    q: ArrayLike | None = None,
    *,
    cell: float | ArrayLike | None = None,
) -> OrderSeries:
    """Return magnetization and staggered order of all frames.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
    q : (3,) array, optional
        Propagation vector in reciprocal lattice units of ``cell``. By default where
        the structure factor of all frames has its peak, which takes a separate
        pass and much longer.
    cell : optional
        As in :func:`deepspin_ase.antiferromagnetic`: the atoms' own by default.

    Raises
    ------
    ValueError
        If moments are missing or all zero, q does not repeat with the periodic cell,
        or q is to be found in an iterator, which can be read only once.
    """
    if q is None:
        once = isinstance(source, Iterable) and iter(source) is source
        if once and not isinstance(source, Atoms):
            raise ValueError(
                "an iterator can be read only once: give q, or a list or path"
            )
        q = structure_factor(source, cell=cell).peak_q
    rows: list[tuple[Any, ...]] = []
    for frame in frames_of(source):
        moments = spins_of(frame)
        if not rows:
            phases = commensurate(frame, np.reshape(np.asarray(q, float), -1), cell)
            magnetic = np.flatnonzero(moments.any(axis=1))
            real = _is_real(frame[magnetic], phases)
            shown = reciprocal_units(frame, phases, cell)[0]
        sites = frame[magnetic]
        sites.positions -= sites.positions[0]
        own = moments[magnetic]
        rows.append(
            (
                own.mean(axis=0),
                fourier_sums(sites, phases, own)[0] / len(magnetic),
                np.linalg.norm(own, axis=1).mean(),
                current_results(frame).get("energy", np.nan),
                time_of(frame),
            )
        )
    m, amplitude, length, energy, time = (np.array(x) for x in zip(*rows, strict=True))
    return OrderSeries(shown, m, amplitude, real, length, energy, time, len(magnetic))


@plots(OrderSeries)
def plot_order(result: OrderSeries, ax: Axes | None = None) -> Axes:
    """Draw magnetization and staggered order against time."""
    ax = figure_axes(ax)
    magnetization = np.linalg.norm(result.magnetization, axis=1)
    name = ", ".join(f"{x:.4g}" for x in result.q + 0.0)
    timed = bool(np.isfinite(result.time_fs).all())
    x = result.time_fs if timed else np.arange(len(magnetization))
    ax.plot(x, magnetization, label="magnetization")
    if result.q.any():
        ax.plot(x, result.staggered, label=f"order at q = ({name})")
    ax.plot(x, result.length, "k:", linewidth=1, label="moment length")
    ax.set(
        xlabel="time (fs)" if timed else "frame", ylabel=r"per magnetic atom ($\mu_B$)"
    )
    ax.set_ylim(bottom=0.0)
    ax.legend()
    return ax


def _is_real(sites: Atoms, phases: np.ndarray) -> bool:
    """Return whether exp(2 i q.(r - r_0)) is 1 at all sites, up to displacements."""
    fractions = np.linalg.solve(
        sites.cell.complete().array.T, (sites.positions - sites.positions[0]).T
    )
    double = 2.0 * phases[0] @ fractions
    return bool((np.abs(double - np.round(double)) < 2.0 * _REAL).all())
