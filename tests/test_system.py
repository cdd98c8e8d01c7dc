"""Batched structures: building, joining, straining, bad input."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from deepspin_ase import set_spins
from deepspin_ase.system import System


def iron(n: int = 1) -> Atoms:
    atoms = bulk("Fe", cubic=True) * (n, 1, 1)
    set_spins(atoms, np.linspace([0, 0, 1], [1, 2, 3], len(atoms)))
    return atoms


def test_holds_what_atoms_hold() -> None:
    atoms = iron()
    system = System.from_atoms(atoms)
    np.testing.assert_array_equal(system.positions, atoms.positions)
    np.testing.assert_array_equal(system.spins, [[0, 0, 1], [1, 2, 3]])
    np.testing.assert_array_equal(system.cell[0], atoms.cell.array)
    assert system.species.tolist() == [26, 26]
    assert system.pbc.tolist() == [[True] * 3]
    assert system.index.tolist() == [0, 0]
    assert system.dtype == torch.float64
    assert float(system.volume) == pytest.approx(atoms.get_volume())


def test_batch_of_different_sizes() -> None:
    images = [iron(2), iron(1)]
    batch = System.from_atoms(images)
    assert batch.n_systems == 2
    assert batch.counts().tolist() == [4, 2]
    assert batch.index.tolist() == [0, 0, 0, 0, 1, 1]
    joined = System.cat([System.from_atoms(image) for image in images])
    for name, values in vars(batch).items():
        assert torch.equal(values, getattr(joined, name)), name
    totals = batch.sum(batch.spins)
    np.testing.assert_allclose(totals[1], [1, 2, 4])


def test_joining_batches_keeps_structures_apart() -> None:
    batch = System.from_atoms([iron(1), iron(2)])
    assert System.cat([batch, batch]).counts().tolist() == [2, 4, 2, 4]


@pytest.fixture
def batch() -> System:
    return System.from_atoms([iron(2), iron(1), iron(3)])


def assert_equal(one: System, other: System) -> None:
    for name, values in vars(one).items():
        assert torch.equal(values, getattr(other, name)), name


@pytest.mark.parametrize(
    ("chosen", "images"),
    [
        (0, [2]),
        (-1, [3]),
        (np.int64(1), [1]),
        (slice(1, None), [1, 3]),
        (slice(None, None, -2), [3, 2]),
        ([2, 0, 2], [3, 2, 3]),
        (np.array([1]), [1]),
    ],
)
def test_structures_of_a_batch(batch: System, chosen: object, images: list) -> None:
    assert_equal(batch[chosen], System.from_atoms([iron(n) for n in images]))


def test_a_batch_is_its_structures_one_after_the_other(batch: System) -> None:
    assert [one.n_atoms for one in batch] == [4, 2, 6]
    assert_equal(System.cat(list(batch)), batch)


@pytest.mark.parametrize("chosen", [3, -4, [0, 3], slice(3, None), []])
def test_a_structure_that_is_not_there(batch: System, chosen: object) -> None:
    with pytest.raises(IndexError):
        batch[chosen]


def test_values_by_structure(batch: System) -> None:
    parts = batch.split(batch.spins)
    assert [len(part) for part in parts] == [4, 2, 6]
    assert torch.equal(torch.cat(parts), batch.spins)
    array = batch.positions.numpy().copy()
    batch.split(array)[1][:] = 7.0  # a view
    assert (array[4:6] == 7.0).all() and not (array[6:] == 7.0).any()
    with pytest.raises(ValueError, match="12 atoms, got 3"):
        batch.split(batch.cell)


def test_detached_and_cloned(batch: System) -> None:
    spins = batch.spins.clone().requires_grad_()
    turned = batch.replace(spins=2.0 * spins)
    detached = turned.detach()
    assert not detached.spins.requires_grad
    assert detached.spins.data_ptr() == turned.spins.data_ptr()
    cloned = turned.clone()
    assert cloned.spins.requires_grad
    assert cloned.positions.data_ptr() != turned.positions.data_ptr()
    assert_equal(cloned, turned)


def test_pickles(batch: System) -> None:
    assert_equal(pickle.loads(pickle.dumps(batch)), batch)


def test_conversion() -> None:
    system = System.from_atoms(iron(), dtype=torch.float32)
    assert system.cell.dtype == torch.float32
    double = system.to("cpu", torch.float64)
    assert double.spins.dtype == torch.float64
    assert double.species.dtype == torch.int64


def test_strain_moves_positions_and_cell_but_not_moments() -> None:
    atoms = iron()
    system = System.from_atoms(atoms)
    strain = np.random.default_rng(0).normal(size=(3, 3))
    strained = system.strained(torch.tensor(strain)[None])
    deform = np.eye(3) + strain
    np.testing.assert_allclose(strained.positions, atoms.positions @ deform.T)
    np.testing.assert_allclose(strained.cell[0], atoms.cell.array @ deform.T)
    assert torch.equal(strained.spins, system.spins)


def test_missing_moments_raise_unless_not_needed() -> None:
    with pytest.raises(ValueError, match="moment"):
        System.from_atoms(bulk("Cu"))
    system = System.from_atoms(bulk("Cu"), require_spins=False)
    assert not system.spins.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": [[np.nan, 0, 0], [0, 0, 0]]}, "atom 0 is not finite"),
        ({"positions": [[0, 0, 0], [0, np.inf, 0]]}, "atom 1 is not finite"),
        ({"cell": [[3, 0, 0], [0, np.nan, 0], [0, 0, 3]]}, "cell"),
        ({"cell": [[3, 0, 0], [0, 0, 0], [0, 0, 3]]}, "direction 1 is periodic"),
        ({"cell": [[3, 0, 0], [6, 0, 0], [0, 0, 3]]}, "parallel"),
        ({"magmoms": [[np.nan, 0, 0], [0, 0, 1]]}, "finite"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    arguments = {
        "positions": [[0, 0, 0], [1, 1, 1]],
        "cell": [3, 3, 3],
        "magmoms": [[0, 0, 1], [0, 0, 1]],
    }
    atoms = Atoms("Fe2", pbc=True, **(arguments | change))
    with pytest.raises(ValueError, match=message):
        System.from_atoms(atoms)


def test_empty_input() -> None:
    with pytest.raises(ValueError, match="empty"):
        System.from_atoms(Atoms(), require_spins=False)
    with pytest.raises(ValueError, match="at least one"):
        System.from_atoms([])
    with pytest.raises(TypeError, match=r"ase\.Atoms"):
        System.from_atoms(["Fe"])


def test_open_structures_need_no_cell() -> None:
    water = molecule("H2O")
    system = System.from_atoms(water, require_spins=False)
    assert float(system.volume) == 0.0


def test_tensors_do_not_share_memory_with_atoms() -> None:
    atoms = iron()
    system = System.from_atoms(atoms)
    before = system.clone()
    atoms.positions += 1.0
    atoms.arrays["initial_magmoms"] += 1.0
    atoms.numbers += 1
    atoms.cell.array[:] += 1.0
    atoms.pbc = False
    assert_equal(system, before)
    assert {x.dtype for x in (system.species, system.index)} == {torch.int64}


def test_nearly_parallel_lattice_vectors() -> None:
    flat = np.diag([1e4, 1e4, 1.0])
    flat[2] = [3e3, 2e3, 2e-6]
    System.from_atoms(with_cell(flat))
    flat[2, 2] = 1e-7
    with pytest.raises(ValueError, match="parallel"):
        System.from_atoms(with_cell(flat))


def with_cell(cell: np.ndarray) -> Atoms:
    atoms = Atoms("Fe", cell=cell, pbc=True)
    set_spins(atoms, [2.0])
    return atoms
