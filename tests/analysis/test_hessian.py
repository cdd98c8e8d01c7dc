from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from calculators import Foreign
from networks import moments_network

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import JointHessian, cartesian_hessian
from deepspin_ase.analysis.hessians import (
    CartesianHessian,
    DifferenceHessian,
    SecondDerivatives,
)
from deepspin_ase.analysis.hessians import _joint_hessian as joint_hessian
from deepspin_ase.constraints import FixSpins
from deepspin_ase.potentials import (
    Biquadratic,
    BuckinghamCoulomb,
    CubicAnisotropy,
    CubicCut,
    DeepSpinConfig,
    DeepSpinNetwork,
    DipoleDipole,
    DzyaloshinskiiMoriya,
    Heisenberg,
    Landau,
    LennardJones,
    MomentExchange,
    Potential,
    Sum,
    TimeReversal,
    UniaxialAnisotropy,
    Zeeman,
    finnis_sinclair_fe,
    load_potential,
)
from deepspin_ase.system import System


def analytic() -> Potential:
    return Sum(
        [
            LennardJones(0.3, 2.25, cutoff=4.5),
            Heisenberg(CubicCut(-0.05, 3.2)),
            DzyaloshinskiiMoriya(CubicCut(0.02, 3.2)),
            Biquadratic(CubicCut(0.01, 3.2)),
            MomentExchange(CubicCut(0.02, 3.2)),
            UniaxialAnisotropy(0.002, (1, 0, 2)),
            CubicAnisotropy(0.003),
            Landau([-0.1, 0.05]),
            Zeeman((3.0, 0.0, 5.0)),
        ]
    )


def network() -> Potential:
    config = DeepSpinConfig.model_validate(
        {
            "type_map": ["Fe", "O"],
            "descriptor": {"rcut": 4.0, "rcut_smth": 1.0, "sel": [40, 40]},
            "spin": {"use_spin": [True, False], "virtual_scale": [0.3, 0.0]},
        }
    )
    return DeepSpinNetwork(config, seed=3)


def sheared() -> Atoms:
    """Return a small, skew, disordered film of iron and oxygen."""
    rng = np.random.default_rng(4)
    atoms = Atoms("Fe3O", cell=[[3.1, 0, 0], [0.7, 3.3, 0], [0.2, 0.4, 9]])
    atoms.set_scaled_positions(
        [[0, 0, 0.1], [0.5, 0.45, 0.3], [0.05, 0.02, 0.45], [0.5, 0.5, 0.05]]
    )
    atoms.pbc = (True, True, False)
    spins = 1.5 * rng.normal(size=(4, 3))
    spins[3] = 0.0
    set_spins(atoms, spins)
    return atoms


def differences(
    potential: Potential, atoms: Atoms, direction: np.ndarray
) -> np.ndarray:
    """Return the change of the gradient (2, N, 3) along a direction (2, N, 3)."""
    start = System.from_atoms(atoms)
    h = 1e-4
    total = np.zeros_like(direction)
    for steps, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):  # of fourth order
        moved, turned = torch.as_tensor(steps * h * direction)
        found = potential.evaluate(
            start.replace(
                positions=start.positions + moved, spins=start.spins + turned
            ),
            virial=False,
        )
        total -= weight * np.stack([found.forces, found.magnetic_forces])
    return total / (12 * h)


@pytest.mark.parametrize(
    "make",
    [
        analytic,
        network,
        lambda: TimeReversal(network()),
        finnis_sinclair_fe,
        moments_network,
    ],
)
def test_products_are_the_derivatives_of_the_gradient(make):
    potential, atoms = make(), sheared()
    if potential.species == frozenset({26}):
        atoms = atoms[:3]
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2, 2, len(atoms), 3))
    directions[1, :, atoms.get_atomic_numbers() == 8] = 0.0
    hessian = CartesianHessian(potential, atoms)
    found = np.stack(hessian.product(directions[0], directions[1]), axis=1)
    for k in range(2):
        expected = differences(potential, atoms, directions[:, k])
        scale = abs(expected).max()
        assert found[k] == pytest.approx(expected, abs=1e-6 * scale)
    assert hessian.n_products == 2


