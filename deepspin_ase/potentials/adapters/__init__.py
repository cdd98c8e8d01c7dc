"""Models of other programs as Potentials, by the prefix of their names.

``deepmd:model.pt2``, ``nep:nep.txt``, ``tace:model.pt``, ``mace:file.model`` and
``prophet:model.pt`` are evaluated by the program that they are of, which is installed
apart and imported when a model is loaded. Files that are pickles can run code when they
are opened: they are, where ``+trust`` follows the prefix, ``mace+trust:file.model``.
"""

from __future__ import annotations

import os
from pathlib import Path

from ._base import Adapter
from ._deepmd import DeepmdModel
from ._mace import MACEModel
from ._nep import NEPModel
from ._prophet import ProphetModel
from ._tace import TACEModel

__all__ = [
    "Adapter",
    "DeepmdModel",
    "MACEModel",
    "NEPModel",
    "ProphetModel",
    "TACEModel",
]

ADAPTERS: dict[str, type[Adapter]] = {
    adapter.prefix: adapter
    for adapter in (DeepmdModel, MACEModel, NEPModel, ProphetModel, TACEModel)
}

#: Says after a prefix that a file may run code.
_TRUST = "+trust"


def split(name: str | os.PathLike[str]) -> tuple[str, Path] | None:
    """Return prefix, ``+trust`` included, and path; None for names without prefix."""
    prefix, colon, path = os.fspath(name).partition(":")
    known = colon and prefix.removesuffix(_TRUST) in ADAPTERS
    return (prefix, Path(path)) if known else None


def load(name: str | os.PathLike[str]) -> Adapter | None:
    """Return the model of another program; None for names without prefix.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If its program is not installed, or of a release that does not go with this
        package.
    ValueError
        If the program cannot read it, it is of another kind, or it is a pickle and
        ``+trust`` is missing.
    """
    parts = split(name)
    if parts is None:
        return None
    prefix, path = parts
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which {prefix}: names")
    adapter = ADAPTERS[prefix.removesuffix(_TRUST)]
    return adapter(path, trust=prefix.endswith(_TRUST))


def beside(folder: Path, name: str) -> str:
    """Return a name of a model whose path, if there is such a file, is in a folder."""
    prefix, path = split(name) or ("", Path(name))
    found = folder / path
    if not found.is_file():
        return name
    return f"{prefix}:{found}" if prefix else str(found)
