"""Monte Carlo against exact averages: spins, lattice, tempering and restart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLengths
from calculators import Foreign
from scipy.special import spherical_in
from scipy.stats import chisquare, kstest

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.constraints import FixSpins
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.dynamics.montecarlo._bilinear import BilinearEnergies
from deepspin_ase.dynamics.montecarlo._trial_energies import (
    LocalEnergies,
    TotalEnergies,
)
from deepspin_ase.neighbors import PairList
from deepspin_ase.potentials import (
    Committee,
    DeepSpinConfig,
    DeepSpinNetwork,
    DipoleDipole,
    Exponential,
    Harmonic,
    Heisenberg,
    Mixture,
    Potential,
    Shells,
    Sum,
    TimeReversal,
    UniaxialAnisotropy,
    Zeeman,
)
from deepspin_ase.potentials.materials import reference
from deepspin_ase.system import System
from deepspin_ase.units import MU_B

MOVES = ["cone", "uniform", "mixed"]
KT = 0.01
T = KT / units.kB
FS = units.fs


def random_spins(atoms: Atoms, *, length: float = 2.0, seed: int = 0) -> Atoms:
    spins = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    set_spins(atoms, length * spins / np.linalg.norm(spins, axis=1, keepdims=True))
    return atoms


def clusters(count: int, sites: list[list[float]], *, seed: int = 0) -> Atoms:
    """Return ``count`` copies of a cluster that are far from each other."""
    side = int(np.ceil(count ** (1 / 3)))
    corners = 20.0 * np.argwhere(np.ones((side,) * 3))[:count]
    positions = (corners[:, None] + np.array(sites)).reshape(-1, 3)
    return random_spins(Atoms(f"Fe{len(positions)}", positions), seed=seed)


def simple_cubic(size: int, J: float) -> Atoms:
    atoms = bulk("Fe", "sc", a=3.0) * (size, size, size)
    set_spins(atoms, np.tile([0.0, 0.0, 2.0], (len(atoms), 1)))
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(3.0, J)])))
    return atoms


def unit_vectors(dyn: MonteCarlo) -> np.ndarray:
    spins = dyn.state.system.spins.numpy()
    return spins / np.linalg.norm(spins, axis=1, keepdims=True)


def langevin(x: float | np.ndarray) -> float | np.ndarray:
    return 1.0 / np.tanh(x) - 1.0 / x


# Single spins


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("K", [5.0 * KT, -8.0 * KT])
def test_uniaxial_spins_follow_boltzmann(move: str, K: float) -> None:
    atoms = clusters(4000, [[0, 0, 0]])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(K, (0, 0, 1)))
    dyn = MonteCarlo(atoms, temperature_K=T, move=move, adaptation_steps=60, rng=1)
    dyn.run(150)
    z = unit_vectors(dyn)[:, 2]
    grid = np.linspace(-1.0, 1.0, 20001)
    weight = np.exp(K / KT * grid**2)
    cumulative = np.concatenate([[0], np.cumsum(weight[1:] + weight[:-1])])
    cumulative /= cumulative[-1]
    assert kstest(z, lambda x: np.interp(x, grid, cumulative)).pvalue > 0.003
    edges = np.interp(np.linspace(0, 1, 21), cumulative, grid)
    counts = np.histogram(z, edges)[0]
    assert chisquare(counts).pvalue > 0.003
    assert len(dyn.sampler.sets) == 1
    if move != "uniform":
        assert float(dyn.moves.widths) < 1.0


@pytest.mark.parametrize("move", MOVES)
def test_langevin_function_at_several_temperatures(move: str) -> None:
    atoms = clusters(1500, [[0, 0, 0]])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(0.0, (0, 0, 1)))
    temperatures = np.array([3.0, 10.0, 40.0])
    dyn = MonteCarlo(
        atoms,
        temperature_K=temperatures,
        move=move,
        adaptation_steps=60,
        external_field_T=(0.0, 0.0, 50.0),
        rng=2,
    )
    dyn.run(60)
    means = []
    for _ in dyn.irun(90):
        means.append(unit_vectors(dyn)[:, 2].reshape(3, -1).mean(1))
    x = 2.0 * MU_B * 50.0 / (units.kB * temperatures)
    exact = langevin(x)
    # As if only every 30th sweep were independent of those before it.
    error = np.sqrt((1.0 - exact**2 - 2.0 * exact / x) / (1500 * 3))
    assert (np.abs(np.mean(means, 0) - exact) < 3.0 * error).all()
    assert (error < 0.02 * exact).all()


def test_the_field_may_be_the_calculators_or_change_between_sweeps() -> None:
    atoms = clusters(3000, [[0, 0, 0]])
    atoms.calc = DeepSpinCalculator(Zeeman((0.0, 0.0, 5.0)))
    dyn = MonteCarlo(
        atoms,
        temperature_K=10.0,
        adaptation_steps=30,
        external_field_T=lambda t: (0.0, 0.0, -15.0 if t > 60.5 else 5.0),
        rng=3,
    )
    x = 2.0 * MU_B * 10.0 / (units.kB * 10.0)
    dyn.run(60)
    assert unit_vectors(dyn)[:, 2].mean() == pytest.approx(langevin(x), abs=0.02)
    dyn.run(60)
    assert unit_vectors(dyn)[:, 2].mean() == pytest.approx(-langevin(x), abs=0.02)


# Coupled spins

TRIMER = [[0, 0, 0], [2, 0, 0], [4, 0, 0]]
RING = [[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]


def ring_correlation(K: float, count: int) -> float:
    """Neighbours on a ring: d ln Z/dK / n, Z = sum (2l + 1) i_l(K)^n."""
    order = np.arange(30)
    value = spherical_in(order, K)
    slope = spherical_in(order, K, derivative=True)
    multiplicity = 2 * order + 1
    partition = (multiplicity * value**count).sum()
    return (multiplicity * value ** (count - 1) * slope).sum() / partition


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("simultaneous", [None, False])
def test_clusters_of_spins(move: str, simultaneous: bool | None) -> None:
    """Open trimer and ring of four, together; also one site per call."""
    count = 600 if simultaneous is None else 2
    replicas = 1 if simultaneous is None else 100
    trimers = clusters(count, TRIMER)
    rings = clusters(count, RING, seed=1)
    rings.positions[:, 0] += 500.0
    atoms = trimers + rings
    K = 3.5
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.0, K * KT)])))
    dyn = MonteCarlo(
        atoms,
        temperature_K=[T] * replicas,
        move=move,
        adaptation_steps=40,
        simultaneous=simultaneous,
        rng=4,
    )
    dyn.run(40)
    near, far, ring = [], [], []
    for step, _ in enumerate(dyn.irun(80)):
        if step % 4 == 0:
            e = unit_vectors(dyn).reshape(replicas, -1, 3)
            chain = e[:, : 3 * count].reshape(-1, 3, 3)
            near.append(((chain[:, 0] + chain[:, 2]) * chain[:, 1]).sum(1) / 2)
            far.append((chain[:, 0] * chain[:, 2]).sum(1))
            loop = e[:, 3 * count :].reshape(-1, 4, 3)
            ring.append((loop * np.roll(loop, 1, axis=1)).sum(2).mean(1))
    for samples, exact in (
        (near, langevin(K)),
        (far, langevin(K) ** 2),
        (ring, ring_correlation(K, 4)),
    ):
        # Clusters are independent: their means over time tell the error.
        means = np.mean(samples, axis=0)
        assert means.mean() == pytest.approx(
            exact, abs=3.0 * means.std() / np.sqrt(len(means))
        )


def heat_bath_energy(size: int, K: float, *, copies: int, sweeps: int) -> np.ndarray:
    """Return energies per spin, (copies,), E/J, by heat bath on a checkerboard.

    An implementation of its own: every spin is drawn from its exact conditional
    distribution.
    """
    rng = np.random.default_rng(5)
    e = np.zeros((copies, size, size, size, 3))
    e[..., 2] = 1.0
    black = np.indices((size,) * 3).sum(0) % 2 == 0
    total = np.zeros(copies)

    def field() -> np.ndarray:
        return sum(np.roll(e, s, axis=a) for s in (1, -1) for a in (1, 2, 3))

    for sweep in range(sweeps):
        for colour in (black, ~black):
            h = field()[:, colour]
            strength = np.linalg.norm(h, axis=-1, keepdims=True)
            n, kappa = h / strength, K * strength
            u = rng.random(kappa.shape)
            c = 1.0 + np.log(u + (1.0 - u) * np.exp(-2.0 * kappa)) / kappa
            side = rng.normal(size=h.shape)
            side -= (side * n).sum(-1, keepdims=True) * n
            side /= np.linalg.norm(side, axis=-1, keepdims=True)
            e[:, colour] = c * n + np.sqrt(np.clip(1.0 - c**2, 0.0, None)) * side
        if sweep >= sweeps // 4:
            total -= 0.5 * (e * field()).sum(-1).mean((1, 2, 3))
    return total / (sweeps - sweeps // 4)


@pytest.mark.parametrize(
    "sweeps", [100, pytest.param(2000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_all_kinds_of_sweeps_agree_with_heat_bath(sweeps: int) -> None:
    J, size, copies = KT, 4, 10
    expected = heat_bath_energy(size, 1.0, copies=copies, sweeps=2 * sweeps)
    for simultaneous, kind, options in (
        (None, BilinearEnergies, {}),
        (None, BilinearEnergies, {"overrelaxation": 2}),
        (None, BilinearEnergies, {"clusters": 3}),
        (True, LocalEnergies, {}),
        (False, TotalEnergies, {}),
    ):
        dyn = MonteCarlo(
            simple_cubic(size, J),
            temperature_K=[T] * copies,
            simultaneous=simultaneous,
            adaptation_steps=sweeps // 4,
            **options,
            rng=6,
        )
        assert isinstance(dyn.sampler, kind)
        steps = sweeps // 2 if simultaneous is False else sweeps
        dyn.run(steps // 4)
        energy = np.zeros(copies)
        for _ in dyn.irun(steps):
            energy += dyn.spin_energies().numpy() / (size**3 * J * (steps + 1))
        error = np.hypot(energy.std(), expected.std()) / np.sqrt(copies - 1)
        assert abs(energy.mean() - expected.mean()) < 3.0 * error
        assert error < 0.03


@pytest.mark.slow
def test_energy_of_the_simple_cubic_lattice_at_high_temperature() -> None:
    """To third order in K, <e_i.e_j> = L(K) + 4 L(K)^3: four loops at every bond."""
    K = 0.3
    dyn = MonteCarlo(
        simple_cubic(8, K * KT),
        temperature_K=[T] * 8,
        move="uniform",
        adaptation_steps=0,
        rng=7,
    )
    dyn.run(20)
    found = []
    for _ in dyn.irun(300):
        found.append(
            -float(dyn.spin_energies().sum())
            / (3.0 * K * KT * len(dyn.state.system.spins))
        )
    assert np.mean(found) == pytest.approx(
        langevin(K) + 4.0 * langevin(K) ** 3, abs=1.2e-3
    )


# Which spins are tried together


def network(*, seed: int = 0) -> DeepSpinNetwork:
    config = DeepSpinConfig.from_dict(
        {
            "type_map": ["Fe", "Ni", "O"],
            "spin": {"use_spin": [True, True, False], "virtual_scale": 0.35},
            "descriptor": {
                "rcut": 2.6,
                "rcut_smth": 1.0,
                "sel": [12, 12, 8],
                "neuron": [4, 8],
                "axis_neuron": 3,
            },
            "fitting_net": {"neuron": [8, 8]},
        }
    )
    net = DeepSpinNetwork(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise)
    return net


def oxide() -> Atoms:
    atoms = bulk("NiO", "rocksalt", a=4.3, cubic=True) * (4, 2, 2)
    atoms.rattle(0.05, seed=1)
    random_spins(atoms)
    spins = atoms.arrays["initial_magmoms"]
    spins[atoms.numbers == 8] = 0.0
    set_spins(atoms, spins)
    return atoms


@pytest.mark.parametrize(
    "potential",
    [
        network(),
        Committee([network(), network(seed=1)]),
        TimeReversal(network()),
        Sum([reference.nio(), Zeeman((0.0, 3.0, 0.0))]),
    ],
    ids=["network", "committee", "time-reversal", "rigid ions and exchange"],
)
def test_energies_stay_those_of_the_state(potential: Potential) -> None:
    """After sweeps, the sum of accepted changes is the change of the energy.

    It would not be, were two spins tried together that one atom sees both of.
    """
    atoms = oxide()
    if not isinstance(potential, Sum):
        atoms.set_constraint(FixSpins([0]))
    atoms.calc = DeepSpinCalculator(potential)
    dyn = MonteCarlo(atoms, temperature_K=[300.0, 3000.0], simultaneous=True, rng=8)
    assert isinstance(dyn.sampler, LocalEnergies)
    before = dyn.evaluate(dyn.state.system, forces=False).energy
    dyn.run(1)
    trials, start = dyn.sampler.sets, dyn.sampler.values
    dyn.run(4)
    after = dyn.evaluate(dyn.state.system, forces=False).energy
    system = dyn.state.system
    dyn.sampler.reset()
    dyn.sampler.prepare(system, dyn.free)
    again = dyn.sampler.values
    dyn.run(3)
    assert (after - before).abs().min() > 1e-4
    assert torch.equal(
        torch.cat([t.sites for t in trials]).sort().values,
        dyn.free.nonzero().flatten(),
    )
    assert len(again) == len(start) == 2 * len(atoms)
    if isinstance(potential, DeepSpinNetwork):
        # Several spins at once, and not all atoms are evaluated for them.
        assert len(trials) < dyn.free.sum() / 2
    total = dyn.evaluate(dyn.state.system, forces=False).energy
    kept = system.sum(dyn.sampler.values) - system.sum(again)
    np.testing.assert_allclose(kept, total - after, atol=1e-9)
    np.testing.assert_array_equal(
        dyn.images[0].arrays["initial_magmoms"][atoms.numbers == 8], 0.0
    )


def test_dipoles_are_tried_one_by_one() -> None:
    atoms = random_spins(bulk("Fe", "sc", a=3.0) * (2, 2, 1))
    atoms.calc = DeepSpinCalculator(
        Sum([DipoleDipole(cutoff=6.0), Heisenberg(Shells([(3.0, KT)]))])
    )
    dyn = MonteCarlo(atoms, temperature_K=[T, T], rng=9)
    assert isinstance(dyn.sampler, TotalEnergies)
    dyn.run(1)
    calls = dyn.engine.n_calls
    dyn.run(10)
    assert dyn.engine.n_calls - calls == 10 * 4
    total = dyn.evaluate(dyn.state.system, forces=False).energy
    np.testing.assert_allclose(dyn.sampler.values, total, atol=1e-12)
    with pytest.raises(ValueError, match="dipole sums"):
        MonteCarlo(atoms, temperature_K=T, simultaneous=True)


def test_any_calculator_gives_the_same_chain() -> None:
    potential = Heisenberg(Shells([(2.0, KT)]))
    chains = []
    for calculator in (DeepSpinCalculator(potential), Foreign(potential)):
        atoms = clusters(1, RING)
        atoms.calc = calculator
        dyn = MonteCarlo(atoms, temperature_K=T, simultaneous=False, rng=10)
        dyn.run(10)
        chains.append(unit_vectors(dyn))
    np.testing.assert_allclose(chains[0], chains[1], atol=1e-12)
    atoms.calc = Foreign(potential)
    with pytest.raises(ValueError, match="calculators"):
        MonteCarlo(atoms, temperature_K=T, simultaneous=True)


class Own(Potential):
    """Somebody's own potential: local, but who knows."""

    @property
    def cutoff(self) -> float:
        return 2.5

    def forward(self, system: System, pairs: PairList) -> torch.Tensor:
        return Heisenberg(Shells([(2.0, KT)]))(system, pairs)


