"""Parallel tempering: replicas at neighbouring temperatures and fields swap."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ...system import System
from .._constraints import Constraints
from .._state import Stateful
from ._trial_moves import Acceptance

#: Difference between replicas that counts as none.
TOLERANCE = 1e-9


class ReplicaExchange(Stateful):
    """Swaps configurations between neighbours in temperature, and in field.

    The structures a and b, of energies E in their own fields B and of moments M, swap
    with the probability min(1, exp x),

        x = (1/kT_a - 1/kT_b) (E_a - E_b) + (B_a - B_b).(M_b/kT_a - M_a/kT_b)

    (R. H. Swendsen and J.-S. Wang, Phys. Rev. Lett. 57, 2607 (1986),
    doi:10.1103/PhysRevLett.57.2607; K. Hukushima and K. Nemoto, J. Phys. Soc. Jpn.
    65, 1604 (1996), doi:10.1143/JPSJ.65.1604), which keeps the canonical
    distribution of every temperature and field. Neighbours in temperature are in one
    field, neighbours in field at one temperature; where this does not link all
    structures, they are neighbours in the order of their temperatures. Rounds go
    through the even and the odd pairs of neighbours, first in temperature.
    Temperatures and fields stay where they are: structure k always is at the k-th.

    Parameters
    ----------
    temperature_K : (B,) array
        Of the structures, all above zero.
    device : torch.device
        Of their energies.
    fields : (B, 3) array, eV/mu_B, optional
        Of the structures, where they differ.

    Attributes
    ----------
    neighbors : (P, 2) int64 tensor
        Pairs of structures, by rising temperature, in fields by rising field; then
        those that differ in field.
    walkers : (B,) int64 tensor
        The structure in which each one's present configuration began.
    pairs : Acceptance
        Swaps tried and made, (P,).

    Raises
    ------
    ValueError
        If there is only one structure, or a temperature is zero.
    """

    def __init__(
        self,
        temperature_K: np.ndarray,
        device: torch.device,
        fields: np.ndarray | None = None,
    ) -> None:
        count = len(temperature_K)
        if count < 2:
            raise ValueError(
                "exchange_interval needs several replicas: give temperature_K as a list"
            )
        self.walkers = torch.arange(count, device=device)
        self.rounds = 0
        given = np.zeros((count, 3)) if fields is None else fields
        self._fields = torch.from_numpy(given).to(device)
        self.set_temperature(temperature_K)

    def set_temperature(self, temperature_K: np.ndarray) -> None:
        """Change the temperatures, (B,) K, and count swaps from here on."""
        if not (temperature_K > 0).all():
            raise ValueError("exchange needs temperatures above zero")
        device = self.walkers.device
        temperatures = np.asarray(temperature_K, dtype=float)
        neighbors, turns = _neighbors(temperatures, self._fields.cpu().numpy())
        self.neighbors = torch.from_numpy(neighbors).to(device)
        self.pairs = Acceptance(len(neighbors), device)
        self._turns = [
            torch.from_numpy(np.flatnonzero(turns == turn)).to(device)
            for turn in np.unique(turns)
        ]

    def permutation(
        self,
        energy: Tensor,
        kT: Tensor,
        generator: torch.Generator,
        moments: Tensor | None = None,
    ) -> Tensor:
        """Return the structures from which the configurations are taken, (B,).

        Parameters
        ----------
        energy, kT : (B,) tensors, eV
        generator : torch.Generator
        moments : (B, 3) tensor, mu_B, optional
            Sums over the atoms; needed where fields differ.
        """
        pair = self._turns[self.rounds % len(self._turns)]
        self.rounds += 1
        a, b = self.neighbors[pair].T
        exponent = (1.0 / kT[a] - 1.0 / kT[b]) * (energy[a] - energy[b])
        if moments is not None:
            turned = moments[b] / kT[a, None] - moments[a] / kT[b, None]
            exponent += ((self._fields[a] - self._fields[b]) * turned).sum(dim=1)
        u = torch.rand(
            exponent.shape,
            generator=generator,
            device=exponent.device,
            dtype=exponent.dtype,
        )
        swapped = torch.log1p(-u) <= exponent
        self.pairs.add(swapped, pair)
        result = torch.arange(len(self.walkers)).to(self.walkers)
        result[a[swapped]], result[b[swapped]] = b[swapped], a[swapped]
        self.walkers = self.walkers[result]
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return walkers and counts."""
        return {
            "walkers": self.walkers,
            "rounds": self.rounds,
            "pairs": self.pairs.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self.walkers, self.rounds = state["walkers"], state["rounds"]
        self.pairs.load_state_dict(state["pairs"])


def _neighbors(
    temperatures: np.ndarray, fields: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of neighbors (P, 2), and the turn (P,) in which each is tried."""
    warmth = np.unique(temperatures, return_inverse=True)[1].ravel()
    # Rounded off: fields along a line are equal or not, and in order.
    strength = np.unique(fields.round(14), axis=0, return_inverse=True)[1].ravel()
    found = _chained(strength, warmth)
    if strength.any():
        across, turns = _chained(warmth, strength)
        found = np.concatenate([found[0], across]), np.append(found[1], 2 + turns)
        n, ones = len(warmth), np.ones(len(found[0]))
        links = coo_array((ones, tuple(found[0].T)), shape=(n, n))
        if connected_components(links, directed=False)[0] > 1:
            return _chained(np.zeros(n), np.lexsort((strength, warmth)).argsort())
    return found


def _chained(group: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs that follow each other by rank in their groups; even or odd."""
    order = np.lexsort((rank, group))
    linked = group[order[1:]] == group[order[:-1]]
    place = np.arange(len(order) - 1) - np.searchsorted(group[order], group[order])[:-1]
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    return pairs[linked], place[linked] % 2


def rearranged(values: Tensor, permutation: Tensor) -> Tensor:
    """Return per-atom values (N, ...) of equal structures in another order, (B,)."""
    count = len(permutation)
    parts = values.reshape(count, len(values) // count, *values.shape[1:])
    return parts[permutation].reshape(values.shape)


def require_copies(
    system: System, lengths: Tensor, constraints: Constraints, *, lattice_moves: bool
) -> None:
    """Check that configurations may be swapped between structures.

    Parameters
    ----------
    system : System
    lengths : (N, 1) tensor, mu_B
    constraints : Constraints
    lattice_moves : bool
        Whether the atoms move.

    Raises
    ------
    ValueError
        If the structures differ in what they are made of.
    """
    counts = system.counts()
    alike = bool((counts == counts[0]).all())
    if alike:
        held = 1.0 - constraints.free * lattice_moves
        held_spins = 1.0 - constraints.free_spins
        same = (
            system.species.double(),
            lengths,
            held,
            held_spins,
            held * system.positions,
            held_spins * system.spins,
            system.cell,
            system.pbc.double(),
        )
        parts = (x.reshape(system.n_systems, -1) for x in same)
        alike = all(bool(((x - x[:1]).abs() < TOLERANCE).all()) for x in parts)
    if not alike:
        raise ValueError(
            "replicas that exchange configurations must be copies of one structure: "
            "atoms, cell, lengths of moments and everything that is held fixed"
        )
