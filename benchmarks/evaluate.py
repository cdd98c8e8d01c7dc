"""Time of energy, forces, magnetic forces and stress, against TorchScript.

python benchmarks/evaluate.py [--sizes 32 256 1024 11520 100000] [--threads 2]
python benchmarks/evaluate.py --model moments
python benchmarks/evaluate.py --device cuda

Evaluates a frozen DeePMD-kit model of NiO with this package - compiled kernels in
float64 and mixed precision, torch up to ``--plain-atoms`` atoms - and, up to
``--peer-atoms`` atoms, as the TorchScript that it is, in the same process. Each size
runs in a separate process, so that its memory can be told apart. Pair lists are
timed apart: dynamics reuse them. What a calculator takes for 64 atoms outside the
kernels is measured with one thread. Times are the smallest of several runs: of the
clock, and of the processor, which other programs on the machine disturb less; ratios
are those of processor times. Prints tables and writes JSON.

``--model moments`` is the network on moments of default sizes for fcc Fe with random
weights, which has no TorchScript to compare with.

On a CUDA device (``evaluate_device.py``): the small network, one of full size and that
on moments, up to a million atoms, and a batch of 64 structures of 32 atoms against one
by one.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = HERE.parent / "tests/data/deepmd/nio_early.pth"
MOMENTS = "moments"
CELLS = {
    32: (2, 2, 1),
    256: (4, 4, 2),
    1024: (8, 4, 4),
    4096: (8, 8, 8),
    11520: (12, 12, 10),
    100000: (25, 25, 20),
    1000000: (50, 50, 50),
}


def best_times(
    function: Callable[[], object], seconds: float = 4.0
) -> dict[str, float]:
    """Return the smallest time and processor time of a call, after one to warm up."""
    function()
    times: list[tuple[float, float]] = []
    while (sum(t for t, _ in times) < seconds and len(times) < 50) or len(times) < 3:
        clock, processor = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - clock, time.process_time() - processor))
    clocks, processors = zip(*times, strict=True)
    return {"s": min(clocks), "processor_s": min(processors), "runs": len(times)}


def memory_of(function: Callable[[], object]) -> float:
    """Return how much more memory a call takes at most, GiB; nan outside Linux."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return math.nan
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system

    def kibibytes(name: str) -> float:
        return float(status.read_text().split(name + ":")[1].split()[0])

    reset.write_text("5")  # the peak begins again
    before = kibibytes("VmRSS")
    function()
    return (kibibytes("VmHWM") - before) / 2**20


def nickel_oxide(n_atoms: int) -> Any:
    """Return rattled NiO with canted antiferromagnetic moments."""
    from ase.build import bulk

    from deepspin_ase import antiferromagnetic, cant_spins, set_spins

    atoms = bulk("NiO", "rocksalt", 4.17, cubic=True).repeat(CELLS[n_atoms])
    atoms.rattle(0.05, seed=1)
    rng_order = antiferromagnetic((0, 0, 1), cell=4.17)
    set_spins(atoms, {"Ni": 1.27}, pattern=rng_order)
    cant_spins(atoms, 0.01, seed=1)
    return atoms


def iron(n_atoms: int) -> Any:
    """Return rattled fcc Fe with disordered moments."""
    import numpy as np
    from ase.build import bulk

    from deepspin_ase import set_spins

    first, *others = CELLS[n_atoms]
    atoms = bulk("Fe", "fcc", 3.5, cubic=True).repeat((2 * first, *others))
    atoms.rattle(0.05, seed=1)
    moments = np.random.default_rng(1).normal(size=(len(atoms), 3))
    set_spins(atoms, 2.0 * moments / np.linalg.norm(moments, axis=1)[:, None])
    return atoms


def moments() -> Any:
    """Return a network on moments with random weights."""
    import torch

    from deepspin_ase.potentials import SpinMomentConfig, SpinMomentNetwork

    network = SpinMomentNetwork(SpinMomentConfig(elements=["Fe"], magnetic=["Fe"]))
    torch.nn.init.normal_(
        network.linear, std=0.1, generator=torch.Generator().manual_seed(1)
    )
    return network.eval().requires_grad_(False)


def peer(path: Path, system: Any) -> Callable[[], dict[str, Any]]:
    """Return the evaluation of the model as TorchScript."""
    import torch

    from deepspin_ase.potentials.deepmd._ops import declared_operators

    with declared_operators():
        script = torch.jit.load(str(path), map_location="cpu")
    names = list(script.get_type_map())
    from ase.data import chemical_symbols

    types = torch.tensor(
        [[names.index(chemical_symbols[z]) for z in system.species.tolist()]]
    )
    coordinates = system.positions[None]
    spins, box = system.spins[None], system.cell.reshape(1, 9)

    def run() -> dict[str, Any]:
        with declared_operators():
            return dict(script(coordinates, types, spins, box))

    return run


