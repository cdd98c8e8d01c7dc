"""Cost of a band beside its model's, and model calls of its optimizers.

python benchmarks/neb.py [--threads 2] [--parts cost calls] [--steps 1000]

- cost: a step of a band of 9 images against one batched call of the same atoms (the
  7 images that move), for networks: BiFeO3 (10 atoms, random weights) on the way
  from one variant of the polarisation to the next, and NiO (32 atoms, the shipped
  model);
- calls: batched model calls until bands with a climbing image converge, by
  ``neb.run`` and by ASE's optimizers: reversal of a chain of spins by a Bloch wall,
  and the hop of a vacancy in iron, its spins canted at the start.

Prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.optimize import BFGS, FIRE, FIRE2, LBFGS, MDMin

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    rotate_spins,
    set_spins,
)
from deepspin_ase.analysis import SpinLatticeNEB, interpolate
from deepspin_ase.neighbors import build_pairs
from deepspin_ase.potentials import (
    DeepSpinConfig,
    DeepSpinNetwork,
    Heisenberg,
    Shells,
    Sum,
    UniaxialAnisotropy,
)
from deepspin_ase.potentials.materials import reference
from deepspin_ase.system import System

RESULTS = Path(__file__).parent / "results" / "neb.json"
OPTIMIZERS = {o.__name__: o for o in (FIRE, FIRE2, MDMin, LBFGS)}

#: R3c BiFeO3 in its two-formula-unit cell, in units of the cell's vectors; the second
#: variant has another sign of the polarisation along z (71 degrees).
VARIANTS = (
    ".28258 .28258 .28258 -.21741 .78259 .78259 .00573 .00573 .00573 -.49426 .50574 "
    ".50574 -.28137 .16998 .32303 .32303 -.28137 .16998 .16998 .32303 -.28137 -.78141 "
    ".82303 .67010 -.32990 .21859 .82303 -.17697 .67010 .21859",
    ".21742 .21742 .34774 -.28259 .71741 .84776 -.00574 -.00574 .01722 -.50573 .49427 "
    ".51718 -.32303 .28141 .21173 .28141 -.17010 .21173 .17697 .33002 -.28836 -.66998 "
    ".78137 .71164 -.21863 .17697 .71164 -.17010 .67697 .21173",
)


def bismuth_ferrite() -> list[Atoms]:
    """Return 9 images from one variant to another, under a network."""
    network = DeepSpinNetwork(
        DeepSpinConfig.model_validate(
            {
                "type_map": ["Bi", "Fe", "O"],
                "spin": {"use_spin": [False, True, False], "virtual_scale": 0.3},
                "descriptor": {"rcut": 6.0, "rcut_smth": 2.0, "sel": [20, 20, 60]},
                "fitting_net": {"neuron": [120, 120, 120]},
            }
        )
    )
    ends = []
    for text, turn in zip(VARIANTS, (0.0, 70.5), strict=True):
        places = np.array(text.split(), dtype=float).reshape(10, 3)
        cell = 4.0147 * (1.0 - np.eye(3))
        ends.append(Atoms("Bi2Fe2O6", scaled_positions=places, cell=cell, pbc=True))
        set_spins(ends[-1], {"Fe": 4.0}, pattern=[0, 0, 1, -1, 0, 0, 0, 0, 0, 0])
        rotate_spins(ends[-1], turn, axis=(1, -1, 0))
    ends[0].calc = DeepSpinCalculator(network)
    return interpolate(*ends, 9)


def nickel_oxide() -> list[Atoms]:
    """Return 9 images on which the spins of NiO turn by 90 degrees."""
    first = bulk("NiO", "rocksalt", 4.17, cubic=True).repeat((2, 2, 1))
    first.rattle(0.05, seed=1)
    set_spins(first, {"Ni": 1.27}, pattern=antiferromagnetic((0, 0, 1), cell=4.17))
    first.calc = DeepSpinCalculator("NiO")
    last = first.copy()
    last.rattle(0.05, seed=2)
    rotate_spins(last, 90.0, axis="x")
    return interpolate(first, last, 9)


def median_time(function: Callable[[], object], seconds: float = 4.0) -> float:
    """Return the median time of a call, after one to warm up, s."""
    function()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def cost(images: list[Atoms]) -> dict[str, float]:
    """Return the times of a step of a band and of one call of its model."""
    neb = SpinLatticeNEB(images)
    potential = images[0].calc.potential
    system = System.from_atoms(images[1:-1])
    pairs = build_pairs(system, potential.pair_cutoff(system) + 0.5)
    rng = np.random.default_rng(0)
    x, evaluated = neb.get_x(), neb.get_gradient().size

    def step() -> None:
        neb.set_x(x + 1e-3 * rng.normal(size=evaluated))
        neb.converged(neb.get_gradient(), 1e9)

    def call() -> None:
        potential.evaluate(system, pairs, virial=False)

    alone, whole = median_time(call), median_time(step)
    return {
        "atoms": len(images[0]),
        "call_ms": 1e3 * alone,
        "step_ms": 1e3 * whole,
        "ratio": whole / alone,
    }


def wall() -> tuple[list[Atoms], dict[str, float]]:
    """Return the reversal of 24 spins by a wall, and its thresholds."""
    n, anisotropy = 24, 1e-3
    exchange = 10 * anisotropy
    first = Atoms(["Fe"] * n, [[2.5 * k, 0, 0] for k in range(n)])
    set_spins(first, np.ones(n))
    terms = [
        Heisenberg(Shells([(2.5, exchange)])),
        UniaxialAnisotropy(anisotropy, (0, 0, 1)),
        UniaxialAnisotropy(-anisotropy, (1, 0, 0)),
    ]
    first.calc = DeepSpinCalculator(Sum(terms))
    last = first.copy()
    set_spins(last, -np.ones(n))
    orders = []
    for place in range(n - 1, -1, -2):
        x = (np.arange(n) - place) / np.sqrt(exchange / (2 * anisotropy))
        orders.append(np.stack([0 * x, 1 / np.cosh(x), -np.tanh(x)], axis=1))
    images = interpolate(first, last, 12, via=orders, axis="x")
    return images, {"fmax": 1e-3, "torque_max": 1e-6, "spring": 0.05}


def vacancy() -> tuple[list[Atoms], dict[str, float]]:
    """Return the hop of a vacancy among 15 atoms of iron, and its thresholds."""
    first = bulk("Fe", a=2.8665, cubic=True).repeat(2)
    last = first.copy()
    near = int(np.argsort(first.get_all_distances(mic=True)[0])[1])
    last.positions[near] = first.positions[0]
    del first[0], last[0]
    easy = UniaxialAnisotropy(1e-4, (0, 0, 1))
    calculator = DeepSpinCalculator(Sum([reference.fe(), easy]))
    for atoms in (first, last):
        set_spins(atoms, {"Fe": 2.36})
        atoms.calc = calculator
        BFGS(atoms, logfile=None).run(fmax=1e-3)
    images = interpolate(first, last, 7)
    for k, image in enumerate(images[1:-1]):
        cant_spins(image, 0.005, seed=k)
    return images, {"fmax": 0.01, "torque_max": 1e-4, "spring": 1.0}


def calls(
    problem: tuple[list[Atoms], dict[str, float]], steps: int
) -> dict[str, dict[str, Any]]:
    """Return batched calls and barriers (meV) by optimizer."""
    images, limits = problem
    found: dict[str, dict[str, Any]] = {}
    for name in ("run", *OPTIMIZERS):
        copies = [image.copy() for image in images]
        for image in copies:
            image.calc = images[0].calc
        neb = SpinLatticeNEB(
            copies,
            climb=True,
            spring=limits["spring"],
            torque_max=limits["torque_max"],
        )
        if name == "run":
            converged = neb.run(fmax=limits["fmax"], steps=steps)
        else:
            optimizer = OPTIMIZERS[name](neb, logfile=None)
            converged = optimizer.run(fmax=limits["fmax"], steps=steps)
        found[name] = {
            "converged": bool(converged),
            "calls": neb.band.n_calls,
            "barrier_meV": 1e3 * neb.path().barrier_forward,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--parts", nargs="+", choices=("cost", "calls"), default=["cost", "calls"]
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if "cost" in options.parts:
        content["cost"] = {"threads": options.threads}
        print(f"{'9 images':<10}{'atoms':>6}{'call ms':>10}{'step ms':>10}{'ratio':>8}")
        for name, images in (("BiFeO3", bismuth_ferrite()), ("NiO", nickel_oxide())):
            row = content["cost"][name] = cost(images)
            print(
                f"{name:<10}{row['atoms']:6d}{row['call_ms']:10.1f}"
                f"{row['step_ms']:10.1f}{row['ratio']:8.2f}"
            )
    if "calls" in options.parts:
        content["calls"] = {}
        print(f"{'band':<10}{'optimizer':<11}{'calls':>6}{'barrier meV':>13}")
        for name, problem in (("wall", wall()), ("vacancy", vacancy())):
            rows = content["calls"][name] = calls(problem, options.steps)
            for optimizer, row in rows.items():
                state = "" if row["converged"] else " not converged"
                print(
                    f"{name:<10}{optimizer:<11}{row['calls']:6d}"
                    f"{row['barrier_meV']:13.4f}{state}"
                )
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
