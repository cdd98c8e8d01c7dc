"""Compiled fitting networks: energies of descriptors and their derivatives.

A layer maps x to y = t f(x W + b) + (x, [x, x] or nothing), see
:class:`deepspin_ase.kernels.Layer`, and its derivative maps dE/dy to
dE/dx = (t f' dE/dy) W^T + (the same of the copies). A block of atoms goes through all
layers while it is in the processor's cache.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .._layers import ACTIVATIONS
from ._compile import inlined, merged

#: Numbers of the activations in the kernels.
CODES = {name: k for k, name in enumerate(ACTIVATIONS)}
TANH, _LINEAR, _RELU = CODES["tanh"], CODES["linear"], CODES["relu"]
_ODD = tuple(np.float32(k) for k in (11, 9, 7, 5, 3, 1))
_SIGMOID, _SILU, _SOFTPLUS = CODES["sigmoid"], CODES["silu"], CODES["softplus"]


class Fitting(NamedTuple):
    """The fitting network of one type, all layers one after the other.

    Attributes
    ----------
    weights : (n,)
        Of each layer: matrix (inputs, outputs), its transpose, bias, steps (ones
        where there are none).
    widths : (n_layers + 1,) int64
        Inputs of the layers, and outputs of the last.
    copies : (n_layers,) int64
        How many copies of the input are added to the output.
    activation : int
        Of all layers but the last, which is linear; one of :data:`CODES`.
    """

    weights: np.ndarray
    widths: np.ndarray
    copies: np.ndarray
    activation: int


class FittingSpace(NamedTuple):
    """Work space for n atoms, even, that go through the fitting network together.

    Attributes
    ----------
    features : (n, inputs)
        Descriptors D.
    values, slopes : (n_layers, n, widest)
        Outputs of the layers, and their derivatives by what went into the activation.
        Energies are in ``values[-1, :, 0]``, eV.
    chain : (2, n, widest)
        Derivatives of the energy by outputs and inputs of a layer.
    gradients : (n, inputs)
        dE/dD, eV.
    """

    features: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    chain: np.ndarray
    gradients: np.ndarray

    @classmethod
    def allocate(cls, n: int, fitting: Fitting) -> FittingSpace:
        """Return space for n atoms."""
        real = fitting.weights.dtype
        inputs, *outputs = fitting.widths
        layers = len(outputs), n, max(outputs)
        return cls(
            np.zeros((n, inputs), real),
            np.zeros(layers, real),
            np.zeros(layers, real),
            np.zeros((2, *layers[1:]), real),
            np.zeros((n, inputs), real),
        )


@merged
def fit(n, fitting, derivatives, space):
    """Compute energies of n atoms and, if asked, their derivatives by D."""
    values, slopes = space.values, space.slopes
    last = len(fitting.copies) - 1
    offset = 0
    for layer in range(last + 1):
        x = space.features if layer == 0 else values[layer - 1]
        code = fitting.activation if layer < last else _LINEAR
        _forward(n, layer, offset, code, fitting, x, values[layer], slopes[layer])
        offset += _size(layer, fitting)
    if not derivatives:
        return
    gradient, other = space.chain[0], space.chain[1]
    for i in range(n):
        gradient[i, 0] = 1
    for layer in range(last, -1, -1):
        offset -= _size(layer, fitting)
        result = space.gradients if layer == 0 else other
        _backward(n, layer, offset, fitting, slopes[layer], gradient, result)
        gradient, other = other, gradient


@inlined
def _size(layer, fitting):
    """Return the number of weights of a layer."""
    k, m = fitting.widths[layer], fitting.widths[layer + 1]
    return 2 * k * m + 2 * m


@merged
def _forward(n, layer, offset, code, fitting, x, y, slope):
    """Fill in outputs (n, m) of a layer and t f'."""
    k, m = fitting.widths[layer], fitting.widths[layer + 1]
    weights, bias = fitting.weights, offset + 2 * k * m
    step = bias + m
    for i in range(n):
        for c in range(m):
            y[i, c] = weights[bias + c]
    _multiply(n, k, m, x, weights[offset:], y)
    for i in range(n):
        activate(code, m, y[i], slope[i])
        for c in range(m):
            y[i, c] *= weights[step + c]
            slope[i, c] *= weights[step + c]
        for copy in range(fitting.copies[layer]):
            for c in range(k):
                y[i, copy * k + c] += x[i, c]


