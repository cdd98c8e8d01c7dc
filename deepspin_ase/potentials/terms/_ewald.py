r"""Ewald sums of point charges and point dipoles, in any mix of structures.

Splits 1/r = erfc(a r)/r + erf(a r)/r: the first part is summed over the pair
list, the second over wave vectors. Structures without periodicity are summed
directly, over all pairs. Periodic sums are those of a sample surrounded by a
conductor ("tin foil": no field of surface charges), in Gaussian units without
prefactor: charge^2/length and dipole^2/length^3.

The cost is O(N^2) at fixed cutoff, from the wave vectors; memory likewise.

References
----------
Toukmaji and Board, Comput. Phys. Commun. 95, 73 (1996),
doi:10.1016/0010-4655(96)00016-1; dipoles: Wang and Holm, J. Chem. Phys. 115, 6351
(2001), doi:10.1063/1.1398588.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..._validate import positive
from ...neighbors import PairList
from ...system import System
from ._sites import find_bonds


class Kernel(Protocol):
    """What the Ewald sum needs to know of a kind of source, values (n, ...)."""

    def pair(self, vectors: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
        """Return the screened energy of each pair, (E,); bare at alpha = 0."""

    def wave(self, k: Tensor, phase: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary parts of the Fourier amplitudes, (n, K)."""

    def itself(self, values: Tensor, alpha: float) -> Tensor:
        """Return what the smooth part counts of each source with itself, (n,)."""


