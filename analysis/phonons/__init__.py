"""Phonons by phonopy, in a magnetic order or averaged over spin states."""

from __future__ import annotations

from ._force_constants import (
    calculate_phonons,
    from_phonopy,
    to_phonopy,
)
from ._spectra import (
    PhononBands,
    PhononDOS,
    ThermalProperties,
    phonon_bands,
    phonon_dos,
    plot_phonon_bands,
    plot_phonon_dos,
    plot_thermal_properties,
    thermal_properties,
)
from ._thermal import ThermalPhonons, thermal_phonons

__all__ = [
    "PhononBands",
    "PhononDOS",
    "ThermalPhonons",
    "ThermalProperties",
    "calculate_phonons",
    "from_phonopy",
    "phonon_bands",
    "phonon_dos",
    "plot_phonon_bands",
    "plot_phonon_dos",
    "plot_thermal_properties",
    "thermal_phonons",
    "thermal_properties",
    "to_phonopy",
]
