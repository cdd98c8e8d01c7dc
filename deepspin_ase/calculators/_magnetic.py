"""Common base of the ASE calculators of atoms with moments."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.data import chemical_symbols
from ase.outputs import Properties, all_outputs
from typing_extensions import Self

from ..potentials import Potential
from ..spins import get_spins


class MagneticCalculator(Calculator):
    """A calculator whose results include magnetic forces.

    Moments are an input, so that results are kept while charges change.
    """

    ignored_changes = {"initial_charges"}  # noqa: RUF012 - as ASE declares it

    @property
    def potential(self) -> Potential:
        """The Potential whose results these are."""
        raise NotImplementedError

    def __copy__(self) -> Self:
        """Return a calculator that shares the model, with separate results."""
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        copied.parameters = copy.copy(self.parameters)
        copied.results = dict(self.results)
        return copied

    def set_atoms(self, atoms: Atoms) -> None:
        """Refuse unknown elements already at ``atoms.calc = calculator``."""
        known = self.potential.species
        unknown = sorted({*atoms.numbers.tolist()} - known) if known else []
        if unknown:
            raise ValueError(
                "the potential does not know the element "
                f"{_symbols(unknown)}; it knows {_symbols(sorted(known or ()))}"
            )

    def get_magnetic_forces(self, atoms: Atoms) -> np.ndarray:
        """Return -dE/dm at fixed positions and cell, (N, 3), eV/mu_B."""
        return self.get_property("magnetic_forces", atoms)

    def get_torques(self, atoms: Atoms) -> np.ndarray:
        """Return m x (-dE/dm), (N, 3), eV."""
        return self.get_property("torques", atoms)

    def get_magnetic_moments(self, atoms: Atoms | None = None) -> np.ndarray:
        """Return the moments (N, 3), mu_B, which are an input: those of the atoms."""
        return get_spins(self.atoms if atoms is None else atoms)

    def get_magnetic_moment(self, atoms: Atoms | None = None) -> np.ndarray:
        """Return the sum of the moments, (3,), mu_B."""
        return self.get_magnetic_moments(atoms).sum(axis=0)

    def export_properties(self) -> Properties:
        """Return those results that ASE has a name for (``atoms.get_properties``)."""
        return Properties({k: v for k, v in self.results.items() if k in all_outputs})


def check_finite(results: dict[str, Any]) -> None:
    """Raise CalculationFailed if a result is not finite."""
    for name, values in results.items():
        if not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values))
            raise CalculationFailed(
                f"the potential gives a {name} that is not finite"
                + (f" (index {tuple(bad[0].tolist())})" if bad.size else "")
                + "; the structure may be far outside its range"
            )


def _symbols(numbers: Sequence[int]) -> str:
    return ", ".join(chemical_symbols[z] for z in numbers)
