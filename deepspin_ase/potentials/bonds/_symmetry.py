"""Symmetry of lists of bonds: images of bonds under the operations of a crystal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ...symmetry import crystal_symmetry
from ...symmetry._spglib import in_vacuum
from ._bonds import described


@dataclass(frozen=True)
class SymmetricBonds:
    """Means over the images of bonds and sites under symmetry operations.

    Attributes
    ----------
    bonds : (Q, 5) integer array
        Sites and translation of every image of every bond.
    tensors : (Q, 3, 3) array, eV
    biquadratic : (Q,) array, eV
    slopes : (Q, 3, 3) array, eV/A
    onsite : (n, 3, 3) array, eV
    violation : float
        Largest deviation of a tensor from the mean of those that symmetry makes
        equal, relative to the largest tensor.
    worst : str
        The bond or site where it is.
    """

    bonds: np.ndarray
    tensors: np.ndarray
    biquadratic: np.ndarray
    slopes: np.ndarray
    onsite: np.ndarray
    violation: float
    worst: str


@dataclass(frozen=True)
class _Operations:
    """Operations on sites: the site that each becomes, its cell, and the rotation."""

    sites: np.ndarray
    cells: np.ndarray
    turns: np.ndarray
    rotations: np.ndarray


def _operations(atoms: Atoms, crystal: Atoms, symprec: float) -> _Operations:
    """Return those symmetry operations of a crystal that map the sites of ``atoms``.

    Raises
    ------
    ValueError
        If none does, the identity included.
    """
    _, turns, shifts = crystal_symmetry(crystal, symprec=symprec)
    cell, _ = in_vacuum(crystal)
    scaled = np.linalg.solve(cell.T, atoms.positions.T).T
    tolerance = 3.0 * symprec
    sites, cells, kept = [], [], []
    for k, (turn, shift) in enumerate(zip(turns, shifts, strict=True)):
        moved = scaled @ turn.T + shift
        apart = moved[:, None] - scaled[None]
        whole = np.rint(apart)
        distances = np.linalg.norm((apart - whole) @ cell, axis=2)
        distances[atoms.numbers[:, None] != atoms.numbers[None]] = np.inf
        nearest = distances.argmin(axis=1)
        everyone = np.arange(len(atoms))
        if (distances[everyone, nearest] < tolerance).all() and len(
            set(nearest.tolist())
        ) == len(atoms):
            sites.append(nearest)
            cells.append(whole[everyone, nearest].astype(int))
            kept.append(k)
    if not kept:
        raise ValueError(
            "the symmetry of the crystal given does not map the sites of the exchange "
            "table: give a crystal in the same cell and place"
        )
    rotations = np.array([cell.T @ w @ np.linalg.inv(cell.T) for w in turns[kept]])
    return _Operations(np.array(sites), np.array(cells), turns[kept], rotations)


def symmetric_bonds(
    atoms: Atoms,
    bonds: np.ndarray,
    tensors: np.ndarray,
    biquadratic: np.ndarray,
    slopes: np.ndarray,
    onsite: np.ndarray,
    *,
    crystal: Atoms,
    symprec: float,
) -> SymmetricBonds:
    """Return the means of all images of bonds that fall on the same bond.

    Moments are axial vectors: tensors turn like the lattice, without a sign.

    Parameters
    ----------
    atoms : Atoms
        The sites.
    bonds : (P, 5) integer array
        Sites and translations, every bond from both of its ends.
    tensors, biquadratic, slopes, onsite : arrays
        See :class:`SymmetricBonds`.
    crystal : Atoms
        Whose symmetry counts, without moments.
    symprec : float
        Tolerance of positions, A.
    """
    found = _operations(atoms, crystal, symprec)
    count = len(bonds)
    i, j, shift = bonds[:, 0], bonds[:, 1], bonds[:, 2:]
    first, second = found.sites[:, i], found.sites[:, j]
    moved = np.einsum("gab,pb->gpa", found.turns, shift).astype(int)
    moved = moved + found.cells[:, j] - found.cells[:, i]
    images = np.concatenate([first[..., None], second[..., None], moved], axis=2)
    turned = _turned(found.rotations, tensors)
    values = np.concatenate(
        [
            turned.reshape(-1, count, 9),
            np.broadcast_to(biquadratic[:, None], (len(turned), count, 1)),
            _turned(found.rotations, slopes).reshape(-1, count, 9),
        ],
        axis=2,
    ).reshape(-1, 19)
    every, number = np.unique(images.reshape(-1, 5), axis=0, return_inverse=True)
    means, spread = _means(values, number.reshape(-1), len(every))
    own = found.sites.reshape(-1)
    sites, site_spread = _means(
        _turned(found.rotations, onsite).reshape(-1, 9), own, len(atoms)
    )
    scale = max(np.abs(tensors).max(initial=0.0), np.abs(onsite).max(initial=0.0))
    apart = spread[:, :9].max(axis=1, initial=0.0)
    site_apart = site_spread.max(axis=1, initial=0.0)
    violation, worst = 0.0, ""
    if scale > 0:
        violation = max(apart.max(initial=0.0), site_apart.max(initial=0.0)) / scale
        if apart.max(initial=0.0) >= site_apart.max(initial=0.0):
            bond = every[apart.argmax()]
            worst = described(bond[0], bond[1], bond[2:])
        else:
            worst = f"site {site_apart.argmax()}"
    return SymmetricBonds(
        every,
        means[:, :9].reshape(-1, 3, 3),
        means[:, 9],
        means[:, 10:].reshape(-1, 3, 3),
        sites.reshape(-1, 3, 3),
        float(violation),
        worst,
    )


def _turned(rotations: np.ndarray, tensors: np.ndarray) -> np.ndarray:
    return np.einsum("gab,pbc,gdc->gpad", rotations, tensors, rotations, optimize=True)


def _means(
    values: np.ndarray, number: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (count, k) of values of the same number, and deviations."""
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, number, values)
    means = total / np.bincount(number, minlength=count)[:, None]
    spread = np.zeros_like(means)
    np.maximum.at(spread, number, np.abs(values - means[number]))
    return means, spread
