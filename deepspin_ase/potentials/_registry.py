"""Potentials as nested plain data and back.

Anything a potential is made of (potentials, radial functions, configurations)
is written as ``{"type": name, "arguments": {...}}`` with the arguments of its
constructor. Only classes registered here are ever built from a file.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np

from .._config import Configuration

_classes: dict[str, type] = {}

T = TypeVar("T", bound=type)


def register(cls: T) -> T:
    """Make a class loadable from model files, by its name (a decorator).

    The class is a Configuration, a dataclass, or has a method ``arguments()``
    that returns the arguments of its constructor.
    """
    if cls.__name__ in _classes:
        raise ValueError(f"{cls.__name__} is registered already")
    _classes[cls.__name__] = cls
    return cls


def registered(name: str) -> type:
    """Return the class that was registered under a name.

    Raises
    ------
    KeyError
        If there is none.
    """
    if name not in _classes:
        raise KeyError(f"unknown class {name!r}")
    return _classes[name]


def encode(value: Any) -> Any:
    """Return ``value`` as JSON-able plain data."""
    # Before float, which NumPy's derive from.
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    name = type(value).__name__
    if _classes.get(name) is not type(value):
        raise TypeError(f"{name} cannot be saved: it is not a registered class")
    return {"type": name, "arguments": encode(_arguments(value))}


def _arguments(value: Any) -> dict[str, Any]:
    if isinstance(value, Configuration):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    arguments: dict[str, Any] = value.arguments()
    return arguments


def decode(data: Any) -> Any:
    """Rebuild what :func:`encode` wrote.

    Raises
    ------
    KeyError
        If a class is unknown.
    """
    if isinstance(data, list):
        return [decode(v) for v in data]
    if not isinstance(data, dict):
        return data
    if data.keys() == {"type", "arguments"}:
        return registered(data["type"])(**decode(data["arguments"]))
    return {k: decode(v) for k, v in data.items()}
