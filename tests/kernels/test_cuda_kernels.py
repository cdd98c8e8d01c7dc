"""Triton kernels against torch: on a CUDA device, or elsewhere in Triton's interpreter.

The interpreter takes a fifth of a second for an atom: structures are small. What it
does not notice, the compiler does, which needs no device either.
"""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from networks import (
    EVERY,
    PSEUDO_ATOMS,
    assert_close,
    exactly,
    for_model,
    frozen,
    kernels_of,
    moments_network,
    nickel_oxide,
    spin_terms,
    structure,
)

from deepspin_ase import DeepSpinCalculator, kernels
from deepspin_ase.dynamics import SpinLatticeNVE
from deepspin_ase.kernels import cuda
from deepspin_ase.neighbors import NeighborList, PairList, build_pairs
from deepspin_ase.potentials import (
    DeepSpinNetwork,
    Heisenberg,
    Potential,
    Shells,
    Sum,
    choose_backend,
    load_potential,
)
from deepspin_ase.system import System

QUANTITIES = ("energies", "forces", "magnetic_forces", "virial")

pytest.importorskip("triton")
ON_DEVICE = torch.cuda.is_available()
moments = importlib.import_module("deepspin_ase.kernels.cuda._moments")
lists = importlib.import_module("deepspin_ase.kernels.cuda._lists")
network = importlib.import_module("deepspin_ase.kernels.cuda._network")
DEVICE = "cuda" if ON_DEVICE else "cpu"
needs_device = pytest.mark.skipif(not ON_DEVICE, reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def in_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Triton evaluate on whatever device the tests run."""
    if not ON_DEVICE:
        monkeypatch.setitem(kernels._backends, "cpu", cuda)


def on_device(net: Potential, system: System) -> tuple[Potential, System]:
    return net.to(DEVICE), system.to(DEVICE)


def pair_of(distance: float = 2.0, moment: float = 1.0) -> System:
    atoms = Atoms("FeO", [[0, 0, 0], [0.6 * distance, 0, 0.8 * distance]])
    atoms.set_initial_magnetic_moments([[0, 0.6 * moment, moment], [0, 0, 0]])
    return System.from_atoms(atoms)


@pytest.fixture(scope="module")
def net() -> DeepSpinNetwork:
    """Return a network that tests leave as it is: to tabulate it takes a second."""
    return frozen().to(DEVICE)


@pytest.fixture
def system() -> System:
    return pair_of().to(DEVICE)


@pytest.mark.parametrize("variant", ["one-side", "timestep-gelu", "lattice"])
def test_equals_the_network(variant: str) -> None:
    net = frozen(**EVERY[variant])
    system = for_model(structure(pbc=False)[[0, 1, 2]], net)
    net, system = on_device(net, system)
    assert_close(net.evaluate(system), exactly(net, system), 1e-10)
    (known,) = kernels_of(net)
    assert isinstance(known, network.CompiledNetwork)


def test_batches(net: DeepSpinNetwork) -> None:
    """A crystal with images of itself, a lone atom, and a molecule."""
    lone = Atoms("O")
    lone.set_initial_magnetic_moments(np.zeros((1, 3)))
    crystal = for_model(structure(2)[[1, 2]], net)
    parts = [crystal, System.from_atoms(lone), pair_of()]
    system = System.cat(parts).to(DEVICE)
    assert_close(net.evaluate(system), exactly(net, system), 1e-10)


def test_float32(system: System) -> None:
    """Of tables and fitting, or of everything."""
    net = frozen().to(DEVICE)
    expected = exactly(net, system)
    choose_backend(net, mixed=True)
    found = net.evaluate(system)
    assert found.forces is not None and found.forces.dtype == torch.float64
    assert 1e-11 < float((found.forces - expected.forces).abs().max()) < 2e-6
    assert float((found.energies - expected.energies).abs().max()) < 5e-7
    found = net.float().evaluate(system.to(dtype=torch.float32))
    assert found.forces is not None and found.forces.dtype == torch.float32
    assert float((found.forces.double() - expected.forces).abs().max()) < 3e-5


def test_energies_alone(net: DeepSpinNetwork, system: System) -> None:
    nothing = {"forces": False, "magnetic_forces": False, "virial": False}
    found, expected = net.evaluate(system, **nothing), exactly(net, system)
    torch.testing.assert_close(found.energies, expected.energies, rtol=0, atol=1e-11)
    assert found.forces is found.magnetic_forces is found.virial is None


def test_short_distances(net: DeepSpinNetwork) -> None:
    """Through the octaves of the tables, to moments that vanish."""
    for distance, moment in ((2.0, 0.0), (0.3, 1e-3), (0.002, 1e-9)):
        system = pair_of(distance, moment).to(DEVICE)
        assert_close(net.evaluate(system), exactly(net, system), 1e-9)


def test_crowded_atoms_and_kinks_are_left_to_torch() -> None:
    for changes in ({"sel": [1, 1, 1]}, {"activation_function": "relu"}):
        net = frozen(descriptor=changes)
        net, system = on_device(net, for_model(structure()[[0, 1]], net))
        assert_close(net.evaluate(system), exactly(net, system), 1e-13)


def test_new_weights_are_seen(system: System) -> None:
    net = frozen().to(DEVICE)
    before = net.evaluate(system)
    net.embeddings["0_0"][0].bias.data.add_(0.1)
    net.fittings[0][0].matrix.data.mul_(0.9)
    net.energy_bias += 0.5
    found = net.evaluate(system)
    assert float((found.energy - before.energy).abs()) > 0.1
    assert_close(found, exactly(net, system), 1e-10)


def test_other_elements_and_lists_are_seen(
    net: DeepSpinNetwork, system: System
) -> None:
    pairs = build_pairs(system, 5.0)
    net.evaluate(system, pairs)
    system.species[0] = system.species[1]
    oxygen = system.replace(spins=torch.zeros_like(system.spins))
    found = net.evaluate(oxygen, pairs)
    assert_close(found, exactly(net, oxygen), 1e-10)
    none = PairList(*(x[:0] for x in (pairs.i, pairs.j, pairs.shift)), 5.0)
    alone = net.evaluate(oxygen, none)
    assert float((found.energy - alone.energy).abs()) > 1e-3


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_values_that_are_not_finite(net: DeepSpinNetwork, system: System) -> None:
    pairs = build_pairs(system, 5.0)
    for name in ("positions", "spins"):
        values = getattr(system, name).clone()
        values[0, 0] = torch.nan
        found = net.evaluate(system.replace(**{name: values}), pairs)
        assert not bool(torch.isfinite(found.energy).all())


def test_a_pair_must_be_listed_both_ways(net: DeepSpinNetwork, system: System) -> None:
    pairs = build_pairs(system, 5.0)
    half = PairList(pairs.i[:-1], pairs.j[:-1], pairs.shift[:-1], 5.0)
    with pytest.raises(ValueError, match="also as j-i"):
        net.evaluate(system, half)


def test_reverse_pairs() -> None:
    system = System.from_atoms([structure(0), structure(1)]).to(DEVICE)
    pairs = build_pairs(system, 6.0)
    links = lists.links_of(pairs, system.n_atoms)
    back = links.reverse.long()
    assert torch.equal(pairs.i[back], pairs.j) and torch.equal(pairs.j[back], pairs.i)
    assert torch.equal(pairs.shift[back], -pairs.shift)
    assert lists.links_of(pairs, system.n_atoms) is links
    left = weakref.ref(links)
    del pairs, links
    assert left() is None


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let memory be enough for two centres at a time."""
    collect, sizes = network._Call._collect, []

    def limited(call: object, chunk: object) -> object:
        sizes.append(chunk.end - chunk.begin)
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return collect(call, chunk)

    monkeypatch.setattr(network._Call, "_collect", limited)
    return sizes


def test_memory_that_is_small(
    net: DeepSpinNetwork,
    little_memory: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = for_model(structure(pbc=False)[[2, 0, 3]], net).to(DEVICE)
    vars(net).pop("_kernels", None)
    with pytest.raises(torch.OutOfMemoryError, match=r"about \d+ atoms .* would"):
        net.evaluate(system)
    monkeypatch.setattr(network, "STEP", 1)
    for kernel in kernels_of(net):
        kernel.chunk = None
    little_memory.clear()
    assert_close(net.evaluate(system), exactly(net, system), 1e-10)
    assert little_memory == [3, 1, 1, 1]
    little_memory.clear()
    net.evaluate(system)
    assert little_memory == [1, 1, 1]


@pytest.mark.parametrize("spin_orbit", [False, True])
def test_network_on_moments(spin_orbit: bool) -> None:
    """A crystal with images of itself, a lone atom, and a molecule."""
    net = moments_network(spin_orbit=spin_orbit)
    lone = Atoms("O")
    lone.set_initial_magnetic_moments(np.zeros((1, 3)))
    crystal = for_model(structure(2)[[1, 2]], net)
    system = System.cat([crystal, System.from_atoms(lone), pair_of()])
    net, system = on_device(net, system)
    pairs, expected = build_pairs(system, 4.6), exactly(net, system)
    assert_close(net.evaluate(system, pairs), expected, 1e-12)
    (known,) = kernels_of(net)
    assert isinstance(known, moments.CompiledMoments)
    shape = system.n_atoms, net.program.n_features
    features = torch.empty(shape, dtype=torch.float64, device=DEVICE)
    types = net.types(system)
    known(system, pairs, types, derivatives=False, features=features)
    torch.testing.assert_close(
        features, net.features(system, pairs), rtol=0, atol=1e-12
    )
    nothing = {"forces": False, "magnetic_forces": False, "virial": False}
    found = net.evaluate(system, pairs, **nothing)
    torch.testing.assert_close(found.energies, expected.energies, rtol=0, atol=1e-12)
    net.mixed = True
    found = net.evaluate(system, pairs)
    assert found.forces is not None and found.forces.dtype == torch.float64
    assert 1e-10 < float((found.forces - expected.forces).abs().max()) < 2e-6
    assert_close(found, expected, 2e-6)


def test_network_on_moments_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments._Call, "_chunk", lambda call: 2)
    net = moments_network()
    net, system = on_device(net, for_model(structure()[[0, 1, 2]], net))
    assert_close(net.evaluate(system), exactly(net, system), 1e-12)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_network_on_moments_where_values_are_not_finite() -> None:
    net, system = on_device(moments_network(), pair_of())
    pairs = build_pairs(system, 5.0)
    for name in ("positions", "spins"):
        values = getattr(system, name).clone()
        values[0, 0] = torch.nan
        found = net.evaluate(system.replace(**{name: values}), pairs)
        assert not bool(torch.isfinite(found.energy).all())


PAIR_TERMS = {
    "lattice": ("some pairs", "Lennard-Jones", "cores"),
    "aligned": ("some pairs", "Heisenberg", "moments", "biquadratic"),
    "chiral": ("Heisenberg", "chiral", "chiral along", "chiral between elements"),
}


@pytest.mark.parametrize("kind", PAIR_TERMS)
def test_pair_terms(kind: str) -> None:
    terms = [spin_terms()[name] for name in PAIR_TERMS[kind]]
    batch = System.from_atoms([structure(0)[[0, 1]], structure(1, pbc=False)[[2, 0]]])
    expected, system = exactly(Sum(terms), batch), batch.to(DEVICE)
    found = Sum(terms).evaluate(system)
    for name in QUANTITIES:
        values = getattr(found, name).cpu()
        torch.testing.assert_close(values, getattr(expected, name), rtol=0, atol=1e-9)
    assert found.virial is not None and expected.virial is not None
    twist = expected.virial - expected.virial.transpose(1, 2)
    assert (float(twist.abs().max()) > 1e-6) == (kind == "chiral")
    data = tuple(term.pair_term((8, 26, 28)) for term in terms)
    kernel = cuda.pairs(data, (8, 26, 28), system.device)
    close = system.replace(positions=0.1 * system.positions)
    types = torch.searchsorted(torch.tensor([8, 26, 28]).to(DEVICE), system.species)
    assert kernel(close, build_pairs(close, 5.0), types) is None


def test_without_triton(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None)
    cuda.available.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not cuda.available() and not cuda.available()
    cuda.available.cache_clear()
    assert caplog.text.count("pip install triton") == 1


@pytest.mark.skipif(ON_DEVICE, reason="there is a CUDA device")
def test_without_a_device() -> None:
    with pytest.raises(ValueError, match="no CUDA device"):
        DeepSpinCalculator(PSEUDO_ATOMS, device="cuda")


@pytest.mark.slow
def test_kernels_compile() -> None:
    """For a device of compute capability 8.0 and 9.0, which need not be there."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)  # with folders of the tests
    script = Path(__file__).with_name("compile_kernels.py")
    subprocess.run([sys.executable, script], check=True, env=environment)


@needs_device
@pytest.mark.parametrize("mixed", [False, True])
def test_trained_model(mixed: bool) -> None:
    """Also its batches, one by one and together, bit by bit the same every time."""
    potential, system = on_device(
        load_potential(PSEUDO_ATOMS), System.cat([nickel_oxide(k) for k in range(20)])
    )
    choose_backend(potential, mixed=mixed)
    pairs = build_pairs(system, potential.pair_cutoff(system))
    found = potential.evaluate(system, pairs)
    again = potential.evaluate(system, pairs)
    expected = exactly(potential, system)
    tolerance = 2e-6 if mixed else 1e-9
    assert found.forces is not None and again.forces is not None
    assert float((found.forces - expected.forces).abs().max()) < tolerance
    assert float((found.energies - expected.energies).abs().max()) < tolerance
    assert torch.equal(found.forces, again.forces)
    assert torch.equal(found.magnetic_forces, again.magnetic_forces)
    alone = potential.evaluate(nickel_oxide(7).to(DEVICE))
    together = found.forces.view(20, 16, 3)[7]
    torch.testing.assert_close(together, alone.forces, rtol=0, atol=tolerance)


@needs_device
def test_lists_on_the_device() -> None:
    system = System.cat([nickel_oxide(k) for k in range(3)])
    expected = build_pairs(system, 6.1)
    found = build_pairs(system.to(DEVICE), 6.1)
    assert found.i.device.type == DEVICE
    key = [
        torch.cat([p.i[:, None], p.j[:, None], p.shift.long()], 1).cpu().tolist()
        for p in (expected, found)
    ]
    assert sorted(key[0]) == sorted(key[1])
    neighbors = NeighborList(0.5)
    neighbors.update(system.to(DEVICE), 6.0)
    assert neighbors.n_builds == 1


def trajectory(device: str, dtype: str, steps: int = 50) -> tuple[Atoms, np.ndarray]:
    system = nickel_oxide()
    atoms = Atoms(
        system.species.tolist(),
        system.positions.numpy(),
        cell=system.cell[0].numpy(),
        pbc=True,
    )
    atoms.set_initial_magnetic_moments(system.spins.numpy())
    atoms.calc = DeepSpinCalculator(PSEUDO_ATOMS, device=device, dtype=dtype)
    dyn = SpinLatticeNVE(atoms, 0.5 * units.fs)
    energies = []
    for _ in range(steps // 10):
        energies.append(float(dyn.conserved_energy()[0]))
        dyn.run(10)
    return atoms, np.array(energies)


@needs_device
@pytest.mark.parametrize("dtype", ["float64", "mixed"])
def test_dynamics(dtype: str) -> None:
    """Fifty steps on the device follow those on the CPU."""
    found, energies = trajectory(DEVICE, dtype)
    expected, reference = trajectory("cpu", "float64")
    tolerance = 1e-6 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(found.positions, expected.positions, atol=tolerance)
    np.testing.assert_allclose(
        found.get_initial_magnetic_moments(),
        expected.get_initial_magnetic_moments(),
        atol=tolerance,
    )
    np.testing.assert_allclose(energies, reference, atol=16 * 1e-6)


@needs_device
def test_memory_of_the_device() -> None:
    """What does not fit at first is tried in smaller chunks."""
    potential, system = on_device(
        load_potential(PSEUDO_ATOMS), System.cat([nickel_oxide(k) for k in range(40)])
    )
    expected = potential.evaluate(system)
    vars(potential).pop("_kernels", None)
    torch.cuda.empty_cache()
    used = torch.cuda.memory_allocated() / torch.cuda.mem_get_info()[1]
    try:
        torch.cuda.set_per_process_memory_fraction(used + 3e7 / 80e9)
        found = potential.evaluate(system)
    except torch.OutOfMemoryError as error:
        assert "would" in str(error) or "out of memory" in str(error)
        return
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert_close(found, expected, 1e-12)


@needs_device
def test_terms_without_a_kernel() -> None:
    exchange = Heisenberg(Shells([(2.5, 0.02)], tolerance=0.5))
    system = System.from_atoms(structure())
    exact = exactly(exchange, system)
    found = exchange.evaluate(system.to(DEVICE))
    torch.testing.assert_close(found.energy.cpu(), exact.energy, rtol=0, atol=1e-12)
