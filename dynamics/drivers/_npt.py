"""Spin-lattice dynamics at given temperature and pressure or stress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from torch import Tensor

from ..._validate import per_replica, positive
from ...system import System
from ...units import G_FACTOR
from .._replicas import PerReplica
from ..baths._barostat import Barostat, target_stress
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
from ._atoms_sync import State
from ._driver import SpinLatticeDynamics


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
        arguments that are not listed. Periodic in all directions; no constraint but
        :class:`~deepspin_ase.constraints.FixSpins`.
    temperature_K : float or sequence
        Of the lattice, > 0; several numbers run as many replicas.
    pressure_GPa : float or sequence
        Zero if neither it nor ``stress_GPa`` is given.
    stress_GPa : (6,) sequence, optional
        Target stress xx, yy, zz, yz, xz, xy instead of a pressure, in ASE's sign:
        tensile positive.
    cell : {"isotropic", "anisotropic", "flexible"}
        The cell changes its size, its extensions along x, y and z, or also its
        angles; it never turns.
    mask : (6,) booleans, optional
        Components xx, yy, zz, yz, xz, xy of the strain that are free.
    tdamp, pdamp : float, ASE time
        Times on which the chains and the barostat answer. A cell of N atoms, volume V
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

    chain: NoseHooverChain
    barostat: Barostat

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        temperature_K: PerReplica,
        damping: PerReplica,
        pressure_GPa: PerReplica | None = None,
        stress_GPa: Sequence[float] | None = None,
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
        self._scheme: SchemeState | None = None
        super().__init__(atoms, timestep, zero_momentum=zero_momentum, **kwargs)
        count = self.n_replicas
        require_free_cells(self)
        self._damping = per_replica("damping", damping, count)
        self._tdamp = positive("tdamp", tdamp)
        self._pdamp = positive("pdamp", pdamp)
        self._cell, self._mask = cell, mask
        self._stress = torch.from_numpy(target_stress(pressure_GPa, stress_GPa, count))
        if spin_integrator is None:
            damped = bool(self._damping.any())
            spin_integrator = SemiImplicitB.name if damped else Midpoint.name
        self._scheme = SchemeState(as_scheme(spin_integrator))
        self._g_factor = g_factor
        self.set_temperature(temperature_K, spin_temperature_K)

    def _replica_values(self) -> dict[str, Any]:
        given = {"pressure_GPa": self._arguments.get("pressure_GPa")}
        return super()._replica_values() | given

    def set_temperature(
        self,
        temperature_K: PerReplica,
        spin_temperature_K: PerReplica | None = None,
    ) -> None:
        """Change the temperatures from the next step on.

        The conserved energy jumps: it belongs to a temperature.
        """
        count = self.n_replicas
        self.temperature_K = per_replica(
            "temperature_K", temperature_K, count, positive=True
        )
        self.spin_temperature_K = per_replica(
            "spin_temperature_K",
            temperature_K if spin_temperature_K is None else spin_temperature_K,
            count,
        )
        self._prepare()

    def _prepare(self) -> None:
        """Build the baths for the present temperatures; they stay where they are."""
        assert self._scheme is not None
        device = self.engine.device
        kT = torch.from_numpy(units.kB * self.temperature_K).to(device)
        chain = NoseHooverChain(self.degrees_of_freedom, kT, self._tdamp)
        barostat = Barostat(
            cell=self._cell,
            mask=self._mask,
            stress=self._stress.to(device),
            degrees_of_freedom=self.degrees_of_freedom.to(kT),
            kT=kT,
            damping_time=self._pdamp,
            chain_time=self._tdamp,
        )
        if hasattr(self, "barostat"):
            chain.restore(self.chain.state())
            barostat.restore(self.barostat.state())
        self.chain, self.barostat = chain, barostat
        self._bath = SpinBath(
            self,
            damping=self._damping,
            temperature_K=self.spin_temperature_K,
            g_factor=self._g_factor,
            scheme=self._scheme,
        )

    def _state_changed(self) -> None:
        if self._scheme is not None:
            self._scheme.reset()
            require_free_cells(self)
            self._prepare()

    def step(self) -> None:
        """Advance by one time step."""
        chain, barostat = self.chain.state(), self.barostat.state()
        try:
            self._advance()
        except CalculationFailed:
            self.chain.restore(chain)
            self.barostat.restore(barostat)
            raise

    def _advance(self) -> None:
        dt, barostat, start = self.dt, self.barostat, self.prediction
        system, mass = self.state.system, self.mass
        assert start.forces is not None and start.virial is not None
        barostat.thermostat(dt / 2.0)
        momenta = self._thermostat(system, self.state.momenta)
        barostat.kick(system, momenta, mass, start.virial, dt / 2.0)
        momenta = barostat.accelerate(system, momenta, start.forces, dt / 2.0)
        system = barostat.drift(system, momenta, mass, dt / 2.0)
        spins = self._bath.turn(system, dt, start.magnetic_forces)
        system = system.replace(spins=spins)
        system = barostat.drift(system, momenta, mass, dt / 2.0)
        end = self.evaluate(system, virial=True)
        assert end.forces is not None and end.virial is not None
        momenta = barostat.accelerate(system, momenta, end.forces, dt / 2.0)
        barostat.kick(system, momenta, mass, end.virial, dt / 2.0)
        momenta = self._thermostat(system, momenta)
        barostat.thermostat(dt / 2.0)
        self.state = State(system, momenta, end)

    def _thermostat(self, system: System, momenta: Tensor) -> Tensor:
        kinetic = kinetic_energy(system, momenta, self.mass)
        factor = self.chain.advance(2.0 * kinetic, self.dt / 2.0)
        return factor[system.index][:, None] * momenta

    def conserved_energy(self) -> Tensor | None:
        """Return the extended energy, (B,), eV; None where spins are damped.

        E + E_kin + the chain + the barostat
        (:meth:`~.baths.Barostat.energy`).
        """
        if self._damping.any() or self.external_field.changes:
            return None
        system = self.state.system
        kinetic = kinetic_energy(system, self.state.momenta, self.mass)
        chain = self.chain.energy().to(kinetic)
        return self.prediction.energy + kinetic + chain + self.barostat.energy(system)

    def extra_state(self) -> dict[str, Any]:
        """Return the state of the baths and the temperatures."""
        assert self._scheme is not None
        return {
            "scheme": self._scheme.state_dict(),
            "chain": self.chain.state(),
            "barostat": self.barostat.state(),
            "temperature_K": self.temperature_K.tolist(),
            "spin_temperature_K": self.spin_temperature_K.tolist(),
        }

    def restore_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`extra_state` returned."""
        assert self._scheme is not None
        self._scheme.load_state_dict(state["scheme"])
        self.set_temperature(state["temperature_K"], state["spin_temperature_K"])
        self.chain.restore(state["chain"])
        self.barostat.restore(state["barostat"])


def require_free_cells(driver: SpinLatticeDynamics) -> None:
    """Check that the cells of a driver can change.

    Raises
    ------
    ValueError
        If a direction is not periodic, or atoms are constrained.
    """
    periodic = driver.state.system.pbc.all(dim=1)
    if not bool(periodic.all()):
        k = int(torch.nonzero(~periodic)[0, 0])
        raise ValueError(
            f"structure {k} is not periodic in all directions and has no pressure: "
            "set pbc=True, or run at constant volume"
        )
    if driver.constraints.any_atoms:
        raise ValueError(
            "atoms that are constrained cannot follow a changing cell: remove all "
            "constraints but FixSpins, or run at constant volume"
        )
