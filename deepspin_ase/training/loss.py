"""The training loss: weighted squared (or Huber) errors of the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..potentials import Prediction
from .batch import Batch
from .config import LossConfig


def weights(config: LossConfig, decay: float) -> dict[str, float]:
    """Return the weight of every label, ``decay`` being lr / start_lr."""

    def between(start: float, limit: float) -> float:
        return limit + (start - limit) * decay

    return {
        "energy": between(config.start_pref_e, config.limit_pref_e),
        "forces": between(config.start_pref_fr, config.limit_pref_fr),
        "magnetic_forces": between(config.start_pref_fm, config.limit_pref_fm),
        "virial": between(config.start_pref_v, config.limit_pref_v),
    }


def training_loss(
    prediction: Prediction,
    batch: Batch,
    weight: dict[str, float],
    huber_delta: float | None = None,
) -> Tensor:
    """Return the weighted loss, a scalar tensor.

    The mean squared errors of the labelled numbers of every kind: energy and
    virial divided by the root of the number of atoms, forces and magnetic forces
    per component, as in DeePMD-kit's ``ener_spin``.
    """
    counts = batch.system.counts()
    scale = {
        "energy": counts.to(batch.energy).rsqrt(),
        "virial": counts.to(batch.energy).rsqrt()[:, None, None],
    }
    total = batch.energy.new_zeros(())
    for name, factor in weight.items():
        predicted = getattr(prediction, name)
        if factor == 0.0 or predicted is None:
            continue
        error = (predicted - getattr(batch, name)) * scale.get(name, 1.0)
        error = error[~torch.isnan(error.detach())]
        if len(error):
            total = total + factor * _penalty(error, huber_delta).mean()
    return total


def _penalty(error: Tensor, delta: float | None) -> Tensor:
    if delta is None:
        return error.square()
    size = error.abs()
    return torch.where(size < delta, error.square(), delta * (2.0 * size - delta))
