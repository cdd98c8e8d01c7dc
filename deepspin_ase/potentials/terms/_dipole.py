"""Magnetic dipole-dipole interaction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..._validate import as_symbols, as_vector
from ...neighbors import PairList
from ...system import System
from ...units import DIPOLE
from .._base import Potential
from .._registry import register
from ._ewald import Dipoles, Ewald
from ._sites import magnetic_sites


@register
class DipoleDipole(Potential):
    """Dipole-dipole interaction of the moments.

    E = mu_0 mu_B^2/(4 pi) sum_{i<j} [m_i.m_j - 3 (m_i.r^)(m_j.r^)]/r^3, over all
    periodic images by an Ewald sum, or directly over all pairs of a structure
    without periodicity. The moments enter with their length.

    The periodic sum leaves out the field of the magnetic surface charges, as in
    a long needle along the magnetisation. ``demagnetization`` adds that of an
    ellipsoidal sample, (mu_0/2) M.N.M per volume: (1/3, 1/3, 1/3) for a sphere,
    (0, 0, 1) for a film normal to z.

    Parameters
    ----------
    cutoff : float
        Of the real-space part of the Ewald sum, A. Affects speed only.
    accuracy : float
        Relative truncation error of the Ewald sum.
    demagnetization : (3,) sequence
        Demagnetizing factors N along x, y, z, between 0 and 1.
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.

    Raises
    ------
    ValueError
        On evaluation, for structures periodic in some directions only: use
        pbc=True with vacuum, or pbc=False.
    """

    def __init__(
        self,
        *,
        cutoff: float = 10.0,
        accuracy: float = 1e-10,
        demagnetization: Sequence[float] = (0.0, 0.0, 0.0),
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.elements = as_symbols(elements)
        self.accuracy = accuracy
        self.demagnetization = as_vector("demagnetization", demagnetization)
        if not all(0.0 <= n <= 1.0 for n in self.demagnetization):
            raise ValueError("demagnetizing factors must lie between 0 and 1")
        self._ewald = Ewald(Dipoles(), cutoff, accuracy)

    @property
    def cutoff(self) -> float:
        """Cutoff of the real-space sum, A."""
        return self._ewald.cutoff

    def pair_cutoff(self, system: System) -> float:
        """Return the distance out to which pairs are needed, A."""
        return self._ewald.pair_cutoff(system)

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return infinity."""
        return math.inf

    def check(self, system: System) -> None:
        """Raise ValueError for structures periodic in some directions only."""
        super().check(system)
        self._ewald.check(system)

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        active = magnetic_sites(system, self.elements)[:, None]
        moments = torch.where(active, system.spins, torch.zeros_like(system.spins))
        energies = self._ewald.energies(system, pairs, moments)
        if any(self.demagnetization):
            energies = energies + self._surface(system, moments)
        return DIPOLE * energies

    def _surface(self, system: System, moments: Tensor) -> Tensor:
        """Return 2 pi m.N.M, (N,), with M the moment per volume of a structure."""
        periodic = system.pbc.all(dim=1)
        volume = torch.where(periodic, system.volume, torch.inf)
        magnetization = (system.sum(moments) / volume[:, None])[system.index]
        factors = moments.new_tensor(self.demagnetization)
        return 2.0 * torch.pi * (moments * factors * magnetization).sum(dim=1)
