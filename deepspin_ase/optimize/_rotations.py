"""Rotation vectors and how a gradient follows them."""

from __future__ import annotations

import numpy as np


def turned(vectors: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Rotate (..., N, 3) ``vectors`` by rotation vectors (N, 3), rad (Rodrigues)."""
    angle = np.linalg.norm(turn, axis=-1, keepdims=True)
    axis = turn / np.where(angle > 0, angle, 1.0)
    along = axis * np.sum(axis * vectors, axis=-1, keepdims=True)
    across = vectors - along
    return along + across * np.cos(angle) + np.cross(axis, vectors) * np.sin(angle)


def jacobian_transposed(turn: np.ndarray, torques: np.ndarray) -> np.ndarray:
    r"""Return J^T torques, (N, 3), with J the left Jacobian of SO(3) at ``turn``.

    A change of the rotation vector turn = a n by d turns what it rotates by J d,

        J = sin(a)/a + (1 - sin(a)/a) n n^T + (1 - cos(a))/a [n x],

    which is singular only at a = 2 pi.
    """
    angle = np.linalg.norm(turn, axis=1, keepdims=True)
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # (1 - cos a)/a^2
    # (1 - sin(a)/a)/a^2, by its series where it cancels
    safe = np.where(angle > 1e-3, angle, 1.0)
    third = np.where(angle > 1e-3, (1 - first) / safe**2, 1 / 6 - angle**2 / 120)
    along = np.sum(turn * torques, axis=1, keepdims=True)
    return first * torques - second * np.cross(turn, torques) + third * along * turn
