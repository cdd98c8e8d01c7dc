"""Builders of magnetic structures."""

from __future__ import annotations

from ._grain_boundary import symmetric_tilt_boundary

__all__ = [
    "symmetric_tilt_boundary",
]
