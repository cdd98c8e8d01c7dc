"""Embedding networks as tables.

The embedding of a site depends on one number, s = w(r)/(r + p) with the switch w and
the protection p of short distances, which runs from 0 at the cutoff to 1/p at
distance zero. That range is divided as floating-point numbers are: [0, 1] in
:data:`SECTIONS` sections, every octave [2^k, 2^(k+1)] above it in a quarter as many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._data import NetworkData
from ._layers import ACTIVATIONS
from ._tables import Curve, Jet, NotTabulable, Table, elementwise_jet

#: Largest error of dG/ds, in the units of :meth:`Embedding.weights`.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 3e-7}

#: Sections of [0, 1].
SECTIONS = 32


def sections(protection: float) -> tuple[Tensor, Tensor]:
    """Return the lower ends and the lengths of all sections."""
    n_octaves = max(0, math.ceil(-math.log2(protection)))
    low = [torch.arange(SECTIONS).double() / SECTIONS]
    length = [torch.full((SECTIONS,), 1.0 / SECTIONS).double()]
    coarse = SECTIONS // 4
    for k in range(n_octaves):
        low.append(2.0**k * (1.0 + torch.arange(coarse).double() / coarse))
        length.append(torch.full((coarse,), 2.0**k / coarse).double())
    return torch.cat(low), torch.cat(length)


class Embedding(Curve):
    """The embedding of one pair of center and site type as a function of s."""

    def __init__(self, data: NetworkData, center: int, site: int) -> None:
        self.layers = data.embeddings[center][site]
        self.mean = float(data.mean[center, 0])
        self.slope = 1.0 / float(data.std[center, 0])

    def jet(self, x: Tensor) -> Jet:
        """Return the embedding and its derivatives by s, (n, width), at s (n,)."""
        value = (x[:, None] - self.mean) * self.slope
        first, second = torch.full_like(value, self.slope), torch.zeros_like(value)
        for layer in self.layers:
            matrix, bias = layer.matrix.to(x), layer.bias.to(x)
            inner1, inner2 = first @ matrix, second @ matrix
            f, f1, f2 = elementwise_jet(
                ACTIVATIONS[layer.activation], value @ matrix + bias
            )
            outer = [f, f1 * inner1, f2 * inner1**2 + f1 * inner2]
            if layer.step is not None:
                outer = [y * layer.step.to(x) for y in outer]
            if layer.copies:
                before = (value, first, second)
                outer = [
                    y + old.repeat(1, layer.copies)
                    for y, old in zip(outer, before, strict=True)
                ]
            value, first, second = outer
        return value, first, second

    def weights(self, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Weigh with |ds/dr|, s^2 at short distances, over the size of G or dG/ds."""
        size = torch.maximum(value.abs().amax(1), slope.abs().amax(1))
        return x.clamp_min(1.0).square() / size.clamp_min(1e-30)


def tabulate(
    data: NetworkData, keys: Sequence[tuple[int, int]], dtype: torch.dtype
) -> list[Table]:
    """Tabulate the embeddings of (center type, site type) pairs.

    Raises
    ------
    NotTabulable
        If an embedding is not smooth, or not finite.
    """
    bounds = sections(data.protection)
    tables = []
    for a, b in keys:
        try:
            curve = Embedding(data, a, b)
            tables.append(curve.tabulate(*bounds, TOLERANCES[dtype]))
        except NotTabulable as error:
            raise NotTabulable(
                f"the embedding of site type {b} around center type {a} is {error}"
            ) from error
    return tables
