"""Torques of spin currents on moments: spin transfer and spin-orbit torques."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from ase import units
from torch import Tensor

from .._validate import as_direction, as_symbols, finite, positive
from ..potentials.terms import of_elements, unit_spins
from ..system import System
from ..units import HBAR, MU_B
from ._waveforms import Waveform, as_waveform, value_at


@dataclass(frozen=True)
class SpinTorque:
    """Torque of a spin current whose spins point along p.

    With unit vectors e = m/|m|,

        de/dt = ... - gamma a e x (e x p) - gamma b e x p,

    the field a e x p + b p beside all others in the LLG equation. The damping-like
    part a > 0 turns moments towards p, and has no energy; the field-like part b is
    that of a magnetic field along p. Spin-transfer torques have p along the moments of
    the polarizer (J. C. Slonczewski, J. Magn. Magn. Mater. 159, L1 (1996),
    doi:10.1016/0304-8853(96)00062-5), spin-orbit torques p = n x j across the current j
    and the normal n of the layers (A. Manchon et al., Rev. Mod. Phys. 91, 035004
    (2019), doi:10.1103/RevModPhys.91.035004).

    Parameters
    ----------
    polarization : (3,) sequence
        p, of any length.
    damping_like_T, field_like_T : float or function of the time in fs
        a and b, T; a :class:`~deepspin_ase.dynamics.Pulse` for example.
    asymmetry : float
        a/(1 + asymmetry e.p) instead of a: (L^2 - 1)/(L^2 + 1) in Slonczewski's form
        with the parameter L; between -1 and 1.
    elements : sequence of symbols, optional
        Which moments feel it; all by default.

    Raises
    ------
    ValueError
        If a number is not finite, p is zero, or the asymmetry is not within (-1, 1).
    """

    polarization: Sequence[float]
    damping_like_T: float | Callable[[float], float] = 0.0
    field_like_T: float | Callable[[float], float] = 0.0
    asymmetry: float = 0.0
    elements: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check the arguments and make waveforms of their plain data."""
        as_direction("polarization", self.polarization)
        as_symbols(self.elements)
        for name in ("damping_like_T", "field_like_T"):
            value = as_waveform(getattr(self, name))
            object.__setattr__(self, name, value)
            finite(name, value_at(value, 0.0).item())
        if not abs(finite("asymmetry", self.asymmetry)) < 1.0:
            raise ValueError(f"asymmetry must lie in (-1, 1), got {self.asymmetry}")

    @classmethod
    def of_current(
        cls,
        current_density_A_per_m2: float,
        polarization: Sequence[float],
        *,
        efficiency: float,
        thickness_A: float,
        magnetization_A_per_m: float,
        field_like_ratio: float = 0.0,
        **options: Any,
    ) -> SpinTorque:
        """Return the torque of a current through a layer.

        a = hbar efficiency j/(2 e M t).

        Parameters
        ----------
        current_density_A_per_m2 : float
            j of charge: through the layer, or for spin-orbit torques along the
            neighboring metal.
        polarization : (3,) sequence
        efficiency : float
            Spin polarization of the current, or the spin Hall angle.
        thickness_A : float
            t of the magnetic layer.
        magnetization_A_per_m : float
            M, moment per volume; 1 mu_B per A^3 is 9.274e6 A/m.
        field_like_ratio : float
            b/a.
        **options
            ``asymmetry``, ``elements``.
        """
        per_area = (
            positive("magnetization_A_per_m", magnetization_A_per_m)
            * 1e-10
            * positive("thickness_A", thickness_A)
        )
        hbar_over_e = HBAR / units.s  # J s/C
        current = finite("current_density_A_per_m2", current_density_A_per_m2)
        a = 0.5 * hbar_over_e * finite("efficiency", efficiency) * current / per_area
        return cls(polarization, a, field_like_ratio * a, **options)

    def as_dict(self) -> dict[str, Any]:
        """Return the arguments as plain data; functions as they are."""
        found = asdict(self)
        for name in ("damping_like_T", "field_like_T"):
            value = getattr(self, name)
            found[name] = value.as_dict() if isinstance(value, Waveform) else value
        return found

    def field(self, system: System, time_fs: float) -> Tensor:
        """Return the field a e x p + b p of each moment, (N, 3), eV/mu_B."""
        e = unit_spins(system)
        p = e.new_tensor(as_direction("polarization", self.polarization))
        a, b = (
            MU_B * value_at(value, time_fs).item()
            for value in (self.damping_like_T, self.field_like_T)
        )
        along = (e @ p)[:, None]
        field = (
            a / (1.0 + self.asymmetry * along) * torch.linalg.cross(e, p.expand_as(e))
        )
        acts = e.ne(0).any(dim=1) & of_elements(system, self.elements)
        return torch.where(acts[:, None], field + b * p, 0.0)


def as_spin_torque(value: SpinTorque | Mapping[str, Any] | None) -> SpinTorque | None:
    """Return a torque from its arguments; None stays None.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    if value is None or isinstance(value, SpinTorque):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"spin_torque must be a SpinTorque, got {value!r}")
    try:
        return SpinTorque(**value)
    except TypeError as error:
        raise ValueError(f"spin_torque does not fit: {error}") from None
