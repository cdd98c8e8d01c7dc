"""Ridge regression of a network's linear term, by streamed normal equations."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..potentials import Trainable
from ._batch import Batch
from ._energies import energy_of_elements, fit_element_energies

logger = logging.getLogger(__name__)

#: Every so many frames one is held back, for the choice of the ridge.
HELD_BACK = 6

#: Ridges that are tried, relative to the largest eigenvalue of the normal matrix. Below
#: the least, the solution is lost in the round-off of the matrix.
RIDGES = 10.0 ** torch.arange(-13.0, -1.0, 0.5, dtype=torch.float64)


@dataclass(frozen=True)
class RidgeFit:
    """Result of :func:`fit_linear_term`.

    Attributes
    ----------
    ridge : float
        Relative to the largest eigenvalue of the normal matrix.
    loss_before, loss : float
        Mean loss of the frames that were held back, without and with a linear term
        that does not know them; of all frames where these are few.
    labels, coefficients : int
        Their numbers.
    """

    ridge: float
    loss_before: float
    loss: float
    labels: int
    coefficients: int


class _NormalEquations:
    """Sums of a least-squares problem: |A x - b|^2 = x.M.x - 2 v.x + s."""

    def __init__(self, size: int) -> None:
        self.matrix = torch.zeros(size, size, dtype=torch.float64)
        self.vector = torch.zeros(size, dtype=torch.float64)
        self.square = 0.0
        self.frames = self.labels = 0

    def add(self, rows: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Add weighted rows of one frame; labels that are NaN are left out."""
        known = torch.isfinite(labels) & (weights > 0)
        root = weights[known].sqrt()
        a, b = rows[known] * root[:, None], labels[known] * root
        self.matrix.addmm_(a.T, a)
        self.vector.addmv_(a.T, b)
        self.square += float(b @ b)
        self.frames += 1
        self.labels += int(known.sum())

    def joined(self, other: _NormalEquations) -> _NormalEquations:
        """Return the sums of both."""
        result = _NormalEquations(len(self.vector))
        result.matrix = self.matrix + other.matrix
        result.vector = self.vector + other.vector
        result.square = self.square + other.square
        result.frames = self.frames + other.frames
        result.labels = self.labels + other.labels
        return result

    def loss(self, solutions: Tensor) -> Tensor:
        """Return the mean losses (n,) of solutions (size, n)."""
        quadratic = torch.einsum("pn,pq,qn->n", solutions, self.matrix, solutions)
        total = quadratic - 2.0 * self.vector @ solutions + self.square
        return total / max(1, self.frames)

    def solutions(self, ridges: Tensor) -> Tensor:
        """Return the solutions (size, n) for relative ridges (n,)."""
        values, vectors = torch.linalg.eigh(self.matrix)
        values = values.clamp_min(0.0)
        inverse = 1.0 / (values[:, None] + values[-1] * ridges)
        return vectors @ ((vectors.T @ self.vector)[:, None] * inverse)


def fit_linear_term(
    network: Trainable, batches: Sequence[Batch], weights: Mapping[str, float]
) -> RidgeFit:
    """Set a network's linear term to the solution of a ridge regression.

    Minimizes the training loss over all labels, which is quadratic in the coefficients;
    energies are taken about those of the elements. The strength of the ridge is that
    which predicts frames best that are held back; the coefficients are then fitted to
    all. Memory is that of a few matrices of coefficients by coefficients, whatever the
    number of frames.

    Parameters
    ----------
    network : Trainable
        With a linear term (:meth:`Trainable.linear_term`); the rest of it is zero.
    batches : sequence of Batch
        Single frames in float64 on the CPU.
    weights : mapping of str to float
        Of the quantities in the loss, see :func:`training_loss`.

    Raises
    ------
    ValueError
        If the network has no linear term.
    """
    linear = network.linear_term()
    if linear is None:
        raise ValueError(f"{type(network).__name__} has no linear term")
    fitted, held = _NormalEquations(linear.numel()), _NormalEquations(linear.numel())
    elements = fit_element_energies(network, batches)
    few = len(batches) < HELD_BACK
    for k, batch in enumerate(batches):
        rows = network.design(batch.system, batch.pairs)
        part = held if k % HELD_BACK == HELD_BACK - 1 and not few else fitted
        offset = energy_of_elements(batch.system, elements)
        part.add(rows, *_labels(batch.replace(energy=batch.energy - offset), weights))
    tried = fitted.solutions(RIDGES)
    losses = (fitted if few else held).loss(tried)
    best = len(RIDGES) // 2 if few else int(losses.argmin())
    whole = fitted.joined(held)
    solution = whole.solutions(RIDGES[best : best + 1])[:, 0]
    with torch.no_grad():
        linear.copy_(solution.view_as(linear))
    nothing = (fitted if few else held).square / max(
        1, (fitted if few else held).frames
    )
    found = RidgeFit(
        ridge=float(RIDGES[best]),
        loss_before=nothing,
        loss=float(losses[best]),
        labels=whole.labels,
        coefficients=linear.numel(),
    )
    if found.labels < found.coefficients:
        logger.warning(
            "%d labels do not determine %d coefficients: the fit is regularized, and "
            "errors on other structures can be much larger; add frames, or forces and "
            "magnetic forces",
            found.labels,
            found.coefficients,
        )
    logger.info(
        "linear term: %d coefficients of %d labels by ridge regression (%.0e); loss of "
        "frames held back %.3e, from %.3e",
        found.coefficients,
        found.labels,
        found.ridge,
        found.loss,
        found.loss_before,
    )
    return found


def _labels(batch: Batch, weights: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """Return labels and weights of the rows of a design, with signs of derivatives."""
    n = batch.system.n_atoms
    parts = {
        "energy": (batch.energy, 1.0 / n),
        "forces": (-batch.forces.flatten(), None),
        "magnetic_forces": (-batch.magnetic_forces.flatten(), None),
        "virial": (-batch.virial.flatten(), 1.0 / (9 * n)),
    }
    labels, factors = [], []
    for name, (label, factor) in parts.items():
        known = int(torch.isfinite(label).sum())
        each = 1.0 / max(1, known) if factor is None else factor
        labels.append(label.double())
        factors.append(torch.full_like(labels[-1], each * weights.get(name, 0.0)))
    return torch.cat(labels), torch.cat(factors)
