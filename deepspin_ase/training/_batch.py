"""Labelled structures as tensors, singly or in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data import Dataset, Frame
from ..neighbors import PairList, build_pairs
from ..potentials import Potential
from ..quantities import QUANTITIES, Quantity, QuantityValues, label_table
from ..system import System


class Batch(QuantityValues):
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
    longitudinal : (N,) bool tensor
        Whether magnetic forces are known along the moments, too; all by default.
    weights : (B, Q) tensor
        Factors of the structures in the loss, a column per row of
        :func:`~deepspin_ase.quantities.label_table`; one by default.
    sets : (B,) int tensor
        The data set that each structure belongs to; zero by default.
    """

    system: System
    pairs: PairList
    energy: Tensor
    forces: Tensor
    magnetic_forces: Tensor
    virial: Tensor
    longitudinal: Tensor
    weights: Tensor
    sets: Tensor

    def __init__(
        self,
        system: System,
        pairs: PairList,
        *,
        longitudinal: Tensor | None = None,
        weights: Tensor | None = None,
        sets: Tensor | None = None,
        **labels: Tensor | None,
    ) -> None:
        n, like = system.n_systems, system.positions
        if longitudinal is None:
            longitudinal = torch.ones_like(system.species, dtype=torch.bool)
        if weights is None:
            weights = like.new_ones(n, len(label_table()))
        if sets is None:
            sets = torch.zeros(n, dtype=torch.long, device=like.device)
        super().__init__(
            labels,
            system=system,
            pairs=pairs,
            longitudinal=longitudinal,
            weights=weights,
            sets=sets,
        )

    @classmethod
    def from_frame(
        cls, frame: Frame, potential: Potential, *, member: int = 0
    ) -> Batch:
        """Take a frame of set ``member``, with the pairs that ``potential`` needs."""
        system = System.from_atoms(frame.to_atoms())
        pairs = build_pairs(system, potential.pair_cutoff(system))
        carries = system.spins.norm(dim=1, keepdim=True) > 0

        def label(quantity: Quantity) -> Tensor:
            shape = quantity.shape_of(frame.n_atoms)
            if not quantity.per_atom:
                shape = (1, *shape)
            value = getattr(frame, quantity.name)
            if value is None:
                return torch.full(shape, torch.nan, dtype=torch.float64)
            found = torch.tensor(value, dtype=torch.float64).reshape(shape)
            if quantity.magnetic:
                found = torch.where(carries, found, torch.nan)
            return found

        return cls(
            system,
            pairs,
            longitudinal=torch.full((frame.n_atoms,), frame.longitudinal),
            weights=torch.tensor(
                [[frame.weights.get(name, 1.0) for name in label_table()]],
                dtype=torch.float64,
            ),
            sets=torch.tensor([member]),
            **{n: label(q) for n, q in label_table().items()},
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
            name: torch.cat([getattr(b, name) for b in batches])
            for name in batches[0].quantities()
        }
        others = {
            name: torch.cat([getattr(b, name) for b in batches])
            for name in ("longitudinal", "weights", "sets")
        }
        return cls(System.cat([b.system for b in batches]), pairs, **others, **labels)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Batch:
        """Return the batch on another device or in another float type."""
        pairs = PairList(
            self.pairs.i.to(device),
            self.pairs.j.to(device),
            self.pairs.shift.to(device, dtype),
            self.pairs.cutoff,
        )
        labels = {
            name: values.to(device, dtype) for name, values in self.quantities().items()
        }
        return Batch(
            self.system.to(device, dtype),
            pairs,
            longitudinal=self.longitudinal.to(device),
            weights=self.weights.to(device, dtype),
            sets=self.sets.to(device),
            **labels,
        )

    def with_rotated_spins(self, rotations: Tensor) -> Batch:
        """Return the batch with moments and magnetic labels rotated.

        Parameters
        ----------
        rotations : (B, 3, 3) tensor
            Orthogonal matrices; one of determinant -1 is a rotation and the reversal
            of time. Labels that are odd under the latter change sign.
        """
        matrices = rotations[self.system.index]

        def apply(vectors: Tensor) -> Tensor:
            return torch.einsum("nij,nj->ni", matrices, vectors)

        labels = {
            name: apply(values)
            for name, values in self.quantities().items()
            if QUANTITIES[name].magnetic
        }
        return self.replace(
            system=self.system.replace(spins=apply(self.system.spins)), **labels
        )


def across_moments(vectors: Tensor, batch: Batch) -> Tensor:
    """Return vectors (N, ..., 3) without parts along moments that are not labelled.

    Parameters
    ----------
    vectors : tensor
        Magnetic forces, of predictions or of labels.
    batch : Batch
        Its ``longitudinal`` says where the whole vector counts.
    """
    if bool(batch.longitudinal.all()):
        return vectors
    spins = batch.system.spins
    unit = spins / spins.norm(dim=1, keepdim=True).clamp_min(1e-300)
    unit = torch.where(batch.longitudinal[:, None], 0.0, unit)
    unit = unit.reshape(len(unit), *[1] * (vectors.ndim - 2), 3)
    return vectors - (vectors * unit).sum(-1, keepdim=True) * unit


def load_batches(
    dataset: Dataset, potential: Potential, *, member: int = 0
) -> list[Batch]:
    """Return one Batch per frame of a dataset.

    Parameters
    ----------
    dataset : Dataset
    potential : Potential
    member : int
        Number of the data set, where several are trained on together.

    Raises
    ------
    ValueError
        If the potential does not apply to a frame.
    """
    batches = []
    for k, frame in enumerate(dataset):
        batch = Batch.from_frame(frame, potential, member=member)
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
