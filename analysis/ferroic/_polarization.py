"""Electric polarization of a structure from Born effective charges.

To first order in displacements u from a structure of known polarization,

    P = (e / V) sum_i Z*_i u_i

(R. Resta, Rev. Mod. Phys. 66, 899 (1994), doi:10.1103/RevModPhys.66.899).
:func:`polarization` takes that structure; along a path or trajectory atoms are
followed from frame to frame, so that the branch does not jump.
:func:`local_polarization` needs no reference: it resolves P by the cells of a
perovskite.

Polarisations are in C/m^2; 1 C/m^2 = 100 uC/cm^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._born_charges import NEUTRAL, BornCharges, born_tensors
from ..._figures import figure_axes
from ..._result import Result, plots
from .._nearest import nearest_neighbors, sites_of
from .._trajectories import Frames, frames_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: e/A^2 in C/m^2.
_C_PER_M2 = 1e20 / units.C


@dataclass(frozen=True, eq=False)
class Polarization(Result):
    """Polarisation of F frames, on one branch.

    Attributes
    ----------
    vectors : (F, 3) array, C/m^2
    quanta : (F, 3, 3) array, C/m^2
        e a_k / V of the lattice vectors a_k: a polarisation by the Berry phase is
        defined up to whole multiples of these rows.
    """

    vectors: np.ndarray
    quanta: np.ndarray

    @property
    def uC_per_cm2(self) -> np.ndarray:
        """The vectors in uC/cm^2."""
        return 100.0 * self.vectors

    @property
    def magnitudes(self) -> np.ndarray:
        """Lengths (F,) of the vectors, C/m^2."""
        return np.linalg.norm(self.vectors, axis=1)


def polarization(
    source: Frames, born_charges: BornCharges, *, reference: Atoms
) -> Polarization:
    """Return the polarisation of all frames against a reference structure.

    Parameters
    ----------
    source : Atoms, iterable of Atoms, or path
        One structure, or the images of a path or trajectory in their order.
    born_charges : {element: charge} or array, e
        Numbers or (3, 3) tensors Z*, with Z*[a, b] = V dP_a / (e du_b); by element
        or for all atoms. Their small sum is shared out, so that P does not depend
        on the origin.
    reference : Atoms
        The same atoms in the same order where P = 0, a centrosymmetric structure
        for example. Its cell may differ: displacements are those of the fractional
        coordinates. Periodic images do not matter.

    Raises
    ------
    ValueError
        If atoms differ, the cell is not periodic in three directions, or the
        charges do not fit or do not add up to zero.

    Notes
    -----
    An atom of the first frame is taken at the periodic image nearest to its site in
    the reference; in later frames, nearest to where it was in the frame before.
    Wrapped and unwrapped positions give the same.
    """
    _require_volume(reference)
    charges = born_tensors(reference, born_charges)
    before = reference.get_scaled_positions(wrap=False)
    displaced = np.zeros_like(before)
    vectors, quanta = [], []
    for frame in frames_of(source):
        if not np.array_equal(frame.numbers, reference.numbers):
            raise ValueError(
                "the frames and the reference do not have the same atoms in the same "
                "order"
            )
        _require_volume(frame)
        now = frame.get_scaled_positions(wrap=False)
        displaced = displaced + _smallest(now - before)
        before = now
        moved = (displaced - displaced.mean(axis=0)) @ frame.cell.array
        dipole = np.einsum("nab,nb->a", charges, moved)
        vectors.append(_C_PER_M2 * dipole / frame.get_volume())
        quanta.append(_C_PER_M2 * frame.cell.array / frame.get_volume())
    return Polarization(np.array(vectors), np.array(quanta))


def on_one_branch(vectors: ArrayLike, quanta: ArrayLike) -> np.ndarray:
    """Shift polarisations by whole quanta so that they follow a path without jumps.

    For values of the Berry phase, each known up to quanta: of every frame the one
    nearest to that of the frame before.

    Parameters
    ----------
    vectors : (F, 3) array
        Polarisations, in one unit with the quanta.
    quanta : (3, 3) or (F, 3, 3) array
        e a_k / V in rows, as :attr:`Polarization.quanta`.

    Returns
    -------
    (F, 3) array
        The first as it was.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    shifted = np.array(vectors, dtype=float)
    rows = np.asarray(quanta, dtype=float)
    if shifted.ndim != 2 or shifted.shape[1] != 3 or rows.shape[-2:] != (3, 3):
        raise ValueError(
            f"expected vectors (F, 3) and quanta (3, 3) or (F, 3, 3), got "
            f"{shifted.shape} and {rows.shape}"
        )
    rows = np.broadcast_to(rows, (len(shifted), 3, 3))
    for k in range(1, len(shifted)):
        # All shifts by 0 or one whole quantum around the rounded one: in skew cells
        # rounding alone does not find the nearest.
        steps = np.linalg.solve(rows[k].T, shifted[k - 1] - shifted[k])
        around = np.indices((3, 3, 3)).reshape(3, -1).T - 1
        candidates = shifted[k] + (np.round(steps) + around) @ rows[k]
        distance = np.linalg.norm(candidates - shifted[k - 1], axis=1)
        shifted[k] = candidates[distance.argmin()]
    return shifted


