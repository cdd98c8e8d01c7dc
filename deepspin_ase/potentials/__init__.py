"""Potentials: energies of atoms and moments, and how to combine and save them."""

from __future__ import annotations

from .base import Potential, Prediction
from .combine import Committee, Sum, TimeReversal
from .config import DeepSpinConfig
from .network import DeepSpinNetwork
from .serialize import load_card, load_potential, save_potential, shipped_models

__all__ = [
    "Committee",
    "DeepSpinConfig",
    "DeepSpinNetwork",
    "Potential",
    "Prediction",
    "Sum",
    "TimeReversal",
    "load_card",
    "load_potential",
    "save_potential",
    "shipped_models",
]
