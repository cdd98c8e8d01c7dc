"""Sites and bonds: the atoms and pairs that a term of a Hamiltonian acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ... import _validate as _arguments
from ...neighbors import PairList
from ...system import System
from .._base import Potential
from .._prediction import Prediction
from ..radial import Radial, checked


def of_elements(system: System, elements: Sequence[str] | None) -> Tensor:
    """Return the (N,) bool mask of the atoms of ``elements``; None means all."""
    mask = torch.zeros_like(system.species, dtype=torch.bool)
    if elements is None:
        return ~mask
    for number in _arguments.numbers(elements):
        mask |= system.species == number
    return mask


def carriers(system: System, elements: Sequence[str] | None = None) -> Tensor:
    """Return the (N,) bool mask of the atoms that carry a moment."""
    moment = (system.spins.detach() != 0).any(dim=1)
    return moment & of_elements(system, elements)


def unit_spins(system: System) -> Tensor:
    """Return e = m/|m|, (N, 3); zero with zero gradient where there is no moment."""
    moment = carriers(system)[:, None]
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
        """Give half of each pair's energy (E,) to either atom, (N,).

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


class SiteTerm(Potential):
    """An energy of each moment by itself; atoms without a moment contribute none.

    Parameters
    ----------
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.
    """

    def __init__(self, *, elements: Sequence[str] | None = None) -> None:
        super().__init__()
        self.elements = _arguments.symbols(elements)

    def site_energies(self, moments: Tensor) -> Tensor:
        """Return the energies (n,), eV, of moments (n, 3), mu_B, none of them zero."""
        raise NotImplementedError

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        sites = carriers(system, self.elements).nonzero().flatten()
        energies = self.site_energies(system.spins[sites])
        return system.spins.new_zeros(system.n_atoms).index_add(0, sites, energies)


class PairTerm(Potential):
    """An energy of each pair of atoms, shared half and half.

    Where the energy depends on spins, only pairs that both carry a moment count.

    Parameters
    ----------
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    def __init__(self, *, elements: Sequence[str] | None = None) -> None:
        super().__init__()
        self.elements = _arguments.symbol_pair(elements)

    def pair_energies(self, system: System, bonds: Bonds) -> Tensor:
        """Return the energy (E,), eV, of each bond; the same for i-j and j-i."""
        raise NotImplementedError

    def bonds(self, system: System, pairs: PairList) -> Bonds:
        """Return the bonds that the term acts on."""
        atoms = carriers(system) if self.uses_spins else None
        return find_bonds(
            system, pairs, self.cutoff, atoms=atoms, elements=self.elements
        )

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        bonds = self.bonds(system, pairs)
        return bonds.share(self.pair_energies(system, bonds))


class RadialTerm(PairTerm):
    """A pair term whose strength is a function of distance.

    Parameters
    ----------
    radial : Radial
        Strength against distance, see :mod:`deepspin_ase.potentials.radial`.
    elements : pair of symbols, optional
    """

    #: See :func:`deepspin_ase.potentials.choose_backend`.
    backend: str = "fused"

    def __init__(
        self, radial: Radial, *, elements: Sequence[str] | None = None
    ) -> None:
        super().__init__(elements=elements)
        self.radial = checked("radial", radial)

    def evaluate(
        self, system: System, pairs: PairList | None = None, **options: bool
    ) -> Prediction:
        """Return the energy and derivatives; see :meth:`Potential.evaluate`."""
        from .._sums import evaluate_sum

        return evaluate_sum(self, [self], system, pairs, **options)

    @property
    def cutoff(self) -> float:
        """Cutoff of the radial function, A."""
        return self.radial.cutoff
