"""Symmetry of crystals and of magnetic orders, by spglib.

Crystal and magnetic space groups, stars of propagation vectors, symmetry equivalence
of orders, and symmetry-distinct collinear patterns. All share one adapter and its
default tolerances, 0.001 A and 0.02 mu_B. Where spglib finds no group,
:func:`magnetic_space_group` raises a ValueError, and everything that only saves work
by symmetry goes by the identity alone.
"""

from __future__ import annotations

from ._equivalence import OrderEquivalence
from ._groups import conventional_cell, crystal_symmetry, space_group
from ._magnetic_space_group import MagneticSpaceGroup, magnetic_space_group
from ._patterns import collinear_patterns
from ._stars import star

__all__ = [
    "MagneticSpaceGroup",
    "OrderEquivalence",
    "collinear_patterns",
    "conventional_cell",
    "crystal_symmetry",
    "magnetic_space_group",
    "space_group",
    "star",
]
