"""Potentials compiled once, and how changes of them are taken up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import assert_close, exactly, for_model, frozen, kernels_of, structure

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    Committee,
    CompiledPotential,
    CubicCut,
    DeepSpinNetwork,
    Heisenberg,
    PairPotential,
    Potential,
    Prediction,
    Sum,
    TimeReversal,
    UniaxialAnisotropy,
    Zeeman,
    choose_backend,
)
from deepspin_ase.system import System


def hamiltonian() -> Sum:
    exchange = Heisenberg(CubicCut(0.05, 4.0))
    return Sum([exchange, UniaxialAnisotropy(0.02, (0, 1, 1)), Zeeman((1, 2, 3))])


#: Potentials of which parts are compiled, alone and inside others.
POTENTIALS: dict[str, Callable[[], Potential]] = {
    "network": frozen,
    "terms": hamiltonian,
    "sum": lambda: Sum([frozen(), hamiltonian()]),
    "committee": lambda: Committee([frozen(), Sum([frozen(), hamiltonian()])]),
    "time reversal": lambda: TimeReversal(Sum([frozen(), frozen()])),
    "committee in a sum": lambda: Sum([Committee([hamiltonian()] * 2), frozen()]),
}


@pytest.fixture
def system() -> System:
    return for_model(structure(), frozen())


@pytest.mark.parametrize("name", POTENTIALS)
def test_gives_what_the_potential_gives(name: str, system: System) -> None:
    potential = POTENTIALS[name]()
    compiled = CompiledPotential(potential)
    expected = potential.evaluate(system, build_pairs(system, 6.0))
    for _ in range(2):
        found = compiled.evaluate(system)
        assert found.quantities().keys() == expected.quantities().keys()
        assert found.deviations.keys() == expected.deviations.keys()
        assert_close(found, expected, 1e-13)
    moved = system.replace(positions=system.positions + 0.01 * system.spins)
    assert_close(compiled.evaluate(moved), potential.evaluate(moved), 1e-12)
    other = moved[0].replace(species=system.species.flip(0), spins=0.0 * system.spins)
    assert_close(compiled.evaluate(other), potential.evaluate(other), 1e-12)


def test_derivatives_as_asked_for(system: System) -> None:
    compiled = CompiledPotential(Sum([frozen(), hamiltonian()]))
    found = compiled.evaluate(system, forces=False, virial=False)
    assert found.quantities().keys() == {"energy", "energies", "magnetic_forces"}


def test_precision_and_device_are_those_of_the_potential(system: System) -> None:
    compiled = CompiledPotential(frozen(), dtype=torch.float32)
    found = compiled.evaluate(system)
    assert found.energy.dtype == found.volume.dtype == torch.float64
    expected = frozen().evaluate(system)
    assert_close(found, expected, 1e-4)
    assert not torch.equal(found.energy, expected.energy)


def in_place(net: DeepSpinNetwork) -> None:
    with torch.no_grad():
        net.fittings[0][0].matrix.mul_(1.1)


def in_reference(net: DeepSpinNetwork) -> None:
    choose_backend(net, "reference")


@pytest.mark.parametrize("change", [in_place, in_reference])
@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: Sum([net, net])])
def test_changes_are_taken_up_when_told(
    change: Callable[[DeepSpinNetwork], None],
    wrap: Callable[[DeepSpinNetwork], Potential],
    system: System,
) -> None:
    net = frozen()
    compiled = CompiledPotential(wrap(net))
    twin = compiled.twin()
    before, again = compiled.evaluate(system), twin.evaluate(system)
    change(net)
    expected = wrap(net).evaluate(system)
    assert float((expected.forces - before.forces).abs().max()) > 1e-13
    assert torch.equal(compiled.evaluate(system).forces, before.forces)
    compiled.refresh()
    for one in (compiled, twin):
        assert_close(one.evaluate(system), expected, 1e-13)
    assert_close(again, before, 0.0)


def test_terms_are_taken_up_when_told(system: System) -> None:
    term = PairPotential(CubicCut(0.05, 4.0))
    compiled = CompiledPotential(Sum([term, Zeeman((0, 0, 1))]))
    compiled.evaluate(system)
    term.radial = CubicCut(0.1, 3.5)
    compiled.refresh()
    assert_close(compiled.evaluate(system), exactly(compiled.potential, system), 1e-9)


def test_what_is_alike_is_compiled_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspin_ase.kernels import cpu

    made: list[object] = []
    compile_network = cpu.network

    def counted(*arguments: object) -> object:
        made.append(arguments)
        return compile_network(*arguments)

    monkeypatch.setattr(cpu, "network", counted)
    net = frozen()
    compiled = CompiledPotential(net)
    compiled.evaluate(system)
    compiled.twin().evaluate(system)
    compiled.replaced(Sum([net, Zeeman((0, 0, 1))])).evaluate(system)
    compiled.refresh()
    compiled.evaluate(system)
    assert len(made) == 1
    assert not kernels_of(net)  # those of the potential itself are others


def test_calculators_take_up_changes() -> None:
    atoms, calculator = structure(), DeepSpinCalculator(frozen())
    first = calculator.get_property("energy", atoms)
    calculator.evaluate([atoms])
    in_place(calculator.bare_potential)
    calculator.reset()
    assert calculator.get_property("energy", atoms) == first
    calculator.refresh()
    expected = frozen()
    in_place(expected)
    fresh = DeepSpinCalculator(expected)
    second = fresh.get_property("energy", atoms)
    assert second != first
    assert calculator.get_property("energy", atoms) == pytest.approx(second, abs=1e-12)
    (batched,) = calculator.evaluate([atoms])
    assert batched["energy"] == pytest.approx(second, abs=1e-12)


def differentiated(potential: Potential, system: System) -> Prediction:
    """Return what autograd gives."""
    found = potential.evaluate(system, create_graph=True)
    values = {name: x.detach() for name, x in found.quantities().items()}
    return Prediction(volume=found.volume, **values)


class Squared(Zeeman):
    """Another energy than that of its base."""

    def site_energies(self, moments: torch.Tensor) -> torch.Tensor:
        return super().site_energies(moments) ** 2


@pytest.mark.parametrize("kind", [Zeeman, Squared])
def test_a_field_is_what_autograd_gives(kind: type[Zeeman], system: System) -> None:
    potential = kind((1.0, -2.0, 3.0), elements=("Ni",))
    expected = differentiated(potential, system)
    assert float(expected.magnetic_forces.abs().max()) > 0.0
    assert_close(potential.evaluate(system), expected, 1e-16)
    assert_close(CompiledPotential(potential).evaluate(system), expected, 1e-16)


def test_pair_lists_share_what_is_made_of_them(system: System) -> None:
    made: list[int] = []

    def count(pairs: object, n_atoms: int) -> int:
        made.append(n_atoms)
        return n_atoms

    pairs = build_pairs(system, 4.0)
    for listed in (pairs, pairs.with_cutoff(3.0), pairs.bound(system)):
        assert listed.derived(count, 4) == 4
    assert pairs.derived(count, 5) == 5
    assert made == [4, 5]


def test_vectors_are_computed_once_for_one_system(system: System) -> None:
    pairs = build_pairs(system, 4.0)
    bound = pairs.bound(system)
    assert bound.vectors(system) is bound.vectors(system)
    moved = system.replace(positions=2.0 * system.positions)
    assert torch.equal(bound.vectors(moved), pairs.vectors(moved))
    assert not torch.equal(bound.vectors(moved), bound.vectors(system))
