"""Linear spin waves and coupled magnons and phonons."""

from __future__ import annotations

from ._bogoliubov import normal_modes
from ._magnon_phonons import (
    JointInstability,
    MagnonPhononBands,
    MagnonPhonons,
    plot_magnon_phonon_bands,
)
from ._spectra import (
    MagnonDOS,
    group_velocities,
    magnon_dos,
    plot_magnon_bands,
    plot_magnon_dos,
    spin_stiffness,
)
from ._spin_waves import MagnonBands, SpinWaves, UnstableReferenceWarning

__all__ = [
    "JointInstability",
    "MagnonBands",
    "MagnonDOS",
    "MagnonPhononBands",
    "MagnonPhonons",
    "SpinWaves",
    "UnstableReferenceWarning",
    "group_velocities",
    "magnon_dos",
    "normal_modes",
    "plot_magnon_bands",
    "plot_magnon_dos",
    "plot_magnon_phonon_bands",
    "spin_stiffness",
]
