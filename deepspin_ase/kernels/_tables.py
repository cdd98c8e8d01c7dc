"""Smooth functions as tables of quintic Hermite polynomials.

A range is given in sections, and each section is divided into as many equal cells as
it takes to be exact. In a cell, value and first two derivatives at both ends fix a
polynomial of degree five, so that the tabulated function has two continuous
derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Value, first and second derivative, each (n, width).
Jet = tuple[Tensor, Tensor, Tensor]

#: Coefficients of a polynomial of degree five.
POWERS = 6

#: Fewest cells of a section, and most: what needs more has kinks.
FEWEST_CELLS, MOST_CELLS = 4, 1024

#: The ends of a section are looked at from inside, by this part of its length.
INSIDE = 1e-13


class NotTabulable(ValueError):
    """A function is too rough for a table."""


def elementwise_jet(function: Callable[[Tensor], Tensor], x: Tensor) -> Jet:
    """Return a function of each element and its first two derivatives."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
        first = second = torch.zeros_like(x)
        if value.requires_grad:
            (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        if first.requires_grad:
            (second,) = torch.autograd.grad(first.sum(), x)
    return value.detach(), first.detach(), second


@dataclass(frozen=True)
class Table:
    """A tabulated function of one number.

    Attributes
    ----------
    coefficients : (n, 6, width) tensor
        Polynomials by rising power of a variable that runs from 0 to 1 through each
        cell, section by section.
    cells : (n_sections,) int64 tensor
        Number of cells of each section.
    """

    coefficients: Tensor
    cells: Tensor


class Curve:
    """A function of one number with values of some width."""

    def jet(self, x: Tensor) -> Jet:
        """Return values and derivatives (n, width) at x (n,)."""
        raise NotImplementedError

    def weights(self, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Return what errors (n,) of the slope at x (n,) are multiplied with."""
        raise NotImplementedError

    def tabulate(self, low: Tensor, length: Tensor, tolerance: float) -> Table:
        """Tabulate in sections that begin at ``low`` and have ``length``, (n,).

        Parameters
        ----------
        tolerance : float
            Largest weighted error of the derivative.

        Raises
        ------
        NotTabulable
            If a section needs too many cells, or values are not finite.
        """
        count = torch.full((len(low),), FEWEST_CELLS)
        found: list[Tensor] = [low] * len(low)
        left = torch.arange(len(low))
        while len(left):
            n = int(count[left[0]])
            starts = low[left, None] + length[left, None] * torch.arange(n) / n
            cells = starts.flatten(), (length[left] / n).repeat_interleave(n)
            table = self._coefficients(*cells)
            rough = self._errors(table, *cells).view(-1, n).amax(1)
            for section, part in zip(left.tolist(), table.split(n), strict=True):
                found[section] = part
            left = left[~(rough <= tolerance)]
            if n == MOST_CELLS and len(left):
                raise NotTabulable(f"not smooth at {float(low[left[0]]):.3f}")
            count[left] = 2 * n
        return Table(torch.cat(found), count)

    def _coefficients(self, low: Tensor, length: Tensor) -> Tensor:
        """Return the polynomials (n, 6, width) of cells."""
        h = length[:, None]
        f0, d0, c0 = self.jet(low + INSIDE * length)
        f1, d1, c1 = self.jet(low + (1.0 - INSIDE) * length)
        d0, d1, c0, c1, rise = d0 * h, d1 * h, c0 * h * h, c1 * h * h, f1 - f0
        return torch.stack(
            [
                f0,
                d0,
                0.5 * c0,
                10.0 * rise - 6.0 * d0 - 4.0 * d1 - 1.5 * c0 + 0.5 * c1,
                -15.0 * rise + 8.0 * d0 + 7.0 * d1 + 1.5 * c0 - c1,
                6.0 * rise - 3.0 * (d0 + d1) - 0.5 * (c0 - c1),
            ],
            dim=1,
        )

    def _errors(self, coefficients: Tensor, low: Tensor, length: Tensor) -> Tensor:
        """Return the weighted errors (n,) of the derivatives in cells.

        Looked for in a quarter of each cell, near the extremum of the error.
        """
        t = 0.25
        x = low + t * length
        value, exact, _ = self.jet(x)
        powers = torch.tensor([k * t ** (k - 1) for k in range(1, 6)]).double()
        found = torch.einsum("k,nkm->nm", powers, coefficients[:, 1:]) / length[:, None]
        return (found - exact).abs().amax(1) * self.weights(x, value, exact)


def joined(
    tables: list[Table], dtype: torch.dtype, alignment: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join tables over the same sections.

    Returns
    -------
    (cells, 6, width) array of ``dtype``
        Widths are filled up with zeros to a multiple of ``alignment``.
    (n_tables, n_sections) uint64 array
        First cell of each section.
    (n_tables, n_sections) float64 array
        Number of cells of each section.
    """
    coefficients = torch.cat([t.coefficients for t in tables]).to(dtype)
    cells = torch.stack([t.cells for t in tables])
    first = cells.flatten().cumsum(0).view_as(cells) - cells
    filling = -coefficients.shape[-1] % alignment
    return (
        torch.nn.functional.pad(coefficients, (0, filling)).numpy(),
        first.numpy().astype(np.uint64),
        cells.double().numpy(),
    )
