"""Couplings read off Hamiltonians, and Monte Carlo moves with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.dynamics.montecarlo import find_couplings
from deepspin_ase.dynamics.montecarlo._bilinear import BilinearEnergies
from deepspin_ase.dynamics.montecarlo._trial_energies import LocalEnergies
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    Biquadratic,
    CubicAnisotropy,
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
from deepspin_ase.potentials.materials import reference
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

NEAR = Shells([(2.87 * 3**0.5 / 2, 0.013), (2.87, -0.004)])
MODELS: list[Potential] = [
    Heisenberg(NEAR, subtract_collinear=True),
    Sum([MomentExchange(NEAR, subtract_collinear=True), Landau((-0.1, 0.01))]),
    Sum([Heisenberg(NEAR), DzyaloshinskiiMoriya(NEAR), Zeeman((10.0, -50.0, 300.0))]),
    Sum(
        [
            DzyaloshinskiiMoriya(NEAR, direction="interfacial", axis=(1, 2, 3)),
            UniaxialAnisotropy(2e-3, (1, 1, 0)),
            UniaxialAnisotropy(-1e-3, (0, 1, -2)),
        ]
    ),
    reference.fe(lattice=None),
]


def iron(seed: int = 0, size: int = 3) -> Atoms:
    """Return bcc iron with moments of several lengths, one of them zero."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Fe", cubic=True, a=2.87) * size
    atoms.rattle(0.01, seed=seed)
    spins = rng.normal(size=(len(atoms), 3))
    lengths = np.linspace(1.5, 2.5, len(atoms))[:, None]
    spins *= lengths / np.linalg.norm(spins, axis=1, keepdims=True)
    spins[5] = 0.0
    set_spins(atoms, spins)
    return atoms


@pytest.mark.parametrize("potential", MODELS, ids=lambda p: type(p).__name__)
def test_energies_of_other_directions_follow(potential: Potential) -> None:
    """Differences of energy by the couplings are those by the potential."""
    atoms = iron()
    atoms.calc = DeepSpinCalculator(potential)
    dyn = MonteCarlo(atoms, temperature_K=[300.0, 900.0], rng=0)
    assert isinstance(dyn.sampler, BilinearEnergies)
    model = [dyn.evaluate(dyn.state.system, forces=False).energy]
    known = [dyn.spin_energies()]
    dyn.run(3)
    model.append(dyn.evaluate(dyn.state.system, forces=False).energy)
    known.append(dyn.spin_energies())
    assert (model[1] - model[0]).abs().min() > 1e-3
    np.testing.assert_allclose(known[1] - known[0], model[1] - model[0], atol=1e-11)
    lengths = np.linalg.norm(atoms.get_initial_magnetic_moments(), axis=1)
    kept = dyn.state.system.spins.norm(dim=1)
    np.testing.assert_allclose(kept, np.tile(lengths, 2), rtol=1e-12)


def test_exchange_is_read_as_numbers_and_dm_as_tensors() -> None:
    system = System.from_atoms(iron())
    pairs = build_pairs(system, 3.2)
    exchange = find_couplings(Heisenberg(NEAR), system, pairs)
    chiral = find_couplings(DzyaloshinskiiMoriya(NEAR), system, pairs)
    assert exchange is not None and exchange.pairs.shape[1] == 1 and exchange.linear
    assert chiral is not None and chiral.pairs.shape[1] == 9
    tensors = chiral.pairs.reshape(-1, 3, 3)
    np.testing.assert_allclose(tensors, -tensors.transpose(1, 2), atol=1e-15)


@pytest.mark.parametrize(
    "potential",
    [
        Biquadratic(NEAR),
        Sum([Heisenberg(NEAR), CubicAnisotropy(1e-3)]),
        Sum([Heisenberg(NEAR), Biquadratic(NEAR)]),
    ],
)
def test_other_forms_are_not_taken_for_bilinear(potential: Potential) -> None:
    atoms = iron()
    atoms.calc = DeepSpinCalculator(potential)
    dyn = MonteCarlo(atoms, temperature_K=300.0, rng=0)
    assert isinstance(dyn.sampler, LocalEnergies)


def test_an_atom_beside_its_own_image_is_left_to_the_general_way() -> None:
    atoms = bulk("Fe", cubic=True, a=2.87)
    set_spins(atoms, {"Fe": 2.2})
    atoms.calc = DeepSpinCalculator(Heisenberg(NEAR))
    assert isinstance(
        MonteCarlo(atoms, temperature_K=1.0, rng=0).sampler, LocalEnergies
    )


