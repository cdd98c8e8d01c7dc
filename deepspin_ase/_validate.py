"""Checks of arguments, with one wording.

A value of the wrong kind, such as a string or a boolean for a number, is a TypeError;
one out of range is a ValueError. Each function returns the value that it has checked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import ArrayLike

#: Results of calculators that need an explanation where they are missing.
_MEANINGS = {"magnetic_forces": "magnetic_forces (-dE/dm, eV/mu_B)"}


def finite(name: str, value: Any) -> float:
    """Return ``value`` as a float; raise unless it is a finite number."""
    number = _number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def positive(name: str, value: Any) -> float:
    """Return ``value`` as a float; raise unless it is a finite number > 0."""
    number = _number(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and > 0, got {number}")
    return number


def non_negative(name: str, value: Any) -> float:
    """Return ``value`` as a float; raise unless it is a finite number >= 0."""
    number = _number(name, value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be finite and >= 0, got {number}")
    return number


def whole(name: str, value: Any, least: int = 0) -> int:
    """Return ``value`` as an int; raise unless it is a whole number >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """Return ``value`` as a bool; raise TypeError unless it is true or false."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def positive_numbers(name: str, values: ArrayLike) -> np.ndarray:
    """Return one or more values as an array (n,); raise unless all are > 0."""
    array = np.atleast_1d(_numbers(name, values)).astype(float)
    if array.ndim != 1 or not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(f"{name} must be finite and > 0, got {values!r}")
    return array


def per_replica(
    name: str, value: Any, count: int, *, positive: bool = False
) -> np.ndarray:
    """Return one number, or one for each of ``count`` replicas, as (count,) numbers.

    Raises
    ------
    TypeError, ValueError
        If it is not a number or numbers, not finite, or negative (or zero where
        it must be ``positive``).
    """
    numbers = _numbers(name, value)
    if numbers.ndim > 1 or numbers.size not in (1, count):
        raise ValueError(f"{name} must be one number or {count}, got {value!r}")
    low = numbers <= 0 if positive else numbers < 0
    if not np.isfinite(numbers).all() or low.any():
        bound = "> 0" if positive else ">= 0"
        raise ValueError(f"{name} must be finite and {bound}, got {value!r}")
    return np.broadcast_to(numbers.astype(float).reshape(-1), (count,)).copy()


def _number(name: str, value: Any) -> float:
    number = _numbers(name, value)
    if number.ndim:
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(number)


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        numbers = np.asarray(value)
    except ValueError:  # ragged
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iuf":  # neither strings nor booleans
        raise TypeError(f"{name} must be a number, got {value!r}")
    return numbers


def require_calculator(
    atoms: Atoms,
    *properties: str,
    name: str = "the structure",
    purpose: str = "",
) -> None:
    """Raise ValueError unless ``atoms`` have a calculator that gives the properties.

    Parameters
    ----------
    atoms : Atoms
    *properties : str
        Such as ``"magnetic_forces"``.
    name : str
        Of the structure, for the message.
    purpose : str
        What needs the properties, for the message.
    """
    if atoms.calc is None:
        raise ValueError(
            f"{name} has no calculator; set atoms.calc = DeepSpinCalculator(model)"
        )
    for wanted in properties:
        require_property(atoms.calc, wanted, purpose=purpose)


def require_property(calculator: Any, wanted: str, *, purpose: str = "") -> None:
    """Raise unless an ASE calculator gives a property.

    Parameters
    ----------
    calculator : Calculator
    wanted : str
        Such as ``"magnetic_forces"``.
    purpose : str
        What needs the property, for the message.

    Raises
    ------
    TypeError
        If it is no calculator.
    ValueError
        If it does not give the property.
    """
    known = getattr(calculator, "implemented_properties", None)
    if isinstance(calculator, type) or known is None:
        given = (
            f"the class {calculator.__name__}: make one, {calculator.__name__}(...)"
            if isinstance(calculator, type)
            else f"{type(calculator).__name__}: DeepSpinCalculator(model) makes one"
        )
        raise TypeError(f"{purpose or 'this'} takes an ASE calculator, got {given}")
    if wanted in known:
        return
    reason = f", which {purpose} needs" if purpose else ""
    raise ValueError(
        f"{type(calculator).__name__} does not give "
        f"{_MEANINGS.get(wanted, wanted)}{reason}; use DeepSpinCalculator or "
        "a calculator with that property"
    )


def vectors_of(calculator: Any, name: str, atoms: Atoms) -> np.ndarray:
    """Return a vector of each atom from an ASE calculator, (N, 3).

    Raises
    ------
    ValueError
        If they have another shape, as those of collinear codes.
    """
    found = np.asarray(calculator.get_property(name, atoms), dtype=float)
    if found.shape != (len(atoms), 3):
        raise ValueError(
            f"{type(calculator).__name__} gives {name} of shape {found.shape} for "
            f"{len(atoms)} atoms; ({len(atoms)}, 3) is expected: vectors, also where "
            "moments are collinear"
        )
    return found


def path_first(function: str, path: Any, value: Any, kind: type) -> None:
    """Raise TypeError unless a writer is given a path and then a ``kind``."""
    if isinstance(path, str | os.PathLike) and isinstance(value, kind):
        return
    raise TypeError(
        f"{function} takes a path and then a {kind.__name__}, got "
        f"{type(path).__name__} and {type(value).__name__}"
    )


def as_vector(name: str, value: Sequence[float]) -> tuple[float, float, float]:
    """Return ``value`` as three finite numbers, or raise ValueError."""
    try:
        numbers = tuple(finite(name, x) for x in value)
    except TypeError:
        numbers = ()
    if len(numbers) != 3:
        raise ValueError(f"{name} must be three numbers, got {value!r}")
    return numbers[0], numbers[1], numbers[2]


def as_direction(name: str, value: Sequence[float]) -> tuple[float, float, float]:
    """Return ``value`` scaled to length one, or raise ValueError where it is zero."""
    x, y, z = as_vector(name, value)
    length = math.hypot(x, y, z)
    if length == 0:
        raise ValueError(f"{name} must not be the zero vector")
    return x / length, y / length, z / length


def as_symbols(elements: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return chemical symbols as a tuple; None, for all elements, stays None.

    Raises
    ------
    ValueError
        If there are none, or one is not a chemical symbol.
    """
    if elements is None:
        return None
    if isinstance(elements, str):
        elements = (elements,)
    if len(elements) == 0:
        raise ValueError("elements is empty; use None for all elements")
    for symbol in elements:
        if symbol not in atomic_numbers or symbol == "X":
            raise ValueError(f"unknown element {symbol!r}")
    return tuple(elements)


def as_symbol_pair(elements: Sequence[str] | None) -> tuple[str, str] | None:
    """Return the two chemical symbols of a pair; None, for all pairs, stays None."""
    pair = as_symbols(elements)
    if pair is None:
        return None
    if len(pair) != 2:
        raise ValueError(
            f"a pair needs two elements such as ('Fe', 'Fe'), got {elements!r}"
        )
    return pair[0], pair[1]


def atomic_numbers_of(elements: Sequence[str]) -> tuple[int, ...]:
    """Return the atomic numbers of chemical symbols."""
    return tuple(atomic_numbers[symbol] for symbol in elements)
