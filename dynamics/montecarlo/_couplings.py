"""Couplings of potentials that are quadratic in the spins.

At fixed positions and lengths of the moments the energy of many Hamiltonians is

    E = const - sum_i b_i.m_i + sum_i m_i A_i m_i + sum_{i<j} m_i K_ij m_j,

with fields b (eV/mu_B), anisotropies A and couplings K (eV/mu_B^2), biquadratic
exchange sum_{i<j} s_ij (m_i.m_j)^2 and cubic anisotropies. The terms of a potential
give them (:meth:`.Potential.quadratic_form`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...neighbors import PairList
from ...potentials import Potential
from ...system import System


@dataclass(frozen=True)
class Couplings:
    """Couplings of the moments of a System.

    Attributes
    ----------
    first : (N + 1,) int64 tensor
        Where the neighbors of each atom begin.
    neighbors : (E,) int64 tensor
    pairs : (E, 1) or (E, 9) tensor, eV/mu_B^2
        K_ij by rows; one number each where all are multiples of unity.
    fields : (N, 3) tensor, eV/mu_B
    sites : (N, 3, 3) tensor, eV/mu_B^2
        A_i, symmetric.
    squares : (E,) tensor, eV/mu_B^4
        s_ij; empty where all are zero.
    cubic : (N, 11) tensor
        As in :class:`.QuadraticForm`; empty where all are zero.
    """

    first: Tensor
    neighbors: Tensor
    pairs: Tensor
    fields: Tensor
    sites: Tensor
    squares: Tensor
    cubic: Tensor

    @property
    def linear(self) -> bool:
        """Whether the energy is linear in every moment."""
        return not (len(self.squares) or len(self.cubic) or bool(self.sites.any()))

    @property
    def isotropic(self) -> bool:
        """Whether there is nothing but isotropic exchange."""
        return self.linear and self.pairs.shape[1] == 1 and not bool(self.fields.any())


def find_couplings(
    potential: Potential, system: System, pairs: PairList
) -> Couplings | None:
    """Return the couplings of a potential that depends on spins.

    Returns
    -------
    Couplings or None
        None where the energy is not of the form above, or an atom is coupled to an
        image of itself.
    """
    forms = []
    for term in potential.terms():
        if term.uses_spins:
            form = term.quadratic_form(system, pairs)
            if form is None or bool((form.i == form.j).any()):
                return None
            forms.append(form)
    fields = torch.zeros_like(system.spins)
    sites = system.spins.new_zeros(system.n_atoms, 3, 3)
    for form in forms:
        fields, sites = fields + form.fields, sites + form.sites
    cubic = [form.cubic for form in forms if form.cubic is not None]
    if len(cubic) > 1:
        return None
    empty = torch.zeros(0, dtype=torch.int64, device=system.device)
    rows, order = torch.sort(torch.cat([*(f.i for f in forms), empty]), stable=True)
    columns = torch.cat([*(f.j for f in forms), empty])[order]
    tensors = [*(f.tensors for f in forms), system.spins.new_zeros(0, 3, 3)]
    tensor = torch.cat(tensors)[order]
    squares = system.spins.new_zeros(0)
    if any(f.squares is not None for f in forms):
        parts = [
            f.tensors.new_zeros(len(f.i)) if f.squares is None else f.squares
            for f in forms
        ]
        squares = torch.cat(parts)[order]
    atoms = torch.arange(system.n_atoms + 1, device=system.device)
    scalars = tensor[:, 0, 0]
    identity = torch.eye(3, dtype=tensor.dtype, device=tensor.device)
    isotropic = torch.equal(tensor, scalars[:, None, None] * identity)
    flat = scalars[:, None].clone() if isotropic else tensor.flatten(1).contiguous()
    return Couplings(
        torch.searchsorted(rows, atoms),
        columns,
        flat,
        fields,
        sites,
        squares,
        cubic[0] if cubic else system.spins.new_zeros(0, 11),
    )
