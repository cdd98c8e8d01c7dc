"""Labelled structures as tensors, one or many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..data import Dataset, Frame
from ..neighbors import PairList, build_pairs
from ..potentials import Potential
from ..system import System


@dataclass(frozen=True)
class Batch:
    """B labelled structures of N atoms in all; NaN marks what is not labelled.

    Attributes
    ----------
    system : System
    pairs : PairList
    energy : (B,) tensor, eV
    forces : (N, 3) tensor, eV/A
    magnetic_forces : (N, 3) tensor, eV/mu_B
        NaN on atoms without a moment.
    virial : (B, 3, 3) tensor, eV
    """

    system: System
    pairs: PairList
    energy: Tensor
    forces: Tensor
    magnetic_forces: Tensor
    virial: Tensor

    @classmethod
    def from_frame(cls, frame: Frame, potential: Potential) -> Batch:
        """Take one frame, with the pairs that ``potential`` needs."""
        system = System.from_atoms(frame.to_atoms())
        pairs = build_pairs(system, potential.pair_cutoff(system))

        def label(values: object, *shape: int) -> Tensor:
            if values is None:
                return torch.full(shape, torch.nan, dtype=torch.float64)
            return torch.tensor(values, dtype=torch.float64).reshape(shape)

        n = frame.n_atoms
        magnetic = label(frame.magnetic_forces, n, 3)
        carries = system.spins.norm(dim=1, keepdim=True) > 0
        return cls(
            system,
            pairs,
            label(frame.energy, 1),
            label(frame.forces, n, 3),
            torch.where(carries, magnetic, torch.nan),
            label(frame.virial, 1, 3, 3),
        )

    @classmethod
    def cat(cls, batches: Sequence[Batch]) -> Batch:
        """Join batches."""
        offset, i, j = 0, [], []
        for batch in batches:
            i.append(batch.pairs.i + offset)
            j.append(batch.pairs.j + offset)
            offset += batch.system.n_atoms
        pairs = PairList(
            torch.cat(i),
            torch.cat(j),
            torch.cat([b.pairs.shift for b in batches]),
            min(b.pairs.cutoff for b in batches),
        )
        labels = {
            f.name: torch.cat([getattr(b, f.name) for b in batches])
            for f in fields(cls)
            if f.name not in ("system", "pairs")
        }
        return cls(System.cat([b.system for b in batches]), pairs, **labels)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Batch:
        """Return the batch on another device or in another float type."""
        pairs = PairList(
            self.pairs.i.to(device),
            self.pairs.j.to(device),
            self.pairs.shift.to(device, dtype),
            self.pairs.cutoff,
        )
        labels = {
            f.name: getattr(self, f.name).to(device, dtype)
            for f in fields(self)
            if f.name not in ("system", "pairs")
        }
        return Batch(self.system.to(device, dtype), pairs, **labels)

    def with_turned_spins(self, turn: Tensor) -> Batch:
        """Turn moments and magnetic forces by the matrices ``turn`` (B, 3, 3)."""
        matrices = turn[self.system.index]

        def apply(vectors: Tensor) -> Tensor:
            return torch.einsum("nij,nj->ni", matrices, vectors)

        return replace(
            self,
            system=self.system.replace(spins=apply(self.system.spins)),
            magnetic_forces=apply(self.magnetic_forces),
        )


def load_batches(dataset: Dataset, potential: Potential) -> list[Batch]:
    """Return one Batch per frame of a dataset.

    Raises
    ------
    ValueError
        If the potential does not apply to a frame.
    """
    batches = []
    for k, frame in enumerate(dataset):
        batch = Batch.from_frame(frame, potential)
        try:
            potential.check(batch.system)
        except ValueError as error:
            raise ValueError(f"{dataset.name}, frame {k}: {error}") from None
        batches.append(batch)
    return batches


def collect(batches: Sequence[Batch], *, max_atoms: int = 1024) -> list[Batch]:
    """Join single-frame batches into few that hold at most ``max_atoms`` atoms."""
    groups: list[list[Batch]] = []
    atoms = max_atoms
    for batch in batches:
        if atoms + batch.system.n_atoms > max_atoms:
            groups.append([])
            atoms = 0
        groups[-1].append(batch)
        atoms += batch.system.n_atoms
    return [Batch.cat(group) for group in groups]