def parts(potential: Any, system: Any, pairs: Any) -> dict[str, float]:
    """Return processor times of the parts of an evaluation with one thread, s."""
    import numba
    import torch

    from deepspin_ase.kernels.cpu._compile import _OPTIONS
    from deepspin_ase.kernels.cpu._fitting_kernels import FittingSpace, fit
    from deepspin_ase.kernels.cpu._network import packed
    from deepspin_ase.kernels.cpu._network_kernels import ROWS

    @numba.njit(**_OPTIONS)
    def kernel(n, fitting, derivatives, space):  # type: ignore[no-untyped-def]
        fit(n, fitting, derivatives, space)

    fitting = packed(potential.frozen().fittings[0], torch.float64)
    space = FittingSpace.allocate(ROWS, fitting)
    space.features[:] = 0.1

    def fitted(derivatives: bool) -> float:
        times = best_times(lambda: kernel(ROWS, fitting, derivatives, space), 0.5)
        return times["processor_s"] * system.n_atoms / ROWS

    nothing = {"forces": False, "magnetic_forces": False, "virial": False}
    energies = best_times(lambda: potential.evaluate(system, pairs, **nothing))
    everything = best_times(lambda: potential.evaluate(system, pairs))
    forward, both = fitted(False), fitted(True)
    return {
        "geometry, tables": energies["processor_s"] - forward,
        "fitting": both,
        "backward": everything["processor_s"]
        - energies["processor_s"]
        - both
        + forward,
    }


def outside_kernels(calls: int = 1000) -> dict[str, dict[str, float]]:
    """Return what a calculator takes for 64 atoms, and what of it its kernels do not.

    Smallest times of many calls with one thread, s: of the shipped model of NiO, a
    network on pair terms, alone and in a field, and of a network alone.
    """
    import numpy as np
    import torch
    from ase.build import bulk

    from deepspin_ase import DeepSpinCalculator, cant_spins, set_spins
    from deepspin_ase.kernels.cpu import _network, _pair_terms

    inside = 0.0

    def timed(function: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any, **options: Any) -> None:
            nonlocal inside
            start = time.perf_counter()
            function(*arguments, **options)
            inside += time.perf_counter() - start

        return run

    shared = _network.share
    _network.share = _pair_terms.share = timed(shared)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    atoms = bulk("NiO", "rocksalt", 4.17, cubic=True).repeat(2)
    set_spins(atoms, {"Ni": 1.27})
    cant_spins(atoms, 0.01, seed=1)
    rng, positions = np.random.default_rng(0), atoms.positions.copy()
    found = {}
    for name, model, field_T in (
        ("terms and network", "NiO", None),
        ("in a field", "NiO", (0.0, 0.0, 1.0)),
        ("network", str(MODEL), None),
    ):
        calculator = DeepSpinCalculator(model, device="cpu", external_field_T=field_T)
        calculator.calculate(atoms)
        times = []
        for _ in range(calls):
            atoms.positions = positions + rng.normal(0.0, 0.005, positions.shape)
            inside, start = 0.0, time.perf_counter()
            calculator.calculate(atoms)
            whole = time.perf_counter() - start
            times.append((whole, whole - inside))
        whole, outside = np.min(times, axis=0).tolist()
        found[name] = {"s": whole, "outside_s": outside}
    _network.share = _pair_terms.share = shared
    torch.set_num_threads(threads)
    return found


