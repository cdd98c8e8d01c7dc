"""Search of magnetic orders: many starts, relaxed in one batch and ranked."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from numpy.typing import ArrayLike

from .._result import Result
from .._validate import positive, require_calculator, whole
from ..orders import random_directions
from ..spins import get_spins, set_spins, unit_vector
from ..symmetry._equivalence import OrderEquivalence
from ..symmetry._magnetic_space_group import find_magnetic_space_group
from ..symmetry._patterns import collinear_patterns
from ..symmetry._spglib import SYMPREC
from ..system import check_structure
from ._relax import Relaxation, relax_batch


@dataclass(frozen=True)
class MagneticOrder(Result):
    """One magnetic order.

    Attributes
    ----------
    atoms : Atoms
        Relaxed, with a calculator that holds its results.
    energy : float, eV
        Of the whole cell.
    relative_meV_per_atom : float
        Energy above the lowest order.
    net_moment : float, mu_B per atom
        |sum of the moments| / N.
    magnetic_group : str
        Number of the magnetic space group in the notation of Belov, Neronova and
        Smirnova, as :func:`~deepspin_ase.symmetry.magnetic_space_group` finds it; "-"
        where it finds none. The moments count as they lie: where
        the energy does not depend on their common direction, other ones may have
        more symmetry.
    uni_number : int
        The same, from 1 to 1651 (spglib); 0 where none is found.
    start : str
        The first start that led here: signs of a collinear one, or "random 3".
    count : int
        Starts that led here.
    converged : bool
    """

    atoms: Atoms
    energy: float
    relative_meV_per_atom: float
    net_moment: float
    magnetic_group: str
    uni_number: int
    start: str
    count: int
    converged: bool


@dataclass(frozen=True)
class MagneticOrders(Result, Sequence[MagneticOrder]):
    """The orders found, lowest energy first: a sequence that prints as a table."""

    orders: tuple[MagneticOrder, ...]
    n_starts: int

    def __len__(self) -> int:
        """Return the number of different orders."""
        return len(self.orders)

    def __getitem__(self, index: Any) -> Any:
        """Return one order, or a tuple of them for a slice."""
        return self.orders[index]

    def __iter__(self) -> Iterator[MagneticOrder]:
        """Iterate over the orders, lowest energy first."""
        return iter(self.orders)

    def __repr__(self) -> str:
        """Return a summary: numbers of orders and starts."""
        return f"<MagneticOrders: {len(self)} orders from {self.n_starts} starts>"

    def __str__(self) -> str:
        """Return the table."""
        return self.table()

    def table(self, n_rows: int | None = None) -> str:
        """Return the first ``n_rows`` orders (all by default) as a text table."""
        lines = [
            f"{'':>4} {'meV/atom':>10} {'net moment':>11} {'magnetic':>9} "
            f"{'starts':>6}  first start",
            f"{'':>4} {'':>10} {'(mu_B/atom)':>11} {'group':>9}",
        ]
        for k, order in enumerate(self.orders[:n_rows]):
            mark = "" if order.converged else "  (not converged)"
            lines.append(
                f"{k + 1:4d} {order.relative_meV_per_atom:10.4f} "
                f"{order.net_moment:11.4f} {order.magnetic_group:>9} "
                f"{order.count:6d}  {order.start}{mark}"
            )
        return "\n".join(lines)


def search_magnetic_orders(
    atoms: Atoms,
    *,
    moments: Mapping[str, float] | None = None,
    supercell: int | ArrayLike = 1,
    n_collinear: int = 50,
    n_random: int = 20,
    direction: str | ArrayLike = "z",
    seed: int = 0,
    positions: bool = False,
    energy_tolerance_meV: float = 0.01,
    symprec: float = SYMPREC,
    **options: Any,
) -> MagneticOrders:
    """Search the magnetic orders of lowest energy.

    Collinear starts are the symmetry-distinct patterns of signs of the cell
    (:func:`~deepspin_ase.symmetry.collinear_patterns`); non-collinear ones have random
    directions. All are relaxed in one batch (:func:`relax_batch`). Orders are
    equivalent if their energies agree and a symmetry of the crystal, the reversal of
    all moments and, where it costs no energy, a common rotation of the moments map
    one onto the other (:class:`~deepspin_ase.symmetry.OrderEquivalence`). A collinear
    order without torques stays as it is, also where it is a saddle point.

    Parameters
    ----------
    atoms : Atoms
        With a calculator; left as it is.
    moments : {element: magnitude}, mu_B, optional
        By default the lengths of the moments that the atoms carry.
    supercell : int, (3,) or (3, 3) integers
        Repetitions of the cell, or the matrix of a supercell.
    n_collinear, n_random : int
        Largest number of collinear starts, and number of random ones.
    direction : (3,) array or str
        Of the collinear orders.
    seed : int
        Of the random directions.
    positions : bool
        Relax the atoms as well; ``cell=True`` among the options the cell, too.
    energy_tolerance_meV : float
        Energies per atom that agree so closely are one.
    symprec : float
        Tolerance of the symmetry searches, A.
    **options
        Of :func:`relax_batch` (``torque_max``, ``fmax``, ``steps``,
        ``progress``) and of :class:`SpinLatticeFilter` (``cell``, ``magnitudes``).
        ``steps=1`` ranks the starts as they are.

    Returns
    -------
    MagneticOrders

    Raises
    ------
    ValueError
        If there is no calculator, no atom carries a moment, there are no starts, or
        an argument is not as described.
    """
    check_structure(atoms)
    require_calculator(atoms)
    whole("n_collinear", n_collinear)
    whole("n_random", n_random, 0 if n_collinear else 1)
    positive("energy_tolerance_meV", energy_tolerance_meV)
    positive("symprec", symprec)
    cell = _supercell(atoms, supercell)
    if moments is not None:
        set_spins(cell, moments)
    if not get_spins(cell).any():
        raise ValueError("all moments are zero; give moments={element: magnitude}")
    starts = {
        **_collinear(cell, n_collinear, unit_vector(direction), symprec),
        **_random(cell, n_random, seed),
    }
    for image in starts.values():
        image.calc = atoms.calc
    images = [*starts.values()]
    relaxed = relax_batch(images, positions=positions, **options)
    same = OrderEquivalence(
        cell,
        copy.deepcopy(atoms.calc),
        tolerance=energy_tolerance_meV * len(cell) / 1000.0,
        displaced=positions or options.get("cell", False),
        symprec=symprec,
    )
    orders = _ranked(images, [*starts], relaxed, same, symprec)
    return MagneticOrders(orders, len(starts))


def _collinear(
    cell: Atoms, most: int, axis: np.ndarray, symprec: float
) -> dict[str, Atoms]:
    """Return at most ``most`` collinear orders along ``axis`` by their signs."""
    sites = np.flatnonzero(get_spins(cell).any(axis=1))
    patterns = collinear_patterns(cell, sites, most=most, symprec=symprec)
    return {
        "".join("+" if sign > 0 else "-" for sign in signs): _with_directions(
            cell, signs[:, None] * axis
        )
        for signs in patterns
    }


def _random(cell: Atoms, count: int, seed: int) -> dict[str, Atoms]:
    """Return ``count`` orders of random directions."""
    sites = np.flatnonzero(get_spins(cell).any(axis=1))
    pattern = random_directions(np.random.default_rng(seed))
    return {
        f"random {k}": _with_directions(cell, pattern(cell[sites]))
        for k in range(count)
    }


def _with_directions(cell: Atoms, directions: np.ndarray) -> Atoms:
    """Return a copy with the directions (M, 3) of the M moments that are not zero."""
    image = cell.copy()
    lengths = np.linalg.norm(get_spins(cell), axis=1)
    pattern = np.zeros((len(cell), 3))
    pattern[lengths > 0] = directions
    set_spins(image, lengths, pattern=pattern)
    return image


def _supercell(atoms: Atoms, supercell: int | ArrayLike) -> Atoms:
    matrix = np.asarray(supercell)
    if matrix.dtype.kind not in "iuf":
        matrix = np.zeros(0)
    elif matrix.ndim == 0:
        matrix = np.diag(np.where(atoms.pbc, matrix, 1))
    elif matrix.shape == (3,):
        matrix = np.diag(matrix)
    whole = matrix.shape == (3, 3) and np.array_equal(matrix, np.round(matrix))
    if not whole or abs(np.linalg.det(matrix)) < 0.5:
        raise ValueError(
            "supercell must be a whole number, three of them, or a (3, 3) matrix of "
            f"whole numbers with a volume, got {supercell!r}"
        )
    return make_supercell(atoms, matrix.astype(int))


def _ranked(
    images: Sequence[Atoms],
    names: Sequence[str],
    relaxed: Sequence[Relaxation],
    same: OrderEquivalence,
    symprec: float,
) -> tuple[MagneticOrder, ...]:
    """Return the different ones among relaxed structures, lowest energy first."""
    energies = np.array([image.get_potential_energy() for image in images])
    groups: list[list[int]] = []
    for k in np.argsort(energies, kind="stable").tolist():
        for group in groups:
            close = energies[k] - energies[group[0]] <= same.tolerance
            if close and same(images[group[0]], images[k]):
                group.append(k)
                break
        else:
            groups.append([k])
    lowest = energies.min()
    orders = []
    for group in groups:
        image = images[group[0]]
        found = find_magnetic_space_group(image, symprec=symprec)
        energy = float(energies[group[0]])
        orders.append(
            MagneticOrder(
                atoms=image,
                energy=energy,
                relative_meV_per_atom=1000.0 * (energy - lowest) / len(image),
                net_moment=float(np.linalg.norm(get_spins(image).mean(axis=0))),
                magnetic_group=found.bns_number if found else "-",
                uni_number=found.uni_number if found else 0,
                start=names[min(group)],
                count=len(group),
                converged=relaxed[group[0]].converged,
            )
        )
    return tuple(orders)
