"""Second derivatives between the sites of a crystal, and their Bloch sums.

Derivatives are computed in a periodic supercell, between the atoms of one cell and
all others. :func:`fold_to_pairs` assigns each of them to the nearest periodic image of
its pair; images at the same distance share it. Bloch sums at the wave vectors that fit
the supercell are exact whatever the range of the interaction, and at all wave
vectors if it ends within the supercell.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell, find_mic, minkowski_reduce
from numpy.typing import ArrayLike

from ..._result import storable

#: Images of a pair whose distances differ by less than this (A) share it.
SAME_DISTANCE = 1e-3


#: Couplings at the edge of a supercell up to this fraction of the largest are small.
ALIASING = 0.05


@storable
@dataclass(frozen=True, eq=False)
class Blocks:
    """Matrices between the sites of a crystal, pair by pair.

    Attributes
    ----------
    i, j : (P,) integer arrays
        Rows and columns: sites of the home cell.
    shift : (P, 3) integer array
        Lattice translation R of the cell in which j stands.
    vectors : (P, 3) array, A
        r_j + R - r_i.
    values : (P, a, b) array
        The matrices.
    shape : (int, int)
        Numbers of sites of the rows and of the columns.
    """

    i: np.ndarray
    j: np.ndarray
    shift: np.ndarray
    vectors: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]

    def select(self, keep: np.ndarray) -> Blocks:
        """Return the pairs that ``keep`` (P,), of bools, names."""
        arrays = (self.i, self.j, self.shift, self.vectors, self.values)
        i, j, shift, vectors, values = (x[keep] for x in arrays)
        return Blocks(i, j, shift, vectors, values, self.shape)

    def fraction_beyond(self, radius: float) -> float:
        """Return the largest matrix at ``radius`` (A) and beyond over that of all.

        Of pairs only: a site with itself does not count.
        """
        norms = np.linalg.norm(self.values, axis=(1, 2))
        distances = np.linalg.norm(self.vectors, axis=1)
        pairs, edge = distances > SAME_DISTANCE, distances > radius - SAME_DISTANCE
        largest = norms[pairs].max(initial=0.0)
        return float(norms[edge].max(initial=0.0) / largest) if largest else 0.0

    def at(self, k: ArrayLike) -> np.ndarray:
        """Return sum_R values exp(i k.(r_j + R - r_i)).

        Parameters
        ----------
        k : (K, 3) array, 1/A
            Cartesian, factor 2 pi included.

        Returns
        -------
        (K, n_rows a, n_columns b) complex array, in the unit of the values
        """
        return self._summed(np.asarray(k, dtype=float), self.values)

    def slope(self, k: ArrayLike, axis: int) -> np.ndarray:
        """Return the derivative of :meth:`at` by Cartesian component ``axis`` of k."""
        along = self.vectors[:, axis, None, None]
        return self._summed(np.asarray(k, dtype=float), 1j * along * self.values)

    def _summed(self, k: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return sum_p exp(i k.r_p) values[p], sorted into rows and columns."""
        n_rows, n_columns = self.shape
        a, b = values.shape[1:]
        cells = self.i * n_columns + self.j
        order = np.argsort(cells, kind="stable")
        found, starts = np.unique(cells[order], return_index=True)
        total = np.zeros((len(k), n_rows * n_columns, a * b), dtype=complex)
        flat = values.reshape(len(values), -1)
        for cell, own in zip(found, np.split(order, starts[1:]), strict=True):
            total[:, cell] = np.exp(1j * (k @ self.vectors[own].T)) @ flat[own]
        blocks = total.reshape(-1, n_rows, n_columns, a, b).transpose(0, 1, 3, 2, 4)
        return blocks.reshape(-1, n_rows * a, n_columns * b)


@dataclass(frozen=True, eq=False)
class Images:
    """The nearest images of pairs between a home cell and its supercell.

    Attributes
    ----------
    row, column : (P,) integer arrays
        Atom of the home cell, and atom of the supercell.
    j : (P,) integer array
        The atom of the home cell that ``column`` is a copy of.
    shift : (P, 3) integer array
        Its lattice translation, in cells.
    vectors : (P, 3) array, A
    weights : (P,) array
        One over the number of images that share the pair.
    radius : float, A
        Half the shortest period of the supercell (inf without periods): pairs that
        are closer have one nearest image.
    """

    row: np.ndarray
    column: np.ndarray
    j: np.ndarray
    shift: np.ndarray
    vectors: np.ndarray
    weights: np.ndarray
    radius: float


def repeats(repeat: int | Sequence[int], pbc: np.ndarray) -> tuple[int, int, int]:
    """Return three numbers of cells, checked; one along directions without periods.

    Raises
    ------
    ValueError
        If they are not positive integers, or a direction without periods is
        repeated.
    """
    counts = np.array([repeat] * 3 if np.ndim(repeat) == 0 else repeat)
    if (
        counts.shape != (3,)
        or counts.dtype.kind not in "iuf"
        or (counts != np.rint(counts)).any()
        or counts.min() < 1
    ):
        raise ValueError(f"repeat must be 1, 2, ... or three of these, got {repeat}")
    if np.ndim(repeat) == 0:
        counts[~pbc] = 1
    if (counts[~pbc] > 1).any():
        raise ValueError(f"repeat {repeat} along a direction that is not periodic")
    first, second, third = (int(n) for n in counts)
    return first, second, third


