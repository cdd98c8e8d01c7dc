"""DeepSPIN potentials of atoms and non-collinear spins in the ASE world."""

from __future__ import annotations

from .spins import get_spins

__version__ = "0.1.0"

__all__ = ["get_spins"]
