"""Parallel tempering: replicas at neighbouring temperatures swap configurations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...system import System
from .._constraints import Constraints
from .._state import Stateful
from ._trial_moves import Acceptance

#: Difference between replicas that counts as none.
TOLERANCE = 1e-9


class ReplicaExchange(Stateful):
    """Swaps configurations between neighbours in temperature.

    The structures a and b swap with the probability

        min(1, exp[(1/kT_a - 1/kT_b) (E_a - E_b)])

    (R. H. Swendsen and J.-S. Wang, Phys. Rev. Lett. 57, 2607 (1986),
    doi:10.1103/PhysRevLett.57.2607; K. Hukushima and K. Nemoto, J. Phys. Soc. Jpn.
    65, 1604 (1996), doi:10.1143/JPSJ.65.1604), which keeps the canonical
    distribution of every temperature. Rounds alternate between the even and the odd
    pairs of neighbours. Temperatures stay where they are: structure k always is at
    the k-th temperature.

    Parameters
    ----------
    temperature_K : (B,) array
        Of the structures, all above zero.
    device : torch.device
        Of their energies.

    Attributes
    ----------
    order : (B,) int64 tensor
        The structures by rising temperature.
    walkers : (B,) int64 tensor
        The structure in which each one's present configuration began.
    pairs : Acceptance
        Swaps tried and made, (B - 1,), by rising temperature.

    Raises
    ------
    ValueError
        If there is only one structure, or a temperature is zero.
    """

    def __init__(self, temperature_K: np.ndarray, device: torch.device) -> None:
        count = len(temperature_K)
        if count < 2:
            raise ValueError(
                "exchange_interval needs several replicas: give temperature_K as a list"
            )
        self.walkers = torch.arange(count, device=device)
        self.rounds = 0
        self.set_temperature(temperature_K)

    def set_temperature(self, temperature_K: np.ndarray) -> None:
        """Change the temperatures, (B,) K, and count swaps from here on."""
        if not (temperature_K > 0).all():
            raise ValueError("exchange needs temperatures above zero")
        device = self.walkers.device
        order = np.argsort(temperature_K, kind="stable")
        self.order = torch.from_numpy(order).to(device)
        self.pairs = Acceptance(len(order) - 1, device)

    def permutation(
        self, energy: Tensor, kT: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the structures from which the configurations are taken, (B,).

        Parameters
        ----------
        energy, kT : (B,) tensors, eV
        generator : torch.Generator
        """
        pair = torch.arange(self.rounds % 2, len(self.order) - 1, 2).to(self.order)
        self.rounds += 1
        a, b = self.order[pair], self.order[pair + 1]
        exponent = (1.0 / kT[a] - 1.0 / kT[b]) * (energy[a] - energy[b])
        u = torch.rand(
            exponent.shape,
            generator=generator,
            device=exponent.device,
            dtype=exponent.dtype,
        )
        swapped = torch.log1p(-u) <= exponent
        self.pairs.add(swapped, pair)
        result = torch.arange(len(self.order)).to(self.order)
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
