"""Cell-list search of pairs on any device, in torch.

All structures of a batch are searched together. Space is divided along the lattice
vectors into bins that are at least as wide as the cutoff where the cell allows it;
atoms are sorted by bin, and each atom searches the bins around its own, periodic
images included. In open directions the bins span the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.geometry import complete_cell
from torch import Tensor

from .system import System

#: Bins searched at a time; bounds the memory of large systems.
LOOKS = 2**18

#: Most bins in a direction.
MOST_BINS = 2**16


@dataclass(frozen=True)
class _Bins:
    """Bins of B structures and N atoms, along the three lattice vectors.

    Attributes
    ----------
    home : (N, 3) int64 tensor
        Lattice translation that took each atom out of the cell.
    place : (N, 3) int64 tensor
        Bin of each atom in its structure.
    number : (B, 3) int64 tensor
        Number of bins.
    span : (B, 3) int64 tensor
        Number of bins that the cutoff spans.
    first : (B,) int64 tensor
        Number of the first bin of each structure.
    """

    home: Tensor
    place: Tensor
    number: Tensor
    span: Tensor
    first: Tensor

    @classmethod
    def of(cls, system: System, cells: Tensor, cutoff: float) -> _Bins:
        """Divide the space of each structure."""
        index, pbc = system.index, system.pbc
        inverse = torch.linalg.inv(cells)
        positions = system.positions.detach().double()
        fractional = torch.bmm(positions[:, None], inverse[index])[:, 0]
        home = torch.where(pbc[index], fractional.floor(), 0.0)
        inside = fractional - home
        rows = index[:, None].expand(-1, 3)
        low = inverse.new_full((system.n_systems, 3), torch.inf)
        low = low.scatter_reduce(0, rows, inside, "amin").masked_fill(pbc, 0.0)
        high = inverse.new_full((system.n_systems, 3), -torch.inf)
        high = high.scatter_reduce(0, rows, inside, "amax").masked_fill(pbc, 1.0)
        # Round-off must not take a pair beyond the bins that are searched.
        far = cutoff * (1.0 + 1e-9) + 1e-9
        width = (high - low) / torch.linalg.vector_norm(inverse, dim=1)
        number = (width / far).clamp(1, MOST_BINS).long()
        span = (far * number / width.clamp_min(1e-9)).ceil().long()
        span = torch.where(pbc, span, torch.minimum(span, number - 1))
        x = (inside - low[index]) / (high - low).clamp_min(1e-300)[index]
        place = (x * number[index]).long().clamp_min(0)
        total = number.prod(1)
        return cls(
            home.long(),
            torch.minimum(place, number[index] - 1),
            number,
            span,
            total.cumsum(0) - total,
        )

    def keys(self, place: Tensor, structure: Tensor) -> Tensor:
        """Return numbers of bins at ``place`` (..., 3) of structures (...)."""
        n = self.number[structure]
        x, y, z = place.unbind(-1)
        return ((x * n[..., 1] + y) * n[..., 2] + z) + self.first[structure]

    def around(self) -> Tensor:
        """Return the steps (M, 3) to all bins that any structure searches."""
        steps = [
            torch.arange(-n, n + 1, device=self.span.device)
            for n in self.span.amax(0).tolist()
        ]
        return torch.cartesian_prod(*steps)


def search_cells(system: System, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return all ordered pairs closer than ``cutoff`` (A), sorted by the first atom.

    Returns
    -------
    i, j : (E,) int64 tensors
    shift : (E, 3) int64 tensor
        Lattice translations of atom j.
    """
    cells = _complete(system)
    bins = _Bins.of(system, cells, cutoff)
    keys, order = torch.sort(bins.keys(bins.place, system.index), stable=True)
    steps = bins.around()
    size = max(1, LOOKS // len(steps))
    found = [
        _pairs(atoms, system, cells, bins, steps, keys, order, cutoff)
        for atoms in torch.arange(system.n_atoms, device=system.device).split(size)
    ]
    i, j, shift = (torch.cat(parts) for parts in zip(*found, strict=True))
    return i, j, shift


def _complete(system: System) -> Tensor:
    """Return cells with three lattice vectors, open directions included."""
    cells, pbc = system.cell.detach().cpu().double().numpy(), system.pbc.cpu().numpy()
    complete = [
        complete_cell(np.where(periodic[:, None], cell, 0.0))
        for cell, periodic in zip(cells, pbc, strict=True)
    ]
    return torch.from_numpy(np.stack(complete)).to(system.device)


def _pairs(
    atoms: Tensor,
    system: System,
    cells: Tensor,
    bins: _Bins,
    steps: Tensor,
    keys: Tensor,
    order: Tensor,
    cutoff: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pairs of some of the atoms.

    Parameters
    ----------
    keys, order : (N,) int64 tensors
        Bins in which there are atoms, ascending, and these atoms.
    """
    structure = system.index[atoms][:, None].expand(-1, len(steps))
    place = bins.place[atoms][:, None] + steps
    image = place.div(bins.number[structure], rounding_mode="floor")
    seen = (steps.abs() <= bins.span[structure]) & (
        system.pbc[structure] | (image == 0)
    )
    key = bins.keys(place - image * bins.number[structure], structure).flatten()
    start = torch.searchsorted(keys, key)
    count = torch.searchsorted(keys, key, right=True) - start
    count = count * seen.all(-1).flatten()
    look = torch.repeat_interleave(count)
    within = torch.arange(len(look), device=look.device) - (
        torch.cumsum(count, 0) - count
    ).index_select(0, look)
    i, j = atoms[look // len(steps)], order[start[look] + within]
    shift = image.flatten(0, 1)[look] + bins.home[i] - bins.home[j]
    positions = system.positions.detach().double()
    lattice = cells[system.index[i]] if system.n_systems > 1 else cells
    offset = sum(shift[:, k, None] * lattice[:, k] for k in range(3))
    square = (positions[j] - positions[i] + offset).square().sum(1)
    kept = (square < cutoff * cutoff) & ((i != j) | shift.any(1))
    return i[kept], j[kept], shift[kept]