def test_ewald_terms_have_second_derivatives():
    atoms = bulk("NiO", "rocksalt", a=4.17)
    atoms.rattle(0.1, seed=1)
    set_spins(atoms, [[1.0, 0.5, 0.2], [0, 0, 0]])
    ions = BuckinghamCoulomb({"Ni": 2.0, "O": -2.0}, {"Ni-O": (683.5, 0.3332, 0.0)})
    potential = ions + DipoleDipole()
    direction = np.random.default_rng(0).normal(size=(2, 2, 3))
    direction[1, 1] = 0.0
    expected = differences(potential, atoms, direction)
    found = np.stack(CartesianHessian(potential, atoms).product(*direction))
    for part in range(2):
        scale = abs(expected[part]).max()
        assert found[part] == pytest.approx(expected[part], abs=1e-6 * scale)


def test_matrix_blocks_and_products_are_one_symmetric_operator():
    atoms = sheared()
    hessian = CartesianHessian(analytic(), atoms)
    matrix = hessian.matrix()
    assert matrix.shape == (24, 24)
    u, v = np.random.default_rng(1).normal(size=(2, 2, 4, 3))
    product = np.stack(hessian.product(*v))
    assert product.ravel() == pytest.approx(matrix @ v.ravel(), rel=1e-12, abs=1e-12)
    other = np.stack(hessian.product(*u))
    assert np.sum(u * product) == pytest.approx(np.sum(v * other), rel=1e-12)
    spins_only = CartesianHessian(analytic(), atoms, positions=False)
    blocks = spins_only.blocks([2, 0])
    expected = matrix[12:, 12:].reshape(4, 3, 4, 3)
    assert blocks == pytest.approx(expected[[2, 0]], abs=1e-13)
    assert spins_only.matrix() == pytest.approx(matrix[12:, 12:], abs=1e-13)
    lattice_only = CartesianHessian(analytic(), atoms, spins=False)
    assert lattice_only.matrix() == pytest.approx(matrix[:12, :12], abs=1e-13)
    along, across = lattice_only.product(u[0])
    assert along.shape == (4, 3) and across.shape == (0, 3)


def test_exchange_of_two_moments_is_a_closed_formula():
    """E = -J m1.m2 has d2E/dm1 dm2 = -J, and a field none at all."""
    atoms = Atoms("Fe2", positions=[[0, 0, 0], [0, 0, 2.0]])
    set_spins(atoms, [[0, 0, 1.0], [0.0, 2.0, 0]])
    radial = CubicCut(0.1, 3.0)
    strength = float(radial(torch.tensor([2.0], dtype=torch.float64))[0])
    potential = MomentExchange(radial) + Zeeman((0, 0, 10.0))
    blocks = CartesianHessian(potential, atoms).blocks([0])
    assert blocks[0, :, 1] == pytest.approx(-strength * np.eye(3), rel=1e-12)
    assert not blocks[0, :, 0].any()
    linear = CartesianHessian(Zeeman((0, 0, 10.0)), atoms)
    assert not linear.matrix().any()


def test_calculators_give_field_device_and_precision():
    atoms = sheared()
    calc = DeepSpinCalculator(UniaxialAnisotropy(0.01, (0, 0, 1)), dtype="float32")
    calc.external_field_T = (0, 0, 100.0)
    atoms.calc = calc
    single = cartesian_hessian(atoms)
    assert isinstance(single, CartesianHessian)
    exact = CartesianHessian(UniaxialAnisotropy(0.01, (0, 0, 1)), atoms)
    assert single.matrix() == pytest.approx(exact.matrix(), abs=1e-6)
    assert single.accuracy > exact.accuracy


def test_any_calculator_has_second_derivatives_by_differences():
    atoms = sheared()
    exact = CartesianHessian(analytic(), atoms).matrix()
    atoms.calc = Foreign(analytic())
    hessian = cartesian_hessian(atoms)
    assert isinstance(hessian, DifferenceHessian)
    before = atoms.positions.copy(), get_spins(atoms)
    matrix = hessian.matrix()[:21, :21]  # an atom without moment stays without
    exact = exact[:21, :21]
    assert matrix == pytest.approx(exact, abs=hessian.accuracy * abs(exact).max())
    assert np.array_equal(atoms.positions, before[0])
    assert np.array_equal(get_spins(atoms), before[1])
    zero: SecondDerivatives = DifferenceHessian(atoms, spins=False)
    assert not zero.product(np.zeros((4, 3)))[0].any()


