"""Distances and directions in the joint space of positions, spins and strains.

A band of P images of N atoms is described by arrays, and the way from one image to
the next by *rows* in A, in which lattice, spins and cell have one length:

========== ============ =======================================================
N rows     lattice      displacements at fixed strain, A
N rows     spins        rotation vectors along great circles, rad, times
                        ``spin_scale``, A/rad
3 rows     cell         symmetric strain times (V/N)^(1/3) sqrt(N), A; only where
                        the cell moves
========== ============ =======================================================

The rotation vector of a great circle is across both of its ends, so that it is a
tangent of the sphere at both: no parallel transport is needed.

References
----------
Geodesics of spins: Bessarab, Uzdin, Jonsson, Comput. Phys. Commun. 196, 335 (2015),
doi:10.1016/j.cpc.2015.07.001. Length of a strain: Sheppard, Xiao, Chemelewski,
Johnson, Henkelman, J. Chem. Phys. 136, 074103 (2012), doi:10.1063/1.3684549.
Improved tangent: Henkelman, Jonsson, J. Chem. Phys. 113, 9978 (2000),
doi:10.1063/1.1323224.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell, find_mic

from .._rotations import rotate, rotations_between
from .._strain import exponential, logarithmic_strain, symmetric
from ..optimize._defaults import SPIN_SCALE
from ..spins import get_spins, set_spins


@dataclass(frozen=True)
class Steps:
    """The ways from each of P images to the next.

    Attributes
    ----------
    lattice : (P - 1, N, 3) array, A
        Displacements at fixed strain, of the nearest periodic images.
    rotations : (P - 1, N, 3) array, rad
        Rotation vectors along great circles.
    strains : (P - 1, 3, 3) array
        Symmetric (logarithmic) strains.
    """

    lattice: np.ndarray
    rotations: np.ndarray
    strains: np.ndarray


@dataclass(frozen=True)
class Metric:
    """The common length of displacements, rotations and strains.

    Attributes
    ----------
    spin_scale : float
        Length of a rotation, A/rad.
    strain_scale : float or None
        Length of a strain, A; None where the cell stays.
    """

    spin_scale: float = SPIN_SCALE
    strain_scale: float | None = None

    @classmethod
    def of(cls, atoms: Atoms, spin_scale: float, cell: bool) -> Metric:
        """Return the metric for structures like ``atoms``."""
        if not cell:
            return cls(spin_scale)
        n_atoms = len(atoms)
        volume = abs(np.linalg.det(complete_cell(atoms.cell.array)))
        return cls(spin_scale, float(np.cbrt(volume / n_atoms) * np.sqrt(n_atoms)))

    def parts(self, n_atoms: int) -> dict[str, slice]:
        """Return the rows of lattice, spins and cell."""
        rows = {"lattice": slice(n_atoms), "spins": slice(n_atoms, 2 * n_atoms)}
        if self.strain_scale is not None:
            rows["cell"] = slice(2 * n_atoms, 2 * n_atoms + 3)
        return rows

    def rows(self, steps: Steps) -> np.ndarray:
        """Return steps as rows (P - 1, 2N or 2N + 3, 3), A."""
        parts = [steps.lattice, self.spin_scale * steps.rotations]
        if self.strain_scale is not None:
            parts.append(self.strain_scale * steps.strains)
        return np.concatenate(parts, axis=1)

    def steps(self, rows: np.ndarray) -> Steps:
        """Return the steps of rows (K, 2N or 2N + 3, 3), A."""
        n_atoms = (rows.shape[1] - 3 * (self.strain_scale is not None)) // 2
        strains = np.zeros((len(rows), 3, 3))
        if self.strain_scale is not None:
            strains = symmetric(rows[:, 2 * n_atoms :]) / self.strain_scale
        rotations = rows[:, n_atoms : 2 * n_atoms] / self.spin_scale
        return Steps(rows[:, :n_atoms], rotations, strains)

    def forces(self, results: Mapping[str, Any]) -> np.ndarray:
        """Return minus the gradient of the energy by rows, (R, 3), eV/A.

        Parameters
        ----------
        results : mapping
            forces (eV/A), torques m x (-dE/dm) (eV) and, where the cell moves,
            virial -dE/dstrain (eV).
        """
        parts = [results["forces"], results["torques"] / self.spin_scale]
        if self.strain_scale is not None:
            parts.append(symmetric(results["virial"]) / self.strain_scale)
        return np.concatenate(parts)


def periodic_plane(atoms: Atoms) -> np.ndarray:
    """Return the projector (3, 3) onto the directions in which ``atoms`` repeat.

    Only strains among these are strains of the crystal.
    """
    span = np.linalg.svd(atoms.cell.array[atoms.pbc])[2][: int(atoms.pbc.sum())]
    return span.T @ span


def move_image(
    image: Atoms, lattice: np.ndarray, rotations: np.ndarray, strain: np.ndarray
) -> None:
    """Displace atoms, rotate moments and strain the cell of ``image``, in place.

    Half of the strain comes before the displacement and half after it, so that the
    opposite step leads back. The constraints of ``image`` hold for its positions.

    Parameters
    ----------
    image : Atoms
    lattice : (N, 3) array, A
    rotations : (N, 3) array, rad
    strain : (3, 3) array
        Symmetric, logarithmic.
    """
    positions = image.positions
    if strain.any():
        half = exponential(0.5 * strain)
        moved = (positions @ half + lattice) @ half
        image.cell[:] = image.cell.array @ half @ half
        image.positions[:] = positions @ half @ half
    else:
        moved = positions + lattice
    image.set_positions(moved)
    spins = get_spins(image)
    turned = rotate(spins, rotations)
    length = np.linalg.norm(turned, axis=1, keepdims=True)
    kept = np.linalg.norm(spins, axis=1, keepdims=True)
    set_spins(image, turned * (kept / np.where(length > 0.0, length, 1.0)))


def image_steps(images: Sequence[Atoms], *, cell: bool) -> Steps:
    """Return the ways between neighbours of P images of the same atoms.

    Without ``cell`` all cells are taken to be that of the first image.
    """
    positions = np.stack([image.positions for image in images])
    spins = np.stack([get_spins(image) for image in images])
    rotations = rotations_between(spins[:-1], spins[1:])
    first = images[0]
    if not cell:
        moves = np.diff(positions, axis=0).reshape(-1, 3)
        lattice = find_mic(moves, first.cell, first.pbc)[0].reshape(rotations.shape)
        return Steps(lattice, rotations, np.zeros((len(images) - 1, 3, 3)))
    cells = [_complete(image) for image in images]
    lattice = np.stack(
        [displacement(a, b, mic=True) for a, b in itertools.pairwise(images)]
    )
    plane = periodic_plane(first)
    strains = np.stack(
        [plane @ logarithmic_strain(a, b) @ plane for a, b in itertools.pairwise(cells)]
    )
    return Steps(lattice, rotations, strains)


def displacement(start: Atoms, end: Atoms, *, mic: bool) -> np.ndarray:
    """Return the displacements from ``start`` to ``end`` at fixed strain, (N, 3), A.

    The change of the fractional coordinates in the mean of both cells.
    """
    mean = 0.5 * (start.cell.array + end.cell.array)
    if np.array_equal(start.cell.array, end.cell.array):
        moves = end.positions - start.positions
    else:
        fractions = [a.positions @ np.linalg.inv(_complete(a)) for a in (start, end)]
        moves = (fractions[1] - fractions[0]) @ complete_cell(mean)
    return find_mic(moves, mean, start.pbc)[0] if mic else moves


def _complete(atoms: Atoms) -> np.ndarray:
    return complete_cell(atoms.cell.array)


def lengths_of(rows: np.ndarray) -> np.ndarray:
    """Return the lengths (P,) of rows (P, R, 3)."""
    return np.sqrt(np.sum(rows**2, axis=(1, 2)))


def tangents(rows: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Return the improved tangents (P, R, 3), of length 1.

    On a slope the tangent points to the neighbour of higher energy; at an extremum
    it is the mean of both ways, weighted with the changes of the energy. At the
    ends it points along the band.

    Parameters
    ----------
    rows : (P - 1, R, 3) array, A
    energies : (P,) array, eV
    """
    backward, forward = rows[:-1], rows[1:]
    down = energies[:-2] - energies[1:-1]
    up = energies[2:] - energies[1:-1]
    larger = np.maximum(abs(up), abs(down))
    smaller = np.minimum(abs(up), abs(down))
    rising = energies[2:] > energies[:-2]
    ahead, behind = (np.where(r, larger, smaller) for r in (rising, ~rising))
    level = larger == 0.0
    ahead, behind = (np.where(level, 1.0, w) for w in (ahead, behind))
    climbing, falling = (up > 0) & (down < 0), (up < 0) & (down > 0)
    ahead = np.where(climbing, 1.0, np.where(falling, 0.0, ahead))
    behind = np.where(climbing, 0.0, np.where(falling, 1.0, behind))
    inner = ahead[:, None, None] * forward + behind[:, None, None] * backward
    every = np.concatenate([rows[:1], inner, rows[-1:]])
    length = lengths_of(every)[:, None, None]
    return every / np.where(length > 0.0, length, 1.0)
