from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from calculators import Foreign

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import JointHessian, find_saddle
from deepspin_ase.constraints import FixSpins
from deepspin_ase.optimize import relax_spins
from deepspin_ase.potentials import (
    DzyaloshinskiiMoriya,
    Heisenberg,
    LennardJones,
    Potential,
    Shells,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.units import MU_B

K, HARD, MOMENT = 1e-3, 0.4e-3, 2.0


class CoupledWell(Potential):
    """Sum over atoms of A (x^2 - 1)^2 + (k/2)(y^2 + z^2) - c x e_z - K' e_x^2.

    For K' > 0 and c^2 < 8 A K' the points x = 0, e = (+-1, 0, 0) are saddle points
    of the energy -K' each. In the plane of x and e_z = sin(t) near them the energy
    is -2A x^2 + K' t^2 - c x t + A: one negative curvature.
    """

    def __init__(self, A: float, k: float, c: float, easy: float) -> None:
        super().__init__()
        self.A, self.k, self.c, self.easy = A, k, c, easy

    def forward(self, system, pairs):
        x, y, z = system.positions.unbind(1)
        e = system.spins / system.spins.norm(dim=1, keepdim=True)
        return (
            self.A * (x**2 - 1) ** 2
            + 0.5 * self.k * (y**2 + z**2)
            - self.c * x * e[:, 2]
            - self.easy * e[:, 0] ** 2
            + self.easy * e[:, 1] ** 2
        )


def macrospin(h: float) -> Atoms:
    """Return a moment along its easy axis z, against a field of h times 2K/m."""
    atoms = Atoms("Fe", positions=[[0, 0, 0]])
    set_spins(atoms, [[0, 0, MOMENT]])
    atoms.calc = DeepSpinCalculator(
        UniaxialAnisotropy(K, (0, 0, 1))
        + UniaxialAnisotropy(-HARD, (0, 1, 0))
        + Zeeman((0, 0, -h * 2 * K / (MOMENT * MU_B)))
    )
    return atoms


@pytest.mark.parametrize("h", [0.0, 0.3, 0.8])
def test_macrospin_climbs_to_the_known_barrier(h):
    """Barrier K(1 - h)^2, curvatures -2K(1 - h^2) and 2 HARD by the angles."""
    atoms = macrospin(h)
    start = atoms.get_potential_energy()
    saddle = find_saddle(atoms, kick=0.02, positions=False, torque_max=1e-9, seed=1)
    assert saddle.converged and saddle.is_saddle and saddle.n_negative == 1
    assert saddle.energy - start == pytest.approx(K * (1 - h) ** 2, rel=1e-9)
    curvatures = np.array([-2 * K * (1 - h**2), 2 * HARD]) / saddle.spin_scale**2
    assert saddle.curvatures == pytest.approx(curvatures, rel=1e-5)
    assert atoms is saddle.atoms
    assert np.linalg.norm(get_spins(atoms)) == pytest.approx(MOMENT, rel=1e-12)
    assert abs(get_spins(atoms)[0, 2]) == pytest.approx(MOMENT * h, abs=1e-6)
    # The mode turns the moment about the hard axis, by 1 A in all.
    assert abs(saddle.rotations[0, 1]) == pytest.approx(1 / saddle.spin_scale)
    assert "1 negative" in str(saddle)


def test_a_maximum_of_two_moments_is_left_downwards():
    """Both moments on top is stationary, but has two ways down."""
    atoms = macrospin(0.3)
    calc = atoms.calc
    atoms = atoms + Atoms("Fe", positions=[[9.0, 0, 0]])
    atoms.calc = calc
    sine = MOMENT * np.sqrt(1 - 0.3**2)
    set_spins(atoms, [[sine, 0, 0.3 * MOMENT], [-sine, 0, 0.3 * MOMENT]])
    top = atoms.get_potential_energy()
    saddle = find_saddle(atoms, positions=False)
    assert saddle.is_saddle
    low = K * np.array([(1 - 0.3) ** 2, (1 + 0.3) ** 2])
    assert np.min(abs(top - saddle.energy - low)) < 1e-9


def test_single_precision_is_enough_to_see_a_saddle():
    atoms = macrospin(0.3)
    atoms.calc = DeepSpinCalculator(atoms.calc.potential, dtype="float32")
    start = atoms.get_potential_energy()
    saddle = find_saddle(atoms, kick=0.02, positions=False, seed=1)
    assert saddle.is_saddle
    assert saddle.energy - start == pytest.approx(K * 0.49, rel=1e-3)


A, STIFF, COUPLING, EASY = 0.02, 1.0, 0.015, 0.004


@pytest.mark.parametrize(
    ("make", "x", "kick"), [(DeepSpinCalculator, 0.9, 0.1), (Foreign, 0.1, 0.0)]
)
def test_saddle_of_atom_and_spin_together_is_a_closed_form(make, x, kick):
    """Out of the well by our calculator; refined with another."""
    atoms = Atoms("Fe", positions=[[x, 0.05, 0.0]])
    set_spins(atoms, [[1.5 - x, 0.1, x]])
    atoms.calc = make(CoupledWell(A, STIFF, COUPLING, EASY))
    saddle = find_saddle(
        atoms,
        direction=([[-1.0, 0, 0]], None),
        kick=kick,
        fmax=1e-6,
        torque_max=1e-7,
    )
    assert saddle.is_saddle
    assert saddle.energy == pytest.approx(A - EASY, abs=1e-10)
    assert atoms.positions[0] == pytest.approx(np.zeros(3), abs=1e-5)
    scale = saddle.spin_scale
    block = np.array([[-4 * A, -COUPLING / scale], [0, 2 * EASY / scale**2]])
    expected = np.linalg.eigvalsh(block, UPLO="U")
    assert saddle.curvatures[0] == pytest.approx(expected[0], rel=1e-4)
    # Down the mode, the atom goes to +x as the moment turns to +z.
    displacement, turn = saddle.displacements[0], saddle.rotations[0]
    moment = np.cross(turn, get_spins(atoms)[0])
    assert displacement[0] * moment[2] > 0
    length = np.sum(displacement**2) + np.sum((scale * turn) ** 2)
    assert length == pytest.approx(1.0)


def vacancy(share: float) -> tuple[Atoms, np.ndarray]:
    """Return fcc argon relaxed about an atom on its way into a vacancy, and the way."""
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True) * (2, 2, 2)
    del atoms[0]
    hopping = np.linalg.norm(atoms.positions, axis=1).argmin()
    way = np.zeros((len(atoms), 3))
    way[hopping] = -atoms.positions[hopping]
    atoms.positions += share * way
    atoms.calc = DeepSpinCalculator(LennardJones(0.0104, 3.4, cutoff=7.0))
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=100)
    return atoms, way


