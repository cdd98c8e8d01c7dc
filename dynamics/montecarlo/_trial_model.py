"""How the energies of trial moves are found for a model: as fast as it allows."""

from __future__ import annotations

from ...potentials import (
    Committee,
    DeepSpinNetwork,
    DipoleDipole,
    EmbeddedAtom,
    Potential,
    Sum,
    TimeReversal,
)
from ...potentials.materials.reference import Material
from ...potentials.terms._sites import PairTerm, SiteTerm
from ...system import System
from .._engine import Engine, PotentialEngine
from ._bilinear import BilinearEnergies
from ._trial_energies import LocalEnergies, TotalEnergies, TrialEnergies

#: Potentials whose per-atom energies are local.
_LOCAL = (PairTerm, SiteTerm, DeepSpinNetwork, EmbeddedAtom)


def local_part(potential: Potential) -> Potential | None:
    """Return the part that depends on spins, if its per-atom energies are local.

    None where they are not, or that is not known: dipole sums, programs of
    DeePMD-kit, potentials from elsewhere that are neither site nor pair terms.
    """
    if type(potential) in (Sum, Material):
        parts = [local_part(m) for m in _members(potential) if m.uses_spins]
        known = [part for part in parts if part is not None]
        return Sum(known) if known and len(known) == len(parts) else None
    if type(potential) in (Committee, TimeReversal):
        members = _members(potential)
        return potential if all(_is_local(m) for m in members) else None
    return potential if isinstance(potential, _LOCAL) else None


def _members(potential: Potential) -> list[Potential]:
    inside = list(potential.children() if isinstance(potential, TimeReversal) else ())
    inside += getattr(potential, "members", ())
    return [part for part in inside if isinstance(part, Potential)]


def _is_local(potential: Potential) -> bool:
    """Return whether all per-atom energies are local, spin-dependent or not."""
    if type(potential) in (Sum, Material, Committee, TimeReversal):
        return all(_is_local(member) for member in _members(potential))
    return isinstance(potential, _LOCAL)


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
    potential = engine.potential if isinstance(engine, PotentialEngine) else None
    part = None if potential is None else local_part(potential)
    if simultaneous and part is None:
        modules = () if potential is None else potential.modules()
        if potential is None or any(isinstance(m, DipoleDipole) for m in modules):
            raise ValueError(
                "simultaneous=True needs per-atom energies that depend on near spins "
                "only, which ASE calculators and dipole sums do not give; leave it out"
            )
        part = potential
    if part is None or simultaneous is False or not isinstance(engine, PotentialEngine):
        return TotalEnergies(engine)
    bilinear = None
    if simultaneous is None:
        bilinear = BilinearEnergies.where_possible(engine, part, system)
    return bilinear or LocalEnergies(engine, part)
