"""Training loss: weighted squared (or Huber) errors of the labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..potentials import Prediction
from ..quantities import QUANTITIES, label_table
from ._batch import Batch, across_moments
from ._metrics import Comparison, error_kinds


def training_loss(
    prediction: Prediction,
    batch: Batch,
    weights: dict[str, float],
    huber_delta: float | None = None,
) -> Tensor:
    """Return the weighted loss, a scalar tensor.

    The mean squared errors of the labelled numbers of every quantity, times the weight
    of their structure: energy and virial divided by the root of the number of atoms,
    forces and magnetic forces per component, as in DeePMD-kit's ``ener_spin``. Where
    magnetic forces are not known along the moments, two of three components count.

    Parameters
    ----------
    prediction : Prediction
    batch : Batch
    weights : dict
        By name of the quantity; labels or predictions that are missing are
        left out.
    huber_delta : float, optional
        Errors beyond it count linearly.
    """
    per_atom = batch.system.counts().to(batch.energy).rsqrt()
    total = batch.energy.new_zeros(())
    columns = {name: k for k, name in enumerate(label_table())}
    for name, factor in weights.items():
        predicted = getattr(prediction, name, None)
        if factor == 0.0 or predicted is None:
            continue
        label = getattr(batch, name)
        known = ~torch.isnan(label)
        count = known.sum()
        if not count:
            continue
        quantity = QUANTITIES[name]
        error = predicted - label
        if quantity.per_atom_in_errors:
            error = error * per_atom.reshape(-1, *[1] * (error.ndim - 1))
        if quantity.magnetic:
            error = across_moments(error, batch)
            count = count - (known[:, 0] & ~batch.longitudinal).sum()
        weight = batch.weights[:, columns[name]]
        weight = weight[batch.system.index] if quantity.per_atom else weight
        weight = weight.reshape(-1, *[1] * (error.ndim - 1)).expand_as(error)[known]
        penalty = weight * _penalty(error[known], huber_delta)
        total = total + factor * penalty.sum() / count
    return total


def loss_of_errors(
    errors: Mapping[str, Comparison], weights: Mapping[str, float], n_atoms: float
) -> float:
    """Return the loss that the errors of structures of ``n_atoms`` atoms mean.

    Parameters
    ----------
    errors : mapping
        Of :func:`compare`.
    weights : mapping
        By name of the quantity.
    n_atoms : float
        Mean number of atoms of the structures.
    """
    total = 0.0
    for name, found in errors.items():
        kind = error_kinds()[name]
        factor = kind.share * weights[kind.quantity.name]
        if kind.quantity.per_atom_in_errors:
            factor *= n_atoms
        total += factor * found.rmse**2
    return total


def _penalty(error: Tensor, delta: float | None) -> Tensor:
    if delta is None:
        return error.square()
    size = error.abs()
    return torch.where(size < delta, error.square(), delta * (2.0 * size - delta))
