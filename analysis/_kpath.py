"""Paths through the Brillouin zone of a magnetic or crystallographic cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell
from numpy.typing import ArrayLike

from .._result import Result

#: Multiples of a lattice vector may miss an integer by this much.
_COMMENSURATE = 0.02


@dataclass(frozen=True, eq=False)
class KPath(Result):
    """Wave vectors along straight lines between named points.

    Attributes
    ----------
    kpts : (K, 3) array
        In reciprocal lattice units of the atoms' cell.
    cartesian : (K, 3) array, 1/A
        Factor 2 pi included.
    distances : (K,) array, 1/A
        Length of the path up to each point, without jumps.
    ticks : (T,) array, 1/A
        Where the named points are.
    labels : (T,) list of str
    """

    kpts: np.ndarray
    cartesian: np.ndarray
    distances: np.ndarray
    ticks: np.ndarray
    labels: list[str]

    def decorate(self, ax: Any) -> None:
        """Name the points on the horizontal axis of a band plot."""
        ax.set_xticks(self.ticks, [label.replace("G", "Γ") for label in self.labels])
        for tick in self.ticks:
            ax.axvline(tick, color="0.85", lw=0.8, zorder=0)
        ax.set_xlim(self.distances[0], self.distances[-1])


def k_path(
    atoms: Atoms,
    path: str | None = None,
    *,
    npoints: int = 100,
    cell: ArrayLike | Cell | None = None,
    special_points: dict[str, ArrayLike] | None = None,
) -> KPath:
    """Return a path through the Brillouin zone.

    Parameters
    ----------
    atoms : Atoms
        Whose reciprocal lattice the wave vectors are given in.
    path : str, optional
        Named points, such as ``"GXWKGL,UW"``; a comma jumps. By default the
        standard path of the lattice (Setyawan and Curtarolo, Comput. Mater. Sci.
        49, 299 (2010), doi:10.1016/j.commatsci.2010.05.010), as ASE has it.
    npoints : int
        Number of wave vectors.
    cell : (3, 3) array or Cell, A, optional
        The cell whose points the names are, such as the primitive cell of the
        crystal where ``atoms`` is the cell of an antiferromagnet. By default the
        atoms' own.
    special_points : dict, optional
        Points by name, in reciprocal lattice units of that cell, instead of the
        standard ones.

    Raises
    ------
    ValueError
        If the cell is not periodic, ``cell`` does not fit into it a whole number of
        times, the path names unknown points, or there are fewer than two points.
    """
    if not isinstance(atoms, Atoms):
        raise TypeError(f"expected ase.Atoms, got {type(atoms).__name__}")
    own = atoms.cell
    named = own if cell is None else Cell.new(cell)
    if named.rank == 0 or not atoms.pbc.any():
        raise ValueError("a path of wave vectors needs a periodic cell")
    if npoints < 2:
        raise ValueError(f"a path needs at least 2 points, got npoints={npoints}")
    if cell is not None:
        multiples = own.array[atoms.pbc] @ np.linalg.pinv(named.array)
        if np.abs(multiples - np.rint(multiples)).max() > _COMMENSURATE:
            raise ValueError(
                "the cell of the atoms is no multiple of the cell that the path refers "
                f"to: its vectors are {np.round(multiples, 3).tolist()} of those"
            )
    try:
        band = named.bandpath(
            path, npoints, special_points=special_points, pbc=atoms.pbc
        )
        distances, ticks, labels = band.get_linear_kpoint_axis()
    except (KeyError, ValueError) as error:
        raise ValueError(f"cannot follow the path {path!r}: {error}") from error
    cartesian = 2.0 * np.pi * band.kpts @ named.reciprocal().array
    return KPath(
        cartesian @ own.array.T / (2.0 * np.pi),
        cartesian,
        distances,
        ticks,
        labels,
    )


def wave_vectors(kpts: ArrayLike | KPath) -> tuple[np.ndarray, KPath | None]:
    """Return wave vectors as an array (K, 3), and the path they are from, if any.

    Raises
    ------
    TypeError
        If they are a string.
    ValueError
        If they are not finite numbers, (K, 3) or (3,).
    """
    if isinstance(kpts, KPath):
        return kpts.kpts, kpts
    if isinstance(kpts, str):
        raise TypeError(f"for the path {kpts!r}, give k_path(atoms, {kpts!r})")
    points = np.atleast_2d(np.asarray(kpts, dtype=float))
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"wave vectors must be finite, (K, 3), got {points.shape}")
    return points, None
