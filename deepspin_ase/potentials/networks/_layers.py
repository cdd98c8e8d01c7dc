"""Residual dense networks as DeePMD-kit builds them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...kernels import Layer


class DenseLayer(nn.Module):
    """y = idt * activation(x W + b), plus x or [x, x] where the widths allow.

    Equal widths add x, doubled widths add [x, x]. Initial weights are normal
    with variance 1/(n_in + n_out), biases standard normal, steps 0.1.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        activation: str = "tanh",
        timestep: bool = False,
        residual: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.copies = n_out // n_in if residual and n_out in (n_in, 2 * n_in) else 0
        self.activation = activation
        self.matrix = nn.Parameter(normal(n_in, n_out) / math.sqrt(n_in + n_out))
        self.bias = nn.Parameter(normal(n_out))
        self.idt = (
            nn.Parameter(0.1 + 0.001 * normal(n_out))
            if timestep and self.copies
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in) to (n, n_out)."""
        return self._layer()(x)

    def _layer(self) -> Layer:
        return Layer(self.matrix, self.bias, self.idt, self.copies, self.activation)

    def frozen(self) -> Layer:
        """Return the layer as plain data: its present weights, without gradients."""
        return self._layer().mapped(torch.Tensor.detach)


class ResidualNetwork(nn.Sequential):
    """A stack of dense layers of the given widths, optionally with a linear head."""

    def __init__(
        self,
        n_in: int,
        neuron: Sequence[int],
        *,
        activation: str,
        timestep: bool,
        head: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        layers = []
        for n_out in neuron:
            layers.append(
                DenseLayer(
                    n_in,
                    n_out,
                    activation=activation,
                    timestep=timestep,
                    generator=generator,
                )
            )
            n_in = n_out
        if head:
            layers.append(
                DenseLayer(
                    n_in, 1, activation="linear", residual=False, generator=generator
                )
            )
        super().__init__(*layers)

    def frozen(self) -> tuple[Layer, ...]:
        """Return the layers as plain data: present weights, without gradients."""
        layers = [m for m in self.children() if isinstance(m, DenseLayer)]
        return tuple(layer.frozen() for layer in layers)
