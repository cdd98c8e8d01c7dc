"""Geometry in Triton kernels: from pair lists to vectors.

Pair p of a list has two sites, its atom and, where that is magnetic, the pseudo-atom
of it: sites 2p and 2p + 1. The own pseudo-atom of atom i is site 2E + i of E pairs.
Geometry is in float64 and what goes into the network in its own type.

Every sum runs in a fixed order, without atomic additions of floating-point numbers:
results are the same bit by bit in every run on one kind of device. Programs belong to
one atom each; BLOCK of its pairs are worked on together.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: Pairs of an atom that are worked on together, and warps that do it.
PAIRS, PAIR_WARPS = 64, 2


@triton.jit
def radial_parts(x, y, z, constants):
    """Return r, q = 1/(r + p), the switch w(r) and its derivative.

    ``constants`` points to cutoff, beginning of the switch and p, A.
    """
    cutoff, smooth = tl.load(constants), tl.load(constants + 1)
    r = tl.sqrt(x * x + y * y + z * z)
    width = cutoff - smooth
    u = (r - smooth) / width
    u = tl.where(u < 0.0, 0.0, u)
    u = tl.where(u > 1.0, 1.0, u)
    w = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
    slope = (-30.0 / width) * u * u * (u - 1.0) * (u - 1.0)
    return r, 1.0 / (r + tl.load(constants + 2)), w, slope


@triton.jit
def pair_vectors(p, valid, i, positions, neighbours, shifts, cell):
    """Return the neighbours j of pairs p of atom i, and the vectors to them."""
    j = tl.load(neighbours + p, mask=valid, other=0)
    u = tl.load(shifts + 3 * p, mask=valid, other=0.0).to(tl.float64)
    v = tl.load(shifts + 3 * p + 1, mask=valid, other=0.0).to(tl.float64)
    w = tl.load(shifts + 3 * p + 2, mask=valid, other=0.0).to(tl.float64)
    x = _component(j, valid, i, positions, u, v, w, cell)
    y = _component(j, valid, i, positions + 1, u, v, w, cell + 1)
    z = _component(j, valid, i, positions + 2, u, v, w, cell + 2)
    return j, x, y, z


@triton.jit
def _component(j, valid, i, positions, u, v, w, cell):
    here = tl.load(positions + 3 * i).to(tl.float64)
    there = tl.load(positions + 3 * j, mask=valid, other=0.0).to(tl.float64)
    a, b = tl.load(cell).to(tl.float64), tl.load(cell + 3).to(tl.float64)
    c = tl.load(cell + 6).to(tl.float64)
    return (there - here) + (u * a + v * b + w * c)
