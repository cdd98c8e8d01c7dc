"""Symmetry-distinct collinear orders of a crystal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from ._groups import crystal_symmetry, site_permutations
from ._spglib import SYMPREC

#: Magnetic atoms up to which all patterns of signs are tried.
MAX_ENUMERATED = 16


def collinear_patterns(
    atoms: Atoms, sites: np.ndarray, *, most: int, symprec: float = SYMPREC
) -> list[np.ndarray]:
    """Return symmetry-distinct signs of the magnetic sites, the most symmetric first.

    Two patterns are one if a symmetry of the crystal without moments, or the
    reversal of all moments, maps one onto the other. Up to 16 sites all 2^(M-1)
    patterns are compared; with more, the signs of plane waves whose wave vectors
    are up to twice those of the cell.

    Parameters
    ----------
    atoms : Atoms
    sites : (M,) integers
        The magnetic atoms.
    most : int
        Largest number of patterns.
    symprec : float
        Tolerance of the symmetry search, A.

    Returns
    -------
    list of (M,) arrays
        +1 or -1; those with the fewest equivalents first, the ferromagnet at the head.
    """
    scaled, rotations, shifts = crystal_symmetry(atoms, symprec=symprec)
    permutations = site_permutations(scaled[sites], rotations, shifts)[1]
    candidates = (
        _all_signs(len(sites))
        if len(sites) <= MAX_ENUMERATED
        else _waves(scaled[sites])
    )
    seen: set[bytes] = set()
    found: list[tuple[int, np.ndarray]] = []
    for signs in candidates:
        if signs.tobytes() in seen:
            continue
        images = signs[permutations]
        images *= images[:, :1]
        orbit = {image.tobytes() for image in images}
        seen |= orbit
        found.append((len(orbit), signs))
    found.sort(key=lambda entry: (entry[0], -abs(int(entry[1].sum()))))
    return [signs for _, signs in found[:most]]


def _all_signs(count: int) -> Iterator[np.ndarray]:
    for number in range(2 ** (count - 1)):
        bits = (number >> np.arange(count - 1)) & 1
        yield np.concatenate([[1], 1 - 2 * bits]).astype(np.int8)


def _waves(scaled: np.ndarray) -> Iterator[np.ndarray]:
    scaled = scaled - scaled[0]
    harmonics = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1)
    for harmonic in harmonics.reshape(-1, 3):
        # A shift of the phase keeps sites off the nodes.
        wave = np.cos(2.0 * np.pi * (scaled @ harmonic + 1.0 / 32.0))
        yield np.where(wave * wave[0] > 0, 1, -1).astype(np.int8)
