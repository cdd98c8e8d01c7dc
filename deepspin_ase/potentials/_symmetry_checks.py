"""Violations of symmetries that a potential does not enforce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from .._result import Result
from .._validate import whole
from ..neighbors import build_pairs
from ..system import System
from ._base import Potential


@dataclass(frozen=True)
class SymmetryViolations(Result):
    """Violations of time reversal and of global spin rotation.

    Attributes
    ----------
    time_reversal_energy : float, eV/atom
        Root mean square over the structures of E(S) - E(-S).
    time_reversal_magnetic_forces : float, eV/mu_B
        Root mean square over the components on atoms with a moment of
        F_m(S) + F_m(-S), where F_m = -dE/dm is odd in exact physics.
    spin_rotation_energy : float, eV/atom
        Standard deviation of E when all moments of a structure turn together
        by random rotations, root mean square over the structures. A violation
        only without spin-orbit coupling: with it, this is the size of the
        anisotropy.
    n_structures, n_rotations : int
        What the numbers are taken over.
    """

    time_reversal_energy: float
    time_reversal_magnetic_forces: float
    spin_rotation_energy: float
    n_structures: int
    n_rotations: int


def symmetry_violations(
    potential: Potential,
    systems: System | Sequence[System],
    *,
    n_rotations: int = 8,
    seed: int = 0,
) -> SymmetryViolations:
    """Measure how far a potential violates the symmetries of its moments.

    External fields break time reversal and spin rotation: leave them out.

    Parameters
    ----------
    potential : Potential
    systems : System or sequence of System
        Representative structures, in batches of any size.
    n_rotations : int
        Random spin rotations, uniform over all of them; at least one.
    seed : int

    Raises
    ------
    ValueError
        If there are no structures, or the potential does not apply to one.
    """
    systems = [systems] if isinstance(systems, System) else list(systems)
    if not systems:
        raise ValueError("expected at least one structure")
    whole("n_rotations", n_rotations, 1)
    rotations = Rotation.random(n_rotations, seed).as_matrix()
    reversal, parity, spread = [], [], []
    for system in systems:
        states = _spin_states(potential, system, rotations)
        energies = torch.stack([energy for energy, _ in states])
        energies = energies / system.counts()
        reversal.append(energies[0] - energies[1])
        magnetic = system.spins.norm(dim=1) > 0
        parity.append((states[0][1] + states[1][1])[magnetic].flatten())
        turned = torch.cat([energies[:1], energies[2:]])
        spread.append(turned.std(0, correction=0))
    return SymmetryViolations(
        time_reversal_energy=_rms(reversal),
        time_reversal_magnetic_forces=_rms(parity),
        spin_rotation_energy=_rms(spread),
        n_structures=sum(system.n_systems for system in systems),
        n_rotations=n_rotations,
    )


def _spin_states(
    potential: Potential, system: System, rotations: Sequence[object]
) -> list[tuple[Tensor, Tensor]]:
    """Return energies and magnetic forces of S, -S and the rotated moments."""
    potential.check(system)
    pairs = build_pairs(system, potential.pair_cutoff(system))
    turns = [torch.eye(3), -torch.eye(3), *map(torch.as_tensor, rotations)]
    states = []
    for turn in turns:
        turned = system.replace(spins=system.spins @ turn.to(system.spins).T)
        found = potential.evaluate(turned, pairs, forces=False, virial=False)
        assert found.magnetic_forces is not None
        states.append((found.energy, found.magnetic_forces))
    return states


def _rms(parts: Sequence[Tensor]) -> float:
    values = torch.cat(list(parts)).double()
    return float(values.square().mean().sqrt()) if len(values) else 0.0
