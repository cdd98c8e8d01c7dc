"""Units: ASE's (eV, A, ASE time) inside, fs, K, GPa and T at the edge.

CODATA 2014, as in :mod:`ase.units`. Moments are in Bohr magnetons throughout,
so a magnetic force ``-dE/dm`` in eV/mu_B is also a field: divide by
:data:`MU_B` to read it in tesla.
"""

from __future__ import annotations

from ase import units as _ase

#: Bohr magneton in eV/T.
MU_B: float = _ase._hbar / (2.0 * _ase._me)

#: Reduced Planck constant in eV x ASE time.
HBAR: float = _ase._hbar * _ase.J * _ase.s

#: Electron spin g-factor (positive by convention).
G_FACTOR: float = 2.00232

#: Coulomb constant e^2/(4 pi eps0) in eV A.
COULOMB: float = _ase._e / (4.0e-10 * 3.141592653589793 * _ase._eps0)

#: mu_0 mu_B^2 / (4 pi) in eV A^3 per mu_B^2: the scale of dipole-dipole energies.
DIPOLE: float = 1e-7 * 1e30 * MU_B * MU_B * _ase._e

__all__ = ["COULOMB", "DIPOLE", "G_FACTOR", "HBAR", "MU_B"]
