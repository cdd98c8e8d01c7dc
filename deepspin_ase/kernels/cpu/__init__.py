"""Fast evaluation of frozen networks and of pair terms on the CPU, in numba.

The entry points of a back end, see :mod:`deepspin_ase.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._data import MomentsData, MomentsNetworkData, NetworkData, PairTermData
from ._moments import CompiledMoments, Descriptor
from ._network import CompiledNetwork
from ._pair_terms import CompiledPairs

__all__ = ["available", "features", "moments", "network", "pairs"]


def available() -> bool:
    """Return True: numba comes with the package."""
    return True


def pairs(
    terms: Sequence[PairTermData], species: tuple[int, ...], device: torch.device
) -> CompiledPairs:
    """Compile pair terms for the elements ``species``."""
    return CompiledPairs(terms, species)


def network(
    data: NetworkData, real: torch.dtype, device: torch.device
) -> CompiledNetwork:
    """Compile a network with tables and fitting networks in ``real``."""
    return CompiledNetwork(data, real)


def moments(
    data: MomentsNetworkData, real: torch.dtype, device: torch.device
) -> CompiledMoments:
    """Compile a network on moments, with all but geometry in ``real``."""
    return CompiledMoments(data, real)


def features(data: MomentsData, real: torch.dtype, device: torch.device) -> Descriptor:
    """Compile features of moments, with all but geometry in ``real``."""
    return Descriptor(data, real)
