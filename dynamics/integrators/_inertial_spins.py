"""Moments with an artificial mass: positions on a sphere, or in space."""

from __future__ import annotations

import torch
from torch import Tensor

from ...system import System
from ._rotations import rotate, with_lengths


class InertialSpins:
    """Mechanics of moments m with mass mu, momenta P and force B = -dE/dm.

    dm/dt = P/mu,  dP/dt = B. Moments of fixed length move on the sphere |m| = const:
    momenta and forces are tangential, and without force m and P rotate together at the
    rate omega = m x P/(mu |m|^2) on a great circle, which is solved exactly.

    Parameters
    ----------
    mass : float
        mu, eV (ASE time)^2/mu_B^2.
    magnitudes : bool
        Let the lengths move as well.
    lengths : (N, 1) tensor, mu_B
        Atoms of length zero have no moment and get none.
    free : (N, 1) tensor
        Zero for moments that are held.
    """

    def __init__(
        self, *, mass: float, magnitudes: bool, lengths: Tensor, free: Tensor
    ) -> None:
        self.mass = mass
        self.magnitudes = magnitudes
        self._lengths = lengths
        self._free = free * (lengths > 0)

    def degrees_of_freedom(self, system: System) -> Tensor:
        """Return the number of each structure, (B,): 2 or 3 for a free moment."""
        each = 3.0 if self.magnitudes else 2.0
        return each * system.sum(self._free[:, 0])

    def tangential(self, spins: Tensor, vectors: Tensor) -> Tensor:
        """Return the part of ``vectors`` (N, 3) that may move ``spins`` (N, 3)."""
        if not self.magnitudes:
            along = (spins * vectors).sum(1, keepdim=True) * spins
            length = torch.where(self._lengths > 0, self._lengths, 1.0)
            vectors = vectors - along / length**2
        return vectors * self._free

    def maxwell(self, spins: Tensor, normal: Tensor, kT: Tensor) -> Tensor:
        """Return momenta (N, 3) of the Maxwell distribution.

        Parameters
        ----------
        spins : (N, 3) tensor, mu_B
        normal : (N, 3) tensor
            Standard normal numbers.
        kT : (N, 1) tensor, eV
        """
        width = (self.mass * kT).sqrt()
        return self.tangential(spins, width * normal)

    def angular_velocity(self, spins: Tensor, momenta: Tensor) -> Tensor:
        """Return omega = m x P/(mu |m|^2), (N, 3), rad per ASE time."""
        square = (spins * spins).sum(1, keepdim=True)
        square = torch.where(square > 0, square, 1.0)
        return torch.linalg.cross(spins, momenta) / (self.mass * square)

    def drift(self, spins: Tensor, momenta: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """Return spins and momenta after a time ``dt`` without forces."""
        if self.magnitudes:
            return spins + dt / self.mass * momenta, momenta
        rotation = dt * self.angular_velocity(spins, momenta)
        spins = with_lengths(rotate(spins, rotation), self._lengths)
        return spins, self.tangential(spins, rotate(momenta, rotation))

    def kinetic_energy(self, system: System, momenta: Tensor) -> Tensor:
        """Return sum P^2/2mu, (B,), eV."""
        return system.sum((momenta * momenta).sum(1)) / (2.0 * self.mass)