def test_potentials_from_elsewhere_are_local_if_one_says_so() -> None:
    atoms = clusters(20, RING)
    atoms.calc = DeepSpinCalculator(Own())
    assert isinstance(MonteCarlo(atoms, temperature_K=T).sampler, TotalEnergies)
    dyn = MonteCarlo(atoms, temperature_K=T, simultaneous=True, rng=11)
    assert isinstance(dyn.sampler, LocalEnergies)
    dyn.run(5)
    total = dyn.evaluate(dyn.state.system, forces=False).energy
    assert float(dyn.spin_energies().sum()) == pytest.approx(float(total))


# Moves


def test_cones_adapt_to_one_half_and_stay() -> None:
    dyn = MonteCarlo(
        simple_cubic(4, KT),
        temperature_K=[0.02 * T, 0.3 * T, 1.0 * T],
        adaptation_steps=300,
        rng=12,
    )
    dyn.run(300)
    widths = dyn.moves.widths.clone()
    dyn.run(100)
    assert torch.equal(widths, dyn.moves.widths)
    assert (widths.diff() > 0).all()
    assert dyn.moves.counts["cone"].tried.tolist() == [6400.0] * 3
    np.testing.assert_allclose(dyn.acceptance["cone"], 0.5, atol=0.05)
    dyn.set_temperature([1.0 * T] * 3)
    dyn.run(300)
    np.testing.assert_allclose(dyn.moves.widths, widths[2], rtol=0.3)
    assert set(dyn.log_columns()) == {"accepted_cone"}


