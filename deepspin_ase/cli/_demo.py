"""``deepspin demo``: the shipped NiO model at work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from .._files import atomic_write, make_folder
from ..calculators._deepspin import DeepSpinCalculator
from ..io import write_extxyz
from ..optimize import relax_spins
from ..orders import antiferromagnetic
from ..spins import cant_spins, get_spins, set_spins
from ._outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..analysis.landscape import Landscape

#: Lattice constant of the model's data, A, and the moment of nickel, mu_B.
LATTICE, MOMENT = 4.186, 1.277

#: Characteristics of a state, and their titles in the table.
_TITLES = {
    "energy_above_order_meV_per_atom": "energy above the ordered state, meV/atom",
    "largest_force_eV_per_A": "largest force, eV/A",
    "largest_magnetic_force_eV_per_mu_B": "largest magnetic force -dE/dm, eV/mu_B",
    "largest_torque_eV": "largest torque m x (-dE/dm), eV",
    "net_moment_mu_B_per_atom": "net moment, mu_B/atom",
}

#: Axes of the collective rotations: the moments, along [11-2], rotate within the
#: ferromagnetic (111) planes and out of them.
ROTATIONS = {"R_in": (1, 1, 1), "R_out": (1, -1, 0)}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Energies, forces and torques of canted NiO, relaxation of its "
        "spins, and its energy surface."
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("deepspin_demo"),
        metavar="FOLDER",
        help="folder to write to (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def nickel_oxide(*, cubic: bool = True) -> Atoms:
    """Return 64 (cubic) or 16 atoms of NiO in its antiferromagnetic order AFM-II."""
    atoms = bulk("NiO", "rocksalt", LATTICE, cubic=cubic).repeat(2)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=LATTICE, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": MOMENT}, pattern=order)
    return atoms


def _run(arguments: argparse.Namespace) -> Outcome:
    folder = arguments.output
    make_folder(folder)
    calculator = DeepSpinCalculator("NiO")
    found = _relaxation(calculator, folder / "nio.extxyz")
    found |= _energy_surface(calculator, folder)
    return Outcome(found | {"files": sorted(folder.glob("nio*"))})


def _relaxation(calculator: DeepSpinCalculator, path: Path) -> dict[str, Any]:
    """Cant the spins, relax them, and show, write and return both states."""
    atoms = nickel_oxide()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    print(f"NiO, {len(atoms)} atoms, antiferromagnetic (AFM-II): {energy:.4f} eV")

    cant_spins(atoms, 0.03, seed=1)
    atoms.rattle(0.01, seed=1)
    states = [_summary(atoms, energy)]
    canted = atoms.copy()
    canted.calc = DeepSpinCalculator(calculator.potential)
    canted.get_potential_energy()  # the file holds its results too

    found = relax_spins(atoms)
    state = "converged" if found.converged else "not converged"
    states.append(_summary(atoms, energy))
    write_extxyz(path, [canted, atoms])
    lines = [
        "\nSpins canted by 14 degrees (rms), atoms displaced by 0.01 A (rms); then the",
        f"spins relaxed at fixed atoms ({state}, {found.n_calls} model calls)\n",
        f"{'':48}{'canted':>12}{'relaxed':>12}",
        *(
            f"{title:48}{states[0][name]:12.6f}{states[1][name]:12.6f}"
            for name, title in _TITLES.items()
        ),
    ]
    print("\n".join(lines))
    return {
        "atoms": len(atoms),
        "energy_eV": energy,
        "canted": states[0],
        "relaxed": states[1],
        "converged": found.converged,
        "model_calls": found.n_calls,
    }


def _summary(atoms: Atoms, reference: float) -> dict[str, float]:
    """Return the characteristics of a state."""
    energy = atoms.get_potential_energy()

    def largest(vectors: np.ndarray) -> float:
        return float(np.linalg.norm(vectors, axis=1).max())

    magnetic_forces = atoms.calc.get_magnetic_forces(atoms)
    values = (
        1000.0 * (energy - reference) / len(atoms),
        largest(atoms.get_forces()),
        largest(magnetic_forces),
        largest(atoms.calc.get_torques(atoms)),
        float(np.linalg.norm(get_spins(atoms).mean(axis=0))),
    )
    return dict(zip(_TITLES, values, strict=True))


def _energy_surface(calculator: DeepSpinCalculator, folder: Path) -> dict[str, Any]:
    """Scan, show, draw and return the energy over displacement and rotations."""
    from ..analysis.landscape import (
        CollectiveRotation,
        Displacement,
        RelativeRotation,
        scan_landscape,
    )

    atoms = nickel_oxide(cubic=False)
    oxygen = np.outer(atoms.numbers == 8, (1.0, 0.0, 0.0))
    surface = scan_landscape(
        atoms,
        coordinates=[
            Displacement(oxygen),
            RelativeRotation.of_sublattices(atoms, axis=(1, 1, 1)),
        ],
        grids=[np.linspace(-0.03, 0.03, 25), np.linspace(-30.0, 30.0, 25)],
        model=calculator,
    )
    rotations = [
        scan_landscape(
            atoms,
            coordinates=[CollectiveRotation(axis, label=label)],
            grids=[np.linspace(0.0, 180.0, 37)],
            model=calculator,
        )
        for label, axis in ROTATIONS.items()
    ]
    surface.save(folder / "nio_landscape.npz")
    for label, rotation in zip(ROTATIONS, rotations, strict=True):
        rotation.save(folder / f"nio_{label}.npz")
    _draw(surface, rotations, folder / "nio_landscape.png")

    energy = surface.relative_meV_per_atom()
    within, out = (r.relative_meV_per_atom().max() for r in rotations)
    lines = [
        "\nEnergy surface                                      meV/atom\n",
        f"D      oxygen displaced by 0.03 A {energy[0, 12]:26.4f}",
        f"C      sublattices rotated by 30 degrees {energy[12, 0]:20.4f}",
        f"R_in   all spins rotated within (111), at most {within:14.4f}",
        f"R_out  all spins rotated out of (111), at most {out:14.4f}",
        f"\nIn {folder}:",
        "  nio.extxyz            canted and relaxed structure, with spins, forces,",
        "                        magnetic forces and torques",
        "  nio_landscape.png     the energy surface",
        "  nio_landscape.npz, nio_R_in.npz, nio_R_out.npz: its numbers",
    ]
    print("\n".join(lines))
    heights = (energy[0, 12], energy[12, 0], within, out)
    names = ("displacement", "relative_rotation", *ROTATIONS)
    return {"energy_surface_meV_per_atom": dict(zip(names, heights, strict=True))}


def _draw(surface: Landscape, rotations: list[Landscape], path: Path) -> None:
    """Draw the map of D and C next to the two curves of R."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from ..analysis.landscape import plot_landscape

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.7), layout="constrained")
    plot_landscape(surface, left)
    left.set(
        title="displacement and relative rotation",
        xlabel="D: oxygen against nickel (Å)",
        ylabel="C: sublattices against each other (deg)",
    )
    _draw_rotations(rotations, right)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def _draw_rotations(rotations: list[Landscape], ax: Axes) -> None:
    names = ("within the (111) plane", "out of the (111) plane")
    for rotation, name in zip(rotations, names, strict=True):
        energy = 1e3 * rotation.relative_meV_per_atom()
        ax.plot(rotation.grids[0], energy, label=name)
    ax.set_ylim(top=1.35 * ax.get_ylim()[1])
    ax.set(
        title="collective rotation",
        xlabel="R: all spins together (deg)",
        ylabel="energy (µeV/atom)",
        xlim=(0, 180),
        xticks=range(0, 181, 30),
    )
    ax.legend(frameon=False, loc="upper center")
