"""Neighbour sites of the pseudo-atom network, sorted into dense groups.

The sites of an atom are its neighbours, their pseudo-atoms and its own
pseudo-atom. Per type of centre and of site they are laid out as (centres, K)
arrays, so that the network works with dense matrix products. Short rows are
filled with a vector beyond the cutoff, whose environment row is exactly zero:
that is what an empty slot holds in DeePMD-kit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System

#: Length of the vectors that stand for no site, A; beyond any cutoff.
FAR = 1.0e4


@dataclass(frozen=True)
class Group:
    """All sites of one type around n centres of one type.

    Attributes
    ----------
    site_type : int
        Element, or number of elements + element for its pseudo-atoms.
    virtual : bool
        Whether the sites are pseudo-atoms.
    centres : (n,) int64 tensor
    neighbours : (n, K) int64 tensor
        Atoms the sites belong to; anything where there is no site.
    separations : (n, K, 3) tensor, A
        From the centre to the neighbour atom.
    vectors : (n, K, 3) tensor, A
        From the centre to the site.
    """

    site_type: int
    virtual: bool
    centres: Tensor
    neighbours: Tensor
    separations: Tensor
    vectors: Tensor


@dataclass
class Derivatives:
    """Running sums of the derivatives of a batch.

    Attributes
    ----------
    forces : (N, 3) tensor, eV/A
    virtual : (N, 3) tensor, eV/A
        dE/d(vector from each atom to its pseudo-atom).
    virial : (B, 3, 3) tensor, eV
    """

    forces: Tensor
    virtual: Tensor
    virial: Tensor

    @classmethod
    def zeros(cls, system: System) -> Derivatives:
        """Return sums of nothing."""
        zeros = torch.zeros_like(system.positions)
        return cls(zeros, zeros.clone(), torch.zeros_like(system.cell))

    def add(self, group: Group, gradient: Tensor, system: System) -> None:
        """Add what the site-vector gradient (n, K, 3) of one group contributes."""
        flat, neighbours = gradient.flatten(0, 1), group.neighbours.flatten()
        self.forces = self.forces.index_add(0, group.centres, gradient.sum(1))
        self.forces = self.forces.index_add(0, neighbours, -flat)
        if group.virtual:
            self.virtual = self.virtual.index_add(0, neighbours, flat)
        work = torch.bmm(gradient.transpose(1, 2), group.separations)
        owner = system.index[group.centres]
        self.virial = self.virial.index_add(0, owner, -work)


@dataclass(frozen=True)
class Sites:
    """Pairs of centres ``first <= i < last`` with what their sites need.

    Attributes
    ----------
    types : (N,) int64 tensor
    first, last : int
    i, j : (E,) int64 tensors
        Sorted by i.
    separations : (E, 3) tensor, A
    virtual : (N, 3) tensor, A
        From each atom to its pseudo-atom.
    """

    types: Tensor
    first: int
    last: int
    i: Tensor
    j: Tensor
    separations: Tensor
    virtual: Tensor

    @classmethod
    def of_pairs(
        cls, types: Tensor, pairs: PairList, separations: Tensor, virtual: Tensor
    ) -> Sites:
        """Collect the sites of all atoms."""
        return cls(types, 0, len(types), pairs.i, pairs.j, separations, virtual)

    def chunks(self, size: int) -> Iterator[Sites]:
        """Yield the sites of at most ``size`` centres at a time."""
        starts = [*range(self.first, self.last, size), self.last]
        bounds = torch.searchsorted(
            self.i, torch.tensor(starts, device=self.i.device)
        ).tolist()
        for k in range(len(starts) - 1):
            part = slice(bounds[k], bounds[k + 1])
            yield Sites(
                self.types,
                starts[k],
                starts[k + 1],
                self.i[part],
                self.j[part],
                self.separations[part],
                self.virtual,
            )


#: Centre type, centres (n,) and the groups of their sites.
Neighborhood = tuple[int, Tensor, list[Group]]


def group_sites(
    sites: Sites, *, magnetic: Sequence[bool], rcut: float, sel: Sequence[int]
) -> tuple[list[Neighborhood], bool]:
    """Lay sites out by type of centre and site.

    Parameters
    ----------
    sites : Sites
    magnetic : sequence of bool
        Which elements have pseudo-atoms.
    rcut : float
        Every site is tested with its own distance, A.
    sel : sequence of int
        Slots per element, and again for its pseudo-atoms.

    Returns
    -------
    list of Neighborhood
        Only types that occur, and only groups with sites.
    bool
        Whether an atom had more sites than slots, and lost the farthest.
    """
    kept = _Kept.within(sites, magnetic, rcut)
    grouped = _layout(sites, kept, magnetic)
    # Placeholders count as well, but only where other slots are all taken.
    full = any(
        group.neighbours.shape[1] >= sel[group.site_type % len(sel)]
        for _, _, groups in grouped
        for group in groups
    )
    if not full:
        return grouped, False
    nearest = kept.nearest(sites, sel)
    crowded = nearest.count() < kept.count()
    return (_layout(sites, nearest, magnetic) if crowded else grouped), crowded


@dataclass(frozen=True)
class _Kept:
    """Which sites of each pair count: the atom itself, and its pseudo-atom."""

    real: Tensor
    virtual: Tensor
    placeholder: Tensor
    distance_real: Tensor
    distance_virtual: Tensor

    @classmethod
    def within(cls, sites: Sites, magnetic: Sequence[bool], rcut: float) -> _Kept:
        carries = torch.tensor(magnetic, device=sites.j.device)[sites.types[sites.j]]
        separations = sites.separations.detach()
        near = separations.norm(dim=1)
        near_virtual = (separations + sites.virtual.detach()[sites.j]).norm(dim=1)
        inside = near_virtual < rcut
        return cls(near < rcut, inside & carries, inside & ~carries, near, near_virtual)

    def count(self) -> int:
        """Return the number of sites, without placeholders."""
        return int(self.real.sum() + self.virtual.sum())

    def nearest(self, sites: Sites, sel: Sequence[int]) -> _Kept:
        """Keep what DeePMD-kit keeps when there are more sites than slots.

        First the nearest sites of all types, as many as there are slots in
        all, then the nearest of each type. Pseudo-atoms of non-magnetic atoms
        take part in the first step; an atom's own pseudo-atom holds one slot.
        Between sites at equal distance (an atom without moment and its
        placeholder are) the atom comes first; DeePMD-kit's choice is arbitrary.
        """
        n_types, n_pairs = len(sel), len(sites.i)
        kept = torch.cat([self.real, self.virtual | self.placeholder])
        index = torch.nonzero(kept)[:, 0]
        pair = index % n_pairs
        centre = sites.i[pair]
        type_ = sites.types[sites.j[pair]] + n_types * (index >= n_pairs)
        distance = torch.cat([self.distance_real, self.distance_virtual])[index]
        chosen = _rank(centre, distance) < 2 * sum(sel) - 1
        index, centre, type_, distance = (
            x[chosen] for x in (index, centre, type_, distance)
        )
        room = torch.tensor(list(sel) * 2, device=centre.device)[type_]
        room = room - (type_ == sites.types[centre] + n_types).long()
        chosen = _rank(centre * 2 * n_types + type_, distance) < room
        mask = torch.zeros_like(kept)
        mask[index[chosen]] = True
        return replace(self, real=mask[:n_pairs], virtual=mask[n_pairs:] & self.virtual)


def _rank(bins: Tensor, values: Tensor) -> Tensor:
    """Return the rank of each value, ascending, among those of its bin."""
    order = torch.argsort(values, stable=True)
    order = order[torch.argsort(bins[order], stable=True)]
    counts = torch.bincount(bins)
    start = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start[bins[order]]
    return rank


def _layout(sites: Sites, kept: _Kept, magnetic: Sequence[bool]) -> list[Neighborhood]:
    n_types = len(magnetic)
    far = sites.separations.new_tensor([[FAR, 0.0, 0.0]])
    separations = torch.cat([sites.separations, far])
    atoms = torch.cat([sites.j, sites.j.new_zeros(1)])
    code = sites.types[sites.i] * n_types + sites.types[sites.j]
    code_real = torch.where(kept.real, code, -1)
    code_virtual = torch.where(kept.virtual, code, -1)
    own = torch.arange(sites.first, sites.last, device=sites.i.device)
    result: list[Neighborhood] = []
    for a in range(n_types):
        centres = own[sites.types[own] == a]
        if not len(centres):
            continue
        row = torch.empty_like(own)
        row[centres - sites.first] = torch.arange(len(centres), device=own.device)
        groups = []
        for b in range(2 * n_types):
            virtual, element = b >= n_types, b % n_types
            if virtual and not magnetic[element]:
                continue
            codes = code_virtual if virtual else code_real
            pairs = torch.nonzero(codes == a * n_types + element)[:, 0]
            slots = _slots(row[sites.i[pairs] - sites.first], pairs, len(centres))
            neighbours, between = atoms[slots], separations[slots]
            if virtual and element == a:
                neighbours = torch.cat([neighbours, centres[:, None]], 1)
                between = torch.nn.functional.pad(between, (0, 0, 0, 1))
            vectors = between + sites.virtual[neighbours] if virtual else between
            if neighbours.shape[1]:
                groups.append(Group(b, virtual, centres, neighbours, between, vectors))
        result.append((a, centres, groups))
    return result


def _slots(rows: Tensor, pairs: Tensor, n: int) -> Tensor:
    """Return (n, K) positions of each row's pairs, -1 where there is none."""
    counts = torch.bincount(rows, minlength=n)
    width = int(counts.max()) if len(pairs) else 0
    start = torch.cumsum(counts, 0) - counts
    column = torch.arange(len(pairs), device=rows.device) - start[rows]
    slots = pairs.new_full((n, width), -1)
    slots[rows, column] = pairs
    return slots
