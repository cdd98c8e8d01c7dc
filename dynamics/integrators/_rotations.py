"""Rotations of many vectors at once, exact and rational."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(vectors: Tensor, rotations: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by rotation vectors (..., 3), rad.

    Rodrigues' formula, v + sin(a)/a t x v + (1 - cos a)/a^2 t x (t x v).
    """
    angle = torch.linalg.vector_norm(rotations, dim=-1, keepdim=True)
    # sinc(x) of torch is sin(pi x)/(pi x).
    first = torch.sinc(angle / torch.pi)
    second = 0.5 * torch.sinc(angle / (2.0 * torch.pi)) ** 2
    once = torch.linalg.cross(rotations, vectors)
    return vectors + first * once + second * torch.linalg.cross(rotations, once)


def cayley(vectors: Tensor, rotations: Tensor) -> Tensor:
    """Return the solution of v' - v = t x (v + v')/2, a rotation by 2 atan(|t|/2).

    Parameters
    ----------
    vectors, rotations : (..., 3) tensors
        v and t.
    """
    half = 0.5 * rotations
    once = torch.linalg.cross(half, vectors)
    twice = torch.linalg.cross(half, once)
    return vectors + 2.0 * (once + twice) / (1.0 + (half * half).sum(-1, keepdim=True))


def with_lengths(vectors: Tensor, lengths: Tensor) -> Tensor:
    """Return vectors (N, 3) scaled to ``lengths`` (N, 1); zero vectors stay zero."""
    present = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (lengths / torch.where(present > 0, present, 1.0))
