"""S(q, omega) and densities of states of a trajectory larger than the memory allowed.

python benchmarks/spectra.py [--frames 4000] [--atoms-edge 8]

Writes an HDF5 trajectory of random moments and velocities, then takes its spectra
with the default limit and with one a tenth of the file and less. Reports time,
frames a second and the highest memory of Python and numpy, against the straightforward
way: all frames in one array, one Fourier transform. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from deepspin_ase.analysis import (
    commensurate_path,
    spin_density_of_states,
    spin_spectrum,
    vibrational_density_of_states,
)
from deepspin_ase.dynamics import read_hdf5
from deepspin_ase.dynamics.files._hdf5_file import append, create
from deepspin_ase.spins import get_spins

RESULTS = Path(__file__).parent / "results"
A = 2.87


def write_run(path: Path, atoms: Atoms, n_frames: int) -> None:
    """Write a trajectory with all that a run leaves."""
    n, rng = len(atoms), np.random.default_rng(0)
    constants = {
        "numbers": atoms.numbers,
        "masses": atoms.get_masses(),
        "structure": np.zeros(n, dtype=int),
        "pbc": np.ones((1, 3), dtype=bool),
    }
    vectors = ("positions", "spins", "momenta", "forces", "magnetic_forces")
    shapes: dict[str, tuple[int, ...]] = {"time": (), "cell": (1, 3, 3)}
    shapes |= {"energy": (1,), "energies": (n,)} | {name: (n, 3) for name in vectors}
    create(path, constants, shapes)
    for start in range(0, n_frames, 50):
        rows = min(50, n_frames - start)
        block = {k: rng.normal(size=(rows, *shape)) for k, shape in shapes.items()}
        block["time"] = 2.0 * np.arange(start, start + rows)
        block["cell"][:] = atoms.cell.array
        block["positions"] = atoms.positions + 0.05 * block["positions"]
        append(path, block, start)


def at_once(path: Path) -> np.ndarray:
    """Return the spectrum of the moments in the way that needs everything at once."""
    moments = np.array([get_spins(frame) for frame in read_hdf5(path)])
    moments -= moments.mean(axis=0)
    window = np.hanning(len(moments))[:, None, None]
    return (np.abs(np.fft.fft(window * moments, axis=0)) ** 2).sum(axis=(1, 2))


def measured(function: Callable[..., Any], *args: Any, **options: Any) -> list[float]:
    """Return seconds, and the highest memory in MB from a second call."""
    start = time.perf_counter()
    function(*args, **options)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    function(*args, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [seconds, peak / 1e6]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--atoms-edge", type=int, default=8, help="cells of bcc")
    parser.add_argument("--output", type=Path, default=RESULTS / "spectra.json")
    options = parser.parse_args()
    atoms = bulk("Fe", "bcc", A, cubic=True) * options.atoms_edge
    q = commensurate_path(atoms, (0, 0, 0), (1, 0, 0), cell=A)
    content: dict[str, Any] = {"atoms": len(atoms), "frames": options.frames}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        write_run(path, atoms, options.frames)
        size = path.stat().st_size
        limit = size / 10e9
        content |= {"file_MB": size / 1e6, "limit_MB": 1e3 * limit}
        cases: dict[str, Callable[[], list[float]]] = {
            "all frames at once (moments alone)": lambda: measured(at_once, path),
            "spin density of states": lambda: measured(spin_density_of_states, path),
            "spin density of states, limited": lambda: measured(
                spin_density_of_states, path, max_memory_GB=limit
            ),
            "vibrations, limited": lambda: measured(
                vibrational_density_of_states, path, max_memory_GB=limit
            ),
            f"S(q, omega) at {len(q)} q, limited": lambda: measured(
                spin_spectrum, path, q, cell=A, segment=500, max_memory_GB=limit
            ),
        }
        print(f"{len(atoms)} atoms, {options.frames} frames, {size / 1e6:.0f} MB")
        print(f"limit {1e3 * limit:.0f} MB\n")
        print(f"{'':36s}{'s':>8s}{'frames/s':>10s}{'peak MB':>9s}")
        content["cases"] = {}
        for name, case in cases.items():
            seconds, peak = case()
            content["cases"][name] = {"s": seconds, "peak_MB": peak}
            rate = options.frames / seconds
            print(f"{name:36s}{seconds:8.1f}{rate:10.0f}{peak:9.0f}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
