"""Choice of the fastest evaluation of trial moves that a model allows."""

from __future__ import annotations

import math

from ...potentials import Potential, Sum
from ...system import System
from .._engine import Engine
from ._bilinear import BilinearEnergies
from ._trial_energies import LocalEnergies, TotalEnergies, TrialEnergies


def local_part(potential: Potential) -> Potential | None:
    """Return the part that depends on spins, if its per-atom energies are local.

    None where they are not, or that is not known.
    """
    if potential.external:
        return None
    terms = potential.terms()
    if terms == [potential]:
        return potential if potential.is_local else None
    spins = [term for term in terms if term.uses_spins]
    local = bool(spins) and all(term.is_local for term in spins)
    return Sum(spins) if local else None


def trial_energies(
    engine: Engine, system: System, simultaneous: bool | None = None
) -> TrialEnergies:
    """Return the energies of trial moves with the model of ``engine``.

    Parameters
    ----------
    engine : Engine
    system : System
        The present state.
    simultaneous : bool, optional
        Try independent spins together; by default where per-atom energies are
        known to be local.

    Raises
    ------
    ValueError
        If True is asked for where it cannot be.
    """
    potential = engine.potential
    part = local_part(potential)
    if simultaneous and part is None:
        if potential.external or _couples_all(potential, system):
            raise ValueError(
                "simultaneous=True needs per-atom energies that depend on near spins "
                "only, which models of other programs, ASE calculators and dipole sums "
                "do not give; leave it out"
            )
        part = potential
    if part is None or simultaneous is False:
        return TotalEnergies(engine)
    bilinear = None
    if simultaneous is None:
        bilinear = BilinearEnergies.where_possible(engine, part, system)
    return bilinear or LocalEnergies(engine, part)


def _couples_all(potential: Potential, system: System) -> bool:
    """Return whether a term couples moments at all distances."""
    ranges = [
        term.interaction_range(system, moments_only=True)
        for term in potential.terms()
        if term.uses_spins
    ]
    return math.inf in ranges