def test_bad_input_says_what_is_wrong():
    atoms, potential = sheared(), analytic()
    with pytest.raises(ValueError, match="nothing to differentiate"):
        CartesianHessian(potential, atoms, positions=False, spins=False)
    with pytest.raises(ValueError, match="one structure"):
        CartesianHessian(potential, System.from_atoms([atoms, atoms]))
    with pytest.raises(ValueError, match="does not know the element Cu"):
        CartesianHessian(load_potential("NiO"), Atoms("Cu", magmoms=[[0, 0, 1]]))
    hessian = CartesianHessian(potential, atoms, positions=False)
    with pytest.raises(ValueError, match="give displacements"):
        hessian.product()
    with pytest.raises(ValueError, match="positions=False"):
        hessian.product(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"\(K, 4, 3\)"):
        hessian.product(moments=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="same shape"):
        CartesianHessian(potential, atoms).product(np.ones((4, 3)), np.ones((2, 4, 3)))
    with pytest.raises(ValueError, match="no calculator"):
        DifferenceHessian(atoms)
    from ase.calculators.lj import LennardJones as Plain

    atoms.calc = Plain()
    with pytest.raises(ValueError, match="magnetic_forces"):
        DifferenceHessian(atoms)
    with pytest.raises(ValueError, match="step must be finite and > 0"):
        DifferenceHessian(atoms, spins=False, step=0.0)


def test_shipped_network_in_its_supercell():
    atoms = bulk("NiO", "rocksalt", a=4.17) * (2, 2, 2)
    spins = np.zeros((16, 3))
    spins[::2] = 1.277 * np.array([0, 0.6, 0.8])
    set_spins(atoms, spins)
    atoms.rattle(0.05, seed=2)
    potential = load_potential("NiO")
    direction = np.random.default_rng(0).normal(size=(2, 16, 3))
    direction[1, 1::2] = 0.0
    expected = differences(potential, atoms, direction)
    found = np.stack(CartesianHessian(potential, atoms).product(*direction))
    assert found == pytest.approx(expected, abs=1e-6 * abs(expected).max())


def coupled() -> Potential:
    """Return a potential in which lengths of moments matter too."""
    return Sum(
        [
            LennardJones(0.3, 2.25, cutoff=4.5),
            MomentExchange(CubicCut(0.05, 3.5)),
            DzyaloshinskiiMoriya(CubicCut(0.02, 3.5)),
            Landau([-0.1, 0.05]),
            UniaxialAnisotropy(0.01, (1, 0, 2)),
        ]
    )


def cluster(seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(
        "Fe4", positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.5, 0], [0.5, 0.4, 2.3]]
    )
    atoms.rattle(0.1, seed=seed)
    set_spins(atoms, 1.5 * rng.normal(size=(4, 3)))
    return atoms


def along_geodesic(atoms: Atoms, hessian: JointHessian, q: np.ndarray) -> float:
    """Return the energy after the step q."""
    moved = atoms.copy()
    positions, spins = hessian.space.moved(q)
    moved.positions[:] = positions
    set_spins(moved, spins)
    return atoms.calc.get_property("energy", moved)


def test_it_is_the_second_derivative_along_great_circles():
    """Anywhere, not just at stationary points."""
    atoms = cluster()
    atoms.calc = DeepSpinCalculator(coupled())
    hessian = JointHessian(atoms, spin_scale=0.7)
    rng = np.random.default_rng(1)
    h = 1e-3
    for _ in range(3):
        q = rng.normal(size=hessian.shape[0])
        q /= np.linalg.norm(q)
        energies = [
            along_geodesic(atoms, hessian, k * h * q) for k in (-2, -1, 0, 1, 2)
        ]
        slope = np.dot([1, -8, 0, 8, -1], energies) / (12 * h)
        bend = np.dot([-1, 16, -30, 16, -1], energies) / (12 * h**2)
        assert hessian.gradient @ q == pytest.approx(slope, rel=1e-6, abs=1e-8)
        assert q @ (hessian @ q) == pytest.approx(bend, rel=1e-5, abs=1e-6)


def test_joint_matrix_is_symmetric_and_a_product():
    atoms = cluster()
    atoms.calc = DeepSpinCalculator(coupled())
    u, v = np.random.default_rng(2).normal(size=(2, 20))
    hessian = JointHessian(atoms)
    assert hessian.shape == (20, 20)
    products = hessian @ u, hessian @ v
    assert v @ products[0] == pytest.approx(u @ products[1], rel=1e-12)
    assert hessian.matrix() @ u == pytest.approx(products[0], rel=1e-10)
    assert hessian.T @ u == pytest.approx(products[0], rel=1e-10)


