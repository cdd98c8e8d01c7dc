"""Structures with the calculator of a model."""

from __future__ import annotations

from ase import Atoms

from ..._validate import require_calculator
from ...calculators import DeepSpinCalculator
from .._model import Model, model_of


def with_calculator(atoms: Atoms, model: Model | None) -> Atoms:
    """Return a copy of ``atoms`` whose calculator is that of the model.

    Raises
    ------
    ValueError
        If there is neither a model nor a calculator, or it gives no magnetic forces.
    """
    given = model_of(atoms, model)
    image = atoms.copy()
    image.calc = (
        given if isinstance(given, DeepSpinCalculator) else DeepSpinCalculator(given)
    )
    require_calculator(image, "magnetic_forces")
    return image
