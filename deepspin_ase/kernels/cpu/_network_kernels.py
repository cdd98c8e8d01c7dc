"""Compiled kernels of the network: from pair lists to descriptors, and back.

With the rows R (4 numbers) and embeddings G (M numbers) of the sites of an atom,

    A = (1/n) sum_sites R x G(s)        the product, 4 x M
    D[m, x] = sum_k A[k, m] A[k, x]     the descriptor, x < axis

where n is the number of slots; slots without a site hold the row of nothing. The
fitting network turns D into an energy, and dE/dD is brought back to the sites by

    dE/dA[k, m] = sum_x (dE/dD[m, x] A[k, x]) + [k, m < axis] sum_l dE/dD[l, m] A[k, l]

and the chain rule of :class:`.networks.Environment`.
Sources: se_e2_a, Zhang et al., arXiv:1805.09003; tabulated embeddings, Lu et al.,
Comput. Phys. Commun. 259, 107624 (2021).

Kernels work on a range of centres without the interpreter's lock, so that threads
share the work. Geometry is in float64; tables, products and descriptors are in
the type of the tables. Compiled code is kept on disk where a folder can be written.
"""

from __future__ import annotations

import math

import numpy as np

from ._compile import compiled, inlined, merged
from ._fitting_kernels import FittingSpace, fit
from ._site_kernels import SiteSpace, collect, fill_rows, radial_parts

#: Sites that go through the product together.
BLOCK = 4

#: Atoms that go through the fitting network together; even.
ROWS = 32


def work_space(n, geometry, model, fitting):
    """Return what a thread with n centres needs: for sites, products A, the fitting."""
    rows = min(ROWS, n + n % 2)
    return (
        SiteSpace.allocate(rows, geometry.widest + 1 + BLOCK, model),
        np.zeros((rows, 4, model.tables.shape[2]), model.tables.dtype),
        FittingSpace.allocate(rows, fitting),
    )


@compiled
def evaluate(
    begin,
    end,
    centres,
    a,
    geometry,
    virtual,
    model,
    fitting,
    derivatives,
    work,
    energies,
    forces,
    arms,
    virial,
):
    """Add the energies of ``centres[begin:end]``, atoms of type a, and derivatives.

    Parameters
    ----------
    virtual : (N, 3) float64, A
        From each atom to its pseudo-atom.
    derivatives : bool
        Compute more than energies.
    work : tuple
        Of :func:`work_space`.
    energies : (N,) float64, eV
    forces, arms : (N, 3) float64
        -dE/dR and dE/d(vector to the pseudo-atom), eV/A; added to.
    virial : (B, 3, 3) float64, eV
        Added to.

    Returns
    -------
    bool
        False, with the work undone, where an atom has more sites than slots.
    """
    sites, products, fits = work
    for start in range(begin, end, len(products)):
        n = min(len(products), end - start)
        for c in range(n):
            i = centres[start + c]
            if not collect(c, i, geometry, virtual, model, sites):
                return False
            _describe(c, a, model, sites, products[c])
            _contract(products[c], model.width, model.axis, fits.features[c])
        fit(n, fitting, derivatives, fits)
        for c in range(n):
            i = centres[start + c]
            energies[i] += fits.values[-1, c, 0]
            if derivatives:
                _expand(products[c], model.width, model.axis, fits.gradients[c], sites)
                W = virial[geometry.structure[i]]
                _differentiate(c, i, a, virtual, model, sites, forces, arms, W)
    return True


@merged
def _describe(c, a, model, sites, A):
    """Compute the product of the c-th centre, of type a."""
    count = sites.counts[c]
    _fill_empty_slots(a, count, model, A)
    for b in range(len(count)):
        if count[b] > 0:
            fill_rows(c, a, b, model, sites)
            _add_sites(c, b, model.tables, sites, A)
    per_slot = A.dtype.type(model.per_slot)
    for k in range(4):
        for m in range(A.shape[1]):
            A[k, m] *= per_slot


@inlined
def _fill_empty_slots(a, count, model, A):
    """Start the product with what the slots without a site hold."""
    for k in range(4):
        for m in range(A.shape[1]):
            A[k, m] = 0
    for b in range(len(count)):
        n = model.slots[b] - count[b]
        for k in range(4):
            r = -model.mean[a, k] * model.scale[a, k] * n
            for m in range(A.shape[1]):
                A[k, m] += r * model.empty[a, b, m]


