"""Phonons against phonopy driven by hand, and linear response."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from scipy.integrate import trapezoid
from structures import rocksalt_afm

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, get_spins, set_spins
from deepspin_ase.analysis import (
    k_path,
    phonon_bands,
    phonon_dos,
    plot_phonon_bands,
    plot_phonon_dos,
    thermal_phonons,
    thermal_properties,
)
from deepspin_ase.analysis.hessians import CartesianHessian
from deepspin_ase.analysis.phonons import (
    calculate_phonons,
    from_phonopy,
    plot_thermal_properties,
    to_phonopy,
)
from deepspin_ase.analysis.phonons._force_constants import displaced_supercells
from deepspin_ase.analysis.phonons._spectra import THZ
from deepspin_ase.potentials import (
    CubicCut,
    DzyaloshinskiiMoriya,
    Harmonic,
    Heisenberg,
    Sum,
    UniaxialAnisotropy,
)
from deepspin_ase.potentials.materials import reference

matplotlib.use("Agg")

Q = np.random.default_rng(1).uniform(-0.5, 0.5, (6, 3))


def iron() -> Atoms:
    atoms = bulk("Fe", "bcc", a=2.8665)
    set_spins(atoms, {"Fe": 2.36})
    atoms.calc = DeepSpinCalculator(reference.fe())
    return atoms


def nickel_oxide() -> Atoms:
    atoms = rocksalt_afm(4.173, 2.0)
    atoms.calc = DeepSpinCalculator(reference.nio())
    return atoms


def by_hand(atoms: Atoms, count: int) -> np.ndarray:
    """Return force constants as a user of phonopy would compute them."""
    cell = PhonopyAtoms(
        numbers=atoms.numbers,
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
        magnetic_moments=get_spins(atoms),
    )
    phonon = Phonopy(cell, count * np.eye(3, dtype=int), primitive_matrix=np.eye(3))
    phonon.generate_displacements(distance=0.01)
    forces = []
    for displaced in phonon.supercells_with_displacements:
        image = Atoms(
            numbers=displaced.numbers,
            positions=displaced.positions,
            cell=displaced.cell,
            pbc=True,
        )
        set_spins(image, displaced.magnetic_moments)
        image.calc = atoms.calc
        forces.append(image.get_forces())
    phonon.forces = np.array(forces)
    phonon.produce_force_constants()
    return phonon.force_constants


@pytest.mark.parametrize(("make", "count"), [(iron, 3), (nickel_oxide, 1)])
def test_equals_phonopy_by_hand(make, count):
    atoms = make()
    phonon = calculate_phonons(atoms, count)
    assert isinstance(phonon, Phonopy)
    expected = by_hand(atoms, count)
    assert np.abs(phonon.force_constants - expected).max() < 1e-6
    assert atoms.get_forces().max() < 1e-6


def test_force_constants_are_second_derivatives():
    """Differences agree with the exact Hessian of the supercell."""
    atoms = coupled()
    phonon = calculate_phonons(atoms, 2, distance=1e-3)
    large = displaced_supercells(phonon, atoms)[0]
    exact = CartesianHessian(atoms.calc, large, spins=False).matrix()
    n = len(large)
    found = phonon.force_constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    assert np.abs(found - exact).max() < 1e-4


def test_symmetry_saves_displacements_and_changes_nothing():
    atoms = iron()
    full, magnetic, collinear = (
        calculate_phonons(atoms, 2, symmetry=name)
        for name in ("none", "magnetic", "collinear")
    )
    counts = [len(p.displacements) for p in (full, magnetic, collinear)]
    assert counts[0] > counts[1] == counts[2] == 1
    for other in (magnetic, collinear):
        assert np.abs(full.force_constants - other.force_constants).max() < 1e-3
    pair = bulk("Fe", "bcc", a=2.8665, cubic=True)
    set_spins(pair, [(0, 0, 2.3), (0, 2.3, 0)])
    pair.calc = atoms.calc
    with pytest.raises(ValueError, match="not collinear"):
        calculate_phonons(pair, 1, symmetry="collinear")
    with pytest.raises(ValueError, match="symmetry must be"):
        calculate_phonons(pair, 1, symmetry="cubic")


def coupled() -> Atoms:
    """Return an antiferromagnet whose moments turn when atoms move."""
    atoms = bulk("Cr", "bcc", a=2.88, cubic=True)
    set_spins(atoms, {"Cr": 1.5}, pattern=antiferromagnetic((0, 0, 1), cell=2.88))
    terms = [
        Harmonic(3.0, 2.494, cutoff=2.6),
        Harmonic(1.5, 2.88, cutoff=3.2),
        Heisenberg(CubicCut(-0.3, 3.3)),
        DzyaloshinskiiMoriya(CubicCut(1.0, 3.3)),
        UniaxialAnisotropy(0.02, (0, 0, 1)),
    ]
    atoms.calc = DeepSpinCalculator(Sum(terms))
    return atoms


def test_relaxed_moments():
    """Adiabatic force constants are K - C h^-1 C^T, by linear response."""
    atoms = coupled()
    kept = calculate_phonons(atoms, 1, symmetry="none", distance=1e-3)
    relaxed = calculate_phonons(
        atoms, 1, symmetry="none", distance=1e-3, relax_spins=True, torque_max=1e-9
    )
    n, m = len(atoms), 1.5
    H = CartesianHessian(atoms.calc, atoms).matrix()
    K, C, h = H[: 3 * n, : 3 * n], H[: 3 * n, 3 * n :], H[3 * n :, 3 * n :]
    across = np.kron(np.eye(n), m * np.eye(3)[:2])  # x and y, moments along z
    fields = atoms.calc.get_magnetic_forces(atoms)
    along = np.repeat((get_spins(atoms) * fields).sum(axis=1), 2)
    h = across @ h @ across.T + np.diag(along)
    C = C @ across.T
    exact = K - C @ np.linalg.solve(h, C.T)

    def matrix(phonon):
        return phonon.force_constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)

    assert np.abs(matrix(kept) - K).max() < 1e-4
    assert np.abs(matrix(relaxed) - exact).max() < 1e-4
    assert np.abs(exact - K).max() > 1e-2


def test_other_calculators_and_no_moments():
    """A plain lattice goes through as well."""
    atoms = bulk("Cu", "fcc", a=3.6)
    atoms.calc = EMT()
    phonon = calculate_phonons(atoms, 3)
    assert len(phonon.displacements) == 1
    bands = phonon_bands(phonon, "GXL", npoints=10)
    assert bands.frequencies_THz.shape == (10, 3)
    assert bands.energies == pytest.approx(4.135667696e-3 * bands.frequencies_THz)
    assert np.abs(bands.frequencies_THz[0]).max() < 1e-2
    assert bands.frequencies_THz.min() > -1e-2
    ax = plot_phonon_bands(bands)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["Γ", "X", "L"]


def test_spectra_of_iron():
    """Within a tenth of neutron scattering; high-temperature limit 3 k_B."""
    phonon = calculate_phonons(iron(), 4)
    path = k_path(from_phonopy(phonon.primitive), "GHNG", npoints=30)
    bands = phonon_bands(phonon, path)
    at_H = bands.frequencies_THz[np.argmin(np.abs(path.distances - path.ticks[1]))]
    assert at_H == pytest.approx([8.56] * 3, rel=0.1)
    dos = phonon_dos(phonon, mesh=[12] * 3)
    assert trapezoid(dos.dos, dos.frequencies_THz) == pytest.approx(3.0, rel=0.01)
    found = thermal_properties(phonon, [1.0, 3000.0], mesh=[8] * 3)
    assert found.heat_capacity[1] == pytest.approx(3 * units.kB, rel=1e-2)
    mean = trapezoid(dos.dos * dos.frequencies_THz, dos.frequencies_THz)
    assert found.free_energy[0] == pytest.approx(0.5 * THZ * mean, rel=0.02)
    assert plot_phonon_dos(dos).get_xlabel() == "frequency (THz)"
    assert len(plot_thermal_properties(found).lines) == 2


@pytest.mark.filterwarnings("ignore:temperature_K of")
def test_temperature_average():
    """Exchange that depends on distance, in the limits of order and disorder.

    At low temperature the order's force constants come out; at infinite
    temperature <e_i.e_j> = 0, and those of the lattice alone do.
    """
    atoms = bulk("Fe", "bcc", a=2.87)
    set_spins(atoms, {"Fe": 2.2})
    spring = Harmonic(3.0, 2.4855, cutoff=2.6)
    atoms.calc = DeepSpinCalculator(Sum([spring, Heisenberg(CubicCut(0.6, 2.8))]))
    options = {"symmetry": "collinear", "seed": 3, "interval": 2}
    ordered = calculate_phonons(atoms, 2, symmetry="collinear")
    cold = thermal_phonons(
        atoms, 2, temperature_K=1e-3, samples=2, equilibration=20, **options
    )
    error = np.abs(cold.phonon.force_constants - ordered.force_constants).max()
    assert error < 1e-3
    bare = atoms.copy()
    bare.calc = DeepSpinCalculator(spring)
    constants = calculate_phonons(bare, 2, symmetry="collinear").force_constants
    for temperature in (1e7, np.inf):
        hot = thermal_phonons(
            atoms, 2, temperature_K=temperature, samples=40, equilibration=50, **options
        )
        assert hot.spins.shape == (40, 8, 3)
        error = np.abs(hot.phonon.force_constants - constants)
        difference = np.abs(ordered.force_constants - constants).max()
        noise = hot.forces.std(axis=0, ddof=1).max() / np.sqrt(40) / 0.01
        assert hot.force_error < 0.01 * noise
        assert error.max() < 4 * noise < 0.5 * difference
    with pytest.raises(ValueError, match="samples"):
        thermal_phonons(atoms, 2, temperature_K=300, samples=1)


def test_converters_keep_moments():
    atoms = nickel_oxide()
    cell = to_phonopy(atoms)
    assert np.array_equal(cell.magnetic_moments, get_spins(atoms))
    back = from_phonopy(cell)
    assert np.array_equal(get_spins(back), get_spins(atoms))
    assert back.positions == pytest.approx(atoms.positions)
    atoms.set_masses([58.0, 60.0, 16.0, 18.0])
    assert from_phonopy(to_phonopy(atoms)).get_masses() == pytest.approx(
        atoms.get_masses()
    )
    # Copies in a supercell carry the moments of their originals.
    atoms = coupled()
    image = displaced_supercells(calculate_phonons(atoms, 2), atoms)[0]
    order = antiferromagnetic((0, 0, 1), cell=2.88)
    set_spins(again := image.copy(), {"Cr": 1.5}, pattern=order)
    assert get_spins(image) == pytest.approx(get_spins(again))


def test_bad_input():
    atoms = iron()
    with pytest.raises(ValueError, match="supercell"):
        calculate_phonons(atoms, [2, 2])
    with pytest.raises(ValueError, match="supercell"):
        calculate_phonons(atoms, "2")
    with pytest.raises(ValueError, match="volume"):
        calculate_phonons(atoms, 0)
    with pytest.raises(ValueError, match="distance"):
        calculate_phonons(atoms, 2, distance=0.0)
    with pytest.raises(ValueError, match="calculator"):
        calculate_phonons(bulk("Fe"), 2)
    with pytest.raises(ValueError, match="periodic"):
        slab = iron()
        slab.pbc = (True, True, False)
        calculate_phonons(slab, 2)
    bare = bulk("Cu", "fcc", a=3.6)
    bare.calc = EMT()
    with pytest.raises(ValueError, match="set_spins"):
        calculate_phonons(bare, 2, relax_spins=True)
