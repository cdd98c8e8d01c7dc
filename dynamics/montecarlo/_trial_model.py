"""Choice of the fastest evaluation of trial moves that a model allows."""

from __future__ import annotations

from ...potentials import Potential, Sum
from ...system import System
from .._engine import Engine
from ._bilinear import BilinearEnergies
from ._trial_energies import MARGIN, LocalEnergies, TotalEnergies, TrialEnergies


def spin_part(potential: Potential) -> Potential | None:
    """Return the part that depends on spins; None where there is none."""
    terms = potential.terms()
    if terms == [potential]:
        return potential
    spins = [term for term in terms if term.uses_spins]
    return Sum(spins) if spins else None


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
    part = spin_part(potential)
    if part is None or part.external:
        part = None
    elif simultaneous is None:
        bilinear = BilinearEnergies.where_possible(engine, part, system)
        if bilinear is not None:
            return bilinear
    local = part is not None and part.is_local
    if simultaneous and not local:
        if potential.external or _couples_beyond_pairs(potential, system):
            raise ValueError(
                "simultaneous=True needs per-atom energies that depend on near spins "
                "only, which models of other programs, ASE calculators, dipole sums "
                "and lists of bonds do not give; leave it out"
            )
        part = potential
    if part is None or not (local or simultaneous) or simultaneous is False:
        return TotalEnergies(engine)
    return LocalEnergies(engine, part)


def _couples_beyond_pairs(potential: Potential, system: System) -> bool:
    """Return whether a term couples moments that no atom has in its pairs."""
    for term in potential.terms():
        if term.uses_spins:
            ends = term.interaction_range(system, moments_only=True)
            if ends is not None and ends > 2.0 * term.pair_cutoff(system) + MARGIN:
                return True
    return False
