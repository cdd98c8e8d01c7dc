"""Digests of nested plain data, arrays and structures."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from ase import Atoms


def digest(value: Any) -> str:
    """Return a SHA-256 digest of nested data, the same on every machine.

    Parameters
    ----------
    value : dict, list, tuple, array, tensor, Atoms, number, str or None
        Nested at will. The order of keys does not matter, nor do calculators and
        information attached to Atoms.
    """
    return hashlib.sha256(_bytes(value)).hexdigest()


def _bytes(value: Any) -> bytes:
    if isinstance(value, Atoms):
        return _bytes(value.arrays | {"cell": value.cell.array, "pbc": value.pbc})
    if isinstance(value, dict):
        parts = (repr(k).encode() + _bytes(value[k]) + b";" for k in sorted(value))
        return b"".join(parts)
    if isinstance(value, list | tuple):
        return b"".join(_bytes(part) + b"," for part in value)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    return repr(value).encode()
