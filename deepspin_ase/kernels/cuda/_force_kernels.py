"""Triton kernel that brings derivatives by the rows of sites back to the atoms."""

from __future__ import annotations

import triton
import triton.language as tl

from ._geometry import pair_vectors, radial_parts


@triton.jit
def _pull_back(site, valid, x, y, z, slopes, constants):
    """Return derivatives of the energy by the vectors (x, y, z) to sites, eV/A.

    See :meth:`.networks.Environment.pull_back`.
    """
    slopes += 4 * site
    gs = tl.load(slopes, mask=valid, other=0.0).to(tl.float64)
    gx = tl.load(slopes + 1, mask=valid, other=0.0).to(tl.float64)
    gy = tl.load(slopes + 2, mask=valid, other=0.0).to(tl.float64)
    gz = tl.load(slopes + 3, mask=valid, other=0.0).to(tl.float64)
    r, q, w, dw = radial_parts(x, y, z, constants)
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
