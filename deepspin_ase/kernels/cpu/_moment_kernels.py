"""Compiled kernels of networks on moments: features, and both ways to differentiate.

A block of centers is described together. For each, its neighbors are listed in rows, so
that loops over neighbors fill whole vectors of the processor: unit vectors u, monomials
u^c, radial functions R_n and Q_n with their derivatives, reduced moments s. The moments

    A[n, c] = sum_j R_n u^c,    B[n, c, a] = sum_j Q_n u^c s^a

go into a table of values with a column per center, in which the products of
:mod:`deepspin_ase.potentials.networks._invariants` are carried out. In reverse, the
same products bring dE/dD of the features D back to dE/dA and dE/dB, and one more pass
over the neighbors to positions and moments. Along a displacement, they give the change
of the features, which training needs: with forces F = -J^T dE/dD, the derivative of a
loss by dE/dD is -J dL/dF.

Kernels work on a range of centers without the interpreter's lock, so that threads share
the work. Geometry, radial functions and sums of forces are in float64, all else in the
type of the coefficients.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ._compile import compiled, inlined, merged
from ._fitting_kernels import FittingSpace, fit

#: Centers that go through the products together; even.
LANES = 16

#: Channels that go through the pass back together; their number is filled up to it.
UNROLLED = 3


class Moments(NamedTuple):
    """Radial functions and contractions.

    Attributes
    ----------
    cutoff : float, A
    lattice_mixing, spin_mixing : (n_types, channels, basis) float64
        Of the radial functions, by the type of the neighbor; channels are filled up
        with zeros.
    order : (n_types,) uint64
        Types of neighbors in the order of their rows, magnetic ones first.
    magnetic : int
        How many of them are magnetic.
    inverse_moment : (n_types,) float64, 1/mu_B
        Reduced moments are moments times this.
    parent, axis : (monomials,) uint64
        Of the monomials, see :class:`Monomials`.
    spin_monomials : int
        Monomials that moments of the spins have.
    channels, spin_channels, angular, spin_angular : int
        See :class:`Layout`.
    spin_orbit : bool
    out, first, second : (T,) uint32
    coefficient : (T,)
    n_values, n_features : int
        See :class:`Program`.
    """

    cutoff: float
    lattice_mixing: np.ndarray
    spin_mixing: np.ndarray
    order: np.ndarray
    magnetic: int
    inverse_moment: np.ndarray
    parent: np.ndarray
    axis: np.ndarray
    spin_monomials: int
    channels: int
    spin_channels: int
    angular: int
    spin_angular: int
    spin_orbit: bool
    out: np.ndarray
    first: np.ndarray
    second: np.ndarray
    coefficient: np.ndarray
    n_values: int
    n_features: int


class Space(NamedTuple):
    """Work space for a block of centers.

    Attributes
    ----------
    counts, magnetic : (LANES,) int64
        Numbers of neighbors, and of magnetic ones among them.
    atom : (LANES, P) uint64
        The neighbors.
    near : (5, P) float64
        Vectors, squared distances and types of neighbors before they are sorted.
    listed : (P,) uint64
        The same neighbors.
    vector : (LANES, 3, P) float64, A
    distance : (LANES, P) float64, A
    unit : (LANES, 3, P)
    spin : (LANES, 3, P)
        Reduced moments.
    monomials : (LANES, monomials, P)
    basis : (2, basis, P) float64
        Radial basis of the neighbors of one center, and its derivative.
    wide : (7, P) float64
        Scratch.
    radial, radial_slope : (LANES, channels, P)
    spin_radial, spin_radial_slope : (LANES, spin channels, P)
    row : (12, P)
        Scratch.
    bar : (monomials + 3, P)
        dE/d(monomials), and dE/ds.
    values, slopes : (n_values, LANES)
        Values, and their derivatives: dE/dvalue, or dvalue along a displacement.
    """

    counts: np.ndarray
    magnetic: np.ndarray
    atom: np.ndarray
    near: np.ndarray
    listed: np.ndarray
    vector: np.ndarray
    distance: np.ndarray
    unit: np.ndarray
    spin: np.ndarray
    monomials: np.ndarray
    basis: np.ndarray
    wide: np.ndarray
    radial: np.ndarray
    radial_slope: np.ndarray
    spin_radial: np.ndarray
    spin_radial_slope: np.ndarray
    row: np.ndarray
    bar: np.ndarray
    values: np.ndarray
    slopes: np.ndarray

    @classmethod
    def allocate(cls, widest: int, model: Moments) -> Space:
        """Return space for at most ``widest`` neighbors of each center."""
        n, real = max(8, widest + -widest % 8), model.coefficient.dtype
        _, channels, basis = model.lattice_mixing.shape
        spin_channels, monomials = model.spin_mixing.shape[1], len(model.parent)
        shape = (model.n_values, LANES)
        return cls(
            counts=np.zeros(LANES, np.int64),
            magnetic=np.zeros(LANES, np.int64),
            atom=np.zeros((LANES, n), np.uint64),
            near=np.zeros((5, n)),
            listed=np.zeros(n, np.uint64),
            vector=np.zeros((LANES, 3, n)),
            distance=np.ones((LANES, n)),
            unit=np.zeros((LANES, 3, n), real),
            spin=np.zeros((LANES, 3, n), real),
            monomials=np.zeros((LANES, monomials, n), real),
            basis=np.zeros((2, basis, n)),
            wide=np.zeros((7, n)),
            radial=np.zeros((LANES, channels, n), real),
            radial_slope=np.zeros((LANES, channels, n), real),
            spin_radial=np.zeros((LANES, spin_channels, n), real),
            spin_radial_slope=np.zeros((LANES, spin_channels, n), real),
            row=np.zeros((12, n), real),
            bar=np.zeros((monomials + 3, n), real),
            values=np.zeros(shape, real),
            slopes=np.zeros(shape, real),
        )


@merged
def _collect(c, i, geometry, spins, model, space):
    """List the neighbors of atom i in the rows of lane c, sorted by type."""
    positions, shifts, types = geometry.positions, geometry.shifts, geometry.types
    cell = geometry.cells[geometry.structure[i]]
    ax, ay, az = cell[0, 0], cell[0, 1], cell[0, 2]
    bx, by, bz = cell[1, 0], cell[1, 1], cell[1, 2]
    cx, cy, cz = cell[2, 0], cell[2, 1], cell[2, 2]
    xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
    square = model.cutoff * model.cutoff
    near, listed = space.near, space.listed
    n = 0
    for pair in range(geometry.first[i], geometry.first[i + np.uint64(1)]):
        j = np.uint64(geometry.neighbours[pair])
        u, v, w = shifts[pair, 0], shifts[pair, 1], shifts[pair, 2]
        x = positions[j, 0] - xi + u * ax + v * bx + w * cx
        y = positions[j, 1] - yi + u * ay + v * by + w * cy
        z = positions[j, 2] - zi + u * az + v * bz + w * cz
        d = x * x + y * y + z * z
        if d < square:
            near[0, n], near[1, n], near[2, n], near[3, n] = x, y, z, d
            listed[n] = j
            n += 1
    vector, distance, unit, spin = (
        space.vector[c],
        space.distance[c],
        space.unit[c],
        space.spin[c],
    )
    atom = space.atom[c]
    e = 0
    for k in range(len(model.order)):
        b, begin = model.order[k], e
        scale = model.inverse_moment[b]
        for p in range(n):
            j = listed[p]
            if types[j] == b:
                atom[e] = j
                vector[0, e], vector[1, e], vector[2, e] = (
                    near[0, p],
                    near[1, p],
                    near[2, p],
                )
                distance[e] = math.sqrt(near[3, p])
                e += 1
        if k < model.magnetic:
            for p in range(begin, e):
                j = atom[p]
                spin[0, p] = spins[j, 0] * scale
                spin[1, p] = spins[j, 1] * scale
                spin[2, p] = spins[j, 2] * scale
            space.magnetic[c] = e
        _radial(begin, e, b, k < model.magnetic, c, model, space)
    if model.magnetic == 0:
        space.magnetic[c] = 0
    space.counts[c] = n
    for p in range(n):
        inverse = 1.0 / distance[p]
        unit[0, p] = vector[0, p] * inverse
        unit[1, p] = vector[1, p] * inverse
        unit[2, p] = vector[2, p] * inverse
    monomials = space.monomials[c]
    for p in range(n):
        monomials[0, p] = 1
    for m in range(1, len(model.parent)):
        lower, u, result = monomials[model.parent[m]], unit[model.axis[m]], monomials[m]
        for p in range(n):
            result[p] = lower[p] * u[p]


@merged
def _radial(begin, end, b, magnetic, c, model, space):
    """Fill in the radial functions of the neighbors of type b."""
    basis, slope, row = space.basis[0], space.basis[1], space.wide
    n = end - begin
    if n == 0:
        return
    distance = space.distance[c]
    per_cutoff = 1.0 / model.cutoff
    x, f, g = row[0], row[1], row[2]
    for p in range(n):
        t = distance[begin + p] * per_cutoff
        x[p] = 2.0 * t - 1.0
        rest = 1.0 - t
        f[p] = rest * rest * rest * (1.0 + 3.0 * t + 6.0 * t * t)
        g[p] = -30.0 * per_cutoff * t * t * rest * rest
    # Chebyshev polynomials T_k(x) and derivatives, times the cut-off function.
    per_length = 2.0 * per_cutoff
    a0, a1, d0, d1 = row[3], row[4], row[5], row[6]
    for p in range(n):
        a0[p], a1[p], d0[p], d1[p] = 1.0, x[p], 0.0, 1.0
        basis[0, p], slope[0, p] = f[p], g[p]
    for k in range(1, len(basis)):
        value, derivative = basis[k], slope[k]
        for p in range(n):
            value[p] = a1[p] * f[p]
            derivative[p] = a1[p] * g[p] + d1[p] * f[p] * per_length
            t = 2.0 * x[p] * a1[p] - a0[p]
            d = 2.0 * (a1[p] + x[p] * d1[p]) - d0[p]
            a0[p], a1[p], d0[p], d1[p] = a1[p], t, d1[p], d
    mixing, total = model.lattice_mixing[b], row[0]
    _mix(begin, n, model.channels, mixing, basis, total, space.radial[c])
    _mix(begin, n, model.channels, mixing, slope, total, space.radial_slope[c])
    if magnetic:
        mixing, few = model.spin_mixing[b], model.spin_channels
        _mix(begin, n, few, mixing, basis, total, space.spin_radial[c])
        _mix(begin, n, few, mixing, slope, total, space.spin_radial_slope[c])


@inlined
def _mix(begin, n, channels, mixing, basis, total, result):
    """Set rows of radial functions to linear combinations of the basis.

    In float64: basis functions nearly cancel in the less important combinations.
    """
    whole = len(basis) - len(basis) % 2
    for m in range(channels):
        for p in range(n):
            total[p] = 0
        for k in range(0, whole, 2):
            w0, w1, b0, b1 = mixing[m, k], mixing[m, k + 1], basis[k], basis[k + 1]
            for p in range(n):
                total[p] += w0 * b0[p] + w1 * b1[p]
        for k in range(whole, len(basis)):
            w, b = mixing[m, k], basis[k]
            for p in range(n):
                total[p] += w * b[p]
        y = result[m, begin : begin + n]
        for p in range(n):
            y[p] = total[p]


@inlined
def _dot(n, a, b):
    """Return sum a b."""
    total = a.dtype.type(0)
    for p in range(n):
        total += a[p] * b[p]
    return total


@merged
def _add_moments(c, own, model, space):
    """Set the moments of lane c from its rows."""
    values, row = space.values, space.row
    n, nm = space.counts[c], space.magnetic[c]
    monomials, radial, spin = space.monomials[c], space.radial[c], space.spin[c]
    unit, spin_radial = space.unit[c], space.spin_radial[c]
    values[0, c] = 1
    for a in range(3):
        values[1 + a, c] = own[a]
    place = 4
    for m in range(len(model.parent)):
        for k in range(model.angular if m > 0 else model.channels):
            values[place, c] = _dot(n, monomials[m], radial[k])
            place += 1
    if model.spin_channels == 0:
        return
    product = row[0]
    for m in range(model.spin_monomials):
        for a in range(3):
            low, high = monomials[m], spin[a]
            for p in range(nm):
                product[p] = low[p] * high[p]
            for k in range(model.spin_angular if m > 0 else model.spin_channels):
                values[place, c] = _dot(nm, product, spin_radial[k])
                place += 1
    squares, biquadratic = row[0], row[1]
    s0, s1, s2 = own[0], own[1], own[2]
    for p in range(nm):
        x, y, z = spin[0, p], spin[1, p], spin[2, p]
        squares[p] = x * x + y * y + z * z
        t = s0 * x + s1 * y + s2 * z
        biquadratic[p] = t * t
    for k in range(model.spin_channels):
        values[place, c] = _dot(nm, squares, spin_radial[k])
        place += 1
    for k in range(model.spin_channels):
        values[place, c] = _dot(nm, biquadratic, spin_radial[k])
        place += 1
    if model.spin_orbit:
        quartic = row[0]
        for p in range(n):
            t = s0 * unit[0, p] + s1 * unit[1, p] + s2 * unit[2, p]
            quartic[p] = t * t * t * t
        for k in range(model.channels):
            values[place, c] = _dot(n, quartic, radial[k])
            place += 1


@merged
def _multiply(model, values):
    """Carry out all products."""
    for v in range(model.out[0], model.n_values):
        y = values[v]
        for c in range(LANES):
            y[c] = 0
    for t in range(len(model.out)):
        factor = model.coefficient[t]
        y, a, b = values[model.out[t]], values[model.first[t]], values[model.second[t]]
        for c in range(LANES):
            y[c] += factor * a[c] * b[c]


@merged
def _multiply_back(model, values, slopes):
    """Bring dE/dvalue of the features back to all values that they are made of."""
    for v in range(model.n_values - model.n_features):
        y = slopes[v]
        for c in range(LANES):
            y[c] = 0
    for t in range(len(model.out) - 1, -1, -1):
        factor = model.coefficient[t]
        a, b = model.first[t], model.second[t]
        y, x, z = slopes[model.out[t]], values[b], slopes[a]
        if a > 0:
            for c in range(LANES):
                z[c] += factor * x[c] * y[c]
        x, z = values[a], slopes[b]
        for c in range(LANES):
            z[c] += factor * x[c] * y[c]


@merged
def _multiply_along(model, values, slopes):
    """Carry the changes of the moments on to all values."""
    for v in range(model.out[0], model.n_values):
        y = slopes[v]
        for c in range(LANES):
            y[c] = 0
    for t in range(len(model.out)):
        factor = model.coefficient[t]
        o, i, j = model.out[t], model.first[t], model.second[t]
        y, a, b, da, db = slopes[o], values[i], values[j], slopes[i], slopes[j]
        for c in range(LANES):
            y[c] += factor * (da[c] * b[c] + a[c] * db[c])


@inlined
def _combine(n, place, c, channels, slopes, radial, result):
    """Set ``result`` to the sum of rows times dE/d(moments at ``place``)."""
    zero = result.dtype.type(0)
    for p in range(n):
        result[p] = zero
    for k in range(0, channels, UNROLLED):
        w0 = slopes[place + k, c]
        w1 = slopes[place + k + 1, c] if k + 1 < channels else zero
        w2 = slopes[place + k + 2, c] if k + 2 < channels else zero
        r0, r1, r2 = radial[k], radial[k + 1], radial[k + 2]
        for p in range(n):
            result[p] += w0 * r0[p] + w1 * r1[p] + w2 * r2[p]


@merged
def _pull_back(c, i, own, geometry, model, space, forces, fields, virial):
    """Add what dE/d(moments) of lane c, atom i, means for positions and moments."""
    slopes, row, bar = space.slopes, space.row, space.bar
    n, nm = space.counts[c], space.magnetic[c]
    monomials, spin, unit = space.monomials[c], space.spin[c], space.unit[c]
    radial, radial_slope = space.radial[c], space.radial_slope[c]
    spin_radial, spin_slope = space.spin_radial[c], space.spin_radial_slope[c]
    count = len(model.parent)
    real = bar.dtype.type
    along, left, right = row[0], row[1], row[2]
    for p in range(n):
        along[p] = 0
    place = 4
    for m in range(count):
        u, result = monomials[m], bar[m]
        channels = model.angular if m > 0 else model.channels
        _combine(n, place, c, channels, slopes, radial, result)
        _combine(n, place, c, channels, slopes, radial_slope, right)
        for p in range(n):
            along[p] += u[p] * right[p]
        place += channels
    s0, s1, s2 = own[0], own[1], own[2]
    g0, g1, g2 = float(slopes[1, c]), float(slopes[2, c]), float(slopes[3, c])
    if model.spin_channels > 0:
        bx, by, bz = bar[count], bar[count + 1], bar[count + 2]
        for p in range(nm):
            bx[p] = by[p] = bz[p] = 0
        for m in range(model.spin_monomials):
            u, result = monomials[m], bar[m]
            channels = model.spin_angular if m > 0 else model.spin_channels
            for a in range(3):
                s, b = spin[a], bar[count + a]
                _combine(nm, place, c, channels, slopes, spin_radial, left)
                _combine(nm, place, c, channels, slopes, spin_slope, right)
                for p in range(nm):
                    result[p] += s[p] * left[p]
                    b[p] += u[p] * left[p]
                    along[p] += u[p] * s[p] * right[p]
                place += channels
        _combine(nm, place, c, model.spin_channels, slopes, spin_radial, left)
        _combine(nm, place, c, model.spin_channels, slopes, spin_slope, right)
        two = real(2)
        for p in range(nm):
            x, y, z = spin[0, p], spin[1, p], spin[2, p]
            along[p] += (x * x + y * y + z * z) * right[p]
            bx[p] += two * x * left[p]
            by[p] += two * y * left[p]
            bz[p] += two * z * left[p]
        place += model.spin_channels
        _combine(nm, place, c, model.spin_channels, slopes, spin_radial, left)
        _combine(nm, place, c, model.spin_channels, slopes, spin_slope, right)
        h0 = h1 = h2 = real(0)
        for p in range(nm):
            x, y, z = spin[0, p], spin[1, p], spin[2, p]
            t = s0 * x + s1 * y + s2 * z
            w = two * t * left[p]
            along[p] += t * t * right[p]
            bx[p] += w * s0
            by[p] += w * s1
            bz[p] += w * s2
            h0 += w * x
            h1 += w * y
            h2 += w * z
        g0, g1, g2 = g0 + h0, g1 + h1, g2 + h2
        place += model.spin_channels
    # From here on, bar[m] of lower monomials collects what the higher hold of u.
    gx, gy, gz = row[3], row[4], row[5]
    for p in range(n):
        gx[p] = gy[p] = gz[p] = 0
    if model.spin_orbit:
        _combine(n, place, c, model.channels, slopes, radial, left)
        _combine(n, place, c, model.channels, slopes, radial_slope, right)
        h0 = h1 = h2 = real(0)
        four = real(4)
        for p in range(n):
            x, y, z = unit[0, p], unit[1, p], unit[2, p]
            t = s0 * x + s1 * y + s2 * z
            w = four * t * t * t * left[p]
            along[p] += t * t * t * t * right[p]
            gx[p] += w * s0
            gy[p] += w * s1
            gz[p] += w * s2
            h0 += w * x
            h1 += w * y
            h2 += w * z
        g0, g1, g2 = g0 + h0, g1 + h1, g2 + h2
    for m in range(count - 1, 0, -1):
        lower, upper = bar[model.parent[m]], bar[m]
        u, g, v = (
            unit[model.axis[m]],
            row[3 + model.axis[m]],
            monomials[model.parent[m]],
        )
        for p in range(n):
            lower[p] += upper[p] * u[p]
        for p in range(n):
            g[p] += upper[p] * v[p]
    _scatter(c, i, n, nm, geometry, model, space, forces, fields, virial)
    scale = model.inverse_moment[geometry.types[i]]
    fields[i, 0] -= scale * g0
    fields[i, 1] -= scale * g1
    fields[i, 2] -= scale * g2


@inlined
def _scatter(c, i, n, nm, geometry, model, space, forces, fields, virial):
    """Add the derivatives by the rows of lane c to those by the atoms."""
    row, bar, atom, vector = space.row, space.bar, space.atom[c], space.vector[c]
    distance, unit, count = space.distance[c], space.unit[c], len(model.parent)
    along, gx, gy, gz = row[0], row[3], row[4], row[5]
    for p in range(n):
        x, y, z = unit[0, p], unit[1, p], unit[2, p]
        inverse = row.dtype.type(1.0 / distance[p])
        radial = along[p] - (x * gx[p] + y * gy[p] + z * gz[p]) * inverse
        gx[p] = gx[p] * inverse + radial * x
        gy[p] = gy[p] * inverse + radial * y
        gz[p] = gz[p] * inverse + radial * z
    fx = fy = fz = 0.0
    w00 = w01 = w02 = w10 = w11 = w12 = w20 = w21 = w22 = 0.0
    for p in range(n):
        j = atom[p]
        x, y, z = vector[0, p], vector[1, p], vector[2, p]
        hx, hy, hz = float(gx[p]), float(gy[p]), float(gz[p])
        fx += hx
        fy += hy
        fz += hz
        forces[j, 0] -= hx
        forces[j, 1] -= hy
        forces[j, 2] -= hz
        w00 += hx * x
        w01 += hx * y
        w02 += hx * z
        w10 += hy * x
        w11 += hy * y
        w12 += hy * z
        w20 += hz * x
        w21 += hz * y
        w22 += hz * z
    forces[i, 0] += fx
    forces[i, 1] += fy
    forces[i, 2] += fz
    virial[0, 0] -= w00
    virial[0, 1] -= w01
    virial[0, 2] -= w02
    virial[1, 0] -= w10
    virial[1, 1] -= w11
    virial[1, 2] -= w12
    virial[2, 0] -= w20
    virial[2, 1] -= w21
    virial[2, 2] -= w22
    for p in range(nm):
        j = atom[p]
        scale = model.inverse_moment[geometry.types[j]]
        fields[j, 0] -= scale * bar[count, p]
        fields[j, 1] -= scale * bar[count + 1, p]
        fields[j, 2] -= scale * bar[count + 2, p]


@merged
def _move(c, i, own, turn, geometry, model, moved, strain, turned, space):
    """Set the changes of the moments of lane c, atom i, along a displacement.

    ``own`` and ``turn`` are the atom's reduced moment and its change, ``moved`` and
    ``turned`` the changes of positions and moments, ``strain`` that of the cell.
    """
    slopes, row, bar, atom = space.slopes, space.row, space.bar, space.atom[c]
    n, nm, vector = space.counts[c], space.magnetic[c], space.vector[c]
    monomials, spin, unit = space.monomials[c], space.spin[c], space.unit[c]
    radial, radial_slope = space.radial[c], space.radial_slope[c]
    spin_radial, spin_slope = space.spin_radial[c], space.spin_radial_slope[c]
    count = len(model.parent)
    dr, dx, dy, dz, product = row[0], row[1], row[2], row[3], row[4]
    for p in range(n):
        j = atom[p]
        x, y, z = vector[0, p], vector[1, p], vector[2, p]
        hx = moved[j, 0] - moved[i, 0]
        hy = moved[j, 1] - moved[i, 1]
        hz = moved[j, 2] - moved[i, 2]
        hx += strain[0, 0] * x + strain[0, 1] * y + strain[0, 2] * z
        hy += strain[1, 0] * x + strain[1, 1] * y + strain[1, 2] * z
        hz += strain[2, 0] * x + strain[2, 1] * y + strain[2, 2] * z
        inverse = 1.0 / space.distance[c, p]
        t = (x * hx + y * hy + z * hz) * inverse
        dr[p] = t
        dx[p] = (hx - t * inverse * x) * inverse
        dy[p] = (hy - t * inverse * y) * inverse
        dz[p] = (hz - t * inverse * z) * inverse
    for p in range(n):
        bar[0, p] = 0
    for m in range(1, count):
        lower, v, result = bar[model.parent[m]], monomials[model.parent[m]], bar[m]
        u, d = unit[model.axis[m]], row[1 + model.axis[m]]
        for p in range(n):
            result[p] = lower[p] * u[p] + v[p] * d[p]
    slopes[0, c] = 0
    for a in range(3):
        slopes[1 + a, c] = turn[a]
    place = 4
    for m in range(count):
        u, d = monomials[m], bar[m]
        for p in range(n):
            product[p] = u[p] * dr[p]
        for k in range(model.angular if m > 0 else model.channels):
            slopes[place, c] = _dot(n, d, radial[k]) + _dot(n, product, radial_slope[k])
            place += 1
    if model.spin_channels == 0:
        return
    bx, by, bz = bar[count], bar[count + 1], bar[count + 2]
    for p in range(nm):
        j = atom[p]
        scale = model.inverse_moment[geometry.types[j]]
        bx[p] = scale * turned[j, 0]
        by[p] = scale * turned[j, 1]
        bz[p] = scale * turned[j, 2]
    left, right = row[4], row[5]
    for m in range(model.spin_monomials):
        u, d = monomials[m], bar[m]
        for a in range(3):
            s, b = spin[a], bar[count + a]
            for p in range(nm):
                left[p] = d[p] * s[p] + u[p] * b[p]
                right[p] = u[p] * s[p] * dr[p]
            for k in range(model.spin_angular if m > 0 else model.spin_channels):
                slopes[place, c] = _dot(nm, left, spin_radial[k]) + _dot(
                    nm, right, spin_slope[k]
                )
                place += 1
    s0, s1, s2 = own[0], own[1], own[2]
    t0, t1, t2 = turn[0], turn[1], turn[2]
    two = row.dtype.type(2)
    for p in range(nm):
        x, y, z = spin[0, p], spin[1, p], spin[2, p]
        left[p] = two * (x * bx[p] + y * by[p] + z * bz[p])
        right[p] = (x * x + y * y + z * z) * dr[p]
    for k in range(model.spin_channels):
        slopes[place, c] = _dot(nm, left, spin_radial[k]) + _dot(
            nm, right, spin_slope[k]
        )
        place += 1
    for p in range(nm):
        x, y, z = spin[0, p], spin[1, p], spin[2, p]
        t = s0 * x + s1 * y + s2 * z
        d = t0 * x + t1 * y + t2 * z + s0 * bx[p] + s1 * by[p] + s2 * bz[p]
        left[p] = two * t * d
        right[p] = t * t * dr[p]
    for k in range(model.spin_channels):
        slopes[place, c] = _dot(nm, left, spin_radial[k]) + _dot(
            nm, right, spin_slope[k]
        )
        place += 1
    if model.spin_orbit:
        four = row.dtype.type(4)
        for p in range(n):
            x, y, z = unit[0, p], unit[1, p], unit[2, p]
            t = s0 * x + s1 * y + s2 * z
            d = t0 * x + t1 * y + t2 * z + s0 * dx[p] + s1 * dy[p] + s2 * dz[p]
            left[p] = four * t * t * t * d
            right[p] = t * t * t * t * dr[p]
        for k in range(model.channels):
            slopes[place, c] = _dot(n, left, radial[k]) + _dot(
                n, right, radial_slope[k]
            )
            place += 1


@merged
def _describe(start, n, centers, geometry, spins, model, own, space):
    """Compute the values of n centers."""
    for c in range(n):
        i = centers[start + c]
        scale = model.inverse_moment[geometry.types[i]]
        for a in range(3):
            own[c, a] = spins[i, a] * scale
        _collect(c, i, geometry, spins, model, space)
        _add_moments(c, own[c], model, space)
    _multiply(model, space.values)


@compiled
def features(begin, end, centers, geometry, spins, model, space, own, result):
    """Set rows ``centers[begin:end]`` of the features ``result`` (N, K)."""
    offset = model.n_values - model.n_features
    for start in range(begin, end, LANES):
        n = min(LANES, end - start)
        _describe(start, n, centers, geometry, spins, model, own, space)
        for c in range(n):
            row = result[centers[start + c]]
            for k in range(model.n_features):
                row[k] = space.values[offset + k, c]


@compiled
def pull_back(
    begin,
    end,
    centers,
    geometry,
    spins,
    model,
    space,
    own,
    gradient,
    forces,
    fields,
    virial,
):
    """Add -dE/dR, -dE/dm and the virial for dE/dD ``gradient`` (N, K) of the centers.

    ``forces`` and ``fields`` (N, 3) and ``virial`` (B, 3, 3) are added to.
    """
    offset = model.n_values - model.n_features
    for start in range(begin, end, LANES):
        n = min(LANES, end - start)
        _describe(start, n, centers, geometry, spins, model, own, space)
        for c in range(n):
            row = gradient[centers[start + c]]
            for k in range(model.n_features):
                space.slopes[offset + k, c] = row[k]
        _multiply_back(model, space.values, space.slopes)
        for c in range(n):
            i = centers[start + c]
            W = virial[geometry.structure[i]]
            _pull_back(c, i, own[c], geometry, model, space, forces, fields, W)


@compiled
def push_forward(
    begin,
    end,
    centers,
    geometry,
    spins,
    model,
    space,
    own,
    turn,
    moved,
    turned,
    strain,
    result,
):
    """Set the changes of the features along a displacement.

    ``moved`` and ``turned`` (N, 3) are the changes of positions and moments, ``strain``
    (B, 3, 3) those of the cells and positions in them, ``result`` (N, K).
    """
    offset = model.n_values - model.n_features
    for start in range(begin, end, LANES):
        n = min(LANES, end - start)
        _describe(start, n, centers, geometry, spins, model, own, space)
        for c in range(n):
            i = centers[start + c]
            scale = model.inverse_moment[geometry.types[i]]
            for a in range(3):
                turn[c, a] = turned[i, a] * scale
            U = strain[geometry.structure[i]]
            _move(c, i, own[c], turn[c], geometry, model, moved, U, turned, space)
        _multiply_along(model, space.values, space.slopes)
        for c in range(n):
            row = result[centers[start + c]]
            for k in range(model.n_features):
                row[k] = space.slopes[offset + k, c]


@compiled
def evaluate(
    begin,
    end,
    centers,
    geometry,
    spins,
    model,
    space,
    own,
    linear,
    fitting,
    derivatives,
    fits,
    energies,
    forces,
    fields,
    virial,
):
    """Add the energies of ``centers[begin:end]``, of one type, and derivatives.

    Energies are ``linear`` (K,) times the features plus those of a fitting network.
    """
    offset = model.n_values - model.n_features
    values, slopes = space.values, space.slopes
    for start in range(begin, end, LANES):
        n = min(LANES, end - start)
        _describe(start, n, centers, geometry, spins, model, own, space)
        for c in range(LANES):
            for k in range(model.n_features):
                fits.features[c, k] = values[offset + k, c]
        fit(n, fitting, derivatives, fits)
        for c in range(n):
            row = fits.features[c]
            energies[centers[start + c]] += fits.values[-1, c, 0] + _dot(
                model.n_features, row, linear
            )
        if derivatives:
            for c in range(LANES):
                row = fits.gradients[c]
                for k in range(model.n_features):
                    slopes[offset + k, c] = row[k] + linear[k]
            _multiply_back(model, values, slopes)
            for c in range(n):
                i = centers[start + c]
                W = virial[geometry.structure[i]]
                _pull_back(c, i, own[c], geometry, model, space, forces, fields, W)


@inlined
def _seed(lane, c, e, axis, turns, own, model, space):
    """Set the changes of the moments of lane c with one component of neighbor e.

    Of its position, or of its reduced moment (``turns``).
    """
    slopes, bar = space.slopes, space.bar
    unit, spin, monomials = space.unit[c], space.spin[c], space.monomials[c]
    real = slopes.dtype.type
    count = len(model.parent)
    radial, radial_slope = space.radial[c], space.radial_slope[c]
    spin_radial, spin_slope = space.spin_radial[c], space.spin_radial_slope[c]
    inverse = real(1.0 / space.distance[c, e])
    x, y, z = unit[0, e], unit[1, e], unit[2, e]
    dr = unit[axis, e]
    dx, dy, dz = -x * dr * inverse, -y * dr * inverse, -z * dr * inverse
    if axis == 0:
        dx += inverse
    elif axis == 1:
        dy += inverse
    else:
        dz += inverse
    if turns:
        dr = dx = dy = dz = real(0)
    bar[0, 0] = 0
    for m in range(1, count):
        parent = model.parent[m]
        d = dx if model.axis[m] == 0 else (dy if model.axis[m] == 1 else dz)
        bar[m, 0] = bar[parent, 0] * unit[model.axis[m], e] + monomials[parent, e] * d
    for a in range(4):
        slopes[a, lane] = 0
    place = 4
    for m in range(count):
        for k in range(model.angular if m > 0 else model.channels):
            slopes[place, lane] = (
                bar[m, 0] * radial[k, e] + monomials[m, e] * dr * radial_slope[k, e]
            )
            place += 1
    if model.spin_channels > 0:
        sx = sy = sz = tx = ty = tz = real(0)
        if e < space.magnetic[c]:
            sx, sy, sz = spin[0, e], spin[1, e], spin[2, e]
            if turns:
                if axis == 0:
                    tx = real(1)
                elif axis == 1:
                    ty = real(1)
                else:
                    tz = real(1)
        magnetic = e < space.magnetic[c]
        for m in range(model.spin_monomials):
            for a in range(3):
                s = sx if a == 0 else (sy if a == 1 else sz)
                t = tx if a == 0 else (ty if a == 1 else tz)
                left = bar[m, 0] * s + monomials[m, e] * t
                right = monomials[m, e] * s * dr
                for k in range(model.spin_angular if m > 0 else model.spin_channels):
                    slopes[place, lane] = (
                        left * spin_radial[k, e] + right * spin_slope[k, e]
                        if magnetic
                        else real(0)
                    )
                    place += 1
        square = sx * sx + sy * sy + sz * sz
        change = real(2) * (sx * tx + sy * ty + sz * tz)
        aligned = own[0] * sx + own[1] * sy + own[2] * sz
        turned = real(2) * aligned * (own[0] * tx + own[1] * ty + own[2] * tz)
        for k in range(model.spin_channels):
            slopes[place, lane] = (
                change * spin_radial[k, e] + square * dr * spin_slope[k, e]
                if magnetic
                else real(0)
            )
            place += 1
        for k in range(model.spin_channels):
            slopes[place, lane] = (
                turned * spin_radial[k, e] + aligned * aligned * dr * spin_slope[k, e]
                if magnetic
                else real(0)
            )
            place += 1
    if model.spin_orbit:
        t = own[0] * x + own[1] * y + own[2] * z
        d = own[0] * dx + own[1] * dy + own[2] * dz
        for k in range(model.channels):
            slopes[place, lane] = (
                real(4) * t * t * t * d * radial[k, e]
                + t * t * t * t * dr * radial_slope[k, e]
            )
            place += 1


@inlined
def _seed_own(lane, c, axis, own, model, space):
    """Set the changes of the moments of lane c with the atom's own reduced moment."""
    slopes, row = space.slopes, space.row[0]
    unit, spin = space.unit[c], space.spin[c]
    real = slopes.dtype.type
    for v in range(model.out[0]):
        slopes[v, lane] = 0
    slopes[1 + axis, lane] = 1
    place = 4 + model.channels + (len(model.parent) - 1) * model.angular
    if model.spin_channels > 0:
        n = space.magnetic[c]
        place += 4 * model.spin_channels
        place += 3 * (model.spin_monomials - 1) * model.spin_angular
        for p in range(n):
            t = own[0] * spin[0, p] + own[1] * spin[1, p] + own[2] * spin[2, p]
            row[p] = real(2) * t * spin[axis, p]
        for k in range(model.spin_channels):
            slopes[place, lane] = _dot(n, row, space.spin_radial[c, k])
            place += 1
    if model.spin_orbit:
        n = space.counts[c]
        for p in range(n):
            t = own[0] * unit[0, p] + own[1] * unit[1, p] + own[2] * unit[2, p]
            row[p] = real(4) * t * t * t * unit[axis, p]
        for k in range(model.channels):
            slopes[place, lane] = _dot(n, row, space.radial[c, k])
            place += 1


