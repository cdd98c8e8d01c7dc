"""Model files: plain data that cannot run code.

Their content is a dictionary: format and version, what wrote it, the architecture as
nested plain data, layouts of its networks, the state dict, the range of the training
data, models of the errors, units, and a card (training data, errors, citation).

``.safetensors`` has the tensors as safetensors and all else as JSON in their header,
which docs/model_files.md specifies. ``.pt`` is a ``torch.save`` of the dictionary, read
with ``weights_only=True``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .._files import reading
from .._plain_data import load_plain, save_plain
from .._safetensors import SUFFIX, is_safetensors, read_safetensors, write_safetensors
from .._validate import path_first
from .._version import __version__
from . import _registry as registry
from ._base import Potential
from ._library import SUFFIXES, resolve
from ._range import TrainingRange
from .networks._error_model import ErrorModel
from .networks._trainable import Trainable

FORMAT = "deepspin-ase model"
VERSION = 1

EXPECTED = (
    "a model.pt or model.safetensors written by deepspin_ase, a frozen DeePMD-kit .pth "
    "(PyTorch back end), a DeePMD-kit .yaml, or an exchange table such as exchange.out"
)

#: What the numbers of a model mean.
UNITS = {
    "energy": "eV",
    "positions": "A",
    "moments": "mu_B",
    "forces": "eV/A",
    "magnetic_forces": "-dE/dm at fixed positions, eV/mu_B",
    "virial": "-dE/dstrain at fixed moments, eV",
}


def save_potential(
    path: str | os.PathLike[str],
    potential: Potential,
    *,
    card: dict[str, Any] | None = None,
) -> None:
    """Write a potential of any kind to a model file, atomically.

    Parameters
    ----------
    path : path
        Ends in ``.safetensors``, for models that are kept or given to others: readable
        without this package, and with a checksum of every byte; or in ``.pt``.
    potential : Potential
    card : dict, optional
        Free plain data. Known to ``deepspin info`` are ``name``, ``description``,
        ``data`` and ``licence`` (of what it was trained on), ``valid_range``,
        ``errors`` and ``citation``.

    Raises
    ------
    TypeError
        If it is not given a path and a potential, in this order, or the card holds
        something else than plain data.
    ValueError
        If a part of the potential needs what is no plain data, such as a TorchScript
        model of DeePMD-kit, or the suffix is another.
    OSError
        If it cannot be written; an earlier file of that name stays.
    """
    path_first("save_potential", path, potential, Potential)
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} must end in {' or '.join(SUFFIXES)}")
    about = {"written_by": f"deepspin_ase {__version__}", "units": UNITS}
    content = about | plain_data(potential) | {"card": registry.encode(card or {})}
    if suffix == SUFFIX:
        tensors = content.pop("state_dict")
        header = json.dumps(_to_json(content, tensors, ""), ensure_ascii=False)
        identity = {"format": FORMAT, "version": str(VERSION)}
        write_safetensors(path, tensors, identity | {"header": header})
    else:
        save_plain(path, {"format": FORMAT, "version": VERSION, **content})


def plain_data(potential: Potential) -> dict[str, Any]:
    """Return a potential as plain data and tensors.

    Raises
    ------
    ValueError
        If a part of the potential needs what is no plain data, such as a TorchScript
        model of DeePMD-kit (:meth:`Potential.outside`).
    """
    for part in potential.modules():
        outside = part.outside() if isinstance(part, Potential) else None
        if outside is not None:
            raise ValueError(
                f"a model file holds plain data, not {outside}; keep that, and build "
                "the potential from it"
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
    layouts = {
        type(part).__name__: part.layout_version
        for part in potential.modules()
        if isinstance(part, Trainable)
    }
    return {
        "architecture": registry.encode(potential),
        "layouts": layouts,
        "state_dict": state,
        "ranges": ranges,
        "error_models": errors,
    }


def identifying_data(potential: Potential) -> Any:
    """Return plain data that tell a potential from others.

    All of it; or, where a part is no plain data, what describes the parts.
    """
    try:
        return plain_data(potential)
    except ValueError:
        parts = [part for part in potential.modules() if isinstance(part, Potential)]
        return [[type(part).__name__, part.extra_repr()] for part in parts]


def from_plain_data(content: dict[str, Any]) -> Potential:
    """Return the potential that :func:`plain_data` took apart.

    Raises
    ------
    ValueError
        If another version took it apart, whose networks or terms are not those of this
        one, or the content does not describe a potential.
    """
    writer = content.get("written_by", "the version that wrote it")
    layouts = content.get("layouts", {})
    for name in _types_in(content["architecture"]):
        try:
            cls = registry.registered(name)
        except KeyError:
            raise ValueError(
                f"it needs {name}, which is not known: import the module that declares "
                f"it, or use {writer}"
            ) from None
        layout = layouts.get(name, 1)
        if issubclass(cls, Trainable) and str(layout) != str(cls.layout_version):
            raise ValueError(
                f"it has layout {layout} of {name}, and this version reads layout "
                f"{cls.layout_version}: train it anew, or use {writer}"
            )
    try:
        potential: Potential = registry.decode(content["architecture"])
        potential.load_state_dict(content["state_dict"])
        for name, known in content.get("ranges", {}).items():
            limits = registry.decode(known)
            if not isinstance(limits, TrainingRange):
                raise ValueError(f"the range of its training is {limits!r}")
            part: Any = potential.get_submodule(name)
            part.training_range = limits
        for name, model in content.get("error_models", {}).items():
            part = potential.get_submodule(name)
            part.error_model = ErrorModel.from_data(model)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"its content does not fit deepspin_ase {__version__} ({reason}): train it "
            f"anew, or use {writer}"
        ) from error
    return potential.eval().requires_grad_(False)


def _types_in(data: Any) -> Iterator[str]:
    """Yield the names of the classes in what :func:`._registry.encode` wrote."""
    if isinstance(data, dict):
        if data.keys() == {"type", "arguments"}:
            yield str(data["type"])
        data = list(data.values())
    if isinstance(data, list):
        for part in data:
            yield from _types_in(part)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a model file."""
    if is_safetensors(path):
        tensors, metadata = read_safetensors(path, expected=EXPECTED)
        _check_version(path, metadata.get("format"), metadata.get("version"))
        content = json.loads(metadata["header"], object_hook=_FromJson(tensors))
        content["state_dict"] = tensors
    else:
        content = load_plain(path, expected=EXPECTED)
        if not isinstance(content, dict):
            raise ValueError(f"{path} is not a model file; expected {EXPECTED}")
        _check_version(path, content.get("format"), content.get("version"))
    optional: dict[str, Any] = {"layouts": {}, "ranges": {}, "error_models": {}}
    optional["units"] = UNITS
    content = optional | content
    for name in ("architecture", "state_dict", "card", *optional):
        if not isinstance(content.get(name), dict):
            raise ValueError(f"{path} is not a model file: it lacks {name}")
    return content


