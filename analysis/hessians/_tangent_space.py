"""Coordinates of small steps of atoms and moments about one structure.

A step of D free coordinates q, in A: free Cartesian coordinates of the atoms, and
two angles (rad) of every free moment times ``spin_scale`` (A/rad), along orthonormal
directions across it. Moments keep their lengths.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from ..._rotations import local_axes, rotate
from ..._validate import positive
from ...constraints import MASKS, fixed_spins, free_coordinates
from ...optimize._defaults import SPIN_SCALE
from ...spins import get_spins


class TangentSpace:
    """Free steps of positions and directions of moments about one structure.

    Parameters
    ----------
    atoms : Atoms
        With FixAtoms, FixCartesian and FixSpins, or no constraints.
    positions, spins : bool
        What moves. Moments of length zero stay zero.
    spin_scale : float
        Length of one radian, A.

    Attributes
    ----------
    free : (F,) integers
        Free ones of the 3N Cartesian coordinates.
    magnetic_sites : (M,) integers
        Atoms whose moments rotate.
    lengths : (M,) array, mu_B
        Of these moments.
    local_axes : (M, 2, 3) array
        Unit vectors a, b across each: a, b and the moment are right-handed.
    groups : (D,) integers
        The same for coordinates of the same kind of the same element.

    Raises
    ------
    ValueError
        If nothing is free, moments are missing or all zero, other constraints are
        set, or the scale is not positive.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        positions: bool = True,
        spins: bool = True,
        spin_scale: float = SPIN_SCALE,
    ) -> None:
        if not isinstance(atoms, Atoms):
            raise TypeError(f"expected Atoms, got {type(atoms).__name__}")
        others = [c for c in atoms.constraints if not isinstance(c, MASKS)]
        if others:
            names = ", ".join(sorted({type(c).__name__ for c in others}))
            raise ValueError(
                f"{names} cannot be kept here; only FixAtoms, FixCartesian and "
                "FixSpins can"
            )
        self.spin_scale = positive("spin_scale", spin_scale)
        self.n_atoms = len(atoms)
        self.positions = atoms.positions.copy()
        self.spins = get_spins(atoms) if spins else np.zeros_like(self.positions)
        if spins and not self.spins.any():
            raise ValueError(
                "all moments are zero; set them with deepspin_ase.set_spins, or "
                "leave them alone with spins=False"
            )
        mask = free_coordinates(atoms) if positions else np.zeros((len(atoms), 3))
        self.free = np.flatnonzero(mask)
        length = np.linalg.norm(self.spins, axis=1)
        self.magnetic_sites = np.flatnonzero((length > 0) & ~fixed_spins(atoms))
        self.lengths = length[self.magnetic_sites]
        if self.size == 0:
            raise ValueError("nothing can move: all positions and moments are fixed")
        unit = self.spins[self.magnetic_sites] / self.lengths[:, None]
        kinds = np.concatenate(
            [
                atoms.numbers[self.free // 3],
                -np.repeat(atoms.numbers[self.magnetic_sites], 2),
            ]
        )
        self.groups = np.unique(kinds, return_inverse=True)[1]
        self.local_axes = local_axes(unit)

    @property
    def size(self) -> int:
        """Number of coordinates D."""
        return len(self.free) + 2 * len(self.magnetic_sites)

    def directions(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return steps (..., D) as displacements and changes of moments.

        Returns
        -------
        (..., N, 3) array, A
        (..., N, 3) array, mu_B
            Across the moments.
        """
        shape = q.shape[:-1]
        displacements = np.zeros((*shape, 3 * self.n_atoms))
        displacements[..., self.free] = q[..., : len(self.free)]
        angles = q[..., len(self.free) :].reshape(*shape, len(self.magnetic_sites), 2)
        angles = angles / self.spin_scale
        changes = np.zeros((*shape, self.n_atoms, 3))
        across = np.einsum("...ma,mab->...mb", angles, self.local_axes)
        changes[..., self.magnetic_sites, :] = self.lengths[:, None] * across
        return displacements.reshape(*shape, self.n_atoms, 3), changes

    def gradient(self, by_positions: np.ndarray, by_moments: np.ndarray) -> np.ndarray:
        """Return derivatives by Cartesian components as derivatives by q.

        Parameters
        ----------
        by_positions : (..., N, 3) array, eV/A
        by_moments : (..., N, 3) array, eV/mu_B

        Returns
        -------
        (..., D) array, eV/A
        """
        shape = by_positions.shape[:-2]
        lattice = by_positions.reshape(*shape, 3 * self.n_atoms)[..., self.free]
        chosen = by_moments[..., self.magnetic_sites, :]
        angles = np.einsum("...mb,mab->...ma", chosen, self.local_axes)
        angles *= self.lengths[:, None] / self.spin_scale
        angles = angles.reshape(*shape, 2 * len(self.magnetic_sites))
        return np.concatenate([lattice, angles], axis=-1)

    def step(self, displacements: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """Return the step (..., D) of displacements, A, and changes of moments, mu_B.

        Both are (..., N, 3). What is not free is left out, and changes along the
        moments.
        """
        shape = displacements.shape[:-2]
        lattice = displacements.reshape(*shape, 3 * self.n_atoms)[..., self.free]
        chosen = changes[..., self.magnetic_sites, :]
        angles = np.einsum("...mb,mab->...ma", chosen, self.local_axes)
        angles *= self.spin_scale / self.lengths[:, None]
        angles = angles.reshape(*shape, 2 * len(self.magnetic_sites))
        return np.concatenate([lattice, angles], axis=-1)

    def from_rotations(
        self, displacements: np.ndarray, rotations: np.ndarray
    ) -> np.ndarray:
        """Return the step (..., D) of displacements, A, and rotation vectors, rad."""
        return self.step(displacements, np.cross(rotations, self.spins))

    def rotation_vectors(self, q: np.ndarray) -> np.ndarray:
        """Return the rotation vectors (..., N, 3), rad, of steps (..., D)."""
        changes = self.directions(q)[1]
        square = np.sum(self.spins**2, axis=1, keepdims=True)
        return np.cross(self.spins, changes) / np.where(square > 0, square, 1.0)

    def moved(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions (N, 3), A, and moments (N, 3), mu_B, after a step (D,).

        Atoms move straight, moments along great circles.
        """
        displacements, _ = self.directions(q)
        rotated = rotate(self.spins, self.rotation_vectors(q))
        return self.positions + displacements, rotated

    def carried(
        self, vectors: np.ndarray, q: np.ndarray, to: TangentSpace
    ) -> np.ndarray:
        """Carry steps (..., D) of this space over to that at the end of the step q.

        Parallel transport along the great circles.
        """
        displacements, _ = self.directions(vectors)
        rotations = self.rotation_vectors(vectors)
        rotated = rotate(rotations, self.rotation_vectors(q))
        return to.from_rotations(displacements, rotated)
