"""Analytic Hamiltonians: derivatives, symmetries, batches, files, bad arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones as AseLennardJones
from hamiltonians import CUT, TERMS, structure, system_of
from scipy.spatial.transform import Rotation

from deepspin_ase.neighbors import NeighborList, build_pairs
from deepspin_ase.potentials import (
    ZBL,
    BetheSlater,
    Biquadratic,
    Blend,
    Buckingham,
    BuckinghamCoulomb,
    CubicAnisotropy,
    CubicCut,
    CubicKnots,
    DipoleDipole,
    DzyaloshinskiiMoriya,
    FinnisSinclairDensity,
    Harmonic,
    Heisenberg,
    Landau,
    LennardJones,
    MomentExchange,
    PairPotential,
    Potential,
    ScreenedNuclear,
    Shells,
    SmoothShells,
    Sum,
    Switched,
    UniaxialAnisotropy,
    Zeeman,
    choose_backend,
    load_potential,
    save_potential,
)
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

CURVED = [name for name in TERMS if name != "zeeman"]

#: Terms that run in compiled kernels.
COMPILED = [
    name
    for name, builder in TERMS.items()
    if builder(np.eye(3)).pair_term((8, 26, 28)) is not None
]

#: Terms with the back ends that evaluate them.
CASES = [(name, "reference") for name in TERMS] + [(name, "fused") for name in COMPILED]
every_case = pytest.mark.parametrize("name, backend", CASES)


def build(name: str, backend: str, rotation: np.ndarray | None = None) -> Potential:
    potential = TERMS[name](np.eye(3) if rotation is None else rotation)
    choose_backend(potential, backend)
    return potential


@pytest.fixture(params=["reference", "fused"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a back end evaluate all potentials that are made without choosing one."""
    monkeypatch.setattr(Potential, "backend", request.param)
    return request.param


def numerical_gradient(
    potential: Potential,
    system: System,
    moved: Callable[[torch.Tensor], System],
    n: int,
) -> torch.Tensor:
    """Five-point central differences of the energy, all components in one batch."""
    h = 1e-3
    steps = torch.eye(n, dtype=system.dtype)
    stencil = [(-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)]
    batch = System.cat([moved(k * h * step) for k, _ in stencil for step in steps])
    energy = potential.evaluate(
        batch, forces=False, magnetic_forces=False, virial=False
    ).energy
    weights = torch.tensor([w for _, w in stencil], dtype=system.dtype)
    return weights @ energy.reshape(4, n) / h


def assert_relative(found: torch.Tensor, expected: torch.Tensor, rtol: float) -> None:
    scale = expected.abs().max().clamp_min(1e-4)
    assert float((found - expected).abs().max() / scale) < rtol


@pytest.mark.parametrize("pbc", [True, False], ids=["periodic", "open"])
@every_case
def test_derivatives_match_central_differences(
    name: str, backend: str, pbc: bool
) -> None:
    potential = build(name, backend)
    system = system_of(pbc=pbc)
    prediction = potential.evaluate(system)
    n = 3 * system.n_atoms
    positions, spins = system.positions, system.spins
    forces = numerical_gradient(
        potential,
        system,
        lambda step: system.replace(positions=positions + step.reshape(-1, 3)),
        n,
    )
    assert_relative(prediction.forces, -forces.reshape(-1, 3), 1e-6)
    # Only atoms with a moment: a moment that appears has no derivative.
    active = (spins != 0).any(dim=1)
    magnetic = numerical_gradient(
        potential,
        system,
        lambda step: system.replace(
            spins=spins + step.reshape(-1, 3) * active[:, None]
        ),
        n,
    )
    assert_relative(prediction.magnetic_forces, -magnetic.reshape(-1, 3), 1e-6)
    virial = numerical_gradient(
        potential, system, lambda step: system.strained(step.reshape(1, 3, 3)), 9
    )
    assert_relative(prediction.virial, -virial.reshape(1, 3, 3), 1e-6)


