"""Electrons of a metal: a heat bath of finite heat capacity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

#: gamma_e in eV/K^2 per atom, or a function C_e(T), eV/K per atom, of T (n,) in K.
HeatCapacity: TypeAlias = float | Callable[[np.ndarray], np.ndarray]

#: Temperatures of tables of C_e(T), K.
_TABLE = np.arange(0.0, 100_001.0)


class Electrons:
    """Energy and temperature of the electrons, U(T) = int_0^T C_e dT'.

    Parameters
    ----------
    heat_capacity : float or callable
        gamma_e of C_e = gamma_e T (A. Sommerfeld, Z. Phys. 47, 1 (1928),
        doi:10.1007/BF01391052), eV/K^2 per atom, or a function that returns C_e(T),
        eV/K per atom, for an array of temperatures in K; constant above 100,000 K.
    counts : (B,) tensor
        Numbers of atoms.

    Raises
    ------
    ValueError
        If a heat capacity is not positive.
    """

    def __init__(self, heat_capacity: HeatCapacity, *, counts: Tensor) -> None:
        self._counts = counts.to(torch.float64)
        self._table: tuple[Tensor, Tensor] | None = None
        self._gamma = 0.0
        if callable(heat_capacity):
            self._table = _tabulated(heat_capacity, counts.device)
        elif np.isfinite(heat_capacity) and heat_capacity > 0:
            self._gamma = float(heat_capacity)
        else:
            raise ValueError(
                "heat_capacity must be gamma_e > 0 in eV/K^2 per atom, or a "
                f"function C_e(T) in eV/K per atom; got {heat_capacity!r}"
            )

    def energy(self, temperature: Tensor) -> Tensor:
        """Return U (B,), eV, at temperatures (B,), K."""
        if self._table is None:
            return 0.5 * self._counts * self._gamma * temperature**2
        return self._counts * _interpolate(temperature, *self._table)

    def temperature(self, energy: Tensor) -> Tensor:
        """Return T (B,), K, at energies (B,), eV; zero below zero energy."""
        per_atom = (energy / self._counts).clamp_min(0.0)
        if self._table is None:
            return (2.0 * per_atom / self._gamma).sqrt()
        return _interpolate(per_atom, *self._table[::-1])


def _tabulated(
    heat_capacity: Callable[[np.ndarray], np.ndarray], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return temperatures and energies per atom, both ascending."""
    values = np.asarray(heat_capacity(_TABLE.copy()), dtype=float)
    values = np.broadcast_to(values, _TABLE.shape)
    wrong = ~np.isfinite(values) | (values < 0) | ((values == 0) & (_TABLE > 0))
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"heat_capacity must be > 0; at {_TABLE[k]:g} K it is {values[k]}"
        )
    steps = 0.5 * (values[1:] + values[:-1]) * np.diff(_TABLE)
    energies = np.concatenate([[0.0], np.cumsum(steps)])
    return torch.tensor(_TABLE, device=device), torch.tensor(energies, device=device)


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Return y at x from a table with ascending ``xs``, linearly."""
    k = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    weight = (x - xs[k - 1]) / (xs[k] - xs[k - 1])
    return ys[k - 1] + weight * (ys[k] - ys[k - 1])
