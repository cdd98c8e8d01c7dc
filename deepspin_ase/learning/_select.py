"""Choice of structures whose labels tell most of what is not known yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from ase import Atoms

from ..neighbors import build_pairs
from ..potentials import Potential, Trainable
from ..potentials.networks._trainable import trainable_parts
from ..system import System

#: Random combinations that stand for the labels of a structure.
COMBINATIONS = 16

#: What is known of a coefficient beforehand, relative to the best known one.
RIDGE = 1e-8


def equations(
    potential: Potential, structures: Iterable[Atoms], weights: Mapping[str, float]
) -> list[np.ndarray] | None:
    """Return what the labels of each structure say of a linear term, (rows, K) arrays.

    Rows of :meth:`~deepspin_ase.potentials.Trainable.design` of energy, forces and
    magnetic forces, weighted as in the loss, in units of the sizes that coefficients
    are expected to have; None if no trainable part has a linear term.

    Parameters
    ----------
    potential : Potential
    structures : iterable of Atoms
    weights : mapping of str to float
        Of ``energy``, ``forces`` and ``magnetic_forces`` in the loss.
    """
    network = _with_linear_term(potential)
    if network is None:
        return None
    sizes = network.linear_sizes().numpy()
    found = []
    for atoms in structures:
        system = System.from_atoms(atoms)
        pairs = build_pairs(system, network.pair_cutoff(system))
        n = len(atoms)
        factors = np.repeat(
            [
                weights.get("energy", 0.0) / n,
                weights.get("forces", 0.0) / (3 * n),
                weights.get("magnetic_forces", 0.0) / (3 * n),
            ],
            [1, 3 * n, 3 * n],
        )
        rows = network.design(system, pairs)[: 1 + 6 * n].numpy()
        found.append(np.sqrt(factors)[:, None] * rows * sizes)
    return found


def _with_linear_term(potential: Potential) -> Trainable | None:
    for part in trainable_parts(potential):
        if part.linear_term() is not None:
            return part
    return None


def most_informative(
    structures: Sequence[np.ndarray],
    count: int,
    known: Iterable[np.ndarray],
    *,
    seed: int = 0,
) -> list[int]:
    """Return indices of structures whose labels make predictions certain.

    Each is the one that reduces the mean variance of the predictions of all candidates
    most, beside those that are known or chosen: with the equations X of a structure and
    the covariance C of the coefficients, by tr[(1 + X C X^T)^-1 X C S C X^T], where S
    is the mean of X^T X. Structures that resemble others tell little, and so do small
    ones and those that are like no other. Random combinations of the equations stand
    for all of them.

    Source: Cohn, Ghahramani, Jordan, J. Artif. Intell. Res. 4, 129 (1996),
    doi:10.1613/jair.295.

    Parameters
    ----------
    structures : sequence of (rows, K) arrays
        Equations of the candidates, see :func:`equations`.
    count : int
        At most so many.
    known : iterable of (rows, K) arrays
        Equations of the structures that have labels; one at least.
    seed : int
        Of the combinations.
    """
    if not structures:
        return []
    size = structures[0].shape[1]
    matrix = np.zeros((size, size))
    for own in known:
        matrix += own.T @ own
    values, vectors = np.linalg.eigh(matrix)
    root = vectors / np.sqrt(np.maximum(values, 0.0) + RIDGE * values[-1])
    rng = np.random.default_rng(seed)
    # Rows in units of the standard deviations of what is known: C is one.
    left = np.array([_combined(own, rng) @ root for own in structures])
    identity = np.eye(left.shape[1])
    chosen: list[int] = []
    while len(chosen) < min(count, len(structures)):
        every = left.reshape(-1, size)
        over = left.transpose(0, 2, 1)
        covariance = left @ (every.T @ every) @ over
        gains = np.linalg.solve(identity + left @ over, covariance)
        gain = np.trace(gains, axis1=1, axis2=2)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        _, values, vectors = np.linalg.svd(left[chosen[-1]], full_matrices=False)
        shrink = 1.0 - 1.0 / np.sqrt(1.0 + values**2)
        left -= ((left @ vectors.T) * shrink) @ vectors
    return chosen


def _combined(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random combinations with the same expected products, or few rows as is."""
    if len(rows) <= COMBINATIONS:
        return np.pad(rows, [(0, COMBINATIONS - len(rows)), (0, 0)])
    factors = rng.normal(size=(COMBINATIONS, len(rows))) / COMBINATIONS**0.5
    return factors @ rows
