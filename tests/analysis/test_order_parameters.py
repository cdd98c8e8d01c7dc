"""Order parameters of the lattice that phase diagrams average."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from deepspin_ase.analysis import octahedral_tilts, polarization
from deepspin_ase.analysis.transitions import (
    Density,
    ElectricPolarization,
    OctahedralTilt,
    PolarDisplacement,
)


def perovskite() -> Atoms:
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("BaTiO3", scaled_positions=sites, cell=[4.0] * 3, pbc=True)


def test_density_of_iron() -> None:
    assert Density()(bulk("Fe", a=2.8665)) == pytest.approx(7.874, rel=1e-3)


def test_polar_displacements_follow_the_cell_and_forget_origin_and_image() -> None:
    atoms = perovskite()
    moved = atoms.copy()
    moved.positions[1] += (0.0, 0.0, 0.1)
    moved.positions += 0.3
    moved.wrap()
    found = PolarDisplacement(atoms, "Ti")(moved)
    assert found == pytest.approx(0.1)
    moved.set_cell([4.0, 4.0, 4.4], scale_atoms=True)
    assert PolarDisplacement(atoms, "Ti")(moved) == pytest.approx(0.11)
    with pytest.raises(ValueError, match="needs its atoms and others"):
        PolarDisplacement(atoms, "Pb")(moved)


def test_polarization_and_tilts_are_those_of_the_functions() -> None:
    atoms = perovskite().repeat(2)
    charges = {"Ba": 2.0, "Ti": 4.0, "O": -2.0}
    moved = atoms.copy()
    moved.rattle(0.05, seed=1)
    expected = polarization(moved, charges, reference=atoms).magnitudes[0] * 100
    found = ElectricPolarization(atoms, charges)(moved)
    assert found == pytest.approx(expected)
    mode = octahedral_tilts(moved, b="Ti").mode()
    assert OctahedralTilt("Ti")(moved) == pytest.approx(np.linalg.norm(mode))