@every_case
def test_term_is_not_trivial(name: str, backend: str) -> None:
    potential = build(name, backend)
    prediction = potential.evaluate(system_of())
    assert float(prediction.energies.abs().max()) > 1e-5
    acts_on_spins = bool(prediction.magnetic_forces.abs().max() > 1e-5)
    assert acts_on_spins == potential.uses_spins


@every_case
def test_energy_is_invariant(name: str, backend: str) -> None:
    potential = build(name, backend)
    atoms = structure()
    reference = potential.evaluate(System.from_atoms(atoms)).energies

    shifted = atoms.copy()
    shifted.positions += [0.3, -1.2, 0.7]
    shifted.wrap()
    found = potential.evaluate(System.from_atoms(shifted)).energies
    torch.testing.assert_close(found, reference, rtol=1e-9, atol=1e-10)

    order = [3, 0, 4, 2, 1]
    found = potential.evaluate(System.from_atoms(atoms[order])).energies
    torch.testing.assert_close(found, reference[order], rtol=1e-9, atol=1e-10)

    found = potential.evaluate(System.from_atoms(atoms * (2, 1, 1))).energies
    torch.testing.assert_close(found, reference.repeat(2), rtol=1e-8, atol=1e-8)

    inverted = atoms.copy()
    inverted.set_initial_magnetic_moments(-atoms.get_initial_magnetic_moments())
    found = potential.evaluate(System.from_atoms(inverted)).energies
    sign = -1.0 if name == "zeeman" else 1.0
    torch.testing.assert_close(found, sign * reference, rtol=1e-12, atol=1e-12)


@every_case
def test_joint_rotation(name: str, backend: str) -> None:
    rotation = Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()
    atoms = structure()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T, scale_atoms=False)
    turned.positions = atoms.positions @ rotation.T
    turned.set_initial_magnetic_moments(
        atoms.get_initial_magnetic_moments() @ rotation.T
    )
    before = build(name, backend).evaluate(System.from_atoms(atoms))
    after = build(name, backend, rotation).evaluate(System.from_atoms(turned))
    R = torch.tensor(rotation)
    close = {"rtol": 1e-8, "atol": 1e-9}
    torch.testing.assert_close(after.energies, before.energies, **close)
    torch.testing.assert_close(after.forces, before.forces @ R.T, **close)
    torch.testing.assert_close(
        after.magnetic_forces, before.magnetic_forces @ R.T, **close
    )
    torch.testing.assert_close(after.virial, R @ before.virial @ R.T, **close)


@every_case
def test_batch_equals_single_runs(name: str, backend: str) -> None:
    potential = build(name, backend)
    mixed = [system_of(1), system_of(2, pbc=False), system_of(3)]
    batch = potential.evaluate(System.cat(mixed))
    singles = [potential.evaluate(system) for system in mixed]
    for quantity in ("energy", "energies", "forces", "magnetic_forces", "virial"):
        together = getattr(batch, quantity)
        single = torch.cat([getattr(s, quantity) for s in singles])
        torch.testing.assert_close(together, single, rtol=1e-12, atol=1e-12)


@every_case
def test_longer_lists_change_nothing(name: str, backend: str) -> None:
    potential = build(name, backend)
    system = system_of()
    exact = potential.evaluate(system)
    longer = build_pairs(system, potential.cutoff + 2.0)
    skin = NeighborList(skin=1.0).update(system, potential.cutoff)
    for pairs in (longer, skin):
        found = potential.evaluate(system, pairs)
        torch.testing.assert_close(found.energies, exact.energies)
        torch.testing.assert_close(found.virial, exact.virial)


@pytest.mark.parametrize("name", ["heisenberg", "dipole"])
def test_one_potential_has_no_deviations(name: str, backend: str) -> None:
    assert build(name, backend).evaluate(system_of()).deviations == {}


