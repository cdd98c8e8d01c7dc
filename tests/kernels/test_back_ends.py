"""A back end of kernels, and a pair term, declared here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hamiltonians import structure
from networks import for_model, frozen
from networks import structure as lattice

from deepspin_ase import kernels
from deepspin_ase.kernels import NetworkSums, PairSums, PairTermData
from deepspin_ase.potentials import (
    CubicCut,
    Heisenberg,
    PairPotential,
    Sum,
    choose_backend,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials import _registry as registry
from deepspin_ase.potentials.terms import INVARIANTS, RadialTerm
from deepspin_ase.system import System
from deepspin_ase.testing import check_potential


class Slow:
    """A back end in plain Python, of pair potentials of the lattice alone."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def available(self) -> bool:
        return True

    def pairs(
        self,
        terms: Sequence[PairTermData],
        species: tuple[int, ...],
        device: torch.device,
    ) -> Callable[..., PairSums | None]:
        functions = {
            pair: function for term in terms for pair, function in term.functions
        }

        def evaluate(system: System, pairs, types) -> PairSums:
            self.calls.append("pairs")
            n = system.n_atoms
            energies, forces = torch.zeros(n).double(), torch.zeros(n, 3).double()
            virial = torch.zeros(system.n_systems, 3, 3).double()
            vectors = pairs.vectors(system)
            for k, (i, j) in enumerate(zip(pairs.i, pairs.j, strict=True)):
                kinds = sorted((species[types[i]], species[types[j]]))
                function = functions[kinds[0], kinds[1]]
                r = vectors[k].norm().requires_grad_()
                value = function(r)
                (slope,) = torch.autograd.grad(value, r)
                energies[i] += 0.5 * value.detach()
                forces[i] += slope * vectors[k] / r.detach()
                work = torch.outer(vectors[k], vectors[k]) * slope / r.detach()
                virial[system.index[i]] -= 0.5 * work
            return PairSums(energies, forces, torch.zeros_like(forces), virial)

        return evaluate


@pytest.fixture
def back_end(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """Register a back end for the CPU, for the time of a test."""
    monkeypatch.setattr(kernels, "_backends", dict(kernels._backends))
    made = Slow()
    kernels.register("cpu", made)
    return made


def test_a_back_end_is_one_object(back_end: Slow) -> None:
    term = PairPotential(CubicCut(0.7, 4.0))
    check_potential(term, structure(), symmetries=["rotation", "inversion"])
    assert back_end.calls
    # What it has no entry point for is done in torch.
    net = frozen()
    system = for_model(lattice(), net)
    found = net.evaluate(system)
    choose_backend(net, "reference")
    assert torch.equal(found.forces, net.evaluate(system).forces)


def test_back_ends_are_chosen_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_backends", dict(kernels._backends))
    elsewhere = torch.device("meta")
    assert not kernels.has_kernels(elsewhere)
    assert kernels.entry_point("pairs", elsewhere) is None
    made = Slow()
    kernels.register("meta", made)
    assert kernels.has_kernels(elsewhere)
    assert kernels.entry_point("pairs", elsewhere) == made.pairs
    assert kernels.entry_point("network", elsewhere) is None
    monkeypatch.setattr(made, "available", lambda: False)
    assert kernels.entry_point("pairs", elsewhere) is None


def test_a_network_kernel_sees_plain_data(back_end: Slow) -> None:
    """What it returns counts; what it gets are arrays and sizes."""
    net = frozen()
    system = for_model(lattice(), net)

    def network(data, real, device):
        assert all(type(x) is torch.Tensor for x in data.weights())
        assert not any(x.requires_grad for x in data.weights())
        assert data.cutoff == net.cutoff and data.width == 8
        assert len(data.embeddings) == len(data.fittings) == 3

        def evaluate(system, pairs, types, virtual, *, derivatives):
            zeros = torch.zeros_like(system.positions)
            return NetworkSums(zeros[:, 0] + 7.0, zeros, zeros, system.cell * 0.0)

        return evaluate

    back_end.network = network
    assert net.evaluate(system).energies.tolist() == [7.0] * system.n_atoms


@pytest.fixture
def temporary_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))


def test_a_pair_term_is_one_class(temporary_registry: None, tmp_path) -> None:
    """It gives its invariants: compiled, tested against torch, saved and loaded."""

    @registry.register
    class Canting(RadialTerm):
        """Exchange that favours an angle, f(r) [(e_i.e_j)^2 - e_i.e_j]."""

        def invariants(self) -> dict[str, float]:
            return {"alignment^2": 1.0, "alignment": -1.0}

    term = Canting(CubicCut(0.05, 4.2))
    assert term.pair_term((8, 26, 28)) is not None
    check_potential(
        term, structure(), symmetries=["time_reversal", "spin_rotation", "inversion"]
    )
    save_potential(tmp_path / "model.pt", Sum([term, Heisenberg(CubicCut(0.1, 3.0))]))
    system = System.from_atoms(structure())
    expected = Sum([term, Heisenberg(CubicCut(0.1, 3.0))]).evaluate(system)
    found = load_potential(tmp_path / "model.pt").evaluate(system)
    assert torch.equal(found.forces, expected.forces)


def test_an_invariant_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiled formula it is evaluated in torch."""
    monkeypatch.setitem(INVARIANTS, "alignment^3", lambda pair: pair.alignment**3)

    class Cubed(RadialTerm):
        """f(r) (e_i.e_j)^3."""

        def invariants(self) -> dict[str, float]:
            return {"alignment^3": -1.0}

    term = Cubed(CubicCut(0.05, 4.2))
    assert term.pair_term((8, 26, 28)) is None
    check_potential(term, structure(), symmetries=["time_reversal", "spin_rotation"])
    found = term.evaluate(System.from_atoms(structure())).energies
    assert float(np.abs(found.numpy()).max()) > 1e-5
