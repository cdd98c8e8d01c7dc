"""Langevin dynamics of the lattice, split into kicks, drifts and heat exchange."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...system import System
from .._state import Context


class LatticeBath:
    """Kicks, drifts and heat exchange of the atoms, the steps of BAOAB.

    B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34,
    doi:10.1093/amrx/abs010:

        B  P <- P + dt/2 F          A  R <- R + dt/2 P/M
        O  P <- c P + sqrt((1 - c^2) M kT) xi,  c = exp(-friction dt)

    Parameters
    ----------
    context : Context
    friction : (B,) array
        1/ASE time.
    """

    def __init__(self, context: Context, *, friction: np.ndarray) -> None:
        self._context = context
        self._decay = torch.exp(-context.per_atom(friction) * abs(context.dt))
        self._width = ((1.0 - self._decay**2) * context.mass).sqrt()

    def kick(self, system: System, momenta: Tensor, forces: Tensor | None) -> Tensor:
        """Return the momenta (N, 3) after B; ``forces`` (N, 3), eV/A."""
        assert forces is not None
        constraints = self._context.constraints
        forces = constraints.forces(system, forces)
        return constraints.momenta(system, momenta + 0.5 * self._context.dt * forces)

    def drift(self, system: System, momenta: Tensor) -> tuple[System, Tensor]:
        """Return the structures and the momenta after A."""
        context = self._context
        positions, momenta = context.constraints.drift(
            system, momenta, context.mass, context.dt / 2.0
        )
        return system.replace(positions=positions), momenta

    def exchange(self, system: System, momenta: Tensor, kT: Tensor) -> Tensor:
        """Return the momenta after O with a bath at ``kT`` (N, 1), eV."""
        context = self._context
        momenta = self._decay * momenta + self._width * kT.sqrt() * context.normal()
        if context.zero_momentum:
            momenta = context.without_total_momentum(system, momenta)
        return context.constraints.momenta(system, momenta)