def test_pair_terms_are_compiled() -> None:
    kinds = (
        "heisenberg",
        "moment",
        "biquadratic",
        "dm",
        "lennard",
        "pair",
        "harm",
        "zbl",
    )
    assert [name for name in TERMS if name.startswith(kinds)] == COMPILED


@pytest.mark.parametrize("name", COMPILED)
def test_back_ends_agree(name: str) -> None:
    system = System.cat([system_of(0), system_of(1, pbc=False)])
    expected = build(name, "reference").evaluate(system)
    found = build(name, "fused").evaluate(system)
    for quantity in ("energies", "forces", "magnetic_forces", "virial"):
        assert_relative(getattr(found, quantity), getattr(expected, quantity), 1e-10)


@pytest.mark.parametrize("name", TERMS)
def test_save_and_load(name: str, tmp_path) -> None:
    potential = TERMS[name](np.eye(3))
    save_potential(tmp_path / "model.pt", potential)
    loaded = load_potential(tmp_path / "model.pt")
    assert loaded.arguments() == potential.arguments()
    system = system_of()
    before, after = potential.evaluate(system), loaded.evaluate(system)
    assert torch.equal(before.energies, after.energies)
    assert torch.equal(before.forces, after.forces)


@every_case
def test_single_precision(name: str, backend: str) -> None:
    potential = build(name, backend)
    system = system_of()
    double = potential.evaluate(system)
    single = potential.evaluate(system.to(dtype=torch.float32))
    for quantity in ("energies", "forces", "magnetic_forces", "virial"):
        expected = getattr(double, quantity)
        found = getattr(single, quantity)
        assert found.dtype == torch.float32
        assert_relative(found.double(), expected, 1e-4)


@pytest.mark.parametrize("name", CURVED)
def test_second_derivatives(name: str) -> None:
    potential = TERMS[name](np.eye(3))
    system = system_of()
    pairs = build_pairs(system, potential.cutoff)
    active = (system.spins != 0).any(dim=1)[:, None]
    direction = torch.randn(
        system.n_atoms,
        3,
        dtype=system.dtype,
        generator=torch.Generator().manual_seed(1),
    )

    def gradient(s: torch.Tensor, *, graph: bool) -> torch.Tensor:
        """Return dE/ds of a joint step s of positions and moments."""
        moved = system.replace(
            positions=system.positions + s * direction,
            spins=system.spins + s * direction.flip(0) * active,
        )
        (first,) = torch.autograd.grad(
            potential(moved, pairs).sum(), s, create_graph=graph
        )
        return first

    s = torch.zeros((), dtype=system.dtype, requires_grad=True)
    (second,) = torch.autograd.grad(gradient(s, graph=True), s)
    h = 1e-4
    ends = [
        gradient(torch.tensor(x, dtype=s.dtype, requires_grad=True), graph=False)
        for x in (h, -h)
    ]
    assert_relative(second, (ends[0] - ends[1]) / (2 * h), 1e-5)


@pytest.mark.parametrize(
    "name, backend", [c for c in CASES if TERMS[c[0]](np.eye(3)).uses_spins]
)
def test_atoms_without_moment_contribute_nothing(name: str, backend: str) -> None:
    potential = build(name, backend)
    system = system_of()
    bare = system.replace(spins=torch.zeros_like(system.spins))
    prediction = potential.evaluate(bare)
    for quantity in ("energies", "forces", "magnetic_forces", "virial"):
        assert not getattr(prediction, quantity).any()
    magnetic_forces = potential.evaluate(system).magnetic_forces
    assert not magnetic_forces[3:].any()
    assert torch.isfinite(magnetic_forces).all()


@pytest.mark.parametrize(
    "name, backend",
    [c for c in CASES if c[0].startswith(("heis", "biq", "dm", "uniax", "cubic"))],
)
def test_unit_spin_terms_are_transverse(name: str, backend: str) -> None:
    system = system_of()
    forces = build(name, backend).evaluate(system).magnetic_forces
    along = (forces * system.spins).sum(dim=1)
    assert float(along.abs().max()) < 1e-15
    longer = build(name, backend).evaluate(system.replace(spins=3.0 * system.spins))
    torch.testing.assert_close(longer.magnetic_forces * 3.0, forces)


