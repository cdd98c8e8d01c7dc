"""Symmetry equivalence of magnetic orders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.geometry import complete_cell, find_mic
from scipy.spatial.transform import Rotation

from ..spins import get_spins, set_spins
from ._groups import crystal_symmetry, site_permutations, symmetric_supercell
from ._spglib import SYMPREC

#: Tolerances of moments (over the rms one of the element), positions (A) and strains.
#: Copies of one order converge more closely than this; two orders differ by more.
_MOMENTS, _POSITIONS, _STRAINS = 0.2, 0.1, 0.02

#: Tolerance of the symmetry search where atoms move, A: starts are often displaced.
_DISPLACED = 0.2

#: Angle below which a common rotation of the moments counts as none, rad.
_NO_ROTATION = 0.05

#: Bias towards the smallest rotation where several fit, as for collinear moments.
_BIAS = 1e-3

#: Moments whose places under all symmetries are compared at once.
_CHUNK = 200_000

#: Largest number of symmetries times atoms; beyond, some symmetries are left out.
_MOST = 10_000_000


class OrderEquivalence:
    r"""Symmetry equivalence of two orders of a crystal: ``same(one, other)``.

    Orders are equivalent if an operation of the space group of the crystal, the
    reversal of all moments, and a common rotation of all moments together map one
    onto the other: moments, positions and cell. Where the energy depends on the common
    direction of the moments and the rotation leads over a barrier or along a slope,
    they are not: energies are evaluated on the way, since spin-orbit terms are not
    known otherwise.

    Rotations of the crystal may lead to another cell, so that a supercell that has
    all of them is compared. In very large cells only a part of the operations is
    tried, and equivalent orders may count as different.

    Parameters
    ----------
    crystal : Atoms
        The crystal from which all orders start; its moments do not matter.
    calculator : Calculator
        Gives the energies along a common rotation.
    tolerance : float
        Energies of the cell that differ by less agree, eV.
    displaced : bool
        Whether atoms or the cell have moved.
    symprec : float
        Tolerance of the symmetry search, A.
    """

    def __init__(
        self,
        crystal: Atoms,
        calculator: Calculator,
        *,
        tolerance: float,
        displaced: bool = False,
        symprec: float = SYMPREC,
    ) -> None:
        self._crystal = crystal
        self._calculator = calculator
        self.tolerance = tolerance
        self._displaced = displaced
        self._symprec = max(symprec, _DISPLACED) if displaced else symprec

    @cached_property
    def _symmetries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rotations (Q, 3, 3), permutations and misfits of sites.

        Permutations (Q, L) of the L sites of the repeated cell; misfits (Q, L, 3), A,
        are the image of a site minus the site that it is mapped to, zero where
        nothing has moved.
        """
        whole = symmetric_supercell(self._crystal, symprec=self._symprec)
        scaled, rotations, shifts = crystal_symmetry(whole, symprec=self._symprec)
        most = max(1, _MOST // len(whole))
        rotations, shifts = rotations[:most], shifts[:most]
        kept, places = site_permutations(scaled, rotations, shifts)
        rotations, shifts = rotations[kept], shifts[kept]
        cell = whole.cell.array
        cartesian = cell.T @ rotations @ np.linalg.inv(cell.T)
        misfits = np.zeros((len(kept), 1, 3))
        if self._displaced:
            moved = scaled @ np.swapaxes(rotations, 1, 2) + shifts[:, None]
            misfits = moved - scaled[places]
            misfits = (misfits - np.round(misfits)) @ cell
        return cartesian, places, misfits

    def __call__(self, one: Atoms, other: Atoms) -> bool:
        """Return whether two orders of about the same energy are equivalent."""
        fits = sorted(self._rotations(one, other), key=lambda fit: fit[0])
        for angle, rotation, symmetry in fits:
            if not self._displaced or self._lattices_fit(one, other, symmetry):
                return angle < _NO_ROTATION or self._costs_nothing(one, rotation)
        return False

    def _rotations(
        self, one: Atoms, other: Atoms
    ) -> Iterator[tuple[float, np.ndarray, int]]:
        """Yield the rotations that map the moments of ``other`` to those of ``one``.

        Angle (rad), rotation (3, 3), and number of the symmetry that precedes it.
        Moments rotate with the crystal as axial vectors.
        """
        rotations, places, _ = self._symmetries
        copies = places.shape[1] // len(one)
        a, b = (np.tile(_by_element(atoms), (copies, 1)) for atoms in (one, other))
        chunk = max(1, _CHUNK // len(a))
        for start in range(0, len(places), chunk):
            own = slice(start, start + chunk)
            axial = np.linalg.det(rotations[own])[:, None, None] * rotations[own]
            target, source = a[places[own]], b @ np.swapaxes(axial, 1, 2)
            products = np.swapaxes(target, 1, 2) @ source
            bias = _BIAS * len(a) * np.eye(3)
            for sign in (1.0, -1.0):  # reversal
                common = _closest_rotations(sign * products + bias)
                rotated = sign * source @ np.swapaxes(common, 1, 2)
                far = np.linalg.norm(target - rotated, axis=2).max(axis=1)
                traces = np.trace(common, axis1=1, axis2=2)
                angles = np.arccos(np.clip(0.5 * (traces - 1.0), -1.0, 1.0))
                for k in np.flatnonzero(far < _MOMENTS):
                    yield float(angles[k]), common[k], start + int(k)

    def _lattices_fit(self, one: Atoms, other: Atoms, symmetry: int) -> bool:
        """Return whether a symmetry maps positions and cell of ``other`` to ``one``'s.

        Positions up to a common displacement.
        """
        rotations, places, misfits = self._symmetries
        rotation = rotations[symmetry]
        (u, strain), (v, strained) = map(self._displacements, (one, other))
        rotated = rotation @ strained @ rotation.T
        if not np.allclose(strain, rotated, rtol=0.0, atol=_STRAINS):
            return False
        copies = places.shape[1] // len(one)
        left = np.tile(v, (copies, 1)) @ rotation.T + misfits[symmetry]
        left -= np.tile(u, (copies, 1))[places[symmetry]]
        left -= left.mean(axis=0)
        return bool(np.linalg.norm(left, axis=1).max() < _POSITIONS)

    def _displacements(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """Return displacements in the first cell, (N, 3), A, and the strain."""
        first, now = (complete_cell(x.cell.array) for x in (self._crystal, atoms))
        deformation = np.linalg.solve(first, now)
        positions = np.linalg.solve(deformation.T, atoms.positions.T).T
        moves, _ = find_mic(
            positions - self._crystal.positions, first, self._crystal.pbc
        )
        return moves, 0.5 * (deformation @ deformation.T - np.eye(3))

    def _costs_nothing(self, atoms: Atoms, rotation: np.ndarray) -> bool:
        """Return whether a rotation (3, 3) of all moments keeps the energy."""
        way = -Rotation.from_matrix(rotation).as_rotvec()
        trial = atoms.copy()
        trial.calc = self._calculator
        for share in (1 / 3, 1 / 2):
            rotated = Rotation.from_rotvec(share * way).apply(get_spins(atoms))
            set_spins(trial, rotated)
            change = trial.get_potential_energy() - atoms.get_potential_energy()
            if abs(change) > self.tolerance:
                return False
        return True


def _by_element(atoms: Atoms) -> np.ndarray:
    """Return moments over the rms length of those of their element, (N, 3)."""
    spins = get_spins(atoms)
    elements, label = np.unique(atoms.numbers, return_inverse=True)
    squares = np.bincount(label, np.sum(spins**2, axis=1), len(elements))
    lengths = np.sqrt(squares / np.bincount(label))
    return spins / np.where(lengths > 0, lengths, 1.0)[label, None]


def _closest_rotations(matrices: np.ndarray) -> np.ndarray:
    """Return the rotations R (K, 3, 3) that maximise sum_ab R_ab M_ab.

    Kabsch, Acta Crystallogr. A 34, 827 (1978), doi:10.1107/S0567739478001680.
    """
    left, _, right = np.linalg.svd(matrices)
    left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
    return left @ right