def test_threads_do_not_change_the_moves() -> None:
    atoms = iron(size=12)
    atoms.calc = DeepSpinCalculator(Heisenberg(NEAR))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            dyn = MonteCarlo(atoms, temperature_K=[400.0, 800.0], rng=3)
            dyn.run(2)
            found.append(dyn.state.system.spins)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_overrelaxation_keeps_the_energy_and_turns_far() -> None:
    atoms = iron()
    field_T = (0.0, 0.0, 40.0)
    atoms.calc = DeepSpinCalculator(Sum([Heisenberg(NEAR), Zeeman(field_T)]))
    # At 0 K and in a cone of no width only overrelaxation moves the spins.
    dyn = MonteCarlo(atoms, temperature_K=0.0, overrelaxation=1, rng=1)
    energies = dyn.sampler
    assert isinstance(energies, BilinearEnergies)
    before, start = dyn.spin_energies(), dyn.state.system
    spins = start.spins.clone()
    for trial in energies.sets:
        energies.overrelax(spins, trial, torch.zeros(3).double(), torch.empty(0))
    after = energies.total(start.replace(spins=spins))
    np.testing.assert_allclose(after, before, atol=1e-12)
    np.testing.assert_allclose(spins.norm(dim=1), start.spins.norm(dim=1), rtol=1e-14)
    assert ((spins - start.spins).norm(dim=1) > 0.1).sum() > 0.8 * len(atoms)


def test_overrelaxed_spins_follow_the_langevin_function() -> None:
    """Free moments in a field of the model and one of the driver."""
    atoms = Atoms("Fe400", positions=5.0 * np.arange(1200).reshape(-1, 3))
    set_spins(atoms, {"Fe": 2.0})
    x = 1.5
    kT = units.kB * 300.0
    half_T = 0.5 * x * kT / (2.0 * 5.7883818e-5)
    atoms.calc = DeepSpinCalculator(Zeeman((0, 0, half_T)))
    dyn = MonteCarlo(
        atoms,
        temperature_K=300.0,
        move="uniform",
        overrelaxation=1,
        external_field_T=(0, 0, half_T),
        rng=2,
    )
    dyn.run(10)
    sample = []
    for _ in dyn.irun(100):
        sample.append(float(dyn.state.system.spins[:, 2].mean()) / 2.0)
    expected = 1 / np.tanh(x) - 1 / x
    error = np.std(sample) / np.sqrt(len(sample) / 4)
    assert abs(np.mean(sample) - expected) < 4 * error
    assert error < 0.005


@pytest.mark.parametrize(
    ("potential", "options"),
    [
        (Biquadratic(NEAR), {}),
        (Heisenberg(NEAR), {"simultaneous": True}),
    ],
)
def test_overrelaxation_where_it_does_not_hold(
    potential: Potential, options: dict[str, bool]
) -> None:
    atoms = iron()
    atoms.calc = DeepSpinCalculator(potential)
    for move in ("overrelaxation", "rotations"):
        with pytest.raises(ValueError, match=f"{move} needs an energy that is quad"):
            MonteCarlo(atoms, temperature_K=1.0, **{move: 1}, **options)


@pytest.mark.parametrize("move", ["overrelaxation", "rotations"])
def test_collective_moves_follow_boltzmann(move: str) -> None:
    """Coupled pairs with an easy axis in a field, by quadrature over both spheres."""
    n, kT = 300, units.kB * 300.0
    J, K, B = 1.2 * kT, 2.0 * kT, 0.7 * kT / (2.0 * MU_B)
    positions = np.array([(10.0 * k, y, 0.0) for k in range(n) for y in (0.0, 2.5)])
    atoms = Atoms(f"Fe{2 * n}", positions=positions)
    set_spins(atoms, {"Fe": 2.0})
    pairs = [atoms[2 * k : 2 * k + 2] for k in range(n)]
    calculator = DeepSpinCalculator(
        Sum([Heisenberg(Shells([(2.5, -J)])), UniaxialAnisotropy(K, (0, 0, 1))])
    )
    for pair in pairs:
        pair.calc = calculator
    dyn = MonteCarlo(
        pairs, temperature_K=300.0, external_field_T=(0, 0, B), rng=4, **{move: 2}
    )
    dyn.run(30)
    sample = []
    for _ in dyn.irun(60):
        z = dyn.state.system.spins[:, 2].numpy().reshape(n, 2) / 2.0
        sample.append([z.mean(), (z**2).mean(), (z[:, 0] * z[:, 1]).mean()])
    # cos of the angles to the axis, and the azimuth between.
    c, weight = np.polynomial.legendre.leggauss(40)
    phi = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    a, b, f = np.meshgrid(c, c, phi, indexing="ij")
    cosine = a * b + np.sqrt((1 - a**2) * (1 - b**2)) * np.cos(f)
    energy = J * cosine - K * (a**2 + b**2) - 2.0 * MU_B * B * (a + b)
    p = np.exp(-energy / kT) * weight[:, None, None] * weight[None, :, None]
    p /= p.sum()
    expected = [(p * x).sum() for x in (a, a**2, a * b)]
    error = np.std(sample, axis=0) / np.sqrt(len(sample) / 6)
    assert (abs(np.mean(sample, axis=0) - expected) < 4 * error).all()
    assert (error < 0.03).all()
    if move == "rotations":
        assert 0.2 < np.nanmean(dyn.acceptance["rotation"]) < 0.9