def dimer(first, second, *, symbols="FeFe", separation=(0, 0, 2.5)) -> System:
    atoms = Atoms(symbols, [[0, 0, 0], separation])
    atoms.set_initial_magnetic_moments([first, second])
    return System.from_atoms(atoms)


def energy(potential: Potential, system: System) -> float:
    return float(potential.evaluate(system).energy)


X, Y, Z = np.eye(3)


def test_signs_and_counting_of_pairs(backend: str) -> None:
    j = Shells([(2.5, 0.010)])
    assert energy(Heisenberg(j), dimer(2 * X, 3 * X)) == pytest.approx(-0.010)
    assert energy(Heisenberg(j), dimer(2 * X, -3 * X)) == pytest.approx(0.010)
    assert energy(MomentExchange(j), dimer(2 * X, 3 * X)) == pytest.approx(-0.060)
    assert energy(Biquadratic(j), dimer(X, -X)) == pytest.approx(-0.010)
    bond = DzyaloshinskiiMoriya(j)
    assert energy(bond, dimer(X, Y)) == pytest.approx(-0.010)
    assert energy(bond, dimer(Y, X)) == pytest.approx(0.010)
    # n x r^ with n = x, r^ = z is -y; e_i x e_j of (z, x) is y.
    interfacial = DzyaloshinskiiMoriya(j, direction="interfacial", axis=5 * X)
    assert energy(interfacial, dimer(Z, X)) == pytest.approx(0.010)
    shares = Heisenberg(j).evaluate(dimer(X, X)).energies
    assert shares.tolist() == pytest.approx([-0.005, -0.005])
    # Measured from the ferromagnet, canted moments cost energy.
    canted = dimer(2 * X, 3 * (0.6 * X + 0.8 * Y))
    offset = Heisenberg(j, subtract_collinear=True)
    assert energy(offset, canted) == pytest.approx(0.004)
    assert energy(offset, dimer(2 * X, 3 * X)) == pytest.approx(0.0)
    offset = MomentExchange(j, subtract_collinear=True)
    assert energy(offset, canted) == pytest.approx(0.024)
    springs = Harmonic(2.0, 2.0, cutoff=3.0)
    assert energy(springs, dimer(X, X)) == pytest.approx(0.25)
    plain = PairPotential(Shells([(2.5, 0.01)]))
    assert energy(plain, dimer(X, X)) == pytest.approx(0.01)


def test_fixed_dm_vector_is_odd_in_the_order_of_atoms(backend: str) -> None:
    j = Shells([(2.5, 0.010)])
    along = DzyaloshinskiiMoriya(j, direction="vector", vector=2 * Z, axis=Z)
    assert energy(along, dimer(X, Y)) == pytest.approx(-0.010)
    # The same pair, written the other way round.
    assert energy(along, dimer(Y, X, separation=(0, 0, -2.5))) == pytest.approx(-0.010)
    across = dimer(X, Y, separation=(2.5, 0, 0))
    assert energy(along, across) == pytest.approx(0.0)
    # From Fe to Ni whatever the direction of the bond: a staggered vector.
    staggered = DzyaloshinskiiMoriya(
        j, direction="vector", vector=Z, elements=("Fe", "Ni")
    )
    for separation in ((0, 0, 2.5), (0, 0, -2.5), (2.5, 0, 0)):
        pair = dimer(X, Y, symbols="FeNi", separation=separation)
        assert energy(staggered, pair) == pytest.approx(-0.010)
        swapped = dimer(Y, X, symbols="NiFe", separation=separation)
        assert energy(staggered, swapped) == pytest.approx(-0.010)


