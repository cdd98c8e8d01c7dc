"""Embedding networks as tables of quintic Hermite polynomials.

The embedding of a site depends on one number, s = w(r)/(r + p) (see
:mod:`deepspin_ase.potentials.environment`), which runs from 0 at the cutoff to 1/p
at distance zero. That range is divided as floating-point numbers are: [0, 1] in
:data:`SECTIONS` sections, every octave [2^k, 2^(k+1)] above it in a quarter as many.
Each section is divided into as many equal cells as it takes to be exact. In a cell,
value and first two derivatives at both ends fix a polynomial of degree five, so that
the tabulated embedding has two continuous derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..layers import DenseLayer

if TYPE_CHECKING:
    from ..network import DeepSpinNetwork

#: Largest error of the tabulated derivative dG/ds, see :meth:`_Embedding.errors`.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 3e-7}

#: Sections of [0, 1].
SECTIONS = 32

#: Most cells of a section: what needs more has kinks.
MOST_CELLS = 1024

#: Widths are filled up to a multiple of this, for whole vectors of the processor.
ALIGNMENT = 8


class NotTabulable(ValueError):
    """An embedding is too rough for a table."""


#: Value, first and second derivative by one number, each (n, width).
Jet = tuple[Tensor, Tensor, Tensor]


def embedding_jet(layers: Sequence[DenseLayer], x: Tensor, slope: float) -> Jet:
    """Return an embedding and its derivatives by s, where dx/ds = ``slope``.

    Parameters
    ----------
    layers : sequence of DenseLayer
        The first takes one input.
    x : (n,) tensor
    slope : float
    """
    value = x[:, None]
    first, second = torch.full_like(value, slope), torch.zeros_like(value)
    for layer in layers:
        matrix, bias = layer.matrix.to(x), layer.bias.to(x)
        inner, inner1, inner2 = value @ matrix + bias, first @ matrix, second @ matrix
        f, f1, f2 = _activation_jet(layer, inner)
        outer = [f, f1 * inner1, f2 * inner1**2 + f1 * inner2]
        if layer.idt is not None:
            outer = [y * layer.idt.to(x) for y in outer]
        if layer.copies:
            before = (value, first, second)
            outer = [
                y + old.repeat(1, layer.copies)
                for y, old in zip(outer, before, strict=True)
            ]
        value, first, second = outer
    return value, first, second


def _activation_jet(layer: DenseLayer, x: Tensor) -> Jet:
    """Return the activation of each element and its first two derivatives."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = layer.activation(x)
        (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        second = torch.zeros_like(x)
        if first.requires_grad:
            (second,) = torch.autograd.grad(first.sum(), x)
    return value.detach(), first.detach(), second


def _sections(protection: float) -> tuple[Tensor, Tensor]:
    """Return the lower ends and the lengths of all sections."""
    n_octaves = max(0, math.ceil(-math.log2(protection)))
    fine = torch.arange(SECTIONS, dtype=torch.float64) / SECTIONS
    coarse = 1.0 + torch.arange(SECTIONS // 4, dtype=torch.float64) * 4 / SECTIONS
    scales = 2.0 ** torch.arange(n_octaves, dtype=torch.float64)
    low = torch.cat([fine, (scales[:, None] * coarse).flatten()])
    lengths = torch.cat([torch.ones(1), scales]) / torch.tensor(
        [1.0, *[0.25] * n_octaves]
    )
    counts = torch.tensor([SECTIONS, *[SECTIONS // 4] * n_octaves])
    return low, torch.repeat_interleave(lengths / SECTIONS, counts)


@dataclass(frozen=True)
class Tables:
    """The embeddings of several pairs of centre and site type.

    Attributes
    ----------
    coefficients : (cells, 6, width) array
        Polynomials by rising power of a variable that runs from 0 to 1 through each
        cell. Widths are filled up with zeros.
    first, cells : (n_tables, n_sections) uint64 and float64 arrays
        First cell of each section, and number of cells.
    """

    coefficients: np.ndarray
    first: np.ndarray
    cells: np.ndarray


class _Embedding:
    """The embedding of one pair of centre and site type as a function of s."""

    def __init__(self, network: DeepSpinNetwork, centre: int, site: int) -> None:
        modules = network.embedding(centre, site).children()
        self.layers = [m for m in modules if isinstance(m, DenseLayer)]
        self.mean = float(network.mean[centre, 0])
        self.slope = 1.0 / float(network.std[centre, 0])

    def jet(self, s: Tensor) -> Jet:
        return embedding_jet(self.layers, (s - self.mean) * self.slope, self.slope)

    def coefficients(self, low: Tensor, length: Tensor) -> Tensor:
        """Return the polynomials (n, 6, width) of cells."""
        h = length[:, None]
        f0, d0, c0 = self.jet(low)
        f1, d1, c1 = self.jet(low + length)
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

    def errors(self, coefficients: Tensor, low: Tensor, length: Tensor) -> Tensor:
        """Return the errors (n,) of the derivatives in cells, in natural units.

        These are the largest G or derivative there, whichever is larger, over the
        change of s with distance, s^2 at short distances. Looked for in a quarter
        of each cell, near the extremum of the error.
        """
        t = 0.25
        _, exact, _ = self.jet(low + t * length)
        powers = torch.tensor([k * t ** (k - 1) for k in range(1, 6)]).double()
        found = torch.einsum("k,nkm->nm", powers, coefficients[:, 1:]) / length[:, None]
        size = torch.maximum(exact.abs().amax(1), coefficients[:, 0].abs().amax(1))
        return (found - exact).abs().amax(1) / size * low.clamp_min(1.0).square()

    def tabulate(
        self, low: Tensor, length: Tensor, tolerance: float
    ) -> tuple[Tensor, Tensor] | None:
        """Return coefficients, section by section, and the cells of each section.

        None if a section needs too many cells, or values are not finite.
        """
        count = torch.ones(len(low), dtype=torch.int64)
        found: list[Tensor] = [low] * len(low)
        left = torch.arange(len(low))
        while len(left):
            n = int(count[left[0]])
            ends = low[left, None] + length[left, None] * torch.arange(n) / n
            cells = ends.flatten(), (length[left] / n).repeat_interleave(n)
            table = self.coefficients(*cells)
            rough = self.errors(table, *cells).view(-1, n).amax(1)
            for section, part in zip(left.tolist(), table.split(n), strict=True):
                found[section] = part
            left = left[~(rough <= tolerance)]
            if n == MOST_CELLS and len(left):
                return None
            count[left] = 2 * n
        return torch.cat(found), count


def tabulate(
    network: DeepSpinNetwork, keys: Sequence[tuple[int, int]], dtype: torch.dtype
) -> Tables:
    """Tabulate the embeddings of (centre type, site type) pairs.

    Raises
    ------
    NotTabulable
        If an embedding is not smooth, or not finite.
    """
    sections = _sections(network.environment.protection)
    parts, counts = [], []
    for key in keys:
        made = _Embedding(network, *key).tabulate(*sections, TOLERANCES[dtype])
        if made is None:
            raise NotTabulable(
                f"the embedding of site type {key[1]} around centre type {key[0]} is "
                "not smooth enough for a table"
            )
        parts.append(made[0])
        counts.append(made[1])
    coefficients, cells = torch.cat(parts).to(dtype), torch.stack(counts)
    filling = -coefficients.shape[-1] % ALIGNMENT
    first = cells.flatten().cumsum(0).view_as(cells) - cells
    return Tables(
        torch.nn.functional.pad(coefficients, (0, filling)).numpy(),
        first.numpy().astype(np.uint64),
        cells.double().numpy(),
    )
