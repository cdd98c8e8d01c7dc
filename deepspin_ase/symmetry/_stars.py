"""Stars of propagation vectors."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..orders import phases_per_vector
from ._spglib import SYMPREC, dataset, primitive_cell


def star(atoms: Atoms, q: ArrayLike, *, symprec: float = SYMPREC) -> np.ndarray:
    """Return the star of a propagation vector q (3,): all its arms (Q, 3), q first.

    The domains that an order can take by the symmetry of the crystal without
    moments. In reciprocal lattice units of ``atoms``. One of q and -q; not reduced by
    reciprocal lattice vectors. No arm has a component along directions that are not
    periodic; q alone where no group is found.
    """
    given = np.reshape(np.asarray(q, dtype=float), (1, 3))
    if not given.any():
        return given
    # A larger cell would hide rotations.
    cell = primitive_cell(atoms, symprec=symprec)
    found = None if cell is None else dataset(cell, symprec=symprec)
    if cell is None or found is None:
        return given
    rotated = phases_per_vector(cell, given, atoms.cell.array) @ found.rotations
    arms = np.concatenate([given, phases_per_vector(atoms, rotated[:, 0], cell.cell)])
    distinct: dict[tuple[float, ...], np.ndarray] = {}
    for arm in arms[abs(arms[:, ~atoms.pbc]).max(axis=1, initial=0.0) < 1e-6]:
        forward, backward = (tuple(np.round(s * arm, 6) + 0.0) for s in (1.0, -1.0))
        if forward not in distinct and backward not in distinct:
            distinct[forward] = arm
    return np.array([*distinct.values()])
