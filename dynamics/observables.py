"""Observables of a state: temperatures, order, pressure.

Every function takes a batch and returns one value per structure.
"""

from __future__ import annotations

import torch
from ase import units
from torch import Tensor

from ..potentials import Prediction
from ..system import System

__all__ = [
    "kinetic_energy",
    "lattice_temperature",
    "magnetization",
    "pressure",
    "staggered_magnetization",
    "sublattices",
]


def kinetic_energy(system: System, momenta: Tensor, masses: Tensor) -> Tensor:
    """Return sum p^2/2M, (B,), eV; momenta (N, 3) and masses (N, 1) in ASE units."""
    return system.sum((momenta * momenta / masses).sum(1)) / 2.0


def lattice_temperature(kinetic: Tensor, degrees_of_freedom: Tensor) -> Tensor:
    """Return 2 E_kin / (k f), (B,), K, for f degrees of freedom (B,)."""
    return 2.0 * kinetic / (units.kB * degrees_of_freedom.clamp_min(1.0))


def magnetization(system: System) -> Tensor:
    """Return the mean moment per magnetic atom of each structure, (B, 3), mu_B."""
    return _per_magnetic_atom(system, system.spins)


def sublattices(system: System) -> Tensor:
    """Return the signs (N, 1) of the moments along their structure's main axis.

    The axis is the leading eigenvector of sum m m^T: a simple way to separate the
    two sublattices of a collinear order. Zero where there is no moment.
    """
    moments = system.sum(system.spins[:, :, None] * system.spins[:, None, :])
    axis = torch.linalg.eigh(moments).eigenvectors[:, :, -1]
    along = (system.spins * axis[system.index]).sum(1, keepdim=True)
    return along.sign()


def staggered_magnetization(system: System, signs: Tensor) -> Tensor:
    """Return the mean of signs (N, 1) times moments, (B, 3), mu_B per magnetic atom."""
    return _per_magnetic_atom(system, signs * system.spins)


def _per_magnetic_atom(system: System, values: Tensor) -> Tensor:
    """Return the mean of values (N, 3) over the atoms with a moment, (B, 3)."""
    magnetic = (system.spins != 0).any(dim=1, keepdim=True).to(values)
    return system.sum(values) / system.sum(magnetic).clamp_min(1.0)


def pressure(system: System, prediction: Prediction, kinetic: Tensor) -> Tensor:
    """Return (2 E_kin + trace of the virial) / (3 V), (B,), eV/A^3.

    The virial is taken at fixed Cartesian moments, so the moments contribute to it.
    Zero where a direction is not periodic, NaN where the virial is not known.
    """
    if prediction.virial is None:
        return torch.full_like(kinetic, torch.nan)
    trace = prediction.virial.diagonal(dim1=1, dim2=2).sum(1)
    periodic = system.pbc.all(dim=1)
    volume = torch.where(periodic, system.volume, 1.0)
    return torch.where(periodic, (2.0 * kinetic + trace) / (3.0 * volume), 0.0)
