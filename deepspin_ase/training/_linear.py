"""Hamiltonians and analytic baselines fitted to labels by linear least squares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .._result import Result
from ..data import Dataset
from ..potentials import (
    Heisenberg,
    Mixture,
    PairPotential,
    Potential,
    Radial,
    SmoothShells,
    Sum,
)
from ._batch import Batch, load_batches


@dataclass(frozen=True)
class LinearFit(Result):
    """Coefficients of a Hamiltonian, and the errors that it leaves.

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

    def __str__(self) -> str:
        return "\n".join(
            f"{name:16s} rms of labels {1e3 * before:7.3f} m, left {1e3 * after:7.3f} m"
            for name, (before, after) in self.rmse.items()
        )


Bond = tuple[str, str]


@dataclass(frozen=True)
class Baseline:
    """Pair potentials and an exchange, fitted by :func:`fit_baseline`.

    Attributes
    ----------
    lattice : tuple of PairPotential
        One per bond.
    exchange : Heisenberg
    fit : LinearFit
        Its coefficients are the strength of the Coulomb term, those of the near
        terms, and J (eV) and dJ/dr (eV/A) of each shell.
    """

    lattice: tuple[PairPotential, ...]
    exchange: Heisenberg
    fit: LinearFit


def fit_baseline(
    dataset: Dataset,
    *,
    near: Mapping[Bond, Sequence[Radial]],
    coulomb: Radial,
    charges: Mapping[Bond, float],
    magnetic: Bond,
    shells: Sequence[float],
    width: float,
    weights: dict[str, float] | None = None,
    ridge: float = 1e-6,
    zero_pressure: float = 0.0,
) -> Baseline:
    """Fit pair potentials and an exchange that a network can correct.

    Per bond a sum of radial functions with free coefficients and a Coulomb term, whose
    strength all bonds share; between magnetic atoms J and dJ/dr on shells of distance.

    Parameters
    ----------
    dataset : Dataset
    near : dict of sequences of Radial
        Radial functions by bond (a pair of elements), such as repulsions.
    coulomb : Radial
        Of two unit charges.
    charges : dict of float
        Product of the charges by bond, up to a common factor.
    magnetic : (str, str)
        The bond that has the exchange.
    shells : sequence of float
        Distances, A.
    width : float
        Width of the shells, A; see :class:`~deepspin_ase.potentials.SmoothShells`.
    weights, ridge, zero_pressure
        As in :func:`fit_linear`.

    Raises
    ------
    ValueError
        If the bonds of ``near`` and ``charges`` differ; see also :func:`fit_linear`.
    """
    if near.keys() != charges.keys():
        raise ValueError(
            f"near and charges must name the same bonds; got {list(near)} and "
            f"{list(charges)}"
        )

    def exchange(rows: Sequence[tuple[float, float, float]]) -> Heisenberg:
        return Heisenberg(SmoothShells(tuple(rows), width), elements=magnetic)

    radials = [(bond, radial) for bond, some in near.items() for radial in some]
    electric = [
        PairPotential(Mixture([(charges[bond], coulomb)]), elements=bond)
        for bond in near
    ]
    terms: list[Potential] = [Sum(electric)]
    terms += [PairPotential(radial, elements=bond) for bond, radial in radials]
    terms += [
        exchange([(d, j, s)]) for d in shells for j, s in ((1.0, 0.0), (0.0, 1.0))
    ]
    fit = fit_linear(
        terms, dataset, weights=weights, ridge=ridge, zero_pressure=zero_pressure
    )
    strength, *rest = fit.coefficients.tolist()
    found = zip(radials, rest, strict=False)
    mixtures = {bond: [(strength * charges[bond], coulomb)] for bond in near}
    for (bond, radial), weight in found:
        mixtures[bond].append((weight, radial))
    coupling = rest[len(radials) :]
    rows = zip(shells, coupling[::2], coupling[1::2], strict=True)
    return Baseline(
        tuple(PairPotential(Mixture(m), elements=bond) for bond, m in mixtures.items()),
        exchange(list(rows)),
        fit,
    )


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
        If the data carry no label that is fitted, or a weight is of another.
    """
    known = dict.fromkeys(("energy", "forces", "magnetic_forces"), 1.0)
    if unknown := set(weights or {}) - set(known):
        raise ValueError(f"unknown weights {sorted(unknown)}; known: {sorted(known)}")
    weights = known | (weights or {})
    rows, pressure = _all_rows(terms, dataset)
    if not rows:
        raise ValueError(
            "the data carry no energies, forces or magnetic forces that vary"
        )
    matrices, labels = [], []
    for name, (a, b) in rows.items():
        scale = np.sqrt(weights[name] / np.sum(b**2))
        matrices.append(scale * a)
        labels.append(scale * b)
    size = np.sqrt(np.sum(np.concatenate(matrices) ** 2, axis=0))
    size[size == 0.0] = 1.0
    matrices += [
        np.sqrt(ridge) * np.diag(size),
        zero_pressure * pressure[None] / np.abs(pressure).max(initial=1e-300),
    ]
    labels += [np.zeros(len(terms)), np.zeros(1)]
    matrix, label = np.concatenate(matrices) / size, np.concatenate(labels)
    solution = np.linalg.lstsq(matrix, label, rcond=None)[0] / size
    errors = {name: (_rms(b), _rms(b - a @ solution)) for name, (a, b) in rows.items()}
    return LinearFit(solution, errors)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


Rows = dict[str, tuple[np.ndarray, np.ndarray]]


def _all_rows(terms: Sequence[Potential], dataset: Dataset) -> tuple[Rows, np.ndarray]:
    """Return design matrix and labels by kind, and the pressures of frame 0."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    pressure = np.zeros(len(terms))
    for k, batch in enumerate(load_batches(dataset, Sum(terms))):
        rows, traces = _rows(terms, batch)
        for name, part in rows.items():
            parts.setdefault(name, []).append(part)
        if k == 0:
            pressure = traces
    result = {}
    for name, found in parts.items():
        a, b = (np.concatenate(some) for some in zip(*found, strict=True))
        if name == "energy" and len(b):
            a, b = a - a.mean(0), b - b.mean()
        if b.any():
            result[name] = (a, b)
    return result, pressure


def _rows(terms: Sequence[Potential], batch: Batch) -> tuple[Rows, np.ndarray]:
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
    virials = [part.virial for part in parts if part.virial is not None]
    return rows, np.array([float(virial.diagonal(0, 1, 2).sum()) for virial in virials])
