"""Triton kernels of networks on moments.

The same formulas and lists of products as on the CPU, see
:mod:`deepspin_ase.kernels.cpu._moment_kernels`. Values are rows of numbers, one for
each pair (factors, radial functions) or each atom (moments and what is made of them):
a lane works on a pair or on an atom. Rows hold those of a chunk: E pairs from pair
``shift`` of the list on, and n atoms from atom ``begin`` on.

A lane may read what another thread of its program wrote where the compiler divides
loads and stores differently among threads, hence the barriers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._geometry import pair_vectors


@triton.jit(do_not_specialize=["n_sums", "n"])
def multiply(
    out, start, first, second, coefficient, n_sums, values, n, BLOCK: tl.constexpr
):
    """Carry out all products; see :class:`~deepspin_ase.kernels.Instructions`."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = lane < n
    rows = values + lane
    for s in range(0, n_sums):
        total = tl.zeros([BLOCK], values.dtype.element_ty)
        for t in range(tl.load(start + s), tl.load(start + s + 1)):
            a = tl.load(first + t).to(tl.int64) * n
            b = tl.load(second + t).to(tl.int64) * n
            left = tl.load(rows + a, mask=mask, other=0.0)
            right = tl.load(rows + b, mask=mask, other=0.0)
            total += tl.load(coefficient + t) * left * right
        tl.store(rows + tl.load(out + s).to(tl.int64) * n, total, mask=mask)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["n_sums", "n"])
def multiply_back(
    out,
    start,
    first,
    second,
    coefficient,
    n_sums,
    values,
    slopes,
    n,
    BLOCK: tl.constexpr,
):
    """Bring dE/dvalue of what the products make back to what they are made of."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = lane < n
    rows, back = values + lane, slopes + lane
    for k in range(0, n_sums):
        s = n_sums - 1 - k
        slope = tl.load(back + tl.load(out + s).to(tl.int64) * n, mask=mask, other=0.0)
        for t in range(tl.load(start + s), tl.load(start + s + 1)):
            a = tl.load(first + t).to(tl.int64) * n
            b = tl.load(second + t).to(tl.int64) * n
            z = tl.load(coefficient + t) * slope
            right = tl.load(rows + b, mask=mask, other=0.0)
            old = tl.load(back + a, mask=mask, other=0.0)
            tl.store(back + a, old + z * right, mask=mask)
            tl.debug_barrier()
            left = tl.load(rows + a, mask=mask, other=0.0)
            old = tl.load(back + b, mask=mask, other=0.0)
            tl.store(back + b, old + z * left, mask=mask)
            tl.debug_barrier()


@triton.jit(do_not_specialize=["shift", "n_pairs"])
def describe_pairs(
    centers,
    neighbours,
    shifts,
    positions,
    structure,
    lattice,
    types,
    moments,
    mixing,
    constants,
    factors,
    radial,
    shift,
    n_pairs,
    BASIS: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write directions, moments, and radial functions of pairs.

    Parameters
    ----------
    centers : (pairs,) int64
        First atoms of the list; the list goes on with the arguments of
        :func:`._geometry.pair_vectors`.
    structure : (N,) int64
    types : (N,) int32
    moments : (N, 3) float64
        Reduced.
    mixing : (n_types, CHANNELS, BASIS) float64
    constants : (1,) float64
        Cutoff, A.
    factors : (n_factors, E)
        Rows 0 to 9 are written.
    radial : (2 CHANNELS + 1, E)
        Radial functions, their derivatives, and 1/r, which is zero beyond the cutoff.
    """
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = e < n_pairs
    p = e + shift
    real = factors.dtype.element_ty
    i = tl.load(centers + p, mask=valid, other=0)
    cell = lattice + 9 * tl.load(structure + i, mask=valid, other=0)
    j, x, y, z = pair_vectors(p, valid, i, positions, neighbours, shifts, cell)
    cutoff = tl.load(constants)
    square = x * x + y * y + z * z
    near = valid & (square < cutoff * cutoff)
    r = tl.sqrt(tl.where(near, square, cutoff * cutoff))
    inverse = tl.where(near, 1.0 / r, 0.0)
    n = n_pairs.to(tl.int64)
    factors += e
    one = tl.zeros([BLOCK], real) + 1.0
    tl.store(factors, one, mask=valid)
    tl.store(factors + n, (x * inverse).to(real), mask=valid)
    tl.store(factors + 2 * n, (y * inverse).to(real), mask=valid)
    tl.store(factors + 3 * n, (z * inverse).to(real), mask=valid)
    for a in range(0, 3):
        there = tl.load(moments + 3 * j + a, mask=valid, other=0.0)
        here = tl.load(moments + 3 * i + a, mask=valid, other=0.0)
        tl.store(factors + (4 + a) * n, there.to(real), mask=valid)
        tl.store(factors + (7 + a) * n, here.to(real), mask=valid)
    rest = tl.where(near, (cutoff - r) / cutoff, 0.0)
    t = 1.0 - rest
    f = rest * rest * rest * (1.0 + 3.0 * t + 6.0 * t * t)
    g = -30.0 / cutoff * t * t * rest * rest
    x = 2.0 * t - 1.0
    mixing += tl.load(types + j, mask=valid, other=0).to(tl.int64) * (CHANNELS * BASIS)
    zero = tl.zeros([BLOCK], tl.float64)
    per_length = 2.0 / cutoff
    for k in range(0, CHANNELS):
        # Chebyshev polynomials T_m(x) and derivatives.
        a0, a1, d0, d1 = zero + 1.0, x, zero, zero + per_length
        value, slope = zero, zero
        for m in range(0, BASIS):
            w = tl.load(mixing + k * BASIS + m, mask=valid, other=0.0)
            value += w * a0
            slope += w * d0
            a2 = 2.0 * x * a1 - a0
            d2 = 2.0 * (per_length * a1 + x * d1) - d0
            a0, a1, d0, d1 = a1, a2, d1, d2
        place = radial + k * n + e
        tl.store(place, (value * f).to(real), mask=valid)
        tl.store(place + CHANNELS * n, (value * g + slope * f).to(real), mask=valid)
    tl.store(radial + 2 * CHANNELS * n + e, inverse.to(real), mask=valid)


