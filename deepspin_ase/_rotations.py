"""Rotation vectors, Rodrigues' formula, its derivative, and local frames, in NumPy.

Those of tensors stand in :mod:`deepspin_ase.dynamics.integrators`.
"""

from __future__ import annotations

import numpy as np

#: |sin| of the angle below which vectors count as antiparallel.
_ANTIPARALLEL = 1e-12


def rotate(vectors: np.ndarray, rotation_vectors: np.ndarray) -> np.ndarray:
    """Rotate (..., N, 3) vectors by rotation vectors (N, 3), rad (Rodrigues)."""
    angle = np.linalg.norm(rotation_vectors, axis=-1, keepdims=True)
    axis = rotation_vectors / np.where(angle > 0, angle, 1.0)
    along = axis * np.sum(axis * vectors, axis=-1, keepdims=True)
    across = vectors - along
    return along + across * np.cos(angle) + np.cross(axis, vectors) * np.sin(angle)


def jacobian_transposed(
    rotation_vectors: np.ndarray, torques: np.ndarray
) -> np.ndarray:
    r"""Return J^T torques, (N, 3), with J the left Jacobian of SO(3).

    A change d of the rotation vector a n rotates what it has rotated further, by J d,

        J = sin(a)/a + (1 - sin(a)/a) n n^T + (1 - cos(a))/a [n x],

    which is singular only at a = 2 pi (Sola, Deray, Atchuthan, arXiv:1812.01537,
    eq. 145).
    """
    angle = np.linalg.norm(rotation_vectors, axis=1, keepdims=True)
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # (1 - cos a)/a^2
    # (1 - sin(a)/a)/a^2, by its series where it cancels
    safe = np.where(angle > 1e-3, angle, 1.0)
    third = np.where(angle > 1e-3, (1 - first) / safe**2, 1 / 6 - angle**2 / 120)
    along = np.sum(rotation_vectors * torques, axis=1, keepdims=True)
    twisted = np.cross(rotation_vectors, torques)
    return first * torques - second * twisted + third * along * rotation_vectors


def rotations_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the shortest rotations of vectors (..., 3) to others.

    Rotation vectors (..., 3), rad; antiparallel vectors rotate about an arbitrary axis
    perpendicular to them, and vectors without length do not.
    """
    across = np.cross(start, end)
    sine = np.linalg.norm(across, axis=-1, keepdims=True)
    cosine = np.sum(start * end, axis=-1, keepdims=True)
    angle = np.arctan2(sine, cosine)
    found = across * (angle / np.where(sine > 0.0, sine, 1.0))
    opposite = (cosine < 0.0) & (sine <= -_ANTIPARALLEL * cosine)
    return np.where(opposite, np.pi * perpendicular(start), found)


def perpendicular(directions: np.ndarray) -> np.ndarray:
    """Return unit vectors perpendicular to each of ``directions`` (..., 3).

    And to the Cartesian axis that is the farthest from it. Zero for zero vectors.
    """
    smallest = np.abs(directions).argmin(axis=-1)
    across = np.cross(directions, np.eye(3)[smallest])
    length = np.linalg.norm(across, axis=-1, keepdims=True)
    return across / np.where(length > 0, length, 1.0)


def local_axes(directions: np.ndarray) -> np.ndarray:
    """Return unit vectors t1, t2 (..., 2, 3) across directions e (..., 3).

    (t1, t2, e) is right-handed; t1 as :func:`perpendicular`.
    """
    first = perpendicular(directions)
    return np.stack([first, np.cross(directions, first)], axis=-2)
