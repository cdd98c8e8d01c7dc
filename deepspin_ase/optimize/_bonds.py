"""Pairs of atoms with piecewise linear functions of their distance."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
from ase import Atoms

from ..neighbors import NeighborList
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
    neighbors : NeighborList
        Kept between calls, it need not search again while atoms move little.

    Attributes
    ----------
    i, j : (E,) arrays
    vectors, normals : (E, 3) arrays
        From i to j, A, and of length 1.
    hats : (E, n_nodes) array
        Functions of the distance that are 1 on one node and 0 on the others;
        the first is 1 at all shorter distances.
    kind : (E,) integers
        The unordered pair of elements, from 0 to ``n_kinds`` - 1.
    add : (N, E) sparse array
        Adds what pairs give to their atom i.
    """

    def __init__(
        self,
        atoms: Atoms,
        sites: np.ndarray,
        nearest: float,
        neighbors: NeighborList,
    ) -> None:
        cutoff = NODES[-1] * nearest
        i, j, vectors = _pairs(atoms, cutoff, neighbors)
        distance = np.linalg.norm(vectors, axis=1)
        keep = sites[i] & sites[j] & (distance <= cutoff)
        self.i, self.j, self.vectors = i[keep], j[keep], vectors[keep]
        distance = distance[keep]
        self.normals = self.vectors / distance[:, None]
        steps = np.clip(
            (distance / nearest - NODES[0]) / (NODES[1] - NODES[0]), 0, None
        )
        places = steps[:, None] - np.arange(len(NODES))
        self.hats = np.clip(1.0 - abs(places), 0.0, None)
        elements, label = np.unique(atoms.numbers, return_inverse=True)
        present = np.unique(label[sites])
        place = np.zeros(len(elements), dtype=int)
        place[present] = np.arange(len(present))
        ends = np.sort(place[label][np.stack([self.i, self.j])], axis=0)
        table = np.zeros((len(present),) * 2, dtype=int)
        upper = np.triu_indices(len(present))
        table[upper] = np.arange(len(upper[0]))
        self.kind, self.n_kinds = table[ends[0], ends[1]], len(upper[0])
        pairs = np.arange(len(self.i))
        self.add = sp.csr_array(
            (np.ones(len(pairs)), (self.i, pairs)), shape=(len(atoms), len(pairs))
        )
        # Of the hats of a distance at most two differ from zero.
        pair, node = np.nonzero(self.hats)
        rows = (self.kind[pair] * len(NODES) + node) * len(atoms) + self.i[pair]
        n_rows = self.n_kinds * len(NODES) * len(atoms)
        self._add_by_node = sp.csr_array(
            (self.hats[pair, node], (rows, pair)), shape=(n_rows, len(pairs))
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
        diagonal = starts + np.arange(n_atoms + 1)  # ahead of the pairs of its row
        data = np.insert(pairs, starts[:-1], own, axis=0)
        places = np.insert(self.j, starts[:-1], np.arange(n_atoms))
        shape = (3 * n_atoms, 3 * n_atoms)
        return sp.csr_array(sp.bsr_array((data, places, diagonal), shape=shape))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sums (N, ...) over the pairs of each atom of (E, ...) values."""
        shape = values.shape[1:]
        flat = self.add @ values.reshape(len(values), math.prod(shape))
        return flat.reshape(-1, *shape)

    def sums_by_node(self, values: np.ndarray) -> np.ndarray:
        """Return the sums of (E, c) values times each hat for the pairs of each kind.

        (n_kinds, n_nodes, N, c).
        """
        n_atoms = self.add.shape[0]
        flat = self._add_by_node @ values
        return flat.reshape(self.n_kinds, len(NODES), n_atoms, values.shape[1])

    def at_distances(self, values: np.ndarray) -> np.ndarray:
        """Return functions by their values (n_kinds, n_nodes, c) on nodes, (E, c)."""
        found = np.zeros((len(self.i), values.shape[2]))
        for kind, own in enumerate(values):
            pairs = self.kind == kind
            found[pairs] = self.hats[pairs] @ own
        return found


def nearest_distance(atoms: Atoms, sites: np.ndarray) -> float:
    """Return the median distance of the sites to their nearest neighbour, A.

    The largest radius of the search where half of them have none.
    """
    chosen = atoms[sites]
    for radius in _RADII:
        i, _, vectors = _pairs(chosen, radius, NeighborList(0.0))
        nearest = np.full(len(chosen), np.inf)
        np.minimum.at(nearest, i, np.linalg.norm(vectors, axis=1))
        median = float(np.median(nearest))
        if median <= radius:
            return median
    return _RADII[-1]


def _pairs(
    atoms: Atoms, cutoff: float, neighbors: NeighborList
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return i, j and vectors from i to j (A), at least up to the cutoff."""
    system = System.from_atoms(atoms, require_spins=False)
    pairs = neighbors.update(system, cutoff)
    return pairs.i.numpy(), pairs.j.numpy(), pairs.vectors(system).numpy()
