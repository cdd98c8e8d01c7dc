"""Symmetric tilt boundaries of cubic crystals that carry a magnetic order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.neighborlist import neighbor_list
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .._validate import finite, positive, whole
from ..spins import Order, get_spins, set_spins


def symmetric_tilt_boundary(
    crystal: Atoms,
    plane: Sequence[int],
    *,
    axis: Sequence[int] = (0, 0, 1),
    thickness: int = 1,
    repeat: tuple[int, int] = (1, 1),
    shift: tuple[float, float] = (0.0, 0.0),
    expansion: float = 0.0,
    merge: float = 1.5,
    moments: Mapping[str, float] | None = None,
    pattern: ArrayLike | Order | None = None,
) -> Atoms:
    """Return a periodic cell with two equal symmetric tilt boundaries.

    The lower grain is the crystal with ``plane`` across z and ``axis`` along y; the
    upper one is the lower one rotated by 180 degrees about x, which for a cubic
    crystal is a tilt about ``axis``. For the plane (3, 1, 0) and the axis (0, 0, 1)
    it is Sigma 5, 36.87 degrees. The boundaries are at a quarter and at three
    quarters of the height.

    Parameters
    ----------
    crystal : Atoms
        Conventional cubic cell, edges along x, y and z.
    plane, axis : three integers
        Miller indices of the boundary and of the tilt axis within it.
    thickness : int
        Height of a grain, in periods along the normal of the plane.
    repeat : two integers
        Number of periods along x and along y (the axis).
    shift : two floats
        Displacement of the upper grain along x and y, in periods.
    expansion : float
        Distance by which the grains are moved apart at each boundary, A; negative to
        push them together.
    merge : float
        Atoms of one element closer than this, A, are merged into one in their middle,
        with the moment of the first of them.
    moments, pattern : optional
        As in :func:`deepspin_ase.set_spins`, for the crystal before it is rotated:
        each grain has the order in its own axes. Without moments there are none.

    Returns
    -------
    Atoms
        Periodic in three directions; an array ``grain`` holds 0 (lower), 1 (upper)
        or 2 (merged from both).

    Raises
    ------
    ValueError
        If the crystal is not cubic, the axis does not lie in the plane, numbers are
        not as described, the order does not repeat with the boundary, or atoms of
        different elements are closer than ``merge``.

    Examples
    --------
    >>> nio = bulk("NiO", "rocksalt", 4.186, cubic=True)
    >>> order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.186)
    >>> symmetric_tilt_boundary(nio, (3, 1, 0), repeat=(2, 2), moments={"Ni": 1.277},
    ...                         pattern=order)
    """
    directions = _directions(crystal, plane, axis)
    offset = _check_numbers(thickness, repeat, shift, expansion, merge)
    grain = _grain(crystal, directions, (*repeat, thickness), moments, pattern)
    upper = _rotated(grain)
    periods = crystal.cell[0, 0] * np.linalg.norm(directions, axis=1)
    upper.positions[:, :2] += offset * periods[:2]
    height = grain.cell[2, 2] + expansion
    if height <= 0.0:
        raise ValueError(
            f"expansion = {expansion} A leaves nothing of grains that are "
            f"{grain.cell[2, 2]:.3f} A high"
        )
    upper.positions[:, 2] += 2.0 * grain.cell[2, 2] + expansion
    both = grain + upper
    both.set_cell([grain.cell[0, 0], grain.cell[1, 1], 2.0 * height])
    both.positions[:, 2] -= 0.5 * height - 0.5 * expansion
    both.pbc = True
    both.new_array("grain", np.repeat([0, 1], [len(grain), len(upper)]))
    both.wrap()
    return _merged(both, merge)


def _directions(
    crystal: Atoms, plane: Sequence[int], axis: Sequence[int]
) -> np.ndarray:
    """Return integer vectors along x, y and z of the bicrystal, as rows."""
    if not isinstance(crystal, Atoms):
        raise TypeError(f"expected Atoms, got {type(crystal).__name__}")
    edge = crystal.cell[0, 0]
    if edge <= 0.0 or not np.allclose(crystal.cell, edge * np.eye(3), atol=1e-6 * edge):
        raise ValueError(
            "expected the conventional cell of a cubic crystal, edges along x, y and z "
            f"(such as bulk(..., cubic=True)), got the cell {crystal.cell.tolist()}"
        )
    normal, tilt = (_reduced(n, v) for n, v in (("plane", plane), ("axis", axis)))
    if normal @ tilt != 0:
        raise ValueError(
            f"the axis {tuple(tilt)} does not lie in the plane {tuple(normal)}: their "
            "scalar product must vanish"
        )
    return np.stack([_reduced("x", np.cross(tilt, normal)), tilt, normal])


def _reduced(name: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    vector = np.asarray(indices)
    if vector.dtype.kind not in "iuf":
        vector = np.zeros(0)
    if vector.shape != (3,) or not vector.any() or (vector != np.rint(vector)).any():
        raise ValueError(
            f"{name} must be three integers, not all zero, got {indices!r}"
        )
    whole = vector.astype(int)
    return whole // np.gcd.reduce(whole)


def _check_numbers(
    thickness: int,
    repeat: tuple[int, int],
    shift: tuple[float, float],
    expansion: float,
    merge: float,
) -> np.ndarray:
    """Return the shift, (2,)."""
    if np.shape(repeat) != (2,):
        raise ValueError(f"repeat must be two whole numbers, got {repeat!r}")
    for name, value in (("thickness", thickness), *(("repeat", r) for r in repeat)):
        whole(name, value, 1)
    positive("merge", merge)
    move = np.asarray(shift, dtype=float)
    if move.shape != (2,) or not np.isfinite(move).all():
        raise ValueError(f"shift must be two numbers, in periods, got {shift!r}")
    finite("expansion", expansion)
    return move


def _grain(
    crystal: Atoms,
    directions: np.ndarray,
    counts: tuple[int, int, int],
    moments: Mapping[str, float] | None,
    pattern: ArrayLike | Order | None,
) -> Atoms:
    """Return the lower grain, both end planes included, in the axes of the boundary."""
    bare = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
    block = make_supercell(bare, np.diag(counts) @ directions)
    block.wrap(eps=1e-6)
    top = block[abs(block.get_scaled_positions(wrap=False)[:, 2]) < 1e-6]
    top.positions += block.cell[2]
    block.extend(top)
    block.pbc = (True, True, False)
    if moments is not None:
        set_spins(block, moments, pattern=pattern)
    axes = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    block.set_cell(block.cell.array @ axes.T, scale_atoms=False)
    block.positions[:] = block.positions @ axes.T
    if moments is not None:
        set_spins(block, get_spins(block) @ axes.T)
    return block


def _rotated(grain: Atoms) -> Atoms:
    """Return a grain rotated by 180 degrees about x, with its moments."""
    signs = np.array([1.0, -1.0, -1.0])
    rotated = grain.copy()
    rotated.positions *= signs
    if rotated.has("initial_magmoms"):
        set_spins(rotated, get_spins(rotated) * signs)
    return rotated


def _merged(atoms: Atoms, distance: float) -> Atoms:
    """Return the atoms with those closer than ``distance`` (A) made one."""
    i, j, vectors = neighbor_list("ijD", atoms, distance)
    foreign = np.flatnonzero(atoms.numbers[i] != atoms.numbers[j])
    if len(foreign):
        a, b = atoms[i[foreign[0]]], atoms[j[foreign[0]]]
        raise ValueError(
            f"{a.symbol} and {b.symbol} are closer than merge = {distance} A at the "
            "boundary: choose another shift or expansion, or a smaller merge"
        )
    n = len(atoms)
    links = coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    _, cluster = connected_components(links, directed=False)
    _, first, counts = np.unique(cluster, return_index=True, return_counts=True)
    # Of each atom, the middle of the way to all its partners and itself.
    middle = np.zeros((n, 3))
    np.add.at(middle, i, vectors)
    merged = atoms[first]
    merged.positions += middle[first] / counts[:, None]
    merged.arrays["grain"][counts > 1] = 2
    return merged
