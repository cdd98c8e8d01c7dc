"""Networks, structures and terms on which evaluations are compared."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from deepspin_ase.potentials import (
    ZBL,
    Biquadratic,
    Blend,
    CubicCut,
    DeepSpinConfig,
    DeepSpinNetwork,
    DzyaloshinskiiMoriya,
    Harmonic,
    Heisenberg,
    LennardJones,
    MomentExchange,
    PairPotential,
    Potential,
    Prediction,
    ScreenedNuclear,
    Shells,
    SmoothShells,
    SpinMomentConfig,
    SpinMomentNetwork,
    Switched,
    choose_backend,
)
from deepspin_ase.system import System

#: Section ``model`` of a small network of one element.
FE_MODEL: dict[str, Any] = {
    "type_map": ["Fe"],
    "spin": {"use_spin": [True], "virtual_scale": 0.2},
    "descriptor": {
        "rcut": 4.0,
        "rcut_smth": 2.0,
        "sel": [30],
        "neuron": [4, 8],
        "axis_neuron": 4,
    },
    "fitting_net": {"neuron": [10, 10]},
}

VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    "plain": {},
    "one-side": {"descriptor": {"type_one_side": True}},
    "two-magnetic": {
        "spin": {"use_spin": [True, True, False], "virtual_scale": [0.3, 0.2]}
    },
    "scale-per-element": {
        "spin": {"use_spin": [False, True, True], "virtual_scale": [0.0, 0.2, 0.4]}
    },
    "timestep-gelu": {
        "descriptor": {"resnet_dt": True, "activation_function": "gelu"},
        "fitting_net": {"resnet_dt": False, "activation_function": "silu"},
    },
}

#: A network of the lattice alone has no pseudo-atoms, and no slots for them.
EVERY = VARIANTS | {"lattice": {"spin": {"use_spin": [False, False, False]}}}


def config(**changes: dict[str, object]) -> DeepSpinConfig:
    sections: dict[str, dict[str, object]] = {
        "spin": {"use_spin": [True, True, False], "virtual_scale": 0.35},
        "descriptor": {
            "rcut": 4.2,
            "rcut_smth": 1.5,
            "sel": [30, 30, 50],
            "neuron": [4, 8, 8],
            "axis_neuron": 3,
        },
        "fitting_net": {"neuron": [10, 10]},
    }
    merged = {name: values | changes.get(name, {}) for name, values in sections.items()}
    return DeepSpinConfig.from_dict({"type_map": ["Fe", "Ni", "O"], **merged})


def awake(net: DeepSpinNetwork) -> DeepSpinNetwork:
    """Give weights with which everything matters; far from a fresh network's."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
            parameter.copy_(0.5 * noise)
        net.mean[:, 0] = torch.tensor([0.02, 0.03, 0.01])
        net.std.copy_(torch.tensor([0.1, 0.05, 0.05, 0.05]).expand(3, 4))
        net.energy_bias.copy_(torch.tensor([-1.0, 0.5, 2.0]))
    return net


def model(**changes: dict[str, object]) -> DeepSpinNetwork:
    return awake(DeepSpinNetwork(config(**changes)))


def structure(seed: int = 0, *, pbc: bool = True) -> Atoms:
    """Triclinic, shorter than the cutoff, with and without moments."""
    rng = np.random.default_rng(seed)
    cell = [[4.1, 0.2, 0.0], [-0.3, 3.9, 0.4], [0.5, 0.1, 4.4]]
    fractional = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = Atoms("FeNiOO", scaled_positions=fractional, cell=cell, pbc=pbc)
    atoms.positions += rng.uniform(-0.2, 0.2, (4, 3))
    spins = 1.5 * rng.normal(size=(4, 3))
    spins[2:] = 0.0
    atoms.set_initial_magnetic_moments(spins)
    return atoms


