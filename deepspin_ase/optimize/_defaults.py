"""Default thresholds of convergence, and the length of a rotation."""

from __future__ import annotations

#: Largest force of a relaxed structure, eV/A.
FMAX = 0.01

#: Largest torque m x (-dE/dm) of a relaxed structure, eV.
TORQUE_MAX = 1e-4

#: Largest component of the stress of a relaxed structure, eV/A^3 (0.08 GPa).
STRESS_MAX = 5e-4

#: Largest torque where the moments alone relax, which costs few model calls, eV.
SPINS_TORQUE_MAX = 1e-5

#: Largest rotation (rad), or change of ln of a length, that the next step of relaxed
#: moments would make, where no threshold for torques is given.
ROTATION_MAX = 1e-3

#: Largest force (eV/A) and torque (eV) of stationary points whose second derivatives
#: count, and of points to compare with each other.
TIGHT_FMAX, TIGHT_TORQUE_MAX = 1e-3, 1e-6

#: Length of a rotation by one radian, A/rad: a typical moment is then about as stiff
#: as an atom.
SPIN_SCALE = 0.4
