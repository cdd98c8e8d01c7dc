"""Replicas in fields of their own, and their exchange, against exact averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.dynamics import MonteCarlo, SpinDynamics
from deepspin_ase.dynamics.montecarlo import ReplicaExchange
from deepspin_ase.potentials import Heisenberg, Shells
from deepspin_ase.units import MU_B

KT = 0.01
T = KT / units.kB
M = 2.0

#: Temperatures and fields of a grid, and of points that share neither.
GRID = np.array([(t, h) for t in (0.7, 1.0, 1.5) for h in (-0.5, 0.5, 1.5)])
DIAGONAL = np.array([(0.7, -0.5), (1.5, 1.5), (1.0, 0.5)])


def langevin(x: np.ndarray) -> np.ndarray:
    return 1.0 / np.tanh(x) - 1.0 / x


@pytest.mark.parametrize(("points", "pairs"), [(GRID, 12), (DIAGONAL, 2)])
def test_swaps_leave_exact_samples_exact(points: np.ndarray, pairs: int) -> None:
    """Free moments drawn anew every round, with energies of a system apart.

    p(E) = E^2 exp(-E/kT), and Langevin's distribution along a field (1, 2, 2)/3.
    """
    rounds, rng = 6000, np.random.default_rng(2)
    direction = np.array([1.0, 2.0, 2.0]) / 3.0
    kT, h = KT * points[:, 0], KT * points[:, 1] / M
    x = M * h / kT
    exchange = ReplicaExchange(
        points[:, 0], torch.device("cpu"), h[:, None] * direction
    )
    assert exchange.neighbors.shape == (pairs, 2)
    apart = rng.gamma(3.0, kT, size=(rounds, len(points)))
    uniform = rng.random((rounds, len(points)))
    z = M * np.log(np.exp(-x) + uniform * (np.exp(x) - np.exp(-x))) / x
    angle = rng.uniform(0.0, 2.0 * np.pi, z.shape)
    side = np.array([[2.0, -2.0, 1.0], [2.0, 1.0, -2.0]]) / 3.0
    across = np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ side
    m = z[..., None] * direction + np.sqrt(M**2 - z**2)[..., None] * across
    generator = torch.Generator().manual_seed(3)
    kept = []
    for e, moments in zip(apart, m, strict=True):
        energy = e - h * (moments @ direction)
        order = exchange.permutation(
            *map(torch.from_numpy, (energy, kT)), generator, torch.from_numpy(moments)
        ).numpy()
        kept.append((e[order], moments[order] @ direction))
    assert (exchange.pairs.rate > 0.2).all()
    assert (exchange.pairs.rate < 0.99).all()
    energies, along = np.moveaxis(np.array(kept), 1, 0)
    score = (energies.mean(0) / (3.0 * kT) - 1.0) * np.sqrt(3.0 * rounds)
    assert abs(score).max() < 3.5
    spread = np.sqrt(1.0 / x**2 - 1.0 / np.sinh(x) ** 2)
    score = (along.mean(0) / M - langevin(x)) / spread * np.sqrt(rounds)
    assert abs(score).max() < 3.5
    # Energy and moment of one point are independent.
    both = ((energies - 3.0 * kT) * (along / M - langevin(x))).mean(0)
    assert abs(both / (np.sqrt(3.0) * kT * spread) * np.sqrt(rounds)).max() < 3.5


def two_spins(kT: float, J: float, h: float) -> tuple[float, float]:
    """Return <e1.e2> and <z1 + z2> for E = -J e1.e2 - h (z1 + z2).

    The sum of two free unit vectors has the length S with the density S/2.
    """
    S = np.linspace(1e-6, 2.0, 20001)
    x = h * S / kT
    weight = S * np.exp(J * S**2 / (2.0 * kT)) * np.sinh(x) / x
    weight /= weight.sum()
    return weight @ (S**2 / 2.0 - 1.0), weight @ (S * langevin(x))


@pytest.mark.parametrize("interval", [0, 1])
def test_coupled_moments_in_fields_of_their_own(interval: int) -> None:
    J, copies = -0.8 * KT, 4
    sites = [[20.0 * k, x, 0.0] for k in range(copies) for x in (0.0, 3.0)]
    atoms = Atoms(f"Fe{2 * copies}", sites)
    set_spins(atoms, {"Fe": M})
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(3.0, J)])))
    h = KT * GRID[:, 1]
    fields = np.outer(h / (M * MU_B), (0.0, 0.0, 1.0))
    dyn = MonteCarlo(
        atoms,
        temperature_K=GRID[:, 0] * T,
        external_field_T=fields,
        move="uniform",
        exchange_interval=interval,
        overrelaxation=1,
        rotations=1,
        rng=5,
    )
    dyn.run(50)
    found = []
    for _ in dyn.irun(2000):
        e = dyn.state.system.spins.numpy().reshape(9, copies, 2, 3) / M
        pair = (e[:, :, 0] * e[:, :, 1]).sum(-1)
        found.append((pair.mean(1), e[..., 2].sum(-1).mean(1)))
    blocks = np.array(found[1:]).reshape(20, 100, 2, 9).mean(1)
    error = blocks.std(0) / np.sqrt(19)
    exact = np.array([two_spins(KT * t, J, KT * x) for t, x in GRID]).T
    assert (error < 0.03).all()
    score = (blocks.mean(0) - exact) / error
    assert abs(score).max() < 4.5
    assert np.mean(score**2) < 2.5
    if interval:
        assert sorted(dyn.exchange.walkers.tolist()) == list(range(9))
        assert (dyn.acceptance["exchange"] > 0.05).all()


def test_replicas_in_fields_go_on_bit_for_bit(tmp_path: Path) -> None:
    def start() -> MonteCarlo:
        atoms = Atoms("Fe", cell=[3.0] * 3, pbc=True).repeat(2)
        set_spins(atoms, {"Fe": M})
        atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(3.0, KT)])))
        return MonteCarlo(
            atoms,
            temperature_K=[T, T, 2 * T, 2 * T],
            external_field_T=[(0, 0, 0), (0, 0, 30), (0, 0, 0), (0, 0, 30)],
            exchange_interval=2,
            rng=6,
        )

    whole, first = start(), start()
    whole.run(20)
    first.run(10)
    first.save(tmp_path / "run.ckpt")
    second = MonteCarlo.restore(tmp_path / "run.ckpt")
    second.run(10)
    assert torch.equal(whole.state.system.spins, second.state.system.spins)
    assert torch.equal(whole.exchange.walkers, second.exchange.walkers)


def test_moments_precess_in_the_field_of_their_replica() -> None:
    atoms = Atoms("Fe", magmoms=[[M, 0.0, 0.0]])
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(3.0, KT)])))
    fields = np.outer([5.0, 10.0, -10.0], (0.0, 0.0, 1.0))
    dyn = SpinDynamics(atoms, units.fs, external_field_T=fields)
    dyn.run(100)
    x, y, _ = dyn.state.system.spins.numpy().T
    turned = np.arctan2(y, x)
    np.testing.assert_allclose(turned / turned[0], [1.0, 2.0, -2.0], rtol=1e-6)


def test_fields_that_do_not_fit() -> None:
    atoms = Atoms("Fe", magmoms=[[M, 0.0, 0.0]])
    atoms.calc = DeepSpinCalculator(Heisenberg(Shells([(3.0, KT)])))
    with pytest.raises(ValueError, match="numbers of replicas differ"):
        MonteCarlo(
            atoms, temperature_K=[T, T], external_field_T=np.zeros((3, 3)), rng=0
        )
    with pytest.raises(ValueError, match="these for each of the 2 replicas"):
        MonteCarlo(atoms, temperature_K=T, external_field_T=np.zeros((2, 4)), rng=0)
