"""Lists of bonds: shapes, ends, duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

#: Numbers of a bond from both of its ends are the same if they differ by less than
#: this fraction of the largest.
SAME = 1e-6

#: The Levi-Civita symbol.
LEVI_CIVITA = np.cross(np.eye(3)[:, None], np.eye(3)[None]).transpose(2, 0, 1)


@dataclass(frozen=True)
class BondList:
    """Bonds, each from both of its ends, sorted by the first site and distance.

    Attributes
    ----------
    i, j : (P,) integer arrays
    shift : (P, 3) integer array
    tensors : (P, 3, 3) array, eV
    biquadratic : (P,) array, eV
    slopes : (P, 3, 3) array, eV/A
    one_sided : int
        How many bonds had been listed from one of their ends only.
    """

    i: np.ndarray
    j: np.ndarray
    shift: np.ndarray
    tensors: np.ndarray
    biquadratic: np.ndarray
    slopes: np.ndarray
    one_sided: int


def shaped(name: str, values: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return finite numbers of a shape; zeros for None.

    Raises
    ------
    ValueError
        If they have another shape or are not finite.
    """
    if values is None:
        return np.zeros(shape)
    array = np.array(values, dtype=float)
    if array.size == 0 and np.prod(shape) == 0:
        return array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _matrices(name: str, values: ArrayLike | None, count: int) -> np.ndarray:
    """Return (count, 3, 3) matrices of as many numbers or matrices."""
    array = None if values is None else np.asarray(values, dtype=float)
    if array is not None and array.ndim == 1:
        return shaped(name, array, (count,))[:, None, None] * np.eye(3)
    return shaped(name, array, (count, 3, 3))


