"""Fast evaluation of frozen networks and of pair terms on the CPU, in numba.

The entry points of a back end, see :mod:`deepspin_ase.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._data import NetworkData, PairTermData
from ._network import CompiledNetwork
from ._pair_terms import CompiledPairs

__all__ = ["available", "network", "pairs"]


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
