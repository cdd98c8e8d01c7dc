"""BiFeO3: its spin term, its reference, and the shipped model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins, set_spins
from deepspin_ase.constraints import FixSpins
from deepspin_ase.data import read_dataset
from deepspin_ase.optimize import relax
from deepspin_ase.potentials import (
    BismuthFerriteSpins,
    Potential,
    bismuth_ferrite,
    load_card,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.materials.reference import bifeo3_reference
from deepspin_ase.system import System
from deepspin_ase.training import collect, compare, load_batches

DATA = Path(__file__).parents[2] / "tutorials" / "bifeo3" / "data"


def energy(potential: Potential, atoms: Atoms) -> float:
    found = potential.evaluate(
        System.from_atoms(atoms), forces=False, magnetic_forces=False, virial=False
    )
    return float(found.energy)


def disordered(*, repeat=(1, 1, 1), seed: int = 0) -> Atoms:
    """A strained, rattled cell with random spins of unequal lengths."""
    rng = np.random.default_rng(seed)
    atoms = bismuth_ferrite().repeat(repeat)
    atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), True)
    atoms.positions += rng.normal(0, 0.07, (len(atoms), 3))
    spins = np.zeros((len(atoms), 3))
    iron = atoms.numbers == 26
    spins[iron] = rng.normal(0, 2.0, (iron.sum(), 3))
    set_spins(atoms, spins)
    return atoms


def test_cell_is_r3c_and_variants_are_equivalent() -> None:
    atoms = bismuth_ferrite()
    bonds = np.sort(atoms.get_all_distances(mic=True)[2:4, 4:], axis=1)
    np.testing.assert_allclose(bonds[:, :3], bonds[0, 0], atol=1e-3)
    np.testing.assert_allclose(bonds[:, 3:], bonds[0, 3], atol=1e-3)
    assert 1.9 < bonds[0, 0] < 2.0 and 2.1 < bonds[0, 3] < 2.2
    for polar in ((1, 1, -1), (-1, 1, 1), (-1, -1, 1), (-1, -1, -1)):
        for sign in (1, -1):
            other = bismuth_ferrite(polar, sign * np.array(polar))
            np.testing.assert_allclose(
                np.sort(other.get_all_distances(mic=True), axis=None),
                np.sort(atoms.get_all_distances(mic=True), axis=None),
                atol=1e-6,
            )
            drift = (other.positions - atoms.positions).sum(axis=0)
            np.testing.assert_allclose(drift, 0.0, atol=1e-9)
    assert np.allclose(get_spins(atoms).sum(axis=0), 0.0)
    np.testing.assert_allclose(np.linalg.norm(get_spins(atoms)[2:4], axis=1), 4.0)


def test_cell_rejects_nonsense() -> None:
    with pytest.raises(ValueError, match="three numbers"):
        bismuth_ferrite((1, 1))
    with pytest.raises(ValueError, match="a must be finite and > 0"):
        bismuth_ferrite(a=-4.0)


@pytest.fixture(scope="module")
def observed() -> Atoms:
    """R3c at 298 K, 30 atoms along hexagonal axes."""
    return crystal(
        ["Bi", "Fe", "O"],
        [(0, 0, 0), (0, 0, 0.22021), (0.4469, 0.0181, 0.95183)],
        spacegroup=161,
        cellpar=[5.57882, 5.57882, 13.86932, 90, 90, 120],
    )


def with_order(atoms: Atoms, wave: tuple[int, ...], axis: np.ndarray) -> Atoms:
    """Give Fe moments that change sign along pseudo-cubic axes where wave is 1."""
    atoms = atoms.repeat((2, 2, 1))
    a = atoms.cell.cellpar()[0] / 2
    c = atoms.cell.cellpar()[2]
    # Pseudo-cubic axes: threefold about z, each rising c/6 per atomic layer.
    azimuth = np.radians([-30, 90, 210])
    axes = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1) * a / 3**0.5
    axes = np.column_stack([axes, np.full(3, c / 6)])
    iron = atoms.numbers == 26
    site = (atoms.positions - atoms.positions[iron][0]) @ np.linalg.inv(axes)
    signs = np.where(np.round(site @ wave) % 2, -1.0, 1.0) * iron
    set_spins(atoms, signs[:, None] * axis)
    return atoms


@pytest.mark.parametrize(
    ("wave", "expected"),
    [((1, 1, 1), 0.0), ((1, 1, 0), 67.0), ((0, 0, 1), 148.0), ((0, 0, 0), 243.0)],
    ids=["G", "C", "A", "F"],
)
def test_collinear_orders(
    observed: Atoms, wave: tuple[int, ...], expected: float
) -> None:
    atoms = with_order(observed, wave, np.array([1.0, 0.0, 0.0]))
    found = 1e3 * energy(BismuthFerriteSpins(), atoms) / 24
    assert found == pytest.approx(expected, abs=0.5)


def test_polar_axis_is_easy(observed: Atoms) -> None:
    atoms = with_order(observed, (1, 1, 1), np.array([0.0, 0.0, 1.0]))
    found = 1e3 * energy(BismuthFerriteSpins(), atoms) / 24
    assert found == pytest.approx(-0.0319, rel=0.01)


def molecule(symbols: str, positions: list, spins: list) -> Atoms:
    atoms = Atoms(symbols, positions=positions)
    set_spins(atoms, np.array(spins, dtype=float))
    return atoms


def test_superexchange_and_tilt_of_one_bridge() -> None:
    """Closed formula for Fe-O-Fe: J0 and d_tilt, with the angle at O."""
    r, angle = 2.03, np.radians(160.0)
    ends = r * np.array([[1, 0, 0], [np.cos(angle), np.sin(angle), 0]])
    first, second = np.array([0.0, 0.6, 0.8]), np.array([1.0, 0.0, 0.0])
    atoms = molecule("OFe2", [[0, 0, 0], *ends], [[0, 0, 0], 3 * first, 5 * second])
    potential = BismuthFerriteSpins(J0=0.05, d_tilt=0.002)
    turned = np.array([0, 0, np.sin(angle)])
    expected = -0.05 * np.cos(angle) * (1 + first @ second)
    expected += 0.002 * turned @ np.cross(first, second)
    assert energy(potential, atoms) == pytest.approx(expected, rel=1e-12)
    atoms.positions[2] *= 2.1 / r
    falling = np.exp(-(2.1 - r) / 0.406)
    assert energy(potential, atoms) == pytest.approx(expected * falling, rel=1e-12)


def test_next_neighbours_polar_exchange_and_easy_axis() -> None:
    first, second = np.array([0.0, 0.6, 0.8]), np.array([1.0, 0.0, 0.0])
    pair = molecule("Fe2", [[0, 0, 0], [5.7, 0, 0]], [first, second])
    expected = 1.8125e-3 * np.exp(-0.1 / 0.6) * (first @ second - 1)
    assert energy(BismuthFerriteSpins(), pair) == pytest.approx(expected, rel=1e-12)

    bismuth = np.array([2.0, 0.3, 2.6])
    atoms = molecule(
        "Fe2Bi", [[0, 0, 0], [4, 0, 0], bismuth], [first, second, np.zeros(3)]
    )
    shift = 0.25 * (bismuth - [2, 0, 0])
    vector = 2.2476e-3 * np.cross(shift, [1, 0, 0])
    expected = vector @ np.cross(first, second)
    for spin, site in ((first, [0, 0, 0]), (second, [4, 0, 0])):
        expected -= 0.0319e-3 / 0.4133**2 * (spin @ (bismuth - site) / 8) ** 2
    assert energy(BismuthFerriteSpins(), atoms) == pytest.approx(expected, rel=1e-12)


def test_every_term_vanishes_smoothly() -> None:
    """No jump where a pair enters: energies along a stretch are continuous."""
    atoms = disordered(repeat=(2, 1, 1))
    potential, base = BismuthFerriteSpins(), atoms.cell.array.copy()
    stretched = []
    for scale in np.linspace(1.0, 1.35, 150):
        image = atoms.copy()
        image.set_cell(scale * base, scale_atoms=True)
        stretched.append(image)
    found = potential.evaluate(
        System.from_atoms(stretched), virial=False
    ).energy.numpy()
    curvature = np.diff(found, 2)
    assert np.abs(np.diff(curvature)).max() < 0.1 * np.ptp(curvature)


def numerical(potential: Potential, atoms: Atoms, change, h: float = 1e-4) -> float:
    """-dE/dx of change(atoms, x), fourth order."""

    def at(x: float) -> float:
        image = atoms.copy()
        change(image, x)
        return energy(potential, image)

    return -(8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def check_derivatives(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    found = potential.evaluate(System.from_atoms(atoms))
    volume = atoms.get_volume()

    def move(index: int, axis: int):
        def change(image: Atoms, x: float) -> None:
            image.positions[index, axis] += x

        return change

    def turn(index: int, axis: int):
        def change(image: Atoms, x: float) -> None:
            spins = get_spins(image)
            spins[index, axis] += x
            set_spins(image, spins)

        return change

    def strain(a: int, b: int):
        def change(image: Atoms, x: float) -> None:
            deform = np.eye(3)
            deform[b, a] += x
            image.set_cell(image.cell @ deform, scale_atoms=True)

        return change

    for index, axis in ((0, 0), (2, 1), (7, 2)):
        value = numerical(potential, atoms, move(index, axis))
        assert float(found.forces[index, axis]) == pytest.approx(value, abs=tolerance)
    for index, axis in ((2, 0), (3, 2)):
        value = numerical(potential, atoms, turn(index, axis))
        assert float(found.magnetic_forces[index, axis]) == pytest.approx(
            value, abs=tolerance
        )
    for a, b in ((0, 0), (0, 1), (2, 1)):
        value = numerical(potential, atoms, strain(a, b))
        assert float(found.virial[0, a, b]) / volume == pytest.approx(
            value / volume, abs=tolerance
        )


def test_derivatives_of_the_spin_term() -> None:
    check_derivatives(BismuthFerriteSpins(), disordered(), 1e-9)


def test_symmetry_of_the_spin_term() -> None:
    potential, atoms = BismuthFerriteSpins(), disordered(repeat=(2, 1, 1))
    value = energy(potential, atoms)
    turned = atoms.copy()
    matrix = Rotation.random(rng=1).as_matrix()
    turned.set_cell(atoms.cell @ matrix.T, scale_atoms=True)
    set_spins(turned, get_spins(atoms) @ matrix.T)
    assert energy(potential, turned) == pytest.approx(value, abs=1e-12)

    inverted = atoms.copy()  # moments are axial: they stay
    inverted.set_cell(-atoms.cell, scale_atoms=True)
    assert energy(potential, inverted) == pytest.approx(value, abs=1e-12)

    reversed_ = atoms.copy()
    set_spins(reversed_, -get_spins(atoms))
    assert energy(potential, reversed_) == pytest.approx(value, abs=1e-12)

    moved = atoms[np.random.default_rng(0).permutation(len(atoms))]
    moved.positions += 1.7
    moved.wrap()
    assert energy(potential, moved) == pytest.approx(value, abs=1e-12)

    assert energy(potential, atoms.repeat((1, 2, 1))) == pytest.approx(2 * value)

    longer = atoms.copy()
    set_spins(longer, 1.3 * get_spins(atoms))
    assert energy(potential, longer) == pytest.approx(value, abs=1e-12)


def test_iron_without_moment_takes_no_part() -> None:
    atoms = molecule("OFe2", [[0, 0, 0], [2, 0, 0], [-2, 0, 0]], [[0] * 3] * 3)
    set_spins(atoms, [[0, 0, 0], [0, 0, 4], [0, 0, 0]])
    assert energy(BismuthFerriteSpins(), atoms) == 0.0


def test_foreign_atoms_and_misplaced_moments_are_refused() -> None:
    atoms = bismuth_ferrite()
    atoms.numbers[0] = 57
    with pytest.raises(ValueError, match="does not know the element La"):
        energy(BismuthFerriteSpins(), atoms)
    atoms = bismuth_ferrite()
    set_spins(atoms, np.ones((10, 3)))
    with pytest.raises(ValueError, match="non-magnetic"):
        energy(BismuthFerriteSpins(), atoms)


def test_save_and_load(tmp_path) -> None:
    potential, atoms = BismuthFerriteSpins(J0=0.05, K=-1e-4), disordered()
    save_potential(tmp_path / "spins.pt", potential)
    again = load_potential(tmp_path / "spins.pt")
    assert energy(again, atoms) == energy(potential, atoms)


def test_float32_and_batches() -> None:
    potential = BismuthFerriteSpins()
    images = [disordered(seed=1), disordered(repeat=(1, 1, 2)), disordered(seed=2)]
    together = potential.evaluate(System.from_atoms(images))
    single = [potential.evaluate(System.from_atoms(a)) for a in images]
    np.testing.assert_allclose(together.energy, [float(s.energy) for s in single])
    np.testing.assert_allclose(
        together.magnetic_forces, np.concatenate([s.magnetic_forces for s in single])
    )
    calculator = DeepSpinCalculator(potential, dtype="float32")
    images[0].calc = calculator
    assert images[0].get_potential_energy() == pytest.approx(
        float(single[0].energy), abs=1e-5
    )


def test_reference_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sevenn", None)
    monkeypatch.setitem(sys.modules, "sevenn.util", None)
    with pytest.raises(ImportError, match=r"deepspin-ase\[reference\]"):
        bifeo3_reference()


@pytest.fixture(scope="module")
def reference() -> Potential:
    pytest.importorskip("sevenn")
    return bifeo3_reference()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_reference_is_sevennet_and_spins(reference: Potential) -> None:
    calculators = pytest.importorskip("sevenn.calculator")
    atoms = bismuth_ferrite()
    atoms.rattle(0.05, seed=3)
    cant_spins(atoms, 0.1, seed=4)
    atoms.calc = DeepSpinCalculator(reference, dtype="float32")
    bare, spins = atoms.copy(), atoms.copy()
    bare.calc = calculators.SevenNetCalculator("7net-l3i5", device="cpu")
    spins.calc = DeepSpinCalculator(BismuthFerriteSpins())
    for name, tolerance in (("energy", 1e-4), ("forces", 2e-5), ("stress", 1e-6)):
        expected = bare.calc.get_property(name, bare) + spins.calc.get_property(
            name, spins
        )
        found = atoms.calc.get_property(name, atoms)
        np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_allclose(
        atoms.calc.get_magnetic_forces(atoms),
        spins.calc.get_magnetic_forces(spins),
        atol=1e-6,
    )


@pytest.mark.slow
def test_derivatives_of_the_reference(reference: Potential) -> None:
    check_derivatives(reference, disordered(), 1e-7)


@pytest.fixture(scope="module")
def model() -> Potential:
    return load_potential("BiFeO3")


def test_variants_of_the_model_are_equivalent(model: Potential) -> None:
    found = [
        energy(model, bismuth_ferrite(polar, sign * np.array(polar), spin_axis=polar))
        for polar in ((1, 1, 1), (1, 1, -1), (-1, -1, 1), (-1, -1, -1))
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(found, found[0], atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_model_learned_the_spins_of_the_reference(model: Potential, seed: int) -> None:
    """Of disordered moments in hot crystals that it was not trained on."""
    atoms = System.from_atoms(disordered(repeat=(1, 2, 1), seed=seed))
    found, expected = model.evaluate(atoms), BismuthFerriteSpins().evaluate(atoms)
    # Per radian: moments are of any length here.
    length = atoms.spins.norm(dim=1, keepdim=True)
    left = length * (found.magnetic_forces - expected.magnetic_forces)
    assert float(left.abs().max()) < 2e-3
    assert float((length * expected.magnetic_forces).abs().max()) > 50e-3
    longer = atoms.replace(spins=1.3 * atoms.spins)
    torch.testing.assert_close(model.evaluate(longer).energies, found.energies)


def turned(atoms: Atoms, phases: np.ndarray, plane: Sequence[np.ndarray]) -> Atoms:
    """Return a G-type antiferromagnet whose axis turns in a plane."""
    result = atoms.copy()
    spins = get_spins(bismuth_ferrite(spin_axis=(0, 0, 1)))[:, 2]
    signs = np.tile(np.sign(spins), len(atoms) // 10)
    axes = np.cos(phases)[:, None] * plane[0] + np.sin(phases)[:, None] * plane[1]
    set_spins(result, 4.0 * signs[:, None] * axes)
    return result


def test_model_learned_anisotropy_canting_and_cycloid(model: Potential) -> None:
    """Spin-orbit terms, a thousandth of the exchange, in R3c."""
    polar, across = np.array([1, 1, 1]) / 3**0.5, np.array([1, -1, 0]) / 2**0.5
    third = np.cross(polar, across)
    crystal = bismuth_ferrite()
    long = crystal.repeat((24, 1, 1))
    phase = 2 * np.pi * long.get_scaled_positions(wrap=False)[:, 0]
    found = {}
    for name, potential in (("model", model), ("term", BismuthFerriteSpins())):
        easy, hard = (
            energy(potential, turned(crystal, np.zeros(10), (axis, axis))) / 2
            for axis in (polar, across)
        )
        canted = []
        for angle in (-0.01, 0.0, 0.01):  # both moments towards the third axis
            atoms = turned(crystal, np.zeros(10), (across, across))
            spins = np.cos(angle) * get_spins(atoms)
            spins[2:4] += 4.0 * np.sin(angle) * third
            set_spins(atoms, spins)
            canted.append(energy(potential, atoms))
        slope = (canted[2] - canted[0]) / 0.02
        curvature = (canted[2] + canted[0] - 2 * canted[1]) / 1e-4
        hands = [
            energy(potential, turned(long, hand * phase, (polar, across))) / 48
            for hand in (1, -1)
        ]
        found[name] = (hard - easy, -slope / curvature, hands[0] - hands[1])
    (k, canting, chirality), expected = found["model"], found["term"]
    assert expected[0] == pytest.approx(26e-6, abs=1e-6)
    assert k == pytest.approx(expected[0], rel=0.25)
    assert canting == pytest.approx(expected[1], rel=0.05)
    assert chirality == pytest.approx(expected[2], rel=0.15)


def test_errors_of_the_model_are_those_of_its_card(model: Potential) -> None:
    frames = read_dataset(DATA / "validation" / "O6Fe2Bi2")
    found = compare(model, collect(load_batches(frames, model)))
    errors = load_card("BiFeO3")["errors"]
    for name in ("energy", "forces", "magnetic_forces_transverse"):
        assert found[name].rmse < 1.3 * errors[name]["rmse"]


def test_derivatives_of_the_model(model: Potential) -> None:
    atoms = disordered()
    check_derivatives(model, atoms, 1e-6)


@pytest.mark.parametrize(
    ("polar", "tilt", "name"),
    [
        ((1, 1, 0), (1, 1, 0), "71"),
        ((0, 0, 2), (1, 1, 0), "109"),
        ((0, 0, 0), (1, 1, 1), "180"),
    ],
)
def test_barriers_of_the_model(polar, tilt, name: str) -> None:
    """Within the symmetry of the middle of the path, which moments would leave."""
    heights = []
    for modes in (((1, 1, 1), (1, 1, 1)), (polar, tilt)):
        atoms = bismuth_ferrite(*modes)
        atoms.calc = DeepSpinCalculator("BiFeO3")
        atoms.set_constraint(FixSpins([2, 3]))
        heights.append(relax(atoms, fmax=0.01).energy)
    barrier = 1e3 * (heights[1] - heights[0]) / 2
    expected = load_card("BiFeO3")["reference_barriers_meV_per_fu"][name]
    assert barrier == pytest.approx(expected, abs=5.0)
