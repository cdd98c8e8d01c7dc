"""Residual dense networks as DeePMD-kit builds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _identity(x: Tensor) -> Tensor:
    return x


# Named functions all: a network with a lambda cannot be pickled.
ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "gelu": _gelu,
    "gelu_tf": _gelu,
    "linear": _identity,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": functional.softplus,
}


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
        self.activation = ACTIVATIONS[activation]
        self.matrix = nn.Parameter(normal(n_in, n_out) / math.sqrt(n_in + n_out))
        self.bias = nn.Parameter(normal(n_out))
        self.idt = (
            nn.Parameter(0.1 + 0.001 * normal(n_out))
            if timestep and self.copies
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in) to (n, n_out)."""
        y = self.activation(torch.addmm(self.bias, x, self.matrix))
        if self.idt is not None:
            y = y * self.idt
        if self.copies == 1:
            return y + x
        if self.copies == 2:
            return y + torch.cat([x, x], dim=1)
        return y


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
