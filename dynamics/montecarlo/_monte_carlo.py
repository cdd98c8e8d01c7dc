"""Metropolis Monte Carlo of spins, with moves of the lattice and tempering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.data import atomic_masses
from torch import Tensor

from ..._validate import positive, whole
from ...system import System
from .._replicas import PerReplica
from .._state import State
from ..drivers._driver import SpinLatticeDynamics
from ..drivers._registry import driver
from ..integrators._rotations import rotate, with_lengths
from ._bilinear import BilinearEnergies
from ._hybrid import LatticeMove
from ._swaps import SwapMove
from ._tempering import ReplicaExchange, rearranged, require_copies
from ._transmutations import TransmutationMove
from ._trial_energies import TrialEnergies, TrialSet
from ._trial_model import trial_energies
from ._trial_moves import MOVES, Acceptance, TrialMoves, acceptable, metropolis

#: Decades over which the angles of common rotations spread.
_DECADES = 2.0


@driver("monte-carlo", time_arguments={"lattice_timestep": 1})
class MonteCarlo(SpinLatticeDynamics):
    """Canonical sampling of the directions of the spins, and of the lattice.

    One step is a sweep: every free moment is tried once, in random order, and its
    new direction accepted with the probability min(1, exp(-dE/kT)). The sweep obeys
    detailed balance with exp(-E/kT). Spins that do not couple to each other are tried
    in one model call where the potential's per-atom energies are local: networks,
    pair and site terms, and their sums. Elsewhere a sweep takes one call for every
    moment of a structure.

    With ``lattice_steps`` a hybrid Monte Carlo trajectory of the atoms follows each
    sweep (:class:`~.montecarlo.LatticeMove`); without, they are
    fixed. With ``exchange_interval`` replicas swap configurations
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
        Sweeps between swaps of neighbours in temperature, and in field where
        ``external_field_T`` has one for each replica; 0 for none.
    overrelaxation : int
        Number of times that, after each sweep, every free moment is rotated by pi
        about its field: far, at the same energy (F. R. Brown and T. J. Woch,
        Phys. Rev. Lett. 58, 2394 (1987), doi:10.1103/PhysRevLett.58.2394). Shortens
        correlations. Where the energy is quadratic in the moments of each pair;
        anisotropies accept or reject the rotation.
    rotations : int
        Number of times that, after each sweep, all free moments of a replica are
        rotated together, about a random axis by an angle of any scale, if anisotropies
        and fields let them: takes an order over the barriers between its directions.
        Where the energy is quadratic in the moments of each pair.
    swap_elements : sequence of symbols, optional
        After each sweep of the spins, a sweep of trial swaps: atoms of two of these
        elements exchange their positions and keep their moments
        (:class:`~.montecarlo.SwapMove`), so that an alloy orders or separates.
    chemical_potentials : {symbol: eV}, optional
        After each sweep of the spins, a sweep of trial changes of elements between
        these (:class:`~.montecarlo.TransmutationMove`): the composition follows the
        differences of the chemical potentials.
    element_moments : {symbol: mu_B}, optional
        Lengths of the moments of elements that change; zero by default.
    clusters : int
        Number of Wolff clusters that each replica flips after each sweep (U. Wolff,
        Phys. Rev. Lett. 62, 361 (1989), doi:10.1103/PhysRevLett.62.361): near a
        transition they lose memory many times faster than single spins. For isotropic
        exchange without fields, all moments free.
    simultaneous : bool, optional
        Try independent spins together. By default this is done where it is known to
        be right; True asserts it of any other potential: the energy of atom i depends
        on spins within the pair cutoff, by its pairs (i, j) only. Where the energy is
        quadratic in the moments of each pair (exchange, Dzyaloshinskii-Moriya,
        uniaxial anisotropy, fields; of lists of bonds biquadratic exchange and cubic
        anisotropy, too), couplings are extracted from the model once for each lattice
        and trials need no model calls.

    Attributes
    ----------
    moves : TrialMoves
        Holds the widths of the cones.
    sampler : TrialEnergies
        Energies of the present state and of trial moves.
    exchange : ReplicaExchange or None
    free : (N,) bool tensor
        The moments that may rotate.

    Raises
    ------
    ValueError
        If an argument does not fit, or no moment is free.
    """

    takes_driven_terms = False

    temperature_K: np.ndarray

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
        rotations: int = 0,
        clusters: int = 0,
        swap_elements: Sequence[str] | None = None,
        chemical_potentials: Mapping[str, float] | None = None,
        element_moments: Mapping[str, float] | None = None,
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
            ("rotations", rotations),
            ("clusters", clusters),
        ):
            whole(name, value)
        if chemical_potentials is None and element_moments is not None:
            raise ValueError("element_moments need chemical_potentials")
        if chemical_potentials is not None and (swap_elements or exchange_interval):
            raise ValueError(
                "chemical_potentials go without swap_elements, whose work they do, and "
                "without exchange_interval: replicas differ in their elements"
            )
        self.needs_moments = swap_elements is None and chemical_potentials is None
        super().__init__(atoms, units.fs, **kwargs)
        count, device = self.n_replicas, self.engine.device
        self.overrelaxation, self.clusters = overrelaxation, clusters
        self.rotations = rotations
        self.exchange_interval = exchange_interval
        self._lattice_timestep = _checked_timestep(lattice_steps, lattice_timestep)
        self._lattice_steps = lattice_steps
        self._swap_elements = swap_elements
        self._chemical_potentials = chemical_potentials
        self._element_moments = element_moments
        moves = TrialMoves(move, count, adaptation_steps, device)
        # Couplings that are read off the model are sampled without a call of it.
        self.engine.compiled.look(self.state.system)
        sampler = trial_energies(self.engine, self.state.system, simultaneous)
        self.moves = self.add_part("moves", moves)
        self.sampler = self.add_part("energies", sampler)
        self._lattice_counts = self.add_part("lattice", Acceptance(count, device))
        if rotations:
            self._rotated = self.add_part("rotations", Acceptance(count, device))
        self.exchange: ReplicaExchange | None = None
        self.set_temperature(temperature_K)
        self._check_moves()
        if exchange_interval:
            fields = self.external_field.of_replicas
            exchange = ReplicaExchange(self.temperature_K, device, fields)
            self.exchange = self.add_part("exchange", exchange)
            require_copies(
                self.state.system,
                self.lengths,
                self.constraints,
                lattice_moves=not self.fixed_lattice,
            )

    def prepare(self) -> None:
        """Find the free moments, and build the move of the lattice."""
        kT = torch.from_numpy(units.kB * self.temperature_K)
        self._kT = kT.to(self.engine.device)
        self.free = ((self.lengths > 0) & (self.constraints.free_spins > 0))[:, 0]
        self._move_lattice: LatticeMove | None = None
        if self._lattice_steps:
            self._move_lattice = LatticeMove(
                self.context,
                self.images,
                steps=self._lattice_steps,
                timestep=self._lattice_timestep,
            )
        self._swap: SwapMove | None = None
        if self._swap_elements is not None:
            move = SwapMove(
                self.context,
                self.engine,
                self.state.system,
                elements=self._swap_elements,
                free=self.constraints.free.all(dim=1),
            )
            self._swap = self.add_part("swaps", move)
        self._transmute: TransmutationMove | None = None
        if self._chemical_potentials is not None:
            if any(image.has("masses") for image in self.images):
                raise ValueError(
                    "masses were set, which do not follow elements that change: delete "
                    "them, del atoms.arrays['masses']"
                )
            changes = TransmutationMove(
                self.context,
                self.engine,
                self.state.system,
                chemical_potentials=self._chemical_potentials,
                moments=self._element_moments or {},
                free=self.constraints.free.all(dim=1),
            )
            self._transmute = self.add_part("transmutations", changes)
        moved = self._lattice_steps or self._swap or self._transmute
        if not (bool(self.free.any()) or moved):
            raise ValueError(
                "no moment is free: FixSpins holds them all, or there are none; free "
                "some, move the lattice with lattice_steps, swap atoms with "
                "swap_elements, or change them with chemical_potentials"
            )

    @property
    def fixed_lattice(self) -> bool:
        """Whether all atoms stay where they are."""
        alloy = self._swap_elements is not None or self._chemical_potentials is not None
        return not self._lattice_steps and not alloy

    @property
    def allows_overrelaxation(self) -> bool:
        """Whether the energy is known to be quadratic in the moments of each pair."""
        return isinstance(self.sampler, BilinearEnergies)

    @property
    def allows_clusters(self) -> bool:
        """Whether the energy is isotropic exchange alone, and all moments are free."""
        sampler = self.sampler
        known = isinstance(sampler, BilinearEnergies) and sampler.couplings.isotropic
        return known and not self._some_held and self.external_field.field_T is None

    @property
    def _some_held(self) -> bool:
        """Whether moments are held."""
        return bool(((self.lengths > 0)[:, 0] & ~self.free).any())

    def _check_moves(self) -> None:
        for name in ("overrelaxation", "rotations"):
            if getattr(self, name) and not self.allows_overrelaxation:
                raise ValueError(
                    f"{name} needs an energy that is quadratic in the moments of each "
                    "pair (exchange, Dzyaloshinskii-Moriya, anisotropies, fields; no "
                    "network), without simultaneous; leave it out"
                )
        if self.clusters and not self.allows_clusters:
            raise ValueError(
                "clusters need isotropic exchange alone (no field, no anisotropy, no "
                "network), and all moments free; leave it out"
            )

    def set_temperature(
        self,
        temperature_K: PerReplica,
        spin_temperature_K: PerReplica | None = None,
    ) -> None:
        """Change the temperatures from the next sweep on; cones adapt again.

        See :meth:`.drivers.SpinLatticeDynamics.set_temperature`; there is one bath.
        """
        super().set_temperature(temperature_K, spin_temperature_K)
        self.moves.adapt_again()
        if self.exchange is not None:
            self.exchange.set_temperature(self.temperature_K)

    @property
    def acceptance(self) -> dict[str, np.ndarray]:
        """Accepted fraction of the trials, by kind; nan where there was none.

        ``"cone"`` and ``"uniform"`` (B,), after the adaptation of the cones;
        ``"rotation"``, ``"lattice"``, ``"swap"`` and ``"transmutation"`` (B,);
        ``"exchange"`` (P,), of the pairs ``exchange.neighbors``, (B - 1,) by rising
        temperature in one field.
        """
        counts = dict(self.moves.counts)
        if self.rotations:
            counts["rotation"] = self._rotated
        if self._move_lattice is not None:
            counts["lattice"] = self._lattice_counts
        if self._swap is not None:
            counts["swap"] = self._swap.counts
        if self._transmute is not None:
            counts["transmutation"] = self._transmute.counts
        if self.exchange is not None:
            counts["exchange"] = self.exchange.pairs
        return {kind: count.rate.cpu().numpy() for kind, count in counts.items()}

    def step(self) -> None:
        """Make one sweep, then move atoms and swap replicas as asked for."""
        if bool(self.free.any()):
            self._sweep()
        if self._swap is not None:
            self.state = self._swap(self.state, self._kT)
        if self._transmute is not None:
            self.state = self._transmute(self.state, self._kT)
            self._take_elements()
        if self._move_lattice is not None:
            self.state, accepted = self._move_lattice(self.state, self._kT)
            replicas = torch.arange(self.n_replicas, device=accepted.device)
            self._lattice_counts.add(accepted, replicas)
        if self.exchange is not None and self._exchange_is_due():
            self.exchange_replicas()

    def _take_elements(self) -> None:
        """Take masses and moments of the present elements."""
        system = self.state.system
        masses = atomic_masses[system.species.cpu().numpy()]
        self.context.mass = torch.from_numpy(masses)[:, None].to(self.mass)
        self.context.lengths = system.spins.norm(dim=1, keepdim=True)
        self.free = ((self.lengths > 0) & (self.constraints.free_spins > 0))[:, 0]
        self.sampler.reset()

    def _sweep(self) -> None:
        """Try every free moment once, then rotate them at constant energy as asked."""
        system, sampler = self.state.system, self.sampler
        sampler.prepare(system, self.free)
        field = self._field()
        if isinstance(sampler, BilinearEnergies):
            system = self._sweep_coupled(system, sampler, field)
        else:
            for trial in self._shuffled(sampler.sets):
                system = self._try(system, sampler, trial, field)
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
        linear, kT = energies.couplings.linear, self._kT[system.index]
        for _ in range(self.overrelaxation):
            for trial in self._shuffled(energies.sets):
                sites = kT[trial.sites]
                most = kT[:0] if linear else acceptable(sites, self.generator)
                energies.overrelax(spins, trial, field, most)
        for _ in range(self.rotations):
            spins = self._rotated_together(system, energies, spins, field)
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
            energies.flip_clusters(system, spins, self._kT, axes, seeds)
        return system.replace(spins=spins)

    def _rotated_together(
        self, system: System, energies: BilinearEnergies, spins: Tensor, field: Tensor
    ) -> Tensor:
        """Return spins (N, 3) after a trial rotation of all free ones, by replica."""
        count = self.n_replicas
        axes = torch.randn((count, 3), generator=self.generator, dtype=spins.dtype)
        scales = torch.rand((2, count, 1), generator=self.generator, dtype=spins.dtype)
        # A reversed rotation is as likely: the axis may point either way.
        angles = torch.pi * scales[0] * 10.0 ** (-_DECADES * scales[1])
        vectors = angles * axes / axes.norm(dim=1, keepdim=True)
        turned = rotate(spins, vectors[system.index])
        turned = with_lengths(turned, self.lengths)
        turned = torch.where(self.free[:, None], turned, spins)
        change = energies.changes_by_rotation(
            system.replace(spins=spins), turned, field, all_turn=not self._some_held
        )
        accepted = metropolis(change, self._kT, self.generator)
        self._rotated.add(accepted, torch.arange(count))
        return torch.where(accepted[system.index][:, None], turned, spins)

    def _field(self) -> Tensor:
        """Return the driver's field of this sweep, (N, 3), eV/mu_B."""
        now = self.time_fs + float(self.dt / units.fs)
        return self.external_field.on_atoms(self.state.system, now)

    def _shuffled(self, sets: list[TrialSet]) -> list[TrialSet]:
        order = torch.randperm(
            len(sets), generator=self.generator, device=self.engine.device
        )
        return [sets[k] for k in order.tolist()]

    def _try(
        self, system: System, energies: TrialEnergies, trial: TrialSet, field: Tensor
    ) -> System:
        """Return the system after trials of one set of spins; field (N, 3), eV/mu_B."""
        sites, replica = trial.sites, system.index[trial.sites]
        old = system.spins[sites]
        lengths = self.lengths[sites]
        noise, cone = self.moves.draw(len(sites), self.generator)
        new = self.moves.moved(old, lengths, replica, noise, cone)
        change, found = energies.changes(system, trial, new)
        change = change - ((new - old) * field[sites]).sum(dim=1)
        accepted = metropolis(change, self._kT[replica], self.generator)
        energies.accept(trial, found, accepted)
        self.moves.record(accepted, cone, replica)
        spins = torch.where(accepted[:, None], new, old)
        return system.replace(spins=system.spins.index_copy(0, sites, spins))

    def spin_energies(self) -> Tensor:
        """Return the energies (B,) of the present state up to a constant, eV.

        Without contributions that do not depend on the spins and without the driver's
        field; known from the moves, so that no model call is needed.
        """
        self.sampler.prepare(self.state.system, self.free)
        return self.sampler.total(self.state.system)

    def _exchange_is_due(self) -> bool:
        return (self.nsteps + 1) % self.exchange_interval == 0

    def exchange_replicas(self) -> None:
        """Try to swap neighbouring replicas; momenta stay at their temperature.

        Raises
        ------
        ValueError
            If the driver was made without ``exchange_interval``.
        """
        exchange = self.exchange
        if exchange is None:
            raise ValueError("replicas are not exchanged: give exchange_interval")
        system = self.state.system
        energy = self.evaluate(system, forces=False).energy
        moments = None
        if self.external_field.of_replicas is not None:
            moments = system.sum(system.spins)
        permutation = exchange.permutation(energy, self._kT, self.generator, moments)
        self.sampler.exchange(permutation)
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


def _checked_timestep(steps: int, timestep: float | None) -> float:
    """Return the time step of the lattice's moves; zero where there are none."""
    if not steps:
        if timestep is not None:
            raise ValueError("lattice_timestep needs lattice_steps > 0")
        return 0.0
    if timestep is None:
        raise ValueError(
            "lattice_steps needs lattice_timestep, such as 1 * ase.units.fs"
        )
    return positive("lattice_timestep", timestep)
