"""Pair terms of Hamiltonians, all at once, in a Triton kernel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from ._geometry import PAIR_WARPS, PAIRS
from ._lists import links_of
from ._pair_kernels import add_pairs

if TYPE_CHECKING:
    from ..cpu._pair_kernels import PairModel


def pair_sums(
    model: PairModel, system: System, pairs: PairList, types: Tensor
) -> tuple[Tensor, ...] | None:
    """Return energies (N,), forces and dE/dm (N, 3), and virial (B, 3, 3), in float64.

    None where atoms are closer than the tables reach.

    Parameters
    ----------
    types : (N,) int64 tensor
        Of the atoms, as the model counts them.
    """
    n, (n_types, _, n_sections) = system.n_atoms, model.first.shape
    tables = _on_device(_Held(model), system.device)

    def empty(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=system.device)

    energies, close = empty(n), empty(n, dtype=torch.int32)
    sums = [empty(n, k) for k in (3, 3, 9)]
    with torch.cuda.device_of(system.positions):
        add_pairs[(n,)](
            links_of(pairs, n).first,
            pairs.j,
            pairs.shift.contiguous(),
            system.positions.contiguous(),
            system.spins.contiguous(),
            system.index,
            system.cell.contiguous(),
            types.int(),
            *tables,
            energies,
            *sums,
            close,
            N_TYPES=n_types,
            N_SECTIONS=n_sections,
            MAGNETIC=bool(np.any(model.tables[:, 1:])),
            BLOCK=PAIRS,
            num_warps=PAIR_WARPS,
        )
    if bool(close.any()):
        return None
    forces, fields, virials = sums
    return energies, forces, fields, system.sum(virials.view(n, 3, 3))


class _Held:
    """A model as a key: equal to itself alone."""

    def __init__(self, model: PairModel) -> None:
        self.model = model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.model is self.model

    def __hash__(self) -> int:
        return id(self.model)


@lru_cache(maxsize=32)
def _on_device(held: _Held, device: torch.device) -> tuple[Tensor, ...]:
    """Return edges, tables, first cells, numbers of cells and inverse lengths."""
    model = held.model
    first = model.first.astype(np.int32)
    arrays = (model.edges, model.tables, first, model.cells, model.inverse)
    return tuple(torch.from_numpy(x).to(device) for x in arrays)
