"""Invariants of two moments in compiled code: the one place that knows their form.

With e = m/|m|, the unit vector r^ from atom i to j, a = e_i.e_j and C = e_i x e_j the
invariants are, in the order of :data:`.._pair_tables.INVARIANTS`,

    1;   1, a, a^2, m_i.m_j, |m_i||m_j|;   r^_a C_b by rows, C_b
"""

from __future__ import annotations

from .._pair_tables import ALIGNMENT, INVARIANTS, LATTICE, ORIENTED
from ._compile import inlined

#: Columns of the invariants of a group, and where the groups begin.
N_LATTICE, N_ALIGNMENT = len(LATTICE), len(ALIGNMENT)
ALIGNED = N_LATTICE
CHIRAL = N_LATTICE + N_ALIGNMENT
FREE = len(INVARIANTS) - len(ORIENTED)


@inlined
def add_aligned(i, j, moments, value, slope, field):
    """Return energy and slope of the invariants of angle and lengths of two moments.

    Adds the derivative by the moment of atom i to ``field`` (3,).
    """
    e = moments.directions
    mi, mj = moments.lengths[i], moments.lengths[j]
    a = e[i, 0] * e[j, 0] + e[i, 1] * e[j, 1] + e[i, 2] * e[j, 2]
    factors = (1.0, a, a * a, a * mi * mj, mi * mj)
    energy = 0.0
    de = 0.0
    for k in range(N_ALIGNMENT):
        energy += value[ALIGNED + k] * factors[k]
        de += slope[ALIGNED + k] * factors[k]
    # d(e_i.e_j)/dm_i = (e_j - a e_i)/|m_i|
    turn = (value[ALIGNED + 1] + 2.0 * a * value[ALIGNED + 2]) / mi
    along, own = value[ALIGNED + 3] * mj, value[ALIGNED + 4] * mj
    for k in range(3):
        field[k] += turn * (e[j, k] - a * e[i, k])
        field[k] += along * e[j, k] + own * e[i, k]
    return energy, de


@inlined
def add_chiral(i, j, moments, bond, value, slope, field, across):
    """Return energy and slope of the invariants of the chirality of two moments.

    Adds the derivative by the moment of atom i to ``field`` (3,), and sets ``across``
    (3,) to that by the direction ``bond`` (3,) of the pair.
    """
    e = moments.directions
    c0 = e[i, 1] * e[j, 2] - e[i, 2] * e[j, 1]
    c1 = e[i, 2] * e[j, 0] - e[i, 0] * e[j, 2]
    c2 = e[i, 0] * e[j, 1] - e[i, 1] * e[j, 0]
    # The energy is D.C: the vector D and what the slopes make of C.
    d0, d1, d2 = value[FREE], value[FREE + 1], value[FREE + 2]
    de = slope[FREE] * c0 + slope[FREE + 1] * c1 + slope[FREE + 2] * c2
    for a in range(3):
        k = CHIRAL + 3 * a
        across[a] = value[k] * c0 + value[k + 1] * c1 + value[k + 2] * c2
        de += bond[a] * (slope[k] * c0 + slope[k + 1] * c1 + slope[k + 2] * c2)
        d0 += bond[a] * value[k]
        d1 += bond[a] * value[k + 1]
        d2 += bond[a] * value[k + 2]
    # dE/de_i = e_j x D, of which the part across e_i turns the moment.
    t0 = e[j, 1] * d2 - e[j, 2] * d1
    t1 = e[j, 2] * d0 - e[j, 0] * d2
    t2 = e[j, 0] * d1 - e[j, 1] * d0
    energy = d0 * c0 + d1 * c1 + d2 * c2
    over = 1.0 / moments.lengths[i]
    along = t0 * e[i, 0] + t1 * e[i, 1] + t2 * e[i, 2]
    field[0] += over * (t0 - along * e[i, 0])
    field[1] += over * (t1 - along * e[i, 1])
    field[2] += over * (t2 - along * e[i, 2])
    return energy, de
