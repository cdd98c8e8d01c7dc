"""Polarization, octahedral rotations and local order."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from deepspin_ase import antiferromagnetic, get_spins, set_spins
from deepspin_ase.analysis import (
    local_polarization,
    neighbor_order,
    octahedral_tilts,
    plot_polarization,
    plot_profile,
    polarization,
    profile_along,
    staggered_moments,
)
from deepspin_ase.analysis.ferroic import on_one_branch, plot_tilts

matplotlib.use("Agg")

A0 = 4.0147
CELL = A0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
CHARGES = {"Bi": 4.37, "Fe": 3.87, "O": -2.747}

#: R3c BiFeO3 with P along [111], fractional in CELL, of SevenNet-l3i5.
R3C = """
.28258 .28258 .28258  -.21741 .78259 .78259   .00573 .00573 .00573
-.49426 .50574 .50574 -.28137 .16998 .32303   .32303 -.28137 .16998
.16998 .32303 -.28137 -.78141 .82303 .67010  -.32990 .21859 .82303
-.17697 .67010 .21859"""


def bismuth_ferrite() -> Atoms:
    fractions = np.array(R3C.split(), dtype=float).reshape(10, 3)
    return Atoms("Bi2Fe2O6", scaled_positions=fractions, cell=CELL, pbc=True)


def cubic(repeat: tuple[int, int, int] = (1, 1, 1), a: float = A0) -> Atoms:
    """Ideal BiFeO3, 5 atoms in a cube."""
    sites = [[0.5] * 3, [0] * 3, [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    atoms = Atoms("BiFeO3", scaled_positions=sites, cell=[a] * 3, pbc=True)
    return atoms.repeat(repeat)


def ideal_double_cell() -> Atoms:
    fe = np.array([[0, 0, 0], [A0, 0, 0]])
    o = np.concatenate([site + np.eye(3) * A0 / 2 for site in fe])
    positions = np.concatenate([fe + A0 / 2, fe, o])
    return Atoms("Bi2Fe2O6", positions=positions, cell=CELL, pbc=True)


def test_bismuth_ferrite_has_its_polarisation():
    found = polarization(
        bismuth_ferrite(), CHARGES, reference=ideal_double_cell()
    ).uC_per_cm2
    assert np.linalg.norm(found) == pytest.approx(92.0, abs=1.5)
    assert found[0] / np.linalg.norm(found) == pytest.approx([3**-0.5] * 3)
    cells = local_polarization(bismuth_ferrite(), CHARGES, a="Bi", b="Fe")
    assert 100 * cells.mean == pytest.approx(found[0], rel=1e-6)


def test_polarisation_is_charges_times_displacements():
    rng = np.random.default_rng(0)
    reference = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms = reference.copy()
    atoms.positions += 0.1 * rng.normal(size=(8, 3))
    tensors = rng.normal(size=(8, 3, 3))
    tensors -= tensors.mean(axis=0)
    u = atoms.positions - reference.positions
    dipole = sum(z @ x for z, x in zip(tensors, u, strict=True))
    expected = dipole / atoms.get_volume() * units._e * 1e20
    found = polarization(atoms, tensors, reference=reference)
    assert found.vectors[0] == pytest.approx(expected)
    # Neither the choice of images nor a shift of the crystal matters.
    moved = atoms.copy()
    moved.translate([2.8, 2.9, -7.0])
    moved.wrap()
    again = polarization(moved, tensors, reference=reference)
    assert again.vectors[0] == pytest.approx(expected)


def test_polarisation_of_a_strained_cell_is_not_torn():
    reference, strained = ideal_double_cell(), bismuth_ferrite()
    strained.set_cell(1.05 * strained.cell.array, scale_atoms=True)
    strained.wrap()
    plain = polarization(bismuth_ferrite(), CHARGES, reference=reference)
    found = polarization(strained, CHARGES, reference=reference)
    assert found.vectors == pytest.approx(plain.vectors / 1.05**2)


def test_path_keeps_its_branch():
    """One ion carried through the cell: P grows by Z R e / V, wrapped or not."""
    reference = cubic((2, 1, 1))
    images = []
    for step in np.linspace(0, 1, 11):
        image = reference.copy()
        image.positions[1] += step * image.cell.array[0]
        image.wrap()
        images.append(image)
    found = polarization(iter(images), CHARGES, reference=reference)
    charge = 3.87 - np.mean([4.37, 3.87, -2.747, -2.747, -2.747])
    turn = charge * found.quanta[-1][0]
    # The others do not move; the mean over all atoms of the motion carries no charge.
    assert found.vectors[-1] - found.vectors[0] == pytest.approx(turn)
    steps = np.diff(found.vectors[:, 0])
    assert steps == pytest.approx(np.full(10, turn[0] / 10))


def test_quanta_are_removed():
    rng = np.random.default_rng(1)
    quanta = np.array([[0.0, 50, 50], [50, 0, 50], [50, 50, 0]])
    path = np.linspace([0, 0, 0], [60, 10, -70], 12) + 100
    jumps = rng.integers(-2, 3, size=(12, 3)) @ quanta
    jumps[0] = 0
    assert on_one_branch(path + jumps, quanta) == pytest.approx(path)
    with pytest.raises(ValueError, match="expected vectors"):
        on_one_branch(path, quanta[0])


def test_cells_of_a_domain_wall():
    """Fe shifted up in one half and down in the other, cell by cell."""
    atoms = cubic((6, 1, 1))
    iron = np.flatnonzero(atoms.numbers == 26)
    shift = np.where(np.arange(6) < 3, 0.2, -0.2)
    atoms.positions[iron, 2] += shift
    found = local_polarization(atoms, CHARGES, a="Bi", b="Fe")
    charge = 3.87 - np.mean([4.37, 3.87, -2.747, -2.747, -2.747])
    expected = charge * shift / A0**3 * units._e * 1e20
    assert found.vectors[:, 2] == pytest.approx(expected)
    assert found.vectors[:, :2] == pytest.approx(np.zeros((6, 2)), abs=1e-12)
    assert found.mean == pytest.approx([0, 0, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("charges", "match"),
    [
        ({"Bi": 4.0, "Fe": 3.0}, "lacks O"),
        ({"Bi": 4.0, "Fe": 3.0, "O": -1.0}, "add up to zero"),
        ({"Bi": [4.0, 3.0], "Fe": 3.0, "O": -2.0}, "tensor"),
        (np.ones((9,)), "expected"),
    ],
)
def test_charges_are_checked(charges, match):
    with pytest.raises(ValueError, match=match):
        polarization(bismuth_ferrite(), charges, reference=ideal_double_cell())


def test_structures_are_checked():
    slab = cubic()
    slab.pbc[2] = False
    with pytest.raises(ValueError, match="three directions"):
        polarization(slab, CHARGES, reference=cubic())
    with pytest.raises(ValueError, match="same order"):
        polarization(cubic()[::-1], CHARGES, reference=cubic())
    with pytest.raises(ValueError, match="no frames"):
        polarization([], CHARGES, reference=cubic())
    with pytest.raises(ValueError, match="no perovskite"):
        local_polarization(cubic()[:-1], CHARGES, a="Bi", b="Fe")


def test_single_octahedron_is_turned_by_its_rotation():
    rng = np.random.default_rng(2)
    corners = 2.0 * np.concatenate([np.eye(3), -np.eye(3)])
    for _ in range(20):
        axis = rng.normal(size=3)
        vector = rng.uniform(1, 43) * axis / np.linalg.norm(axis)
        turned = Rotation.from_rotvec(np.radians(vector)).apply(corners)
        off_centre = rng.uniform(-0.35, 0.35, size=(1, 3))
        cluster = Atoms("FeO6", positions=np.concatenate([off_centre, turned]))
        found = octahedral_tilts(cluster, b="Fe", axes=np.eye(3))
        assert found.vectors_deg[0] == pytest.approx(vector)


@pytest.mark.parametrize("in_phase", [True, False])
def test_tilts_about_one_axis(in_phase):
    """a0a0c+ and a0a0c-: anions move in the plane, the angle is atan(2 d / a)."""
    atoms = cubic((2, 2, 2), a=4.0)
    d = 2.0 * np.tan(np.radians(7.0))
    for k in np.flatnonzero(atoms.numbers == 8):
        x, y, z = 2 * atoms.positions[k] / 4.0
        half = [x % 2 > 0.5, y % 2 > 0.5]
        sign = (-1) ** (x // 2 + y // 2 + (0 if in_phase else z // 2))
        if half[0]:
            atoms.positions[k, 1] += sign * d
        elif half[1]:
            atoms.positions[k, 0] -= sign * d
    found = octahedral_tilts(atoms, b="Fe")
    assert found.axes == pytest.approx(np.eye(3))
    assert np.abs(found.vectors_deg[:, 2]) == pytest.approx(np.full(8, 7.0))
    assert found.vectors_deg[:, :2] == pytest.approx(np.zeros((8, 2)), abs=1e-9)
    mine, other = (0.5, 0.5, 0), (0.5, 0.5, 0.5)
    if not in_phase:
        mine, other = other, mine
    assert found.mode(mine)[2] == pytest.approx(7.0)
    assert found.mode(other) == pytest.approx([0, 0, 0], abs=1e-9)


def test_tilts_of_bismuth_ferrite_in_two_settings():
    found = octahedral_tilts(bismuth_ferrite(), b="Fe")
    assert found.mode() == pytest.approx([8.6, 8.6, 8.6], abs=0.1)
    assert found.vectors_deg[1] == pytest.approx(-found.vectors_deg[0], abs=0.01)
    # Measured structure (hexagonal axes), about 12 degrees around [111].
    hexagonal = crystal(
        ["Bi", "Fe", "O"],
        [(0, 0, 0), (0, 0, 0.22021), (0.4469, 0.0181, 0.95183)],
        spacegroup=161,
        cellpar=[5.57882, 5.57882, 13.86932, 90, 90, 120],
    )
    found = octahedral_tilts(hexagonal, b="Fe")
    assert found.angles_deg == pytest.approx(np.full(6, 12.15), abs=0.05)
    assert np.abs(found.mode()) == pytest.approx(np.full(3, 12.15 / 3**0.5), abs=0.05)
    turned = hexagonal.copy()
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    axes = Rotation.from_rotvec(
        np.radians(33) * np.array([1, 2, 3]) / np.sqrt(14)
    ).apply(found.axes)
    again = octahedral_tilts(turned, b="Fe", axes=axes)
    assert again.vectors_deg == pytest.approx(found.vectors_deg, abs=1e-6)


def test_incomplete_octahedra_are_nan():
    atoms = cubic((2, 2, 2))
    del atoms[np.flatnonzero(atoms.numbers == 8)[0]]
    found = octahedral_tilts(atoms, b="Fe")
    assert np.isnan(found.vectors_deg).any(axis=1).sum() == 2
    assert found.mode() == pytest.approx([0, 0, 0], abs=1e-9)


def test_octahedra_are_checked():
    with pytest.raises(ValueError, match="no 'Ti'"):
        octahedral_tilts(cubic(), b="Ti")
    with pytest.raises(ValueError, match="right angles"):
        octahedral_tilts(cubic(), b="Fe", axes=[[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="neighbours"):
        octahedral_tilts(Atoms("FeO", [[0, 0, 0], [2, 0, 0]]), b="Fe")
    with pytest.raises(ValueError, match="give axes"):
        lone = Atoms("FeO6", [[0, 0, 0], *(2.0 * np.eye(3)), *(-2.0 * np.eye(3))])
        octahedral_tilts(lone, b="Fe")


def chromium(length: int = 8) -> Atoms:
    """Two-sublattice antiferromagnet with a wall half way along x."""
    atoms = bulk("Cr", "bcc", 2.88, cubic=True) * (length, 2, 2)
    set_spins(atoms, {"Cr": 0.6}, pattern=antiferromagnetic((0, 0, 1), cell=2.88))
    spins = get_spins(atoms)
    spins[atoms.positions[:, 0] >= length * 1.44 - 0.1] *= -1
    set_spins(atoms, spins)
    return atoms


def test_staggered_moments_turn_round_at_a_wall():
    atoms = chromium()
    staggered = staggered_moments(atoms, (0, 0, 1), cell=2.88)
    first = staggered[0, 2]
    left = atoms.positions[:, 0] < 8 * 1.44 - 0.1
    assert staggered[left, 2] == pytest.approx(np.full(left.sum(), first))
    assert staggered[~left, 2] == pytest.approx(np.full((~left).sum(), -first))
    smooth = staggered_moments(atoms, (0, 0, 1), cell=2.88, average_within=2.6)
    at_wall = np.isclose(atoms.positions[:, 0], 8 * 1.44)
    assert np.abs(smooth[at_wall, 2]) == pytest.approx(np.full(4, 0.6 / 9))


def test_neighbours_lose_their_order_at_a_wall():
    atoms = chromium()
    found = neighbor_order(atoms, 2.6, antiparallel=True)
    layers = np.round(atoms.positions[:, 0] / 1.44).astype(int)
    at_wall = np.isin(layers, [0, 7, 8, 15])
    assert found[at_wall] == pytest.approx(np.zeros(at_wall.sum()), abs=1e-12)
    assert found[~at_wall] == pytest.approx(np.ones((~at_wall).sum()))
    # Second neighbours of bcc are parallel.
    second = neighbor_order([atoms, atoms], 2.9, min_distance=2.6)
    assert second[~np.isin(layers, [0, 1, 6, 7, 8, 9, 14, 15])] == pytest.approx(1.0)


def test_non_magnetic_atoms_have_no_local_order():
    atoms = bulk("NiO", "rocksalt", 4.17, cubic=True) * 2
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.17)
    set_spins(atoms, {"Ni": 1.9}, pattern=order)
    found = neighbor_order(atoms, 4.2, min_distance=4.1, antiparallel=True)
    nickel = atoms.numbers == 28
    assert found[nickel] == pytest.approx(np.ones(32))
    assert np.isnan(found[~nickel]).all()
    staggered = staggered_moments(atoms, (0.5, 0.5, 0.5), cell=4.17)
    assert not staggered[~nickel].any()
    with pytest.raises(ValueError, match="apart"):
        neighbor_order(atoms, 2.0)
    set_spins(atoms, np.zeros((64, 3)))
    with pytest.raises(ValueError, match="all moments are zero"):
        neighbor_order(atoms, 4.2)


def test_profile_averages_slices():
    rng = np.random.default_rng(3)
    atoms = bulk("Fe", "bcc", 2.87, cubic=True) * (6, 2, 2)
    x = atoms.get_scaled_positions()[:, 0]
    atoms.positions += 3 * atoms.cell.array[0] - [1e-10, 0, 0]
    values = rng.normal(size=(len(atoms), 2))
    values[5] = np.nan
    found = profile_along(atoms, values, axis=0, bins=6)
    for k in range(6):
        rows = (x >= k / 6 - 1e-9) & (x < (k + 1) / 6 - 1e-9)
        rows[5] = False
        assert found.counts[k] == rows.sum()
        assert found.mean[k] == pytest.approx(values[rows].mean(axis=0))
        assert found.deviation[k] == pytest.approx(values[rows].std(axis=0))
    assert found.edges[-1] == pytest.approx(6 * 2.87)
    by_vector = profile_along(atoms, np.ones(len(atoms)), axis="y", bins=3)
    assert by_vector.counts.sum() == len(atoms)
    assert by_vector.mean[[0, -1]] == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="expected values"):
        profile_along(atoms, np.ones(3), axis=0)


def test_plots(tmp_path):
    wall = chromium()
    staggered = staggered_moments(wall, (0, 0, 1), cell=2.88)
    ax = plot_profile(profile_along(wall, staggered[:, 2], axis=0, bins=16))
    assert len(ax.lines) == 1
    ax = plot_tilts(octahedral_tilts(bismuth_ferrite().repeat(2), b="Fe"))
    assert "degrees" in ax.get_xlabel()
    path = [ideal_double_cell(), bismuth_ferrite()]
    ax = plot_polarization(polarization(path, CHARGES, reference=path[0]))
    assert ax.lines[3].get_ydata()[-1] == pytest.approx(92.9, abs=0.1)


def displaced_planes(shift: float) -> tuple[Atoms, np.ndarray]:
    """Two equal boundaries in a crystal of planes 1.435 A apart, moved by ``shift``."""
    atoms = bulk("Fe", "bcc", 2.87, cubic=True) * (8, 2, 2)
    height = atoms.cell[0, 0]
    x = atoms.positions[:, 0]
    near = np.abs((x + 1e-6) % (height / 2) - height / 4)
    values = np.where(near < 1.0, 0.5, 1.0)
    atoms.positions[:, 0] = (x + shift) % height
    return atoms, values


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.435, 11.48, -1e-9])
def test_planes_do_not_depend_on_where_slices_would_fall(shift: float) -> None:
    atoms, values = displaced_planes(shift)
    found = profile_along(atoms, values, axis=0, planes=0.1)
    assert len(found.mean) == 16 and (found.counts == 4).all()
    assert not found.deviation.any()
    order = np.argsort((found.centers - shift + 1e-6) % atoms.cell[0, 0])
    mean = found.mean[order]
    np.testing.assert_array_equal(mean[:8], mean[8:])  # both boundaries
    assert sorted(set(mean)) == [0.5, 1.0]
    assert found.edges[-1] - found.edges[0] == pytest.approx(atoms.cell[0, 0])


def test_a_plane_across_the_face_of_the_cell_is_one() -> None:
    atoms = bulk("Fe", "bcc", 2.87, cubic=True) * (4, 2, 2)
    atoms.positions[::2, 0] += np.where(np.arange(16) % 2, 0.02, -0.02)
    found = profile_along(atoms, np.ones(len(atoms)), axis=0, planes=0.1)
    assert len(found.mean) == 8 and found.centers[0] == pytest.approx(0.0, abs=1e-9)


def test_planes_without_a_period() -> None:
    atoms = bulk("Fe", "bcc", 2.87, cubic=True) * (4, 1, 1)
    found = profile_along(atoms, np.arange(8.0), axis="x", planes=0.1)
    np.testing.assert_allclose(found.centers, 1.435 * np.arange(8))
    np.testing.assert_array_equal(found.mean, np.arange(8.0))
    (one,) = profile_along(atoms, np.arange(8.0), axis="y", planes=2.0).mean
    assert one == 3.5
