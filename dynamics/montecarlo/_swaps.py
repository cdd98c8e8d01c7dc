"""Swaps of atoms of different elements: how alloys order.

A swap exchanges the positions of two atoms, which keep their moments, masses and
momenta. Inside a sweep the sites stay where they are and the atoms on them change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from ...neighbors import PairList, build_pairs
from ...potentials import Potential
from ...system import System
from .._engine import Engine
from .._state import Context, State, Stateful
from ._trial_energies import (
    MARGIN,
    LocalEnergies,
    TotalEnergies,
    TrialEnergies,
    TrialSet,
)
from ._trial_moves import Acceptance, acceptable

#: Digits of distances, A, that are told apart in tables of pair energies.
_DIGITS = 9


class SwapMove(Stateful):
    """Trial swaps of two atoms of different elements in the same structure.

    A sweep tries about as many swaps as there are atoms of the elements: atoms of two
    elements are drawn at random, at any distance, and exchange their positions with
    the probability min(1, exp(-dE/kT)). This samples the canonical ensemble of the
    alloy (N. Metropolis et al., J. Chem. Phys. 21, 1087 (1953),
    doi:10.1063/1.1699114).

    Where the potential is a sum of pair terms that do not depend on moments, or there
    are no moments, energies come from a table and sweeps are compiled. Elsewhere
    swaps are tried together that change the energies of different atoms, if
    the potential is local, or one in each structure at a time.

    Parameters
    ----------
    context : Context
    engine : Engine
    system : System
    elements : sequence of symbols
        Two or more; atoms of others stay.
    free : (N,) bool tensor
        Atoms that may move.

    Attributes
    ----------
    counts : Acceptance
        Swaps tried and made, (B,).

    Raises
    ------
    ValueError
        If elements are unknown, fewer than two, or a structure has no two of them.
    """

    def __init__(
        self,
        context: Context,
        engine: Engine,
        system: System,
        *,
        elements: Sequence[str],
        free: Tensor,
    ) -> None:
        self._context = context
        self._engine = engine
        self._elements = _numbers(elements)
        self._members = _members(system, self._elements, free)
        self.counts = Acceptance(system.n_systems, system.device)

    def __call__(self, state: State, kT: Tensor) -> State:
        """Make one sweep of trial swaps; kT is (B,), eV."""
        system = state.system
        who = torch.arange(system.n_atoms, device=system.device)
        who = self._sweep(system, kT, who)
        return State(_moved(system, who), state.momenta)

    def _sweep(self, system: System, kT: Tensor, who: Tensor) -> Tensor:
        """Return which atom (N,) sits at the site of each after the sweep."""
        if has_table(self._engine, system):
            numbers = np.unique(system.species.numpy())
            table = pair_table(self._engine.potential, system, numbers)
            return self._compiled(system, kT, table)
        energies = energies_of(self._engine)
        target = sum(len(atoms) for groups in self._members for atoms in groups)
        every = torch.ones(system.n_atoms, dtype=torch.bool, device=system.device)
        energies.prepare(system, every)
        rows = affected(energies) if isinstance(energies, LocalEnergies) else None
        tried = 0
        while tried < target:
            pairs = self._drawn(rows, who, target - tried)
            tried += len(pairs)
            who = self._try(energies, rows, system, who, pairs, kT)
        return who

    def _drawn(
        self, rows: list[np.ndarray] | None, who: Tensor, most: int
    ) -> np.ndarray:
        """Return pairs of sites (n, 2) whose atoms are swapped in one call.

        ``rows`` are the atoms whose energies depend on each site, where that is known.
        No two pairs change the energy of one atom. Which pairs are drawn does not
        depend on which of them are accepted, so that a swap and its reversal
        are tried with the same probability.
        """
        site_of = np.empty(len(who), dtype=int)
        site_of[who.cpu().numpy()] = np.arange(len(who))
        taken = np.zeros(len(who), dtype=bool)
        chosen: list[np.ndarray] = []
        for groups in self._members:
            count = 1
            if rows is not None:
                # Enough to fill the structure; more would only be in the way.
                reach = len(rows[groups[0][0]])
                count += 2 * sum(map(len, groups)) // reach
            for a, b in self._candidates(groups, count):
                pair = site_of[[a, b]]
                if rows is not None:
                    changed = np.concatenate([rows[pair[0]], rows[pair[1]]])
                    if taken[changed].any():
                        continue
                    taken[changed] = True
                chosen.append(pair)
                if rows is not None and len(chosen) >= most:
                    return np.array(chosen)
        return np.array(chosen)

    def _candidates(self, groups: list[np.ndarray], count: int) -> np.ndarray:
        """Return atoms (count, 2) of different elements, every pair as likely."""
        atoms = np.concatenate(groups)
        kind = np.repeat(np.arange(len(groups)), list(map(len, groups)))
        found = np.empty((0, 2), dtype=int)
        while len(found) < count:
            drawn = torch.randint(
                len(atoms), (2 * count, 2), generator=self._context.generator
            ).numpy()
            unlike = kind[drawn[:, 0]] != kind[drawn[:, 1]]
            found = np.concatenate([found, atoms[drawn[unlike]]])
        return found[:count]

    def _try(
        self,
        energies: TrialEnergies,
        rows: list[np.ndarray] | None,
        system: System,
        who: Tensor,
        pairs: np.ndarray,
        kT: Tensor,
    ) -> Tensor:
        first, second = torch.from_numpy(pairs.T.copy()).to(system.device)
        new = who.clone()
        new[first], new[second] = who[second], who[first]
        replica = system.index[first]
        if rows is not None:
            near = [np.union1d(rows[a], rows[b]) for a, b in pairs]
            owner = np.repeat(np.arange(len(near)), list(map(len, near)))
            flat = np.concatenate(near)
            order = np.argsort(flat)
            changed, owner = flat[order], owner[order]
        else:
            changed = replica.cpu().numpy()
            owner = np.arange(len(pairs))
        trial = TrialSet(
            first,
            torch.from_numpy(changed).to(system.device),
            torch.from_numpy(owner).to(system.device),
        )
        # Pairs are those of the sites; other programs know atoms by their numbers.
        external = self._engine.potential.external
        moved = (_moved if external else _occupied)(system, new)
        change, found = energies.change_to(moved, trial)
        accepted = change <= acceptable(kT[replica], self._context.generator)
        energies.accept(trial, found, accepted)
        self.counts.add(accepted, replica)
        made = accepted.nonzero()[:, 0]
        kept = who.clone()
        kept[first[made]], kept[second[made]] = who[second[made]], who[first[made]]
        return kept

    def _compiled(self, system: System, kT: Tensor, table: _PairTable) -> Tensor:
        from ._compiled_sweeps import try_swaps

        kinds = table.kinds.copy()
        who = np.arange(system.n_atoms)
        tried, made = np.zeros((2, system.n_systems))
        for k, groups in enumerate(self._members):
            count = sum(map(len, groups))
            trials = self._candidates(groups, count)
            threshold = acceptable(kT[k].expand(count), self._context.generator)
            tried[k] = count
            made[k] = try_swaps(
                trials,
                threshold.numpy(),
                (table.first, table.neighbors, table.distances, table.energies),
                kinds,
                who,
            )
        self.counts.add_counts((torch.from_numpy(tried), torch.from_numpy(made)))
        return torch.from_numpy(who)

    def state_dict(self) -> list[Tensor]:
        """Return the counts."""
        return self.counts.state_dict()

    def load_state_dict(self, state: Sequence[Tensor]) -> None:
        """Restore the counts."""
        self.counts.load_state_dict(state)


@dataclass(frozen=True)
class _PairTable:
    """Energies of pairs of sites by what sits on them.

    Attributes
    ----------
    first : (N + 1,) array
        Where the neighbors of each site begin.
    neighbors, distances : (E,) arrays
        Sites, and the index of their distance.
    energies : (R, K, K) array, eV
        Of a pair, by distance and kinds.
    kinds : (N,) array
        Of the atoms.
    """

    first: np.ndarray
    neighbors: np.ndarray
    distances: np.ndarray
    energies: np.ndarray
    kinds: np.ndarray


def has_table(engine: Engine, system: System) -> bool:
    """Return whether energies come from a table of pairs of elements."""
    potential = engine.potential
    if potential.external or engine.device.type != "cpu":
        return False
    if potential.uses_spins and bool(system.spins.any()):
        return False
    return all(term.is_pairwise for term in potential.terms())


def pair_table(potential: Potential, system: System, numbers: np.ndarray) -> _PairTable:
    """Return the energies of all pairs of elements, by evaluating dimers.

    ``numbers`` are the atomic numbers that may occur, ascending.
    """
    kinds = np.searchsorted(numbers, system.species.numpy())
    cutoff = potential.pair_cutoff(system) + MARGIN
    pairs = build_pairs(system, cutoff)
    r = torch.linalg.vector_norm(pairs.vectors(system), dim=1).numpy()
    distances, which = np.unique(np.round(r, _DIGITS), return_inverse=True)
    first = np.zeros(system.n_atoms + 1, dtype=np.int64)
    np.cumsum(np.bincount(pairs.i.numpy(), minlength=system.n_atoms), out=first[1:])
    shape = (len(distances), len(numbers), len(numbers))
    far, a, b = (x.ravel() for x in np.indices(shape))
    energies = _dimers(potential, distances[far], numbers[a], numbers[b], system.dtype)
    return _PairTable(
        first, pairs.j.numpy(), which, energies.reshape(shape), kinds.astype(np.int64)
    )


def _dimers(
    potential: Potential,
    distances: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    dtype: torch.dtype,
) -> np.ndarray:
    """Return the energies (n,), eV, of pairs of atoms without moments."""
    count = len(distances)
    positions = torch.zeros((2 * count, 3), dtype=dtype)
    positions[1::2, 0] = torch.from_numpy(distances).to(dtype)
    species = torch.from_numpy(np.stack([first, second], axis=1).ravel())
    # One structure: only the pairs that are listed count.
    system = System(
        positions,
        torch.zeros_like(positions),
        species.long(),
        torch.zeros((1, 3, 3), dtype=dtype),
        torch.zeros((1, 3), dtype=torch.bool),
        torch.zeros(2 * count, dtype=torch.long),
    )
    atoms = torch.arange(2 * count)
    pairs = PairList(
        atoms,
        atoms + 1 - 2 * (atoms % 2),
        torch.zeros((2 * count, 3), dtype=dtype),
        float(distances.max(initial=0.0)) + MARGIN,
    )
    with torch.no_grad():
        return potential(system, pairs).double().numpy().reshape(count, 2).sum(axis=1)


def energies_of(engine: Engine) -> TrialEnergies:
    """Return the energies of a whole model: local where it is, or total ones."""
    if engine.potential.is_local and not engine.potential.external:
        return LocalEnergies(engine, engine.potential)
    return TotalEnergies(engine)


def affected(energies: LocalEnergies) -> list[np.ndarray]:
    """Return the atoms whose energies depend on each atom."""
    matrix = energies.dependence.tocsc()
    return np.split(matrix.indices, matrix.indptr[1:-1])


def _occupied(system: System, who: Tensor) -> System:
    """Return the system with what atom ``who[i]`` is in the place of atom i.

    The same structure as :func:`_moved`, with the same pairs.
    """
    return system.replace(species=system.species[who], spins=system.spins[who])


def _moved(system: System, who: Tensor) -> System:
    """Return the system with atom ``who[i]`` where atom i is."""
    positions = torch.empty_like(system.positions)
    positions[who] = system.positions
    return system.replace(positions=positions)


def _numbers(elements: Sequence[str]) -> list[int]:
    if isinstance(elements, str) or len(set(elements)) < 2:
        raise ValueError(
            f"swaps need two or more elements, such as ('Fe', 'Al'), got {elements!r}"
        )
    unknown = [e for e in elements if e not in atomic_numbers]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} are no elements")
    return [atomic_numbers[e] for e in elements]


def _members(
    system: System, elements: list[int], free: Tensor
) -> list[list[np.ndarray]]:
    """Return the atoms of each element, by structure; those there are none of not."""
    species, index = system.species.cpu().numpy(), system.index.cpu().numpy()
    may = free.cpu().numpy()
    found = []
    for k in range(system.n_systems):
        groups = [np.flatnonzero((species == z) & (index == k) & may) for z in elements]
        groups = [group for group in groups if len(group)]
        if len(groups) < 2:
            raise ValueError(
                f"structure {k} has free atoms of fewer than two of the elements that "
                "are to be swapped"
            )
        found.append(groups)
    return found