def moments_network(*, spin_orbit: bool = True) -> SpinMomentNetwork:
    """Return a small network on moments with weights that matter."""
    config = SpinMomentConfig.from_dict(
        {
            "elements": ["Fe", "Ni", "O"],
            "magnetic": ["Fe", "Ni"],
            "spin_orbit": spin_orbit,
            "cutoff": 4.2,
            "basis": 4,
            "channels": 3,
            "spin_channels": 2,
            "angular": 2,
            "spin_angular": 2,
            "degree": 2,
            "spin_degree": 1,
            "four_body": 1,
            "gates": 2,
            "neuron": [6, 12],
        }
    )
    made = SpinMomentNetwork(config, seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in (made.lattice_mixing, made.spin_mixing[:2]):
            values.add_(0.3 * torch.randn(values.shape, generator=generator).double())
        made.moment_scale[:2] = torch.tensor([1.3, 0.8])
        made.mean.normal_(0.0, 0.3, generator=generator)
        made.deviation.uniform_(0.5, 2.0, generator=generator)
        made.energy_bias.normal_(generator=generator)
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return made.eval().requires_grad_(False)


def for_model(atoms: Atoms, net: Potential) -> System:
    """Return the System, without moments on what the model calls non-magnetic."""
    system = System.from_atoms(atoms)
    magnetic = torch.tensor(sorted(net.magnetic_species or ()))
    keep = torch.isin(system.species, magnetic)
    return system.replace(spins=system.spins * keep[:, None])


def nickel_oxide(seed: int = 0) -> System:
    """Return 16 rattled atoms in a cell that is shorter than the cutoff."""
    atoms = bulk("NiO", "rocksalt", 4.2166, cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.05, seed=seed)
    spins = np.random.default_rng(seed).normal(size=(16, 3))
    spins *= 1.27 / np.linalg.norm(spins, axis=1, keepdims=True)
    spins[atoms.numbers == 8] = 0.0
    atoms.set_initial_magnetic_moments(spins)
    return System.from_atoms(atoms)


def spin_terms() -> dict[str, Potential]:
    soft = SmoothShells([(2.0, 0.01, 0.02), (3.1, -0.02, 0.01)], 0.6)
    core = Blend(ScreenedNuclear(26, 28), CubicCut(2.0, 4.0), 0.9, 1.4)
    return {
        "pair": PairPotential(Switched(core, 2.5)),
        "some pairs": PairPotential(CubicCut(1.0, 3.5), elements=("Fe", "O")),
        "Heisenberg": Heisenberg(soft, subtract_collinear=True),
        "elements": Heisenberg(soft, elements=("Ni", "Fe")),
        "rigid": Heisenberg(Shells([(2.0, 0.01), (3.2, 0.03)], 0.5)),
        "moments": MomentExchange(CubicCut(0.3, 4.0), subtract_collinear=True),
        "biquadratic": Biquadratic(CubicCut(0.2, 3.0)),
        "Lennard-Jones": LennardJones(0.1, 1.9),
        "springs": Harmonic(1.5, 2.4, cutoff=3.3, elements=("Fe", "O")),
        "cores": ZBL(1.5, 3.0),
        "chiral": DzyaloshinskiiMoriya(soft),
        "chiral at a surface": DzyaloshinskiiMoriya(
            CubicCut(0.2, 4.0), direction="interfacial", axis=(0.3, -0.2, 1.0)
        ),
        "chiral along": DzyaloshinskiiMoriya(
            soft, direction="vector", vector=(1, 2, -0.5), axis=(0, 1, 0.3)
        ),
        "chiral between elements": DzyaloshinskiiMoriya(
            soft, direction="vector", vector=(1, 2, -0.5), elements=("Ni", "Fe")
        ),
    }


#: A trained pseudo-atom network of NiO on pair potentials and exchange.
PSEUDO_ATOMS = Path(__file__).parent / "data" / "pseudo_atoms" / "nio.safetensors"

QUANTITIES = ("energies", "energy", "forces", "magnetic_forces", "virial")


def frozen(**changes: dict[str, object]) -> DeepSpinNetwork:
    return model(**changes).eval().requires_grad_(False)


def exactly(potential: Potential, system: System, **options: bool) -> Prediction:
    """Evaluate in torch."""
    exact = copy.deepcopy(potential)
    choose_backend(exact, "reference")
    return exact.evaluate(system, **options)


def assert_close(a: Prediction, b: Prediction, tolerance: float) -> None:
    """Compare; tolerances are absolute (eV, A, mu_B) where values are below one."""
    for name in QUANTITIES:
        found, expected = getattr(a, name), getattr(b, name)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        scale = max(1.0, float(expected.abs().max()))
        assert float((found - expected).abs().max()) <= tolerance * scale, name


def kernels_of(net: Potential) -> list[Any]:
    """Return the kernels that evaluations of a network have made."""
    known = vars(net).get("_kernels", {}).values()
    return [
        kernel
        for kernels in known
        for _, kernel in kernels._networks.get(net, {}).values()
    ]
