"""Sites and bonds: the atoms and pairs that a term of a Hamiltonian acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._validate import atomic_numbers_of
from ...neighbors import PairList
from ...system import System


def of_elements(system: System, elements: Sequence[str] | None) -> Tensor:
    """Return the (N,) bool mask of the atoms of ``elements``; None means all."""
    mask = torch.zeros_like(system.species, dtype=torch.bool)
    if elements is None:
        return ~mask
    for number in atomic_numbers_of(elements):
        mask |= system.species == number
    return mask


def magnetic_sites(system: System, elements: Sequence[str] | None = None) -> Tensor:
    """Return the (N,) bool mask of the atoms that carry a moment."""
    moment = (system.spins.detach() != 0).any(dim=1)
    return moment & of_elements(system, elements)


def unit_spins(system: System) -> Tensor:
    """Return e = m/|m|, (N, 3); zero with zero gradient where there is no moment."""
    moment = magnetic_sites(system)[:, None]
    spins = torch.where(moment, system.spins, torch.ones_like(system.spins))
    unit = spins / spins.norm(dim=1, keepdim=True)
    return torch.where(moment, unit, torch.zeros_like(unit))


@dataclass(frozen=True)
class Bonds:
    """Pairs of a PairList that a term acts on, each as i-j and as j-i.

    Attributes
    ----------
    i, j : (E,) int64 tensors
    vectors : (E, 3) tensor, A
        From atom i to atom j.
    distances : (E,) tensor, A
    n_atoms : int
    """

    i: Tensor
    j: Tensor
    vectors: Tensor
    distances: Tensor
    n_atoms: int

    @property
    def directions(self) -> Tensor:
        """(E, 3) unit vectors from i to j."""
        return self.vectors / self.distances[:, None]

    def sum(self, values: Tensor) -> Tensor:
        """Add ``values`` (E,) of the bonds of each atom up, (N,)."""
        return values.new_zeros(self.n_atoms).index_add(0, self.i, values)

    def share(self, energies: Tensor) -> Tensor:
        """Give half of each pair's energy (E,) to each of its atoms, (N,).

        As every pair is listed twice, it counts once in the total.
        """
        return 0.5 * self.sum(energies)


def find_bonds(
    system: System,
    pairs: PairList,
    cutoff: float,
    *,
    atoms: Tensor | None = None,
    elements: tuple[str, str] | None = None,
) -> Bonds:
    """Pick the pairs closer than ``cutoff`` (A) out of a longer list.

    Parameters
    ----------
    system : System
    pairs : PairList
        Complete out to ``cutoff`` or farther.
    cutoff : float
    atoms : (N,) bool tensor, optional
        Both atoms must be among these.
    elements : pair of symbols, optional
        One atom must be of the first element, the other of the second.
    """
    i, j = pairs.i, pairs.j
    vectors = pairs.vectors(system)
    distances = torch.linalg.vector_norm(vectors, dim=1)
    with torch.no_grad():
        keep = distances < cutoff
        if atoms is not None:
            keep &= atoms[i] & atoms[j]
        if elements is not None:
            first, second = (of_elements(system, (e,)) for e in elements)
            keep &= (first[i] & second[j]) | (second[i] & first[j])
    kept = keep.nonzero()[:, 0]
    return Bonds(i[kept], j[kept], vectors[kept], distances[kept], system.n_atoms)
