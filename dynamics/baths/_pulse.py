"""Gaussian laser pulses as a source of heat."""

from __future__ import annotations

import numpy as np
import torch
from ase import units
from torch import Tensor


class LaserPulse:
    """Heat absorbed from a pulse that is Gaussian in time.

    Parameters
    ----------
    energy : (B,) tensor
        eV per structure.
    center_fs, width_fs : float
        Of the power: its maximum, and its full width at half maximum.

    Raises
    ------
    ValueError
        If a time is missing or not finite, or the width not positive.
    """

    def __init__(
        self, energy: Tensor, *, center_fs: float | None, width_fs: float | None
    ) -> None:
        if center_fs is None or width_fs is None:
            raise ValueError(
                "a pulse needs pulse_center_fs and pulse_width_fs with pulse_energy"
            )
        if not np.isfinite(center_fs) or not np.isfinite(width_fs) or width_fs <= 0:
            raise ValueError(
                "a pulse needs a finite pulse_center_fs and a pulse_width_fs > 0; got "
                f"{center_fs} and {width_fs}"
            )
        self.energy = energy
        self._center = center_fs * units.fs
        self._scale = 2.0 * np.sqrt(np.log(2.0)) / (width_fs * units.fs)

    def absorbed(self, start: float, end: float) -> Tensor:
        """Return the energy (B,), eV, absorbed between two times, ASE time."""
        times = torch.tensor([start, end], dtype=torch.float64)
        before, after = torch.erf(self._scale * (times - self._center)).tolist()
        return 0.5 * (after - before) * self.energy
