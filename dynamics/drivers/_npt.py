"""Spin-lattice dynamics at given temperature and pressure or stress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from ..._validate import per_replica, positive
from ...system import System
from ...units import G_FACTOR
from .._replicas import PerReplica
from .._state import State
from .._waveforms import as_waveform
from ..baths._barostat import Barostat, require_free_cells, target_stress
from ..baths._nose_hoover import NoseHooverChain
from ..baths._spin_bath import SpinBath
from ..integrators._schemes import (
    Midpoint,
    Scheme,
    SchemeState,
    SemiImplicitB,
    as_scheme,
)
from ..observables import kinetic_energy
from ._driver import SpinLatticeDynamics
from ._registry import driver


@driver("npt", time_arguments={"tdamp": 1, "pdamp": 1})
class SpinLatticeNPT(SpinLatticeDynamics):
    """Atoms and cell in the isothermal-isobaric ensemble, spins by the LLG equation.

    The lattice follows the equations of Martyna, Tobias and Klein (see
    :class:`~.baths.Barostat`) with Nose-Hoover chains (see
    :class:`~.baths.NoseHooverChain`) on atoms and cell.
    One step is a palindrome,

        N  chains of cell and atoms, dt/2
        B  p_g <- p_g + dt/2 (stress difference),  P <- P + dt/2 (F - v P ...)
        A  R and cell along P/M + v R, dt/2
        S  the stochastic LLG equation at this lattice, dt
        A, B, N in reverse order

    The stress is that of Cartesian moments that do not change with the strain: what
    they do to the lattice, the magnetovolume effect, is in it.

    Parameters
    ----------
    atoms, timestep
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
        arguments that are not listed. Periodic in all directions; no constraint except
        :class:`~deepspin_ase.constraints.FixSpins`.
    temperature_K : float or sequence
        Of the lattice, > 0; several numbers run as many replicas.
    pressure_GPa : float, sequence or callable
        Zero if neither it nor ``stress_GPa`` is given. A function of the time in fs,
        such as a :class:`~deepspin_ase.dynamics.Ramp`, for one that changes.
    stress_GPa : (6,) sequence or callable, optional
        Target stress xx, yy, zz, yz, xz, xy instead of a pressure, in ASE's sign:
        tensile positive. Or a function of the time in fs that returns it.
    cell : {"isotropic", "anisotropic", "flexible"}
        The cell changes its size, its extensions along x, y and z, or also its
        angles; it never rotates.
    mask : (6,) booleans, optional
        Components xx, yy, zz, yz, xz, xy of the strain that are free.
    tdamp, pdamp : float, ASE time
        Response times of the chains and the barostat. A cell of N atoms, volume V
        and bulk modulus B breathes with the period 2 pi pdamp sqrt(N kT/(3 B V)), in
        solids at 300 K a fifth of pdamp or less. Fluctuations of the volume are too
        wide by (pi dt/period)^2. Cell and chains start at rest: the cell's kinetic
        energy swings, at first by half, and averages of the volume's fluctuations
        need some picoseconds before they begin.
    spin_temperature_K : float or sequence, optional
        Of the spins' bath; the lattice's temperature by default.
    damping : float or sequence
        Gilbert damping alpha of the spins; without it they precess freely and
        exchange heat with the lattice only.
    g_factor : float
    spin_integrator : str or Scheme, optional
        By default ``"midpoint"`` without damping and ``"sib"`` with it.
    zero_momentum : bool
        On by default: neither chains nor barostat change a total momentum, which
        therefore is no degree of freedom.

    Raises
    ------
    ValueError
        If a direction is not periodic, atoms are constrained, or an argument does
        not fit.
    """

    takes_spin_torque = True

    warm_baths = True
    replica_arguments = (*SpinLatticeDynamics.replica_arguments, "pressure_GPa")

    temperature_K: np.ndarray
    spin_temperature_K: np.ndarray

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        temperature_K: PerReplica,
        damping: PerReplica,
        pressure_GPa: PerReplica | Callable[[float], Any] | None = None,
        stress_GPa: Sequence[float] | Callable[[float], Any] | None = None,
        cell: str = "isotropic",
        mask: Sequence[bool] | None = None,
        tdamp: float = 100.0 * units.fs,
        pdamp: float = 1000.0 * units.fs,
        spin_temperature_K: PerReplica | None = None,
        g_factor: float = G_FACTOR,
        spin_integrator: str | Scheme | None = None,
        zero_momentum: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, timestep, zero_momentum=zero_momentum, **kwargs)
        self.engine.compiled.tell_of_stress()
        count = self.n_replicas
        self._damping = per_replica("damping", damping, count)
        self._tdamp = positive("tdamp", tdamp)
        self._pdamp = positive("pdamp", pdamp)
        self._cell, self._mask = cell, mask
        self._pressure_GPa = as_waveform(pressure_GPa)
        self._stress_GPa = as_waveform(stress_GPa)
        if spin_integrator is None:
            damped = bool(self._damping.any())
            spin_integrator = SemiImplicitB.name if damped else Midpoint.name
        scheme = SchemeState(as_scheme(spin_integrator))
        self.scheme = self.add_part("scheme", scheme)
        self._g_factor = g_factor
        self.set_temperature(temperature_K, spin_temperature_K)

    def prepare(self) -> None:
        """Build chain, barostat and bath; chain and barostat keep their state."""
        require_free_cells(self.state.system, self.constraints, self.engine)
        device = self.engine.device
        kT = torch.from_numpy(units.kB * self.temperature_K).to(device)
        chain = NoseHooverChain(self.degrees_of_freedom, kT, self._tdamp)
        barostat = Barostat(
            cell=self._cell,
            mask=self._mask,
            stress=self._target_stress(),
            degrees_of_freedom=self.degrees_of_freedom.to(kT),
            kT=kT,
            damping_time=self._pdamp,
            chain_time=self._tdamp,
        )
        self.chain = self.add_part("chain", chain)
        self.barostat = self.add_part("barostat", barostat)
        self._bath = SpinBath(
            self.context,
            damping=self._damping,
            temperature_K=self.spin_temperature_K,
            g_factor=self._g_factor,
            scheme=self.scheme,
        )

    def step(self) -> None:
        """Advance by one time step."""
        dt, barostat, start = self.dt, self.barostat, self.prediction
        if self._stress_changes:
            barostat.set_stress(self._target_stress(0.5))
        system, mass = self.state.system, self.mass
        assert start.forces is not None and start.virial is not None
        barostat.thermostat(dt / 2.0)
        momenta = self._thermostat(system, self.state.momenta)
        barostat.kick(system, momenta, mass, start.virial, dt / 2.0)
        momenta = barostat.accelerate(system, momenta, start.forces, dt / 2.0)
        system = barostat.drift(system, momenta, mass, dt / 2.0)
        spins = self._bath.advance(system, start.magnetic_forces)
        system = system.replace(spins=spins)
        system = barostat.drift(system, momenta, mass, dt / 2.0)
        end = self.evaluate(system, virial=True)
        assert end.forces is not None and end.virial is not None
        momenta = barostat.accelerate(system, momenta, end.forces, dt / 2.0)
        barostat.kick(system, momenta, mass, end.virial, dt / 2.0)
        momenta = self._thermostat(system, momenta)
        barostat.thermostat(dt / 2.0)
        self.state = State(system, momenta, end)

    @property
    def _stress_changes(self) -> bool:
        return callable(self._pressure_GPa) or callable(self._stress_GPa)

    def _target_stress(self, fraction: float = 0.0) -> Tensor:
        """Return the stress (B, 3, 3), eV/A^3, when a fraction of a step has passed."""
        now = self.time_fs + fraction * float(self.dt / units.fs)
        pressure, stress = (
            value(now) if callable(value) else value
            for value in (self._pressure_GPa, self._stress_GPa)
        )
        target = target_stress(pressure, stress, self.n_replicas)
        return torch.from_numpy(target).to(self.engine.device)

    def _thermostat(self, system: System, momenta: Tensor) -> Tensor:
        kinetic = kinetic_energy(system, momenta, self.mass)
        factor = self.chain.advance(2.0 * kinetic, self.dt / 2.0)
        return factor[system.index][:, None] * momenta

    def conserved_energy(self) -> Tensor | None:
        """Return the extended energy, (B,), eV.

        None where spins are damped, or a field or the stress changes.

        E + E_kin + the chain + the barostat
        (:meth:`~.baths.Barostat.energy`).
        """
        changes = self.external_field.changes or self._stress_changes
        if self._damping.any() or changes:
            return None
        system = self.state.system
        kinetic = kinetic_energy(system, self.state.momenta, self.mass)
        chain = self.chain.energy().to(kinetic)
        return self.prediction.energy + kinetic + chain + self.barostat.energy(system)
