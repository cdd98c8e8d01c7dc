"""Triton kernel for pair energies that are a function of distance each.

The same as on the CPU, see :mod:`deepspin_ase.kernels.cpu._pair_kernels`: a pair is
listed twice and gives half its energy to each atom, so that the program of an atom
gathers all that acts on it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._geometry import pair_vectors
from ._invariants import ALIGNED, CHIRAL, POWERS, aligned, chiral, function


@triton.jit
def _coefficients(
    r,
    a,
    b,
    near,
    edges,
    tables,
    first_cell,
    n_cells,
    inverses,
    N_TYPES,
    N_SECTIONS,
    WIDTH,
):
    """Return where the polynomials at r are, where r is in its cell, and 1/length."""
    section = tl.zeros_like(b)
    for k in range(1, N_SECTIONS):
        section += (r >= tl.load(edges + k)).to(tl.int32)
    where = (a * N_TYPES + b) * N_SECTIONS + section
    inverse = tl.load(inverses + where, mask=near, other=1.0)
    x = (r - tl.load(edges + section)) * inverse
    n = tl.load(n_cells + where, mask=near, other=1.0).to(tl.int32)
    k = tl.maximum(tl.minimum(x.to(tl.int32), n - 1), 0)
    cell = tl.load(first_cell + where, mask=near, other=0) + k
    return tables + WIDTH * POWERS * cell, x - k, inverse


@triton.jit
def add_pairs(
    first,
    neighbours,
    shifts,
    positions,
    spins,
    structure,
    lattice,
    types,
    edges,
    tables,
    first_cell,
    n_cells,
    inverses,
    energies,
    forces,
    fields,
    virials,
    close,
    N_TYPES: tl.constexpr,
    N_SECTIONS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the pair energy of every atom, and its derivatives.

    Parameters
    ----------
    first, neighbours, shifts, positions, structure, lattice
        See :func:`deepspin_ase.kernels.cuda._site_kernels.collect_sites`.
    spins : (N, 3), mu_B
    types : (N,) int32
    edges, tables, first_cell, n_cells, inverses
        See :class:`deepspin_ase.kernels._pair_tables.PairTables`; first cells
        as int32.
    energies : (N,) float64, eV
    forces, fields : (N, 3) float64
        -dE/dR, eV/A, and dE/dm, eV/mu_B.
    virials : (N, 9) float64, eV
    close : (N,) int32
        How many neighbours are closer than the tables reach.
    WIDTH : int
        Number of functions.
    """
    i = tl.program_id(0).to(tl.int64)
    a = tl.load(types + i)
    begin, end = tl.load(first + i), tl.load(first + i + 1)
    cell = lattice + 9 * tl.load(structure + i)
    nearest, farthest = tl.load(edges), tl.load(edges + N_SECTIONS)
    lane = tl.arange(0, BLOCK)
    zero = tl.zeros([BLOCK], tl.float64)
    m0 = tl.load(spins + 3 * i).to(tl.float64)
    m1 = tl.load(spins + 3 * i + 1).to(tl.float64)
    m2 = tl.load(spins + 3 * i + 2).to(tl.float64)
    mi = tl.sqrt(m0 * m0 + m1 * m1 + m2 * m2)
    over = 1.0 / tl.where(mi == 0.0, 1.0, mi)
    u0, u1, u2 = m0 * over, m1 * over, m2 * over
    energy, fx, fy, fz, hx, hy, hz = zero, zero, zero, zero, zero, zero, zero
    xx, xy, xz, yy, yz, zz = zero, zero, zero, zero, zero, zero
    # By how much the lower triangle of the virial exceeds the upper one.
    yx, zx, zy = zero, zero, zero
    n_close = tl.zeros([BLOCK], tl.int32)
    for start in range(begin, end, BLOCK):
        p = start + lane
        valid = p < end
        j, x, y, z = pair_vectors(p, valid, i, positions, neighbours, shifts, cell)
        r = tl.sqrt(x * x + y * y + z * z)
        # What is not a number is kept, so that it is seen in the result.
        near = valid & ~(r >= farthest)
        n_close += (near & (r < nearest)).to(tl.int32)
        b = tl.load(types + j, mask=valid, other=0)
        c, t, inverse = _coefficients(
            r,
            a,
            b,
            near,
            edges,
            tables,
            first_cell,
            n_cells,
            inverses,
            N_TYPES,
            N_SECTIONS,
            WIDTH,
        )
        e, de = function(c, 0, t, near)
        if WIDTH > ALIGNED:
            s0 = tl.load(spins + 3 * j, mask=valid, other=0.0).to(tl.float64)
            s1 = tl.load(spins + 3 * j + 1, mask=valid, other=0.0).to(tl.float64)
            s2 = tl.load(spins + 3 * j + 2, mask=valid, other=0.0).to(tl.float64)
            mj = tl.sqrt(s0 * s0 + s1 * s1 + s2 * s2)
            both = near & (mi * mj != 0.0)
            length = tl.where(mj == 0.0, 1.0, mj)
            v0, v1, v2 = s0 / length, s1 / length, s2 / length
            f, d, h0, h1, h2 = aligned(c, t, both, mi, mj, over, u0, u1, u2, v0, v1, v2)
            e += f
            de += d
            hx += h0
            hy += h1
            hz += h2
            if WIDTH > CHIRAL:
                length = tl.where(near, r, 1.0)
                f, d, h0, h1, h2, w0, w1, w2 = chiral(
                    c,
                    t,
                    both,
                    over,
                    u0,
                    u1,
                    u2,
                    v0,
                    v1,
                    v2,
                    x / length,
                    y / length,
                    z / length,
                )
                e += f
                de += d
                hx += h0
                hy += h1
                hz += h2
                # Only what is across the bond turns its direction.
                along = (w0 * x + w1 * y + w2 * z) / (length * length)
                gx = (w0 - along * x) / length
                gy = (w1 - along * y) / length
                gz = (w2 - along * z) / length
                fx += gx
                fy += gy
                fz += gz
                xx += gx * x
                xy += gx * y
                xz += gx * z
                yy += gy * y
                yz += gy * z
                zz += gz * z
                yx += gy * x - gx * y
                zx += gz * x - gx * z
                zy += gz * y - gy * z
        energy += 0.5 * e
        de *= inverse / tl.where(near, r, 1.0)
        fx += de * x
        fy += de * y
        fz += de * z
        xx += de * x * x
        xy += de * x * y
        xz += de * x * z
        yy += de * y * y
        yz += de * y * z
        zz += de * z * z
    tl.store(energies + i, tl.sum(energy, 0))
    tl.store(close + i, tl.sum(n_close, 0))
    forces, fields, virials = forces + 3 * i, fields + 3 * i, virials + 9 * i
    tl.store(forces, tl.sum(fx, 0))
    tl.store(forces + 1, tl.sum(fy, 0))
    tl.store(forces + 2, tl.sum(fz, 0))
    tl.store(fields, tl.sum(hx, 0))
    tl.store(fields + 1, tl.sum(hy, 0))
    tl.store(fields + 2, tl.sum(hz, 0))
    wxy, wxz, wyz = tl.sum(xy, 0), tl.sum(xz, 0), tl.sum(yz, 0)
    tl.store(virials, -0.5 * tl.sum(xx, 0))
    tl.store(virials + 1, -0.5 * wxy)
    tl.store(virials + 2, -0.5 * wxz)
    tl.store(virials + 3, -0.5 * (wxy + tl.sum(yx, 0)))
    tl.store(virials + 4, -0.5 * tl.sum(yy, 0))
    tl.store(virials + 5, -0.5 * wyz)
    tl.store(virials + 6, -0.5 * (wxz + tl.sum(zx, 0)))
    tl.store(virials + 7, -0.5 * (wyz + tl.sum(zy, 0)))
    tl.store(virials + 8, -0.5 * tl.sum(zz, 0))
