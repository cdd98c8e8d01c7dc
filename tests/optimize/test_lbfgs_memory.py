"""Curvature pairs and the two-loop recursion."""

from __future__ import annotations

import numpy as np

from deepspin_ase.optimize._lbfgs_memory import LBFGSMemory


def test_conjugate_pairs_give_the_inverse() -> None:
    """Pairs along all eigenvectors of A: whatever the first guess, A^-1 comes out."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = (axes * rng.uniform(0.1, 10.0, 6)) @ axes.T
    memory = LBFGSMemory()
    for axis in axes.T:
        assert memory.update(axis.reshape(2, 3), (matrix @ axis).reshape(2, 3))
    forces = rng.normal(size=(2, 3))
    step = memory.direction(forces, lambda x: 0.3 * x)
    np.testing.assert_allclose(
        step.ravel(), np.linalg.solve(matrix, forces.ravel()), rtol=1e-10
    )
    np.testing.assert_allclose(
        LBFGSMemory().direction(forces, lambda x: 0.3 * x), 0.3 * forces
    )


def test_no_pair_of_negative_curvature() -> None:
    memory = LBFGSMemory(2)
    step = np.array([[1.0, 0.0, 0.0]])
    assert not memory.update(step, -step)
    assert not memory.update(step, np.roll(step, 1, axis=1))
    for k in range(1, 4):
        assert memory.update(step, k * step)
    assert [float(y[0, 0]) for _, y in memory.pairs] == [2.0, 3.0]
    memory.transport(lambda pairs: -pairs)
    assert [float(y[0, 0]) for _, y in memory.pairs] == [-2.0, -3.0]
    memory.clear()
    assert not memory.pairs
