"""Residual dense layers as functions of plain arrays, as DeePMD-kit defines them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _linear(x: Tensor) -> Tensor:
    return x


#: Activation functions by name.
ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "gelu": _gelu,
    "gelu_tf": _gelu,
    "linear": _linear,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": functional.softplus,
}


class Layer(NamedTuple):
    """A dense layer, y = step * activation(x matrix + bias) + copies of x.

    Attributes
    ----------
    matrix : (n_in, n_out) tensor
    bias : (n_out,) tensor
    step : (n_out,) tensor, optional
        Ones where omitted.
    copies : int
        How many copies of the input, side by side, are added: 0, 1 or 2.
    activation : str
        One of :data:`ACTIVATIONS`.
    """

    matrix: Tensor
    bias: Tensor
    step: Tensor | None
    copies: int
    activation: str

    def __call__(self, x: Tensor) -> Tensor:
        """Map (n, n_in) to (n, n_out)."""
        y = ACTIVATIONS[self.activation](torch.addmm(self.bias, x, self.matrix))
        if self.step is not None:
            y = y * self.step
        if self.copies == 1:
            return y + x
        if self.copies == 2:
            return y + torch.cat([x, x], dim=1)
        return y

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Layer:
        """Return the layer with a function applied to each of its tensors."""
        step = None if self.step is None else function(self.step)
        matrix, bias = function(self.matrix), function(self.bias)
        return self._replace(matrix=matrix, bias=bias, step=step)

    def weights(self) -> list[Tensor]:
        """Return matrix, bias and, where there is one, step."""
        return [x for x in (self.matrix, self.bias, self.step) if x is not None]


def through(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Map (n, n_in) through one layer after the other."""
    for layer in layers:
        x = layer(x)
    return x
