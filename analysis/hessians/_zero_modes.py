"""Zero modes: steps of atoms and moments along continuous symmetries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..._result import storable
from ._tangent_space import TangentSpace


@storable
@dataclass(frozen=True, eq=False)
class ZeroModes:
    """Directions along which a continuous symmetry keeps the energy constant.

    Attributes
    ----------
    vectors : (D, n) array
        Orthonormal columns, in the coordinates of a TangentSpace.
    names : tuple of n str
        ``"translation"``, ``"rotation of spins"``, ``"rotation of atoms"`` or
        ``"rotation of atoms and spins"``.
    """

    vectors: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Return their number."""
        return len(self.names)

    def __str__(self) -> str:
        counts = {name: self.names.count(name) for name in self.names}
        return ", ".join(f"{n} {name}" for name, n in counts.items()) or "none"

    def removed(self, q: np.ndarray) -> np.ndarray:
        """Return q, (D,) or (D, K), without its part along these."""
        return q - self.vectors @ (self.vectors.T @ q)


def find_zero_modes(
    space: TangentSpace,
    atoms: Atoms,
    gradients: np.ndarray,
    multiply: Callable[[np.ndarray], np.ndarray],
    tolerance: np.ndarray,
) -> ZeroModes:
    """Find the translations and rotations that are symmetries of an energy.

    If the energy does not change under a flow dx = X x of positions and moments (X a
    rotation; or a translation), its gradient g goes along: H (X x) = X g, and
    g.(X x) = 0. Both hold at any point, stationary or not, and for no flow that
    is not a symmetry. At a stationary point of the free coordinates the steps X x
    of symmetries are zero modes.

    Parameters
    ----------
    space : TangentSpace
    atoms : Atoms
        For the periodic directions.
    gradients : (2, N, 3) array
        dE/dR, eV/A, and dE/dm, eV/mu_B.
    multiply : callable
        Cartesian second derivatives times directions (K, 2, N, 3).
    tolerance : (D,) array, eV/A
        Largest deviation from the two equations for a step of length 1 A; that of
        the stiffest coordinate that moves counts.
    """
    kinds, flows, changes = _generators(space, atoms, gradients)
    steps = space.step(flows[:, 0], flows[:, 1])
    blocked = flows - np.stack(space.directions(steps), axis=1)
    groups = [
        ("translation", kinds == "translation"),
        ("rotation of spins", kinds == "spins"),
        ("rotation of atoms", kinds != "spins"),  # about any centre
        ("rotation of atoms and spins", kinds != ""),
    ]
    vectors, names = np.zeros((space.size, 0)), []
    if _free_combinations(blocked).shape[1] == 0:
        return ZeroModes(vectors, ())
    difference = multiply(flows - blocked) - changes
    residual = np.column_stack(
        [
            space.gradient(difference[:, 0], difference[:, 1]),
            steps @ _slope(space, gradients),
        ]
    )
    for name, chosen in groups:
        if not chosen.any():
            continue
        free = _free_combinations(blocked[chosen])
        moves, errors = steps[chosen].T @ free, residual[chosen].T @ free
        moving = moves.any(axis=1)
        found = _kept(moves, errors, tolerance[moving].max(initial=0.0))
        found = _kept(found - vectors @ (vectors.T @ found))
        vectors = np.column_stack([vectors, found])
        names += [name] * found.shape[1]
    return ZeroModes(vectors, tuple(names))


def _slope(space: TangentSpace, gradients: np.ndarray) -> np.ndarray:
    return space.gradient(gradients[0], gradients[1])


def _generators(
    space: TangentSpace, atoms: Atoms, gradients: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return kinds (G,), flows of positions and moments and of gradients (G, 2, N, 3).

    Rotations of atoms are about their mean position.
    """
    shape = gradients.shape
    kinds, flows, changes = [], [], []
    for axis in np.eye(3):
        if len(space.free):
            kinds.append("translation")
            flows.append(np.stack([np.tile(axis, (shape[1], 1)), np.zeros(shape[1:])]))
            changes.append(np.zeros(shape))
        about = np.cross(axis, gradients)
        if len(space.magnetic_sites):
            kinds.append("spins")
            flows.append(np.stack([np.zeros(shape[1:]), np.cross(axis, space.spins)]))
            changes.append(np.stack([np.zeros(shape[1:]), about[1]]))
        if len(space.free) and atoms.pbc.sum() < 2:
            kinds.append("atoms")
            arms = space.positions - space.positions.mean(axis=0)
            flows.append(np.stack([np.cross(axis, arms), np.zeros(shape[1:])]))
            changes.append(np.stack([about[0], np.zeros(shape[1:])]))
    return np.array(kinds), np.stack(flows), np.stack(changes)


def _free_combinations(blocked: np.ndarray) -> np.ndarray:
    """Return combinations (G, n) of G flows that no constraint blocks."""
    matrix = blocked.reshape(len(blocked), -1).T
    _, values, rows = np.linalg.svd(matrix, full_matrices=True)
    rank = int(np.sum(values > 1e-8))
    return rows[rank:].T


def _kept(
    moves: np.ndarray, errors: np.ndarray | None = None, tolerance: float = 0.0
) -> np.ndarray:
    """Return an orthonormal basis (D, n) of moves (D, G) that have no errors (., G)."""
    if moves.shape[1] == 0:
        return moves
    basis, lengths, rows = np.linalg.svd(moves, full_matrices=False)
    rank = int(np.sum(lengths > 1e-6 * max(1.0, lengths.max())))
    basis = basis[:, :rank]
    if errors is None or rank == 0:
        return basis
    per_unit = errors @ (rows[:rank].T / lengths[:rank])
    _, values, combinations = np.linalg.svd(per_unit, full_matrices=True)
    values = np.concatenate([values, np.zeros(rank - len(values))])
    return basis @ combinations[values <= tolerance].T