def test_lengths_fixed_spins_and_atoms_are_kept() -> None:
    atoms = clusters(1, RING)
    lengths = np.array([1.0, 2.0, 0.0, 7.0])
    set_spins(atoms, lengths[:, None] * unit(atoms))
    atoms.set_constraint(FixSpins([1]))
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(2.0, KT)])))
    before = atoms.copy()
    MonteCarlo(atoms, temperature_K=T, move="mixed", rng=13).run(200)
    spins = atoms.arrays["initial_magmoms"]
    np.testing.assert_allclose(np.linalg.norm(spins, axis=1), lengths, atol=1e-13)
    np.testing.assert_array_equal(spins[1], before.arrays["initial_magmoms"][1])
    np.testing.assert_array_equal(atoms.positions, before.positions)
    assert np.abs(spins[0] - before.arrays["initial_magmoms"][0]).max() > 0.1


def unit(atoms: Atoms) -> np.ndarray:
    spins = atoms.arrays["initial_magmoms"]
    return spins / np.linalg.norm(spins, axis=1, keepdims=True)


def test_zero_temperature_never_climbs() -> None:
    atoms = random_spins(simple_cubic(4, KT))
    dyn = MonteCarlo(atoms, temperature_K=0.0, rng=14)
    dyn.run(1)
    energies = []
    for _ in dyn.irun(50):
        energies.append(float(dyn.spin_energies().sum()))
    assert (np.diff(energies) <= 1e-12).all()
    assert energies[-1] < 0.7 * -3.0 * KT * 64


