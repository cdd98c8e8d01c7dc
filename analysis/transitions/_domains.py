"""Propagation vectors of orders and of their domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ...spins import get_spins
from ...symmetry import star
from .._wavevectors import commensurate
from ..order._structure_factor import structure_factor

#: Repeats of a cell along its three vectors.
Size = tuple[int, int, int]


def domains(atoms: Atoms, q: ArrayLike | None, repeats: Sequence[Size]) -> np.ndarray:
    """Return the propagation vectors (Q, 3) of an order and of its domains.

    In reciprocal lattice units of ``atoms``: q, by default that of the peak of the
    structure factor of ``atoms``, and those arms of its star that repeat with all
    sizes. Several q are taken as they are.

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
    return distinct_waves(atoms.repeat(repeats[0]), arms[np.all(fits, axis=0)], atoms)


def distinct_waves(structure: Atoms, q: np.ndarray, atoms: Atoms) -> np.ndarray:
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