@compiled
def design(begin, end, centers, geometry, spins, model, space, own, scale, result):
    """Add the derivatives of sums of features over the centers to rows of a matrix.

    Parameters
    ----------
    scale : (n_types, K) float64
        Features are multiplied by it, by the type of the center.
    result : (n_types, 1 + 6 N + 9, K) float64
        The sums of the features of the centers of every type, their derivatives by
        positions (1/A), moments (1/mu_B) and strain.
    """
    offset, count = model.n_values - model.n_features, len(geometry.types)
    values, slopes = space.values, space.slopes
    # Direction of each lane: neighbor (or -1 for the atom itself), axis, kind.
    neighbor = np.zeros(LANES, np.int64)
    axes = np.zeros(LANES, np.int64)
    kinds = np.zeros(LANES, np.int64)
    for start in range(begin, end):
        i = centers[start]
        type_ = geometry.types[i]
        rows, factor = result[type_], scale[type_]
        for a in range(3):
            own[0, a] = spins[i, a] * model.inverse_moment[type_]
        _collect(0, i, geometry, spins, model, space)
        _add_moments(0, own[0], model, space)
        for v in range(model.out[0]):
            for c in range(1, LANES):
                values[v, c] = values[v, 0]
        _multiply(model, values)
        for k in range(model.n_features):
            rows[0, k] += values[offset + k, 0] * factor[k]
        n, nm = space.counts[0], space.magnetic[0]
        own_turns = 3 if model.spin_channels > 0 else 0
        total = 3 * n + (3 * nm if model.spin_channels > 0 else 0) + own_turns
        for first in range(0, total, LANES):
            lanes = min(LANES, total - first)
            for lane in range(lanes):
                d = first + lane
                axis = d % 3
                axes[lane] = axis
                if d < 3 * n:
                    neighbor[lane], kinds[lane] = d // 3, 0
                    _seed(lane, 0, d // 3, axis, False, own[0], model, space)
                elif d < 3 * n + 3 * nm:
                    neighbor[lane], kinds[lane] = (d - 3 * n) // 3, 1
                    _seed(lane, 0, (d - 3 * n) // 3, axis, True, own[0], model, space)
                else:
                    neighbor[lane], kinds[lane] = -1, 1
                    _seed_own(lane, 0, axis, own[0], model, space)
            _multiply_along(model, values, slopes)
            for lane in range(lanes):
                e, axis = neighbor[lane], axes[lane]
                j = i if e < 0 else space.atom[0, e]
                if kinds[lane] == 1:
                    row = rows[1 + 3 * (np.uint64(count) + j) + np.uint64(axis)]
                    per = model.inverse_moment[geometry.types[j]]
                    for k in range(model.n_features):
                        row[k] += slopes[offset + k, lane] * factor[k] * per
                else:
                    here = rows[1 + 3 * i + np.uint64(axis)]
                    there = rows[1 + 3 * j + np.uint64(axis)]
                    strained = 1 + 6 * count + 3 * axis
                    x = space.vector[0, 0, e]
                    y = space.vector[0, 1, e]
                    z = space.vector[0, 2, e]
                    r0, r1, r2 = rows[strained], rows[strained + 1], rows[strained + 2]
                    for k in range(model.n_features):
                        g = slopes[offset + k, lane] * factor[k]
                        there[k] += g
                        here[k] -= g
                        r0[k] += g * x
                        r1[k] += g * y
                        r2[k] += g * z


def fitting_space(fitting):
    """Return work space for the fitting of one block."""
    return FittingSpace.allocate(LANES, fitting)
