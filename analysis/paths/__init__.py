"""Minimum energy paths, saddle points and transition rates."""

from __future__ import annotations

from ._interpolation import interpolate
from ._neb import SpinLatticeNEB
from ._neb_path import NEBPath, plot_path
from ._rates import TransitionRate, transition_rate
from ._saddle import SaddlePoint, find_saddle
from ._string import redistribute_images

__all__ = [
    "NEBPath",
    "SaddlePoint",
    "SpinLatticeNEB",
    "TransitionRate",
    "find_saddle",
    "interpolate",
    "plot_path",
    "redistribute_images",
    "transition_rate",
]
