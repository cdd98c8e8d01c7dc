"""Energies of single moments: anisotropy, Landau expansion, external field.

Atoms without a moment contribute nothing, not even a magnetic force.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..._validate import as_direction, as_symbols, as_vector, finite
from ...neighbors import PairList
from ...system import System
from ...units import MU_B
from .._base import Potential, Predictor, QuadraticForm
from .._kernels import Kernels
from .._prediction import Prediction
from .._registry import register
from ._bases import SiteTerm
from ._sites import magnetic_sites


def _unit(moments: Tensor) -> Tensor:
    return moments / moments.norm(dim=1, keepdim=True)


@register
class UniaxialAnisotropy(SiteTerm):
    """Uniaxial anisotropy, E = -K sum_i (e_i.n)^2 with e = m/|m|.

    Parameters
    ----------
    K : float
        eV per atom; K > 0 makes n the easy axis, K < 0 the hard axis.
    axis : (3,) sequence
        The direction n, of any length.
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.
    """

    def __init__(
        self, K: float, axis: Sequence[float], *, elements: Sequence[str] | None = None
    ) -> None:
        super().__init__(elements=elements)
        self.K = finite("K", K)
        self.axis = as_vector("axis", axis)
        self._direction = as_direction("axis", axis)

    def site_energies(self, moments: Tensor) -> Tensor:
        """Return -K (e.n)^2, eV."""
        return -self.K * (_unit(moments) @ moments.new_tensor(self._direction)) ** 2


@register
class CubicAnisotropy(SiteTerm):
    """Cubic anisotropy of the direction cosines a, b, c of each moment.

    E = sum_i K1 (a^2 b^2 + b^2 c^2 + c^2 a^2) + K2 a^2 b^2 c^2. With K1 > 0 and
    K2 = 0 the cube axes are easy, as in bcc Fe.

    Parameters
    ----------
    K1, K2 : float
        eV per atom.
    axes : (3, 3) sequence, optional
        Orthogonal cube axes as rows, of any length; Cartesian if omitted.
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.
    """

    def __init__(
        self,
        K1: float,
        K2: float = 0.0,
        *,
        axes: Sequence[Sequence[float]] | None = None,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(elements=elements)
        self.K1 = finite("K1", K1)
        self.K2 = finite("K2", K2)
        frame = ((1, 0, 0), (0, 1, 0), (0, 0, 1)) if axes is None else axes
        rows = [as_vector("axes", axis) for axis in frame]
        self.axes = None if axes is None else rows
        self._frame = [as_direction("axes", axis) for axis in rows]
        matrix = np.array(self._frame)
        if len(rows) != 3 or not np.allclose(matrix @ matrix.T, np.eye(3)):
            raise ValueError(f"axes must be three orthogonal vectors, got {axes!r}")

    def site_energies(self, moments: Tensor) -> Tensor:
        """Return the anisotropy energies, eV."""
        cosines = _unit(moments) @ moments.new_tensor(self._frame).T
        a, b, c = (cosines**2).unbind(dim=1)
        return self.K1 * (a * b + b * c + c * a) + self.K2 * a * b * c


@register
class Landau(SiteTerm):
    """Landau expansion in the length of the moment, E = sum_i sum_n c_n |m_i|^(2n).

    Parameters
    ----------
    coefficients : sequence of float
        c_1, c_2, ... in eV/mu_B^2, eV/mu_B^4, ...; there is no constant term.
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.
    """

    def __init__(
        self,
        coefficients: Sequence[float],
        *,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(elements=elements)
        if len(coefficients) == 0:
            raise ValueError("Landau needs at least one coefficient")
        self.coefficients = tuple(finite("coefficients", c) for c in coefficients)

    def site_energies(self, moments: Tensor) -> Tensor:
        """Return the polynomial in |m|^2, eV."""
        square = moments.square().sum(dim=1)
        total = torch.zeros_like(square)
        for coefficient in reversed(self.coefficients):
            total = (total + coefficient) * square
        return total


@register
class Zeeman(SiteTerm):
    """Energy in a uniform external field, E = -mu_B sum_i m_i.B.

    Parameters
    ----------
    field_T : (3,) sequence
        Flux density B, T. A moment of 1 mu_B along it gains 5.79e-5 eV/T.
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.
    """

    def __init__(
        self, field_T: Sequence[float], *, elements: Sequence[str] | None = None
    ) -> None:
        super().__init__(elements=elements)
        self.field_T = as_vector("field_T", field_T)

    def site_energies(self, moments: Tensor) -> Tensor:
        """Return -mu_B m.B, eV."""
        return -MU_B * (moments @ moments.new_tensor(self.field_T))

    def compiled(self, kernels: Kernels) -> Predictor:
        """Return the derivatives without autograd, unless a subclass has others."""
        own = type(self).site_energies is Zeeman.site_energies
        return _UniformField(self) if own else self


class _FieldInSpace(Potential):
    """Energy in a field that depends on the place, E = -mu_B sum_i m_i.B(r_i)."""

    is_local = True

    def __init__(self, elements: Sequence[str] | None) -> None:
        super().__init__()
        self.elements = as_symbols(elements)

    def flux_density(self, system: System) -> Tensor:
        """Return B at the atoms, (N, 3), T."""
        raise NotImplementedError

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return zero: the term couples nothing."""
        return 0.0

    def quadratic_form(self, system: System, pairs: PairList) -> QuadraticForm | None:
        """Return the energy as a form of the moments."""
        form = QuadraticForm.zero(system)
        return form._replace(fields=self._fields(system))

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        return -(system.spins * self._fields(system)).sum(dim=1)

    def _fields(self, system: System) -> Tensor:
        """Return mu_B B (N, 3), eV/mu_B, of atoms that carry a moment."""
        sites = magnetic_sites(system, self.elements)
        return torch.where(sites[:, None], MU_B * self.flux_density(system), 0.0)


