"""Builders of magnetic structures."""

from __future__ import annotations

from ._grain_boundary import symmetric_tilt_boundary
from ._perturbed import perturbed

__all__ = [
    "perturbed",
    "symmetric_tilt_boundary",
]
