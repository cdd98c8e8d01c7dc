"""Evaluation of a frozen network in compiled kernels.

Descriptors and their derivatives come from :mod:`.network_kernels`, fitting networks
are torch's. Some centres of one type at a time, so that memory does not grow with the
system beyond what the results take.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ...neighbors import PairList
from ...system import System
from ..neighborhood import Derivatives
from .embedding import SECTIONS, tabulate
from .geometry import Geometry, indices, numbers
from .tables import NotTabulable, joined
from .threads import share

if TYPE_CHECKING:
    from ..network import DeepSpinNetwork
    from .network_kernels import Model

logger = logging.getLogger(__name__)

#: Centres evaluated at a time.
CHUNK = 1024

#: Widths are filled up to a multiple of this, for whole vectors of the processor.
ALIGNMENT = 8

#: Fewest centres that are worth a thread.
LEAST = 32


@dataclass(frozen=True)
class _Frozen:
    """Tables made of certain weights; None where these cannot be tabulated."""

    weights: Tensor
    model: Model | None
    fittings: nn.ModuleList


#: Tables of every network, by their type of number.
_frozen: WeakKeyDictionary[nn.Module, dict[torch.dtype, _Frozen]] = WeakKeyDictionary()


def evaluate_network(
    network: DeepSpinNetwork,
    system: System,
    pairs: PairList,
    virtual: Tensor,
    real: torch.dtype,
    *,
    derivatives: bool,
) -> tuple[Tensor, Derivatives] | None:
    """Evaluate a network whose weights do not require gradients, on the CPU.

    Parameters
    ----------
    virtual : (N, 3) tensor, A
        From each atom to its pseudo-atom.
    real : torch.dtype
        Of tables and fitting; float32 or float64.
    derivatives : bool
        Compute more than energies; the rest is zero otherwise.

    Returns
    -------
    (N,) tensor, eV, and Derivatives
        In the type of the System. None where only the network itself gives the
        answer: its embedding is not smooth, there are more neighbours than slots,
        or the input is not finite.
    """
    frozen = _frozen_for(network, real)
    finite = torch.isfinite(virtual.sum() + system.positions.sum() + system.cell.sum())
    if frozen.model is None or not finite:
        return None
    types = network.types(system)
    call = _Call(frozen.model, Geometry.of(system, pairs, types), virtual)
    energies = torch.zeros(system.n_atoms, dtype=torch.float64)
    for a, fitting in enumerate(frozen.fittings):
        for centres in (types == a).nonzero().flatten().split(CHUNK):
            found = call.add(a, centres, fitting, derivatives)
            if found is None:
                return None
            energies[centres] = found + network.energy_bias[a].double()
    sums = (x.sum(0).to(system.dtype) for x in call.sums)
    return energies.to(system.dtype), Derivatives(*sums)


class _Call:
    """One evaluation: what its threads share, and a set of sums for each of them."""

    def __init__(self, model: Model, geometry: Geometry, virtual: Tensor) -> None:
        self.model = model
        self.geometry = geometry
        self.virtual = numbers(virtual)
        self.workers = torch.get_num_threads()
        self.real = torch.from_numpy(model.tables[:0]).dtype
        n_atoms, n_systems = len(geometry.positions), len(geometry.cells)
        self.sums = [
            torch.zeros(self.workers, *shape, dtype=torch.float64)
            for shape in ((n_atoms, 3), (n_atoms, 3), (n_systems, 3, 3))
        ]

    def add(
        self, a: int, centres: Tensor, fitting: nn.Module, derivatives: bool
    ) -> Tensor | None:
        """Add what centres of type a contribute; return their energies (n,)."""
        from . import network_kernels as kernels

        model, n = self.model, len(centres)
        products = np.empty((n, 4, model.tables.shape[-1]), model.tables.dtype)
        features = torch.empty(n, model.width * model.axis, dtype=self.real)
        common = (indices(centres), a, self.geometry, self.virtual, model, products)
        fits: list[bool] = []

        def describe(worker: int, begin: int, end: int) -> None:
            fits.append(kernels.describe(begin, end, *common, features.numpy()))

        share(describe, n, least=LEAST, workers=self.workers)
        if not all(fits):
            return None
        with torch.enable_grad():
            inputs = features.requires_grad_(derivatives)
            energies = fitting(inputs)[:, 0]
            if derivatives:
                (gradient,) = torch.autograd.grad(energies.sum(), inputs)
                gradients = gradient.contiguous().numpy()
        sums = [x.numpy() for x in self.sums]

        def differentiate(worker: int, begin: int, end: int) -> None:
            kernels.differentiate(
                begin, end, *common, gradients, *(x[worker] for x in sums)
            )

        if derivatives:
            share(differentiate, n, least=LEAST, workers=self.workers)
        return energies.detach().double()


@torch.no_grad()
def _frozen_for(network: DeepSpinNetwork, real: torch.dtype) -> _Frozen:
    """Return tables for the present weights; made anew where a weight has changed."""
    own = network.mean.dtype == real
    networks = [*network.embeddings.values(), *(() if own else network.fittings)]
    layers = [layer for part in networks for layer in part]
    parts = [
        x.flatten() for y in layers for x in (y.matrix, y.bias, y.idt) if x is not None
    ]
    weights = torch.cat([*parts, network.mean.flatten(), network.std.flatten()])
    known = _frozen.setdefault(network, {})
    found = known.get(real)
    if found is None or not torch.equal(found.weights, weights):
        fittings = network.fittings if own else copy.deepcopy(network.fittings).to(real)
        try:
            model = _model(network, real)
        except NotTabulable as error:
            logger.warning(
                "%s; the network itself is evaluated, which is slower", error
            )
            model = None
        found = known[real] = _Frozen(weights, model, fittings)
    return found


def _model(network: DeepSpinNetwork, real: torch.dtype) -> Model:
    from .network_kernels import Model

    config, descriptor = network.config, network.config.descriptor
    magnetic = config.spin.use_spin
    n_types = len(magnetic)
    sites = [b for b in range(2 * n_types) if b < n_types or magnetic[b - n_types]]
    keys = [(a, b) for a in range(n_types) for b in sites]
    tables, *where = joined(tabulate(network, keys, real), real, ALIGNMENT)
    shape = (n_types, 2 * n_types, where[0].shape[1])
    first, cells = np.zeros(shape, np.uint64), np.zeros(shape)
    for k, key in enumerate(keys):
        first[key], cells[key] = where[0][k], where[1][k]
    mean, scale = network.mean.double(), 1.0 / network.std.double()
    empty = torch.zeros(n_types, 2 * n_types, tables.shape[-1]).double()
    for a in range(n_types):
        row = (-mean[a] * scale[a])[None, :1].to(network.mean)
        for b in range(2 * n_types):
            empty[a, b, : descriptor.neuron[-1]] = network.embedding(a, b)(row)[0]
    constants: dict[str, Any] = {
        "cutoff": descriptor.rcut,
        "smooth": descriptor.rcut_smth,
        "protection": descriptor.env_protection,
        "width": descriptor.neuron[-1],
        "axis": descriptor.axis_neuron,
    }
    return Model(
        **constants,
        magnetic=np.array(magnetic),
        slots=np.array(descriptor.sel * 2, dtype=np.uint64),
        mean=mean.numpy(),
        scale=scale.numpy(),
        empty=empty.to(real).numpy(),
        tables=tables,
        first=first,
        cells=cells,
        sections=SECTIONS,
    )
