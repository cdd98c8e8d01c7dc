"""Pair lists: back ends, periodicity, skins, bad input."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list

from deepspin_ase import neighbors
from deepspin_ase.neighbors import NeighborList, PairList, build_pairs
from deepspin_ase.system import System

BACKENDS = ["vesin", "scipy", "torch"]
PERIODICITIES = list(itertools.product([False, True], repeat=3))


def random_atoms(seed: int, pbc: tuple[bool, ...] = (True,) * 3, n: int = 7) -> Atoms:
    """Triclinic, shorter than the cutoffs used, atoms outside of the cell."""
    rng = np.random.default_rng(seed)
    cell = np.diag([3.1, 4.5, 6.2]) + rng.uniform(-1.0, 1.0, (3, 3))
    fractional = rng.uniform(-0.8, 1.4, (n, 3))
    return Atoms(f"H{n}", scaled_positions=fractional, cell=cell, pbc=pbc)


def system_of(*atoms: Atoms) -> System:
    return System.from_atoms(list(atoms), require_spins=False)


def pairs_of(pairs: PairList, system: System, cutoff: float) -> set[tuple[int, ...]]:
    """Return the pairs within the cutoff as (i, j, shift)."""
    near = pairs.vectors(system).norm(dim=1) < cutoff
    columns = [pairs.i[near, None], pairs.j[near, None], pairs.shift[near].round()]
    rows = torch.cat([c.long() for c in columns], 1).tolist()
    assert len(set(map(tuple, rows))) == len(rows)
    return set(map(tuple, rows))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("seed", range(3))
def test_pairs_equal_those_of_ase(
    seed: int, pbc: tuple[bool, ...], backend: str
) -> None:
    atoms = random_atoms(seed, pbc)
    system, cutoff = system_of(atoms), 5.3
    pairs = build_pairs(system, cutoff, backend=backend)
    i, j, shift = primitive_neighbor_list(
        "ijS", atoms.pbc, atoms.cell.array, atoms.positions, cutoff
    )
    expected = {(*ij, *s) for *ij, s in zip(i, j, map(tuple, shift), strict=True)}
    assert pairs_of(pairs, system, cutoff) == expected
    assert torch.all(pairs.i.diff() >= 0)
    distances = pairs.vectors(system).norm(dim=1)
    assert float(distances.max()) <= cutoff
    reverse = {(b, a, -x, -y, -z) for a, b, x, y, z in expected}
    assert reverse == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_open_directions_may_lack_lattice_vectors(backend: str) -> None:
    atoms = random_atoms(0, (True, False, False))
    expected = pairs_of(build_pairs(system_of(atoms), 4.0), system_of(atoms), 4.0)
    for rows in (np.zeros((2, 3)), np.tile(atoms.cell.array[0], (2, 1))):
        cell = np.vstack([atoms.cell.array[:1], rows])
        system = system_of(
            Atoms(atoms.symbols, atoms.positions, cell=cell, pbc=[1, 0, 0])
        )
        pairs = build_pairs(system, 4.0, backend=backend)
        assert pairs_of(pairs, system, 4.0) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_lists_every_structure_by_itself(backend: str) -> None:
    images = [random_atoms(k, pbc, n=3 + k) for k, pbc in enumerate(PERIODICITIES[4:])]
    batch = build_pairs(system_of(*images), 4.0, backend=backend)
    i, j, shift, offset = [], [], [], 0
    for image in images:
        single = build_pairs(system_of(image), 4.0, backend=backend)
        i.append(single.i + offset)
        j.append(single.j + offset)
        shift.append(single.shift)
        offset += len(image)
    assert torch.equal(batch.i, torch.cat(i))
    assert torch.equal(batch.j, torch.cat(j))
    assert torch.equal(batch.shift, torch.cat(shift))


def test_repeated_list_is_that_of_copies() -> None:
    system = system_of(random_atoms(1), random_atoms(2))
    pairs = build_pairs(system, 4.0)
    copies = System.cat([system, system])
    found = pairs.repeated(2, system.n_atoms)
    expected = build_pairs(copies, 4.0)
    assert pairs_of(found, copies, 4.0) == pairs_of(expected, copies, 4.0)


@pytest.mark.parametrize("pbc", [(True,) * 3, (True, True, False), (False,) * 3])
@pytest.mark.parametrize("seed", range(4))
def test_skin_never_misses_a_pair(seed: int, pbc: tuple[bool, ...]) -> None:
    rng = np.random.default_rng(seed)
    system = system_of(random_atoms(seed, pbc), random_atoms(seed + 9, pbc))
    neighbors, cutoff, n_steps = NeighborList(skin=1.0), 4.0, 40
    for _ in range(n_steps):
        pairs = neighbors.update(system, cutoff)
        exact = build_pairs(system, cutoff)
        assert pairs.cutoff == cutoff
        assert pairs_of(pairs, system, cutoff) == pairs_of(exact, system, cutoff)
        move = torch.tensor(rng.normal(scale=0.03, size=system.positions.shape))
        system = system.replace(positions=system.positions + move)
        system = system.strained(torch.tensor(rng.normal(scale=4e-3, size=(2, 3, 3))))
    assert 1 < neighbors.n_builds < n_steps


def test_skin_is_used_up_exactly() -> None:
    """Two atoms that approach by the skin together force a rebuild, not before."""
    system = system_of(Atoms("H2", [[0, 0, 0], [3, 0, 0]]))
    neighbors = NeighborList(skin=0.5)
    neighbors.update(system, 2.0)
    for approach, builds in ((0.24, 1), (0.26, 2)):
        move = torch.tensor([[approach, 0, 0], [-approach, 0, 0]])
        neighbors.update(system.replace(positions=system.positions + move), 2.0)
        assert neighbors.n_builds == builds


def test_list_is_kept_through_a_deformation_of_the_crystal() -> None:
    system = system_of(random_atoms(0))
    neighbors = NeighborList(skin=0.5)
    neighbors.update(system, 4.0)
    small, large = (x * torch.eye(3, dtype=torch.float64)[None] for x in (-0.1, -0.12))
    neighbors.update(system.strained(small), 4.0)
    assert neighbors.n_builds == 1
    neighbors.update(system.strained(large), 4.0)
    assert neighbors.n_builds == 2


def test_what_makes_a_list_unusable() -> None:
    system = system_of(random_atoms(0))
    neighbors = NeighborList(skin=0.5)
    expected = 0
    for changed, cutoff in (
        (system, 4.0),
        (system, 4.6),
        (system_of(random_atoms(0, n=8)), 4.6),
        (system_of(random_atoms(0, (True, True, False), n=8)), 4.6),
        (system_of(random_atoms(0), random_atoms(1)), 4.6),
        (system_of(random_atoms(0), random_atoms(1)).to(dtype=torch.float32), 4.6),
    ):
        for _ in range(2):
            pairs = neighbors.update(changed, cutoff)
        expected += 1
        assert neighbors.n_builds == expected
        assert pairs.shift.dtype == changed.dtype
    neighbors.update(changed, 3.0)
    assert neighbors.n_builds == expected


def test_zero_skin_rebuilds_when_anything_moves() -> None:
    system = system_of(random_atoms(0))
    neighbors = NeighborList(skin=0.0)
    neighbors.update(system, 4.0)
    neighbors.update(system, 4.0)
    assert neighbors.n_builds == 1
    neighbors.update(system.replace(positions=system.positions + 1e-9), 4.0)
    assert neighbors.n_builds == 2
    with pytest.raises(ValueError, match="skin must be finite and >= 0"):
        NeighborList(skin=-0.1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("distance", [0.0, 1e-5])
@pytest.mark.parametrize("cutoff", [0.0, 3.0])
def test_coincident_atoms(backend: str, distance: float, cutoff: float) -> None:
    for image in (0.0, 3.0):
        positions = [[0, 0, 0], [image + distance, 0, 0]]
        system = system_of(Atoms("H2", positions, cell=[3, 3, 3], pbc=True))
        with pytest.raises(ValueError, match="atoms 0 and 1 coincide"):
            build_pairs(system, cutoff, backend=backend)


@pytest.mark.parametrize("name", ["positions", "cell"])
def test_values_that_are_not_finite(name: str) -> None:
    system = system_of(random_atoms(0))
    neighbors = NeighborList()
    neighbors.update(system, 3.0)
    values = getattr(system, name).clone()
    values.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        neighbors.update(system.replace(**{name: values}), 3.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("edges", [(1e-3,) * 3, (4.0, 0.01, 0.01)])
def test_cells_that_are_not_in_angstroms(edges: Any, backend: str) -> None:
    """A search through all the images would take hours and gigabytes."""
    system = system_of(Atoms("H", cell=edges, pbc=True))
    with pytest.raises(ValueError, match=r"cell of structure 0 .* in angstroms\?"):
        build_pairs(system, 5.0, backend=backend)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="unknown neighbor backend 'verlet'"):
        build_pairs(system_of(random_atoms(0)), 3.0, backend="verlet")


def test_atoms_very_far_apart() -> None:
    atoms = Atoms("H20000", np.arange(20000)[:, None] * [10.0, 0, 0])
    system = System.from_atoms(atoms, require_spins=False)
    assert len(build_pairs(system, 1.0).i) == 0
    assert len(build_pairs(system, 10.5).i) == 2 * 19999


#: Cells and spreads, A, with few cells of a search in one direction and many in others.
ODD = {
    "layer": ([2000, 2000, 3], (1, 1, 0), [0, 0, 0]),
    "flat": ([2000, 2000, 3], (1, 1, 1), [0, 0, 0]),
    "needle": ([1e6, 3, 3], (1, 1, 1), [0, 0, 0]),
    "sheet of a cluster": ([0, 0, 0], (0, 0, 0), [3000, 3000, 0]),
    "line of a cluster": ([0, 0, 0], (0, 0, 0), [1e6, 0, 0]),
    "empty cube": ([3000, 3000, 3000], (1, 1, 1), [0, 0, 0]),
    "skew": ([[2000, 0, 0], [1990, 30, 0], [0, 0, 2000]], (1, 1, 1), [0, 0, 0]),
}

_IN_A_CHILD = """
import numpy as np
from ase import Atoms
from test_neighbors import ODD
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.system import System
for name, (cell, pbc, spread) in ODD.items():
    print(name, flush=True)
    places = np.random.default_rng(0).uniform(0, 1, (12, 3)) * spread
    places[:2] = [(0, 0, 0), (2, 0, 0)]
    places[2:] += np.arange(2, 12)[:, None] * [2.0, 0, 0]
    atoms = Atoms("Fe12", places, cell=cell, pbc=pbc)
    system = System.from_atoms(atoms, require_spins=False)
    for cutoff in (1.0, 3.0, 5.0):
        found = [build_pairs(system, cutoff, backend=b) for b in (None, "scipy")]
        counts = [sorted(zip(p.i.tolist(), p.j.tolist())) for p in found]
        assert counts[0] == counts[1]
        assert cutoff == 1.0 or counts[0]
"""


def test_odd_geometries() -> None:
    """In a child: a division by zero in a compiled search would end this process."""
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_CHILD],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)


def test_coordinates_without_digits_are_refused() -> None:
    atoms = bulk("Fe", cubic=True)
    atoms.positions[1] += 1e17
    with pytest.raises(ValueError, match="atom 1 is farther than 1e"):
        build_pairs(System.from_atoms(atoms, require_spins=False), 3.0)


def test_vesin_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a requirement: that it is missing is an error, not another back end."""

    def refused(*arguments: object) -> None:
        raise AssertionError("scipy was chosen")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(neighbors._BACKENDS, "scipy", refused)
    assert len(build_pairs(system_of(random_atoms(0)), 3.0).i)
