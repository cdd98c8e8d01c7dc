"""Writes spin models of many kinds with DeePMD-kit, and its numbers.

Run by the Python of an environment with deepmd-kit: ``deepmd_variants.py FOLDER``
writes ``NAME.yaml``, ``NAME.pth`` and ``NAME.npz`` (one structure of Fe and O: energy,
forces, magnetic forces and virial) for every variant.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from deepmd.dpmodel.utils.serialization import save_dp_model
from deepmd.pt.model.model import get_model
from deepmd.pt.utils.serialization import deserialize_to_file

BASE = {
    "type_map": ["Fe", "O"],
    "descriptor": {
        "type": "se_e2_a",
        "sel": [16, 16],
        "rcut": 4.0,
        "rcut_smth": 2.5,
        "neuron": [4, 8],
        "axis_neuron": 3,
        "type_one_side": False,
    },
    "fitting_net": {"neuron": [6, 6]},
    "spin": {"use_spin": [True, False], "virtual_scale": [0.3]},
}

#: Entries that differ from those above, by the name of the variant.
VARIANTS = {
    "plain": {},
    "one_side": {"descriptor.type_one_side": True},
    "steps": {"descriptor.resnet_dt": True, "fitting_net.resnet_dt": False},
    "free_atoms": {"fitting_net.atom_ener": [None, -5.0]},
    "activations": {
        "descriptor.activation_function": "silu",
        "fitting_net.activation_function": "softplus",
    },
    "relu6": {"fitting_net.activation_function": "relu6"},
    "pairs": {"pair_exclude_types": [[0, 1]]},
    "atoms": {"atom_exclude_types": [1]},
    "symbols": {"spin.use_spin": ["O"]},
    "both": {"spin.use_spin": [True, True], "spin.virtual_scale": [0.3, 0.2]},
    "none": {"spin.use_spin": [], "spin.virtual_scale": 0.3},
    "protected": {"descriptor.env_protection": 0.05},
    "widths": {"descriptor.neuron": [5, 5, 7], "fitting_net.neuron": [4, 8, 3]},
    "frames": {"fitting_net.numb_fparam": 2},
    "default": {
        "fitting_net.numb_fparam": 2,
        "fitting_net.default_fparam": [0.3, 0.4],
    },
    "tasks": {"fitting_net.dim_case_embd": 2},
    "attention": {
        "descriptor": {
            "type": "se_atten",
            "sel": 60,
            "rcut": 4.0,
            "rcut_smth": 2.5,
            "neuron": [4, 8],
            "axis_neuron": 3,
            "attn": 4,
            "attn_layer": 1,
        }
    },
}


def parameters(changes):
    result = copy.deepcopy(BASE)
    for path, value in changes.items():
        *sections, last = path.split(".")
        target = result
        for name in sections:
            target = target[name]
        target[last] = value
    return result


def randomize(model):
    """Make statistics, biases and energies of elements other than zero or one."""
    generator = torch.Generator().manual_seed(7)

    def noise(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for name, values in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("mean") and values.ndim == 3:
                values[..., 0] += 0.1 * noise(len(values), 1)
            elif name.endswith("stddev") and values.ndim == 3:
                values[:] = 0.05 + 0.1 * noise(len(values), 1, 1)
            elif "out_bias" in name or ("bias" in name and "layers" in name):
                values += noise(*values.shape)


def main(folder):
    rng = np.random.default_rng(5)
    cell = np.diag([4.2, 4.4, 5.0]) + 0.3 * rng.random((3, 3))
    lattice = [[0, 0, 0], [2, 2, 0], [2, 0, 2], [0, 2, 2], [1, 1, 1], [3, 3, 2.4]]
    positions = 0.25 * np.array(lattice) @ cell + 0.1 * rng.normal(size=(6, 3))
    types = np.array([0, 0, 1, 1, 0, 1])
    spins = rng.normal(size=(6, 3))
    for name, changes in VARIANTS.items():
        given = parameters(changes)
        torch.manual_seed(0)
        model = get_model(copy.deepcopy(given))
        randomize(model)
        tree = {"model_def_script": given, "@variables": {}}
        save_dp_model(str(folder / f"{name}.yaml"), tree | {"model": model.serialize()})
        frozen = str(folder / f"{name}.pth")
        deserialize_to_file(frozen, tree | {"model": model.serialize()})
        program = torch.jit.load(frozen)
        magnetic = program.spin_mask.numpy().astype(bool)[types]
        own = np.where(magnetic[:, None], spins, 0.0)
        extra = {}
        if program.get_dim_fparam():
            extra["fparam"] = torch.tensor([[0.3, 0.4]], dtype=torch.float64)
        found = program(
            torch.tensor(positions)[None],
            torch.tensor(types)[None],
            torch.tensor(own)[None],
            box=torch.tensor(cell).reshape(1, 9),
            **extra,
        )
        np.savez(
            folder / f"{name}.npz",
            symbols=np.array(given["type_map"])[types],
            positions=positions,
            cell=cell,
            spins=own,
            energy=found["energy"].detach().numpy().ravel(),
            forces=found["force"].detach().numpy()[0],
            magnetic_forces=found["force_mag"].detach().numpy()[0],
            virial=found["virial"].detach().numpy().reshape(1, 3, 3),
        )


main(Path(sys.argv[1]))
