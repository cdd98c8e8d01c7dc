"""SevenNet, a universal potential of the lattice, as a Potential.

Needs the package ``sevenn``, whose wheel holds the weights of the models
(``pip install 'deepspin-ase[reference]'``).
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..._extras import require
from ...neighbors import PairList
from ...system import System
from .._base import Potential
from .._registry import register
from ..terms._sites import find_bonds


@register
class SevenNet(Potential):
    """A SevenNet model: energies of atoms, blind to their moments.

    The graph network is evaluated on the pairs of this package and
    differentiated by torch, so structures are batched, derivatives are those of
    the energy, and float64 is possible although the weights are float32.

    Parameters
    ----------
    model : str
        Name of a model whose weights come with sevenn: ``"7net-l3i5"`` or
        ``"7net-0"``; or the path of a checkpoint of a model of one fidelity.

    Raises
    ------
    ImportError
        If sevenn is not installed.
    ValueError
        If the model holds several fidelities.

    References
    ----------
    Park, Kim, Hwang, Han, J. Chem. Theory Comput. 20, 4857 (2024),
    doi:10.1021/acs.jctc.4c00190.
    """

    uses_spins = False
    _order: Tensor

    def __init__(self, model: str = "7net-l3i5") -> None:
        super().__init__()
        self.model = model
        network = _load(model)
        self.species = frozenset(network.type_map)
        self._cutoff = float(network.cutoff)
        layers = dict(network.named_children())
        for summed in ("reduce_total_enegy", "force_output"):
            del layers[summed]
        self.encoding = layers.pop("onehot_idx_to_onehot")
        self._n_rounds = sum(name.endswith("_convolution") for name in layers)
        self.layers = nn.ModuleList(layers.values())
        order = torch.full((max(network.type_map) + 1,), -1)
        for number, index in network.type_map.items():
            order[number] = index
        self.register_buffer("_order", order, persistent=False)
        self.double().requires_grad_(False).eval()

    @property
    def cutoff(self) -> float:
        """Cutoff of a layer of the graph, A; the layers reach farther."""
        return self._cutoff

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the distance between atoms whose messages meet, A."""
        return 2.0 * self._n_rounds * self._cutoff if self._n_rounds else None

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        bonds = find_bonds(system, pairs, self._cutoff)
        data = self.encoding({"x": self._order[system.species]})
        # The encoding is float32 whatever the type of the weights.
        data = {
            name: value.to(system.dtype) if value.is_floating_point() else value
            for name, value in data.items()
        }
        data["atomic_numbers"] = system.species
        data["edge_index"] = torch.stack([bonds.i, bonds.j])
        data["edge_vec"] = bonds.vectors
        # The optimiser of TorchScript would compile for every number of pairs.
        with torch.jit.optimized_execution(False):
            for layer in self.layers:
                data = layer(data)
        energies: Tensor = data["atomic_energy"].flatten()
        return energies


def _load(model: str) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        checkpoint = require("sevenn.util", "SevenNet models").load_checkpoint(model)
        network = checkpoint.build_model()
    if network.modal_map:
        raise ValueError(f"{model} holds several fidelities; choose a model of one")
    return network
