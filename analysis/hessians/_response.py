"""Second derivatives between a magnetic cell and its supercell.

A :class:`Crystal` is the magnetic cell and a supercell of it with a calculator, in
which second derivatives are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._rotations import local_axes
from ..._validate import require_calculator
from ...calculators._deepspin import DeepSpinCalculator
from ...neighbors import build_pairs
from ...potentials import Potential
from ...spins import get_spins, set_spins
from ...system import System
from ._bloch import SAME_DISTANCE, Images, nearest_images, repeats, repeats_for
from ._cartesian import SecondDerivatives, cartesian_hessian

#: Torques up to this fraction of the largest curvature are none.
STATIONARY = 1e-3

#: Supercells that are chosen here have no more atoms than this.
MAX_ATOMS = 5000


class Crystal:
    """A periodic cell with moments, and a supercell with its calculator.

    Parameters
    ----------
    atoms : Atoms
        The magnetic cell, with a calculator that gives ``magnetic_forces``.
    repeat : int or three ints, optional
        Cells in the supercell. By default enough for the range of the interaction
        to end within it, or, where that is more than 5,000 atoms, the cell alone if
        its periods are at least the range.
    positions : bool
        Whether the range of forces between atoms counts for the default.

    Attributes
    ----------
    home, large : Atoms
        The cell, without calculator, and the supercell, with it.
    repeat : (int, int, int)
    spins : (N, 3) array, mu_B
        Moments of the cell.
    sites : (n,) integer array
        Its magnetic atoms.
    lengths : (n,) array, mu_B
        Lengths of their moments.
    directions : (n, 3) array
        Unit vectors along them.

    Raises
    ------
    ValueError
        If there is no calculator, no moment, or the range is unknown.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        repeat: int | Sequence[int] | None = None,
        positions: bool = False,
    ) -> None:
        if not isinstance(atoms, Atoms):
            raise TypeError(f"expected ase.Atoms, got {type(atoms).__name__}")
        require_calculator(atoms, "magnetic_forces")
        self.spins = get_spins(atoms)
        lengths = np.linalg.norm(self.spins, axis=1)
        self.sites = np.flatnonzero(lengths > 0)
        if not len(self.sites):
            raise ValueError(
                "no atom carries a moment; set the magnetic order with "
                "deepspin_ase.set_spins"
            )
        self.lengths = lengths[self.sites]
        self.directions = self.spins[self.sites] / self.lengths[:, None]
        if repeat is None:
            repeat = _chosen(atoms, _range_to_hold(atoms, positions=positions))
        self.repeat = repeats(repeat, atoms.pbc)
        self.home = atoms.copy()
        self.home.set_constraint()
        set_spins(self.home, self.spins)
        self.large = self.home.repeat(self.repeat)
        self.large.calc = atoms.calc

    @property
    def n_cells(self) -> int:
        """Number of cells in the supercell."""
        return int(np.prod(self.repeat))

    @property
    def columns(self) -> np.ndarray:
        """Magnetic atoms of the supercell, those of the first cell first."""
        cells = len(self.home) * np.arange(self.n_cells)
        return (cells[:, None] + self.sites).ravel()

    def images(self, rows: ArrayLike, columns: ArrayLike) -> Images:
        """Return the nearest images of pairs of the supercell."""
        return nearest_images(self.home, self.repeat, rows, columns)

    def gradients(self) -> np.ndarray:
        """Return dE/dm of the sites in the cell, (n, 3), eV/mu_B."""
        found = self.large.calc.get_property("magnetic_forces", self.large)
        return -np.asarray(found, dtype=float)[self.sites]

    def hessian(self, *, positions: bool = False) -> SecondDerivatives:
        """Return the second derivatives of the supercell as it is."""
        return cartesian_hessian(self.large, positions=positions)

    def rotate_moments(self, rotation: np.ndarray) -> None:
        """Set the moments of the supercell to the cell's, rotated."""
        set_spins(self.large, np.tile(self.spins @ rotation.T, (self.n_cells, 1)))

    def check_size(self) -> None:
        """Raise ValueError if nearest moments meet their images first."""
        images = self.images(self.sites, self.sites)
        distances = np.linalg.norm(images.vectors, axis=1)
        own_image = 2.0 * images.radius
        nearest = distances[distances > SAME_DISTANCE].min(initial=own_image)
        if np.isfinite(images.radius) and nearest > images.radius + SAME_DISTANCE:
            raise ValueError(
                f"the supercell is too small: nearest moments are {nearest:.3g} A "
                f"apart, its half period is {images.radius:.3g} A, so that they "
                "cannot be distinguished from their images; increase repeat"
            )

    def check_stationary(self, curvature: float) -> None:
        """Raise ValueError if torques act on the moments.

        Parameters
        ----------
        curvature : float, eV
            Largest second derivative by the direction of a moment, against which
            torques are measured.

        Raises
        ------
        ValueError
            If a torque is above :data:`STATIONARY` of it.
        """
        fields = -self.gradients() * self.lengths[:, None]
        check_torques(np.cross(self.directions, fields), curvature, self.sites)


