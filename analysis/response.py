"""How the cell of a crystal and the atoms around it respond to each other.

A :class:`Crystal` is the magnetic cell and a supercell of it with a calculator, in
which second derivatives are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from deepspin_ase.calculator import DeepSpinCalculator
from deepspin_ase.potentials import Potential, Sum
from deepspin_ase.potentials.combine import Committee
from deepspin_ase.potentials.sites import PairTerm, SiteTerm
from deepspin_ase.spins import get_spins, perpendicular, set_spins
from deepspin_ase.system import System

from .bloch import SAME_DISTANCE, Images, nearest_images, repeats, repeats_for
from .hessian import SecondDerivatives, cartesian_hessian

#: Torques up to this share of the largest curvature are none.
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
        to end within it.
    positions : bool
        Whether the range of forces between atoms counts for the default.
    spins : bool
        Whether some atom must carry a moment.

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
        If there is no calculator, no moment, or no way to tell the range.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        repeat: int | Sequence[int] | None = None,
        positions: bool = False,
        spins: bool = True,
    ) -> None:
        if not isinstance(atoms, Atoms):
            raise TypeError(f"expected ase.Atoms, got {type(atoms).__name__}")
        if atoms.calc is None:
            raise ValueError(
                "the atoms have no calculator: set atoms.calc = "
                "DeepSpinCalculator(model)"
            )
        self.spins = get_spins(atoms)
        lengths = np.linalg.norm(self.spins, axis=1)
        self.sites = np.flatnonzero(lengths > 0)
        if spins and not len(self.sites):
            raise ValueError(
                "no atom carries a moment; set the magnetic order with "
                "deepspin_ase.set_spins"
            )
        self.lengths = lengths[self.sites]
        self.directions = self.spins[self.sites] / self.lengths[:, None]
        if repeat is None:
            reach = interaction_reach(atoms, positions=positions)
            repeat = repeats_for(atoms, reach)
            if len(atoms) * np.prod(repeat) > MAX_ATOMS:
                raise ValueError(
                    f"a supercell for a range of {reach:.1f} A has {repeat} cells, "
                    f"more than {MAX_ATOMS} atoms: choose repeat yourself"
                )
        self.repeat = repeats(repeat, atoms.pbc)
        self.home = Atoms(
            numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell
        )
        self.home.pbc = atoms.pbc
        self.home.set_masses(atoms.get_masses())
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

    def hessian(
        self, *, positions: bool = False, spins: bool = True
    ) -> SecondDerivatives:
        """Return the second derivatives of the supercell as it is."""
        return cartesian_hessian(self.large, positions=positions, spins=spins)

    def turn(self, rotation: np.ndarray) -> None:
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
                "cannot be told from their images; increase repeat"
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


def frames(directions: np.ndarray) -> np.ndarray:
    """Return (n, 2, 3) unit vectors t1, t2 with (t1, t2, e) right-handed."""
    first = perpendicular(directions)
    return np.stack([first, np.cross(directions, first)], axis=1)


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
    hessian = crystal.hessian()
    t, sites, lengths = frames(crystal.directions), crystal.sites, crystal.lengths
    columns = crystal.columns
    rows = np.zeros((len(sites), hessian.n_atoms, 2, 2))
    scale, across = (np.concatenate([x] * crystal.n_cells) for x in (lengths, t))
    for k, site in enumerate(sites):
        for x in range(2):
            direction = np.zeros((hessian.n_atoms, 3))
            direction[site] = lengths[k] * t[k, x]
            _, found = hessian.product(moments=direction)
            rows[k, columns, x] = scale[:, None] * np.einsum(
                "jyb,jb->jy", across, found[columns]
            )
    along = np.einsum("ia,ia->i", crystal.directions, crystal.gradients()) * lengths
    rows[np.arange(len(sites)), sites] -= along[:, None, None] * np.eye(2)
    return rows, hessian.accuracy


def interaction_reach(atoms: Atoms, *, positions: bool = False) -> float:
    """Return the distance at which the potential ceases to couple two moments, A.

    Pair terms end at their cutoff; per-atom energies that depend on the
    surroundings, as in a network, couple moments on either side of an atom. Sums
    over all distances (dipoles, charges) have no end, their cutoff is taken.

    Parameters
    ----------
    atoms : Atoms
    positions : bool
        Count terms that couple atoms, not only moments.

    Raises
    ------
    ValueError
        If the calculator does not tell its cutoff.
    """
    if not isinstance(atoms.calc, DeepSpinCalculator):
        raise ValueError(
            f"the range of {type(atoms.calc).__name__} is not known: give repeat, the "
            "numbers of cells of a supercell in which the interaction ends"
        )
    system = System.from_atoms(atoms, require_spins=False)
    return _reach(atoms.calc.bare_potential, system, positions)


def _reach(potential: Potential, system: System, positions: bool) -> float:
    if isinstance(potential, Sum | Committee):
        parts = [m for m in potential.members if isinstance(m, Potential)]
        return max(_reach(part, system, positions) for part in parts)
    if not (positions or potential.uses_spins):
        return 0.0
    reach = potential.pair_cutoff(system)
    return reach if isinstance(potential, PairTerm | SiteTerm) else 2.0 * reach