def test_clusters_of_two_spins_follow_the_langevin_function() -> None:
    """<e1.e2> of pairs with E = -J e1.e2, by clusters and hardly anything else."""
    n, x = 200, 1.7
    kT = units.kB * 300.0
    positions = 20.0 * np.arange(n)[:, None] * [1, 0, 0]
    pairs = np.concatenate([positions, positions + np.array([0, 0, 2.5])])
    atoms = Atoms(f"Fe{2 * n}", positions=pairs)
    rng = np.random.default_rng(0)
    spins = rng.normal(size=(2 * n, 3))
    set_spins(atoms, 2.0 * spins / np.linalg.norm(spins, axis=1, keepdims=True))
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.5, x * kT)])))
    dyn = MonteCarlo(
        atoms, temperature_K=300.0, clusters=200, adaptation_steps=0, rng=3
    )
    dyn.moves.widths[:] = 1e-4
    sample = []
    dyn.run(20)
    for _ in dyn.irun(200):
        e = dyn.state.system.spins.reshape(2, n, 3) / 2.0
        sample.append(float((e[0] * e[1]).sum(-1).mean()))
    expected = 1 / np.tanh(x) - 1 / x
    error = np.std(sample) / np.sqrt(len(sample) / 8)
    assert abs(np.mean(sample) - expected) < 4 * error
    assert error < 0.01
    lengths = dyn.state.system.spins.norm(dim=1)
    np.testing.assert_allclose(lengths, 2.0, rtol=1e-12)


@pytest.mark.parametrize(
    "potential",
    [
        Sum([Heisenberg(NEAR), Zeeman((0, 0, 1.0))]),
        Sum([Heisenberg(NEAR), DzyaloshinskiiMoriya(NEAR)]),
        Sum([Heisenberg(NEAR), UniaxialAnisotropy(1e-3, (0, 0, 1))]),
        Biquadratic(NEAR),
    ],
)
def test_clusters_where_they_do_not_hold(potential: Potential) -> None:
    atoms = iron()
    atoms.calc = DeepSpinCalculator(potential)
    with pytest.raises(ValueError, match="isotropic exchange alone"):
        MonteCarlo(atoms, temperature_K=1.0, clusters=1)
    atoms.calc = DeepSpinCalculator(Heisenberg(NEAR))
    with pytest.raises(ValueError, match="isotropic exchange alone"):
        MonteCarlo(atoms, temperature_K=1.0, clusters=1, external_field_T=(0, 0, 1))


@pytest.mark.parametrize("all_turn", [True, False])
def test_a_common_rotation_changes_what_is_not_isotropic(all_turn: bool) -> None:
    atoms = iron()
    terms = [Heisenberg(NEAR), UniaxialAnisotropy(1e-3, (0, 0, 1)), Zeeman((0, 9, 0))]
    atoms.calc = DeepSpinCalculator(Sum(terms))
    dyn = MonteCarlo(atoms, temperature_K=10.0, rng=0)
    dyn.run(1)
    energies, system = dyn.sampler, dyn.state.system
    assert isinstance(energies, BilinearEnergies)
    turned = system.spins.roll(1, dims=1)  # by 120 degrees about [111]
    if not all_turn:
        turned[0] = system.spins[0]
    field = torch.tensor([0.0, 0.0, 3e-4], dtype=torch.float64)
    found = energies.changes_by_rotation(system, turned, field, all_turn=all_turn)
    after = system.replace(spins=turned)
    moment = system.sum(turned - system.spins)
    expected = energies.total(after) - energies.total(system) - moment @ field
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert abs(float(found)) > 1e-3
