"""Model of an analysis: an argument, or the calculator of the atoms."""

from __future__ import annotations

import os
from typing import TypeAlias

from ase import Atoms
from ase.calculators.calculator import Calculator

from ..calculators import DeepSpinCalculator
from ..potentials import Potential, PotentialOf

#: As for :class:`~deepspin_ase.DeepSpinCalculator`, or such a calculator, or another
#: one of ASE's that gives magnetic forces.
Model: TypeAlias = Potential | Calculator | str | os.PathLike[str]
#: What it comes down to.
Given: TypeAlias = Potential | DeepSpinCalculator | str | os.PathLike[str]


def model_of(atoms: Atoms, model: Model | None) -> Given:
    """Return ``model``, or the calculator of ``atoms`` where it is None.

    Calculators other than DeepSpinCalculator come as Potentials.

    Raises
    ------
    TypeError
        If the first argument is not Atoms.
    ValueError
        If there is neither a model nor a calculator, or it gives no magnetic forces.
    """
    if not isinstance(atoms, Atoms):
        raise TypeError(
            f"expected ase.Atoms as first argument, got {type(atoms).__name__}; a "
            "model is given as model="
        )
    if model is None:
        if atoms.calc is None:
            raise ValueError(
                "there is no model: set atoms.calc = DeepSpinCalculator(...), or give "
                "model="
            )
        model = atoms.calc
    if isinstance(model, Potential | DeepSpinCalculator | str | os.PathLike):
        return model
    return PotentialOf(model)
