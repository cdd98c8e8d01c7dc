"""Compiled kernels of networks on moments: features, and both ways to differentiate.

The moments of an atom's neighborhood are sums over neighbors of radial functions X_k(r)
times factors L_f, products of its direction u, its reduced moment s and that of the
atom:

    M_v = sum_j L_f(v)(u_j, s_j, s_i) X_k(v)(r_j).

Factors are made by one list of products, and features of moments by another, see
:mod:`deepspin_ase.potentials.networks._invariants`. A list is carried out in three ways
(:func:`_multiply`, :func:`_multiply_back`, :func:`_multiply_along`): for values, for
derivatives of the energy, and for changes along a displacement. With forces
F = -J^T dE/dD of features D, the derivative of a loss by dE/dD is -J dL/dF, so that
training needs the last.

LANES atoms go together, a vector holds one number of each. Neighbors stand in slots: a
slot holds one neighbor of every atom, all of one element, magnetic ones first; where an
atom has fewer, something at the cutoff, where radial functions vanish. Kernels work on
a range of atoms without the interpreter's lock, so that threads share the work.
Geometry, radial functions and sums of forces are in float64, all else in the type of
the coefficients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._compile import compiled, inlined, merged
from ._fitting_kernels import TANH, activate
from ._lanes import LANES, double, load, root, spread, store

#: Slots that are summed together.
GROUP = 4

#: What :func:`run` does.
FEATURES, PULL_BACK, PUSH_FORWARD, ENERGIES, DERIVATIVES = range(5)


class Products(NamedTuple):
    """Sums of products of two values, each complete before it is used.

    Attributes
    ----------
    out : (S,) uint32
        Values that the sums make.
    start : (S + 1,) uint32
        Terms of sum s are ``start[s]`` to ``start[s + 1]``.
    first, second : (T,) uint32
        Factors of the terms; value 0 is one.
    coefficient : (T,)
    """

    out: np.ndarray
    start: np.ndarray
    first: np.ndarray
    second: np.ndarray
    coefficient: np.ndarray


class Moments(NamedTuple):
    """Radial functions, factors and contractions.

    Attributes
    ----------
    cutoff : float, A
    mixing : (n_types, channels, basis) float64
        Radial functions by the type of the neighbor, those of the lattice first; an
        even number, filled up with zeros.
    lattice : int
        How many are of the lattice.
    order : (n_types,) uint64
        Types of neighbors in the order of their slots, magnetic ones first.
    magnetic : int
        How many of them are magnetic.
    inverse_moment : (n_types,) float64, 1/mu_B
        Reduced moments are moments times this.
    factors : Products
        Of value 0, the direction u (1 to 3), s_j (4 to 6) and s_i (7 to 9).
    n_factors : int
        Number of these values.
    rows : (R, 3) uint32
        Factor, first radial function and number of them: the products of each are
        summed over neighbors to the next moments.
    by_channel : (channels + 1,) uint32
        Moments with radial function k are those from ``by_channel[k]`` to
        ``by_channel[k + 1]`` of
    factor, moment : (V,) uint32
        the factors and moments sorted by radial function.
    contractions : Products
        Of value 0, s_i (1 to 3) and the moments.
    n_moments, n_values, n_features : int
        The last values are the features.
    """

    cutoff: float
    mixing: np.ndarray
    lattice: int
    order: np.ndarray
    magnetic: int
    inverse_moment: np.ndarray
    factors: Products
    n_factors: int
    rows: np.ndarray
    by_channel: np.ndarray
    factor: np.ndarray
    moment: np.ndarray
    contractions: Products
    n_moments: int
    n_values: int
    n_features: int


class Head(NamedTuple):
    """Energies of atoms of one type as a function of their features.

    A linear term and dense layers with tanh in between, whose widths are filled up to
    multiples of four.

    Attributes
    ----------
    linear : (inputs,)
    weights : (n,)
        Of each layer: matrix (inputs, outputs), its transpose, bias.
    widths : (n_layers + 1,) int64
        Inputs of the layers, and outputs of the last, of which the first counts.
    copies : (n_layers,) int64
        How many copies of the input are added to the output.
    """

    linear: np.ndarray
    weights: np.ndarray
    widths: np.ndarray
    copies: np.ndarray


class Space(NamedTuple):
    """Work space for a block of atoms.

    Arrays of vectors have a row of LANES numbers for each.

    Attributes
    ----------
    near : (LANES, P, 3) float64, A
        Vectors to the neighbors of each atom before they are given slots.
    listed : (LANES, P) uint64
        Those neighbors.
    counts : (LANES,) int64
        How many there are.
    begin, used : (n_types,) int64
        First slot of every type, and a counter.
    kind : (slots,) uint64
        Types of the slots.
    atom : (slots, LANES) uint64
        The neighbors.
    vector : (3 slots, LANES) float64, A
    distance : (slots, LANES) float64, A
    spin : (3 slots, LANES) float64
        Reduced moments of the neighbors.
    own, own_change : (3, LANES) float64
        Reduced moments of the atoms, and their change along a displacement.
    basis : (2 basis, LANES) float64
        Radial basis at one slot, and its derivatives, 1/A.
    radial : (2 slots channels, LANES)
        Radial functions of each slot, and their derivatives, 1/A.
    factors, factor_slopes : (GROUP n_factors, LANES)
        Factors of a group of slots, and their derivatives.
    values, slopes : (n_values + 3, LANES)
        Values of the contractions, and derivatives: dE/dvalue, or dvalue along a
        displacement.
    wide : (15, LANES) float64
        Scratch: derivatives by a neighbor's position and moment, and their sums.
    hidden, hidden_slopes : (layers, width, LANES)
        Outputs of the layers of a head and derivatives of their activations.
    chain : (3, width, LANES)
        Derivatives by outputs and inputs of a layer.
    """

    near: np.ndarray
    listed: np.ndarray
    counts: np.ndarray
    begin: np.ndarray
    used: np.ndarray
    kind: np.ndarray
    atom: np.ndarray
    vector: np.ndarray
    distance: np.ndarray
    spin: np.ndarray
    own: np.ndarray
    own_change: np.ndarray
    basis: np.ndarray
    radial: np.ndarray
    factors: np.ndarray
    factor_slopes: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    wide: np.ndarray
    hidden: np.ndarray
    hidden_slopes: np.ndarray
    chain: np.ndarray

    @classmethod
    def allocate(cls, widest: int, model: Moments, layers: int, width: int) -> Space:
        """Return space for at most ``widest`` neighbors of each atom.

        And for heads with a number of layers of at most some ``width``.
        """
        n_types, channels, basis = model.mixing.shape
        slots = n_types * widest + GROUP
        real = model.contractions.coefficient.dtype

        def rows(n: int, dtype: np.dtype | type = np.float64) -> np.ndarray:
            return _aligned((n, LANES), dtype)

        return cls(
            near=_aligned((LANES, widest, 3), np.float64),
            listed=_aligned((LANES, widest), np.uint64),
            counts=np.zeros(LANES, np.int64),
            begin=np.zeros(n_types, np.int64),
            used=np.zeros(n_types, np.int64),
            kind=np.zeros(slots, np.uint64),
            atom=rows(slots, np.uint64),
            vector=rows(3 * slots),
            distance=rows(slots),
            spin=rows(3 * slots),
            own=rows(3),
            own_change=rows(3),
            basis=rows(2 * basis),
            radial=rows(2 * slots * channels, real),
            factors=rows(GROUP * model.n_factors, real),
            factor_slopes=rows(GROUP * model.n_factors, real),
            values=rows(model.n_values + 3, real),
            slopes=rows(model.n_values + 3, real),
            wide=rows(15),
            hidden=_aligned((layers, width, LANES), real),
            hidden_slopes=_aligned((layers, width, LANES), real),
            chain=_aligned((3, width, LANES), real),
        )


def _aligned(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return zeros that begin where a line of the processor's cache does."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + size].view(dtype).reshape(shape)


@inlined
def _multiply(products, at, values):
    """Carry out all products; value 0 is at row ``at``."""
    for s in range(len(products.out)):
        y = spread(0, values)
        for t in range(products.start[s], products.start[s + 1]):
            a = load(values, at + products.first[t])
            b = load(values, at + products.second[t])
            y = y + products.coefficient[t] * a * b
        store(values, at + products.out[s], y)


@inlined
def _multiply_back(products, at, values, slopes):
    """Bring dE/dvalue of what the products make back to what they are made of."""
    for s in range(len(products.out) - 1, -1, -1):
        y = load(slopes, at + products.out[s])
        for t in range(products.start[s], products.start[s + 1]):
            a, b = at + products.first[t], at + products.second[t]
            z = products.coefficient[t] * y
            if products.first[t] > 0:
                store(slopes, a, load(slopes, a) + z * load(values, b))
            store(slopes, b, load(slopes, b) + z * load(values, a))


@inlined
def _multiply_along(products, at, values, slopes):
    """Carry changes on to all values."""
    for s in range(len(products.out)):
        y = spread(0, values)
        for t in range(products.start[s], products.start[s + 1]):
            i, j = at + products.first[t], at + products.second[t]
            a, b = load(values, i), load(values, j)
            change = load(slopes, i) * b + a * load(slopes, j)
            y = y + products.coefficient[t] * change
        store(slopes, at + products.out[s], y)


@inlined
def _collect(c, i, geometry, model, space):
    """List the neighbors of atom i in lane c."""
    positions, shifts = geometry.positions, geometry.shifts
    cell = geometry.cells[geometry.structure[i]]
    ax, ay, az = cell[0, 0], cell[0, 1], cell[0, 2]
    bx, by, bz = cell[1, 0], cell[1, 1], cell[1, 2]
    cx, cy, cz = cell[2, 0], cell[2, 1], cell[2, 2]
    xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
    square = model.cutoff * model.cutoff
    near, listed = space.near[c], space.listed[c]
    n = 0
    for pair in range(geometry.first[i], geometry.first[i + np.uint64(1)]):
        j = np.uint64(geometry.neighbours[pair])
        u, v, w = shifts[pair, 0], shifts[pair, 1], shifts[pair, 2]
        x = positions[j, 0] - xi + u * ax + v * bx + w * cx
        y = positions[j, 1] - yi + u * ay + v * by + w * cy
        z = positions[j, 2] - zi + u * az + v * bz + w * cz
        if x * x + y * y + z * z < square:
            near[n, 0], near[n, 1], near[n, 2] = x, y, z
            listed[n] = j
            n += 1
    space.counts[c] = n


@inlined
def _give_slots(n, along, geometry, spins, model, space):
    """Give slots to the neighbors of n atoms.

    With ``along``, those of a single atom stand side by side in its slots.

    Returns
    -------
    int, int
        Number of slots, and of those with magnetic neighbors.
    """
    types, begin, used = geometry.types, space.begin, space.used
    for b in range(len(begin)):
        begin[b] = 0
    for c in range(n):
        for b in range(len(used)):
            used[b] = 0
        for k in range(space.counts[c]):
            used[types[space.listed[c, k]]] += 1
        for b in range(len(used)):
            most = (used[b] + LANES - 1) // LANES if along else used[b]
            begin[b] = max(begin[b], most)
    total = magnetic = 0
    for k in range(len(model.order)):
        b = model.order[k]
        most = begin[b]
        begin[b] = total
        for p in range(total, total + most):
            space.kind[p] = b
        total += most
        if k < model.magnetic:
            magnetic = total
    # Enough for whole groups, and one that is empty.
    for p in range(total, total + GROUP):
        space.kind[p] = 0
    for p in range(total + GROUP):
        store(space.vector, 3 * p, spread(model.cutoff, space.vector))
        for a in range(1, 3):
            store(space.vector, 3 * p + a, spread(0, space.vector))
        for a in range(3):
            store(space.spin, 3 * p + a, spread(0, space.vector))
        for c in range(LANES):
            space.atom[p, c] = 0
    for c in range(n):
        for b in range(len(used)):
            used[b] = 0
        for k in range(space.counts[c]):
            j = space.listed[c, k]
            b = types[j]
            if along:
                p, lane = begin[b] + used[b] // LANES, used[b] % LANES
            else:
                p, lane = begin[b] + used[b], c
            used[b] += 1
            space.atom[p, lane] = j
            for a in range(3):
                space.vector[3 * p + a, lane] = space.near[c, k, a]
            if p < magnetic:
                for a in range(3):
                    space.spin[3 * p + a, lane] = spins[j, a] * model.inverse_moment[b]
    return total, magnetic


@inlined
def _add_radial(p, channels, model, space):
    """Fill in distances and the first radial functions of a slot."""
    basis, radial = space.basis, space.radial
    x = load(space.vector, 3 * p)
    y = load(space.vector, 3 * p + 1)
    z = load(space.vector, 3 * p + 2)
    r = root(x * x + y * y + z * z)
    store(space.distance, p, r)
    size = model.mixing.shape[2]
    per_cutoff = 1.0 / model.cutoff
    rest = (model.cutoff - r) * per_cutoff  # exactly zero in empty places
    t = 1.0 - rest
    f = rest * rest * rest * (1.0 + 3.0 * t + 6.0 * t * t)
    g = (-30.0 * per_cutoff) * t * t * rest * rest
    # Chebyshev polynomials T_k(x) and derivatives, times the cut-off function.
    per_length = 2.0 * per_cutoff
    x = 2.0 * t - 1.0
    a0, a1 = spread(1.0, basis), x
    d0, d1 = spread(0.0, basis), spread(per_length, basis)
    for k in range(size):
        store(basis, k, a0 * f)
        store(basis, size + k, a0 * g + d0 * f)
        a2 = 2.0 * x * a1 - a0
        d2 = 2.0 * (per_length * a1 + x * d1) - d0
        a0, a1, d0, d1 = a1, a2, d1, d2
    # In float64: basis functions nearly cancel in the less important combinations.
    mixing = model.mixing[space.kind[p]]
    value = 2 * p * len(mixing)
    slope = value + len(mixing)
    for k in range(0, channels, 2):
        y0 = y1 = z0 = z1 = spread(0.0, basis)
        for m in range(size):
            b, d = load(basis, m), load(basis, size + m)
            y0 = y0 + mixing[k, m] * b
            z0 = z0 + mixing[k, m] * d
            y1 = y1 + mixing[k + 1, m] * b
            z1 = z1 + mixing[k + 1, m] * d
        store(radial, value + k, y0)
        store(radial, value + k + 1, y1)
        store(radial, slope + k, z0)
        store(radial, slope + k + 1, z1)


@inlined
def _add_factors(p, at, model, space):
    """Fill in the factors of slot p from row ``at`` on."""
    factors = space.factors
    inverse = 1.0 / load(space.distance, p)
    store(factors, at, spread(1.0, factors))
    for a in range(3):
        store(factors, at + 1 + a, load(space.vector, 3 * p + a) * inverse)
        store(factors, at + 4 + a, load(space.spin, 3 * p + a))
        store(factors, at + 7 + a, load(space.own, a))
    _multiply(model.factors, at, factors)


@inlined
def _combine(skip, a, b, c, d, x, y, z, w, left, right, radial, model, values):
    """Add products of factors and radial functions to the moments, four at a time.

    Factors from rows a and c on are of ``left``, those from b and d on of ``right``;
    radial functions begin at rows x, y, z and w. Without ``skip`` those of spins count.
    """
    place = 4
    for r in range(len(model.rows)):
        f, k, count = model.rows[r, 0], model.rows[r, 1], model.rows[r, 2]
        if not (skip and k >= model.lattice):
            l0, l1 = load(left, a + f), load(right, b + f)
            l2, l3 = load(left, c + f), load(right, d + f)
            for n in range(count):
                total = load(values, place + n)
                total = total + l0 * load(radial, x + k + n)
                total = total + l1 * load(radial, y + k + n)
                total = total + l2 * load(radial, z + k + n)
                total = total + l3 * load(radial, w + k + n)
                store(values, place + n, total)
        place += count


@merged
def _describe(n, along, geometry, spins, model, space):
    """Set the moments of a block of n atoms whose neighbors are listed.

    Returns what :func:`_give_slots` does.
    """
    total, magnetic = _give_slots(n, along, geometry, spins, model, space)
    values, radial, width = space.values, space.radial, 2 * model.mixing.shape[1]
    store(values, 0, spread(1.0, values))
    for a in range(3):
        store(values, 1 + a, load(space.own, a))
    for v in range(4, 4 + model.n_moments):
        store(values, v, spread(0.0, values))
    for p in range(total + GROUP):
        skip = magnetic <= p - p % GROUP and p < total
        _add_radial(p, model.lattice if skip else width // 2, model, space)
    size, factors = model.n_factors, space.factors
    for first in range(0, total, GROUP):
        for q in range(GROUP):
            _add_factors(first + q, q * size, model, space)
        x = first * width
        _combine(
            first >= magnetic,
            0,
            size,
            2 * size,
            3 * size,
            x,
            x + width,
            x + 2 * width,
            x + 3 * width,
            factors,
            factors,
            radial,
            model,
            values,
        )
    return total, magnetic


@merged
def _pull_back(
    start, n, total, magnetic, centers, geometry, model, space, forces, fields, virial
):
    """Add what dE/d(moments) means for positions and moments."""
    slopes, radial, wide = space.slopes, space.radial, space.wide
    factors, back, size = space.factors, space.factor_slopes, model.n_factors
    channels = model.mixing.shape[1]
    nothing = spread(0.0, wide)
    for k in range(3, 15):
        store(wide, k, nothing)
    g0, g1, g2 = load(slopes, 1), load(slopes, 2), load(slopes, 3)
    for first in range(0, total, GROUP):
        skip = first >= magnetic
        for q in range(GROUP):
            _add_factors(first + q, q * size, model, space)
        for v in range(GROUP * size):
            store(back, v, spread(0.0, back))
        x = 2 * first * channels
        y, z, w = x + 2 * channels, x + 4 * channels, x + 6 * channels
        place = 4
        for r in range(len(model.rows)):
            f, k, count = model.rows[r, 0], model.rows[r, 1], model.rows[r, 2]
            if not (skip and k >= model.lattice):
                b0 = b1 = b2 = b3 = spread(0.0, back)
                for m in range(count):
                    slope = load(slopes, place + m)
                    b0 = b0 + slope * load(radial, x + k + m)
                    b1 = b1 + slope * load(radial, y + k + m)
                    b2 = b2 + slope * load(radial, z + k + m)
                    b3 = b3 + slope * load(radial, w + k + m)
                store(back, f, b0)
                store(back, size + f, b1)
                store(back, 2 * size + f, b2)
                store(back, 3 * size + f, b3)
            place += count
        r0 = r1 = r2 = r3 = spread(0.0, back)
        for k in range(model.lattice if skip else channels):
            b0 = b1 = b2 = b3 = spread(0.0, back)
            for t in range(model.by_channel[k], model.by_channel[k + 1]):
                slope, f = load(slopes, model.moment[t]), model.factor[t]
                b0 = b0 + slope * load(factors, f)
                b1 = b1 + slope * load(factors, size + f)
                b2 = b2 + slope * load(factors, 2 * size + f)
                b3 = b3 + slope * load(factors, 3 * size + f)
            r0 = r0 + b0 * load(radial, x + channels + k)
            r1 = r1 + b1 * load(radial, y + channels + k)
            r2 = r2 + b2 * load(radial, z + channels + k)
            r3 = r3 + b3 * load(radial, w + channels + k)
        # The place of factor 0, the number one, holds the radial derivatives.
        store(back, 0, r0)
        store(back, size, r1)
        store(back, 2 * size, r2)
        store(back, 3 * size, r3)
        for q in range(GROUP):
            p, at = first + q, q * size
            along = double(load(back, at))  # dE/dr at fixed directions
            _multiply_back(model.factors, at, factors, back)
            inverse = 1.0 / load(space.distance, p)
            for a in range(3):
                h = double(load(back, at + 1 + a)) * inverse
                store(wide, a, h)
                along = along - h * double(load(factors, at + 1 + a))
            for a in range(3):
                u = double(load(factors, at + 1 + a))
                store(wide, a, load(wide, a) + along * u)
            for a in range(3):
                h = load(wide, a)
                store(wide, 3 + a, load(wide, 3 + a) + h)
                for b in range(3):
                    k = 6 + 3 * a + b
                    store(wide, k, load(wide, k) + h * load(space.vector, 3 * p + b))
            g0 = g0 + load(back, at + 7)
            g1 = g1 + load(back, at + 8)
            g2 = g2 + load(back, at + 9)
            for c in range(n):
                j = space.atom[p, c]
                for a in range(3):
                    forces[j, a] -= wide[a, c]
            if p < magnetic:
                scale = model.inverse_moment[space.kind[p]]
                for c in range(n):
                    j = space.atom[p, c]
                    for a in range(3):
                        fields[j, a] -= scale * back[at + 4 + a, c]
    store(wide, 0, g0)
    store(wide, 1, g1)
    store(wide, 2, g2)
    for c in range(n):
        i = centers[start + c]
        scale = model.inverse_moment[geometry.types[i]]
        W = virial[geometry.structure[i]]
        for a in range(3):
            forces[i, a] += wide[3 + a, c]
            fields[i, a] -= scale * wide[a, c]
            for b in range(3):
                W[a, b] -= wide[6 + 3 * a + b, c]


@inlined
def _move(p, at, to, model, space):
    """Set the changes of the factors of slot p, and of its radial functions.

    Where its neighbor moves by rows 0 to 2 of the scratch space and turns by rows 3 to
    5, and the atom by ``own_change``. Those of radial functions go to rows from ``to``.
    """
    factors, change, wide = space.factors, space.factor_slopes, space.wide
    _add_factors(p, at, model, space)
    inverse = 1.0 / load(space.distance, p)
    u0, u1, u2 = load(factors, at + 1), load(factors, at + 2), load(factors, at + 3)
    h0, h1, h2 = load(wide, 0), load(wide, 1), load(wide, 2)
    dr = double(u0) * h0 + double(u1) * h1 + double(u2) * h2
    store(change, at, spread(0.0, change))
    store(change, at + 1, (h0 - dr * double(u0)) * inverse)
    store(change, at + 2, (h1 - dr * double(u1)) * inverse)
    store(change, at + 3, (h2 - dr * double(u2)) * inverse)
    for a in range(3):
        store(change, at + 4 + a, load(wide, 3 + a))
        store(change, at + 7 + a, load(space.own_change, a))
    _multiply_along(model.factors, at, factors, change)
    channels = model.mixing.shape[1]
    slope = (2 * p + 1) * channels
    for k in range(channels):
        store(space.radial, to + k, double(load(space.radial, slope + k)) * dr)


@inlined
def _start_changes(model, space):
    """Set the changes of the moments to zero, and that of the atoms' own."""
    slopes = space.slopes
    for v in range(4 + model.n_moments):
        store(slopes, v, spread(0.0, slopes))
    for a in range(3):
        store(slopes, 1 + a, load(space.own_change, a))


