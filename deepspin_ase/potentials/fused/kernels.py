"""Compiled kernels: from pair lists to descriptors, and back to forces.

With the rows R (4 numbers) and embeddings G (M numbers) of the sites of an atom,

    A = (1/n) sum_sites R x G(s)        the product, 4 x M
    D[m, x] = sum_k A[k, m] A[k, x]     the descriptor, x < axis

where n is the number of slots; slots without a site hold the row of nothing. The
fitting network turns D into an energy, and dE/dD is brought back to the sites by

    dE/dA[k, m] = sum_x (dE/dD[m, x] A[k, x]) + [k, m < axis] sum_l dE/dD[l, m] A[k, l]

and the chain rule of :class:`deepspin_ase.potentials.environment.Environment`.
Sources: se_e2_a, Zhang et al., arXiv:1805.09003; tabulated embeddings, Lu et al.,
Comput. Phys. Commun. 259, 107624 (2021).

Kernels work on a range of centres without the interpreter's lock, so that threads
share the work. Geometry is in float64; tables, products and descriptors are in
the type of the tables. Compiled code is kept on disk where a folder can be written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

logger = logging.getLogger(__name__)

#: Rounding may be reordered, but infinities and NaN keep their meaning.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; from the disk where that was done before."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder can be written
        logger.info("no folder for compiled code: set NUMBA_CACHE_DIR to keep it")
        return numba.njit(**_OPTIONS)(function)


class Model(NamedTuple):
    """The network without its fitting part.

    Attributes
    ----------
    cutoff, smooth, protection : float, A
    magnetic : (n_types,) bool
        Which elements have pseudo-atoms.
    slots : (2 n_types,) int64
        For the sites of each type.
    mean, scale : (n_types, 4) float64
        Rows are normalised as (row - mean) * scale, by the type of the centre.
    empty : (n_types, 2 n_types, M)
        Embedding of an empty slot.
    table_of : (n_types, 2 n_types) int64
        Which table serves which centre and site type.
    tables : (n_tables, cells, 6, M)
        See :mod:`deepspin_ase.potentials.fused.tables`. M is the width of the
        embedding, filled up.
    steps : int
        Cells between s = 0 and 1.
    width, axis : int
        Rows and columns of the descriptor.
    """

    cutoff: float
    smooth: float
    protection: float
    magnetic: np.ndarray
    slots: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    empty: np.ndarray
    table_of: np.ndarray
    tables: np.ndarray
    steps: int
    width: int
    axis: int


class Geometry(NamedTuple):
    """Where the atoms are and who is near whom.

    Attributes
    ----------
    positions, virtual : (N, 3) float64, A
        Atoms, and from each atom to its pseudo-atom.
    types, structure : (N,) int64
        Element in the type map, and place in the batch.
    cells : (B, 3, 3) float64, A
    first : (N + 1,) int64
        Pairs of atom i are ``first[i]`` to ``first[i + 1]``.
    neighbours : (E,) int64
    shifts : (E, 3) float64
        Lattice translations of the neighbours.
    widest : int
        Most pairs that an atom has.
    """

    positions: np.ndarray
    virtual: np.ndarray
    types: np.ndarray
    structure: np.ndarray
    cells: np.ndarray
    first: np.ndarray
    neighbours: np.ndarray
    shifts: np.ndarray
    widest: int


@compiled
def _collect(i, geometry, model, count, atom, vector):
    """Sort the sites of centre i by type.

    ``vector[b, :, e]`` is the vector to the e-th site of type b, ``atom[b, e]`` the
    atom that it belongs to. Returns False where there are more sites than slots.
    """
    n_types = len(model.magnetic)
    positions, virtual, types = geometry.positions, geometry.virtual, geometry.types
    cell = geometry.cells[geometry.structure[i]]
    square = model.cutoff * model.cutoff
    count[:] = 0
    if model.magnetic[types[i]]:
        own = types[i] + n_types
        count[own] = 1
        atom[own, 0] = i
        for k in range(3):
            vector[own, k, 0] = virtual[i, k]
    for pair in range(geometry.first[i], geometry.first[i + 1]):
        j = geometry.neighbours[pair]
        u = geometry.shifts[pair, 0]
        v = geometry.shifts[pair, 1]
        w = geometry.shifts[pair, 2]
        x = positions[j, 0] - positions[i, 0]
        y = positions[j, 1] - positions[i, 1]
        z = positions[j, 2] - positions[i, 2]
        x += u * cell[0, 0] + v * cell[1, 0] + w * cell[2, 0]
        y += u * cell[0, 1] + v * cell[1, 1] + w * cell[2, 1]
        z += u * cell[0, 2] + v * cell[1, 2] + w * cell[2, 2]
        b = types[j]
        for site_type in range(b, 2 * n_types, n_types):
            if site_type >= n_types:
                if not model.magnetic[b]:
                    break
                x += virtual[j, 0]
                y += virtual[j, 1]
                z += virtual[j, 2]
            if x * x + y * y + z * z < square:
                e = count[site_type]
                atom[site_type, e] = j
                vector[site_type, 0, e] = x
                vector[site_type, 1, e] = y
                vector[site_type, 2, e] = z
                count[site_type] = e + 1
    for site_type in range(2 * n_types):
        if count[site_type] > model.slots[site_type]:
            return False
    return True


@compiled
def _radial(r, model):
    """Return q = 1/(r + p), the switch w(r) and its derivative."""
    width = model.cutoff - model.smooth
    u = min(max((r - model.smooth) / width, 0.0), 1.0)
    w = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
    slope = (-30.0 / width) * u * u * (u - 1.0) * (u - 1.0)
    return 1.0 / (r + model.protection), w, slope


@compiled
def _rows(a, n, model, vector, row, radial):
    """Fill in the rows (4, n) of the sites' vectors (3, n), and s (n,)."""
    mean, scale = model.mean[a], model.scale[a]
    for e in range(n):
        x, y, z = vector[0, e], vector[1, e], vector[2, e]
        q, w, _ = _radial(math.sqrt(x * x + y * y + z * z), model)
        s = q * w
        radial[e] = s
        row[0, e] = (s - mean[0]) * scale[0]
        row[1, e] = (q * s * x - mean[1]) * scale[1]
        row[2, e] = (q * s * y - mean[2]) * scale[2]
        row[3, e] = (q * s * z - mean[3]) * scale[3]


