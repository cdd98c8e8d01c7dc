"""Ridge regression of a network's linear term, by streamed normal equations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from scipy.sparse.linalg import eigsh
from torch import Tensor

from .._result import Result
from .._validate import positive
from ..potentials import Trainable
from ..quantities import label_table
from ._batch import Batch, across_moments
from ._energies import (
    ReferenceColumns,
    ReferenceEnergies,
    fit_reference_energies,
)

logger = logging.getLogger(__name__)

#: Of a data set every so many frames one is held back, for the choice of the ridge.
HELD_BACK = 6

#: Ridges that are tried, relative to the largest eigenvalue of the normal matrix. Below
#: the least, the solution is lost in the round-off of the matrix.
RIDGES = 10.0 ** torch.arange(-15.0, -1.0, 0.5, dtype=torch.float64)


#: Rows of equations that wait for being summed up together.
BLOCK = 2000

#: Labels in the order of the rows of a design.
ROWS = ("energy", "forces", "magnetic_forces", "virial")


@dataclass(frozen=True)
class RidgeFit(Result):
    """Result of :func:`fit_linear_term`.

    Attributes
    ----------
    ridge : float
        Relative to the largest eigenvalue of the normal matrix.
    loss_before, loss : float
        Mean loss of the frames that were held back, without and with a linear term
        that does not know them; of all frames where these are few or the ridge was
        given.
    labels, coefficients : int
        Their numbers.
    references : ReferenceEnergies
        Of the elements and of data sets, fitted with the linear term.
    """

    ridge: float
    loss_before: float
    loss: float
    labels: int
    coefficients: int
    references: ReferenceEnergies


class NormalEquations:
    """Sums of a least-squares problem: |A x - b|^2 = x.M.x - 2 v.x + s.

    The ridge holds the first unknowns small, in units of what is ``expected`` of them.
    The last ``free`` ones are free.
    """

    def __init__(self, expected: Tensor, free: int) -> None:
        size = len(expected) + free
        self.expected = expected
        self.free = free
        self._matrix = torch.zeros(size, size, dtype=torch.float64)
        self._rows: list[Tensor] = []
        self.vector = torch.zeros(size, dtype=torch.float64)
        self.square = 0.0
        self.frames = self.labels = 0

    @classmethod
    def of(cls, network: Trainable, columns: ReferenceColumns) -> NormalEquations:
        """Return empty sums for a linear term and reference energies."""
        return cls(network.linear_sizes(), columns.size)

    def add(self, rows: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Add weighted rows of one frame; labels that are NaN are left out."""
        known = torch.isfinite(labels) & (weights > 0)
        root = weights[known].sqrt()
        a, b = rows[known] * root[:, None], labels[known] * root
        self._rows.append(a)
        self.vector.addmv_(a.T, b)
        self.square += float(b @ b)
        self.frames += 1
        self.labels += int(known.sum())
        if sum(len(x) for x in self._rows) >= BLOCK:
            self._sum_up()

    def _sum_up(self) -> None:
        """Add the products of waiting rows: many at a time, and half of the matrix."""
        if self._rows:
            rows = torch.cat(self._rows).numpy()
            # Transposes are in the order of BLAS, so that nothing is copied.
            total = self._matrix.numpy().T
            dsyrk(1.0, rows.T, beta=1.0, c=total, lower=True, overwrite_c=True)
            self._rows = []

    @property
    def matrix(self) -> Tensor:
        """The normal matrix A^T A, (size, size)."""
        self._sum_up()
        upper = self._matrix.triu()
        return upper + upper.triu(1).T

    def joined(self, other: NormalEquations) -> NormalEquations:
        """Return the sums of both."""
        result = NormalEquations(self.expected, self.free)
        for part in (self, other):
            part._sum_up()
            result._matrix += part._matrix
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
        matrix = self.matrix
        n = len(self.vector) - self.free
        mixed = matrix[:n, n:]
        # Free unknowns follow from the others, and are eliminated.
        free = torch.linalg.pinv(matrix[n:, n:], hermitian=True)
        scale = self.expected
        right = scale * (self.vector[:n] - mixed @ free @ self.vector[n:])
        held = scale[:, None] * (matrix[:n, :n] - mixed @ free @ mixed.T) * scale
        found = scale[:, None] * _ridge_solutions(held, right, ridges)
        rest = free @ (self.vector[n:, None] - mixed.T @ found)
        return torch.cat([found, rest])


def _ridge_solutions(matrix: Tensor, right: Tensor, ridges: Tensor) -> Tensor:
    """Return (M + ridge times its largest eigenvalue)^-1 b for ridges (n,), (P, n)."""
    if len(ridges) == 1 and len(matrix) > 2:
        largest = eigsh(
            matrix.numpy(), k=1, v0=np.ones(len(matrix)), return_eigenvectors=False
        )
        strong = matrix.clone()
        strong.diagonal().add_(float(ridges) * float(largest[0]))
        factor, failed = torch.linalg.cholesky_ex(strong)
        if not failed:
            return torch.cholesky_solve(right[:, None], factor)
    values, vectors = torch.linalg.eigh(matrix)
    values = values.clamp_min(0.0)
    inverse = 1.0 / (values[:, None] + values[-1] * ridges)
    return vectors @ ((vectors.T @ right)[:, None] * inverse)


