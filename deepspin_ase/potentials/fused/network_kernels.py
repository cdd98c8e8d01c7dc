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

import math
from typing import NamedTuple

import numpy as np

from .compile import compiled

#: Sites that go through the product together.
BLOCK = 4


class Model(NamedTuple):
    """The network without its fitting part.

    Attributes
    ----------
    cutoff, smooth, protection : float, A
    magnetic : (n_types,) bool
        Which elements have pseudo-atoms.
    slots : (2 n_types,) uint64
        For the sites of each type.
    mean, scale : (n_types, 4) float64
        Rows are normalised as (row - mean) * scale, by the type of the centre.
    empty : (n_types, 2 n_types, M)
        Embedding of an empty slot.
    tables : (cells, 6, M)
        Polynomials, see :class:`deepspin_ase.potentials.fused.tables.Tables`. M is
        the width of the embedding, filled up.
    first, cells : (n_types, 2 n_types, n_sections) uint64 and float64
        First cell and number of cells of each section.
    sections : int
        Of s between 0 and 1.
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
    tables: np.ndarray
    first: np.ndarray
    cells: np.ndarray
    sections: int
    width: int
    axis: int


class _Site(NamedTuple):
    """Work space for the sites of one type around one atom.

    Attributes
    ----------
    row : (4, n)
        R, normalised.
    radial : (n,) float64
        s.
    cell : (n,) uint64
        Cells of the table.
    fraction, inverse : (n,)
        Where s is in its cell, from 0 to 1, and 1/length of the cell.
    embedding : (n, M)
        G(s).
    slope : (4, n) float64
        Derivatives of the energy by the row before it was normalised.
    """

    row: np.ndarray
    radial: np.ndarray
    cell: np.ndarray
    fraction: np.ndarray
    inverse: np.ndarray
    embedding: np.ndarray
    slope: np.ndarray


@compiled
def _work_space(n_sites, capacity, A):
    """Return counts, atoms and vectors by site type, and space for one type."""
    site = _Site(
        np.zeros((4, capacity), A.dtype),
        np.empty(capacity),
        np.zeros(capacity, np.uint64),
        np.empty(capacity, A.dtype),
        np.empty(capacity),
        np.empty((capacity, A.shape[1]), A.dtype),
        np.empty((4, capacity)),
    )
    count = np.zeros(n_sites, np.uint64)
    atom = np.empty((n_sites, capacity), np.uint64)
    return count, atom, np.empty((n_sites, 3, capacity)), site


@compiled
def _collect(i, geometry, virtual, model, count, atom, vector):
    """Sort the sites of centre i by type.

    ``vector[b, :, e]`` is the vector to the e-th site of type b, ``atom[b, e]`` the
    atom that it belongs to. Returns False where there are more sites than slots.
    """
    n_types = np.uint64(len(model.magnetic))
    square = model.cutoff * model.cutoff
    positions, shifts, types = geometry.positions, geometry.shifts, geometry.types
    cell = geometry.cells[geometry.structure[i]]
    ax, ay, az = cell[0, 0], cell[0, 1], cell[0, 2]
    bx, by, bz = cell[1, 0], cell[1, 1], cell[1, 2]
    cx, cy, cz = cell[2, 0], cell[2, 1], cell[2, 2]
    xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
    count[:] = 0
    if model.magnetic[types[i]]:
        own = types[i] + n_types
        _append(
            own, i, virtual[i, 0], virtual[i, 1], virtual[i, 2], count, atom, vector
        )
    for pair in range(geometry.first[i], geometry.first[i + np.uint64(1)]):
        j = geometry.neighbours[pair]
        u, v, w = shifts[pair, 0], shifts[pair, 1], shifts[pair, 2]
        x = positions[j, 0] - xi + u * ax + v * bx + w * cx
        y = positions[j, 1] - yi + u * ay + v * by + w * cy
        z = positions[j, 2] - zi + u * az + v * bz + w * cz
        b = types[j]
        if x * x + y * y + z * z < square:
            _append(b, j, x, y, z, count, atom, vector)
        if model.magnetic[b]:
            x += virtual[j, 0]
            y += virtual[j, 1]
            z += virtual[j, 2]
            if x * x + y * y + z * z < square:
                _append(b + n_types, j, x, y, z, count, atom, vector)
    for site_type in range(len(count)):
        if count[site_type] > model.slots[site_type]:
            return False
    return True


@compiled
def _append(b, j, x, y, z, count, atom, vector):
    """Add a site of type b that belongs to atom j."""
    e = count[b]
    atom[b, e] = j
    vector[b, np.uint64(0), e] = x
    vector[b, np.uint64(1), e] = y
    vector[b, np.uint64(2), e] = z
    count[b] = e + np.uint64(1)


@compiled
def _radial(r, model):
    """Return q = 1/(r + p), the switch w(r) and its derivative."""
    width = model.cutoff - model.smooth
    u = min(max((r - model.smooth) / width, 0.0), 1.0)
    w = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
    slope = (-30.0 / width) * u * u * (u - 1.0) * (u - 1.0)
    return 1.0 / (r + model.protection), w, slope


@compiled
def _rows(a, b, n, model, vector, site):
    """Fill in what is needed of n sites of type b around a centre of type a."""
    mean, scale = model.mean[a], model.scale[a]
    row, radial = site.row, site.radial
    for e in range(n):
        x, y, z = vector[0, e], vector[1, e], vector[2, e]
        q, w, _ = _radial(math.sqrt(x * x + y * y + z * z), model)
        s = q * w
        radial[e] = s
        row[0, e] = (s - mean[0]) * scale[0]
        row[1, e] = (q * s * x - mean[1]) * scale[1]
        row[2, e] = (q * s * y - mean[2]) * scale[2]
        row[3, e] = (q * s * z - mean[3]) * scale[3]
    first, cells = model.first[a, b], model.cells[a, b]
    for e in range(n):
        section, fraction, inverse = _locate(radial[e], model.sections, len(first))
        x = fraction * cells[section]
        k = min(max(int(x), 0), int(cells[section]) - 1)
        site.cell[e] = first[section] + np.uint64(k)
        site.fraction[e] = x - k
        site.inverse[e] = inverse * cells[section]


@compiled
def _locate(s, sections, n):
    """Return the section of s, where s is in it (0 to 1), and 1/length of it."""
    if s < 1.0:
        start, inverse = 0, float(sections)
        x = s * inverse
    else:
        coarse = sections // 4
        octave = int(math.log2(s))
        start, inverse = sections + coarse * octave, coarse / 2.0**octave
        x = s * inverse - coarse
    # Round-off may put s beyond the last section; what is not a number is in one.
    k = min(max(int(x), 0), n - 1 - start)
    return start + k, x - k, inverse


@compiled
def describe(begin, end, centres, a, geometry, virtual, model, products, features):
    """Compute the descriptors of ``centres[begin:end]``, atoms of type a.

    ``virtual`` (N, 3), A, leads from each atom to its pseudo-atom. Fills ``products``
    (n, 4, M) and ``features`` (n, width * axis). Returns False, with the work undone,
    where an atom has more sites than slots.
    """
    capacity = geometry.widest + 1 + BLOCK
    work = _work_space(len(model.slots), capacity, products[0])
    count, atom, vector, site = work
    for c in range(begin, end):
        if not _collect(centres[c], geometry, virtual, model, count, atom, vector):
            return False
        A = products[c]
        _fill_empty_slots(a, count, model, A)
        for b in range(len(count)):
            n = count[b]
            if n > 0:
                _rows(a, b, n, model, vector[b], site)
                _add_sites(n, model.tables, site, A)
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
def _add_sites(n, table, site, A):
    """Add R x G(s) of n sites of one type to the product."""
    row, embedding = site.row, site.embedding
    for e in range(n):
        c, t, g = table[site.cell[e]], site.fraction[e], embedding[e]
        for m in range(A.shape[1]):
            f = c[3, m] + t * (c[4, m] + t * c[5, m])
            g[m] = c[0, m] + t * (c[1, m] + t * (c[2, m] + t * f))
    # Several sites at a time go through the product; the last block is filled up.
    row[:, n : n + BLOCK] = 0
    embedding[n : n + BLOCK] = 0
    for e in range(0, n, BLOCK):
        g = embedding[e : e + BLOCK]
        for k in range(4):
            r0, r1, r2, r3 = row[k, e], row[k, e + 1], row[k, e + 2], row[k, e + 3]
            for m in range(A.shape[1]):
                A[k, m] += r0 * g[0, m] + r1 * g[1, m] + r2 * g[2, m] + r3 * g[3, m]


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
    virtual,
    model,
    products,
    gradients,
    forces,
    arms,
    virial,
):
    """Bring dE/dD of ``centres[begin:end]``, atoms of type a, back to the atoms.

    Parameters
    ----------
    products : (n, 4, M), from :func:`describe`
    gradients : (n, width * axis)
        dE/dD, eV.
    forces, arms : (N, 3) float64
        -dE/dR and dE/d(vector to the pseudo-atom), eV/A; added to.
    virial : (B, 3, 3) float64, eV
        Added to.
    """
    work = _work_space(len(model.slots), geometry.widest + 1, products[0])
    count, atom, vector, site = work
    B = np.zeros_like(products[0])
    for c in range(begin, end):
        i = centres[c]
        _collect(i, geometry, virtual, model, count, atom, vector)
        _expand(products[c], model.width, model.axis, gradients[c], B)
        B /= model.slots.sum()
        for b in range(len(count)):
            n = count[b]
            if n > 0:
                _rows(a, b, n, model, vector[b], site)
                _row_slopes(n, model.tables, model.scale[a], B, site)
                _pull_back(n, model, vector[b], site.slope)
                _add_slopes(
                    i,
                    n,
                    b >= len(model.magnetic),
                    virtual,
                    atom[b],
                    vector[b],
                    site.slope,
                    forces,
                    arms,
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
def _row_slopes(n, table, scale, B, site):
    """Set the derivatives of the energy by the rows before normalisation.

    That by s, in column 0, includes the one through the embedding.
    """
    row, slope = site.row, site.slope
    zero = B.dtype.type(0)
    for e in range(n):
        c, t = table[site.cell[e]], site.fraction[e]
        r0, r1, r2, r3 = row[0, e], row[1, e], row[2, e], row[3, e]
        s0 = s1 = s2 = s3 = ds = zero
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
        slope[0, e] = s0 * scale[0] + ds * site.inverse[e]
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
def _add_slopes(i, n, pseudo, virtual, atom, vector, slope, forces, arms, virial):
    """Add derivatives by the vectors of n sites to those by the atoms.

    An atom exerts no force on itself or its images, but they add to the virial,
    which takes the vectors between the atoms themselves.
    """
    for e in range(n):
        j = atom[e]
        gx, gy, gz = slope[1, e], slope[2, e], slope[3, e]
        x, y, z = vector[0, e], vector[1, e], vector[2, e]
        if pseudo:
            arms[j, 0] += gx
            arms[j, 1] += gy
            arms[j, 2] += gz
            x -= virtual[j, 0]
            y -= virtual[j, 1]
            z -= virtual[j, 2]
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
