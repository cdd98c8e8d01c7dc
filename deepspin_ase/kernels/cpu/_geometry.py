"""Structures and pair lists as arrays for compiled kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System


class Geometry(NamedTuple):
    """Positions, cells and pair list of a batch as arrays.

    Attributes
    ----------
    positions : (N, 3) float64, A
    types : (N,) uint64
        Of the atoms, as the kernel counts them.
    structure : (N,) uint64
        Place in the batch.
    cells : (B, 3, 3) float64, A
    first : (N + 1,) uint64
        Pairs of atom i are ``first[i]`` to ``first[i + 1]``.
    neighbours : (E,) uint32
        Indices are unsigned: compiled code need not look out for negative ones.
    shifts : (E, 3) int16
        Lattice translations of the neighbours; float32 where one is very large.
    widest : int
        Most pairs that an atom has.
    """

    positions: np.ndarray
    types: np.ndarray
    structure: np.ndarray
    cells: np.ndarray
    first: np.ndarray
    neighbours: np.ndarray
    shifts: np.ndarray
    widest: int

    def is_finite(self) -> bool:
        """Return whether positions and cells are finite."""
        return bool(np.isfinite(self.positions).all() and np.isfinite(self.cells).all())

    @classmethod
    def of(cls, system: System, pairs: PairList, types: Tensor) -> Geometry:
        """Collect the arrays; most are views of the tensors."""
        return cls(
            numbers(system.positions),
            indices(types),
            indices(system.index),
            numbers(system.cell),
            *pairs.derived(_listed, system.n_atoms),
        )


def _listed(
    pairs: PairList, n_atoms: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return the last four attributes of Geometry; small numbers are fast to read."""
    first = torch.searchsorted(pairs.i, torch.arange(n_atoms + 1))
    neighbours = pairs.j.numpy().astype(np.uint32)
    shift = pairs.shift.numpy()
    limit = np.iinfo(np.int16)
    small = limit.min <= shift.min(initial=0) and shift.max(initial=0) <= limit.max
    shifts = np.ascontiguousarray(shift.astype(np.int16 if small else np.float32))
    return indices(first), neighbours, shifts, int(first.diff().max())


def numbers(values: Tensor) -> np.ndarray:
    """Return a float64 array of a tensor's values."""
    return values.detach().double().contiguous().numpy()


def indices(values: Tensor) -> np.ndarray:
    """Return an array of unsigned integers of an int64 tensor's values."""
    return values.contiguous().numpy().view(np.uint64)
