"""Invariants of pairs of moments: what functions of distance are multiplied with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...system import System
from ._sites import Bonds, of_elements, unit_spins


@dataclass(frozen=True)
class PairMoments:
    """The moments at the ends of bonds, for :data:`INVARIANTS`.

    Attributes
    ----------
    system : System
    bonds : Bonds
    elements : pair of symbols, optional
        Which atom of a pair is the first, where that matters.
    """

    system: System
    bonds: Bonds
    elements: tuple[str, str] | None

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Moments (E, 3) of atoms i and j, mu_B."""
        return self.system.spins[self.bonds.i], self.system.spins[self.bonds.j]

    @cached_property
    def directions(self) -> tuple[Tensor, Tensor]:
        """Unit vectors (E, 3) along the moments of atoms i and j."""
        e = unit_spins(self.system)
        return e[self.bonds.i], e[self.bonds.j]

    @cached_property
    def alignment(self) -> Tensor:
        """Products e_i.e_j, (E,)."""
        return _dot(*self.directions)

    @cached_property
    def chirality(self) -> Tensor:
        """Products e_i x e_j, (E, 3)."""
        return torch.linalg.cross(*self.directions)

    @cached_property
    def order(self) -> Tensor:
        """1 for bonds from the first element to the second, -1 for others, (E,).

        Raises
        ------
        ValueError
            If the elements are not two different ones.
        """
        if self.elements is None or self.elements[0] == self.elements[1]:
            raise ValueError("bonds are oriented by elements of two kinds")
        forward = of_elements(self.system, self.elements[:1])[self.bonds.i]
        one = torch.ones_like(self.bonds.distances)
        return torch.where(forward, one, -one)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1)


def _lengths(pair: PairMoments) -> Tensor:
    a, b = pair.moments
    return a.norm(dim=1) * b.norm(dim=1)


def _along(a: int, b: int) -> Callable[[PairMoments], Tensor]:
    """Return component a of the bond's direction times component b of chirality."""
    return lambda pair: pair.bonds.directions[:, a] * pair.chirality[:, b]


def _oriented(b: int) -> Callable[[PairMoments], Tensor]:
    """Return component b of the chirality, in the order of the elements."""
    return lambda pair: pair.order * pair.chirality[:, b]


#: Invariants (E,) of pairs by name. Compiled kernels know those of
#: :data:`deepspin_ase.kernels._pair_tables.INVARIANTS`; terms with others are evaluated
#: in torch.
INVARIANTS: dict[str, Callable[[PairMoments], Tensor | float]] = {
    "one": lambda pair: 1.0,
    "magnetic": lambda pair: 1.0,
    "alignment": lambda pair: pair.alignment,
    "alignment^2": lambda pair: pair.alignment**2,
    "product": lambda pair: _dot(*pair.moments),
    "lengths": _lengths,
    **{
        f"bond_{x} chirality_{y}": _along(a, b)
        for a, x in enumerate("xyz")
        for b, y in enumerate("xyz")
    },
    **{f"chirality_{x}": _oriented(b) for b, x in enumerate("xyz")},
}
