"""ASE calculators of other makes, with the physics of ours behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from deepspin_ase import DeepSpinCalculator


class Foreign(Calculator):
    """A calculator that is not ours: no Potential inside, no per-atom energies.

    Parameters
    ----------
    model : Potential or str
    properties : sequence of str
        All that it gives.
    """

    def __init__(
        self,
        model: Any,
        properties: Sequence[str] = ("energy", "forces", "magnetic_forces"),
    ) -> None:
        super().__init__()
        self.implemented_properties = list(properties)
        self.inner = DeepSpinCalculator(model)
        self.n_calls = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        self.results = {
            name: self.inner.get_property(name, self.atoms)
            for name in self.implemented_properties
        }
