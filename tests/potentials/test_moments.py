"""The network on moments: symmetries, derivatives, kernels, files."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.optimize import relax
from deepspin_ase.potentials import (
    CompiledPotential,
    Potential,
    SpinMomentConfig,
    SpinMomentNetwork,
    load_potential,
    save_potential,
)
from deepspin_ase.potentials.networks._moments import ENERGY_SCALE
from deepspin_ase.system import System

QUANTITIES = ("energy", "energies", "forces", "magnetic_forces", "virial")

#: Elements, magnetic ones, spin-orbit coupling, whether lengths of moments count.
KINDS = {
    "iron": (["Fe"], ["Fe"], False, True),
    "oxide": (["Fe", "Ni", "O"], ["Fe", "Ni"], False, True),
    "relativistic": (["Fe", "Ni", "O"], ["Fe", "Ni"], True, True),
    "directions": (["Fe", "O"], ["Fe"], True, False),
    "lattice": (["Fe", "O"], [], False, True),
}


def structure(elements: list[str], magnetic: list[str], *, seed: int = 0) -> Atoms:
    """Return a disordered crystal in a skew cell, one atom without a moment."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Fe", "bcc", 2.9, cubic=True).repeat((2, 2, 1))
    atoms.symbols = rng.choice(elements, len(atoms))
    atoms.symbols[: len(elements)] = elements
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True
    )
    atoms.positions += rng.normal(0, 0.1, (len(atoms), 3))
    moments = rng.normal(0, 1, (len(atoms), 3))
    moments[~np.isin(atoms.get_chemical_symbols(), magnetic)] = 0
    moments[-1] = 0
    set_spins(atoms, moments)
    return atoms


def network(kind: str, *, seed: int = 0, **changes: object) -> SpinMomentNetwork:
    """Return a network with statistics of two structures and weights that matter."""
    elements, magnetic, spin_orbit, lengths = KINDS[kind]
    config = SpinMomentConfig.from_dict(
        {
            "elements": elements,
            "magnetic": magnetic,
            "spin_orbit": spin_orbit,
            "lengths": lengths,
            "cutoff": 4.2,
            "gates": 2,
            "neuron": [8, 8],
            **changes,
        }
    )
    made = SpinMomentNetwork(config, seed=seed)
    systems = [System.from_atoms(structure(elements, magnetic, seed=k)) for k in (0, 1)]
    made.fit_statistics((s, build_pairs(s, made.cutoff)) for s in systems)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.linear.normal_(generator=generator).mul_(0.1)
        list(made.fittings[0].children())[-1].matrix.mul_(10.0)
        made.energy_bias.normal_(generator=generator)
    return made.eval().requires_grad_(False)


def system_of(kind: str, seed: int = 0) -> System:
    return System.from_atoms(structure(*KINDS[kind][:2], seed=seed))


def energy(net: Potential, system: System) -> float:
    return float(net.evaluate(system, forces=False, magnetic_forces=False).energy)


def rotated(system: System, lattice: np.ndarray, spins: np.ndarray) -> System:
    a, b = (torch.tensor(x) for x in (lattice, spins))
    return system.replace(
        positions=system.positions @ a.T,
        cell=system.cell @ a.T,
        spins=system.spins @ b.T,
    )


def in_torch(net, system, pairs, **options):
    """Evaluate by autograd."""
    net.backend = "reference"
    found = net.evaluate(system, pairs, **options)
    net.backend = "fused"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_agree_with_torch(kind):
    net, system = network(kind), system_of(kind)
    pairs = build_pairs(system, net.cutoff + 0.7)  # a list with a skin
    fast, plain = net.evaluate(system, pairs), in_torch(net, system, pairs)
    for name in QUANTITIES:
        size = float(getattr(plain, name).abs().max())
        torch.testing.assert_close(
            getattr(fast, name), getattr(plain, name), rtol=0, atol=3e-11 * size + 1e-13
        )
    net.mixed = True
    mixed = net.evaluate(system, pairs)
    for name in QUANTITIES:
        size = float(getattr(plain, name).abs().max())
        torch.testing.assert_close(
            getattr(mixed, name), getattr(plain, name), rtol=0, atol=1e-5 * size + 1e-12
        )


