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

LANES atoms go together, a vector holds one number of each, a wide vector one of GROUP
neighbors of each. Such a group is of one element, magnetic ones come first; where an
atom has fewer neighbors, places in groups hold something at the cutoff, where radial
functions vanish. Kernels work on a range of atoms without the interpreter's lock, so
that threads share the work. Geometry, radial functions and sums of forces are in
float64, all else in the type of the coefficients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._compile import compiled, inlined, merged
from ._fitting_kernels import TANH, activate
from ._lanes import GROUP, LANES, double, folded, load, repeat, root, spread, store

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
        Types of neighbors in the order of their groups, magnetic ones first.
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

    Rows of arrays (n, LANES) are vectors, those of (n, GROUP, LANES) wide ones.

    Attributes
    ----------
    near : (LANES, P, 3) float64, A
        Vectors to the neighbors of each atom before they are grouped.
    listed : (LANES, P) uint64
        Those neighbors.
    counts : (LANES,) int64
        How many there are.
    center : (LANES,) uint64
        The atoms.
    begin, used : (n_types,) int64
        First group of every type, and a counter.
    kind : (groups,) uint64
        Types of the groups.
    atom : (groups, GROUP, LANES) uint64
        The neighbors.
    vector : (3 groups, GROUP, LANES) float64, A
    distance : (groups, GROUP, LANES) float64, A
    spin : (3 groups, GROUP, LANES) float64
        Reduced moments of the neighbors.
    own, own_change : (3, LANES) float64
        Reduced moments of the atoms, and their change along a displacement.
    basis : (2 basis, LANES) float64
        Radial basis, and its derivatives, 1/A.
    radial : (2 channels groups, GROUP, LANES)
        Radial functions of each group, and their derivatives, 1/A.
    factors, factor_slopes : (n_factors, GROUP, LANES)
        Factors of a group, and their derivatives: dE/dfactor, or dfactor along a
        displacement.
    values, slopes : (n_values + 3, LANES)
        Values of the contractions, and derivatives of the same two kinds.
    wide : (6, GROUP, LANES) float64
        Scratch: derivatives by the positions and moments of a group.
    sums : (12, LANES) float64
        Forces on the atoms, and their virials.
    hidden, hidden_slopes : (layers, width, LANES)
        Outputs of the layers of a head and derivatives of their activations.
    chain : (3, width, LANES)
        Derivatives by outputs and inputs of a layer.
    """

    near: np.ndarray
    listed: np.ndarray
    counts: np.ndarray
    center: np.ndarray
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
    sums: np.ndarray
    hidden: np.ndarray
    hidden_slopes: np.ndarray
    chain: np.ndarray

    @classmethod
    def allocate(cls, widest: int, model: Moments, layers: int, width: int) -> Space:
        """Return space for at most ``widest`` neighbors of each atom.

        And for heads with a number of layers of at most some ``width``.
        """
        n_types, channels, basis = model.mixing.shape
        groups = n_types * -(-widest // GROUP) + 1
        real, double = model.contractions.coefficient.dtype, np.dtype(np.float64)

        def vectors(n: int, dtype: np.dtype = double) -> np.ndarray:
            return _aligned((n, LANES), dtype)

        def wide(n: int, dtype: np.dtype = double) -> np.ndarray:
            return _aligned((n, GROUP, LANES), dtype)

        return cls(
            near=_aligned((LANES, widest, 3), double),
            listed=np.zeros((LANES, widest), np.uint64),
            counts=np.zeros(LANES, np.int64),
            center=np.zeros(LANES, np.uint64),
            begin=np.zeros(n_types, np.int64),
            used=np.zeros(n_types, np.int64),
            kind=np.zeros(groups, np.uint64),
            atom=np.zeros((groups, GROUP, LANES), np.uint64),
            vector=wide(3 * groups),
            distance=wide(groups),
            spin=wide(3 * groups),
            own=vectors(3),
            own_change=vectors(3),
            basis=vectors(2 * basis),
            radial=wide(2 * channels * groups, real),
            factors=wide(model.n_factors, real),
            factor_slopes=wide(model.n_factors, real),
            values=vectors(model.n_values + 3, real),
            slopes=vectors(model.n_values + 3, real),
            wide=wide(6),
            sums=vectors(12),
            hidden=_aligned((layers, width, LANES), real),
            hidden_slopes=_aligned((layers, width, LANES), real),
            chain=_aligned((3, width, LANES), real),
        )


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return zeros that begin where a line of the processor's cache does."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + size].view(dtype).reshape(shape)


@inlined
def _multiply(products, values):
    """Carry out all products."""
    for s in range(len(products.out)):
        y = spread(0, values)
        for t in range(products.start[s], products.start[s + 1]):
            a, b = load(values, products.first[t]), load(values, products.second[t])
            y = y + products.coefficient[t] * a * b
        store(values, products.out[s], y)


@inlined
def _multiply_back(products, values, slopes):
    """Bring dE/dvalue of what the products make back to what they are made of."""
    for s in range(len(products.out) - 1, -1, -1):
        y = load(slopes, products.out[s])
        for t in range(products.start[s], products.start[s + 1]):
            a, b, z = products.first[t], products.second[t], products.coefficient[t] * y
            if a > 0:
                store(slopes, a, load(slopes, a) + z * load(values, b))
            store(slopes, b, load(slopes, b) + z * load(values, a))


@inlined
def _multiply_along(products, values, slopes):
    """Carry changes on to all values."""
    for s in range(len(products.out)):
        y = spread(0, values)
        for t in range(products.start[s], products.start[s + 1]):
            a, b = products.first[t], products.second[t]
            left = load(slopes, a) * load(values, b)
            right = load(values, a) * load(slopes, b)
            y = y + products.coefficient[t] * (left + right)
        store(slopes, products.out[s], y)


@inlined
def _collect(c, i, geometry, spins, model, space):
    """Set the reduced moment of atom i in lane c and list its neighbors."""
    positions, shifts = geometry.positions, geometry.shifts
    space.center[c] = i
    for a in range(3):
        scale = model.inverse_moment[geometry.types[i]]
        space.own[a, c] = spins[i, a] * scale
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
def _group(n, along, geometry, spins, model, space):
    """Group the neighbors of n atoms.

    With ``along``, those of a single atom stand side by side, as if they belonged to
    LANES atoms.

    Returns
    -------
    int, int
        Number of groups, and of those with magnetic neighbors, which come first.
    """
    types, begin, used = geometry.types, space.begin, space.used
    size = GROUP * LANES if along else GROUP
    for b in range(len(begin)):
        begin[b] = 0
    for c in range(n):
        for b in range(len(used)):
            used[b] = 0
        for k in range(space.counts[c]):
            used[types[space.listed[c, k]]] += 1
        for b in range(len(used)):
            begin[b] = max(begin[b], (used[b] + size - 1) // size)
    total = magnetic = 0
    for k in range(len(model.order)):
        b = model.order[k]
        for g in range(total, total + begin[b]):
            space.kind[g] = b
            space.atom[g] = 0
            store(space.vector, 3 * g, spread(model.cutoff, space.vector))
            for a in range(3):
                store(space.spin, 3 * g + a, spread(0.0, space.spin))
                if a > 0:
                    store(space.vector, 3 * g + a, spread(0.0, space.vector))
        begin[b], total = total, total + begin[b]
        if k < model.magnetic:
            magnetic = total
    for c in range(n):
        for b in range(len(used)):
            used[b] = 0
        for k in range(space.counts[c]):
            j = space.listed[c, k]
            b = types[j]
            place = used[b] // LANES if along else used[b]
            lane = used[b] % LANES if along else c
            used[b] += 1
            g, q = begin[b] + place // GROUP, place % GROUP
            space.atom[g, q, lane] = j
            for a in range(3):
                space.vector[3 * g + a, q, lane] = space.near[c, k, a]
            if g < magnetic:
                for a in range(3):
                    moment = spins[j, a] * model.inverse_moment[b]
                    space.spin[3 * g + a, q, lane] = moment
    return total, magnetic


@inlined
def _add_radial(g, channels, model, space):
    """Fill in distances and the first radial functions of a group."""
    basis, radial = space.basis, space.radial.reshape(-1, LANES)
    vector, distance = space.vector.reshape(-1, LANES), space.distance[g]
    size, per_cutoff = model.mixing.shape[2], 1.0 / model.cutoff
    mixing = model.mixing[space.kind[g]]
    for q in range(GROUP):
        x, y, z = (
            load(vector, 3 * g * GROUP + q),
            load(vector, (3 * g + 1) * GROUP + q),
            load(vector, (3 * g + 2) * GROUP + q),
        )
        r = root(x * x + y * y + z * z)
        store(distance, q, r)
        rest = (model.cutoff - r) * per_cutoff  # exactly zero in empty places
        t = 1.0 - rest
        f = rest * rest * rest * (1.0 + 3.0 * t + 6.0 * t * t)
        d = (-30.0 * per_cutoff) * t * t * rest * rest
        # Chebyshev polynomials T_k(x) and derivatives, times the cut-off function.
        per_length = 2.0 * per_cutoff
        x = 2.0 * t - 1.0
        a0, a1 = spread(1.0, basis), x
        d0, d1 = spread(0.0, basis), spread(per_length, basis)
        for k in range(size):
            store(basis, k, a0 * f)
            store(basis, size + k, a0 * d + d0 * f)
            a2 = 2.0 * x * a1 - a0
            d2 = 2.0 * (per_length * a1 + x * d1) - d0
            a0, a1, d0, d1 = a1, a2, d1, d2
        # In float64: basis functions nearly cancel in the less important combinations.
        for k in range(0, channels, 2):
            y0 = y1 = z0 = z1 = spread(0.0, basis)
            for m in range(size):
                b, d = load(basis, m), load(basis, size + m)
                y0 = y0 + mixing[k, m] * b
                z0 = z0 + mixing[k, m] * d
                y1 = y1 + mixing[k + 1, m] * b
                z1 = z1 + mixing[k + 1, m] * d
            value = (2 * g * len(mixing) + k) * GROUP + q
            slope = value + len(mixing) * GROUP
            store(radial, value, y0)
            store(radial, value + GROUP, y1)
            store(radial, slope, z0)
            store(radial, slope + GROUP, z1)


@inlined
def _add_factors(g, model, space):
    """Fill in the factors of a group."""
    factors = space.factors
    inverse = 1.0 / load(space.distance, g)
    store(factors, 0, spread(1.0, factors))
    for a in range(3):
        store(factors, 1 + a, load(space.vector, 3 * g + a) * inverse)
        store(factors, 4 + a, load(space.spin, 3 * g + a))
        store(factors, 7 + a, repeat(load(space.own, a)))
    _multiply(model.factors, factors)


@inlined
def _combine(lattice, factors, first, radial, model, values):
    """Add factors times radial functions, from row ``first`` on, to the moments.

    With ``lattice``, to those of the lattice only.
    """
    place = 4
    for r in range(len(model.rows)):
        k, count = model.rows[r, 1], model.rows[r, 2]
        if not (lattice and k >= model.lattice):
            factor = load(factors, model.rows[r, 0])
            for n in range(count):
                product = factor * load(radial, first + k + n)
                store(values, place + n, folded(load(values, place + n), product))
        place += count


@merged
def _describe(n, along, geometry, spins, model, space):
    """Set the moments of a block of n atoms whose neighbors are listed.

    Returns what :func:`_group` does.
    """
    total, magnetic = _group(n, along, geometry, spins, model, space)
    values, channels = space.values, model.mixing.shape[1]
    store(values, 0, spread(1.0, values))
    for a in range(3):
        store(values, 1 + a, load(space.own, a))
    for v in range(4, 4 + model.n_moments):
        store(values, v, spread(0.0, values))
    for g in range(total):
        lattice = g >= magnetic
        _add_radial(g, model.lattice if lattice else channels, model, space)
        _add_factors(g, model, space)
        first = 2 * g * channels
        _combine(lattice, space.factors, first, space.radial, model, values)
    return total, magnetic


@inlined
def _differentiate(g, lattice, model, space):
    """Set dE/dfactor of a group, and dE/dr at fixed directions in place of factor 0."""
    factors, back, slopes = space.factors, space.factor_slopes, space.slopes
    radial, channels = space.radial, model.mixing.shape[1]
    for f in range(model.n_factors):
        store(back, f, spread(0.0, back))
    value, place = 2 * g * channels, 4
    for r in range(len(model.rows)):
        k, count = model.rows[r, 1], model.rows[r, 2]
        if not (lattice and k >= model.lattice):
            total = spread(0.0, back)
            for n in range(count):
                slope = repeat(load(slopes, place + n))
                total = total + slope * load(radial, value + k + n)
            store(back, model.rows[r, 0], total)
        place += count
    along = spread(0.0, back)
    for k in range(model.lattice if lattice else channels):
        total = spread(0.0, back)
        for t in range(model.by_channel[k], model.by_channel[k + 1]):
            slope = repeat(load(slopes, model.moment[t]))
            total = total + slope * load(factors, model.factor[t])
        along = along + total * load(radial, value + channels + k)
    store(back, 0, along)
    _multiply_back(model.factors, factors, back)


@merged
def _pull_back(sizes, geometry, model, space, forces, fields, virial):
    """Add what dE/d(moments) means for positions and moments.

    ``sizes`` are numbers of atoms, groups, and groups with magnetic neighbors.
    """
    n, total, magnetic = sizes
    slopes, wide, sums = space.slopes, space.wide, space.sums
    factors, back = space.factors, space.factor_slopes
    for k in range(12):
        store(sums, k, spread(0.0, sums))
    for g in range(total):
        _add_factors(g, model, space)
        _differentiate(g, g >= magnetic, model, space)
        inverse = 1.0 / load(space.distance, g)
        along = double(load(back, 0))
        for a in range(3):
            pull = double(load(back, 1 + a)) * inverse
            store(wide, a, pull)
            along = along - pull * double(load(factors, 1 + a))
        for a in range(3):
            pull = load(wide, a) + along * double(load(factors, 1 + a))
            store(wide, a, pull)
            store(wide, 3 + a, double(load(back, 4 + a)))
            store(sums, a, folded(load(sums, a), pull))
            for b in range(3):
                work = pull * load(space.vector, 3 * g + b)
                k = 3 + 3 * a + b
                store(sums, k, folded(load(sums, k), work))
            store(slopes, 1 + a, folded(load(slopes, 1 + a), load(back, 7 + a)))
        scale = model.inverse_moment[space.kind[g]]
        for q in range(GROUP):
            for c in range(n):
                j = space.atom[g, q, c]
                for a in range(3):
                    forces[j, a] -= wide[a, q, c]
                if g < magnetic:
                    for a in range(3):
                        fields[j, a] -= scale * wide[3 + a, q, c]
    for c in range(n):
        i = space.center[c]
        scale = model.inverse_moment[geometry.types[i]]
        W = virial[geometry.structure[i]]
        for a in range(3):
            forces[i, a] += sums[a, c]
            fields[i, a] -= scale * slopes[1 + a, c]
            for b in range(3):
                W[a, b] -= sums[3 + 3 * a + b, c]


@inlined
def _start_changes(model, space):
    """Set the changes of the moments to zero, and that of the atoms' own."""
    slopes = space.slopes
    for v in range(4 + model.n_moments):
        store(slopes, v, spread(0.0, slopes))
    for a in range(3):
        store(slopes, 1 + a, load(space.own_change, a))