# Moves of the lattice


class Tethers(Potential):
    """Every atom on a spring of its own, (k/2) |R - R_0|^2; exactly harmonic."""

    uses_spins = False

    def __init__(self, k: float, sites: list[list[float]]) -> None:
        super().__init__()
        self.k, self.sites = k, sites

    def forward(self, system: System, pairs: PairList) -> torch.Tensor:
        sites = system.positions.new_tensor(self.sites).repeat(system.n_systems, 1)
        return 0.5 * self.k * (system.positions - sites).square().sum(1)


@pytest.mark.parametrize("timestep", [2.0, 15.0, 24.0])
def test_equipartition_holds_at_any_time_step(timestep: float) -> None:
    """Its limit of stability is 2 sqrt(M/k) = 34 fs.

    Velocity Verlet alone would give <u^2> = kT/k/(1 - k dt^2/4M), twice too much at
    24 fs.
    """
    k, replicas, free = 2.0, 60, 12
    sites = [[0.0, 0.0, 5.0 * n] for n in range(free + 1)]
    atoms = random_spins(Atoms(f"Fe{free + 1}", sites))
    atoms.set_constraint(FixAtoms([free]))
    potential = Sum([Tethers(k, sites), UniaxialAnisotropy(0.0, (0, 0, 1))])
    atoms.calc = DeepSpinCalculator(potential)
    dyn = MonteCarlo(
        atoms,
        temperature_K=[T] * replicas,
        lattice_steps=6,
        lattice_timestep=timestep * FS,
        rng=100 + int(timestep),
    )
    dyn.run(120)
    squares, kinetic = [], []
    for _ in dyn.irun(60):
        moved = dyn.state.system.positions.numpy().reshape(replicas, -1, 3) - sites
        squares.append((moved**2).mean(2))
        momenta = dyn.state.momenta.numpy().reshape(replicas, -1)
        kinetic.append((momenta**2).sum(1) / (2.0 * atoms.get_masses()[0]))
    found = np.mean(squares, axis=0)
    assert (found[:, free] == 0.0).all()
    for values, exact in (
        (found[:, :free].mean(1), KT / k),
        (np.mean(kinetic, axis=0), 1.5 * free * KT),
    ):
        error = values.std() / np.sqrt(replicas)
        assert values.mean() == pytest.approx(exact, abs=3.0 * error)
        assert error < 0.03 * exact
    rate = dyn.acceptance["lattice"].mean()
    assert rate > 0.999 if timestep < 5 else 0.9 < rate < 0.98


