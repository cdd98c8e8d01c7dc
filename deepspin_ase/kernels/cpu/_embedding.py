"""Embedding networks as tables.

The embedding of a site depends on one number, s = w(r)/(r + p) (see
:mod:`.networks._environment`), which runs from 0 at the cutoff to 1/p
at distance zero. That range is divided as floating-point numbers are: [0, 1] in
:data:`SECTIONS` sections, every octave [2^k, 2^(k+1)] above it in a quarter as many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...potentials.networks._layers import DenseLayer
from ._tables import Curve, Jet, NotTabulable, Table, elementwise_jet

if TYPE_CHECKING:
    from ...potentials.networks._deepspin import DeepSpinNetwork

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
    """The embedding of one pair of centre and site type as a function of s."""

    def __init__(self, network: DeepSpinNetwork, centre: int, site: int) -> None:
        modules = network.embedding(centre, site).children()
        self.layers = [m for m in modules if isinstance(m, DenseLayer)]
        self.mean = float(network.mean[centre, 0])
        self.slope = 1.0 / float(network.std[centre, 0])

    def jet(self, x: Tensor) -> Jet:
        """Return the embedding and its derivatives by s, (n, width), at s (n,)."""
        value = (x[:, None] - self.mean) * self.slope
        first, second = torch.full_like(value, self.slope), torch.zeros_like(value)
        for layer in self.layers:
            matrix, bias = layer.matrix.to(x), layer.bias.to(x)
            inner1, inner2 = first @ matrix, second @ matrix
            f, f1, f2 = elementwise_jet(layer.activation, value @ matrix + bias)
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

    def weights(self, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Weigh with |ds/dr|, s^2 at short distances, over the size of G or dG/ds."""
        size = torch.maximum(value.abs().amax(1), slope.abs().amax(1))
        return x.clamp_min(1.0).square() / size.clamp_min(1e-30)


def tabulate(
    network: DeepSpinNetwork, keys: Sequence[tuple[int, int]], dtype: torch.dtype
) -> list[Table]:
    """Tabulate the embeddings of (centre type, site type) pairs.

    Raises
    ------
    NotTabulable
        If an embedding is not smooth, or not finite.
    """
    bounds = sections(network.environment.protection)
    tables = []
    for a, b in keys:
        try:
            curve = Embedding(network, a, b)
            tables.append(curve.tabulate(*bounds, TOLERANCES[dtype]))
        except NotTabulable as error:
            raise NotTabulable(
                f"the embedding of site type {b} around centre type {a} is {error}"
            ) from error
    return tables