def test_a_vacancy_hops_over_the_middle_of_the_bond():
    """Half way, symmetry keeps the atom on top while the others relax."""
    atoms, way = vacancy(0.0)
    top = vacancy(0.5)[0].get_potential_energy()
    saddle = find_saddle(atoms, direction=(way, None), kick=0.5, spins=False, fmax=1e-6)
    assert saddle.is_saddle
    assert str(saddle.zero_modes) == "3 translation"
    assert saddle.energy == pytest.approx(top, abs=1e-7)
    hopping = np.linalg.norm(way, axis=1).argmax()
    assert np.sum(saddle.displacements[hopping] ** 2) > 0.5
    again = find_saddle(atoms, spins=False, fmax=1e-4)
    assert again.n_steps == 0
    assert again.energy == pytest.approx(saddle.energy)


def test_fixed_atoms_and_moments_stay():
    atoms = Atoms("Fe2", positions=[[0.9, 0.05, 0.0], [-0.5, 0.1, 0.3]])
    set_spins(atoms, [[0.3, 0.1, 1.5], [1.0, 0.4, 0.2]])
    atoms.calc = DeepSpinCalculator(CoupledWell(A, STIFF, COUPLING, EASY))
    atoms.set_constraint([FixAtoms([1]), FixSpins([1])])
    before = atoms.positions[1].copy(), get_spins(atoms)[1]
    way = np.array([[-1.0, 0, 0], [0, 0, 0]])
    saddle = find_saddle(atoms, direction=(way, None), kick=0.1, fmax=1e-6)
    assert saddle.is_saddle
    assert np.array_equal(atoms.positions[1], before[0])
    assert get_spins(atoms)[1] == pytest.approx(before[1], rel=1e-14)


def test_a_search_out_of_steps_says_so_and_goes_on():
    atoms = macrospin(0.3)
    short = find_saddle(atoms, kick=0.02, positions=False, steps=2, seed=1)
    assert not short.converged and not short.is_saddle
    assert short.n_steps == 2
    assert "not converged" in str(short)
    whole = find_saddle(atoms, positions=False)
    assert whole.is_saddle


