"""Exchange between pairs of moments: Heisenberg, Dzyaloshinskii-Moriya, biquadratic.

Pairs are counted once, and e = m/|m| are unit vectors, so the energies do not
depend on the lengths of the moments and the magnetic forces are transverse.
:class:`MomentExchange` couples the moments themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..._validate import as_direction, as_vector
from .._registry import register
from ..radial import Radial
from ._bases import RadialTerm


@register
class Heisenberg(RadialTerm):
    """Heisenberg exchange, E = -sum_{i<j} J(r_ij) e_i.e_j.

    J > 0 is ferromagnetic.

    Parameters
    ----------
    radial : Radial
        J(r), eV.
    subtract_collinear : bool
        Measure the energy from the ferromagnet, e_i.e_j -> e_i.e_j - 1, so that
        the exchange of a ferromagnet exerts no force: for lattice terms that
        were fitted to the ferromagnetic state and hold its exchange already.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    def __init__(
        self,
        radial: Radial,
        *,
        subtract_collinear: bool = False,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(radial, elements=elements)
        self.subtract_collinear = subtract_collinear

    def invariants(self) -> dict[str, float]:
        """Return -(e_i.e_j), or 1 - e_i.e_j."""
        reference = {"magnetic": 1.0} if self.subtract_collinear else {}
        return {"alignment": -1.0} | reference


@register
class MomentExchange(RadialTerm):
    """Exchange of moments of varying length, E = -sum_{i<j} J(r_ij) m_i.m_j.

    Together with :class:`Landau` this is the Heisenberg-Landau Hamiltonian: with
    moments m = g S mu_B, divide a coupling given for the spins S by g^2.

    Parameters
    ----------
    radial : Radial
        J(r), eV/mu_B^2.
    subtract_collinear : bool
        Measure the energy from the ferromagnet of the same lengths,
        m_i.m_j -> m_i.m_j - |m_i||m_j|; see :class:`Heisenberg`.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.

    References
    ----------
    Ma, Dudarev, Woo, Phys. Rev. B 85, 184301 (2012),
    doi:10.1103/PhysRevB.85.184301.
    """

    def __init__(
        self,
        radial: Radial,
        *,
        subtract_collinear: bool = False,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(radial, elements=elements)
        self.subtract_collinear = subtract_collinear

    def invariants(self) -> dict[str, float]:
        """Return -(m_i.m_j), or |m_i||m_j| - m_i.m_j."""
        reference = {"lengths": 1.0} if self.subtract_collinear else {}
        return {"product": -1.0} | reference


@register
class Biquadratic(RadialTerm):
    """Biquadratic exchange, E = -sum_{i<j} B(r_ij) (e_i.e_j)^2.

    B > 0 favours collinear order.

    Parameters
    ----------
    radial : Radial
        B(r), eV.
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements, in either order.
    """

    def invariants(self) -> dict[str, float]:
        """Return -(e_i.e_j)^2."""
        return {"alignment^2": -1.0}


@register
class DzyaloshinskiiMoriya(RadialTerm):
    """Dzyaloshinskii-Moriya exchange, E = -sum_{i<j} D_ij.(e_i x e_j).

    The vector D_ij = D(r) d_ij must change sign with the order of the two atoms,
    D_ij = -D_ji, for the energy to be one of the pair. With r^ the unit vector
    from i to j, d_ij is, by ``direction``,

    ``"bond"``
        r^: chiral crystals such as B20 (Bloch-type spirals).
    ``"interfacial"``
        n x r^ with n along ``axis``: inversion broken along n, as at a film's
        surface (Neel-type spirals).
    ``"vector"``
        A fixed unit vector v along ``vector``, oriented in one of two ways.
        With ``axis`` n, d_ij = (n.r^) v: plus v along bonds parallel to n,
        minus v along antiparallel ones, none across. Without it, ``elements``
        must be two different ones, and d_ij = v from the first to the second.

    Parameters
    ----------
    radial : Radial
        D(r), eV; either sign.
    direction : {"bond", "interfacial", "vector"}
    axis : (3,) sequence, optional
        The direction n, of any length.
    vector : (3,) sequence, optional
        The direction v, of any length: the strength is D(r).
    elements : pair of symbols, optional
        Restrict the term to pairs of these two elements.

    Raises
    ------
    ValueError
        If the direction is unknown, or axis and vector do not fit it.

    References
    ----------
    Moriya, Phys. Rev. 120, 91 (1960), doi:10.1103/PhysRev.120.91; interfacial
    form: Fert and Levy, Phys. Rev. Lett. 44, 1538 (1980),
    doi:10.1103/PhysRevLett.44.1538.
    """

    def __init__(
        self,
        radial: Radial,
        *,
        direction: str = "bond",
        axis: Sequence[float] | None = None,
        vector: Sequence[float] | None = None,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(radial, elements=elements)
        self.direction = direction
        self.axis = None if axis is None else as_vector("axis", axis)
        self.vector = None if vector is None else as_vector("vector", vector)
        self._check_direction()

    def _check_direction(self) -> None:
        allowed = {"bond": (), "interfacial": ("axis",), "vector": ("axis", "vector")}
        if self.direction not in allowed:
            raise ValueError(
                f"direction must be one of {', '.join(allowed)}, got {self.direction!r}"
            )
        for name in ("axis", "vector"):
            value = getattr(self, name)
            if value is None:
                continue
            if name not in allowed[self.direction]:
                raise ValueError(f"direction {self.direction!r} takes no {name}")
            as_direction(name, value)
        if self.direction == "interfacial" and self.axis is None:
            raise ValueError("direction 'interfacial' needs an axis")
        if self.direction == "vector" and self.vector is None:
            raise ValueError("direction 'vector' needs a vector")
        ordered = self.elements is not None and self.elements[0] != self.elements[1]
        if self.direction == "vector" and self.axis is None and not ordered:
            raise ValueError(
                "a fixed vector needs an orientation of the bonds: give an axis, or "
                "elements of two kinds, from the first to the second"
            )

    def invariants(self) -> dict[str, float]:
        """Return -d_ij.(e_i x e_j), by components of the bond and the chirality."""
        v = n = None
        if self.vector is not None:
            v = as_direction("vector", self.vector)
        if self.axis is not None:
            n = as_direction("axis", self.axis)
        if v is not None and n is None:
            return {f"chirality_{x}": -c for x, c in zip("xyz", v, strict=True)}
        # Rows: d_ij of bonds along x, y and z.
        vectors = np.eye(3)
        if n is not None:
            vectors = np.cross(n, vectors) if v is None else np.outer(n, np.array(v))
        return {
            f"bond_{x} chirality_{y}": -float(vectors[a, b])
            for a, x in enumerate("xyz")
            for b, y in enumerate("xyz")
            if vectors[a, b]
        }