@dataclass(frozen=True, eq=False)
class LocalPolarization(Result):
    """Polarisation of the cells of a perovskite.

    Attributes
    ----------
    sites : (M,) array
        The B atom in the middle of each cell.
    positions : (M, 3) array, A
        Of these atoms.
    vectors : (M, 3) array, C/m^2
    """

    sites: np.ndarray
    positions: np.ndarray
    vectors: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean over the cells, (3,), C/m^2."""
        return self.vectors.mean(axis=0)


def local_polarization(
    atoms: Atoms,
    born_charges: BornCharges,
    *,
    a: str | ArrayLike,
    b: str | ArrayLike,
    anion: str | ArrayLike = "O",
) -> LocalPolarization:
    """Return the polarisation of each cell around a B atom of a perovskite ABX3.

    P_B = (e / V_B) (Z_B r_B + 1/8 sum_8 Z_A r_A + 1/2 sum_6 Z_X r_X) with the 8 A
    and 6 X atoms nearest to B, and the volume V_B = V / M of M cells (B. Meyer and
    D. Vanderbilt, Phys. Rev. B 65, 104111 (2002), doi:10.1103/PhysRevB.65.104111).

    Parameters
    ----------
    atoms : Atoms
    born_charges : {element: charge} or array, e
        As for :func:`polarization`; Z_A + Z_B + 3 Z_X = 0 in every cell.
    a, b, anion : str or indices
        Elements of the sites, or indices of their atoms.

    Raises
    ------
    ValueError
        If these atoms are no perovskite, charges do not add up to zero, or the cell
        is not periodic in three directions.
    """
    _require_volume(atoms)
    sites, a_sites, x_sites = (sites_of(atoms, x) for x in (b, a, anion))
    if not 3 * len(sites) == 3 * len(a_sites) == len(x_sites):
        raise ValueError(
            f"{len(a_sites)} A, {len(sites)} B and {len(x_sites)} X atoms are no "
            "perovskite ABX3"
        )
    charges = born_tensors(atoms, born_charges)
    dipole = np.zeros((len(sites), 3))
    excess = charges[sites].copy()
    for partners, count, share in ((a_sites, 8, 1 / 8), (x_sites, 6, 1 / 2)):
        found, vectors = nearest_neighbors(atoms, sites, partners, count)
        dipole += share * np.einsum("mkab,mkb->ma", charges[found], vectors)
        excess += share * charges[found].sum(axis=1)
    if np.abs(excess).max() > 5 * NEUTRAL:
        raise ValueError(
            "the Born charges of a cell do not add up to zero: the excess is up to "
            f"{np.abs(excess).max():.2f} e"
        )
    volume = atoms.get_volume() / len(sites)
    return LocalPolarization(sites, atoms.positions[sites], _C_PER_M2 * dipole / volume)


@plots(Polarization)
def plot_polarization(
    result: Polarization, ax: Axes | None = None, *, x: Any = None
) -> Axes:
    """Draw components and length in uC/cm^2 against the frame, or against ``x``."""
    ax = figure_axes(ax)
    x = np.arange(len(result.vectors)) if x is None else np.asarray(x)
    for component, label in zip(result.uC_per_cm2.T, "xyz", strict=True):
        ax.plot(x, component, "o-", markersize=3, label=f"$P_{label}$")
    ax.plot(x, 100.0 * result.magnitudes, "k--", linewidth=1, label="|P|")
    ax.set(xlabel="frame", ylabel="polarization (μC/cm²)")
    ax.legend()
    return ax


def _require_volume(atoms: Atoms) -> None:
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ValueError(
            "polarisation needs a cell that is periodic in three directions"
        )


def _smallest(step: np.ndarray) -> np.ndarray:
    """Return fractional steps (N, 3) at their nearest images.

    Nearest to the motion of all atoms together, found as a circular mean: a rigid
    shift of the crystal, of half a cell too, tears no atoms apart.
    """
    rigid = np.angle(np.exp(2j * np.pi * step).mean(axis=0)) / (2.0 * np.pi)
    relative = step - rigid
    return relative - np.round(relative) + rigid
