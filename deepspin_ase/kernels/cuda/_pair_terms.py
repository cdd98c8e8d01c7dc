"""Pair terms of Hamiltonians, all at once, in a Triton kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from .._data import PairSums, PairTermData
from .._pair_tables import pair_tables
from ._geometry import PAIR_WARPS, PAIRS
from ._lists import links_of
from ._pair_kernels import add_pairs


class CompiledPairs:
    """A sum of pair terms as tables on a device, see :data:`.PairKernel`.

    Raises
    ------
    NotTabulable
        If a function is not smooth between its knots.
    """

    def __init__(
        self,
        terms: Sequence[PairTermData],
        species: tuple[int, ...],
        device: torch.device,
    ) -> None:
        made = pair_tables(terms, species)
        self.shape = made.first.shape
        self.width = made.tables.shape[1]
        first = made.first.astype(np.int32)
        arrays = (made.edges, made.tables, first, made.cells, made.inverse)
        self.tables = tuple(torch.from_numpy(x).to(device) for x in arrays)

    def __call__(
        self, system: System, pairs: PairList, types: Tensor
    ) -> PairSums | None:
        """Evaluate structures; None where atoms are too close for the tables."""
        n, (n_types, _, n_sections) = system.n_atoms, self.shape

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
                *self.tables,
                energies,
                *sums,
                close,
                N_TYPES=n_types,
                N_SECTIONS=n_sections,
                WIDTH=self.width,
                BLOCK=PAIRS,
                num_warps=PAIR_WARPS,
            )
        if bool(close.any()):
            return None
        forces, gradients, virials = sums
        return PairSums(energies, forces, gradients, system.sum(virials.view(n, 3, 3)))
