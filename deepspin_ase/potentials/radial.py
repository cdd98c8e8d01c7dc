"""Radial functions: the strength of a pair interaction against distance.

A radial function is any callable with a ``cutoff`` (A) that maps distances, a
tensor in A, to values and vanishes at and beyond the cutoff. Where it is not smooth
below the cutoff, ``knots`` holds the distances (A): tables need them. Those here are
frozen dataclasses, so they print, compare and save by their parameters. The unit of
the value is that of the parameters: eV for an exchange constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .._validate import finite, positive
from ..units import COULOMB
from ._registry import register

__all__ = [
    "BetheSlater",
    "CubicCut",
    "DampedCoulomb",
    "Exponential",
    "Mixture",
    "Parabola",
    "Radial",
    "Shells",
    "SmoothShells",
    "Switched",
    "TwelveSix",
]


@runtime_checkable
class Radial(Protocol):
    """A function of distance (A) that vanishes from ``cutoff`` on."""

    @property
    def cutoff(self) -> float:
        """Distance from which on the function is zero, A."""

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at the distances ``r``, in the shape of ``r``."""


def checked(name: str, radial: object) -> Radial:
    """Return ``radial`` if it is a radial function of finite range.

    Raises
    ------
    ValueError
        If it is something else, or its cutoff is not positive and finite.
    """
    if not isinstance(radial, Radial):
        raise ValueError(
            f"{name} must be a function of distance such as Shells or CubicCut, "
            f"got {radial!r}"
        )
    positive(f"the cutoff of {name}", radial.cutoff)
    return radial


def knots_of(radial: Radial) -> tuple[float, ...]:
    """Return where below its cutoff a function says that it is not smooth, A."""
    return tuple(getattr(radial, "knots", ()))


def smooth_step(x: Tensor) -> Tensor:
    """Fall from 1 (x <= 0) to 0 (x >= 1) with two continuous derivatives.

    The quintic 1 - 10 x^3 + 15 x^4 - 6 x^5.
    """
    x = x.clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - x * (15.0 - 6.0 * x))


def _cut(r: Tensor, cutoff: float, values: Tensor) -> Tensor:
    return torch.where(r < cutoff, values, torch.zeros_like(values))


@register
@dataclass(frozen=True)
class Shells:
    """A constant on each neighbour shell: exchange constants of a rigid lattice.

    The value is constant in r, so it exerts no force, and jumps at the edges
    of the shells: it is meant for atoms that stay close to lattice sites. Use
    :class:`SmoothShells` or another smooth function where atoms move freely.

    Parameters
    ----------
    shells : sequence of (distance, value)
        Distances in A.
    tolerance : float
        A pair belongs to a shell within this distance of it, A.

    Raises
    ------
    ValueError
        If a distance or the tolerance is not positive, or two shells overlap.
    """

    shells: Sequence[tuple[float, float]]
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        shells = _sorted_rows("shells", self.shells, 2, "(distance, value)")
        object.__setattr__(self, "shells", shells)
        positive("tolerance", self.tolerance)
        for (near, _), (far, _) in itertools.pairwise(shells):
            if far - near < 2.0 * self.tolerance:
                raise ValueError(
                    f"the shells at {near} and {far} A overlap; their distance must "
                    f"be at least twice the tolerance of {self.tolerance} A"
                )

    @property
    def cutoff(self) -> float:
        """Outer edge of the last shell, A."""
        return self.shells[-1][0] + self.tolerance

    @property
    def knots(self) -> tuple[float, ...]:
        """Edges of the shells, A."""
        t = self.tolerance
        return tuple(
            x for distance, _ in self.shells for x in (distance - t, distance + t)
        )

    def __call__(self, r: Tensor) -> Tensor:
        """Return the value of the shell that each distance falls into, or zero."""
        total = torch.zeros_like(r)
        for distance, value in self.shells:
            total = torch.where((r - distance).abs() < self.tolerance, value, total)
        return total


