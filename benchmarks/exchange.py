"""Time of exchange tensors of large cells, against gradient calls.

python benchmarks/exchange.py [--sites 16]

Fits the exchange of sites of cells of about 1,000 atoms, every atom on its own (no
translation is used), and compares the processor time for each site with that of three
magnetic gradients of a structure in batches of eight: what one difference quotient of
the three Cartesian components would need at the very least. Prints a table and writes
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

HERE = Path(__file__).parent
BATCH = 8


def processor_time(function: Callable[[], object], count: int = 1) -> float:
    """Return the processor time of a call, s."""
    start = time.process_time()
    for _ in range(count):
        function()
    return (time.process_time() - start) / count


def processor() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def structures() -> dict[str, Any]:
    """Return rattled cells with their calculators, by name."""
    from ase.build import bulk

    from deepspin_ase import DeepSpinCalculator, antiferromagnetic, set_spins
    from deepspin_ase.potentials.materials import reference

    iron = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(8)
    set_spins(iron, {"Fe": 2.2})
    iron.calc = DeepSpinCalculator(
        reference.fe(lattice=None, exchange="bethe-slater"), device="cpu"
    )
    nio = bulk("NiO", "rocksalt", 4.186, cubic=True).repeat(5)
    order = antiferromagnetic((0, 0, 1), cell=4.186)
    set_spins(nio, {"Ni": 1.27}, pattern=order)
    nio.calc = DeepSpinCalculator("NiO", device="cpu")
    for atoms in (iron, nio):
        atoms.rattle(0.01, seed=1)
    return {"Fe, pair exchange": iron, "NiO network": nio}


def measure(atoms: Any, sites: int) -> dict[str, float]:
    """Return times of a gradient and of a site's exchange, s."""
    import numpy as np

    from deepspin_ase.analysis.exchange import fit_exchange
    from deepspin_ase.analysis.hessians import Crystal, interaction_range
    from deepspin_ase.neighbors import build_pairs
    from deepspin_ase.system import System

    potential = atoms.calc.potential
    batch = System.cat([System.from_atoms(atoms)] * BATCH)
    pairs = build_pairs(batch, potential.pair_cutoff(batch))

    def gradient() -> None:
        potential.evaluate(batch, pairs, forces=False, virial=False)

    gradient()
    one = processor_time(gradient, 3) / BATCH
    crystal = Crystal(atoms, repeat=1)
    count = len(crystal.sites)
    # Sites share products where the interaction is short: then all are done.
    reach = interaction_range(atoms)
    chosen = np.arange(count if 4 * reach < atoms.cell.lengths().min() else sites)
    fit = processor_time(lambda: fit_exchange(crystal, chosen)) / len(chosen)
    return {
        "atoms": len(atoms),
        "magnetic": count,
        "sites": len(chosen),
        "reach_A": reach,
        "gradient_s": one,
        "site_s": fit,
        "ratio": fit / (3 * one),
    }


def main() -> None:
    """Run the benchmark."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {k: measure(v, arguments.sites) for k, v in structures().items()}
    print("model               atoms  sites  gradient ms  site ms  site / 3 gradients")
    for name, row in results.items():
        print(
            f"{name:<18} {row['atoms']:6.0f} {row['sites']:6.0f} "
            f"{1e3 * row['gradient_s']:12.1f} {1e3 * row['site_s']:8.1f} "
            f"{row['ratio']:11.2f}"
        )
    about = {"processor": processor(), "torch": torch.__version__, "threads": 1}
    path = HERE / "results/exchange.json"
    path.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
