"""Evaluation of a frozen network in compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from .._data import NetworkData, NetworkSums
from .._layers import Layer
from .._network_tables import network_tables
from ._geometry import Geometry, indices, numbers
from ._threads import share

#: Fewest centers that are worth a thread.
LEAST = 32


class CompiledNetwork:
    """A network as tables and packed fitting networks, see :class:`.NetworkKernel`.

    Parameters
    ----------
    data : NetworkData
    real : torch.dtype
        Of tables and fitting; float32 or float64.

    Raises
    ------
    NotTabulable
        If an embedding is not smooth.
    """

    @torch.no_grad()
    def __init__(self, data: NetworkData, real: torch.dtype) -> None:
        self.tables = network_tables(data, real)
        self.fittings = [packed(layers, real) for layers in data.fittings]
        self.energy_bias = data.energy_bias.double().clone()

    def __call__(
        self,
        system: System,
        pairs: PairList,
        types: Tensor,
        virtual: Tensor,
        *,
        derivatives: bool,
    ) -> NetworkSums | None:
        """Evaluate structures, in the type of the System."""
        from . import _network_kernels as kernels

        finite = virtual.sum() + system.positions.sum() + system.cell.sum()
        if not torch.isfinite(finite):
            return None
        geometry, arms = Geometry.of(system, pairs, types), numbers(virtual)
        n, workers, b = system.n_atoms, torch.get_num_threads(), system.n_systems
        shapes = ((n,), (workers, n, 3), (workers, n, 3), (workers, b, 3, 3))
        sums = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
        energies, *by_worker = (x.numpy() for x in sums)
        fits: list[bool] = []
        for a, fitting in enumerate(self.fittings):
            centers = (types == a).nonzero().flatten()
            common = (
                *(indices(centers), a, geometry, arms, self.tables),
                *(fitting, derivatives),
            )

            def work(
                worker: int,
                begin: int,
                end: int,
                common: tuple[Any, ...] = common,
                fitting: Any = fitting,
            ) -> None:
                space = kernels.work_space(end - begin, geometry, self.tables, fitting)
                own = (x[worker] for x in by_worker)
                fits.append(
                    kernels.evaluate(begin, end, *common, space, energies, *own)
                )

            if len(centers):
                share(work, len(centers), least=LEAST, workers=workers)
        if not all(fits):
            return None
        total = sums[0] + self.energy_bias[types]
        reduced = (x.sum(0) for x in sums[1:])
        return NetworkSums(*(x.to(system.dtype) for x in (total, *reduced)))


def packed(layers: tuple[Layer, ...], real: torch.dtype) -> Any:
    """Return a fitting network as arrays, a :class:`._fitting_kernels.Fitting`."""
    from ._fitting_kernels import CODES, Fitting

    parts: list[Tensor] = []
    for layer in layers:
        step = torch.ones_like(layer.bias) if layer.step is None else layer.step
        parts += [layer.matrix.flatten(), layer.matrix.T.flatten(), layer.bias, step]
    return Fitting(
        torch.cat(parts).to(real).numpy(),
        np.array([layers[0].matrix.shape[0], *(len(x.bias) for x in layers)]),
        np.array([layer.copies for layer in layers]),
        CODES[layers[0].activation],
    )
