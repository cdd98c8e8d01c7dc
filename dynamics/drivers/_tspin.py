"""Inertial spins with Nose-Hoover chains: a sampler of spin-lattice ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from ..._validate import positive
from ...constraints import FixSpins
from ...potentials import Prediction
from ...system import System
from .._replicas import PerReplica, as_images
from .._state import State
from ..baths._barostat import Barostat, require_free_cells, target_stress
from ..baths._nose_hoover import NoseHooverChain
from ..integrators._inertial_spins import InertialSpins
from ..observables import kinetic_energy
from ._driver import SpinLatticeDynamics
from ._registry import driver

ENSEMBLES = ("nve", "nvt", "npt")

#: Default mass of a moment, eV (ASE time)^2/mu_B^2; see :class:`TSPIN`.
SPIN_MASS = 0.03


_TIMES = ("tdamp", "spin_tdamp", "pdamp", "collision_time")


@driver("tspin", time_arguments=dict.fromkeys(_TIMES, 1) | {"spin_mass": 2})
class TSPIN(SpinLatticeDynamics):
    """Sample atoms and moments with moments that have an artificial inertia.

    Z. Huang, H. Wang, B. Xu, arXiv:2506.12877 (2025). The moments get a mass mu and
    momenta P, so that atoms, moments and cell are one mechanical system with the
    energy E + sum p^2/2M + sum P^2/2mu. Momenta integrate out: averages of positions,
    moments and cell are those of the ensemble. **It is a sampler: the moments swing,
    they do not precess; frequencies, relaxation times and magnon spectra mean
    nothing.** Use :class:`~deepspin_ase.dynamics.SpinLatticeNVE` and
    :class:`~deepspin_ase.dynamics.SpinLatticeLangevin` for those.

    One step is velocity Verlet and takes one model call: chains dt/2, momenta dt/2,
    positions and moments (and cell) dt, momenta dt/2, chains dt/2: reversible and of
    second order. Moments keep their lengths and move on great circles, with 2
    degrees of freedom each; with ``magnitudes`` the vectors are free, with 3.

    A chain acts on all momenta alike. By itself it does not change the direction of
    sum m x P, which isotropic exchange conserves, nor pass heat between moments, or
    phonons, that do not interact. Rare collisions do: with a mean time between them
    each atom and its moment get fresh momenta of the Maxwell distribution (H. C.
    Andersen, J. Chem. Phys. 72, 2384 (1980), doi:10.1063/1.439486). Their heat is
    taken off the conserved energy.

    Parameters
    ----------
    atoms, timestep
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
        arguments that are not listed.
    ensemble : {"nve", "nvt", "npt"}
    temperature_K : float or sequence
        Of lattice and moments, > 0; several numbers run as many replicas. The
        momenta of the moments are drawn at this temperature; for ``"nve"`` it may
        be left out, and they start from rest. Those of the atoms are taken as
        they are.
    spin_mass : float
        mu, eV (ASE time)^2/mu_B^2. Averages do not depend on it. The default, 3
        eV fs^2/mu_B^2, lets a moment of 2 mu_B in an exchange field worth 0.3 eV
        swing with a period of 40 fs: little faster than the fastest phonons, so
        that energy passes between them and a step of 1 fs serves both.
    tdamp, spin_tdamp : float, ASE time
        Response times of the chains of lattice and moments. By default 100 fs, a
        few periods of either, and the same for both.
    collision_time : float or None, ASE time
        Mean time between two collisions of an atom; ``"nve"`` has none. With None
        there are only the chains, deterministic and reversible.
    pressure_GPa, stress_GPa, cell, mask, pdamp
        For ``"npt"``: see :class:`~deepspin_ase.dynamics.SpinLatticeNPT`.
    magnitudes : bool
        Let the lengths of the moments move as well: only for models whose energy
        binds them, networks trained on moments of many lengths or a Landau term.
    zero_momentum : bool, optional
        With a chain by default on, unless atoms are constrained: the total momentum
        is conserved and no degree of freedom.

    Raises
    ------
    ValueError
        If an argument does not fit the ensemble.
    """

    warm_baths = True
    variables = ("spin_momenta", "collision_heat")
    replica_arguments = (*SpinLatticeDynamics.replica_arguments, "pressure_GPa")

    chain: NoseHooverChain | None = None
    spin_chain: NoseHooverChain | None = None
    barostat: Barostat | None = None
    temperature_K: np.ndarray

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        ensemble: str = "nvt",
        temperature_K: PerReplica | None = None,
        spin_mass: float = SPIN_MASS,
        tdamp: float = 100.0 * units.fs,
        spin_tdamp: float | None = None,
        collision_time: float | None = 1000.0 * units.fs,
        pressure_GPa: PerReplica | None = None,
        stress_GPa: Sequence[float] | None = None,
        cell: str = "isotropic",
        mask: Sequence[bool] | None = None,
        pdamp: float = 1000.0 * units.fs,
        magnitudes: bool = False,
        zero_momentum: bool | None = None,
        **kwargs: Any,
    ) -> None:
        still = pressure_GPa is stress_GPa is mask is None and cell == "isotropic"
        _check_ensemble(ensemble, heated=temperature_K is not None, still=still)
        self.ensemble = ensemble
        if zero_momentum is None:
            zero_momentum = ensemble != "nve" and not _constrained(atoms)
        super().__init__(atoms, timestep, zero_momentum=zero_momentum, **kwargs)
        count = self.n_replicas
        self.magnitudes = magnitudes
        self.spin_mass = positive("spin_mass", spin_mass)
        self._tdamp = positive("tdamp", tdamp)
        self._spin_tdamp = positive(
            "spin_tdamp", tdamp if spin_tdamp is None else spin_tdamp
        )
        self._pdamp = positive("pdamp", pdamp)
        self._hit = 0.0
        if collision_time is not None and ensemble != "nve":
            mean = positive("collision_time", collision_time)
            self._hit = -float(np.expm1(-abs(self.dt) / mean))
        self.collision_heat = torch.zeros(count).to(self.state.momenta)
        self._cell, self._mask = cell, mask
        self._stress = torch.from_numpy(target_stress(pressure_GPa, stress_GPa, count))
        self.spin_momenta = torch.zeros_like(self.state.momenta)
        if temperature_K is None:
            self.prepare()
        else:
            self.set_temperature(temperature_K)
            self.spin_momenta = self._maxwell()

    def prepare(self) -> None:
        """Build mechanics, chains and barostat; these keep their state."""
        system = self.state.system
        self._spins = InertialSpins(
            mass=self.spin_mass,
            magnitudes=self.magnitudes,
            lengths=self.lengths,
            free=self.constraints.free_spins,
        )
        self.spin_momenta = self._spins.tangential(system.spins, self.spin_momenta)
        if self.ensemble == "nve":
            return
        kT = torch.from_numpy(units.kB * self.temperature_K).to(system.spins)
        atoms = self.degrees_of_freedom.to(kT)
        spins = self._spins.degrees_of_freedom(system)
        chain = NoseHooverChain(atoms, kT, self._tdamp)
        spin_chain = NoseHooverChain(spins, kT, self._spin_tdamp)
        self.chain = self.add_part("chain", chain)
        self.spin_chain = self.add_part("spin_chain", spin_chain)
        if self.ensemble == "npt":
            require_free_cells(system, self.constraints, self.engine)
            barostat = Barostat(
                cell=self._cell,
                mask=self._mask,
                stress=self._stress.to(kT),
                degrees_of_freedom=atoms,
                kT=kT,
                damping_time=self._pdamp,
                chain_time=self._tdamp,
            )
            self.barostat = self.add_part("barostat", barostat)

    def step(self) -> None:
        """Advance by one time step."""
        system, start = self.state.system, self.state.prediction
        if start is None or start.forces is None or self.barostat is not None:
            start = self.prediction
        momenta, spin_momenta = self._thermostats(
            system, self.state.momenta, self.spin_momenta
        )
        self._kick_cell(system, momenta, start)
        momenta, spin_momenta = self._kicked(system, momenta, spin_momenta, start)
        system, momenta, spin_momenta = self._drifted(system, momenta, spin_momenta)
        seen = self.barostat is not None or self.observers_due(self.nsteps + 1)
        end = self.evaluate(system, virial=seen)
        momenta, spin_momenta = self._kicked(system, momenta, spin_momenta, end)
        self._kick_cell(system, momenta, end)
        momenta, self.spin_momenta = self._thermostats(system, momenta, spin_momenta)
        self.state = State(system, momenta, end)
        self._collide()

    def _maxwell(self) -> Tensor:
        """Return random momenta of the moments, (N, 3)."""
        kT = self.per_atom(units.kB * self.temperature_K)
        return self._spins.maxwell(self.state.system.spins, self.context.normal(), kT)

    def _collide(self) -> None:
        """Give some atoms and their moments fresh momenta."""
        if self._hit == 0.0:
            return
        system, momenta = self.state.system, self.state.momenta
        before = self._kinetic_energies()
        chance = torch.rand(
            len(momenta),
            generator=self.generator,
            device=momenta.device,
            dtype=torch.float64,
        )
        hit = (chance < self._hit)[:, None]
        kT = self.per_atom(units.kB * self.temperature_K)
        if self.zero_momentum:
            # With a random velocity of the whole, momenta are independent.
            whole = system.sum(self.mass)[system.index]
            each = self.context.normal()[: self.n_replicas][system.index]
            momenta = momenta + self.mass * (kT / whole).sqrt() * each
        momenta = torch.where(
            hit, (self.mass * kT).sqrt() * self.context.normal(), momenta
        )
        if self.zero_momentum:
            momenta = self.context.without_total_momentum(system, momenta)
        momenta = self.constraints.momenta(system, momenta)
        self.state = replace(self.state, momenta=momenta)
        self.spin_momenta = torch.where(hit, self._maxwell(), self.spin_momenta)
        self.collision_heat = self.collision_heat + self._kinetic_energies() - before

    def _kinetic_energies(self) -> Tensor:
        state = self.state
        lattice = kinetic_energy(state.system, state.momenta, self.mass)
        return lattice + self.spin_kinetic_energy

    def _thermostats(
        self, system: System, momenta: Tensor, spin_momenta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let the chains act for half a step."""
        half = self.dt / 2.0
        if self.barostat is not None:
            self.barostat.thermostat(half)
        if self.chain is not None and self.spin_chain is not None:
            kinetic = kinetic_energy(system, momenta, self.mass)
            factor = self.chain.advance(2.0 * kinetic, half)
            momenta = factor[system.index][:, None] * momenta
            kinetic = self._spins.kinetic_energy(system, spin_momenta)
            factor = self.spin_chain.advance(2.0 * kinetic, half)
            spin_momenta = factor[system.index][:, None] * spin_momenta
        return momenta, spin_momenta

    def _kick_cell(self, system: System, momenta: Tensor, found: Prediction) -> None:
        if self.barostat is not None:
            assert found.virial is not None
            self.barostat.kick(system, momenta, self.mass, found.virial, self.dt / 2.0)

    def _kicked(
        self, system: System, momenta: Tensor, spin_momenta: Tensor, found: Prediction
    ) -> tuple[Tensor, Tensor]:
        """Return the momenta after the forces have acted for half a step."""
        assert found.forces is not None and found.magnetic_forces is not None
        half = self.dt / 2.0
        field = self._spins.tangential(system.spins, found.magnetic_forces)
        spin_momenta = spin_momenta + half * field
        if self.barostat is not None:
            momenta = self.barostat.accelerate(system, momenta, found.forces, half)
            return momenta, spin_momenta
        forces = self.constraints.forces(system, found.forces)
        return self.constraints.momenta(system, momenta + half * forces), spin_momenta

    def _drifted(
        self, system: System, momenta: Tensor, spin_momenta: Tensor
    ) -> tuple[System, Tensor, Tensor]:
        """Return system and momenta after a step without forces."""
        if not self.magnitudes:
            rate = self._spins.angular_velocity(system.spins, spin_momenta)
            self.warn_of_large_rotations(rate)
        spins, spin_momenta = self._spins.drift(system.spins, spin_momenta, self.dt)
        if self.barostat is not None:
            system = self.barostat.drift(system, momenta, self.mass, self.dt)
        else:
            positions, momenta = self.constraints.drift(
                system, momenta, self.mass, self.dt
            )
            system = system.replace(positions=positions)
        return system.replace(spins=spins), momenta, spin_momenta

    @property
    def spin_kinetic_energy(self) -> Tensor:
        """Kinetic energy of the moments, (B,), eV: kT/2 for each degree of freedom."""
        return self._spins.kinetic_energy(self.state.system, self.spin_momenta)

    def conserved_energy(self) -> Tensor | None:
        """Return the extended energy, (B,), eV; None in a field that changes.

        E + kinetic energies of atoms and moments + chains + barostat - the heat of
        collisions.
        """
        if self.external_field.changes:
            return None
        system = self.state.system
        total = self.prediction.energy + self._kinetic_energies() - self.collision_heat
        for chain in (self.chain, self.spin_chain):
            if chain is not None:
                total = total + chain.energy().to(total)
        if self.barostat is not None:
            total = total + self.barostat.energy(system)
        return total


def _check_ensemble(ensemble: str, *, heated: bool, still: bool) -> None:
    """Check that temperature and cell fit the ensemble."""
    if ensemble not in ENSEMBLES:
        raise ValueError(
            f"ensemble must be one of {', '.join(ENSEMBLES)}, got {ensemble!r}"
        )
    if ensemble != "nve" and not heated:
        raise ValueError(f"ensemble {ensemble!r} needs temperature_K")
    if ensemble != "npt" and not still:
        raise ValueError(
            "pressure_GPa, stress_GPa, cell and mask need a cell that changes: "
            "ensemble='npt'"
        )


def _constrained(atoms: Atoms | Sequence[Atoms]) -> bool:
    """Return whether any atom of any structure is constrained."""
    return any(
        not isinstance(constraint, FixSpins)
        for image in as_images(atoms, {})
        for constraint in image.constraints
    )
