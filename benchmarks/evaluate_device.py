"""The part of ``evaluate.py`` that runs on a CUDA device.

Times are medians, by the clock, of calls that are waited for; memory is the largest of
the device above what system and pair list take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from evaluate import MOMENTS, iron, moments, nickel_oxide

from deepspin_ase.neighbors import NeighborList, build_pairs
from deepspin_ase.potentials import (
    DeepSpinConfig,
    DeepSpinNetwork,
    Potential,
    choose_backend,
    load_potential,
)
from deepspin_ase.system import System

SIZES = (32, 1024, 11520, 100000, 1000000)
PRECISIONS = {"float64": False, "mixed": True}

#: Up to this many atoms, torch evaluates as well.
PLAIN_ATOMS = 11520


def wait(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_ms(
    function: Callable[[], object], device: torch.device, seconds: float = 1.0
) -> float:
    """Return the median time of a call, after one to warm up."""
    function()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < seconds and len(times) < 100):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def networks(path: str) -> dict[str, Potential]:
    """Return a frozen model, one of full size and one on moments, of random weights."""
    small = load_potential(path)
    assert isinstance(small, DeepSpinNetwork)
    content = small.config.model_dump()
    content["descriptor"] |= {"neuron": [25, 50, 100], "axis_neuron": 16}
    content["fitting_net"] |= {"neuron": [240, 240, 240]}
    full = DeepSpinNetwork(DeepSpinConfig.from_dict(content))
    full.mean.copy_(small.mean)
    full.std.copy_(small.std)
    full.eval().requires_grad_(False)
    return {"small": small, "full": full, MOMENTS: moments()}


def measure(
    potential: Potential, system: System, device: torch.device
) -> dict[str, Any]:
    """Measure one size."""
    cutoff = potential.pair_cutoff(system)
    found: dict[str, Any] = {"atoms": system.n_atoms}
    found["list_ms"] = median_ms(lambda: build_pairs(system, cutoff), device)
    listed = NeighborList(0.5)
    pairs = listed.update(system, cutoff)
    found["list_reused_ms"] = median_ms(lambda: listed.update(system, cutoff), device)
    found["pairs_per_atom"] = len(pairs.i) / system.n_atoms
    forces = {}
    for name, mixed in PRECISIONS.items():
        choose_backend(potential, mixed=mixed)
        base = memory(device)
        found[f"{name}_ms"] = median_ms(
            lambda: potential.evaluate(system, pairs), device
        )
        found[f"{name}_KiB_per_atom"] = (peak(device) - base) / 1024 / system.n_atoms
        forces[name] = potential.evaluate(system, pairs).forces
    if system.n_atoms <= PLAIN_ATOMS:
        choose_backend(potential, "reference")
        found["reference_ms"] = median_ms(
            lambda: potential.evaluate(system, pairs), device
        )
        exact = potential.evaluate(system, pairs).forces
        for name, values in forces.items():
            found[f"{name}_force_error"] = float((values - exact).abs().max())
    choose_backend(potential)
    return found


def memory(device: torch.device) -> int:
    """Return the memory in use, bytes, and forget the largest so far."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak(device: torch.device) -> int:
    """Return the largest memory in use, bytes."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def batch(
    potential: Potential, device: torch.device, copies: int = 64
) -> dict[str, float]:
    """Return what evaluating structures of 32 atoms together gains."""
    choose_backend(potential, mixed=True)
    one = System.from_atoms(nickel_oxide(32), device=device)
    generator = torch.Generator().manual_seed(0)
    singles = []
    for _ in range(copies):
        noise = 0.02 * torch.randn(one.n_atoms, 3, generator=generator).double()
        moved = one.replace(positions=one.positions + noise.to(device))
        singles.append((moved, build_pairs(moved, potential.pair_cutoff(moved))))
    together = System.cat([system for system, _ in singles])
    pairs = build_pairs(together, potential.pair_cutoff(together))

    def one_by_one() -> None:
        for system, own in singles:
            potential.evaluate(system, own)

    apart = median_ms(one_by_one, device)
    joined = median_ms(lambda: potential.evaluate(together, pairs), device)
    return {
        "structures": copies,
        "apart_ms": apart,
        "together_ms": joined,
        "gain": apart / joined,
    }


def run(options: argparse.Namespace) -> None:
    """Measure, print tables and write the JSON."""
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    content: dict[str, Any] = {"device": name, "torch": torch.__version__, "rows": []}
    print(name)
    columns = ("float64_ms", "mixed_ms", "reference_ms", "list_ms", "list_reused_ms")
    columns += ("mixed_KiB_per_atom", "float64_force_error", "mixed_force_error")
    print(f"{'network':>8}{'atoms':>9}" + "".join(f"{c:>20}" for c in columns))
    made = networks(options.model)
    for label, potential in made.items():
        potential.to(device)
        for n_atoms in options.sizes or SIZES:
            structure = iron if label == MOMENTS else nickel_oxide
            system = System.from_atoms(structure(n_atoms), device=device)
            row = {"network": label} | measure(potential, system, device)
            content["rows"].append(row)
            values = (f"{row[c]:20.4g}" if c in row else " " * 20 for c in columns)
            print(f"{label:>8}{n_atoms:9d}" + "".join(values), flush=True)
    content["batch"] = batch(made["small"], device)
    print("64 structures of 32 atoms:", content["batch"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")
