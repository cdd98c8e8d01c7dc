"""Preconditioner of joint relaxation, where structures are far from any minimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.optimize import relax_batch
from deepspin_ase.optimize._model_hessian import (
    LatticeStiffness,
    LengthStiffness,
    RotationStiffness,
)
from deepspin_ase.optimize._preconditioner import _Block, _Inverse
from deepspin_ase.potentials import Landau


def antiferromagnet() -> Atoms:
    atoms = bulk("Fe", "bcc", 2.83, cubic=True)
    set_spins(atoms, np.outer([1.0, -1.0], [0.0, 0.0, 2.2]))
    return atoms


def block(kind: str) -> _Block:
    """Return the model Hessian of one kind of coordinates."""
    atoms = antiferromagnet()
    models: dict[str, Any] = {
        "lattice": lambda: LatticeStiffness(atoms, positions=True, cell_mask=None),
        "rotations": lambda: RotationStiffness(atoms),
        "lengths": lambda: LengthStiffness(atoms),
    }
    n = 2 if kind == "lengths" else 6
    return _Block(models[kind](), np.arange(n), np.ones(n))


@pytest.mark.parametrize("kind", ["lattice", "rotations", "lengths"])
def test_steps_stay_finite_and_downhill(kind: str) -> None:
    """Whatever changes of the gradient were: huge, tiny, concave, not finite."""
    rng = np.random.default_rng(0)
    for trial in range(60):
        own = block(kind)
        n = len(own.rows)
        for _ in range(6):
            step = rng.normal(size=n) * 10.0 ** rng.uniform(-12, 6)
            change = rng.normal(size=n) * 10.0 ** rng.uniform(-30, 120)
            if trial % 5 == 0 and rng.random() < 0.3:
                change[0] = rng.choice([np.nan, np.inf])
            own.update(step, change)
            force = rng.normal(size=n)
            found = own.solve(np.ones(n, dtype=bool), force)
            assert np.isfinite(found).all()
            assert force @ found > 0.0


def test_concave_steps_for_ever() -> None:
    """Each scales the guess down, until it underflows."""
    own = block("lengths")
    for _ in range(100):
        own.update(np.array([1.0, 0.0]), np.array([-1e-12, 0.0]))
    own.update(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert np.isfinite(own.solve(np.ones(2, dtype=bool), np.ones(2))).all()


@pytest.mark.parametrize("coupling", [1.0, 1.001, 1.5])
def test_singular_matrices_are_solved(coupling: float) -> None:
    """Also those that are indefinite, as sums of large terms are in round-off."""
    matrix = sp.csr_array(np.array([[1.0, -coupling], [-coupling, 1.0]]))
    right = np.array([1.0, 0.5])
    found = _Inverse(matrix)(right)
    assert np.isfinite(found).all()
    assert right @ found > 0.0


def test_a_runaway_does_not_stop_the_others() -> None:
    """Lengths without a bound in one structure, a minimum in the other."""
    images = [antiferromagnet(), antiferromagnet()]
    set_spins(images[0], 3.0 * get_spins(images[0]))
    # E = -0.5 m^2 + 0.05 m^4 - 0.001 m^6: a minimum at 2.60, unbound beyond 5.16 mu_B.
    calculator = DeepSpinCalculator(Landau([-0.5, 0.05, -0.001]))
    for image in images:
        image.calc = calculator
    runaway, bound = relax_batch(
        images, fmax=1e-3, steps=40, spins=False, magnitudes=True, progress=False
    )
    assert not runaway.converged
    assert bound.converged
    slope = np.polynomial.Polynomial([-1.0, 0.0, 0.2, 0.0, -0.006])
    length = np.linalg.norm(get_spins(images[1]), axis=1)
    np.testing.assert_allclose(slope(length), 0.0, atol=2e-3)