@merged
def _push_forward(
    start, n, total, magnetic, centers, geometry, model, space, moved, turned, strain
):
    """Set the changes of the moments along a displacement."""
    wide, change, factors = space.wide, space.factor_slopes, space.factors
    size, channels = model.n_factors, model.mixing.shape[1]
    for c in range(n):
        i = centers[start + c]
        for a in range(3):
            scale = model.inverse_moment[geometry.types[i]]
            space.own_change[a, c] = scale * turned[i, a]
    _start_changes(model, space)
    for first in range(0, total, 2):
        for q in range(2):
            p = first + q
            scale = model.inverse_moment[space.kind[p]]
            for c in range(n):
                i, j = centers[start + c], space.atom[p, c]
                U = strain[geometry.structure[i]]
                for a in range(3):
                    h = moved[j, a] - moved[i, a]
                    for b in range(3):
                        h += U[a, b] * space.vector[3 * p + b, c]
                    wide[a, c] = h
                    wide[3 + a, c] = scale * turned[j, a]
            _move(p, q * size, (2 * p + 1) * channels, model, space)
        x = 2 * first * channels
        _combine(
            first >= magnetic,
            0,
            0,
            size,
            size,
            x,
            x + channels,
            x + 2 * channels,
            x + 3 * channels,
            change,
            factors,
            space.radial,
            model,
            space.slopes,
        )


