"""Magnetic forces that are known across the moments alone: those of torques."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def torques_of(magnetic_forces: np.ndarray, spins: np.ndarray) -> NDArray[np.float64]:
    """Return the torques m x F_m (N, 3), eV; NaN where F_m (eV/mu_B) is."""
    return np.cross(spins, magnetic_forces)


def across(torques: ArrayLike, spins: np.ndarray) -> NDArray[np.float64]:
    """Return magnetic forces across the moments (N, 3), eV/mu_B, from torques (eV).

    F_m = (tau x m) / |m|^2; NaN on atoms without a moment.

    Raises
    ------
    ValueError
        If the torques are not (N, 3).
    """
    torques = np.asarray(torques, dtype=float)
    if torques.shape != spins.shape:
        raise ValueError(
            f"torques have shape {torques.shape}; expected {spins.shape}, eV"
        )
    square = np.sum(spins**2, axis=1, keepdims=True)
    square = np.where(square > 0.0, square, np.nan)
    return np.asarray(np.cross(torques, spins) / square)
