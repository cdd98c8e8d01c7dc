"""Pairs of atoms with functions of their distance that are to be found."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
from ase import Atoms

from ..neighbors import build_pairs
from ..system import System

#: Nodes of the piecewise linear functions, in nearest-neighbour distances.
NODES = np.linspace(1.0, 2.1, 5)

#: Search radii for nearest neighbours, A.
_RADII = (3.0, 4.5, 7.0, 10.0, 15.0)


class Bonds:
    """Pairs both ways of the chosen sites, i ascending, and sums over them.

    Parameters
    ----------
    atoms : Atoms
    sites : (N,) bool array
    nearest : float
        Nearest-neighbour distance, A; pairs reach to the last of ``NODES`` times it.

    Attributes
    ----------
    i, j : (E,) arrays
    vectors, normals : (E, 3) arrays
        From i to j, A, and of length 1.
    hats : (E, n_nodes) array
        Functions of the distance that are 1 on one node and 0 on the others;
        the first is 1 at all shorter distances.
    add : (N, E) sparse array
        Adds what pairs give to their atom i.
    """

    def __init__(self, atoms: Atoms, sites: np.ndarray, nearest: float) -> None:
        reach = NODES[-1] * nearest
        i, j, vectors = _pairs(atoms, reach)
        distance = np.linalg.norm(vectors, axis=1)
        keep = sites[i] & sites[j] & (distance <= reach)
        self.i, self.j, self.vectors = i[keep], j[keep], vectors[keep]
        distance = distance[keep]
        self.normals = self.vectors / distance[:, None]
        steps = np.clip(
            (distance / nearest - NODES[0]) / (NODES[1] - NODES[0]), 0, None
        )
        places = steps[:, None] - np.arange(len(NODES))
        self.hats = np.clip(1.0 - abs(places), 0.0, None)
        pairs = np.arange(len(self.i))
        self.add = sp.csr_array(
            (np.ones(len(pairs)), (self.i, pairs)), shape=(len(atoms), len(pairs))
        )

    def difference(self, values: np.ndarray) -> np.ndarray:
        """Return values_j - values_i of (N, ...) values."""
        return values[self.j] - values[self.i]

    def laplacian(self, weights: np.ndarray) -> sp.csr_array:
        """Return the (N, N) matrix of 1/2 sum over pairs of weight (x_i - x_j)^2."""
        n_atoms = self.add.shape[0]
        return sp.diags_array(self.add @ weights) - sp.csr_array(
            (weights, (self.i, self.j)), shape=(n_atoms, n_atoms)
        )

    def block_matrix(self, own: np.ndarray, pairs: np.ndarray) -> sp.csr_array:
        """Return the (3N, 3N) matrix of blocks (N, 3, 3) of atoms and (E, 3, 3)."""
        n_atoms = self.add.shape[0]
        starts = np.searchsorted(self.i, np.arange(n_atoms + 1))
        shape = (3 * n_atoms, 3 * n_atoms)
        everyone = np.arange(n_atoms + 1)
        return sp.csr_array(
            sp.bsr_array((own, everyone[:-1], everyone), shape=shape)
        ) + sp.csr_array(sp.bsr_array((pairs, self.j, starts), shape=shape))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sums (N, ...) over the pairs of each atom of (E, ...) values."""
        shape = values.shape[1:]
        flat = self.add @ values.reshape(len(values), math.prod(shape))
        return flat.reshape(-1, *shape)

    def kinds(self, numbers: np.ndarray, elements: np.ndarray) -> list[np.ndarray]:
        """Return (E,) masks, one for each unordered pair of the elements."""
        low = np.minimum(numbers[self.i], numbers[self.j])
        high = np.maximum(numbers[self.i], numbers[self.j])
        return [
            (low == a) & (high == b)
            for k, a in enumerate(elements)
            for b in elements[k:]
        ]


def nearest_distance(atoms: Atoms, sites: np.ndarray) -> float:
    """Return the median distance of the sites to their nearest neighbour, A.

    The largest radius of the search where half of them have none.
    """
    chosen = atoms[sites]
    for radius in _RADII:
        i, _, vectors = _pairs(chosen, radius)
        nearest = np.full(len(chosen), np.inf)
        np.minimum.at(nearest, i, np.linalg.norm(vectors, axis=1))
        median = float(np.median(nearest))
        if median <= radius:
            return median
    return _RADII[-1]


def _pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    system = System.from_atoms(atoms, require_spins=False)
    pairs = build_pairs(system, cutoff)
    return pairs.i.numpy(), pairs.j.numpy(), pairs.vectors(system).numpy()
