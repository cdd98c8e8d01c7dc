"""Langevin dynamics of moments of varying length: itinerant magnets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from ..._validate import per_replica
from ...system import System
from ...units import G_FACTOR
from .._replicas import PerReplica
from .._state import State
from ..baths._lattice_bath import LatticeBath
from ..integrators._precession import Precession
from ..integrators._rotations import rotate
from ._driver import SpinLatticeDynamics
from ._registry import driver


def equipartition_temperature(
    system: System, field: Tensor, free: Tensor | float = 1.0
) -> Tensor:
    """Return the temperature of moments whose three components move, (B,), K.

    k T = -sum m.B / (3 n) for n moments: <m_a dE/dm_b> = kT delta_ab holds for any
    energy that grows with |m|, in whatever way it depends on the moments. A mean
    over time: the value of a single state of few moments scatters widely and may be
    negative. <(dE/dm)^2>/<laplacian of E> would scatter less, but needs second
    derivatives.

    Parameters
    ----------
    system : System
    field : (N, 3) tensor, eV/mu_B
        B = -dE/dm.
    free : (N, 1) tensor
        Zero for moments that do not count.
    """
    has_moment = (system.spins != 0).any(dim=1, keepdim=True) * free
    count = system.sum(has_moment.to(field))[:, 0]
    virial = system.sum((system.spins * field * has_moment).sum(1))
    return -virial / (3.0 * units.kB * count.clamp_min(1.0))


@driver("longitudinal", time_arguments={"friction": -1, "gamma_L": -1})
class LongitudinalSpinLangevin(SpinLatticeDynamics):
    """Atoms and moments of varying length in contact with a heat bath.

    All three components of a moment are dynamic variables (P.-W. Ma and S. L.
    Dudarev, Phys. Rev. B 86, 054416 (2012), doi:10.1103/PhysRevB.86.054416):

        dm/dt = -gamma m x B + gamma_L B + xi,  <xi xi> = 2 gamma_L kT

    with B = -dE/dm, longitudinal part included, and white noise xi in every
    component. The stationary distribution is exp(-E/kT) in the full space of the
    moments, d^3m each. One step at a fixed lattice is a midpoint rule,

        m' = R(dt/2 gamma B_t) m + dt/2 gamma_L B + w,       B at m
        m <- R(dt gamma B_t) (m + dt/2 gamma_L B + w) + dt/2 gamma_L B + w',  B at m'

    where R(t) rotates by the rotation vector t, B_t is the part of B across the moment
    (the rest rotates nothing, but would spoil R where the energy depends on |m|
    steeply), and w, w' are the noise of the two halves of the step. The scheme is of
    weak second order and a pure rotation at gamma_L = 0. Atoms follow BAOAB with this
    in the middle, two model calls in all.

    The model must hold the moments together: where the energy does not depend on
    their lengths (a Heisenberg model of unit spins without a
    :class:`~deepspin_ase.potentials.Landau` term) exp(-E/kT) cannot be normalised
    and the moments grow like a random walk, without an error.

    Parameters
    ----------
    atoms, timestep
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
        arguments that are not listed. The step must resolve the relaxation,
        dt gamma_L d^2E/dm^2 << 1, and the fastest magnons: half a fs in iron.
    temperature_K : float or sequence
        Of the bath of atoms and moments; several numbers run as many replicas.
    friction : float or sequence or None
        Of the atoms, 1/ASE time (``0.01 / ase.units.fs``); None fixes the
        lattice.
    gamma_L : float or sequence
        Relaxation of the moments, mu_B^2/(eV ASE time). Transversally it acts as
        the Gilbert damping alpha = gamma_L/(gamma |m|); for spins S = m/(g mu_B)
        the constant of the paper is gamma_L/g^2. About ``0.2 / ase.units.fs`` in
        iron.
    g_factor : float
        gamma = g/hbar.
    """

    temperature_K: np.ndarray

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        temperature_K: PerReplica,
        friction: PerReplica | None,
        gamma_L: PerReplica,
        g_factor: float = G_FACTOR,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, timestep, **kwargs)
        self.precession = Precession(g_factor=g_factor)
        count = self.n_replicas
        self._friction = (
            None if friction is None else per_replica("friction", friction, count)
        )
        self._gamma_L = per_replica("gamma_L", gamma_L, count)
        self.set_temperature(temperature_K)

    def prepare(self) -> None:
        """Build bath and noise for the present structures and temperatures."""
        self._lattice = (
            None
            if self._friction is None
            else LatticeBath(self.context, friction=self._friction)
        )
        self._kT = self.per_atom(units.kB * self.temperature_K)
        magnetic = (self.lengths > 0) * self.constraints.free_spins
        self._relaxation = self.per_atom(self._gamma_L) * magnetic
        # Of the noise in half a step.
        self._width = (self._relaxation * self._kT * abs(self.dt)).sqrt()

    def step(self) -> None:
        """Advance by one time step."""
        lattice, start = self._lattice, self.state.prediction
        if start is None or (start.forces is None and lattice is not None):
            start = self.evaluate(
                self.state.system, forces=lattice is not None, fraction=0.0
            )
        system, momenta = self.state.system, self.state.momenta
        if lattice is None:
            system = self._relaxed(system, start.magnetic_forces)
            self.state = State(system, momenta)
        else:
            momenta = lattice.kick(system, momenta, start.forces)
            system, momenta = lattice.drift(system, momenta)
            momenta = lattice.exchange(system, momenta, self._kT)
            system = self._relaxed(system, start.magnetic_forces)
            system, momenta = lattice.drift(system, momenta)
            end = self.evaluate(system, virial=self.observers_due(self.nsteps + 1))
            momenta = lattice.kick(system, momenta, end.forces)
            self.state = State(system, momenta, end)
        self.context.lengths = torch.linalg.vector_norm(
            system.spins, dim=1, keepdim=True
        )

    def _relaxed(self, system: System, start: Tensor | None) -> System:
        """Return the structures with their moments after a step.

        ``start`` (N, 3), eV/mu_B, is the field at the beginning; that of the lattice
        half a step ago will do, as it is used for the midpoint only.
        """
        assert start is not None
        half, spins = self.dt / 2.0, system.spins
        first = self._width * self.context.normal()
        second = self._width * self.context.normal()
        omega = self._angular_velocity(spins, start)
        self.warn_of_large_rotations(omega)
        middle = rotate(spins, half * omega)
        middle = middle + half * self._relaxation * start + first
        field = self.evaluate(
            system.replace(spins=middle), forces=False, fraction=0.5
        ).magnetic_forces
        assert field is not None
        change = half * self._relaxation * field
        rotation = self.dt * self._angular_velocity(middle, field)
        return system.replace(
            spins=rotate(spins + change + first, rotation) + change + second
        )

    def _angular_velocity(self, spins: Tensor, field: Tensor) -> Tensor:
        """Return gamma times the field across the moments, (N, 3), rad/ASE time."""
        length = torch.linalg.vector_norm(spins, dim=1, keepdim=True)
        direction = spins / torch.where(length > 0, length, 1.0)
        along = (direction * field).sum(1, keepdim=True) * direction
        across = (field - along) * self.constraints.free_spins
        return self.precession.rate(spins, across)

    def spin_temperature(self) -> Tensor:
        """Return -sum m.B/(3 k n) of the n free moments, (B,), K.

        See :func:`equipartition_temperature`.
        """
        found = self.prediction.magnetic_forces
        assert found is not None
        return equipartition_temperature(
            self.state.system, found, self.constraints.free_spins
        )
