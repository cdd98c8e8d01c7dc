"""Structure of pair lists and order of the centers, computed once per pair list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System


@dataclass(frozen=True)
class Links:
    """The structure of a pair list of E pairs, sorted by the first atom.

    Attributes
    ----------
    first : (N + 1,) int64 tensor
        Pairs of atom i are ``first[i]`` to ``first[i + 1]``.
    reverse : (E,) int32 tensor
        Where the reverse of each pair is.
    """

    first: Tensor
    reverse: Tensor


def links_of(pairs: PairList, n_atoms: int) -> Links:
    """Return the structure of a list, the same object for the same list.

    Raises
    ------
    ValueError
        If a pair is not listed both ways.
    """
    return pairs.derived(_links, n_atoms)


def _links(pairs: PairList, n_atoms: int) -> Links:
    atoms = torch.arange(n_atoms + 1, device=pairs.i.device)
    return Links(torch.searchsorted(pairs.i, atoms), _reverse(pairs, n_atoms))


def _reverse(pairs: PairList, n_atoms: int) -> Tensor:
    """Find the reverse of each pair by sorting the list forwards and backwards."""
    if not len(pairs.i):
        return torch.empty(0, dtype=torch.int32, device=pairs.i.device)
    shift = pairs.shift.round().long()
    reach = shift.abs().amax(0)
    radix = 2 * reach + 1

    def keys(i: Tensor, j: Tensor, shift: Tensor) -> Tensor:
        a, b, c = (shift + reach).unbind(1)
        return (((i * n_atoms + j) * radix[0] + a) * radix[1] + b) * radix[2] + c

    forwards, order = torch.sort(keys(pairs.i, pairs.j, shift))
    backwards, place = torch.sort(keys(pairs.j, pairs.i, -shift))
    if not torch.equal(forwards, backwards):
        raise ValueError("the pair list must hold every pair i-j also as j-i")
    reverse = torch.empty(len(order), dtype=torch.int32, device=order.device)
    reverse[place] = order.int()
    return reverse


@dataclass(frozen=True)
class Chunk:
    """Some of the centres: ``centres[begin:end]`` of a :class:`Layout`.

    Attributes
    ----------
    n_slots : int
        For their sites.
    by_type : list of (int, slice)
        Types that occur, and where in the chunk their centres are.
    """

    begin: int
    end: int
    n_slots: int
    by_type: list[tuple[int, slice]]


@dataclass(frozen=True)
class Layout:
    """In which order centres are worked on: by type.

    Attributes
    ----------
    links : Links
    types : (N,) int32 tensor
    centres : (N,) int64 tensor
        Atoms, by type.
    offsets : (N + 1,) int64 tensor
        Slots of ``centres[c]``, two for each pair and one for its own pseudo-atom,
        begin at ``offsets[c]``.
    """

    links: Links
    types: Tensor
    centres: Tensor
    offsets: Tensor
    _species: tuple[Tensor, int, Tensor]
    _bounds: list[int]
    _slots: Tensor

    @classmethod
    def of(
        cls,
        system: System,
        pairs: PairList,
        types: Tensor,
        old: Layout | None,
    ) -> Layout:
        """Return the layout: the old one where list and elements are the same."""
        links = links_of(pairs, system.n_atoms)
        if old is not None and old.links is links and old._has(system.species):
            return old
        centres = torch.argsort(types, stable=True)
        n_slots = 2 * links.first.diff()[centres] + 1
        offsets = torch.nn.functional.pad(n_slots.cumsum(0), (1, 0))
        n_types = int(types.max()) + 1
        bounds = torch.bincount(types, minlength=n_types).cumsum(0).tolist()
        return cls(
            links,
            types.int(),
            centres,
            offsets,
            (system.species, system.species._version, system.species.clone()),
            [0, *bounds],
            offsets.cpu(),
        )

    def _has(self, species: Tensor) -> bool:
        """Compare addresses and counts of changes, and only then values."""
        known, version, values = self._species
        same = known.data_ptr() == species.data_ptr() and known._version == version
        return (same and known.shape == species.shape) or torch.equal(values, species)

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yield chunks of at most ``size`` centres."""
        n = len(self.centres)
        for begin in range(0, n, size):
            end = min(begin + size, n)
            by_type = []
            for a, (low, high) in enumerate(
                zip(self._bounds[:-1], self._bounds[1:], strict=True)
            ):
                low, high = max(low, begin), min(high, end)
                if low < high:
                    by_type.append((a, slice(low - begin, high - begin)))
            yield Chunk(begin, end, int(self._slots[end] - self._slots[begin]), by_type)