def test_steps_lengths_and_rotation_vectors():
    atoms = cluster()
    atoms.calc = DeepSpinCalculator(coupled())
    space = JointHessian(atoms, spin_scale=0.5).space
    q = np.random.default_rng(3).normal(size=20)
    displacements, changes = space.directions(q)
    assert space.step(displacements, changes) == pytest.approx(q)
    assert space.from_rotations(
        displacements, space.rotation_vectors(q)
    ) == pytest.approx(q)
    rotations = space.rotation_vectors(q)
    length = np.sum(displacements**2) + np.sum((0.5 * rotations) ** 2)
    assert np.sum(q**2) == pytest.approx(length)
    spins = space.moved(q)[1]
    before = np.linalg.norm(get_spins(atoms), axis=1)
    assert np.linalg.norm(spins, axis=1) == pytest.approx(before, rel=1e-14)
    angle = np.linalg.norm(rotations, axis=1)
    cosine = np.sum(spins * get_spins(atoms), axis=1) / before**2
    assert cosine == pytest.approx(np.cos(angle), abs=1e-12)


def test_gradients_are_carried_along():
    """Transport keeps lengths, and the Hessian is the change of the gradient."""
    atoms = cluster()
    atoms.calc = DeepSpinCalculator(coupled())
    here = JointHessian(atoms)
    q = 1e-5 * np.random.default_rng(3).normal(size=20)
    moved = atoms.copy()
    moved.positions[:], spins = here.space.moved(q)
    set_spins(moved, spins)
    moved.calc = atoms.calc
    there = JointHessian(moved)
    back = there.space.carried(there.gradient, -there_step(here, there, q), here.space)
    assert np.linalg.norm(back) == pytest.approx(np.linalg.norm(there.gradient))
    change = here @ q
    assert back - here.gradient == pytest.approx(change, abs=1e-3 * abs(change).max())


def there_step(here: JointHessian, there: JointHessian, q: np.ndarray) -> np.ndarray:
    return here.space.carried(q, q, there.space)


def test_carrying_over_a_long_way_keeps_lengths_and_angles():
    atoms = cluster()
    atoms.calc = DeepSpinCalculator(coupled())
    here = JointHessian(atoms).space
    rng = np.random.default_rng(5)
    q, vectors = 0.4 * rng.normal(size=20), rng.normal(size=(2, 20))
    atoms.positions[:], spins = here.moved(q)
    set_spins(atoms, spins)
    there = JointHessian(atoms).space
    carried = here.carried(vectors, q, there)
    assert carried @ carried.T == pytest.approx(vectors @ vectors.T, rel=1e-12)
    # Along the way itself, and there and back again.
    way = here.carried(q, q, there)
    assert there.rotation_vectors(way) == pytest.approx(
        here.rotation_vectors(q), rel=1e-10
    )
    assert there.carried(carried, -way, here) == pytest.approx(vectors, rel=1e-10)


def test_constraints_take_coordinates_away():
    atoms = cluster()
    atoms.calc = DeepSpinCalculator(coupled())
    whole = JointHessian(atoms).matrix()
    atoms.set_constraint(
        [FixAtoms([0]), FixCartesian(1, (True, False, True)), FixSpins([3])]
    )
    part = JointHessian(atoms)
    kept = [4, 6, 7, 8, 9, 10, 11, *range(12, 18)]
    assert part.matrix() == pytest.approx(whole[np.ix_(kept, kept)], abs=1e-12)
    assert JointHessian(atoms, spins=False).shape == (7, 7)
    assert JointHessian(atoms, positions=False).shape == (6, 6)
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ValueError, match="FixBondLength"):
        JointHessian(atoms)


def test_atoms_without_moment_only_move():
    atoms = cluster()
    spins = get_spins(atoms)
    spins[1] = 0.0
    set_spins(atoms, spins)
    atoms.calc = DeepSpinCalculator(Heisenberg(CubicCut(0.05, 3.5)))
    assert JointHessian(atoms).shape == (18, 18)


def test_joint_hessian_of_any_calculator():
    atoms = cluster()
    atoms.calc = DeepSpinCalculator(coupled())
    exact = JointHessian(atoms).matrix()
    atoms.calc = Foreign(coupled())
    found = JointHessian(atoms).matrix()
    assert found == pytest.approx(exact, abs=1e-5 * abs(exact).max())