class Charges:
    """Point charges: values (n,)."""

    def pair(self, vectors: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
        """Return q_a q_b erfc(alpha r)/r."""
        r = vectors.norm(dim=1)
        return a * b * torch.erfc(alpha * r) / r

    def wave(self, k: Tensor, phase: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parts of q exp(i k.r)."""
        q = values[:, None]
        return q * phase.cos(), q * phase.sin()

    def itself(self, values: Tensor, alpha: float) -> Tensor:
        """Return alpha q^2 / sqrt(pi)."""
        return alpha / math.sqrt(math.pi) * values**2


class Dipoles:
    """Point dipoles: values (n, 3)."""

    def pair(self, vectors: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
        """Return (a.grad)(b.grad') erfc(alpha r)/r = a.b B(r) - (a.r)(b.r) C(r)."""
        r = vectors.norm(dim=1)
        gauss = 2.0 * alpha / math.sqrt(math.pi) * torch.exp(-((alpha * r) ** 2))
        first = (torch.erfc(alpha * r) / r + gauss) / r**2
        second = (3.0 * first + 2.0 * alpha**2 * gauss) / r**2
        along = (a * vectors).sum(1) * (b * vectors).sum(1)
        return (a * b).sum(1) * first - along * second

    def wave(self, k: Tensor, phase: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parts of i (m.k) exp(i k.r)."""
        along = values @ k.T
        return -along * phase.sin(), along * phase.cos()

    def itself(self, values: Tensor, alpha: float) -> Tensor:
        """Return 2 alpha^3 m^2 / (3 sqrt(pi))."""
        return 2.0 * alpha**3 / (3.0 * math.sqrt(math.pi)) * (values**2).sum(1)


@dataclass(frozen=True)
class Ewald:
    """An Ewald sum with a fixed real-space cutoff.

    Parameters
    ----------
    kernel : Kernel
        :class:`Charges` or :class:`Dipoles`.
    cutoff : float
        Of the sum over pairs, A.
    accuracy : float
        Relative size of what either sum leaves out; sets the screening
        alpha = s/cutoff and the largest wave vector 2 s alpha, s^2 = -ln(accuracy).
    """

    kernel: Kernel
    cutoff: float
    accuracy: float

    def __post_init__(self) -> None:
        positive("cutoff", self.cutoff)
        if not 0.0 < self.accuracy < 1.0:
            raise ValueError(f"accuracy must lie in (0, 1), got {self.accuracy}")

    @property
    def alpha(self) -> float:
        """Screening parameter, 1/A."""
        return math.sqrt(-math.log(self.accuracy)) / self.cutoff

    @property
    def largest_wave(self) -> float:
        """Length of the largest wave vector, 1/A."""
        return 2.0 * self.alpha * math.sqrt(-math.log(self.accuracy))

    def pair_cutoff(self, system: System) -> float:
        """Return the distance out to which pairs are needed, A."""
        return self.cutoff if bool(system.pbc.any()) else 0.0

    def check(self, system: System) -> None:
        """Raise ValueError where a structure is periodic in some directions only."""
        mixed = (system.pbc.any(dim=1) & ~system.pbc.all(dim=1)).nonzero().flatten()
        if len(mixed):
            raise ValueError(
                f"structure {int(mixed[0])} is periodic in some directions only; the "
                "Ewald sum needs all or none: set pbc=True with a layer of vacuum, "
                "or pbc=False"
            )

    def energies(self, system: System, pairs: PairList, values: Tensor) -> Tensor:
        """Return the energy share of each source.

        Parameters
        ----------
        system : System
            Periodic in all directions or none, structure by structure.
        pairs : PairList
        values : (N,) or (N, 3) tensor
            Charges or dipoles; atoms with zero take no part.

        Returns
        -------
        (N,) tensor, values^2/A or values^2/A^3
        """
        source = values.detach().reshape(len(values), -1).ne(0).any(dim=1)
        periodic = system.pbc.all(dim=1)
        bonds = find_bonds(
            system, pairs, self.cutoff, atoms=source & periodic[system.index]
        )
        first, second = values[bonds.i], values[bonds.j]
        screened = self.kernel.pair(bonds.vectors, first, second, self.alpha)
        total = bonds.share(screened)
        for b in range(system.n_systems):
            rows = ((system.index == b) & source).nonzero().flatten()
            positions, sources = system.positions[rows], values[rows]
            if periodic[b]:
                part = self._waves(positions, system.cell[b], sources)
                part = part - self.kernel.itself(sources, self.alpha)
            else:
                part = self._direct(positions, sources)
            total = total.index_add(0, rows, part)
        return total

    def _direct(self, positions: Tensor, values: Tensor) -> Tensor:
        """Return the energy shares of an isolated set of sources."""
        n = len(positions)
        i, j = torch.triu_indices(n, n, 1, device=positions.device)
        half = 0.5 * self.kernel.pair(
            positions[j] - positions[i], values[i], values[j], 0.0
        )
        return half.new_zeros(n).index_add(0, i, half).index_add(0, j, half)

    def _waves(self, positions: Tensor, cell: Tensor, values: Tensor) -> Tensor:
        """Return the energy shares of the smooth part, self-terms included."""
        k = self._wave_vectors(cell)
        square = k.square().sum(1)
        # Half of the wave vectors, each standing for k and -k: 2 x 2 pi/V.
        prefactor = 4.0 * math.pi / torch.linalg.det(cell).abs()
        weight = prefactor * torch.exp(-square / (4.0 * self.alpha**2)) / square
        real, imaginary = self.kernel.wave(k, positions @ k.T, values)
        return real @ (weight * real.sum(0)) + imaginary @ (weight * imaginary.sum(0))

    def _wave_vectors(self, cell: Tensor) -> Tensor:
        """Return one of each k, -k up to the largest wave vector, (K, 3), 1/A."""
        lengths = cell.detach().norm(dim=1)
        reach = (self.largest_wave * lengths / (2.0 * math.pi)).long().tolist()
        ranges = [torch.arange(-n, n + 1, device=cell.device) for n in reach]
        index = torch.cartesian_prod(*ranges)
        # In lexicographic order, the second half are the negatives of the first.
        index = index[: len(index) // 2].to(cell.dtype)
        k = 2.0 * math.pi * index @ torch.linalg.inv(cell).T
        return k[k.detach().square().sum(1) <= self.largest_wave**2]
