"""Structures scattered about a crystal."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from deepspin_ase.build import perturbed
from deepspin_ase.spins import get_spins, set_spins


def iron() -> Atoms:
    atoms = bulk("Fe", cubic=True, a=2.85) * (2, 2, 2)
    set_spins(atoms, np.tile([0.0, 0.0, 2.2], (16, 1)))
    return atoms


def test_amplitudes_are_kept():
    atoms = iron()
    found = perturbed(atoms, 40, displacement=0.1, strain=0.02, length=0.1, seed=1)
    assert len(found) == 40
    inverse = np.linalg.inv(atoms.cell.array)
    for structure in found:
        deformation = inverse @ structure.cell.array - np.eye(3)
        assert np.abs(deformation).max() <= 0.02
        assert np.allclose(deformation, deformation.T)
        lengths = np.linalg.norm(get_spins(structure), axis=1)
        assert (np.abs(lengths / 2.2 - 1.0) <= 0.1).all()
        home = atoms.get_scaled_positions() @ structure.cell.array
        assert np.abs(structure.positions - home).max() < 0.1 * 5.0
    # Some are near the crystal, some far from it.
    rms = [
        np.std(s.positions - atoms.get_scaled_positions() @ s.cell.array) for s in found
    ]
    assert min(rms) < 0.02 and 0.07 < max(rms) < 0.11


def test_spin_states():
    canted, _, spiral, anywhere = perturbed(
        iron(), 4, displacement=0.0, strain=0.0, length=0.0, seed=2
    )
    order = [
        np.linalg.norm(get_spins(s).mean(axis=0)) / 2.2 for s in (canted, anywhere)
    ]
    assert order[0] > 0.7 and order[1] < 0.6
    # A spiral turns by the same angle between atoms that lie one vector apart.
    spins = get_spins(spiral).reshape(2, 2, 2, 2, 3) / 2.2
    cosines = (spins[:, 0] * spins[:, 1]).sum(axis=-1)
    assert np.ptp(cosines) < 1e-9 and not np.allclose(cosines, 1.0)


@pytest.mark.parametrize("argument", ["displacement", "strain", "length"])
def test_bad_input(argument):
    with pytest.raises(ValueError, match=argument):
        perturbed(iron(), 2, **{argument: -0.1})
    with pytest.raises(ValueError, match="no moments"):
        perturbed(Atoms("Fe", magmoms=[0.0]), 2)


def test_seeds_and_directions_that_are_not_periodic():
    slab = iron()
    slab.pbc = (True, True, False)
    first, second = (perturbed(slab, 3, seed=5) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.positions == b.positions).all()
        assert (get_spins(a) == get_spins(b)).all()
        assert a.cell.array[2] == pytest.approx(slab.cell.array[2])
