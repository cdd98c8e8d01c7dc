"""Triton kernel that collects the sites of all centres and their environment rows."""

from __future__ import annotations

import triton
import triton.language as tl

from ._geometry import pair_vectors, radial_parts


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
    _, q, w, _ = radial_parts(x, y, z, constants)
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
        The pair list, see :class:`deepspin_ase.kernels.cuda._lists.Layout`.
    positions, arms : (N, 3)
        Atoms, and the vectors from them to their pseudo-atoms, A.
    structure, lattice
        Place in the batch (N,), and cells (B, 3, 3), A.
    types, magnetic : int32
        Of the atoms (N,), and 1 for types that have pseudo-atoms, else 0.
    constants, mean, scale : float64
        See :class:`deepspin_ase.kernels.cuda._network.Tables`.
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
    stride = stride.to(tl.int64)
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
    own = lane < tl.load(magnetic + a)
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
        # The neighbours themselves, then their pseudo-atoms.
        for pseudo in tl.static_range(2):
            if pseudo:
                valid = valid & (tl.load(magnetic + b, mask=valid, other=0) != 0)
                x += tl.load(arms + 3 * j, mask=valid, other=0.0).to(tl.float64)
                y += tl.load(arms + 3 * j + 1, mask=valid, other=0.0).to(tl.float64)
                z += tl.load(arms + 3 * j + 2, mask=valid, other=0.0).to(tl.float64)
                b += N_TYPES
            # What is not a number is kept, so that it is seen in the result.
            kept = valid & ~(x * x + y * y + z * z >= cutoff * cutoff)
            slot = base + total + tl.cumsum(kept.to(tl.int32), 0) - 1
            _write_sites(
                x,
                y,
                z,
                2 * p + pseudo,
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
