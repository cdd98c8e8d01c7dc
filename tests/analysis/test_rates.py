from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCartesian

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase.analysis import JointHessian, transition_rate
from deepspin_ase.constraints import FixSpins
from deepspin_ase.potentials import (
    CubicCut,
    Heisenberg,
    Potential,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.units import G_FACTOR, HBAR, MU_B

K, HARD, MOMENT = 2e-3, 0.7e-3, 1.7
GAMMA = G_FACTOR / HBAR


class DoubleWell(Potential):
    """E = A (x^2 - 1)^2 + (k/2)(y^2 + z^2) - c x m_z/|m| - K' (m_x/|m|)^2 an atom.

    With c the sides of the well and the moment choose each other.
    """

    uses_spins = True

    def __init__(self, A: float, k: float, c: float = 0.0, easy: float = 0.0) -> None:
        super().__init__()
        self.A, self.k, self.c, self.easy = A, k, c, easy

    def forward(self, system, pairs):
        x, y, z = system.positions.unbind(1)
        lattice = self.A * (x**2 - 1) ** 2 + 0.5 * self.k * (y**2 + z**2)
        if not (self.c or self.easy):
            return lattice
        e = system.spins / system.spins.norm(dim=1, keepdim=True)
        return lattice - self.c * x * e[:, 2] - self.easy * e[:, 0] ** 2


def atom(position: list[float], spin: list[float], potential: Potential) -> Atoms:
    atoms = Atoms("Fe", positions=[position])
    set_spins(atoms, [spin])
    atoms.calc = DeepSpinCalculator(potential)
    return atoms


def test_lattice_hop_is_vineyard_over_known_frequencies():
    """Double well: omega^2 = 8A/M at the bottom, -4A/M at the top."""
    A, k = 0.1, 3.0
    well = DoubleWell(A, k)
    minimum, saddle = atom([1, 0, 0], [0, 0, 1], well), atom([0, 0, 0], [0, 0, 1], well)
    rate = transition_rate(minimum, saddle, spins=False)
    mass = minimum.get_masses()[0]
    attempt = np.sqrt(8 * A / mass) / (2 * np.pi) * units.second
    assert rate.barrier == pytest.approx(A)
    assert rate.growth_rate == pytest.approx(np.sqrt(4 * A / mass), rel=1e-10)
    assert rate.attempt_frequency_per_s() == pytest.approx(attempt, rel=1e-10)
    expected = attempt * np.exp(-A / (units.kB * np.array([300.0, 500.0])))
    assert rate.rate_per_s([300.0, 500.0]) == pytest.approx(expected, rel=1e-10)
    # Kramers: friction slows the escape.
    friction = 0.02
    slow = transition_rate(minimum, saddle, spins=False, friction=friction)
    expected = np.sqrt(4 * A / mass + friction**2 / 4) - friction / 2
    assert slow.growth_rate == pytest.approx(expected, rel=1e-10)


def test_many_atoms_of_two_masses_give_the_ratio_of_frequencies():
    """Vineyard's products of frequencies, from finite differences of the forces.

    Two atoms, each in a double well, and bound to each other. The masses count in
    each frequency, and in the rate through that of the unstable mode only.
    """

    class Bound(Potential):
        uses_spins = False

        def forward(self, system, pairs):
            x = system.positions
            well = 0.1 * (x[:, 0] ** 2 - 1) ** 2 + 1.5 * x[:, 1:].square().sum(1)
            return (
                well
                + 0.1 * (x[0] - x[1] - torch.tensor([0.0, 2.0, 0.0])).square().sum()
            )

    def make(x: list[float]) -> Atoms:
        atoms = Atoms("FeO", positions=[[x[0], 0.1, 0], [x[1], -0.1, 0]])
        atoms.calc = DeepSpinCalculator(Bound())
        for _ in range(30):  # Newton
            hessian = JointHessian(atoms, spins=False)
            step = np.linalg.solve(hessian.matrix(), -hessian.gradient)
            atoms.positions[:] += step.reshape(2, 3)
        return atoms

    def frequencies(atoms: Atoms) -> np.ndarray:
        columns = []
        for k in range(6):
            forces = []
            for h in (1e-4, -1e-4):
                moved = atoms.copy()
                moved.calc = atoms.calc
                moved.positions.flat[k] += h
                forces.append(moved.get_forces().ravel())
            columns.append((forces[1] - forces[0]) / 2e-4)
        weights = np.repeat(atoms.get_masses(), 3) ** -0.5
        squares = np.linalg.eigvalsh(columns * np.outer(weights, weights))
        return np.sqrt(squares.astype(complex))

    minimum, saddle = make([1.0, 1.0]), make([0.05, 0.1])
    rate = transition_rate(minimum, saddle, spins=False)
    below, above = frequencies(minimum), frequencies(saddle)
    vineyard = np.prod(below.real) / np.prod(above.real[above.real > 1e-6])
    expected = vineyard / (2 * np.pi) * units.second
    assert rate.attempt_frequency_per_s() == pytest.approx(expected, rel=1e-5)


def macrospin(theta: float, *, hard: float = HARD, field: float = 0.0) -> Atoms:
    """Return a moment in the xz plane, z easy, y hard, and a field along -z.

    The field is in units of the anisotropy field 2K/m.
    """
    potential = UniaxialAnisotropy(K, (0, 0, 1)) + UniaxialAnisotropy(-hard, (0, 1, 0))
    if field:
        field_T = -field * 2 * K / (MOMENT * MU_B)
        potential = potential + Zeeman((0, 0, field_T))
    direction = np.array([np.sin(theta), 0.0, np.cos(theta)])
    return atom([0, 0, 0], (MOMENT * direction).tolist(), potential)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("h", [0.0, 0.4])
def test_macrospin_in_a_field_is_a_closed_formula(h, damping):
    """Barrier K(1 - h)^2; curvatures by the two angles from its energy surface."""
    rate = transition_rate(
        macrospin(0.0, field=h),
        macrospin(np.arccos(h), field=h),
        positions=False,
        damping=damping,
    )
    assert rate.barrier == pytest.approx(K * (1 - h) ** 2, rel=1e-9)
    bottom = 2 * K * (1 - h), 2 * K * (1 - h) + 2 * HARD
    top = -2 * K * (1 - h**2), 2 * HARD
    scale = rate.spin_scale**2
    assert scale * rate.minimum_curvatures == pytest.approx(bottom, rel=1e-9)
    assert scale * rate.saddle_curvatures == pytest.approx(top, rel=1e-9)
    # kappa^2 (1 + a^2) + kappa w a (l1 + l2) + w^2 l1 l2 = 0, w = gamma/m
    w, total, product = GAMMA / MOMENT, sum(top), top[0] * top[1]
    a = 1 + damping**2
    kappa = (
        w
        * (-damping * total + np.sqrt(damping**2 * total**2 - 4 * a * product))
        / (2 * a)
    )
    assert rate.growth_rate == pytest.approx(kappa, rel=1e-9)
    ratio = np.sqrt(np.prod(bottom) / abs(product))
    expected = kappa / (2 * np.pi) * ratio * units.second
    assert rate.attempt_frequency_per_s() == pytest.approx(expected, rel=1e-9)


def test_a_ring_of_saddles_gives_browns_rate():
    """Uniaxial moment (Brown 1963): one zero mode at the top, of volume 2 pi."""
    minimum, saddle = macrospin(0.0, hard=0.0), macrospin(np.pi / 2, hard=0.0)
    options = {"positions": False, "damping": 0.2}
    with pytest.raises(ValueError, match="volume_ratio, in A\\^1"):
        transition_rate(minimum, saddle, **options)
    ring = 2 * np.pi * 0.4
    rate = transition_rate(minimum, saddle, volume_ratio=ring, **options)
    assert (rate.minimum_zero_modes, rate.saddle_zero_modes) == (0, 1)
    kappa = 2 * K * 0.2 / 1.04 * GAMMA / MOMENT
    thermal = units.kB * 3.0
    brown = kappa * np.sqrt(K / (np.pi * thermal)) * np.exp(-K / thermal)
    assert rate.rate_per_s(3.0) == pytest.approx(brown * units.second, rel=1e-9)
    with pytest.raises(ValueError, match="give temperature_K"):
        rate.attempt_frequency_per_s()
    assert "at 300 K" in str(rate)
    with pytest.raises(ValueError, match="give a damping"):
        transition_rate(minimum, saddle, positions=False, volume_ratio=ring)


def test_rigid_pair_is_one_moment_of_twice_the_length():
    """Two moments locked by exchange switch together: twice K, twice the moment."""

    def pair(theta: float) -> Atoms:
        potential = (
            UniaxialAnisotropy(K, (0, 0, 1))
            + UniaxialAnisotropy(-HARD, (0, 1, 0))
            + Heisenberg(CubicCut(1e3, 3.0))
        )
        direction = MOMENT * np.array([np.sin(theta), 0.0, np.cos(theta)])
        atoms = Atoms("Fe2", positions=[[0, 0, 0], [2.0, 0, 0]])
        set_spins(atoms, [direction, direction])
        atoms.calc = DeepSpinCalculator(potential)
        return atoms

    one = transition_rate(macrospin(0.0), macrospin(np.pi / 2), positions=False)
    two = transition_rate(pair(0.0), pair(np.pi / 2), positions=False)
    assert two.barrier == pytest.approx(2 * one.barrier)
    expected = one.attempt_frequency_per_s()
    assert two.attempt_frequency_per_s() == pytest.approx(expected, rel=1e-4)


def coupled_pair(c: float) -> tuple[Atoms, Atoms]:
    """Return minimum and saddle of the double well with a moment coupled to it.

    At x = 0 the moment lies along its easy direction x, and E falls by x and e_z
    together.
    """
    potential = DoubleWell(0.1, 3.0, c=c, easy=0.002)
    return atom([1.0, 0, 0], [0, 0, 1.5], potential), atom(
        [0, 0, 0], [1.5, 0, 0], potential
    )


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_growth_rate_of_atoms_and_spins_is_that_of_their_dynamics(damping):
    """Eigenvalues of the equations of motion, linearised by finite differences."""
    minimum, saddle = coupled_pair(0.02)
    from deepspin_ase.optimize import relax_spins

    relax_spins(minimum, torque_max=1e-10)
    for _ in range(50):  # Newton in x, along which the force acts
        force = minimum.get_forces()[0, 0]
        minimum.positions[0, 0] += force / 0.8
    rate = transition_rate(minimum, saddle, damping=damping)
    calc, mass = saddle.calc, saddle.get_masses()[0]
    probe = saddle.copy()

    def motion(state: np.ndarray) -> np.ndarray:
        position, velocity, moment = state.reshape(3, 3)
        probe.positions[0] = position
        set_spins(probe, moment[None])
        force = calc.get_property("forces", probe)[0]
        field = calc.get_property("magnetic_forces", probe)[0]
        precession = np.cross(moment, field)
        relaxation = damping / 1.5 * np.cross(moment, precession)
        change = -GAMMA / (1 + damping**2) * (precession + relaxation)
        return np.concatenate([velocity, force / mass, change])

    start = np.concatenate([[0.0] * 6, get_spins(saddle)[0]])
    h = 1e-5
    columns = [
        (motion(start + h * e) - motion(start - h * e)) / (2 * h) for e in np.eye(9)
    ]
    values = np.linalg.eigvals(np.transpose(columns))
    growing = values[(values.real > 1e-3) & (abs(values.imag) < 1e-8)].real
    assert len(growing) == 1
    assert rate.growth_rate == pytest.approx(growing[0], rel=1e-5)


def test_uncoupled_atoms_do_not_change_the_rate_of_a_moment():
    """With and without positions: the same barrier and attempt frequency."""

    class Bound(Potential):
        def forward(self, system, pairs):
            return system.positions.square().sum(1)

    def make(theta: float) -> Atoms:
        atoms = macrospin(theta)
        return atom([0, 0, 0], get_spins(atoms)[0], atoms.calc.potential + Bound())

    whole = transition_rate(make(0.0), make(np.pi / 2))
    spins = transition_rate(make(0.0), make(np.pi / 2), positions=False)
    expected = spins.attempt_frequency_per_s()
    assert whole.attempt_frequency_per_s() == pytest.approx(expected, rel=1e-9)


def test_bad_input_says_what_is_wrong():
    minimum, saddle = macrospin(0.0), macrospin(np.pi / 2)
    options = {"positions": False}
    with pytest.raises(ValueError, match="saddle point is not stationary"):
        transition_rate(minimum, macrospin(1.0), **options)
    with pytest.raises(ValueError, match="minimum has 1 negative curvatures"):
        transition_rate(saddle, minimum, **options)
    with pytest.raises(ValueError, match="saddle point has 0 negative"):
        transition_rate(minimum, minimum, **options)
    with pytest.raises(ValueError, match="same atoms"):
        transition_rate(minimum, saddle + saddle, **options)
    with pytest.raises(ValueError, match="damping must be"):
        transition_rate(minimum, saddle, damping=-1.0, **options)
    shorter = saddle.copy()
    set_spins(shorter, 0.9 * get_spins(saddle))
    shorter.calc = saddle.calc
    with pytest.raises(ValueError, match="different lengths"):
        transition_rate(minimum, shorter, **options)
    other = saddle.copy()
    other.cell[:] = 5 * np.eye(3)
    with pytest.raises(ValueError, match="same cell"):
        transition_rate(minimum, other, **options)
    rate = transition_rate(minimum, saddle, **options)
    with pytest.raises(ValueError, match="above 0 K"):
        rate.rate_per_s(0.0)
    bare = Atoms("Fe", calculator=saddle.calc)
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        transition_rate(bare, bare)


def test_constraints_hold_modes_back():
    well = DoubleWell(0.1, 3.0)
    minimum, saddle = atom([1, 0, 0], [0, 0, 1], well), atom([0, 0, 0], [0, 0, 1], well)
    minimum.set_constraint(FixCartesian(0, (False, True, True)))
    rate = transition_rate(minimum, saddle, spins=False)
    assert rate.saddle_curvatures == pytest.approx([-0.4])
    both = transition_rate(
        *(_with(a, FixSpins([0])) for a in (minimum, saddle)), spins=True
    )
    assert both.growth_rate == pytest.approx(rate.growth_rate)
    minimum.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="nothing can move"):
        transition_rate(minimum, saddle, spins=False)


def _with(atoms: Atoms, constraint: FixSpins) -> Atoms:
    copy = atoms.copy()
    copy.calc = atoms.calc
    copy.set_constraint([*atoms.constraints, constraint])
    return copy
