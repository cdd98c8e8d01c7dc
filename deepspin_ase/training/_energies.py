"""Reference energies of elements and data sets; baselines subtracted from labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._result import Result
from ..potentials import Potential, Trainable
from ..quantities import label_table
from ..system import System
from ._batch import Batch


def composition(system: System, species: Sequence[int]) -> Tensor:
    """Return the number of atoms of each species in each structure.

    Returns
    -------
    (B, len(species)) float64 tensor
    """
    counts = torch.zeros(system.n_systems, len(species), dtype=torch.float64)
    is_one = system.species.cpu()[:, None] == torch.tensor(species)
    return counts.index_add_(0, system.index.cpu(), is_one.double())


#: A column is independent of others if this share of its length is left beside them.
INDEPENDENT = 1e-6


@dataclass(frozen=True)
class ReferenceEnergies(Result):
    """Zeros of energy: of the elements, and of data sets besides.

    Attributes
    ----------
    elements : dict of int to float
        Energy of an atom by atomic number, eV: part of the model.
    offsets : tuple of dict of int to float
        For every data set the energy of an atom by atomic number, eV, that its labels
        have in addition; zero in the first one.
    """

    elements: dict[int, float]
    offsets: tuple[dict[int, float], ...] = ({},)

    def __add__(self, other: ReferenceEnergies) -> ReferenceEnergies:
        def total(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
            return {z: a.get(z, 0.0) + b.get(z, 0.0) for z in {**a, **b}}

        both = zip(self.offsets, other.offsets, strict=True)
        return ReferenceEnergies(
            total(self.elements, other.elements), tuple(total(*x) for x in both)
        )

    def offset_of(self, batch: Batch) -> Tensor:
        """Return the offsets of the structures of a batch, (B,) float64, eV."""
        result = torch.zeros(batch.system.n_systems, dtype=torch.float64)
        for member, energies in enumerate(self.offsets):
            if energies:
                own = batch.sets.cpu() == member
                result += own * energy_of_elements(batch.system, energies)
        return result

    def of(self, batch: Batch) -> Tensor:
        """Return the energies of elements and offsets, (B,) float64, eV."""
        return energy_of_elements(batch.system, self.elements) + self.offset_of(batch)


class ReferenceColumns:
    """Unknown reference energies as columns of a least-squares problem.

    There is a column for each element. Of each data set with an offset there is one for
    all atoms, and more for single elements where the compositions of the set tell them
    apart. Those that depend on earlier columns are left out: what cannot be told apart
    belongs to the elements, and then to the sets in their order.

    Parameters
    ----------
    species : iterable of int
        Atomic numbers.
    batches : sequence of Batch
        All structures.
    free : sequence of bool
        Whether each data set has an offset of its own.
    """

    def __init__(
        self,
        species: Iterable[int],
        batches: Sequence[Batch],
        free: Sequence[bool] = (False,),
    ) -> None:
        self.species = sorted(species)
        self.n_sets = len(free)
        #: Data set and atomic number (None: all atoms) of the columns of offsets.
        self.offsets: list[tuple[int, int | None]] = []
        labelled = _with_energies(batches)
        if not labelled:
            return
        found = self.rows(labelled)
        for member in (k for k, own in enumerate(free) if own):
            for number in (None, *self.species):
                self.offsets.append((member, number))
                column = self.rows(labelled)[:, -1:]
                left = column - found @ _least_squares(found, column)
                size = float(column.norm())
                if size > 0.0 and float(left.norm()) > INDEPENDENT * size:
                    found = torch.cat([found, column], dim=1)
                else:
                    self.offsets.pop()

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.species) + len(self.offsets)

    def rows(self, batches: Sequence[Batch]) -> Tensor:
        """Return the numbers of atoms that each energy counts, (n, size) float64."""
        parts = []
        for batch in batches:
            counts = composition(batch.system, self.species)
            own = [counts]
            for member, number in self.offsets:
                column = (
                    counts.sum(dim=1)
                    if number is None
                    else counts[:, self.species.index(number)]
                )
                own.append((column * (batch.sets.cpu() == member))[:, None])
            parts.append(torch.cat(own, dim=1))
        return torch.cat(parts)

    def energies(self, values: Tensor) -> ReferenceEnergies:
        """Return the reference energies that values (size,) of the columns mean."""
        found = values.tolist()
        n = len(self.species)
        offsets: list[dict[int, float]] = [{} for _ in range(self.n_sets)]
        for (member, number), value in zip(self.offsets, found[n:], strict=True):
            for each in self.species if number is None else [number]:
                offsets[member][each] = offsets[member].get(each, 0.0) + value
        elements = dict(zip(self.species, found[:n], strict=True))
        return ReferenceEnergies(elements, tuple(offsets))


def fit_reference_energies(
    network: Trainable,
    batches: Sequence[Batch],
    columns: ReferenceColumns | None = None,
) -> ReferenceEnergies:
    """Return the energies of elements, and offsets of data sets, by least squares.

    The solution of smallest norm, where the compositions do not determine it, for the
    difference between the labels and the energies of the network as it is.

    Parameters
    ----------
    network : Trainable
    batches : sequence of Batch
        In float64 on the CPU.
    columns : ReferenceColumns, optional
        By default those of the elements.

    Returns
    -------
    ReferenceEnergies
        Zeros without labelled energies.
    """
    columns = columns or ReferenceColumns(network.species, batches)
    labelled = _with_energies(batches)
    if not labelled:
        return columns.energies(torch.zeros(columns.size))
    left = torch.cat(
        [
            b.energy
            - network.evaluate(
                b.system, b.pairs, forces=False, magnetic_forces=False, virial=False
            ).energy
            for b in labelled
        ]
    )
    root = torch.cat([_energy_weight(b) for b in labelled]).sqrt()[:, None]
    solution = _least_squares(root * columns.rows(labelled), root * left[:, None])
    return columns.energies(solution[:, 0])


def _energy_weight(batch: Batch) -> Tensor:
    """Return the factors (B,) of the energies in the loss."""
    return batch.weights[:, list(label_table()).index("energy")]


def _with_energies(batches: Sequence[Batch]) -> list[Batch]:
    """Return the batches whose energies are known and count."""
    return [
        b
        for b in batches
        if bool((torch.isfinite(b.energy) & (_energy_weight(b) > 0.0)).all())
    ]


def _least_squares(matrix: Tensor, right: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.lstsq(matrix, right, driver="gelsd").solution
    return solution


def energy_of_elements(system: System, energies: Mapping[int, float]) -> Tensor:
    """Return the sum of the element energies of each structure, (B,) float64, eV."""
    values = torch.tensor(list(energies.values()), dtype=torch.float64)
    return composition(system, list(energies)) @ values


def subtract_baseline(
    batches: Sequence[Batch], baseline: Potential | None
) -> list[Batch]:
    """Return the batches with the baseline's prediction subtracted from the labels."""
    if baseline is None:
        return list(batches)
    reduced = []
    for batch in batches:
        predicted = baseline.evaluate(batch.system, batch.pairs)
        left = {
            name: label - values
            for name, label in batch.quantities().items()
            if (values := getattr(predicted, name, None)) is not None
        }
        reduced.append(batch.replace(**left))
    return reduced
