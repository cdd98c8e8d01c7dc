"""Crystal and magnetic symmetry groups, by spglib."""

from __future__ import annotations

from ._equivalence import OrderEquivalence
from ._groups import magnetic_group
from ._magnetic_space_group import MagneticSpaceGroup, magnetic_space_group
from ._patterns import collinear_patterns

__all__ = [
    "MagneticSpaceGroup",
    "OrderEquivalence",
    "collinear_patterns",
    "magnetic_group",
    "magnetic_space_group",
]