@inlined
def _move(g, lattice, to, model, space):
    """Add to the changes of the moments that of a group.

    Its neighbors move by rows 0 to 2 of the scratch space and turn by rows 3 to 5, the
    atoms turn by ``own_change``. Changes of radial functions go to rows from ``to`` on.
    """
    factors, change, wide = space.factors, space.factor_slopes, space.wide
    radial, channels = space.radial, model.mixing.shape[1]
    _add_factors(g, model, space)
    dr = spread(0.0, wide)
    for a in range(3):
        dr = dr + double(load(factors, 1 + a)) * load(wide, a)
    store(change, 0, spread(0.0, change))
    inverse = 1.0 / load(space.distance, g)
    for a in range(3):
        across = load(wide, a) - dr * double(load(factors, 1 + a))
        store(change, 1 + a, across * inverse)
        store(change, 4 + a, load(wide, 3 + a))
        store(change, 7 + a, repeat(load(space.own_change, a)))
    _multiply_along(model.factors, factors, change)
    value = 2 * g * channels
    for k in range(model.lattice if lattice else channels):
        store(radial, to + k, dr * double(load(radial, value + channels + k)))
    _combine(lattice, change, value, radial, model, space.slopes)
    _combine(lattice, factors, to, radial, model, space.slopes)


