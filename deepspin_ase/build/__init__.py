"""Builders of magnetic structures."""

from __future__ import annotations

from ._grain_boundary import symmetric_tilt_boundary
from ._interstitials import interstitial_sites
from ._perturbed import perturbed
from ._random_alloy import random_alloy

__all__ = [
    "interstitial_sites",
    "perturbed",
    "random_alloy",
    "symmetric_tilt_boundary",
]
