"""Triton kernels of the geometry: from pair lists to sites, and back to the atoms.

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
def _radial_parts(x, y, z, constants):
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
def _locate(s, SECTIONS: tl.constexpr, N_SECTIONS: tl.constexpr):
    """Return the section of s, where s is in it (0 to 1), and 1/length of it.

    The octave of s, and powers of two, are read from and written to the exponent.
    """
    coarse: tl.constexpr = SECTIONS // 4
    exponent = (s.to(tl.int64, bitcast=True) >> 52) - 1023
    octave = tl.minimum(tl.maximum(exponent, 0), 64)
    power = ((1023 - octave) << 52).to(tl.float64, bitcast=True)
    above = s >= 1.0
    start = tl.where(above, SECTIONS + coarse * octave, 0)
    inverse = tl.where(above, coarse * power, SECTIONS)
    x = s * inverse - tl.where(above, coarse, 0)
    # Round-off may put s beyond the last section; what is not a number is in one.
    start = tl.minimum(start, N_SECTIONS - 1)
    k = tl.minimum(tl.maximum(x.to(tl.int64), 0), N_SECTIONS - 1 - start)
    return start + k, x - k, inverse


@triton.jit
def _write_sites(
    x,
    y,
    z,
    site,
    b,
    kept,
    slot,
    a,
    rows,
    cells,
    sites,
    stride,
    constants,
    mean,
    scale,
    first_cell,
    n_cells,
    SECTIONS: tl.constexpr,
    N_SECTIONS: tl.constexpr,
    N_SITES: tl.constexpr,
):
    """Write the sites at (x, y, z), of types b around type a, to their slots."""
    _, q, w, _ = _radial_parts(x, y, z, constants)
    s = q * w
    section, fraction, inverse = _locate(s, SECTIONS, N_SECTIONS)
    where = (a * N_SITES + b) * N_SECTIONS + section
    n = tl.load(n_cells + where, mask=kept, other=1.0)
    t = fraction * n
    k = tl.maximum(tl.minimum(t.to(tl.int32), n.to(tl.int32) - 1), 0)
    cell = tl.load(first_cell + where, mask=kept, other=0) + k
    mean += 4 * a
    scale += 4 * a
    r0 = (s - tl.load(mean)) * tl.load(scale)
    r1 = (q * s * x - tl.load(mean + 1)) * tl.load(scale + 1)
    r2 = (q * s * y - tl.load(mean + 2)) * tl.load(scale + 2)
    r3 = (q * s * z - tl.load(mean + 3)) * tl.load(scale + 3)
    # Conversion to the type of the rows happens in the store.
    tl.store(rows + slot, r0, mask=kept)
    tl.store(rows + stride + slot, r1, mask=kept)
    tl.store(rows + 2 * stride + slot, r2, mask=kept)
    tl.store(rows + 3 * stride + slot, r3, mask=kept)
    tl.store(rows + 4 * stride + slot, t - k, mask=kept)
    tl.store(rows + 5 * stride + slot, inverse * n, mask=kept)
    tl.store(cells + slot, cell, mask=kept)
    tl.store(sites + slot, site, mask=kept)


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


@triton.jit(do_not_specialize=["stride", "n_pairs"])
def collect_sites(
    centres,
    offsets,
    first,
    neighbours,
    shifts,
    positions,
    arms,
    structure,
    lattice,
    types,
    magnetic,
    constants,
    mean,
    scale,
    first_cell,
    n_cells,
    rows,
    cells,
    sites,
    stride,
    found,
    counts,
    n_pairs,
    SECTIONS: tl.constexpr,
    N_SECTIONS: tl.constexpr,
    N_TYPES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Collect the sites within the cutoff of every centre.

    Parameters
    ----------
    centres : (n,) int64
        Atoms of the programs.
    offsets : (n + 1,) int64
        Slots of centre c begin at ``offsets[c] - offsets[0]``.
    first, neighbours, shifts
        The pair list, see :class:`deepspin_ase.potentials.fused_cuda.lists.Layout`.
    positions, arms : (N, 3)
        Atoms, and the vectors from them to their pseudo-atoms, A.
    structure, lattice
        Place in the batch (N,), and cells (B, 3, 3), A.
    types, magnetic : int32
        Of the atoms (N,), and which types have pseudo-atoms.
    constants, mean, scale : float64
        See :class:`deepspin_ase.potentials.fused_cuda.network.Tables`.
    first_cell, n_cells : (types, site types, sections)
        int32 and float64.
    rows : (6, stride)
        Written: the four numbers of the row, where s is in its cell of the table, and
        1/length of the cell.
    cells, sites : (stride,) int32 and int64
        Written: cell of the table, and number of the site.
    found : (n,) int32
        Written: how many sites there are.
    counts : (n, site types) int32
        Added to: how many of each type.
    n_pairs : int
        E.
    """
    c = tl.program_id(0)
    i = tl.load(centres + c)
    a = tl.load(types + i)
    begin, end = tl.load(first + i), tl.load(first + i + 1)
    base = tl.load(offsets + c) - tl.load(offsets)
    cell = lattice + 9 * tl.load(structure + i)
    cutoff = tl.load(constants)
    n_sites: tl.constexpr = 2 * N_TYPES
    counts += c.to(tl.int64) * n_sites
    lane = tl.arange(0, BLOCK)
    # The own pseudo-atom, wherever it is.
    own = (lane == 0) & (tl.load(magnetic + a) != 0)
    x = tl.load(arms + 3 * i).to(tl.float64) + tl.zeros([BLOCK], tl.float64)
    y = tl.load(arms + 3 * i + 1).to(tl.float64) + tl.zeros([BLOCK], tl.float64)
    z = tl.load(arms + 3 * i + 2).to(tl.float64) + tl.zeros([BLOCK], tl.float64)
    b = a + N_TYPES + tl.zeros([BLOCK], tl.int32)
    site = 2 * n_pairs.to(tl.int64) + i + tl.zeros([BLOCK], tl.int64)
    _write_sites(
        x,
        y,
        z,
        site,
        b,
        own,
        base + lane,
        a,
        rows,
        cells,
        sites,
        stride,
        constants,
        mean,
        scale,
        first_cell,
        n_cells,
        SECTIONS,
        N_SECTIONS,
        n_sites,
    )
    tl.atomic_add(counts + b, 1, mask=own, sem="relaxed")
    total = tl.sum(own.to(tl.int32), 0)
    for start in range(begin, end, BLOCK):
        p = start + lane
        valid = p < end
        j, x, y, z = pair_vectors(p, valid, i, positions, neighbours, shifts, cell)
        b = tl.load(types + j, mask=valid, other=0)
        # What is not a number is kept, so that it is seen in the result.
        kept = valid & ~(x * x + y * y + z * z >= cutoff * cutoff)
        slot = base + total + tl.cumsum(kept.to(tl.int32), 0) - 1
        _write_sites(
            x,
            y,
            z,
            2 * p,
            b,
            kept,
            slot,
            a,
            rows,
            cells,
            sites,
            stride,
            constants,
            mean,
            scale,
            first_cell,
            n_cells,
            SECTIONS,
            N_SECTIONS,
            n_sites,
        )
        tl.atomic_add(counts + b, 1, mask=kept, sem="relaxed")
        total += tl.sum(kept.to(tl.int32), 0)
        valid = valid & (tl.load(magnetic + b, mask=valid, other=0) != 0)
        x += tl.load(arms + 3 * j, mask=valid, other=0.0).to(tl.float64)
        y += tl.load(arms + 3 * j + 1, mask=valid, other=0.0).to(tl.float64)
        z += tl.load(arms + 3 * j + 2, mask=valid, other=0.0).to(tl.float64)
        kept = valid & ~(x * x + y * y + z * z >= cutoff * cutoff)
        slot = base + total + tl.cumsum(kept.to(tl.int32), 0) - 1
        b += N_TYPES
        _write_sites(
            x,
            y,
            z,
            2 * p + 1,
            b,
            kept,
            slot,
            a,
            rows,
            cells,
            sites,
            stride,
            constants,
            mean,
            scale,
            first_cell,
            n_cells,
            SECTIONS,
            N_SECTIONS,
            n_sites,
        )
        tl.atomic_add(counts + b, 1, mask=kept, sem="relaxed")
        total += tl.sum(kept.to(tl.int32), 0)
    tl.store(found + c, total)


