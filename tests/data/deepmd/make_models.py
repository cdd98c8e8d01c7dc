"""Make the small DeePMD-kit models of this folder, and their outputs.

Run in this folder where deepmd-kit 3.2.0 is installed: python make_models.py
"""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepmd.infer import DeepPot
from deepmd.pt.model.model import get_model

MODELS: dict[str, dict[str, Any]] = {
    # Three elements, two of them magnetic, and too few slots for two of them.
    "three": {
        "type_map": ["Fe", "Co", "O"],
        "spin": {"use_spin": [True, True, False], "virtual_scale": [0.3, 0.2]},
        "descriptor": {
            "type": "se_e2_a",
            "sel": [60, 6, 9],
            "rcut": 4.0,
            "rcut_smth": 3.5,
            "neuron": [2, 4, 8],
            "axis_neuron": 4,
            "resnet_dt": True,
            "type_one_side": True,
        },
        "fitting_net": {"neuron": [8, 8], "resnet_dt": True},
    },
    # Too few slots for all neighbours together.
    "crowded": {
        "type_map": ["Fe", "Co"],
        "spin": {"use_spin": [True, True], "virtual_scale": 0.25},
        "descriptor": {
            "type": "se_e2_a",
            "sel": [8, 3],
            "rcut": 4.0,
            "rcut_smth": 3.0,
            "neuron": [3, 6, 6],
            "axis_neuron": 3,
            "env_protection": 0.02,
            "activation_function": "gelu",
        },
        "fitting_net": {"neuron": [8], "activation_function": "silu"},
    },
    "single": {
        "type_map": ["O", "Ni"],
        "spin": {"use_spin": [False, True], "virtual_scale": [0.0, 0.314]},
        "descriptor": {
            "type": "se_e2_a",
            "sel": [40, 70],
            "rcut": 4.0,
            "rcut_smth": 3.5,
            "neuron": [2, 4, 8],
            "axis_neuron": 4,
            "precision": "float32",
            "set_davg_zero": True,
        },
        "fitting_net": {"neuron": [8, 8], "precision": "float32"},
    },
    # DPA-3: messages pass between atoms.
    "dpa3": {
        "type_map": ["Ni", "O"],
        "spin": {"use_spin": [True, False], "virtual_scale": [0.314]},
        "descriptor": {
            "type": "dpa3",
            "repflow": {
                "n_dim": 8,
                "e_dim": 6,
                "a_dim": 4,
                "nlayers": 2,
                "e_rcut": 4.0,
                "e_rcut_smth": 2.0,
                "e_sel": 140,
                "a_rcut": 2.8,
                "a_rcut_smth": 1.5,
                "a_sel": 60,
                "axis_neuron": 2,
                "update_angle": True,
            },
        },
        "fitting_net": {"neuron": [8, 8]},
    },
}

#: Positions (A), cell (A), symbols and moments (mu_B).
Structure = tuple[np.ndarray, np.ndarray, list[str], np.ndarray]


def structures(type_map: list[str], magnetic: list[bool]) -> dict[str, Structure]:
    """Return a triclinic cell, one shorter than the cutoff, and a cluster."""
    rng = np.random.default_rng(7)

    def rattled_grid(n: int, spacing: float) -> np.ndarray:
        grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1)
        points = grid.reshape(-1, 3) * spacing
        return points + rng.uniform(-0.25, 0.25, points.shape)

    def dressed(positions: np.ndarray, cell: np.ndarray) -> Structure:
        types = np.arange(len(positions)) % len(type_map)
        rng.shuffle(types)
        spins = rng.normal(size=positions.shape)
        spins *= (rng.uniform(0.8, 2.0, len(types)) / np.linalg.norm(spins, axis=1))[
            :, None
        ]
        spins *= np.array(magnetic)[types][:, None]
        return positions, cell, [type_map[t] for t in types], spins

    shear = np.array([[1.02, 0.25, 0.0], [0.0, 0.97, 0.1], [0.15, 0.0, 1.05]])
    short = np.array([[4.6, 0.0, 0.0], [0.7, 2.9, 0.0], [0.0, 0.4, 4.5]])
    return {
        "triclinic": dressed(rattled_grid(3, 2.2) @ shear, 6.6 * shear),
        "small": dressed(rattled_grid(2, 2.3)[:6], short),
        "cluster": dressed(rattled_grid(3, 2.3)[:20], np.zeros((3, 3))),
    }


def randomise(model: Any, generator: torch.Generator) -> None:
    """Give biases and input statistics, which are trivial in a new model."""

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    atomic = model.backbone_model.atomic_model
    with torch.no_grad():
        atomic.out_bias += random(*atomic.out_bias.shape)
        if hasattr(atomic.descriptor, "sea"):
            inner = atomic.descriptor.sea
            n = len(inner.mean)
            if not inner.set_davg_zero:
                inner.mean[:, :, 0] = (0.05 + 0.1 * random(n, 1)).to(inner.mean)
            inner.stddev[:, :, 0] = (0.1 + 0.1 * random(n, 1)).to(inner.stddev)
            inner.stddev[:, :, 1:] = (0.05 + 0.1 * random(n, 1, 1)).to(inner.stddev)


def save(model: Any, path: Path) -> None:
    """Freeze a model as ``dp --pt freeze`` does, without debug records, deflated."""
    torch.jit.save(torch.jit.script(model.eval()), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in entries.items():
            if not name.endswith(".debug_pkl"):
                info = zipfile.ZipInfo(name)
                archive.writestr(info, content, zipfile.ZIP_DEFLATED, 9)


def main() -> None:
    """Write <name>.pth and <name>.npz for all models."""
    for seed, (name, definition) in enumerate(MODELS.items()):
        definition["descriptor"] |= {"seed": seed + 1}
        definition["fitting_net"] |= {"seed": seed + 11}
        definition["descriptor"].setdefault("precision", "float64")
        definition["fitting_net"].setdefault("precision", "float64")
        torch.manual_seed(seed)
        model = get_model(copy.deepcopy(definition))
        model.model_def_script = json.dumps(definition)
        randomise(model, torch.Generator().manual_seed(seed))
        path = Path(f"{name}.pth")
        save(model, path)
        evaluator, results = DeepPot(str(path)), {}
        type_map, use_spin = definition["type_map"], definition["spin"]["use_spin"]
        for case, structure in structures(type_map, use_spin).items():
            positions, cell, symbols, spins = structure
            energy, forces, virial, magnetic_forces, _ = evaluator.eval(
                positions.reshape(1, -1),
                cell.reshape(1, 9) if cell.any() else None,
                [type_map.index(symbol) for symbol in symbols],
                spin=spins.reshape(1, -1),
            )
            values = {
                "positions": positions,
                "cell": cell,
                "symbols": np.array(symbols),
                "spins": spins,
                "energy": energy[0, 0],
                "forces": forces[0],
                "magnetic_forces": magnetic_forces[0],
                "virial": virial[0].reshape(3, 3),
            }
            results |= {f"{case}/{key}": value for key, value in values.items()}
        np.savez_compressed(f"{name}.npz", **results)


if __name__ == "__main__":
    main()
