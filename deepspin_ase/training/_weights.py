"""Weights of the loss from the sizes of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..data import Frame
from ..quantities import label_table
from ._config import LossConfig
from ._sets import TrainingSet

#: What errors as large as the labels add to the loss.
SHARES = {"energy": 0.005, "forces": 0.1, "magnetic_forces": 0.05, "virial": 0.003}

#: Weights of labels of no known size.
PLAIN = {"energy": 10.0, "forces": 1.0, "magnetic_forces": 50.0, "virial": 0.03}


def with_weights(loss: LossConfig, sets: Sequence[TrainingSet]) -> LossConfig:
    """Return the loss with numbers for weights that are automatic.

    A weight is the label's share over the square of its size, so that labels are
    learned alike in materials whose spins are soft or stiff beside the lattice. The
    size is the median over structures of the root mean square: few structures far from
    the others do not count. Energies are taken about fitted energies of elements in
    every set, over the root of the number of atoms as in the loss.

    Parameters
    ----------
    loss : LossConfig
    sets : sequence of TrainingSet
    """
    wanted = [name for name, ends in loss.weights.items() if ends is None]
    if not wanted:
        return loss
    sizes = label_sizes(sets)
    found = {}
    for name in wanted:
        weight = PLAIN.get(name, 0.0)
        if name in sizes and name in SHARES:
            weight = SHARES[name] / sizes[name] ** 2
        found[name] = (float(f"{weight:.2g}"),) * 2
    return loss.model_copy(update={"weights": {**loss.weights, **found}})


def label_sizes(sets: Sequence[TrainingSet]) -> dict[str, float]:
    """Return the typical sizes of labels by name, in the units of the loss.

    Labels that are zero throughout a structure, as symmetry makes them, or that have
    no weight, do not count.
    """
    found: dict[str, list[float]] = {}
    for own in sets:
        counted = [f.replace(**_without_weight(f, own)) for f in own.training]
        found.setdefault("energy", []).extend(_energies(counted))
        for frame in counted:
            for name, value in _numbers(frame):
                found.setdefault(name, []).append(value)
    medians = {}
    for name, values in found.items():
        if some := [value for value in values if value > _ZERO]:
            medians[name] = float(np.median(some))
    return medians


#: Root mean squares below this (eV, A, mu_B) are round-off of zero.
_ZERO = 1e-6


def _without_weight(frame: Frame, own: TrainingSet) -> dict[str, None]:
    """Return None for the labels of a structure that do not count in the loss."""
    factors = (frame.weights, own.weights)
    return {
        name: None
        for name in label_table()
        if any(weights.get(name, 1.0) == 0.0 for weights in factors)
    }


def _numbers(frame: Frame) -> Iterator[tuple[str, float]]:
    """Yield the root mean squares of a structure's labels but the energy."""
    for name, quantity in label_table().items():
        value = getattr(frame, name)
        if name == "energy" or value is None:
            continue
        value = value[frame.spins.any(axis=1)] if quantity.magnetic else value
        if not np.isfinite(value).any():
            continue
        size = float(np.sqrt(np.nanmean(value**2)))
        yield name, size / (frame.n_atoms**0.5 if quantity.per_atom_in_errors else 1.0)


def _energies(frames: Sequence[Frame]) -> np.ndarray:
    """Return how far energies are from those of elements, over the root of N, eV."""
    frames = [f for f in frames if f.energy is not None and np.isfinite(f.energy)]
    if not frames:
        return np.zeros(0)
    species = sorted({int(z) for frame in frames for z in frame.numbers})
    counts = np.array([[np.sum(f.numbers == z) for z in species] for f in frames])
    roots = np.sqrt(counts.sum(axis=1))
    matrix = counts / roots[:, None]
    labels = np.array([frame.energy for frame in frames]) / roots
    solution, *_ = np.linalg.lstsq(matrix, labels, rcond=None)
    return np.abs(labels - matrix @ solution) / _NORMAL


#: Median of the size of a normal variable of unit variance.
_NORMAL = 0.6745
