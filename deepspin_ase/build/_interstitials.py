"""Interstitial sites of crystals: holes between atoms, and those by their form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import ArrayLike
from scipy.optimize import nnls
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import QhullError, Voronoi, cKDTree

KINDS = ("octahedral", "tetrahedral", "void")

#: The next atoms are farther than those of a polyhedron by this factor.
_GAP = 1.1

#: Deviations of vectors from opposite, relative to their length.
_OPPOSITE = 0.2

#: Largest cosine between the diagonals of an octahedron: 0.1 in hcp zinc.
_CROSSED = 0.25

#: Sites nearer than this part of the distance between neighbors are one.
_SAME = 0.1

#: The boundary of the cell, in scaled coordinates: no site of a crystal lies there.
_EDGE = 1.37e-4

#: Distance from atoms that a site has at least, A.
_TOO_NEAR = 0.5

#: Trials of an arrangement with a minimal distance.
_TRIALS = 100


def interstitial_sites(atoms: Atoms, kind: str = "void") -> np.ndarray:
    """Return the interstitial sites of a crystal, (n, 3), A.

    Octahedral sites are the centers of six atoms at the ends of three crossed
    diagonals, with no others near: 6 in the cubic cell of bcc, 4 of fcc, 2 in the cell
    of hcp. Tetrahedral sites have the same distance from four atoms around them, and
    a longer one from others: 12, 8 and 4. Voids are all points where the distance from
    the nearest atoms has a maximum. They are corners of Voronoi cells with atoms on all
    sides, whatever these are: octahedral and tetrahedral sites in fcc, tetrahedral ones
    alone in bcc, the middle of the eight atoms around it in rock salt. All are told by
    the distances of atoms at rest: where atoms vibrate, find sites before.

    Parameters
    ----------
    atoms : Atoms
        With any number of periodic directions.
    kind : {"octahedral", "tetrahedral", "void"}

    Raises
    ------
    ValueError
        If the kind is unknown, or there are no such sites.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    around, corners, ridges = _voronoi(atoms)
    tree = cKDTree(around)
    spacing = tree.query(atoms.positions, k=2)[0][:, 1].min()
    corners = _merged(corners, 1e-3 * spacing)
    if kind == "octahedral":
        points = np.concatenate([corners, around[ridges].mean(axis=1)])
        points = _octahedra(points[_near_cell(points, atoms)], tree)
    else:
        points = corners[_near_cell(corners, atoms)]
        points = points[_is_surrounded(points, tree, 1e-2 * spacing)]
        if kind == "tetrahedral":
            distances, _ = tree.query(points, k=5)
            points = points[
                (distances[:, 3] < 1.01 * distances[:, 0])
                & (distances[:, 4] > _GAP * distances[:, 3])
            ]
    points = _merged(points, _SAME * spacing)
    points = points[_near_cell(points, atoms, margin=None)]
    if not len(points):
        raise ValueError(
            f"{atoms.get_chemical_formula()} has no {kind} sites"
            + ("" if kind == "void" else ": take 'void', or give positions")
        )
    scaled = np.round(atoms.cell.scaled_positions(points), 6)
    return points[np.lexsort(scaled.T)]