@compiled
def _locate(s, steps, n_cells):
    """Return the cell of s, where s is in it (0 to 1), and 1/length of the cell."""
    if s < 1.0:
        x, inverse, start = s * steps, float(steps), 0
    else:
        coarse = steps // 4
        octave = int(math.log2(s))
        inverse = coarse / 2.0**octave
        x = s * inverse - coarse
        start = steps + coarse * octave
    # Round-off may put s beyond the last cell; anything else is NaN.
    k = min(max(int(x), 0), n_cells - 1 - start)
    return start + k, x - k, inverse


@compiled
def describe(begin, end, centres, a, geometry, model, products, features):
    """Compute the descriptors of ``centres[begin:end]``, atoms of type a.

    Fills ``products`` (n, 4, M) and ``features`` (n, width * axis). Returns False,
    with the work undone, where an atom has more sites than slots.
    """
    n_sites = len(model.slots)
    capacity = geometry.widest + 1
    count = np.zeros(n_sites, np.int64)
    atom = np.empty((n_sites, capacity), np.int64)
    vector = np.empty((n_sites, 3, capacity))
    row = np.empty((4, capacity), products.dtype)
    radial = np.empty(capacity)
    for c in range(begin, end):
        if not _collect(centres[c], geometry, model, count, atom, vector):
            return False
        A = products[c]
        _fill_empty_slots(a, count, model, A)
        for b in range(n_sites):
            if count[b] > 0:
                table = model.tables[model.table_of[a, b]]
                _rows(a, count[b], model, vector[b], row, radial)
                _add_sites(count[b], table, model.steps, row, radial, A)
        A /= model.slots.sum()
        _contract(A, model.width, model.axis, features[c])
    return True


@compiled
def _fill_empty_slots(a, count, model, A):
    """Start the product with what the slots without a site hold."""
    A[:] = 0
    for b in range(len(count)):
        n = model.slots[b] - count[b]
        for k in range(4):
            r = -model.mean[a, k] * model.scale[a, k] * n
            for m in range(A.shape[1]):
                A[k, m] += r * model.empty[a, b, m]


@compiled
def _add_sites(n, table, steps, row, radial, A):
    """Add R x G(s) of n sites of one type to the product."""
    real = A.dtype.type
    for e in range(n):
        cell, fraction, _ = _locate(radial[e], steps, len(table))
        t = real(fraction)
        c = table[cell]
        r0, r1, r2, r3 = row[0, e], row[1, e], row[2, e], row[3, e]
        for m in range(A.shape[1]):
            g = c[4, m] + t * c[5, m]
            g = c[3, m] + t * g
            g = c[2, m] + t * g
            g = c[1, m] + t * g
            g = c[0, m] + t * g
            A[0, m] += r0 * g
            A[1, m] += r1 * g
            A[2, m] += r2 * g
            A[3, m] += r3 * g


@compiled
def _contract(A, width, axis, D):
    """Set D[m, x] = sum_k A[k, m] A[k, x]."""
    for m in range(width):
        for x in range(axis):
            D[m * axis + x] = (
                A[0, m] * A[0, x]
                + A[1, m] * A[1, x]
                + A[2, m] * A[2, x]
                + A[3, m] * A[3, x]
            )


