"""The public test of potentials: shipped ones pass, wrong ones are found out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from hamiltonians import TERMS, structure
from networks import EVERY, frozen

from deepspin_ase.potentials import (
    Committee,
    CubicCut,
    Heisenberg,
    Potential,
    Shells,
    Sum,
    TimeReversal,
    Zeeman,
    bismuth_ferrite,
    load_potential,
    reference,
)
from deepspin_ase.potentials.terms import PairTerm, find_bonds, unit_spins
from deepspin_ase.system import System
from deepspin_ase.testing import check_potential

#: Terms that have a direction of their own.
FIXED = ("dm-interfacial", "dm-vector", "dm-elements", "uniaxial", "cubic", "zeeman")

#: Functions that are cut off abruptly.
ABRUPT = ("heisenberg-shells", "lennard-jones", "harmonic", "dipole")


@pytest.mark.parametrize("name", TERMS)
def test_terms_pass(name: str) -> None:
    symmetries = {"time_reversal", "rotation"}
    symmetries -= {"rotation"} if name in FIXED else set()
    symmetries -= {"time_reversal"} if name == "zeeman" else set()
    symmetries |= {"inversion"} if not name.startswith("dm") else set()
    if name.startswith(("heis", "moment", "biq", "landau")):
        symmetries |= {"spin_rotation"}
    check_potential(
        TERMS[name](np.eye(3)),
        structure(),
        symmetries=sorted(symmetries),
        smooth=name not in ABRUPT,
    )


def rattled(atoms: Atoms, moment: float, element: str) -> Atoms:
    atoms.rattle(0.05, seed=2)
    spins = np.random.default_rng(2).normal(size=(len(atoms), 3))
    spins *= moment / np.linalg.norm(spins, axis=1, keepdims=True)
    spins[[s != element for s in atoms.symbols]] = 0.0
    atoms.set_initial_magnetic_moments(spins)
    return atoms


def test_shipped_models_pass() -> None:
    from ase.build import bulk

    oxide = rattled(bulk("NiO", "rocksalt", 4.2), 1.27, "Ni")
    check_potential(load_potential("NiO"), oxide, symmetries=())
    check_potential(reference.nio(), oxide, symmetries=["time_reversal"])
    ferrite = rattled(bismuth_ferrite(), 4.0, "Fe")
    check_potential(load_potential("BiFeO3"), ferrite, symmetries=())


def test_composed_potentials_pass() -> None:
    iron = structure()[[0, 1, 2]]
    iron.symbols[:] = "Fe"
    check_potential(reference.fe(), iron)
    net, system = frozen(), structure()
    both = [net, frozen(spin={"virtual_scale": 0.3})]
    for potential in (Committee(both), TimeReversal(net)):
        symmetries = ["time_reversal"] if potential.children() is net else []
        check_potential(potential, system, symmetries=symmetries)


@pytest.mark.parametrize("variant", ["plain", "lattice"])
def test_networks_pass(variant: str) -> None:
    atoms = structure()
    if variant == "lattice":
        atoms.set_initial_magnetic_moments(np.zeros((5, 3)))
    net = frozen(**EVERY[variant])
    check_potential(net, [atoms, structure(1, pbc=False)], symmetries=["rotation"])


class Wrong(PairTerm):
    """An exchange that is as it should be, for others to derive from."""

    cutoff = 4.0

    def strength(self, r):
        return 0.02 * (1.0 - r / self.cutoff) ** 3

    def pair_energies(self, system, bonds):
        e = unit_spins(system)
        alignment = (e[bonds.i] * e[bonds.j]).sum(dim=1)
        return -self.strength(bonds.distances) * alignment


class WrongForces(Wrong):
    def predict(self, system, pairs, **options):
        return (
            Sum([Wrong()])
            .evaluate(system, pairs, **options)
            .replace(forces=torch.zeros_like(system.positions))
        )


class NoTensor(Wrong):
    """Energies that torch does not follow to the moments."""

    def pair_energies(self, system, bonds):
        return super().pair_energies(system.replace(spins=system.spins.detach()), bonds)


class ByPlace(Wrong):
    """An energy that depends on where the atom stands in the list."""

    def forward(self, system, pairs):
        energies = super().forward(system, pairs)
        return energies * torch.arange(1.0, system.n_atoms + 1.0).to(energies)


class AllTogether(Wrong):
    """Structures of a batch that see each other."""

    def forward(self, system, pairs):
        energies = super().forward(system, pairs)
        return energies + 1e-3 * system.n_systems * energies.sum() ** 2


class Anchored(Wrong):
    """An energy that depends on the place in space."""

    def forward(self, system, pairs):
        energies = super().forward(system, pairs)
        return energies + 0.01 * system.positions[:, 0].sin()


class Greedy(Wrong):
    """Counts all pairs that it is given."""

    def bonds(self, system, pairs):
        return find_bonds(system, pairs, 100.0)


class Abrupt(Wrong):
    def strength(self, r):
        return 0.02 / r


class Kinked(Wrong):
    def strength(self, r):
        return 0.02 * (1.0 - r / self.cutoff)


class Odd(Wrong):
    def forward(self, system, pairs):
        return super().forward(system, pairs) + 0.01 * unit_spins(system)[:, 2]


class Messages(Potential):
    """Two rounds of messages, declared as one."""

    cutoff = 3.0

    def forward(self, system, pairs):
        bonds, e = find_bonds(system, pairs, self.cutoff), unit_spins(system)
        w = 10.0 * (1.0 - bonds.distances / self.cutoff)[:, None] ** 3
        h = e
        for _ in range(2):
            h = e + torch.zeros_like(h).index_add(0, bonds.i, w * h[bonds.j])
        return (h * e).sum(dim=1) ** 2

    def interaction_range(self, system, *, moments_only=False):
        return self.cutoff


class NotLocal(Messages):
    is_local = True

    def interaction_range(self, system, *, moments_only=False):
        return 4 * self.cutoff


class Blind(Wrong):
    uses_spins = False


class Everywhere(Wrong):
    """Moments act on elements that carry none."""

    magnetic_species = frozenset([26, 28])

    def forward(self, system, pairs):
        bonds = find_bonds(system, pairs, self.cutoff)
        product = (system.spins[bonds.i] * system.spins[bonds.j]).sum(dim=1)
        return bonds.share(self.strength(bonds.distances) * product)


class Infinite(Wrong):
    def strength(self, r):
        return r * torch.nan


WRONG: dict[Callable[[], Potential], str] = {
    WrongForces: "forces against differences",
    NoTensor: "magnetic_forces against differences",
    ByPlace: "another order",
    AllTogether: "in a batch",
    Anchored: "moved and wrapped",
    Greedy: "longer pair list",
    Abrupt: "energies on both sides",
    Kinked: "forces on both sides",
    Odd: "moments reversed",
    Messages: "range declared as 3",
    NotLocal: "is_local",
    Blind: "uses_spins is False",
    Everywhere: "elements that carry no moment",
    Infinite: "not finite",
}


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_wrong_potentials_are_found_out(kind: Callable[[], Potential]) -> None:
    with pytest.raises(AssertionError, match=f"{kind.__name__} fails") as raised:
        check_potential(kind(), structure())
    assert WRONG[kind] in str(raised.value)


def test_the_base_of_the_wrong_ones_is_right() -> None:
    check_potential(Wrong(), structure(), symmetries=["spin_rotation", "inversion"])
    with pytest.raises(AssertionError, match="rotated"):
        check_potential(Zeeman((0, 0, 30.0)), structure(), symmetries=["rotation"])
    with pytest.raises(AssertionError, match="energies on both sides"):
        check_potential(Heisenberg(Shells([(2.5, 0.1)], 0.5)), structure())
    with pytest.raises(AssertionError, match="structure 1"):
        check_potential(Sum([Kinked()]), [structure()[[3, 4]], structure()])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="symmetries must be among"):
        check_potential(Wrong(), structure(), symmetries=["parity"])
    with pytest.raises(ValueError, match="does not know the element"):
        check_potential(reference.fe(), structure())


def test_potentials_are_left_as_they_are() -> None:
    term = Heisenberg(CubicCut(0.1, 4.0))
    check_potential(term, structure())
    assert term.backend == "fused" and "backend" not in vars(term)
    assert System.from_atoms(structure()).n_atoms == 5