@register
@dataclass(frozen=True)
class SmoothShells:
    """A value with a slope on each neighbour shell, smoothly cut out around it.

    sum_s [v_s + s_s (r - d_s)] w(|r - d_s| / width), with the window w equal to
    1 up to half the width and falling to 0 at the width with two continuous
    derivatives. Within half the width of a shell the function is the straight
    line that was asked for.

    Parameters
    ----------
    shells : sequence of (distance, value, slope)
        Distances in A, slopes in the unit of the values per A.
    width : float
        Half-width of the windows, A; smaller than any distance.

    Raises
    ------
    ValueError
        If a distance does not exceed the width, or the width is not positive.
    """

    shells: Sequence[tuple[float, float, float]]
    width: float

    def __post_init__(self) -> None:
        shells = _sorted_rows("shells", self.shells, 3, "(distance, value, slope)")
        object.__setattr__(self, "shells", shells)
        if shells[0][0] <= positive("width", self.width):
            raise ValueError("the first shell must be farther out than the width")

    @property
    def cutoff(self) -> float:
        """Outer edge of the last window, A."""
        return self.shells[-1][0] + self.width

    @property
    def knots(self) -> tuple[float, ...]:
        """Where windows begin and stop to fall, A."""
        return tuple(
            distance + part * self.width
            for distance, *_ in self.shells
            for part in (-1.0, -0.5, 0.5, 1.0)
        )

    def __call__(self, r: Tensor) -> Tensor:
        """Return the sum of the windowed lines at distances ``r``."""
        total = torch.zeros_like(r)
        for distance, value, slope in self.shells:
            x = r - distance
            # The second derivative of torch.abs would load torch's compiler: seconds.
            away = torch.maximum(x, -x)
            window = smooth_step(2.0 * away / self.width - 1.0)
            total = total + (value + slope * x) * window
        return total


@register
@dataclass(frozen=True)
class BetheSlater:
    """Bethe-Slater curve, 4 a (r/d)^2 [1 - b (r/d)^2] exp[-(r/d)^2].

    The form of LAMMPS's ``pair_style spin/exchange``. It is cut off abruptly, as there;
    wrap it in :class:`Switched` for dynamics of the lattice. LAMMPS since 2020 counts
    each pair once, as :class:`~deepspin_ase.potentials.Heisenberg` does, with the same
    ``a`` (checked with 22 Jul 2025); before, it counted pairs twice, as the reference
    does: double the ``a`` of such sources.

    Parameters
    ----------
    a : float
        Strength, eV.
    b : float
        Dimensionless; places the change of sign at r = d / sqrt(b).
    d : float
        Range, A.
    cutoff : float
        A.

    References
    ----------
    Tranchida, Plimpton, Thibaudeau, Thompson, J. Comput. Phys. 372, 406 (2018),
    doi:10.1016/j.jcp.2018.06.042.
    """

    a: float
    b: float
    d: float
    cutoff: float

    def __post_init__(self) -> None:
        finite("a", self.a)
        finite("b", self.b)
        positive("d", self.d)
        positive("cutoff", self.cutoff)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the curve at distances ``r``."""
        x = (r / self.d) ** 2
        return _cut(r, self.cutoff, 4.0 * self.a * x * (1.0 - self.b * x) * (-x).exp())


@register
@dataclass(frozen=True)
class CubicCut:
    """``value`` (1 - r/cutoff)^3: smooth to the second derivative at the cutoff.

    Parameters
    ----------
    value : float
        Value extrapolated to r = 0.
    cutoff : float
        A.
    """

    value: float
    cutoff: float

    def __post_init__(self) -> None:
        finite("value", self.value)
        positive("cutoff", self.cutoff)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at distances ``r``."""
        return self.value * (1.0 - r / self.cutoff).clamp_min(0.0) ** 3


@register
@dataclass(frozen=True)
class Exponential:
    """exp(-(r - r0) / rho): the repulsion of Born and Mayer, in units of its value.

    Cut off abruptly; :class:`Switched` makes it smooth.

    Parameters
    ----------
    rho : float
        Decay length, A.
    r0 : float
        Distance where the value is one, A.
    cutoff : float
        Distance of truncation, A.
    """

    rho: float
    r0: float
    cutoff: float

    def __post_init__(self) -> None:
        positive("rho", self.rho)
        finite("r0", self.r0)
        positive("cutoff", self.cutoff)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at distances ``r``."""
        return _cut(r, self.cutoff, torch.exp((self.r0 - r) / self.rho))


@register
@dataclass(frozen=True)
class DampedCoulomb:
    """e^2/(4 pi eps0) erfc(alpha r) / r, eV: the near part of a Coulomb energy.

    With a cutoff it is the pair part of Wolf's sum (D. Wolf et al., J. Chem. Phys.
    110, 8254 (1999)), which stands in for the Coulomb energy of neutral crystals.
    Cut off abruptly; :class:`Switched` makes it smooth.

    Parameters
    ----------
    alpha : float
        1/A.
    cutoff : float
        Distance of truncation, A.
    """

    alpha: float
    cutoff: float

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)
        positive("cutoff", self.cutoff)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at distances ``r``."""
        return _cut(r, self.cutoff, COULOMB * torch.erfc(self.alpha * r) / r)


