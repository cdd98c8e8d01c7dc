"""Repulsion of nuclei at short range, and how it joins what holds beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from ase.units import Bohr
from torch import Tensor

from ..._validate import positive
from ...units import COULOMB
from .._registry import register
from ..radial import Radial, checked, knots_of, smooth_step


@register
@dataclass(frozen=True)
class ScreenedNuclear:
    """Universal Ziegler-Biersack-Littmark repulsion of two nuclei, eV.

    Z1 Z2 e^2/(4 pi eps0 r) phi(r/a), a = 0.8854 a_0/(Z1^0.23 + Z2^0.23). It has no
    own cutoff: join it to another function with :class:`Blend`.

    Parameters
    ----------
    z1, z2 : int
        Atomic numbers.
    """

    z1: int
    z2: int

    def __post_init__(self) -> None:
        positive("z1", self.z1)
        positive("z2", self.z2)

    @property
    def cutoff(self) -> float:
        """Infinite."""
        return math.inf

    def __call__(self, r: Tensor) -> Tensor:
        """Return the repulsion at distances ``r``."""
        return screened_nuclear(r, self.z1, self.z2)


# Amplitudes and decay constants of the universal screening function, and the
# Bohr radius times 0.8854 in A: J. F. Ziegler, J. P. Biersack, U. Littmark,
# The Stopping and Range of Ions in Matter, vol. 1 (Pergamon, 1985).
_ZBL_TERMS = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4029), (0.02817, 0.2016))
_ZBL_LENGTH = 0.8854 * Bohr


def screened_nuclear(r: Tensor, z1: Tensor | float, z2: Tensor | float) -> Tensor:
    """Return the ZBL repulsion (eV) of atomic numbers z1, z2 at distances r (A)."""
    x = r * (z1**0.23 + z2**0.23) / _ZBL_LENGTH
    screening = sum((c * torch.exp(-d * x) for c, d in _ZBL_TERMS), torch.zeros_like(r))
    return COULOMB * z1 * z2 / r * screening


@dataclass(frozen=True)
class NuclearCore:
    """Universal repulsion of two nuclei, brought smoothly to zero at short range, eV.

    Parameters
    ----------
    z1, z2 : int or tensor
        Atomic numbers; tensors for those of each pair.
    inner, cutoff : float
        Where a quintic step from one to zero begins and ends, A.
    """

    z1: int | Tensor
    z2: int | Tensor
    inner: float
    cutoff: float

    @property
    def knots(self) -> tuple[float, ...]:
        """Where the step begins, A."""
        return (self.inner,)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the repulsion at distances ``r``."""
        z1, z2 = (z + torch.zeros_like(r) for z in (self.z1, self.z2))
        step = smooth_step((r - self.inner) / (self.cutoff - self.inner))
        return screened_nuclear(r, z1, z2) * step


@register
@dataclass(frozen=True)
class Blend:
    """One radial function at short distance, another one beyond.

    Between ``start`` and ``stop`` a quintic polynomial matches value, slope and
    curvature of both.

    Parameters
    ----------
    inner, outer : Radial
        Functions below ``start`` and above ``stop``.
    start, stop : float
        A.
    """

    inner: Radial
    outer: Radial
    start: float
    stop: float

    def __post_init__(self) -> None:
        checked("outer", self.outer)
        if not 0.0 < self.start < self.stop < self.outer.cutoff:
            raise ValueError("expected 0 < start < stop < the cutoff of outer")

    @property
    def cutoff(self) -> float:
        """Cutoff of the outer function, A."""
        return self.outer.cutoff

    @property
    def knots(self) -> tuple[float, ...]:
        """Knots of both functions, and where they join, A."""
        both = (*knots_of(self.inner), *knots_of(self.outer))
        return (*both, self.start, self.stop)

    @cached_property
    def _polynomial(self) -> list[float]:
        """Return the coefficients of (r - start)^n, n = 0..5."""
        left = _taylor(self.inner, self.start)
        right = _taylor(self.outer, self.stop)
        width = self.stop - self.start
        rows = [[1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0], [0, 0, 2.0, 0, 0, 0]]
        rows.append([width**n for n in range(6)])
        rows.append([0.0, *(n * width ** (n - 1) for n in range(1, 6))])
        rows.append([0.0, 0, *(n * (n - 1) * width ** (n - 2) for n in range(2, 6))])
        matrix = torch.tensor(rows, dtype=torch.float64)
        values = torch.tensor(left + right, dtype=torch.float64)
        return torch.linalg.solve(matrix, values).tolist()

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at distances ``r``."""
        x = r - self.start
        between = torch.zeros_like(r)
        for coefficient in reversed(self._polynomial):
            between = between * x + coefficient
        return torch.where(
            r < self.start,
            self.inner(r),
            torch.where(r < self.stop, between, self.outer(r)),
        )


def _taylor(radial: Radial, r: float) -> list[float]:
    """Return value, slope and curvature of a radial function at r."""
    with torch.enable_grad():
        x = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        value = radial(x)
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, x)
    return [value.item(), slope.item(), curvature.item()]
