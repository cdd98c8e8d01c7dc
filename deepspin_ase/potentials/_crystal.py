"""Which atom of a structure stands on which site of a crystal.

A structure is recognized as a supercell of the crystal's cell, strained or not, moved
as a whole or not, with atoms near their sites in any order. Sites may be empty:
vacancies, and atoms of elements that the crystal does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Generic, TypeVar

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

from ..system import System

#: Largest strain, or rotation, of a structure against the crystal.
MAX_STRAIN = 0.25

#: Atoms are on a site if they are closer to it than this fraction of the distance of
#: the nearest two sites.
NEAR = 0.45

#: Sites closer than this, A, share a place: the species of an alloy.
_ONE_PLACE = 0.01

#: Systems whose sites are kept.
_KEPT = 4


@dataclass(frozen=True)
class Crystal:
    """Sites of a cell.

    Attributes
    ----------
    cell : (3, 3) array, A
    pbc : (3,) bool array
    numbers : (n,) integer array
        Atomic numbers.
    positions : (n, 3) array, A
    owner : str
        What it is the crystal of, for messages.
    source : str
        Where users find its cell, for messages.
    """

    cell: np.ndarray
    pbc: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    owner: str = "exchange table"
    source: str = "hamiltonian.atoms"

    @cached_property
    def places(self) -> np.ndarray:
        """(n,) numbers of the places of the sites: of an alloy's species the same."""
        cell = complete_cell(self.cell)
        scaled = np.linalg.solve(cell.T, self.positions.T).T
        home, images, owners = _images(scaled, cell, self.pbc)
        close = cKDTree(images).query_ball_point(home, _ONE_PLACE)
        first = np.array([owners[found].min() for found in close])
        return np.unique(first, return_inverse=True)[1]


