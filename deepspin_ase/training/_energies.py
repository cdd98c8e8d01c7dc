"""What is taken off the labels before a network learns the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..potentials import DeepSpinNetwork, Potential
from ._batch import Batch


def composition(network: DeepSpinNetwork, batch: Batch) -> Tensor:
    """Return how many atoms of each element of the network each structure has.

    Returns
    -------
    (B, n_types) float64 tensor
    """
    types = network.types(batch.system)
    counts = torch.zeros(
        batch.system.n_systems, len(network.config.type_map), dtype=torch.float64
    )
    ones = torch.ones(len(types), dtype=torch.float64)
    return counts.index_put((batch.system.index.cpu(), types.cpu()), ones, True)


def element_energies(network: DeepSpinNetwork, batches: Sequence[Batch]) -> Tensor:
    """Return the energy per element that the network should not have to learn.

    The least-squares solution (of smallest norm where the compositions do not
    determine it) of what the network, as it is, leaves of the labels.

    Returns
    -------
    (n_types,) float64 tensor, eV
    """
    labelled = [b for b in batches if bool(torch.isfinite(b.energy).all())]
    if not labelled:
        return torch.zeros(len(network.config.type_map), dtype=torch.float64)
    counts = torch.cat([composition(network, b) for b in labelled])
    left = torch.cat(
        [
            b.energy
            - network.evaluate(
                b.system, b.pairs, forces=False, magnetic_forces=False, virial=False
            ).energy
            for b in labelled
        ]
    )
    return torch.linalg.lstsq(counts, left[:, None], driver="gelsd").solution[:, 0]


def subtract_baseline(
    batches: Sequence[Batch], baseline: Potential | None
) -> list[Batch]:
    """Return the batches with the baseline's prediction taken off the labels."""
    if baseline is None:
        return list(batches)
    reduced = []
    for batch in batches:
        predicted = baseline.evaluate(batch.system, batch.pairs)
        assert predicted.forces is not None
        assert predicted.magnetic_forces is not None
        assert predicted.virial is not None
        reduced.append(
            replace(
                batch,
                energy=batch.energy - predicted.energy,
                forces=batch.forces - predicted.forces,
                magnetic_forces=batch.magnetic_forces - predicted.magnetic_forces,
                virial=batch.virial - predicted.virial,
            )
        )
    return reduced
