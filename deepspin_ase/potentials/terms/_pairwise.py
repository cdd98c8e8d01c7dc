"""Pair potentials of the lattice: Lennard-Jones, springs and nuclear repulsion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._validate import positive
from .._registry import register
from ..radial import Parabola, Radial, TwelveSix
from ._bases import RadialTerm
from ._short_range import NuclearCore


@register
class PairPotential(RadialTerm):
    """Any pair potential, E = sum_{i<j} phi(r_ij).

    Parameters
    ----------
    radial : Radial
        phi(r), eV.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    uses_spins = False

    def invariants(self) -> dict[str, float]:
        """Return one."""
        return {"one": 1.0}


@register
class LennardJones(PairPotential):
    """Lennard-Jones potential, 4 epsilon [(sigma/r)^12 - (sigma/r)^6] + shift.

    The shift makes the energy, not the force, vanish at the cutoff, as in
    :class:`ase.calculators.lj.LennardJones`.

    Parameters
    ----------
    epsilon : float
        Depth of the well, eV.
    sigma : float
        Distance of zero energy before the shift, A.
    cutoff : float, optional
        A; three sigma if omitted.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    uses_spins = False

    def __init__(
        self,
        epsilon: float,
        sigma: float,
        *,
        cutoff: float | None = None,
        elements: Sequence[str] | None = None,
    ) -> None:
        end = 3.0 * sigma if cutoff is None else cutoff
        super().__init__(TwelveSix(epsilon, sigma, end), elements=elements)
        self.epsilon, self.sigma = float(epsilon), float(sigma)


@register
class Harmonic(PairPotential):
    """Springs between all pairs within the cutoff, (k/2) (r - r0)^2.

    Not smooth where a pair crosses the cutoff: for small displacements only.

    Parameters
    ----------
    k : float
        Spring constant, eV/A^2.
    r0 : float
        Length at rest, A.
    cutoff : float
        A.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    uses_spins = False

    def __init__(
        self,
        k: float,
        r0: float,
        *,
        cutoff: float,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(Parabola(k, r0, cutoff), elements=elements)
        self.k, self.r0 = float(k), float(r0)


@register
class ZBL(PairPotential):
    """Ziegler-Biersack-Littmark repulsion of all nuclei at short range.

    Multiplied with a smooth step that takes it from full strength at ``inner``
    to zero at ``cutoff``: a core under a potential that knows only larger
    distances.

    Parameters
    ----------
    inner, cutoff : float
        Where the step begins and ends, A.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.

    References
    ----------
    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter, vol. 1
    (Pergamon, 1985).
    """

    uses_spins = False

    def __init__(
        self, inner: float, cutoff: float, *, elements: Sequence[str] | None = None
    ) -> None:
        positive("inner", inner)
        if inner >= positive("cutoff", cutoff):
            raise ValueError(
                f"inner ({inner} A) must be smaller than cutoff ({cutoff} A)"
            )
        # Of no elements; those of each pair enter in `between`.
        super().__init__(NuclearCore(0, 0, inner, cutoff), elements=elements)
        self.inner = float(inner)

    def between(self, first: Any, second: Any) -> Radial:
        """Return the repulsion between two atomic numbers, or tensors of them."""
        return NuclearCore(first, second, self.inner, self.cutoff)