def test_dimers_of_atoms_and_spins_against_quadrature() -> None:
    """p(r) = r^2 exp(-V/kT) sinh(J/kT)/(J/kT): what joint moves must sample."""
    k, r0, replicas, dimers = 3.0, 2.0, 60, 8
    atoms = clusters(dimers, [[0, 0, 0], [0, 0, r0]])
    exchange = Mixture([(2.0 * KT, Exponential(0.4, r0, 6.0))])
    atoms.calc = DeepSpinCalculator(
        Sum([Harmonic(k, r0, cutoff=6.0), Heisenberg(exchange)])
    )
    dyn = MonteCarlo(
        atoms,
        temperature_K=[T] * replicas,
        adaptation_steps=40,
        lattice_steps=6,
        lattice_timestep=4.0 * FS,
        zero_momentum=True,
        rng=16,
    )
    centre = atoms.get_center_of_mass()
    dyn.run(60)
    lengths, alignments = [], []
    for _ in dyn.irun(100):
        positions = dyn.state.system.positions.numpy().reshape(replicas, -1, 2, 3)
        e = unit_vectors(dyn).reshape(replicas, -1, 2, 3)
        distance = np.linalg.norm(positions[:, :, 1] - positions[:, :, 0], axis=2)
        lengths.append(distance.mean(1))
        alignments.append((e[:, :, 0] * e[:, :, 1]).sum(2).mean(1))
    centres = positions.mean((1, 2))
    np.testing.assert_allclose(centres, [centre] * replicas, atol=1e-9)
    r = np.linspace(1.2, 2.8, 4001)
    K = 2.0 * np.exp((r0 - r) / 0.4)
    bare = r**2 * np.exp(-k * (r - r0) ** 2 / (2.0 * KT))
    weight = bare * np.sinh(K) / K
    for samples, exact in (
        (lengths, (weight * r).sum() / weight.sum()),
        (alignments, (weight * langevin(K)).sum() / weight.sum()),
    ):
        means = np.mean(samples, axis=0)
        error = means.std() / np.sqrt(replicas)
        assert means.mean() == pytest.approx(exact, abs=3.0 * error)
    # Without the spins' pull the mean length would be another one.
    pull = (bare * r).sum() / bare.sum() - (weight * r).sum() / weight.sum()
    assert pull > 10.0 * np.mean(lengths, axis=0).std() / np.sqrt(replicas)


