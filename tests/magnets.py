"""Disturbed magnets that several tests relax."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, cant_spins, set_spins
from deepspin_ase.potentials.materials.reference import fe


def iron(n: int = 2, *, rattle: float = 0.05) -> Atoms:
    """bcc iron, rattled and canted, with lengths of moments that scatter."""
    atoms = bulk("Fe", a=2.8665, cubic=True).repeat(n)
    lengths = 2.36 * np.random.default_rng(3).uniform(0.95, 1.05, len(atoms))
    set_spins(atoms, lengths)
    cant_spins(atoms, 0.03, seed=2)
    atoms.rattle(rattle, seed=1)
    atoms.calc = DeepSpinCalculator(fe())
    return atoms


def nickel_oxide(repeat: Any = (2, 2, 2), model: Any = "NiO") -> Atoms:
    """NiO in AFM-II order, rattled and canted; oxygen carries no moment."""
    atoms = bulk("NiO", "rocksalt", 4.2166).repeat(repeat)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.2166, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": 1.277}, pattern=order)
    cant_spins(atoms, 0.03, seed=2)
    atoms.rattle(0.03, seed=1)
    atoms.calc = DeepSpinCalculator(model)
    return atoms