@merged
def _push_forward(sizes, geometry, model, space, moved, turned, strain):
    """Set the changes of the moments along a displacement; see :func:`_pull_back`."""
    n, total, magnetic = sizes
    wide, channels = space.wide, model.mixing.shape[1]
    for c in range(n):
        i = space.center[c]
        for a in range(3):
            scale = model.inverse_moment[geometry.types[i]]
            space.own_change[a, c] = scale * turned[i, a]
    _start_changes(model, space)
    for g in range(total):
        scale = model.inverse_moment[space.kind[g]]
        for q in range(GROUP):
            for c in range(n):
                i, j = space.center[c], space.atom[g, q, c]
                U = strain[geometry.structure[i]]
                for a in range(3):
                    h = moved[j, a] - moved[i, a]
                    for b in range(3):
                        h += U[a, b] * space.vector[3 * g + b, q, c]
                    wide[a, q, c] = h
                    wide[3 + a, q, c] = scale * turned[j, a]
        _move(g, g >= magnetic, (2 * g + 1) * channels, model, space)


@merged
def _fit(head, derivatives, model, space):
    """Set energies (row 0 of ``sums``) and derivatives by features."""
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
    total = load(hidden[last], 0) if last >= 0 else spread(0.0, values)
    for k in range(model.n_features):
        total = total + head.linear[k] * load(values, features + k)
    store(space.sums, 0, total)
    if not derivatives:
        return
    if last < 0:
        for k in range(model.n_features):
            store(space.slopes, features + k, spread(head.linear[k], values))
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