@merged
def _fit(head, derivatives, model, space):
    """Set energies (row 0 of the scratch space) and derivatives by features."""
    values, hidden, weights = space.values, space.hidden, head.weights
    features = model.n_values - model.n_features
    last = len(head.copies) - 1
    offset = 0
    x, begin = values, features
    for layer in range(last + 1):
        k, m = head.widths[layer], head.widths[layer + 1]
        y, bias = hidden[layer], offset + 2 * k * m
        for h in range(0, m, 4):
            y0, y1 = spread(weights[bias + h], y), spread(weights[bias + h + 1], y)
            y2, y3 = spread(weights[bias + h + 2], y), spread(weights[bias + h + 3], y)
            for i in range(k):
                v, o = load(x, begin + i), offset + i * m + h
                y0 = y0 + weights[o] * v
                y1 = y1 + weights[o + 1] * v
                y2 = y2 + weights[o + 2] * v
                y3 = y3 + weights[o + 3] * v
            store(y, h, y0)
            store(y, h + 1, y1)
            store(y, h + 2, y2)
            store(y, h + 3, y3)
        if layer < last:
            slope = space.hidden_slopes[layer].reshape(-1)
            activate(TANH, m * LANES, y.reshape(-1), slope)
        for copy in range(head.copies[layer]):
            for i in range(k):
                o = copy * k + i
                store(y, o, load(y, o) + load(x, begin + i))
        offset += 2 * k * m + m
        x, begin = y, 0
    total = load(hidden[last], 0)
    for k in range(model.n_features):
        total = total + head.linear[k] * load(values, features + k)
    store(space.wide, 0, total)
    if not derivatives:
        return
    gradient, other, scaled = space.chain[0], space.chain[1], space.chain[2]
    for h in range(head.widths[last + 1]):
        store(gradient, h, spread(1.0 if h == 0 else 0.0, gradient))
    for layer in range(last, -1, -1):
        k, m = head.widths[layer], head.widths[layer + 1]
        offset -= 2 * k * m + m
        for h in range(m):
            g = load(gradient, h)
            if layer < last:
                g = g * load(space.hidden_slopes[layer], h)
            store(scaled, h, g)
        result, begin = (space.slopes, features) if layer == 0 else (other, 0)
        for i in range(0, k, 4):
            y0 = y1 = y2 = y3 = spread(0.0, values)
            for h in range(m):
                v, o = load(scaled, h), offset + k * m + h * k + i
                y0 = y0 + weights[o] * v
                y1 = y1 + weights[o + 1] * v
                y2 = y2 + weights[o + 2] * v
                y3 = y3 + weights[o + 3] * v
            store(result, begin + i, y0)
            store(result, begin + i + 1, y1)
            store(result, begin + i + 2, y2)
            store(result, begin + i + 3, y3)
        for copy in range(head.copies[layer]):
            for i in range(k):
                o = begin + i
                store(result, o, load(result, o) + load(gradient, copy * k + i))
        gradient, other = other, gradient
    for k in range(model.n_features):
        o = features + k
        store(space.slopes, o, load(space.slopes, o) + head.linear[k])