# Tempering


def double_well(temperatures: np.ndarray, K: float, h: float) -> np.ndarray:
    """Return the mean and variance of z for E = -K z^2 - h z, each (B,)."""
    z = np.linspace(-1.0, 1.0, 20001)
    exponent = (K * z**2 + h * z) / (units.kB * temperatures[:, None])
    weight = np.exp(exponent - exponent.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    return np.stack([weight @ z, weight @ z**2])


def test_swaps_leave_exact_samples_exact() -> None:
    """Energies drawn anew every round, p(E) = E^2 exp(-E/kT), at 8 temperatures."""
    atoms = Atoms("Fe", magmoms=[[0.0, 0.0, 2.0]])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(KT, (0, 0, 1)))
    temperatures = np.array([1.0, 2.5, 0.7, 6.0, 1.6, 4.0, 0.4, 10.0]) * T
    dyn = MonteCarlo(atoms, temperature_K=temperatures, exchange_interval=1, rng=22)
    kT = torch.from_numpy(units.kB * temperatures)
    rng = np.random.default_rng(22)
    rounds = 4000
    drawn = torch.from_numpy(rng.gamma(3.0, kT.numpy(), size=(rounds, 8)))
    kept = torch.stack(
        [e[dyn.exchange.permutation(e, kT, dyn.generator)] for e in drawn]
    )
    assert kept.ne(drawn).double().mean() > 0.2
    score = (kept.mean(0) / (3.0 * kT) - 1.0) * np.sqrt(3.0 * rounds)
    assert score.abs().max() < 3.0
    score = (kept.square().mean(0) / (12.0 * kT**2) - 1.0) * np.sqrt(0.4 * rounds)
    assert score.abs().max() < 3.0
    assert sorted(dyn.exchange.walkers.tolist()) == list(range(8))


