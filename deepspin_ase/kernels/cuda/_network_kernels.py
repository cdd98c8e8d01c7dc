"""Triton kernels of the embedding: from sites to the product, and back.

The same formulas as on the CPU, see
:mod:`deepspin_ase.kernels.cpu._network_kernels`. A program belongs to one centre
and works on BLOCK of its sites together, with all COLUMNS of the embedding, of which
the table holds WIDTH. Products are sums over sites in registers instead of products of
small matrices: the tables are read once, and the arithmetic is little beside that.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _polynomial(tables, cells, slot, valid, m, WIDTH: tl.constexpr):
    """Return the coefficients of the embeddings of sites, each (BLOCK, COLUMNS)."""
    cell = tl.load(cells + slot, mask=valid, other=0).to(tl.int64)
    where = tables + (cell * (6 * WIDTH))[:, None] + m[None, :]
    mask = valid[:, None] & (m < WIDTH)[None, :]
    return (
        tl.load(where, mask=mask, other=0.0),
        tl.load(where + WIDTH, mask=mask, other=0.0),
        tl.load(where + 2 * WIDTH, mask=mask, other=0.0),
        tl.load(where + 3 * WIDTH, mask=mask, other=0.0),
        tl.load(where + 4 * WIDTH, mask=mask, other=0.0),
        tl.load(where + 5 * WIDTH, mask=mask, other=0.0),
    )


@triton.jit
def _row(rows, stride, slot, valid):
    """Return the row of sites and where they are in their cell, each (BLOCK, 1)."""
    return (
        tl.load(rows + slot, mask=valid, other=0.0)[:, None],
        tl.load(rows + stride + slot, mask=valid, other=0.0)[:, None],
        tl.load(rows + 2 * stride + slot, mask=valid, other=0.0)[:, None],
        tl.load(rows + 3 * stride + slot, mask=valid, other=0.0)[:, None],
        tl.load(rows + 4 * stride + slot, mask=valid, other=0.0)[:, None],
    )


@triton.jit(do_not_specialize=["stride"])
def multiply_sites(
    offsets,
    rows,
    cells,
    stride,
    found,
    tables,
    products,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write sum_sites R x G(s) of every centre.

    Parameters
    ----------
    offsets, rows, cells, stride, found
        See :func:`deepspin_ase.kernels.cuda._site_kernels.collect_sites`.
    tables : (table cells, 6, WIDTH)
    products : (n, 4, WIDTH)
        Written, in the type of the tables.
    """
    c = tl.program_id(0).to(tl.int64)
    stride = stride.to(tl.int64)
    base = tl.load(offsets + c) - tl.load(offsets)
    n = tl.load(found + c)
    lane, m = tl.arange(0, BLOCK), tl.arange(0, COLUMNS)
    real = tables.dtype.element_ty
    a0 = tl.zeros([BLOCK, COLUMNS], real)
    a1 = tl.zeros([BLOCK, COLUMNS], real)
    a2 = tl.zeros([BLOCK, COLUMNS], real)
    a3 = tl.zeros([BLOCK, COLUMNS], real)
    for start in range(0, n, BLOCK):
        valid = start + lane < n
        slot = base + start + lane
        r0, r1, r2, r3, t = _row(rows, stride, slot, valid)
        c0, c1, c2, c3, c4, c5 = _polynomial(tables, cells, slot, valid, m, WIDTH)
        g = c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5))))
        a0 += r0 * g
        a1 += r1 * g
        a2 += r2 * g
        a3 += r3 * g
    products += c * (4 * WIDTH) + m
    tl.store(products, tl.sum(a0, 0), mask=m < WIDTH)
    tl.store(products + WIDTH, tl.sum(a1, 0), mask=m < WIDTH)
    tl.store(products + 2 * WIDTH, tl.sum(a2, 0), mask=m < WIDTH)
    tl.store(products + 3 * WIDTH, tl.sum(a3, 0), mask=m < WIDTH)


@triton.jit(do_not_specialize=["stride"])
def differentiate_sites(
    centres,
    offsets,
    rows,
    cells,
    sites,
    stride,
    found,
    types,
    scale,
    tables,
    gradients,
    slopes,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the derivatives of the energy by the rows of all sites.

    That by s, the first, includes the one through the embedding.

    Parameters
    ----------
    centres, offsets, rows, cells, sites, stride, found, types, scale
        See :func:`deepspin_ase.kernels.cuda._site_kernels.collect_sites`.
    tables : (table cells, 6, WIDTH)
    gradients : (n, 4, WIDTH)
        dE/d(sum of R x G) of the centres.
    slopes : (2 E + N, 4)
        Written where there are sites, before normalisation of the rows.
    """
    c = tl.program_id(0).to(tl.int64)
    stride = stride.to(tl.int64)
    base = tl.load(offsets + c) - tl.load(offsets)
    n = tl.load(found + c)
    lane, m = tl.arange(0, BLOCK), tl.arange(0, COLUMNS)
    real = tables.dtype.element_ty
    scale += 4 * tl.load(types + tl.load(centres + c))
    gradients += c * (4 * WIDTH) + m
    b0 = tl.load(gradients, mask=m < WIDTH, other=0.0)[None, :]
    b1 = tl.load(gradients + WIDTH, mask=m < WIDTH, other=0.0)[None, :]
    b2 = tl.load(gradients + 2 * WIDTH, mask=m < WIDTH, other=0.0)[None, :]
    b3 = tl.load(gradients + 3 * WIDTH, mask=m < WIDTH, other=0.0)[None, :]
    for start in range(0, n, BLOCK):
        valid = start + lane < n
        slot = base + start + lane
        r0, r1, r2, r3, t = _row(rows, stride, slot, valid)
        c0, c1, c2, c3, c4, c5 = _polynomial(tables, cells, slot, valid, m, WIDTH)
        g = c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5))))
        d = c1 + t * (2.0 * c2 + t * (3.0 * c3 + t * (4.0 * c4 + t * (5.0 * c5))))
        ds = tl.sum(d * (r0 * b0 + r1 * b1 + r2 * b2 + r3 * b3), 1)
        ds *= tl.load(rows + 5 * stride + slot, mask=valid, other=0.0)
        s0 = tl.sum(b0 * g, 1) * tl.load(scale).to(real) + ds
        s1 = tl.sum(b1 * g, 1) * tl.load(scale + 1).to(real)
        s2 = tl.sum(b2 * g, 1) * tl.load(scale + 2).to(real)
        s3 = tl.sum(b3 * g, 1) * tl.load(scale + 3).to(real)
        where = slopes + 4 * tl.load(sites + slot, mask=valid, other=0)
        tl.store(where, s0, mask=valid)
        tl.store(where + 1, s1, mask=valid)
        tl.store(where + 2, s2, mask=valid)
        tl.store(where + 3, s3, mask=valid)