def test_on_site_energies() -> None:
    atom = System.from_atoms(Atoms("Fe", magmoms=[[1.0, 1.0, 0.0]]))
    assert energy(UniaxialAnisotropy(0.01, 3 * X), atom) == pytest.approx(-0.005)
    assert energy(CubicAnisotropy(0.01), atom) == pytest.approx(0.0025)
    body = System.from_atoms(Atoms("Fe", magmoms=[[1.0, 1.0, 1.0]]))
    assert energy(CubicAnisotropy(0.0, 0.27), body) == pytest.approx(0.01)
    assert energy(Landau([1.0, 10.0, 100.0]), atom) == pytest.approx(2 + 40 + 800)
    assert energy(Zeeman((7.0, 0, 0)), atom) == pytest.approx(-7.0 * MU_B)


def test_restriction_to_elements(backend: str) -> None:
    system = system_of()
    iron = Landau([1.0], elements="Fe").evaluate(system).energies
    assert iron[0] != 0 and not iron[1:].any()
    everything = energy(Heisenberg(CUT), system)
    kinds = [("Fe", "Fe"), ("Ni", "Fe"), ("Ni", "Ni")]
    parts = [energy(Heisenberg(CUT, elements=kind), system) for kind in kinds]
    assert sum(parts) == pytest.approx(everything)
    no_oxygen = DipoleDipole(elements=["Co"]).evaluate(system)
    assert not no_oxygen.energies.any()


def test_sum_with_on_site_term_shares_the_list(backend: str) -> None:
    system = system_of()
    terms = [Heisenberg(CUT), Zeeman((1.0, 2.0, 3.0)), LennardJones(0.1, 1.9)]
    total = Sum(terms).evaluate(system)
    parts = [term.evaluate(system) for term in terms]
    torch.testing.assert_close(total.forces, sum(p.forces for p in parts))
    torch.testing.assert_close(total.energy, sum(p.energy for p in parts))


def test_lennard_jones_equals_ase(backend: str) -> None:
    atoms = structure() * (2, 1, 1)
    atoms.calc = AseLennardJones(epsilon=0.1, sigma=1.9, rc=5.0)
    found = LennardJones(0.1, 1.9, cutoff=5.0).evaluate(System.from_atoms(atoms))
    assert float(found.energy) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(found.energies, atoms.get_potential_energies())
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-12)
    stress = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(found.stress[0], stress, atol=1e-12)


def test_zbl_of_two_nuclei(backend: str) -> None:
    # Fe-Ni at 1 A: 14.39964 Z1 Z2 phi(x), x = r (Z1^.23 + Z2^.23)/0.46850.
    x = (26**0.23 + 28**0.23) / 0.46850
    c, d = (0.18175, 0.50986, 0.28022, 0.02817), (3.19980, 0.94229, 0.40290, 0.20162)
    phi = sum(a * np.exp(-b * x) for a, b in zip(c, d, strict=True))
    system = dimer(X, X, symbols="FeNi", separation=(1.0, 0, 0))
    found = energy(ZBL(1.5, 2.0), system)
    assert found == pytest.approx(14.39964 * 26 * 28 * phi, rel=5e-4)


RADIALS = [
    CubicCut(0.05, 4.2),
    SmoothShells([(2.5, 0.02, 0.05), (3.6, -0.01, 0.02)], 0.5),
    Switched(BetheSlater(0.05, 0.21, 1.8, 4.0), 3.0),
    Switched(Buckingham(1000.0, 0.3, 20.0, 6.0), 5.0),
    Blend(ScreenedNuclear(26, 26), CubicCut(5.0, 4.0), 1.5, 2.0),
    CubicKnots((1.0, -0.5), (3.0, 2.5)),
]


