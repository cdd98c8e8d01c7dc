"""Cost of dynamics beside the model's, gain of batches, and work against precision.

python benchmarks/md.py [--threads 2] [--parts cost batch lammps precision]
python benchmarks/md.py --device cuda

- cost: share of a step of the Langevin and NVE drivers that is not spent in the
  model, 1,024 atoms of NiO with the shipped network's architecture;
- batch: steps a second of 16 replicas of 54 atoms of Fe in one batch, against one
  after the other, by the processor time of one thread;
- lammps: fluctuation and drift of the total energy of 54 atoms of Fe beside the
  figures of LAMMPS, whose potential and exchange differ a little;
- precision: fluctuation and drift of the total energy of 54 atoms of Fe, of the NiO
  network and of a Heisenberg model against model calls per picosecond, by spin
  integrator and time step, with a figure.

On a CUDA device, steps a second of NiO with networks in mixed precision instead.
Prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta

from deepspin_ase import (
    DeepSpinCalculator,
    antiferromagnetic,
    cant_spins,
    collinear,
    set_spins,
)
from deepspin_ase.dynamics import Midpoint, SpinLatticeLangevin, SpinLatticeNVE
from deepspin_ase.potentials import Harmonic, Heisenberg, Shells, Sum, load_potential
from deepspin_ase.potentials.materials import reference

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PARTS = ("cost", "batch", "lammps", "precision")
RESULTS = Path(__file__).parent / "results"
FS = units.fs
NETWORK = Path(__file__).parent.parent / "tests/data/deepmd/nio_early.pth"


def warm(atoms: Atoms, temperature_K: float, seed: int = 1) -> Atoms:
    """Give momenta and canted spins of about a temperature."""
    thermalize_momenta(atoms, temperature_K, rng=np.random.default_rng(seed))
    cant_spins(atoms, temperature_K / 10000.0, seed=seed)
    return atoms


def iron(repeat: int = 3) -> Atoms:
    """Return bcc Fe: lattice and exchange of the reference Hamiltonian."""
    atoms = bulk("Fe", "bcc", 2.8665, cubic=True).repeat(repeat)
    set_spins(atoms, {"Fe": 2.2}, pattern=collinear())
    atoms.calc = DeepSpinCalculator(reference.fe())
    return atoms


def nickel_oxide(
    shape: tuple[int, int, int], model: Any, constant: float = 4.17
) -> Atoms:
    """Return NiO in its antiferromagnetic order."""
    atoms = bulk("NiO", "rocksalt", constant, cubic=True).repeat(shape)
    set_spins(
        atoms, {"Ni": 1.277}, pattern=antiferromagnetic((0.5, 0.5, 0.5), cell=constant)
    )
    atoms.calc = DeepSpinCalculator(model)
    return atoms


def magnet() -> Atoms:
    """Return a Heisenberg magnet on springs: fcc, nearest neighbours."""
    atoms = bulk("Fe", "fcc", 2.5 * np.sqrt(2)).repeat(4)
    set_spins(atoms, {"Fe": 2.0})
    # J is the same all over the shell, which no distance leaves.
    exchange = Heisenberg(Shells([(2.5, 0.02)], tolerance=0.5))
    atoms.calc = DeepSpinCalculator(Sum([exchange, Harmonic(5.0, 2.5, cutoff=3.0)]))
    return atoms


def cost() -> list[dict[str, Any]]:
    """Return how much of a step is not the model's."""
    rows = []
    for name in ("langevin", "nve"):
        atoms = warm(nickel_oxide((8, 4, 4), load_potential(NETWORK)), 300)
        if name == "langevin":
            dyn: Any = SpinLatticeLangevin(
                atoms, FS, temperature_K=300, friction=0.01 / FS, damping=0.1, rng=1
            )
        else:
            dyn = SpinLatticeNVE(atoms, 0.5 * FS)
        spent = [0.0]
        evaluate = dyn.engine.evaluate

        def timed(
            *a: Any, evaluate: Any = evaluate, spent: Any = spent, **k: Any
        ) -> Any:
            start = time.perf_counter()
            found = evaluate(*a, **k)
            spent[0] += time.perf_counter() - start
            return found

        dyn.engine.evaluate = timed
        dyn.run(3)
        spent[0], calls = 0.0, dyn.engine.n_calls
        start = time.perf_counter()
        dyn.run(20)
        total = time.perf_counter() - start
        rows.append(
            {
                "driver": name,
                "atoms": len(atoms),
                "ms_per_step": 1e3 * total / 20,
                "calls_per_step": (dyn.engine.n_calls - calls) / 20,
                "driver_share": total / spent[0] - 1.0,
            }
        )
        print(
            f"{name}: {rows[-1]['ms_per_step']:.0f} ms a step, "
            f"{rows[-1]['calls_per_step']:.2f} model calls, driver "
            f"{100 * rows[-1]['driver_share']:.1f} % of the model's time",
            flush=True,
        )
    return rows


