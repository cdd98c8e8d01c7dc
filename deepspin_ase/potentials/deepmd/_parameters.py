"""Conversion between DeePMD-kit's parameters and pseudo-atom networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..networks._config import DeepSpinConfig, DescriptorConfig
from ..networks._deepspin import DeepSpinNetwork

#: The tensors matrix, bias and, where it has one, idt of a dense layer.
Layer: TypeAlias = dict[str, Tensor]

#: The layers of a network in order.
Layers: TypeAlias = list[Layer]

#: Entries of the descriptor and the fitting net that define a model.
DESCRIPTOR = tuple(DescriptorConfig.model_fields)
FITTING = (
    "neuron",
    "resnet_dt",
    "activation_function",
    "numb_fparam",
    "numb_aparam",
    "dim_case_embd",
)


class Unsupported(ValueError):
    """A model is sound but not one that DeepSpinNetwork can be; says why."""


class Unrunnable(Unsupported):
    """A model is one that its own program cannot be run for either; says why."""


@dataclass(frozen=True)
class Parameters:
    """A se_e2_a model with spins, in the order in which DeePMD-kit keeps it.

    DeePMD-kit has 2n types: n elements, then their pseudo-atoms. It also has
    networks for pseudo-atoms as centres, which contribute nothing.

    Attributes
    ----------
    config : dict
        What :meth:`DeepSpinConfig.from_dict` takes; n elements.
    davg, dstd : (2n, slots, 4) tensors
        Shift and scale of the environment rows.
    bias : (2n,) tensor, eV
        Energy of an atom of each type.
    embeddings : list of Layers
        With centre type a and site type b at a + 2n b, or at b if
        ``type_one_side``.
    fittings : list of Layers
        By centre type.
    grounded : tuple of bool
        By element: whether the energy of a descriptor that is zero is subtracted.
    """

    config: dict[str, Any]
    davg: Tensor
    dstd: Tensor
    bias: Tensor
    embeddings: list[Layers]
    fittings: list[Layers]
    grounded: tuple[bool, ...] = ()

    def to_network(self) -> DeepSpinNetwork:
        """Build the network.

        Raises
        ------
        Unsupported
            If the hyper-parameters or the statistics are such that a
            DeepSpinNetwork cannot have them.
        ValueError
            If tensors are missing or of the wrong shape.
        """
        try:
            network = DeepSpinNetwork(DeepSpinConfig.from_dict(self.config))
        except ValueError as error:
            raise Unsupported(str(error)) from error
        n_types = len(network.config.type_map)
        try:
            for a, b in _centre_and_site(network.config):
                place = _place(network.config, a, b)
                _fill(network.embedding(a, b), self.embeddings[place])
            for a in range(n_types):
                _fill(network.fittings[a], self.fittings[a])
            network.mean.copy_(_same_for_all_slots(self.davg[:n_types], "shifts"))
            network.std.copy_(_same_for_all_slots(self.dstd[:n_types], "scales"))
            network.energy_bias.copy_(self.bias[:n_types])
            descriptor = network.config.descriptor
            nothing = torch.zeros(1, descriptor.neuron[-1] * descriptor.axis_neuron)
            for a, subtracted in enumerate(self.grounded):
                if subtracted:
                    alone = network.fittings[a](nothing.double()).detach()
                    network.energy_bias[a] -= alone.squeeze()
        except (IndexError, RuntimeError) as error:
            raise ValueError(
                f"the weights do not fit the model's own definition: {error}"
            ) from error
        return network.eval()

    @classmethod
    def of_network(cls, network: DeepSpinNetwork) -> Parameters:
        """Read the network; centres that are pseudo-atoms get zero weights."""
        config = network.config
        n_types = len(config.type_map)
        n_slots = 2 * sum(config.descriptor.sel)
        sites = 2 * n_types
        count = sites if config.descriptor.type_one_side else sites * sites
        embeddings = [_zeros(_layers(network.embedding(0, 0)))] * count
        for a, b in _centre_and_site(config):
            embeddings[_place(config, a, b)] = _layers(network.embedding(a, b))
        fittings = [_layers(fitting) for fitting in network.fittings]
        mean, std = network.mean.cpu().double(), network.std.cpu().double()
        bias = network.energy_bias.cpu().double()
        values = config.to_dict()
        values["spin"]["virtual_scale"] = config.spin.scales()
        return cls(
            config=values,
            davg=torch.cat([mean, torch.zeros_like(mean)])[:, None].repeat(
                1, n_slots, 1
            ),
            dstd=torch.cat([std, torch.ones_like(std)])[:, None].repeat(1, n_slots, 1),
            bias=torch.cat([bias, torch.zeros_like(bias)]),
            embeddings=embeddings,
            fittings=fittings + [_zeros(layers) for layers in fittings],
        )


def _centre_and_site(config: DeepSpinConfig) -> list[tuple[int, int]]:
    """Return the types (centre, site) of the distinct embedding networks."""
    n_types = len(config.type_map)
    centres = 1 if config.descriptor.type_one_side else n_types
    return [(a, b) for a in range(centres) for b in range(2 * n_types)]


def _place(config: DeepSpinConfig, centre: int, site: int) -> int:
    """Return where DeePMD-kit keeps an embedding network."""
    if config.descriptor.type_one_side:
        return site
    return centre + 2 * len(config.type_map) * site


def _fill(network: nn.Module, layers: Layers) -> None:
    """Copy the tensors of all layers into a network."""
    modules = list(network.children())
    if len(modules) != len(layers):
        raise IndexError(f"expected {len(modules)} layers, found {len(layers)}")
    for module, layer in zip(modules, layers, strict=True):
        module.load_state_dict(layer)


def _layers(network: nn.Module) -> Layers:
    """Return the tensors of a network in double precision."""
    return [
        {name: t.detach().cpu().double() for name, t in module.state_dict().items()}
        for module in network.children()
    ]


def _zeros(layers: Layers) -> Layers:
    return [{name: torch.zeros_like(t) for name, t in x.items()} for x in layers]


def _same_for_all_slots(values: Tensor, what: str) -> Tensor:
    """Return (n, 4) of (n, slots, 4) that must not depend on the slot."""
    if values.ndim != 3 or not torch.equal(values, values[:, :1].expand_as(values)):
        raise Unsupported(f"the {what} of its descriptor differ from slot to slot")
    return values[:, 0]


def configuration(
    type_map: Sequence[str],
    spin: Mapping[str, Any],
    descriptor: Mapping[str, Any],
    fitting: Mapping[str, Any],
    excluded_pairs: Iterable[Sequence[int]],
    excluded_atoms: Iterable[int],
) -> dict[str, Any]:
    """Return the configuration of a DeepSpinNetwork from DeePMD-kit's entries.

    Parameters
    ----------
    type_map : sequence of str
        The n elements.
    spin, descriptor, fitting : mappings
        At least the entries named in ``DESCRIPTOR`` and ``FITTING``; ``sel``
        has 2n numbers.
    excluded_pairs : pairs of int
        Types that do not see each other.
    excluded_atoms : iterable of int
        Types that have no energy.

    Raises
    ------
    Unsupported
        If an entry has no counterpart.
    """
    n_types, sel = len(type_map), list(descriptor["sel"])
    if sel[:n_types] != sel[n_types:]:
        raise Unsupported("its sel differs between atoms and pseudo-atoms")
    if not any(spin["use_spin"]):
        raise Unsupported("none of its elements is magnetic")
    for name in ("numb_fparam", "numb_aparam", "dim_case_embd"):
        if fitting.get(name):
            raise Unsupported(f"its fitting net has {name} = {fitting[name]}")
    placeholders = {n_types + t for t, use in enumerate(spin["use_spin"]) if not use}
    for pair in excluded_pairs:
        if placeholders.isdisjoint(pair):
            raise Unsupported(f"it leaves out pairs of the types {list(pair)}")
    for kind in excluded_atoms:
        if kind < n_types:
            raise Unsupported(f"it leaves out the energy of {type_map[kind]}")
    return {
        "type_map": list(type_map),
        "spin": dict(spin),
        "descriptor": {
            **{name: descriptor[name] for name in DESCRIPTOR},
            "sel": sel[:n_types],
            "activation_function": activation(descriptor["activation_function"]),
        },
        "fitting_net": {
            "neuron": fitting["neuron"],
            "resnet_dt": fitting["resnet_dt"],
            "activation_function": activation(fitting["activation_function"]),
        },
    }


def grounded(given: Sequence[Any] | None, n_types: int) -> tuple[bool, ...]:
    """Return from which elements DeePMD-kit subtracts their energy without neighbours.

    Parameters
    ----------
    given : sequence, optional
        By element, whether its energy as a free atom is given (``atom_ener``). The
        elements that it does not reach count as given where any is.
    n_types : int
    """
    flags = list(given or [])
    if not any(flags):
        return (False,) * n_types
    return tuple([*flags, *[True] * n_types][:n_types])


def activation(name: str) -> str:
    """Return this package's name of an activation function."""
    name = name.lower()
    return "linear" if name == "none" else name
