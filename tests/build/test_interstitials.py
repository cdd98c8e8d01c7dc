"""Interstitial sites, and random alloys with atoms on them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene

from deepspin_ase import get_spins, set_spins
from deepspin_ase.build import interstitial_sites, random_alloy


def iron(repeat: int = 2) -> Atoms:
    atoms = bulk("Fe", a=2.87, cubic=True).repeat(repeat)
    set_spins(atoms, {"Fe": 2.2})
    return atoms


CRYSTALS = {
    "bcc": (bulk("Fe", cubic=True), 6, 12, 12),
    "bct": (bulk("Fe", cubic=True), 6, 12, 12),
    "fcc": (bulk("Ni", cubic=True), 4, 8, 12),
    "fcc, one atom": (bulk("Ni"), 1, 2, 3),
    "hcp": (bulk("Co"), 2, 4, 6),
    "hcp, long": (bulk("Zn"), 2, 4, 6),
    "rock salt": (bulk("NiO", "rocksalt", a=4.18, cubic=True), 0, 0, 8),
}
CRYSTALS["bct"][0].set_cell([2.85, 2.85, 3.05], scale_atoms=True)


@pytest.mark.parametrize("name", CRYSTALS)
def test_numbers_of_sites(name: str) -> None:
    """Also of a supercell that is turned and shifted."""
    atoms, *expected = CRYSTALS[name]
    turned = atoms.repeat((2, 1, 1))
    turned.rotate(33.0, (1, 2, 3), rotate_cell=True)
    turned.positions += (0.3, -1.2, 7.7)
    for kind, number in zip(
        ("octahedral", "tetrahedral", "void"), expected, strict=True
    ):
        if not number:
            with pytest.raises(ValueError, match=f"no {kind} sites: take 'void'"):
                interstitial_sites(atoms, kind)
            continue
        assert len(interstitial_sites(atoms, kind)) == number
        assert len(interstitial_sites(turned, kind)) == 2 * number


def test_places_of_sites() -> None:
    a = 2.87
    atoms = bulk("Fe", a=a, cubic=True)
    octahedral = 2.0 * interstitial_sites(atoms, "octahedral") / a
    # Middles of faces and of edges
    assert {tuple(np.round(site, 9)) for site in octahedral} == {
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)
    }  # fmt: skip
    tetrahedral = np.sort(4.0 * interstitial_sites(atoms, "tetrahedral") / a, axis=1)
    counted = np.unique(np.round(tetrahedral, 9), axis=0, return_counts=True)
    np.testing.assert_allclose(counted[0], [[0, 1, 2], [0, 2, 3]])
    assert counted[1].tolist() == [6, 6]
    ni = bulk("NiO", "rocksalt", a=4.0, cubic=True)
    np.testing.assert_allclose(interstitial_sites(ni) % 2, 1.0)


def test_an_octahedron_is_in_the_middle_of_its_atoms_where_they_are_off_sites() -> None:
    atoms = bulk("Ni", a=3.52, cubic=True).repeat(3)
    perfect = interstitial_sites(atoms, "octahedral")
    atoms.rattle(0.03, seed=1)
    found = Atoms(f"X{len(perfect)}", interstitial_sites(atoms, "octahedral"))
    moved = found.positions[:, None] - perfect
    moved -= np.round(moved / 10.56) * 10.56
    assert np.linalg.norm(moved, axis=2).min(axis=1).max() < 0.06


def test_carbon_in_iron() -> None:
    host = iron()
    alloy = random_alloy(host, {"C@octahedral": 1 / 12}, seed=1)
    assert alloy.symbols.formula.count() == {"Fe": 16, "C": 4}
    np.testing.assert_array_equal(alloy.positions[:16], host.positions)
    np.testing.assert_array_equal(get_spins(alloy)[:16], get_spins(host))
    assert not get_spins(alloy)[16:].any()
    assert alloy.get_masses()[16:] == pytest.approx(12.011)
    # Two iron atoms at a/2
    for k in range(16, 20):
        near = np.sort(alloy.get_distances(k, range(16), mic=True))
        np.testing.assert_allclose(near[:3], [2.87 / 2, 2.87 / 2, 2.87 / np.sqrt(2)])
    again = random_alloy(host, {"C@octahedral": 1 / 12}, seed=1)
    np.testing.assert_array_equal(alloy.positions, again.positions)


def test_every_site_is_as_likely() -> None:
    host = iron(1)
    sites = interstitial_sites(host, "octahedral")
    count = np.zeros(6)
    given = {"here": sites}
    for seed in range(150):
        alloy = random_alloy(host, {"C@here": 1 / 3}, interstitials=given, seed=seed)
        away = np.linalg.norm(alloy.positions[2:, None] - sites, axis=2)
        count += (away < 1e-6).sum(axis=0)
    # 50 expected, standard deviation 5.8
    assert abs(count - 50).max() < 5 * 5.8


def test_distances_between_interstitial_atoms() -> None:
    composition = {
        "C@octahedral": 4 / 48,
        "N@octahedral": 2 / 48,
        "H@tetrahedral": 4 / 96,
    }
    for seed in (1, 2):
        alloy = random_alloy(iron(), composition, min_distance=2.0, seed=seed)
        assert alloy.symbols.formula.count() == {"Fe": 16, "C": 4, "N": 2, "H": 4}
        own = alloy[16:]
        assert own.get_all_distances(mic=True)[np.triu_indices(10, 1)].min() > 2.0


def test_with_substitution_vacancies_and_moments() -> None:
    composition = {"Mn": 0.25, "X": 0.125, "Mn@octahedral": 1 / 48, "C@here": 0.5}
    given = {"here": [[1.0, 1.0, 0.5], [2.9, 2.9, 1.2]]}
    alloy = random_alloy(
        iron(), composition, interstitials=given, moments={"Mn": 1.5}, seed=2
    )
    assert alloy.symbols.formula.count() == {"Fe": 10, "Mn": 5, "C": 1}
    assert alloy.positions[-1].tolist() in given["here"]
    manganese = get_spins(alloy)[alloy.symbols == "Mn"]
    np.testing.assert_allclose(np.linalg.norm(manganese, axis=1), 1.5)
    bare = random_alloy(bulk("Cu", cubic=True), {"C@octahedral": 0.25}, seed=0)
    assert not bare.has("initial_magmoms")


@pytest.mark.parametrize(
    ("composition", "options", "message"),
    [
        ({"C@octahedral": 0.001}, {}, "nearest share that fits is 0.02083"),
        ({"C@octahedral": 5}, {}, "shares of the sites are between 0 and 1"),
        ({"C@octahedral": 0.7, "N@octahedral": 0.7}, {}, "add up to 1.4"),
        ({"C@middle": 0.1}, {}, "no interstitial sites 'middle' for 'C@middle'"),
        ({"X@octahedral": 0.1}, {}, "a vacancy is at a site of the crystal"),
        ({"Carbon@octahedral": 0.1}, {}, "'Carbon' is no element"),
        (
            {"C@octahedral": 0.5},
            {"min_distance": 2.5},
            "of 24 interstitial atoms found sites 2.5 A from each other",
        ),
        ({"C@octahedral": 0.1}, {"min_distance": 6.0}, "0 of 5 interstitial atoms"),
        ({"C@octahedral": 0.1}, {"min_distance": -1.0}, "min_distance"),
        (
            {"C@here": 1.0},
            {"interstitials": {"here": [[0.1, 0.0, 0.0]]}},
            "position 0 of 'here' is within 0.5 A of atom 0",
        ),
        (
            {"C@here": 1.0},
            {"interstitials": {"here": [[1, 1, 0], [6.84, 6.74, 0]]}},
            "position 1 of 'here' is within 0.5 A of position 0",
        ),
        ({"C@here": 1.0}, {"interstitials": {"here": [1, 2]}}, "rows of three numbers"),
    ],
)
def test_what_does_not_fit_is_said(
    composition: dict[str, float], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        random_alloy(iron(), composition, **options)  # type: ignore[arg-type]


def test_where_there_are_no_sites() -> None:
    with pytest.raises(ValueError, match="octahedral, tetrahedral, void"):
        interstitial_sites(iron(), "middle")
    sheet = graphene()
    with pytest.raises(ValueError, match="atoms of a plane"):
        interstitial_sites(sheet)
    with pytest.raises(ValueError, match="fewer than five atoms"):
        interstitial_sites(Atoms())