@merged
def _backward(n, layer, offset, fitting, slope, gradient, result):
    """Turn dE/dy (n, m) of a layer into dE/dx (n, k)."""
    k, m = fitting.widths[layer], fitting.widths[layer + 1]
    for i in range(n):
        for c in range(k):
            result[i, c] = 0
        for copy in range(fitting.copies[layer]):
            for c in range(k):
                result[i, c] += gradient[i, copy * k + c]
        for c in range(m):
            gradient[i, c] *= slope[i, c]
    _multiply(n, m, k, gradient, fitting.weights[offset + k * m :], result)


@inlined
def _multiply(n, k, m, x, matrix, y):
    """Add the product of x (n, k) and a matrix (k, m), by rows, to y (n, m).

    Two rows and four columns of x go together; where n is odd there must be one more
    row, which comes to hold anything.
    """
    whole = k - k % 4
    for b in range(0, whole, 4):
        r0 = matrix[b * m : b * m + m]
        r1 = matrix[b * m + m : b * m + 2 * m]
        r2 = matrix[b * m + 2 * m : b * m + 3 * m]
        r3 = matrix[b * m + 3 * m : b * m + 4 * m]
        for i in range(0, n, 2):
            p0, p1, p2, p3 = x[i, b], x[i, b + 1], x[i, b + 2], x[i, b + 3]
            j = i + 1
            q0, q1, q2, q3 = x[j, b], x[j, b + 1], x[j, b + 2], x[j, b + 3]
            p, q = y[i], y[j]
            for c in range(m):
                w0, w1, w2, w3 = r0[c], r1[c], r2[c], r3[c]
                p[c] += (p0 * w0 + p1 * w1) + (p2 * w2 + p3 * w3)
                q[c] += (q0 * w0 + q1 * w1) + (q2 * w2 + q3 * w3)
    for b in range(whole, k):
        for i in range(n):
            for c in range(m):
                y[i, c] += x[i, b] * matrix[b * m + c]


@inlined
def _tanh(x):
    """Return tanh(x) to round-off; unlike the library's, it works on whole vectors.

    Lambert's continued fraction x/(1 + x^2/(3 + x^2/(5 + ...))) of x/16, and four
    times tanh(2x) = 2 tanh(x)/(1 + tanh(x)^2), all as numerator over denominator.
    """
    # Constants that float32 holds exactly leave the type of x as it is.
    largest, one, two = np.float32(20), np.float32(1), np.float32(2)
    x = min(max(x, -largest), largest) * np.float32(1 / 16)
    top, bottom = np.float32(13), one
    for odd in _ODD:
        top, bottom = odd * top + x * x * bottom, top
    scale = np.float32(2**-17)  # 13!!, about the denominator, to one
    top, bottom = scale * x * bottom, scale * top
    for _ in range(4):
        top, bottom = two * top * bottom, top * top + bottom * bottom
    return top / bottom


@inlined
def activate(code, m, z, slope):
    """Replace z (m,) by its activation and set its derivative."""
    if code == TANH:
        for c in range(m):
            t = _tanh(z[c])
            z[c] = t
            slope[c] = np.float32(1) - t * t
    elif code == _LINEAR:
        for c in range(m):
            slope[c] = 1.0
    elif code == _RELU:
        for c in range(m):
            slope[c] = 1.0 if z[c] > 0.0 else 0.0
            z[c] *= slope[c]
    else:
        for c in range(m):
            z[c], slope[c] = _sigmoidal(code, z[c])


@inlined
def _sigmoidal(code, x):
    """Return sigmoid, SiLU, softplus (linear from 20 on) or GELU, and derivative."""
    s = 0.5 + 0.5 * _tanh(0.5 * x)
    if code == _SIGMOID:
        return s, s * (1.0 - s)
    if code == _SILU:
        return x * s, s * (1.0 + x * (1.0 - s))
    if code == _SOFTPLUS:
        if x > 20.0:
            return x, 1.0
        return max(x, 0.0) + math.log1p(math.exp(-abs(x))), s
    a = math.sqrt(2.0 / math.pi)
    t = _tanh(a * (x + 0.044715 * x * x * x))
    inner = a * (1.0 + 3.0 * 0.044715 * x * x)
    return 0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