def _check_version(path: Path, kind: Any, version: Any) -> None:
    if kind != FORMAT:
        raise ValueError(f"{path} is not a model file; expected {EXPECTED}")
    if str(version) != str(VERSION):
        raise ValueError(
            f"{path} has format version {version}; this release reads version "
            f"{VERSION}: update deepspin-ase"
        )


def _to_json(value: Any, tensors: dict[str, torch.Tensor], place: str) -> Any:
    """Return plain data as JSON has them; tensors in them join the others.

    JSON has no numbers that are not finite: ``{"number": "inf"}``. A tensor becomes
    ``{"tensor": name}``.
    """
    if isinstance(value, dict):
        return {k: _to_json(v, tensors, f"{place}/{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        parts = enumerate(value)
        return [_to_json(v, tensors, f"{place}/{k}") for k, v in parts]
    if isinstance(value, torch.Tensor):
        tensors[place] = value
        return {"tensor": place}
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    return value


class _FromJson:
    """Inverse of :func:`_to_json`, for each object of a JSON text.

    Parameters
    ----------
    tensors : dict of tensors
        Those that the text refers to are taken out of it.
    """

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def __call__(self, values: dict[str, Any]) -> Any:
        if values.keys() == {"tensor"} and isinstance(values["tensor"], str):
            return self.tensors.pop(values["tensor"])
        if values.keys() == {"number"}:
            return float(values["number"])
        return values


def load_potential(name: str | os.PathLike[str]) -> Potential:
    """Load a potential from a file or by the name of a model.

    Reads model files (``.safetensors`` and ``.pt``), frozen DeePMD-kit spin models
    (``.pth``, without deepmd-kit installed), DeePMD-kit's backend-neutral
    ``.yaml``/``.dp``, exchange tables that lack nothing (``exchange.out`` of TB2J,
    files of GROGU, a ``.ucf`` of VAMPIRE beside its ``.mat``; others by
    :func:`~deepspin_ase.potentials.bonds.read_exchange_table`), and by name the models
    that come with the package and those in the folder of models
    (:func:`available_models`). Models of other programs, which these evaluate, have a
    prefix: ``deepmd:model.pt2``, ``nep:nep.txt``, ``tace:``, ``mace:`` and ``prophet:``
    (:mod:`deepspin_ase.potentials.adapters`).

    Raises
    ------
    FileNotFoundError
        If there is no such file or model.
    ImportError
        If the model is another program's, which is not installed.
    ValueError
        If the file is truncated, damaged, of another kind, written by a version that
        does not go with this one, or could run code.
    """
    from . import adapters, deepmd

    foreign = adapters.load(name)
    if foreign is not None:
        return foreign
    path = resolve(name)
    from .bonds import exchange_format, read_exchange_table

    if exchange_format(path) is not None:
        return read_exchange_table(path)
    with reading(path, EXPECTED):
        if not is_safetensors(path):
            if deepmd.recognises(path):
                return deepmd.load_deepmd(path)
            deepmd.refuse_other_kinds(path)
        content = _read(path)
    try:
        return from_plain_data(content)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def load_card(name: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the card of a model, by file or name; empty if it has none."""
    from . import adapters

    if adapters.split(name) is not None:
        return {}
    return dict(read_content(resolve(name)).get("card", {}))


def read_content(path: Path) -> dict[str, Any]:
    """Return what a model file holds, as in its format; of other formats, nothing.

    Raises
    ------
    ValueError
        As :func:`load_potential` does for files that are damaged or of another kind.
    """
    from . import deepmd
    from .bonds import exchange_format

    if exchange_format(path) is not None:
        return {}
    with reading(path, EXPECTED):
        if not is_safetensors(path) and deepmd.recognises(path):
            return {}
        return _read(path)
