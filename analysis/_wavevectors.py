"""Wave vectors that fit a periodic cell, and Fourier sums over its atoms.

Propagation vectors q are in reciprocal lattice units of a crystallographic cell
(``cell=``), as everywhere in :mod:`deepspin_ase.orders`. Inside they are
phases: by how many periods the wave advances along each lattice vector of the atoms,
whole numbers for all that fit. Phases then follow the cell when it moves.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..orders import COMMENSURATE, phases_per_vector

#: Wave vectors times atoms that are summed at once: about 64 MB.
_BATCH = 2**22


def commensurate(
    atoms: Atoms, q: ArrayLike, cell: float | ArrayLike | None = None
) -> np.ndarray:
    """Return the phases (Q, 3) of wave vectors q, (Q, 3) or (3,).

    Raises
    ------
    ValueError
        If a wave does not repeat with the periodic cell; names the nearest that does.
    """
    given = np.atleast_2d(np.asarray(q, dtype=float))
    phases = np.atleast_2d(phases_per_vector(atoms, given, cell))
    whole = np.where(atoms.pbc, np.round(phases), phases)
    off = np.abs(phases - whole).max(axis=1)
    if off.max() > COMMENSURATE:
        worst = int(off.argmax())
        fitting = reciprocal_units(atoms, whole[worst], cell)
        raise ValueError(
            f"q = {given[worst]} does not repeat with the periodic cell: its phase "
            f"advances by {phases[worst].round(3)} periods along the lattice vectors. "
            f"The nearest that does is {fitting.round(6)}; take that, repeat the cell, "
            "or say which cell q refers to (cell=)"
        )
    return whole


def commensurate_path(
    atoms: Atoms,
    start: ArrayLike,
    stop: ArrayLike,
    cell: float | ArrayLike | None = None,
) -> np.ndarray:
    """Return all q (Q, 3) that fit the periodic cell on the line between two that do.

    In reciprocal lattice units of ``cell``, both ends included.

    Raises
    ------
    ValueError
        If an end does not repeat with the periodic cell.
    """
    first, last = commensurate(atoms, np.array([start, stop], dtype=float), cell)
    steps = np.round(last - first).astype(int)[atoms.pbc]
    count = int(np.gcd.reduce(np.abs(steps))) if steps.any() else 1
    fractions = np.linspace(0.0, 1.0, count + 1)[:, None]
    return reciprocal_units(atoms, first + fractions * (last - first), cell)


def commensurate_q(atoms: Atoms, q_max: float) -> np.ndarray:
    """Return the phases (Q, 3) of all waves that fit with |q| <= q_max, 1/A.

    |q| counts 2 pi; there is no component along directions that are not periodic.
    """
    extent = q_max * np.linalg.norm(atoms.cell.complete().array, axis=1) / (2.0 * np.pi)
    span = np.where(atoms.pbc, np.floor(extent + 1e-9), 0).astype(int)
    grid = np.meshgrid(*(np.arange(-n, n + 1) for n in span), indexing="ij")
    phases = np.stack(grid, axis=-1).reshape(-1, 3).astype(float)
    lengths = np.linalg.norm(cartesian(atoms, phases), axis=1)
    return phases[lengths <= q_max + 1e-9]


def cartesian(atoms: Atoms, phases: np.ndarray) -> np.ndarray:
    """Return wave vectors (..., 3) in 1/A, 2 pi included."""
    reciprocal = atoms.cell.complete().reciprocal().array
    return np.asarray(2.0 * np.pi * phases @ reciprocal)


def reciprocal_units(
    atoms: Atoms, phases: np.ndarray, cell: float | ArrayLike | None = None
) -> np.ndarray:
    """Return wave vectors (..., 3) in reciprocal lattice units of ``cell``."""
    if cell is None:
        return np.asarray(phases + 0.0)
    # Turns are linear in q: the rows of this matrix are those of three unit vectors.
    per_unit = phases_per_vector(atoms, np.eye(3), cell)
    return np.asarray(phases @ np.linalg.inv(per_unit))


def fourier_sums(atoms: Atoms, phases: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return sum_j values_j exp(-i q.r_j), (Q, C), for values (N, C)."""
    fractions = np.linalg.solve(atoms.cell.complete().array.T, atoms.positions.T)
    tables = []
    for fraction, component in zip(fractions, phases.T, strict=True):
        waves, rows = np.unique(component, return_inverse=True)
        tables.append((np.exp(-2j * np.pi * waves[:, None] * fraction), rows))
    sums = np.empty((len(phases), values.shape[1]), dtype=complex)
    step = max(1, _BATCH // len(atoms))
    for start in range(0, len(phases), step):
        part = slice(start, start + step)
        (x, i), (y, j), (z, k) = tables
        sums[part] = (x[i[part]] * y[j[part]] * z[k[part]]) @ values
    return sums
