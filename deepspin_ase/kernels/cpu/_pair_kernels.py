"""Compiled kernel for pair energies that are a function of distance each.

The energy of a pair is a sum of functions of distance times invariants of the two
moments (:mod:`._invariants`); those but the first are for pairs that both carry a
moment. Every pair is listed twice and gives half its energy to each atom, so that each
atom gathers its own forces and no two threads write to the same place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ._compile import compiled, inlined
from ._invariants import CHIRAL, N_LATTICE, add_aligned, add_chiral


class Moments(NamedTuple):
    """The moments of N atoms.

    Attributes
    ----------
    lengths : (N,) float64, mu_B
    directions : (N, 3) float64
        Zero where there is no moment.
    """

    lengths: np.ndarray
    directions: np.ndarray


@inlined
def _functions(r, n, a, b, model, value, slope):
    """Set the first n functions at distance r, and their derivatives."""
    section = np.uint64(len(model.edges) - 2)
    while r < model.edges[section]:
        section -= np.uint64(1)
    inverse = model.inverse[a, b, section]
    x = (r - model.edges[section]) * inverse
    k = np.uint64(min(max(int(x), 0), int(model.cells[a, b, section]) - 1))
    t = x - k
    c = model.tables[model.first[a, b, section] + k]
    for m in range(n):
        c1, c2, c3, c4, c5 = c[m, 1], c[m, 2], c[m, 3], c[m, 4], c[m, 5]
        value[m] = c[m, 0] + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5))))
        d = c1 + t * (2.0 * c2 + t * (3.0 * c3 + t * (4.0 * c4 + t * 5.0 * c5)))
        slope[m] = d * inverse


@compiled
def add_pairs(begin, end, geometry, moments, model, energies, forces, fields, virial):
    """Add the pair energies of atoms ``begin`` to ``end``, and their derivatives.

    Parameters
    ----------
    energies : (N,) float64, eV
    forces, fields : (N, 3) float64
        -dE/dR, eV/A, and dE/dm, eV/mu_B.
    virial : (B, 3, 3) float64, eV
        -dE/dstrain.

    Returns
    -------
    bool
        False, with the work undone, where atoms are closer than the tables reach.
    """
    positions, shifts, types = geometry.positions, geometry.shifts, geometry.types
    nearest, farthest = model.edges[0], model.edges[-1]
    width = model.tables.shape[1]
    value, slope = np.empty(width), np.empty(width)
    bond, across = np.empty(3), np.empty(3)
    for i in range(np.uint64(begin), np.uint64(end)):
        cell = geometry.cells[geometry.structure[i]]
        ax, ay, az = cell[0, 0], cell[0, 1], cell[0, 2]
        bx, by, bz = cell[1, 0], cell[1, 1], cell[1, 2]
        cx, cy, cz = cell[2, 0], cell[2, 1], cell[2, 2]
        xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
        carries = moments.lengths[i] > 0.0 and width > N_LATTICE
        W = virial[geometry.structure[i]]
        energy = fx = fy = fz = 0.0
        xx = yy = zz = xy = xz = yz = 0.0
        for pair in range(geometry.first[i], geometry.first[i + np.uint64(1)]):
            j = np.uint64(geometry.neighbours[pair])
            u, v, w = shifts[pair, 0], shifts[pair, 1], shifts[pair, 2]
            x = positions[j, 0] - xi + u * ax + v * bx + w * cx
            y = positions[j, 1] - yi + u * ay + v * by + w * cy
            z = positions[j, 2] - zi + u * az + v * bz + w * cz
            r = math.sqrt(x * x + y * y + z * z)
            if r >= farthest:
                continue
            if r < nearest:
                return False
            both = carries and moments.lengths[j] > 0.0
            n = width if both else N_LATTICE
            _functions(r, n, types[i], types[j], model, value, slope)
            e, de = value[0], slope[0]
            if both:
                spin_e, spin_de = add_aligned(i, j, moments, value, slope, fields[i])
                e += spin_e
                de += spin_de
                if width > CHIRAL:
                    bond[0], bond[1], bond[2] = x / r, y / r, z / r
                    spin_e, spin_de = add_chiral(
                        i, j, moments, bond, value, slope, fields[i], across
                    )
                    e += spin_e
                    de += spin_de
                    # Only what is across the bond turns its direction.
                    along = (across[0] * x + across[1] * y + across[2] * z) / (r * r)
                    gx = across[0] / r - along * x / r
                    gy = across[1] / r - along * y / r
                    gz = across[2] / r - along * z / r
                    fx += gx
                    fy += gy
                    fz += gz
                    _add_vector(W[0], -0.5 * gx * x, -0.5 * gx * y, -0.5 * gx * z)
                    _add_vector(W[1], -0.5 * gy * x, -0.5 * gy * y, -0.5 * gy * z)
                    _add_vector(W[2], -0.5 * gz * x, -0.5 * gz * y, -0.5 * gz * z)
            energy += 0.5 * e
            de /= r
            fx += de * x
            fy += de * y
            fz += de * z
            xx += de * x * x
            yy += de * y * y
            zz += de * z * z
            xy += de * x * y
            xz += de * x * z
            yz += de * y * z
        energies[i] += energy
        _add_vector(forces[i], fx, fy, fz)
        _add_vector(W[0], -0.5 * xx, -0.5 * xy, -0.5 * xz)
        _add_vector(W[1], -0.5 * xy, -0.5 * yy, -0.5 * yz)
        _add_vector(W[2], -0.5 * xz, -0.5 * yz, -0.5 * zz)
    return True


@inlined
def _add_vector(total, x, y, z):
    """Add x, y, z to ``total`` (3,)."""
    total[0] += x
    total[1] += y
    total[2] += z
