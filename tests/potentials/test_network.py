"""The pseudo-atom network: derivatives, symmetries, batches, files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from networks import QUANTITIES, VARIANTS, awake, config, for_model, model, structure
from scipy.spatial.transform import Rotation
from torch import Tensor

from deepspin_ase import quantities
from deepspin_ase.neighbors import NeighborList, build_pairs
from deepspin_ase.potentials import (
    Committee,
    CubicCut,
    DeepSpinNetwork,
    Heisenberg,
    Potential,
    Prediction,
    Sum,
    TimeReversal,
    Zeeman,
    choose_backend,
    load_card,
    load_potential,
    save_potential,
    symmetry_violations,
)
from deepspin_ase.potentials.networks import _deepspin as network
from deepspin_ase.system import System


def assert_same(a: Prediction, b: Prediction, tolerance: float = 1e-12) -> None:
    for name in QUANTITIES:
        torch.testing.assert_close(
            getattr(a, name),
            getattr(b, name),
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def numerical_gradient(
    potential: Potential, moved: Callable[[Tensor], System], shape: tuple[int, ...]
) -> Tensor:
    """Five-point central differences of the energy, all components in one batch."""
    h, n = 1e-3, int(np.prod(shape))
    steps = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
    stencil = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    weights = torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / 12
    batch = System.cat([moved(k * h * step) for k in stencil for step in steps])
    energy = potential.evaluate(
        batch, forces=False, magnetic_forces=False, virial=False
    ).energy
    return (weights @ energy.reshape(4, n) / h).reshape(shape)


def assert_relative(found: Tensor | None, expected: Tensor) -> None:
    assert found is not None
    scale = float(expected.abs().max())
    assert scale > 1e-3
    assert float((found - expected).abs().max()) < 1e-6 * scale


@pytest.mark.parametrize("pbc", [True, False], ids=["periodic", "open"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_derivatives_match_central_differences(variant: str, pbc: bool) -> None:
    net = model(**VARIANTS[variant])
    system = for_model(structure(pbc=pbc), net)
    found = net.evaluate(system)

    positions, spins = system.positions, system.spins
    forces = numerical_gradient(
        net, lambda step: system.replace(positions=positions + step), (4, 3)
    )
    assert_relative(found.forces, -forces)
    # Only atoms with a moment: a moment that appears has no derivative.
    carrying = (spins != 0).any(dim=1, keepdim=True)
    magnetic = numerical_gradient(
        net, lambda step: system.replace(spins=spins + step * carrying), (4, 3)
    )
    assert_relative(found.magnetic_forces * carrying, -magnetic)
    virial = numerical_gradient(net, system.strained, (1, 3, 3))
    assert_relative(found.virial, -virial)


@pytest.mark.parametrize("variant", VARIANTS)
def test_chain_rule_by_hand_equals_autograd(variant: str) -> None:
    net = model(**VARIANTS[variant])
    system = System.cat([for_model(structure(k, pbc=k != 1), net) for k in range(3)])
    assert_same(net.evaluate(system), Potential.evaluate(net, system))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    system = System.cat([for_model(structure(k) * (2, 1, 1), net) for k in range(2)])
    whole = net.evaluate(system)
    for size in (1, 3, 15):
        monkeypatch.setattr(network, "CHUNK", size)
        assert_same(net.evaluate(system), whole)


def test_only_what_is_asked_for() -> None:
    net, system = model(), System.from_atoms(structure())
    full = net.evaluate(system)
    names = ("forces", "magnetic_forces", "virial")
    for chosen in names:
        part = net.evaluate(system, **{name: name == chosen for name in names})
        for name in names:
            value = getattr(part, name)
            assert (value is not None) == (name == chosen)
        assert torch.equal(getattr(part, chosen), getattr(full, chosen))
        assert not part.energy.requires_grad


@pytest.mark.parametrize("variant", ["plain", "one-side"])
def test_energy_is_invariant(variant: str) -> None:
    net, atoms = model(**VARIANTS[variant]), structure()
    reference = net.evaluate(System.from_atoms(atoms)).energies
    close = {"rtol": 1e-10, "atol": 1e-11}

    shifted = atoms.copy()
    shifted.positions += [0.3, -1.2, 0.7]
    shifted.wrap()
    found = net.evaluate(System.from_atoms(shifted)).energies
    torch.testing.assert_close(found, reference, **close)

    order = [3, 0, 2, 1]
    found = net.evaluate(System.from_atoms(atoms[order])).energies
    torch.testing.assert_close(found, reference[order], **close)

    found = net.evaluate(System.from_atoms(atoms * (2, 1, 2))).energies
    torch.testing.assert_close(found, reference.repeat(4), **close)


def test_joint_rotation_of_lattice_and_moments() -> None:
    net, atoms = model(), structure()
    rotation = Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T, scale_atoms=True)
    turned.set_initial_magnetic_moments(
        atoms.get_initial_magnetic_moments() @ rotation.T
    )
    before = net.evaluate(System.from_atoms(atoms))
    after = net.evaluate(System.from_atoms(turned))
    R = torch.tensor(rotation)
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(after.energies, before.energies, **close)
    torch.testing.assert_close(after.forces, before.forces @ R.T, **close)
    torch.testing.assert_close(
        after.magnetic_forces, before.magnetic_forces @ R.T, **close
    )
    torch.testing.assert_close(after.virial, R @ before.virial @ R.T, **close)


def test_forces_vanish_in_sum_and_virial_knows_the_torques() -> None:
    net, system = model(), System.from_atoms(structure())
    found = net.evaluate(system)
    assert float(found.forces.abs().max()) > 1e-3
    torch.testing.assert_close(
        found.forces.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12
    )
    # Turning lattice and moments together costs nothing, so the antisymmetric
    # part of the virial is the torque on the moments.
    outer = torch.einsum("na,nb->ab", found.magnetic_forces, system.spins)
    total = found.virial[0] + outer
    torch.testing.assert_close(total, total.T, rtol=1e-9, atol=1e-10)


def test_batch_equals_single_runs() -> None:
    net = model()
    systems = [
        System.from_atoms(structure(1)),
        System.from_atoms(structure(2, pbc=False)),
        System.from_atoms(structure(3) * (1, 2, 1)),
    ]
    batch = net.evaluate(System.cat(systems))
    singles = [net.evaluate(system) for system in systems]
    for name in QUANTITIES:
        together = getattr(batch, name)
        torch.testing.assert_close(
            together,
            torch.cat([getattr(single, name) for single in singles]),
            rtol=1e-12,
            atol=1e-12,
        )


def test_longer_lists_change_nothing() -> None:
    net, system = model(), System.from_atoms(structure())
    exact = net.evaluate(system)
    needed = net.pair_cutoff(system)
    assert_same(net.evaluate(system, build_pairs(system, needed + 2.0)), exact)
    assert_same(net.evaluate(system, NeighborList(1.0).update(system, needed)), exact)


def test_pseudo_atoms_are_seen_from_beyond_the_cutoff() -> None:
    """An atom outside the cutoff counts where its pseudo-atom is inside."""
    net = model()
    atoms = Atoms("Fe2", [[0, 0, 0], [4.5, 0, 0]])
    atoms.set_initial_magnetic_moments([[0, 0, 2], [-3, 0, 0]])
    together = net.evaluate(System.from_atoms(atoms))
    apart = net.evaluate(System.cat([System.from_atoms(atoms[[k]]) for k in (0, 1)]))
    assert abs(float(together.energies[0] - apart.energies[0])) > 1e-6
    assert float(together.energies[1]) == pytest.approx(float(apart.energies[1]))


def test_single_precision_is_close() -> None:
    net, system = model(), System.from_atoms([structure(0), structure(1)])
    double = net.evaluate(system)
    single = net.to(torch.float32).evaluate(system.to(dtype=torch.float32))
    for name in QUANTITIES:
        found, expected = getattr(single, name), getattr(double, name)
        assert found.dtype == torch.float32
        scale = float(expected.abs().max())
        assert float((found - expected).abs().max()) < 2e-5 * scale


def test_zero_moment_has_no_magnetic_force_of_its_own() -> None:
    net, system = model(), System.from_atoms(structure())
    quenched = system.replace(spins=torch.zeros_like(system.spins))
    found = net.evaluate(quenched)
    for name in QUANTITIES:
        assert torch.isfinite(getattr(found, name)).all()
    alone = Atoms("Fe")
    alone.set_initial_magnetic_moments([[0.0, 0.0, 0.0]])
    single = net.evaluate(System.from_atoms(alone))
    assert not single.magnetic_forces.any()
    assert not single.forces.any()


@pytest.mark.parametrize("pbc", [True, False])
def test_truncation_warns_once(caplog: pytest.LogCaptureFixture, pbc: bool) -> None:
    net = model(descriptor={"sel": [1, 2, 2]})
    system = System.from_atoms(structure(pbc=pbc) * (2, 1, 1))
    with caplog.at_level(logging.WARNING):
        first = net.evaluate(system)
        net.evaluate(system)
    assert len(caplog.records) == 1
    assert "more neighbours than the model has slots" in caplog.text
    assert_same(first, Potential.evaluate(net, system))
    caplog.clear()
    model().evaluate(system)
    assert not caplog.records


def test_truncation_keeps_the_nearest() -> None:
    """With one slot for O, the farther of two O atoms is not seen."""
    net = model(descriptor={"sel": [1, 1, 1]})
    atoms = Atoms("FeO2", [[0, 0, 0], [1.8, 0, 0], [0, 2.5, 0]])
    atoms.set_initial_magnetic_moments([[0, 1, 2], [0, 0, 0], [0, 0, 0]])
    both = net.evaluate(System.from_atoms(atoms)).energies[0]
    near = net.evaluate(System.from_atoms(atoms[[0, 1]])).energies[0]
    far = net.evaluate(System.from_atoms(atoms[[0, 2]])).energies[0]
    assert float(both) == pytest.approx(float(near), abs=1e-13)
    assert abs(float(both - far)) > 1e-6


def test_parameter_gradients_match_finite_differences() -> None:
    net, system = model(), System.from_atoms([structure(0), structure(1)])
    generator = torch.Generator().manual_seed(0)

    def probe() -> Tensor:
        found = net.evaluate(system, create_graph=True)
        parts = [found.energy, found.forces, found.magnetic_forces, found.virial]
        return sum(p.square().sum() for p in parts if p is not None)

    value = probe()
    gradients = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    direction = [
        torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for p in net.parameters()
    ]
    slope = sum(
        (g * d).sum()
        for g, d in zip(gradients, direction, strict=True)
        if g is not None
    )
    start = [p.detach().clone() for p in net.parameters()]

    def at(step: float) -> Tensor:
        with torch.no_grad():
            for p, p0, d in zip(net.parameters(), start, direction, strict=True):
                p.copy_(p0 + step * d)
        return probe().detach()

    h = 1e-4
    expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    assert float(slope) == pytest.approx(float(expected), rel=1e-6)


def test_statistics_normalise_the_environment() -> None:
    """Over all slots, the normalised rows have mean 0 and variance 1."""
    net = DeepSpinNetwork(config())
    system = System.from_atoms([structure(k) for k in range(4)])
    pairs = build_pairs(system, net.pair_cutoff(system))
    net.fit_statistics([(system, pairs)])
    rows: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
    magnetic, types = net.config.spin.use_spin, net.types(system)
    arms = system.spins * torch.tensor(net.config.spin.scales())[types][:, None]
    vectors = pairs.vectors(system)
    for a in rows:
        sites = [arms[types == a]] if magnetic[a] else []
        of_a = types[pairs.i] == a
        sites.append(vectors[of_a])
        carries = of_a & torch.tensor(magnetic)[types[pairs.j]]
        sites.append((vectors + arms[pairs.j])[carries])
        x = torch.cat(sites)
        r = x.norm(dim=1)
        u = ((r - 1.5) / (4.2 - 1.5)).clamp(0, 1)
        w = 1 - 10 * u**3 + 15 * u**4 - 6 * u**5
        q = 1 / (r + 0.01)
        row = torch.cat([(q * w)[:, None], (q * q * w)[:, None] * x], 1)
        n = 2 * 110 * int((types == a).sum())
        mean = row[:, 0].sum() / n
        radial = (row[:, 0].square().sum() / n - mean**2).sqrt()
        angular = (row[:, 1:].square().sum() / (3 * n)).sqrt()
        expected = torch.stack([radial, angular, angular, angular]).clamp_min(0.01)
        torch.testing.assert_close(net.std[a], expected)
        torch.testing.assert_close(net.mean[a, 0], mean)
        assert not net.mean[a, 1:].any()


def test_silenced_network_returns_its_bias() -> None:
    net = model()
    net.start_from_zero()
    found = net.evaluate(System.from_atoms(structure()))
    torch.testing.assert_close(
        found.energies, torch.tensor([-1.0, 0.5, 2.0, 2.0], dtype=torch.float64)
    )
    assert not found.forces.any()


def test_seed_fixes_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        net = DeepSpinNetwork(config(), seed=seed)
        return torch.cat([p.flatten() for p in net.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_keep_everything(variant: str, tmp_path: Path) -> None:
    net = model(**VARIANTS[variant])
    potential = Sum([net, TimeReversal(net), Heisenberg(CubicCut(0.05, 4.0))])
    system = for_model(structure(), net)
    save_potential(tmp_path / "model.pt", potential, card={"cite": ["me"]})
    loaded = load_potential(tmp_path / "model.pt")
    for either in (loaded, potential):
        choose_backend(either, "reference")
    assert_same(loaded.evaluate(system), potential.evaluate(system), 0.0)
    assert load_card(tmp_path / "model.pt") == {"cite": ["me"]}
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_time_reversal_is_exact() -> None:
    net, system = model(), System.from_atoms([structure(0), structure(1)])
    turned = system.replace(spins=-system.spins)
    difference = net.evaluate(system).energy - net.evaluate(turned).energy
    assert float(difference.abs().min()) > 1e-3
    even = TimeReversal(net)
    here, there = even.evaluate(system), even.evaluate(turned)
    for name in QUANTITIES:
        sign = -1.0 if name == "magnetic_forces" else 1.0
        torch.testing.assert_close(
            getattr(there, name), sign * getattr(here, name), rtol=1e-12, atol=1e-12
        )
    assert_same(here, Potential.evaluate(even, system))
    mean = 0.5 * (net.evaluate(system).energy + net.evaluate(turned).energy)
    torch.testing.assert_close(here.energy, mean)


def test_sum_and_committee() -> None:
    system = System.from_atoms([structure(0), structure(1)])
    members = [model(), awake(DeepSpinNetwork(config())), Zeeman([0, 0, 50.0])]
    with torch.no_grad():
        for parameter in members[1].parameters():
            parameter.mul_(0.8)
    parts = [member.evaluate(system) for member in members]
    total = Sum(members)
    summed, mean = total.evaluate(system), Committee(members).evaluate(system)
    assert_same(summed, Potential.evaluate(total, system))
    assert_same(mean, Potential.evaluate(Committee(members), system))
    assert mean.deviations is not None
    for name in QUANTITIES:
        stack = torch.stack([getattr(part, name) for part in parts])
        torch.testing.assert_close(getattr(summed, name), stack.sum(0))
        torch.testing.assert_close(getattr(mean, name), stack.mean(0))
        torch.testing.assert_close(mean.deviations[name], stack.std(0, correction=0))


@pytest.mark.parametrize(
    ("symbols", "spins", "message"),
    [
        ("Cu", [[0, 0, 1]], "does not know the element Cu; it knows O, Fe, Ni"),
        ("O", [[0, 0, 1]], "O carries a moment but is non-magnetic"),
    ],
)
def test_structures_that_do_not_fit(
    symbols: str, spins: list[list[float]], message: str
) -> None:
    atoms = Atoms(symbols)
    atoms.set_initial_magnetic_moments(spins)
    for potential in (
        model(),
        TimeReversal(model()),
        Sum([model(), Zeeman([0, 0, 1])]),
    ):
        with pytest.raises(ValueError, match=message):
            potential.evaluate(System.from_atoms(atoms))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"descriptor": {"rcut_smoth": 1.0}}, "descriptor.rcut_smoth.*'rcut_smth'"),
        ({"descriptor": {"rcut": 1.2}}, "rcut_smth must be below rcut"),
        ({"descriptor": {"axis_neuron": 9}}, "axis_neuron must not exceed"),
        ({"descriptor": {"sel": [3, 3]}}, "descriptor.sel has 2 entries for 3"),
        ({"descriptor": {"activation_function": "tan"}}, "unknown activation 'tan'"),
        ({"spin": {"use_spin": [True]}}, "spin.use_spin has 1 entries for 3"),
        ({"spin": {"virtual_scale": [1.0, 1.0, 1.0, 1.0]}}, "virtual_scale has 4"),
        ({"spin": {"virtual_scale": -0.3}}, "must be positive"),
        ({"fitting_net": {"neurons": [3]}}, "fitting_net.neurons.*'neuron'"),
    ],
)
def test_bad_configuration(changes: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_symmetry_violations_of_known_hamiltonians() -> None:
    systems = [System.from_atoms([structure(k), structure(k + 5)]) for k in range(2)]
    exchange = Heisenberg(CubicCut(0.3, 4.2))
    clean = symmetry_violations(exchange, systems)
    assert clean.time_reversal_energy < 1e-12
    assert clean.time_reversal_magnetic_forces < 1e-12
    assert clean.spin_rotation_energy < 1e-12
    assert (clean.n_structures, clean.n_rotations) == (4, 8)

    # In a field E(S) - E(-S) = -2 M.B, and the magnetic force is even.
    field = torch.tensor([0.0, 0.0, 100.0], dtype=torch.float64)
    broken = symmetry_violations(exchange + Zeeman(field.tolist()), systems)
    force = Zeeman(field.tolist()).evaluate(systems[0]).magnetic_forces[0]
    moments = torch.cat([system.sum(system.spins) for system in systems])
    expected = (2.0 * moments @ force / 4).square().mean().sqrt()
    assert broken.time_reversal_energy == pytest.approx(float(expected))
    expected = (2.0 * force).square().mean().sqrt()
    assert broken.time_reversal_magnetic_forces == pytest.approx(float(expected))
    assert broken.spin_rotation_energy > 1e-4


def test_spin_rotation_violation_is_the_spread_over_all_rotations() -> None:
    """A moment m in a field B: E = -m B cos(theta), of variance (m B)^2 / 3."""
    atoms = Atoms("Fe")
    atoms.set_initial_magnetic_moments([[0, 0, 2.0]])
    potential = Zeeman([0, 0, 100.0])
    system = System.from_atoms(atoms)
    found = symmetry_violations(potential, system, n_rotations=2000, seed=1)
    depth = abs(float(potential.evaluate(system).energy))
    assert found.spin_rotation_energy == pytest.approx(depth / 3**0.5, rel=0.05)


def test_symmetry_violations_of_networks() -> None:
    net, system = model(), System.from_atoms(structure())
    plain = symmetry_violations(net, system)
    even = symmetry_violations(TimeReversal(net), system)
    assert plain.time_reversal_energy > 1e-3
    assert even.time_reversal_energy < 1e-12
    assert even.time_reversal_magnetic_forces < 1e-12
    assert even.spin_rotation_energy > 1e-3
    assert symmetry_violations(net, system) == plain
    with pytest.raises(ValueError, match="at least one structure"):
        symmetry_violations(net, [])
    with pytest.raises(ValueError, match="n_rotations"):
        symmetry_violations(net, system, n_rotations=0)


def test_prediction_names_are_all_covered() -> None:
    assert set(QUANTITIES) == set(quantities.QUANTITIES)
