"""Compiled kernels that collect the sites of an atom and their environment rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .._network_tables import NetworkTables
from ._compile import inlined


class SiteSpace(NamedTuple):
    """Work space for the sites of some centres.

    Attributes
    ----------
    counts : (centres, 2 n_types) uint64
        Number of sites by type.
    atom : (centres, 2 n_types, n) uint64
        The atoms that the sites belong to.
    vector : (centres, 2 n_types, 3, n) float64, A
        From the centre to the sites.
    row : (centres, 2 n_types, 4, n)
        R, normalised.
    cell : (centres, 2 n_types, n) uint64
        Cells of the table.
    fraction, inverse : (centres, 2 n_types, n)
        Where s is in its cell, from 0 to 1, and 1/length of the cell.
    radial : (n,) float64
        s, of the sites of one type. The rest is of one type of one centre too.
    embedding : (n, M)
        G(s).
    slope : (4, n) float64
        Derivatives of the energy by the row before it was normalised.
    gradient : (4, M)
        dE/dA of the centre.
    """

    counts: np.ndarray
    atom: np.ndarray
    vector: np.ndarray
    row: np.ndarray
    cell: np.ndarray
    fraction: np.ndarray
    inverse: np.ndarray
    radial: np.ndarray
    embedding: np.ndarray
    slope: np.ndarray
    gradient: np.ndarray

    @classmethod
    def allocate(cls, centres: int, n: int, model: NetworkTables) -> SiteSpace:
        """Return space for n sites of each type around each centre."""
        n_types, real, m = len(model.slots), model.tables.dtype, model.tables.shape[2]
        return cls(
            counts=np.zeros((centres, n_types), np.uint64),
            atom=np.zeros((centres, n_types, n), np.uint64),
            vector=np.zeros((centres, n_types, 3, n)),
            row=np.zeros((centres, n_types, 4, n), real),
            cell=np.zeros((centres, n_types, n), np.uint64),
            fraction=np.zeros((centres, n_types, n), real),
            inverse=np.zeros((centres, n_types, n)),
            radial=np.zeros(n),
            embedding=np.zeros((n, m), real),
            slope=np.zeros((4, n)),
            gradient=np.zeros((4, m), real),
        )


@inlined
def collect(c, i, geometry, virtual, model, sites):
    """Sort the sites of atom i, the c-th centre, by type.

    Returns False where there are more sites than slots.
    """
    count, atom, vector = sites.counts[c], sites.atom[c], sites.vector[c]
    n_types = np.uint64(len(model.magnetic))
    square = model.cutoff * model.cutoff
    positions, shifts, types = geometry.positions, geometry.shifts, geometry.types
    cell = geometry.cells[geometry.structure[i]]
    ax, ay, az = cell[0, 0], cell[0, 1], cell[0, 2]
    bx, by, bz = cell[1, 0], cell[1, 1], cell[1, 2]
    cx, cy, cz = cell[2, 0], cell[2, 1], cell[2, 2]
    xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
    for site_type in range(len(count)):
        count[site_type] = 0
    if model.magnetic[types[i]]:
        own = types[i] + n_types
        _append(
            own, i, virtual[i, 0], virtual[i, 1], virtual[i, 2], count, atom, vector
        )
    for pair in range(geometry.first[i], geometry.first[i + np.uint64(1)]):
        j = np.uint64(geometry.neighbours[pair])
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


@inlined
def _append(b, j, x, y, z, count, atom, vector):
    """Add a site of type b that belongs to atom j."""
    e = count[b]
    atom[b, e] = j
    vector[b, np.uint64(0), e] = x
    vector[b, np.uint64(1), e] = y
    vector[b, np.uint64(2), e] = z
    count[b] = e + np.uint64(1)


@inlined
def radial_parts(r, model):
    """Return q = 1/(r + p), the switch w(r) and its derivative."""
    width = model.cutoff - model.smooth
    u = min(max((r - model.smooth) / width, 0.0), 1.0)
    w = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
    slope = (-30.0 / width) * u * u * (u - 1.0) * (u - 1.0)
    return 1.0 / (r + model.protection), w, slope


@inlined
def fill_rows(c, a, b, model, sites):
    """Fill in rows and cells of the sites of type b around centre c, of type a."""
    mean, scale, n = model.mean[a], model.scale[a], sites.counts[c, b]
    vector, row, radial = sites.vector[c, b], sites.row[c, b], sites.radial
    for e in range(n):
        x, y, z = vector[0, e], vector[1, e], vector[2, e]
        q, w, _ = radial_parts(math.sqrt(x * x + y * y + z * z), model)
        s = q * w
        radial[e] = s
        row[0, e] = (s - mean[0]) * scale[0]
        row[1, e] = (q * s * x - mean[1]) * scale[1]
        row[2, e] = (q * s * y - mean[2]) * scale[2]
        row[3, e] = (q * s * z - mean[3]) * scale[3]
    first, cells = model.first[a, b], model.cells[a, b]
    cell, fraction, inverse = (
        sites.cell[c, b],
        sites.fraction[c, b],
        sites.inverse[c, b],
    )
    for e in range(n):
        section, x, per_length = _locate(radial[e], model.sections, len(first))
        x *= cells[section]
        k = min(max(int(x), 0), int(cells[section]) - 1)
        cell[e] = first[section] + np.uint64(k)
        fraction[e] = x - k
        inverse[e] = per_length * cells[section]


@inlined
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
