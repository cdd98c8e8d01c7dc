"""Canonical spin-lattice dynamics with Langevin baths for atoms and spins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units

from ..._validate import per_replica
from ...units import G_FACTOR
from .._replicas import PerReplica
from .._state import State
from ..baths._lattice_bath import LatticeBath
from ..baths._spin_bath import SpinBath
from ..integrators._schemes import Scheme, SchemeState, SemiImplicitB, as_scheme
from ._driver import SpinLatticeDynamics
from ._registry import driver


@driver("langevin", time_arguments={"friction": -1})
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
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
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
        ``"sib"`` (default), ``"depondt-mertens"`` or ``"midpoint"``.
    """

    takes_spin_torque = True

    temperature_K: np.ndarray
    spin_temperature_K: np.ndarray

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
        spin_integrator: str | Scheme = SemiImplicitB.name,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, timestep, **kwargs)
        self.g_factor = g_factor
        self._friction = per_replica("friction", friction, self.n_replicas)
        self._damping = per_replica("damping", damping, self.n_replicas)
        scheme = SchemeState(as_scheme(spin_integrator))
        self.scheme = self.add_part("scheme", scheme)
        self.set_temperature(temperature_K, spin_temperature_K)

    def prepare(self) -> None:
        """Build the baths for the present structures and temperatures."""
        self._kT = self.per_atom(units.kB * self.temperature_K)
        self._lattice = LatticeBath(self.context, friction=self._friction)
        self._spins = SpinBath(
            self.context,
            damping=self._damping,
            temperature_K=self.spin_temperature_K,
            g_factor=self.g_factor,
            scheme=self.scheme,
        )

    def step(self) -> None:
        """Advance by one time step."""
        lattice, system = self._lattice, self.state.system
        start = self.state.prediction
        if start is None or start.forces is None:
            start = self.evaluate(system, fraction=0.0)
        momenta = lattice.kick(system, self.state.momenta, start.forces)
        system, momenta = lattice.drift(system, momenta)
        momenta = lattice.exchange(system, momenta, self._kT)
        spins = self._spins.advance(system, start.magnetic_forces)
        system, momenta = lattice.drift(system.replace(spins=spins), momenta)
        end = self.evaluate(system, virial=self.observers_due(self.nsteps + 1))
        momenta = lattice.kick(system, momenta, end.forces)
        self.state = State(system, momenta, end)
