"""Walkers, windows, and the choice of structures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from torch import Tensor, nn

from deepspin_ase.learning import ExploreConfig, Window, explore, farthest_points
from deepspin_ase.learning._explore import (
    _defective,
    closest_approach,
    largest_deviations,
)
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import Committee, CompiledPotential, Potential
from deepspin_ase.potentials.materials import reference
from deepspin_ase.spins import get_spins, set_spins
from deepspin_ase.system import System


class Scaled(Potential):
    """A multiple of a potential: two of them are a committee that disagrees."""

    def __init__(self, inner: Potential, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor
        self.species = inner.species

    def pair_cutoff(self, system: System) -> float:
        return self.inner.pair_cutoff(system)

    def forward(self, system: System, pairs: PairList) -> Tensor:
        return self.factor * self.inner(system, pairs)


def iron() -> Atoms:
    atoms = bulk("Fe", cubic=True, a=2.87)
    set_spins(atoms, np.tile([0.0, 0.0, 2.2], (2, 1)))
    return atoms


def committee(share: float = 0.1) -> Committee:
    """Deviations are this share of forces and magnetic forces."""
    members = [Scaled(reference.fe(), 1.0 + x * share) for x in (-1.0, 1.0)]
    return Committee(nn.ModuleList(members))


def config(**changes: object) -> ExploreConfig:
    values = {"temperature_K": [100.0, 600.0], "walkers": 4, "time_fs": 20.0}
    values |= {"timestep_fs": 0.5, "interval_fs": 5.0, "strain": 0.01}
    return ExploreConfig.from_dict(values | changes)


ALL = {
    "forces": Window(low=1e-9, high=1e9),
    "magnetic_forces": Window(low=1e-9, high=1e9),
}


def test_largest_deviations():
    atoms = [iron(), iron() * (2, 1, 1)]
    for k, a in enumerate(atoms):
        a.rattle(0.1, seed=k)
    systems = System.cat([System.from_atoms(a) for a in atoms])
    found = largest_deviations(CompiledPotential(committee(0.1)), systems)
    for row, one in zip(found, atoms, strict=True):
        exact = CompiledPotential(reference.fe()).evaluate(System.from_atoms(one))
        for value, name in zip(row, ("forces", "magnetic_forces"), strict=True):
            expected = 0.1 * float(getattr(exact, name).norm(dim=1).max())
            assert value == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="does not know how certain"):
        largest_deviations(CompiledPotential(reference.fe()), systems)


def test_all_in_the_window_are_candidates():
    found = explore(committee(), [iron()], config(), **ALL, seed=1, progress=False)
    # 40 steps, a look at every tenth, four walkers.
    assert found.uncertain == len(found.candidates) == 16
    assert found.accurate == found.lost == found.unphysical == 0 and not found.failure
    assert {a.info["temperature_K"] for a in found.candidates} == {100.0, 600.0}
    assert {a.info["time_fs"] for a in found.candidates} == {5.0, 10.0, 15.0, 20.0}
    again = explore(committee(), [iron()], config(), **ALL, seed=1, progress=False)
    for a, b in zip(found.candidates, again.candidates, strict=True):
        assert (a.positions == b.positions).all() and (
            get_spins(a) == get_spins(b)
        ).all()
        assert a.info == b.info


def test_accurate_and_lost_walkers():
    calm = {name: Window(low=1e6, high=1e9) for name in ALL}
    found = explore(committee(), [iron()], config(), **calm, seed=1, progress=False)
    assert found.share == 1.0 and not found.candidates
    wild = {name: Window(low=1e-12, high=1e-11) for name in ALL}
    found = explore(committee(), [iron()], config(), **wild, seed=1, progress=False)
    assert found.lost == 16 and found.share == 0.0
    assert not found.candidates and len(found.beyond) == 16


def test_crowded_structures_are_unphysical():
    atoms = iron()
    assert closest_approach(atoms) == pytest.approx(
        2.87 * np.sqrt(0.75) / (2 * 1.32), rel=1e-6
    )
    crowded = config(closest=2.0)
    found = explore(committee(), [atoms], crowded, **ALL, seed=1, progress=False)
    assert found.unphysical == 16 and not found.candidates
    far = Atoms("Fe2", positions=[[0, 0, 0], [9, 0, 0]], magmoms=[2.0, 2.0])
    assert closest_approach(far) == np.inf


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"pressure_GPa": [0.0, 20.0]}, lambda a: round(a.get_volume(), 6)),
        ({"vacancies": 1.0}, len),
        ({"spin_starts": ["random"]}, lambda a: round(float(get_spins(a)[0, 0]), 6)),
        ({"external_field_T": (500.0, 0.0, 0.0)}, lambda a: tuple(get_spins(a)[0])),
        ({"length": 0.3}, lambda a: round(float(np.linalg.norm(get_spins(a)[0])), 6)),
    ],
)
def test_what_walkers_vary(changes, seen):
    plain = explore(committee(), [iron()], config(), **ALL, seed=1, progress=False)
    found = explore(
        committee(), [iron()], config(**changes), **ALL, seed=1, progress=False
    )
    assert not found.failure and found.candidates
    assert {seen(a) for a in found.candidates} != {seen(a) for a in plain.candidates}
    if "vacancies" in changes:
        assert {len(a) for a in found.candidates} == {1}


def test_substitutions():
    swapped = config(substitutions={"Fe": "Co"}, substituted=1.0)
    found = _defective(iron(), swapped, np.random.default_rng(0))
    assert sorted(found.get_chemical_symbols()) == ["Co", "Fe"]
    assert (get_spins(found) == get_spins(iron())).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature_K": []}, "temperature_K"),
        ({"spin_temperature_K": [1.0]}, "must have the length of temperature_K"),
        ({"substitutions": {"Fe": "Xx"}}, "'Xx' is no element"),
        ({"walker": 3}, "'walker'; did you mean 'walkers'"),
        ({"spin_starts": ["upside"]}, "spin_starts"),
    ],
)
def test_bad_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        config(**values)
    with pytest.raises(ValueError, match="low must be less than high"):
        Window(low=0.2, high=0.1)


def test_farthest_points():
    line = np.array([[0.0], [0.1], [5.0], [9.0], [10.0]])
    assert farthest_points(line, 2, known=np.array([[0.0]])) == [4, 2]
    assert set(farthest_points(line, 9)) == set(range(5))
    assert farthest_points(line, 0) == []
