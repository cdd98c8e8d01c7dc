"""Labels from a model, or any ASE calculator with magnetic forces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
)

from .._digest import digest
from .._validate import require_calculator
from .._version import __version__
from ..calculators import DeepSpinCalculator
from ..data import Frame
from ..potentials import load_potential
from ..potentials._files import identifying_data
from ._engine import ENGINES, Engine, LabelError


class CalculatorEngine(Engine):
    """Labels from an ASE calculator with magnetic forces, such as a teacher model.

    Parameters
    ----------
    calculator : Calculator or callable
        A calculator, or a function that returns one. The function is called for every
        structure, so that labels do not depend on those made before, not even in the
        last bit.
    name : str, optional
        Of the code, for the provenance; by default that of the class.
    """

    def __init__(
        self,
        calculator: Calculator | Callable[[], Calculator],
        *,
        name: str | None = None,
    ) -> None:
        self._given = calculator
        self.name = name

    @property
    def calculator(self) -> Calculator:
        """The calculator, or a new one."""
        given = self._given
        return given if isinstance(given, Calculator) else given()

    def label(self, atoms: Atoms, folder: Path) -> Frame:
        """Return the labels that the calculator gives; see :meth:`Engine.label`.

        Raises
        ------
        ValueError
            If the calculator does not know magnetic forces, or the elements.
        """
        atoms = atoms.copy()
        atoms.calc = self.calculator
        require_calculator(atoms, "energy", "forces", "magnetic_forces")
        try:
            for name in ("energy", "forces", "magnetic_forces"):
                atoms.calc.get_property(name, atoms)
            if atoms.pbc.all():
                try:
                    atoms.get_stress()
                except (NotImplementedError, PropertyNotImplementedError):
                    pass
        except CalculationFailed as error:
            raise LabelError(str(error)) from error
        return Frame.from_atoms(atoms)

    def provenance(self) -> dict[str, Any]:
        """Return the name of the calculator; see :meth:`Engine.provenance`."""
        return {
            "code": self.name or type(self.calculator).__name__,
            "version": __version__,
            "moments": "as given to the calculator",
        }


class ModelEngine(CalculatorEngine):
    """Labels from a model, as a teacher or for tests.

    Parameters
    ----------
    model : str or Path
        Model file, or name of a shipped model.
    """

    def __init__(self, model: str | Path) -> None:
        self.model = str(model)
        potential = load_potential(self.model)
        self.digest = digest(identifying_data(potential))
        super().__init__(partial(DeepSpinCalculator, potential))

    def provenance(self) -> dict[str, Any]:
        """Return the model and a digest of it; see :meth:`Engine.provenance`."""
        return super().provenance() | {
            "code": "deepspin-ase",
            "model": Path(self.model).name,
            "digest": self.digest,
        }


def _from_settings(settings: Mapping[str, Any]) -> ModelEngine:
    unknown = sorted(settings.keys() - {"model"})
    if unknown or "model" not in settings:
        raise ValueError(
            f"a model as an engine takes the key 'model' only, got {sorted(settings)}"
        )
    return ModelEngine(settings["model"])


ENGINES["model"] = _from_settings
