"""Errors of the networks on kept-back frames, for equal processor time.

python benchmarks/accuracy.py TRAIN VALID [--only TEXT ...] [--seconds 120]
    [--output FILE]

Trains the network on moments and the pseudo-atom network by the same trainer with as
many steps as fit into the time, the closed-form fit and all preparation included, and
prints the errors of the frames in VALID. ``--only`` keeps frames whose
``config_type`` ends with one of the texts. Steps are counted beforehand from a short
run; the processor time that was used is printed with the errors.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ase.io import iread

from deepspin_ase import get_spins
from deepspin_ase.data import Dataset, Frame
from deepspin_ase.training import Trainer, TrainingConfig, compare, load_batches

#: Steps of the runs that tell the time of a step; the first also compiles.
PROBES = 20, 120


def frames_of(path: str, only: list[str]) -> Dataset:
    """Return the labelled frames of an extxyz file, or some of them."""
    frames = []
    for atoms in iread(path, ":"):
        kind = str(atoms.info.get("config_type", ""))
        if not only or kind.endswith(tuple(only)):
            frames.append(Frame.from_atoms(atoms))
    return Dataset(frames)


def pseudo_atoms(elements: list[str], magnetic: list[str]) -> dict[str, Any]:
    """Return the training file of a small pseudo-atom network, as in tutorials/fe."""
    model = {
        "type": "deepspin",
        "type_map": elements,
        "descriptor": {
            "rcut": 5.0,
            "rcut_smth": 2.0,
            "sel": [120] * len(elements),
            "neuron": [10, 20, 40],
            "axis_neuron": 8,
        },
        "fitting_net": {"neuron": [64, 64, 64]},
        "spin": {
            "use_spin": [symbol in magnetic for symbol in elements],
            "virtual_scale": 0.3,
        },
    }
    weights = {"energy": [1, 1], "forces": [10, 1], "magnetic_forces": [100, 10]}
    return {
        "model": model,
        "learning_rate": {"start_lr": 5e-3, "decay": "cosine"},
        "loss": {"weights": weights},
        "training": {"precision": "float32", "averaging": 0.999},
    }


def carries(frame: Frame, symbol: str) -> bool:
    """Return whether an atom of an element has a moment."""
    atoms = frame.to_atoms()
    return bool(get_spins(atoms)[atoms.symbols == symbol].any())


def train(
    sections: dict[str, Any], train: Dataset, valid: Dataset, steps: int
) -> tuple[dict[str, float], float]:
    """Return the errors of the kept-back frames and the processor time, s."""
    length = {"numb_steps": steps, "disp_freq": max(steps // 8, 1)}
    values = {
        **sections,
        "data": {"training": ["-"], "validation": ["-"]},
        "training": {**sections.get("training", {}), **length},
    }
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        config = TrainingConfig.from_dict(values)
        trainer = Trainer(config, train, valid, output=folder)
        potential = trainer.run(progress=False)
        seconds = time.process_time() - start
        found = compare(potential, load_batches(valid, potential))
    return {name: comparison.rmse for name, comparison in found.items()}, seconds


def main() -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("train")
    parser.add_argument("valid")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, kept = (frames_of(p, options.only) for p in (options.train, options.valid))
    symbols = sorted({s for f in data for s in f.to_atoms().get_chemical_symbols()})
    print(f"{len(data)} frames to learn from, {len(kept)} kept back", flush=True)
    results: dict[str, Any] = {}
    magnetic = [s for s in symbols if any(carries(f, s) for f in data)]
    models = {
        "moments": {
            "model": {"type": "moments", "elements": symbols, "magnetic": magnetic}
        },
        "pseudo-atoms": pseudo_atoms(symbols, magnetic),
    }
    for name, model in models.items():
        train(model, data, kept, 1)  # compiles
        few, many = (train(model, data, kept, steps)[1] for steps in PROBES)
        step = max(many - few, 1e-3) / (PROBES[1] - PROBES[0])
        steps = max(int((options.seconds - few) / step), 1)
        errors, seconds = train(model, data, kept, steps)
        results[name] = {"steps": steps, "seconds": seconds, "errors": errors}
        shown = ", ".join(f"{k} {1e3 * v:.3g} m" for k, v in errors.items())
        print(f"{name}: {steps} steps, {seconds:.0f} s: {shown}", flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
