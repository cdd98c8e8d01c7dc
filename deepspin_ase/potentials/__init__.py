"""Potentials: energies of atoms and moments, and how to combine and save them."""

from __future__ import annotations

from .base import Potential, Prediction
from .combine import Committee, Sum, TimeReversal
from .serialize import load_card, load_potential, save_potential, shipped_models

__all__ = [
    "Committee",
    "Potential",
    "Prediction",
    "Sum",
    "TimeReversal",
    "load_card",
    "load_potential",
    "save_potential",
    "shipped_models",
]
