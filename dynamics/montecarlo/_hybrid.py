"""Hybrid Monte Carlo: trajectories of the lattice, accepted or rejected as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from torch import Tensor

from ...constraints import FixSpins
from ...system import System
from .._state import Context, State
from ..observables import kinetic_energy
from ._trial_moves import metropolis

#: Time steps are drawn from 1 - JITTER to 1 + JITTER times the one asked for.
JITTER = 0.1


class LatticeMove:
    """Trial move of all atoms at fixed spins, in detailed balance with exp(-E/kT).

    Momenta are drawn from the Maxwell-Boltzmann distribution, velocity Verlet makes
    ``steps`` steps, and their end is accepted with the probability
    min(1, exp(-dH/kT)), H = E + sum p^2/2M (S. Duane et al., Phys. Lett. B 195, 216
    (1987), doi:10.1016/0370-2693(87)91197-X): the time step changes the acceptance,
    not the distribution. Every trajectory draws its own time step from within 10 %,
    so that no vibration keeps step with the trajectories (P. B. Mackenzie, Phys.
    Lett. B 226, 369 (1989), doi:10.1016/0370-2693(89)91212-4).

    Parameters
    ----------
    context : Context
    images : sequence of Atoms
        Whose constraints are checked.
    steps : int
    timestep : float, ASE time

    Raises
    ------
    ValueError
        For constraints other than FixAtoms and FixCartesian.
    """

    def __init__(
        self,
        context: Context,
        images: Sequence[Atoms],
        *,
        steps: int,
        timestep: float,
    ) -> None:
        self._context = context
        self.steps = steps
        self.timestep = timestep
        masks = FixAtoms, FixCartesian, FixSpins
        for image in images:
            for constraint in image.constraints:
                if not isinstance(constraint, masks):
                    raise ValueError(
                        "hybrid moves keep FixAtoms and FixCartesian, not "
                        f"{type(constraint).__name__}; use SpinLatticeLangevin for it"
                    )

    def __call__(self, state: State, kT: Tensor) -> tuple[State, Tensor]:
        """Try one trajectory of every structure.

        Parameters
        ----------
        state : State
        kT : (B,) tensor, eV

        Returns
        -------
        state : State
        accepted : (B,) bool tensor
        """
        context, old = self._context, state.system
        owner = old.index
        momenta = (context.mass * kT[owner][:, None]).sqrt() * context.normal()
        momenta = self._free(old, momenta)
        system, end, before, after = self._trajectory(old, momenta)
        accepted = metropolis(after - before, kT, context.generator)
        taken = accepted[owner][:, None]
        positions = torch.where(taken, system.positions, old.positions)
        new = State(old.replace(positions=positions), torch.where(taken, end, momenta))
        return new, accepted

    def _trajectory(
        self, system: System, momenta: Tensor
    ) -> tuple[System, Tensor, Tensor, Tensor]:
        """Return the end of the trajectory, and H (B,) before and after."""
        context = self._context
        spread = 2.0 * torch.rand(
            system.n_systems,
            generator=context.generator,
            device=momenta.device,
            dtype=momenta.dtype,
        )
        dt = self.timestep * (1.0 + JITTER * (spread - 1.0))[system.index][:, None]
        found = context.evaluate(system)
        before = found.energy + kinetic_energy(system, momenta, context.mass)
        for _ in range(self.steps):
            momenta = self._kicked(system, momenta, found.forces, dt)
            positions = system.positions + dt * momenta / context.mass
            system = system.replace(positions=positions)
            found = context.evaluate(system)
            momenta = self._kicked(system, momenta, found.forces, dt)
        after = found.energy + kinetic_energy(system, momenta, context.mass)
        return system, momenta, before, after

    def _kicked(
        self, system: System, momenta: Tensor, forces: Tensor | None, dt: Tensor
    ) -> Tensor:
        assert forces is not None
        return self._free(system, momenta + 0.5 * dt * forces)

    def _free(self, system: System, momenta: Tensor) -> Tensor:
        """Return the momenta that constraints leave."""
        momenta = momenta * self._context.constraints.free
        if self._context.zero_momentum:
            momenta = self._context.without_total_momentum(system, momenta)
        return momenta
