"""Logarithmic (Hencky) strain; exponential and logarithm of symmetric matrices."""

from __future__ import annotations

import numpy as np


def symmetric(matrices: np.ndarray) -> np.ndarray:
    """Return the symmetric part of (..., 3, 3) matrices."""
    return 0.5 * (matrices + np.swapaxes(matrices, -1, -2))


def exponential(matrix: np.ndarray) -> np.ndarray:
    """Return exp of a symmetric matrix (3, 3)."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.exp(values)) @ axes.T


def logarithm(matrix: np.ndarray) -> np.ndarray:
    """Return ln of a symmetric, positive definite matrix (3, 3)."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.log(values)) @ axes.T


def logarithmic_strain(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the logarithmic strain (3, 3) from one cell (3, 3) to another.

    (1/2) ln(F^T F) with end = start F; a rotation of the cell does not count.
    """
    deformation = np.linalg.solve(start, end)
    return 0.5 * logarithm(deformation.T @ deformation)
