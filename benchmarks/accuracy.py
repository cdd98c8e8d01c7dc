"""Errors of networks on kept-back frames against time of training and frames.

python benchmarks/accuracy.py NAME [TRAIN VALID] [--only TEXT ...] [--seconds 60]
    [--frames 32 128 512] [--deepmd DP] [--output FILE]
python benchmarks/accuracy.py --draw [--output FILE]

NAME stands for the data in the results. TRAIN and VALID are files or folders (several
with commas in between); without them, frames are labelled by the reference Hamiltonian
``fe()``. ``--only`` keeps frames whose ``config_type`` ends with one of the texts.

The network on moments and the pseudo-atom network are trained by the same trainer, and
with the command ``dp`` of DeePMD-kit 3.2 in an environment of its own (``--deepmd``)
its DPA4C with explicit spins and its se_e2_a with pseudo-atoms, all in float32 on one
thread. Each takes as many steps as fit into the processor time, all preparation
included, as far as short runs tell. The loss of the latter two is that of the network
on moments, but DPA4C needs a larger weight of magnetic forces to learn them at all.
With ``--frames`` the network on moments is also trained on so many frames.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from learning_curve import sample

from deepspin_ase.data import Dataset, read_dataset, write_dataset
from deepspin_ase.training import Trainer, TrainingConfig, compare, load_batches

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

RESULTS = Path(__file__).parent / "results" / "accuracy.json"

#: Steps of the runs that tell the time of a step.
PROBES = 20, 120

#: Points of a curve over the time of training.
POINTS = 10

#: Weights of energies, forces and magnetic forces, about those that the network on
#: moments takes from labels of fcc Fe, and the last one for DPA4C.
WEIGHTS, DPA4C_MAGNETIC = (10.0, 1.0, 50.0), 300.0

#: Quantities with their units; errors of vectors are per component.
UNITS = {
    "energy": "meV/atom",
    "forces": "meV/A",
    "magnetic_forces": "meV/mu_B",
}
Errors = dict[str, float]


@dataclass(frozen=True)
class Run:
    """Steps and errors (eV, A, mu_B) while training, and the processor time, s."""

    steps: list[int]
    errors: list[Errors]
    seconds: float

    def over_time(self, step: float) -> list[float]:
        """Return the times of the errors, for that of a step."""
        return [max(self.seconds - (self.steps[-1] - n) * step, 0) for n in self.steps]


Learner = Callable[[Dataset, Dataset, int], Run]


def subset(data: Dataset, only: list[str], path: str) -> Dataset:
    """Return the frames whose ``config_type`` ends with one of the texts."""
    from ase.io import iread

    kinds = [str(atoms.info.get("config_type", "")) for atoms in iread(path, ":")]
    return Dataset(
        [f for f, k in zip(data, kinds, strict=True) if k.endswith((*only,))]
    )


def moments(elements: list[str], magnetic: list[str]) -> dict[str, Any]:
    """Return the training file of the network on moments."""
    return {"model": {"type": "moments", "elements": elements, "magnetic": magnetic}}


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


def own(sections: dict[str, Any]) -> Learner:
    """Return the training of a network of this package."""

    def learn(train: Dataset, valid: Dataset, steps: int) -> Run:
        length = {"numb_steps": steps, "disp_freq": max(steps // POINTS, 1)}
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
            with (Path(folder) / "lcurve.csv").open() as file:
                rows = list(csv.DictReader(file))
        found = compare(potential, load_batches(valid, potential))
        last = {name: comparison.rmse for name, comparison in found.items()}
        named = "validation_rmse_"
        curve = [
            {k.removeprefix(named): float(v) for k, v in r.items() if named in k}
            for r in rows
        ]
        steps_ = [int(float(row["step"])) for row in rows]
        return Run(steps_, [by_component(x) for x in (*curve[:-1], last)], seconds)

    return learn


def by_component(errors: Errors) -> Errors:
    """Return errors with that of all components of the magnetic forces."""
    across, along = (
        errors[f"magnetic_forces_{part}"] for part in ("transverse", "longitudinal")
    )
    return errors | {"magnetic_forces": ((2 * across**2 + along**2) / 3) ** 0.5}


def deepmd(
    command: str, explicit: bool, elements: list[str], magnetic: list[str]
) -> Learner:
    """Return the training of a model by DeePMD-kit.

    Of DPA4C on fcc Fe, widths of 8, 16 and 32, rates of 1e-3 to 5e-3 and weights of
    magnetic forces of 50 to 1,000 were tried.
    """
    common = {"precision": "float32", "seed": 1}
    spin: dict[str, Any] = {"use_spin": [symbol in magnetic for symbol in elements]}
    descriptor: dict[str, Any]
    if explicit:
        descriptor = {"type": "dpa4c", "rcut": 5.0, "channels": 16, **common}
        neuron, spin["scheme"] = [96, 96], "native"
    else:
        shape = pseudo_atoms(elements, magnetic)["model"]["descriptor"]
        descriptor = {"type": "se_e2_a", **shape, **common}
        neuron, spin["virtual_scale"] = [64, 64, 64], [0.3] * len(elements)
    e, f, m = (*WEIGHTS[:2], DPA4C_MAGNETIC) if explicit else WEIGHTS
    weights = {"e": e, "fr": f, "fm": m, "v": 0.0}
    loss = {f"{end}_pref_{k}": v for k, v in weights.items() for end in ENDS}
    model = {
        "type_map": elements,
        "descriptor": descriptor,
        "fitting_net": {"neuron": neuron, **common},
        "spin": spin,
    }

    def learn(train: Dataset, valid: Dataset, steps: int) -> Run:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            systems = {}
            for part, data in (("training", train), ("validation", valid)):
                target = folder / part
                write_dataset(target, data, format="deepmd/npy", type_map=elements)
                found = [str(p.parent) for p in target.rglob("type.raw")]
                systems[f"{part}_data"] = {"systems": sorted(found), "batch_size": 1}
            systems["validation_data"]["batch_size"] = len(valid)
            training = {
                **systems,
                "numb_steps": steps,
                "seed": 1,
                "disp_freq": max(steps // POINTS, 1),
                "save_freq": steps,
            }
            rates = {"type": "cosine", "start_lr": 3e-3, "stop_lr": 3e-6}
            content = {
                "model": model,
                "learning_rate": rates,
                "loss": {"type": "ener_spin", **loss},
                "training": training,
            }
            (folder / "input.json").write_text(json.dumps(content))
            start = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [command, "--pt-expt" if explicit else "--pt", "train", "input.json"],
                cwd=folder,
                env=os.environ | ONE_THREAD,
                capture_output=True,
                check=True,
            )
            end = resource.getrusage(resource.RUSAGE_CHILDREN)
            rows = np.genfromtxt(folder / "lcurve.out", names=True, skip_header=0)
        seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
        names = {"energy": "e", "forces": "fr", "magnetic_forces": "fm"}
        errors = [
            {long: float(row[f"rmse_{short}_val"]) for long, short in names.items()}
            for row in rows
        ]
        return Run([int(row["step"]) for row in rows], errors, seconds)

    return learn


ENDS = ("start", "limit")
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "DP_INTRA_OP_PARALLELISM_THREADS": "1",
    "DP_INTER_OP_PARALLELISM_THREADS": "1",
}


def measured(
    learn: Learner, train: Dataset, valid: Dataset, seconds: float
) -> dict[str, Any]:
    """Train for a time; return steps, errors and their times."""
    few, many = (learn(train, valid, steps).seconds for steps in PROBES)
    step = max(many - few, 1e-3) / (PROBES[1] - PROBES[0])
    run = learn(train, valid, max(int((seconds - few) / step), POINTS))
    times = run.over_time((run.seconds - few) / (run.steps[-1] - PROBES[0]))
    return {
        "frames": len(train),
        "steps": run.steps[-1],
        "seconds": run.seconds,
        "errors": run.errors[-1],
        "curve": [{"seconds": t, **e} for t, e in zip(times, run.errors, strict=True)],
    }


def table(results: dict[str, Any]) -> str:
    """Return errors of every model and data set, and ratios to those of ours."""
    lines = []
    for data, models in results.items():
        for name, result in models.items():
            found = result["errors"]
            shown = ", ".join(f"{k} {1e3 * found[k]:.3g} {UNITS[k]}" for k in UNITS)
            ratios = " ".join(
                f"{models['moments']['errors'][k] / found[k]:.3f}" for k in UNITS
            )
            head = f"{data}, {name}, {result['frames']} frames"
            time_ = f"{result['steps']} steps, {result['seconds']:.0f} s"
            lines.append(f"{head}: {time_}: {shown}; moments/this: {ratios}")
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw errors over the time of training."""
    figure, axes = plt.subplots(
        len(results), 3, figsize=(10, 2.7 * len(results)), layout="constrained"
    )
    for row, (data, models) in zip(np.atleast_2d(axes), results.items(), strict=True):
        for ax, (quantity, unit) in zip(row, UNITS.items(), strict=True):
            for name, result in models.items():
                if " frames" in name:
                    continue
                points = [x for x in result["curve"] if np.isfinite(x[quantity])]
                x = [point["seconds"] for point in points]
                y = [1e3 * point[quantity] for point in points]
                ax.loglog(x, y, "o-", markersize=3, label=name)
            ax.set_title(f"{data}: {quantity.replace('_', ' ')}", fontsize="small")
            ax.set_xlabel("processor time (s)")
            unit = unit.replace("mu_B", r"$\mu_\mathrm{B}$").replace("/A", "/Å")
            ax.set_ylabel(f"RMSE ({unit})")
            ax.grid(alpha=0.3, which="both")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
    handles, labels = np.atleast_2d(axes)[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, compare, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?")
    parser.add_argument("train", nargs="?")
    parser.add_argument("valid", nargs="?")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--frames", type=int, nargs="*", default=[])
    parser.add_argument("--deepmd", help="the command dp of DeePMD-kit 3.2")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.name:
        run(options)
    results = json.loads(options.output.read_text())
    print(table(results))
    if options.draw:
        draw(results, options.output.with_suffix(".png"))


def run(options: argparse.Namespace) -> None:
    """Train all models on one set of data; write and print the results of each."""
    if options.train is None:
        data, kept = sample(max(128, *options.frames, 0), seed=0), sample(40, seed=1)
        default = data[:128]
    else:
        data, kept = (
            read_dataset(x.split(",")) for x in (options.train, options.valid)
        )
        if options.only:
            data = subset(data, options.only, options.train)
            kept = subset(kept, options.only, options.valid)
        default = data
    elements, magnetic = list(data.elements), list(data.magnetic_elements)
    learners = {
        "moments": own(moments(elements, magnetic)),
        "pseudo-atoms": own(pseudo_atoms(elements, magnetic)),
    }
    if options.deepmd:
        for name, explicit in (("DPA4C", True), ("DeePMD pseudo-atoms", False)):
            learners[name] = deepmd(options.deepmd, explicit, elements, magnetic)
    for name in ("moments", "pseudo-atoms"):
        learners[name](default[:2], kept[:2], 1)  # compiles
    tasks = [(name, learn, default) for name, learn in learners.items()]
    tasks += [
        (f"moments, {count} frames", learners["moments"], data[:count])
        for count in options.frames
    ]
    results: dict[str, Any] = {}
    for name, learn, frames in tasks:
        results[name] = measured(learn, frames, kept, options.seconds)
        known = {}
        if options.output.exists():
            known = json.loads(options.output.read_text())
        known[options.name] = results
        options.output.write_text(json.dumps(known, indent=1) + "\n")
        print(table({options.name: results}).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