@register
@dataclass(frozen=True)
class TwelveSix:
    """4 epsilon [(sigma/r)^12 - (sigma/r)^6], shifted to vanish at the cutoff, eV.

    The shift makes the energy, not the force, continuous at the cutoff.

    Parameters
    ----------
    epsilon : float
        Depth of the well, eV.
    sigma : float
        Distance of zero energy before the shift, A.
    cutoff : float
        A.
    """

    epsilon: float
    sigma: float
    cutoff: float

    def __post_init__(self) -> None:
        finite("epsilon", self.epsilon)
        positive("sigma", self.sigma)
        positive("cutoff", self.cutoff)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the energies at distances ``r``."""
        x, edge = (self.sigma / r) ** 6, (self.sigma / self.cutoff) ** 6
        values = 4.0 * self.epsilon * (x**2 - x - (edge**2 - edge))
        return _cut(r, self.cutoff, values)


@register
@dataclass(frozen=True)
class Parabola:
    """(k/2) (r - r0)^2 within the cutoff, eV; cut off abruptly.

    Parameters
    ----------
    k : float
        Curvature, eV/A^2.
    r0 : float
        Distance of the minimum, A.
    cutoff : float
        A.
    """

    k: float
    r0: float
    cutoff: float

    def __post_init__(self) -> None:
        finite("k", self.k)
        positive("r0", self.r0)
        positive("cutoff", self.cutoff)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the energies at distances ``r``."""
        return _cut(r, self.cutoff, 0.5 * self.k * (r - self.r0) ** 2)


@register
@dataclass(frozen=True)
class Mixture:
    """A linear combination of radial functions.

    Parameters
    ----------
    terms : sequence of (weight, Radial)
    """

    terms: Sequence[tuple[float, Radial]]

    def __post_init__(self) -> None:
        if len(self.terms) == 0:
            raise ValueError("a Mixture needs at least one term")
        terms = tuple(
            (finite("a weight", weight), checked("a term", radial))
            for weight, radial in self.terms
        )
        object.__setattr__(self, "terms", terms)

    @property
    def cutoff(self) -> float:
        """Largest cutoff of the terms, A."""
        return max(radial.cutoff for _, radial in self.terms)

    @property
    def knots(self) -> tuple[float, ...]:
        """Knots and cutoffs of the terms, A."""
        inside = [(*knots_of(radial), radial.cutoff) for _, radial in self.terms]
        return tuple(itertools.chain.from_iterable(inside))

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at distances ``r``."""
        return sum((w * radial(r) for w, radial in self.terms), torch.zeros_like(r))


@register
@dataclass(frozen=True)
class Switched:
    """Another radial function, brought smoothly to zero between start and cutoff.

    Multiplied with the quintic step of :func:`smooth_step`, so that the product
    has two continuous derivatives.

    Parameters
    ----------
    radial : Radial
    start : float
        Distance up to which the function is unchanged, A.
    """

    radial: Radial
    start: float

    def __post_init__(self) -> None:
        checked("radial", self.radial)
        if not 0.0 <= self.start < self.radial.cutoff:
            raise ValueError(
                f"start must lie between 0 and the cutoff of {self.radial.cutoff} A, "
                f"got {self.start}"
            )

    @property
    def cutoff(self) -> float:
        """Cutoff of the function that is switched, A."""
        return self.radial.cutoff

    @property
    def knots(self) -> tuple[float, ...]:
        """Knots of the function, and where the switch begins, A."""
        return (*knots_of(self.radial), self.start)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at distances ``r``."""
        width = self.cutoff - self.start
        return self.radial(r) * smooth_step((r - self.start) / width)


def _sorted_rows(
    name: str, rows: Sequence[Sequence[float]], length: int, form: str
) -> tuple[tuple[float, ...], ...]:
    """Return rows of finite numbers, sorted by a positive first entry."""
    if len(rows) == 0 or any(len(row) != length for row in rows):
        raise ValueError(f"{name} must be a list of {form}, got {rows!r}")
    for row in rows:
        positive(f"a distance in {name}", row[0])
    return tuple(sorted(tuple(finite(name, x) for x in row) for row in rows))
