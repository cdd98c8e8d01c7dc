"""What the energy changes by when single spins are turned, many at a time.

Where the per-atom energies of a potential are local (the energy of atom j depends
on the spins of atoms within the pair cutoff of j), two spins that no atom sees both
of can be tried in one model call: the changes of the energies of the atoms around
each are its own. Elsewhere (dipole sums, calculators) one spin of each structure is
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
from ...potentials import Potential
from ...system import System
from .._engine import Engine, PotentialEngine

#: Added to the pair cutoff, A: which pairs are listed must not hang on round-off.
MARGIN = 1e-6


@dataclass(frozen=True)
class TrialSet:
    """Spins that are tried in one model call.

    Attributes
    ----------
    sites : (n,) int64 tensor
        Atoms whose spins are turned, none of which notices another.
    rows : (r,) int64 tensor
        Which energies that changes, ascending: of atoms, or of structures.
    owner : (r,) int64 tensor
        Which of the ``sites`` changes each of them.
    """

    sites: Tensor
    rows: Tensor
    owner: Tensor


class TrialEnergies:
    """Energies of the present state, and how trial moves change them.

    Attributes
    ----------
    sets : list of TrialSet
        Together they hold every free moment once; those of the present lattice.
    values : tensor, eV
        Energies of the present state; what they belong to is up to the subclass.
        They leave out what does not depend on the spins, and the driver's field.
    """

    sets: list[TrialSet]
    values: Tensor

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lattice: tuple[Tensor, Tensor] | None = None

    def forget(self) -> None:
        """Forget lattice and energies: the state was left by a jump."""
        self._lattice = None

    def prepare(self, system: System, free: Tensor) -> None:
        """Make ready for ``system``, whose spins may turn where ``free`` (N,) says."""
        if not self._stands(system):
            self._settle(system, free)
            self.values = self._checked(self._evaluate(system))

    def restore(self, system: System, free: Tensor, values: Tensor) -> None:
        """Make ready for ``system``, whose ``values`` are known."""
        self._settle(system, free)
        self.values = values

    def state(self, system: System) -> Tensor | None:
        """Return the energies of ``system``, the present state, if they are known."""
        return self.values if self._stands(system) else None

    def _stands(self, system: System) -> bool:
        if self._lattice is None:
            return False
        positions, cell = self._lattice
        return torch.equal(positions, system.positions) and torch.equal(
            cell, system.cell
        )

    def _settle(self, system: System, free: Tensor) -> None:
        self._lattice = system.positions, system.cell
        self.sets = self._arranged(system, free)

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
        found = self._checked(self._evaluate(moved, trial.rows))
        change = found.new_zeros(len(trial.sites))
        return change.index_add(0, trial.owner, found - self.values[trial.rows]), found

    def accept(self, trial: TrialSet, found: Tensor, accepted: Tensor) -> None:
        """Take up the new energies where the move was accepted, (n,) bool."""
        rows = trial.rows
        kept = torch.where(accepted[trial.owner], found, self.values[rows])
        self.values = self.values.index_copy(0, rows, kept)

    def total(self, system: System) -> Tensor:
        """Return the energies (B,) of ``system``, the present state, eV."""
        return system.sum(self.values)

    def exchange(self, permutation: Tensor) -> None:
        """Put the structures' configurations into another order, (B,) int64."""
        shape = (len(permutation), -1)
        self.values = self.values.reshape(shape)[permutation].flatten()

    def _checked(self, values: Tensor) -> Tensor:
        if not bool(torch.isfinite(values).all()):
            raise CalculationFailed(
                "the energy of a trial move is not finite; the structure may be far "
                "outside the model's range"
            )
        return values

    def _arranged(self, system: System, free: Tensor) -> list[TrialSet]:
        raise NotImplementedError

    def _evaluate(self, system: System, rows: Tensor | None = None) -> Tensor:
        """Return the energies ``rows``, or all, in float64."""
        raise NotImplementedError