@pytest.mark.parametrize("foreign", [False, True])
def test_zero_modes_are_the_symmetries(foreign):
    """Found away from stationary points: H X x = X g."""
    isotropic = LennardJones(0.3, 2.25, cutoff=4.5) + Heisenberg(CubicCut(0.05, 3.5))
    chiral = isotropic + DzyaloshinskiiMoriya(CubicCut(0.02, 3.5))
    easy = isotropic + UniaxialAnisotropy(1e-4, (0, 0, 1))
    field = isotropic + Zeeman((0, 0, 10.0))

    def names(potential: Potential, atoms: Atoms) -> str:
        atoms.calc = Foreign(potential) if foreign else DeepSpinCalculator(potential)
        hessian = JointHessian(atoms)
        zero = hessian.zero_modes
        overlap = zero.vectors.T @ zero.vectors
        assert overlap == pytest.approx(np.eye(len(zero)), abs=1e-10)
        assert abs(hessian.gradient @ zero.vectors).max(initial=0.0) < 1e-6
        return str(zero)

    atoms = cluster()
    expected = "3 translation, 3 rotation of spins, 3 rotation of atoms"
    assert names(isotropic, atoms) == expected
    assert names(chiral, atoms) == "3 translation, 3 rotation of atoms and spins"
    axial = "3 translation, 1 rotation of spins, 3 rotation of atoms"
    assert names(easy, atoms) == axial
    assert names(field, atoms) == axial
    crystal = bulk("Fe", cubic=True) * (1, 1, 2)
    crystal.rattle(0.05, seed=0)
    set_spins(crystal, np.random.default_rng(0).normal(size=(4, 3)))
    assert names(isotropic, crystal) == "3 translation, 3 rotation of spins"
    crystal.set_constraint(FixAtoms([0]))
    assert names(isotropic, crystal) == "3 rotation of spins"
    set_spins(crystal, [[0, 0, 2.0]] * 4)
    assert names(isotropic, crystal) == "2 rotation of spins"
    atoms.set_constraint(FixAtoms([0]))
    assert names(isotropic, atoms) == "3 rotation of spins, 3 rotation of atoms"
    atoms.set_constraint([FixAtoms([0, 1]), FixSpins([2])])
    assert names(isotropic, atoms) == "1 rotation of spins, 1 rotation of atoms"
    atoms.set_constraint([FixAtoms([0, 1, 2]), FixSpins([0, 2])])
    assert names(isotropic, atoms) == "none"


def test_linear_molecules_have_one_rotation_less():
    atoms = molecule("O2")
    atoms.calc = DeepSpinCalculator(LennardJones(0.3, 1.0, cutoff=4.5))
    zero = JointHessian(atoms, spins=False).zero_modes
    assert str(zero) == "3 translation, 2 rotation of atoms"


def test_lowest_modes_dense_and_iterative_agree(monkeypatch):
    atoms = bulk("Fe", cubic=True) * (2, 2, 2)
    atoms.rattle(0.02, seed=3)
    spins = np.tile([0, 0, 2.0], (16, 1)) + 0.3 * np.random.default_rng(1).normal(
        size=(16, 3)
    )
    set_spins(atoms, spins)
    atoms.calc = DeepSpinCalculator(
        LennardJones(0.3, 2.25, cutoff=4.5)
        + Heisenberg(CubicCut(0.05, 3.5))
        + UniaxialAnisotropy(-0.02, (0, 0, 1))
    )
    hessian = JointHessian(atoms)
    assert hessian.shape == (80, 80)
    exact, modes = hessian.lowest(3)
    zero = hessian.zero_modes
    assert str(zero) == "3 translation, 1 rotation of spins"
    assert abs(zero.vectors.T @ modes).max() < 1e-8
    monkeypatch.setattr(joint_hessian, "DENSE", 10)
    values, vectors = JointHessian(atoms).lowest(3, tolerance=1e-5)
    assert values == pytest.approx(exact, abs=1e-4 * abs(exact).max())
    assert abs(zero.vectors.T @ vectors).max() < 1e-8
    again, _ = hessian.lowest(1, start=modes[:, :1])
    assert again[0] == pytest.approx(exact[0], rel=1e-3)


def test_bad_joint_input_says_what_is_wrong():
    atoms = cluster()
    with pytest.raises(ValueError, match="no calculator"):
        JointHessian(atoms)
    atoms.calc = DeepSpinCalculator(coupled())
    with pytest.raises(ValueError, match="spin_scale"):
        JointHessian(atoms, spin_scale=0.0)
    with pytest.raises(ValueError, match="nothing can move"):
        JointHessian(atoms, positions=False, spins=False)
    set_spins(atoms, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="all moments are zero"):
        JointHessian(atoms)
    bare = Atoms("Fe", calculator=DeepSpinCalculator(coupled()))
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        JointHessian(bare)
