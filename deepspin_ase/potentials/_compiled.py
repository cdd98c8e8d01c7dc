"""Compiled kernels of potentials, kept as long as what they were made from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..kernels import (
    NetworkData,
    NetworkKernel,
    NotTabulable,
    PairKernel,
    PairTermData,
    entry_point,
)

logger = logging.getLogger(__name__)


def pair_kernel(
    terms: tuple[PairTermData, ...], species: tuple[int, ...], device: torch.device
) -> PairKernel | None:
    """Return the kernel of a sum of pair terms; None where there can be none."""
    make = entry_point("pairs", device)
    return None if make is None else _made_pairs(make, terms, species, device)


@lru_cache(maxsize=32)
def _made_pairs(
    make: Callable[..., PairKernel],
    terms: tuple[PairTermData, ...],
    species: tuple[int, ...],
    device: torch.device,
) -> PairKernel | None:
    try:
        return make(terms, species, device)
    except NotTabulable as error:
        logger.warning(
            "a pair term is %s A; it is evaluated itself, which is slower", error
        )
        return None


#: Bits of the weights of every network and its kernel, by back end, type of number and
#: device.
_networks: WeakKeyDictionary[
    nn.Module, dict[tuple[object, ...], tuple[Tensor, NetworkKernel | None]]
] = WeakKeyDictionary()


def network_kernel(
    network: nn.Module, data: NetworkData, real: torch.dtype, device: torch.device
) -> NetworkKernel | None:
    """Return the kernel of a network; made again where a weight has changed.

    Parameters
    ----------
    network : nn.Module
        As long as it lives the kernel is kept.
    data : NetworkData
        Its present weights.
    real : torch.dtype
        Of tables and fitting networks.
    """
    make = entry_point("network", device)
    if make is None:
        return None
    weights = _bits(data.weights())
    known = _networks.setdefault(network, {})
    old = known.get((make, real, device))
    if old is not None and torch.equal(old[0], weights):
        return old[1]
    kernel: NetworkKernel | None = None
    try:
        kernel = make(data, real, device)
    except NotTabulable as error:
        logger.warning("%s; the network itself is evaluated, which is slower", error)
    known[make, real, device] = weights, kernel
    return kernel


def _bits(weights: Iterable[Tensor]) -> Tensor:
    """Return a copy of the bits of all weights: whatever changes one is noticed."""
    return torch.cat([x.detach().flatten() for x in weights]).view(torch.int32)


#: Elements and types by the tensor of atomic numbers, as often as it was written to.
_types_of: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def types_of(numbers: Tensor) -> tuple[tuple[int, ...], Tensor]:
    """Return the elements that occur, and which of them each atom is, (N,).

    Kept as long as the tensor lives: to look at it means to wait for its device.
    """
    known = _types_of.get(numbers)
    if known is None or known[0] != numbers._version:
        species, types = torch.unique(numbers, return_inverse=True)
        known = (numbers._version, tuple(species.tolist()), types)
        _types_of[numbers] = known
    return known[1], known[2]
