"""Model of an analysis: an argument, or the calculator of the atoms."""

from __future__ import annotations

import os
from typing import TypeAlias

from ase import Atoms

from ..calculators import DeepSpinCalculator
from ..potentials import Potential

#: As for :class:`~deepspin_ase.DeepSpinCalculator`, or such a calculator.
Model: TypeAlias = Potential | DeepSpinCalculator | str | os.PathLike[str]


def model_of(atoms: Atoms, model: Model | None) -> Model:
    """Return ``model``, or the calculator of ``atoms`` where it is None.

    Raises
    ------
    TypeError
        If the first argument is not Atoms.
    ValueError
        If there is neither a model nor a DeepSpinCalculator.
    """
    if not isinstance(atoms, Atoms):
        raise TypeError(
            f"expected ase.Atoms as first argument, got {type(atoms).__name__}; a "
            "model is given as model="
        )
    if model is not None:
        return model
    if not isinstance(atoms.calc, DeepSpinCalculator):
        raise ValueError(
            "there is no model: set atoms.calc = DeepSpinCalculator(...), or give "
            "model="
        )
    return atoms.calc
