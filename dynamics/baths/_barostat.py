"""The cell as a degree of freedom: Martyna, Tobias and Klein's barostat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import units
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor

from ...system import System
from .._constraints import Constraints
from .._engine import Engine
from .._state import Stateful
from ._nose_hoover import NoseHooverChain

#: Names of the sets of free components of the strain rate.
CELLS = ("isotropic", "anisotropic", "flexible")


def target_stress(
    pressure_GPa: float | Sequence[float] | None,
    stress_GPa: Sequence[float] | None,
    count: int,
) -> np.ndarray:
    """Return the stress to reach, (B, 3, 3), eV/A^3, tensile positive.

    Parameters
    ----------
    pressure_GPa : float or sequence, optional
        One number, or one for each of ``count`` replicas; either sign.
    stress_GPa : (6,) sequence, optional
        Instead of the pressure: xx, yy, zz, yz, xz, xy.
    count : int

    Raises
    ------
    ValueError
        If both are given, or numbers are not finite or not as many as needed.
    """
    if stress_GPa is None:
        pressure = np.asarray(0.0 if pressure_GPa is None else pressure_GPa, float)
        if pressure.size not in (1, count) or not np.isfinite(pressure).all():
            raise ValueError(
                f"pressure_GPa must be one finite number or {count}, got {pressure_GPa}"
            )
        each = np.broadcast_to(pressure.reshape(-1), (count,))
        return -units.GPa * each[:, None, None] * np.eye(3)
    if pressure_GPa is not None:
        raise ValueError("give pressure_GPa or stress_GPa, not both")
    stress = np.asarray(stress_GPa, float)
    if stress.shape != (6,) or not np.isfinite(stress).all():
        raise ValueError(
            "stress_GPa must be six finite numbers, xx, yy, zz, yz, xz, xy, tensile "
            f"positive; got {stress_GPa}"
        )
    full = units.GPa * voigt_6_to_full_3x3_stress(stress)
    return np.broadcast_to(full, (count, 3, 3)).copy()


def free_strains(cell: str, mask: Sequence[bool] | None) -> np.ndarray:
    """Return a mask (3, 3) of the free components of the strain, one or zero.

    Raises
    ------
    ValueError
        If ``cell`` is unknown, or ``mask`` does not fit it.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
    free = np.ones((3, 3)) if cell == "flexible" else np.eye(3)
    if mask is None:
        return free
    if cell == "isotropic":
        raise ValueError("an isotropic cell takes no mask: use cell='anisotropic'")
    if np.shape(mask) != (6,):
        raise ValueError(
            f"mask must be six booleans, xx, yy, zz, yz, xz, xy; got {mask!r}"
        )
    free = free * voigt_6_to_full_3x3_stress(np.asarray(mask, bool).astype(float))
    if not free.any():
        raise ValueError(f"mask {mask!r} leaves nothing of the cell {cell!r} free")
    return free


