"""Walkers, windows, and the choice of structures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from torch import Tensor, nn

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.data import Dataset, Frame
from deepspin_ase.learning import (
    ExploreConfig,
    Window,
    equations,
    explore,
    most_informative,
)
from deepspin_ase.learning._explore import (
    _defective,
    closest_approach,
    largest_deviations,
)
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    Committee,
    CompiledPotential,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
)
from deepspin_ase.potentials.materials import reference
from deepspin_ase.spins import get_spins, set_spins
from deepspin_ase.system import System
from deepspin_ase.training import load_batches
from deepspin_ase.training._energies import ReferenceColumns, fit_reference_energies
from deepspin_ase.training._ridge import NormalEquations
from deepspin_ase.training._ridge import equations as rows_of


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


def test_batches_of_walkers():
    """Each has random numbers of its own; walkers keep their numbers."""
    values = config(batch=3, walkers=5)
    found = explore(committee(), [iron()], values, **ALL, seed=1, progress=False)
    assert len(found.candidates) == len(found.seen) == found.uncertain == 20
    assert [a.info["walker"] for a in found.candidates[:3]] == [0, 1, 2]
    assert {a.info["walker"] for a in found.candidates[12:]} == {3, 4}
    temperature = {a.info["walker"]: a.info["temperature_K"] for a in found.candidates}
    assert temperature == {0: 100.0, 1: 600.0, 2: 100.0, 3: 600.0, 4: 100.0}
    places = {round(float(a.positions[0, 0]), 9) for a in found.candidates}
    assert len(places) == 20


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


def variance(sets, known):
    """Return the variance of the predictions of all sets."""
    matrix = sum(x.T @ x for x in known)
    inverse = np.linalg.inv(matrix)
    return sum(float(np.trace(x @ inverse @ x.T)) for x in sets)


def test_most_informative():
    rng = np.random.default_rng(0)
    known = [rng.normal(size=(30, 6))]
    sets = [rng.normal(size=(1, 6)) * size for size in (0.1, 6.0, 0.2, 3.0, 0.1)]
    sets.append(sets[1].copy())
    first, second = most_informative(sets, 2, known)
    # The best ones of all, known by trying each.
    assert first in (1, 5)
    left = [variance(sets, [*known, own]) for own in sets]
    assert left[first] == pytest.approx(min(left))
    left = [variance(sets, [*known, sets[first], own]) for own in sets]
    assert left[second] == pytest.approx(min(left))
    assert sorted(most_informative(sets, 9, known)) == list(range(6))
    assert most_informative(sets, 0, known) == most_informative([], 3, known) == []


def test_equations_are_those_of_the_loss():
    """Their products are the normal matrix of the fit."""
    frames = []
    for k in range(3):
        atoms = iron()
        atoms.rattle(0.1, seed=k)
        atoms.calc = DeepSpinCalculator(reference.fe())
        atoms.get_potential_energy()
        frames.append(Frame.from_atoms(atoms))
    values = {"basis": 6, "channels": 4, "angular": 2, "spin_channels": 3}
    network = SpinMomentNetwork(
        SpinMomentConfig(elements=["Fe"], magnetic=["Fe"], neuron=[4], **values)
    )
    batches = load_batches(Dataset(frames), network)
    network.fit_statistics((b.system, b.pairs) for b in batches)
    weights = {"energy": 10.0, "forces": 1.0, "magnetic_forces": 50.0}
    found = equations(network, [f.to_atoms() for f in frames], weights)
    sizes = network.linear_sizes().numpy()
    columns = ReferenceColumns(network.species, batches)
    about = fit_reference_energies(network, batches, columns)
    for own, batch in zip(found, batches, strict=True):
        normal = NormalEquations.of(network, columns)
        normal.add(*rows_of(network, batch, about, columns, weights))
        matrix = normal.matrix[: len(sizes), : len(sizes)].numpy()
        expected = sizes[:, None] * matrix * sizes
        np.testing.assert_allclose(own.T @ own, expected, atol=1e-12 * expected.max())
    assert equations(reference.fe(), [iron()], weights) is None