@pytest.mark.parametrize("interval", [1, 3])
def test_swaps_keep_the_distribution_of_every_temperature(interval: int) -> None:
    """A spin in a double well with a field, 64 temperatures, uniform moves."""
    K, h = 1.5 * KT, 0.3 * KT
    temperatures = np.random.default_rng(17).permutation(np.geomspace(0.2, 3, 64)) * T
    atoms = clusters(1, [[0, 0, 0]])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(K, (0, 0, 1)))
    dyn = MonteCarlo(
        atoms,
        temperature_K=temperatures,
        move="uniform",
        external_field_T=(0.0, 0.0, h / (2.0 * MU_B)),
        exchange_interval=interval,
        rng=17,
    )
    dyn.run(120)
    z = np.array([unit_vectors(dyn)[:, 2] for _ in dyn.irun(1800)])
    exact = double_well(temperatures, K, h)
    for found, expected in zip((z, z**2), exact, strict=True):
        blocks = found[1:].reshape(18, 100, -1).mean(1)
        error = blocks.std(0) / np.sqrt(17)
        score = (blocks.mean(0) - expected) / error
        # 64 numbers of unit variance, correlated between neighbours.
        assert np.mean(score**2) < 2.5
        assert np.abs(score).max() < 6.0
    assert (dyn.acceptance["exchange"] > 0.5).all()
    assert sorted(dyn.exchange.walkers.tolist()) == list(range(64))
    assert dyn.exchange.pairs.tried.sum() == (1920 // interval) * 63 // 2


def test_tempering_crosses_barriers_that_sweeps_do_not() -> None:
    """All spins start in the wrong well, 15 kT deep; cones alone stay there."""
    K, h, ladders = 15.0 * KT, 1.0 * KT, 4
    steps = np.repeat(np.geomspace(1.0, 10.0, 8), ladders) * T
    atoms = Atoms("Fe", magmoms=[[0.0, 0.0, -2.0]])
    atoms.calc = DeepSpinCalculator(UniaxialAnisotropy(K, (0, 0, 1)))
    means = []
    for interval in (1, 0):
        dyn = MonteCarlo(
            atoms,
            temperature_K=steps,
            adaptation_steps=200,
            external_field_T=(0.0, 0.0, h / (2.0 * MU_B)),
            exchange_interval=interval,
            rng=18,
        )
        dyn.run(500)
        z = [unit_vectors(dyn)[:ladders, 2] for _ in dyn.irun(1500)]
        means.append(np.mean(z))
    exact = double_well(np.array([T]), K, h)[0, 0]
    assert means[0] == pytest.approx(exact, abs=0.2)
    assert means[1] < -0.9


def test_swaps_take_spins_and_positions_along_and_leave_momenta() -> None:
    atoms = bulk("Fe", cubic=True, a=2.8665)
    atoms.calc = DeepSpinCalculator(reference.fe(exchange="bethe-slater"))
    images = [random_spins(atoms.copy(), seed=k) for k in range(5)]
    for k, image in enumerate(images):
        image.rattle(0.05, seed=k)
        image.calc = atoms.calc
    dyn = MonteCarlo(
        images,
        temperature_K=np.array([1.0, 1.2, 1.4, 1.1, 1.3]) * 10 * T,
        exchange_interval=1,
        lattice_steps=2,
        lattice_timestep=FS,
        simultaneous=True,
        rng=23,
    )
    dyn.run(1)
    before, walkers = dyn.state, dyn.exchange.walkers
    dyn.sampler.prepare(before.system, dyn.free)
    for _ in range(4):
        dyn.exchange_replicas()
    after, now = dyn.state, dyn.exchange.walkers.tolist()
    source = [walkers.tolist().index(walker) for walker in now]
    assert source != list(range(5))
    for name in ("positions", "spins"):
        a, b = (getattr(s.system, name).reshape(5, -1) for s in (before, after))
        assert torch.equal(a[source], b)
    assert torch.equal(before.momenta, after.momenta)
    found = after.system.sum(dyn.sampler.values)
    dyn.sampler.prepare(after.system, dyn.free)
    assert torch.allclose(after.system.sum(dyn.sampler.values), found)


def test_tempering_with_moves_of_the_lattice() -> None:
    """Swaps take the positions along: <u^2> = kT/k at every temperature."""
    k, copies = 2.0, 16
    sites = [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    atoms = random_spins(Atoms("Fe2", sites))
    atoms.calc = DeepSpinCalculator(
        Sum([Tethers(k, sites), Heisenberg(Shells([(3.0, KT)], 1.0))])
    )
    levels = np.array([1.0, 1.5, 2.25])
    dyn = MonteCarlo(
        atoms,
        temperature_K=np.repeat(levels, copies) * T,
        adaptation_steps=20,
        lattice_steps=5,
        lattice_timestep=10.0 * FS,
        exchange_interval=1,
        rng=19,
    )
    dyn.run(30)
    found = []
    for _ in dyn.irun(150):
        moved = dyn.state.system.positions.numpy().reshape(-1, 2, 3) - sites
        found.append((moved**2).mean((1, 2)).reshape(3, -1).mean(1))
    found = np.array(found[1:]).reshape(10, 15, 3).mean(1)
    error = found.std(0) / np.sqrt(9)
    assert (np.abs(found.mean(0) - levels * KT / k) < 4.0 * error).all()
    assert 0.05 < dyn.acceptance["exchange"][copies - 1] < 0.95


# Restart and files


@pytest.mark.parametrize("lattice", [False, True])
def test_restart_continues_bit_for_bit(tmp_path, lattice: bool) -> None:
    def start(atoms: Atoms, **more) -> MonteCarlo:
        if lattice:
            more |= {"lattice_steps": 3, "lattice_timestep": 2.0 * FS}
        return MonteCarlo(
            atoms,
            temperature_K=[0.5 * T, 0.7 * T, 1.0 * T],
            move="mixed",
            adaptation_steps=12,
            exchange_interval=2,
            external_field_T=(0.0, 0.0, 20.0),
            rng=20,
            **more,
        )

    def atoms() -> Atoms:
        made = bulk("Fe", cubic=True, a=2.8665) * (2, 2, 1)
        made.rattle(0.02, seed=3)
        random_spins(made)
        made.calc = DeepSpinCalculator(reference.fe(exchange="bethe-slater"))
        return made

    whole = start(atoms(), logfile=tmp_path / "whole.log")
    whole.run(20)
    first = start(atoms(), logfile=tmp_path / "half.log")
    first.run(9)
    first.save(tmp_path / "run.ckpt")
    known = first.sampler.values
    first.run(2)  # lost
    second = MonteCarlo.restore(tmp_path / "run.ckpt", append_trajectory=True)
    if not lattice:
        assert torch.equal(known, second.sampler.values)
    second.run(11)
    for name in ("positions", "spins"):
        a, b = (getattr(d.state.system, name) for d in (whole, second))
        assert torch.equal(a, b)
    assert torch.equal(whole.state.momenta, second.state.momenta)
    assert torch.equal(whole.moves.widths, second.moves.widths)
    assert torch.equal(whole.exchange.walkers, second.exchange.walkers)
    for kind, rate in whole.acceptance.items():
        np.testing.assert_array_equal(rate, second.acceptance[kind])
    texts = [(tmp_path / f"{n}.log").read_text() for n in ("whole", "half")]
    assert texts[0] == texts[1]
    assert "accepted_cone" in texts[0].splitlines()[0]


def test_an_observer_may_change_the_state() -> None:
    atoms = simple_cubic(3, KT)
    dyn = MonteCarlo(atoms, temperature_K=0.1 * T, rng=21)

    def reverse() -> None:
        set_spins(atoms, -atoms.arrays["initial_magmoms"])

    dyn.attach(reverse, -5)
    dyn.run(10)
    assert atoms.arrays["initial_magmoms"][:, 2].mean() < -1.5
    total = dyn.evaluate(dyn.state.system, forces=False).energy
    assert float(dyn.spin_energies().sum()) == pytest.approx(float(total))


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature_K": -1.0}, "temperature_K must be finite and >= 0"),
        ({"move": "flip"}, "move must be one of cone"),
        ({"adaptation_steps": -1}, "adaptation_steps must be a whole number >= 0"),
        ({"lattice_steps": 3}, "needs lattice_timestep"),
        ({"lattice_timestep": 1.0}, "needs lattice_steps"),
        ({"lattice_steps": 3, "lattice_timestep": 0.0}, "must be finite and > 0"),
        ({"exchange_interval": 1}, "needs several replicas"),
        ({"exchange_interval": 1, "temperature_K": [0.0, 1.0]}, "above zero"),
    ],
)
def test_bad_arguments(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MonteCarlo(simple_cubic(2, KT), **({"temperature_K": T} | changes))


def test_bad_structures() -> None:
    with pytest.raises(TypeError, match="whole number"):
        MonteCarlo(simple_cubic(2, KT), temperature_K=T, lattice_steps=1.5)
    atoms = simple_cubic(2, KT)
    set_spins(atoms, np.zeros((8, 3)))
    with pytest.raises(ValueError, match="all moments are zero"):
        MonteCarlo(atoms, temperature_K=T)
    atoms = simple_cubic(2, KT)
    atoms.set_constraint(FixSpins(range(8)))
    with pytest.raises(ValueError, match="no moment is free"):
        MonteCarlo(atoms, temperature_K=T)
    atoms.set_constraint(FixBondLengths([[0, 1]]))
    with pytest.raises(ValueError, match="FixBondLengths"):
        MonteCarlo(atoms, temperature_K=T, lattice_steps=1, lattice_timestep=FS)
    images = [simple_cubic(2, KT), simple_cubic(2, KT)]
    images[1].positions[0, 0] += 0.1
    with pytest.raises(ValueError, match="copies of one structure"):
        MonteCarlo(images, temperature_K=[T, 2 * T], exchange_interval=1)
