"""First guesses of paths, and the space of positions, spins and cells."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from scipy.spatial.transform import Rotation

from deepspin_ase import DeepSpinCalculator, get_spins, set_spins
from deepspin_ase._rotations import rotations_between
from deepspin_ase._strain import logarithmic_strain
from deepspin_ase.analysis import interpolate
from deepspin_ase.analysis._joint_space import (
    Metric,
    image_steps,
    move_image,
)
from deepspin_ase.analysis.paths import redistribute_images
from deepspin_ase.potentials import (
    DzyaloshinskiiMoriya,
    Exponential,
    Heisenberg,
    Mixture,
    PairPotential,
    Sum,
    Switched,
)


def skewed(seed: int = 0) -> Atoms:
    """Return four atoms of two elements, one without moment, in a skewed cell."""
    rng = np.random.default_rng(seed)
    cell = 3.5 * np.eye(3) + 0.4 * rng.normal(size=(3, 3))
    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = Atoms("Fe2OFe", scaled_positions=places, cell=cell, pbc=True)
    atoms.rattle(0.05, seed=seed)
    spins = rng.normal(size=(4, 3))
    spins[2] = 0.0
    set_spins(atoms, spins)
    return atoms


def coupled_model() -> DeepSpinCalculator:
    """Return a smooth model in which lattice, spins and cell depend on each other."""
    decay = Switched(Exponential(0.8, 2.5, 5.0), 3.5)
    return DeepSpinCalculator(
        Sum(
            [
                PairPotential(decay),
                Heisenberg(Mixture([(0.03, decay)])),
                DzyaloshinskiiMoriya(Mixture([(0.01, decay)])),
            ]
        )
    )


def test_rows_and_forces_are_conjugate() -> None:
    atoms = skewed()
    atoms.calc = coupled_model()
    metric = Metric.of(atoms, 0.7, True)
    atoms.get_potential_energy()
    forces = metric.forces(atoms.calc.results)
    rng = np.random.default_rng(1)
    step = 2e-5
    for _ in range(3):
        rows = rng.normal(size=(1, 11, 3))
        rows[:, 8:] += np.swapaxes(rows[:, 8:], 1, 2).copy()
        energies = []
        for sign in (1, -1):
            image = atoms.copy()
            image.calc = atoms.calc
            steps = metric.steps(sign * step * rows)
            move_image(image, steps.lattice[0], steps.rotations[0], steps.strains[0])
            energies.append(image.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * step)
        assert slope == pytest.approx(-np.sum(forces * rows), rel=1e-6)


def test_a_step_is_found_again_and_leads_back() -> None:
    start = skewed()
    rng = np.random.default_rng(2)
    lattice, rotations = 0.1 * rng.normal(size=(2, 4, 3))
    spins = get_spins(start)
    unit = spins / np.where(spins.any(1), np.linalg.norm(spins, axis=1), 1.0)[:, None]
    rotations -= unit * np.sum(rotations * unit, axis=1, keepdims=True)
    rotations[2] = 0.0
    small = 0.02 * rng.normal(size=(3, 3))
    small += small.T
    end = start.copy()
    move_image(end, lattice, rotations, small)
    steps = image_steps([start, end], cell=True)
    np.testing.assert_allclose(steps.rotations[0], rotations, atol=1e-12)
    np.testing.assert_allclose(steps.strains[0], small, atol=1e-12)
    # Mean of both cells, and half the strain either side: equal to second order.
    np.testing.assert_allclose(steps.lattice[0], lattice, atol=1e-3)
    move_image(end, -lattice, -rotations, -small)
    np.testing.assert_allclose(end.positions, start.positions, atol=1e-13)
    np.testing.assert_allclose(get_spins(end), spins, atol=1e-13)
    np.testing.assert_allclose(end.cell.array, start.cell.array, atol=1e-13)


def test_turning_a_crystal_is_no_strain() -> None:
    cell = skewed().cell.array
    stretch = np.diag([1.1, 1.0, 0.95])
    turn = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    np.testing.assert_allclose(logarithmic_strain(cell, cell @ turn), 0.0, atol=1e-14)
    found = np.linalg.eigvalsh(logarithmic_strain(cell, cell @ stretch @ turn))
    np.testing.assert_allclose(found, np.log([0.95, 1.0, 1.1]), atol=1e-14)


def test_turns_are_great_circles() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 3))
    rotations = rotations_between(a, b)
    turned = Rotation.from_rotvec(rotations).apply(a)
    lengths = np.linalg.norm(b, axis=1) / np.linalg.norm(a, axis=1)
    np.testing.assert_allclose(turned * lengths[:, None], b, atol=1e-12)
    np.testing.assert_allclose(np.sum(rotations * a, axis=1), 0.0, atol=1e-12)
    half = rotations_between(a, -2.0 * a)
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), np.pi)
    np.testing.assert_allclose(np.sum(half * a, axis=1), 0.0, atol=1e-12)


def test_spins_turn_evenly_and_keep_lengths() -> None:
    first, last = skewed(), skewed()
    set_spins(last, Rotation.from_rotvec([0.4, 0.9, -0.3]).apply(get_spins(first)))
    images = interpolate(first, last, 6)
    rotations = np.linalg.norm(image_steps(images, cell=False).rotations, axis=2)
    np.testing.assert_allclose(
        rotations, np.broadcast_to(rotations[0], rotations.shape)
    )
    lengths = [np.linalg.norm(get_spins(image), axis=1) for image in images]
    np.testing.assert_allclose(lengths, [lengths[0]] * 6)
    np.testing.assert_allclose(get_spins(images[-1]), get_spins(last), atol=1e-14)
    assert not get_spins(images[3])[2].any()


def test_moments_that_appear_grow() -> None:
    first, last = skewed(), skewed()
    spins = get_spins(first)
    spins[0] = 0.0
    set_spins(first, spins)
    middle = get_spins(interpolate(first, last, 5)[2])
    np.testing.assert_allclose(middle[0], 0.5 * get_spins(last)[0])


@pytest.mark.parametrize("axis", ["x", (0.0, 1.0, 0.0), (1.0, 1.0, 0.0)])
def test_reversal_about_an_axis(axis: str | tuple[float, ...]) -> None:
    first = bulk("Fe", cubic=True)
    set_spins(first, [2.0, -2.0])
    last = first.copy()
    set_spins(last, [-2.0, 2.0])
    spins = get_spins(interpolate(first, last, 3, axis=axis)[1])
    vector = np.array([1.0, 0.0, 0.0]) if axis == "x" else np.array(axis)
    np.testing.assert_allclose(spins @ vector, 0.0, atol=1e-12)
    expected = np.cross(vector / np.linalg.norm(vector), [0.0, 0.0, 2.0])
    np.testing.assert_allclose(spins, [expected, -expected], atol=1e-12)


def test_reversal_without_an_axis_says_which_one_was_taken() -> None:
    first = bulk("Fe", cubic=True)
    set_spins(first, [2.0, 2.0])
    last = first.copy()
    set_spins(last, [-2.0, -2.0])
    with pytest.warns(UserWarning, match=r"2 spins .* about the axis \("):
        images = interpolate(first, last, 5)
    rotations = image_steps(images, cell=False).rotations
    np.testing.assert_allclose(np.linalg.norm(rotations, axis=2), np.pi / 4)
    np.testing.assert_allclose(rotations[:, 0], rotations[:, 1], atol=1e-12)


def test_orders_to_pass_through() -> None:
    first = bulk("Fe", cubic=True)
    set_spins(first, [2.0, 2.0])
    last = first.copy()
    set_spins(last, [-2.0, -2.0])
    canted = [[1.0, 0.0, 0.0], [0.0, 3.0, 0.0]]
    images = interpolate(first, last, 5, via=[canted])
    np.testing.assert_allclose(get_spins(images[2]), [[2, 0, 0], [0, 2, 0]], atol=1e-12)
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        interpolate(first, last, 5, via=[[[1, 0, 0]]])


def test_atoms_take_the_short_way_across_the_boundary() -> None:
    first = Atoms("Fe2", [[0.1, 0, 0], [2.0, 0, 0]], cell=[4, 4, 4], pbc=True)
    set_spins(first, [1.0, 1.0])
    last = first.copy()
    last.positions[0, 0] = 3.9
    assert interpolate(first, last, 3)[1].positions[0, 0] == pytest.approx(0.0)
    far = interpolate(first, last, 3, mic=False)[1]
    assert far.positions[0, 0] == pytest.approx(2.0)


def test_cells_change_with_their_atoms() -> None:
    first = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    set_spins(first, np.zeros(8))
    last = first.copy()
    last.set_cell(first.cell.array @ np.diag([1.1, 1.0, 0.9]), scale_atoms=True)
    middle = interpolate(first, last, 3)[1]
    np.testing.assert_allclose(middle.cell.lengths(), [5.88, 5.6, 5.32])
    np.testing.assert_allclose(
        middle.get_scaled_positions(), first.get_scaled_positions(), atol=1e-12
    )
    with pytest.raises(ValueError, match="idpp"):
        interpolate(first, last, 3, positions="idpp")


def test_idpp_keeps_atoms_apart() -> None:
    first = molecule("H2O")
    set_spins(first, np.zeros(3))
    last = first.copy()
    last.positions[[1, 2]] = first.positions[[2, 1]]
    last.positions[1] += [0.2, 0.0, 0.0]
    straight = interpolate(first, last, 5)[2].get_distance(1, 2)
    apart = interpolate(first, last, 5, positions="idpp")[2].get_distance(1, 2)
    assert apart > 2.0 * straight


def test_images_keep_constraints_and_share_the_calculator() -> None:
    first = skewed()
    first.calc = coupled_model()
    first.set_constraint(FixAtoms([0]))
    images = interpolate(first, skewed(), 4)
    assert all(image.calc is first.calc for image in images)
    assert all(len(image.constraints) == 1 for image in images)


def test_redistributed_images_are_at_equal_distances() -> None:
    first, last = skewed(), skewed()
    last.positions += np.array([[0.3], [0.1], [-0.2], [0.0]]) * [1.0, 0.5, 0.0]
    set_spins(last, Rotation.from_rotvec([0.4, 0.9, -0.3]).apply(get_spins(first)))
    last.set_cell(first.cell.array @ np.diag([1.05, 1.0, 0.97]), scale_atoms=True)
    images = interpolate(first, last, 9)
    images = [images[k] for k in (0, 1, 2, 3, 6, 8)]
    metric = Metric.of(first, 0.4, True)

    def gaps() -> np.ndarray:
        rows = metric.rows(image_steps(images, cell=True))
        return np.sqrt((rows**2).sum(axis=(1, 2)))

    assert np.ptp(gaps()) > 0.1
    redistribute_images(images, metric)
    np.testing.assert_allclose(gaps(), gaps().mean(), rtol=1e-3)
    before = images[2].copy()
    redistribute_images(images, metric, fixed=[2])
    np.testing.assert_array_equal(images[2].positions, before.positions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop(), "4 atoms|3 atoms"),
        (lambda a: a.set_chemical_symbols("FeOFeFe"), "sort the atoms alike"),
        (lambda a: a.set_pbc((True, True, False)), "pbc"),
        (lambda a: a.set_initial_magnetic_moments(None), "no magnetic moments"),
    ],
)
def test_ends_that_do_not_fit(change, message: str) -> None:
    last = skewed()
    change(last)
    with pytest.raises(ValueError, match=message):
        interpolate(skewed(), last, 5)


def test_bad_arguments() -> None:
    first, last = skewed(), skewed(1)
    last.cell = first.cell
    with pytest.raises(ValueError, match="at least 3"):
        interpolate(first, last, 2)
    with pytest.raises(ValueError, match="'linear' or 'idpp'"):
        interpolate(first, last, 3, positions="cubic")
    set_spins(last, -get_spins(first))
    with pytest.raises(ValueError, match="along the spin of atom 0"):
        interpolate(first, last, 3, axis=get_spins(first)[0])
    with warnings.catch_warnings(), pytest.raises(ValueError, match="axis 'q'"):
        interpolate(first, last, 3, axis="q")
