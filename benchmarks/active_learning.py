"""Active choice of labels against random choice, from a pool of structures.

python benchmarks/active_learning.py [--fcc-fe FOLDER] [--seeds 3]

Spin-lattice dynamics of the reference Hamiltonian ``fe()`` make a pool: bcc cells of 2
to 16 atoms at 0 to 1000 K of lattice and spins, independently, up to 2 % strained; 3 in
5 walkers start from canted spins, the others from spirals and random directions. Other
walkers make frames to test on. Both ways begin with the same 12 random labels. Random
choice goes on so; active choice fits the linear term of a network in closed form and
takes the structures whose labels make it most certain of the pool
(:func:`deepspin_ase.learning.most_informative`). With ``--fcc-fe`` the pool is
``train.extxyz`` and the test ``valid.extxyz`` of the folder. Prints errors (RMSE,
geometric mean over the seeds) against the number of labels, with the number that random
choice needs for the errors of active choice, and writes them with a figure.
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.build import perturbed
from deepspin_ase.data import Dataset, Frame, read_dataset
from deepspin_ase.dynamics import SpinLatticeLangevin
from deepspin_ase.learning import equations, most_informative
from deepspin_ase.potentials import SpinMomentConfig, SpinMomentNetwork
from deepspin_ase.potentials.materials import reference
from deepspin_ase.training import collect, compare, fit_linear_term, load_batches

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results"
CELLS = ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2))
STATES = ("canted", "canted", "canted", "spiral", "random")
MODEL = {"angular": 5, "spin_angular": 5, "four_body": 2, "neuron": [8]}
WEIGHTS = {"energy": 10.0, "forces": 1.0, "magnetic_forces": 50.0}
LABELS = (12, 18, 24, 36, 48, 72, 96, 144)
KINDS = {
    "energy": "meV/atom",
    "forces": "meV/A",
    "magnetic_forces": "meV/mu_B",
}


def sample(walkers: int, frames: int, seed: int) -> Dataset:
    """Return labelled frames of dynamics, 20 fs apart."""
    rng = np.random.default_rng(seed)
    temperatures = 1000.0 * rng.uniform(size=(2, walkers))
    images: list[Atoms] = []
    for k in range(walkers):
        crystal = bulk("Fe", "bcc", 2.8665, cubic=True)
        crystal = crystal.repeat(CELLS[k % len(CELLS)])
        set_spins(crystal, {"Fe": 2.36})
        state = STATES[k // len(CELLS) % len(STATES)]
        (start,) = perturbed(
            crystal, 1, displacement=0.0, strain=0.02, states=[state], seed=rng
        )
        thermalize_momenta(start, temperature_K=temperatures[0, k], rng=rng)
        start.calc = DeepSpinCalculator(reference.fe())
        images.append(start)
    dynamics = SpinLatticeLangevin(
        images,
        0.5 * units.fs,
        temperature_K=temperatures[0],
        spin_temperature_K=temperatures[1],
        friction=0.02 / units.fs,
        damping=0.05,
        rng=rng,
        progress=False,
    )
    found = []
    for _ in range(frames):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # hot spins turn fast
            dynamics.run(40)
        for image in dynamics.images:
            atoms = image.copy()
            atoms.calc = DeepSpinCalculator(reference.fe())
            atoms.get_potential_energy()
            found.append(Frame.from_atoms(atoms))
    return Dataset(found, name="fe() reference")


def run(pool: Dataset, test: Dataset, seeds: int) -> list[dict[str, Any]]:
    """Return errors of both choices, by number of labels."""
    config = SpinMomentConfig(elements=["Fe"], magnetic=["Fe"], **MODEL)
    blank = SpinMomentNetwork(config)
    batches, held = load_batches(pool, blank), load_batches(test, blank)
    # Statistics need no labels; the same for both choices.
    blank.fit_statistics((b.system, b.pairs) for b in batches[::4])
    blank.start_from_zero()
    told = equations(blank, [f.to_atoms() for f in pool], WEIGHTS)
    assert told is not None
    rows = []
    for seed in range(seeds):
        first = np.random.default_rng(seed).permutation(len(pool)).tolist()
        chosen = {"random": first, "active": first[: LABELS[0]]}
        for count in (n for n in LABELS if n <= len(pool)):
            own = chosen["active"]
            left = [k for k in range(len(pool)) if k not in own]
            known = [told[k] for k in own]
            more = most_informative(
                [told[k] for k in left], count - len(own), known, seed=seed
            )
            own += [left[k] for k in more]
            for name, order in chosen.items():
                some = order[:count]
                row = {"choice": name, "seed": seed, "labels": count}
                row["atoms"] = sum(pool[k].n_atoms for k in some)
                rows.append(row | errors(blank, [batches[k] for k in some], held))
        print(f"seed {seed} done", flush=True)
    return rows


def errors(blank: SpinMomentNetwork, batches: list, held: list) -> dict[str, float]:
    """Return errors of a network fitted to some frames, in thousandths."""
    network = copy.deepcopy(blank)
    fit = fit_linear_term(network, batches, WEIGHTS)
    network.element_energies = fit.references.elements
    with torch.no_grad():
        found = compare(network, collect(held))
    across, along = (
        found[f"magnetic_forces_{part}"].rmse for part in ("transverse", "longitudinal")
    )
    return {
        "energy": 1e3 * found["energy"].rmse,
        "forces": 1e3 * found["forces"].rmse,
        "magnetic_forces": 1e3 * ((2 * across**2 + along**2) / 3) ** 0.5,
    }


def curve(rows: list[dict[str, Any]], choice: str, kind: str) -> tuple[Any, Any]:
    """Return numbers of labels and errors, the geometric mean over the seeds."""
    counts = sorted({r["labels"] for r in rows})
    means = [
        np.exp(
            np.mean(
                [
                    np.log(r[kind])
                    for r in rows
                    if r["choice"] == choice and r["labels"] == count
                ]
            )
        )
        for count in counts
    ]
    return np.array(counts), np.array(means)


def labels_needed(counts: Any, means: Any, error: float) -> float:
    """Return the number of labels at which a curve stays below an error, or inf."""
    above = np.flatnonzero(means > error)
    if not len(above):
        return float(counts[0])
    k = above[-1]
    if k + 1 == len(counts):
        return np.inf
    share = np.log(means[k] / error) / np.log(means[k] / means[k + 1])
    return float(counts[k] * (counts[k + 1] / counts[k]) ** share)


def report(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print a table, and return it."""
    table = []
    for kind, unit in KINDS.items():
        print(f"{name}: {kind} ({unit})\n  labels  random  active  random needs")
        counts, plain = curve(rows, "random", kind)
        _, active = curve(rows, "active", kind)
        for count, a, b in zip(counts.tolist(), plain, active, strict=True):
            needed = labels_needed(counts, plain, b)
            text = f"{needed:.0f}" if np.isfinite(needed) else f"> {counts[-1]}"
            print(f"  {count:6d}  {a:6.2f}  {b:6.2f}  {text}")
            row = {"kind": kind, "labels": count, "random": a, "active": b}
            row |= {"random_needs": needed if np.isfinite(needed) else None}
            table.append(row)
    return table