def _voronoi(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return atoms with images (M, 3), Voronoi corners (V, 3) and faces (R, 2).

    Images reach as far as atoms may be from the corners in the cell, twice over.
    """
    reach = 0.0
    farther = 6.0
    while farther > reach:
        reach = farther
        around = _with_images(atoms, reach)
        try:
            voronoi = Voronoi(around)
        except (QhullError, ValueError):
            raise ValueError(
                "there are no interstitial sites between atoms of a plane, or fewer "
                "than five atoms"
            ) from None
        corners = voronoi.vertices[_near_cell(voronoi.vertices, atoms)]
        farther = 2.0 * cKDTree(around).query(corners)[0].max(initial=0.0)
    return around, voronoi.vertices, voronoi.ridge_points


def _with_images(atoms: Atoms, reach: float) -> np.ndarray:
    """Return positions (M, 3) of the atoms in the cell and of images within a reach."""
    cell = atoms.cell.complete()
    scaled = cell.scaled_positions(atoms.positions)
    scaled[:, atoms.pbc] %= 1.0
    margins = np.where(atoms.pbc, reach * np.linalg.norm(cell.reciprocal(), axis=1), 0)
    counts = np.ceil(margins).astype(int)
    shifts = np.indices(tuple(2 * counts + 1)).reshape(3, -1).T - counts
    images = (scaled[None] + shifts[:, None]).reshape(-1, 3)
    kept = ~atoms.pbc | ((images > -margins) & (images < 1.0 + margins))
    return cell.cartesian_positions(images[kept.all(axis=1)])


def _near_cell(
    points: np.ndarray, atoms: Atoms, margin: float | None = 1.0
) -> np.ndarray:
    """Return which points (n,) lie in the cell, or as far as ``margin`` from it, A."""
    cell = atoms.cell.complete()
    scaled = cell.scaled_positions(points)
    if margin is None:
        inside = (scaled >= -_EDGE) & (scaled < 1.0 - _EDGE)
    else:
        margins = margin * np.linalg.norm(cell.reciprocal(), axis=1)
        inside = (scaled > -margins) & (scaled < 1.0 + margins)
    return (inside | ~atoms.pbc).all(axis=1)


def _merged(points: np.ndarray, distance: float) -> np.ndarray:
    """Return the means (n, 3) of points that are nearer to each other than that."""
    pairs = cKDTree(points).query_pairs(distance, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=[len(points)] * 2)
    count, group = connected_components(graph, directed=False)
    sums = np.zeros((count, 3))
    np.add.at(sums, group, points)
    return sums / np.bincount(group, minlength=count)[:, None]


def _octahedra(points: np.ndarray, tree: cKDTree) -> np.ndarray:
    """Return the centers (n, 3) of the octahedra of the six atoms nearest to points."""
    if tree.n < 6:
        return np.empty((0, 3))
    distances, nearest = tree.query(points, k=7)
    vectors = tree.data[np.minimum(nearest[:, :6], tree.n - 1)] - points[:, None]
    centers = points + vectors.mean(axis=1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=2)
    sums = np.linalg.norm(vectors[:, :, None] + vectors[:, None], axis=3)
    partner = sums.argmin(axis=2)
    is_pair = (np.take_along_axis(partner, partner, axis=1) == np.arange(6)).all(axis=1)
    is_pair &= (sums.min(axis=2) < _OPPOSITE * lengths).all(axis=1)
    units = vectors / np.maximum(lengths, 1e-9)[..., None]
    cosines = abs(np.einsum("nix,njx->nij", units, units))
    others = ~np.eye(6, dtype=bool) & (np.arange(6) != partner[:, :, None])
    is_crossed = np.where(others, cosines, 0.0).max(axis=(1, 2)) < _CROSSED
    is_alone = distances[:, 6] > _GAP * distances[:, 5]
    return centers[is_pair & is_crossed & is_alone]


def _is_surrounded(points: np.ndarray, tree: cKDTree, tolerance: float) -> np.ndarray:
    """Return which points (n,) lie between the atoms that are nearest to them.

    The point is then a sum of their positions with weights that are positive.
    """
    distances, nearest = tree.query(points, k=min(24, tree.n))
    found = np.zeros(len(points), dtype=bool)
    for k, own in enumerate(distances < distances[:, :1] + tolerance):
        vectors = (tree.data[nearest[k, own]] - points[k]) / distances[k, 0]
        rows = np.vstack([vectors.T, np.ones(own.sum())])
        found[k] = nnls(rows, np.array([0.0, 0.0, 0.0, 1.0]))[1] < 1e-3
    return found


def draw_sites(
    sites: np.ndarray,
    atoms: Atoms,
    wanted: Sequence[tuple[np.ndarray, int]],
    min_distance: float,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Draw sites, one after the other, each far enough from those before.

    Parameters
    ----------
    sites : (n, 3) array, A
    atoms : Atoms
        Cell and periodicity.
    wanted : sequence of (indices, count)
        How many of which sites, one entry a species.
    min_distance : float, A
    rng : numpy Generator

    Returns
    -------
    list of (count,) arrays
        Indices of the sites.

    Raises
    ------
    ValueError
        If so many are not found in 100 trials.
    """
    total = sum(count for _, count in wanted)
    points = Atoms(f"X{len(sites)}", sites, cell=atoms.cell, pbc=atoms.pbc)
    i, j = neighbor_list("ij", points, max(min_distance, _TOO_NEAR))
    starts = np.searchsorted(i, np.arange(len(sites) + 1))
    most = 0
    for _ in range(_TRIALS):
        is_free = np.ones(len(sites), dtype=bool)
        is_free[i[i == j]] = False  # its own image is too near
        drawn = []
        for indices, count in wanted:
            own: list[int] = []
            for site in rng.permutation(indices):
                if len(own) == count:
                    break
                if is_free[site]:
                    own.append(site)
                    is_free[[site, *j[starts[site] : starts[site + 1]]]] = False
            drawn.append(np.array(own, dtype=int))
        found = sum(map(len, drawn))
        if found == total:
            return drawn
        most = max(most, found)
    raise ValueError(
        f"{most} of {total} interstitial atoms found sites {min_distance:g} A from "
        "each other: take smaller shares, or a smaller min_distance"
    )


def given_sites(name: str, positions: ArrayLike, atoms: Atoms) -> np.ndarray:
    """Return positions (n, 3) that were given as sites.

    Raises
    ------
    ValueError
        If they are none, or two of them or an atom are within 0.5 A.
    """
    found = np.asarray(positions, dtype=float)
    if found.ndim != 2 or found.shape[1] != 3 or not np.isfinite(found).all():
        raise ValueError(f"the positions of {name!r} must be rows of three numbers")
    here = np.concatenate([atoms.positions, found])
    both = Atoms(f"X{len(here)}", here, cell=atoms.cell, pbc=atoms.pbc)
    i, j = neighbor_list("ij", both, _TOO_NEAR)
    clashing = (i < j) & (j >= len(atoms))
    if clashing.any():
        first, second = i[clashing][0], j[clashing][0] - len(atoms)
        other = (
            f"atom {first}" if first < len(atoms) else f"position {first - len(atoms)}"
        )
        raise ValueError(
            f"position {second} of {name!r} is within {_TOO_NEAR} A of {other}"
        )
    return found
