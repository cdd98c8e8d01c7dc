"""Extended structures for DeePMD-kit's TorchScript: ghost atoms and neighbour lists."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...neighbors import PairList

#: Pairs of sites that a program may search at most; bounds its memory.
SEARCHABLE = 10_000_000

#: Names of cutoffs and slots; the last two are edges and angles of DPA-3.
_LIMITS = (("rcut", "sel"), ("e_rcut", "e_sel"), ("a_rcut", "a_sel"))


@dataclass(frozen=True)
class Structure:
    """One structure of n atoms, in double precision.

    Attributes
    ----------
    positions : (n, 3) tensor, A
    spins : (n, 3) tensor, mu_B
    arms : (n, 3) tensor, A
        From each atom to its pseudo-atom.
    types : (n,) int64 tensor
    cell : (3, 3) tensor, A
    pbc : (3,) bool tensor
    pairs : PairList
        Complete to the cutoff of the model plus the arms on both sides.
    """

    positions: Tensor
    spins: Tensor
    arms: Tensor
    types: Tensor
    cell: Tensor
    pbc: Tensor
    pairs: PairList

    def separations(self) -> Tensor:
        """Return the vectors (E, 3) from atom to neighbour, A."""
        pairs = self.pairs
        return (
            self.positions[pairs.j] - self.positions[pairs.i] + pairs.shift @ self.cell
        )

    def can_be_searched(self, cutoff: float) -> bool:
        """Say whether a program's own search among all pairs fits it."""
        if not self.pbc.any():
            images = 1.0
        elif self.pbc.all():
            inverse = torch.linalg.inv(self.cell.detach())
            span = torch.ceil(cutoff * inverse.norm(dim=0))
            images = float((2.0 * span + 1.0).prod())
        else:
            return False
        return (2 * len(self.positions)) ** 2 * images <= SEARCHABLE

    def alone(self, uses_spins: bool) -> dict[str, Tensor]:
        """Return the arguments of a program that searches neighbours itself."""
        inputs = {"coord": self.positions[None], "atype": self.types[None]}
        if uses_spins:
            inputs["spin"] = self.spins[None]
        if self.pbc.any():
            inputs["box"] = self.cell.reshape(1, 9)
        return inputs

    def extended(self, width: int) -> Extended:
        """Add the images that pairs refer to; list ``width`` neighbours at least."""
        n, pairs = len(self.positions), self.pairs
        sites = pairs.j.clone()
        outside = pairs.shift.any(dim=1)
        keys = torch.cat([pairs.shift.long(), pairs.j[:, None]], dim=1)[outside]
        images, places = torch.unique(keys, dim=0, return_inverse=True)
        sites[outside] = n + places
        owners = torch.cat([torch.arange(n, device=sites.device), images[:, 3]])
        offsets = images[:, :3].to(self.cell.dtype) @ self.cell
        counts = torch.bincount(pairs.i, minlength=n)
        column = torch.arange(len(sites), device=sites.device)
        column = column - (counts.cumsum(0) - counts)[pairs.i]
        neighbours = sites.new_full((n, max(width, int(counts.max()))), -1)
        neighbours[pairs.i, column] = sites
        return Extended(
            torch.cat([self.positions, self.positions[images[:, 3]] + offsets]),
            self.spins[owners],
            self.types[owners],
            owners,
            neighbours,
        )


@dataclass(frozen=True)
class Extended:
    """A structure of n atoms and the images that it needs, m in all.

    Attributes
    ----------
    positions, spins : (m, 3) tensors, A and mu_B
    types : (m,) int64 tensor
    owners : (m,) int64 tensor
        The atom of which each is an image; the first n are the atoms.
    neighbours : (n, K) int64 tensor
        Places of the neighbours among the m; -1 where there is none.
    """

    positions: Tensor
    spins: Tensor
    types: Tensor
    owners: Tensor
    neighbours: Tensor

    def inputs(self, uses_spins: bool) -> dict[str, Tensor]:
        """Return the arguments of a program that is given neighbours."""
        inputs = {
            "extended_coord": self.positions[None],
            "extended_atype": self.types[None],
            "nlist": self.neighbours[None],
            "mapping": self.owners[None],
        }
        if uses_spins:
            inputs["extended_spin"] = self.spins[None]
        return inputs

    def gather(self, values: Tensor) -> Tensor:
        """Add values (1, m, 3) of images to those of their atoms, (1, n, 3)."""
        total = values.new_zeros(1, len(self.neighbours), 3)
        return total.index_add(1, self.owners, values)


@dataclass(frozen=True)
class Truncation:
    """How many neighbours a program keeps.

    Attributes
    ----------
    limits : (cutoff, slots) pairs
        Of all parts of the model.
    pseudo_atoms : bool
        Whether the atoms have pseudo-atoms, which count as neighbours.
    centres : bool
        Whether the pseudo-atoms' own neighbours matter: messages pass.
    width : int
        Columns of a neighbour list that make a program sort it by distance
        and drop what is beyond the cutoff: more than it has slots.
    """

    limits: tuple[tuple[float, int], ...]
    pseudo_atoms: bool
    centres: bool
    width: int

    @classmethod
    def of(cls, script: torch.jit.ScriptModule, *, pseudo_atoms: bool) -> Truncation:
        """Read the limits of a program and of its parts."""
        limits = set()
        for module in script.modules():
            for cutoff_name, slots_name in _LIMITS:
                cutoff = getattr(module, cutoff_name, None)
                slots = getattr(module, slots_name, None)
                if isinstance(cutoff, float) and isinstance(slots, int | list):
                    total = sum(slots) if isinstance(slots, list) else slots
                    limits.add((cutoff, total))
        return cls(
            tuple(sorted(limits)),
            pseudo_atoms,
            pseudo_atoms and bool(script.has_message_passing()),
            int(script.get_nnei()) + 1,
        )

    def happens(self, structure: Structure) -> bool:
        """Say whether an atom of the structure has more neighbours than slots."""
        i, j = structure.pairs.i, structure.pairs.j
        separations, arms = structure.separations().detach(), structure.arms.detach()
        ends = [separations]
        starts = [torch.zeros_like(arms)]
        if self.pseudo_atoms:
            ends.append(separations + arms[j])
        if self.centres:
            starts.append(arms)
        for start in starts:
            distances = [(end - start[i]).norm(dim=1) for end in ends]
            for cutoff, slots in self.limits:
                counts = torch.full_like(structure.types, int(self.pseudo_atoms))
                for distance in distances:
                    counts = counts.index_add(0, i, (distance <= cutoff).long())
                if int(counts.max()) > slots:
                    return True
        return False
