"""Symmetric tilt boundaries: geometry, composition and magnetic order of the grains."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from deepspin_ase import antiferromagnetic, collinear, get_spins, set_spins
from deepspin_ase.build import symmetric_tilt_boundary

A = 4.2
ORDER = antiferromagnetic((0.5, 0.5, 0.5), cell=A, direction=(1, 1, -2))


def nio() -> Atoms:
    return bulk("NiO", "rocksalt", A, cubic=True)


def sigma5(**options: object) -> Atoms:
    return symmetric_tilt_boundary(
        nio(),
        (3, 1, 0),
        repeat=(1, 2),
        moments={"Ni": 1.3},
        pattern=ORDER,
        **options,
    )


def test_the_grains_are_perfect_inside() -> None:
    atoms = sigma5(thickness=2)
    height = atoms.cell[2, 2]
    np.testing.assert_allclose(
        atoms.cell.lengths(), A * np.array([np.sqrt(10), 2, 4 * np.sqrt(10)])
    )
    i, distance = neighbor_list("id", atoms, 0.6 * A)
    neighbours = np.bincount(i, minlength=len(atoms))
    from_boundary = abs((atoms.positions[:, 2] / height) % 0.5 - 0.25) * height
    inside = from_boundary > 0.7 * A
    assert inside.sum() > 0.7 * len(atoms)
    assert (neighbours[inside] == 6).all()
    assert (neighbours[~inside] != 6).any()
    perfect = distance[inside[i] & (from_boundary[i] > 1.3 * A)]
    np.testing.assert_allclose(perfect, A / 2)


def test_the_tilt_is_that_of_sigma_5() -> None:
    """Ni-O bonds of both grains, 36.87 degrees apart about y."""
    atoms = sigma5(thickness=2)
    i, bonds = neighbor_list("iD", atoms, 0.55 * A)
    angle = np.rad2deg(np.arctan2(bonds[:, 2], bonds[:, 0])) % 90.0
    in_plane = abs(bonds[:, 1]) < 1e-6
    tilts = [
        np.median(angle[in_plane & (atoms.arrays["grain"][i] == g)]) for g in (0, 1)
    ]
    tilt = abs(tilts[0] - tilts[1])
    assert min(tilt, 90.0 - tilt) == pytest.approx(36.8699, abs=1e-3)


def test_each_grain_has_the_order_in_its_own_axes() -> None:
    """Second neighbours, across an oxygen, are antiparallel within both grains."""
    atoms = sigma5(thickness=2)
    grain, spins = atoms.arrays["grain"], get_spins(atoms) / 1.3
    i, j, distance = neighbor_list("ijd", atoms, {("Ni", "Ni"): 1.01 * A})
    second = (grain[i] == grain[j]) & (abs(distance - A) < 1e-6) & (grain[i] < 2)
    alignment = np.sum(spins[i] * spins[j], axis=1)
    for g in (0, 1):
        np.testing.assert_allclose(alignment[second & (grain[i] == g)], -1.0)
        axes = spins[(grain == g) & (atoms.numbers == 28)]
        assert np.linalg.matrix_rank(axes, tol=1e-6) == 1
    across = abs(spins[grain == 0][0] @ spins[(grain == 1) & (atoms.numbers == 28)][0])
    assert across < 0.99


def test_coincident_atoms_are_merged() -> None:
    everything, atoms = sigma5(merge=0.01), sigma5(merge=1.5)
    assert atoms.symbols.count("Ni") == atoms.symbols.count("O")
    assert len(atoms) < len(everything)
    assert neighbor_list("d", atoms, 1.5).size == 0
    merged = atoms.arrays["grain"] == 2
    planes = np.unique(atoms.positions[merged, 2].round(6))
    np.testing.assert_allclose(planes / atoms.cell[2, 2], [0.25, 0.75], atol=1e-6)


def test_both_boundaries_are_alike() -> None:
    atoms = sigma5(expansion=0.4)
    i, distance = neighbor_list("id", atoms, 0.9 * A)
    heights = atoms.positions[i, 2] / atoms.cell[2, 2]
    lower, upper = (np.sort(distance[abs(heights - h) < 0.2]) for h in (0.25, 0.75))
    np.testing.assert_allclose(lower, upper, atol=1e-9)


def test_expansion_and_shift_move_the_upper_grain() -> None:
    crystal = bulk("Fe", cubic=True, a=2.87)
    atoms = symmetric_tilt_boundary(
        crystal, (2, 1, 0), thickness=3, expansion=0.5, shift=(0.5, 0.0), merge=0.1
    )
    assert atoms.cell[2, 2] == pytest.approx(2 * (3 * 2.87 * np.sqrt(5) + 0.5))
    still = symmetric_tilt_boundary(crystal, (2, 1, 0), thickness=3, merge=0.1)
    assert len(atoms) > len(still)
    assert not atoms.has("initial_magmoms")


def test_moments_turn_with_the_grains() -> None:
    crystal = bulk("Fe", cubic=True, a=2.87)
    atoms = symmetric_tilt_boundary(
        crystal,
        (2, 1, 0),
        thickness=2,
        moments={"Fe": 2.2},
        pattern=collinear((2, 1, 0)),
    )
    spins, grain = get_spins(atoms), atoms.arrays["grain"]
    np.testing.assert_allclose(
        spins[grain == 0], [[0, 0, 2.2]] * sum(grain == 0), atol=1e-12
    )
    np.testing.assert_allclose(
        spins[grain == 1], [[0, 0, -2.2]] * sum(grain == 1), atol=1e-12
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plane": (3, 1, 1)}, "does not lie in the plane"),
        ({"plane": (0, 0, 0)}, "three integers"),
        ({"plane": (1.5, 1, 0)}, "three integers"),
        ({"thickness": 0}, "thickness"),
        ({"repeat": (1, 0)}, "repeat"),
        ({"repeat": 2}, "repeat"),
        ({"merge": 0.0}, "merge"),
        ({"plane": "310"}, "three integers"),
        ({"shift": (0.5,)}, "shift"),
        ({"expansion": float("nan")}, "expansion"),
        ({"expansion": -50.0}, "leaves nothing"),
        ({"shift": (0.0, 0.5)}, "Ni and O are closer"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    options = {"plane": (3, 1, 0), **change}
    with pytest.raises(ValueError, match=message):
        symmetric_tilt_boundary(nio(), **options)


def test_a_distance_is_a_number() -> None:
    with pytest.raises(TypeError, match="merge must be a number"):
        symmetric_tilt_boundary(nio(), (3, 1, 0), merge="near")  # type: ignore[arg-type]


def test_a_crystal_that_is_not_cubic_is_refused() -> None:
    with pytest.raises(ValueError, match="cubic"):
        symmetric_tilt_boundary(bulk("NiO", "rocksalt", A), (3, 1, 0))


def test_an_order_that_does_not_repeat_is_refused() -> None:
    with pytest.raises(ValueError, match="repeat"):
        symmetric_tilt_boundary(
            nio(), (3, 1, 0), repeat=(1, 1), moments={"Ni": 1.3}, pattern=ORDER
        )


def test_moments_of_the_crystal_are_not_needed() -> None:
    crystal = nio()
    set_spins(crystal, {"Ni": 2.0})
    assert not symmetric_tilt_boundary(crystal, (3, 1, 0)).has("initial_magmoms")