def _whole(name: str, values: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(shape, dtype=np.int64)
    if array.dtype.kind not in "iuf" or (array != np.rint(array)).any():
        raise ValueError(f"{name} must be whole numbers")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array.astype(np.int64)


def described(i: int, j: int, shift: np.ndarray) -> str:
    """Return a bond in words."""
    return f"bond {int(i)}-{int(j)} ({', '.join(str(int(x)) for x in shift)})"


def completed(
    atoms: Atoms,
    i: ArrayLike,
    j: ArrayLike,
    shift: ArrayLike,
    tensors: ArrayLike,
    *,
    dm: ArrayLike | None = None,
    biquadratic: ArrayLike | None = None,
    slopes: ArrayLike | None = None,
    scale: np.ndarray,
) -> BondList:
    """Return a list of bonds with both ends of each.

    Parameters
    ----------
    atoms : Atoms
    i, j, shift, tensors, dm, biquadratic, slopes : arrays
        As for :class:`BondHamiltonian`.
    scale : (n,) array
        Numbers of bonds are multiplied with those of both sites.

    Raises
    ------
    ValueError
        As for :class:`BondHamiltonian`.
    """
    count = np.size(i)
    i, j = (_whole(name, x, (count,)) for name, x in (("i", i), ("j", j)))
    shift = _whole("shift", shift, (count, 3))
    _check_sites(atoms, i, j, shift)
    J = _matrices("tensors", tensors, count)
    J = J + np.einsum("pc,cab->pab", shaped("dm", dm, (count, 3)), LEVI_CIVITA)
    rest = shaped("biquadratic", biquadratic, (count,))
    slope = _matrices("slopes", slopes, count)
    size = scale[i] * scale[j]
    values = np.concatenate(
        [
            (J * size[:, None, None]).reshape(count, 9),
            (rest * size**2)[:, None],
            (slope * size[:, None, None]).reshape(count, 9),
        ],
        axis=1,
    )
    there = np.column_stack([i, j, shift])
    _check_once(there, values)
    back = np.column_stack([j, i, -shift])
    both, number = np.unique(np.concatenate([there, back]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    turned = np.concatenate([_transposed(values), values])
    forth = np.full((len(both), 19), np.nan)
    forth[number[:count]] = values
    mirrored = np.full((len(both), 19), np.nan)
    mirrored[number[count:]] = turned[:count]
    missing = np.isnan(forth[:, 0])
    alone = np.isnan(mirrored[:, 0])
    _check_ends(both, forth, mirrored)
    forth[missing] = mirrored[missing]
    mirrored[alone] = forth[alone]
    values = 0.5 * (forth + mirrored)
    i, j, shift = both[:, 0], both[:, 1], both[:, 2:]
    vectors = atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i]
    # Rounded, so that the order of equal bonds is not one of round-off.
    lengths = np.round(np.linalg.norm(vectors, axis=1), 4)
    order = np.lexsort((lengths, i))
    i, j, shift, values = (x[order] for x in (i, j, shift, values))
    return BondList(
        i,
        j,
        shift,
        values[:, :9].reshape(-1, 3, 3),
        values[:, 9],
        values[:, 10:].reshape(-1, 3, 3),
        int(missing.sum()),
    )


def _transposed(values: np.ndarray) -> np.ndarray:
    """Return numbers of bonds (P, 19) as seen from their other ends."""
    order = np.arange(9).reshape(3, 3).T.ravel()
    return values[:, np.concatenate([order, [9], 10 + order])]


def _check_sites(atoms: Atoms, i: np.ndarray, j: np.ndarray, shift: np.ndarray) -> None:
    n = len(atoms)
    wrong = (i < 0) | (i >= n) | (j < 0) | (j >= n)
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{described(i[k], j[k], shift[k])} joins a site that does not exist: "
            f"there are {n}, numbered from 0"
        )
    own = (i == j) & ~shift.any(axis=1)
    if own.any():
        k = int(i[own][0])
        raise ValueError(
            f"a bond joins site {k} with itself; energies of single sites are onsite, "
            "cubic and fields"
        )
    leaving = shift[:, ~atoms.pbc].any(axis=1)
    if leaving.any():
        k = int(np.flatnonzero(leaving)[0])
        raise ValueError(
            f"{described(i[k], j[k], shift[k])} leaves the cell in a direction that is "
            "not periodic; set atoms.pbc"
        )


def _check_once(bonds: np.ndarray, values: np.ndarray) -> None:
    """Raise ValueError if a bond is listed twice from the same end."""
    _, first, counts = np.unique(bonds, axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        bond = bonds[first[counts > 1][0]]
        rows = np.flatnonzero((bonds == bond).all(axis=1))
        alike = np.allclose(values[rows], values[rows[0]], rtol=SAME, atol=0.0)
        how = "" if alike else " with different numbers"
        raise ValueError(
            f"{described(bond[0], bond[1], bond[2:])} is listed {len(rows)} times"
            f"{how}; keep one of them, or their sum"
        )


def _check_ends(bonds: np.ndarray, forth: np.ndarray, back: np.ndarray) -> None:
    """Raise ValueError if a bond has different numbers from its two ends."""
    largest = np.nanmax(np.abs(forth), axis=0, initial=0.0)
    scale = np.concatenate(
        [np.full(9, largest[:9].max()), largest[9:10], np.full(9, largest[10:].max())]
    )
    apart = np.nan_to_num(np.abs(forth - back)) > SAME * scale
    if apart.any():
        k = int(np.flatnonzero(apart.any(axis=1))[0])
        raise ValueError(
            f"{described(bonds[k, 0], bonds[k, 1], bonds[k, 2:])} has other numbers "
            "from its other end, where tensors are transposed (D changes sign)"
        )


def averaged_ends(
    i: np.ndarray, j: np.ndarray, shift: np.ndarray, tensors: np.ndarray
) -> tuple[np.ndarray, float, int]:
    """Return tensors that are the same from both ends of bonds.

    Parameters
    ----------
    i, j : (P,) integer arrays
    shift : (P, 3) integer array
    tensors : (P, 3, 3) array

    Returns
    -------
    (P, 3, 3) array
        Means of both ends; those that are listed from one end stay.
    float
        Largest difference between two ends.
    int
        How many bonds are listed from one end only.
    """
    if not len(tensors):
        return tensors, 0.0, 0
    bonds = np.column_stack([i, j, shift])
    place = {tuple(bond): k for k, bond in enumerate(bonds.tolist())}
    back = np.column_stack([j, i, -shift])
    other = np.array([place.get(tuple(bond), -1) for bond in back.tolist()])
    alone = other < 0
    turned = np.where(alone[:, None, None], tensors, tensors[other].transpose(0, 2, 1))
    difference = float(np.abs(tensors - turned).max())
    return 0.5 * (tensors + turned), difference, int(alone.sum())
