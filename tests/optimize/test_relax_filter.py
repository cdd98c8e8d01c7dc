"""The filter through which ASE's optimizers move atoms, moments and cell."""

from __future__ import annotations

from typing import Any

import ase.optimize
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize.precon import PreconLBFGS
from ase.optimize.sciopt import SciPyFminCG
from structures import iron, nickel_oxide

from deepspin_ase import get_spins
from deepspin_ase.optimize import SpinLatticeFilter
from deepspin_ase.potentials.materials.reference import nio


@pytest.mark.parametrize("mask", [None, (1, 1, 0, 0, 0, 1)])
def test_gradient_of_everything(mask: Any) -> None:
    """Forces against differences, in a strained cell with turned moments."""
    atoms = nickel_oxide()
    coordinates = SpinLatticeFilter(
        atoms, cell=True, magnitudes=True, pressure_GPa=20.0, cell_mask=mask
    )
    rng = np.random.default_rng(5)
    size = {"positions": 0.02, "cell": 0.1, "spins": 0.5, "magnitudes": 0.02}
    x = coordinates.get_positions()
    for name, block in coordinates.blocks.items():
        x[block] += size[name] * rng.normal(size=x[block].shape)
    coordinates.set_positions(x)
    x = coordinates.get_positions()
    forces = coordinates.get_forces()
    for name, block in coordinates.blocks.items():
        v = np.zeros_like(x)
        v[block] = rng.normal(size=v[block].shape)
        ends = []
        for sign in (1, -1):
            coordinates.set_positions(x + sign * 1e-4 * v)
            ends.append(coordinates.get_potential_energy())
        difference = -(ends[0] - ends[1]) / 2e-4
        assert np.sum(forces * v) == pytest.approx(difference, rel=2e-5, abs=1e-6), name
        coordinates.set_positions(x)


def test_cell_coordinates_are_those_of_ase() -> None:
    """Without torques the cell's part is ASE's FrechetCellFilter."""
    atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    theirs = FrechetCellFilter(atoms, exp_cell_factor=3.0, scalar_pressure=0.01)
    ours = SpinLatticeFilter(
        atoms, cell=True, spins=False, cell_scale=3.0, pressure_GPa=1.602176634
    )
    x = ours.get_positions()
    strain = np.random.default_rng(2).normal(size=(3, 3))
    x[-3:] += 0.1 * (strain + strain.T)
    ours.set_positions(x)
    np.testing.assert_allclose(ours.get_positions(), x, atol=1e-12)
    offset = np.zeros_like(x)  # theirs starts at ln(N)
    offset[-3:] = 3.0 * np.log(len(atoms)) * np.eye(3)
    np.testing.assert_allclose(theirs.get_positions(), x + offset, atol=1e-12)
    expected = theirs.get_forces()
    expected[-3:] = 0.5 * (expected[-3:] + expected[-3:].T)
    np.testing.assert_allclose(ours.get_forces(), expected, atol=1e-7)


def test_moments_may_turn_all_the_way_round() -> None:
    """No axis is singular, and lengths do not drift."""
    atoms = iron()
    before = np.linalg.norm(get_spins(atoms), axis=1)
    coordinates = SpinLatticeFilter(atoms, positions=False)
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(len(atoms), 3))
    turn *= coordinates.spin_scale * 0.5 / np.linalg.norm(turn, axis=1, keepdims=True)
    x = coordinates.get_positions()
    for _ in range(30):  # 15 rad
        x = x + turn
        coordinates.set_positions(x)
        np.testing.assert_allclose(coordinates.get_positions(), x, atol=1e-12)
    forces = coordinates.get_forces()
    v = rng.normal(size=x.shape)
    ends = []
    for sign in (1, -1):
        coordinates.set_positions(x + sign * 1e-4 * v)
        ends.append(coordinates.get_potential_energy())
    assert -(ends[0] - ends[1]) / 2e-4 == pytest.approx(np.sum(forces * v), rel=1e-5)
    after = np.linalg.norm(get_spins(atoms), axis=1)
    np.testing.assert_allclose(after, before, rtol=1e-13)


OPTIMIZERS = {
    name: getattr(ase.optimize, name) for name in ("BFGS", "LBFGS", "BFGSLineSearch")
}
SLOW_OPTIMIZERS = {
    name: getattr(ase.optimize, name)
    for name in (
        "LBFGSLineSearch",
        "FIRE",
        "FIRE2",
        "MDMin",
        "GoodOldQuasiNewton",
        "ODE12r",
    )
} | {
    "GPMin": ase.optimize.GPMin,
    "RestartedBFGS": ase.optimize.BFGS,
    "SciPyFminCG": SciPyFminCG,
    "PreconLBFGS": lambda coordinates, **k: PreconLBFGS(coordinates, precon=None, **k),
}


def check_optimizer(optimizer: Any) -> None:
    atoms = nickel_oxide(model=nio())
    coordinates = SpinLatticeFilter(atoms, cell=True, torque_max=1e-3, stress_max=2e-3)
    assert optimizer(coordinates, logfile=None).run(fmax=0.05, steps=500)
    left = coordinates.residuals()
    assert left["force"] <= 0.05
    assert left["torque"] <= 1e-3
    assert left["stress"] <= 2e-3
    lengths = np.linalg.norm(get_spins(atoms), axis=1)
    np.testing.assert_allclose(lengths, 1.277 * (atoms.numbers == 28), rtol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_ase_optimizers(optimizer: Any) -> None:
    check_optimizer(optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", SLOW_OPTIMIZERS.values(), ids=SLOW_OPTIMIZERS)
def test_more_ase_optimizers(optimizer: Any) -> None:
    check_optimizer(optimizer)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cell_mask": (1, 1, 1, 0, 0, 0)}, ValueError, "without cell=True"),
        ({"pressure_GPa": 1.0}, ValueError, "without cell=True"),
        ({"spin_scale": "wide"}, TypeError, "spin_scale must be a number"),
        ({"torque_max": -1.0}, ValueError, "torque_max must be finite and > 0"),
    ],
)
def test_options_that_do_not_fit(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SpinLatticeFilter(iron(), **options)


@pytest.mark.parametrize("what", ["iron.extxyz", None, [1, 2]])
def test_only_atoms_are_filtered(what: Any) -> None:
    with pytest.raises(TypeError, match=r"expected ase\.Atoms"):
        SpinLatticeFilter(what)
