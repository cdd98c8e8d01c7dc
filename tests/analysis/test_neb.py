"""Spin-lattice nudged elastic band and string, against exact barriers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import ase.calculators.lj
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.constraints import FixAtoms, FixedLine
from ase.io import read
from ase.optimize import BFGS, FIRE, FIRE2, LBFGS, MDMin
from ase.optimize.ode import ODE12r
from scipy.optimize import minimize, minimize_scalar

from deepspin_ase import DeepSpinCalculator, get_spins, read_extxyz, set_spins
from deepspin_ase.analysis import SpinLatticeNEB, interpolate, plot_path
from deepspin_ase.analysis.paths import NEBPath
from deepspin_ase.constraints import FixSpins
from deepspin_ase.neighbors import PairList
from deepspin_ase.optimize import relax_spins
from deepspin_ase.potentials import (
    CubicAnisotropy,
    DzyaloshinskiiMoriya,
    Exponential,
    Heisenberg,
    LennardJones,
    Mixture,
    PairPotential,
    Potential,
    Shells,
    Sum,
    Switched,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

K, MOMENT = 1e-3, 2.0


def macrospin_images(h: float, n_images: int = 7) -> list[Atoms]:
    """Return the reversal of a uniaxial spin in a field h 2K/m along its axis."""
    first = Atoms("Fe", [[0, 0, 0]])
    set_spins(first, [MOMENT])
    field = (0.0, 0.0, h * 2 * K / (MOMENT * MU_B))
    first.calc = DeepSpinCalculator(
        UniaxialAnisotropy(K, (0, 0, 1)), external_field_T=field
    )
    last = first.copy()
    set_spins(last, [-MOMENT])
    return interpolate(first, last, n_images, axis="y")


class CoupledWell(Potential):
    """E = a (x^2 - 1)^2 + k e_z^2 - p e_x^2 - c x e_z + a (y^2 + z^2), x = X/A.

    In the plane e_y = 0, -p e_x^2 = p e_z^2 - p, and e_z = c x / 2(k + p) follows x.
    With g = c^2 / 4(k + p) what is left, a (x^2 - 1)^2 - g x^2 - p, has minima
    -g - g^2/4a - p at x^2 = 1 + g/2a and one saddle a - p at x = e_z = 0.
    """

    a, k, p, c = 0.2, 0.03, 0.02, 0.06
    g = c**2 / (4 * (k + p))
    barrier = a + g + g**2 / (4 * a)

    def forward(self, system: System, pairs: PairList) -> torch.Tensor:
        x, y, z = system.positions.unbind(dim=1)
        e = system.spins / system.spins.norm(dim=1, keepdim=True)
        well = self.a * ((x**2 - 1) ** 2 + y**2 + z**2) - self.c * x * e[:, 2]
        return well + self.k * e[:, 2] ** 2 - self.p * e[:, 0] ** 2


def coupled_images(n_images: int = 9) -> list[Atoms]:
    well = CoupledWell
    x = np.sqrt(1 + well.g / (2 * well.a))
    e_z = well.c * x / (2 * (well.k + well.p))
    ends = []
    for sign in (1, -1):
        ends.append(Atoms("Fe", [[sign * x, 0.0, 0.0]]))
        set_spins(ends[-1], MOMENT * np.array([[np.sqrt(1 - e_z**2), 0, sign * e_z]]))
    ends[0].calc = DeepSpinCalculator(well())
    return interpolate(*ends, n_images)


@pytest.mark.parametrize("h", [0.0, 0.3, -0.6])
def test_barrier_of_a_uniaxial_spin_in_a_field(h: float) -> None:
    neb = SpinLatticeNEB(macrospin_images(h), climb=True)
    assert neb.run(fmax=1e-3, torque_max=1e-7)
    path = neb.path()
    assert path.barrier_forward == pytest.approx(K * (1 + h) ** 2, rel=1e-6)
    assert path.barrier_reverse == pytest.approx(K * (1 - h) ** 2, rel=1e-6)
    assert path.barrier_forward_image == pytest.approx(K * (1 + h) ** 2, rel=1e-6)
    assert path.length == pytest.approx(np.pi * 0.4)
    assert path.fractions["spins"] == pytest.approx(1.0)
    assert path.work["spins"][-1] == pytest.approx(4 * K * h, abs=0.1 * K)


@pytest.mark.parametrize("optimizer", [FIRE, FIRE2, MDMin, BFGS, LBFGS, ODE12r])
def test_optimizers_of_ase(optimizer: Any) -> None:
    neb = SpinLatticeNEB(macrospin_images(0.3, 5), torque_max=1e-5)
    assert optimizer(neb, logfile=None).run(fmax=0.05, steps=400)
    neb.climb = True
    assert optimizer(neb, logfile=None).run(fmax=0.05, steps=400)
    assert neb.path().barrier_forward == pytest.approx(K * 1.69, rel=1e-3)
    for image in neb.images:
        assert np.linalg.norm(get_spins(image)) == pytest.approx(MOMENT, rel=1e-13)


def test_without_a_climbing_image_the_fit_finds_the_barrier() -> None:
    neb = SpinLatticeNEB(macrospin_images(0.3))
    assert neb.run(fmax=1e-3, torque_max=1e-7)
    path = neb.path()
    assert path.barrier_forward == pytest.approx(K * 1.69, rel=2e-3)
    assert path.barrier_forward_image < 0.99 * K * 1.69
    gaps = np.diff(path.coordinate)
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-3)


@pytest.mark.parametrize("spin_scale", [0.2, 1.0])
def test_saddle_of_lattice_and_spin_in_closed_form(spin_scale: float) -> None:
    images = coupled_images()
    neb = SpinLatticeNEB(images, climb=True, spin_scale=spin_scale)
    assert neb.run(fmax=1e-5, torque_max=1e-6)
    path = neb.path()
    assert path.barrier_forward == pytest.approx(CoupledWell.barrier, rel=1e-6)
    assert path.barrier_reverse == pytest.approx(CoupledWell.barrier, rel=1e-6)
    np.testing.assert_allclose(images[4].positions, 0.0, atol=1e-4)
    assert abs(get_spins(images[4])[0, 2]) < 1e-3
    assert sum(path.fractions.values()) == pytest.approx(1.0)
    summed = path.work["lattice"] + path.work["spins"]
    energies = path.energies - path.energies[0]
    coarse = 0.01 if spin_scale < 1 else 0.08  # bends of 45 degrees near the minima
    np.testing.assert_allclose(summed, energies, atol=coarse * CoupledWell.barrier)


def test_string_method_gives_the_same_path() -> None:
    barrier = CoupledWell.barrier
    for optimizer in (None, FIRE):
        neb = SpinLatticeNEB(coupled_images(8), method="string", torque_max=1e-3)
        if optimizer is None:
            assert neb.run(fmax=2e-3)
        else:
            assert optimizer(neb, logfile=None).run(fmax=2e-3, steps=300)
        path = neb.path()
        gaps = np.diff(path.coordinate)
        np.testing.assert_allclose(gaps, gaps.mean(), rtol=2e-3)
        assert path.barrier_forward == pytest.approx(barrier, rel=0.01)
    neb.climb = True
    assert neb.run(fmax=1e-4)
    assert neb.path().barrier_forward == pytest.approx(barrier, rel=1e-6)


def test_weighted_springs_gather_images_at_the_top() -> None:
    even = SpinLatticeNEB(macrospin_images(0.3, 9))
    dense = SpinLatticeNEB(macrospin_images(0.3, 9), spring=(0.02, 0.2))
    for neb in (even, dense):
        assert neb.run(fmax=1e-3, torque_max=1e-6)

    def spacing(neb: SpinLatticeNEB) -> float:
        path = neb.path()
        return np.diff(path.coordinate)[path.highest - 1]

    assert spacing(dense) < 0.7 * spacing(even)


def test_falling_image_finds_the_minimum_between() -> None:
    first = Atoms("Fe", [[0, 0, 0]])
    set_spins(first, [[0.0, 0.0, 1.0]])
    first.calc = DeepSpinCalculator(CubicAnisotropy(4 * K))
    last = first.copy()
    set_spins(last, [[0.0, 0.0, -1.0]])
    images = interpolate(first, last, 8, axis="y")
    neb = SpinLatticeNEB(images, fall=True, climb=[1, 6])
    assert neb.run(fmax=1e-3, torque_max=1e-7)
    spins = np.array([get_spins(image)[0] for image in images])
    assert max(abs(spins[:, 0])) == pytest.approx(1.0, abs=1e-8)
    assert neb.path().barrier_forward == pytest.approx(K, rel=1e-6)


def wall_images(n: int, exchange: float, n_images: int) -> list[Atoms]:
    """Return the reversal of a chain by a wall that starts at its end."""
    first = Atoms(["Fe"] * n, [[2.5 * k, 0, 0] for k in range(n)])
    set_spins(first, np.ones(n))
    easy, hard = UniaxialAnisotropy(K, (0, 0, 1)), UniaxialAnisotropy(-K, (1, 0, 0))
    chain = Heisenberg(Shells([(2.5, exchange)]))
    first.calc = DeepSpinCalculator(Sum([chain, easy, hard]))
    last = first.copy()
    set_spins(last, -np.ones(n))
    width = np.sqrt(exchange / (2 * K))
    orders = []
    for place in range(n - 1, -1, -2):
        angle = 2 * np.arctan(np.exp((np.arange(n) - place) / width))
        orders.append(np.stack([0 * angle, np.sin(angle), np.cos(angle)], axis=1))
    return interpolate(first, last, n_images, via=orders, axis="x")


def test_energy_of_a_bloch_wall() -> None:
    """2 sqrt(2 J K) = 4 sqrt(A K) with A = J/2, times 1 - K/(12 J) on a lattice.

    The correction is the first of the expansion of J (1 - cos) and of differences in
    powers of the wall's inverse width: -(J/24) integral of theta''^2 + theta'^4.
    """
    exchange = 10 * K
    neb = SpinLatticeNEB(wall_images(24, exchange, 12), climb=True, spring=0.05)
    assert neb.run(fmax=1e-3, torque_max=1e-6)
    expected = 2 * np.sqrt(2 * exchange * K) * (1 - K / (12 * exchange))
    assert neb.path().barrier_forward == pytest.approx(expected, rel=1e-3)


def tetragonal(a: float, b: float, c: float) -> Atoms:
    """Return one atom in a body-centred orthorhombic cell."""
    cell = 0.5 * np.array([[-a, b, c], [a, -b, c], [a, b, -c]])
    atoms = Atoms("Ar", cell=cell, pbc=True)
    set_spins(atoms, [0.0])
    return atoms


def test_path_of_the_cell_between_two_fcc_variants() -> None:
    """The saddle lies on the mirror plane of both, where it is a minimum of E."""
    calculator = DeepSpinCalculator(LennardJones(0.1, 2.3, cutoff=6.0))

    def energy(lengths: Sequence[float]) -> float:
        atoms = tetragonal(*lengths)
        atoms.calc = calculator
        return atoms.get_potential_energy()

    fcc = minimize(lambda x: energy((x[0] * np.sqrt(2), x[0], x[0])), [2.5], tol=1e-10)
    side = fcc.x[0]
    saddle = minimize(
        lambda x: energy((x[0], x[1], x[0])), [1.2 * side, 0.95 * side], tol=1e-10
    )
    first = tetragonal(np.sqrt(2) * side, side, side)
    first.calc = calculator
    images = interpolate(first, tetragonal(side, side, np.sqrt(2) * side), 5)
    neb = SpinLatticeNEB(images, cell=True, climb=True, spring=0.5)
    assert neb.run(fmax=1e-3, stress_max=1e-5)
    path = neb.path()
    assert path.barrier_forward == pytest.approx(saddle.fun - fcc.fun, rel=1e-6)
    assert path.fractions["cell"] == pytest.approx(1.0)
    assert neb.residuals()["stress"] < 1e-5


def test_path_of_the_cell_from_fcc_to_bcc() -> None:
    """Bain's path: the barrier is the highest of the lowest energies at each c/a.

    Morse's potential, D (x^2 - 2x) with x = exp(-b (r - r0)), is soft enough with
    b r0 = 4 for both to be minima. The scan sums over the lattice by itself.
    """
    depth, stiffness, r0, cutoff = 0.1, 1.6, 2.5, 6.25
    core = Exponential(0.5 / stiffness, r0, cutoff)
    well = Exponential(1.0 / stiffness, r0, cutoff)
    radial = Switched(Mixture([(depth, core), (-2 * depth, well)]), 0.6 * cutoff)
    steps = np.stack(np.meshgrid(*[np.arange(-7, 8)] * 3), axis=-1).reshape(-1, 3)
    steps = steps[steps.any(axis=1)]

    def energy(side: float, ratio: float) -> float:
        cell = tetragonal(side, side, ratio * side).cell.array
        r = np.linalg.norm(steps @ cell, axis=1)
        x = np.exp(-stiffness * (r - r0))
        y = np.clip((r / cutoff - 0.6) / 0.4, 0.0, 1.0)
        cut = 1 - 10 * y**3 + 15 * y**4 - 6 * y**5
        return 0.5 * depth * float(np.sum((x**2 - 2 * x) * cut))

    def best(ratio: float) -> Any:
        """Return the best side at fixed c/a."""
        return minimize_scalar(energy, (2.8, 2.9), args=(ratio,), tol=1e-8)

    fcc, bcc = best(np.sqrt(2)), best(1.0)
    top = minimize_scalar(
        lambda ratio: -best(ratio).fun,
        bounds=(1.0, np.sqrt(2)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    first = tetragonal(fcc.x, fcc.x, np.sqrt(2) * fcc.x)
    first.calc = DeepSpinCalculator(PairPotential(radial))
    neb = SpinLatticeNEB(
        interpolate(first, tetragonal(*[bcc.x] * 3), 5),
        cell=True,
        climb=True,
        spring=0.5,
    )
    assert neb.run(fmax=1e-3, stress_max=1e-5)
    path = neb.path()
    assert path.barrier_forward == pytest.approx(-top.fun - fcc.fun, rel=1e-5)
    assert path.barrier_reverse == pytest.approx(-top.fun - bcc.fun, rel=1e-5)
    assert 0.0 < path.barrier_reverse < path.barrier_forward
    edges = neb.images[int(np.argmax(path.energies))].cell.array
    a, c = edges[1] + edges[2], edges[0] + edges[1]
    assert np.linalg.norm(c) / np.linalg.norm(a) == pytest.approx(top.x, abs=1e-3)


def test_layers_are_strained_in_their_plane() -> None:
    calculator = DeepSpinCalculator(LennardJones(0.1, 2.3, cutoff=6.0))
    ends = []
    for sides in ((3.3, 2.1), (2.1, 3.3)):
        cell = [*sides, 0.0]
        ends.append(Atoms("Ar2", cell=cell, pbc=(True, True, False)))
        ends[-1].positions[1] = [0.5 * sides[0], 0.5 * sides[1], 1.9]
        set_spins(ends[-1], [0.0, 0.0])
        ends[-1].calc = calculator
    neb = SpinLatticeNEB(interpolate(*ends, 5), cell=True, spring=0.5)
    with pytest.warns(UserWarning, match="not a minimum"):
        neb.run(steps=5)
    assert neb.energies[2] < neb.energies[0]
    for image in neb.images:
        np.testing.assert_array_equal(image.cell.array[2], 0.0)
        np.testing.assert_array_equal(image.cell.array[:, 2], 0.0)
        assert abs(image.positions[1, 2] - image.positions[0, 2]) > 1.0


class Counting(Potential):
    """Heisenberg-free anisotropy that remembers every spin it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = UniaxialAnisotropy(K, (0, 0, 1))
        self.seen: list[np.ndarray] = []

    def forward(self, system: System, pairs: PairList) -> torch.Tensor:
        self.seen.append(system.spins.detach().numpy().copy())
        return self.inner(system, pairs)


