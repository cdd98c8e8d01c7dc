"""Search of magnetic orders, against Hamiltonians whose ground states are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.optimize import relax_together, search_magnetic_orders
from deepspin_ase.optimize.patterns import collinear_patterns
from deepspin_ase.optimize.symmetry import magnetic_group
from deepspin_ase.potentials import Heisenberg, Shells

A = 3.0


def simple_cubic(j1: float, j2: float) -> Atoms:
    """One atom of a simple cubic crystal with J1 and J2."""
    atoms = Atoms("Fe", cell=[A] * 3, pbc=True)
    set_spins(atoms, [2.0])
    shells = Shells([(A, j1), (np.sqrt(2) * A, j2)])
    atoms.calc = DeepSpinCalculator(Heisenberg(shells))
    return atoms


@pytest.mark.parametrize(
    ("j1", "j2", "energy"),
    [
        (0.01, 0.001, -3 * 0.01 - 6 * 0.001),  # ferromagnet
        (-0.01, 0.001, -3 * 0.01 - 6 * 0.001),  # G type
        (-0.01, -0.004, -0.01 - 2 * 0.004),  # C type, |J2| > |J1|/4
    ],
)
def test_simple_cubic(j1: float, j2: float, energy: float) -> None:
    """Lowest energy of J1-J2 on the cube: +-3 J1 - 6 J2, or J1 + 2 J2 (columns)."""
    found = search_magnetic_orders(
        simple_cubic(j1, j2), supercell=2, n_random=3, torque_max=1e-6
    )
    lowest = found[0]
    assert lowest.converged
    assert lowest.energy / 8 == pytest.approx(energy, abs=1e-8)
    assert lowest.count >= 2  # a collinear start and random ones
    assert lowest.net_moment == pytest.approx(2.0 if j1 > 0 else 0.0, abs=1e-3)
    energies = [state.energy for state in found]
    assert energies == sorted(energies)
    assert sum(state.count for state in found) == found.n_starts


def test_triangular_lattice() -> None:
    """The antiferromagnet on triangles turns by 120 degrees; flat, one layer."""
    atoms = Atoms(
        "Mn",
        cell=[(A, 0, 0), (-A / 2, np.sqrt(3) / 2 * A, 0), (0, 0, 0)],
        pbc=(1, 1, 0),
    )
    set_spins(atoms, [3.0])
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(A, -0.01)])))
    found = search_magnetic_orders(
        atoms, supercell=(3, 3, 1), n_collinear=3, n_random=4, torque_max=1e-7
    )
    lowest = found[0]
    assert lowest.energy / 9 == pytest.approx(-1.5 * 0.01, abs=1e-9)
    assert lowest.start.startswith("random")
    assert lowest.count == 4
    assert lowest.net_moment == pytest.approx(0.0, abs=1e-6)
    e = get_spins(lowest.atoms) / 3.0
    distances = lowest.atoms.get_all_distances(mic=True)
    near = np.isclose(distances, A)
    np.testing.assert_allclose((e @ e.T)[near], -0.5, atol=1e-3)


def test_nickel_oxide() -> None:
    """AFM-II is the lowest collinear order of the shipped network."""
    atoms = bulk("NiO", "rocksalt", 4.2166)
    atoms.calc = DeepSpinCalculator("NiO")
    found = search_magnetic_orders(
        atoms, moments={"Ni": 1.277}, supercell=2, n_random=0, steps=1
    )
    lowest = found[0]
    assert lowest.net_moment == pytest.approx(0.0, abs=1e-6)
    e = get_spins(lowest.atoms)[:, 2] / 1.277
    nickel = lowest.atoms.numbers == 28
    distances = lowest.atoms.get_all_distances(mic=True)
    second = np.isclose(distances, 4.2166, atol=1e-3) & np.outer(nickel, nickel)
    assert second.any()
    np.testing.assert_allclose(np.outer(e, e)[second], -1.0)
    assert found[1].relative_meV_per_atom > 5.0
    assert lowest.magnetic_group != "-"
    assert max(found, key=lambda state: state.net_moment).start == "+" * 8
    assert not atoms.has("initial_magmoms")


def test_patterns_are_distinct_and_complete() -> None:
    """Ising energies of J1-J2-J3 tell all patterns of a 2 x 2 x 2 cube apart."""
    atoms = simple_cubic(0.0, 0.0).repeat(2)
    patterns = collinear_patterns(atoms, np.arange(8), most=1000)
    assert (patterns[0] == 1).all()
    parity = np.rint(atoms.positions / A).astype(int)
    distance = np.abs(parity[:, None] - parity[None]).sum(axis=2)
    shells = np.stack([distance == k for k in (1, 2, 3)])

    def energies(signs: np.ndarray) -> tuple[int, ...]:
        pairs = np.outer(signs, signs).astype(int)
        return tuple((shells * pairs).sum(axis=(1, 2)).tolist())

    every = {
        energies(np.array([1 - 2 * ((n >> k) & 1) for k in range(8)]))
        for n in range(256)
    }
    assert {energies(signs) for signs in patterns} == every
    assert len(patterns) == 14  # two-colourings of a cube up to symmetry and reversal


def test_patterns_of_a_large_cell() -> None:
    """Waves, where there are too many patterns to look through."""
    atoms = simple_cubic(0.0, 0.0).repeat(4)
    patterns = collinear_patterns(atoms, np.arange(64), most=8)
    assert len(patterns) == 8
    assert (patterns[0] == 1).all()
    steps = np.rint(atoms.positions / A).astype(int)
    checkerboard = 1 - 2 * (steps.sum(axis=1) % 2)
    assert any((signs == checkerboard).all() for signs in patterns)


def test_lattice_follows() -> None:
    """With positions=True the atoms relax with the moments."""
    atoms = bulk("NiO", "rocksalt", 4.2166).repeat((1, 1, 2))
    atoms.rattle(0.02, seed=1)
    atoms.calc = DeepSpinCalculator("NiO")
    found = search_magnetic_orders(
        atoms, moments={"Ni": 1.277}, n_random=1, positions=True, torque_max=1e-3
    )
    for state in found:
        assert state.converged
        assert abs(state.atoms.get_forces()).max() < 0.01
    assert found[0].net_moment < 0.01


def test_table() -> None:
    found = search_magnetic_orders(simple_cubic(0.01, 0.0), supercell=2, n_random=0)
    lines = str(found).splitlines()
    assert len(lines) == 2 + len(found) == 2 + 14
    assert "++++++++" in lines[2]
    assert len(found.table(3).splitlines()) == 5
    assert repr(found) == "<GroundStates: 14 orders from 14 starts>"


@pytest.mark.parametrize(
    ("moments", "bns"),
    [
        ([(0, 0, 2.0), (0, 0, 2.0)], "139.537"),  # I4/mm'm', bcc iron
        ([(0, 0, 2.0), (0, 0, -2.0)], "124.360"),  # antiferromagnetic bcc
    ],
)
def test_magnetic_group(moments: Any, bns: str) -> None:
    atoms = bulk("Fe", cubic=True)
    set_spins(atoms, moments)
    number, label = magnetic_group(atoms)
    assert number > 0
    assert label == bns if bns.startswith("139") else label != "-"


def test_bad_input() -> None:
    atoms = simple_cubic(0.01, 0.0)
    with pytest.raises(ValueError, match="n_collinear"):
        search_magnetic_orders(atoms, n_collinear=0, n_random=0)
    with pytest.raises(ValueError, match="supercell"):
        search_magnetic_orders(atoms, supercell=(2, 2.5, 1))
    with pytest.raises(ValueError, match="supercell"):
        search_magnetic_orders(atoms, supercell=0)
    with pytest.raises(ValueError, match="'Ni'"):
        search_magnetic_orders(atoms, moments={"Ni": 2.0})
    set_spins(atoms, [0.0])
    with pytest.raises(ValueError, match="all moments are zero"):
        search_magnetic_orders(atoms)
    atoms.calc = None
    with pytest.raises(ValueError, match="calculator"):
        search_magnetic_orders(atoms)
    images = [simple_cubic(0.01, 0.0) for _ in range(2)]
    with pytest.raises(ValueError, match="share a calculator"):
        relax_together(images)


def test_structures_are_relaxed_once() -> None:
    atoms = bulk("Fe", a=2.87)
    set_spins(atoms, {"Fe": 2.3})
    for images in ([], [atoms, atoms]):
        with pytest.raises(ValueError, match="each of them once"):
            relax_together(images)


def test_only_atoms_are_searched() -> None:
    with pytest.raises(TypeError, match="expected Atoms"):
        search_magnetic_orders("Fe")  # type: ignore[arg-type]
