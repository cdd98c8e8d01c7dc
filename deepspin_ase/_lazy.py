"""Lazy public names of packages (PEP 562): a name is imported at its first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attach(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    names : mapping of str to sequence of str
        Public names by the submodule that has them; a submodule without names is
        public itself.
    """
    home = {name: module for module, given in names.items() for name in given}
    public = {m for m in names if not m.startswith("_")}
    listed = sorted(home.keys() | public)

    def __getattr__(name: str) -> Any:
        if name in home:
            module = importlib.import_module(f"{package}.{home[name]}")
            value = getattr(module, name)
        elif name in public:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return listed

    return __getattr__, __dir__, listed
