"""Dynamics of spins on a frozen lattice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from torch import Tensor

from ..._validate import per_replica
from ...units import G_FACTOR
from .._replicas import PerReplica
from .._state import State
from ..baths._spin_bath import SpinBath
from ..integrators._schemes import (
    Midpoint,
    Scheme,
    SchemeState,
    SemiImplicitB,
    as_scheme,
)
from ._driver import SpinLatticeDynamics
from ._registry import driver


@driver("spin")
class SpinDynamics(SpinLatticeDynamics):
    """The (stochastic) LLG equation of spins on a fixed lattice.

    dm/dt = -gamma/(1+alpha^2) [m x (B + b) + alpha/|m| m x (m x (B + b))], with a
    random field b at T > 0. Time steps are limited by the spins alone: some fs for
    strong exchange.

    Parameters
    ----------
    atoms, timestep
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
        arguments that are not listed.
    temperature_K : float or sequence
        Several numbers run as many replicas.
    damping : float or sequence
        Gilbert damping alpha.
    g_factor : float
    spin_integrator : str or Scheme, optional
        By default ``"midpoint"`` without noise and ``"sib"`` (two model calls a
        step) with it.
    """

    takes_spin_torque = True

    moves_atoms = False

    temperature_K: np.ndarray

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        temperature_K: PerReplica = 0.0,
        damping: PerReplica = 0.0,
        g_factor: float = G_FACTOR,
        spin_integrator: str | Scheme | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, timestep, **kwargs)
        self._damping = per_replica("damping", damping, self.n_replicas)
        heated = per_replica("temperature_K", temperature_K, self.n_replicas)
        if spin_integrator is None:
            noisy = bool((self._damping * heated).any())
            spin_integrator = SemiImplicitB.name if noisy else Midpoint.name
        scheme = SchemeState(as_scheme(spin_integrator))
        self.scheme = self.add_part("scheme", scheme)
        self.g_factor = g_factor
        self.set_temperature(temperature_K)

    def prepare(self) -> None:
        """Build the bath for the present structures and temperatures."""
        self._bath = SpinBath(
            self.context,
            damping=self._damping,
            temperature_K=self.temperature_K,
            g_factor=self.g_factor,
            scheme=self.scheme,
        )

    def step(self) -> None:
        """Advance by one time step."""
        state, start = self.state, None
        if state.prediction is not None and not self.external_field.changes:
            start = state.prediction.magnetic_forces
        spins = self._bath.advance(state.system, start)
        self.state = State(state.system.replace(spins=spins), state.momenta)

    def conserved_energy(self) -> Tensor | None:
        """Return the energy, (B,), eV, without damping; None with it."""
        if self._damping.any() or self.external_field.changes:
            return None
        return self.prediction.energy
