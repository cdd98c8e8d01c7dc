"""Frozen models of DeePMD-kit's PyTorch back end (``.pth``)."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict

import torch
from torch import Tensor

from ._ops import declared_operators
from ._parameters import (
    DESCRIPTOR,
    FITTING,
    Layers,
    Parameters,
    Unsupported,
    configuration,
)

logger = logging.getLogger(__name__)

_LAYER = re.compile(r"networks\.(\d+)\.layers\.(\d+)\.(\w+)")


def open_script(
    path: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> torch.jit.ScriptModule:
    """Load the TorchScript of a frozen model.

    Raises
    ------
    ValueError
        If it is damaged, or needs an operator that does not exist here, which
        is named; or if it is no model of DeePMD-kit.
    """
    try:
        with declared_operators():
            script = torch.jit.load(path, map_location=device)
    except RuntimeError as error:
        missing = re.search(r"Unknown builtin op: ([\w:]+)", str(error))
        if missing:
            raise ValueError(
                f"{path} needs the operator {missing[1]}, which is neither in PyTorch "
                f"nor declared by this package"
            ) from error
        raise ValueError(f"{path} is a damaged TorchScript file: {error}") from error
    if not hasattr(script, "get_type_map") or not hasattr(script, "forward_lower"):
        raise ValueError(
            f"{path} is TorchScript ({script.original_name}), but no energy model of "
            "DeePMD-kit; expected what 'dp --pt freeze' writes (of what 'deepspin "
            "export' wrote, load the model that it was made from)"
        )
    return script.eval()


def read(script: torch.jit.ScriptModule) -> Parameters:
    """Read a se_e2_a model with spins from its TorchScript.

    Hyper-parameters are those that the program itself uses, not those of the
    training input, which may name defaults differently.

    Raises
    ------
    Unsupported
        If the model is of another kind.
    """
    try:
        return _read(script)
    except AttributeError as error:
        raise Unsupported(f"it is no se_e2_a model with spins ({error})") from error


def _read(script: torch.jit.ScriptModule) -> Parameters:
    if not hasattr(script, "virtual_scale_mask"):
        raise Unsupported("it has no pseudo-atoms")
    model = script.backbone_model.atomic_model
    if not hasattr(model, "descriptor") or not hasattr(model.descriptor, "sea"):
        name = getattr(model, "descriptor", model).original_name
        raise Unsupported(f"its descriptor is {name}, not se_e2_a")
    descriptor, fitting = model.descriptor.sea, model.fitting_net
    pairs = [pair for mask in (model, descriptor) for pair in _excluded_pairs(mask)]
    config = configuration(
        script.get_type_map(),
        {
            "use_spin": [bool(use) for use in script.spin_mask.tolist()],
            "virtual_scale": script.virtual_scale_mask.tolist(),
        },
        {name: getattr(descriptor, name) for name in DESCRIPTOR},
        {name: getattr(fitting, name, None) for name in FITTING},
        pairs,
        [*model.atom_exclude_types, *fitting.exclude_types],
    )
    if getattr(descriptor, "compress", False):
        logger.info("the model is compressed; its networks are used, not their tables")
    bias = model.out_bias[0, :, 0]
    if fitting.bias_atom_e is not None:
        bias = bias + fitting.bias_atom_e[:, 0]
    return Parameters(
        config,
        descriptor.mean,
        descriptor.stddev,
        bias,
        _networks(descriptor.filter_layers),
        _networks(fitting.filter_layers),
    )


def _excluded_pairs(module: torch.jit.ScriptModule) -> list[list[int]]:
    """Return the pairs of types that a model or descriptor leaves out.

    TorchScript drops lists of pairs that it cannot type, but keeps the mask
    made from them, whose last row and column stand for empty slots.
    """
    pairs: list[list[int]] = []
    for name in ("pair_excl", "emask"):
        mask = getattr(module, name, None)
        if mask is not None:
            size = int(mask.ntypes) + 1
            pairs += torch.nonzero(mask.type_mask.view(size, size) == 0).tolist()
    return pairs


def _networks(collection: torch.jit.ScriptModule) -> list[Layers]:
    """Return the weights of all networks of a collection."""
    found: dict[int, dict[int, dict[str, Tensor]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for key, tensor in collection.state_dict().items():
        match = _LAYER.fullmatch(key)
        if match:
            found[int(match[1])][int(match[2])][match[3]] = tensor.detach()
    return [
        [layers[k] for k in sorted(layers)]
        for layers in (found[k] for k in sorted(found))
    ]
