"""Bases of terms: energies of single moments, and of pairs of atoms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._validate import as_symbol_pair, as_symbols, atomic_numbers_of
from ...kernels import PairTermData, has_invariants
from ...neighbors import PairList
from ...system import System
from .._base import Potential, QuadraticForm
from ..radial import Radial, checked
from ._invariants import INVARIANTS, PairMoments
from ._quadratic import pair_form, site_form
from ._sites import Bonds, find_bonds, magnetic_sites


class SiteTerm(Potential):
    """An energy of each moment by itself; atoms without a moment contribute none.

    Parameters
    ----------
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.
    """

    is_local = True

    def __init__(self, *, elements: Sequence[str] | None = None) -> None:
        super().__init__()
        self.elements = as_symbols(elements)

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return zero: the term couples nothing."""
        return 0.0

    def quadratic_form(self, system: System, pairs: PairList) -> QuadraticForm | None:
        """Return the energy as a form of the moments, where it is quadratic."""
        atoms = magnetic_sites(system, self.elements).nonzero().flatten()
        return site_form(self.site_energies, system, atoms)

    def site_energies(self, moments: Tensor) -> Tensor:
        """Return the energies (n,), eV, of moments (n, 3), mu_B, none of them zero."""
        raise NotImplementedError

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        sites = magnetic_sites(system, self.elements).nonzero().flatten()
        energies = self.site_energies(system.spins[sites])
        return system.spins.new_zeros(system.n_atoms).index_add(0, sites, energies)


class PairTerm(Potential):
    """An energy of each pair of atoms, shared half and half.

    Where the energy depends on spins, only pairs that both carry a moment count.

    Parameters
    ----------
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    is_local = True
    is_pairwise = True

    def __init__(self, *, elements: Sequence[str] | None = None) -> None:
        super().__init__()
        self.elements = as_symbol_pair(elements)

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the distance out to which there are pairs, A."""
        return self.pair_cutoff(system)

    def quadratic_form(self, system: System, pairs: PairList) -> QuadraticForm | None:
        """Return the energy as a form of the moments, where it is bilinear."""
        return pair_form(self.pair_energies, system, self.bonds(system, pairs))

    def pair_energies(self, system: System, bonds: Bonds) -> Tensor:
        """Return the energy (E,), eV, of each bond; the same for i-j and j-i."""
        raise NotImplementedError

    def bonds(self, system: System, pairs: PairList) -> Bonds:
        """Return the bonds that the term acts on."""
        atoms = magnetic_sites(system) if self.uses_spins else None
        return find_bonds(
            system, pairs, self.cutoff, atoms=atoms, elements=self.elements
        )

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        bonds = self.bonds(system, pairs)
        return bonds.share(self.pair_energies(system, bonds))


class RadialTerm(PairTerm):
    """A pair term E = sum_{i<j} f(r_ij) sum_k w_k I_k.

    A subclass says which invariants I_k of the two moments and weights w_k it has
    (:meth:`invariants`); torch and the compiled kernels take the energy from there.

    Parameters
    ----------
    radial : Radial
        Strength f against distance, see :mod:`deepspin_ase.potentials.radial`.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    def __init__(
        self, radial: Radial, *, elements: Sequence[str] | None = None
    ) -> None:
        super().__init__(elements=elements)
        self.radial = checked("radial", radial)

    @property
    def cutoff(self) -> float:
        """Cutoff of the radial function, A."""
        return self.radial.cutoff

    def invariants(self) -> dict[str, float]:
        """Return the weights w_k of the invariants, names of :data:`INVARIANTS`."""
        raise NotImplementedError

    def between(self, first: Any, second: Any) -> Radial:
        """Return f between two atomic numbers, or tensors of them."""
        return self.radial

    def pair_energies(self, system: System, bonds: Bonds) -> Tensor:
        """Return the energy (E,), eV, of each bond."""
        pair = PairMoments(system, bonds, self.elements)
        weights = self.invariants().items()
        shape = sum(weight * INVARIANTS[name](pair) for name, weight in weights)
        first, second = system.species[bonds.i], system.species[bonds.j]
        return self.between(first, second)(bonds.distances) * shape

    def pair_term(self, species: tuple[int, ...]) -> PairTermData | None:
        """Return the term for compiled kernels.

        Derived classes may have changed the formula, and functions that can change
        are not tabulated.
        """
        if self.backend != "fused" or _changed(type(self)):
            return None
        invariants = tuple(self.invariants().items())
        functions = tuple(
            (pair, self.between(*pair)) for pair in self._pairs_of(species)
        )
        if not (
            has_invariants(self.invariants()) and all(map(_is_constant, functions))
        ):
            return None
        return PairTermData(invariants, functions)

    def _pairs_of(self, species: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the pairs of elements that the term acts on, each once."""
        if self.elements is not None:
            first, second = atomic_numbers_of(self.elements)
            present = first in species and second in species
            return [(first, second)] if present else []
        return [(a, b) for k, a in enumerate(species) for b in species[k:]]


def _changed(cls: type) -> bool:
    """Return whether a class evaluates itself in another way than its base."""
    names = ("pair_energies", "bonds", "forward")
    return any(getattr(cls, name) is not getattr(RadialTerm, name) for name in names)


def _is_constant(value: Any) -> bool:
    """Return whether a value is made of frozen dataclasses and numbers throughout."""
    if value is None or isinstance(value, bool | int | float | str):
        return True
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    parameters = getattr(type(value), "__dataclass_params__", None)
    return (
        parameters is not None
        and parameters.frozen
        and all(_is_constant(getattr(value, f.name)) for f in dataclasses.fields(value))
    )
