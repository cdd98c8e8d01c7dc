"""Embedded-atom potentials, with two parameter sets for bcc iron."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._validate import as_symbols
from ...neighbors import PairList
from ...system import System
from .._base import Potential
from .._registry import register
from ..radial import Radial, checked
from ._short_range import Blend, ScreenedNuclear
from ._sites import find_bonds, of_elements

Embedding = Callable[[Tensor], Tensor]


@register
class EmbeddedAtom(Potential):
    """Embedded atoms of one kind, E = sum_i F(rho_i) + sum_{i<j} V(r_ij).

    rho_i = sum_j f(r_ij) is the density of the neighbours at atom i. The ready
    parameter sets are :func:`finnis_sinclair_fe` and :func:`dudarev_derlet_fe`.

    Parameters
    ----------
    pair : Radial
        V(r), eV.
    density : Radial
        f(r), not negative, in the unit that the embedding function expects.
    embedding : callable
        F(rho), eV, of a tensor of positive densities; zero at zero density.
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements, all treated alike.

    References
    ----------
    Daw and Baskes, Phys. Rev. B 29, 6443 (1984), doi:10.1103/PhysRevB.29.6443.
    """

    uses_spins = False
    is_local = True

    def __init__(
        self,
        pair: Radial,
        density: Radial,
        embedding: Embedding,
        *,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.pair = checked("pair", pair)
        self.density = checked("density", density)
        self.embedding = embedding
        self.elements = as_symbols(elements)

    @property
    def cutoff(self) -> float:
        """Larger cutoff of the pair and the density function, A."""
        return max(self.pair.cutoff, self.density.cutoff)

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the distance between atoms with a common neighbor, A."""
        return 2.0 * self.cutoff

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        atoms = of_elements(system, self.elements)
        bonds = find_bonds(system, pairs, self.cutoff, atoms=atoms)
        rho = bonds.sum(self.density(bonds.distances))
        embedded = (rho.detach() > 0).nonzero().flatten()
        energies = bonds.share(self.pair(bonds.distances))
        return energies.index_add(0, embedded, self.embedding(rho[embedded]))


@register
@dataclass(frozen=True)
class SquareRoot:
    """Embedding function F = -a sqrt(rho) of the second-moment approximation."""

    a: float

    def __call__(self, rho: Tensor) -> Tensor:
        """Return the embedding energy (eV) at densities rho > 0."""
        return -self.a * rho.sqrt()


@register
@dataclass(frozen=True)
class DudarevDerlet:
    """Embedding function of the magnetic potential of Dudarev and Derlet.

    F = -a sqrt(rho) - (b/ln 2)(1 - sqrt(rho)) ln(2 - rho), the second term for
    rho < 1 only, where the atom is magnetic.
    """

    a: float
    b: float

    def __call__(self, rho: Tensor) -> Tensor:
        """Return the embedding energy (eV) at densities rho > 0."""
        root = rho.sqrt()
        magnetic = (1.0 - root) * torch.log(2.0 - rho.clamp_max(1.0))
        return -self.a * root - self.b / math.log(2.0) * magnetic