@triton.jit(do_not_specialize=["shift", "begin", "n_pairs", "n", "n_moments"])
def add_moments(
    first,
    factor,
    channel,
    factors,
    radial,
    values,
    shift,
    n_pairs,
    begin,
    n,
    n_moments,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the moments of every atom of a chunk, ROWS at a time.

    Parameters
    ----------
    first : (N + 1,) int64
        Pairs of atom i are ``first[i]`` to ``first[i + 1]``.
    factor, channel : (n_moments,) int32
        Whose products are summed.
    factors : (n_factors, E)
    radial : (2 channels + 1, E)
    values : (n_values, n)
        Rows from 4 on are written.
    """
    c = tl.program_id(0).to(tl.int64)
    low = tl.load(first + begin + c) - shift
    high = tl.load(first + begin + c + 1) - shift
    stride, n = n_pairs.to(tl.int64), n.to(tl.int64)
    row, lane = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    for v in range(0, n_moments, ROWS):
        there = v + row < n_moments
        f = tl.load(factor + v + row, mask=there, other=0).to(tl.int64) * stride
        k = tl.load(channel + v + row, mask=there, other=0).to(tl.int64) * stride
        total = tl.zeros([ROWS], values.dtype.element_ty)
        for e in range(low, high, BLOCK):
            mask = there[:, None] & (e + lane < high)[None, :]
            left = tl.load(factors + f[:, None] + (e + lane), mask=mask, other=0.0)
            right = tl.load(radial + k[:, None] + (e + lane), mask=mask, other=0.0)
            total += tl.sum(left * right, 1)
        tl.store(values + (4 + v + row) * n + c, total, mask=there)


@triton.jit(
    do_not_specialize=["shift", "begin", "n_pairs", "n", "n_rows", "n_channels"]
)
def differentiate_moments(
    centers,
    rows,
    by_channel,
    factor,
    moment,
    factors,
    radial,
    slopes,
    back,
    along,
    shift,
    n_pairs,
    begin,
    n,
    n_rows,
    n_channels,
    BLOCK: tl.constexpr,
):
    """Write dE/dfactor of pairs, and dE/dr at fixed directions and moments.

    Parameters
    ----------
    centers : (pairs,) int64
    rows : (R, 3) int32
        See :class:`~deepspin_ase.kernels.MomentsData`.
    by_channel : (channels + 1,) int32
    factor, moment : (V,) int32
        Bounds, factors and moments of
        :class:`~deepspin_ase.kernels._moment_tables.MomentLists`.
    factors : (n_factors, E)
    radial : (2 channels + 1, E)
    slopes : (n_values, n)
    back : (n_factors, E)
        Rows of the moments' factors are written.
    along : (E,)
        Written: the derivative by r, eV/A.
    """
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = e < n_pairs
    stride, n = n_pairs.to(tl.int64), n.to(tl.int64)
    slopes += tl.load(centers + e + shift, mask=valid, other=0) - begin
    factors += e
    radial += e
    place = 4
    for r in range(0, n_rows):
        k, count = tl.load(rows + 3 * r + 1), tl.load(rows + 3 * r + 2)
        total = tl.zeros([BLOCK], back.dtype.element_ty)
        for m in range(0, count):
            slope = tl.load(slopes + (place + m) * n, mask=valid, other=0.0)
            total += slope * tl.load(radial + (k + m) * stride, mask=valid, other=0.0)
        f = tl.load(rows + 3 * r).to(tl.int64)
        tl.store(back + f * stride + e, total, mask=valid)
        place += count
    change = tl.zeros([BLOCK], back.dtype.element_ty)
    for k in range(0, n_channels):
        total = tl.zeros([BLOCK], back.dtype.element_ty)
        for t in range(tl.load(by_channel + k), tl.load(by_channel + k + 1)):
            v, f = tl.load(moment + t).to(tl.int64), tl.load(factor + t).to(tl.int64)
            slope = tl.load(slopes + v * n, mask=valid, other=0.0)
            total += slope * tl.load(factors + f * stride, mask=valid, other=0.0)
        right = tl.load(radial + (n_channels + k) * stride, mask=valid, other=0.0)
        change += total * right
    tl.store(along + e, change, mask=valid)


@triton.jit(do_not_specialize=["shift", "n_pairs", "n_channels"])
def pull_pairs(
    factors,
    back,
    along,
    radial,
    pulls,
    shift,
    n_pairs,
    n_channels,
    BLOCK: tl.constexpr,
):
    """Write the derivatives of the energy of a pair's first atom.

    By the vector to the second (eV/A), and by the reduced moments of the second and of
    the first atom (eV): ``pulls`` (pairs, 9) float64.
    """
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = e < n_pairs
    n = n_pairs.to(tl.int64)
    factors += e
    back += e
    pulls += 9 * (e + shift)
    inverse = tl.load(radial + 2 * n_channels * n + e, mask=valid, other=0.0)
    inverse = inverse.to(tl.float64)
    pull = tl.load(along + e, mask=valid, other=0.0).to(tl.float64)
    for a in range(1, 4):
        u = tl.load(factors + a * n, mask=valid, other=0.0).to(tl.float64)
        h = tl.load(back + a * n, mask=valid, other=0.0).to(tl.float64)
        pull -= u * h * inverse
    for a in range(1, 4):
        u = tl.load(factors + a * n, mask=valid, other=0.0).to(tl.float64)
        h = tl.load(back + a * n, mask=valid, other=0.0).to(tl.float64)
        tl.store(pulls + a - 1, h * inverse + pull * u, mask=valid)
    for a in range(4, 10):
        h = tl.load(back + a * n, mask=valid, other=0.0).to(tl.float64)
        tl.store(pulls + a - 1, h, mask=valid)


@triton.jit
def gather_pulls(
    first,
    neighbours,
    shifts,
    reverse,
    positions,
    structure,
    lattice,
    pulls,
    forces,
    turns,
    virials,
    BLOCK: tl.constexpr,
):
    """Add up what pairs of an atom, and the reverse ones, pull with.

    Parameters
    ----------
    reverse : (E,) int32
        Where in the list the reverse of each pair is.
    pulls : (E, 9) float64
    forces : (N, 3) float64
        Written: -dE/dR, eV/A.
    turns : (N, 3) float64
        Written: dE/d(reduced moment) through pairs, eV.
    virials : (N, 9) float64
        Written: the atom's part of the virial, eV.
    """
    i = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(first + i), tl.load(first + i + 1)
    cell = lattice + 9 * tl.load(structure + i)
    lane = tl.arange(0, BLOCK)
    for a in range(0, 3):
        force = tl.zeros([BLOCK], tl.float64)
        turn = tl.zeros([BLOCK], tl.float64)
        wx = tl.zeros([BLOCK], tl.float64)
        wy = tl.zeros([BLOCK], tl.float64)
        wz = tl.zeros([BLOCK], tl.float64)
        for start in range(begin, end, BLOCK):
            p = start + lane
            valid = p < end
            _, x, y, z = pair_vectors(p, valid, i, positions, neighbours, shifts, cell)
            back = tl.load(reverse + p, mask=valid, other=0).to(tl.int64)
            here, there = pulls + 9 * p + a, pulls + 9 * back + a
            g = tl.load(here, mask=valid, other=0.0)
            force += g - tl.load(there, mask=valid, other=0.0)
            turn += tl.load(there + 3, mask=valid, other=0.0)
            turn += tl.load(here + 6, mask=valid, other=0.0)
            wx -= g * x
            wy -= g * y
            wz -= g * z
        tl.store(forces + 3 * i + a, tl.sum(force, 0))
        tl.store(turns + 3 * i + a, tl.sum(turn, 0))
        tl.store(virials + 9 * i + 3 * a, tl.sum(wx, 0))
        tl.store(virials + 9 * i + 3 * a + 1, tl.sum(wy, 0))
        tl.store(virials + 9 * i + 3 * a + 2, tl.sum(wz, 0))
