"""Lists of bonds: energies, supercells, symmetry, drivers, magnons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, make_supercell
from structures import triclinic

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import (
    SpinLatticeNEB,
    SpinWaves,
    exchange_tensors,
    hysteresis,
    interpolate,
)
from deepspin_ase.analysis.exchange import ExchangeTensors
from deepspin_ase.dynamics import MonteCarlo, SpinDynamics
from deepspin_ase.optimize import relax, relax_spins
from deepspin_ase.potentials import (
    Biquadratic,
    BondHamiltonian,
    CubicAnisotropy,
    CubicCut,
    DzyaloshinskiiMoriya,
    Harmonic,
    Heisenberg,
    Shells,
    Sum,
    UniaxialAnisotropy,
    load_potential,
    save_potential,
)
from deepspin_ase.system import System
from deepspin_ase.testing import check_potential
from deepspin_ase.units import G_FACTOR, MU_B

AXIS = np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0)


def cell() -> Atoms:
    """Return two Fe, a Ni and an O without a moment."""
    places = [[0, 0, 0], [0.45, 0.5, 0.1], [0.1, 0.4, 0.6], [0.6, 0.1, 0.55]]
    vectors = [[4, 0, 0], [0.5, 4.4, 0], [0, 0.3, 5]]
    atoms = Atoms("Fe2NiO", cell=vectors, scaled_positions=places, pbc=True)
    moments = np.random.default_rng(0).normal(size=(4, 3))
    moments[3] = 0.0
    set_spins(atoms, moments)
    return atoms


BONDS = (
    [0, 0, 1, 2, 2],
    [1, 2, 2, 2, 0],
    [(0, 0, 0), (0, 0, 1), (0, -1, 0), (1, 0, 0), (1, 1, 0)],
)


def model(atoms: Atoms | None = None, **terms: bool) -> BondHamiltonian:
    """Return random bonds, with the terms that are asked for."""
    random = np.random.default_rng(1)
    atoms = cell() if atoms is None else atoms
    here = np.array([1.0, 1.0, 1.0, 0.0])
    turn = np.linalg.qr(random.normal(size=(4, 3, 3)))[0]
    onsite = random.normal(size=(4, 3, 3)) * here[:, None, None]
    values = {
        "dm": random.normal(size=(5, 3)),
        "biquadratic": random.normal(size=5),
        "slopes": random.normal(size=(5, 3, 3)),
        "onsite": 0.5 * (onsite + onsite.transpose(0, 2, 1)),
        "cubic": random.normal(size=(4, 2)) * here[:, None],
        "fields": random.normal(size=(4, 3)) * here[:, None],
    }
    given = {name: 0.01 * values[name] for name in terms}
    if "cubic" in terms:
        given["cubic_axes"] = turn
    return BondHamiltonian(atoms, *BONDS, 0.01 * random.normal(size=(5, 3, 3)), **given)


def random_state(atoms: Atoms, seed: int = 0) -> Atoms:
    """Return a copy with moments of the same lengths in random directions."""
    new = atoms.copy()
    e = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    set_spins(new, np.linalg.norm(get_spins(atoms), axis=1)[:, None] * e)
    return new


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"dm": True, "onsite": True, "cubic": True},
        {"slopes": True, "fields": True},
        {"biquadratic": True, "slopes": True, "onsite": True, "cubic": True},
    ],
    ids=lambda terms: "-".join(terms) or "bilinear",
)
def test_contract_of_potentials(terms):
    """Derivatives, batches, order and place of the atoms."""
    displaced = cell()
    displaced.rattle(0.05, seed=1)
    symmetries = () if "fields" in terms else ("time_reversal",)
    check_potential(model(**terms), displaced, symmetries=symmetries)


def test_isotropic_exchange_has_the_symmetry_of_spins():
    bare = BondHamiltonian(cell(), *BONDS, np.arange(5.0))
    symmetries = ("time_reversal", "spin_rotation")
    check_potential(bare, cell(), symmetries=symmetries)


def test_a_single_moment_and_a_pair():
    """Energies and precession from their formulas."""
    one = Atoms("Fe", positions=[[0, 0, 0]], cell=[9, 9, 9])
    e, h = np.array([0.6, 0.0, 0.8]), np.array([0.001, -0.002, 0.003])
    set_spins(one, [2.0 * e])
    A = 0.004 * np.outer(AXIS, AXIS)
    none = np.zeros((0, 3), dtype=int)
    own = BondHamiltonian(
        one, [], [], none, [], onsite=[A], fields=[h], cubic=[(0.005, 0.007)]
    )
    squares = e**2
    cubic = 0.005 * (squares[0] * squares[2])
    expected = -0.004 * (AXIS @ e) ** 2 - h @ e + cubic
    assert own.energy(one) == pytest.approx(expected, abs=1e-15)

    pair = Atoms("Fe2", positions=[[0, 0, 0], [2, 0, 0]], cell=[9, 9, 9])
    m, J = np.array([2.0, 3.0]), 0.01
    set_spins(pair, [[m[0], 0, 0], [0, m[1], 0]])
    pair.calc = DeepSpinCalculator(BondHamiltonian(pair, [0], [1], [(0, 0, 0)], [J]))
    assert pair.get_potential_energy() == pytest.approx(0.0, abs=1e-15)
    forces = pair.calc.get_property("magnetic_forces", pair)
    assert forces == pytest.approx(np.array([[0, J / m[0], 0], [J / m[1], 0, 0]]))
    # Both precess about m1 + m2 with the field J |m1 + m2| / (m1 m2).
    total = np.linalg.norm(m)
    period = 2 * np.pi * units._hbar * units.J / (G_FACTOR * J * total / m.prod())
    period *= units.s
    steps = 400
    driver = SpinDynamics(pair, period / steps, damping=0.0, progress=False)
    driver.run(steps)
    assert get_spins(pair) == pytest.approx(np.diag([*m, 0.0])[:2], abs=2e-4)


def test_energies_are_those_of_terms():
    """Bonds made of distances: the same energies as terms of distance."""
    atoms = bulk("Fe", "bcc", a=2.87)
    set_spins(atoms, {"Fe": 2.2})
    near, far = 2.87 * np.sqrt(0.75), 2.87
    steps = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
    more = np.array([(1, 1, 0), (1, 0, 1), (0, 1, 1)])
    shift = np.concatenate([steps, more])
    J = np.array([0.01] * 4 + [0.003] * 3)
    vectors = shift @ atoms.cell.array
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    D = np.where(np.arange(7)[:, None] < 4, 0.002 * unit, 0.0)
    B = np.where(np.arange(7) < 4, 0.0015, 0.0)
    zeros = np.zeros(7, dtype=int)
    bonds = BondHamiltonian(
        atoms,
        zeros,
        zeros,
        shift,
        J,
        dm=D,
        biquadratic=B,
        onsite=[0.001 * np.outer(AXIS, AXIS)],
        cubic=[(0.002, -0.001)],
    )
    terms = Sum(
        [
            Heisenberg(Shells([(near, 0.01), (far, 0.003)])),
            DzyaloshinskiiMoriya(Shells([(near, 0.002)])),
            Biquadratic(Shells([(near, 0.0015)])),
            UniaxialAnisotropy(0.001, AXIS),
            CubicAnisotropy(0.002, -0.001),
        ]
    )
    big = random_state(atoms.repeat((3, 2, 4)))
    system = System.from_atoms(big)
    found, expected = bonds.evaluate(system), terms.evaluate(system)
    assert found.energy == pytest.approx(expected.energy, abs=1e-13)
    forces = found.magnetic_forces, expected.magnetic_forces
    torch.testing.assert_close(*forces, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize(
    "size", [2, (2, 1, 3), ((1, 1, 0), (0, 2, 0), (0, -1, 1))], ids=str
)
def test_supercells(size):
    """The Hamiltonian of a supercell, made beforehand or found by evaluation."""
    own = model(dm=True, onsite=True, biquadratic=True, cubic=True, fields=True)
    large = own.repeat(size)
    state = random_state(large.atoms, seed=3)
    assert large.energy(state) == pytest.approx(own.energy(state), abs=1e-14)
    copies = len(large.atoms) // 4
    assert large.energy(large.atoms) == pytest.approx(copies * own.energy(cell()))
    # Another order of the atoms, and a drift of the whole crystal.
    order = np.random.default_rng(0).permutation(len(state))
    moved = state[order]
    moved.positions += [0.3, 1.4, -0.7]
    moved.wrap()
    assert own.energy(moved) == pytest.approx(own.energy(state), abs=1e-14)


def test_open_ends_vacancies_and_foreign_atoms():
    chain = bulk("Fe", "sc", a=2.5)
    set_spins(chain, {"Fe": 2.0})
    own = BondHamiltonian(chain, [0], [0], [(1, 0, 0)], [0.01])
    ring = chain.repeat((6, 1, 1))
    assert own.energy(ring) == pytest.approx(-0.06)
    ring.pbc = (False, True, True)
    ring.center(vacuum=5.0, axis=0)
    assert own.energy(ring) == pytest.approx(-0.05)
    ring = chain.repeat((6, 1, 1))
    del ring[2]
    assert own.energy(ring) == pytest.approx(-0.04)
    ring = chain.repeat((6, 1, 1))
    ring.symbols[2] = "Mg"
    with pytest.raises(ValueError, match="Mg carries a moment"):
        own.energy(ring)
    moments = get_spins(ring)
    moments[2] = 0.0
    set_spins(ring, moments)
    assert own.energy(ring) == pytest.approx(-0.04)
    assert len(own.on(ring).i) == 8


def test_strain_of_large_cells():
    """Thermal expansion by more than half a cell does not confuse the sites."""
    atoms = bulk("Fe", "bcc", a=2.87, cubic=True)
    set_spins(atoms, {"Fe": 2.2})
    own = BondHamiltonian(atoms, [0], [1], [(0, 0, 0)], [0.01])
    large = random_state(atoms.repeat(12))
    energy = own.energy(large)
    large.set_cell(1.06 * large.cell.array, scale_atoms=True)
    large.rattle(0.1, seed=0)
    assert own.energy(large) == pytest.approx(energy, abs=1e-12)


def test_alloys():
    """Vacancies by shares, counts that fit, species that saved models keep."""
    pair = Atoms("FeCo", positions=np.zeros((2, 3)), cell=3 * [2.5], pbc=True)
    set_spins(pair, [2.0, 1.0])
    table = [0, 0, 1, 1], [0, 1, 0, 1], 4 * [(1, 0, 0)], [0.01, 0.02, 0.02, 0.04]
    alloy = BondHamiltonian(pair, *table, shares=[0.5, 0.25])
    drawn = alloy.disordered(alloy.parent.repeat(4), seed=1)
    assert drawn.get_chemical_formula() == "Co16Fe32"
    again = BondHamiltonian(**alloy.arguments())
    assert again.energy(drawn) == alloy.energy(drawn) != 0
    assert again.shares == pytest.approx([0.5, 0.25])
    with pytest.raises(ValueError, match="add up to 1 at most"):
        alloy.changed(shares=[0.8, 0.3])
    with pytest.raises(ValueError, match="nearest share that fits"):
        alloy.disordered(alloy.parent.repeat((2, 1, 1)))
    twins = pair.copy()
    twins.symbols[1] = "Fe"
    with pytest.raises(ValueError, match="two sites of one element share the place"):
        BondHamiltonian(twins, *table)


def test_other_crystals_are_refused():
    own = model()
    foreign = bulk("Fe", "bcc", a=2.87, cubic=True)
    set_spins(foreign, {"Fe": 2.2})
    with pytest.raises(ValueError, match="not a supercell of the exchange table"):
        own.energy(foreign)
    other = bulk("Cu", "fcc", a=3.6)
    set_spins(other, [[0, 0, 0]])
    with pytest.raises(ValueError, match="none of the atoms"):
        own.energy(other)
    shuffled = cell()
    shuffled.positions[[0, 1]] += [[0, 0, 0], [1.2, 1.2, 0]]
    with pytest.raises(ValueError, match=r"atom . is .* A from the nearest"):
        own.energy(shuffled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"i": [0, 0, 1, 2, 7]}, r"bond 7-0 \(1, 1, 0\) joins a site that does not"),
        ({"shift": [(0, 0, 0)] * 5}, "joins site 2 with itself"),
        ({"tensors": np.ones((4, 3, 3))}, r"tensors must have shape \(5, 3, 3\)"),
        ({"tensors": np.full(5, np.nan)}, "tensors must be finite"),
        ({"shift": np.full((5, 3), 0.5)}, "shift must be whole numbers"),
        ({"onsite": np.ones((3, 3, 3))}, "onsite must have shape"),
        (
            {
                "i": [0, 0, 1, 2, 0],
                "j": [1, 1, 2, 2, 1],
                "shift": [(0, 0, 0)] * 2 + [(0, -1, 0), (1, 0, 0), (0, 0, 2)],
            },
            r"bond 0-1 \(0, 0, 0\) is listed 2 times with different numbers",
        ),
        (
            {
                "i": [0, 1, 1, 2, 2],
                "j": [1, 0, 2, 2, 0],
                "shift": [(0, 0, 0)] * 2 + [(0, -1, 0), (1, 0, 0), (0, 0, 2)],
            },
            r"bond 0-1 \(0, 0, 0\) has other numbers from its other end",
        ),
        ({"cubic_axes": np.ones((4, 3, 3))}, "cubic_axes must be orthogonal"),
    ],
)
def test_bad_tables(change, message):
    names = ("i", "j", "shift")
    given = dict(zip(names, BONDS, strict=True)) | {"tensors": np.arange(5.0)}
    with pytest.raises(ValueError, match=message):
        BondHamiltonian(cell(), **given | change)


def test_bonds_out_of_open_directions_are_refused():
    slab = cell()
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="leaves the cell in a direction that is not"):
        model(slab)
    with pytest.raises(ValueError, match="repeats a direction that is not periodic"):
        BondHamiltonian(slab, [0], [1], [(0, 0, 0)], [1.0]).repeat((1, 1, 2))


def test_one_end_is_enough():
    own = model(dm=True, biquadratic=True)
    assert own.one_sided == 5
    both = own.changed()
    assert both.one_sided == 0
    state = random_state(cell())
    assert both.energy(state) == pytest.approx(own.energy(state), abs=1e-16)


def test_couplings_of_moments():
    """E = -J m1.m2 with moments of different lengths."""
    pair = Atoms("Fe2", positions=[[0, 0, 0], [2, 0, 0]], cell=[9, 9, 9])
    set_spins(pair, [[0, 0, 2.0], [0, 1.8, 2.4]])
    J, field = 0.01, np.array([0.0, 0.0, 3.0])
    own = BondHamiltonian(
        pair,
        [0],
        [1],
        [(0, 0, 0)],
        [J],
        fields=np.tile(MU_B * field, (2, 1)),
        per_moment=True,
    )
    first, second = get_spins(pair)
    expected = -J * first @ second - MU_B * (first + second) @ field
    assert own.energy(pair) == pytest.approx(expected, abs=1e-15)


def test_files_and_copies(tmp_path):
    own = model(dm=True, onsite=True, biquadratic=True, cubic=True, slopes=True)
    save_potential(tmp_path / "model.pt", own)
    back = load_potential(tmp_path / "model.pt")
    state = random_state(cell().repeat((2, 1, 1)))
    state.rattle(0.05, seed=2)
    assert back.energy(state) == own.energy(state)


# Symmetry


def altermagnet(J: float, strong: float, weak: float) -> BondHamiltonian:
    """Return a square lattice with two sublattices whose bonds of one length differ."""
    # Oxygen is on the edges along x of the first sublattice only.
    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0]]
    atoms = Atoms("Fe2O", cell=[4, 4, 9], scaled_positions=places, pbc=(1, 1, 0))
    set_spins(atoms, [[0, 0, 2.0], [0, 0, -2.0], [0, 0, 0]])
    i = [0, 0, 0, 0, 0, 0, 1, 1]
    j = [1, 1, 1, 1, 0, 0, 1, 1]
    shift = [(0, 0, 0), (-1, 0, 0), (0, -1, 0), (-1, -1, 0)]
    shift += [(1, 0, 0), (0, 1, 0)] * 2
    return BondHamiltonian(atoms, i, j, shift, [-J] * 4 + [strong, weak, weak, strong])


def test_altermagnet():
    """Bonds of equal length that differ split the magnons of both sublattices."""
    J, strong, weak = 0.01, 0.004, 0.001
    own = altermagnet(J, strong, weak)
    equal = own.distances[own.i == own.j]
    assert np.ptp(equal) < 1e-12
    waves = SpinWaves.from_exchange(ExchangeTensors.from_potential(own))
    k = np.array([[0.1, 0.2, 0], [0.25, 0.0, 0], [0.5, 0.1, 0]])
    x, y = 2 * np.pi * k[:, 0], 2 * np.pi * k[:, 1]
    first = 4 * J + 2 * strong * (1 - np.cos(x)) + 2 * weak * (1 - np.cos(y))
    second = 4 * J + 2 * weak * (1 - np.cos(x)) + 2 * strong * (1 - np.cos(y))
    cross = 4 * J * np.cos(x / 2) * np.cos(y / 2)
    root = np.sqrt((0.5 * (first + second)) ** 2 - cross**2)
    half = 0.5 * (first - second)
    expected = np.sort(np.stack([root + half, root - half], axis=1), axis=1)
    found = waves.modes(k).energies
    assert found == pytest.approx(G_FACTOR / 2.0 * expected, abs=1e-12)
    # The same through the potential, its supercells and their derivatives.
    atoms = own.atoms
    atoms.calc = DeepSpinCalculator(own)
    derived = SpinWaves.from_atoms(atoms, repeat=(5, 5, 1)).modes(k).energies
    assert derived == pytest.approx(found, abs=1e-9)


def kitaev(J: float, K: float) -> BondHamiltonian:
    """Return the honeycomb with Heisenberg and Kitaev exchange."""
    a = 5.0
    vectors = [[a, 0, 0], [-a / 2, a * np.sqrt(0.75), 0], [0, 0, 10]]
    places = [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]]
    atoms = Atoms("Ru2", cell=vectors, scaled_positions=places, pbc=(1, 1, 0))
    set_spins(atoms, [[0, 0, 1.0], [0, 0, 1.0]])
    shift = [(0, 0, 0), (-1, 0, 0), (0, 1, 0)]
    tensors = [J * np.eye(3) + K * np.diag(np.eye(3)[axis]) for axis in (2, 0, 1)]
    return BondHamiltonian(atoms, [0] * 3, [1] * 3, shift, tensors)


def test_kitaev_honeycomb():
    """Magnons from the Bogoliubov matrix of the three kinds of bonds."""
    J, K = 0.01, 0.004
    own = kitaev(J, K)
    assert np.ptp(own.distances) < 1e-9
    k = np.array([[0.1, 0.2, 0], [0.3, -0.15, 0], [0.5, 0.0, 0]])
    shift = np.array([(0, 0, 0), (-1, 0, 0), (0, 1, 0)])
    phases = np.exp(2j * np.pi * k @ shift.T)
    # Hopping (Jxx + Jyy)/2 and pairing (Jxx - Jyy)/2 on z, x and y bonds.
    hop = phases @ [J, J + K / 2, J + K / 2]
    pair = phases @ [0.0, K / 2, -K / 2]
    expected = []
    for t, p in zip(hop, pair, strict=True):
        A = np.array([[3 * J + K, -t], [-np.conj(t), 3 * J + K]])
        B = np.array([[0, -p], [-np.conj(p), 0]])
        matrix = np.block([[A, B], [-B.conj().T, -A]])
        expected.append(np.sort(np.linalg.eigvals(matrix).real)[2:])
    waves = SpinWaves.from_exchange(ExchangeTensors.from_potential(own))
    found = waves.modes(k).energies
    assert found == pytest.approx(G_FACTOR * np.array(expected), abs=1e-10)


def test_symmetry_completes_a_table():
    """One bond of each kind, completed: bcc shells, and D along the bonds of B20."""
    atoms = bulk("Fe", "bcc", a=2.87)
    set_spins(atoms, {"Fe": 2.2})
    kinds = BondHamiltonian(
        atoms, [0, 0], [0, 0], [(1, 0, 0), (1, 1, 0)], [0.01, 0.003]
    )
    whole = kinds.symmetrized()
    assert len(whole.i) == 8 + 6
    assert whole.isotropic[whole.distances < 2.7] == pytest.approx(0.01)
    assert whole.symmetry_violation() < 1e-12
    terms = Heisenberg(Shells([(2.87 * np.sqrt(0.75), 0.01), (2.87, 0.003)]))
    state = random_state(atoms.repeat(2))
    expected = float(terms.evaluate(System.from_atoms(state)).energy)
    assert whole.energy(state) == pytest.approx(expected, abs=1e-13)


def test_dm_vectors_turn_as_axial_vectors():
    """A crystal without inversion: D of one bond gives those of the others."""
    places = [
        place
        for u in (0.138, 0.845)
        for place in (
            [u, u, u],
            [0.5 + u, 0.5 - u, 1 - u],
            [1 - u, 0.5 + u, 0.5 - u],
            [0.5 - u, 1 - u, 0.5 + u],
        )
    ]
    atoms = Atoms("Mn4Si4", cell=[4.56] * 3, scaled_positions=places, pbc=True)
    set_spins(atoms, {"Mn": 0.5, "Si": 0.0})
    terms = Sum(
        [
            Heisenberg(Shells([(2.8, 0.01)], tolerance=0.2)),
            DzyaloshinskiiMoriya(Shells([(2.8, 0.002)], tolerance=0.2)),
        ]
    )
    atoms.calc = DeepSpinCalculator(terms)
    full = exchange_tensors(atoms).potential()
    assert full.symmetry_violation() < 1e-9
    one = full.select((np.arange(len(full.i)) == 0) | _is_back(full, 0))
    assert len(one.i) == 2
    again = one.symmetrized()
    assert len(again.i) == len(full.i)
    state = random_state(atoms.repeat((2, 1, 1)))
    assert again.energy(state) == pytest.approx(full.energy(state), abs=1e-9)


def _is_back(model: BondHamiltonian, bond: int) -> np.ndarray:
    return (
        (model.i == model.j[bond])
        & (model.j == model.i[bond])
        & (model.shift == -model.shift[bond]).all(axis=1)
    )


def test_tables_that_break_the_symmetry():
    atoms = bulk("Fe", "sc", a=2.5)
    set_spins(atoms, {"Fe": 2.2})
    zero, shift = [0, 0], [(1, 0, 0), (0, 1, 0)]
    noisy = BondHamiltonian(atoms, zero, zero, shift, [0.0100, 0.0101])
    assert noisy.symmetry_violation() == pytest.approx(0.005 / 1.01, rel=1e-3)
    assert noisy.symmetrized().isotropic == pytest.approx(0.01005)
    broken = BondHamiltonian(atoms, zero, zero, shift, [0.01, 0.02])
    with pytest.raises(ValueError, match="breaks the symmetry of the crystal: bond"):
        broken.symmetrized()
    # The magnetic atoms alone are more symmetric than the crystal.
    own = altermagnet(0.01, 0.004, 0.001)
    assert own.symmetry_violation() < 1e-12
    bare = own.atoms[:2]
    magnetic = BondHamiltonian(bare, own.i, own.j, own.shift, own.tensors)
    assert magnetic.symmetry_violation() > 0.1
    assert magnetic.symmetry_violation(crystal=own.atoms) < 1e-12


# Drivers


@pytest.mark.parametrize(
    "terms",
    [
        {"dm": True, "onsite": True, "fields": True},
        {"biquadratic": True, "cubic": True, "slopes": True},
    ],
    ids=["bilinear", "quartic"],
)
def test_monte_carlo_is_compiled_and_right(terms):
    """Changes of energy in sweeps are those of the slow evaluation."""
    own = model(**terms)
    atoms = random_state(cell().repeat((3, 2, 2)))
    atoms.rattle(0.02, seed=1)
    atoms.calc = DeepSpinCalculator(own)
    driver = MonteCarlo(atoms, temperature_K=300, rng=0, progress=False)
    assert type(driver.sampler).__name__ == "BilinearEnergies"
    found, slow = [], []
    for _ in range(3):
        driver.run(2)
        found.append(float(driver.spin_energies()))
        slow.append(own.energy(atoms))
    assert np.diff(found) == pytest.approx(np.diff(slow), abs=1e-12)
    with pytest.raises(ValueError, match="simultaneous=True needs"):
        MonteCarlo(atoms, temperature_K=300, rng=0, progress=False, simultaneous=True)


def test_biquadratic_pair_in_equilibrium():
    """<cos^2> of two moments with E = -B cos^2, against the integral."""
    B, T = 0.03, 150.0
    pairs = Atoms("Fe2", positions=[[0, 0, 0], [2, 0, 0]], cell=[9] * 3, pbc=True)
    set_spins(pairs, [[0, 0, 2.0], [0, 1.0, 2.0]])
    own = BondHamiltonian(pairs, [0], [1], [(0, 0, 0)], [0.0], biquadratic=[B])
    many = pairs.repeat(10)
    many.calc = DeepSpinCalculator(own)
    driver = MonteCarlo(many, temperature_K=T, rng=1, progress=False)
    driver.run(200)
    energies = []
    for _ in range(40):
        driver.run(5)
        energies.append(own.energy(many) / 1000)
    cosine = np.linspace(-1, 1, 20001)
    weight = np.exp(B * cosine**2 / (units.kB * T))
    expected = -B * (weight * cosine**2).sum() / weight.sum()
    assert np.mean(energies) == pytest.approx(expected, rel=0.01)


def test_classical_chain():
    """<e_i.e_i+1> = coth x - 1/x, x = J/kT; by bonds between a cell and its images."""
    J, T = 0.01, 80.0
    atoms = bulk("Fe", "sc", a=2.5)
    set_spins(atoms, {"Fe": 2.0})
    own = BondHamiltonian(atoms, [0], [0], [(1, 0, 0)], [J])
    chains = atoms.repeat((40, 6, 6))
    chains.calc = DeepSpinCalculator(own)
    driver = MonteCarlo(chains, temperature_K=T, rng=1, progress=False)
    driver.run(300)
    energies = []
    for _ in range(40):
        driver.run(10)
        energies.append(own.energy(chains))
    x = J / (units.kB * T)
    expected = -J * (1 / np.tanh(x) - 1 / x)
    assert np.mean(energies) / len(chains) == pytest.approx(expected, rel=0.01)


def test_bonds_on_a_lattice():
    """A lattice term beside bonds with dJ/dr: relaxed distances from their balance."""
    k, r0, J, slope = 5.0, 2.5, 0.02, -0.08
    pair = Atoms("Fe2", positions=[[0, 0, 0], [r0, 0, 0]], cell=[12, 12, 12])
    set_spins(pair, [[0, 0, 2.0], [0, 0, 2.0]])
    bonds = BondHamiltonian(pair, [0], [1], [(0, 0, 0)], [J], slopes=[slope])
    pair.calc = DeepSpinCalculator(Sum([Harmonic(k, r0, cutoff=4.0), bonds]))
    relax(pair, fmax=1e-6)
    # k (r - r0) = dJ/dr for the parallel pair.
    assert pair.get_distance(0, 1) == pytest.approx(r0 + slope / k, abs=1e-5)


def test_spins_relax_to_the_spiral():
    """J and D of a chain: neighbors at the angle arctan(D/J)."""
    J, D = 0.01, 0.01 * np.tan(np.pi / 6)
    atoms = bulk("Fe", "sc", a=2.5)
    set_spins(atoms, {"Fe": 2.0})
    own = BondHamiltonian(atoms, [0], [0], [(1, 0, 0)], [J], dm=[(0.0, 0.0, D)])
    chain = atoms.repeat((12, 1, 1))
    angles = 2 * np.pi * np.arange(12) / 12 + 0.2 * np.sin(np.arange(12))
    set_spins(chain, np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1))
    chain.calc = DeepSpinCalculator(own)
    relax_spins(chain)
    expected = -12 * np.hypot(J, D)
    assert chain.get_potential_energy() == pytest.approx(expected, abs=1e-6)


def test_exchange_tensors_and_back():
    """Tensors extracted from a table are those in it, and make the same potential."""
    atoms = triclinic()
    atoms.pbc = True
    atoms.calc = DeepSpinCalculator(
        Sum([Heisenberg(CubicCut(0.3, 3.5)), UniaxialAnisotropy(0.002, AXIS)])
    )
    found = exchange_tensors(atoms)
    own = found.potential()
    direct = ExchangeTensors.from_potential(own)
    assert np.sort(direct.distances) == pytest.approx(np.sort(found.distances))
    e = np.random.default_rng(5).normal(size=(3, 3))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    assert direct.energy(e) == pytest.approx(found.energy(e), abs=1e-12)
    atoms.calc = DeepSpinCalculator(own)
    again = exchange_tensors(atoms)
    assert again.energy(e) == pytest.approx(found.energy(e), abs=1e-9)
    with pytest.raises(ValueError, match="no biquadratic and cubic terms"):
        ExchangeTensors.from_potential(model(biquadratic=True))


def test_supercells_of_atoms_by_any_builder():
    own = model(dm=True)
    turned = make_supercell(cell(), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert own.energy(turned) == pytest.approx(own.energy(cell()), abs=1e-14)


def test_models_that_differ_are_told_apart():
    """Replicas must share one model: they are compared by what they print."""
    assert repr(model()) == repr(model())
    assert repr(model()) != repr(model(dm=True))


def easy_axis() -> tuple[BondHamiltonian, Atoms]:
    """Return a chain with an easy axis, and eight of its atoms."""
    atoms = bulk("Fe", "sc", a=2.5)
    set_spins(atoms, {"Fe": 2.0})
    own = BondHamiltonian(
        atoms, [0], [0], [(1, 0, 0)], [0.05], onsite=[np.diag([0, 0, 1e-3])]
    )
    magnet = atoms.repeat((8, 1, 1))
    magnet.calc = DeepSpinCalculator(own)
    return own, magnet


def test_coercive_field():
    """Coherent rotation (Stoner and Wohlfarth), one degree off the axis."""
    _, magnet = easy_axis()
    psi = np.radians(1.0)
    switch = (np.cos(psi) ** (2 / 3) + np.sin(psi) ** (2 / 3)) ** -1.5
    fields = -switch * 2 * 1e-3 / (2.0 * MU_B) * np.array([0.5, 0.98, 0.995, 1.005])
    direction = [np.sin(psi), 0.0, np.cos(psi)]
    loop = hysteresis(magnet, fields, direction=direction, progress=False)
    assert np.sign(loop.along).tolist() == [1, 1, 1, -1]


def test_barrier_of_reversal():
    """A band between both directions of the easy axis: the barrier is N K."""
    _, up = easy_axis()
    down = up.copy()
    set_spins(down, [[0, 0, -2.0]] * 8)
    neb = SpinLatticeNEB(interpolate(up, down, 7, axis="y"), climb=True)
    assert neb.run(fmax=1e-3, torque_max=1e-6)
    assert neb.path().barrier_forward == pytest.approx(8e-3, rel=1e-5)


def test_monte_carlo_is_that_of_terms():
    """The same moves as with terms of distance, so that transitions are the same."""
    atoms = bulk("Fe", "bcc", a=2.87)
    set_spins(atoms, {"Fe": 2.2})
    kinds = [(1, 0, 0), (1, 1, 0), (1, 1, 2)]
    bonds = BondHamiltonian(atoms, [0] * 3, [0] * 3, kinds, [0.04, 0.02, -0.001])
    distances = 2.87 * np.sqrt([0.75, 1.0, 2.0])
    shells = Shells(list(zip(distances, [0.04, 0.02, -0.001], strict=True)))
    found = []
    for potential in (bonds.symmetrized(), Heisenberg(shells)):
        magnet = random_state(atoms.repeat(6))
        magnet.calc = DeepSpinCalculator(potential)
        options = {"overrelaxation": 1, "rng": 3, "progress": False}
        MonteCarlo(magnet, temperature_K=1300, **options).run(10)
        found.append(get_spins(magnet))
    assert found[0] == pytest.approx(found[1], abs=1e-9)