@register
@dataclass(frozen=True)
class CubicKnots:
    """Sum of cubic knots, sum_k c_k (r_k - r)^3 over the knots r_k > r.

    Parameters
    ----------
    coefficients : sequence of float
        c_k, in the unit of the value per A^3.
    knots : sequence of float
        r_k, A.
    """

    coefficients: Sequence[float]
    knots: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(self.knots) or not self.knots:
            raise ValueError("expected as many coefficients as knots, at least one")
        for name in ("coefficients", "knots"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def cutoff(self) -> float:
        """Outermost knot, A."""
        return max(self.knots)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the sum at distances ``r``."""
        total = torch.zeros_like(r)
        for coefficient, knot in zip(self.coefficients, self.knots, strict=True):
            total = total + coefficient * (knot - r).clamp_min(0.0) ** 3
        return total


@register
@dataclass(frozen=True)
class FinnisSinclairPair:
    """Pair function (r - cutoff)^2 (c0 + c1 r + c2 r^2) within the cutoff, eV."""

    c0: float
    c1: float
    c2: float
    cutoff: float

    def __call__(self, r: Tensor) -> Tensor:
        """Return the energies at distances ``r``."""
        polynomial = self.c0 + r * (self.c1 + r * self.c2)
        return (self.cutoff - r).clamp_min(0.0) ** 2 * polynomial


@register
@dataclass(frozen=True)
class FinnisSinclairDensity:
    """Density x^2 (1 + beta x/cutoff), x = r - cutoff, within the cutoff, A^2.

    For beta > 1 the cubic has its maximum at r = cutoff (1 - 2/(3 beta)) and
    turns negative farther in; the density is held at the maximum there.
    """

    beta: float
    cutoff: float

    def __call__(self, r: Tensor) -> Tensor:
        """Return the densities at distances ``r``."""
        lowest = -2.0 * self.cutoff / (3.0 * self.beta)
        x = (r - self.cutoff).clamp(lowest, 0.0)
        return x**2 * (1.0 + self.beta * x / self.cutoff)


def finnis_sinclair_fe() -> EmbeddedAtom:
    """Return the Finnis-Sinclair potential of bcc iron.

    Gives a = 2.8665 A, a cohesive energy of 4.280 eV and C11, C12, C44 = 243, 138,
    122 GPa, the values it was fitted to. As published it has no core; here the
    universal nuclear repulsion takes over below 1.2 A, blended in from 2.1 A on,
    and the density stays at its maximum below 2.25 A.

    References
    ----------
    Finnis and Sinclair, Phil. Mag. A 50, 45 (1984), doi:10.1080/01418618408244210,
    with the erratum Phil. Mag. A 53, 161 (1986).
    """
    outer = FinnisSinclairPair(c0=1.2371147, c1=-0.3592185, c2=-0.0385607, cutoff=3.40)
    return EmbeddedAtom(
        Blend(ScreenedNuclear(26, 26), outer, start=1.2, stop=2.1),
        FinnisSinclairDensity(beta=1.8, cutoff=3.569745),
        SquareRoot(1.828905),
        elements=("Fe",),
    )


def dudarev_derlet_fe() -> EmbeddedAtom:
    """Return the magnetic potential of bcc iron of Dudarev and Derlet.

    Fitted to ferromagnetic iron, whose exchange it holds implicitly: spin terms
    on top of it should vanish in the ferromagnet (``subtract_collinear``). Gives
    a = 2.8665 A, a cohesive energy of 4.316 eV and C11, C12, C44 = 243.4, 138.3,
    122.1 GPa. A knot of the density lies 0.0002 A beyond the second neighbours,
    so that strains of 0.2 % already see C11 = 245.9 GPa. Below 1.8 A it is the
    universal nuclear repulsion, joined between there and 2.0 A.

    References
    ----------
    Dudarev and Derlet, J. Phys.: Condens. Matter 17, 7097 (2005),
    doi:10.1088/0953-8984/17/44/003; parameters as used by Ma, Dudarev, Woo,
    Comput. Phys. Commun. 207, 350 (2016), doi:10.1016/j.cpc.2016.05.017.
    """
    density = CubicKnots(
        (
            0.9332056681088162,
            -1.1625587825677,
            -0.3502026949249225,
            0.4287820835430028,
            4.907925057809273,
            -5.307049068415304,
        ),
        (3.0, 2.8666666666666667, 2.7333333333333333, 2.6, 2.4, 2.3),
    )
    outer = CubicKnots(
        (
            -0.1960674387419232,
            0.3687525935422963,
            -1.505333614924853,
            4.948907078156191,
            -4.894613262753399,
            3.468897724782442,
            -1.792218099820337,
            80.22069592246987,
        ),
        (4.1, 3.8, 3.5, 3.2, 2.9, 2.6, 2.4, 2.3),
    )
    return EmbeddedAtom(
        Blend(ScreenedNuclear(26, 26), outer, start=1.8, stop=2.0),
        density,
        DudarevDerlet(a=4.100199340884814, b=1.565647547483517),
        elements=("Fe",),
    )
