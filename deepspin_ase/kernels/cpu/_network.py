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
        self._last: tuple[Tensor, list[np.ndarray]] | None = None

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

        geometry, arms = Geometry.of(system, pairs, types), numbers(virtual)
        if not (geometry.is_finite() and np.isfinite(arms).all()):
            return None
        n, workers, b = system.n_atoms, torch.get_num_threads(), system.n_systems
        shapes = ((n,), (workers, n, 3), (workers, n, 3), (workers, b, 3, 3))
        energies, *by_worker = arrays = [np.zeros(shape) for shape in shapes]
        fits: list[bool] = []
        for a, (centers, fitting) in enumerate(
            zip(self._centers(types), self.fittings, strict=True)
        ):
            common = (centers, a, geometry, arms, self.tables, fitting, derivatives)

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
        sums = [torch.from_numpy(array) for array in arrays]
        total = sums[0] + self.energy_bias[types]
        reduced = (x[0] if workers == 1 else x.sum(0) for x in sums[1:])
        return NetworkSums(*(x.to(system.dtype) for x in (total, *reduced)))

    def _centers(self, types: Tensor) -> list[np.ndarray]:
        """Return the atoms of each type; those of the last call are kept."""
        last = self._last
        if last is None or not torch.equal(last[0], types):
            kinds = range(len(self.fittings))
            found = [indices((types == a).nonzero().flatten()) for a in kinds]
            last = self._last = types.clone(), found
        return last[1]


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