@dataclass(frozen=True)
class Placement:
    """Atoms on the sites of a crystal.

    Attributes
    ----------
    atoms : (m,) integer array
        The atoms that are on sites, ascending.
    sites : (m,) integer array
        Their sites.
    cells : (m, 3) integer array
        Cells of the crystal in which they are as they stand, not wrapped.
    supercell : (3, 3) integer array
        Rows: lattice vectors of the structure in those of the crystal. Directions
        that are not periodic are long enough for all atoms.
    reference : (3, 3) array, A
        Lattice vectors of the crystal as they were taken for this structure.
    scaled : (n, 3) array
        Positions of the sites in these.
    spacing : float
        Shortest distance between sites, A.
    """

    atoms: np.ndarray
    sites: np.ndarray
    cells: np.ndarray
    supercell: np.ndarray
    reference: np.ndarray
    scaled: np.ndarray
    spacing: float

    def holds(self, cell: np.ndarray, pbc: np.ndarray, positions: np.ndarray) -> bool:
        """Return whether atoms that moved and a strained cell leave it as it is.

        Parameters
        ----------
        cell : (3, 3) array, A
        pbc : (3,) bool array
        positions : (N, 3) array, A
            Of all atoms of the structure.
        """
        full = np.where(pbc[:, None], cell, self.supercell @ self.reference)
        deformed = np.linalg.solve(self.supercell.astype(float), full)
        strain = np.linalg.solve(self.reference, deformed) - np.eye(3)
        if np.abs(strain).max() > MAX_STRAIN:
            return False
        places = np.linalg.solve(deformed.T, positions[self.atoms].T).T
        moved = places - self.scaled[self.sites] - self.cells
        moved = (moved - moved.mean(axis=0)) @ deformed
        return bool(np.linalg.norm(moved, axis=1).max() < NEAR * self.spacing)

    def neighbors(
        self, i: np.ndarray, j: np.ndarray, shift: np.ndarray, pbc: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the pairs of atoms that bonds between sites join.

        Parameters
        ----------
        i, j : (P,) integer arrays
            Sites of the bonds.
        shift : (P, 3) integer array
            Cells of the crystal between them.
        pbc : (3,) bool array
            Periodic directions of the structure: others have no images.

        Returns
        -------
        (E,), (E,), (E,) integer arrays
            Atoms, and the bond of each pair; bonds to empty sites are left out.
        (E, 3) integer array
            Lattice translations of the second atoms, in those of the structure.
        """
        order = np.argsort(self.sites, kind="stable")
        bounds = np.searchsorted(self.sites[order], np.arange(len(self.scaled) + 1))
        members = [order[a:b] for a, b in pairwise(bounds)]
        first = [members[site] for site in i]
        bond = np.repeat(np.arange(len(i)), [len(x) for x in first])
        start = np.concatenate([*first, np.zeros(0, dtype=int)])
        target = self.cells[start] + shift[bond]
        keys = self._keys(self.cells, self.sites)
        sought = self._keys(target, j[bond])
        ranks = np.argsort(keys, kind="stable")
        place = np.searchsorted(keys[ranks], sought)
        place = np.minimum(place, len(keys) - 1)
        end = ranks[place]
        found = keys[end] == sought
        adjugate, determinant = _adjugate(self.supercell)
        images = (target - self.cells[end]) @ adjugate // determinant
        found &= (images[:, ~pbc] == 0).all(axis=1)
        bond, start, end, images = (x[found] for x in (bond, start, end, images))
        by_atom = np.lexsort((bond, start))
        bond, start, end, images = (x[by_atom] for x in (bond, start, end, images))
        return self.atoms[start], self.atoms[end], bond, images

    def _keys(self, cells: np.ndarray, sites: np.ndarray) -> np.ndarray:
        """Return numbers (m,) of sites in cells, the same for periodic images."""
        adjugate, determinant = _adjugate(self.supercell)
        size = abs(determinant)
        x, y, z = (cells @ adjugate % size).T
        return ((x * size + y) * size + z) * len(self.scaled) + sites


@dataclass(frozen=True, eq=False)
class Occupation:
    """Atoms of a System on the sites of a crystal.

    Attributes
    ----------
    seen : System
        For which they were found, on the CPU in float64.
    placements : list of Placement
        Of each structure; equal structures that follow each other share one.
    """

    seen: System
    placements: list[Placement]

    @classmethod
    def find(cls, crystal: Crystal, system: System) -> Occupation:
        """Place the atoms of every structure; raises as :func:`place`."""
        seen = system.detach().to("cpu", torch.float64).clone()
        placements: list[Placement] = []
        before: tuple[np.ndarray, ...] = ()
        for one in seen:
            arrays = one.cell[0], one.pbc[0], one.species, one.positions
            given = tuple(x.numpy() for x in arrays)
            if not (before and all(map(np.array_equal, given, before))):
                placement = place(crystal, *given)
            placements.append(placement)
            before = given
        return Occupation(seen, placements)

    def holds(self, system: System) -> bool:
        """Return whether the atoms of another System are on the same sites."""
        seen = self.seen
        if seen.positions.shape != system.positions.shape:
            return False
        now = system.detach().to("cpu", torch.float64)
        if not (
            torch.equal(seen.species, now.species)
            and torch.equal(seen.index, now.index)
            and torch.equal(seen.pbc, now.pbc)
        ):
            return False
        if torch.equal(seen.positions, now.positions) and torch.equal(
            seen.cell, now.cell
        ):
            return True
        parts = zip(self.placements, now.slices(), strict=True)
        positions, cell, pbc = (x.numpy() for x in (now.positions, now.cell, now.pbc))
        return all(
            placement.holds(cell[k], pbc[k], positions[own])
            for k, (placement, own) in enumerate(parts)
        )


Found = TypeVar("Found", bound=Occupation)


class OccupationCache(Generic[Found]):
    """Occupations of the latest structures; copies of it start empty."""

    def __init__(self) -> None:
        self._found: list[Found] = []

    def get(self, system: System, find: Callable[[], Found]) -> Found:
        """Return what was found for these sites, or find it."""
        for found in self._found:
            if found.holds(system):
                return found
        new = find()
        self._found = [new, *self._found[: _KEPT - 1]]
        return new

    def __reduce__(self) -> tuple[type[OccupationCache[Found]], tuple[()]]:
        """Copy and store it without what was found."""
        return type(self), ()


def _adjugate(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """Return det(M) M^-1 and det(M) of an integer matrix, exactly."""
    a, b, c = matrix.astype(np.int64)
    adjugate = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
    return adjugate, int(a @ np.cross(b, c))


def place(
    crystal: Crystal,
    cell: np.ndarray,
    pbc: np.ndarray,
    numbers: np.ndarray,
    positions: np.ndarray,
) -> Placement:
    """Find the sites of the atoms of a structure.

    Atoms of elements that the crystal does not have are on no site.

    Parameters
    ----------
    crystal : Crystal
    cell : (3, 3) array, A
    pbc : (3,) bool array
    numbers : (N,) integer array
    positions : (N, 3) array, A

    Returns
    -------
    Placement

    Raises
    ------
    ValueError
        If the structure is not a supercell of the crystal, or an atom is on no site.
    """
    atoms = np.flatnonzero(np.isin(numbers, crystal.numbers))
    if not len(atoms):
        raise ValueError(
            f"none of the atoms is of an element of the {crystal.owner}: "
            f"{_elements(crystal.numbers)}"
        )
    twins = cKDTree(positions[atoms]).query_pairs(_ONE_PLACE, output_type="ndarray")
    if len(twins):
        first, second = atoms[twins[0]]
        raise ValueError(
            f"atoms {first} and {second} are at one place: a structure of an alloy has "
            "one of its species there, as `hamiltonian.disordered` draws them"
        )
    reference = _lattice(crystal, cell, pbc)
    full, fixed = _completed(reference, cell, pbc, positions[atoms])
    scaled = np.linalg.solve(reference.T, crystal.positions.T).T
    distinct = np.unique(crystal.places, return_index=True)[1]
    per_cell = len(atoms) / len(distinct)
    supercell = _supercell(crystal, reference, full, fixed, per_cell)
    deformed = np.linalg.solve(supercell.astype(float), full)
    places = np.linalg.solve(deformed.T, positions[atoms].T).T
    spacing = _spacing(scaled[distinct], deformed, crystal.pbc)
    best = None
    for origin in _origins(crystal, scaled, places, numbers[atoms], deformed):
        found = _assign(crystal, scaled, places - origin, numbers[atoms], deformed)
        sites, cells, moved = found
        placement = Placement(
            atoms, sites, cells, supercell, reference, scaled, spacing
        )
        off = np.linalg.norm(moved, axis=1)
        _, first, counts = np.unique(
            placement._keys(cells, crystal.places[sites]),
            return_index=True,
            return_counts=True,
        )
        if off.max() < NEAR * spacing and counts.max() == 1:
            return placement
        if best is None or off.max() < best[0]:
            reason = (
                f"atom {atoms[off.argmax()]} is {off.max():.2f} A from the nearest "
                "site of its element"
            )
            if off.max() < NEAR * spacing:
                taken = int(atoms[first[counts.argmax()]])
                reason = f"atom {taken} shares its place with another one"
            best = off.max(), reason
    assert best is not None
    raise ValueError(
        f"the structure is not a supercell of the {crystal.owner}'s crystal: "
        f"{best[1]}. Build it from its cell, `{crystal.source}`, with its order of "
        "cell vectors"
    )


def _elements(numbers: np.ndarray) -> str:
    return ", ".join(chemical_symbols[z] for z in np.unique(numbers))


def _lattice(crystal: Crystal, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Return the crystal's lattice vectors, completed for a structure.

    Where the crystal is not periodic and the structure is, its vector is taken.
    """
    rows = np.where(crystal.pbc[:, None], crystal.cell, 0.0)
    taken = ~crystal.pbc & pbc
    return complete_cell(np.where(taken[:, None], cell, rows))


def _completed(
    reference: np.ndarray, cell: np.ndarray, pbc: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, dict[int, int]]:
    """Return a structure's cell, long enough for all atoms where it is not periodic.

    With the repetitions of the crystal's vectors in these directions.
    """
    scaled = np.linalg.solve(reference.T, positions.T).T
    counts = np.ceil(np.ptp(scaled, axis=0)).astype(int) + 2
    fixed = {int(k): int(counts[k]) for k in np.flatnonzero(~pbc)}
    full = np.array(cell, dtype=float)
    for axis, count in fixed.items():
        full[axis] = count * reference[axis]
    return full, fixed


def _supercell(
    crystal: Crystal,
    reference: np.ndarray,
    cell: np.ndarray,
    fixed: dict[int, int],
    count: float,
) -> np.ndarray:
    """Return the integer matrix of a structure's vectors in those of the crystal.

    Parameters
    ----------
    crystal : Crystal
    reference, cell : (3, 3) arrays, A
    fixed : dict
        Repetitions along directions that are not periodic.
    count : float
        Atoms per site: the number of cells, where no site is empty.
    """
    found = cell @ np.linalg.inv(reference)
    candidates = [np.rint(found)]
    if not fixed:
        scale = abs(np.linalg.det(found) / count) ** (1 / 3)
        candidates.append(np.rint(found / scale))
        whole = round(count)
        if abs(count - whole) < 1e-9:
            divisors = [k for k in range(1, whole + 1) if whole % k == 0]
            candidates += [
                np.diag([a, b, whole // (a * b)])
                for a, b in product(divisors, divisors)
                if whole % (a * b) == 0
            ]
    best, smallest = None, np.inf
    for matrix in candidates:
        determinant = abs(np.linalg.det(matrix))
        if determinant < max(0.5, count - 1e-6):
            continue
        deformed = np.linalg.solve(matrix, cell)
        strain = np.abs(np.linalg.solve(reference, deformed) - np.eye(3)).max()
        if strain < smallest:
            best, smallest = matrix, strain
    if best is None or smallest > MAX_STRAIN:
        raise ValueError(
            f"the structure is not a supercell of the {crystal.owner}'s crystal: its "
            f"cell is {_shown(cell)} A, that of the {crystal.owner} "
            f"{_shown(reference)} A. "
            f"Build it from its cell, `{crystal.source}`, in its orientation"
        )
    return best.astype(np.int64)


def _shown(matrix: np.ndarray) -> str:
    return np.array2string(matrix, precision=3).replace("\n", "")


def _images(
    scaled: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (n, 3) in the cell, and images (m, 3) around it with their owners.

    Cartesian, A.
    """
    home = scaled - np.where(pbc, np.floor(scaled), 0.0)
    steps = [(0, -1, 1) if periodic else (0,) for periodic in pbc]
    around = np.array(list(product(*steps)), dtype=float)
    images = (home + around[:, None]).reshape(-1, 3)
    return home @ cell, images @ cell, np.tile(np.arange(len(scaled)), len(around))


def _spacing(scaled: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> float:
    """Return the shortest distance between two places, at most 10 A."""
    home, images, _ = _images(scaled, cell, pbc)
    distances = cKDTree(images).query(home, k=2)[0][:, 1]
    return float(distances.min(initial=10.0))


def _origins(
    crystal: Crystal,
    scaled: np.ndarray,
    places: np.ndarray,
    numbers: np.ndarray,
    cell: np.ndarray,
) -> list[np.ndarray]:
    """Return shifts of the structure that put an atom on a site, the least first."""
    alike = np.flatnonzero(crystal.numbers == numbers[0])
    shifts = places[0] - scaled[alike]
    shifts = shifts - np.where(crystal.pbc, np.rint(shifts), 0.0)
    order = np.argsort(np.linalg.norm(shifts @ cell, axis=1), kind="stable")
    return [np.zeros(3), *shifts[order]]


def _assign(
    crystal: Crystal,
    scaled: np.ndarray,
    places: np.ndarray,
    numbers: np.ndarray,
    cell: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the nearest sites (m,) of atoms, their cells, and displacements, A.

    Twice: the mean displacement is not one of atoms from their sites.
    """
    mean = np.zeros(3)
    sites = np.zeros(len(places), dtype=int)
    for _ in range(2):
        moved = places - mean
        inside = (moved - np.where(crystal.pbc, np.floor(moved), 0.0)) @ cell
        for z in np.unique(numbers):
            own = np.flatnonzero(crystal.numbers == z)
            _, images, owners = _images(scaled[own], cell, crystal.pbc)
            of_element = numbers == z
            nearest = cKDTree(images).query(inside[of_element])[1]
            sites[of_element] = own[owners[nearest]]
        exact = moved - scaled[sites]
        cells = np.where(crystal.pbc, np.rint(exact), 0.0)
        mean = mean + (exact - cells).mean(axis=0)
    exact = places - mean - scaled[sites]
    return sites, cells.astype(np.int64), (exact - cells) @ cell
