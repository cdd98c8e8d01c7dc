"""Choice of structures that differ from each other and from those that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ..neighbors import build_pairs
from ..potentials import Potential, Trainable
from ..potentials.networks._trainable import trainable_parts
from ..system import System


def descriptors(potential: Potential, structures: Sequence[Atoms]) -> np.ndarray | None:
    """Return a point in the space of features for each structure, (n, K).

    The means over the atoms of the standardized features of a trainable part that has a
    linear term (:meth:`~deepspin_ase.potentials.Trainable.design`), by element; None if
    there is no such part.
    """
    network = _with_linear_term(potential)
    if network is None:
        return None
    found = []
    for atoms in structures:
        system = System.from_atoms(atoms)
        pairs = build_pairs(system, network.pair_cutoff(system))
        found.append(network.design(system, pairs)[0].numpy() / len(atoms))
    return np.array(found)


def _with_linear_term(potential: Potential) -> Trainable | None:
    for part in trainable_parts(potential):
        if part.linear_term() is not None:
            return part
    return None


def farthest_points(
    points: np.ndarray, count: int, known: np.ndarray | None = None
) -> list[int]:
    """Return indices of points (n, K) that are far from each other and from others.

    Each is the one farthest from all that are known or chosen already.

    Parameters
    ----------
    points : (n, K) array
    count : int
        At most so many.
    known : (m, K) array, optional
    """
    points = np.asarray(points, dtype=float)
    if known is None or not len(known):
        left = np.linalg.norm(points - points.mean(axis=0), axis=1)
    else:
        left = np.min(
            [np.linalg.norm(points - other, axis=1) for other in known], axis=0
        )
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        best = int(left.argmax())
        chosen.append(best)
        left = np.minimum(left, np.linalg.norm(points - points[best], axis=1))
        left[best] = -1.0
    return chosen
