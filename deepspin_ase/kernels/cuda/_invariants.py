"""Invariants of two moments in Triton: the one place that knows their form.

The same as in :mod:`deepspin_ase.kernels.cpu._invariants`, and in the same order.
Vectors are three tensors, of the pairs of one atom; ``c`` points to the polynomials of
a pair.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._pair_tables import ALIGNMENT, INVARIANTS, LATTICE, ORIENTED
from .._tables import POWERS as _POWERS

#: Numbers of a polynomial; columns where the invariants of a group begin.
POWERS = tl.constexpr(_POWERS)
ALIGNED = tl.constexpr(len(LATTICE))
CHIRAL = tl.constexpr(len(LATTICE) + len(ALIGNMENT))
FREE = tl.constexpr(len(INVARIANTS) - len(ORIENTED))


@triton.jit
def function(c, column, t, mask):
    """Return the polynomial of a column at t, and its derivative."""
    c += POWERS * column
    c0 = tl.load(c, mask=mask, other=0.0)
    c1 = tl.load(c + 1, mask=mask, other=0.0)
    c2 = tl.load(c + 2, mask=mask, other=0.0)
    c3 = tl.load(c + 3, mask=mask, other=0.0)
    c4 = tl.load(c + 4, mask=mask, other=0.0)
    c5 = tl.load(c + 5, mask=mask, other=0.0)
    value = c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5))))
    slope = c1 + t * (2.0 * c2 + t * (3.0 * c3 + t * (4.0 * c4 + t * (5.0 * c5))))
    return value, slope


@triton.jit
def aligned(c, t, both, mi, mj, over, u0, u1, u2, v0, v1, v2):
    """Return energy, slope and dE/dm_i of the invariants of angle and lengths.

    ``over`` is 1/|m_i|; u and v are the directions of the two moments.
    """
    q = u0 * v0 + u1 * v1 + u2 * v2
    f1, d1 = function(c, ALIGNED, t, both)
    f2, d2 = function(c, ALIGNED + 1, t, both)
    f3, d3 = function(c, ALIGNED + 2, t, both)
    f4, d4 = function(c, ALIGNED + 3, t, both)
    f5, d5 = function(c, ALIGNED + 4, t, both)
    energy = f1 + f2 * q + f3 * q * q + (f4 * q + f5) * (mi * mj)
    slope = d1 + d2 * q + d3 * q * q + (d4 * q + d5) * (mi * mj)
    # d(e_i.e_j)/dm_i = (e_j - q e_i)/|m_i|
    turn = (f2 + 2.0 * q * f3) * over
    h0 = turn * (v0 - q * u0) + mj * (f4 * v0 + f5 * u0)
    h1 = turn * (v1 - q * u1) + mj * (f4 * v1 + f5 * u1)
    h2 = turn * (v2 - q * u2) + mj * (f4 * v2 + f5 * u2)
    return energy, slope, h0, h1, h2


@triton.jit
def _row(c, column, t, both, c0, c1, c2):
    """Return three functions, and the sums of them and their slopes times C."""
    f0, d0 = function(c, column, t, both)
    f1, d1 = function(c, column + 1, t, both)
    f2, d2 = function(c, column + 2, t, both)
    value = f0 * c0 + f1 * c1 + f2 * c2
    slope = d0 * c0 + d1 * c1 + d2 * c2
    return f0, f1, f2, value, slope


@triton.jit
def chiral(c, t, both, over, u0, u1, u2, v0, v1, v2, b0, b1, b2):
    """Return energy, slope, dE/dm_i and dE/d(direction b) of those of chirality."""
    c0, c1, c2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
    # The energy is D.C.
    x0, x1, x2, w0, s0 = _row(c, CHIRAL, t, both, c0, c1, c2)
    y0, y1, y2, w1, s1 = _row(c, CHIRAL + 3, t, both, c0, c1, c2)
    z0, z1, z2, w2, s2 = _row(c, CHIRAL + 6, t, both, c0, c1, c2)
    f0, f1, f2, free, slope = _row(c, FREE, t, both, c0, c1, c2)
    d0 = f0 + b0 * x0 + b1 * y0 + b2 * z0
    d1 = f1 + b0 * x1 + b1 * y1 + b2 * z1
    d2 = f2 + b0 * x2 + b1 * y2 + b2 * z2
    energy = free + b0 * w0 + b1 * w1 + b2 * w2
    slope += b0 * s0 + b1 * s1 + b2 * s2
    # dE/de_i = e_j x D, of which the part across e_i turns the moment.
    t0, t1, t2 = v1 * d2 - v2 * d1, v2 * d0 - v0 * d2, v0 * d1 - v1 * d0
    along = t0 * u0 + t1 * u1 + t2 * u2
    h0, h1, h2 = (
        over * (t0 - along * u0),
        over * (t1 - along * u1),
        over * (t2 - along * u2),
    )
    return energy, slope, h0, h1, h2, w0, w1, w2
