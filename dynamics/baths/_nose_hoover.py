"""Nose-Hoover chains: a deterministic heat bath for momenta of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._state import Stateful

#: Weights of Yoshida's fourth-order splitting (H. Yoshida, Phys. Lett. A 150, 262
#: (1990), doi:10.1016/0375-9601(90)90092-3); they add up to one.
_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
YOSHIDA = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)


class NoseHooverChain(Stateful):
    """One chain of thermostats per replica.

    With K the kinetic energy of f momenta, and a chain of M = 3 thermostats of
    coordinates eta_j, momenta p_j and inertias Q_1 = f kT tau^2, Q_j = kT tau^2,

        dp/dt     = F - p p_1/Q_1,  deta_j/dt = p_j/Q_j
        dp_1/dt   = 2 K - f kT - p_1 p_2/Q_2
        dp_j/dt   = p_{j-1}^2/Q_{j-1} - kT - p_j p_{j+1}/Q_{j+1}

    conserve K + U + f kT eta_1 + sum_{j>1} kT eta_j + sum_j p_j^2/(2 Q_j) and sample
    the canonical distribution (G. J. Martyna, M. L. Klein, M. E. Tuckerman, J. Chem.
    Phys. 97, 2635 (1992), doi:10.1063/1.463940). The part without F is integrated by
    a reversible factorisation (G. J. Martyna, M. E. Tuckerman, D. J. Tobias, M. L.
    Klein, Mol. Phys. 87, 1117 (1996), doi:10.1080/00268979600100761).

    The chain is a handful of numbers and lives on the CPU, whatever the device of
    the momenta.

    Parameters
    ----------
    degrees_of_freedom : (B,) tensor
        f, the number of independent momenta of each replica. Zero where there are
        none: the chain then does nothing.
    kT : (B,) tensor, eV
        All > 0.
    damping_time : float, ASE time
        tau, the time on which the bath answers.
    """

    #: Thermostats in a chain.
    LENGTH = 3

    def __init__(
        self, degrees_of_freedom: Tensor, kT: Tensor, damping_time: float
    ) -> None:
        f = degrees_of_freedom.cpu().numpy().astype(float)
        self._kT = kT.cpu().numpy().astype(float)
        #: The kinetic target of each link, 2 K = f kT in the first.
        self._target = np.stack([f * self._kT] + [self._kT] * (self.LENGTH - 1))
        count = np.stack([f.clip(1.0)] + [np.ones_like(f)] * (self.LENGTH - 1))
        self._inertia = count * self._kT * damping_time**2
        self._eta = np.zeros_like(self._inertia)
        self._p = np.zeros_like(self._inertia)

    def advance(self, twice_kinetic: Tensor, dt: float) -> Tensor:
        """Move the chain by ``dt`` and return the factors (B,) of the momenta.

        Parameters
        ----------
        twice_kinetic : (B,) tensor, eV
            2 K = sum p^2/M of the momenta before.
        dt : float, ASE time
            Half a time step, before and after the rest of it.
        """
        heat = twice_kinetic.cpu().numpy()
        eta, p, Q = self._eta.copy(), self._p.copy(), self._inertia
        factor = np.ones_like(heat)
        for weight in YOSHIDA:
            h = weight * dt
            for j in reversed(range(self.LENGTH)):
                self._kick(p, j, factor**2 * heat, 0.5 * h)
            factor = factor * np.exp(-h * p[0] / Q[0])
            eta += h * p / Q
            for j in range(self.LENGTH):
                self._kick(p, j, factor**2 * heat, 0.5 * h)
        self._eta, self._p = eta, p
        return torch.from_numpy(factor).to(twice_kinetic)

    def _kick(self, p: np.ndarray, j: int, heat: np.ndarray, h: float) -> None:
        """Advance one thermostat's momentum by ``h``: drag, push, drag."""
        Q = self._inertia
        drag: np.ndarray | float = 1.0
        if j + 1 < self.LENGTH:
            drag = np.exp(-0.5 * h * p[j + 1] / Q[j + 1])
        push = (heat if j == 0 else p[j - 1] ** 2 / Q[j - 1]) - self._target[j]
        p[j] = (p[j] * drag + h * push) * drag

    def energy(self) -> Tensor:
        """Return the chain's part of the conserved energy, (B,), eV."""
        energy = self._target * self._eta + 0.5 * self._p**2 / self._inertia
        return torch.from_numpy(energy.sum(axis=0))

    def state_dict(self) -> dict[str, Any]:
        """Return coordinates and momenta of the chains, each (3, B)."""
        return {
            "eta": torch.from_numpy(self._eta),
            "momenta": torch.from_numpy(self._p),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self._eta = state["eta"].cpu().numpy()
        self._p = state["momenta"].cpu().numpy()
