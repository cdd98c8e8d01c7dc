"""Fast evaluation of frozen networks and of pair terms on CUDA devices, in Triton.

The entry points of a back end, see :mod:`deepspin_ase.kernels`. The algorithm is that
of :mod:`deepspin_ase.kernels.cpu`, with the same tables; each program of a kernel works
for one atom, and fitting networks are matrix products of torch. Triton comes with
torch's CUDA builds and is imported at the first use.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cache

import torch

from .._data import (
    MomentsKernel,
    MomentsNetworkData,
    NetworkData,
    NetworkKernel,
    PairKernel,
    PairTermData,
)

logger = logging.getLogger(__name__)

__all__ = ["available", "moments", "network", "pairs"]


@cache
def available() -> bool:
    """Return whether Triton is installed; where it is not, that is logged once."""
    found = importlib.util.find_spec("triton") is not None
    if not found:
        logger.warning(
            "Triton is not installed, so that networks on CUDA devices are evaluated "
            "in torch, which is slower and has no mixed precision: install a CUDA "
            "build of torch that brings it, or 'pip install triton'"
        )
    return found


def pairs(
    terms: Sequence[PairTermData], species: tuple[int, ...], device: torch.device
) -> PairKernel:
    """Compile pair terms for the elements ``species``."""
    from ._pair_terms import CompiledPairs

    return CompiledPairs(terms, species, device)


def network(
    data: NetworkData, real: torch.dtype, device: torch.device
) -> NetworkKernel:
    """Compile a network with tables and fitting networks in ``real``."""
    from ._network import CompiledNetwork

    return CompiledNetwork(data, real, device)


def moments(
    data: MomentsNetworkData, real: torch.dtype, device: torch.device
) -> MomentsKernel:
    """Compile a network on moments, with all but geometry in ``real``."""
    from ._moments import CompiledMoments

    return CompiledMoments(data, real, device)
