"""Rigid ions: Buckingham pair potentials and point charges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._validate import as_symbols, atomic_numbers_of, finite, positive
from ...neighbors import PairList
from ...system import System
from ...units import COULOMB
from .._base import Potential
from .._registry import register
from ..radial import Switched
from ._ewald import Charges, Ewald
from ._sites import find_bonds, of_elements


@register
@dataclass(frozen=True)
class Buckingham:
    """Buckingham potential A exp(-r/rho) - C/r^6, eV, cut off abruptly.

    Parameters
    ----------
    A : float
        eV.
    rho : float
        A.
    C : float
        eV A^6.
    cutoff : float
        A.
    """

    A: float
    rho: float
    C: float
    cutoff: float

    def __post_init__(self) -> None:
        finite("A", self.A)
        positive("rho", self.rho)
        finite("C", self.C)
        positive("cutoff", self.cutoff)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the energies at distances ``r``."""
        values = self.A * torch.exp(-r / self.rho) - self.C / r**6
        return torch.where(r < self.cutoff, values, torch.zeros_like(values))


@register
class BuckinghamCoulomb(Potential):
    """Rigid-ion model, E = sum_{i<j} q_i q_j e^2/(4 pi eps0 r) + A exp(-r/rho) - C/r^6.

    The charges are summed by Ewald's method in periodic structures and directly
    in those without periodicity; the Buckingham terms are switched off smoothly
    over the last A before the cutoff. With C > 0 the form has no lower bound at
    short distance: keep ions apart, or add a :class:`ZBL` core.

    Parameters
    ----------
    charges : mapping from symbol to float
        Charge of every element that may occur, in e.
    pairs : mapping from "A-B" to (A, rho, C)
        Buckingham parameters in eV, A and eV A^6, such as
        ``{"Ni-O": (683.5, 0.3332, 0.0)}``, in either order of the elements.
    cutoff : float
        Of the Buckingham terms and of the real-space Ewald sum, A; above 1.
    accuracy : float
        Relative truncation error of the Ewald sum.

    Raises
    ------
    ValueError
        If the parameters are malformed or name an element without a charge; on
        evaluation, for unknown elements, for periodic structures that are not
        neutral, and for those periodic in some directions only.
    """

    uses_spins = False

    def __init__(
        self,
        charges: Mapping[str, float],
        pairs: Mapping[str, Sequence[float]],
        *,
        cutoff: float = 10.0,
        accuracy: float = 1e-10,
    ) -> None:
        super().__init__()
        elements = as_symbols(tuple(charges)) or ()
        self.charges = {k: finite("a charge", q) for k, q in charges.items()}
        self.species = frozenset(atomic_numbers_of(elements))
        self.pairs = {name: tuple(values) for name, values in pairs.items()}
        self.accuracy = accuracy
        self._ewald = Ewald(Charges(), cutoff, accuracy)
        if cutoff <= 1.0:
            raise ValueError(f"cutoff must exceed 1 A, got {cutoff}")
        self._terms = [self._term(name, cutoff) for name in self.pairs]

    def _term(self, name: str, cutoff: float) -> tuple[tuple[str, str], Switched]:
        elements = tuple(name.split("-"))
        if len(elements) != 2 or not set(elements) <= self.charges.keys():
            raise ValueError(
                f"pairs must be named like 'Ni-O', of elements with charges "
                f"({', '.join(self.charges)}); got {name!r}"
            )
        if len(self.pairs[name]) != 3:
            raise ValueError(f"expected (A, rho, C) for {name}, got {self.pairs[name]}")
        a, rho, c = self.pairs[name]
        radial = Switched(Buckingham(a, rho, c, cutoff), start=cutoff - 1.0)
        return (elements[0], elements[1]), radial

    @property
    def cutoff(self) -> float:
        """Cutoff of the sums over pairs, A."""
        return self._ewald.cutoff

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return infinity."""
        return math.inf

    def ionic_charges(self, system: System) -> Tensor:
        """Return the charges (N,) of the atoms, e."""
        total = system.positions.new_zeros(system.n_atoms)
        for element, charge in self.charges.items():
            total = total.masked_fill(of_elements(system, (element,)), charge)
        return total

    def check(self, system: System) -> None:
        """Raise ValueError where the model does not apply to ``system``."""
        super().check(system)
        self._ewald.check(system)
        excess = system.sum(self.ionic_charges(system)) * system.pbc.all(dim=1)
        if bool((excess.abs() > 1e-6).any()):
            b = int(excess.abs().argmax())
            raise ValueError(
                f"periodic structure {b} has a net charge of {float(excess[b]):g} e; "
                "the energy of a charged crystal is infinite"
            )

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        charges = self.ionic_charges(system)
        total = COULOMB * self._ewald.energies(system, pairs, charges)
        for elements, radial in self._terms:
            bonds = find_bonds(system, pairs, radial.cutoff, elements=elements)
            total = total + bonds.share(radial(bonds.distances))
        return total