@compiled
def run(
    task,
    begin,
    end,
    centers,
    geometry,
    spins,
    model,
    head,
    space,
    energies,
    rows,
    positions,
    moments,
    strains,
):
    """Describe the atoms ``centers[begin:end]`` and do one of the tasks.

    FEATURES sets their ``rows`` (N, K) to the features; PULL_BACK takes dE/dD there and
    adds -dE/dR, -dE/dm (N, 3) and -dE/dstrain (B, 3, 3) to ``positions``, ``moments``
    and ``strains``; PUSH_FORWARD takes changes of these and sets ``rows`` to those of
    the features. ENERGIES adds to ``energies`` (N,) by ``head``, DERIVATIVES adds to
    the forces and so on, too.
    """
    values, slopes = space.values, space.slopes
    offset = model.n_values - model.n_features
    for start in range(begin, end, LANES):
        n = min(LANES, end - start)
        for c in range(n):
            i = centers[start + c]
            _collect(c, i, geometry, model, space)
            for a in range(3):
                scale = model.inverse_moment[geometry.types[i]]
                space.own[a, c] = spins[i, a] * scale
        total, magnetic = _describe(n, False, geometry, spins, model, space)
        _multiply(model.contractions, 0, values)
        if task == FEATURES:
            for c in range(n):
                row = rows[centers[start + c]]
                for k in range(model.n_features):
                    row[k] = values[offset + k, c]
        elif task == PUSH_FORWARD:
            _push_forward(
                start,
                n,
                total,
                magnetic,
                centers,
                geometry,
                model,
                space,
                positions,
                moments,
                strains,
            )
            _multiply_along(model.contractions, 0, values, slopes)
            for c in range(n):
                row = rows[centers[start + c]]
                for k in range(model.n_features):
                    row[k] = slopes[offset + k, c]
        else:
            if task == PULL_BACK:
                for c in range(n):
                    row = rows[centers[start + c]]
                    for k in range(model.n_features):
                        slopes[offset + k, c] = row[k]
            else:
                _fit(head, task == DERIVATIVES, model, space)
                for c in range(n):
                    energies[centers[start + c]] += space.wide[0, c]
            if task != ENERGIES:
                for v in range(offset):
                    store(slopes, v, spread(0.0, slopes))
                _multiply_back(model.contractions, 0, values, slopes)
                _pull_back(
                    start,
                    n,
                    total,
                    magnetic,
                    centers,
                    geometry,
                    model,
                    space,
                    positions,
                    moments,
                    strains,
                )


