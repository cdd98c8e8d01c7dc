"""Nearest neighbours of chosen atoms, with their vectors."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..neighbors import build_pairs
from ..system import System

#: Error of distances by rounding, at most, A. A shell of a crystal is at one side of a
#: limit as a whole.
ROUNDING = 1e-6

#: Cutoffs of the first and of the last search for neighbours, A.
_FIRST_CUTOFF, _LAST_CUTOFF = 4.0, 40.0


def pairs_within(
    atoms: Atoms,
    cutoff: float,
    among: np.ndarray | None = None,
    *,
    min_distance: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs at a distance up to ``cutoff``, periodic images included.

    Parameters
    ----------
    atoms : Atoms
    cutoff, min_distance : float, A
        Both belong to the range.
    among : (M,) ascending integers, optional
        Only pairs of these atoms.

    Returns
    -------
    i, j : (E,) arrays
        Sorted by i; each pair in both orders.
    vectors : (E, 3) array, A
        From i to j.
    """
    rows = np.arange(len(atoms)) if among is None else among
    system = System.from_atoms(atoms[rows], require_spins=False)
    pairs = build_pairs(system, cutoff + ROUNDING)
    vectors = pairs.vectors(system).numpy()
    distances = np.linalg.norm(vectors, axis=1)
    near = distances <= cutoff + ROUNDING
    near &= distances >= min_distance - ROUNDING
    return rows[pairs.i.numpy()[near]], rows[pairs.j.numpy()[near]], vectors[near]


def nearest_neighbors(
    atoms: Atoms, centers: ArrayLike, partners: ArrayLike, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``count`` nearest partners of each center, nearest first.

    Parameters
    ----------
    atoms : Atoms
    centers, partners : (C,), (P,) integers
        Indices of atoms; an atom is not its own partner, but its images are.
    count : int

    Returns
    -------
    indices : (C, count) array
    vectors : (C, count, 3) array, A
        From centre to partner.

    Raises
    ------
    ValueError
        If a centre has fewer partners within 40 A.
    """
    centers, partners = np.asarray(centers), np.asarray(partners)
    subset = np.union1d(centers, partners)
    is_partner = np.isin(np.arange(len(atoms)), partners)
    cutoff = _FIRST_CUTOFF
    while True:
        i, j, vectors = pairs_within(atoms, cutoff, subset)
        kept = is_partner[j]
        i, j, vectors = i[kept], j[kept], vectors[kept]
        found = np.bincount(i, minlength=len(atoms))[centers]
        if (found >= count).all():
            break
        if cutoff >= _LAST_CUTOFF:
            raise ValueError(
                f"atom {centers[found.argmin()]} has only {found.min()} of the "
                f"{count} neighbours that are looked for"
            )
        cutoff *= 1.5
    order = np.lexsort((np.einsum("ij,ij->i", vectors, vectors), i))
    starts = np.searchsorted(i[order], centers)
    chosen = order[starts[:, None] + np.arange(count)]
    return j[chosen], vectors[chosen]


def sites_of(atoms: Atoms, element: str | ArrayLike) -> np.ndarray:
    """Return the indices of an element's atoms, or given indices, checked.

    Raises
    ------
    ValueError
        If there is no such atom.
    """
    if isinstance(element, str):
        found = np.flatnonzero(np.array(atoms.get_chemical_symbols()) == element)
        if not len(found):
            raise ValueError(
                f"there is no {element!r} in these Atoms; the elements are "
                f"{', '.join(sorted(set(atoms.get_chemical_symbols())))}"
            )
        return found
    found = np.atleast_1d(np.asarray(element))
    if found.dtype == bool:
        found = np.flatnonzero(found)
    whole = found.ndim == 1 and np.issubdtype(found.dtype, np.integer)
    if not (whole and len(found) and 0 <= found.min() <= found.max() < len(atoms)):
        raise ValueError(f"expected an element or indices of atoms, got {element!r}")
    return found