def test_one_batched_call_per_step_and_nothing_twice() -> None:
    images = macrospin_images(0.0, 6)
    images[0].calc = DeepSpinCalculator(Counting())
    for image in images:
        image.calc = images[0].calc
    seen = images[0].calc.potential.seen
    neb = SpinLatticeNEB(images, torque_max=1e-7)
    optimizer = FIRE(neb, logfile=None)
    optimizer.run(fmax=1e-3, steps=20)
    neb.path()
    assert len(seen) == optimizer.nsteps + 1
    spins = np.concatenate(seen)
    assert len(spins) == len(np.unique(spins, axis=0))
    for image in images:
        image.get_potential_energy()
        image.calc.get_torques(image)
    assert len(seen) == optimizer.nsteps + 1
    set_spins(images[2], [[0.6, 0.0, 0.8]])
    neb.path()
    assert len(seen[-1]) == 1


class Plain(Calculator):
    """A calculator of another make, with the energy of a uniaxial spin."""

    implemented_properties: ClassVar = ["energy", "forces", "magnetic_forces"]
    n_calls = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        Plain.n_calls += 1
        spins = get_spins(self.atoms)
        cosine = spins[:, 2] / np.linalg.norm(spins, axis=1)
        gradient = np.zeros_like(spins)
        gradient[:, 2] = 2 * K * cosine / np.linalg.norm(spins, axis=1)
        self.results = {
            "energy": -K * np.sum(cosine**2),
            "forces": np.zeros_like(spins),
            "magnetic_forces": gradient,
        }


