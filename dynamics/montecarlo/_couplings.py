"""What a potential couples spins by, where its energy is quadratic in them.

At fixed positions and lengths of the moments the energy of many Hamiltonians is

    E = const - sum_i b_i.m_i + sum_i m_i A_i m_i + sum_{i<j} m_i K_ij m_j,

with fields b (eV/mu_B), anisotropies A and couplings K (eV/mu_B^2). They are read off
the terms of a potential by asking for energies along the axes, and whether the form
holds is tested with random directions, so that no list of terms is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...neighbors import PairList
from ...potentials import Potential, Sum
from ...potentials.materials.reference import Material
from ...potentials.terms._sites import Bonds, PairTerm, SiteTerm, carriers
from ...system import System

#: Deviation from the form that is round-off, relative to the largest energy.
_TOLERANCE = 1e-11


@dataclass(frozen=True)
class Couplings:
    """Couplings of the moments of a System.

    Attributes
    ----------
    first : (N + 1,) int64 tensor
        Where the neighbours of each atom begin.
    neighbours : (E,) int64 tensor
    pairs : (E, 1) or (E, 9) tensor, eV/mu_B^2
        K_ij by rows; one number each where all are multiples of unity.
    fields : (N, 3) tensor, eV/mu_B
    sites : (N, 3, 3) tensor, eV/mu_B^2
        A_i, symmetric.
    """

    first: Tensor
    neighbours: Tensor
    pairs: Tensor
    fields: Tensor
    sites: Tensor

    @property
    def linear(self) -> bool:
        """Whether the energy is linear in every moment."""
        return not bool(self.sites.any())

    @property
    def isotropic(self) -> bool:
        """Whether there is nothing but isotropic exchange."""
        return self.linear and self.pairs.shape[1] == 1 and not bool(self.fields.any())


def couplings(
    potential: Potential, system: System, pairs: PairList
) -> Couplings | None:
    """Read the couplings off a potential that depends on spins.

    Returns
    -------
    Couplings or None
        None where the energy is not of the form above, or an atom is coupled to an
        image of itself.
    """
    fields = torch.zeros_like(system.spins)
    sites = system.spins.new_zeros(system.n_atoms, 3, 3)
    i, j, tensors = [], [], []
    for term in _terms(potential):
        if isinstance(term, SiteTerm):
            found = _site(term, system)
            if found is None:
                return None
            fields, sites = fields + found[0], sites + found[1]
        elif isinstance(term, PairTerm):
            bonds = term.bonds(system, pairs)
            tensor = _pair(term, system, bonds)
            if tensor is None or bool((bonds.i == bonds.j).any()):
                return None
            i.append(bonds.i)
            j.append(bonds.j)
            tensors.append(tensor)
        else:
            return None
    empty = torch.zeros(0, dtype=torch.int64, device=system.device)
    rows, order = torch.sort(torch.cat([*i, empty]), stable=True)
    columns = torch.cat([*j, empty])[order]
    tensor = torch.cat([*tensors, system.spins.new_zeros(0, 3, 3)])[order]
    atoms = torch.arange(system.n_atoms + 1, device=system.device)
    scalars = tensor[:, 0, 0]
    identity = torch.eye(3, dtype=tensor.dtype, device=tensor.device)
    isotropic = torch.equal(tensor, scalars[:, None, None] * identity)
    flat = scalars[:, None].clone() if isotropic else tensor.flatten(1).contiguous()
    return Couplings(torch.searchsorted(rows, atoms), columns, flat, fields, sites)


def _terms(potential: Potential) -> Iterator[Potential]:
    """Yield the terms of a sum that depend on spins."""
    if type(potential) in (Sum, Material):
        for member in potential.members:  # type: ignore[union-attr]
            yield from _terms(member)
    elif potential.uses_spins:
        yield potential


def _axes(system: System) -> list[Tensor]:
    """Return the moments (N, 3) turned along x, y and z."""
    lengths = system.spins.norm(dim=1, keepdim=True)
    unit = torch.eye(3, dtype=lengths.dtype, device=lengths.device)
    return [lengths * axis for axis in unit]


def _directions(system: System, seed: int) -> Tensor:
    """Return the moments (N, 3) in random directions."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(system.n_atoms, 3, generator=generator, dtype=torch.float64)
    random = random.to(system.spins) / random.norm(dim=1, keepdim=True).to(system.spins)
    return system.spins.norm(dim=1, keepdim=True) * random


