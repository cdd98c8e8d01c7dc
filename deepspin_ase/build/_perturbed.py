"""Structures scattered about a crystal: the first data of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from .._validate import non_negative, whole
from ..spins import cant_spins, get_spins, set_spins

#: Spin states that structures take in turn.
SPIN_STATES = ("canted", "canted", "spiral", "random")


def perturbed(
    atoms: Atoms,
    count: int,
    *,
    displacement: float = 0.1,
    strain: float = 0.02,
    reduced_temperature: float = 0.2,
    length: float = 0.1,
    states: Sequence[str] = SPIN_STATES,
    seed: int | np.random.Generator | None = None,
) -> list[Atoms]:
    """Return structures with displaced atoms, strained cells and other moments.

    Every structure has an amplitude of its own, between nothing and the given one, so
    that data reach from the crystal to the largest disorder.

    Parameters
    ----------
    atoms : Atoms
        A crystal with moments.
    count : int
    displacement : float
        Largest root mean square displacement of an atom in a Cartesian direction, A.
    strain : float
        Largest component of the strain of periodic directions.
    reduced_temperature : float
        Largest kT/(m B) of canted spins; see :func:`~deepspin_ase.spins.cant_spins`.
    length : float
        Largest relative change of the length of moments.
    states : sequence of str
        What the spins do, in turn: ``"canted"`` at random about the order of the
        crystal, ``"spiral"`` about it with a random wave vector, or ``"random"``
        directions.
    seed : int or numpy Generator, optional

    Raises
    ------
    ValueError
        If the crystal has no moments, or an amplitude is negative.
    """
    whole("count", count)
    for name, value in (
        ("displacement", displacement),
        ("strain", strain),
        ("reduced_temperature", reduced_temperature),
        ("length", length),
    ):
        non_negative(name, value)
    if not states or set(states) - set(SPIN_STATES):
        known = ", ".join(sorted(set(SPIN_STATES)))
        raise ValueError(f"states must be some of {known}, got {list(states)}")
    if not get_spins(atoms).any():
        raise ValueError("the crystal has no moments; set them with set_spins")
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        structure = atoms.copy()
        structure.calc = None
        _strain(structure, strain * rng.uniform(), rng)
        size = displacement * rng.uniform()
        structure.positions += size * rng.normal(size=(len(atoms), 3))
        _turn(structure, states[k % len(states)], reduced_temperature, rng)
        scale = 1.0 + length * rng.uniform(-1.0, 1.0, size=(len(atoms), 1))
        set_spins(structure, scale * get_spins(structure))
        found.append(structure)
    return found


def _strain(atoms: Atoms, amplitude: float, rng: np.random.Generator) -> None:
    """Apply a random symmetric strain to the periodic directions."""
    strain = rng.uniform(-1.0, 1.0, size=(3, 3))
    cell = atoms.cell.array
    deformed = cell @ (np.eye(3) + 0.5 * amplitude * (strain + strain.T))
    new = np.where(atoms.pbc[:, None], deformed, cell)
    atoms.set_cell(new, scale_atoms=bool(atoms.pbc.any()))


def _turn(
    atoms: Atoms, state: str, reduced_temperature: float, rng: np.random.Generator
) -> None:
    """Change the directions of the moments, in place."""
    spins = get_spins(atoms)
    if state == "canted":
        cant_spins(atoms, reduced_temperature * rng.uniform(), seed=rng)
    elif state == "random":
        set_spins(atoms, Rotation.random(len(atoms), random_state=rng).apply(spins))
    else:
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        q = rng.normal(size=3) * rng.uniform(0.0, 0.5)
        angle = atoms.positions @ q
        set_spins(atoms, Rotation.from_rotvec(angle[:, None] * axis).apply(spins))