@pytest.mark.parametrize("shared", [True, False])
def test_other_calculators(shared: bool) -> None:
    images = macrospin_images(0.0, 5)
    one = Plain()
    for image in images:
        image.calc = one if shared else Plain()
    before = Plain.n_calls
    neb = SpinLatticeNEB(images, climb=True)
    assert neb.run(fmax=1e-3, torque_max=1e-6)
    assert neb.path().barrier_forward == pytest.approx(K, rel=1e-6)
    assert Plain.n_calls - before == neb.band.n_evaluated


def test_constraints_hold() -> None:
    first = bulk("Fe", cubic=True).repeat((2, 1, 1))
    rng = np.random.default_rng(0)
    set_spins(first, rng.normal(size=(4, 3)))
    near = Heisenberg(Shells([(2.4855, 0.01)], tolerance=0.8))
    model = Sum([LennardJones(0.1, 2.2, cutoff=4.0), near])
    first.calc = DeepSpinCalculator(model, external_field_T=(10.0, 0.0, 0.0))
    last = first.copy()
    set_spins(last, get_spins(first)[:, [1, 0, 2]])
    last.positions[2] += [0.3, 0.0, 0.1]
    first.set_constraint([FixAtoms([0]), FixedLine([1], (1, 0, 0)), FixSpins([3])])
    images = interpolate(first, last, 5)
    before = [image.copy() for image in images]
    neb = SpinLatticeNEB(images)
    with pytest.warns(UserWarning, match="(first|last) image is not a minimum"):
        neb.run(fmax=0.01, steps=10)
    for image, old in zip(images, before, strict=True):
        np.testing.assert_array_equal(image.positions[0], old.positions[0])
        np.testing.assert_allclose(image.positions[1, 1:], old.positions[1, 1:])
        np.testing.assert_allclose(get_spins(image)[3], get_spins(old)[3], atol=1e-15)
    assert abs(images[2].positions - before[2].positions).max() > 1e-3
    assert not neb.get_forces()[:, [0, 7]].any()