@pytest.mark.parametrize("radial", RADIALS, ids=lambda r: type(r).__name__)
def test_radial_functions_are_smooth(radial) -> None:
    """Value, slope and curvature have no jumps and vanish at the cutoff."""
    r = torch.linspace(1.2, radial.cutoff + 0.5, 20001, dtype=torch.float64)
    r.requires_grad_()
    value = radial(r)
    (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    for curve in (value, slope, curvature):
        curve = curve.detach()
        scale = curve.abs().max()
        assert float(curve.diff().abs().max() / scale) < 2e-2
        assert not curve[r.detach() >= radial.cutoff].any()


def test_radial_values() -> None:
    r = torch.tensor([2.0, 2.45, 2.55, 2.7, 3.0])
    assert Shells([(2.5, 7.0)], 0.1)(r).tolist() == [0, 7, 7, 0, 0]
    line = SmoothShells([(2.5, 1.0, 10.0)], 0.4)(r)
    assert line.tolist() == pytest.approx([0, 0.5, 1.5, 3.0, 0], rel=1e-5)
    density = FinnisSinclairDensity(1.8, 3.569745)
    inner = density(torch.linspace(0.5, 3.0, 50))
    assert bool((inner > 0).all())
    assert bool((inner.diff() <= 0).all())


@pytest.mark.parametrize(
    "build",
    [
        lambda: CubicCut(1.0, -3.0),
        lambda: CubicCut(float("nan"), 3.0),
        lambda: BetheSlater(1.0, 0.2, 0.0, 3.0),
        lambda: Shells([]),
        lambda: Shells([(2.5, 1.0), (2.6, 1.0)], 0.1),
        lambda: Shells([(2.5, 1.0, 3.0)]),
        lambda: Shells([(-2.5, 1.0)]),
        lambda: SmoothShells([(0.5, 1.0, 0.0)], 0.6),
        lambda: Switched(CUT, 5.0),
        lambda: Blend(ScreenedNuclear(1, 1), CUT, 2.0, 1.0),
        lambda: CubicKnots((1.0,), (1.0, 2.0)),
        lambda: Heisenberg(0.01),
        lambda: Heisenberg(CUT, elements=("Fe",)),
        lambda: Heisenberg(CUT, elements="Fe"),
        lambda: Heisenberg(CUT, elements=("Fe", "Qq")),
        lambda: DzyaloshinskiiMoriya(CUT, direction="up"),
        lambda: DzyaloshinskiiMoriya(CUT, axis=Z),
        lambda: DzyaloshinskiiMoriya(CUT, direction="interfacial"),
        lambda: DzyaloshinskiiMoriya(CUT, direction="interfacial", axis=0 * Z),
        lambda: DzyaloshinskiiMoriya(CUT, direction="vector", vector=Z),
        lambda: DzyaloshinskiiMoriya(
            CUT, direction="vector", vector=Z, elements=("Fe", "Fe")
        ),
        lambda: UniaxialAnisotropy(1.0, (0, 0, 0)),
        lambda: UniaxialAnisotropy(1.0, (0, 1)),
        lambda: UniaxialAnisotropy(1.0, X, elements=()),
        lambda: CubicAnisotropy(1.0, axes=[[1, 0, 0], [1, 1, 0], [0, 0, 1]]),
        lambda: Landau([]),
        lambda: Zeeman(1.0),
        lambda: DipoleDipole(cutoff=-1.0),
        lambda: DipoleDipole(accuracy=0.0),
        lambda: DipoleDipole(demagnetization=(0, 0, 2)),
        lambda: LennardJones(0.1, -1.0),
        lambda: Harmonic(1.0, 2.0, cutoff=0.0),
        lambda: ZBL(2.0, 1.0),
        lambda: BuckinghamCoulomb({"Ni": 2.0}, {"Ni-O": (1.0, 0.3, 0.0)}),
        lambda: BuckinghamCoulomb({"Ni": 2.0}, {"Ni-Ni": (1.0, 0.3)}),
        lambda: BuckinghamCoulomb({"Qq": 2.0}, {}),
    ],
)
def test_bad_arguments(build) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        build()
