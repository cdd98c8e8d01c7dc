"""The atoms' part of BAOAB: Langevin dynamics of the lattice in pieces."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...system import System
from ..drivers._driver import SpinLatticeDynamics


class LatticeBath:
    """Kicks, drifts and heat exchange of the atoms, for drivers to put together.

    B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34,
    doi:10.1093/amrx/abs010:

        B  P <- P + dt/2 F          A  R <- R + dt/2 P/M
        O  P <- c P + sqrt((1 - c^2) M kT) xi,  c = exp(-friction dt)

    Parameters
    ----------
    driver : SpinLatticeDynamics
    friction : (B,) array
        1/ASE time.
    """

    def __init__(self, driver: SpinLatticeDynamics, *, friction: np.ndarray) -> None:
        self.driver = driver
        self._decay = torch.exp(-driver.per_atom(friction) * abs(driver.dt))
        self._width = ((1.0 - self._decay**2) * driver.mass).sqrt()

    def kick(self, system: System, momenta: Tensor, forces: Tensor | None) -> Tensor:
        """Return the momenta (N, 3) after B; ``forces`` (N, 3), eV/A."""
        assert forces is not None
        constraints = self.driver.constraints
        forces = constraints.forces(system, forces)
        return constraints.momenta(system, momenta + 0.5 * self.driver.dt * forces)

    def drift(self, system: System, momenta: Tensor) -> tuple[System, Tensor]:
        """Return the structures and the momenta after A."""
        driver = self.driver
        positions, momenta = driver.constraints.drift(
            system, momenta, driver.mass, driver.dt / 2.0
        )
        return system.replace(positions=positions), momenta

    def exchange(self, system: System, momenta: Tensor, kT: Tensor) -> Tensor:
        """Return the momenta after O with a bath at ``kT`` (N, 1), eV."""
        driver = self.driver
        momenta = self._decay * momenta + self._width * kT.sqrt() * driver.normal()
        if driver.zero_momentum:
            momenta = driver.without_total_momentum(momenta)
        return driver.constraints.momenta(system, momenta)