def test_band_goes_on_from_a_file(tmp_path: Path) -> None:
    neb = SpinLatticeNEB(coupled_images(6), climb=True)
    neb.run(fmax=0.01, torque_max=1e-3)
    neb.write(tmp_path / "band.extxyz")
    images = read_extxyz(tmp_path / "band.extxyz")
    results = images[2].calc.results
    expected = neb.band.results[2]["torques"]
    np.testing.assert_allclose(results["torques"], expected, atol=1e-8)
    for image in images:
        image.calc = neb.images[0].calc
    again = SpinLatticeNEB(images, climb=True).path()
    assert again.barrier_forward == pytest.approx(neb.path().barrier_forward, rel=1e-6)
    optimizer = FIRE(neb, logfile=None, trajectory=str(tmp_path / "band.traj"))
    optimizer.run(fmax=0.005, steps=2)
    assert len(read(tmp_path / "band.traj", ":")) == 6 * (1 + optimizer.nsteps)


def test_path_is_saved_and_drawn(tmp_path: Path) -> None:
    neb = SpinLatticeNEB(coupled_images(7), climb=True)
    neb.run(fmax=1e-3, torque_max=1e-4)
    path = neb.path()
    path.save(tmp_path / "path.npz")
    loaded = NEBPath.load(tmp_path / "path.npz")
    assert loaded.table() == path.table()
    assert loaded.barrier_forward == path.barrier_forward
    assert repr(loaded) == repr(path)
    np.testing.assert_array_equal(loaded.forces, path.forces)
    axes = plot_path(path, parts=True)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:3] == ["fit", "images", "climbing image"]
    assert labels[3:] == ["work of lattice", "work of spins"]
    curve = axes.lines[0].get_ydata()
    assert max(curve) == pytest.approx(1e3 * path.barrier_forward, rel=1e-3)
    plt.close(axes.figure)


