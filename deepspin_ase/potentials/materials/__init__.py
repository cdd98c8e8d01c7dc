"""Ready potentials of materials."""

from __future__ import annotations

from . import reference
from ._bismuth_ferrite import BismuthFerriteSpins, bismuth_ferrite

__all__ = [
    "BismuthFerriteSpins",
    "bismuth_ferrite",
    "reference",
]