@register
class ZeemanGradient(_FieldInSpace):
    """Energy in a field with a gradient, E = -mu_B sum_i m_i.G (r_i - r_0).

    Pulls moments by mu_B G^T m. A uniform field beside it is a :class:`Zeeman` term.

    Parameters
    ----------
    gradient_T_per_A : (3, 3) sequence
        G[a, b] = dB_a/dr_b. Without trace, and symmetric where no current flows, it
        is a field that can exist.
    origin : (3,) sequence, A
        r_0, where it vanishes.
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.

    Raises
    ------
    ValueError
        If an argument does not fit; on evaluation, if the field changes along a
        periodic direction, as it would jump at the cell's border.
    """

    def __init__(
        self,
        gradient_T_per_A: Sequence[Sequence[float]],
        *,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(elements)
        rows = [as_vector("gradient_T_per_A", row) for row in gradient_T_per_A]
        if len(rows) != 3:
            raise ValueError("gradient_T_per_A must be three rows of three numbers")
        self.gradient_T_per_A = rows
        self.origin = as_vector("origin", origin)

    def check(self, system: System) -> None:
        """Raise ValueError where the field changes along a periodic direction."""
        super().check(system)
        gradient = system.cell.new_tensor(self.gradient_T_per_A)
        change = system.cell @ gradient.T
        jumps = (change.norm(dim=2) > 1e-9 * gradient.norm()) & system.pbc
        if bool(jumps.any()):
            k, axis = jumps.nonzero()[0].tolist()
            raise ValueError(
                f"the field grows along direction {axis} of structure {k}, which is "
                "periodic, and would jump at the border of the cell: set pbc=False "
                "there, or turn the gradient across it"
            )

    def flux_density(self, system: System) -> Tensor:
        """Return G (r - r_0), (N, 3), T."""
        gradient, origin = (
            system.positions.new_tensor(x) for x in (self.gradient_T_per_A, self.origin)
        )
        return (system.positions - origin) @ gradient.T


@register
class ZeemanWave(_FieldInSpace):
    """Energy in a standing wave, E = -mu_B sum_i m_i.B cos(2 pi n.s_i + phase).

    s are scaled positions: the wave follows the cell, and strain does no work on it.
    Two of them, driven a quarter of a period apart, make a wave that travels
    (:func:`~deepspin_ase.dynamics.travelling_wave`).

    Parameters
    ----------
    field_T : (3,) sequence
        B, at the crests, T.
    waves : (3,) sequence
        n, wavelengths along each vector of the structure's cell; whole numbers where
        it is periodic.
    phase_deg : float
    elements : sequence of symbols, optional
        Restrict the term to atoms of these elements.

    Raises
    ------
    ValueError
        If an argument does not fit, or a structure has no cell.
    """

    def __init__(
        self,
        field_T: Sequence[float],
        waves: Sequence[float],
        *,
        phase_deg: float = 0.0,
        elements: Sequence[str] | None = None,
    ) -> None:
        super().__init__(elements)
        self.field_T = as_vector("field_T", field_T)
        self.waves = as_vector("waves", waves)
        self.phase_deg = finite("phase_deg", phase_deg)

    def check(self, system: System) -> None:
        """Raise ValueError where waves do not fit the cell."""
        super().check(system)
        if bool((torch.linalg.det(system.cell) == 0.0).any()):
            raise ValueError("a wave needs a structure with three lattice vectors")
        for axis, number in enumerate(self.waves):
            if number != round(number) and bool(system.pbc[:, axis].any()):
                raise ValueError(
                    f"{number:g} waves do not fit a cell that is periodic along "
                    f"direction {axis}: take a whole number"
                )

    def flux_density(self, system: System) -> Tensor:
        """Return B cos(2 pi n.s + phase), (N, 3), T."""
        waves, amplitude = (
            system.positions.new_tensor(x) for x in (self.waves, self.field_T)
        )
        vectors = torch.linalg.solve(system.cell, waves.expand(len(system.cell), 3))
        turns = (system.positions * vectors[system.index]).sum(dim=1)
        phase = 2.0 * math.pi * turns + math.radians(self.phase_deg)
        return torch.cos(phase)[:, None] * amplitude


class _UniformField:
    """The field of a Zeeman term: mu_B B on every moment, and nothing else."""

    def __init__(self, term: Zeeman) -> None:
        self.term = term

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
        create_graph: bool,
    ) -> Prediction:
        sites = magnetic_sites(system, self.term.elements)[:, None]
        pull = MU_B * system.spins.new_tensor(self.term.field_T)
        energies = -(torch.where(sites, system.spins, 0.0) @ pull)
        return Prediction(
            energy=system.sum(energies),
            energies=energies,
            volume=system.volume,
            forces=torch.zeros_like(system.positions) if forces else None,
            magnetic_forces=torch.where(sites, pull, 0.0) if magnetic_forces else None,
            virial=torch.zeros_like(system.cell) if virial else None,
        )
