r"""Model Hessians with coefficients: springs of atoms, exchange of moments.

Each is a sum of positive semidefinite terms with coefficients >= 0,

    lattice    1/2 sum_pairs k_L(r) (n.d)^2 + k_T(r) (d^2 - (n.d)^2) + 1/2 sum_i a u_i^2
    rotations  1/2 sum_pairs J(r) |c| (t_i - t_j)^2 + 1/2 sum_i a t_i^2
    lengths    1/2 sum_pairs J(r) (l_i - l_j)^2 + 1/2 sum_i a l_i^2

for displacements u, a strain e, rotation vectors t (across the moments) and
logarithms l of lengths, with d = u_j - u_i + e r the change of the bond r = |r| n and
c the cosine of the angle between two moments. k and J are piecewise linear in the
distance, a function for each pair of elements (and, for rotations, for parallel and
antiparallel moments); a is a number for each element. Springs make good
preconditioners of lattices (Packwood et al., J. Chem. Phys. 144, 164109 (2016),
doi:10.1063/1.4947024; Mones, Ortner, Csanyi, Sci. Rep. 8, 13991 (2018),
doi:10.1038/s41598-018-32105-x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from ase import Atoms

from ..neighbors import NeighborList
from ..spins import get_spins
from ._bonds import NODES, Bonds, nearest_distance

#: Coefficients of the first guess: of the nearest bond and of an atom, eV/A^2, ...
_SPRING, _ATOM = 5.0, 0.02

#: ... of a moment's rotation and of the logarithm of its length, eV.
_ROTATION, _STRETCH = 0.05, 1.0

#: Of the first guess: its decay with distance over the nearest one, and the share of
#: pairs of moments in it.
_DECAY, _PAIR_SHARE = 2.5, 0.2

#: Atoms or edges of the cell that have moved by more than this, A, make new bonds.
_STALE = 0.03

#: Projector of (9,) strains on symmetric ones.
_SYMMETRIC = 0.5 * (
    np.eye(9) + np.eye(9).reshape(3, 3, 3, 3).swapaxes(2, 3).reshape(9, 9)
)


class Stiffness:
    """A model Hessian, linear in its coefficients.

    Attributes
    ----------
    guess : (K,) array
        Coefficients before any step.
    """

    guess: np.ndarray
    _nearest: float
    _neighbors: NeighborList
    _bonds: Bonds
    _at: np.ndarray | None = None

    def _bonds_of(self, atoms: Atoms, sites: np.ndarray) -> Bonds:
        """Return the bonds, the last ones where atoms and cell have hardly moved."""
        at = np.concatenate([atoms.positions, atoms.cell.array])
        if self._at is None or abs(at - self._at).max() > _STALE:
            self._at = at
            self._bonds = Bonds(atoms, sites, self._nearest, self._neighbors)
        return self._bonds

    def update(self, atoms: Atoms) -> None:
        """Adopt the present positions and moments."""
        raise NotImplementedError

    def columns(self, step: np.ndarray) -> np.ndarray:
        """Return (n, K): each term's matrix times the step (n,)."""
        raise NotImplementedError

    def matrix(self, coefficients: np.ndarray) -> sp.csr_array:
        """Return the (n, n) sum of the terms."""
        raise NotImplementedError


