"""Hamiltonians fitted to labels by linear least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data import Dataset
from ..potentials import Potential
from .batch import Batch, load_batches


@dataclass(frozen=True)
class LinearFit:
    """Coefficients of a Hamiltonian, and how well it does.

    Attributes
    ----------
    coefficients : (K,) array
        One per term.
    rmse : dict
        Errors before and after the fit of ``energy`` (eV/atom, offset taken
        off), ``forces`` (eV/A) and ``magnetic_forces`` (eV/mu_B).
    """

    coefficients: np.ndarray
    rmse: dict[str, tuple[float, float]]


def fit_linear(
    terms: Sequence[Potential],
    dataset: Dataset,
    *,
    weights: dict[str, float] | None = None,
    ridge: float = 1e-6,
    zero_pressure: float = 0.0,
) -> LinearFit:
    """Fit E = sum_k c_k E_k to energies, forces and magnetic forces.

    Minimises the weighted sum of the mean squared errors, each relative to the
    mean square of its label (of energies, per atom and about their mean), plus
    ``ridge`` times the mean squared contributions of single terms.

    Parameters
    ----------
    terms : sequence of Potential
        With coefficient one.
    dataset : Dataset
        Frames of one composition, as far as energies are fitted.
    weights : dict
        Of ``energy``, ``forces`` and ``magnetic_forces``; 1 where not given.
    ridge : float
        Keeps terms that nearly cancel from growing.
    zero_pressure : float
        Weight of a condition that the first frame has no pressure, for data
        without stress; in units of one force label's share.

    Raises
    ------
    ValueError
        If the data carry no label that is fitted.
    """
    weights = {"energy": 1.0, "forces": 1.0, "magnetic_forces": 1.0} | (weights or {})
    blocks: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {
        name: ([], []) for name in weights
    }
    batches = load_batches(dataset, max(terms, key=lambda t: t.cutoff))
    pressure = np.zeros(len(terms))
    for k, batch in enumerate(batches):
        rows, traces = _rows(terms, batch)
        for name, (design, label) in rows.items():
            blocks[name][0].append(design)
            blocks[name][1].append(label)
        if k == 0:
            pressure = traces
    design, label, errors = [], [], {}
    for name, (designs, labels) in blocks.items():
        if not labels or not sum(map(len, labels)):
            continue
        a, b = np.concatenate(designs), np.concatenate(labels)
        if name == "energy":
            a, b = a - a.mean(0), b - b.mean()
        scale = np.sqrt(weights[name] / max(np.sum(b**2), 1e-300))
        design.append(scale * a)
        label.append(scale * b)
        errors[name] = (a, b)
    if not design:
        raise ValueError("the data carry no energies, forces or magnetic forces")
    size = np.sqrt(np.sum(np.concatenate(design) ** 2, axis=0))
    design.append(np.sqrt(ridge) * np.diag(size))
    label.append(np.zeros(len(terms)))
    design.append(zero_pressure * pressure[None] / np.abs(pressure).max(initial=1e-300))
    label.append(np.zeros(1))
    matrix = np.concatenate(design) / size
    solution = np.linalg.lstsq(matrix, np.concatenate(label), rcond=None)[0] / size
    return LinearFit(
        solution,
        {
            name: (_rms(b), _rms(b - a @ solution)) for name, (a, b) in errors.items()
        },
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _rows(
    terms: Sequence[Potential], batch: Batch
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return design matrix and labels of one frame, and the terms' pressures."""
    parts = [term.evaluate(batch.system, batch.pairs) for term in terms]
    n = batch.system.n_atoms
    labels = {
        "energy": batch.energy / n,
        "forces": batch.forces,
        "magnetic_forces": batch.magnetic_forces,
    }
    rows = {}
    for name, label in labels.items():
        known = torch.isfinite(label)
        values = torch.stack([getattr(part, name)[known] for part in parts], dim=-1)
        rows[name] = (
            (values / n if name == "energy" else values).numpy(),
            label[known].numpy(),
        )
    traces = [float(torch.einsum("bii->", part.virial)) for part in parts]  # type: ignore[arg-type]
    return rows, np.array(traces)
