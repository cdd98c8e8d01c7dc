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
``validation``       properties of a model beside experiment and DFT
``view``             moments as arrows: figures, web pages, OVITO files
==================== ==============================================================
"""

from __future__ import annotations

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
