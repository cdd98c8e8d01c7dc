"""Energies as quadratic forms of the moments at fixed positions and lengths.

    E = const - sum_i b_i.m_i + sum_i m_i A_i m_i + sum_{i<j} m_i K_ij m_j,

with fields b (eV/mu_B), anisotropies A and couplings K (eV/mu_B^2). They are read off
by evaluating energies along the axes, and whether the form holds is tested with random
directions, so that no list of terms is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...system import System
from .._base import QuadraticForm
from ._sites import Bonds

#: Deviation from the form that is round-off, relative to the largest energy.
_TOLERANCE = 1e-11


def _axes(system: System) -> list[Tensor]:
    """Return the moments (N, 3) rotated to x, y and z."""
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


def pair_form(
    pair_energies: Callable[[System, Bonds], Tensor], system: System, bonds: Bonds
) -> QuadraticForm | None:
    """Return the form of the energies (E,) of bonds, if they are bilinear."""

    def energies(first: Tensor, second: Tensor) -> Tensor:
        """Return the energies of bonds with moments ``first`` at i, ``second`` at j."""
        both = System.cat([system.replace(spins=s) for s in (first, second)])
        apart = replace(bonds, j=bonds.j + system.n_atoms, n_atoms=2 * system.n_atoms)
        return pair_energies(both, apart)

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
    if not _agree(*constants):
        return None
    return QuadraticForm.zero(system)._replace(i=bonds.i, j=bonds.j, tensors=tensor)


def site_form(
    site_energies: Callable[[Tensor], Tensor], system: System, atoms: Tensor
) -> QuadraticForm | None:
    """Return the form of the energies (n,) of single moments, if they are quadratic.

    Parameters
    ----------
    site_energies : callable
        Of moments (n, 3), mu_B.
    system : System
    atoms : (n,) int64 tensor
        Whose moments they are.
    """

    def odd_even(moments: Tensor) -> tuple[Tensor, Tensor]:
        there, back = (site_energies(s * moments[atoms]) for s in (1.0, -1.0))
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
        expected = torch.einsum("na,nab,nb->n", u[atoms], tensor, u[atoms])
        expected = expected + constant[:, 0, 0] * length**2
        if not (_agree(odd, -(field * u[atoms]).sum(1)) and _agree(even, expected)):
            return None
    form = QuadraticForm.zero(system)
    return form._replace(
        fields=form.fields.index_copy(0, atoms, field),
        sites=form.sites.index_copy(0, atoms, tensor),
    )
