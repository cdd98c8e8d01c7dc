"""Model files: plain data that cannot run code.

``model.pt`` is a ``torch.save`` of a dictionary: format and version, the
architecture as nested plain data, the state dict, the range of the training data,
models of the errors, and a card (training data, errors, units, citation). It is read
with ``weights_only=True``.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from .._files import reading
from .._plain_data import load_plain, save_plain
from .._validate import path_first
from . import _registry as registry
from ._base import Potential
from .networks._error_model import ErrorModel
from .networks._trainable import Trainable

FORMAT = "deepspin-ase model"
VERSION = 1

EXPECTED = (
    "a model.pt written by deepspin_ase, a frozen DeePMD-kit .pth (PyTorch back end), "
    "or a DeePMD-kit .yaml"
)


def save_potential(
    path: str | os.PathLike[str],
    potential: Potential,
    *,
    card: dict[str, Any] | None = None,
) -> None:
    """Write a potential of any kind to a model file, atomically.

    ``card`` is free plain data: what the model was trained on, its errors, its
    valid range, what to cite.

    Raises
    ------
    TypeError
        If it is not given a path and a potential, in this order.
    ValueError
        If a part of the potential is a TorchScript model of DeePMD-kit.
    OSError
        If it cannot be written; an earlier file of that name stays.
    """
    path_first("save_potential", path, potential, Potential)
    content = {
        "format": FORMAT,
        "version": VERSION,
        **plain_data(potential),
        "card": card or {},
    }
    save_plain(path, content)


def plain_data(potential: Potential) -> dict[str, Any]:
    """Return a potential as plain data and tensors.

    Raises
    ------
    ValueError
        If a part of the potential is a TorchScript model of DeePMD-kit.
    """
    from .deepmd import DeepmdScript

    for part in potential.modules():
        if isinstance(part, DeepmdScript):
            raise ValueError(
                f"a model file holds plain data, not the TorchScript of {part.path}; "
                "keep that file and build the potential from it"
            )
    state = {k: v.detach().cpu() for k, v in potential.state_dict().items()}
    ranges = {
        name: registry.encode(part.training_range)
        for name, part in potential.named_modules()
        if isinstance(part, Potential) and part.training_range is not None
    }
    errors = {
        name: part.error_model.to_data()
        for name, part in potential.named_modules()
        if isinstance(part, Trainable) and part.error_model is not None
    }
    return {
        "architecture": registry.encode(potential),
        "state_dict": state,
        "ranges": ranges,
        "error_models": errors,
    }


def from_plain_data(content: dict[str, Any]) -> Potential:
    """Return the potential that :func:`plain_data` took apart.

    Raises
    ------
    KeyError, TypeError, RuntimeError
        If the content does not describe a potential.
    """
    potential = registry.decode(content["architecture"])
    potential.load_state_dict(content["state_dict"])
    for name, known in content.get("ranges", {}).items():
        potential.get_submodule(name).training_range = registry.decode(known)
    for name, model in content.get("error_models", {}).items():
        potential.get_submodule(name).error_model = ErrorModel.from_data(model)
    return potential.eval().requires_grad_(False)


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    folder = resources.files("deepspin_ase") / "models"
    return sorted(
        entry.name.removesuffix(".pt")
        for entry in folder.iterdir()
        if entry.name.endswith(".pt")
    )


def resolve(name: str | os.PathLike[str]) -> Path:
    """Return the path of a model file, or of a shipped model by its name.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = resources.files("deepspin_ase") / "models" / f"{name}.pt"
    if path.parent == Path(".") and shipped.is_file():
        return Path(str(shipped))
    raise FileNotFoundError(
        f"{str(name)!r} is neither a file nor a shipped model; "
        f"shipped are: {', '.join(shipped_models()) or 'none'}"
    )


def _read(path: Path) -> dict[str, Any]:
    content = load_plain(path, expected=EXPECTED)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a model file; expected {EXPECTED}")
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path} has format version {content.get('version')}; this release reads "
            f"version {VERSION}: update deepspin-ase"
        )
    missing = {"architecture", "state_dict", "card"} - content.keys()
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    return content


def load_potential(name: str | os.PathLike[str]) -> Potential:
    """Load a potential from a file or by the name of a shipped model.

    Reads ``model.pt`` files, frozen DeePMD-kit spin models (``.pth``, without
    deepmd-kit installed), DeePMD-kit's backend-neutral ``.yaml``/``.dp``, and
    the shipped models by name (:func:`shipped_models`).

    Raises
    ------
    FileNotFoundError
        If there is no such file or shipped model.
    ValueError
        If the file is truncated, damaged, of another kind, or could run code.
    """
    path = resolve(name)
    from . import deepmd

    with reading(path, EXPECTED):
        if deepmd.recognises(path):
            return deepmd.load_deepmd(path)
        deepmd.refuse_other_kinds(path)
        return from_plain_data(_read(path))


def load_card(name: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the card of a model file or shipped model; empty if it has none."""
    path = resolve(name)
    from . import deepmd

    with reading(path, EXPECTED):
        return {} if deepmd.recognises(path) else dict(_read(path)["card"])
