"""Warren-Cowley parameters and local environments."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from deepspin_ase import set_spins
from deepspin_ase.analysis import local_environments, short_range_order
from deepspin_ase.build import random_alloy
from deepspin_ase.units import MU_B

#: First and second shell of bcc iron, A.
SHELLS = (2.0, 2.7, 3.2)


def test_order_of_cesium_chloride() -> None:
    """All nearest neighbors are of the other kind, all second ones of the same."""
    b2 = bulk("FeAl", "cesiumchloride", a=2.87).repeat(3)
    found = short_range_order(b2, SHELLS)
    np.testing.assert_allclose(found.alpha[0], [[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(found.alpha[1], [[-1.0, 1.0], [1.0, -1.0]])
    assert found.elements == ["Al", "Fe"]


def test_random_alloys_have_none() -> None:
    host = bulk("Fe", cubic=True).repeat(6)
    found = short_range_order(
        [random_alloy(host, {"Cr": 0.25}, seed=s) for s in range(20)], SHELLS
    )
    # A fixed number of atoms leaves -1/(N - 1).
    assert (abs(found.alpha) < 5 * found.error + 0.01).all()
    np.testing.assert_allclose(found.shares, [0.25, 0.75])


def test_sublattice() -> None:
    host = bulk("NiO", "rocksalt", a=4.2, cubic=True).repeat(2)
    alloy = random_alloy(host, {"Mg": 0.5}, sublattice="Ni", seed=1)
    found = short_range_order(alloy, (2.5, 3.5), elements=("Ni", "Mg"))
    assert found.elements == ["Ni", "Mg"]
    assert found.alpha.shape == (1, 2, 2)
    assert np.isnan(found.error).all()


def test_what_cannot_be() -> None:
    iron = bulk("Fe", cubic=True)
    with pytest.raises(ValueError, match="between two or more elements, got Fe"):
        short_range_order(iron, SHELLS)
    with pytest.raises(ValueError, match="ascending distances"):
        short_range_order(iron, (2.7,))
    with pytest.raises(ValueError, match="holds no Co"):
        short_range_order(iron, SHELLS, elements=("Fe", "Co"))


def test_moments_and_fields_by_neighbors() -> None:
    """One cobalt: its eight neighbors have one, all others none."""
    alloy = bulk("Fe", cubic=True).repeat(3)
    alloy.symbols[0] = "Co"
    near = alloy.get_distances(0, range(54), mic=True) < 2.7
    lengths = np.where(near, 2.6, 2.2)
    lengths[0] = 1.8
    set_spins(alloy, lengths, pattern=np.tile([0.0, 0.6, 0.8], (54, 1)))
    forces = np.tile([0.0, 0.6, 0.8], (54, 1)) * np.where(near, 0.02, 0.01)[:, None]
    alloy.calc = SinglePointCalculator(alloy)
    alloy.calc.results["magnetic_forces"] = forces
    found = local_environments(alloy, "Fe", "Co", 2.7)
    assert found.counts.tolist() == [0, 1]
    assert found.n_atoms.tolist() == [45, 8]
    np.testing.assert_allclose(found.moment[:, 0], [2.2, 2.6])
    np.testing.assert_allclose(found.field_T[:, 0], [0.01 / MU_B, 0.02 / MU_B])
    assert found.plot().get_xlabel() == "Co neighbors"


def test_without_magnetic_forces_there_is_no_field() -> None:
    alloy = bulk("FeCo", "cesiumchloride", a=2.85)
    set_spins(alloy, {"Fe": 2.8, "Co": 1.8})
    found = local_environments(alloy, "Fe", "Co", 2.7)
    assert found.counts.tolist() == [8]
    assert np.isnan(found.field_T[0, 0])
