"""Integrators of the spins: schemes, precession, inertia and rotations."""

from __future__ import annotations

from ._inertial_spins import InertialSpins
from ._precession import Precession
from ._rotations import cayley, rotate, with_lengths
from ._schemes import (
    DepondtMertens,
    Midpoint,
    Rotation,
    Scheme,
    SchemeState,
    SemiImplicitB,
    as_scheme,
)

__all__ = [
    "DepondtMertens",
    "InertialSpins",
    "Midpoint",
    "Precession",
    "Rotation",
    "Scheme",
    "SchemeState",
    "SemiImplicitB",
    "as_scheme",
    "cayley",
    "rotate",
    "with_lengths",
]
