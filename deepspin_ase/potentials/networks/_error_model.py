"""Errors of a network, estimated from how far atoms are from its training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ...system import System

#: Principal components of the features whose variances are told apart, and random
#: directions that stand for all others.
COMPONENTS, RANDOM = 16, 8

#: Atoms of an element from which on it has a calibration of its own.
LEAST = 100


@dataclass(frozen=True)
class ErrorModel:
    """Standard deviations of a network's errors, by atom and structure.

    The features z of an atom, standardized, have a distance u from those of the
    training data: u^2 is the mean over principal components of z_k^2/var_k plus
    |z|^2/var of what is left (T^2 and Q of Hotelling), the latter by projection on a
    few random directions (Johnson and Lindenstrauss). Variances of the components of an
    atom's force and magnetic force, and of the energy per atom, are a + b u^2, fitted
    by maximum likelihood to the errors of frames that the network was not trained on.

    For energies of atoms, u is the prediction rigidity of a last layer (Bigi, Chong,
    Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024)) with a covariance
    of few components.

    Attributes
    ----------
    matrix : (n_types, K, C) tensor
        u^2 = |features @ matrix + offset|^2.
    offset : (n_types, C) tensor
    variances : dict of (n_types, 2) tensors
        a and b of ``energy``, per atom, eV^2, ``forces``, (eV/A)^2, and
        ``magnetic_forces_transverse`` and ``_longitudinal``, (eV/mu_B)^2.
    """

    matrix: Tensor
    offset: Tensor
    variances: Mapping[str, Tensor]

    @classmethod
    def of(
        cls,
        features: Iterable[tuple[Tensor, Tensor]],
        mean: Tensor,
        deviation: Tensor,
        *,
        seed: int = 0,
    ) -> ErrorModel:
        """Return a measure of distance, not calibrated.

        Parameters
        ----------
        features : iterable of ((N, K), (N,)) tensors
            Features and types of the atoms of training structures.
        mean, deviation : (n_types, K) tensors
            Of the features.
        seed : int
            Of the random directions.
        """
        n_types, k = mean.shape
        mean, deviation = mean.double(), deviation.double()
        products = torch.zeros(n_types, k, k, dtype=torch.float64)
        counts = torch.zeros(n_types, dtype=torch.float64)
        for values, types in features:
            z = (values.double() - mean[types]) / deviation[types]
            for a in range(n_types):
                own = z[types == a]
                products[a].addmm_(own.T, own)
                counts[a] += len(own)
        products /= counts.clamp_min(1.0)[:, None, None]
        generator = torch.Generator().manual_seed(seed)
        matrices = torch.stack([_directions(x, generator) for x in products])
        matrices = matrices / deviation[:, :, None]
        return cls(matrices, -torch.einsum("tk,tkc->tc", mean, matrices), {})

    def squared_distances(self, features: Tensor, types: Tensor) -> Tensor:
        """Return u^2 (N,) of atoms with features (N, K)."""
        matrix, offset = self.matrix.to(features), self.offset.to(features)
        result = torch.zeros_like(features[:, 0])
        for a in range(len(matrix)):
            rows = (types == a).nonzero().flatten() if len(matrix) > 1 else None
            own = features if rows is None else features[rows]
            squares = torch.addmm(offset[a], own, matrix[a]).square().sum(1)
            result = squares if rows is None else result.index_add(0, rows, squares)
        return result

    def calibrated(
        self,
        errors: Sequence[tuple[System, Tensor, Tensor, Mapping[str, Tensor]]],
    ) -> ErrorModel:
        """Return a model of the errors of structures.

        Parameters
        ----------
        errors : sequence of (System, (N, K) features, (N,) types, dict of errors)
            Of structures that the network was not trained on: predictions minus labels,
            by the names in :attr:`variances`; NaN where there is no label.
        """
        found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        for system, features, types, own in errors:
            squares = self.squared_distances(features, types).double()
            for name, values in own.items():
                if name == "energy":
                    counts = system.counts()
                    part = (
                        torch.zeros_like(counts),
                        system.sum(squares) / counts,
                        (values / counts)[:, None],
                    )
                else:
                    part = types, squares, values
                found.setdefault(name, []).append(part)
        variances = {}
        for name, parts in found.items():
            kinds, distances, values = (torch.cat(x) for x in zip(*parts, strict=True))
            known = torch.isfinite(values).all(dim=1)
            if not known.any():
                continue
            kinds, distances = kinds[known], distances[known]
            mean = values[known].double().square().mean(1)
            rows = torch.tensor(_variance(distances, mean)).repeat(len(self.matrix), 1)
            for a in range(len(rows)):
                same = kinds == a
                if name != "energy" and int(same.sum()) >= LEAST:
                    rows[a] = torch.tensor(_variance(distances[same], mean[same]))
            variances[name] = rows
        return ErrorModel(self.matrix, self.offset, variances)

    def deviations(
        self, features: Tensor, types: Tensor, system: System
    ) -> dict[str, Tensor]:
        """Return standard deviations by the names of the quantities.

        Of the energy (B,), eV, as if errors of equal atoms were equal, and of the
        components (N, 3) of forces, eV/A, equal for the three of an atom, and magnetic
        forces, eV/mu_B, zero where an atom has no moment.
        """
        squares = self.squared_distances(features, types).to(system.dtype)
        if not self.variances:
            return {}
        floor, slope = (x.to(squares) for x in self._rows)
        if len(self.matrix) > 1:
            floor, slope = floor[:, types], slope[:, types]
        rows = torch.addcmul(floor, slope, squares)
        variances = dict(zip(self.variances, rows, strict=True))
        found = {}
        if "energy" in variances:
            total = system.counts() * system.sum(variances["energy"])
            found["energy"] = total.sqrt()
        if "forces" in variances:
            found["forces"] = variances["forces"].sqrt()[:, None].repeat(1, 3)
        if "magnetic_forces_transverse" in variances:
            across = variances["magnetic_forces_transverse"]
            along = variances.get("magnetic_forces_longitudinal", across)
            axes = system.spins.square()
            lengths = axes.sum(1, keepdim=True)
            axes = axes / lengths.clamp_min(1e-300)
            each = torch.addcmul(across[:, None], (along - across)[:, None], axes)
            found["magnetic_forces"] = (each * (lengths > 0.0)).sqrt()
        return found

    @cached_property
    def _rows(self) -> tuple[Tensor, ...]:
        """All a and all b (quantities, n_types)."""
        return torch.stack(list(self.variances.values())).unbind(2)

    def to_data(self) -> dict[str, Any]:
        """Return plain data and tensors, of which :meth:`from_data` makes a model."""
        return {
            "matrix": self.matrix,
            "offset": self.offset,
            "variances": dict(self.variances),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> ErrorModel:
        """Return the model that :meth:`to_data` took apart."""
        return cls(**data)


def _directions(products: Tensor, generator: torch.Generator) -> Tensor:
    """Return the map (K, C) of standardized features of which u^2 is the square."""
    values, vectors = torch.linalg.eigh(products)
    n = max(1, min(COMPONENTS, int((values > 1e-10 * values[-1]).sum())))
    least = max(1e-12 * float(values[-1]), 1e-12)
    main = vectors[:, -n:] / (n * values[-n:].clamp_min(least)).sqrt()
    rest, left = vectors[:, :-n], float(values[:-n].clamp_min(0.0).sum())
    random = torch.randn(
        rest.shape[1], RANDOM, generator=generator, dtype=torch.float64
    )
    # Where features do not vary at all, the least variance of the others counts.
    scale = max(left, rest.shape[1] * 1e-6 * float(values[-n:].mean()), least)
    other = rest @ random / (RANDOM * scale) ** 0.5
    filling = COMPONENTS - n
    return torch.nn.functional.pad(torch.cat([main, other], dim=1), (0, filling))


def _variance(squares: Tensor, errors: Tensor) -> tuple[float, float]:
    """Return a and b of the variance a + b u^2 of errors, whose squares are given.

    Maximum likelihood of normal errors.
    """
    u, e = squares.numpy(), errors.numpy()
    mean, size = max(float(e.mean()), 1e-300), max(float(u.mean()), 1e-300)

    def loss(logarithms: np.ndarray) -> float:
        a, b = np.exp(logarithms)
        variance = a + b * u / size
        return float(np.mean(np.log(variance) + e / mean / variance))

    best = minimize(loss, np.log([0.5, 0.5]), method="Nelder-Mead").x
    a, b = np.exp(np.clip(best, -30.0, 30.0)) * mean
    return float(a), float(b / size)
