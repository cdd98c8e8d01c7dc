"""What a transition is to be sought with: checked, and completed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._validate import positive_numbers
from ...spins import get_spins
from ...symmetry import star
from .._wavevectors import commensurate
from ..order._structure_factor import structure_factor
from ._thermal_sampling import METHODS

Size = tuple[int, int, int]


def domains(atoms: Atoms, q: ArrayLike | None, repeats: Sequence[Size]) -> np.ndarray:
    """Return the propagation vectors (Q, 3) of an order and of its domains.

    In reciprocal lattice units of ``atoms``; q, or where the structure factor of the
    moments of ``atoms`` has its peak, and what symmetry makes of it and repeats with
    all sizes. Several q are taken as they are.

    Raises
    ------
    ValueError
        If q does not repeat with a size, or moments are missing.
    """
    if q is None:
        q = structure_factor(atoms).peak_q
    given = np.atleast_2d(np.asarray(q, dtype=float))
    for size in repeats:
        commensurate(atoms.repeat(size), given, atoms.cell.array)
    if len(given) > 1:
        return given
    arms = star(atoms, given[0])
    fits = [np.abs(n * arms - np.round(n * arms)).max(axis=1) < 1e-3 for n in repeats]
    return _distinct(atoms.repeat(repeats[0]), arms[np.all(fits, axis=0)], atoms)


def _distinct(structure: Atoms, q: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Return those of q (Q, 3) that differ on the magnetic sites of ``structure``.

    By more than their signs and reciprocal lattice vectors; q is in reciprocal
    lattice units of ``atoms``.
    """
    sites = structure[np.flatnonzero(np.any(get_spins(structure), axis=1))]
    sites.positions -= sites.positions[0]
    fractions = np.linalg.solve(sites.cell.complete().array.T, sites.positions.T)
    waves = np.exp(
        2j * np.pi * commensurate(structure, q, atoms.cell.array) @ fractions
    )
    chosen: list[int] = []
    for k, wave in enumerate(waves):
        overlaps = waves[chosen] @ np.stack([wave, wave.conj()], axis=1)
        if not (abs(overlaps) > 0.999 * len(sites)).any():
            chosen.append(k)
    return q[chosen]


def check_run(method: str, steps: int, interval: int) -> None:
    """Refuse methods that there are not, and too few samples.

    Raises
    ------
    ValueError
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if interval < 1 or steps < 100 * interval:
        raise ValueError(
            f"steps={steps} with interval={interval} are fewer than 100 samples"
        )


def checked_temperatures(temperatures_K: ArrayLike) -> np.ndarray:
    """Return four or more temperatures, ascending.

    Raises
    ------
    ValueError
        If they are fewer, not positive, or one is there twice.
    """
    values = np.asarray(temperatures_K, dtype=float)
    if values.ndim != 1 or len(values) < 4:
        raise ValueError(
            "at least four temperatures are needed for a crossing, got "
            f"{np.size(values)}: such as np.linspace(0.9, 1.1, 7) times the one "
            "expected"
        )
    ordered = np.sort(positive_numbers("temperatures_K", values))
    if not (np.diff(ordered) > 0).all():
        raise ValueError(f"a temperature is there twice: {ordered}")
    return ordered


def checked_sizes(sizes: Sequence[int | Sequence[int]], atoms: Atoms) -> list[Size]:
    """Return repeats along the three vectors, from few to many.

    Raises
    ------
    ValueError
        If they are fewer than two, not whole numbers, or repeat what is not periodic.
    """
    if not atoms.pbc.any():
        raise ValueError(
            "a transition needs a crystal: none of the directions is periodic (pbc)"
        )
    found: list[Size] = []
    for size in [sizes] if np.ndim(sizes) == 0 else sizes:
        numbers = np.asarray(size)
        triple = np.where(atoms.pbc, numbers, 1) if numbers.ndim == 0 else numbers
        if triple.shape != (3,) or (triple != np.rint(triple)).any() or min(triple) < 1:
            raise ValueError(f"a size is one or three whole numbers > 0, got {size}")
        if (triple[~atoms.pbc] > 1).any():
            raise ValueError(f"size {size} repeats a direction that is not periodic")
        found.append((int(triple[0]), int(triple[1]), int(triple[2])))
    ordered = sorted(found, key=np.prod)
    if len(ordered) < 2 or len({np.prod(size) for size in ordered}) < len(ordered):
        raise ValueError(
            "a crossing needs two or more different sizes, such as (4, 6, 8), got "
            f"{sizes}"
        )
    return ordered
