"""Coupled magnons and phonons: limits, a two-mode model, and the dynamics."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    collinear,
    get_spins,
    set_spins,
)
from deepspin_ase.analysis import (
    MagnonPhonons,
    SpinWaves,
    k_path,
    plot_magnon_phonon_bands,
)
from deepspin_ase.analysis.magnons import UnstableReferenceWarning
from deepspin_ase.analysis.phonons import calculate_phonons
from deepspin_ase.analysis.phonons._spectra import THZ
from deepspin_ase.dynamics import SpinLatticeNVE
from deepspin_ase.potentials import (
    CubicCut,
    DzyaloshinskiiMoriya,
    Harmonic,
    Heisenberg,
    Potential,
    Shells,
    Sum,
    UniaxialAnisotropy,
)
from deepspin_ase.potentials.terms._sites import unit_spins
from deepspin_ase.units import G_FACTOR as g
from deepspin_ase.units import HBAR

matplotlib.use("Agg")

K = np.random.default_rng(1).uniform(-0.5, 0.5, (5, 3))


def chromium() -> Atoms:
    """Return an antiferromagnet whose DM exchange couples it to the lattice."""
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


class Einstein(Potential):
    """Atoms on springs at the sites of a chain, tied to their moments.

    E = sum_i k/2 |u_i|^2 + c u_i,x e_i,x: one phonon and one magnon for each k.
    """

    uses_spins = True

    def __init__(self, spring: float, tie: float, period: float) -> None:
        super().__init__()
        self.spring, self.tie, self.period = spring, tie, period

    def forward(self, system, pairs):
        x = system.positions
        sites = torch.zeros_like(x)
        sites[:, 2] = (self.period * torch.round(x[:, 2] / self.period)).detach()
        u = x - sites
        energy = 0.5 * self.spring * (u**2).sum(dim=1)
        return energy + self.tie * u[:, 0] * unit_spins(system)[:, 0]


def chain(*terms: Potential) -> Atoms:
    atoms = Atoms("Fe", cell=(12, 12, 2.0), pbc=(False, False, True))
    set_spins(atoms, {"Fe": 2.0}, pattern=collinear())
    atoms.calc = DeepSpinCalculator(Sum(terms))
    return atoms


def test_two_modes_repel():
    """(E^2 - W^2)(E^2 - A^2) = A G^2 for a phonon W, a magnon A and their tie G."""
    spring, tie, J, anisotropy = 1.0, 0.02, 0.01, 0.001
    atoms = chain(
        Heisenberg(Shells([(2.0, J)], 0.1)),
        UniaxialAnisotropy(anisotropy, (0, 0, 1)),
        Einstein(spring, tie, 2.0),
    )
    joint = MagnonPhonons.from_atoms(atoms, repeat=(1, 1, 4))
    fractions = np.linspace(0, 0.5, 21)
    bands = joint.bands(np.outer(fractions, (0, 0, 1)))
    mass = atoms.get_masses()[0]
    W = HBAR * np.sqrt(spring / mass)
    A = g / 2.0 * (2 * J * (1 - np.cos(2 * np.pi * fractions)) + 2 * anisotropy)
    G = HBAR * tie * np.sqrt(g / 2.0 / mass)
    mean, half = (W**2 + A**2) / 2, np.sqrt((W**2 - A**2) ** 2 / 4 + A * G**2)
    exact = np.sqrt(np.stack([mean - half, mean + half, *[0 * A + W**2] * 2], axis=1))
    assert np.abs(bands.energies - np.sort(exact, axis=1)).max() < 1e-9
    assert bands.stable
    assert A.min() < W < A.max()
    closest = np.argmin(np.abs(A - W))
    low, high = exact[closest, :2]
    assert high - low == pytest.approx(G / np.sqrt(W), rel=0.2)
    # The character passes from one branch to the other.
    first, last = bands.magnon_fraction[0], bands.magnon_fraction[-1]
    assert first[0] > 0.9 and last[-1] > 0.9
    assert bands.magnon_fraction.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    ax = plot_magnon_phonon_bands(
        joint.bands(
            k_path(atoms, "GX", special_points={"G": [0] * 3, "X": [0, 0, 0.5]})
        )
    )
    assert ax.get_ylabel() == "energy (meV)"


def test_without_coupling():
    """Pure phonons, as phonopy has them, and pure magnons."""
    atoms = chromium()
    joint = MagnonPhonons.from_atoms(atoms)
    coupled = joint.bands(K)
    joint.coupling = replace(joint.coupling, values=0 * joint.coupling.values)
    bands = joint.bands(K)
    phonon = calculate_phonons(atoms, 3, distance=1e-3)
    phonon.run_qpoints(K)
    lattice = phonon.qpoints.frequencies * THZ
    magnons = SpinWaves.from_atoms(atoms).bands(K).energies
    expected = np.sort(np.concatenate([lattice, magnons], axis=1), axis=1)
    assert np.abs(bands.energies - expected).max() < 1e-7
    assert np.abs(bands.magnon_fraction - np.rint(bands.magnon_fraction)).max() < 1e-6
    assert np.abs(coupled.energies - expected).max() > 1e-4


def test_motion_of_a_mode():
    """Started along a mode, the dynamics is where the mode says a quarter later."""
    atoms = chromium()
    joint = MagnonPhonons.from_atoms(atoms)
    bands = joint.bands([[0.0, 0.0, 0.5]])
    mixed = np.argmax(np.minimum(bands.magnon_fraction, 1 - bands.magnon_fraction)[0])
    energy = bands.energies[0, mixed]
    u, p, e = joint.pattern(bands.vectors[0, :, mixed], bands.kpts[0])
    large = atoms.repeat((1, 1, 2))
    start, moments = large.positions.copy(), get_spins(large)
    sign = np.repeat([1.0, -1.0], 2)[:, None]
    size = 1e-3 / np.abs(e).max()

    def pattern(values, phase):
        return size * sign * np.tile((values * phase).real, (2, 1))

    large.positions += pattern(u, 1.0)
    large.set_momenta(pattern(p, 1.0))
    set_spins(large, moments + 1.5 * pattern(e, 1.0))
    spins = get_spins(large)
    spins *= 1.5 / np.linalg.norm(spins, axis=1, keepdims=True)
    set_spins(large, spins)
    large.calc = atoms.calc
    steps = 60
    dyn = SpinLatticeNVE(large, 0.5 * np.pi * HBAR / energy / steps)
    dyn.run(steps)
    moved = large.positions - start
    turned = (get_spins(large) - moments) / 1.5
    for found, values in ((moved, u), (turned, e)):
        expected = pattern(values, -1j)
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_translations_and_rotations_are_free():
    """Three acoustic phonons and the Goldstone magnons have no energy at Gamma."""
    atoms = bulk("Cr", "bcc", a=2.88, cubic=True)
    set_spins(atoms, {"Cr": 1.5}, pattern=antiferromagnetic((0, 0, 1), cell=2.88))
    terms = [
        Harmonic(3.0, 2.494, cutoff=2.6),
        Harmonic(1.5, 2.88, cutoff=3.2),
        Heisenberg(CubicCut(-0.3, 3.0)),
    ]
    atoms.calc = DeepSpinCalculator(Sum(terms))
    bands = MagnonPhonons.from_atoms(atoms).bands([[0, 0, 0], [0.1, 0.2, 0.3]])
    assert bands.stable
    assert bands.energies[0, :5].max() < 1e-6 * bands.energies.max()
    assert bands.energies[0, 5] > 1e-3


def test_unstable_states_are_reported():
    """A tie stronger than spring and anisotropy bear pulls both away."""
    atoms = chain(UniaxialAnisotropy(0.004, (0, 0, 1)), Einstein(0.5, 0.3, 2.0))
    joint = MagnonPhonons.from_atoms(atoms, repeat=(1, 1, 2))
    with pytest.warns(UnstableReferenceWarning):
        bands = joint.bands([[0, 0, 0.0]])
    assert not bands.stable and bands.growth.max() > 0
    found = bands.instability
    assert np.argmax(np.abs(found.displacements[0])) == 0
    assert np.argmax(np.abs(found.deviations[0])) == 0
    ratio = (found.displacements[0, 0] / found.deviations[0, 0]).real
    assert ratio < 0


def test_atoms_without_springs():
    """Where nothing holds the atoms their modes have no energy; magnons keep theirs."""
    term = Heisenberg(Shells([(2.0, 0.01)], 0.1))
    joint = MagnonPhonons.from_atoms(chain(term))
    bands = joint.bands([[0, 0, 0.5]])
    assert bands.energies[0] == pytest.approx([0, 0, 0, g / 2.0 * 0.04], abs=1e-7)
    free = chain(UniaxialAnisotropy(0.0, (0, 0, 1)))
    assert MagnonPhonons.from_atoms(free, repeat=(1, 1, 2)).bands([0, 0, 0]).stable


def test_unrelaxed_positions_are_refused():
    atoms = chromium()
    atoms.positions[0, 0] += 0.1
    with pytest.raises(ValueError, match="relax the positions"):
        MagnonPhonons.from_atoms(atoms)
