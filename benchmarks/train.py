"""Time of a training step: batch 1, 32 atoms of NiO, the network of evaluate.py.

python benchmarks/train.py [--threads 2] [--precision float64]

Frames are labelled by the rigid-ion reference of NiO. The time of a step is what
additional steps of a whole training run cost, so that it includes everything.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, cant_spins, set_spins
from deepspin_ase.data import Dataset, Frame
from deepspin_ase.potentials.materials import reference
from deepspin_ase.training import Trainer, TrainingConfig

STEPS = (20, 120)


def frames(count: int) -> Dataset:
    """Return rattled, canted NiO labelled by the reference Hamiltonian."""
    labelled = []
    for seed in range(count):
        atoms = bulk("NiO", "rocksalt", 4.18).repeat((4, 2, 2))
        order = antiferromagnetic((0.5, 0.5, 0.5), cell=4.18)
        set_spins(atoms, {"Ni": 1.7}, pattern=order)
        cant_spins(atoms, 0.02, seed=seed)
        atoms.rattle(0.03, seed=seed)
        atoms.calc = DeepSpinCalculator(reference.nio())
        atoms.get_potential_energy()
        labelled.append(Frame.from_atoms(atoms))
    return Dataset(labelled, name="reference NiO")


def configuration(steps: int, precision: str) -> TrainingConfig:
    """Return a training of the network of nio_early.pth."""
    return TrainingConfig.from_dict(
        {
            "model": {
                "type_map": ["Ni", "O"],
                "spin": {"use_spin": [True, False], "virtual_scale": 0.314},
                "descriptor": {
                    "rcut": 5.6,
                    "rcut_smth": 5.4,
                    "sel": [60, 60],
                    "neuron": [10, 20, 40],
                    "axis_neuron": 8,
                },
                "fitting_net": {"neuron": [64, 64, 64]},
            },
            "data": {"training": ["given"]},
            "training": {
                "numb_steps": steps,
                "precision": precision,
                "disp_freq": 10**6,
                "save_freq": 10**6,
            },
        }
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="all by default")
    parser.add_argument("--precision", default="float64")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "train.json"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    data = frames(4)
    times = []
    for steps in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                configuration(steps, options.precision), data, output=folder
            )
            start = time.perf_counter()
            trainer.run(progress=False)
            times.append(time.perf_counter() - start)
    step = (times[1] - times[0]) / (STEPS[1] - STEPS[0])
    print(f"{1e3 * step:.1f} ms a step, batch 1, {data[0].n_atoms} atoms, ", end="")
    print(f"{options.precision}, {torch.get_num_threads()} threads")
    content = {
        "step_ms": 1e3 * step,
        "atoms": data[0].n_atoms,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
