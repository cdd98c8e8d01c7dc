"""The energy current of atoms and moments that interact locally."""

from __future__ import annotations

import torch
from torch import Tensor

from ...neighbors import PairList, build_pairs
from ...potentials import Potential
from ...system import System


def heat_current(
    potential: Potential,
    system: System,
    velocities: Tensor,
    masses: Tensor,
    moment_rates: Tensor,
    *,
    pairs: PairList | None = None,
) -> Tensor:
    """Return d/dt sum_i r_i e_i of each structure, (B, 3), eV A per ASE time.

    e_i = E_i + M_i v_i^2/2, with the shares E_i of the potential energy. As E_i follows
    from the pairs of atom i alone,

        J = sum_i v_i e_i - sum_ij r_ij (dE_i/dr_ij.v_j + dE_i/dm_j.dm_j/dt)

    with r_ij from i to j, which holds in periodic structures, too (of atoms: Z. Fan et
    al., Phys. Rev. B 92, 094301 (2015), doi:10.1103/PhysRevB.92.094301; that of moments
    follows in the same way from dE/dm.dm/dt = 0, which holds where they precess).

    Parameters
    ----------
    potential : Potential
        That ``is_local``.
    system : System
    velocities : (N, 3) tensor, A per ASE time
    masses : (N, 1) tensor, amu
    moment_rates : (N, 3) tensor, mu_B per ASE time
        dm/dt.
    pairs : PairList, optional
        Complete out to the pair cutoff; built here if omitted.

    Raises
    ------
    ValueError
        If the potential is not local.
    """
    if not potential.is_local:
        raise ValueError(
            f"{type(potential).__name__} is not local (is_local): energies of atoms "
            "that depend on more than their own pairs do not tell the heat current"
        )
    if pairs is None:
        pairs = build_pairs(system, potential.pair_cutoff(system))
    i, j = pairs.i, pairs.j
    count, ends = system.n_atoms, torch.arange(len(i), device=i.device)
    vectors = pairs.vectors(system).detach().requires_grad_()
    spins = system.spins[j].detach().requires_grad_()
    # Every pair has an end of its own, so that a derivative by it is of one atom's
    # energy: that of the atom that the pair starts from.
    split = System(
        positions=torch.cat([system.positions, system.positions[j]]),
        spins=torch.cat([system.spins, spins]),
        species=torch.cat([system.species, system.species[j]]),
        cell=torch.zeros_like(system.cell[:1]),
        pbc=torch.zeros_like(system.pbc[:1]),
        index=torch.zeros(count + len(i), dtype=torch.int64, device=i.device),
    )
    own = PairList(i, count + ends, torch.zeros_like(pairs.shift), pairs.cutoff)
    with torch.enable_grad():
        energies = potential(split, own.bound(split, vectors))[:count]
        by_vector, by_moment = torch.autograd.grad(
            energies.sum(),
            [vectors, spins],
            allow_unused=True,
            materialize_grads=True,
        )
    kinetic = 0.5 * (masses * velocities**2).sum(dim=1)
    carried = (energies.detach() + kinetic)[:, None] * velocities
    power = (by_vector * velocities[j]).sum(dim=1)
    power = power + (by_moment * moment_rates[j]).sum(dim=1)
    flow = -vectors.detach() * power[:, None]
    return system.sum(carried.index_add(0, i, flow))
