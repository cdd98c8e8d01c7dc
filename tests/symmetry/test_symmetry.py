"""Groups, stars and supercells of crystals and magnetic orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, get_spins, set_spins
from deepspin_ase.optimize import search_magnetic_orders
from deepspin_ase.potentials import Heisenberg, Shells
from deepspin_ase.symmetry import magnetic_space_group, star
from deepspin_ase.symmetry._groups import symmetric_supercell


def nickel_oxide(n: int, noise: float = 0.0) -> Atoms:
    """NiO in AFM-II order along [11-2], with moments that scatter, mu_B."""
    atoms = bulk("NiO", "rocksalt", 4.17).repeat(n)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.17, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": 1.9}, pattern=order)
    spins, nickel = get_spins(atoms), atoms.numbers == 28
    spins[nickel] += noise * np.random.default_rng(0).normal(size=(nickel.sum(), 3))
    set_spins(atoms, spins)
    return atoms


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
def test_search_and_analysis_name_one_group(noise: float) -> None:
    """Whatever the scatter of the moments, both use the same tolerance."""
    atoms = nickel_oxide(2, noise)
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(4.17 / np.sqrt(2), 0.01)])))
    orders = search_magnetic_orders(
        atoms, direction=(1, 1, -2), n_random=0, steps=1, progress=False
    )
    for order in orders:
        try:
            found = magnetic_space_group(order.atoms)
        except ValueError as error:
            assert "finds no magnetic space group" in str(error)
            assert (order.magnetic_group, order.uni_number) == ("-", 0)
        else:
            named = (order.magnetic_group, order.uni_number)
            assert named == (found.bns_number, found.uni_number)


@pytest.mark.parametrize("angle", [0.0, 31.0])
def test_supercell_with_all_rotations(angle: float) -> None:
    """Two primitive cells in a row need four times as many to be cubic again."""
    crystal = bulk("NiO", "rocksalt", 4.17).repeat((2, 1, 1))
    crystal.rotate(angle, (1, 2, 3), rotate_cell=True)
    whole = symmetric_supercell(crystal)
    assert len(whole) == 16
    cell = bulk("NiO", "rocksalt", 4.17).cell.array * 2
    assert abs(np.linalg.det(whole.cell)) == pytest.approx(abs(np.linalg.det(cell)))


def test_magnetic_space_groups() -> None:
    """BNS numbers of NiO: 15.90 for [11-2] (as measured), 167.108 for [111]."""
    atoms = nickel_oxide(2)
    q = (0.5, 0.5, 0.5)
    for direction, number, kind in (
        ((1, 1, -2), "15.90", 4),
        ((1, 1, 1), "167.108", 4),
    ):
        order = antiferromagnetic(q, cell=4.17, direction=direction)
        set_spins(atoms, {"Ni": 1.9}, pattern=order)
        found = magnetic_space_group(atoms)
        assert (found.bns_number, found.type) == (number, kind)
        assert found.crystal == "Fm-3m (225)"
        assert number in str(found)
    iron = bulk("Fe", cubic=True)
    set_spins(iron, {"Fe": 2.2})
    found = magnetic_space_group(iron)
    assert found.bns_number == "139.537"  # I4/mm'm'
    # Every operation maps the moments onto themselves.
    spins, lattice = get_spins(iron), iron.cell.array
    for rotation, reversal in zip(found.rotations, found.time_reversals, strict=True):
        cartesian = lattice.T @ rotation @ np.linalg.inv(lattice.T)
        axial = np.linalg.det(cartesian) * (-1.0 if reversal else 1.0)
        assert axial * cartesian @ spins[0] == pytest.approx(spins[0])
    set_spins(iron, np.zeros(2))
    assert magnetic_space_group(iron).type == 2
    iron.pbc = False
    with pytest.raises(ValueError, match="three directions"):
        magnetic_space_group(iron)


@pytest.mark.parametrize(
    ("moments", "bns"),
    [
        ([(0, 0, 2.0), (0, 0, 2.0)], "139.537"),  # I4/mm'm', bcc iron
        ([(0, 0, 2.0), (0, 0, -2.0)], "128.410"),  # P_I 4/mnc, antiferromagnet
    ],
)
def test_magnetic_group(moments: Any, bns: str) -> None:
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, moments)
    assert magnetic_space_group(atoms).bns_number == bns


def test_domains_of_an_order() -> None:
    """Four axes of AFM-II, in cells with and without their symmetry."""
    for cubic_cell in (True, False):
        nio = bulk("NiO", "rocksalt", 4.178, cubic=cubic_cell)
        q = (0.5, 0.5, 0.5)
        arms = star(nio, q)
        assert len(arms) == 4
        cartesian = arms @ nio.cell.reciprocal().array
        lengths = np.linalg.norm(cartesian, axis=1)
        np.testing.assert_allclose(lengths, lengths[0])
        np.testing.assert_allclose(arms[0], q)
    assert len(star(nio, (0, 0, 0))) == 1
    hexagonal = bulk("Co", "hcp", a=2.5, c=4.0)
    assert len(star(hexagonal, (0.5, 0.0, 0.0))) == 3