def test_lengths_of_moments_that_differ_at_the_ends_count_in_the_slopes() -> None:
    first = Atoms("Fe", [[0, 0, 0]])
    set_spins(first, [[0.0, 0.0, 2.0]])
    first.calc = DeepSpinCalculator(Zeeman((0.0, 0.0, 30.0)))
    last = first.copy()
    set_spins(last, [[0.0, 1.0, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = SpinLatticeNEB(interpolate(first, last, 21)).path()
    fine = np.linspace(0.0, path.length, 401)
    along = fine / path.length
    exact = -30.0 * MU_B * (2.0 - along) * np.cos(0.5 * np.pi * along)
    np.testing.assert_allclose(path.fit(fine), exact, atol=2e-3 * np.ptp(exact))
    assert path.work["magnitudes"][-1] > 0.2 * np.ptp(exact)


def test_folded_paths_and_ends_above_the_path_are_reported() -> None:
    images = macrospin_images(0.0, 5)
    set_spins(images[1], get_spins(images[3]) + np.array([[0.0, 0.1, 0.0]]))
    with pytest.warns(UserWarning, match="folds back at image 1"):
        SpinLatticeNEB(images).path()
    with pytest.warns(UserWarning, match="down from the first image"):
        SpinLatticeNEB(macrospin_images(0.0, 9)[4:]).path()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images.pop() and images.pop(), "at least 3 images"),
        (lambda images: setattr(images[1], "calc", None), "no calculator"),
        (lambda images: setattr(images[1], "calc", Plain()), "one kind"),
        (lambda images: images[1].positions.fill(np.nan), "image 1 are not finite"),
        (lambda images: images[1].set_atomic_numbers([28]), "sort the atoms alike"),
        (lambda images: images[1].set_cell([9, 9, 9]), "cell=True"),
        (lambda images: images[1].set_initial_magnetic_moments(None), "no magnetic"),
        (lambda images: set_spins(images[1], get_spins(images[0])), "the same"),
        (lambda images: images[1].set_constraint(FixSpins([0])), "fixed spins"),
        (
            lambda images: setattr(
                images[1], "calc", DeepSpinCalculator(UniaxialAnisotropy(1, (1, 0, 0)))
            ),
            "another model",
        ),
    ],
)
def test_images_that_do_not_fit(change: Any, message: str) -> None:
    images = macrospin_images(0.0, 4)
    change(images)
    with pytest.raises(ValueError, match=message):
        SpinLatticeNEB(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spring": -1.0}, "spring"),
        ({"spring": (1.0, 2.0, 3.0)}, "spring"),
        ({"spring": "stiff"}, "spring must be"),
        ({"method": "dimer"}, "method"),
        ({"spin_scale": 0.0}, "spin_scale"),
        ({"cell": True}, "periodic direction"),
        ({"torque_max": float("nan")}, "torque_max"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpinLatticeNEB(macrospin_images(0.0, 4), **options)


@pytest.mark.parametrize("images", [None, 5, Atoms("Fe")])
def test_bands_are_sequences_of_atoms(images: Any) -> None:
    with pytest.raises(TypeError, match="a band is a sequence of Atoms"):
        SpinLatticeNEB(images)


def test_calculators_without_spins_say_so() -> None:
    """Also where interpolate has passed the calculator on."""
    ends = [Atoms("Ar2", [[0, 0, 0], [0, 0, z]]) for z in (3.0, 4.0)]
    for atoms in ends:
        set_spins(atoms, [0.0, 0.0])
    ends[0].calc = ase.calculators.lj.LennardJones()
    with pytest.raises(ValueError, match="LennardJones does not give magnetic_forces"):
        SpinLatticeNEB(interpolate(*ends, 3))


@pytest.mark.parametrize("result", [None, "path.npz"])
def test_paths_are_drawn_and_nothing_else(result: Any) -> None:
    with pytest.raises(TypeError, match="expected an NEBPath"):
        plot_path(result)


def test_climbing_images_are_inner_ones() -> None:
    neb = SpinLatticeNEB(macrospin_images(0.0, 4), climb=[3])
    with pytest.raises(ValueError, match="from 1 to 2"):
        neb.get_forces()


@pytest.mark.parametrize("climb", ["yes", 1, None])
def test_climbing_images_are_a_list(climb: Any) -> None:
    with pytest.raises(TypeError, match="climb must be"):
        SpinLatticeNEB(macrospin_images(0.0, 4), climb=climb).get_forces()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fmax": -1.0}, ValueError, "fmax"),
        ({"fmax": "low"}, TypeError, "fmax"),
        ({"torque_max": -1.0}, ValueError, "torque_max"),
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
    ],
)
def test_runs_that_make_no_sense(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SpinLatticeNEB(macrospin_images(0.0, 4)).run(**options)


class Broken(Potential):
    """Not finite away from the poles."""

    def forward(self, system: System, pairs: PairList) -> torch.Tensor:
        return torch.log(system.spins[:, 2])


def test_energies_that_are_not_finite() -> None:
    images = macrospin_images(0.0, 4)
    calculator = DeepSpinCalculator(Broken())
    for image in images:
        image.calc = calculator
    with pytest.raises(CalculationFailed, match="image 2"):
        SpinLatticeNEB(images).get_forces()


def skyrmion_images(side: int, n_images: int) -> list[Atoms]:
    """Return the collapse of a skyrmion on a square lattice of spins.

    J = 1 meV, D = 0.48 J, and a field of mu B = D^2 / 2J against the core's moment.
    """
    exchange = 1e-3
    twist = 0.48 * exchange
    first = bulk("Fe", "sc", a=2.5).repeat((side, side, 1))
    first.pbc = (True, True, False)
    first.set_constraint(FixAtoms(range(len(first))))
    near = Shells([(2.5, exchange)])
    chiral = Shells([(2.5, twist)])
    terms = [
        Heisenberg(near),
        DzyaloshinskiiMoriya(chiral, direction="interfacial", axis=(0, 0, 1)),
        Zeeman((0.0, 0.0, -0.5 * twist**2 / exchange / MU_B)),
    ]
    first.calc = DeepSpinCalculator(Sum(terms))
    places = (first.positions - first.positions.mean(axis=0)) / 2.5
    distance = np.linalg.norm(places[:, :2], axis=1)
    outward = places / distance[:, None]

    def order(radius: float) -> np.ndarray:
        angle = 2 * np.arctan(np.sinh(radius / 1.5) / np.sinh(distance / 1.5))
        up = np.array([0.0, 0.0, 1.0])
        return np.sin(angle)[:, None] * outward - np.cos(angle)[:, None] * up

    set_spins(first, order(3.0))
    assert relax_spins(first, torque_max=1e-9, steps=3000).converged
    last = first.copy()
    set_spins(last, -np.ones(len(last)))
    orders = [order(radius) for radius in np.linspace(3.5, 0.1, 8)]
    return interpolate(first, last, n_images, via=orders, axis="x")


@pytest.mark.slow
def test_collapse_of_a_skyrmion_does_not_depend_on_the_number_of_images() -> None:
    from deepspin_ase.analysis import find_saddle

    barriers, refined = [], []
    for n_images in (8, 11):
        images = skyrmion_images(20, n_images)
        neb = SpinLatticeNEB(images, climb=True, spring=0.05)
        assert neb.run(fmax=1e-3, torque_max=1e-6, steps=400)
        path = neb.path()
        barriers.append(path.barrier_forward)
        saddle = find_saddle(images[path.highest], torque_max=1e-9)
        assert saddle.is_saddle
        refined.append(saddle.energy - path.energies[0])
    assert np.ptp(refined) < 1e-9
    np.testing.assert_allclose(barriers, refined, atol=1e-7)
