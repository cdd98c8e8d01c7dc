"""How far a potential couples moments and atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from ...calculators._deepspin import DeepSpinCalculator
from ...potentials import (
    Committee,
    DeepSpinNetwork,
    EmbeddedAtom,
    Potential,
    Sum,
    TimeReversal,
)
from ...potentials.terms._sites import PairTerm, SiteTerm
from ...system import System

#: Couple two atoms of a pair.
_PAIRS = (PairTerm, SiteTerm)

#: Couple all atoms within the cutoff of an atom.
_LOCAL = (DeepSpinNetwork, EmbeddedAtom)


def interaction_reach(atoms: Atoms, *, positions: bool = False) -> float:
    """Return the distance at which the potential ceases to couple two moments, A.

    Pair terms end at their cutoff; per-atom energies that depend on the
    surroundings, as in a network, couple moments on either side of an atom. Sums
    over all distances (dipoles, charges) have no end; twice their cutoff is taken.

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
    reaches = [0.0]
    for term in _terms(atoms.calc.bare_potential):
        if positions or term.uses_spins:
            ends = 1.0 if isinstance(term, _PAIRS) else 2.0
            reaches.append(ends * term.pair_cutoff(system))
    return max(reaches)


def finite_reach(atoms: Atoms) -> float:
    """Return :func:`interaction_reach` between moments where it is certain, or inf."""
    if not isinstance(atoms.calc, DeepSpinCalculator):
        return np.inf
    for term in _terms(atoms.calc.bare_potential):
        if term.uses_spins and not isinstance(term, (*_PAIRS, *_LOCAL)):
            return np.inf
    return interaction_reach(atoms)


def _terms(potential: Potential) -> Iterator[Potential]:
    """Yield what a potential is made of."""
    if isinstance(potential, TimeReversal):
        yield from _terms(potential.potential)
    elif isinstance(potential, Sum | Committee):
        for member in potential.members:
            assert isinstance(member, Potential)
            yield from _terms(member)
    else:
        yield potential
