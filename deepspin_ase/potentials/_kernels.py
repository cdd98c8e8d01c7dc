"""Compiled kernels of the parts of a potential, kept with what they were made from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..kernels import (
    MomentDescriptor,
    MomentsData,
    MomentsKernel,
    MomentsNetworkData,
    NetworkData,
    NetworkKernel,
    NotTabulable,
    PairKernel,
    PairTermData,
    entry_point,
)

logger = logging.getLogger(__name__)

PairTerms = tuple[PairTermData, ...]
Species = tuple[int, ...]


class _Weights(Protocol):
    def weights(self) -> Iterator[Tensor]: ...


class Kernels:
    """Kernels for one device and type of number.

    Each is made when it is first asked for, and again where what it was made from has
    changed since. Copies begin with none.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
        Of Systems and weights.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        # Keys begin with the entry point: another back end may be registered later.
        self._pairs: WeakKeyDictionary[
            nn.Module, dict[tuple[Any, Species], tuple[PairTerms, PairKernel | None]]
        ] = WeakKeyDictionary()
        self._networks: WeakKeyDictionary[
            nn.Module,
            dict[tuple[Any, torch.dtype], tuple[Tensor, Any]],
        ] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy device and type only: kernels are made again where they are needed."""
        return type(self), (self.device, self.dtype)

    def pairs(
        self, owner: nn.Module, terms: PairTerms, species: Species
    ) -> PairKernel | None:
        """Return the kernel of the pair terms of ``owner``, None if there can be none.

        Parameters
        ----------
        owner : nn.Module
            The potential of which these are all pair terms.
        terms : tuple of PairTermData
        species : tuple of int
            Atomic numbers that occur.
        """
        make = entry_point("pairs", self.device)
        if make is None or not terms:
            return None
        known, key = self._pairs.setdefault(owner, {}), (make, species)
        if key not in known or known[key][0] != terms:
            try:
                known[key] = terms, make(terms, species, self.device)
            except NotTabulable as error:
                logger.warning(
                    "a pair term is %s A; it is evaluated itself, which is slower",
                    error,
                )
                known[key] = terms, None
        return known[key][1]

    def network(
        self, owner: nn.Module, data: NetworkData, real: torch.dtype
    ) -> NetworkKernel | None:
        """Return the kernel of the network ``owner``, None if there can be none.

        Parameters
        ----------
        owner : nn.Module
        data : NetworkData
            Its present weights.
        real : torch.dtype
            Of tables and fitting networks.
        """
        return self._frozen("network", owner, data, real)

    def moments(
        self, owner: nn.Module, data: MomentsNetworkData, real: torch.dtype
    ) -> MomentsKernel | None:
        """Return the kernel of a network on moments, None if there can be none.

        Parameters are those of :meth:`network`.
        """
        return self._frozen("moments", owner, data, real)

    def features(
        self, owner: nn.Module, data: MomentsData, real: torch.dtype
    ) -> MomentDescriptor | None:
        """Return what describes neighborhoods by moments, None if there is nothing.

        Parameters are those of :meth:`network`.
        """
        return self._frozen("features", owner, data, real)

    def _frozen(
        self, name: str, owner: nn.Module, data: _Weights, real: torch.dtype
    ) -> Any:
        """Return what an entry point makes of the present weights."""
        make = entry_point(name, self.device)
        if make is None:
            return None
        weights = _bits(data.weights())
        known, key = self._networks.setdefault(owner, {}), (make, real)
        if key not in known or not torch.equal(known[key][0], weights):
            try:
                known[key] = weights, make(data, real, self.device)
            except NotTabulable as error:
                logger.warning(
                    "%s; the network itself is evaluated, which is slower", error
                )
                known[key] = weights, None
        return known[key][1]


def _bits(weights: Iterable[Tensor]) -> Tensor:
    """Return a copy of the bits of all weights: whatever changes one is noticed."""
    return torch.cat([x.detach().flatten() for x in weights]).view(torch.int32)
