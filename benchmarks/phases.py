"""A phase diagram of 200 points on three axes, here and on a Dask cluster.

python benchmarks/phases.py [--steps 4000] [--workers 2]

An antiferromagnet of 8^3 moments on a simple cubic lattice, exchange that decays with
distance and an easy axis along the field, at 10 temperatures, 5 fields and 4 strains:
once in this process, once on a local cluster (extra ``distributed``), with the same
numbers to the last bit. Prints seconds by the clock and of processor time, and the
coldest points around the spin flop; writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import torch
from ase import Atoms, units

from deepspin_ase import antiferromagnetic, set_spins
from deepspin_ase.analysis import phase_diagram
from deepspin_ase.analysis.transitions import PhaseDiagram
from deepspin_ase.potentials import Exponential, Heisenberg, Mixture, UniaxialAnisotropy
from deepspin_ase.units import MU_B

RESULTS = Path(__file__).parent / "results"
A, M, J, K = 3.0, 2.0, 0.01, 0.002

#: Fields of exchange and anisotropy, T, and the flop at rest.
EXCHANGE, EASY = 6 * J / M / MU_B, 2 * K / M / MU_B
FLOP = float(np.sqrt(EASY * (2 * EXCHANGE - EASY)))


def sample(steps: int, client: Any = None) -> PhaseDiagram:
    """Return the diagram."""
    atoms = Atoms("Mn", cell=[A] * 3, pbc=True).repeat(8)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=A)
    set_spins(atoms, {"Mn": M}, pattern=order)
    exchange = Mixture([(-J, Exponential(0.3, A, 3.6))])
    return phase_diagram(
        atoms,
        np.linspace(0.2, 2.0, 10) * J / units.kB,
        fields_T=FLOP * np.array([0.0, 0.7, 1.4, 2.5, 4.0]),
        strains=[-0.02, 0.0, 0.02, 0.04],
        model=Heisenberg(exchange) + UniaxialAnisotropy(K, (0, 0, 1)),
        steps=steps,
        client=client,
    )


def timed(steps: int, workers: int) -> tuple[PhaseDiagram, dict[str, float]]:
    """Return the diagram and its seconds, of this process (0 workers) or a cluster."""
    start, used = time.perf_counter(), _processor()
    if not workers:
        found = sample(steps)
    else:
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            found = sample(steps, client)
    clock = time.perf_counter() - start
    return found, {"clock": clock, "processor": _processor() - used}


def _processor() -> float:
    """Return the processor time of this process and those that have ended, s."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    found = map(resource.getrusage, who)
    return float(sum(usage.ru_utime + usage.ru_stime for usage in found))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "phases.json")
    options = parser.parse_args()
    here, seconds = timed(options.steps, 0)
    print(f"here: {seconds['clock']:.0f} s, {seconds['processor']:.0f} s of processor")
    there, on_cluster = timed(options.steps, options.workers)
    for name, values in here.quantities.items():
        np.testing.assert_array_equal(there.quantities[name], values, err_msg=name)
    print(
        f"{options.workers} workers: {on_cluster['clock']:.0f} s, "
        f"{on_cluster['processor']:.0f} s of processor; all numbers are equal"
    )
    k = int(np.argmin(abs(here.axes["strain"])))
    along, across = (
        here.quantities[f"order_{w}"][:, k, 0, 0] for w in ("along", "across")
    )
    rows = [
        {"field": field, "along": a, "across": b}
        for field, a, b in zip(
            here.axes["field_T"] / FLOP, along / M, across / M, strict=True
        )
    ]
    for row in rows:
        print("  ".join(f"{name} {value:6.3f}" for name, value in row.items()))
    content = {
        "points": int(here.drift.size),
        "moments": here.samples[0][0].n_magnetic,
        "sweeps": options.steps + options.steps // 5,
        "here": seconds,
        "cluster": on_cluster | {"workers": options.workers},
        "drifting points": int((here.drift > 4.0).sum()),
        "coldest points without strain, fields of the flop at rest": rows,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
