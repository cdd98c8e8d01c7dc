"""Microcanonical spin-lattice dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from torch import Tensor

from ...system import System
from ...units import G_FACTOR
from .._state import State
from ..integrators._precession import Precession
from ..integrators._rotations import with_lengths
from ..integrators._schemes import Midpoint, Scheme, SchemeState, as_scheme
from ..observables import kinetic_energy
from ._driver import SpinLatticeDynamics
from ._registry import driver


@driver("nve")
class SpinLatticeNVE(SpinLatticeDynamics):
    """Atoms and spins at constant energy, time-reversible and of second order.

    One step is the splitting B/2 A B/2. A moves the atoms. B holds them: the spins
    precess in the field of the fixed lattice, dm/dt = -gamma m x B, and the forces at
    the midpoint of the spins kick the momenta,

        S -> S' by the spin integrator, dt/2,  P <- P + dt/2 F(R, S half-way)
        R <- R + dt P/M
        S -> S' by the spin integrator, dt/2,  P <- P + dt/2 F(R, S half-way)

    With the default spin integrator the step is symplectic; reversing momenta and
    spins (or the time step) retraces the trajectory to round-off.

    Parameters
    ----------
    atoms, timestep
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
        arguments that are not listed.
    g_factor : float
        gamma = g/hbar.
    spin_integrator : str or Scheme
        ``"midpoint"`` (the default), ``"sib"``, ``"depondt-mertens"``,
        ``"rotation"``, or a :class:`~.integrators.Scheme` with other settings:
        ``Midpoint(tolerance=1e-7)`` conserves energy as well in fewer model calls.
    """

    reversible = True

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        g_factor: float = G_FACTOR,
        spin_integrator: str | Scheme = Midpoint.name,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, timestep, **kwargs)
        self.precession = Precession(g_factor=g_factor)
        scheme = SchemeState(as_scheme(spin_integrator))
        self.scheme = self.add_part("scheme", scheme)

    def step(self) -> None:
        """Advance by one time step."""
        system, momenta = self._precessed(self.state.system, self.state.momenta, 0.25)
        positions, momenta = self.constraints.drift(system, momenta, self.mass, self.dt)
        system = system.replace(positions=positions)
        self.state = State(*self._precessed(system, momenta, 0.75))

    def _precessed(
        self, system: System, momenta: Tensor, fraction: float
    ) -> tuple[System, Tensor]:
        """Return structures and momenta after B for half a step.

        ``fraction`` of the step has passed half-way.
        """
        half = self.dt / 2.0

        def evaluate(spins: Tensor) -> tuple[Tensor, Tensor | None]:
            found = self.evaluate(system.replace(spins=spins), fraction=fraction)
            assert found.magnetic_forces is not None
            return found.magnetic_forces, found.forces

        spins, forces = self.scheme.step(system.spins, evaluate, self._rate, half)
        assert forces is not None
        forces = self.constraints.forces(system, forces)
        momenta = self.constraints.momenta(system, momenta + half * forces)
        return system.replace(spins=with_lengths(spins, self.lengths)), momenta

    def _rate(self, spins: Tensor, field: Tensor) -> Tensor:
        rate = self.precession.rate(spins, field) * self.constraints.free_spins
        self.warn_of_large_rotations(rate)
        return rate

    def conserved_energy(self) -> Tensor | None:
        """Return the total energy, (B,), eV; None in a field that changes."""
        if self.external_field.changes:
            return None
        state = self.state
        kinetic = kinetic_energy(state.system, state.momenta, self.mass)
        return self.prediction.energy + kinetic
