from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis.hessian import (
    CartesianHessian,
    DifferenceHessian,
    SecondDerivatives,
    cartesian_hessian,
)
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
    gradients = []
    for sign in (1, -1):
        moved, turned = torch.as_tensor(sign * h * direction)
        found = potential.evaluate(
            start.replace(
                positions=start.positions + moved, spins=start.spins + turned
            ),
            virial=False,
        )
        gradients.append(-np.stack([found.forces, found.magnetic_forces]))
    return (gradients[0] - gradients[1]) / (2 * h)


@pytest.mark.parametrize(
    "make", [analytic, network, lambda: TimeReversal(network()), finnis_sinclair_fe]
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


class Foreign(Calculator):
    """An ASE calculator of the same physics that is not ours."""

    implemented_properties = ["energy", "forces", "magnetic_forces"]  # noqa: RUF012

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.inner = DeepSpinCalculator(potential)

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        for name in self.implemented_properties:
            self.results[name] = self.inner.get_property(name, atoms)


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
    with pytest.raises(ValueError, match="positive"):
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