@pytest.mark.parametrize("count", [1, 3])
def test_kernels_leave_out_hidden_layers_that_are_zero(count):
    """Of some elements, or of all, as after a fit of the linear term alone."""
    net, system = network("relativistic"), system_of("relativistic")
    for fitting in list(net.fittings)[:count]:
        for parameter in list(fitting.children())[-1].parameters():
            parameter.zero_()
    fast, plain = net.evaluate(system), in_torch(net, system, None)
    for name in QUANTITIES:
        size = float(getattr(plain, name).abs().max())
        torch.testing.assert_close(
            getattr(fast, name), getattr(plain, name), rtol=0, atol=3e-11 * size + 1e-13
        )


@pytest.mark.parametrize("kind", ["iron", "relativistic"])
def test_batches_and_threads(kind):
    net = network(kind)
    systems = [system_of(kind, seed) for seed in range(9)]
    whole = System.cat(systems)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = net.evaluate(whole)
    finally:
        torch.set_num_threads(threads)
    single = [net.evaluate(s) for s in systems]
    for name in QUANTITIES:
        torch.testing.assert_close(
            getattr(together, name), torch.cat([getattr(s, name) for s in single])
        )


@pytest.mark.parametrize("kind", ["oxide", "relativistic", "directions"])
def test_derivatives(kind):
    """Forces, magnetic forces and virial are derivatives of the energy."""
    net, system = network(kind), system_of(kind)
    found = net.evaluate(system)
    rng = np.random.default_rng(5)
    magnetic = torch.tensor([z != 8 for z in system.species.tolist()])
    if not net.config.lengths:
        magnetic &= system.spins.norm(dim=1) > 0  # others have no direction
    h = 4e-6  # third derivatives jump at the cutoff

    def slope(change: Callable[[float], System]) -> float:
        """Return the derivative, of fourth order."""
        e = [energy(net, change(k * h)) for k in (-2, -1, 1, 2)]
        return (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)

    for _ in range(3):
        d, s = (torch.tensor(rng.normal(size=(system.n_atoms, 3))) for _ in range(2))
        s = s * magnetic[:, None]
        strain = torch.tensor(rng.normal(size=(1, 3, 3)))
        moved = slope(lambda t, d=d: system.replace(positions=system.positions + t * d))
        turned = slope(lambda t, s=s: system.replace(spins=system.spins + t * s))
        strained = slope(lambda t, u=strain: system.strained(t * u))
        assert moved == pytest.approx(-float((found.forces * d).sum()), abs=1e-7)
        expected = -float((found.magnetic_forces * s).sum())
        assert turned == pytest.approx(expected, abs=1e-7)
        expected = -float((found.virial * strain).sum())
        assert strained == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_symmetries(kind):
    net, system = network(kind), system_of(kind)
    net.energy_bias.zero_()
    # Of the terms that add up to the energy: rounding is relative to them.
    types = net.types(system)
    features = net.features(system, build_pairs(system, net.cutoff))
    z = (features - net.mean[types]) / net.deviation[types]
    size = ENERGY_SCALE * float((z * net.linear[types]).abs().sum())
    rng = np.random.default_rng(2)
    one = np.eye(3)
    turn, other = Rotation.random(2, rng).as_matrix()
    order = rng.permutation(system.n_atoms)
    shift = torch.tensor(rng.normal(size=3))
    same = {
        "both rotate": rotated(system, turn, turn),
        "inversion leaves axial vectors": rotated(system, -one, one),
        "reflection": rotated(system, -turn, turn),
        "time reversal": rotated(system, one, -one),
        "translation": system.replace(positions=system.positions + shift),
        "permutation": system.replace(
            **{n: getattr(system, n)[order] for n in ("positions", "spins", "species")}
        ),
    }
    if not net.config.spin_orbit:
        same["spins rotate"] = rotated(system, one, other)
        same["lattice rotates"] = rotated(system, other, one)
    reference = energy(net, system)
    for name, changed in same.items():
        assert abs(energy(net, changed) - reference) < 1e-12 * size, name


def test_spin_orbit_coupling_ties_spins_to_the_lattice():
    net, system = network("relativistic"), system_of("relativistic")
    turn = Rotation.from_rotvec([0.3, 0.2, 0.5]).as_matrix()
    change = energy(net, rotated(system, np.eye(3), turn)) - energy(net, system)
    assert abs(change) > 1e-3


def test_time_reversal_flips_magnetic_forces():
    net, system = network("relativistic"), system_of("relativistic")
    there, back = (
        net.evaluate(system.replace(spins=sign * system.spins)).magnetic_forces
        for sign in (1.0, -1.0)
    )
    torch.testing.assert_close(back, -there, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["iron", "relativistic"])
