"""Compiled evaluation of frozen potentials, by kind of device.

A back end is a module, or any object, with the entry points

``available() -> bool``
    Whether it can run here.
``pairs(terms, species, device) -> PairKernel``
    Compile pair terms for the elements ``species``.
``network(data, real, device) -> NetworkKernel``
    Compile a pseudo-atom network with tables and fitting networks in ``real``.
``moments(data, real, device) -> MomentsKernel``
    Compile a network on moments, with all but geometry and sums in ``real``.
``features(data, real, device) -> MomentDescriptor``
    Compile the features of such a network alone, for training.

and is added with :func:`register`. The first two raise :class:`NotTabulable` where a
function is too rough for a table. What entry points return is called with structures
and owns tables, weights and work space. Kernels see plain arrays (:mod:`._data`), never
a potential.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from . import cpu, cuda
from ._data import (
    Instructions,
    MomentDescriptor,
    MomentFeatures,
    MomentsData,
    MomentsKernel,
    MomentsNetworkData,
    MomentsSums,
    NetworkData,
    NetworkKernel,
    NetworkSums,
    PairKernel,
    PairSums,
    PairTermData,
)
from ._layers import ACTIVATIONS, Layer
from ._pair_tables import INVARIANTS
from ._tables import NotTabulable

__all__ = [
    "ACTIVATIONS",
    "Instructions",
    "Layer",
    "MomentDescriptor",
    "MomentFeatures",
    "MomentsData",
    "MomentsKernel",
    "MomentsNetworkData",
    "MomentsSums",
    "NetworkData",
    "NetworkKernel",
    "NetworkSums",
    "NotTabulable",
    "PairKernel",
    "PairSums",
    "PairTermData",
    "entry_point",
    "has_invariants",
    "has_kernels",
    "register",
]

_backends: dict[str, Any] = {"cpu": cpu, "cuda": cuda}


def register(kind: str, backend: Any) -> None:
    """Use ``backend`` for devices of a kind, such as "cpu", "cuda" or "mps".

    Parameters
    ----------
    kind : str
        ``torch.device.type``.
    backend : module or object
        With the entry points described above; those it lacks are done in torch.
    """
    _backends[kind] = backend


def has_kernels(device: torch.device) -> bool:
    """Return whether there are compiled kernels for a device."""
    backend = _backends.get(device.type)
    return backend is not None and backend.available()


def entry_point(name: str, device: torch.device) -> Callable[..., Any] | None:
    """Return the entry point ``name`` of the back end of a device, or None."""
    if not has_kernels(device):
        return None
    return getattr(_backends[device.type], name, None)


def has_invariants(names: Iterable[str]) -> bool:
    """Return whether the tables of pair terms hold all of these invariants."""
    return all(name in INVARIANTS for name in names)