class LatticeStiffness(Stiffness):
    """Springs along and across bonds, eV/A^2; with a strain, in eV.

    The coordinates are (3N,) displacements, (9,) strains or both.
    """

    def __init__(
        self, atoms: Atoms, *, positions: bool, cell_mask: np.ndarray | None
    ) -> None:
        self._positions = positions
        self._strain = cell_mask is not None
        if cell_mask is not None:
            self._free = _SYMMETRIC * np.outer(cell_mask, cell_mask)
        every = np.ones(len(atoms), dtype=bool)
        self._sites = _by_label(atoms.numbers, every) if positions else []
        self._nearest = nearest_distance(atoms, every)
        self._neighbors = NeighborList()
        self.update(atoms)
        bond = _SPRING * np.exp(-_DECAY * (NODES - NODES[0]))
        pairs = np.tile(np.concatenate([bond, 0.1 * bond]), self._bonds.n_kinds)
        self.guess = np.concatenate([pairs, np.full(len(self._sites), _ATOM)])

    def update(self, atoms: Atoms) -> None:
        """Adopt the present positions."""
        self._n_atoms = len(atoms)
        every = np.ones(len(atoms), dtype=bool)
        self._bonds = self._bonds_of(atoms, every)

    def columns(self, step: np.ndarray) -> np.ndarray:
        """Return (n, K): each term's matrix times the step (n,)."""
        bonds = self._bonds
        change = np.zeros_like(bonds.vectors)
        moves = np.zeros((self._n_atoms, 3))
        if self._positions:
            moves = step[: 3 * self._n_atoms].reshape(-1, 3)
            change += bonds.difference(moves)
        if self._strain:
            change += bonds.vectors @ step[-9:].reshape(3, 3)
        along = bonds.normals * np.sum(bonds.normals * change, axis=1, keepdims=True)
        pulls = self._pulls([along, change - along])
        still = np.zeros(9)
        sites = [self._joined(site[:, None] * moves, still) for site in self._sites]
        return np.stack([*pulls, *sites], axis=1)

    def _pulls(self, tensions: list[np.ndarray]) -> list[np.ndarray]:
        """Return the gradients that tensions (E, 3) mean, by kind, tension and node."""
        bonds = self._bonds
        moves = -bonds.sums_by_node(np.concatenate(tensions, axis=1))
        moves = moves.reshape(*moves.shape[:3], len(tensions), 3)
        strains = np.zeros((*moves.shape[:2], len(tensions), 3, 3))
        if self._strain:
            outer = [t[:, :, None] * bonds.vectors[:, None] for t in tensions]
            flat = np.stack(outer, axis=1).reshape(len(bonds.i), 9 * len(tensions))
            sums = 0.5 * bonds.sums_by_node(flat).sum(axis=2)
            strains = sums.reshape(strains.shape)
        return [
            self._joined(moves[kind, node, :, k], strains[kind, node, k].ravel())
            for kind in range(bonds.n_kinds)
            for k in range(len(tensions))
            for node in range(len(NODES))
        ]

    def _joined(self, moves: np.ndarray, strain: np.ndarray) -> np.ndarray:
        parts = [moves.ravel()] if self._positions else []
        if self._strain:
            parts.append(self._free @ strain)
        return np.concatenate(parts)

    def matrix(self, coefficients: np.ndarray) -> sp.csr_array:
        """Return the (n, n) sum of the terms."""
        bonds, nodes = self._bonds, len(NODES)
        pair_terms = coefficients[: 2 * nodes * bonds.n_kinds]
        by_kind = pair_terms.reshape(bonds.n_kinds, 2, nodes).swapaxes(1, 2)
        along, across = bonds.at_distances(by_kind).T
        outer = np.einsum("pa,pb->pab", bonds.normals, bonds.normals)
        springs = across[:, None, None] * np.eye(3)
        springs += (along - across)[:, None, None] * outer
        blocks: list[list[Any]] = [[None, None], [None, None]]
        if self._positions:
            sites = np.zeros(self._n_atoms)
            for site, value in zip(
                self._sites, coefficients[len(pair_terms) :], strict=True
            ):
                sites[site] = value
            own = bonds.sums(springs) + sites[:, None, None] * np.eye(3)
            blocks[0][0] = bonds.block_matrix(own, -springs)
        if self._strain:
            pulled = np.einsum("pac,pb->pacb", springs, bonds.vectors)
            mixed = -bonds.sums(pulled).reshape(-1, 9) @ self._free
            pure = 0.5 * np.einsum("pb,pacd->abcd", bonds.vectors, pulled)
            pure = self._free @ pure.reshape(9, 9) @ self._free
            blocks[1][1] = pure + np.trace(pure) / 9 * (np.eye(9) - self._free)
            if self._positions:
                blocks[0][1], blocks[1][0] = mixed, mixed.T
        return _joined_blocks(blocks)


def _joined_blocks(blocks: list[list[Any]]) -> sp.csr_array:
    present = [row for row in range(2) if blocks[row][row] is not None]
    return sp.csr_array(
        sp.block_array([[sp.csr_array(blocks[a][b]) for b in present] for a in present])
    )


