"""Transition temperatures against known ones, and the cost of Monte Carlo trials.

python benchmarks/curie.py [--cases sc bcc fcc iron iron-moving] [--checkpoint FOLDER]

Classical Heisenberg models of nearest neighbours, E = -J sum over pairs of unit
spins, and the reference Hamiltonian of iron, with its lattice frozen and moving
(hybrid Monte Carlo at constant volume), each by one call of ``curie_temperature`` in
one process. Seconds are of the processor, without what a checkpoint held. Known
values: sc and bcc from K. Chen, A. M. Ferrenberg and D. P. Landau, Phys. Rev. B 48,
3249 (1993), doi:10.1103/PhysRevB.48.3249; fcc from high-temperature series. Then ns
per trial move of a spin: compiled couplings of distances and of lists of bonds, and one
spin at a time through the potential. Prints a table, adds what it ran to the JSON file,
and draws the cumulants.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import matplotlib.pyplot as plt
import numba
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase.analysis import curie_temperature, plot_transition
from deepspin_ase.dynamics import MonteCarlo
from deepspin_ase.potentials import BondHamiltonian, Heisenberg, Potential, Shells
from deepspin_ase.potentials.materials import reference

RESULTS = Path(__file__).parent / "results"
J, A = 0.01, 2.5


@dataclass
class Case:
    """A call of ``curie_temperature``; ``known`` and results in ``unit_K``."""

    potential: Potential
    atoms: Atoms
    temperatures_K: np.ndarray
    sizes: tuple[int, ...]
    unit: str = "K"
    unit_K: float = 1.0
    known: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


def heisenberg(lattice: str, known: float, sizes: tuple[int, ...]) -> Case:
    """Return nearest neighbours on a cubic lattice."""
    atoms = bulk("Fe", lattice, a=A)
    set_spins(atoms, {"Fe": 2.0})
    nearest = A * {"sc": 1.0, "bcc": 3**0.5 / 2, "fcc": 2**-0.5}[lattice]
    unit = J / units.kB
    return Case(
        Heisenberg(Shells([(nearest, J)])),
        atoms,
        np.linspace(0.97, 1.03, 7) * known * unit,
        sizes,
        "J/k",
        unit,
        known,
        {"steps": 4000, "equilibration": 800},
    )


def iron(*, moving: bool) -> Case:
    """Return the reference Hamiltonian; one that moves at fewer atoms."""
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True)
    set_spins(atoms, {"Fe": 2.36})
    if not moving:
        grid = np.linspace(1400.0, 1520.0, 7)
        length = {"steps": 1500, "equilibration": 800}
        return Case(reference.fe(), atoms, grid, (4, 6, 9), options=length)
    hybrid = {"lattice_steps": 8, "lattice_timestep": 3 * units.fs, "clusters": 20}
    return Case(
        reference.fe(),
        atoms,
        np.linspace(1340.0, 1580.0, 5),
        (2, 3, 5),
        options={
            "steps": 250,
            "equilibration": 100,
            "interval": 1,
            "options": hybrid,
        },
    )


CASES = {
    "sc": lambda: heisenberg("sc", 1.4429, (6, 10, 16)),
    "bcc": lambda: heisenberg("bcc", 2.0542, (6, 10, 15)),
    "fcc": lambda: heisenberg("fcc", 3.178, (6, 9, 12)),
    "iron": lambda: iron(moving=False),
    "iron-moving": lambda: iron(moving=True),
}


def run(name: str, case: Case, checkpoint: Path | None, seed: int) -> dict[str, Any]:
    """Return what one call found, and draw its cumulants."""
    start = time.process_time()
    result = curie_temperature(
        case.atoms,
        case.temperatures_K,
        sizes=case.sizes,
        checkpoint=None if checkpoint is None else checkpoint / name,
        seed=seed,
        **case.options,
        model=case.potential,
    )
    seconds = time.process_time() - start
    print(result)
    fig, ax = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    plot_transition(result, ax)
    fig.savefig(RESULTS / f"curie_{name}.png", dpi=120)
    plt.close(fig)

    def scaled(estimate: Any) -> list[float]:
        return [estimate.value / case.unit_K, estimate.error / case.unit_K]

    return {
        "known": case.known,
        "unit": case.unit,
        "transition": scaled(result.temperature_K),
        "crossings": [scaled(c) for c in result.crossings_K],
        "moments": [entry.n_magnetic for entry in result.sizes],
        "temperatures_K": result.temperatures_K.tolist(),
        "binder": [entry.binder.tolist() for entry in result.sizes],
        "exponent": list(result.fit.exponent),
        "cumulant": list(result.fit.cumulant),
        "chi_squared": result.fit.chi_squared,
        "drift": result.drift,
        "steps": case.options["steps"],
        "seconds": seconds,
    }


def trials() -> dict[str, float]:
    """Return ns per trial of one spin, bcc with nearest neighbours."""
    case = heisenberg("bcc", 2.0542, (6, 10))
    shift = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    ends = case.atoms, [0] * 4, [0] * 4, shift
    bonds = BondHamiltonian(*ends, [J] * 4)
    chiral = BondHamiltonian(*ends, [J] * 4, dm=[(0.0, 0.0, 0.1 * J)] * 4)

    def ns(
        repeats: int,
        sweeps: int,
        potential: Potential = case.potential,
        **options: Any,
    ) -> float:
        atoms = case.atoms.repeat(repeats)
        atoms.calc = DeepSpinCalculator(potential)
        driver = MonteCarlo(
            atoms,
            temperature_K=2.0542 * case.unit_K,
            rng=0,
            progress=False,
            **options,
        )
        driver.run(2)
        start = time.process_time()
        driver.run(sweeps)
        return 1e9 * (time.process_time() - start) / (sweeps * len(atoms))

    return {
        "compiled couplings, 4096 spins": ns(16, 100),
        "the same from a list of bonds": ns(16, 100, bonds),
        "bonds with Dzyaloshinskii-Moriya vectors": ns(16, 100, chiral),
        "independent spins together, 4096 spins": ns(16, 4, simultaneous=True),
        "one spin at a time, 216 spins": ns(6, 1, simultaneous=False),
    }


def machine() -> dict[str, Any]:
    """Return what the times belong to."""
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "ase": ase.__version__,
    }


def table(content: dict[str, Any]) -> str:
    """Return the results as a table."""
    rows = [
        f"{'model':14s}{'known':>9s}{'found':>11s}{'error':>9s}{'off, %':>9s}{'s':>8s}"
    ]
    for name, found in content["cases"].items():
        value, error = found["transition"]
        known = found["known"]
        off = "" if known is None else f"{100 * (value / known - 1):.2f}"
        rows.append(
            f"{name:14s}{known or '':>9}{value:11.4f}{error:9.4f}{off:>9s}"
            f"{found['seconds']:8.0f}  {found['unit']}"
        )
    rows += [f"{name:40s}{ns:10.0f} ns" for name, ns in content["trials"].items()]
    return "\n".join(rows)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--checkpoint", type=Path, help="folder, to go on after a stop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "curie.json")
    options = parser.parse_args()
    for name in options.cases:
        found = run(name, CASES[name](), options.checkpoint, options.seed)
        content: dict[str, Any] = {"cases": {}}
        if options.output.exists():
            content = json.loads(options.output.read_text())
        content["cases"][name] = found | {"machine": machine()}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    content = json.loads(options.output.read_text())
    content |= {"trials": trials(), "machine": machine()}
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(table(content))


if __name__ == "__main__":
    main()
