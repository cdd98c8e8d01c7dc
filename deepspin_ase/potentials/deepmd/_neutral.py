"""Backend-neutral models of DeePMD-kit (``.yaml``, ``.dp``): reading and writing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._parameters import (
    DESCRIPTOR,
    FITTING,
    Layers,
    Parameters,
    Unrunnable,
    Unsupported,
    activation,
    configuration,
    grounded,
)
from ._trees import Tree, read_tree, write_tree


def read(path: Path) -> Parameters:
    """Read a se_e2_a model with spins.

    Raises
    ------
    ValueError
        If the file is damaged, holds no model of DeePMD-kit, or lacks an entry.
    Unsupported
        If the model is of another kind.
    """
    tree = read_tree(path)
    try:
        return _parameters(tree["model"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} is not a complete backend-neutral model of DeePMD-kit "
            f"({type(error).__name__}: {error}); expected what 'dp convert-backend' "
            "writes"
        ) from error


def write(path: Path, parameters: Parameters) -> None:
    """Write a model, in the format of the suffix."""
    from ..._version import __version__

    tree = {
        "software": "deepspin-ase",
        "version": __version__,
        "backend": "PyTorch",
        "model": _model(parameters),
        "model_def_script": _definition(parameters.config),
        "@variables": {},
    }
    write_tree(path, tree)


#: Entries of the parts of a model that are read, or on which no numbers depend.
_ENTRIES = {
    "model": {"type", "spin", "backbone_model"},
    "spin": {"use_spin", "virtual_scale"},
    "backbone_model": {"type", "type_map", "descriptor", "fitting"}
    | {"pair_exclude_types", "atom_exclude_types", "rcond", "preset_out_bias"},
    "descriptor": {"type", "embeddings", "env_mat", "exclude_types", "type_map"}
    | {"precision", "trainable", *DESCRIPTOR},
    "fitting": {"type", "nets", "exclude_types", "type_map", "atom_ener", "ntypes"}
    | {"precision", "trainable", "rcond", "dim_descrpt", "dim_out", "default_fparam"}
    | {"var_name", *FITTING},
    "networks": {"ndim", "ntypes", "network_type", "networks"},
    "network": {"in_dim", "out_dim", "bias", "bias_out", "layers", "neuron"}
    | {"activation_function", "resnet_dt", "precision"},
    "layer": {"bias", "use_timestep", "activation_function", "resnet", "precision"}
    | {"trainable"},
}

#: The latest versions of these parts that are known, those of release 3.2. In later
#: ones the same entries may mean something else.
_VERSIONS = {
    "model": 2,
    "spin": 1,
    "backbone_model": 2,
    "descriptor": 2,
    "fitting": 4,
    "networks": 1,
    "network": 2,
    "layer": 2,
}

#: What an entry that is not known holds where it is off.
_OFF: tuple[Any, ...] = (None, False, 0, [], {})


def _check(kind: str, part: Mapping[str, Any], **expected: Iterable[Any]) -> None:
    """Raise Unsupported for entries of a part that are unknown, or not as expected."""
    version = part.get("@version", 1)
    if not isinstance(version, int) or version > _VERSIONS[kind]:
        raise Unsupported(
            f"its {kind} is of version {version!r}; known are those up to "
            f"{_VERSIONS[kind]}"
        )
    for name, value in part.items():
        if name in expected:
            known = value in expected[name]
        else:
            known = name in _ENTRIES[kind] or name[0] == "@" or value in _OFF
        if not known:
            raise Unsupported(f"its {kind} has {name} = {value!r}")


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _parameters(model: Tree) -> Parameters:
    """Read the ``model`` entry of a file."""
    if model["type"] == "sezm_native_spin":
        raise Unrunnable("its spins are no pseudo-atoms (DPA4), which is not supported")
    _check_runnable(model.get("backbone_model", model).get("fitting", {}))
    if model["type"] != "spin_ener":
        raise Unsupported(f"it is a {model['type']!r} model, not 'spin_ener'")
    atomic, spin = model["backbone_model"], model["spin"]
    if atomic["type"] != "standard":
        raise Unsupported(f"its atomic model is {atomic['type']!r}, not 'standard'")
    descriptor, fitting = atomic["descriptor"], atomic["fitting"]
    if descriptor["type"] not in ("se_e2_a", "se_a"):
        raise Unsupported(f"its descriptor is {descriptor['type']!r}, not 'se_e2_a'")
    _check("model", model)
    _check("spin", spin)
    _check("backbone_model", atomic)
    _check("descriptor", descriptor)
    config = configuration(
        atomic["type_map"][: len(spin["use_spin"])],
        spin,
        descriptor,
        fitting,
        [*(atomic["pair_exclude_types"] or []), *descriptor["exclude_types"]],
        [*(atomic["atom_exclude_types"] or []), *fitting["exclude_types"]],
    )
    _check("fitting", fitting, dim_out=[1])
    statistics, energies = descriptor["@variables"], fitting["@variables"]
    bias = _tensor(atomic["@variables"]["out_bias"])[0, :, 0]
    if energies["bias_atom_e"] is not None:
        bias = bias + _tensor(energies["bias_atom_e"])[:, 0]
    given = [energy is not None for energy in fitting.get("atom_ener") or []]
    return Parameters(
        config,
        _tensor(statistics["davg"]),
        _tensor(statistics["dstd"]),
        bias,
        _read_networks(descriptor["embeddings"], config["descriptor"]),
        _read_networks(fitting["nets"], config["fitting_net"], head=True),
        grounded(given, len(config["type_map"])),
    )


def _check_runnable(fitting: Mapping[str, Any]) -> None:
    """Raise Unrunnable if not even the program of a model can be used."""
    kind = fitting.get("type", "ener")
    if kind != "ener":
        raise Unrunnable(f"its fitting net is of type {kind!r}, which gives no energy")
    frames = fitting.get("numb_fparam") and not fitting.get("default_fparam")
    if frames or fitting.get("numb_aparam"):
        raise Unrunnable(
            "it needs frame or atomic parameters (fparam, aparam), which cannot be "
            "given here; only models with default values work"
        )


_NAMES = {"w": "matrix", "b": "bias", "idt": "idt"}


def _read_networks(
    collection: Tree, config: Mapping[str, Any], *, head: bool = False
) -> list[Layers]:
    """Read the networks of a collection, whose layers must be as the configuration.

    ``head`` says that the last layer is linear.
    """
    _check("networks", collection)
    found = []
    for network in collection["networks"]:
        _check("network", network)
        layers: Layers = []
        for k, layer in enumerate(network["layers"]):
            hidden = not head or k < len(network["layers"]) - 1
            name = config["activation_function"] if hidden else "linear"
            if activation(layer["activation_function"]) != name:
                raise Unsupported(
                    "its layers differ in their activation functions: "
                    f"{layer['activation_function']} and {name}"
                )
            _check("layer", layer, bias=[True], resnet=[True] if hidden else [False])
            layers.append(
                {
                    _NAMES[name]: _tensor(array)
                    for name, array in layer["@variables"].items()
                    if array is not None
                }
            )
        found.append(layers)
    return found


def _definition(config: dict[str, Any]) -> Tree:
    """Return the model section of a training input for DeePMD-kit."""
    return {
        "type_map": config["type_map"],
        "spin": config["spin"],
        "descriptor": {"type": "se_e2_a", **config["descriptor"]},
        "fitting_net": {"type": "ener", **config["fitting_net"]},
    }


def _model(parameters: Parameters) -> Tree:
    """Return the ``model`` entry of a file."""
    config = parameters.config
    use_spin: list[bool] = config["spin"]["use_spin"]
    n_types = len(use_spin)
    pseudo = list(range(n_types, 2 * n_types))
    placeholders = [t for t, use in zip(pseudo, use_spin, strict=True) if not use]
    excluded = [[t, other] for t in placeholders for other in range(2 * n_types)]
    types = [*config["type_map"], *(f"{s}_spin" for s in config["type_map"])]
    bias = parameters.bias.numpy()
    return {
        "type": "spin_ener",
        "spin": config["spin"],
        "backbone_model": {
            "@class": "Model",
            "@version": 2,
            "type": "standard",
            "type_map": types,
            "pair_exclude_types": excluded,
            "atom_exclude_types": pseudo,
            "rcond": None,
            "preset_out_bias": None,
            "descriptor": _descriptor(parameters, types, excluded),
            "fitting": _fitting(parameters, types, pseudo),
            "@variables": {
                "out_bias": bias[None, :, None],
                "out_std": np.ones((1, len(bias), 1)),
            },
        },
    }


def _descriptor(
    parameters: Parameters, types: list[str], excluded: list[list[int]]
) -> Tree:
    config = parameters.config["descriptor"]
    return {
        "@class": "Descriptor",
        "@version": 2,
        "type": "se_e2_a",
        **config,
        "sel": config["sel"] * 2,
        "precision": "float64",
        "exclude_types": excluded,
        "type_map": types,
        "trainable": True,
        "spin": None,
        "env_mat": {
            "rcut": config["rcut"],
            "rcut_smth": config["rcut_smth"],
            "protection": config["env_protection"],
        },
        "embeddings": {
            "@class": "NetworkCollection",
            "@version": 1,
            "ndim": 1 if config["type_one_side"] else 2,
            "ntypes": len(types),
            "network_type": "embedding_network",
            "networks": [
                {
                    "@class": "EmbeddingNetwork",
                    "@version": 2,
                    "in_dim": 1,
                    "bias": True,
                    **_network(layers, config),
                }
                for layers in parameters.embeddings
            ],
        },
        "@variables": {
            "davg": parameters.davg.numpy(),
            "dstd": parameters.dstd.numpy(),
        },
    }


def _fitting(parameters: Parameters, types: list[str], pseudo: list[int]) -> Tree:
    config = parameters.config["fitting_net"]
    dim = parameters.fittings[0][0]["matrix"].shape[0]
    return {
        "@class": "Fitting",
        "@version": 1,
        "type": "ener",
        "var_name": "energy",
        "ntypes": len(types),
        "dim_descrpt": dim,
        "dim_out": 1,
        **config,
        "numb_fparam": 0,
        "numb_aparam": 0,
        "precision": "float64",
        "mixed_types": False,
        "exclude_types": pseudo,
        "type_map": types,
        "rcond": None,
        "atom_ener": [],
        "tot_ener_zero": False,
        "trainable": [True] * (len(config["neuron"]) + 1),
        "layer_name": None,
        "use_aparam_as_mask": False,
        "spin": None,
        "nets": {
            "@class": "NetworkCollection",
            "@version": 1,
            "ndim": 1,
            "ntypes": len(types),
            "network_type": "fitting_network",
            "networks": [
                {
                    "@class": "FittingNetwork",
                    "@version": 1,
                    "in_dim": dim,
                    "out_dim": 1,
                    "bias_out": True,
                    **_network(layers, config),
                }
                for layers in parameters.fittings
            ],
        },
        "@variables": {
            "bias_atom_e": np.zeros((len(types), 1)),
            "fparam_avg": None,
            "fparam_inv_std": None,
            "aparam_avg": None,
            "aparam_inv_std": None,
        },
    }


def _network(layers: Layers, config: dict[str, Any]) -> Tree:
    """Return the entries that embedding and fitting networks share."""
    n_hidden = len(config["neuron"])
    return {
        "neuron": config["neuron"],
        "activation_function": config["activation_function"],
        "resnet_dt": config["resnet_dt"],
        "precision": "float64",
        "layers": [
            {
                "@class": "Layer",
                "@version": 2,
                "bias": True,
                "use_timestep": "idt" in layer,
                "activation_function": (
                    config["activation_function"] if k < n_hidden else "none"
                ),
                "resnet": k < n_hidden,
                "precision": "float64",
                "trainable": True,
                "@variables": {
                    short: layer[name].numpy() if name in layer else None
                    for short, name in _NAMES.items()
                },
            }
            for k, layer in enumerate(layers)
        ],
    }