@triton.jit
def _pull_back(site, valid, x, y, z, slopes, constants):
    """Return derivatives of the energy by the vectors (x, y, z) to sites, eV/A.

    See :meth:`deepspin_ase.potentials.environment.Environment.pull_back`.
    """
    slopes += 4 * site
    gs = tl.load(slopes, mask=valid, other=0.0).to(tl.float64)
    gx = tl.load(slopes + 1, mask=valid, other=0.0).to(tl.float64)
    gy = tl.load(slopes + 2, mask=valid, other=0.0).to(tl.float64)
    gz = tl.load(slopes + 3, mask=valid, other=0.0).to(tl.float64)
    r, q, w, dw = _radial_parts(x, y, z, constants)
    along = gs * q * (dw - q * w)
    along += (gx * x + gy * y + gz * z) * q * q * (dw - 2.0 * q * w)
    along = tl.where(r == 0.0, 0.0, along / tl.where(r == 0.0, 1.0, r))
    return (
        q * q * w * gx + along * x,
        q * q * w * gy + along * y,
        q * q * w * gz + along * z,
    )


@triton.jit(do_not_specialize=["n_pairs"])
def gather_slopes(
    first,
    neighbours,
    shifts,
    reverse,
    positions,
    arms,
    structure,
    lattice,
    constants,
    slopes,
    forces,
    pulls,
    virials,
    n_pairs,
    BLOCK: tl.constexpr,
):
    """Add up what the sites around an atom, and the atom as a site of others, exert.

    A pair and its reverse are looked at together: what the centre of either pulls at
    its site with. An atom exerts no force on its images, but they add to the virial,
    which takes the vectors between the atoms themselves.

    Parameters
    ----------
    reverse : (E,) int32
        Where in the list the reverse of each pair is.
    slopes : (2 E + N, 4)
        Derivatives of the energy by the rows of all sites, before normalisation;
        zero where there is no site.
    forces, pulls : (N, 3) float64
        Written: -dE/dR and dE/d(vector to the pseudo-atom), eV/A.
    virials : (N, 9) float64
        Written: the atom's part of the virial, eV.
    """
    i = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(first + i), tl.load(first + i + 1)
    cell = lattice + 9 * tl.load(structure + i)
    lane = tl.arange(0, BLOCK)
    zero = tl.zeros([BLOCK], tl.float64)
    ax = tl.load(arms + 3 * i).to(tl.float64)
    ay = tl.load(arms + 3 * i + 1).to(tl.float64)
    az = tl.load(arms + 3 * i + 2).to(tl.float64)
    own = 2 * n_pairs.to(tl.int64) + i + tl.zeros([BLOCK], tl.int64)
    px, py, pz = _pull_back(
        own, lane == 0, ax + zero, ay + zero, az + zero, slopes, constants
    )
    fx, fy, fz = zero, zero, zero
    xx, xy, xz, yx, yy, yz, zx, zy, zz = (
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
    )
    for start in range(begin, end, BLOCK):
        p = start + lane
        valid = p < end
        j, x, y, z = pair_vectors(p, valid, i, positions, neighbours, shifts, cell)
        gx, gy, gz = _pull_back(2 * p, valid, x, y, z, slopes, constants)
        sx = x + tl.load(arms + 3 * j, mask=valid, other=0.0).to(tl.float64)
        sy = y + tl.load(arms + 3 * j + 1, mask=valid, other=0.0).to(tl.float64)
        sz = z + tl.load(arms + 3 * j + 2, mask=valid, other=0.0).to(tl.float64)
        hx, hy, hz = _pull_back(2 * p + 1, valid, sx, sy, sz, slopes, constants)
        gx, gy, gz = gx + hx, gy + hy, gz + hz
        xx -= gx * x
        xy -= gx * y
        xz -= gx * z
        yx -= gy * x
        yy -= gy * y
        yz -= gy * z
        zx -= gz * x
        zy -= gz * y
        zz -= gz * z
        back = tl.load(reverse + p, mask=valid, other=0).to(tl.int64)
        bx, by, bz = _pull_back(2 * back, valid, -x, -y, -z, slopes, constants)
        hx, hy, hz = _pull_back(
            2 * back + 1, valid, ax - x, ay - y, az - z, slopes, constants
        )
        px, py, pz = px + hx, py + hy, pz + hz
        fx += gx - (bx + hx)
        fy += gy - (by + hy)
        fz += gz - (bz + hz)
    tl.store(forces + 3 * i, tl.sum(fx, 0))
    tl.store(forces + 3 * i + 1, tl.sum(fy, 0))
    tl.store(forces + 3 * i + 2, tl.sum(fz, 0))
    tl.store(pulls + 3 * i, tl.sum(px, 0))
    tl.store(pulls + 3 * i + 1, tl.sum(py, 0))
    tl.store(pulls + 3 * i + 2, tl.sum(pz, 0))
    virials += 9 * i
    tl.store(virials, tl.sum(xx, 0))
    tl.store(virials + 1, tl.sum(xy, 0))
    tl.store(virials + 2, tl.sum(xz, 0))
    tl.store(virials + 3, tl.sum(yx, 0))
    tl.store(virials + 4, tl.sum(yy, 0))
    tl.store(virials + 5, tl.sum(yz, 0))
    tl.store(virials + 6, tl.sum(zx, 0))
    tl.store(virials + 7, tl.sum(zy, 0))
    tl.store(virials + 8, tl.sum(zz, 0))
