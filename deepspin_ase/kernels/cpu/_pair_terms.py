"""Pair terms of Hamiltonians, all at once, in a compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from .._data import PairSums, PairTermData
from .._pair_tables import pair_tables
from ._geometry import Geometry, numbers
from ._threads import share

#: Fewest atoms that are worth a thread.
LEAST = 128


class CompiledPairs:
    """A sum of pair terms as tables, see :data:`.PairKernel`.

    Raises
    ------
    NotTabulable
        If a function is not smooth between its knots.
    """

    def __init__(self, terms: Sequence[PairTermData], species: tuple[int, ...]) -> None:
        self.tables = pair_tables(terms, species)

    def __call__(
        self, system: System, pairs: PairList, types: Tensor
    ) -> PairSums | None:
        """Evaluate structures.

        None where atoms are too close for the tables, or the input is not finite.
        """
        from ._pair_kernels import Moments, add_pairs

        geometry = Geometry.of(system, pairs, types)
        if not (geometry.is_finite() and np.isfinite(numbers(system.spins)).all()):
            return None
        n, workers = system.n_atoms, torch.get_num_threads()
        lengths = system.spins.double().norm(dim=1)
        unit = system.spins.double() / lengths.clamp_min(1e-300)[:, None]
        moments = Moments(lengths.numpy(), unit.numpy())
        shapes = ((n,), (n, 3), (n, 3), (workers, system.n_systems, 3, 3))
        *by_atom, virial = arrays = [np.zeros(shape) for shape in shapes]
        done: list[bool] = []

        def work(worker: int, begin: int, end: int) -> None:
            own = (*by_atom, virial[worker])
            done.append(add_pairs(begin, end, geometry, moments, self.tables, *own))

        share(work, n, least=LEAST, workers=workers)
        energies, forces, gradients, virials = map(torch.from_numpy, arrays)
        total = PairSums(energies, forces, gradients, virials.sum(0))
        return total if all(done) else None
