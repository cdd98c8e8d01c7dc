"""Energy changes of single-spin trial moves, evaluated in batches.

Where the per-atom energies of a potential are local (the energy of atom j depends
on the spins of atoms within the pair cutoff of j), two spins that no atom sees both
of can be tried in one model call: each changes the energies of different atoms.
Elsewhere (dipole sums, calculators) one spin of each structure is
tried at a time, and the total energies count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.calculators.calculator import CalculationFailed
from scipy.sparse import csr_array
from torch import Tensor

from ...neighbors import PairList, build_pairs
from ...potentials import CompiledPotential, Potential
from ...system import System
from .._engine import Engine
from .._state import Stateful

#: Added to the pair cutoff, A: round-off must not decide which pairs are listed.
MARGIN = 1e-6


@dataclass(frozen=True)
class TrialSet:
    """Spins that are tried in one model call.

    Attributes
    ----------
    sites : (n,) int64 tensor
        Atoms of the spins, none of which couples to another.
    rows : (r,) int64 tensor
        The energies that they change, ascending: of atoms, or of structures.
    owner : (r,) int64 tensor
        The one of ``sites`` that changes each of them.
    """

    sites: Tensor
    rows: Tensor
    owner: Tensor


class TrialEnergies(Stateful):
    """Energies of the present state, and their changes by trial moves.

    Attributes
    ----------
    sets : list of TrialSet
        Together they hold every free moment once; those of the present lattice.
    values : tensor, eV
        Energies of the present state, of atoms or structures, without contributions
        that do not depend on the spins and without the driver's field.
    """

    sets: list[TrialSet]
    values: Tensor

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        #: Positions and cells to which ``values`` belong; None before the first.
        self._lattice: tuple[Tensor, Tensor] | None = None
        #: Whether ``sets`` belong to them as well.
        self._arranged = False

    def prepare(self, system: System, free: Tensor) -> None:
        """Make ready for ``system``, whose spins may rotate where ``free`` (N,)."""
        known = self._is_of(system)
        if known and self._arranged:
            return
        self._lattice = system.positions, system.cell
        self._renew(system, free, self.values if known else None)
        self._arranged = True

    def _is_of(self, system: System) -> bool:
        if self._lattice is None:
            return False
        positions, cell = self._lattice
        return torch.equal(positions, system.positions) and torch.equal(
            cell, system.cell
        )

    def _renew(self, system: System, free: Tensor, values: Tensor | None) -> None:
        """Find the sets, and the values where they are not known."""
        self.sets = self._independent_sets(system, free)
        self.values = (
            self._checked(self._evaluate(system)) if values is None else values
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return the energies and the lattice to which they belong."""
        if self._lattice is None:
            return {}
        positions, cell = self._lattice
        return {"positions": positions, "cell": cell, "values": self.values}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self.reset()
        if state:
            self._lattice = state["positions"], state["cell"]
            self.values = state["values"]

    def reset(self) -> None:
        """Discard lattice and energies after a jump of the state."""
        self._lattice, self._arranged = None, False

    def changes(
        self, system: System, trial: TrialSet, new: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the energy changes (n,) by trial moves, and the energies after them.

        Parameters
        ----------
        system : System
            The present state.
        trial : TrialSet
        new : (n, 3) tensor, mu_B
            Trial moments of its sites.

        Raises
        ------
        CalculationFailed
            If an energy is not finite.
        """
        moved = system.replace(spins=system.spins.index_copy(0, trial.sites, new))
        return self.change_to(moved, trial)

    def change_to(self, moved: System, trial: TrialSet) -> tuple[Tensor, Tensor]:
        """Return the energy changes (n,) to another state of the sites of a trial.

        And the energies after them, as :meth:`changes`.
        """
        found = self._checked(self._evaluate(moved, trial.rows))
        change = found.new_zeros(len(trial.sites))
        return change.index_add(0, trial.owner, found - self.values[trial.rows]), found

    def accept(self, trial: TrialSet, found: Tensor, accepted: Tensor) -> None:
        """Keep the new energies where the move was accepted, (n,) bool."""
        rows = trial.rows
        kept = torch.where(accepted[trial.owner], found, self.values[rows])
        self.values = self.values.index_copy(0, rows, kept)

    def total(self, system: System) -> Tensor:
        """Return the energies (B,) of ``system``, the present state, eV."""
        return system.sum(self.values)

    def exchange(self, permutation: Tensor) -> None:
        """Rearrange the configurations of the structures, (B,) int64."""
        shape = (len(permutation), -1)
        self.values = self.values.reshape(shape)[permutation].flatten()

    def _checked(self, values: Tensor) -> Tensor:
        if not bool(torch.isfinite(values).all()):
            raise CalculationFailed(
                "the energy of a trial move is not finite; the structure may be far "
                "outside the model's range"
            )
        return values

    def _independent_sets(self, system: System, free: Tensor) -> list[TrialSet]:
        raise NotImplementedError

    def _evaluate(self, system: System, rows: Tensor | None = None) -> Tensor:
        """Return the energies ``rows``, or all, in float64."""
        raise NotImplementedError


class TotalEnergies(TrialEnergies):
    """Total energies (B,) of the structures: one spin of each at a time."""

    def total(self, system: System) -> Tensor:
        """Return the energies (B,) of ``system``, the present state, eV."""
        return self.values

    def _independent_sets(self, system: System, free: Tensor) -> list[TrialSet]:
        sites = free.nonzero().flatten()
        owner = system.index[sites]
        counts = torch.bincount(owner, minlength=system.n_systems)
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(sites), device=sites.device) - first[owner]
        sets = []
        for k in range(int(counts.max())):
            chosen = sites[rank == k]
            rows = system.index[chosen]
            sets.append(TrialSet(chosen, rows, torch.arange(len(rows)).to(rows)))
        self._pairs = model_pairs(self.engine, self.engine.potential, system)
        return sets

    def _evaluate(self, system: System, rows: Tensor | None = None) -> Tensor:
        shares = _energies(self.engine, self.engine.compiled, system, self._pairs)
        energy = system.sum(shares)
        return energy if rows is None else energy[rows]


class LocalEnergies(TrialEnergies):
    """Energies (N,) of the atoms: independent spins together.

    A model call covers only the atoms whose energies change and what they see.

    Parameters
    ----------
    engine : Engine
    potential : Potential
        The part of the potential that depends on spins; its per-atom energies must
        be local and come from the pairs (i, j) of their atom i alone.
    """

    def __init__(self, engine: Engine, potential: Potential) -> None:
        super().__init__(engine)
        self._engine = engine
        self.potential = potential
        self._compiled = engine.compiled.replaced(potential)

    def _independent_sets(self, system: System, free: Tensor) -> list[TrialSet]:
        self._pairs = pairs = model_pairs(self._engine, self.potential, system)
        counts = torch.bincount(pairs.i, minlength=system.n_atoms)
        self._first, self._counts = counts.cumsum(0) - counts, counts
        device = system.device
        sites = free.nonzero().flatten().cpu().numpy()
        #: Nonzero where atom i sees atom j, (N, N).
        self.dependence = _dependence(pairs, system.n_atoms)
        sees = self.dependence[:, sites].tocsc()
        colors = independent_colors(sees.T.tocsr() @ sees)
        sets = []
        for color in range(int(colors.max(initial=-1)) + 1):
            members = np.flatnonzero(colors == color)
            part = sees[:, members].tocoo()
            order = np.argsort(part.row)
            sets.append(
                TrialSet(
                    torch.from_numpy(sites[members]).to(device),
                    torch.from_numpy(part.row[order].astype(np.int64)).to(device),
                    torch.from_numpy(part.col[order].astype(np.int64)).to(device),
                )
            )
        return sets

    def _evaluate(self, system: System, rows: Tensor | None = None) -> Tensor:
        if rows is None:
            return _energies(self._engine, self._compiled, system, self._pairs)
        part, pairs, place = self._surroundings(system, rows)
        return _energies(self._engine, self._compiled, part, pairs)[place]

    def _surroundings(
        self, system: System, rows: Tensor
    ) -> tuple[System, PairList, Tensor]:
        """Return the atoms ``rows`` with those that they see, and their places."""
        pairs, counts = self._pairs, self._counts[rows]
        # Positions in the list of the pairs of these atoms, which are consecutive.
        skipped = self._first[rows] - (counts.cumsum(0) - counts)
        chosen = torch.repeat_interleave(skipped, counts)
        chosen = chosen + torch.arange(len(chosen), device=rows.device)
        i, j = pairs.i[chosen], pairs.j[chosen]
        present = torch.zeros_like(self._counts, dtype=torch.bool)
        present[rows] = True
        present[j] = True
        atoms = present.nonzero().flatten()
        place = present.cumsum(0) - 1
        part = System(
            system.positions[atoms],
            system.spins[atoms],
            system.species[atoms],
            system.cell,
            system.pbc,
            system.index[atoms],
        )
        seen = PairList(place[i], place[j], pairs.shift[chosen], pairs.cutoff)
        return part, seen, place[rows]


def model_pairs(engine: Engine, potential: Potential, system: System) -> PairList:
    """Return the pairs of ``system`` that a part of the model of ``engine`` needs."""
    system = system.to(engine.device, engine.dtype)
    return build_pairs(system, potential.pair_cutoff(system) + MARGIN)


def _energies(
    engine: Engine,
    compiled: CompiledPotential,
    system: System,
    pairs: PairList,
) -> Tensor:
    """Return the per-atom energies (N,) in float64; one model call."""
    engine.n_calls += 1
    found = compiled.evaluate(
        system, pairs, forces=False, magnetic_forces=False, virial=False
    )
    return found.energies


def _dependence(pairs: PairList, n_atoms: int) -> csr_array:
    """Return the (N, N) matrix that is nonzero where atom j sees the spin of i."""
    own = np.arange(n_atoms)
    rows = np.concatenate([pairs.i.cpu().numpy(), own])
    columns = np.concatenate([pairs.j.cpu().numpy(), own])
    ones = np.ones(len(rows), dtype=np.int32)
    return csr_array((ones, (rows, columns)), shape=(n_atoms, n_atoms))


def independent_colors(conflicts: csr_array) -> np.ndarray:
    """Return a color (n,) for every site such that no two in conflict share one.

    Greedy, in the order of the sites: each gets the first color that is free.

    Parameters
    ----------
    conflicts : (n, n) sparse array
        Nonzero where two sites are in conflict.
    """
    colors = np.full(conflicts.shape[0], -1)
    for site in range(len(colors)):
        begin, end = conflicts.indptr[site : site + 2]
        taken = set(colors[conflicts.indices[begin:end]].tolist())
        color = 0
        while color in taken:
            color += 1
        colors[site] = color
    return colors
