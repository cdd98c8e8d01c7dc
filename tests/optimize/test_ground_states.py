"""Search of magnetic orders, against Hamiltonians whose ground states are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from structures import A_NIO

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    get_spins,
    set_spins,
)
from deepspin_ase.optimize import (
    relax,
    relax_batch,
    relax_spins,
    search_magnetic_orders,
)
from deepspin_ase.potentials import CubicAnisotropy, Heisenberg, Shells
from deepspin_ase.spins import unit_vector
from deepspin_ase.symmetry import OrderEquivalence, collinear_patterns

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
    atoms = bulk("NiO", "rocksalt", A_NIO)
    atoms.calc = DeepSpinCalculator("NiO")
    found = search_magnetic_orders(
        atoms, moments={"Ni": 1.277}, supercell=2, n_random=0, steps=1
    )
    lowest = found[0]
    assert lowest.net_moment == pytest.approx(0.0, abs=1e-6)
    e = get_spins(lowest.atoms)[:, 2] / 1.277
    nickel = lowest.atoms.numbers == 28
    distances = lowest.atoms.get_all_distances(mic=True)
    second = np.isclose(distances, A_NIO, atol=1e-3) & np.outer(nickel, nickel)
    assert second.any()
    np.testing.assert_allclose(np.outer(e, e)[second], -1.0)
    # Also where the four wave vectors (1/2 1/2 1/2) are mixed: bilinear exchange
    # cannot tell, but no symmetry relates the two.
    assert found[1].relative_meV_per_atom == pytest.approx(0.0, abs=1e-3)
    waves = {_largest_wave(state.atoms) for state in found[:2]}
    assert waves == {0.5, 1.0}
    assert found[2].relative_meV_per_atom > 5.0
    assert lowest.magnetic_group != "-"
    assert max(found, key=lambda state: state.net_moment).start == "+" * 8
    assert not atoms.has("initial_magmoms")


Q = (np.array([1, 1, 1]), np.array([-1, 1, 1]), np.array([1, -1, 1]), (1, 1, -1))


def _largest_wave(atoms: Atoms) -> float:
    """Largest share of the nickel moments along z in one wave (1/2 1/2 1/2)."""
    nickel = atoms[atoms.numbers == 28]
    e = get_spins(nickel)[:, 2] / 1.277
    waves = [np.cos(np.pi * nickel.positions @ q / A_NIO) @ e for q in Q]
    return round(float(np.abs(waves).max()) / len(e), 6)


def test_nickel_oxide_keeps_its_wave_vector() -> None:
    """Of four, which exchange through oxygen cannot tell: from hot spins and sites."""
    atoms = bulk("NiO", "rocksalt", A_NIO, cubic=True).repeat(2)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=A_NIO, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": 1.277}, pattern=order)
    cant_spins(atoms, 0.3, seed=2)  # by 45 degrees
    atoms.rattle(0.03, seed=2)
    atoms.calc = DeepSpinCalculator("NiO")
    assert relax(atoms, fmax=0.02, torque_max=1e-4).converged
    nickel = atoms[atoms.numbers == 28]
    waves = np.cos(np.pi * nickel.positions @ np.transpose(Q) / A_NIO)
    shares = np.linalg.norm(waves.T @ get_spins(nickel), axis=1) / (32 * 1.277)
    np.testing.assert_allclose(shares, [1.0, 0.0, 0.0, 0.0], atol=0.02)


@pytest.mark.parametrize("supercell", [2, (2, 2, 4)])
def test_domains_of_an_antiferromagnet_are_one_order(supercell: Any) -> None:
    """Four wave vectors, any direction in the easy plane, either sign."""
    crystal = bulk("NiO", "rocksalt", A_NIO).repeat(supercell)
    calc = DeepSpinCalculator("NiO")
    tolerance = 1e-5 * len(crystal)
    same = OrderEquivalence(crystal, calc, tolerance=tolerance)

    def order(q: Any, direction: Any) -> Atoms:
        atoms = crystal.copy()
        wave = antiferromagnetic(0.5 * np.array(q), cell=A_NIO, direction=direction)
        set_spins(atoms, {"Ni": 1.277}, pattern=wave)
        atoms.calc = DeepSpinCalculator("NiO")
        return atoms

    first = order((1, 1, 1), (1, 1, -2))
    domains = [
        order((1, 1, 1), (1, -1, 0)),
        order((1, 1, 1), (-1, -1, 2)),
        order((-1, 1, 1), (1, 1, 0)),
        order((-1, 1, 1), (2, 1, 1)),
        order((1, -1, 1), (1, 2, 1)),
        order((1, 1, -1), (3, -1, 2)),
    ]
    assert all(same(first, domain) for domain in domains)
    assert not same(first, order((0, 0, 2), (1, 1, -2)))
    # Along (111) the energy is 0.2 meV higher per moment: another order by tolerance.
    assert not same(first, order((1, 1, 1), (1, 1, 1)))
    mixed = first.copy()
    waves = np.cos(np.pi * crystal.positions @ np.transpose(Q) / A_NIO)
    signs = waves @ [0.5, 0.5, 0.5, -0.5]  # +-1
    pattern = signs[:, None] * unit_vector((1, 1, -2))
    set_spins(mixed, {"Ni": 1.277}, pattern=pattern)
    assert not same(first, mixed)


@pytest.mark.parametrize(("c", "one"), [(A, True), (1.1 * A, False)])
def test_equal_energies_are_no_symmetry(c: float, one: bool) -> None:
    """Cubic anisotropy: along x or z are one order on a cube, not on a prism."""
    states = []
    for direction in ("x", "z"):
        atoms = Atoms("Fe", cell=[A, A, c], pbc=True)
        set_spins(atoms, [unit_vector(direction) * 2.0])
        atoms.calc = DeepSpinCalculator(CubicAnisotropy(1e-3))
        states.append(atoms)
    energies = [atoms.get_potential_energy() for atoms in states]
    assert energies[0] == pytest.approx(energies[1], abs=1e-12)
    same = OrderEquivalence(states[0], states[0].calc, tolerance=1e-5)
    assert same(*states) is one


def test_displaced_atoms_tell_orders_apart() -> None:
    """An atom moved up or down is one order, moved along a diagonal another."""
    crystal = Atoms(
        "BaFe", cell=[4.0] * 3, pbc=True, scaled_positions=[(0, 0, 0), (0.5,) * 3]
    )
    set_spins(crystal, [0.0, 2.0])
    crystal.calc = DeepSpinCalculator(Heisenberg(Shells([(4.0, 0.01)])))
    states = []
    for move in ((0, 0, 0.3), (0, 0, -0.3), (0.3, 0, 0), (0.3, 0.3, 0)):
        atoms = crystal.copy()
        atoms.positions[1] += move
        atoms.positions += 0.7
        atoms.calc = crystal.calc
        states.append(atoms)
    crystal.rattle(0.01, seed=1)
    same = OrderEquivalence(crystal, crystal.calc, tolerance=1e-5, displaced=True)
    assert [same(states[0], state) for state in states] == [True, True, True, False]
    strained = states[0].copy()
    strained.set_cell([4.0, 4.0, 4.4], scale_atoms=True)
    assert not same(states[0], strained)


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
    atoms = bulk("NiO", "rocksalt", A_NIO).repeat((1, 1, 2))
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
    assert repr(found) == "<MagneticOrders: 14 orders from 14 starts>"


def test_bad_input() -> None:
    atoms = simple_cubic(0.01, 0.0)
    with pytest.raises(ValueError, match="n_random must be a whole number >= 1"):
        search_magnetic_orders(atoms, n_collinear=0, n_random=0)
    with pytest.raises(ValueError, match="supercell"):
        search_magnetic_orders(atoms, supercell=(2, 2.5, 1))
    with pytest.raises(ValueError, match="supercell"):
        search_magnetic_orders(atoms, supercell=0)
    with pytest.raises(ValueError, match="'Ni'"):
        search_magnetic_orders(atoms, moments={"Ni": 2.0})
    with pytest.raises(TypeError, match="n_random must be"):
        search_magnetic_orders(atoms, n_random=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="energy_tolerance_meV must be"):
        search_magnetic_orders(atoms, energy_tolerance_meV=-1.0)
    set_spins(atoms, [0.0])
    with pytest.raises(ValueError, match="all moments are zero"):
        search_magnetic_orders(atoms)
    atoms.calc = None
    with pytest.raises(ValueError, match="calculator"):
        search_magnetic_orders(atoms)
    images = [simple_cubic(0.01, 0.0) for _ in range(2)]
    with pytest.raises(ValueError, match="share a calculator"):
        relax_batch(images)


def test_structures_are_relaxed_once() -> None:
    atoms = bulk("Fe", a=2.87)
    set_spins(atoms, {"Fe": 2.3})
    for images in ([], [atoms, atoms]):
        with pytest.raises(ValueError, match="each of them once"):
            relax_batch(images)


def test_only_atoms_are_searched() -> None:
    with pytest.raises(TypeError, match=r"expected ase\.Atoms"):
        search_magnetic_orders("Fe")  # type: ignore[arg-type]
    atoms = simple_cubic(0.01, 0.0)
    atoms.positions[0, 0] = np.nan
    with pytest.raises(ValueError, match="position of atom 0 is not finite"):
        search_magnetic_orders(atoms)


@pytest.mark.parametrize("reduced_temperature", [0.3, 3.0])
def test_canted_moments_of_the_shipped_model_find_its_order(
    reduced_temperature: float,
) -> None:
    """No other order of 64 moments is below type II, which the data have."""
    a = 4.1857
    cell = make_supercell(bulk("NiO", "rocksalt", a), [[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    atoms = cell.repeat((4, 4, 2))
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=a, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": 1.277}, pattern=order)
    atoms.calc = DeepSpinCalculator("NiO")
    ordered = atoms.get_potential_energy()
    cant_spins(atoms, reduced_temperature, seed=1)
    relax_spins(atoms, steps=400)
    found = 1e3 * (atoms.get_potential_energy() - ordered) / len(atoms)
    assert abs(found) < 0.02  # meV/atom; within the easy plane directions differ less
