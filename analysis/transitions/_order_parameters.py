"""Order parameters of the lattice, as observables of phase diagrams.

Each is a function of Atoms that returns a number, and plain data, so that it travels to
other processes and a run that was stopped knows it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from ..ferroic import octahedral_tilts, polarization

#: amu/A^3 in g/cm^3.
_G_PER_CM3 = 1e27 / units.kg


@dataclass(frozen=True)
class Density:
    """Mass density, g/cm^3."""

    def __call__(self, atoms: Atoms) -> float:
        return float(_G_PER_CM3 * atoms.get_masses().sum() / atoms.get_volume())


@dataclass(frozen=True)
class Volume:
    """Volume per atom, A^3."""

    def __call__(self, atoms: Atoms) -> float:
        return float(atoms.get_volume() / len(atoms))


@dataclass(frozen=True, eq=False)
class PolarDisplacement:
    """Mean displacement of an element against all other atoms, A.

    Its length; ferroelectric displacements have one, rattling atoms hardly any.

    Attributes
    ----------
    reference : Atoms
        The same atoms on the sites of a structure that is not polar. Displacements are
        those of the fractional coordinates.
    element : str
    """

    reference: Atoms
    element: str

    def __call__(self, atoms: Atoms) -> float:
        chosen = np.array(atoms.get_chemical_symbols()) == self.element
        if not chosen.any() or chosen.all():
            raise ValueError(
                f"a displacement of {self.element} needs its atoms and others, got "
                f"{atoms.get_chemical_formula()}"
            )
        moved = atoms.get_scaled_positions(wrap=False)
        moved -= self.reference.get_scaled_positions(wrap=False)
        moved -= np.rint(moved)
        step = moved[chosen].mean(axis=0) - moved[~chosen].mean(axis=0)
        return float(np.linalg.norm(step @ atoms.cell.array))


@dataclass(frozen=True, eq=False)
class ElectricPolarization:
    """Length of the polarization from Born charges, uC/cm^2.

    Attributes
    ----------
    reference : Atoms
        The same atoms where P = 0; see :func:`~deepspin_ase.analysis.polarization`.
    born_charges : {element: charge}, e
    """

    reference: Atoms
    born_charges: Mapping[str, float]

    def __call__(self, atoms: Atoms) -> float:
        found = polarization(atoms, self.born_charges, reference=self.reference)
        return float(np.linalg.norm(found.uC_per_cm2[0]))


@dataclass(frozen=True)
class OctahedralTilt:
    """Angle of the mean rotation of octahedra with a wave vector, degrees.

    Attributes
    ----------
    b, anion : str
        Elements in the middle and at the corners.
    q : (float, float, float)
        See :meth:`~deepspin_ase.analysis.ferroic.OctahedralTilts.mode`.
    """

    b: str
    anion: str = "O"
    q: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __call__(self, atoms: Atoms) -> float:
        tilts = octahedral_tilts(atoms, b=self.b, anion=self.anion)
        return float(np.linalg.norm(tilts.mode(self.q)))
