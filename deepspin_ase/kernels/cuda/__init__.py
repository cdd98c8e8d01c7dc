"""Fast evaluation of frozen networks on CUDA devices, in Triton.

The algorithm is that of :mod:`deepspin_ase.kernels.cpu`, with the same tables;
each program of a kernel works for one atom, and fitting networks are matrix products
of torch. Triton comes with torch's CUDA builds and is imported at the first use.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import Any

from torch import Tensor

from ...potentials.networks._neighborhood import Derivatives
from ...system import System

logger = logging.getLogger(__name__)

__all__ = ["evaluate_network", "has_kernels"]


def has_kernels(system: System) -> bool:
    """Tell whether there are compiled kernels for the device of a System."""
    kind = system.device.type
    return kind == "cpu" or (kind == "cuda" and _has_triton())


@cache
def _has_triton() -> bool:
    """Tell whether Triton is installed; where it is not, that is logged once."""
    found = importlib.util.find_spec("triton") is not None
    if not found:
        logger.warning(
            "Triton is not installed, so that networks on CUDA devices are evaluated "
            "in torch, which is slower and has no mixed precision: install a CUDA "
            "build of torch that brings it, or 'pip install triton'"
        )
    return found


def evaluate_network(
    *arguments: Any, derivatives: bool
) -> tuple[Tensor, Derivatives] | None:
    """Evaluate a network: :func:`.network.evaluate_network`, imported when needed."""
    from ._network import evaluate_network as evaluate

    return evaluate(*arguments, derivatives=derivatives)