@compiled
def differentiate(
    begin,
    end,
    centres,
    a,
    geometry,
    model,
    products,
    gradients,
    forces,
    virtual,
    virial,
):
    """Bring dE/dD of ``centres[begin:end]``, atoms of type a, back to the atoms.

    Parameters
    ----------
    products : (n, 4, M), from :func:`describe`
    gradients : (n, width * axis)
        dE/dD, eV.
    forces, virtual : (N, 3) float64
        -dE/dR, eV/A, and dE/d(vector to the pseudo-atom), eV/A; added to.
    virial : (B, 3, 3) float64, eV
        Added to.
    """
    n_sites = len(model.slots)
    capacity = geometry.widest + 1
    count = np.zeros(n_sites, np.int64)
    atom = np.empty((n_sites, capacity), np.int64)
    vector = np.empty((n_sites, 3, capacity))
    row = np.empty((4, capacity), products.dtype)
    slope = np.empty((4, capacity))
    radial = np.empty(capacity)
    B = np.zeros_like(products[0])
    for c in range(begin, end):
        i = centres[c]
        _collect(i, geometry, model, count, atom, vector)
        _expand(products[c], model.width, model.axis, gradients[c], B)
        B /= model.slots.sum()
        for b in range(n_sites):
            n = count[b]
            if n > 0:
                table = model.tables[model.table_of[a, b]]
                _rows(a, n, model, vector[b], row, radial)
                _row_slopes(
                    n, table, model.steps, model.scale[a], row, radial, B, slope
                )
                _pull_back(n, model, vector[b], slope)
                _add_slopes(
                    i,
                    n,
                    b >= len(model.magnetic),
                    geometry,
                    atom[b],
                    vector[b],
                    slope,
                    forces,
                    virtual,
                    virial[geometry.structure[i]],
                )


@compiled
def _expand(A, width, axis, gradient, B):
    """Set B = dE/dA from dE/dD."""
    for k in range(4):
        for x in range(width):
            B[k, x] = 0
        for m in range(width):
            total = A[k, m] * 0
            for x in range(axis):
                total += gradient[m * axis + x] * A[k, x]
                B[k, x] += gradient[m * axis + x] * A[k, m]
            B[k, m] += total


@compiled
def _row_slopes(n, table, steps, scale, row, radial, B, slope):
    """Set the derivatives (4, n) of the energy by the rows before normalisation.

    That by s, in column 0, includes the one through the embedding.
    """
    real = B.dtype.type
    for e in range(n):
        cell, fraction, inverse = _locate(radial[e], steps, len(table))
        t = real(fraction)
        c = table[cell]
        r0, r1, r2, r3 = row[0, e], row[1, e], row[2, e], row[3, e]
        s0 = s1 = s2 = s3 = ds = real(0)
        for m in range(B.shape[1]):
            g = c[4, m] + t * c[5, m]
            d = g + t * c[5, m]
            g = c[3, m] + t * g
            d = g + t * d
            g = c[2, m] + t * g
            d = g + t * d
            g = c[1, m] + t * g
            d = g + t * d
            g = c[0, m] + t * g
            s0 += B[0, m] * g
            s1 += B[1, m] * g
            s2 += B[2, m] * g
            s3 += B[3, m] * g
            ds += d * (r0 * B[0, m] + r1 * B[1, m] + r2 * B[2, m] + r3 * B[3, m])
        slope[0, e] = s0 * scale[0] + ds * inverse
        slope[1, e] = s1 * scale[1]
        slope[2, e] = s2 * scale[2]
        slope[3, e] = s3 * scale[3]


@compiled
def _pull_back(n, model, vector, slope):
    """Turn derivatives by the rows into those by the vectors, ``slope[1:]``, eV/A.

    See :meth:`deepspin_ase.potentials.environment.Environment.pull_back`.
    """
    for e in range(n):
        x, y, z = vector[0, e], vector[1, e], vector[2, e]
        gx, gy, gz = slope[1, e], slope[2, e], slope[3, e]
        r = math.sqrt(x * x + y * y + z * z)
        q, w, dw = _radial(r, model)
        along = slope[0, e] * q * (dw - q * w)
        along += (gx * x + gy * y + gz * z) * q * q * (dw - 2.0 * q * w)
        along = along / r if r > 0.0 else 0.0
        slope[1, e] = q * q * w * gx + along * x
        slope[2, e] = q * q * w * gy + along * y
        slope[3, e] = q * q * w * gz + along * z


@compiled
def _add_slopes(i, n, pseudo, geometry, atom, vector, slope, forces, virtual, virial):
    """Add derivatives by the vectors of n sites to those by the atoms.

    An atom exerts no force on itself or its images, but they add to the virial,
    which takes the vectors between the atoms themselves.
    """
    for e in range(n):
        j = atom[e]
        gx, gy, gz = slope[1, e], slope[2, e], slope[3, e]
        x, y, z = vector[0, e], vector[1, e], vector[2, e]
        if pseudo:
            virtual[j, 0] += gx
            virtual[j, 1] += gy
            virtual[j, 2] += gz
            x -= geometry.virtual[j, 0]
            y -= geometry.virtual[j, 1]
            z -= geometry.virtual[j, 2]
        if i != j:
            forces[i, 0] += gx
            forces[i, 1] += gy
            forces[i, 2] += gz
            forces[j, 0] -= gx
            forces[j, 1] -= gy
            forces[j, 2] -= gz
        virial[0, 0] -= gx * x
        virial[0, 1] -= gx * y
        virial[0, 2] -= gx * z
        virial[1, 0] -= gy * x
        virial[1, 1] -= gy * y
        virial[1, 2] -= gy * z
        virial[2, 0] -= gz * x
        virial[2, 1] -= gz * y
        virial[2, 2] -= gz * z
