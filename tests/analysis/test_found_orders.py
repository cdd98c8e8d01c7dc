"""Orders that sampling finds, and the names of phases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units

from deepspin_ase import set_spins
from deepspin_ase.analysis import phase_diagram
from deepspin_ase.analysis.transitions import PhaseDiagram, found_orders
from deepspin_ase.orders import antiferromagnetic, random_directions, spiral
from deepspin_ase.potentials import Heisenberg, Shells, UniaxialAnisotropy
from deepspin_ase.units import MU_B

A, M, J = 3.0, 2.0, 0.01

wanders = pytest.mark.filterwarnings("ignore:.*not in equilibrium:UserWarning")


def cubic(size: int) -> Atoms:
    return Atoms("Mn", cell=[A] * 3, pbc=True).repeat(size)


def square(size: int) -> Atoms:
    return Atoms("Mn", cell=[A, A, 10.0], pbc=(True, True, False)).repeat(
        (size, size, 1)
    )


def triangular(size: int) -> Atoms:
    cell = [[A, 0, 0], [-A / 2, A * np.sqrt(0.75), 0], [0, 0, 10.0]]
    layer = Atoms("Mn", cell=cell, pbc=(True, True, False))
    return layer.repeat((size, size, 1))


def tilted(size: int) -> Atoms:
    """The triangular lattice with vectors at 60 degrees."""
    cell = [[A, 0, 0], [A / 2, A * np.sqrt(0.75), 0], [0, 0, 10.0]]
    layer = Atoms("Mn", cell=cell, pbc=(True, True, False))
    return layer.repeat((size, size, 1))


@pytest.mark.parametrize(
    ("atoms", "shells", "name", "arms"),
    [
        (cubic(4), [(A, J)], "ferromagnetic", 1),
        (cubic(4), [(A, -J)], "q = (1/2, 1/2, 1/2)", 1),
        (cubic(4), [(A, -J), (A * np.sqrt(2), -J)], "q = (1/2, 1/2, 0)", 3),
        (square(6), [(A, -J), (A * np.sqrt(2), -J)], "q = (1/2, 0, 0)", 2),
        (triangular(6), [(A, -J)], "q = (1/3, 1/3, 0)", 1),
        (tilted(6), [(A, -J)], "q = (1/3, 1/3, 0)", 1),
    ],
    ids=["FM", "AFM", "layers", "stripes", "120 degrees", "120 degrees, 60"],
)
@wanders
def test_the_order_of_a_hamiltonian(
    atoms: Atoms, shells: list[tuple[float, float]], name: str, arms: int
) -> None:
    """From random moments, cooled from above."""
    set_spins(atoms, {"Mn": M}, pattern=random_directions(1))
    kT = np.array([0.15, 0.3, 0.5, 0.8, 1.2, 4.0]) * J
    found = phase_diagram(
        atoms,
        kT / units.kB,
        q="auto",
        model=Heisenberg(Shells(shells)),
        steps=300,
        equilibration=300,
    )
    assert found.name == name
    assert found.q.shape == (arms, 3)
    assert found.phases[0] == name
    assert found.phases[-1] == "paramagnetic"
    assert found.quantities["order"][0, 0] > 0.8 * M


@wanders
def test_phases_of_an_antiferromagnet_in_a_field(tmp_path: Path) -> None:
    """Named by what they are, and the same from a checkpoint."""
    K = 0.2 * J
    exchange, easy = 6 * J / M / MU_B, 2 * K / M / MU_B
    flop = np.sqrt(easy * (2 * exchange - easy))
    atoms = cubic(4)
    set_spins(atoms, {"Mn": M})
    options = {
        "temperatures_K": np.array([0.1, 0.5, 8.0]) * J / units.kB,
        "fields_T": [0.0, 1.8 * flop, 2.4 * exchange],
        "q": "auto",
        "model": Heisenberg(Shells([(A, -J)])) + UniaxialAnisotropy(K, (0, 0, 1)),
        "steps": 300,
        "equilibration": 300,
        "checkpoint": tmp_path,
    }
    found = phase_diagram(atoms, **options)
    name = "q = (1/2, 1/2, 1/2)"
    assert found.phases.tolist() == [
        [f"{name}, along the field"] * 2 + ["paramagnetic"],
        [f"{name}, across the field"] * 2 + ["paramagnetic"],
        ["polarized"] * 2 + ["paramagnetic"],
    ]
    assert found.name == name
    assert "ferromagnetic" in found.orders
    axes = found.plot(quantity="phase")
    axes.figure.clear()
    again = phase_diagram(atoms, **options)
    np.testing.assert_array_equal(again.phases, found.phases)
    again.save(tmp_path / "diagram.npz")
    kept = PhaseDiagram.load(tmp_path / "diagram.npz")
    np.testing.assert_array_equal(kept.phases, found.phases)


def test_a_canted_magnet_has_both_orders() -> None:
    """Antiferromagnetic across, with moments along: two orders, the greater first."""
    atoms = cubic(4)
    set_spins(atoms, {"Mn": M}, pattern=antiferromagnetic((0.5, 0.5, 0.5), cell=A))
    atoms.arrays["initial_magmoms"] += [1.0, 0.0, 0.0]
    found = found_orders([atoms], [0.0])
    assert list(found) == ["q = (1/2, 1/2, 1/2)", "ferromagnetic"]


def test_a_spiral_counts_both_signs_of_q() -> None:
    chain = Atoms("Mn", cell=[A, 3 * A, 3 * A], pbc=True).repeat((20, 1, 1))
    set_spins(chain, {"Mn": M}, pattern=spiral((0.15, 0, 0), cell=[A, 3 * A, 3 * A]))
    # Of the tetragonal cell, whose third axis is the chain's.
    assert list(found_orders([chain], [0.0])) == ["q = (0, 0, 3/20)"]


def test_what_is_no_propagation_vector() -> None:
    atoms = cubic(2)
    set_spins(atoms, {"Mn": M})
    with pytest.raises(ValueError, match='propagation vectors or "auto"'):
        phase_diagram(atoms, [10.0], q="X", model=Heisenberg(Shells([(A, J)])))
