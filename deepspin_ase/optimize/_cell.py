"""Cell coordinates: the logarithm of the deformation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from scipy.linalg import expm_frechet

from .._strain import exponential, logarithm, symmetric
from ..calculators._magnetic import MagneticCalculator


class Deformation:
    r"""The deformation F of a cell since it was first seen, x -> F x.

    F = exp(U) with U symmetric: the crystal does not rotate against the moments.
    With W = -dE/dstrain in full (eV), and not only its symmetric part, which ASE's
    stress is, dE = -W : dF F^-1. W is not symmetric where torques act; with a
    calculator that gives the stress alone the gradient misses a part of the order
    of U times the total torque, which is zero at a minimum.

    Parameters
    ----------
    atoms : Atoms
    mask : (6,) or (3, 3) booleans, optional
        Components of U that are free, in Voigt order xx, yy, zz, yz, xz, xy.
    pressure : float
        eV/A^3.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        mask: Sequence[Any] | np.ndarray | None = None,
        pressure: float = 0.0,
    ) -> None:
        self.atoms = atoms
        self.mask = _mask(mask)
        self.pressure = pressure
        self._first = atoms.cell.array.copy()

    def gradient(self) -> np.ndarray:
        """Return F, (3, 3)."""
        return symmetric(np.linalg.solve(self._first, self.atoms.cell.array))

    def get(self) -> np.ndarray:
        """Return U, (3, 3)."""
        return logarithm(self.gradient())

    def set(self, strain: np.ndarray) -> None:
        """Deform cell and positions to U = ``strain``, (3, 3)."""
        deform = exponential(self.free(strain))
        self.atoms.set_cell(self._first @ deform, scale_atoms=True)

    def free(self, matrix: np.ndarray) -> np.ndarray:
        """Return the symmetric part of ``matrix`` in its free components."""
        return self.mask * symmetric(matrix)

    def stress(self) -> np.ndarray:
        """Return the symmetric stress that should vanish, (3, 3), eV/A^3."""
        stress = self.atoms.get_stress(voigt=False)
        return self.mask * (stress + self.pressure * np.eye(3))

    def forces(self) -> np.ndarray:
        """Return -dE/dU, (3, 3), eV."""
        atoms, calc = self.atoms, self.atoms.calc
        volume = atoms.get_volume()
        virial = -volume * (atoms.get_stress(voigt=False) + self.pressure * np.eye(3))
        magnetic = isinstance(calc, MagneticCalculator)
        if magnetic and "virial" in calc.implemented_properties:
            full = calc.get_property("virial", atoms)
            virial += 0.5 * (full - full.T)
        deform = self.gradient()
        along = np.linalg.solve(deform, virial.T).T  # W F^-T
        return self.free(expm_frechet(self.get(), along, compute_expm=False))


def _mask(mask: Sequence[Any] | np.ndarray | None) -> np.ndarray:
    try:
        free = np.ones(6) if mask is None else np.asarray(mask, dtype=float)
    except (TypeError, ValueError):
        free = np.zeros(0)
    if free.shape == (6,):
        free = voigt_6_to_full_3x3_stress(free)
    fits = free.shape == (3, 3) and np.isin(free, (0, 1)).all()
    if not fits or (free != free.T).any():
        raise ValueError(
            "cell_mask must be six booleans (xx, yy, zz, yz, xz, xy) or a symmetric "
            f"(3, 3) array of them, got {mask}"
        )
    return free
