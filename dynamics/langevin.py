"""Canonical spin-lattice dynamics with Langevin baths for atoms and spins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from ..system import System
from ..units import G_FACTOR
from .driver import SpinLatticeDynamics
from .mirror import State
from .precession import Precession
from .replicas import PerReplica, per_replica
from .rotations import with_lengths
from .spin_integrators import DepondtMertens, Scheme, as_scheme


class SpinBath:
    """The stochastic LLG equation at given dampings and temperatures.

    Parameters
    ----------
    driver : SpinLatticeDynamics
    damping : (B,) array
        alpha.
    temperature_K : (B,) array
    g_factor : float
    scheme : Scheme
    """

    def __init__(
        self,
        driver: SpinLatticeDynamics,
        *,
        damping: np.ndarray,
        temperature_K: np.ndarray,
        g_factor: float,
        scheme: Scheme,
    ) -> None:
        self.driver = driver
        self.precession = Precession(
            damping=driver.per_atom(damping) if damping.any() else 0.0,
            g_factor=g_factor,
        )
        self.kT = driver.per_atom(units.kB * temperature_K)
        self.scheme = scheme

    def turn(self, system: System, dt: float, start: Tensor | None = None) -> Tensor:
        """Return the spins (N, 3) after ``dt`` at the lattice of ``system``.

        ``start`` is the field at the spins of ``system``, if it is known.
        """
        driver, free = self.driver, self.driver.constraints.free_spins
        noise: Tensor | float = 0.0
        if bool((self.kT > 0).any()) and not isinstance(self.precession.damping, float):
            amplitude = self.precession.noise_amplitude(driver.lengths, self.kT, dt)
            noise = amplitude * driver.normal()

        def evaluate(spins: Tensor) -> tuple[Tensor, None]:
            found = driver.evaluate(
                system.replace(spins=spins), forces=False, fraction=0.5
            )
            assert found.magnetic_forces is not None
            return found.magnetic_forces, None

        def rate(spins: Tensor, field: Tensor) -> Tensor:
            driver.warn_of_large_turns(self.precession.rate(spins, field) * free)
            return self.precession.rate(spins, field + noise) * free

        spins, _ = self.scheme(system.spins, evaluate, rate, dt, start)
        return with_lengths(spins, driver.lengths)


class SpinLatticeLangevin(SpinLatticeDynamics):
    """Atoms and spins in contact with heat baths.

    One step is BAOAB for the atoms (B. Leimkuhler and C. Matthews, Appl. Math. Res.
    Express 2013, 34, doi:10.1093/amrx/abs010) with the stochastic LLG equation in
    its middle:

        B  P <- P + dt/2 F          A  R <- R + dt/2 P/M
        O  P <- c P + sqrt((1 - c^2) M kT) xi,  c = exp(-friction dt)
        S  dm/dt = -gamma/(1+alpha^2) [m x (B + b) + alpha/|m| m x (m x (B + b))]
        A  R <- R + dt/2 P/M        B  P <- P + dt/2 F

    The random field b has the variance 2 alpha kT/(gamma |m| dt), each atom's own
    moment. With the default spin integrator a step takes two model calls.

    Parameters
    ----------
    atoms, timestep
        See :class:`~deepspin_ase.dynamics.driver.SpinLatticeDynamics`, as for all
        arguments that are not listed.
    temperature_K : float or sequence
        Of the lattice's bath; several numbers run as many replicas.
    spin_temperature_K : float or sequence, optional
        Of the spins' bath; the lattice's by default.
    friction : float or sequence
        Of the atoms, 1/ASE time (``0.01 / ase.units.fs``).
    damping : float or sequence
        Gilbert damping alpha of the spins.
    g_factor : float
    spin_integrator : str or Scheme
        ``"depondt-mertens"`` (default), ``"sib"`` or ``"midpoint"``.
    """

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        temperature_K: PerReplica,
        spin_temperature_K: PerReplica | None = None,
        friction: PerReplica,
        damping: PerReplica,
        g_factor: float = G_FACTOR,
        spin_integrator: str | Scheme = DepondtMertens.name,
        **kwargs: Any,
    ) -> None:
        self.scheme = as_scheme(spin_integrator)
        self.g_factor = g_factor
        super().__init__(atoms, timestep, **kwargs)
        self.set_temperature(temperature_K, spin_temperature_K)
        self._friction = per_replica("friction", friction, self.n_replicas)
        self._damping = per_replica("damping", damping, self.n_replicas)
        self._prepare()

    def set_temperature(
        self,
        temperature_K: PerReplica,
        spin_temperature_K: PerReplica | None = None,
    ) -> None:
        """Change the temperatures of the baths from the next step on."""
        count = self.n_replicas
        self.temperature_K = per_replica("temperature_K", temperature_K, count)
        self.spin_temperature_K = per_replica(
            "spin_temperature_K",
            temperature_K if spin_temperature_K is None else spin_temperature_K,
            count,
        )
        if hasattr(self, "_damping"):
            self._prepare()

    def _prepare(self) -> None:
        """Bring parameters to the shape of the atoms."""
        self._decay = torch.exp(-self.per_atom(self._friction) * abs(self.dt))
        kT = self.per_atom(units.kB * self.temperature_K)
        self._kick = ((1.0 - self._decay**2) * self.mass * kT).sqrt()
        self._bath = SpinBath(
            self,
            damping=self._damping,
            temperature_K=self.spin_temperature_K,
            g_factor=self.g_factor,
            scheme=self.scheme,
        )

    def _state_changed(self) -> None:
        self.scheme.reset()
        if hasattr(self, "_bath"):
            self._prepare()

    def step(self) -> None:
        """Advance by one time step."""
        dt, constraints = self.dt, self.constraints
        start = self.state.prediction
        if start is None or start.forces is None:
            start = self.evaluate(self.state.system, fraction=0.0)
        system = self.state.system
        momenta = self._kicked(system, self.state.momenta, start.forces)
        positions, momenta = constraints.drift(system, momenta, self.mass, dt / 2.0)
        momenta = self._decay * momenta + self._kick * self.normal()
        if self.zero_momentum:
            momenta = self.without_total_momentum(momenta)
        system = system.replace(positions=positions)
        momenta = constraints.momenta(system, momenta)
        system = system.replace(
            spins=self._bath.turn(system, dt, start.magnetic_forces)
        )
        positions, momenta = constraints.drift(system, momenta, self.mass, dt / 2.0)
        system = system.replace(positions=positions)
        end = self.evaluate(system, virial=self.observers_due(self.nsteps + 1))
        momenta = self._kicked(system, momenta, end.forces)
        self.state = State(system, momenta, end)

    def _kicked(self, system: System, momenta: Tensor, forces: Tensor | None) -> Tensor:
        assert forces is not None
        forces = self.constraints.forces(system, forces)
        return self.constraints.momenta(system, momenta + 0.5 * self.dt * forces)

    def extra_state(self) -> dict[str, Any]:
        """Return the memory of the spin integrator and the temperatures."""
        return {
            "scheme": self.scheme.state(),
            "temperature_K": self.temperature_K.tolist(),
            "spin_temperature_K": self.spin_temperature_K.tolist(),
        }

    def restore_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`extra_state` returned."""
        self.scheme.restore(state["scheme"])
        self.set_temperature(state["temperature_K"], state["spin_temperature_K"])
