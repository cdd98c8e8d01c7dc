"""Ewald sums of charges and dipoles against known lattice sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import BuckinghamCoulomb, DipoleDipole
from deepspin_ase.potentials.terms._ewald import Charges, Dipoles, Ewald
from deepspin_ase.system import System
from deepspin_ase.units import COULOMB, DIPOLE

IONS = BuckinghamCoulomb({"Na": 1.0, "Cl": -1.0}, {}, accuracy=1e-13)


def ions(atoms: Atoms) -> float:
    system = System.from_atoms(atoms, require_spins=False)
    return float(IONS.evaluate(system).energy)


def dipoles(atoms: Atoms, moments: object, **options: object) -> torch.Tensor:
    """Return per-atom energies in m^2/A^3."""
    magnetic = atoms.copy()
    if magnetic.has("initial_magmoms"):
        del magnetic.arrays["initial_magmoms"]
    shape = (len(atoms), 3)
    magnetic.set_initial_magnetic_moments(np.broadcast_to(moments, shape))
    system = System.from_atoms(magnetic)
    return DipoleDipole(accuracy=1e-13, **options).evaluate(system).energies / DIPOLE


@pytest.mark.parametrize(
    ("crystal", "nearest", "madelung"),
    [
        ("rocksalt", 1 / 2, 1.747564594633),
        ("cesiumchloride", 3**0.5 / 2, 1.762674773071),
        ("zincblende", 3**0.5 / 4, 1.638055053389),
    ],
)
def test_madelung_constants(crystal: str, nearest: float, madelung: float) -> None:
    a = 5.0
    atoms = bulk("NaCl", crystal, a=a)
    found = -ions(atoms) * nearest * a / COULOMB
    assert found == pytest.approx(madelung, abs=1e-11)
    repeated = -ions(atoms * (1, 2, 3)) * nearest * a / COULOMB / 6
    assert repeated == pytest.approx(madelung, abs=1e-11)


def random_cell(seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    cell = [[5, 0, 0], [2, 5, 0], [-1, 1.5, 6]]
    return Atoms("NaCl2Na", cell=cell, pbc=True, scaled_positions=rng.random((4, 3)))


@pytest.mark.parametrize("kernel", [Charges(), Dipoles()])
def test_result_does_not_depend_on_the_splitting(kernel) -> None:
    system = System.from_atoms(random_cell(), require_spins=False)
    pairs = build_pairs(system, 14.0)
    values = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    if isinstance(kernel, Dipoles):
        values = values[:, None] * system.positions
    short, long = (
        Ewald(kernel, cutoff, 1e-13).energies(system, pairs, values)
        for cutoff in (5.0, 14.0)
    )
    torch.testing.assert_close(short, long, rtol=1e-11, atol=1e-11)


def test_dipoles_are_the_limit_of_charges() -> None:
    """A dipole m is a charge pair +-m/d at distance d, less its own energy."""
    atoms = random_cell()
    rng = np.random.default_rng(1)
    moments = rng.normal(size=(4, 3))
    length = np.linalg.norm(moments, axis=1)
    ewald = Ewald(Charges(), 10.0, 1e-15)

    def of_charges(d: float) -> float:
        offset = 0.5 * d * moments / length[:, None]
        points = np.concatenate([atoms.positions + offset, atoms.positions - offset])
        pair = Atoms("H8", points, cell=atoms.cell, pbc=True)
        system = System.from_atoms(pair, require_spins=False)
        charges = torch.tensor(np.concatenate([length, -length]) / d)
        total = ewald.energies(system, build_pairs(system, 10.0), charges).sum()
        return float(total) + (length**2).sum() / d**3

    coarse, fine = of_charges(0.1), of_charges(0.05)
    limit = (4 * fine - coarse) / 3
    assert float(dipoles(atoms, moments).sum()) == pytest.approx(limit, rel=2e-5)


@pytest.mark.parametrize("lattice", ["sc", "bcc", "fcc"])
def test_lorentz_field_of_cubic_ferromagnets(lattice: str) -> None:
    atoms = bulk("Fe", lattice, a=3.0)
    moment = np.array([0.3, -1.2, 2.0])
    square, volume = moment @ moment, atoms.get_volume()
    needle = float(dipoles(atoms, moment).sum())
    assert needle == pytest.approx(-2 * np.pi / 3 * square / volume, rel=1e-10)
    sphere = float(dipoles(atoms, moment, demagnetization=[1 / 3] * 3).sum())
    assert sphere == pytest.approx(0.0, abs=1e-10)


def test_columnar_antiferromagnet_of_luttinger_and_tisza() -> None:
    # Phys. Rev. 70, 954 (1946): ground state of the simple cubic lattice,
    # -2.676 m^2/a^3 per dipole.
    atoms = bulk("Fe", "sc", a=1.0) * (2, 2, 1)
    columns = np.where(atoms.positions[:, :2].round().sum(axis=1) % 2, -1.0, 1.0)
    energies = dipoles(atoms, columns[:, None] * [0, 0, 1], cutoff=4.0)
    assert energies.numpy() == pytest.approx(-2.676, abs=1e-3)


def test_film_with_demagnetization_is_a_monolayer() -> None:
    # Square lattice, moments normal to it: half of sum 1/r^3 = 9.0336216831.
    atoms = Atoms("Fe", cell=[1.0, 1.0, 12.0], pbc=True)
    energies = dipoles(atoms, [0, 0, 1], cutoff=6.0, demagnetization=(0, 0, 1))
    assert float(energies) == pytest.approx(9.0336216831 / 2, rel=1e-9)


def test_open_structures_are_summed_directly() -> None:
    atoms = Atoms("NaCl", [[0, 0, 0], [0, 0, 50.0]])
    assert ions(atoms) == pytest.approx(-COULOMB / 50.0, rel=1e-12)
    pair = Atoms("Fe2", [[0, 0, 0], [0, 0, 2.0]])
    assert float(dipoles(pair, [0, 0, 3.0]).sum()) == pytest.approx(-2 * 9 / 8)
    assert float(dipoles(pair, [3.0, 0, 0]).sum()) == pytest.approx(9 / 8)


def test_charged_clusters_are_allowed_and_charged_crystals_are_not() -> None:
    assert ions(Atoms("Na2", [[0, 0, 0], [0, 0, 2.0]])) == pytest.approx(COULOMB / 2)
    with pytest.raises(ValueError, match="net charge of 1 e"):
        ions(Atoms("Na", cell=[4, 4, 4], pbc=True))


def test_slabs_and_foreign_elements_are_refused() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.pbc = (True, True, False)
    with pytest.raises(ValueError, match="some directions only"):
        ions(atoms)
    with pytest.raises(ValueError, match="some directions only"):
        dipoles(atoms, [0, 0, 1.0])
    with pytest.raises(ValueError, match="does not know the element K"):
        ions(bulk("KCl", "rocksalt", a=6.3))