class Barostat(Stateful):
    """Equations of motion of atoms in a cell under a given stress.

    G. J. Martyna, D. J. Tobias and M. L. Klein, J. Chem. Phys. 101, 4177 (1994),
    doi:10.1063/1.467468. With the strain rate v = p_g/W, N_f degrees of freedom of
    the atoms, their virial Xi = -dE/dstrain and the target stress sigma,

        dr/dt = p/M + v r,   dh/dt = v h  (h: lattice vectors)
        dp/dt = F - v p - (tr v/N_f) p
        dp_g/dt = sum p p^T/M + Xi + V sigma + (sum p^2/M)/N_f - (p_1/Q_1) p_g

    and a separate Nose-Hoover chain on p_g. v is symmetric, so that the cell does
    not rotate; in an isotropic cell it is a multiple of one, in an anisotropic one
    diagonal. W = (N_f + 3) kT tau^2/3.

    Parameters
    ----------
    cell : {"isotropic", "anisotropic", "flexible"}
    mask : (6,) booleans, optional
        Components xx, yy, zz, yz, xz, xy of the strain that are free.
    stress : (B, 3, 3) tensor, eV/A^3
        Tensile positive.
    degrees_of_freedom : (B,) tensor
        N_f.
    kT : (B,) tensor, eV
    damping_time : float, ASE time
        tau, of the cell.
    chain_time : float, ASE time
        Of its chain. An elastic solid's cell swings several times faster than tau:
        a chain as slow as tau would leave it alone.
    """

    def __init__(
        self,
        *,
        cell: str,
        mask: Sequence[bool] | None,
        stress: Tensor,
        degrees_of_freedom: Tensor,
        kT: Tensor,
        damping_time: float,
        chain_time: float,
    ) -> None:
        free = free_strains(cell, mask)
        self._isotropic = cell == "isotropic"
        self._free = torch.from_numpy(free).to(stress)
        self._one = torch.eye(3).to(stress)
        self.set_stress(stress)
        self._n_free = degrees_of_freedom.clamp_min(1.0)[:, None, None]
        self._W = ((degrees_of_freedom + 3.0) * kT * damping_time**2 / 3.0)[
            :, None, None
        ]
        strains = 1.0 if self._isotropic else float(np.triu(free).sum())
        counts = torch.full_like(kT, strains)
        self.chain = NoseHooverChain(counts, kT, chain_time)
        self.momenta = torch.zeros_like(stress)
        self.work = torch.zeros_like(kT)

    def set_stress(self, stress: Tensor) -> None:
        """Change the target stress, (B, 3, 3), eV/A^3, tensile positive."""
        self._stress = stress
        self._pressure = -stress.diagonal(dim1=1, dim2=2).mean(dim=1)
        self._shear = stress + self._pressure[:, None, None] * self._one

    @property
    def strain_rate(self) -> Tensor:
        """The symmetric v = p_g/W, (B, 3, 3), per ASE time."""
        return self.momenta / self._W

    def thermostat(self, dt: float) -> None:
        """Let the chain act on the cell for ``dt``."""
        factor = self.chain.advance(2.0 * self._kinetic(), dt)
        self.momenta = factor[:, None, None] * self.momenta

    def kick(
        self, system: System, momenta: Tensor, mass: Tensor, virial: Tensor, dt: float
    ) -> None:
        """Let the difference of stresses act on the cell for ``dt``.

        Parameters
        ----------
        system : System
        momenta : (N, 3) tensor, ASE units
        mass : (N, 1) tensor
        virial : (B, 3, 3) tensor, eV
            At fixed Cartesian moments: what the moments do to the lattice is in it.
        dt : float, ASE time
        """
        flow = system.sum((momenta / mass)[:, :, None] * momenta[:, None, :])
        twice_kinetic = flow.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
        force = flow + virial + system.volume[:, None, None] * self._stress
        force = force + twice_kinetic / self._n_free * self._one
        force = 0.5 * (force + force.transpose(1, 2)) * self._free
        if self._isotropic:
            force = _trace(force) / 3.0 * self._one
        self.momenta = self.momenta + dt * force

    def accelerate(
        self, system: System, momenta: Tensor, forces: Tensor, dt: float
    ) -> Tensor:
        """Return the momenta (N, 3) after forces have acted for ``dt``."""
        v = self.strain_rate
        rate = -(v + _trace(v) / self._n_free * self._one)
        grown, driven = _flow(rate, dt)
        k = system.index
        return _apply(momenta, grown[k]) + _apply(forces, driven[k])

    def drift(self, system: System, momenta: Tensor, mass: Tensor, dt: float) -> System:
        """Return the system after atoms and cell have moved for ``dt``."""
        v = self.strain_rate
        grown, driven = _flow(v, dt)
        k = system.index
        moved = system.replace(
            positions=_apply(system.positions, grown[k])
            + _apply(momenta / mass, driven[k]),
            cell=system.cell @ grown,
        )
        power = (self._shear * v).sum(dim=(1, 2))
        self.work = self.work + 0.5 * dt * power * (system.volume + moved.volume)
        return moved

    def _kinetic(self) -> Tensor:
        return (self.momenta**2 / self._W).sum(dim=(1, 2)) / 2.0

    def energy(self, system: System) -> Tensor:
        """Return the cell's part of the conserved energy, (B,), eV.

        tr(p_g^2)/2W + P V + the chain - the work of the shear part of the target
        stress, int V s:v dt. A constant shear stress has no potential energy: its
        work is added up along the way.
        """
        chain = self.chain.energy().to(self.work)
        return self._kinetic() + self._pressure * system.volume - self.work + chain

    def state_dict(self) -> dict[str, Any]:
        """Return momenta and work of the cell, and the state of its chain."""
        return {
            "momenta": self.momenta,
            "work": self.work,
            "chain": self.chain.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self.momenta, self.work = state["momenta"], state["work"]
        self.chain.load_state_dict(state["chain"])


def require_free_cells(
    system: System, constraints: Constraints, engine: Engine
) -> None:
    """Check that cells can change.

    Raises
    ------
    ValueError
        If a direction is not periodic, atoms are constrained, or the calculator gives
        no stress.
    """
    periodic = system.pbc.all(dim=1)
    if not bool(periodic.all()):
        k = int(torch.nonzero(~periodic)[0, 0])
        raise ValueError(
            f"structure {k} is not periodic in all directions and has no pressure: "
            "set pbc=True, or run at constant volume"
        )
    if constraints.any_atoms:
        raise ValueError(
            "atoms that are constrained cannot follow a changing cell: remove all "
            "constraints except FixSpins, or run at constant volume"
        )
    if not engine.gives_virial:
        raise ValueError(
            "the calculator gives no stress, which a barostat needs: use another one, "
            "or run at constant volume"
        )


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]


def _apply(vectors: Tensor, matrices: Tensor) -> Tensor:
    """Multiply (N, 3) with symmetric (N, 3, 3)."""
    return torch.einsum("ni,nij->nj", vectors, matrices)


def _flow(rate: Tensor, dt: float) -> tuple[Tensor, Tensor]:
    """Return exp(A dt) and int_0^dt exp(A s) ds for symmetric A, both (B, 3, 3).

    They solve dx/dt = A x + b: x(dt) = exp(A dt) x(0) + int exp(A s) ds b.
    """
    values, axes = torch.linalg.eigh(rate)
    x = values * dt
    small = torch.where(x == 0, 1.0, x)
    relative = torch.where(x == 0, 1.0, torch.expm1(x) / small)
    back = axes.transpose(1, 2)
    return (axes * x.exp()[:, None, :]) @ back, (
        axes * (dt * relative)[:, None, :]
    ) @ back
