"""Time of energy, forces, magnetic forces and stress, against TorchScript.

python benchmarks/evaluate.py [--sizes 32 256 1024 4096 11520] [--threads 2]

Evaluates a frozen DeePMD-kit model of NiO with this package, and, up to
``--peer-atoms`` atoms, as the TorchScript that it is, in the same process. Each
size runs in a process of its own, so that its memory can be told apart. Pair
lists are timed apart: dynamics reuse them. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = HERE.parent / "tests/data/deepmd/nio_early.pth"
CELLS = {
    32: (2, 2, 1),
    256: (4, 4, 2),
    1024: (8, 4, 4),
    4096: (8, 8, 8),
    11520: (12, 12, 10),
}


def median_time(function: Callable[[], object], seconds: float = 3.0) -> float:
    """Return the median time of a call, after one to warm up, s."""
    function()
    times: list[float] = []
    while (sum(times) < seconds and len(times) < 50) or len(times) < 3:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_memory() -> float:
    """Return the largest memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


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


def peer(path: Path, system: Any) -> Callable[[], dict[str, Any]]:
    """Return the evaluation of the model as TorchScript."""
    import torch

    from deepspin_ase.potentials.deepmd.ops import declared_operators

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


def measure(n_atoms: int, options: argparse.Namespace) -> dict[str, float]:
    """Measure one size in this process."""
    import torch

    from deepspin_ase.neighbors import build_pairs
    from deepspin_ase.potentials import load_potential
    from deepspin_ase.system import System

    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    potential = load_potential(options.model).to(dtype)
    base = peak_memory()
    system = System.from_atoms(nickel_oxide(n_atoms), dtype=dtype)
    cutoff = potential.pair_cutoff(system)
    start = time.perf_counter()
    pairs = build_pairs(system, cutoff)
    result = {"atoms": n_atoms, "pairs_s": time.perf_counter() - start}
    result["time_s"] = median_time(lambda: potential.evaluate(system, pairs))
    result["memory_GiB"] = peak_memory() - base
    if n_atoms <= options.peer_atoms and dtype == torch.float64:
        run = peer(Path(options.model), system)
        result["peer_s"] = median_time(run)
        ours, theirs = potential.evaluate(system, pairs), run()
        assert ours.forces is not None
        difference = (ours.forces - theirs["force"].view(-1, 3)).abs().max()
        result["force_difference"] = float(difference)
        result["ratio"] = result["peer_s"] / result["time_s"]
    return result


def processor() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def report(rows: list[dict[str, float]], options: argparse.Namespace) -> None:
    """Print a table and write the JSON."""
    import torch

    print(f"{'atoms':>6} {'pairs ms':>9} {'ms':>9} {'us/atom':>8} {'GiB':>6} ", end="")
    print(f"{'TorchScript ms':>15} {'ratio':>6}")
    for row in rows:
        print(
            f"{row['atoms']:6.0f} {1e3 * row['pairs_s']:9.1f} "
            f"{1e3 * row['time_s']:9.1f} "
            f"{1e6 * row['time_s'] / row['atoms']:8.0f} {row['memory_GiB']:6.2f} ",
            end="",
        )
        if "peer_s" in row:
            print(f"{1e3 * row['peer_s']:15.0f} {row['ratio']:6.1f}")
        else:
            print()
    content = {
        "processor": processor(),
        "threads": options.threads or os.cpu_count(),
        "dtype": options.dtype,
        "torch": torch.__version__,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(MODEL), help="frozen NiO model (.pth)")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(CELLS))
    parser.add_argument("--peer-atoms", type=int, default=256)
    parser.add_argument("--threads", type=int, default=0, help="all by default")
    parser.add_argument("--dtype", default="float64", choices=["float64", "float32"])
    parser.add_argument(
        "--output", type=Path, default=HERE / "results" / "evaluate.json"
    )
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    rows = []
    for size in options.sizes:
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
