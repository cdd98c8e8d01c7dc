"""Electric fields on Born charges: energy, derivatives, files, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import make_supercell
from torch import Tensor

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.analysis import polarization
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    ElectricField,
    Harmonic,
    Potential,
    bismuth_ferrite,
    load_potential,
    register,
    save_potential,
)
from deepspin_ase.system import System
from deepspin_ase.testing import check_potential

CHARGES = {"Bi": 4.37, "Fe": 3.87, "O": -2.747}
FIELD = (0.01, 0.02, -0.005)


def ideal() -> Atoms:
    return bismuth_ferrite((0, 0, 0))


def tensors() -> np.ndarray:
    """Born tensors, not symmetric, of Bi, Fe and the three O; their sum is zero."""
    kinds = np.random.default_rng(0).normal(size=(5, 3, 3))
    z = kinds[[0, 0, 1, 1, 2, 3, 4, 2, 3, 4]]
    return z - z.mean(axis=0)


def displaced() -> Atoms:
    atoms = bismuth_ferrite((1, 1, 1))
    atoms.rattle(0.03, seed=1)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02), scale_atoms=True)
    return atoms


@register
class ChargesByDistance(Potential):
    """Charges that depend on positions: e sum over neighbors +-(1 - r/3)^3."""

    uses_spins = False
    cutoff = 3.0

    def forward(self, system: System, pairs: PairList) -> Tensor:
        return 0.0 * system.positions.sum(dim=1)

    def further_quantities(self, system: System, pairs: PairList) -> dict[str, Tensor]:
        r = pairs.vectors(system).norm(dim=1)
        flow = (1.0 - r / 3.0).clamp_min(0.0) ** 3
        z = system.species.to(flow)
        flow = flow * (z[pairs.i] - z[pairs.j]).sign()
        return {"charges": flow.new_zeros(system.n_atoms).index_add(0, pairs.i, flow)}


@pytest.mark.parametrize(
    "charges",
    [CHARGES, tensors(), ChargesByDistance()],
    ids=["scalar", "tensor", "model"],
)
def test_contract_of_potentials(charges) -> None:
    field = ElectricField(FIELD, ideal(), charges)
    # Not at the cutoff: the strain that brings a pair there leaves the crystal.
    check_potential(field, displaced(), symmetries=["time_reversal"], smooth=False)


@pytest.mark.parametrize("charges", [CHARGES, tensors()], ids=["scalar", "tensor"])
def test_energy_is_that_of_the_polarization(charges) -> None:
    """-V P.F, with P by the function that follows displacements by itself."""
    atoms = displaced()
    found = polarization(atoms, charges, reference=ideal()).vectors[0]
    in_e_per_A2 = found * units.C / 1e20
    field = ElectricField(FIELD, ideal(), charges)
    energy = float(field.evaluate(System.from_atoms(atoms)).energy)
    assert abs(energy) > 1e-3
    expected = -atoms.get_volume() * in_e_per_A2 @ np.array(FIELD)
    assert energy == pytest.approx(expected, rel=1e-12)


def test_supercells_in_any_order() -> None:
    atoms = displaced()
    field = ElectricField(FIELD, ideal(), CHARGES)
    one = float(field.evaluate(System.from_atoms(atoms)).energy)
    large = make_supercell(atoms, [[1, 1, 0], [0, 2, 0], [0, 0, 1]])
    large = large[np.random.default_rng(0).permutation(len(large))]
    large.wrap()
    found = field.evaluate(System.from_atoms(large))
    assert float(found.energy) == pytest.approx(2 * one, rel=1e-10)
    charges = [CHARGES[symbol] for symbol in large.get_chemical_symbols()]
    pulls = np.outer(charges, FIELD)
    np.testing.assert_allclose(found.forces.numpy(), pulls - pulls.mean(0), atol=1e-12)


def test_a_spring_is_displaced_by_its_field() -> None:
    """Two ions of a chain on springs: u = e Z F/(2 k) against each other."""
    from deepspin_ase.optimize import relax

    atoms = Atoms("NaCl", [(0, 0, 0), (2.5, 0, 0)], cell=(5.0, 9.0, 9.0), pbc=True)
    field = ElectricField((0.02, 0, 0), atoms, {"Na": 1.0, "Cl": -1.0})
    bent = atoms.copy()
    bent.calc = DeepSpinCalculator(Harmonic(3.0, 2.5, cutoff=2.8) + field)
    relax(bent, spins=False, fmax=1e-8)
    # Either ion has a spring on each side, so that the two move by eZF/(2k).
    moved = bent.positions - atoms.positions
    assert moved[0, 0] - moved[1, 0] == pytest.approx(0.02 / (2 * 3.0), rel=1e-6)


def test_model_files(tmp_path: Path) -> None:
    total = load_potential("BiFeO3") + ElectricField(FIELD, ideal(), tensors())
    save_potential(tmp_path / "model.pt", total)
    again = load_potential(tmp_path / "model.pt")
    system = System.from_atoms(displaced())
    found, expected = again.evaluate(system), total.evaluate(system)
    torch.testing.assert_close(found.forces, expected.forces)
    assert "reference Bi2Fe2O6" in repr(total)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="field_V_per_A must be three numbers"):
        ElectricField((1.0, 2.0), ideal(), CHARGES)
    with pytest.raises(ValueError, match="born_charges lacks Bi"):
        ElectricField(FIELD, ideal(), {"Fe": 1.0, "O": -1.0})
    with pytest.raises(ValueError, match="add up to zero"):
        ElectricField(FIELD, ideal(), {"Bi": 1.0, "Fe": 1.0, "O": 1.0})

    def evaluate(atoms: Atoms, field=FIELD) -> None:
        term = ElectricField(field, ideal(), CHARGES)
        term.evaluate(System.from_atoms(atoms))

    slab = displaced()
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="component along a direction in which"):
        evaluate(slab)
    evaluate(slab, slab.cell[0] * 0.01)  # within the periodic directions
    with pytest.raises(ValueError, match="Turn the field into the periodic directions"):
        molecule = displaced()
        molecule.pbc = False
        evaluate(molecule)
    vacancy = displaced()
    del vacancy[0]
    with pytest.raises(ValueError, match="a site is empty"):
        evaluate(vacancy)
    with pytest.raises(ValueError, match="not a supercell of the electric field's"):
        other = displaced()
        other.set_cell(1.5 * other.cell, scale_atoms=True)
        evaluate(other)
