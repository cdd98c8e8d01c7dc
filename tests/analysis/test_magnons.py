"""Spin waves against closed formulas, the dynamics and magnopy."""

from __future__ import annotations

import warnings

import matplotlib
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from scipy.integrate import trapezoid

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    collinear,
    get_spins,
    set_spins,
    spiral,
)
from deepspin_ase.analysis import (
    SpinWaves,
    exchange_tensors,
    group_velocities,
    k_path,
    magnon_dos,
    plot_magnon_bands,
    plot_magnon_dos,
    spin_stiffness,
)
from deepspin_ase.analysis.magnons import UnstableReferenceWarning
from deepspin_ase.dynamics import SpinDynamics
from deepspin_ase.optimize import relax_spins
from deepspin_ase.potentials import (
    Biquadratic,
    CubicAnisotropy,
    CubicCut,
    DzyaloshinskiiMoriya,
    Heisenberg,
    Landau,
    MomentExchange,
    Potential,
    Shells,
    Sum,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.units import G_FACTOR as g
from deepspin_ase.units import HBAR, MU_B

matplotlib.use("Agg")

A0 = 2.87
K = np.random.default_rng(1).uniform(-0.5, 0.5, (12, 3))


def iron(moment=(1.1, 1.3, -0.4)) -> Atoms:
    atoms = bulk("Fe", "bcc", a=A0)
    set_spins(atoms, [moment])
    return atoms


def chromium(axis=(1, 2, 3), moment=1.5) -> Atoms:
    atoms = bulk("Cr", "bcc", a=A0, cubic=True)
    order = antiferromagnetic((0, 0, 1), direction=axis)
    set_spins(atoms, {"Cr": moment}, pattern=order)
    return atoms


def chain(count: int, c: float = 2.0, moment: float = 2.0) -> Atoms:
    places = [(0, 0, c * n) for n in range(count)]
    cell = (12, 12, c * count)
    atoms = Atoms(["Fe"] * count, positions=places, cell=cell, pbc=(0, 0, 1))
    set_spins(atoms, {"Fe": moment}, pattern=collinear())
    return atoms


def along_z(values) -> np.ndarray:
    return np.outer(values, (0, 0, 1))


def waves_of(atoms: Atoms, potential: Potential, **options) -> SpinWaves:
    atoms.calc = DeepSpinCalculator(potential)
    return SpinWaves.from_atoms(atoms, **options)


def exchange_sums(k: np.ndarray, strengths, vectors) -> np.ndarray:
    """Return J(k), the sum over neighbours of J exp(ik.r)."""
    return (np.cos(k @ np.transpose(vectors)) * strengths).sum(axis=1)


BCC_NEAR = (
    A0 / 2 * np.array([(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)])
)


def test_ferromagnet():
    """Check hbar omega = g/|m| (J(0) - J(k)) + g mu_B B for any direction."""
    J, B = 0.02, 7.0
    atoms = iron()
    m = get_spins(atoms)[0]
    field = B * m / np.linalg.norm(m)
    waves = waves_of(
        atoms, Sum([Heisenberg(Shells([(2.4855, J)], 0.1)), Zeeman(field)])
    )
    bands = waves.bands(K)
    sums = exchange_sums(waves.cartesian(K), J, BCC_NEAR)
    exact = g / np.linalg.norm(m) * (8 * J - sums) + g * MU_B * B
    assert np.abs(bands.energies[:, 0] - exact).max() < 1e-10
    assert bands.stable and not bands.growth.any()


def test_antiferromagnet():
    """Check g/|m| sqrt((8 J + 2 K)^2 - J(k)^2), doubly degenerate."""
    J, anisotropy = 0.03, 0.001
    terms = [
        Heisenberg(Shells([(2.4855, -J)], 0.1)),
        UniaxialAnisotropy(anisotropy, (1, 2, 3)),
    ]
    waves = waves_of(chromium(), Sum(terms))
    sums = exchange_sums(waves.cartesian(K), J, BCC_NEAR)
    exact = g / 1.5 * np.sqrt((8 * J + 2 * anisotropy) ** 2 - sums**2)
    assert np.abs(waves.bands(K).energies - exact[:, None]).max() < 1e-10


def test_spiral():
    """Check the branches of a J1-J2 chain, which the supercell of six sites folds."""
    c, J1 = 2.0, 0.02
    Q = 2 * np.pi / (6 * c)
    J2 = -J1 / (4 * np.cos(Q * c))
    atoms = chain(6)
    set_spins(atoms, {"Fe": 2.0}, pattern=spiral((0, 0, 1)))
    waves = waves_of(atoms, Heisenberg(Shells([(c, J1), (2 * c, J2)], 0.1)))

    def J(q):
        return 2 * J1 * np.cos(q * c) + 2 * J2 * np.cos(2 * q * c)

    def omega(q):
        product = (J(Q) - J(q)) * (J(Q) - 0.5 * (J(q + Q) + J(q - Q)))
        return g / 2.0 * np.sqrt(np.maximum(product, 0.0))

    fractions = np.linspace(0, 0.5, 7)
    exact = [np.sort([omega(f * Q + n * Q) for n in range(6)]) for f in fractions]
    bands = waves.bands(along_z(fractions))
    assert bands.stable
    assert np.abs(bands.energies - exact).max() < 1e-8


def test_dm_ferromagnet_is_not_reciprocal():
    """Check the term odd in k, with its sign: E = -D.(e_i x e_j)."""
    c, J, D, anisotropy = 2.0, 0.02, 0.004, 0.003
    terms = [
        Heisenberg(Shells([(c, J)], 0.1)),
        DzyaloshinskiiMoriya(Shells([(c, D)], 0.1)),
        UniaxialAnisotropy(anisotropy, (0, 0, 1)),
    ]
    fractions = np.linspace(-0.5, 0.5, 9)
    energies = waves_of(chain(1), Sum(terms)).bands(along_z(fractions)).energies
    phase = 2 * np.pi * fractions
    exact = g / 2.0 * (2 * J * (1 - np.cos(phase)) + 2 * anisotropy)
    exact += g / 2.0 * 2 * D * np.sin(phase)
    assert np.abs(energies[:, 0] - exact).max() < 1e-12


def test_ferrimagnet_of_two_lengths():
    """Check a two-sublattice ferrimagnet against its 2 x 2 problem."""
    c, J, m1, m2 = 2.0, -0.02, 1.0, 3.0
    atoms = chain(2)
    set_spins(atoms, [(0, 0, m1), (0, 0, -m2)])
    fractions = np.linspace(-0.5, 0.5, 9)
    waves = waves_of(atoms, Heisenberg(Shells([(c, J)], 0.1)))
    energies = waves.bands(along_z(fractions)).energies
    a, b = g * 2 * abs(J) / m1, g * 2 * abs(J) / m2
    shared = a * b * np.cos(np.pi * fractions) ** 2
    root = np.sqrt((a + b) ** 2 / 4 - shared)
    exact = np.sort(np.stack([root - (a - b) / 2, root + (a - b) / 2], axis=1), axis=1)
    assert np.abs(energies - exact).max() < 1e-9


@pytest.mark.parametrize("atoms", [iron(), chromium()], ids=["ferro", "antiferro"])
def test_goldstone_mode(atoms):
    """An order that turns freely has a mode of no energy, to 1e-6 of the bandwidth."""
    sign = 1 if len(atoms) == 1 else -1
    waves = waves_of(atoms, Heisenberg(CubicCut(sign * 0.3, 2.7)))
    bands = waves.bands(np.concatenate([np.zeros((1, 3)), K]))
    assert bands.stable
    assert bands.energies[0, 0] < 1e-6 * bands.energies.max()


def test_directly_and_from_tensors():
    """Both ways agree where the energy is bilinear, in a canted order too."""
    terms = [
        Heisenberg(CubicCut(-0.3, 3.2)),
        DzyaloshinskiiMoriya(
            CubicCut(0.02, 3.2), direction="interfacial", axis=(0, 0, 1)
        ),
        UniaxialAnisotropy(0.004, (0, 0, 1)),
        Zeeman((0, 40.0, 0)),
    ]
    atoms = chromium(axis=(0, 0, 1))
    atoms.rattle(0.05, seed=3)
    atoms.calc = DeepSpinCalculator(Sum(terms))
    assert relax_spins(atoms, torque_max=1e-11).converged
    direct = SpinWaves.from_atoms(atoms).bands(K)
    tensors = exchange_tensors(atoms)
    assert direct.stable
    again = SpinWaves.from_exchange(tensors).bands(K)
    assert np.abs(direct.energies - again.energies).max() < 1e-9


def test_higher_orders_and_lengths_count_as_they_are():
    """Biquadratic, cubic and Landau terms: formulas of the ferromagnet."""
    J, b, K1 = 0.004, 0.001, 0.002
    m = 2.0
    terms = [
        MomentExchange(Shells([(2.4855, J)], 0.1)),
        Biquadratic(Shells([(2.4855, b)], 0.1)),
        CubicAnisotropy(K1),
        Landau((-0.5, 0.1)),
    ]
    waves = waves_of(iron((0, 0, m)), Sum(terms))
    sums = exchange_sums(waves.cartesian(K), 1.0, BCC_NEAR)
    exact = g / m * ((J * m * m + 2 * b) * (8 - sums) + 2 * K1)
    assert np.abs(waves.bands(K).energies[:, 0] - exact).max() < 1e-12


def test_frequencies_of_the_dynamics():
    """A small standing wave turns at the energy of its magnon, to 1 %."""
    potential = Sum(
        [
            Heisenberg(Shells([(2.0, -0.02)], 0.1)),
            UniaxialAnisotropy(0.004, (0, 0, 1)),
        ]
    )
    cell = chain(2)
    set_spins(cell, [(0, 0, 2.0), (0, 0, -2.0)])
    energy = waves_of(cell, potential).bands(along_z([0.25])).energies[0, 0]
    atoms = cell.repeat((1, 1, 4))
    spins = get_spins(atoms)
    wave = np.exp(1j * np.pi / 4 * np.arange(8))
    spins[:, 0] = 0.01 * wave.real
    set_spins(atoms, spins * 2.0 / np.linalg.norm(spins, axis=1, keepdims=True))
    atoms.calc = DeepSpinCalculator(potential)
    period = 2 * np.pi * HBAR / energy
    dyn = SpinDynamics(atoms, period / 30)
    seen = []
    dyn.attach(lambda: seen.append((wave.conj() @ get_spins(atoms)[:, 0]).real), 1)
    dyn.run(60)
    crossings = np.flatnonzero(np.diff(np.sign(seen)))
    halves = [n + seen[n] / (seen[n] - seen[n + 1]) for n in crossings]
    found = 2 * np.mean(np.diff(halves)) / 30
    assert found == pytest.approx(1.0, rel=0.01)


def test_magnopy_finds_the_same():
    """A non-collinear order with DM and anisotropy, by another code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        magnopy = pytest.importorskip("magnopy")
    terms = [
        Heisenberg(CubicCut(-0.3, 3.2)),
        DzyaloshinskiiMoriya(CubicCut(0.05, 3.2)),
        UniaxialAnisotropy(-0.003, (0, 0, 1)),
    ]
    atoms = bulk("Cr", "bcc", a=A0, cubic=True)
    atoms.rattle(0.1, seed=1)
    set_spins(atoms, [(1.5, 0.1, 0), (-0.8, 0.2, 0.1)])
    atoms.calc = DeepSpinCalculator(Sum(terms))
    assert relax_spins(atoms, torque_max=1e-11).converged
    x = exchange_tensors(atoms)
    hamiltonian = magnopy.SpinHamiltonian(
        cell=atoms.cell.array,
        atoms={
            "names": ["Cr1", "Cr2"],
            "positions": atoms.get_scaled_positions(),
            "spins": list(x.lengths / g),
            "g_factors": [g, g],
        },
        convention=magnopy.Convention(
            multiple_counting=True, spin_normalized=True, c21=-1, c22=-0.5
        ),
    )
    home = np.rint(
        atoms.get_scaled_positions(wrap=False) - atoms.get_scaled_positions()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, j, shift, J in zip(x.i, x.j, x.shift, x.tensors, strict=True):
            nu = tuple(int(n) for n in shift + home[j] - home[i])
            hamiltonian.add(
                nus=[nu],
                alphas=[int(i), int(j)],
                parameter=1e3 * J,
                when_present="replace",
            )
        for i, A in zip(x.sites, x.onsite, strict=True):
            hamiltonian.add(nus=[(0, 0, 0)], alphas=[int(i), int(i)], parameter=1e3 * A)
        # Its spins are opposite to the moments of electrons.
        theirs = magnopy.LSWT(hamiltonian, -x.directions)
        waves = SpinWaves.from_atoms(atoms)
        found = [np.sort(theirs.omega(k).real) for k in waves.cartesian(K)]
    bands = waves.bands(K)
    assert bands.stable
    assert np.abs(1e3 * bands.energies - found).max() < 1e-6


def test_stiffness_and_velocity():
    J = CubicCut(0.3, 3.5)
    terms = [
        Heisenberg(J),
        DzyaloshinskiiMoriya(CubicCut(0.02, 3.5)),
        UniaxialAnisotropy(0.01, (0, 0, 1)),
    ]
    atoms = iron((0, 0, 2.2))
    atoms.set_cell(atoms.cell.array @ np.diag([1.0, 1.03, 0.98]), scale_atoms=True)
    waves = waves_of(atoms, Sum(terms))
    x = exchange_tensors(atoms)
    exact = np.einsum("p,pa,pb->ab", x.isotropic, x.vectors, x.vectors) * g / 2.2 / 2
    assert np.abs(spin_stiffness(waves) - exact).max() < 1e-7 * exact.max()

    waves = waves_of(
        chromium((0, 0, 1)), Sum([Heisenberg(CubicCut(-0.3, 2.7)), *terms[1:]])
    )
    step = 1e-4

    def energies(k):
        return waves.modes(k @ waves.atoms.cell.array.T / (2 * np.pi)).energies

    k = waves.cartesian(K)
    differences = [
        (energies(k + step * e) - energies(k - step * e)) / (2 * step)
        for e in np.eye(3)
    ]
    slopes = group_velocities(waves, K)
    assert np.abs(slopes - np.stack(differences, axis=-1)).max() < 1e-6
    with pytest.raises(ValueError, match="net moment"):
        spin_stiffness(waves)
    canted = chromium((0, 0, 1))
    canted.calc = DeepSpinCalculator(
        Sum([Heisenberg(CubicCut(-0.3, 2.7)), Zeeman((0, 10.0, 0))])
    )
    assert relax_spins(canted, torque_max=1e-10).converged
    with pytest.raises(ValueError, match="not quadratic"):
        spin_stiffness(SpinWaves.from_atoms(canted))


def test_density_of_states():
    """Counts the modes; its mean energy is the on-site part."""
    waves = waves_of(iron((0, 0, 2.2)), Heisenberg(CubicCut(0.3, 2.7)))
    result = magnon_dos(waves, 12)
    assert trapezoid(result.dos, result.energies) == pytest.approx(1.0, abs=0.02)
    J = exchange_tensors(waves_atoms(waves)).isotropic.sum() * g / 2.2
    mean = trapezoid(result.dos * result.energies, result.energies)
    assert mean == pytest.approx(J, rel=0.01)
    ax = plot_magnon_dos(result)
    assert ax.get_xlabel() == "magnon energy (meV)"
    with pytest.raises(ValueError, match="positive integers"):
        magnon_dos(waves, 0)


def waves_atoms(waves: SpinWaves) -> Atoms:
    atoms = waves.atoms.copy()
    atoms.calc = DeepSpinCalculator(Heisenberg(CubicCut(0.3, 2.7)))
    return atoms


def test_unstable_states_are_reported():
    """A ferromagnet of antiferromagnetic exchange falls at the zone boundary."""
    waves = waves_of(chain(1), Heisenberg(Shells([(2.0, -0.02)], 0.1)))
    with pytest.warns(UnstableReferenceWarning, match=r"0\.5"):
        bands = waves.bands(along_z([0.0, 0.25, 0.5]))
    assert not bands.stable
    assert bands.instability.k == pytest.approx((0, 0, 0.5))
    assert bands.instability.curvature == pytest.approx(-g / 2 * 0.08)
    assert bands.energies[2, 0] == pytest.approx(-g / 2 * 0.08)
    with pytest.raises(ValueError, match="unstable"):
        magnon_dos(waves, 4)


def test_growing_modes():
    """Across a hard axis and an easy one, deviations grow at a known rate."""
    easy, hard, J = 0.003, 0.005, 0.02
    terms = [
        Heisenberg(Shells([(2.0, J)], 0.1)),
        UniaxialAnisotropy(easy, (1, 0, 0)),
        UniaxialAnisotropy(-hard, (0, 1, 0)),
    ]
    waves = waves_of(chain(1), Sum(terms))
    with pytest.warns(UnstableReferenceWarning):
        bands = waves.bands(along_z([0.0, 0.5]))
    assert bands.growth[0, 0] == pytest.approx(g / 2 * 2 * np.sqrt(easy * hard))
    assert bands.energies[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert bands.instability.growth == pytest.approx(bands.growth[0, 0])
    assert np.abs(bands.instability.deviations[0]) == pytest.approx((1, 0, 0))
    assert bands.energies[1, 0] == pytest.approx(
        g / 2 * np.sqrt((4 * J - 2 * easy) * (4 * J + 2 * hard))
    )
    ax = plot_magnon_bands(bands)
    assert len(ax.lines) == 3


def test_bad_input():
    potential = Heisenberg(CubicCut(0.3, 2.7))
    atoms = iron()
    with pytest.raises(ValueError, match="calculator"):
        SpinWaves.from_atoms(atoms)
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="magnetic_forces"):
        SpinWaves.from_atoms(atoms)
    bare = bulk("Fe", "bcc", a=A0)
    bare.set_initial_magnetic_moments(None)
    with pytest.raises(ValueError, match="set_spins"):
        waves_of(bare, potential)
    set_spins(bare, [0.0])
    with pytest.raises(ValueError, match="no atom carries a moment"):
        waves_of(bare, potential)
    tilted = chromium()
    set_spins(tilted, [(0, 0, 1.5), (1.5, 0, 0)])
    with pytest.raises(ValueError, match="relax"):
        waves_of(tilted, potential)
    with pytest.raises(ValueError, match="repeat"):
        waves_of(atoms, potential, repeat=0)
    with pytest.raises(ValueError, match="repeat"):
        waves_of(atoms, potential, repeat="large")
    with pytest.raises(TypeError, match="from_atoms"):
        SpinWaves.from_exchange(atoms)
    with pytest.raises(TypeError, match="k_path"):
        waves_of(atoms, potential).bands("GHN")
    with pytest.raises(ValueError, match=r"\(K, 3\)"):
        waves_of(atoms, potential).bands([0.0, 0.1])


def test_paths():
    """Names of the primitive cell's points, for a cell twice as large."""
    primitive = bulk("Cr", "bcc", a=A0)
    small = k_path(primitive, "GHN", npoints=20)
    large = k_path(chromium(), "GHN", npoints=20, cell=primitive.cell)
    assert np.abs(small.cartesian - large.cartesian).max() < 1e-12
    assert small.ticks[1] == pytest.approx(2 * np.pi / A0)
    terms = Sum([Heisenberg(CubicCut(0.3, 2.7)), UniaxialAnisotropy(0.01, (0, 0, 1))])
    pair = bulk("Cr", "bcc", a=A0, cubic=True)
    set_spins(primitive, {"Cr": 1.5})
    set_spins(pair, {"Cr": 1.5})
    one = waves_of(primitive, terms).bands(small)
    two = waves_of(pair, terms).bands(large)
    folded = np.abs(two.energies - one.energies).min(axis=1)
    assert folded.max() < 1e-10
    ax = plot_magnon_bands(one)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["Γ", "H", "N"]
    with pytest.raises(ValueError, match="path"):
        k_path(primitive, "G?")
    with pytest.raises(ValueError, match="periodic"):
        k_path(Atoms("Fe"))
    with pytest.raises(ValueError, match="no multiple"):
        k_path(chromium(), "GH", cell=1.1 * primitive.cell.array)


def test_clusters_and_wires():
    """Structures without periods, or with one and no other lattice vectors."""
    J = 0.02
    dimer = Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2.0)])
    set_spins(dimer, {"Fe": 2.0})
    potential = Heisenberg(Shells([(2.0, J)], 0.1))
    energies = waves_of(dimer, potential).bands([[0, 0, 0]]).energies
    assert energies[0] == pytest.approx([0.0, g / 2.0 * 2 * J], abs=1e-12)
    wire = Atoms("Fe", cell=(0, 0, 2.0), pbc=(0, 0, 1))
    set_spins(wire, {"Fe": 2.0})
    energies = waves_of(wire, potential).bands(along_z([0.0, 0.25])).energies
    assert energies[:, 0] == pytest.approx([0.0, g / 2.0 * 2 * J], abs=1e-12)
    with pytest.raises(ValueError, match="too small"):
        waves_of(wire, potential, repeat=1)
