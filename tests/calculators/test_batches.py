"""Many structures in one call of the model, by the calculator's evaluate."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from structures import iron, triclinic

from deepspin_ase import DeepSpinCalculator, cant_spins, set_spins
from deepspin_ase.calculators._deepspin import batches
from deepspin_ase.potentials import Committee, LennardJones, Potential, Sum
from deepspin_ase.potentials.materials.reference import fe


def images() -> list[Atoms]:
    """Structures of different sizes, elements and periodic directions."""
    ferromagnet = bulk("Fe", cubic=True)
    set_spins(ferromagnet, [[0, 0, 2.0], [0.5, 1.0, 1.5]])
    cluster = triclinic()
    cluster.pbc = False
    return [triclinic(), ferromagnet, cluster, ferromagnet.repeat((2, 1, 1))]


def committee() -> Potential:
    members = [networks.model(), networks.model(descriptor={"rcut": 4.0})]
    return Committee(members)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.shape(found[name]) == np.shape(values), name
        np.testing.assert_allclose(found[name], values, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("max_atoms", [1, 6, 20_000])
@pytest.mark.parametrize("field", [None, (0.0, 1.0, 30.0)])
def test_results_are_those_of_single_structures(
    max_atoms: int, field: tuple[float, float, float] | None
) -> None:
    calculator = DeepSpinCalculator(committee(), external_field_T=field)
    found = calculator.evaluate(images(), max_atoms=max_atoms)
    assert not calculator.results
    single = DeepSpinCalculator(committee(), external_field_T=field)
    for results, atoms in zip(found, images(), strict=True):
        single.calculate(atoms)
        assert_same(results, single.results)


def test_derivatives_as_asked_for() -> None:
    calculator = DeepSpinCalculator(networks.model())
    nothing = {"forces": False, "magnetic_forces": False, "virial": False}
    (energies, *_) = calculator.evaluate(images(), **nothing)
    assert energies.keys() == {"energy", "free_energy", "energies"}
    (found, *_) = calculator.evaluate(images(), **(nothing | {"virial": True}))
    assert found.keys() - energies.keys() == {"virial"}  # two periodic directions
    (found, *_) = calculator.evaluate(images(), **(nothing | {"magnetic_forces": True}))
    assert found.keys() - energies.keys() == {"magnetic_forces", "torques"}


def test_the_pair_list_is_kept_apart_from_that_of_single_structures() -> None:
    calculator, atoms = DeepSpinCalculator(fe()), iron()
    calculator.calculate(atoms)
    calculator.evaluate([atoms, atoms])
    lists = [c.neighbors for c in (calculator._compiled, calculator._batched)]
    cant_spins(atoms, 0.01, seed=1)
    calculator.calculate(atoms)
    calculator.evaluate([atoms, atoms])
    calculator.external_field_T = (0.0, 0.0, 1.0)
    calculator.evaluate(iter([atoms, atoms]))
    assert [known.n_builds for known in lists] == [1, 1]
    assert calculator._batched.neighbors is lists[1]


def test_what_is_not_finite_is_returned() -> None:
    class Broken(LennardJones):
        def forward(self, system: Any, pairs: Any) -> Any:
            return super().forward(system, pairs) / (system.positions[:, 0] < 50.0)

    near, far = iron(), iron()
    far.positions[:, 0] += 100.0
    broken = Broken(0.1, 2.3, cutoff=4.0)
    good, bad = DeepSpinCalculator(Sum([fe(), broken])).evaluate([near, far])
    assert np.isfinite(good["forces"]).all()
    assert not np.isfinite(bad["energy"])


def test_bad_input() -> None:
    calculator = DeepSpinCalculator(networks.model())
    assert calculator.evaluate([]) == []
    with pytest.raises(TypeError, match="sequence of Atoms"):
        calculator.evaluate(triclinic())
    with pytest.raises(TypeError, match=r"expected ase\.Atoms, got str"):
        calculator.evaluate(["Fe"])
    unknown = bulk("Cu")
    set_spins(unknown, [0.0])
    with pytest.raises(ValueError, match="does not know the element Cu"):
        calculator.evaluate([*images(), unknown])


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [([], []), ([9], [[9]]), ([1, 2, 3, 4], [[1, 2, 3], [4]]), ([7, 7], [[7], [7]])],
)
def test_groups_are_as_large_as_allowed(sizes: list, groups: list) -> None:
    structures = (Atoms(["Fe"] * n) for n in sizes)
    found = [[len(atoms) for atoms in group] for group in batches(structures, 6)]
    assert found == groups
