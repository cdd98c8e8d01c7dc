"""Dynamical spectra of moments and velocities along trajectories."""

from __future__ import annotations

from ._density_of_states import (
    DensityOfStates,
    plot_density_of_states,
    spin_density_of_states,
    vibrational_density_of_states,
)
from ._spectra import Spectrum, plot_spectrum, spin_spectrum, velocity_spectrum

__all__ = [
    "DensityOfStates",
    "Spectrum",
    "plot_density_of_states",
    "plot_spectrum",
    "spin_density_of_states",
    "spin_spectrum",
    "velocity_spectrum",
    "vibrational_density_of_states",
]
