"""Analysis of magnetic structures, Hamiltonians, paths and trajectories.

What one calls or constructs is here; each subject has a room with everything of it,
classes of results included:

==================== ==============================================================
``exchange``         exchange tensors, files for other codes, spin-lattice coupling
``ferroic``          polarization and octahedral tilts
``hessians``         second derivatives by positions and moments
``landscape``        energy surfaces over collective coordinates
``magnons``          linear spin waves, coupled magnons and phonons
``order``            structure factors, staggered order, correlations, topology
``paths``            minimum energy paths, saddle points, transition rates
``phonons``          phonons in a magnetic order or averaged over spin states
``spectra``          dynamical spectra of moments and velocities
``transitions``      transition temperatures, entropy changes, hysteresis
``view``             moments as arrows: figures, web pages, OVITO files
==================== ==============================================================
"""

from __future__ import annotations

from .._lazy import attach

#: Public names by the module that has them.
_NAMES = {
    "_distributed": ("map_tasks",),
    "_kpath": ("k_path",),
    "_trajectories": ("frames_of",),
    "_wavevectors": ("commensurate_path",),
    "exchange": (
        "exchange_tensors",
        "from_magnopy",
        "plot_exchange",
        "plot_exchange_convergence",
        "plot_spin_lattice_coupling",
        "spin_lattice_coupling",
        "strain_derivative",
        "to_magnopy",
        "write_spirit",
        "write_tb2j",
        "write_uppasd",
        "write_vampire",
    ),
    "ferroic": (
        "local_polarization",
        "octahedral_tilts",
        "plot_polarization",
        "plot_tilts",
        "polarization",
    ),
    "hessians": ("JointHessian", "cartesian_hessian"),
    "landscape": (
        "CollectiveRotation",
        "Displacement",
        "RelativeRotation",
        "plot_landscape",
        "scan_landscape",
    ),
    "magnons": (
        "MagnonPhonons",
        "SpinWaves",
        "group_velocities",
        "magnon_dos",
        "plot_magnon_bands",
        "plot_magnon_dos",
        "plot_magnon_phonon_bands",
        "spin_stiffness",
    ),
    "order": (
        "canting_angles",
        "neighbor_angles",
        "neighbor_order",
        "order_series",
        "plot_angles",
        "plot_order",
        "plot_profile",
        "plot_spin_correlation",
        "plot_structure_factor",
        "plot_topological_charge",
        "profile_along",
        "spin_correlation",
        "staggered_moments",
        "structure_factor",
        "topological_charge",
    ),
    "paths": (
        "SpinLatticeNEB",
        "find_saddle",
        "interpolate",
        "plot_path",
        "transition_rate",
    ),
    "phonons": (
        "calculate_phonons",
        "phonon_bands",
        "phonon_dos",
        "plot_phonon_bands",
        "plot_phonon_dos",
        "plot_thermal_properties",
        "thermal_phonons",
        "thermal_properties",
    ),
    "spectra": (
        "plot_density_of_states",
        "plot_spectrum",
        "spin_density_of_states",
        "spin_spectrum",
        "velocity_spectrum",
        "vibrational_density_of_states",
    ),
    "transitions": (
        "curie_temperature",
        "entropy_change",
        "hysteresis",
        "plot_entropy_change",
        "plot_hysteresis",
        "plot_thermal_averages",
        "plot_transition",
        "thermal_averages",
    ),
    "view": ("plot_spins", "write_html", "write_ovito"),
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES)