def test_bad_input_says_what_is_wrong():
    atoms = macrospin(0.3)
    with pytest.raises(ValueError, match="starts at a minimum"):
        find_saddle(atoms, positions=False)
    with pytest.raises(ValueError, match="direction must be"):
        find_saddle(atoms, direction=(np.zeros((2, 3)), None), positions=False)
    with pytest.raises(ValueError, match="moves nothing"):
        find_saddle(atoms, direction=(np.ones((1, 3)), None), positions=False)
    with pytest.raises(ValueError, match="direction must be"):
        find_saddle(atoms, direction=([[1, 2, 3], [4]], None), positions=False)
    with pytest.raises(ValueError, match="steps"):
        find_saddle(atoms, kick=0.1, steps=0)
    with pytest.raises(ValueError, match="fmax"):
        find_saddle(atoms, kick=0.1, fmax=-1.0)
    with pytest.raises(ValueError, match="no calculator"):
        find_saddle(Atoms("Fe", magmoms=[[0, 0, 1.0]]))
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        find_saddle(Atoms("Fe", calculator=atoms.calc))


def skyrmion(n: int) -> Atoms:
    """Return a relaxed skyrmion on n x n sites, its core against the field."""
    exchange, chiral, field = 0.01, 0.006, 0.003
    atoms = Atoms("Fe", cell=[1, 1, 0], pbc=(True, True, False)) * (n, n, 1)
    atoms.calc = DeepSpinCalculator(
        Heisenberg(Shells([(1.0, exchange)]))
        + DzyaloshinskiiMoriya(
            Shells([(1.0, chiral)]), direction="interfacial", axis=(0, 0, 1)
        )
        + Zeeman((0, 0, field / MU_B))
    )
    set_spins(atoms, texture(atoms, 2.0))
    assert relax_spins(atoms, torque_max=1e-9, steps=1000).converged
    assert get_spins(atoms)[:, 2].min() < -0.5
    return atoms


def texture(atoms: Atoms, radius: float) -> np.ndarray:
    """Return a round skyrmion about a site."""
    middle = atoms.positions[len(atoms) // 2 + round(len(atoms) ** 0.5) // 2]
    x, y, _ = (atoms.positions - middle).T
    r = np.hypot(x, y)
    polar = 2 * np.arctan2(radius, r + 1e-9) * np.exp(-((r / (3 * radius)) ** 2))
    azimuth = np.arctan2(y, x)
    inwards = [-np.sin(polar) * np.cos(azimuth), -np.sin(polar) * np.sin(azimuth)]
    return np.stack([*inwards, np.cos(polar)], axis=1)


@pytest.mark.slow
def test_skyrmion_collapse_does_not_depend_on_the_start():
    """From two small skyrmions: one barrier, and one direction down."""
    atoms = skyrmion(20)
    minimum = atoms.get_potential_energy()
    barriers = []
    for radius in (1.2, 0.8):
        set_spins(atoms, texture(atoms, radius))
        saddle = find_saddle(atoms, positions=False, torque_max=1e-8)
        assert saddle.is_saddle
        barriers.append(saddle.energy - minimum)
    assert barriers[0] > 0.01
    assert np.ptp(barriers) < 1e-7
    # The only negative eigenvalue of the whole matrix.
    values = np.linalg.eigvalsh(JointHessian(atoms, positions=False).matrix())
    assert np.sum(values < 0) == 1
    assert values[:2] == pytest.approx(saddle.curvatures, rel=1e-2)


@pytest.mark.slow
def test_a_skyrmion_collapses_from_a_kick() -> None:
    """The kick shrinks it; that it slides at next to no cost is not followed."""
    atoms = skyrmion(12)
    minimum = atoms.get_potential_energy()
    hessian = JointHessian(atoms, positions=False)
    values, modes = hessian.lowest(4, tolerance=1e-5)
    assert (values[:2] < 1e-4 * hessian.stiffness.min()).all()
    shrinks = hessian.space.rotation_vectors(modes[:, 2])
    reversal = np.cross(shrinks, get_spins(atoms))[:, 2].sum()
    kicked = find_saddle(
        atoms,
        direction=(None, np.sign(reversal) * shrinks),
        kick=0.1,
        positions=False,
        torque_max=1e-7,
    )
    assert kicked.is_saddle
    set_spins(atoms, texture(atoms, 1.0))
    known = find_saddle(atoms, positions=False, torque_max=1e-7)
    assert kicked.energy == pytest.approx(known.energy, abs=1e-7)
    assert kicked.energy - minimum > 0.01


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fmax": "low"}, TypeError, "fmax must be a number"),
        ({"steps": 2.5}, TypeError, "steps must be a whole number"),
        ({"kick": float("nan")}, ValueError, "kick must be finite"),
        ({"spin_scale": -1.0}, ValueError, "spin_scale must be finite and > 0"),
    ],
)
def test_searches_that_make_no_sense(options, error, message):
    atoms = Atoms("Fe", magmoms=[1.0])
    with pytest.raises(error, match=message):
        find_saddle(atoms, **options)


def test_only_atoms_have_saddles():
    with pytest.raises(TypeError, match="expected Atoms"):
        find_saddle("Fe", kick=0.1)