@inlined
def _add_lanes(model, values):
    """Replace all lanes of the moments by their sum."""
    for v in range(4, 4 + model.n_moments):
        total = values[v, 0]
        for c in range(1, LANES):
            total += values[v, c]
        store(values, v, spread(total, values))


@inlined
def _move_one(p, skip, empty, spare, model, space):
    """Add the changes of the moments with one slot; see :func:`_move`."""
    _move(p, 0, spare, model, space)
    value = 2 * p * model.mixing.shape[1]
    _combine(
        skip,
        0,
        0,
        0,
        0,
        value,
        spare,
        empty,
        empty,
        space.factor_slopes,
        space.factors,
        space.radial,
        model,
        space.slopes,
    )


@compiled
def design(begin, end, centers, geometry, spins, model, space, scale, result):
    """Add the derivatives of sums of features over the centers to rows of a matrix.

    The neighbors of one atom at a time stand side by side, and are moved together.

    Parameters
    ----------
    scale : (n_types, K) float64
        Features are multiplied by it, by the type of the center.
    result : (n_types, 1 + 6 N + 9, K) float64
        The sums of the features of the centers of every type, their derivatives by
        positions (1/A), moments (1/mu_B) and strain.
    """
    values, slopes, wide = space.values, space.slopes, space.wide
    offset, count = model.n_values - model.n_features, len(geometry.types)
    channels = model.mixing.shape[1]
    for start in range(begin, end):
        i = centers[start]
        kind = geometry.types[i]
        rows, factor = result[kind], scale[kind]
        for a in range(3):
            for c in range(LANES):
                space.own[a, c] = spins[i, a] * model.inverse_moment[kind]
        _collect(0, i, geometry, model, space)
        total, magnetic = _describe(1, True, geometry, spins, model, space)
        _add_lanes(model, values)
        _multiply(model.contractions, 0, values)
        for k in range(model.n_features):
            rows[0, k] += values[offset + k, 0] * factor[k]
        for k in range(6):
            store(wide, k, spread(0.0, wide))
        for a in range(3):
            store(space.own_change, a, spread(0.0, wide))
        # Behind the last slot there are empty ones, with room for changes.
        empty = 2 * total * channels
        spare = empty + 3 * channels
        for p in range(total):
            # Directions of the neighbors' positions and reduced moments.
            for d in range(6 if p < magnetic else 3):
                store(wide, d, spread(1.0, wide))
                _start_changes(model, space)
                _move_one(p, p >= magnetic, empty, spare, model, space)
                store(wide, d, spread(0.0, wide))
                _multiply_along(model.contractions, 0, values, slopes)
                for c in range(LANES):
                    if space.distance[p, c] < model.cutoff:
                        j, axis = space.atom[p, c], d % 3
                        row = 1 + 3 * np.int64(j) + axis
                        if d < 3:
                            here = rows[1 + 3 * np.int64(i) + axis]
                            there = rows[row]
                            strained = rows[1 + 6 * count + 3 * axis :]
                            for k in range(model.n_features):
                                g = slopes[offset + k, c] * factor[k]
                                there[k] += g
                                here[k] -= g
                                for b in range(3):
                                    strained[b, k] += g * space.vector[3 * p + b, c]
                        else:
                            turned = rows[3 * count + row]
                            per = model.inverse_moment[space.kind[p]]
                            for k in range(model.n_features):
                                turned[k] += slopes[offset + k, c] * factor[k] * per
        for axis in range(3 if model.magnetic > 0 else 0):
            # Directions of the atom's own reduced moment.
            store(space.own_change, axis, spread(1.0, wide))
            _start_changes(model, space)
            for p in range(total):
                _move_one(p, p >= magnetic, empty, spare, model, space)
            store(space.own_change, axis, spread(0.0, wide))
            _add_lanes(model, slopes)
            _multiply_along(model.contractions, 0, values, slopes)
            turned = rows[1 + 3 * (count + np.int64(i)) + axis]
            for k in range(model.n_features):
                per = model.inverse_moment[kind]
                turned[k] += slopes[offset + k, 0] * factor[k] * per


def no_head(real):
    """Return what stands for a head where none is needed."""
    integers = np.zeros(0, np.int64)
    return Head(np.zeros(0, real), np.zeros(0, real), integers, integers)
