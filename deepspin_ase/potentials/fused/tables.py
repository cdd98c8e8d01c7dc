"""Embedding networks as tables of quintic Hermite polynomials.

The embedding of a site depends on one number, s = w(r)/(r + p) (see
:mod:`deepspin_ase.potentials.environment`), which runs from 0 at the cutoff to 1/p
at distance zero. That interval is divided as floating-point numbers are: [0, 1] in
``steps`` cells, every octave [2^k, 2^(k+1)] above it in ``steps // 4``. In each cell,
value and first two derivatives at both ends fix a polynomial of degree five, so that
the tabulated embedding has two continuous derivatives. The cells are halved until
the derivative is as exact as asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..layers import DenseLayer

if TYPE_CHECKING:
    from ..network import DeepSpinNetwork

#: Largest error of the tabulated derivative, in units of the largest derivative.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 3e-7}

#: Cells of [0, 1] that are tried: enough for rapidly varying networks; those that
#: need more have kinks.
STEPS = tuple(64 * 2**k for k in range(7))

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


def octaves(protection: float) -> int:
    """Return how many octaves lie between s = 1 and s = 1/protection."""
    return max(0, math.ceil(-math.log2(protection)))


def _cells(steps: int, n_octaves: int) -> tuple[Tensor, Tensor]:
    """Return the lower ends and the lengths of all cells."""
    low = [torch.arange(steps, dtype=torch.float64) / steps]
    length = [torch.full((steps,), 1.0 / steps, dtype=torch.float64)]
    coarse = steps // 4
    for k in range(n_octaves):
        low.append(2.0**k * (1.0 + torch.arange(coarse, dtype=torch.float64) / coarse))
        length.append(torch.full((coarse,), 2.0**k / coarse, dtype=torch.float64))
    return torch.cat(low), torch.cat(length)


class _Embedding:
    """The embedding of one pair of centre and site type as a function of s."""

    def __init__(self, network: DeepSpinNetwork, centre: int, site: int) -> None:
        modules = network.embedding(centre, site).children()
        self.layers = [m for m in modules if isinstance(m, DenseLayer)]
        self.mean = float(network.mean[centre, 0])
        self.slope = 1.0 / float(network.std[centre, 0])

    def jet(self, s: Tensor) -> Jet:
        return embedding_jet(self.layers, (s - self.mean) * self.slope, self.slope)

    def coefficients(self, steps: int, n_octaves: int) -> Tensor:
        """Return the polynomials of all cells, (cells, 6, width), by rising power.

        Their variable runs from 0 to 1 through the cell.
        """
        low, length = _cells(steps, n_octaves)
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

    def error(self, coefficients: Tensor, steps: int, n_octaves: int) -> float:
        """Return the largest error of the derivative, relative to its largest value.

        Looked for in a quarter of each cell, near the extremum of the error.
        """
        t = 0.25
        low, length = _cells(steps, n_octaves)
        exact = self.jet(low + t * length)[1] * length[:, None]
        powers = torch.tensor([k * t ** (k - 1) for k in range(1, 6)])
        found = torch.einsum("k,nkm->nm", powers.double(), coefficients[:, 1:])
        scale = (exact / length[:, None]).abs().max()
        error = ((found - exact) / length[:, None]).abs().max()
        return float(error / scale) if scale > 0 else 0.0


def tabulate(
    network: DeepSpinNetwork, keys: Sequence[tuple[int, int]], dtype: torch.dtype
) -> tuple[np.ndarray, int]:
    """Tabulate the embeddings of (centre type, site type) pairs.

    Returns
    -------
    (len(keys), cells, 6, width) array
        Widths are filled up with zeros.
    int
        Number of cells of [0, 1].

    Raises
    ------
    NotTabulable
        If an embedding is not smooth, or not finite.
    """
    n_octaves = octaves(network.environment.protection)
    embeddings = [_Embedding(network, *key) for key in keys]
    tolerance = TOLERANCES[dtype]
    steps = STEPS[0]
    tables: list[Tensor] = []
    while len(tables) < len(embeddings):
        embedding = embeddings[len(tables)]
        table = embedding.coefficients(steps, n_octaves)
        if embedding.error(table, steps, n_octaves) <= tolerance:
            tables.append(table)
        elif steps == STEPS[-1]:
            raise NotTabulable(
                "the embedding of site type "
                f"{keys[len(tables)][1]} around centre type {keys[len(tables)][0]} "
                "is not smooth enough for a table"
            )
        else:
            steps, tables = 2 * steps, []
    stacked = torch.stack(tables).to(dtype)
    filling = -stacked.shape[-1] % ALIGNMENT
    return torch.nn.functional.pad(stacked, (0, filling)).numpy(), steps
