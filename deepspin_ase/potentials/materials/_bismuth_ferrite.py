"""Bismuth ferrite, BiFeO3: its structure and the energy of its spins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ..._validate import as_direction, as_vector, atomic_numbers_of, finite, positive
from ...neighbors import PairList
from ...spins import set_spins
from ...system import System
from .._base import Potential
from .._registry import register
from ..radial import smooth_step
from ..terms._sites import Bonds, find_bonds, magnetic_sites, of_elements, unit_spins

#: Pseudo-cubic lattice constant (A) of the lattice reference at the volume of R3c.
LATTICE_CONSTANT = 4.0147

#: Displacements (A) in R3c per Cartesian component of the polar vector: Bi, Fe, and
#: O along and across its Fe-O-Fe line.
_POLAR = {"Bi": 0.2616, "Fe": 0.0460, "O along": -0.0278, "O across": -0.1399}

#: Displacement (A) of O per Cartesian component of the tilt.
_TILT = 0.3071

# Distances (A): reference of the overlap Fe-O and of second neighbours, their
# decay lengths, and where each interaction starts and ends to be switched off.
_FE_O, _FE_O_DECAY, _FE_O_SWITCH = 2.03, 0.406, (2.5, 2.9)
_SECOND, _SECOND_DECAY, _SECOND_SWITCH = 5.60, 0.60, (6.0, 6.6)
_FE_FE_SWITCH = (4.6, 5.2)
_MIDPOINT_BI_SWITCH = (3.3, 4.1)
_FE_BI_SWITCH = (3.9, 4.6)

#: Length (A) of the local polar vector p of R3c.
_POLAR_LENGTH = 0.4133


def bismuth_ferrite(
    polar: Sequence[float] = (1.0, 1.0, 1.0),
    tilt: Sequence[float] | None = None,
    *,
    a: float = LATTICE_CONSTANT,
    moment: float = 4.0,
    spin_axis: Sequence[float] = (1.0, -1.0, 0.0),
) -> Atoms:
    """Return the ten-atom cell of BiFeO3 with polar displacements and tilts.

    The cell is rock-salt doubled and pseudo-cubic, with axes a(0,1,1), a(1,0,1)
    and a(1,1,0) and atoms Bi2 Fe2 O6. Positions are not wrapped, and the mean
    displacement is zero: two variants may be interpolated as they are.

    Parameters
    ----------
    polar : (3,) sequence
        Multiples of the displacements of R3c along x, y and z. (1, 1, 1) and its
        sign changes are the eight polar variants, (0, 0, 0) is non-polar.
    tilt : (3,) sequence, optional
        Multiples of the antiphase rotations of R3c about x, y and z; as ``polar``
        by default. Variants have it parallel or antiparallel to ``polar``.
    a : float
        Pseudo-cubic lattice constant, A.
    moment : float
        Length of the moments of Fe, mu_B; antiparallel to each other (G order).
    spin_axis : (3,) sequence
        Their axis.

    Returns
    -------
    Atoms
        With moments, without a calculator.

    Examples
    --------
    >>> start, end = bismuth_ferrite(), bismuth_ferrite((1, 1, -1))  # 71 degrees
    """
    p = np.array(as_vector("polar", polar))
    omega = p if tilt is None else np.array(as_vector("tilt", tilt))
    cell = positive("a", a) * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]])
    axes = np.eye(3)
    along = axes * _POLAR["O along"] + (1.0 - axes) * _POLAR["O across"]
    oxygen, turned = p * along, _TILT * np.cross(omega, axes)
    fe = np.array([[0.0, 0.0, 0.0], [a, 0.0, 0.0]])
    bi = fe + 0.5 * a
    o = fe[:, None] + 0.5 * a * axes + oxygen + np.stack([turned, -turned])
    positions = np.concatenate(
        [bi + _POLAR["Bi"] * p, fe + _POLAR["Fe"] * p, o.reshape(-1, 3)]
    )
    atoms = Atoms("Bi2Fe2O6", positions=positions, cell=cell, pbc=True)
    spins = np.zeros((10, 3))
    spins[2:4] = moment * np.outer([1, -1], as_direction("spin_axis", spin_axis))
    set_spins(atoms, spins)
    return atoms


@register
class BismuthFerriteSpins(Potential):
    """Energy of the spins of BiFeO3, zero for collinear G order up to anisotropy.

    With unit vectors e = m/|m| on Fe and r^ from O to Fe or from Fe to Fe,

    E = sum_NN [J_ij (1 + e_i.e_j) + D_ij.(e_i x e_j)]
    + sum_NNN J_2(r) (e_i.e_j - 1) - (K/p_0^2) sum_i (e_i.p_i)^2

    Superexchange through the bridging O, with the angle between r^_i and r^_j at O:
    J_ij = -J0 sum_O r^_i.r^_j f(r_i) f(r_j), f(r) = exp(-(r - 2.03 A)/0.406 A).
    Next neighbours: J_2 = J2 exp(-(r - 5.60 A)/0.60 A). Dzyaloshinskii-Moriya
    vector of tilts and of polar shifts: D_ij = d_tilt sum_O f(r_i) f(r_j) r^_i x r^_j
    + d_polar b_ij x r^_ij, b_ij a quarter of the sum of the vectors from the middle of
    the bond to the Bi around. Easy axis: p_i is an eighth of the sum of the vectors
    from Fe to the Bi around, p_0 = 0.4133 A its length in R3c. All sums are cut
    smoothly.

    The lattice term it is added to is therefore that of the G-type
    antiferromagnet. Fe only may carry moments; their length does not enter.

    Parameters
    ----------
    J0 : float
        Superexchange at 2.03 A and 180 degrees, eV. Positive is
        antiferromagnetic. At the default, Monte Carlo orders at 585 K; 1.09 times
        that brings the observed 640 K.
    J2 : float
        Exchange of next neighbours at 5.60 A, eV; positive is antiferromagnetic.
    d_tilt : float
        eV.
    d_polar : float
        eV/A.
    K : float
        Anisotropy of an Fe in R3c, eV; positive makes the polar axis easy.

    Notes
    -----
    In R3c, in meV per Fe: G order 0 (-0.03 with moments along the polar axis), C 67,
    A 148, ferromagnet 243; a cycloid of 610 A lies below the collinear order. The
    constants are those of spin waves: J = 4.4 to 6.5 meV, 0.15 to 0.29 meV for next
    neighbours and D = 0.11 meV, for spins 5/2 [Jeong2012]_. J0 is at the upper end.

    References
    ----------
    .. [Jeong2012] Jeong et al., Phys. Rev. Lett. 108, 077202 (2012),
       doi:10.1103/PhysRevLett.108.077202; Matsuda et al., Phys. Rev. Lett. 109,
       067205 (2012), doi:10.1103/PhysRevLett.109.067205.
    """

    species = frozenset(atomic_numbers_of(("O", "Fe", "Bi")))
    magnetic_species = frozenset(atomic_numbers_of(("Fe",)))

    def __init__(
        self,
        *,
        J0: float = 44.335e-3,
        J2: float = 1.8125e-3,
        d_tilt: float = 1.3734e-3,
        d_polar: float = 2.2476e-3,
        K: float = 0.0319e-3,
    ) -> None:
        super().__init__()
        self.J0 = finite("J0", J0)
        self.J2 = finite("J2", J2)
        self.d_tilt = finite("d_tilt", d_tilt)
        self.d_polar = finite("d_polar", d_polar)
        self.K = finite("K", K)

    @property
    def cutoff(self) -> float:
        """Distance from Fe to the farthest Bi around a bond, A."""
        return 0.5 * _FE_FE_SWITCH[1] + _MIDPOINT_BI_SWITCH[1]

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return two cutoffs, A: what is coupled has a neighbor in common."""
        return 2.0 * self.cutoff

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV; all on Fe."""
        e = unit_spins(system)
        fe, bi = magnetic_sites(system, ("Fe",)), of_elements(system, ("Bi",))
        near = find_bonds(system, pairs, _SECOND_SWITCH[1], atoms=fe)
        from_fe = find_bonds(system, pairs, self.cutoff, elements=("Fe", "Bi"))
        around = _starting_at(from_fe, fe & ~bi)
        return (
            self._superexchange(system, pairs, fe, e)
            + near.share(self._next_neighbours(near, e))
            + self._polar_exchange(near, around, e)
            + self._anisotropy(around, e)
        )

    def _superexchange(
        self, system: System, pairs: PairList, fe: Tensor, e: Tensor
    ) -> Tensor:
        """Return the energies (N,) of J_ij and of the tilts' D_ij."""
        bonds = find_bonds(system, pairs, _FE_O_SWITCH[1], elements=("Fe", "O"))
        bonds = _starting_at(bonds, of_elements(system, ("O",)))
        bonds = _kept(bonds, fe[bonds.j])
        a, b = _joined(bonds.i, bonds.i, system.n_atoms)
        other = a != b
        a, b = a[other], b[other]
        overlap = torch.exp(-(bonds.distances - _FE_O) / _FE_O_DECAY)
        overlap = overlap * _switch(bonds.distances, _FE_O_SWITCH)
        both = overlap[a] * overlap[b]
        r, i, j = bonds.directions, bonds.j[a], bonds.j[b]
        energy = -self.J0 * _dot(r[a], r[b]) * (1.0 + _dot(e[i], e[j]))
        turned = torch.linalg.cross(r[a], r[b])
        energy = energy + self.d_tilt * _dot(turned, torch.linalg.cross(e[i], e[j]))
        return energy.new_zeros(system.n_atoms).index_add(0, i, 0.5 * both * energy)

    def _next_neighbours(self, bonds: Bonds, e: Tensor) -> Tensor:
        """Return the energy (E,) of J_2 of each bond."""
        r = bonds.distances
        strength = self.J2 * torch.exp(-(r - _SECOND) / _SECOND_DECAY)
        window = _switch(r, _SECOND_SWITCH) * (1.0 - _switch(r, _FE_FE_SWITCH))
        return strength * window * (_dot(e[bonds.i], e[bonds.j]) - 1.0)

    def _polar_exchange(self, bonds: Bonds, around: Bonds, e: Tensor) -> Tensor:
        """Return the energies (N,) of the D_ij of polar shifts."""
        bonds = _kept(bonds, bonds.distances < _FE_FE_SWITCH[1])
        bond, bi = _joined(bonds.i, around.i, bonds.n_atoms)
        shift = around.vectors[bi] - 0.5 * bonds.vectors[bond]
        shift = shift * _switch(shift.norm(dim=1), _MIDPOINT_BI_SWITCH)[:, None]
        middle = torch.zeros_like(bonds.vectors).index_add(0, bond, 0.25 * shift)
        turned = torch.linalg.cross(middle, bonds.directions)
        chirality = torch.linalg.cross(e[bonds.i], e[bonds.j])
        window = _switch(bonds.distances, _FE_FE_SWITCH)
        return bonds.share(self.d_polar * window * _dot(turned, chirality))

    def _anisotropy(self, around: Bonds, e: Tensor) -> Tensor:
        """Return the energies (N,) of the easy axes."""
        shift = 0.125 * around.vectors
        shift = shift * _switch(around.distances, _FE_BI_SWITCH)[:, None]
        polar = torch.zeros_like(e).index_add(0, around.i, shift)
        return -self.K / _POLAR_LENGTH**2 * _dot(e, polar) ** 2


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1)


def _switch(r: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Fall smoothly from 1 to 0 between the two bounds, A."""
    start, end = bounds
    return smooth_step((r - start) / (end - start))


def _kept(bonds: Bonds, keep: Tensor) -> Bonds:
    """Return the bonds marked in ``keep`` (E,)."""
    i, j, vectors, distances = (
        x[keep] for x in (bonds.i, bonds.j, bonds.vectors, bonds.distances)
    )
    return Bonds(i, j, vectors, distances, bonds.n_atoms)


def _starting_at(bonds: Bonds, atoms: Tensor) -> Bonds:
    """Return the bonds whose first atom is among ``atoms`` (N,)."""
    return _kept(bonds, atoms[bonds.i])


def _joined(first: Tensor, second: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Return the indices of all pairs of rows (a, b) with first[a] == second[b].

    Both are sorted lists of atoms, as those of a PairList are.
    """
    counts = torch.bincount(second, minlength=n_atoms)
    starts = torch.cumsum(counts, 0) - counts
    repeats = counts[first]
    a = torch.repeat_interleave(repeats)
    before = torch.cumsum(repeats, 0) - repeats
    return a, starts[first[a]] + torch.arange(len(a), device=a.device) - before[a]