class TotalEnergies(TrialEnergies):
    """Total energies (B,) of the structures: one spin of each at a time."""

    def total(self, system: System) -> Tensor:
        """Return the energies (B,) of ``system``, the present state, eV."""
        return self.values

    def _arranged(self, system: System, free: Tensor) -> list[TrialSet]:
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
        if isinstance(self.engine, PotentialEngine):
            self._pairs = model_pairs(self.engine, self.engine.potential, system)
        return sets

    def _evaluate(self, system: System, rows: Tensor | None = None) -> Tensor:
        if isinstance(self.engine, PotentialEngine):
            potential = self.engine.potential
            shares = _energies(self.engine, potential, system, self._pairs)
            energy = system.sum(shares)
        else:
            energy = self.engine.evaluate(system, forces=False).energy
        return energy if rows is None else energy[rows]


class LocalEnergies(TrialEnergies):
    """Energies (N,) of the atoms: independent spins together.

    A model call covers only the atoms whose energies change and what they see.

    Parameters
    ----------
    engine : PotentialEngine
    potential : Potential
        The part of the potential that depends on spins; its per-atom energies must
        be local and come from the pairs (i, j) of their atom i alone.
    """

    def __init__(self, engine: PotentialEngine, potential: Potential) -> None:
        super().__init__(engine)
        self._engine = engine
        self.potential = potential

    def _arranged(self, system: System, free: Tensor) -> list[TrialSet]:
        self._pairs = pairs = model_pairs(self._engine, self.potential, system)
        counts = torch.bincount(pairs.i, minlength=system.n_atoms)
        self._first, self._counts = counts.cumsum(0) - counts, counts
        device = system.device
        sites = free.nonzero().flatten().cpu().numpy()
        sees = _dependence(pairs, system.n_atoms)[:, sites].tocsc()
        colours = independent_colours(sees.T.tocsr() @ sees)
        sets = []
        for colour in range(int(colours.max(initial=-1)) + 1):
            members = np.flatnonzero(colours == colour)
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
            return _energies(self._engine, self.potential, system, self._pairs)
        part, pairs, place = self._surroundings(system, rows)
        return _energies(self._engine, self.potential, part, pairs)[place]

    def _surroundings(
        self, system: System, rows: Tensor
    ) -> tuple[System, PairList, Tensor]:
        """Return the atoms ``rows`` with what they see, and where they are there."""
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


def model_pairs(
    engine: PotentialEngine, potential: Potential, system: System
) -> PairList:
    """Return the pairs of ``system`` that a part of the model of ``engine`` needs."""
    system = system.to(engine.device, engine.dtype)
    return build_pairs(system, potential.pair_cutoff(system) + MARGIN)


def _energies(
    engine: PotentialEngine, potential: Potential, system: System, pairs: PairList
) -> Tensor:
    """Return the per-atom energies (N,) in float64; one model call."""
    engine.n_calls += 1
    found = potential.evaluate(
        system.to(engine.device, engine.dtype),
        pairs,
        forces=False,
        magnetic_forces=False,
        virial=False,
    )
    return found.energies.to(torch.float64)


def _dependence(pairs: PairList, n_atoms: int) -> csr_array:
    """Return the (N, N) matrix that is not zero where atom j sees the spin of i."""
    own = np.arange(n_atoms)
    rows = np.concatenate([pairs.i.cpu().numpy(), own])
    columns = np.concatenate([pairs.j.cpu().numpy(), own])
    ones = np.ones(len(rows), dtype=np.int32)
    return csr_array((ones, (rows, columns)), shape=(n_atoms, n_atoms))


def independent_colours(conflicts: csr_array) -> np.ndarray:
    """Return a colour (n,) for every site such that no two in conflict share one.

    Greedy, in the order of the sites: each gets the first colour that is free.

    Parameters
    ----------
    conflicts : (n, n) sparse array
        Not zero where two sites are in conflict.
    """
    colours = np.full(conflicts.shape[0], -1)
    for site in range(len(colours)):
        begin, end = conflicts.indptr[site : site + 2]
        taken = set(colours[conflicts.indices[begin:end]].tolist())
        colour = 0
        while colour in taken:
            colour += 1
        colours[site] = colour
    return colours
