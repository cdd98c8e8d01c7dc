"""Monte Carlo moves of spins with couplings of pairs: local fields, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ...kernels.cpu._threads import share
from ...potentials import Potential
from ...system import System
from .._engine import Engine
from ._couplings import Couplings, find_couplings
from ._trial_energies import TrialEnergies, TrialSet, independent_colors, model_pairs

if TYPE_CHECKING:
    from ._compiled_sweeps import Model

#: Fewest sites that are worth a thread.
_LEAST = 2000


class BilinearEnergies(TrialEnergies):
    """Moves under an energy that is quadratic in the moments of each pair.

    Couplings are extracted from the potential once for each lattice; then a trial costs
    a sum over the neighbors of its spin and no model call. Spins that do not couple
    to each other are tried together. The ``values`` are the lengths (N,) of the
    moments, mu_B, for which the couplings were extracted.

    Parameters
    ----------
    engine : Engine
        On the CPU.
    potential : Potential
        The part of the potential that depends on spins.
    found : Couplings
        Of the present state.
    """

    def __init__(self, engine: Engine, potential: Potential, found: Couplings) -> None:
        super().__init__(engine)
        self._engine = engine
        self.potential = potential
        self.couplings = found

    @classmethod
    def where_possible(
        cls, engine: Engine, potential: Potential, system: System
    ) -> BilinearEnergies | None:
        """Return the energies for ``system``, or None if they have no such form."""
        if engine.device.type != "cpu":
            return None
        pairs = model_pairs(engine, potential, system)
        found = find_couplings(potential, system, pairs)
        return None if found is None else cls(engine, potential, found)

    def _renew(self, system: System, free: Tensor, values: Tensor | None) -> None:
        """Find the sets and the couplings for moments of known lengths."""
        self.values = system.spins.norm(dim=1) if values is None else values
        self.sets = self._independent_sets(system, free)

    def exchange(self, permutation: Tensor) -> None:
        """Do nothing: no energies are kept."""

    def _independent_sets(self, system: System, free: Tensor) -> list[TrialSet]:
        # Round-off of the present lengths must not change a run that is continued.
        along_x = torch.nn.functional.pad(self.values[:, None], (0, 2))
        system = system.replace(spins=along_x)
        pairs = model_pairs(self._engine, self.potential, system)
        found = find_couplings(self.potential, system, pairs)
        if found is None:
            raise ValueError(
                "the spins no longer couple in pairs as they did when this driver was "
                "made; make a new one for the new structure"
            )
        self.couplings = found
        n = system.n_atoms
        ones = np.ones(len(found.neighbors), dtype=np.int32)
        graph = (ones, found.neighbors.numpy(), found.first.numpy())
        sites = free.nonzero().flatten().numpy()
        colors = independent_colors(csr_array(graph, shape=(n, n))[sites][:, sites])
        sets = []
        for color in range(int(colors.max(initial=-1)) + 1):
            members = torch.from_numpy(sites[colors == color])
            sets.append(TrialSet(members, members, torch.arange(len(members))))
        return sets

    def try_moves(
        self,
        spins: Tensor,
        trial: TrialSet,
        structure: Tensor,
        *,
        noise: Tensor,
        cone: Tensor,
        widths: Tensor,
        threshold: Tensor,
        field: Tensor,
    ) -> Tensor:
        """Try moves of the sites of a set, change ``spins`` (N, 3) in place.

        Parameters
        ----------
        spins : (N, 3) tensor, mu_B
        trial : TrialSet
        structure : (n,) int64 tensor
        noise, cone, widths, threshold : tensors
            As in :func:`~.montecarlo.try_moves`.
        field : (N, 3) tensor, eV/mu_B
            Added to those of the model.

        Returns
        -------
        (n,) bool tensor
            Which moves were accepted.
        """
        from ._compiled_sweeps import try_moves

        accepted = torch.zeros(len(trial.sites), dtype=torch.bool)
        per_site = [x.numpy() for x in (trial.sites, structure)]
        given = [x.numpy() for x in (noise, cone, threshold, accepted)]
        model, every, width = self._model(field), spins.numpy(), widths.numpy()

        def work(begin: int, end: int) -> None:
            sites, owner = (x[begin:end] for x in per_site)
            n, c, t, a = (x[begin:end] for x in given)
            try_moves(sites, owner, model, every, n, c, width, t, a)

        _in_parts(work, len(accepted))
        return accepted

    def overrelax(
        self, spins: Tensor, trial: TrialSet, field: Tensor, threshold: Tensor
    ) -> None:
        """Rotate the moments of a set by pi about their fields, in place.

        Where the energy is not linear in a moment, if the rest does not rise by more
        than ``threshold`` (n,), eV; empty elsewhere.
        """
        from ._compiled_sweeps import overrelax

        sites, model, every = trial.sites.numpy(), self._model(field), spins.numpy()
        most = threshold.numpy()
        _in_parts(
            lambda a, b: overrelax(sites[a:b], model, every, most[a:b]), len(sites)
        )

    def flip_clusters(
        self, system: System, spins: Tensor, kT: Tensor, axes: Tensor, seeds: Tensor
    ) -> None:
        """Reflect Wolff clusters across planes with normals ``axes``, in place.

        Parameters
        ----------
        system : System
        spins : (N, 3) tensor, mu_B
        kT : (B,) tensor, eV
        axes : (B, C, 3) tensor
            Unit vectors, of C clusters in each structure.
        seeds : (B,) int64 tensor
        """
        from ._compiled_sweeps import flip_clusters

        sites = (self.values > 0).nonzero().flatten()
        counts = torch.bincount(system.index[sites], minlength=system.n_systems)
        bounds = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        flip_clusters(
            sites.numpy(),
            bounds.numpy(),
            self._model(None),
            spins.numpy(),
            kT.numpy(),
            axes.numpy(),
            seeds.numpy().astype(np.uint64),
        )

    def total(self, system: System) -> Tensor:
        """Return the energies (B,) of the spins up to a constant, eV."""
        from ._compiled_sweeps import local_fields

        c, spins = self.couplings, system.spins.contiguous()
        fields = torch.empty_like(spins)
        sites = torch.arange(system.n_atoms).numpy()
        local_fields(sites, self._model(None), spins.numpy(), fields.numpy())
        # Pairs count once, fields of sites in full.
        shares = -(spins * 0.5 * (fields + c.fields)).sum(1)
        if not c.linear:
            shares += torch.einsum("na,nab,nb->n", spins, c.sites, spins)
            quartic = self._quartic(spins)
            shares += 0.5 * quartic[:, 0] + quartic[:, 1]
        return system.sum(shares)

    def changes_by_rotation(
        self, system: System, turned: Tensor, field: Tensor, *, all_turn: bool
    ) -> Tensor:
        """Return the energy changes (B,), eV, if spins become ``turned`` (N, 3).

        Parameters
        ----------
        system : System
            The present state.
        turned : (N, 3) tensor, mu_B
            All moments of a structure turned by the same rotation, or held.
        field : (N, 3) tensor, eV/mu_B
        all_turn : bool
            Whether none is held: isotropic exchange then stays as it is.
        """
        c, spins = self.couplings, system.spins
        if not all_turn or c.pairs.shape[1] > 1:
            both = [self.total(system.replace(spins=s)) for s in (spins, turned)]
            return both[1] - both[0] - system.sum(((turned - spins) * field).sum(1))
        shares = -((turned - spins) * (c.fields + field)).sum(1)
        for sign, m in ((1.0, turned), (-1.0, spins)):
            shares += sign * (m * torch.einsum("nab,nb->na", c.sites, m)).sum(1)
            if len(c.cubic):
                shares += sign * self._quartic(m)[:, 1]
        return system.sum(shares)

    def _quartic(self, spins: Tensor) -> Tensor:
        """Return biquadratic and cubic energies (N, 2) of the atoms, eV."""
        from ._compiled_sweeps import quartic_energies

        found = torch.empty(len(spins), 2, dtype=spins.dtype)
        sites = torch.arange(len(spins)).numpy()
        model = self._model(None)
        quartic_energies(sites, model, spins.contiguous().numpy(), found.numpy())
        return found

    def _model(self, field: Tensor | None) -> Model:
        c = self.couplings
        fields = c.fields if field is None or not field.any() else c.fields + field
        arrays = (c.first, c.neighbors, c.pairs, fields, c.sites, c.squares, c.cubic)
        first, neighbors, tensor, b, a, s, k = (x.numpy() for x in arrays)
        return first, neighbors, tensor, b, a, s, k


def _in_parts(work: Callable[[int, int], None], n: int) -> None:
    share(
        lambda worker, begin, end: work(begin, end),
        n,
        least=_LEAST,
        workers=torch.get_num_threads(),
    )