def on_device(device: str, shapes: tuple[tuple[int, int, int], ...]) -> dict[str, Any]:
    """Return steps a second with the small network and one of full size."""
    from evaluate_device import networks, wait

    place = torch.device(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU"
    rows = []
    for label, potential in networks(str(NETWORK)).items():
        for shape in shapes:
            atoms = warm(nickel_oxide(shape, potential), 100)
            atoms.calc = DeepSpinCalculator(potential, device=device, dtype="mixed")
            for driver in ("nve", "langevin"):
                if driver == "nve":
                    dyn: Any = SpinLatticeNVE(atoms, 0.5 * FS)
                else:
                    dyn = SpinLatticeLangevin(
                        atoms,
                        0.5 * FS,
                        temperature_K=100,
                        friction=0.01 / FS,
                        damping=0.1,
                        rng=1,
                    )
                dyn.run(5)
                calls, steps = dyn.engine.n_calls, 50
                wait(place)
                start = time.perf_counter()
                dyn.run(steps)
                wait(place)
                rows.append(
                    {
                        "network": label,
                        "driver": driver,
                        "atoms": len(atoms),
                        "steps_per_s": steps / (time.perf_counter() - start),
                        "calls_per_step": (dyn.engine.n_calls - calls) / steps,
                    }
                )
                print(*rows[-1].values(), flush=True)
    return {"device": name, "torch": torch.__version__, "rows": rows}


def batch(replicas: int = 16, steps: int = 40) -> dict[str, Any]:
    """Return what running replicas together gains."""

    def driver(count: int) -> SpinLatticeLangevin:
        return SpinLatticeLangevin(
            warm(iron(), 300),
            FS,
            temperature_K=[300.0] * count,
            friction=0.01 / FS,
            damping=0.1,
            rng=1,
        )

    # Processor time of one thread, in turns: what else runs hardly matters.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    drivers = {count: driver(count) for count in (1, replicas)}
    found: dict[int, list[float]] = {count: [] for count in drivers}
    for dyn in drivers.values():
        dyn.run(5)
    for _ in range(5):
        for count, dyn in drivers.items():
            own = max(steps // (5 * count), 2) if count > 1 else steps // 5
            start = time.process_time()
            dyn.run(own)
            found[count].append((time.process_time() - start) / own)
    torch.set_num_threads(threads)
    times = {count: float(np.median(values)) for count, values in found.items()}
    gain = replicas * times[1] / times[replicas]
    print(
        f"Fe, 54 atoms: {1e3 * times[1]:.2f} ms a step alone, "
        f"{1e3 * times[replicas]:.2f} ms for {replicas} together: {gain:.1f} times "
        "as many steps a second",
        flush=True,
    )
    return {
        "replicas": replicas,
        "alone_ms": 1e3 * times[1],
        "together_ms": 1e3 * times[replicas],
        "gain": gain,
    }


SCHEMES: dict[str, Any] = {
    "midpoint": lambda: Midpoint(),
    "midpoint, 1e-7 rad": lambda: Midpoint(tolerance=1e-7),
    "sib": lambda: "sib",
    "depondt-mertens": lambda: "depondt-mertens",
    "rotation": lambda: "rotation",
}

SYSTEMS: dict[str, tuple[Any, float]] = {
    "Fe, EAM + exchange, 54 atoms": (lambda: warm(iron(), 100), 2.0),
    "NiO, shipped network, 64 atoms": (
        lambda: warm(nickel_oxide((2, 2, 2), "NiO", 4.186), 100),
        0.5,
    ),
    "Heisenberg on springs, 64 atoms": (lambda: warm(magnet(), 100), 2.0),
}


def precision(picoseconds: float) -> list[dict[str, Any]]:
    """Return energy conservation against model calls."""
    rows = []
    for system, (build, length) in SYSTEMS.items():
        for scheme, make in SCHEMES.items():
            for timestep in (0.2, 0.5, 1.0, 2.0):
                rows.append(
                    {"system": system, "scheme": scheme, "timestep_fs": timestep}
                    | conservation(build(), timestep, make(), length * picoseconds)
                )
                print(*rows[-1].values(), flush=True)
    return rows


def conservation(
    atoms: Atoms, timestep: float, scheme: Any, picoseconds: float
) -> dict[str, float]:
    """Return fluctuation and drift of the total energy per atom."""
    dyn = SpinLatticeNVE(atoms, timestep * FS, spin_integrator=scheme)
    every = max(1, round(4 / timestep))
    energies, calls = [], 0
    for _ in range(round(1000 * picoseconds / timestep / every)):
        before = dyn.engine.n_calls
        dyn.run(every)
        calls += dyn.engine.n_calls - before
        energies.append(float(dyn.conserved_energy()[0]) / len(atoms))
    times = np.arange(len(energies)) * every * timestep / 1000
    return {
        "calls_per_step": calls / (len(energies) * every),
        "std_eV_per_atom": float(np.std(energies)),
        "drift_eV_per_atom_ps": float(np.polyfit(times, energies, 1)[0]),
    }


#: Fluctuation of the total energy (eV/atom) of 54 atoms of bcc Fe over 2 ps with the
#: SPIN package of LAMMPS, its own embedded-atom potential and exchange, by time
#: step (fs).
LAMMPS = {0.5: 1.9e-7, 1.0: 7.4e-7}


def lammps(picoseconds: float, temperature_K: float = 100.0) -> list[dict[str, Any]]:
    """Return energy conservation of Fe beside that of LAMMPS at the same steps.

    Momenta are drawn at a temperature, half of which goes into displacements; spins
    start aligned, as in LAMMPS's example, or tilted by 8 degrees (rms).
    """
    rows = []
    for tilt, tolerance in ((0.0, 1e-6), (0.01, 3e-5), (0.01, 1e-6)):
        for timestep, reference_std in LAMMPS.items():
            atoms = iron()
            atoms.calc = DeepSpinCalculator(
                reference.fe(lattice="finnis-sinclair", exchange="bethe-slater")
            )
            thermalize_momenta(atoms, temperature_K, rng=np.random.default_rng(1))
            cant_spins(atoms, tilt, seed=1)
            found = conservation(
                atoms, timestep, Midpoint(tolerance=tolerance), 2.0 * picoseconds
            )
            rows.append(
                {"reduced_temperature": tilt, "tolerance_rad": tolerance}
                | {"timestep_fs": timestep}
                | found
                | {"lammps_std_eV_per_atom": reference_std}
            )
            print(*rows[-1].values(), flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the fluctuation of the energy against model calls per fs."""
    figure, axes = plt.subplots(
        1, len(SYSTEMS), figsize=(12, 3.6), layout="constrained", sharey=True
    )
    for ax, system in zip(axes, SYSTEMS, strict=True):
        for scheme in SCHEMES:
            own = [r for r in rows if r["system"] == system and r["scheme"] == scheme]
            calls = [r["calls_per_step"] / r["timestep_fs"] for r in own]
            errors = [r["std_eV_per_atom"] for r in own]
            size = 8 if scheme == "sib" else 5  # next to the same as the one on top
            ax.loglog(calls, errors, "o-", ms=size, label=scheme)
        ax.set_title(system, fontsize="small")
        ax.set_xlabel("model calls per fs")
        ax.set_ylim(1e-9, 1.0)
    axes[0].set_ylabel("fluctuation of the energy (eV/atom)")
    axes[-1].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=120)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write what has been measured so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="all by default")
    parser.add_argument(
        "--parts", nargs="+", default=PARTS, choices=PARTS, metavar="PART"
    )
    parser.add_argument(
        "--length", type=float, default=1.0, help="scale of the runs of the last two"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--output", type=Path, help="results/md.json by default")
    options = parser.parse_args()
    name = "md" if options.device == "cpu" else "md_device"
    options.output = options.output or RESULTS / f"{name}.json"
    warnings.simplefilter("ignore", UserWarning)  # large turns are part of it
    if options.threads:
        torch.set_num_threads(options.threads)
    content: dict[str, Any] = (
        json.loads(options.output.read_text()) if options.output.exists() else {}
    )
    if options.device != "cpu":
        options.parts = []
        content |= on_device(options.device, ((2, 2, 2), (12, 12, 10)))
    else:
        content |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    parts = {
        "cost": cost,
        "batch": batch,
        "lammps": lambda: lammps(options.length),
        "precision": lambda: precision(options.length),
    }
    write(options.output, content)
    for part in options.parts:
        content[part] = parts[part]()
        write(options.output, content)
    if "precision" in options.parts:
        draw(content["precision"], options.output.with_name("work_precision.png"))


if __name__ == "__main__":
    main()