def interaction_range(atoms: Atoms, *, positions: bool = False) -> float | None:
    """Return the distance at which the model ceases to couple two moments, A.

    Parameters
    ----------
    atoms : Atoms
    positions : bool
        Count couplings of atoms, too.

    Returns
    -------
    float, or None
        See :meth:`.Potential.interaction_range`; None where it is not known, as of
        calculators without a Potential.
    """
    if not isinstance(atoms.calc, DeepSpinCalculator):
        return None
    system = System.from_atoms(atoms, require_spins=False)
    return _largest(atoms.calc.bare_potential, system, positions)


def _largest(potential: Potential, system: System, positions: bool) -> float | None:
    """Return the range of a potential, A."""
    if not (positions or potential.uses_spins):
        return 0.0
    return potential.interaction_range(system, moments_only=not positions)


def _range_to_hold(atoms: Atoms, *, positions: bool) -> float:
    """Return the range that a supercell must hold, A.

    Sums over all distances (dipoles, charges) have no end; two cutoffs are taken.

    Raises
    ------
    ValueError
        If the range is not known.
    """
    if interaction_range(atoms, positions=positions) is None:
        label = type(atoms.calc).__name__
        if isinstance(atoms.calc, DeepSpinCalculator):
            label = atoms.calc.parameters["model"]
        raise ValueError(
            f"the interaction range of {label} is not known: give repeat, the numbers "
            "of cells of a supercell in which the interaction ends"
        )
    system = System.from_atoms(atoms, require_spins=False)
    ranges = [0.0]
    for term in atoms.calc.bare_potential.terms():
        found = _largest(term, system, positions)
        assert found is not None
        ranges.append(found if np.isfinite(found) else 2.0 * term.pair_cutoff(system))
    return max(ranges)


def _chosen(atoms: Atoms, radius: float) -> tuple[int, int, int]:
    """Return the cells for a range, or one if the cell is large and nearly enough."""
    repeat = repeats_for(atoms, radius)
    if len(atoms) * np.prod(repeat) <= MAX_ATOMS:
        return repeat
    if repeats_for(atoms, 0.5 * radius) == (1, 1, 1):
        return 1, 1, 1
    raise ValueError(
        f"a supercell for a range of {radius:.1f} A has {repeat} cells, more than "
        f"{MAX_ATOMS} atoms: choose repeat yourself"
    )


def check_torques(torques: np.ndarray, curvature: float, sites: np.ndarray) -> None:
    """Raise ValueError if ``torques`` (n, 3), eV, act on the atoms ``sites``."""
    sizes = np.linalg.norm(torques, axis=1)
    if sizes.max() > STATIONARY * curvature + 1e-9:
        worst = int(sizes.argmax())
        raise ValueError(
            "the magnetic order is not stationary: a torque of "
            f"{1000 * sizes[worst]:.3g} meV acts on atom {sites[worst]} (curvatures "
            f"reach {1000 * curvature:.3g} meV); relax the moments first, with "
            "deepspin_ase.optimize.relax_spins"
        )


