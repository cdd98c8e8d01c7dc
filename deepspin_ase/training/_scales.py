"""Scales of the moments of data sets, fitted to how energies depend on moments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..data import Dataset
from ..potentials import SpinMomentConfig, SpinMomentNetwork
from ..quantities import label_table
from ._batch import Batch, load_batches
from ._energies import ReferenceColumns, fit_reference_energies
from ._ridge import ROWS, NormalEquations, equations

logger = logging.getLogger(__name__)

#: Of a data set, at most so many frames and atoms are looked at.
MOST_FRAMES, MOST_ATOMS = 48, 3000

#: Relative to the largest eigenvalue of the normal matrix.
RIDGE = torch.tensor([1e-7], dtype=torch.float64)

#: Errors are weighed anew, and scales fitted, so many times.
ROUNDS = 2

#: Largest ratio of a scale to its first guess.
RANGE = 1.8

#: A scale is hardly determined if the loss rises by less than so many percent within
#: 10 % of it.
_FLAT = 5.0

#: A small linear model of the invariants of explicit spins, whatever is trained.
_SIZES = {"channels": 8, "spin_channels": 6, "angular": 4, "spin_angular": 4}
_SIZES |= {"degree": 2, "spin_degree": 1, "four_body": 0}


def fit_scales(
    training: Sequence[Dataset],
    fitted: Sequence[bool],
    free: Sequence[bool],
    weights: Mapping[str, float],
    names: Sequence[str],
) -> list[float]:
    """Return the scales of the moments of data sets.

    Those with which one linear model of all sets leaves the least errors, counted in
    units of what a first fit leaves of that label in that set, and in the units of each
    set. The search starts from the ratio of the root mean squares of the moments.

    Parameters
    ----------
    training : sequence of Dataset
        With their own moments.
    fitted : sequence of bool
        Whose scales are fitted; others are one.
    free : sequence of bool
        Whose energies have an offset.
    weights : mapping of str to float
        Of the quantities in the loss.
    names : sequence of str
        Of the sets, for messages.

    Returns
    -------
    list of float

    Raises
    ------
    ValueError
        If a set whose scale is fitted, or the others, have no moments.
    """
    scales = [1.0] * len(training)
    if not any(fitted):
        return scales
    size = [_typical_moment(data) for data in training]
    first = next((k for k, own in enumerate(fitted) if not own and size[k]), None)
    for k in (k for k, own in enumerate(fitted) if own):
        if first is None or not size[k]:
            raise ValueError(
                f"the scale of the moments of {names[k]} cannot be fitted: it "
                "needs moments there, and a set with moments whose scale is given"
            )
        scales[k] = size[first] / size[k]
    search = _Search(training, scales, free, weights)
    wanted = [k for k, own in enumerate(fitted) if own]
    for _ in range(ROUNDS):
        search.weigh(scales)
        for k in wanted:
            scales[k] = search.best(scales, k)
    for k in wanted:
        search.report(scales, k, names[k])
    return scales


def _typical_moment(dataset: Dataset) -> float:
    """Return the root mean square of the moments of those atoms that have one, mu_B."""
    squares = np.concatenate([(f.spins**2).sum(axis=1) for f in dataset])
    found = squares[squares > 0.0]
    return float(np.sqrt(found.mean())) if len(found) else 0.0


class _Search:
    """Losses of a linear model of all sets as functions of scales."""

    def __init__(
        self,
        training: Sequence[Dataset],
        scales: Sequence[float],
        free: Sequence[bool],
        weights: Mapping[str, float],
    ) -> None:
        whole = sum(training[1:], start=training[0])
        config = SpinMomentConfig.from_dict(
            {
                "elements": list(whole.elements),
                "magnetic": list(whole.magnetic_elements),
                **_SIZES,
            }
        )
        self.network = SpinMomentNetwork(config).requires_grad_(False)
        self.weights = weights
        self.factors = [torch.ones(len(label_table())) for _ in training]
        self.batches = [
            load_batches(_thinned(data), self.network, member=k)
            for k, data in enumerate(training)
        ]
        every = [b for batches in self.batches for b in batches]
        self.columns = ReferenceColumns(self.network.species, every, free)
        start = [_scaled(b, scales[int(b.sets)]) for b in every]
        self.network.fit_statistics((b.system, b.pairs) for b in start)
        self.network.start_from_zero()
        self.about = fit_reference_energies(self.network, every, self.columns)

    def _sums(self, k: int, scale: float) -> NormalEquations:
        result = NormalEquations.of(self.network, self.columns)
        for batch in self.batches[k]:
            weighed = batch.replace(weights=batch.weights * self.factors[k])
            result.add(*self._equations(_scaled(weighed, scale)))
        return result

    def _equations(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return equations(self.network, batch, self.about, self.columns, self.weights)

    def weigh(self, scales: Sequence[float]) -> None:
        """Weigh the labels of every set by the errors that a fit leaves of them."""
        whole = NormalEquations.of(self.network, self.columns)
        for k, scale in enumerate(scales):
            whole = whole.joined(self._sums(k, scale))
        solution = whole.solutions(RIDGE)[:, 0]
        names = list(label_table())
        for k, scale in enumerate(scales):
            left = {name: [0.0] for name in names}
            for batch in self.batches[k]:
                rows, labels, weights = self._equations(_scaled(batch, scale))
                squares = weights * (rows @ solution - labels).square()
                n = batch.system.n_atoms
                parts = squares.split([1, 3 * n, 3 * n, 9])
                for name, part in zip(ROWS, parts, strict=True):
                    if bool(torch.isfinite(part).any()):
                        left[name].append(float(part.nansum()))
            mean = [sum(some) / max(1, len(some) - 1) for some in left.values()]
            self.factors[k] = torch.tensor([1.0 / x if x > 0.0 else 0.0 for x in mean])

    def _loss(self, scales: Sequence[float], k: int) -> Callable[[float], float]:
        """Return the loss as a function of the logarithm of the scale of set ``k``."""
        rest = NormalEquations.of(self.network, self.columns)
        for other, scale in enumerate(scales):
            if other != k:
                rest = rest.joined(self._sums(other, scale))

        def loss(logarithm: float) -> float:
            whole = rest.joined(self._sums(k, float(np.exp(logarithm))))
            return float(whole.loss(whole.solutions(RIDGE)))

        return loss

    def best(self, scales: Sequence[float], k: int) -> float:
        """Return the scale of set ``k``, those of the others being given."""
        center = float(np.log(scales[k]))
        found = minimize_scalar(
            self._loss(scales, k),
            bounds=(center - np.log(RANGE), center + np.log(RANGE)),
            method="bounded",
            options={"xatol": 1e-3},
        )
        return float(np.exp(found.x))

    def report(self, scales: Sequence[float], k: int, name: str) -> None:
        """Log a scale and how well it is determined."""
        loss, at = self._loss(scales, k), float(np.log(scales[k]))
        least, less, more = (loss(at + step) for step in (0.0, -0.1, 0.1))
        rise = 100.0 * (min(less, more) / least - 1.0)
        logger.info(
            "scale of the moments of %s: %.3f; loss larger by %.2g %% with 10 %% more "
            "or less",
            name,
            scales[k],
            rise,
        )
        if rise < _FLAT:
            logger.warning(
                "the data hardly determine the scale of the moments of %s (%.2f): "
                "check it against how codes define moments, and give it as a number",
                name,
                scales[k],
            )


def _scaled(batch: Batch, scale: float) -> Batch:
    """Return a batch with moments scaled, and the same weight of magnetic errors."""
    column = list(label_table()).index("magnetic_forces")
    weights = batch.weights.clone()
    weights[:, column] *= scale**2
    return batch.replace(
        system=batch.system.replace(spins=scale * batch.system.spins),
        magnetic_forces=batch.magnetic_forces / scale,
        weights=weights,
    )


def _thinned(dataset: Dataset) -> Dataset:
    """Return evenly spaced frames, as many as are looked at."""
    atoms = sum(frame.n_atoms for frame in dataset) / len(dataset)
    count = max(2, min(len(dataset), MOST_FRAMES, int(MOST_ATOMS / atoms)))
    return dataset[np.linspace(0, len(dataset) - 1, count).round().astype(int)]