def test_smooth_where_moments_vanish(kind):
    """Through zero, the energy is even and analytic in the length of one moment."""
    net, system = network(kind), system_of(kind)
    nothing = net.evaluate(system.replace(spins=0.0 * system.spins))
    assert torch.isfinite(nothing.forces).all()
    assert float(nothing.magnetic_forces.abs().max()) == 0.0
    lengths = np.linspace(-0.02, 0.02, 9)
    energies = []
    for x in lengths:
        spins = system.spins.clone()
        spins[-1] = x * torch.tensor([0.6, 0.0, 0.8])
        energies.append(energy(net, system.replace(spins=spins)))
    fit = np.polynomial.Polynomial.fit(lengths, energies, 4)
    assert np.abs(fit(lengths) - energies).max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_no_magnetic_forces_on_other_elements(kind: str, backend: str) -> None:
    net, system = network(kind), system_of(kind)
    net.backend = backend
    magnetic = torch.tensor(sorted(net.magnetic_species or ()))
    found = net.evaluate(system).magnetic_forces
    carrying = torch.isin(system.species, magnetic)
    assert (found[~carrying] == 0.0).all()
    if not net.config.lengths:
        carrying &= system.spins.norm(dim=1) > 0  # others have no direction
    assert not carrying.any() or (found[carrying] != 0.0).all()


def test_smooth_at_the_cutoff():
    """A neighbor fades out with two continuous derivatives."""
    net = network("iron")
    spins = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.0, 0.3]]).double()
    pair = System.from_atoms(
        Atoms("Fe2", [[0, 0, 0], [3.0, 0, 0]], magmoms=spins.numpy())
    )

    def pulled(distance: float) -> float:
        positions = torch.tensor(np.array([[0.0, 0, 0], [distance, 0, 0]]))
        moved = pair.replace(positions=positions)
        return float(net.evaluate(moved, build_pairs(moved, 6.0)).forces[0, 0])

    assert pulled(net.cutoff + 1e-9) == 0.0
    steps = np.array([0.002, 0.001])
    near = np.array([pulled(net.cutoff - h) for h in steps])
    assert near[0] != 0.0
    # The force is of second order in what is left to the cutoff.
    assert near[0] / near[1] == pytest.approx(4.0, rel=0.1)


def test_directions_alone():
    """Lengths change nothing but the unit of magnetic forces, which are across."""
    net, system = network("directions"), system_of("directions")
    factors = torch.linspace(0.5, 2.0, system.n_atoms).double()[:, None]
    longer = system.replace(spins=factors * system.spins)
    before, after = net.evaluate(system), net.evaluate(longer)
    for name in ("energies", "forces", "virial"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name))
    torch.testing.assert_close(factors * after.magnetic_forces, before.magnetic_forces)
    along = (before.magnetic_forces * system.spins).sum(1)
    assert before.magnetic_forces.abs().max() > 1e-3
    assert along.abs().max() < 1e-14
    assert not before.magnetic_forces[system.spins.norm(dim=1) == 0].any()


