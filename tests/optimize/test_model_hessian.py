"""Model Hessians of the preconditioner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from deepspin_ase import get_spins, set_spins
from deepspin_ase.optimize._model_hessian import (
    LatticeStiffness,
    LengthStiffness,
    RotationStiffness,
)


def alloy(repeat: Any = (2, 1, 1)) -> Atoms:
    """Two magnetic elements and one without moments, at random."""
    rng = np.random.default_rng(0)
    atoms = bulk("NiO", "rocksalt", 4.2).repeat(repeat)
    atoms.symbols[0] = "Fe"
    directions = rng.normal(size=(len(atoms), 3))
    set_spins(atoms, {"Ni": 1.2, "Fe": 2.2}, pattern=directions)
    atoms.rattle(0.05, seed=3)
    return atoms


def models(atoms: Atoms) -> list[Any]:
    """Return a model Hessian of every kind."""
    free = np.ones((3, 3))
    return [
        LatticeStiffness(atoms, positions=True, cell_mask=None),
        LatticeStiffness(atoms, positions=True, cell_mask=free),
        LatticeStiffness(atoms, positions=False, cell_mask=free),
        RotationStiffness(atoms),
        LengthStiffness(atoms),
    ]


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("repeat", [(2, 1, 1), (2, 2, 1)])
def test_columns_add_up_to_the_matrix(kind: int, repeat: Any) -> None:
    atoms = alloy(repeat)
    model = models(atoms)[kind]
    rng = np.random.default_rng(1)
    coefficients = rng.uniform(size=len(model.guess))
    matrix = model.matrix(coefficients).toarray()
    step = rng.normal(size=len(matrix))
    if kind in (1, 2):  # strains are symmetric
        strain = step[-9:].reshape(3, 3)
        step[-9:] = (strain + strain.T).ravel() / 2
    if kind == 3:  # turns are across the moments
        spins = get_spins(atoms)
        turns = np.cross(spins, step.reshape(-1, 3))
        turns[~spins.any(axis=1)] = 0.0
        step = turns.ravel()
    np.testing.assert_allclose(
        model.columns(step) @ coefficients, matrix @ step, atol=1e-10
    )
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-10


def test_springs_are_those_of_the_bonds() -> None:
    """The energy of a chain of two springs, and none for a common shift."""
    atoms = Atoms("Fe2", positions=[[0, 0, 0], [2.0, 0, 0]])
    model = LatticeStiffness(atoms, positions=True, cell_mask=None)
    coefficients = np.zeros_like(model.guess)
    coefficients[0] = 3.0  # along the nearest bond
    coefficients[-1] = 0.5  # on each atom
    matrix = model.matrix(coefficients).toarray()
    np.testing.assert_allclose(matrix[::3, ::3], [[3.5, -3.0], [-3.0, 3.5]])
    np.testing.assert_allclose(matrix[1::3, 1::3], [[0.5, 0.0], [0.0, 0.5]])