def _agree(found: Tensor, expected: Tensor) -> bool:
    largest = torch.cat([found, expected]).abs().max() if len(found) else 0.0
    return bool(((found - expected).abs() <= _TOLERANCE * largest).all())


def _pair(term: PairTerm, system: System, bonds: Bonds) -> Tensor | None:
    """Return K (E, 3, 3) of the bonds of a term, if it is bilinear."""

    def energies(first: Tensor, second: Tensor) -> Tensor:
        """Return the energies of bonds with moments ``first`` at i, ``second`` at j."""
        both = System.cat([system.replace(spins=s) for s in (first, second)])
        apart = replace(bonds, j=bonds.j + system.n_atoms, n_atoms=2 * system.n_atoms)
        return term.pair_energies(both, apart)

    axes = _axes(system)
    lengths = system.spins.norm(dim=1)
    size = lengths[bonds.i] * lengths[bonds.j]
    rows = [
        torch.stack([0.5 * (energies(a, b) - energies(-a, b)) / size for b in axes], 1)
        for a in axes
    ]
    tensor = torch.stack(rows, 1)
    constants = []
    for seed in (0, 1):
        u, v = _directions(system, 2 * seed), _directions(system, 2 * seed + 1)
        there, back = energies(u, v), energies(-u, v)
        form = torch.einsum("ea,eab,eb->e", u[bonds.i], tensor, v[bonds.j])
        if not _agree(0.5 * (there - back), form):
            return None
        constants.append(0.5 * (there + back))
    return tensor if _agree(*constants) else None


def _site(term: SiteTerm, system: System) -> tuple[Tensor, Tensor] | None:
    """Return b (N, 3) and A (N, 3, 3) of a term, if it is quadratic."""
    atoms = carriers(system, term.elements).nonzero().flatten()

    def odd_even(moments: Tensor) -> tuple[Tensor, Tensor]:
        there, back = (term.site_energies(s * moments[atoms]) for s in (1.0, -1.0))
        return 0.5 * (there - back), 0.5 * (there + back)

    axes = _axes(system)
    length = system.spins.norm(dim=1)[atoms]
    along = [odd_even(axis) for axis in axes]
    field = torch.stack([-odd / length for odd, _ in along], 1)
    diagonal = [even / length**2 for _, even in along]
    tensor = torch.diag_embed(torch.stack(diagonal, 1))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        _, even = odd_even((axes[a] + axes[b]) / 2**0.5)
        across = even / length**2 - 0.5 * (diagonal[a] + diagonal[b])
        tensor[:, a, b] = tensor[:, b, a] = across
    # What is the same in all directions is a constant.
    round_off = _TOLERANCE * tensor.abs().amax(dim=(1, 2), keepdim=True)
    identity = torch.eye(3, dtype=tensor.dtype, device=tensor.device)
    constant = tensor[:, :1, :1]
    tensor = tensor - constant * identity
    tensor = torch.where(tensor.abs() <= round_off, 0.0, tensor)
    for seed in (0, 1):
        u = _directions(system, seed)
        odd, even = odd_even(u)
        form = torch.einsum("na,nab,nb->n", u[atoms], tensor, u[atoms])
        form = form + constant[:, 0, 0] * length**2
        if not (_agree(odd, -(field * u[atoms]).sum(1)) and _agree(even, form)):
            return None
    fields = torch.zeros_like(system.spins).index_copy(0, atoms, field)
    sites = system.spins.new_zeros(system.n_atoms, 3, 3).index_copy(0, atoms, tensor)
    return fields, sites
