"""A network learns a Hamiltonian: errors against frames and size, with stress.

python benchmarks/learning_curve.py [--steps 30000] [--frames 2 8 32 128]

Frames of strained, rattled bcc Fe with canted moments are labelled by the reference
Hamiltonian ``fe()`` (lattice and exchange) with energies, forces, magnetic forces
and virials. Prints validation errors, and writes them with a figure.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, cant_spins, collinear, set_spins
from deepspin_ase._figures import label_logarithmic, with_symbols
from deepspin_ase.data import Dataset, Frame
from deepspin_ase.potentials.materials import reference
from deepspin_ase.training import Trainer, TrainingConfig, collect, compare

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results"
SIZES: dict[str, dict[str, Any]] = {
    "small": {"neuron": [4, 8, 16], "axis_neuron": 4, "fitting": [16, 16]},
    "medium": {"neuron": [10, 20, 40], "axis_neuron": 8, "fitting": [64, 64, 64]},
}


def sample(count: int, *, seed: int) -> Dataset:
    """Return labelled frames of 16 atoms, strained, rattled and canted."""
    rng = np.random.default_rng(seed)
    calculator = DeepSpinCalculator(reference.fe())
    labelled = []
    for _ in range(count):
        atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(2)
        strain = np.eye(3) + rng.normal(0.0, 0.01, (3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.05, (len(atoms), 3))
        set_spins(atoms, {"Fe": 2.2}, pattern=collinear())
        cant_spins(atoms, 0.15, seed=rng)
        atoms.calc = calculator
        atoms.get_potential_energy()
        labelled.append(Frame.from_atoms(atoms))
    return Dataset(labelled, name="fe() reference")


def configuration(size: str, steps: int) -> TrainingConfig:
    """Return a training with stress in the loss."""
    shape = SIZES[size]
    return TrainingConfig.from_dict(
        {
            "model": {
                "type_map": ["Fe"],
                "spin": {"use_spin": [True], "virtual_scale": 0.3},
                "descriptor": {
                    "rcut": 5.5,
                    "rcut_smth": 2.0,
                    "sel": [90],
                    "neuron": shape["neuron"],
                    "axis_neuron": shape["axis_neuron"],
                },
                "fitting_net": {"neuron": shape["fitting"]},
            },
            "data": {"training": ["given"]},
            "learning_rate": {"start_lr": 1e-2, "stop_lr": 1e-5, "decay": "cosine"},
            "loss": {
                "weights": {
                    "energy": (0.02, 1.0),
                    "forces": (1000.0, 1.0),
                    "magnetic_forces": (30000.0, 100.0),
                    "virial": (0.02, 0.1),
                },
            },
            "training": {
                "numb_steps": steps,
                "batch_size": 1,
                "seed": 1,
                "precision": "float32",
                "averaging": 0.99,
                "time_reversal": True,
                "disp_freq": 10**6,
                "save_freq": 10**6,
            },
        }
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30000)
    parser.add_argument("--frames", type=int, nargs="+", default=[2, 8, 32, 128])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    pool, validation = sample(max(options.frames), seed=0), sample(20, seed=1)
    rows = []
    for size in SIZES:
        for count in options.frames:
            with tempfile.TemporaryDirectory() as folder:
                trainer = Trainer(
                    configuration(size, options.steps),
                    pool[:count],
                    validation,
                    output=folder,
                )
                potential = trainer.run(progress=False)
            found = compare(potential, collect(trainer.validation_frames))
            errors = {name: 1e3 * error.rmse for name, error in found.items()}
            rows.append({"size": size, "frames": count, **errors})
            line = ", ".join(f"{name} {error:.1f}" for name, error in errors.items())
            print(f"{size}, {count} frames: RMSE in m: {line}", flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    content = {"steps": options.steps, "torch": torch.__version__, "rows": rows}
    path = options.output / "learning_curve.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    draw(rows, options.output / "learning_curve.png")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the errors over the number of frames."""
    units = {
        "energy": "meV/atom",
        "forces": "meV/A",
        "magnetic_forces_transverse": "meV/mu_B",
        "virial": "meV/atom",
    }
    figure, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
    for ax, (name, unit) in zip(axes, units.items(), strict=True):
        for size in SIZES:
            own = [row for row in rows if row["size"] == size]
            counts, errors = [r["frames"] for r in own], [r[name] for r in own]
            ax.loglog(counts, errors, "o-", label=size)
        ax.set_title(name.replace("_", " "), fontsize="small")
        ax.set_xlabel("training frames")
        ax.set_ylabel(f"RMSE ({with_symbols(unit)})")
        label_logarithmic(ax)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
