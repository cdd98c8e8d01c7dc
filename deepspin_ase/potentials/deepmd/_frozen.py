"""Frozen models of DeePMD-kit's PyTorch back end (``.pth``)."""

from __future__ import annotations

import logging
import math
import os
import re
import zipfile
from collections import defaultdict
from pathlib import Path

import torch
from ase import Atoms
from torch import Tensor

from ..._plain_data import check_archive
from ...system import System
from .._base import Potential
from ._ops import declared_operators, uncompiled
from ._parameters import (
    DESCRIPTOR,
    FITTING,
    Layers,
    Parameters,
    Unsupported,
    configuration,
    grounded,
)

logger = logging.getLogger(__name__)

#: Relative errors of programs in double and in single (or mixed) precision.
_DOUBLE, _SINGLE = 1e-8, 1e-2

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
    if zipfile.is_zipfile(path):
        check_archive(Path(path), expected="a frozen model of DeePMD-kit")
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
    if hasattr(script, "energies_of"):
        raise ValueError(
            f"{path} is what 'deepspin export' or 'deepspin convert' wrote for others; "
            "load the model that it was made from"
        )
    if not hasattr(script, "get_type_map") or not hasattr(script, "forward_lower"):
        raise ValueError(
            f"{path} is TorchScript ({script.original_name}), but no energy model of "
            "DeePMD-kit; expected what 'dp --pt freeze' writes"
        )
    outputs = script.model_output_type()
    if "energy" not in outputs:
        raise ValueError(
            f"{path} gives {outputs[0]}, no energy; only models of energies can be used"
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
    if fitting.original_name != "EnergyFittingNet" or fitting.mixed_types:
        raise Unsupported(f"its fitting net is {fitting.original_name}")
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
        grounded(fitting.remove_vaccum_contribution, len(config["type_map"])),
    )


def disagreement(script: torch.jit.ScriptModule, potential: Potential) -> float:
    """Return how far a potential is from the program that it was read from.

    The largest difference in energy, forces and magnetic forces, relative to the
    largest of them where that is above one, on a cluster with two atoms of each
    element. Zero where the program cannot run here, as with the tables of a compressed
    model.
    """
    if getattr(script.backbone_model.atomic_model.descriptor.sea, "compress", False):
        return 0.0
    symbols = script.get_type_map()
    n_types = len(symbols)
    types = torch.arange(n_types).repeat(2)
    generator = torch.Generator().manual_seed(0)

    def noise(width: float) -> Tensor:
        values = torch.rand(len(types), 3, generator=generator, dtype=torch.float64)
        return width * (values - 0.5)

    spacing = 0.45 * float(script.get_rcut())
    side = math.ceil(len(types) ** (1 / 3))
    grid = torch.cartesian_prod(*[torch.arange(side)] * 3)[: len(types)]
    positions = spacing * grid.double() + noise(0.2 * spacing)
    magnetic = script.spin_mask.bool()[types]
    spins = torch.where(magnetic[:, None], noise(3.0), 0.0)
    try:
        with declared_operators(), torch.enable_grad(), uncompiled():
            expected = script(positions[None], types[None], spins[None])
    except (RuntimeError, torch.jit.Error):
        return 0.0
    atoms = Atoms([symbols[t] for t in types], positions.numpy(), magmoms=spins.numpy())
    found = potential.evaluate(System.from_atoms(atoms), virial=False)
    pairs = (
        (expected["energy"], found.energy),
        (expected["force"], found.forces),
        (expected["force_mag"], found.magnetic_forces),
    )
    largest = 1.0
    difference = 0.0
    for theirs, ours in pairs:
        assert ours is not None
        theirs = theirs.detach().flatten().double()
        largest = max(largest, float(theirs.abs().max()))
        difference = max(difference, float((theirs - ours.flatten()).abs().max()))
    return difference / largest


def precision(script: torch.jit.ScriptModule) -> float:
    """Return to what relative error the numbers of a program are known."""
    tensors = script.state_dict().values()
    double = {x.dtype for x in tensors if x.is_floating_point()} == {torch.float64}
    return _DOUBLE if double else _SINGLE


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