@pytest.mark.parametrize("kind", ["relativistic", "directions"])
def test_training_gradients(kind):
    """Gradients of a loss by the weights, against autograd through everything."""
    net, system = network(kind).requires_grad_(True), system_of(kind)
    pairs = build_pairs(system, net.cutoff)
    gradients = []
    for found in (
        net.evaluate(system, pairs, create_graph=True),
        in_torch(net, system, pairs, create_graph=True),
    ):
        generator = torch.Generator().manual_seed(3)
        loss = torch.zeros(()).double()
        for name in QUANTITIES:
            values = getattr(found, name)
            weight = torch.randn(values.shape, generator=generator).double()
            loss = loss + (weight * values).sum() + values.square().sum()
        parts = torch.autograd.grad(loss, list(net.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    size = float(gradients[1].abs().max())
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("kind", ["oxide", "relativistic", "directions"])
def test_design(kind):
    """The energy's derivatives by linear weights, against predictions."""
    net, system = network(kind), system_of(kind)
    pairs = build_pairs(system, net.cutoff)
    before = net.evaluate(system, pairs)
    design = net.design(system, pairs)
    generator = torch.Generator().manual_seed(7)
    change = torch.randn(net.linear.shape, generator=generator).double()
    net.linear += change
    after = net.evaluate(system, pairs)
    carries = system.spins.norm(dim=1) > 0
    n = 3 * system.n_atoms
    energies, forces, fields, virial = (design @ change.flatten()).split([1, n, n, 9])
    torch.testing.assert_close(energies, after.energy - before.energy)
    torch.testing.assert_close(-forces.view(-1, 3), after.forces - before.forces)
    torch.testing.assert_close(
        -fields.view(-1, 3)[carries],
        (after.magnetic_forces - before.magnetic_forces)[carries],
    )
    torch.testing.assert_close(-virial.view(1, 3, 3), after.virial - before.virial)


def test_statistics_in_torch_are_those_of_kernels():
    plain, fast = network("oxide"), network("oxide")
    plain.backend = "reference"
    systems = [system_of("oxide", seed) for seed in (2, 3)]
    for net in (plain, fast):
        net.fit_statistics((s, build_pairs(s, net.cutoff)) for s in systems)
    torch.testing.assert_close(plain.mean, fast.mean)
    torch.testing.assert_close(plain.deviation, fast.deviation)
    with pytest.raises(ValueError, match="set the network's backend to 'fused'"):
        plain.design(systems[0], build_pairs(systems[0], plain.cutoff))


def test_second_derivatives_come_from_torch():
    net, system = network("relativistic"), system_of("relativistic")
    pairs = build_pairs(system, net.cutoff)
    spins = system.spins.clone().requires_grad_()
    total = net(system.replace(spins=spins), pairs).sum()
    (first,) = torch.autograd.grad(total, spins, create_graph=True)
    (second,) = torch.autograd.grad(first[0, 0], spins)
    h = 1e-5
    ends = []
    for sign in (1, -1):
        moved = system.spins.clone()
        moved[3, 1] += sign * h
        ends.append(net.evaluate(system.replace(spins=moved)).magnetic_forces[0, 0])
    expected = float(ends[0] - ends[1]) / (2 * h)
    assert float(second[3, 1]) == pytest.approx(-expected, abs=1e-7)


def test_size_does_not_grow_with_the_square_of_the_elements():
    def size(symbols: list[str]) -> tuple[int, int]:
        config = SpinMomentConfig(elements=symbols, magnetic=symbols[:3])
        net = SpinMomentNetwork(config)
        return net.program.n_features, sum(p.numel() for p in net.parameters())

    three, six = (size(["Fe", "Co", "Ni", "O", "Al", "Ti"][:n]) for n in (3, 6))
    assert six[0] == three[0]
    assert six[1] == 2 * three[1]


def test_files_and_copies(tmp_path: Path):
    net, system = network("relativistic"), system_of("relativistic")
    expected = net.evaluate(system)
    save_potential(tmp_path / "model.pt", net)
    for same in (
        load_potential(tmp_path / "model.pt"),
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
    ):
        found = same.evaluate(system)
        for name in QUANTITIES:
            assert torch.equal(getattr(found, name), getattr(expected, name))


def test_new_weights_are_noticed():
    net, system = network("oxide"), system_of("oxide")
    before = energy(net, system)
    net.load_state_dict(network("oxide", seed=1).state_dict())
    assert energy(net, system) != before
    with torch.no_grad():
        net.linear.zero_()
        for fitting in net.fittings:
            list(fitting.children())[-1].matrix.zero_()
    expected = float(net.energy_bias[net.types(system)].sum())
    assert energy(net, system) == pytest.approx(expected, abs=1e-12)


def test_weights_changed_behind_the_back_of_autograd_are_noticed():
    """By evaluations, and by what is compiled once it is told to look again."""
    net, system = network("oxide"), system_of("oxide")
    compiled = CompiledPotential(net)
    before = float(compiled.evaluate(system).energy)
    net.lattice_mixing.data.mul_(1.1)
    net.linear.data.mul_(0.9)
    assert float(compiled.evaluate(system).energy) == before
    pairs = build_pairs(system, net.cutoff)
    after = float(in_torch(net, system, pairs).energy)
    assert after != pytest.approx(before, abs=1e-3)
    assert energy(net, system) == pytest.approx(after, abs=1e-11)
    compiled.refresh()
    assert float(compiled.evaluate(system).energy) == pytest.approx(after, abs=1e-11)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_values_that_are_not_finite_come_out_as_such():
    net, system = network("iron"), system_of("iron")
    pairs = build_pairs(system, net.cutoff)
    for name in ("positions", "spins"):
        values = getattr(system, name).clone()
        values[0, 0] = torch.nan
        found = net.evaluate(system.replace(**{name: values}), pairs)
        assert not bool(torch.isfinite(found.energy).all())


def test_atoms_of_unlike_neighborhoods_go_together():
    """An atom among its own images, one alone, a molecule, a crowd; twenty atoms."""
    net = network("relativistic")
    rng = np.random.default_rng(4)
    alone = Atoms("Fe", magmoms=[[0.0, 1.0, 2.0]])
    image = Atoms("Ni", magmoms=[[1.0, 0.0, 0.5]], cell=[2.2, 2.4, 2.3], pbc=True)
    oxygen = Atoms("O2", [[0, 0, 0], [0, 0, 1.3]], magmoms=np.zeros((2, 3)))
    crowd = structure(["Fe", "O"], ["Fe"]).repeat((2, 1, 1))
    crowd.rattle(0.1, rng=rng)
    parts = [System.from_atoms(x) for x in (alone, image, oxygen, crowd)]
    whole = System.cat(parts)
    pairs = build_pairs(whole, net.cutoff)
    fast, plain = net.evaluate(whole, pairs), in_torch(net, whole, pairs)
    for name in QUANTITIES:
        size = float(getattr(plain, name).abs().max())
        torch.testing.assert_close(
            getattr(fast, name), getattr(plain, name), rtol=0, atol=3e-11 * size
        )


@pytest.mark.parametrize("kind", KINDS)
def test_gates_are_factors(kind):
    """Of the atom's own moment squared and of the first sums over neighbors."""
    net, system = network(kind), system_of(kind)
    with torch.no_grad():
        features = net.features(system, build_pairs(system, net.cutoff)).numpy()
    names = np.array(net.program.names)
    places = [f"A{k} A{k}" for k in range(1, net.layout.degree + 1)]
    values = features[:, np.isin(names, places)]
    gates = np.concatenate(
        [features[:, names == name] for name in ("|s|^2, |s|^4", "A0")], axis=1
    )
    gates = gates[:, [0, 2] if net.uses_spins else [0, 1]]
    expected = gates[:, :, None] * values[:, None]
    np.testing.assert_allclose(
        features[:, names == "gated"], expected.reshape(len(values), -1), rtol=1e-12
    )


def test_constant_features_are_not_magnified():
    """Moments of one length leave the longitudinal derivative of usual size."""
    atoms = [structure(["Fe"], ["Fe"], seed=k) for k in range(4)]
    for image in atoms:
        moments = np.random.default_rng(1).normal(size=(len(image), 3))
        moments *= 2.2 / np.linalg.norm(moments, axis=1, keepdims=True)
        set_spins(image, moments)
    net = SpinMomentNetwork(SpinMomentConfig(elements=["Fe"], magnetic=["Fe"]))
    systems = [System.from_atoms(image) for image in atoms]
    net.fit_statistics((s, build_pairs(s, net.cutoff)) for s in systems)
    names = np.array(net.program.names)
    constant = names == "|s|^2, |s|^4"
    assert (net.deviation[0][constant] >= 0.02 * net.mean[0][constant]).all()
    assert float(net.moment_scale[0]) == pytest.approx(2.2)


def test_calculator_relaxes_with_it():
    net = network("iron", cutoff=3.5)
    atoms = structure(["Fe"], ["Fe"])
    atoms.calc = DeepSpinCalculator(net)
    before = atoms.get_potential_energy()
    relax(atoms, steps=3)
    assert atoms.get_potential_energy() < before
    atoms.calc = DeepSpinCalculator(net, backend="reference")
    atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"elements": ["Fe", "Xx"]}, "'Xx', which is not an element"),
        ({"elements": ["Fe", "Fe"]}, "elements holds an element twice"),
        ({"magnetic": ["Ni"]}, "'Ni', which is not in elements"),
        ({"degree": 1}, "spin_degree must not exceed degree"),
        ({"magnetic": [], "spin_orbit": True}, "spin_orbit needs a magnetic element"),
        ({"magnetic": [], "lengths": False}, "lengths: false needs a magnetic element"),
        ({"channels": 50}, "channels must not exceed the 24 functions"),
        ({"chanels": 4}, "did you mean 'channels'"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        SpinMomentConfig.from_dict({"elements": ["Fe"], "magnetic": ["Fe"], **changes})