def measure(n_atoms: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one size in this process."""
    import torch

    from deepspin_ase.neighbors import NeighborList, build_pairs
    from deepspin_ase.potentials import (
        CompiledPotential,
        choose_backend,
        load_potential,
    )
    from deepspin_ase.system import System

    torch.set_num_threads(options.threads)
    foreign = options.model != MOMENTS
    potential = load_potential(options.model) if foreign else moments()
    structure = nickel_oxide if foreign else iron
    small = System.from_atoms(structure(32))
    start = time.perf_counter()
    potential.evaluate(small)
    result: dict[str, Any] = {"atoms": n_atoms, "first_s": time.perf_counter() - start}
    system = System.from_atoms(structure(n_atoms))
    cutoff = potential.pair_cutoff(system)
    result["pairs"] = best_times(lambda: build_pairs(system, cutoff), 1.0)
    listed = NeighborList(0.5)
    listed.update(system, cutoff)
    result["pairs_reused"] = best_times(lambda: listed.update(system, cutoff), 0.5)
    pairs = build_pairs(system, cutoff)
    result["pairs_per_atom"] = len(pairs.i) / n_atoms
    compiled = CompiledPotential(potential)
    compiled.evaluate(small)
    result["memory_GiB"] = memory_of(lambda: compiled.evaluate(system, pairs))
    result["fused"] = best_times(lambda: compiled.evaluate(system, pairs))
    choose_backend(potential, mixed=True)
    compiled.refresh()
    result["mixed"] = best_times(lambda: compiled.evaluate(system, pairs))
    choose_backend(potential)
    if foreign:
        torch.set_num_threads(1)
        result["parts_s"] = parts(potential, system, pairs)
        torch.set_num_threads(options.threads)
    ours = potential.evaluate(system, pairs)
    if n_atoms <= options.plain_atoms:
        choose_backend(potential, "reference")
        result["reference"] = best_times(lambda: potential.evaluate(system, pairs))
        exact = potential.evaluate(system, pairs)
        assert ours.forces is not None and exact.forces is not None
        result["force_error"] = float((ours.forces - exact.forces).abs().max())
    if foreign and n_atoms <= options.peer_atoms:
        run = peer(Path(options.model), system)
        result["peer"] = best_times(run)
        assert ours.forces is not None
        difference = (ours.forces - run()["force"].view(-1, 3)).abs().max()
        result["peer_force_difference"] = float(difference)
    return result


def processor() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print tables and write the JSON."""
    import numba
    import torch

    names = ("fused", "mixed", "reference", "peer")
    print(f"{'us per atom':>12}" + "".join(f"{n:>11}" for n in names), end="")
    print(f"{'list':>8}{'reused':>8}{'peer/fused':>12}{'fused/mixed':>13}{'KiB':>8}")
    for row in rows:
        n = row["atoms"]
        times = [1e6 * row[k]["s"] / n if k in row else math.nan for k in names]
        print(f"{n:12d}" + "".join(f"{t:11.1f}" for t in times), end="")
        print(f"{1e6 * row['pairs']['s'] / n:8.1f}", end="")
        print(f"{1e6 * row['pairs_reused']['s'] / n:8.2f}", end="")
        print(f"{ratio(row, 'peer', 'fused'):12.0f}", end="")
        print(f"{ratio(row, 'fused', 'mixed'):13.2f}", end="")
        print(f"{row['memory_GiB'] * 2**20 / n:8.1f}")
    foreign = options.model != MOMENTS
    overheads = outside_kernels() if foreign else {}
    if foreign:
        print("calculator, 64 atoms, one thread: ms a call, and outside the kernels")
    for name, times in overheads.items():
        whole, outside = 1e3 * times["s"], 1e3 * times["outside_s"]
        share = outside / whole
        print(f"{name:>20}{whole:8.2f}{outside:8.2f}  ({100 * share:.0f} %)")
    if foreign:
        print("one thread, us per atom:")
    for row in rows if foreign else []:
        shares = (
            f"{k} {1e6 * v / row['atoms']:.1f}" for k, v in row["parts_s"].items()
        )
        print(f"{row['atoms']:12d}  " + "; ".join(shares))
    content = {
        "processor": processor(),
        "threads": options.threads,
        "torch": torch.__version__,
        "numba": numba.__version__,
        "model": Path(options.model).name,
        "rows": rows,
        "calculator_64_atoms": overheads,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


def ratio(row: dict[str, Any], slow: str, fast: str) -> float:
    """Return a ratio of processor times."""
    if slow not in row or fast not in row:
        return math.nan
    return float(row[slow]["processor_s"] / row[fast]["processor_s"])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default=str(MODEL), help="frozen NiO model (.pth), or moments"
    )
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of atoms")
    parser.add_argument("--peer-atoms", type=int, default=1024)
    parser.add_argument("--plain-atoms", type=int, default=11520)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--output", type=Path, help="results/evaluate.json by default")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    name = "evaluate" if options.device == "cpu" else "evaluate_device"
    if options.model == MOMENTS and options.device == "cpu":
        name = "evaluate_moments"
    options.output = options.output or HERE / "results" / f"{name}.json"
    if options.device != "cpu":
        from evaluate_device import run

        run(options)
        return
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    rows = []
    for size in options.sizes or list(CELLS)[:-1]:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--one", str(size)],
            env=os.environ | {"OMP_WAIT_POLICY": "passive"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    report(rows, options)


if __name__ == "__main__":
    main()
