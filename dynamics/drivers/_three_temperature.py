"""Electrons, lattice and spins that exchange heat: ultrafast magnetism."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms, units
from torch import Tensor

from ..._validate import per_replica
from ...units import G_FACTOR
from .._replicas import PerReplica
from .._state import State
from ..baths._electrons import Electrons, HeatCapacity
from ..baths._lattice_bath import LatticeBath
from ..baths._pulse import LaserPulse
from ..baths._spin_bath import SpinBath
from ..integrators._schemes import Scheme, SchemeState, SemiImplicitB, as_scheme
from ..observables import kinetic_energy
from ._driver import SpinLatticeDynamics
from ._registry import driver


@driver("three-temperature", time_arguments={"friction": -1})
class ThreeTemperature(SpinLatticeDynamics):
    """Atoms and spins in a bath of electrons of finite heat capacity.

    The three-temperature model (E. Beaurepaire et al., Phys. Rev. Lett. 76, 4250
    (1996), doi:10.1103/PhysRevLett.76.4250) with lattice and spins simulated atom by
    atom (P.-W. Ma, S. L. Dudarev, C. H. Woo, Phys. Rev. B 85, 184301 (2012),
    doi:10.1103/PhysRevB.85.184301):

        C_e(T_e) dT_e/dt = absorbed power - heat to the lattice - heat to the spins

    The atoms feel Langevin forces, the spins the stochastic LLG equation, both at
    the electrons' temperature. The heat that these baths give or take is measured
    and charged to the electrons, so that the energy of all three, less what was
    absorbed from the pulse, is conserved to the error of the lattice's Verlet steps
    (:meth:`conserved_energy`). One step, three model calls with the default spin
    integrator, is the splitting

        half of the pulse
        S  stochastic LLG at fixed lattice,  heat: change of the magnetic energy
        B  A  O  A  B  of the atoms,         heat: change of E_kin by O
        half of the pulse

    See :class:`~deepspin_ase.dynamics.SpinLatticeLangevin` for S, B, A and
    O. A bath whose coupling is zero charges nothing. Lengths of moments are kept.

    All atoms share one electron temperature per replica: heat does not diffuse.
    T_e fluctuates, by sqrt(k/C) of its value if C is the heat capacity of all
    electrons of the structure, and equilibrium is accurate to k/C: take many hundred
    atoms, as in iron at 300 K each has C_e = 0.18 k only. T_e is held at zero until the
    electron energy is positive again.

    Parameters
    ----------
    atoms, timestep
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
        arguments that are not listed.
    electron_temperature_K : float or sequence
        At the start; several numbers run as many replicas.
    heat_capacity : float or callable
        gamma_e of C_e = gamma_e T_e, eV/K^2 per atom (iron: 5.2e-8), or a function
        that returns C_e, eV/K per atom, for an array of temperatures in K.
    friction : float or sequence
        Of the atoms, 1/ASE time. The electron-phonon coupling is G = 3 k n friction
        for n atoms per volume.
    damping : float or sequence
        Gilbert damping alpha of the spins.
    pulse_energy : float or sequence
        Absorbed from a laser pulse, eV per atom; several numbers run as many
        replicas. What of the pulse lies before the first step is lost.
    pulse_center_fs, pulse_width_fs : float, optional
        Its maximum and full width at half maximum in time; needed with a pulse.
    g_factor : float
    spin_integrator : str or Scheme
        ``"sib"`` (default), ``"depondt-mertens"`` or ``"midpoint"``. Its own energy
        error counts as heat: take time steps that it follows well, half a fs in iron.

    Attributes
    ----------
    electron_energy, absorbed_energy : (B,) tensors, eV
        Of all electrons of a structure, from T_e = 0 on; and from the pulse so far.
    """

    takes_spin_torque = True

    variables = ("electron_energy", "absorbed_energy")
    replica_arguments = ("electron_temperature_K", "pulse_energy")

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        electron_temperature_K: PerReplica,
        heat_capacity: HeatCapacity,
        friction: PerReplica,
        damping: PerReplica,
        pulse_energy: PerReplica = 0.0,
        pulse_center_fs: float | None = None,
        pulse_width_fs: float | None = None,
        g_factor: float = G_FACTOR,
        spin_integrator: str | Scheme = SemiImplicitB.name,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, timestep, **kwargs)
        scheme = SchemeState(as_scheme(spin_integrator))
        self.scheme = self.add_part("scheme", scheme)
        self.g_factor = g_factor
        count = self.n_replicas
        self._friction = per_replica("friction", friction, count)
        self._damping = per_replica("damping", damping, count)
        start = per_replica("electron_temperature_K", electron_temperature_K, count)
        counts = self.state.system.counts()
        self._electrons = Electrons(heat_capacity, counts=counts)
        self.electron_energy = self._electrons.energy(
            torch.from_numpy(start).to(counts.device)
        )
        self.absorbed_energy = torch.zeros_like(self.electron_energy)
        absorbed = per_replica("pulse_energy", pulse_energy, count)
        self._pulse: LaserPulse | None = None
        if absorbed.any():
            self._pulse = LaserPulse(
                torch.from_numpy(absorbed).to(counts.device) * counts,
                center_fs=pulse_center_fs,
                width_fs=pulse_width_fs,
            )
        self.prepare()

    def prepare(self) -> None:
        """Build the baths for the present structures."""
        self._lattice = LatticeBath(self.context, friction=self._friction)
        self._spins = SpinBath(
            self.context,
            damping=self._damping,
            temperature_K=self.electron_temperature_K.cpu().numpy(),
            g_factor=self.g_factor,
            scheme=self.scheme,
        )
        device = self.engine.device
        self._heats_lattice = torch.from_numpy(self._friction > 0).to(device)
        self._heats_spins = torch.from_numpy(self._damping > 0).to(device)

    @property
    def electron_temperature_K(self) -> Tensor:
        """Temperature of the electrons now, (B,), K."""
        return self._electrons.temperature(self.electron_energy)

    def step(self) -> None:
        """Advance by one time step."""
        start, lattice = self.state.prediction, self._lattice
        if start is None or start.forces is None:
            start = self.evaluate(self.state.system, fraction=0.0)
        light = [self._light(half) for half in (0, 1)]
        electrons = self.electron_energy + light[0]
        system = self.state.system
        spins = self._spins.advance(system, start.magnetic_forces, self._kT(electrons))
        system = system.replace(spins=spins)
        middle = self.evaluate(system, fraction=0.0)
        electrons = electrons - (middle.energy - start.energy) * self._heats_spins
        momenta = lattice.kick(system, self.state.momenta, middle.forces)
        system, momenta = lattice.drift(system, momenta)
        before = kinetic_energy(system, momenta, self.mass)
        momenta = lattice.exchange(system, momenta, self._kT(electrons))
        after = kinetic_energy(system, momenta, self.mass)
        electrons = electrons - (after - before) * self._heats_lattice
        system, momenta = lattice.drift(system, momenta)
        end = self.evaluate(system, virial=self.observers_due(self.nsteps + 1))
        momenta = lattice.kick(system, momenta, end.forces)
        self.electron_energy = electrons + light[1]
        self.absorbed_energy = self.absorbed_energy + light[0] + light[1]
        self.state = State(system, momenta, end)

    def _kT(self, electron_energy: Tensor) -> Tensor:
        """Return k T_e of each atom, (N, 1), eV."""
        temperature = self._electrons.temperature(electron_energy)
        return units.kB * temperature[self.state.system.index][:, None]

    def _light(self, half: int) -> Tensor:
        """Return the energy absorbed in one half of a step, (B,), eV."""
        if self._pulse is None:
            return torch.zeros_like(self.electron_energy)
        start = (self.nsteps + 0.5 * half) * self.dt
        return self._pulse.absorbed(start, start + 0.5 * self.dt)

    def temperatures(self) -> dict[str, Tensor]:
        """Return the temperatures of the three, K.

        Attach a function that keeps them to have them over time; each call costs
        two model calls.

        Returns
        -------
        dict of (B,) tensors
            ``"electrons"``; ``"lattice"``, 2 E_kin/(k f); and ``"spins"``, see
            :func:`~deepspin_ase.dynamics._spin_temperature.rotational_sums`.
        """
        return {
            "electrons": self.electron_temperature_K,
            "lattice": self.lattice_temperature(),
            "spins": self.spin_temperature(),
        }

    def conserved_energy(self) -> Tensor | None:
        """Return the energy of all three less what was absorbed, (B,), eV.

        None in an external field that changes.
        """
        if self.external_field.changes:
            return None
        kinetic = kinetic_energy(self.state.system, self.state.momenta, self.mass)
        matter = self.prediction.energy + kinetic
        return matter + self.electron_energy - self.absorbed_energy
