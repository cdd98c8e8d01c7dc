"""Initial paths between two structures and magnetic orders."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from functools import partial
from numbers import Integral

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep.neb import NEB, idpp_interpolate
from numpy.typing import ArrayLike

from ..._rotations import perpendicular, rotate, rotations_between
from ...spins import get_spins, set_spins, unit_vector
from .._joint_space import displacement

#: Spins this close to antiparallel, rad, rotate about a common axis: their great
#: circle is noise.
_OPPOSITE = 0.02


def interpolate(
    initial: Atoms,
    final: Atoms,
    n_images: int,
    *,
    via: Sequence[ArrayLike] | None = None,
    axis: str | ArrayLike | None = None,
    positions: str = "linear",
    mic: bool = True,
) -> list[Atoms]:
    """Return images evenly spaced from ``initial`` to ``final``, both included.

    Spins rotate along great circles, at a common pace, and their lengths change
    linearly; a moment that one end does not have grows along the direction of the
    other. Cells that differ change linearly, and atoms with them at linear
    fractional coordinates.

    Parameters
    ----------
    initial, final : Atoms
        The same atoms in the same order, with moments.
    n_images : int
        Number of images in all, at least 3.
    via : sequence of (N, 3) arrays, optional
        Moments of orders to pass through; only their directions count. Images are
        spaced evenly by the root sum of squares of the angles.
    axis : (3,) array or str, optional
        About which spins rotate whose ends are antiparallel, right-handed. By default
        one that is across all of them, as far as there is one.
    positions : {"linear", "idpp"}
        Straight lines, or the image dependent pair potential (Smidstrup, Pedersen,
        Stokbro, Jonsson, J. Chem. Phys. 140, 214106 (2014), doi:10.1063/1.4878664).
    mic : bool
        Move atoms to the nearest periodic image of where they end.

    Returns
    -------
    list of Atoms
        Copies of ``initial``, its constraints included. They share its calculator,
        unless that only keeps results from a file.

    Raises
    ------
    ValueError
        If the ends have different atoms or periodic directions, an end has no
        moments, ``axis`` is along a spin that should rotate about it, or arguments
        are not as described.
    """
    _check(initial, final, n_images, positions)
    knots = [get_spins(initial), *_orders(initial, via), get_spins(final)]
    fractions = np.linspace(0.0, 1.0, n_images)
    lengths = [np.linalg.norm(knots[k], axis=1, keepdims=True) for k in (0, -1)]
    directions = _directions(knots, fractions, axis)
    cells = [initial.cell.array, final.cell.array]
    whole = displacement(initial, final, mic=mic)
    images = []
    for t, direction in zip(fractions, directions, strict=True):
        image = initial.copy()
        _place(image, t, cells, whole)
        set_spins(image, ((1.0 - t) * lengths[0] + t * lengths[1]) * direction)
        images.append(image)
    if positions == "idpp":
        neb = NEB(images, method="improvedtangent")
        idpp_interpolate(neb, traj=None, log=None, mic=mic)
    shared = None if isinstance(initial.calc, SinglePointCalculator) else initial.calc
    for image in images:
        image.calc = shared
    return images


def _check(initial: Atoms, final: Atoms, n_images: int, positions: str) -> None:
    check_same_atoms([initial, final])
    if not isinstance(n_images, Integral) or n_images < 3:
        raise ValueError(
            f"a path needs a whole number of at least 3 images, got {n_images!r}"
        )
    if positions not in ("linear", "idpp"):
        raise ValueError(f"positions must be 'linear' or 'idpp', got {positions!r}")
    if positions == "idpp" and not np.allclose(
        initial.cell.array, final.cell.array, rtol=0.0, atol=1e-8
    ):
        raise ValueError(
            "positions='idpp' needs ends of one cell; use 'linear' where it changes"
        )


def check_same_atoms(images: Sequence[Atoms]) -> None:
    """Raise TypeError or ValueError unless images are of the same atoms in order."""
    first = images[0]
    for k, image in enumerate(images):
        if not isinstance(image, Atoms):
            raise TypeError(f"image {k} should be Atoms, got {type(image).__name__}")
        if not (np.isfinite(image.positions).all() and np.isfinite(image.cell).all()):
            raise ValueError(f"positions or cell of image {k} are not finite")
        if len(image) != len(first):
            raise ValueError(
                f"image {k} has {len(image)} atoms and image 0 has {len(first)}; a "
                "path needs the same atoms"
            )
        differ = np.flatnonzero(image.numbers != first.numbers)
        if len(differ):
            raise ValueError(
                f"atom {differ[0]} is {image[differ[0]].symbol} in image {k} and "
                f"{first[differ[0]].symbol} in image 0: sort the atoms alike"
            )
        if (image.pbc != first.pbc).any():
            raise ValueError(f"image {k} has another pbc than image 0")


def _orders(initial: Atoms, via: Sequence[ArrayLike] | None) -> list[np.ndarray]:
    if isinstance(via, (str, Atoms)):
        raise TypeError(f"via takes moments (N, 3) of several orders, got {via!r}")
    orders = [np.asarray(order, dtype=float) for order in (() if via is None else via)]
    for order in orders:
        if order.shape != (len(initial), 3) or not np.isfinite(order).all():
            raise ValueError(
                f"each order of via must be finite moments of shape "
                f"({len(initial)}, 3), got {order.shape}"
            )
    return orders


def _place(image: Atoms, t: float, cells: list[np.ndarray], whole: np.ndarray) -> None:
    """Move the cell and the atoms of a copy of the initial structure."""
    if np.array_equal(cells[0], cells[1]):
        image.positions += t * whole
        return
    fractions = image.cell.scaled_positions(image.positions)
    mean = image.cell.new(0.5 * (cells[0] + cells[1]))
    fractions = fractions + t * mean.scaled_positions(whole)
    image.set_cell((1.0 - t) * cells[0] + t * cells[1])
    image.positions[:] = image.cell.cartesian_positions(fractions)


def _directions(
    knots: list[np.ndarray], fractions: np.ndarray, axis: str | ArrayLike | None
) -> list[np.ndarray]:
    """Return unit vectors (N, 3) at each of the fractions of the whole way."""
    knots = _with_directions(knots)
    pairs = itertools.pairwise(knots)
    legs = [*itertools.starmap(partial(_Leg, axis=axis), pairs)]
    lengths = np.array([leg.length for leg in legs])
    if lengths.sum() == 0.0:
        lengths[:] = 1.0
    ends = np.cumsum(lengths) / lengths.sum()
    starts = ends - lengths / lengths.sum()
    found = []
    for t in fractions:
        k = min(int(np.searchsorted(ends, t - 1e-12)), len(legs) - 1)
        found.append(legs[k].at((t - starts[k]) / (ends[k] - starts[k])))
    return found


def _with_directions(knots: list[np.ndarray]) -> list[np.ndarray]:
    """Return unit vectors; where one is missing, the nearest knot's before it.

    Where there is none before, the first after it.
    """
    units = []
    for moments in knots:
        length = np.linalg.norm(moments, axis=1, keepdims=True)
        units.append(moments / np.where(length > 0.0, length, 1.0))
    for order in (range(1, len(units)), range(len(units) - 2, -1, -1)):
        for k in order:
            source = units[k - 1] if order.step == 1 else units[k + 1]
            missing = ~units[k].any(axis=1)
            units[k][missing] = source[missing]
    return units


class _Leg:
    """Great circles from unit vectors (N, 3) to others."""

    def __init__(
        self, start: np.ndarray, end: np.ndarray, *, axis: str | ArrayLike | None
    ) -> None:
        self.start = start
        rotations = rotations_between(start, end)
        opposite = np.linalg.norm(rotations, axis=1) > np.pi - _OPPOSITE
        self.halves = np.zeros_like(rotations)
        if opposite.any():
            self.halves[opposite] = np.pi * _common_axis(start, opposite, axis)
            # The rest of the way after half a rotation.
            rotations[opposite] = rotations_between(-start[opposite], end[opposite])
        self.rotations = rotations
        self.length = float(np.sqrt(np.sum(self.halves**2) + np.sum(rotations**2)))

    def at(self, t: float) -> np.ndarray:
        """Return the directions at the fraction ``t`` of the way."""
        return rotate(rotate(self.start, t * self.halves), t * self.rotations)


def _common_axis(
    start: np.ndarray, opposite: np.ndarray, axis: str | ArrayLike | None
) -> np.ndarray:
    """Return the axes (M, 3), across each, of the M spins that reverse."""
    spins = start[opposite]
    if axis is None:
        squares, vectors = np.linalg.eigh(spins.T @ spins)
        collinear = squares[1] < 1e-9 * squares[2]
        common = perpendicular(vectors[:, 2]) if collinear else vectors[:, 0]
        shown = ", ".join(f"{x + 0.0:.3f}" for x in common.round(3))
        warnings.warn(
            f"{len(spins)} spins are antiparallel at the ends and rotate about the "
            f"axis ({shown}); give axis for another way",
            stacklevel=5,
        )
    else:
        common = unit_vector(axis)
    across = common - spins * (spins @ common)[:, None]
    length = np.linalg.norm(across, axis=1)
    along = length < 1e-3
    if axis is not None and along.any():
        raise ValueError(
            f"axis {common} is along the spin of atom "
            f"{np.flatnonzero(opposite)[along][0]}, which should rotate about it: "
            "choose one across the spins"
        )
    across[along] = perpendicular(spins[along])
    return across / np.linalg.norm(across, axis=1, keepdims=True)