@inlined
def _add_sites(c, b, table, sites, A):
    """Add R x G(s) of the sites of type b around centre c to the product."""
    n, row, embedding = sites.counts[c, b], sites.row[c, b], sites.embedding
    cell, fraction = sites.cell[c, b], sites.fraction[c, b]
    for e in range(n):
        p, t, g = table[cell[e]], fraction[e], embedding[e]
        for m in range(A.shape[1]):
            f = p[3, m] + t * (p[4, m] + t * p[5, m])
            g[m] = p[0, m] + t * (p[1, m] + t * (p[2, m] + t * f))
    # Several sites at a time go through the product; the last block is filled up.
    for e in range(n, n + BLOCK):
        for k in range(4):
            row[k, e] = 0
        for m in range(A.shape[1]):
            embedding[e, m] = 0
    for e in range(0, n, BLOCK):
        g = embedding[e : e + BLOCK]
        for k in range(4):
            r0, r1, r2, r3 = row[k, e], row[k, e + 1], row[k, e + 2], row[k, e + 3]
            for m in range(A.shape[1]):
                A[k, m] += r0 * g[0, m] + r1 * g[1, m] + r2 * g[2, m] + r3 * g[3, m]


@inlined
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


@merged
def _differentiate(c, i, a, virtual, model, sites, forces, arms, virial):
    """Bring dE/dA of the c-th centre, atom i of type a, back to the atoms."""
    count, atom, vector = sites.counts[c], sites.atom[c], sites.vector[c]
    slope = sites.slope
    for b in range(len(count)):
        n = count[b]
        if n > 0:
            _row_slopes(c, a, b, model, sites)
            _pull_back(n, model, vector[b], slope)
            ends = i, n, b >= len(model.magnetic), virtual, atom[b], vector[b], slope
            _add_slopes(ends, forces, arms, virial)


@inlined
def _expand(A, width, axis, gradient, sites):
    """Set dE/dA from dE/dD."""
    B = sites.gradient
    for k in range(4):
        for m in range(width):
            B[k, m] = 0
    for m in range(width):
        t0 = t1 = t2 = t3 = B.dtype.type(0)
        for x in range(axis):
            g = gradient[m * axis + x]
            t0 += g * A[0, x]
            t1 += g * A[1, x]
            t2 += g * A[2, x]
            t3 += g * A[3, x]
            B[0, x] += g * A[0, m]
            B[1, x] += g * A[1, m]
            B[2, x] += g * A[2, m]
            B[3, x] += g * A[3, m]
        B[0, m] += t0
        B[1, m] += t1
        B[2, m] += t2
        B[3, m] += t3


@inlined
def _row_slopes(c, a, b, model, sites):
    """Set the derivatives by the rows, before normalisation, of sites of type b.

    That by s, in column 0, includes the one through the embedding.
    """
    n, row, slope, B = sites.counts[c, b], sites.row[c, b], sites.slope, sites.gradient
    cell, fraction, inverse = (
        sites.cell[c, b],
        sites.fraction[c, b],
        sites.inverse[c, b],
    )
    scale, per_slot, zero = model.scale[a], model.per_slot, B.dtype.type(0)
    for e in range(n):
        p, t = model.tables[cell[e]], fraction[e]
        r0, r1, r2, r3 = row[0, e], row[1, e], row[2, e], row[3, e]
        s0 = s1 = s2 = s3 = ds = zero
        for m in range(B.shape[1]):
            g = p[4, m] + t * p[5, m]
            d = g + t * p[5, m]
            g = p[3, m] + t * g
            d = g + t * d
            g = p[2, m] + t * g
            d = g + t * d
            g = p[1, m] + t * g
            d = g + t * d
            g = p[0, m] + t * g
            s0 += B[0, m] * g
            s1 += B[1, m] * g
            s2 += B[2, m] * g
            s3 += B[3, m] * g
            ds += d * (r0 * B[0, m] + r1 * B[1, m] + r2 * B[2, m] + r3 * B[3, m])
        slope[0, e] = (s0 * scale[0] + ds * inverse[e]) * per_slot
        slope[1, e] = s1 * scale[1] * per_slot
        slope[2, e] = s2 * scale[2] * per_slot
        slope[3, e] = s3 * scale[3] * per_slot


@inlined
def _pull_back(n, model, vector, slope):
    """Turn derivatives by the rows into those by the vectors, ``slope[1:]``, eV/A.

    See :meth:`.networks.Environment.pull_back`.
    """
    for e in range(n):
        x, y, z = vector[0, e], vector[1, e], vector[2, e]
        gx, gy, gz = slope[1, e], slope[2, e], slope[3, e]
        r = math.sqrt(x * x + y * y + z * z)
        q, w, dw = radial_parts(r, model)
        along = slope[0, e] * q * (dw - q * w)
        along += (gx * x + gy * y + gz * z) * q * q * (dw - 2.0 * q * w)
        along = along / r if r > 0.0 else 0.0
        slope[1, e] = q * q * w * gx + along * x
        slope[2, e] = q * q * w * gy + along * y
        slope[3, e] = q * q * w * gz + along * z


@inlined
def _add_slopes(ends, forces, arms, virial):
    """Add derivatives by the vectors to sites of one type to those by the atoms.

    An atom exerts no force on itself or its images, but they add to the virial,
    which takes the vectors between the atoms themselves.
    """
    i, n, pseudo, virtual, atom, vector, slope = ends
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