def repeats_for(atoms: Atoms, radius: float) -> tuple[int, int, int]:
    """Return the cells of a supercell with periods of at least twice ``radius`` (A)."""
    cell = complete_cell(atoms.cell.array)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    enough = np.where(atoms.pbc, np.ceil(2.0 * radius / heights - 1e-9), 1)
    counts = np.maximum(enough, 1).astype(int)
    # In oblique cells that is more than enough.
    shrinking = True
    while shrinking:
        shrinking = False
        for fewer in counts - np.eye(3, dtype=int):
            if fewer.min() > 0 and _period(cell, fewer, atoms.pbc) >= 2.0 * radius:
                counts, shrinking = fewer, True
                break
    return repeats(counts.tolist(), atoms.pbc)


def _period(cell: np.ndarray, counts: np.ndarray, pbc: np.ndarray) -> float:
    """Return the shortest period of a supercell, A; inf without periods."""
    reduced = minkowski_reduce(cell * counts[:, None], pbc)[0]
    return float(np.linalg.norm(reduced[pbc], axis=1).min(initial=np.inf))


def nearest_images(
    atoms: Atoms, repeat: tuple[int, int, int], rows: ArrayLike, columns: ArrayLike
) -> Images:
    """Find the nearest images of the pairs of a supercell.

    Parameters
    ----------
    atoms : Atoms
        The home cell.
    repeat : (int, int, int)
        The supercell is ``atoms.repeat(repeat)``, whose first atoms are the home
        cell.
    rows, columns : integer arrays
        Atoms of the home cell; columns also stand for their copies.
    """
    cell = complete_cell(atoms.cell.array)
    large = cell * np.array(repeat)[:, None]
    grids = np.meshgrid(*(np.arange(n) for n in repeat), indexing="ij")
    cells = np.stack(grids, axis=-1).reshape(-1, 3)
    columns = np.asarray(columns)
    j = np.tile(columns, len(cells))
    column = (np.arange(len(cells))[:, None] * len(atoms) + columns).ravel()
    places = atoms.positions[j] + np.repeat(cells, len(columns), axis=0) @ cell
    reduced = minkowski_reduce(large, atoms.pbc)[0]
    spans = [(-1, 0, 1) if periodic else (0,) for periodic in atoms.pbc]
    steps = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3)
    around = steps @ reduced
    parts = []
    for row in np.asarray(rows):
        near, _ = find_mic(places - atoms.positions[row], large, atoms.pbc)
        vectors = near[:, None] + around
        distance = np.linalg.norm(vectors, axis=2)
        same = distance < distance.min(axis=1, keepdims=True) + SAME_DISTANCE
        pair, image = np.nonzero(same)
        found = vectors[pair, image]
        shift = (found + atoms.positions[row] - atoms.positions[j[pair]]) @ (
            np.linalg.inv(cell)
        )
        weights = 1.0 / same.sum(axis=1)[pair]
        parts.append((np.full(len(pair), row), pair, shift, found, weights))
    row, pair, shift, vectors, weights = (
        np.concatenate(x) for x in zip(*parts, strict=True)
    )
    radius = 0.5 * _period(cell, np.array(repeat), atoms.pbc)
    return Images(
        row,
        column[pair],
        j[pair],
        np.rint(shift).astype(int),
        vectors,
        weights,
        radius,
    )


def warn_of_aliasing(fraction: float) -> None:
    """Warn where :meth:`Blocks.fraction_beyond` the supercell's radius is not small."""
    if fraction > ALIASING:
        warnings.warn(
            f"{fraction:.2g} of the strongest coupling reaches the edge of the "
            "supercell, where pairs cannot be distinguished from their periodic "
            "images; increase repeat",
            stacklevel=3,
        )


def fold_to_pairs(images: Images, rows: np.ndarray, sites: ArrayLike) -> Blocks:
    """Fold supercell derivatives onto pairs of the crystal.

    Parameters
    ----------
    images : Images
        Of the rows and columns that ``sites`` and their copies are.
    rows : (n, N, a, b) array
        Derivatives between the n atoms ``images.row`` counts, in ascending order,
        and the N atoms of the supercell.
    sites : (n,) integer array
        Those atoms of the home cell, ascending.
    """
    number = {int(site): k for k, site in enumerate(np.asarray(sites))}
    i = np.array([number[int(a)] for a in images.row], dtype=int)
    columns = np.unique(images.j)
    j = np.searchsorted(columns, images.j)
    values = rows[i, images.column] * images.weights[:, None, None]
    shape = len(number), len(columns)
    return Blocks(i, j, images.shift, images.vectors, values, shape)