@inlined
def _write(n, offset, values, center, rows):
    """Write the features of n atoms, or their changes."""
    for c in range(n):
        row = rows[center[c]]
        for k in range(len(row)):
            row[k] = values[offset + k, c]


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
    the forces and so on, too; both set ``rows`` to the features, if there are any.
    """
    values, slopes = space.values, space.slopes
    offset = model.n_values - model.n_features
    for start in range(begin, end, LANES):
        n = min(LANES, end - start)
        for c in range(n):
            _collect(c, centers[start + c], geometry, spins, model, space)
        total, magnetic = _describe(n, False, geometry, spins, model, space)
        _multiply(model.contractions, values)
        if task == FEATURES:
            _write(n, offset, values, space.center, rows)
        elif task == PUSH_FORWARD:
            sizes = n, total, magnetic
            _push_forward(sizes, geometry, model, space, positions, moments, strains)
            _multiply_along(model.contractions, values, slopes)
            _write(n, offset, slopes, space.center, rows)
        else:
            if task == PULL_BACK:
                for c in range(n):
                    row = rows[space.center[c]]
                    for k in range(model.n_features):
                        slopes[offset + k, c] = row[k]
            else:
                _fit(head, task == DERIVATIVES, model, space)
                for c in range(n):
                    energies[space.center[c]] += space.sums[0, c]
                if len(rows):
                    _write(n, offset, values, space.center, rows)
            if task != ENERGIES:
                for v in range(offset):
                    store(slopes, v, spread(0.0, slopes))
                _multiply_back(model.contractions, values, slopes)
                sizes = n, total, magnetic
                _pull_back(sizes, geometry, model, space, positions, moments, strains)


@inlined
def _add_lanes(model, values):
    """Replace all lanes of the moments by their sum."""
    for v in range(4, 4 + model.n_moments):
        total = values[v, 0]
        for c in range(1, LANES):
            total += values[v, c]
        store(values, v, spread(total, values))


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
        _collect(0, i, geometry, spins, model, space)
        for a in range(3):
            store(space.own, a, spread(space.own[a, 0], space.own))
        total, magnetic = _describe(1, True, geometry, spins, model, space)
        _add_lanes(model, values)
        _multiply(model.contractions, values)
        for k in range(model.n_features):
            rows[0, k] += values[offset + k, 0] * factor[k]
        for k in range(6):
            store(wide, k, spread(0.0, wide))
        for a in range(3):
            store(space.own_change, a, spread(0.0, space.own_change))
        spare = 2 * total * channels
        for g in range(total):
            # Directions of the neighbors' positions and reduced moments.
            per = model.inverse_moment[space.kind[g]]
            for d in range(6 if g < magnetic else 3):
                for q in range(GROUP):
                    store(wide, d, spread(0.0, wide))
                    wide[d, q] = 1.0
                    _start_changes(model, space)
                    _move(g, g >= magnetic, spare, model, space)
                    _multiply_along(model.contractions, values, slopes)
                    for c in range(LANES):
                        if space.distance[g, q, c] >= model.cutoff:
                            continue
                        axis = d % 3
                        row = 1 + 3 * np.int64(space.atom[g, q, c]) + axis
                        if d < 3:
                            here = rows[1 + 3 * np.int64(i) + axis]
                            there = rows[row]
                            strained = rows[1 + 6 * count + 3 * axis :]
                            for k in range(model.n_features):
                                x = slopes[offset + k, c] * factor[k]
                                there[k] += x
                                here[k] -= x
                                for b in range(3):
                                    r = space.vector[3 * g + b, q, c]
                                    strained[b, k] += x * r
                        else:
                            turned = rows[3 * count + row]
                            for k in range(model.n_features):
                                turned[k] += slopes[offset + k, c] * factor[k] * per
                store(wide, d, spread(0.0, wide))
        for axis in range(3 if model.magnetic > 0 else 0):
            # Directions of the atom's own reduced moment.
            store(space.own_change, axis, spread(1.0, space.own_change))
            _start_changes(model, space)
            for g in range(total):
                _move(g, g >= magnetic, spare, model, space)
            store(space.own_change, axis, spread(0.0, space.own_change))
            _add_lanes(model, slopes)
            _multiply_along(model.contractions, values, slopes)
            turned = rows[1 + 3 * (count + np.int64(i)) + axis]
            for k in range(model.n_features):
                per = model.inverse_moment[kind]
                turned[k] += slopes[offset + k, 0] * factor[k] * per


def no_head(real):
    """Return what stands for a head where none is needed."""
    integers = np.zeros(0, np.int64)
    return Head(np.zeros(0, real), np.zeros(0, real), integers, integers)
