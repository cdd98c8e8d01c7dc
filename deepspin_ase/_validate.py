"""Checks of constructor arguments shared by the analytic potentials."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ase.data import atomic_numbers


def finite(name: str, value: float) -> float:
    """Return ``value`` as a float, or raise ValueError where it is not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def positive(name: str, value: float) -> float:
    """Return ``value`` as a float, or raise ValueError where it is not > 0."""
    number = finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def vector(name: str, value: Sequence[float]) -> tuple[float, float, float]:
    """Return ``value`` as three finite numbers, or raise ValueError."""
    try:
        numbers = tuple(finite(name, x) for x in value)
    except TypeError:
        numbers = ()
    if len(numbers) != 3:
        raise ValueError(f"{name} must be three numbers, got {value!r}")
    return numbers[0], numbers[1], numbers[2]


def direction(name: str, value: Sequence[float]) -> tuple[float, float, float]:
    """Return ``value`` scaled to length one, or raise ValueError where it is zero."""
    x, y, z = vector(name, value)
    length = math.hypot(x, y, z)
    if length == 0:
        raise ValueError(f"{name} must not be the zero vector")
    return x / length, y / length, z / length


def symbols(elements: Sequence[str] | None) -> tuple[str, ...] | None:
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


def symbol_pair(elements: Sequence[str] | None) -> tuple[str, str] | None:
    """Return the two chemical symbols of a pair; None, for all pairs, stays None."""
    pair = symbols(elements)
    if pair is None:
        return None
    if len(pair) != 2:
        raise ValueError(
            f"a pair needs two elements such as ('Fe', 'Fe'), got {elements!r}"
        )
    return pair[0], pair[1]


def numbers(elements: Sequence[str]) -> tuple[int, ...]:
    """Return the atomic numbers of chemical symbols."""
    return tuple(atomic_numbers[symbol] for symbol in elements)
