"""Evaluation of a frozen network in compiled kernels.

Tables of the embeddings and packed fitting networks are kept as long as the weights
have the same values: they cannot be out of date.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ...neighbors import PairList
from ...potentials.networks._layers import DenseLayer
from ...potentials.networks._neighborhood import Derivatives
from ...system import System
from ._embedding import SECTIONS, tabulate
from ._geometry import Geometry, indices, numbers
from ._tables import NotTabulable, joined
from ._threads import share

if TYPE_CHECKING:
    from ...potentials.networks._deepspin import DeepSpinNetwork
    from ._fitting_kernels import Fitting
    from ._site_kernels import Model

logger = logging.getLogger(__name__)

#: Widths are filled up to a multiple of this, for whole vectors of the processor.
ALIGNMENT = 8

#: Fewest centres that are worth a thread.
LEAST = 32


@dataclass(frozen=True)
class _Frozen:
    """What was made of certain weights; no model where these cannot be tabulated.

    Attributes
    ----------
    embedding, fitting : int32 tensors
        The bits of the weights.
    model : Model, optional
    fittings : list of Fitting
    """

    embedding: Tensor
    fitting: Tensor
    model: Model | None
    fittings: list[Fitting]


#: Tables and weights of every network, by their type of number.
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
    model = frozen.model
    finite = torch.isfinite(virtual.sum() + system.positions.sum() + system.cell.sum())
    if model is None or not finite:
        return None
    from . import _network_kernels as kernels

    types = network.types(system)
    geometry, arms = Geometry.of(system, pairs, types), numbers(virtual)
    n, workers = system.n_atoms, torch.get_num_threads()
    shapes = ((n,), (workers, n, 3), (workers, n, 3), (workers, system.n_systems, 3, 3))
    sums = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    energies, *by_worker = (x.numpy() for x in sums)
    fits: list[bool] = []
    for a, fitting in enumerate(frozen.fittings):
        centres = (types == a).nonzero().flatten()
        common = (indices(centres), a, geometry, arms, model, fitting, derivatives)

        def work(
            worker: int,
            begin: int,
            end: int,
            common: tuple[Any, ...] = common,
            fitting: Fitting = fitting,
        ) -> None:
            space = kernels.work_space(end - begin, geometry, model, fitting)
            own = (x[worker] for x in by_worker)
            fits.append(kernels.evaluate(begin, end, *common, space, energies, *own))

        if len(centres):
            share(work, len(centres), least=LEAST, workers=workers)
    if not all(fits):
        return None
    total = sums[0] + network.energy_bias.double()[types]
    reduced = (x.sum(0).to(system.dtype) for x in sums[1:])
    return total.to(system.dtype), Derivatives(*reduced)


@torch.no_grad()
def _frozen_for(network: DeepSpinNetwork, real: torch.dtype) -> _Frozen:
    """Return what was made of the present weights; made anew where one has changed."""
    embedding = bits(
        [network.mean, network.std, *weights_of(network.embeddings.values())]
    )
    fitting = bits(weights_of(network.fittings))
    known = _frozen.setdefault(network, {})
    old = known.get(real)
    if old is None or not torch.equal(old.embedding, embedding):
        try:
            model = make_model(network, real)
        except NotTabulable as error:
            logger.warning(
                "%s; the network itself is evaluated, which is slower", error
            )
            model = None
        old = known[real] = _Frozen(embedding, fitting[:0], model, [])
    if not torch.equal(old.fitting, fitting):
        packed = [_packed(part, network, real) for part in network.fittings]
        old = known[real] = replace(old, fitting=fitting, fittings=packed)
    return old


def _layers(network: nn.Module) -> list[DenseLayer]:
    return [layer for layer in network.children() if isinstance(layer, DenseLayer)]


def weights_of(networks: Iterable[nn.Module]) -> list[Tensor]:
    """Return the weights of all dense layers."""
    layers = [layer for network in networks for layer in _layers(network)]
    return [x for y in layers for x in (y.matrix, y.bias, y.idt) if x is not None]


def bits(weights: Iterable[Tensor]) -> Tensor:
    """Return a copy of the bits of all weights: whatever changes one is noticed."""
    return torch.cat([x.detach().flatten() for x in weights]).view(torch.int32)


def _packed(fitting: nn.Module, network: DeepSpinNetwork, real: torch.dtype) -> Fitting:
    """Return a fitting network as arrays."""
    from ._fitting_kernels import CODES, Fitting

    layers = _layers(fitting)
    parts: list[Tensor] = []
    for layer in layers:
        step = torch.ones_like(layer.bias) if layer.idt is None else layer.idt
        parts += [layer.matrix.flatten(), layer.matrix.T.flatten(), layer.bias, step]
    return Fitting(
        torch.cat(parts).to(real).numpy(),
        np.array([layers[0].matrix.shape[0], *(len(x.bias) for x in layers)]),
        np.array([layer.copies for layer in layers]),
        CODES[network.config.fitting_net.activation_function],
    )


def make_model(network: DeepSpinNetwork, real: torch.dtype) -> Model:
    """Tabulate the embeddings of a network on the CPU.

    Raises
    ------
    NotTabulable
        If one is not smooth.
    """
    from ._site_kernels import Model

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
        for b in range(len(network.slots)):
            empty[a, b, : descriptor.neuron[-1]] = network.embedding(a, b)(row)[0]
    slots = np.zeros(2 * n_types, np.uint64)
    slots[: len(network.slots)] = network.slots
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
        slots=slots,
        per_slot=1.0 / float(slots.sum()),
        mean=mean.numpy(),
        scale=scale.numpy(),
        empty=empty.to(real).numpy(),
        tables=tables,
        first=first,
        cells=cells,
        sections=SECTIONS,
    )