def transverse_products(
    crystal: Crystal,
    directions: np.ndarray,
    chosen: np.ndarray,
    progress: Callable[[int], object] = int,
) -> tuple[np.ndarray, float]:
    """Return |m_i||m_j| t_i d2E/dm_i dm_j for the two t_i across each e_i.

    Sites that are too far from each other to couple to the same moment share a
    product with the Hessian.

    Parameters
    ----------
    crystal : Crystal
        Its supercell in the state that is asked about.
    directions : (n, 3) array
        Unit vectors of the moments of the cell in that state; the t are their
        :func:`~deepspin_ase._rotations.local_axes`.
    chosen : (k,) integer array
        Which sites i of the cell.
    progress : callable
        Told how many sites times directions are done.

    Returns
    -------
    (k, 2, M, 3) array, eV
        Cartesian in the moments j of the supercell.
    float
        Their relative accuracy.
    """
    hessian = crystal.hessian()
    columns, t = crystal.columns, local_axes(directions)
    lengths = np.tile(crystal.lengths, crystal.n_cells)
    rows = np.zeros((len(chosen), 2, len(columns), 3))
    for group, near in _apart(crystal, chosen):
        for x in range(2):
            direction = np.zeros((hessian.n_atoms, 3))
            sites = chosen[group]
            direction[crystal.sites[sites]] = crystal.lengths[sites, None] * t[sites, x]
            _, found = hessian.product(moments=direction)
            found = lengths[:, None] * found[columns]
            rows[group, x] = np.where(near[..., None], found, 0.0)
            progress(len(group))
    return rows, hessian.accuracy


def _apart(
    crystal: Crystal, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split ``chosen`` into groups of which no moment is near two members.

    Yields
    ------
    (g,) integer array
        Positions in ``chosen``.
    (g, M) bool array
        Which moments of the supercell each member couples to.
    """
    columns = crystal.columns
    near = np.ones((len(chosen), len(columns)), dtype=bool)
    ends = interaction_range(crystal.large)
    if ends is not None and np.isfinite(ends) and len(chosen) > 1:
        pairs = build_pairs(System.from_atoms(crystal.large[columns]), ends + 1e-6)
        coupled = np.eye(len(columns), dtype=bool)
        coupled[pairs.i, pairs.j] = True
        near = coupled[chosen]
    left = np.arange(len(chosen))
    while len(left):
        group: list[int] = []
        taken = np.zeros(len(columns), dtype=bool)
        for k in left.tolist():
            if not taken[near[k]].any():
                group.append(k)
                taken |= near[k]
        yield np.array(group), near[group]
        left = np.setdiff1d(left, group)


def spin_rows(crystal: Crystal) -> tuple[np.ndarray, float]:
    """Return second derivatives by the transverse deviations of a reference state.

    On the spheres on which the moments move, d2E = |m_i||m_j| t_i H_ij t_j -
    |m_i| (e_i.dE/dm_i) delta_ij.

    Returns
    -------
    (n, N, 2, 2) array, eV
        Between the n sites of the cell and all N atoms of the supercell.
    float
        Their relative accuracy.
    """
    sites = crystal.sites
    everyone = np.arange(len(sites))
    products, accuracy = transverse_products(crystal, crystal.directions, everyone)
    across = np.tile(local_axes(crystal.directions), (crystal.n_cells, 1, 1))
    rows = np.zeros((len(sites), len(crystal.large), 2, 2))
    rows[:, crystal.columns] = np.einsum("jyb,ixjb->ijxy", across, products)
    slopes = np.einsum("ia,ia->i", crystal.directions, crystal.gradients())
    rows[everyone, sites] -= (slopes * crystal.lengths)[:, None, None] * np.eye(2)
    return rows, accuracy
