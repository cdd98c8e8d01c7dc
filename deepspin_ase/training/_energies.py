"""Reference energies of the elements, and baselines subtracted from labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..potentials import Potential, Trainable
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


def fit_element_energies(
    network: Trainable, batches: Sequence[Batch]
) -> dict[int, float]:
    """Return the energies of the elements by least squares.

    The solution of smallest norm, where the compositions do not determine it, for the
    difference between the labels and the energies of the network as it is.

    Returns
    -------
    dict
        Energies in eV by atomic number; zeros without labelled energies.
    """
    species = sorted(network.species)
    labelled = [b for b in batches if bool(torch.isfinite(b.energy).all())]
    if not labelled:
        return dict.fromkeys(species, 0.0)
    counts = torch.cat([composition(b.system, species) for b in labelled])
    left = torch.cat(
        [
            b.energy
            - network.evaluate(
                b.system, b.pairs, forces=False, magnetic_forces=False, virial=False
            ).energy
            for b in labelled
        ]
    )
    solution = torch.linalg.lstsq(counts, left[:, None], driver="gelsd").solution
    return dict(zip(species, solution[:, 0].tolist(), strict=True))


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
