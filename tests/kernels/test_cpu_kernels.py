"""Compiled kernels against torch: the network and the terms themselves."""

from __future__ import annotations

import importlib
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from networks import (
    EVERY,
    PSEUDO_ATOMS,
    QUANTITIES,
    assert_close,
    exactly,
    for_model,
    frozen,
    kernels_of,
    model,
    nickel_oxide,
    spin_terms,
    structure,
)

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.kernels.cpu import _compile as compile_module
from deepspin_ase.kernels.cpu import _network as fused_network
from deepspin_ase.potentials import (
    Blend,
    Committee,
    CubicCut,
    Heisenberg,
    PairPotential,
    Potential,
    ScreenedNuclear,
    Sum,
    Switched,
    TimeReversal,
    Zeeman,
    choose_backend,
    load_potential,
)
from deepspin_ase.system import System


@pytest.mark.parametrize("variant", EVERY)
def test_equals_the_network(variant: str) -> None:
    net = frozen(**EVERY[variant])
    system = System.cat([for_model(structure(k, pbc=k != 1), net) for k in range(3)])
    assert_close(net.evaluate(system), exactly(net, system), 1e-10)


@pytest.mark.parametrize("variant", EVERY)
def test_work_space_may_hold_anything(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used block after block, and read where it was written alone."""
    kernels = importlib.import_module("deepspin_ase.kernels.cpu._network_kernels")
    net = frozen(**EVERY[variant])
    system = for_model(structure(0), net)
    expected = net.evaluate(system)
    clean = kernels.work_space

    def dirty(*sizes: Any) -> Any:
        sites, products, fits = clean(*sizes)
        for array in (*sites, products, *fits):
            # Columns beyond the width of the embedding are zero.
            if array.dtype.kind == "f" and array is not sites.gradient:
                array[:] = np.nan
        return sites, products, fits

    monkeypatch.setattr(kernels, "work_space", dirty)
    found = net.evaluate(system)
    for name in QUANTITIES:
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_equals_a_trained_model() -> None:
    """Its embeddings are steep where the training data had no distances."""
    potential, system = load_potential(PSEUDO_ATOMS), nickel_oxide()
    found, expected = potential.evaluate(system), exactly(potential, system)
    assert_close(found, expected, 1e-10)
    energies = (found.energies - expected.energies).abs()
    assert float(energies.max()) < 1e-11


def test_mixed_precision() -> None:
    potential, system = load_potential(PSEUDO_ATOMS), nickel_oxide()
    expected = exactly(potential, system)
    choose_backend(potential, mixed=True)
    found = potential.evaluate(system)
    assert found.forces is not None and found.forces.dtype == torch.float64
    assert 1e-12 < float((found.forces - expected.forces).abs().max()) < 2e-6
    per_atom = (found.energy - expected.energy) / system.n_atoms
    assert float(per_atom.abs().max()) < 5e-7


def test_single_precision() -> None:
    net = frozen()
    system = for_model(structure(), net)
    expected = exactly(net, system)
    found = net.float().evaluate(system.to(dtype=torch.float32))
    assert found.forces is not None and found.forces.dtype == torch.float32
    for name in QUANTITIES:
        difference = getattr(found, name).double() - getattr(expected, name)
        assert float(difference.abs().max()) < 3e-5, name


def test_a_moment_that_vanishes() -> None:
    """Distances of pseudo-atoms go to zero, through all octaves of the tables."""
    net = frozen()
    system = for_model(structure(), net)
    for length in (1.0, 0.3, 0.1, 3e-2, 1e-2, 1e-3, 1e-6, 1e-12, 0.0):
        spins = system.spins.clone()
        spins[0] *= length
        shorter = system.replace(spins=spins)
        assert_close(net.evaluate(shorter), exactly(net, shorter), 1e-9)


def test_atoms_that_collide() -> None:
    net = frozen()
    for distance in (1.0, 0.3, 0.05, 0.002):
        atoms = Atoms("FeNi", [[0, 0, 0], [distance, 0, 0]])
        atoms.set_initial_magnetic_moments([[0, 0.5, 1.0], [0.4, 0, 1.0]])
        system = System.from_atoms(atoms)
        assert_close(net.evaluate(system), exactly(net, system), 1e-9)


def test_more_neighbours_than_slots(caplog: pytest.LogCaptureFixture) -> None:
    """Where the last slot fills up, torch takes over; nothing jumps before."""
    net = frozen(descriptor={"sel": [6, 6, 9]})
    system = for_model(structure(), net)
    truncated = []
    for scale in np.linspace(1.25, 0.9, 8):
        strain = (scale - 1.0) * torch.eye(3, dtype=torch.float64)[None]
        denser = system.strained(strain)
        caplog.clear()
        net._warned = False
        assert_close(net.evaluate(denser), exactly(net, denser), 1e-10)
        truncated.append("more neighbours than" in caplog.text)
    assert not truncated[0] and truncated[-1]


def test_continuous_at_the_cutoff() -> None:
    net = frozen()
    energies = []
    for side in (-1e-9, 1e-9):
        atoms = Atoms("FeO", [[0, 0, 0], [net.cutoff + side, 0, 0]])
        atoms.set_initial_magnetic_moments([[0, 0, 1.0], [0, 0, 0]])
        energies.append(net.evaluate(System.from_atoms(atoms)).energy)
    assert abs(float(energies[0] - energies[1])) < 1e-12


@pytest.mark.slow  # compiles the kernel again, for other numbers
def test_an_atom_very_many_cells_away() -> None:
    net, system = frozen(), nickel_oxide()
    far = system.positions.clone()
    far[0] += 40_000 * system.cell[0, 0]
    moved = net.evaluate(system.replace(positions=far))
    assert_close(moved, net.evaluate(system), 1e-8)


def test_atoms_alone_and_without_moments() -> None:
    net = frozen()
    for symbols, spins in (("Fe", [[0, 0, 1.0]]), ("O2", np.zeros((2, 3)))):
        atoms = Atoms(symbols, 30.0 * np.arange(3.0 * len(spins)).reshape(-1, 3))
        atoms.set_initial_magnetic_moments(spins)
        system = System.from_atoms(atoms)
        assert_close(net.evaluate(system), exactly(net, system), 1e-11)


def test_energies_alone() -> None:
    potential, system = load_potential(PSEUDO_ATOMS), nickel_oxide()
    nothing = {"forces": False, "magnetic_forces": False, "virial": False}
    found = potential.evaluate(system, **nothing)
    expected = potential.evaluate(system)
    torch.testing.assert_close(found.energies, expected.energies, rtol=0, atol=1e-12)
    assert found.forces is found.magnetic_forces is found.virial is None


def test_new_weights_are_seen() -> None:
    net = frozen()
    system = for_model(structure(), net)
    other = frozen(spin={"virtual_scale": 0.3}).state_dict()
    embedding, fitting = net.embeddings["0_0"][0], net.fittings[0][0]

    def in_place() -> None:
        embedding.matrix.mul_(1.1)

    def behind_the_back() -> None:
        embedding.bias.data.add_(0.1)
        fitting.matrix.data.mul_(0.9)

    def statistics() -> None:
        net.mean[:, 0] += 0.01

    def replaced() -> None:
        net.load_state_dict({k: 1.2 * v for k, v in other.items()}, assign=True)

    def rounded() -> None:
        net.float().double()

    for mixed in (False, True):
        choose_backend(net, mixed=mixed)
        for change in (in_place, behind_the_back, statistics, replaced, rounded):
            before = net.evaluate(system).energy
            change()
            found = net.evaluate(system)
            assert float((found.energy - before).abs()) > 1e-9
            assert_close(found, exactly(net, system), 3e-6 if mixed else 1e-10)


def test_what_needs_torch_gets_it() -> None:
    net = model()
    system = for_model(structure(), net)
    found = net.evaluate(system, create_graph=True)
    assert found.forces is not None and found.forces.requires_grad
    assert not kernels_of(net)
    net.evaluate(system)
    assert not kernels_of(net)  # still in training
    net.eval().evaluate(system)
    assert kernels_of(net)


def test_embeddings_with_kinks(caplog: pytest.LogCaptureFixture) -> None:
    net = frozen(descriptor={"activation_function": "relu"})
    system = for_model(structure(), net)
    for _ in range(2):
        assert_close(net.evaluate(system), exactly(net, system), 1e-14)
    assert caplog.text.count("not smooth") == 1


def test_not_finite() -> None:
    net, pairs = frozen(), None
    system = for_model(structure(), net)
    spins = system.spins.clone()
    from deepspin_ase.neighbors import build_pairs

    pairs = build_pairs(system, net.pair_cutoff(system))
    spins[0, 0] = torch.nan
    found = net.evaluate(system.replace(spins=spins), pairs)
    assert not bool(torch.isfinite(found.energy).all())


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def large() -> tuple[Potential, System]:
    return load_potential(PSEUDO_ATOMS), System.cat(
        [nickel_oxide(k) for k in range(20)]
    )


def test_threads_share_the_work(two_threads: None) -> None:
    potential, system = large()
    found = potential.evaluate(system)
    again = potential.evaluate(system)
    assert_close(found, exactly(potential, system), 1e-10)
    for name in QUANTITIES:
        assert torch.equal(getattr(found, name), getattr(again, name))


def test_callers_from_several_threads(two_threads: None) -> None:
    potential, system = large()
    expected = potential.evaluate(system)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: potential.evaluate(system), range(6)):
            assert_close(found, expected, 1e-12)


def _energy_in_child(queue: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)  # torch's own threads do not survive a fork
    share = fused_network.share
    parts: list[int] = []
    share(lambda worker, *_: parts.append(worker), 400, least=8, workers=2)
    potential, system = large()
    queue.put((sorted(parts), float(potential.evaluate(system).energy.sum())))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_processes(two_threads: None) -> None:
    potential, system = large()
    expected = float(potential.evaluate(system).energy.sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_energy_in_child, args=(queue,))
    child.start()
    try:
        parts, energy = queue.get(timeout=120)
    finally:
        child.join(10)
        child.kill()
    assert parts == [0, 1]
    assert energy == pytest.approx(expected, abs=1e-9)


def test_no_folder_for_compiled_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(function: object) -> None:
        raise RuntimeError("cannot cache function")

    monkeypatch.setattr(compile_module, "KernelCache", refuse)
    compile_module._warn_of_no_folder.cache_clear()
    for _ in range(2):
        assert compile_module.compiled(lambda x: x + 1)(2) == 3
    assert caplog.text.count("set NUMBA_CACHE_DIR") == 1


def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("kind", ["index", "data", "renamed", "other sources"])
def test_unreadable_compiled_code_is_made_again(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Cut off by a full disk, of classes that are gone, or of other files."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def hits() -> int:
        kernel: Any = compile_module.compiled(double)
        assert kernel(3) == 6
        return sum(kernel.stats.cache_hits.values())

    assert (hits(), hits()) == (0, 1)
    (index,), (data,) = tmp_path.rglob("*.nbi"), tmp_path.rglob("*.nbc")
    if kind == "index":
        index.write_bytes(index.read_bytes()[:-7])
    elif kind == "data":
        data.write_bytes(b"")
    elif kind == "renamed":
        index.write_bytes(index.read_bytes().replace(b"numba", b"bumna"))
    else:
        monkeypatch.setattr(
            compile_module, "_digest_of_sources", lambda folder: "other"
        )
    assert (hits(), hits()) == (0, 1)
    assert ("is made again" in caplog.text) == (kind != "other sources")


def test_compiled_code_that_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import numba

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernel: Any = compile_module.compiled(double)
    monkeypatch.setattr(kernel._cache._cache_file, "_save_data", full)
    assert kernel(3) == 6
    assert "no space left" in caplog.text


def test_compilers_are_loaded_when_needed() -> None:
    code = (
        "import sys, deepspin_ase, deepspin_ase.potentials;"
        "sys.exit('numba' in sys.modules or 'triton' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", spin_terms())
def test_pair_terms(name: str) -> None:
    term = spin_terms()[name]
    assert term.pair_term((8, 26, 28)) is not None
    system = System.from_atoms([structure(k, pbc=k != 1) for k in range(3)])
    assert_close(term.evaluate(system), exactly(term, system), 1e-9)


def test_sums_take_what_is_fast() -> None:
    net = frozen()
    terms = list(spin_terms().values())
    inner = Sum([Doubled(CubicCut(0.1, 4.0)), Zeeman((0, 0, 10)), *terms[5:]])
    whole = Sum([inner, net, Committee([net, terms[3]]), TimeReversal(net), terms[4]])
    system = for_model(structure(), net)
    found = whole.evaluate(system)
    assert_close(found, exactly(whole, system), 1e-9)
    assert found.deviations
    assert_close(found, Potential.evaluate(whole, system), 1e-9)


@dataclass
class Changing:
    """A function that is no constant."""

    value: float
    cutoff: float = 4.0

    def __call__(self, r: torch.Tensor) -> torch.Tensor:
        return self.value * (r - self.cutoff).clamp_max(0.0) ** 4


class Doubled(Heisenberg):
    def pair_energies(self, system: System, bonds: object) -> torch.Tensor:
        return 2.0 * super().pair_energies(system, bonds)


def test_terms_from_elsewhere_are_left_alone() -> None:
    system = System.from_atoms(structure())
    radial = Changing(1e-3)
    term = Heisenberg(radial)
    first = term.evaluate(system).energy
    radial.value *= 2.0
    torch.testing.assert_close(term.evaluate(system).energy, 2.0 * first)
    single = Heisenberg(CubicCut(0.1, 4.0))
    double = Doubled(CubicCut(0.1, 4.0))
    torch.testing.assert_close(
        double.evaluate(system).energy, 2.0 * single.evaluate(system).energy
    )


def test_pairs_closer_than_the_tables() -> None:
    term = PairPotential(
        Switched(Blend(ScreenedNuclear(26, 26), CubicCut(2.0, 4.0), 0.9, 1.4), 2.0)
    )
    for distance in (0.51, 0.499, 0.1):
        atoms = Atoms("FeFe", [[0, 0, 0], [distance, 0, 0]])
        system = System.from_atoms(atoms, require_spins=False)
        assert_close(term.evaluate(system), exactly(term, system), 1e-9)


def test_calculator_chooses() -> None:
    potential = load_potential(PSEUDO_ATOMS)
    atoms = bulk("NiO", "rocksalt", 4.2166, cubic=True)
    atoms.rattle(0.03, seed=3)
    atoms.set_initial_magnetic_moments(
        np.where((atoms.numbers == 28)[:, None], [0.0, 0.6, 1.1], 0.0)
    )
    forces = {}
    for name, options in {
        "fused": {},
        "reference": {"backend": "reference"},
        "mixed": {"dtype": "mixed"},
    }.items():
        atoms.calc = DeepSpinCalculator(potential, **options)
        forces[name] = atoms.get_forces()
    assert 0 < np.abs(forces["fused"] - forces["reference"]).max() < 1e-9
    assert 1e-10 < np.abs(forces["mixed"] - forces["reference"]).max() < 2e-6
    assert atoms.calc.parameters["dtype"] == "mixed"
    with pytest.raises(ValueError, match="fused, reference"):
        DeepSpinCalculator(potential, backend="fast")
    with pytest.raises(ValueError, match="mixed precision needs"):
        DeepSpinCalculator(potential, backend="reference", dtype="mixed")
