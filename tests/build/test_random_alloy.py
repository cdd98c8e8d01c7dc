"""Random alloys: numbers of atoms, moments, vacancies, quasi-random structures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from deepspin_ase import antiferromagnetic, get_spins, set_spins
from deepspin_ase.analysis import short_range_order
from deepspin_ase.build import random_alloy


def iron(repeat: int = 3) -> Atoms:
    atoms = bulk("Fe", cubic=True).repeat(repeat)
    set_spins(atoms, {"Fe": 2.2})
    return atoms


def nio() -> Atoms:
    atoms = bulk("NiO", "rocksalt", a=4.186, cubic=True).repeat(2)
    set_spins(
        atoms, {"Ni": 1.2}, pattern=antiferromagnetic((0.5, 0.5, 0.5), cell=4.186)
    )
    return atoms


def test_numbers_of_atoms_are_those_of_the_composition() -> None:
    alloy = random_alloy(iron(), {"Co": 0.5, "Mn": 1 / 9}, seed=1)
    assert alloy.symbols.formula.count() == {"Fe": 21, "Co": 27, "Mn": 6}


def test_sites_are_drawn_anew_by_each_seed_and_the_same_by_one() -> None:
    first, again, other = (random_alloy(iron(), {"Co": 0.5}, seed=s) for s in (1, 1, 2))
    assert (first.numbers == again.numbers).all()
    assert (first.numbers != other.numbers).any()


def test_every_site_is_as_likely() -> None:
    count = np.zeros(16)
    for seed in range(2000):
        alloy = random_alloy(iron(2), {"Co": 0.25}, seed=seed)
        count += alloy.symbols == "Co"
    # 500 expected, standard deviation 19.4
    assert abs(count - 500).max() < 5 * 19.4


def test_magnetic_sublattice_is_the_default_and_signs_stay() -> None:
    host = nio()
    alloy = random_alloy(host, {"Mg": 0.25, "Co": 0.25}, moments={"Co": 2.6}, seed=3)
    assert alloy.symbols.formula.count() == {"Ni": 16, "Mg": 8, "Co": 8, "O": 32}
    spins, before = get_spins(alloy), get_spins(host)
    cobalt = alloy.symbols == "Co"
    assert not spins[alloy.symbols == "Mg"].any()
    np.testing.assert_allclose(spins[cobalt], before[cobalt] * 2.6 / 1.2)
    np.testing.assert_array_equal(
        spins[alloy.symbols == "Ni"], before[alloy.symbols == "Ni"]
    )


def test_vacancies_are_left_out_with_their_moments() -> None:
    host = nio()
    alloy = random_alloy(host, {"X": 0.125}, sublattice="O", seed=1)
    assert alloy.symbols.formula.count() == {"Ni": 32, "O": 28}
    assert get_spins(alloy).any(axis=1).sum() == 32


def test_masses_and_charges_of_what_went_do_not_stay() -> None:
    host = iron()
    host.set_masses([57.0] * len(host))
    host.set_initial_charges([0.5] * len(host))
    alloy = random_alloy(host, {"Co": 0.5}, seed=0)
    cobalt = alloy.symbols == "Co"
    np.testing.assert_allclose(alloy.get_masses()[cobalt], 58.933194)
    np.testing.assert_allclose(alloy.get_masses()[~cobalt], 57.0)
    np.testing.assert_allclose(alloy.get_initial_charges(), np.where(cobalt, 0.0, 0.5))


def test_quasirandom_structures_have_the_correlations_of_an_infinite_alloy() -> None:
    pytest.importorskip("sqsgenerator")
    shells = (2.0, 2.7, 3.2)
    found = [
        random_alloy(iron(), {"Co": 0.5}, method=method, seed=5, iterations=20_000)
        for method in ("random", "sqs", "sqs")
    ]
    random, special = (abs(short_range_order(x, shells).alpha).max() for x in found[:2])
    assert special < 0.03 < random
    assert (found[1].numbers == found[2].numbers).all()


def test_quasirandom_structures_with_vacancies() -> None:
    pytest.importorskip("sqsgenerator")
    alloy = random_alloy(
        nio(), {"Mg": 0.25, "X": 0.125}, method="sqs", seed=5, iterations=2_000
    )
    assert alloy.symbols.formula.count() == {"Ni": 20, "Mg": 8, "O": 32}


@pytest.mark.parametrize(
    ("composition", "options", "message"),
    [
        ({"Co": 0.01}, {}, "nearest share that fits is 0.01852"),
        ({"Co": 10}, {}, "shares of the sites are between 0 and 1"),
        ({"Co": -0.1}, {}, "share of Co"),
        ({"Co": 0.7, "Mn": 0.5}, {}, "add up to 1.2"),
        ({"Vac": 0.1}, {}, "'Vac' is no element; a vacancy is 'X'"),
        ({}, {}, "composition is empty"),
        ({"Co": 0.5}, {"sublattice": "Ni"}, "no sites 'Ni'"),
        ({"Co": 0.5}, {"moments": {"Mn": 3.0}}, "moments are given of Mn"),
        ({"Co": 0.5}, {"method": "special"}, "method must be one of random, sqs"),
    ],
)
def test_what_does_not_fit_is_said(
    composition: dict[str, float], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        random_alloy(iron(), composition, **options)  # type: ignore[arg-type]


def test_the_sublattice_has_to_be_named_where_it_is_not_clear() -> None:
    bare = bulk("NiO", "rocksalt", a=4.186)
    with pytest.raises(ValueError, match=r"name the sublattice, such as .*Ni, O"):
        random_alloy(bare, {"Mg": 1.0})