class _MomentStiffness(Stiffness):
    """Common part of the models of rotations and of lengths of moments."""

    def __init__(self, atoms: Atoms, scale: float) -> None:
        moments = np.linalg.norm(get_spins(atoms), axis=1) > 0
        self._magnetic = moments
        self._sites = _by_label(atoms.numbers, moments)
        self._nearest = nearest_distance(atoms, moments)
        self._neighbors = NeighborList()
        self.update(atoms)
        pair = _PAIR_SHARE * scale * np.exp(-_DECAY * (NODES - NODES[0]))
        terms = self._bonds.n_kinds * self._weights.shape[1]
        self.guess = np.concatenate(
            [np.tile(pair, terms), np.full(len(self._sites), scale)]
        )

    def update(self, atoms: Atoms) -> None:
        """Adopt the present positions and moments."""
        self._bonds = self._bonds_of(atoms, self._magnetic)
        spins = get_spins(atoms)
        lengths = np.linalg.norm(spins, axis=1, keepdims=True)
        self._directions = spins / np.where(lengths > 0, lengths, 1.0)
        self._weights = self._pair_weights()

    def _pair_weights(self) -> np.ndarray:
        """Return the weights of the terms of a pair, (E, w)."""
        return np.ones((len(self._bonds.i), 1))

    def _split(self, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return J of all pairs (E,) and a of all atoms (N,)."""
        bonds, n_weights = self._bonds, self._weights.shape[1]
        count = bonds.n_kinds * n_weights * len(NODES)
        by_kind = coefficients[:count].reshape(bonds.n_kinds, n_weights, len(NODES))
        each = bonds.at_distances(by_kind.swapaxes(1, 2))
        exchange = np.sum(self._weights * each, axis=1)
        sites = np.zeros(len(self._directions))
        for site, value in zip(self._sites, coefficients[count:], strict=True):
            sites[site] = value
        return exchange, sites

    def _columns(self, step: np.ndarray) -> list[np.ndarray]:
        """Return each term's product with (N, k) steps."""
        bonds = self._bonds
        change = bonds.difference(step)
        n_weights, n_components = self._weights.shape[1], step.shape[1]
        weighted = self._weights[:, :, None] * change[:, None]
        flat = weighted.reshape(len(change), n_weights * n_components)
        products = -bonds.sums_by_node(flat)
        products = products.reshape(*products.shape[:3], n_weights, n_components)
        return [
            products[kind, node, :, k]
            for kind in range(bonds.n_kinds)
            for k in range(n_weights)
            for node in range(len(NODES))
        ] + [site[:, None] * step for site in self._sites]


class RotationStiffness(_MomentStiffness):
    """Exchange of rotating moments, eV: coordinates are (3N,) rotation vectors."""

    def __init__(self, atoms: Atoms) -> None:
        super().__init__(atoms, _ROTATION)

    def _pair_weights(self) -> np.ndarray:
        e, bonds = self._directions, self._bonds
        cosine = np.sum(e[bonds.i] * e[bonds.j], axis=1)
        return np.clip(np.stack([cosine, -cosine], axis=1), 0.0, None)

    def columns(self, step: np.ndarray) -> np.ndarray:
        """Return (n, K): each term's matrix times the step (n,)."""
        e = self._directions
        found = []
        for product in self._columns(step.reshape(-1, 3)):
            along = np.sum(e * product, axis=1, keepdims=True)
            found.append((product - along * e).ravel())
        return np.stack(found, axis=1)

    def matrix(self, coefficients: np.ndarray) -> sp.csr_array:
        """Return the (n, n) sum of the terms; along the moments it is the mean."""
        exchange, sites = self._split(coefficients)
        e, bonds = self._directions, self._bonds
        along = np.einsum("na,nb->nab", e, e)
        across = np.eye(3) - along
        stiffness = bonds.sums(exchange) + sites
        mean = max(float(stiffness.mean()), 1e-12)
        own = stiffness[:, None, None] * across + mean * along
        pairs = exchange[:, None, None] * across[bonds.i] @ across[bonds.j]
        return bonds.block_matrix(own, -pairs)


class LengthStiffness(_MomentStiffness):
    """Stiffness of the logarithms of lengths, eV: coordinates are (N,) logarithms."""

    def __init__(self, atoms: Atoms) -> None:
        super().__init__(atoms, _STRETCH)

    def columns(self, step: np.ndarray) -> np.ndarray:
        """Return (n, K): each term's matrix times the step (n,)."""
        return np.concatenate(self._columns(step[:, None]), axis=1)

    def matrix(self, coefficients: np.ndarray) -> sp.csr_array:
        """Return the (n, n) sum of the terms."""
        exchange, sites = self._split(coefficients)
        return sp.csr_array(self._bonds.laplacian(exchange) + sp.diags_array(sites))


def _by_label(numbers: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
    return [chosen & (numbers == z) for z in np.unique(numbers[chosen])]
