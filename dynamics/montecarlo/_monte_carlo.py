"""Metropolis Monte Carlo of spins, with moves of the lattice and tempering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from torch import Tensor

from ..._validate import per_replica, whole
from ...system import System
from .._replicas import PerReplica
from ..drivers._atoms_sync import State
from ..drivers._driver import SpinLatticeDynamics
from ._bilinear import BilinearEnergies
from ._hybrid import LatticeMove
from ._tempering import ReplicaExchange, rearranged
from ._trial_energies import TrialEnergies, TrialSet
from ._trial_model import trial_energies
from ._trial_moves import MOVES, Acceptance, TrialMoves, acceptable, metropolis


class MonteCarlo(SpinLatticeDynamics):
    """Canonical sampling of the directions of the spins, and of the lattice.

    One step is a sweep: every free moment is tried once, in random order, and its
    new direction accepted with the probability min(1, exp(-dE/kT)). The sweep obeys
    detailed balance with exp(-E/kT). Spins that do not notice each other are tried
    in one model call where the potential's per-atom energies are local: networks,
    pair and site terms, and their sums. Elsewhere a sweep takes one call for every
    moment of a structure.

    With ``lattice_steps`` a hybrid Monte Carlo trajectory of the atoms follows each
    sweep (:class:`~.montecarlo.LatticeMove`); without, they stand
    still. With ``exchange_interval`` replicas swap configurations
    (:class:`~.montecarlo.ReplicaExchange`).

    There is no time: ``time_fs`` counts the sweeps, also for external fields that
    are functions of it.

    Parameters
    ----------
    atoms
        See :class:`~deepspin_ase.dynamics.SpinLatticeDynamics`, as for all
        arguments that are not listed.
    temperature_K : float or sequence
        Several numbers run as many replicas.
    move : {"cone", "uniform", "mixed"}
        Trial moves: into a cone around the present direction, whose width adapts to
        an acceptance of one half, anywhere on the sphere, or one or the other
        (:class:`~.montecarlo.TrialMoves`).
    adaptation_steps : int
        Sweeps in which the cone adapts. They are part of the equilibration: averages
        are exact only over sweeps after them.
    lattice_steps : int
        Velocity-Verlet steps after each sweep; 0 keeps the lattice fixed.
    lattice_timestep : float, optional
        Their time step, in ASE units (``1 * ase.units.fs``).
    exchange_interval : int
        Sweeps between swaps of neighbouring temperatures; 0 for none.
    overrelaxation : int
        Number of times that, after each sweep, every free moment is turned by half a
        turn about its field: far, at the same energy (F. R. Brown and T. J. Woch,
        Phys. Rev. Lett. 58, 2394 (1987), doi:10.1103/PhysRevLett.58.2394). Shortens
        correlations; for energies that are linear in every moment.
    clusters : int
        Number of Wolff's clusters that each replica turns after each sweep (U. Wolff,
        Phys. Rev. Lett. 62, 361 (1989), doi:10.1103/PhysRevLett.62.361): near a
        transition they lose memory many times faster than single spins. For isotropic
        exchange without fields, all moments free.
    simultaneous : bool, optional
        Whether to try independent spins together. By default it is done where it is
        known to be right; True says so of a potential of your own: the energy of
        atom i depends on spins within the pair cutoff, by its pairs (i, j) only.
        Where the energy is quadratic in the moments of each pair (exchange,
        Dzyaloshinskii-Moriya, uniaxial anisotropy, fields), couplings are read off
        the model once for each lattice and trials need no model calls.

    Attributes
    ----------
    moves : TrialMoves
        Holds the widths of the cones.
    exchange : ReplicaExchange or None

    Raises
    ------
    ValueError
        If an argument does not fit, or no moment is free.
    """

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        *,
        temperature_K: PerReplica,
        move: str = "cone",
        adaptation_steps: int = 1000,
        lattice_steps: int = 0,
        lattice_timestep: float | None = None,
        exchange_interval: int = 0,
        overrelaxation: int = 0,
        clusters: int = 0,
        simultaneous: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if move not in MOVES:
            raise ValueError(f"move must be one of {', '.join(MOVES)}, got {move!r}")
        for name, value in (
            ("adaptation_steps", adaptation_steps),
            ("lattice_steps", lattice_steps),
            ("exchange_interval", exchange_interval),
            ("overrelaxation", overrelaxation),
            ("clusters", clusters),
        ):
            whole(name, value)
        self._energies: TrialEnergies | None = None
        super().__init__(atoms, units.fs, **kwargs)
        count, device = self.n_replicas, self.engine.device
        self.overrelaxation, self.clusters = overrelaxation, clusters
        self.moves = TrialMoves(move, count, adaptation_steps, device)
        self._move_lattice = self._lattice_move(lattice_steps, lattice_timestep)
        self._lattice_counts = Acceptance(count, device)
        self._energies = trial_energies(self.engine, self.state.system, simultaneous)
        self._find_free()
        self._check_moves()
        self.exchange: ReplicaExchange | None = None
        self.set_temperature(temperature_K)
        self.exchange_interval = exchange_interval
        if exchange_interval:
            moving = self._move_lattice is not None
            self.exchange = ReplicaExchange(self, lattice_moves=moving)

    def _lattice_move(self, steps: int, timestep: float | None) -> LatticeMove | None:
        if not steps:
            if timestep is not None:
                raise ValueError("lattice_timestep needs lattice_steps > 0")
            return None
        if timestep is None:
            raise ValueError(
                "lattice_steps needs lattice_timestep, such as 1 * ase.units.fs"
            )
        value = per_replica("lattice_timestep", timestep, 1, positive=True)
        return LatticeMove(self, steps=steps, timestep=float(value[0]))

    @property
    def fixed_lattice(self) -> bool:
        """Whether the atoms stand still."""
        return self._move_lattice is None

    def _find_free(self) -> None:
        """Find the moments that may turn."""
        self._free = ((self.lengths > 0) & (self.constraints.free_spins > 0))[:, 0]
        if self._move_lattice is None and not bool(self._free.any()):
            raise ValueError(
                "no moment is free: FixSpins holds them all; free some, or move the "
                "lattice with lattice_steps"
            )

    def _state_changed(self) -> None:
        if self._energies is not None:
            self._energies.forget()
            self._find_free()

    @property
    def allows_overrelaxation(self) -> bool:
        """Whether the energy is known to be linear in every moment."""
        energies = self._energies
        return isinstance(energies, BilinearEnergies) and energies.couplings.linear

    @property
    def allows_clusters(self) -> bool:
        """Whether the energy is isotropic exchange alone, and all moments are free."""
        energies = self._energies
        known = isinstance(energies, BilinearEnergies) and energies.couplings.isotropic
        held = bool(((self.lengths > 0)[:, 0] & ~self._free).any())
        return known and not held and self.external_field.field_T is None

    def _check_moves(self) -> None:
        if self.overrelaxation and not self.allows_overrelaxation:
            raise ValueError(
                "overrelaxation needs an energy that is linear in every moment "
                "(exchange, Dzyaloshinskii-Moriya, fields; no anisotropy, no network), "
                "without simultaneous; leave it out"
            )
        if self.clusters and not self.allows_clusters:
            raise ValueError(
                "clusters need isotropic exchange alone (no field, no anisotropy, no "
                "network), and all moments free; leave it out"
            )

    def set_temperature(self, temperature_K: PerReplica) -> None:
        """Change the temperatures from the next sweep on; cones adapt again."""
        self.temperature_K = per_replica(
            "temperature_K", temperature_K, self.n_replicas
        )
        kT = torch.from_numpy(units.kB * self.temperature_K)
        self._kT = kT.to(self.engine.device)
        self.moves.adapt_again()
        if self.exchange is not None:
            self.exchange.set_temperature(self.temperature_K)

    @property
    def acceptance(self) -> dict[str, np.ndarray]:
        """Accepted share of the trials, by kind; nan where there was none.

        ``"cone"`` and ``"uniform"`` (B,), since the cones are settled; ``"lattice"``
        (B,); ``"exchange"`` (B - 1,), between neighbours by rising temperature.
        """
        counts = dict(self.moves.counts)
        if self._move_lattice is not None:
            counts["lattice"] = self._lattice_counts
        if self.exchange is not None:
            counts["exchange"] = self.exchange.pairs
        return {kind: count.rate.cpu().numpy() for kind, count in counts.items()}

    def step(self) -> None:
        """Make one sweep, then move the lattice and swap replicas as asked for."""
        assert self._energies is not None
        before = self.state
        try:
            self._sweep(self._energies)
            if self._move_lattice is not None:
                accepted = self._move_lattice(self._kT)
                replicas = torch.arange(self.n_replicas, device=accepted.device)
                self._lattice_counts.add(accepted, replicas)
            if self.exchange is not None and self._exchange_is_due():
                self._swap(self.exchange, self._energies)
        except CalculationFailed:
            self.state = before
            self._energies.forget()
            raise

    def _sweep(self, energies: TrialEnergies) -> None:
        """Try every free moment once, then turn them at constant energy as asked."""
        system = self.state.system
        energies.prepare(system, self._free)
        field = self._field()
        if isinstance(energies, BilinearEnergies):
            system = self._sweep_coupled(system, energies, field)
        else:
            for trial in self._shuffled(energies.sets):
                system = self._try(system, energies, trial, field)
        self.moves.end_sweep()
        self.state = State(system, self.state.momenta)

    def _sweep_coupled(
        self, system: System, energies: BilinearEnergies, field: Tensor
    ) -> System:
        """Return the system after a sweep under couplings that are known."""
        spins = system.spins.clone()
        for trial in self._shuffled(energies.sets):
            replica = system.index[trial.sites]
            noise, cone = self.moves.draw(len(trial.sites), self.generator)
            accepted = energies.try_moves(
                spins,
                trial,
                replica,
                noise=noise,
                cone=cone,
                widths=self.moves.widths,
                threshold=acceptable(self._kT[replica], self.generator),
                field=field,
            )
            self.moves.record(accepted, cone, replica)
        for _ in range(self.overrelaxation):
            for trial in self._shuffled(energies.sets):
                energies.overrelax(spins, trial, field)
        if self.clusters:
            axes = torch.randn(
                (self.n_replicas, self.clusters, 3),
                generator=self.generator,
                dtype=spins.dtype,
            )
            seeds = torch.randint(
                2**63 - 1, (self.n_replicas,), generator=self.generator
            )
            axes = axes / axes.norm(dim=2, keepdim=True)
            energies.turn_clusters(system, spins, self._kT, axes, seeds)
        return system.replace(spins=spins)

    def _field(self) -> Tensor:
        """Return the driver's field of this sweep, (3,), eV/mu_B."""
        field = torch.zeros(3, dtype=torch.float64)
        if self.external_field.field_T is not None:
            now = self.time_fs + float(self.dt / units.fs)
            field = torch.from_numpy(self.external_field.at(now))
        return field.to(self.engine.device)

    def _shuffled(self, sets: list[TrialSet]) -> list[TrialSet]:
        order = torch.randperm(
            len(sets), generator=self.generator, device=self.engine.device
        )
        return [sets[k] for k in order.tolist()]

    def _try(
        self, system: System, energies: TrialEnergies, trial: TrialSet, field: Tensor
    ) -> System:
        """Return the system after trials of one set of spins; field (3,), eV/mu_B."""
        sites, replica = trial.sites, system.index[trial.sites]
        old = system.spins[sites]
        lengths = self.lengths[sites]
        noise, cone = self.moves.draw(len(sites), self.generator)
        new = self.moves.moved(old, lengths, replica, noise, cone)
        change, found = energies.changes(system, trial, new)
        change = change - (new - old) @ field
        accepted = metropolis(change, self._kT[replica], self.generator)
        energies.accept(trial, found, accepted)
        self.moves.record(accepted, cone, replica)
        spins = torch.where(accepted[:, None], new, old)
        return system.replace(spins=system.spins.index_copy(0, sites, spins))

    def spin_energies(self) -> Tensor:
        """Return the energies (B,) of the present state but for a constant, eV.

        Without what does not depend on the spins and without the driver's field;
        known from the moves, so that no model call is needed.
        """
        assert self._energies is not None
        self._energies.prepare(self.state.system, self._free)
        return self._energies.total(self.state.system)

    def _exchange_is_due(self) -> bool:
        return (self.nsteps + 1) % self.exchange_interval == 0

    def _swap(self, exchange: ReplicaExchange, energies: TrialEnergies) -> None:
        """Let replicas swap configurations; momenta stay at their temperature."""
        system = self.state.system
        energy = self.evaluate(system, forces=False).energy
        permutation = exchange.permutation(energy, self._kT, self.generator)
        energies.exchange(permutation)
        system = system.replace(
            positions=rearranged(system.positions, permutation),
            spins=rearranged(system.spins, permutation),
        )
        self.state = State(system, self.state.momenta)

    def log_columns(self) -> dict[str, Tensor]:
        """Return the acceptance of spin and lattice moves, (B,), for the log."""
        return {
            f"accepted_{kind}": torch.from_numpy(rate)
            for kind, rate in self.acceptance.items()
            if kind != "exchange"
        }

    def extra_state(self) -> dict[str, Any]:
        """Return energies, widths of the cones, temperatures and counts."""
        assert self._energies is not None
        return {
            "temperature_K": self.temperature_K.tolist(),
            "energies": self._energies.state(self.state.system),
            "moves": self.moves.state(),
            "lattice": self._lattice_counts.state(),
            "exchange": None if self.exchange is None else self.exchange.state(),
        }

    def restore_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`extra_state` returned."""
        assert self._energies is not None
        self.set_temperature(state["temperature_K"])
        if state["energies"] is not None:
            system = self.state.system
            self._energies.restore(system, self._free, state["energies"])
        self.moves.restore(state["moves"])
        self._lattice_counts.restore(state["lattice"])
        if self.exchange is not None and state["exchange"] is not None:
            self.exchange.restore(state["exchange"])
