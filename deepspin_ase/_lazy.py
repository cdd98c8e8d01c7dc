"""Lazy public names of packages (PEP 562): a name is imported at its first use."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def attach(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    They follow the stub ``__init__.pyi`` beside ``__init__.py``, whose relative imports
    and ``__all__`` type checkers and editors read as well: names are listed once.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    file : str
        ``__file__`` of the package.
    """
    home: dict[str, str] = {}
    listed: list[str] = []
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            module = "." * node.level + (node.module or "")
            home |= {alias.name: module for alias in node.names}
        elif isinstance(node, ast.Assign):
            listed = ast.literal_eval(node.value)

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if home[name].strip("."):
            value = getattr(importlib.import_module(home[name], package), name)
        else:
            value = importlib.import_module(home[name] + name, package)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return listed

    return __getattr__, __dir__, listed
