"""Changes of elements: the composition of an alloy at given chemical potentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from ..._validate import finite, non_negative
from ...system import System
from .._engine import Engine
from .._state import Context, State, Stateful
from ._swaps import affected, energies_of, has_table, pair_table
from ._trial_energies import LocalEnergies, TrialEnergies, TrialSet
from ._trial_moves import Acceptance, acceptable


class TransmutationMove(Stateful):
    """Trial changes of the element of single atoms: the semi-grand ensemble.

    A sweep tries about as many changes as there are atoms of the elements. An atom is
    drawn at random and becomes one of the other elements with the probability

        min(1, exp(-(dE - mu_new + mu_old)/kT)):

    the number of atoms stays, their elements follow the chemical potentials mu
    (D. A. Kofke and E. D. Glandt, Mol. Phys. 64, 1105 (1988),
    doi:10.1080/00268978800100743). Only their differences matter. Atoms keep the
    directions of their moments; where an element without one becomes an element with,
    every direction is as likely, and counts as one state.

    Parameters
    ----------
    context : Context
    engine : Engine
    system : System
    chemical_potentials : {symbol: eV}
        Of two or more elements; atoms of others stay.
    moments : {symbol: mu_B}
        Lengths that atoms of these elements carry; zero by default.
    free : (N,) bool tensor
        Atoms that may change.

    Attributes
    ----------
    counts : Acceptance
        Changes tried and made, (B,).

    Raises
    ------
    ValueError
        If elements are unknown, fewer than two, a structure has none of them, present
        moments have other lengths, or the model is another program's.
    """

    def __init__(
        self,
        context: Context,
        engine: Engine,
        system: System,
        *,
        chemical_potentials: Mapping[str, float],
        moments: Mapping[str, float],
        free: Tensor,
    ) -> None:
        self._context = context
        self._engine = engine
        if engine.potential.external:
            raise ValueError(
                "chemical_potentials need a potential of this package: models of other "
                "programs keep the elements that they began with"
            )
        symbols = list(chemical_potentials)
        if len(symbols) < 2:
            raise ValueError(
                "chemical_potentials are of two or more elements, such as "
                f"{{'Fe': 0.0, 'Al': 0.1}}, got {dict(chemical_potentials)}"
            )
        if unknown := [s for s in symbols if s not in atomic_numbers]:
            raise ValueError(f"{', '.join(unknown)} are no elements")
        if foreign := set(moments) - set(symbols):
            raise ValueError(
                f"element_moments are of elements that change, not {foreign.pop()}"
            )
        self._numbers = np.array([atomic_numbers[s] for s in symbols])
        self._mu = np.array(
            [
                finite(f"chemical potential of {s}", chemical_potentials[s])
                for s in symbols
            ]
        )
        self._lengths = np.array(
            [non_negative(f"moment of {s}", moments.get(s, 0.0)) for s in symbols]
        )
        self._sites = self._members(system, free)
        self.counts = Acceptance(system.n_systems, system.device)

    def __call__(self, state: State, kT: Tensor) -> State:
        """Make one sweep of trial changes; kT is (B,), eV."""
        system = state.system
        if has_table(self._engine, system) and not self._lengths.any():
            return State(self._compiled(system, kT), state.momenta)
        energies = energies_of(self._engine)
        every = torch.ones(system.n_atoms, dtype=torch.bool, device=system.device)
        energies.prepare(system, every)
        rows = affected(energies) if isinstance(energies, LocalEnergies) else None
        tried = 0
        while tried < len(np.concatenate(self._sites)):
            sites = self._drawn(rows)
            tried += len(sites)
            system = self._try(energies, rows, system, sites, kT)
        return State(system, state.momenta)

    def _drawn(self, rows: list[np.ndarray] | None) -> np.ndarray:
        """Return sites (n,) that are tried in one call, which no atom sees two of."""
        chosen: list[int] = []
        taken: set[int] = set()
        for sites in self._sites:
            count = 1 if rows is None else 1 + 2 * len(sites) // len(rows[sites[0]])
            for site in sites[self._whole(len(sites), count)]:
                changed = {int(site)} if rows is None else set(rows[site].tolist())
                if taken.isdisjoint(changed):
                    taken |= changed
                    chosen.append(int(site))
        return np.array(chosen)

    def _try(
        self,
        energies: TrialEnergies,
        rows: list[np.ndarray] | None,
        system: System,
        sites: np.ndarray,
        kT: Tensor,
    ) -> System:
        kinds = self._kinds(system)[sites]
        new = (kinds + 1 + self._whole(len(self._numbers) - 1, len(sites))) % len(
            self._numbers
        )
        at = torch.from_numpy(sites).to(system.device)
        replica = system.index[at]
        moved = self._with(system, at, new)
        if rows is not None:
            near = [rows[site] for site in sites]
            owner = np.repeat(np.arange(len(near)), list(map(len, near)))
            flat = np.concatenate(near)
            order = np.argsort(flat)
            changed, owner = flat[order], owner[order]
        else:
            changed, owner = replica.cpu().numpy(), np.arange(len(sites))
        trial = TrialSet(
            at,
            torch.from_numpy(changed).to(system.device),
            torch.from_numpy(owner).to(system.device),
        )
        change, found = energies.change_to(moved, trial)
        gain = torch.from_numpy(self._mu[new] - self._mu[kinds]).to(change)
        generator = self._context.generator
        accepted = change - gain <= acceptable(kT[replica], generator)
        energies.accept(trial, found, accepted)
        self.counts.add(accepted, replica)
        made = at[accepted]
        species, spins = system.species.clone(), system.spins.clone()
        species[made], spins[made] = moved.species[made], moved.spins[made]
        return system.replace(species=species, spins=spins)

    def _with(self, system: System, at: Tensor, kinds: np.ndarray) -> System:
        """Return the system with other elements ``kinds`` (n,) at some sites."""
        species, spins = system.species.clone(), system.spins.clone()
        species[at] = torch.from_numpy(self._numbers[kinds]).to(species)
        present = spins[at]
        drawn = torch.randn(
            present.shape, generator=self._context.generator, dtype=spins.dtype
        ).to(spins)
        empty = (present == 0).all(dim=1, keepdim=True)
        along = torch.where(empty, drawn, present)
        lengths = torch.from_numpy(self._lengths[kinds])[:, None].to(spins)
        spins[at] = lengths * along / along.norm(dim=1, keepdim=True)
        return system.replace(species=species, spins=spins)

    def _compiled(self, system: System, kT: Tensor) -> System:
        from ._compiled_sweeps import try_changes

        present = np.unique(system.species.numpy())
        numbers = np.union1d(present, self._numbers)
        table = pair_table(self._engine.potential, system, numbers)
        kinds, own = table.kinds.copy(), np.searchsorted(numbers, self._numbers)
        mu = np.zeros(len(numbers))
        mu[own] = self._mu
        step = np.zeros(len(numbers), dtype=np.int64)  # place among the elements
        step[own] = np.arange(len(own))
        tried, made = np.zeros((2, system.n_systems))
        for k, sites in enumerate(self._sites):
            count = len(sites)
            drawn = sites[self._whole(count, count)]
            threshold = acceptable(kT[k].expand(count), self._context.generator)
            tried[k] = count
            made[k] = try_changes(
                drawn,
                self._whole(len(own) - 1, count),
                threshold.numpy(),
                (table.first, table.neighbors, table.distances, table.energies),
                (own, step, mu),
                kinds,
            )
        self.counts.add_counts((torch.from_numpy(tried), torch.from_numpy(made)))
        return system.replace(
            species=torch.from_numpy(numbers[kinds]).to(system.species)
        )

    def _whole(self, below: int, count: int) -> np.ndarray:
        """Return random whole numbers (count,) from 0 up to below."""
        drawn = torch.randint(below, (count,), generator=self._context.generator)
        return np.asarray(drawn.numpy())

    def _kinds(self, system: System) -> np.ndarray:
        """Return the place (N,) of each atom's element among those that change."""
        order = np.argsort(self._numbers)
        species = system.species.cpu().numpy()
        place = np.searchsorted(self._numbers, species, sorter=order)
        return np.asarray(order[np.minimum(place, len(order) - 1)])

    def _members(self, system: System, free: Tensor) -> list[np.ndarray]:
        species, index = system.species.cpu().numpy(), system.index.cpu().numpy()
        may = free.cpu().numpy() & np.isin(species, self._numbers)
        found = [np.flatnonzero(may & (index == k)) for k in range(system.n_systems)]
        for k, sites in enumerate(found):
            if not len(sites):
                raise ValueError(
                    f"structure {k} has no free atom of the elements of "
                    "chemical_potentials"
                )
        sites = np.concatenate(found)
        present = system.spins.norm(dim=1).cpu().numpy()[sites]
        expected = self._lengths[self._kinds(system)[sites]]
        if abs(present - expected).max() > 1e-6:
            k = int(np.argmax(abs(present - expected)))
            raise ValueError(
                f"atom {sites[k]} carries {present[k]:g} mu_B, and element_moments "
                f"give {expected[k]:g} for its element; they must be the same"
            )
        return found

    def state_dict(self) -> list[Tensor]:
        """Return the counts."""
        return self.counts.state_dict()

    def load_state_dict(self, state: Sequence[Tensor]) -> None:
        """Restore the counts."""
        self.counts.load_state_dict(state)
