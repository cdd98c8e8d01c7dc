"""Hybrid Monte Carlo: trajectories of the lattice, accepted or not as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ase.constraints import FixAtoms, FixCartesian
from torch import Tensor

from ...constraints import FixSpins
from ...system import System
from ..drivers._atoms_sync import State
from ..observables import kinetic_energy
from ._trial_moves import metropolis

if TYPE_CHECKING:
    from ..drivers._driver import SpinLatticeDynamics

#: Time steps are drawn from 1 - JITTER to 1 + JITTER times the one asked for.
JITTER = 0.1


class LatticeMove:
    """Moves all atoms at fixed spins; leaves exp(-E/kT) exactly as it is.

    Momenta are drawn from the Maxwell-Boltzmann distribution, velocity Verlet makes
    ``steps`` steps, and where they end is accepted with the probability
    min(1, exp(-dH/kT)), H = E + sum p^2/2M (S. Duane et al., Phys. Lett. B 195, 216
    (1987), doi:10.1016/0370-2693(87)91197-X): the time step changes the acceptance,
    not the distribution. Every trajectory draws its own time step from within 10 %,
    so that no vibration keeps step with the trajectories (P. B. Mackenzie, Phys.
    Lett. B 226, 369 (1989), doi:10.1016/0370-2693(89)91212-4).

    Parameters
    ----------
    driver : SpinLatticeDynamics
    steps : int
    timestep : float, ASE time

    Raises
    ------
    ValueError
        For constraints other than FixAtoms and FixCartesian.
    """

    def __init__(
        self, driver: SpinLatticeDynamics, *, steps: int, timestep: float
    ) -> None:
        self.driver = driver
        self.steps = steps
        self.timestep = timestep
        masks = FixAtoms, FixCartesian, FixSpins
        for image in driver.images:
            for constraint in image.constraints:
                if not isinstance(constraint, masks):
                    raise ValueError(
                        "hybrid moves keep FixAtoms and FixCartesian, not "
                        f"{type(constraint).__name__}; use SpinLatticeLangevin for it"
                    )

    def __call__(self, kT: Tensor) -> Tensor:
        """Try one trajectory of every structure; return which were accepted.

        Parameters
        ----------
        kT : (B,) tensor, eV

        Returns
        -------
        (B,) bool tensor
        """
        driver = self.driver
        old = driver.state.system
        owner = old.index
        momenta = (driver.mass * kT[owner][:, None]).sqrt() * driver.normal()
        momenta = self._free(momenta)
        system, end, before, after = self._trajectory(old, momenta)
        accepted = metropolis(after - before, kT, driver.generator)
        taken = accepted[owner][:, None]
        driver.state = State(
            old.replace(positions=torch.where(taken, system.positions, old.positions)),
            torch.where(taken, end, momenta),
        )
        return accepted

    def _trajectory(
        self, system: System, momenta: Tensor
    ) -> tuple[System, Tensor, Tensor, Tensor]:
        """Return where velocity Verlet leads, and H (B,) before and after."""
        driver = self.driver
        spread = 2.0 * torch.rand(
            system.n_systems,
            generator=driver.generator,
            device=momenta.device,
            dtype=momenta.dtype,
        )
        dt = self.timestep * (1.0 + JITTER * (spread - 1.0))[system.index][:, None]
        found = driver.evaluate(system)
        before = found.energy + kinetic_energy(system, momenta, driver.mass)
        for _ in range(self.steps):
            momenta = self._kicked(momenta, found.forces, dt)
            positions = system.positions + dt * momenta / driver.mass
            system = system.replace(positions=positions)
            found = driver.evaluate(system)
            momenta = self._kicked(momenta, found.forces, dt)
        after = found.energy + kinetic_energy(system, momenta, driver.mass)
        return system, momenta, before, after

    def _kicked(self, momenta: Tensor, forces: Tensor | None, dt: Tensor) -> Tensor:
        assert forces is not None
        return self._free(momenta + 0.5 * dt * forces)

    def _free(self, momenta: Tensor) -> Tensor:
        """Return the momenta that constraints leave."""
        driver = self.driver
        momenta = momenta * driver.constraints.free
        if driver.zero_momentum:
            momenta = driver.without_total_momentum(momenta)
        return momenta