def draw(all_rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw errors against labels, a row for each pool."""
    figure, axes = plt.subplots(
        len(all_rows),
        3,
        figsize=(10, 3 * len(all_rows)),
        layout="constrained",
        squeeze=False,
    )
    for own, (name, rows) in zip(axes, all_rows.items(), strict=True):
        for ax, (kind, unit) in zip(own, KINDS.items(), strict=True):
            for choice, mark in (("random", "s--"), ("active", "o-")):
                color = "C0" if choice == "active" else "C1"
                counts, means = curve(rows, choice, kind)
                ax.loglog(counts, means, mark, color=color, label=choice)
                for seed in {r["seed"] for r in rows}:
                    some = [
                        r for r in rows if r["seed"] == seed and r["choice"] == choice
                    ]
                    ax.loglog(
                        [r["labels"] for r in some],
                        [r[kind] for r in some],
                        color=color,
                        lw=0.5,
                        alpha=0.5,
                    )
            ax.set_title(f"{name}: {kind.replace('_', ' ')}", fontsize="small")
            label = unit.replace("A", "Å").replace("mu_B", r"$\mu_B$")
            ax.set_ylabel(f"RMSE ({label})")
            ax.set_xlabel("labelled structures")
            ax.set_xticks(counts, [str(c) for c in counts])
            ax.minorticks_off()
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fcc-fe", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--walkers", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    pools = {
        "bcc Fe": (sample(options.walkers, 10, 0), sample(options.walkers, 3, 1)),
    }
    if options.fcc_fe is not None:
        files = (options.fcc_fe / f"{x}.extxyz" for x in ("train", "valid"))
        pools["fcc Fe, DFT"] = tuple(read_dataset(file) for file in files)
    rows, content = {}, {}
    options.output.mkdir(parents=True, exist_ok=True)
    for name, (pool, test) in pools.items():
        rows[name] = run(pool, test, options.seeds)
        content[name] = {"rows": rows[name], "table": report(name, rows[name])}
        path = options.output / "active_learning.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        draw(rows, options.output / "active_learning.png")


if __name__ == "__main__":
    main()
