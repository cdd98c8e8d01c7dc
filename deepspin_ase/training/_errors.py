"""Estimates of a network's errors, calibrated on frames kept back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..neighbors import PairList
from ..potentials import Potential
from ..potentials._watch import feature_distances
from ..potentials.networks._trainable import trainable_parts
from ..system import System
from ._batch import Batch


def fit_error_model(
    potential: Potential, training: Sequence[Batch], kept_back: Sequence[Batch]
) -> None:
    """Make a network estimate its errors, as the trainer does with validation frames.

    Largest distances of features are added to the :attr:`~Potential.training_range`.
    Afterwards ``potential.evaluate(system, deviations=True)`` and results such as
    ``forces_deviation`` of calculators hold them.

    Parameters
    ----------
    potential : Potential
        A network, or a sum of which it is the last one; changed in place.
    training, kept_back : sequence of Batch
        Frames that it was trained on, and others, float64 on the CPU. Without the
        latter, distances of features are known, but no deviations.

    Raises
    ------
    ValueError
        If it has no network.
    """
    networks = trainable_parts(potential)
    if not networks:
        raise ValueError(
            f"{type(potential).__name__} has no network whose errors could be estimated"
        )
    networks[-1].fit_error_model(
        ((batch.system, batch.pairs) for batch in training),
        _errors(potential, kept_back),
    )
    if potential.training_range is not None:
        bounds: dict[str, tuple[float, float]] = {}
        for batch in training:
            own = feature_distances(potential, batch.system, batch.pairs)
            for name, (low, high) in own.items():
                bounds[name] = low, max(high, bounds.get(name, (low, high))[1])
        potential.training_range = potential.training_range.extended(bounds)


def _errors(
    potential: Potential, batches: Sequence[Batch]
) -> Iterator[tuple[System, PairList, Mapping[str, Tensor]]]:
    for batch in batches:
        found = potential.evaluate(batch.system, batch.pairs, virial=False)
        errors = {
            n: getattr(found, n) - getattr(batch, n) for n in ("energy", "forces")
        }
        assert found.magnetic_forces is not None
        errors |= _parts(found.magnetic_forces - batch.magnetic_forces, batch)
        yield batch.system, batch.pairs, errors


def _parts(errors: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return errors (N, 1) across moments, per component, and along them."""
    spins = batch.system.spins
    unit = spins / spins.norm(dim=1, keepdim=True).clamp_min(1e-300)
    along = (errors * unit).sum(1, keepdim=True)
    across = (errors - along * unit).norm(dim=1, keepdim=True) / 2.0**0.5
    return {
        "magnetic_forces_transverse": across,
        "magnetic_forces_longitudinal": torch.where(
            batch.longitudinal[:, None], along, torch.nan
        ),
    }