def fit_linear_term(
    network: Trainable,
    batches: Sequence[Batch],
    weights: Mapping[str, float],
    columns: ReferenceColumns | None = None,
    *,
    ridge: float | None = None,
) -> RidgeFit:
    r"""Set a network's linear term to the solution of a ridge regression.

    Minimizes the training loss over all labels, which is quadratic in the coefficients,
    together with the energies of the elements and the offsets of data sets, on which
    there is no ridge: with the weighted equations A x = b and the largest eigenvalue
    l of the normal matrix,

    .. math:: |A x - b|^2 + \text{ridge} \; l \sum_k (x_k / s_k)^2 .

    The ridge holds coefficients small in units s of :meth:`Trainable.linear_sizes`,
    which the normal matrix is multiplied with, too, and from which reference energies
    are eliminated. If it is not given, it is that which predicts frames best that are
    held back, one in six of each data set; the coefficients are then fitted to all.
    Memory is that of a few matrices of coefficients by coefficients, whatever the
    number of frames.

    Parameters
    ----------
    network : Trainable
        With a linear term (:meth:`Trainable.linear_term`); the rest of it is zero.
    batches : sequence of Batch
        Single frames in float64 on the CPU.
    weights : mapping of str to float
        Of the quantities in the loss, see :func:`training_loss`.
    columns : ReferenceColumns, optional
        Reference energies; by default those of the elements.
    ridge : float, optional
        Positive.

    Raises
    ------
    ValueError
        If the network has no linear term, or the ridge is not positive.
    """
    linear = network.linear_term()
    if linear is None:
        raise ValueError(f"{type(network).__name__} has no linear term")
    if ridge is not None:
        ridge = positive("ridge", ridge)
    columns = columns or ReferenceColumns(network.species, batches)
    fitted, held = (NormalEquations.of(network, columns) for _ in range(2))
    about = fit_reference_energies(network, batches, columns)
    if ridge is None and len(batches) < HELD_BACK:
        ridge = float(RIDGES[len(RIDGES) // 2])
    seen: Counter[int] = Counter()
    for batch in batches:
        seen[int(batch.sets)] += 1
        kept_back = ridge is None and seen[int(batch.sets)] % HELD_BACK == 0
        part = held if kept_back else fitted
        part.add(*equations(network, batch, about, columns, weights))
    if ridge is None:
        losses = held.loss(fitted.solutions(RIDGES))
        best = int(losses.argmin())
        ridge, loss = float(RIDGES[best]), float(losses[best])
        nothing = held.square / max(1, held.frames)
        whole = fitted.joined(held)
        solution = whole.solutions(torch.tensor([ridge]))
    else:
        whole = fitted
        solution = whole.solutions(torch.tensor([ridge]))
        loss, nothing = float(whole.loss(solution)), whole.square / len(batches)
    with torch.no_grad():
        linear.copy_(solution[: linear.numel(), 0].view_as(linear))
    found = RidgeFit(
        ridge=ridge,
        loss_before=nothing,
        loss=loss,
        labels=whole.labels,
        coefficients=linear.numel(),
        references=about + columns.energies(solution[linear.numel() :, 0]),
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
        "linear term: %d coefficients of %d labels by ridge regression (%.2g); loss of "
        "%s %.3e, from %.3e",
        found.coefficients,
        found.labels,
        found.ridge,
        "frames held back" if held.frames else "all frames",
        found.loss,
        found.loss_before,
    )
    return found


def equations(
    network: Trainable,
    batch: Batch,
    about: ReferenceEnergies,
    columns: ReferenceColumns,
    weights: Mapping[str, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, labels and weights of the equations of one structure.

    Columns of reference energies are behind those of the linear term. Labels have the
    signs of derivatives; energies are taken about given references.
    """
    n = batch.system.n_atoms
    rows = network.design(batch.system, batch.pairs)
    magnetic = slice(1 + 3 * n, 1 + 6 * n)
    if not bool(batch.longitudinal.all()):
        vectors = rows[magnetic].reshape(n, 3, -1).transpose(1, 2)
        vectors = across_moments(vectors, batch).transpose(1, 2)
        rows[magnetic] = vectors.reshape(3 * n, -1)
    parts = (
        (batch.energy - about.of(batch), 1.0 / n),
        (-batch.forces, None),
        (-across_moments(batch.magnetic_forces, batch), None),
        (-batch.virial, 1.0 / (9 * n)),
    )
    known = torch.isfinite(batch.magnetic_forces[:, 0])
    less = {"magnetic_forces": int((known & ~batch.longitudinal).sum())}
    order = list(label_table())
    labels, factors = [], []
    for name, (label, factor) in zip(ROWS, parts, strict=True):
        count = int(torch.isfinite(label).sum()) - less.get(name, 0)
        each = 1.0 / max(1, count) if factor is None else factor
        each *= weights.get(name, 0.0) * float(batch.weights[0, order.index(name)])
        labels.append(label.double().flatten())
        factors.append(torch.full_like(labels[-1], each))
    constants = torch.zeros(len(rows), columns.size, dtype=torch.float64)
    constants[0] = columns.rows([batch])[0]
    rows = torch.cat([rows, constants], dim=1)
    return rows, torch.cat(labels), torch.cat(factors)
