"""The Landau-Lifshitz-Gilbert equation as an angular velocity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..._validate import finite
from ...units import G_FACTOR, HBAR


@dataclass(frozen=True)
class Precession:
    """The LLG equation in Gilbert form, dm/dt = omega x m.

    T. L. Gilbert, IEEE Trans. Magn. 40, 3443 (2004), doi:10.1109/TMAG.2004.836740:

        omega = gamma/(1 + alpha^2) (B + alpha m/|m| x B),  gamma = g/hbar

    which is dm/dt = -gamma/(1+alpha^2) [m x B + alpha/|m| m x (m x B)].

    Attributes
    ----------
    damping : (N, 1) tensor or float
        alpha; the same in every spin, or per atom.
    g_factor : float
    """

    damping: Tensor | float = 0.0
    g_factor: float = G_FACTOR

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError if g_factor is no finite number."""
        finite("g_factor", self.g_factor)

    @property
    def gamma(self) -> float:
        """g/hbar, rad per ASE time and eV/mu_B."""
        return self.g_factor / HBAR

    def rate(self, spins: Tensor, field: Tensor) -> Tensor:
        """Return the angular velocity omega (N, 3) in rad per ASE time.

        Parameters
        ----------
        spins : (N, 3) tensor, mu_B
        field : (N, 3) tensor, eV/mu_B
            -dE/dm, external and random fields included.
        """
        if isinstance(self.damping, float) and self.damping == 0.0:
            return self.gamma * field
        length = torch.linalg.vector_norm(spins, dim=1, keepdim=True)
        direction = spins / torch.where(length > 0, length, 1.0)
        damped = field + self.damping * torch.linalg.cross(direction, field)
        return self.gamma / (1.0 + self.damping**2) * damped

    def noise_amplitude(self, lengths: Tensor, kT: Tensor, dt: float) -> Tensor:
        """Return the standard deviation of the random field, (N, 1), eV/mu_B.

        sigma = sqrt(2 alpha kT / (gamma |m| dt)) per component, which by the
        fluctuation-dissipation theorem keeps each spin at its bath's temperature
        whatever its length (W. F. Brown, Phys. Rev. 130, 1677 (1963),
        doi:10.1103/PhysRev.130.1677). Zero where there is no moment.

        Parameters
        ----------
        lengths, kT : (N, 1) tensors, mu_B and eV
        dt : float, ASE time
        """
        safe = torch.where(lengths > 0, lengths, 1.0)
        variance = 2.0 * self.damping * kT / (self.gamma * safe * abs(dt))
        return torch.where(lengths > 0, variance, 0.0).sqrt()
