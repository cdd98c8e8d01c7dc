"""Pair potentials of the lattice: Lennard-Jones, springs and nuclear repulsion."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ... import _validate as _arguments
from ...system import System
from .._registry import register
from ..radial import smooth_step
from ._short_range import screened_nuclear
from ._sites import Bonds, PairTerm, RadialTerm


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

    def pair_energies(self, system: System, bonds: Bonds) -> Tensor:
        """Return phi of each bond, eV."""
        return self.radial(bonds.distances)


@register
class LennardJones(PairTerm):
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
        super().__init__(elements=elements)
        self.epsilon = _arguments.finite("epsilon", epsilon)
        self.sigma = _arguments.positive("sigma", sigma)
        self._cutoff = _arguments.positive(
            "cutoff", 3.0 * sigma if cutoff is None else cutoff
        )

    @property
    def cutoff(self) -> float:
        """Distance of truncation, A."""
        return self._cutoff

    def pair_energies(self, system: System, bonds: Bonds) -> Tensor:
        """Return the energy of each bond, eV."""
        x, edge = (self.sigma / bonds.distances) ** 6, (self.sigma / self.cutoff) ** 6
        return 4.0 * self.epsilon * (x**2 - x - (edge**2 - edge))


@register
class Harmonic(PairTerm):
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
        super().__init__(elements=elements)
        self.k = _arguments.finite("k", k)
        self.r0 = _arguments.positive("r0", r0)
        self._cutoff = _arguments.positive("cutoff", cutoff)

    @property
    def cutoff(self) -> float:
        """Largest length of a spring, A."""
        return self._cutoff

    def pair_energies(self, system: System, bonds: Bonds) -> Tensor:
        """Return the energy of each bond, eV."""
        return 0.5 * self.k * (bonds.distances - self.r0) ** 2


@register
class ZBL(PairTerm):
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
        super().__init__(elements=elements)
        self.inner = _arguments.positive("inner", inner)
        self._cutoff = _arguments.positive("cutoff", cutoff)
        if inner >= cutoff:
            raise ValueError(
                f"inner ({inner} A) must be smaller than cutoff ({cutoff} A)"
            )

    @property
    def cutoff(self) -> float:
        """Where the repulsion has vanished, A."""
        return self._cutoff

    def pair_energies(self, system: System, bonds: Bonds) -> Tensor:
        """Return the energy of each bond, eV."""
        r = bonds.distances
        z1, z2 = (system.species[k].to(r.dtype) for k in (bonds.i, bonds.j))
        step = smooth_step((r - self.inner) / (self.cutoff - self.inner))
        return screened_nuclear(r, z1, z2) * step
