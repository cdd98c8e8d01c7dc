"""``deepspin demo``: the shipped NiO model at work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from ..calculator import DeepSpinCalculator
from ..files import written_whole
from ..io import write_extxyz
from ..magnetic_order import antiferromagnetic
from ..optimize import relax_spins
from ..spins import cant_spins, get_spins, set_spins

#: Lattice constant of the model's data, A, and the moment of nickel, mu_B.
LATTICE, MOMENT = 4.2166, 1.277


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="see the shipped NiO model at work",
        description="Energies, forces and torques of canted NiO, relaxation of its "
        "spins, and its energy surface.",
    )
    parser.add_argument("-o", "--output", default="deepspin_demo", help="folder")
    parser.set_defaults(run=_run)


def nickel_oxide() -> Atoms:
    """Return 64 atoms of NiO with its antiferromagnetic order and the shipped model."""
    atoms = bulk("NiO", "rocksalt", LATTICE, cubic=True).repeat(2)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=LATTICE, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": MOMENT}, pattern=order)
    atoms.calc = DeepSpinCalculator("NiO")
    return atoms


def _run(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    ground = nickel_oxide()
    energy = ground.get_potential_energy()
    print("NiO, 64 atoms, antiferromagnetic (AFM-II), model 'NiO'")
    print(f"  energy of the ordered state       {energy:14.6f} eV")

    atoms = ground.copy()
    cant_spins(atoms, 0.03, seed=1)
    atoms.rattle(0.01, seed=1)
    atoms.calc = ground.calc
    print("canted by about 14 degrees, atoms rattled by 0.01 A")
    _describe(atoms, energy)
    canted = atoms.copy()
    canted.calc = DeepSpinCalculator(atoms.calc.potential)
    canted.get_potential_energy()

    converged, calls = relax_spins(atoms, torque_max=1e-4)
    print(f"spins relaxed: {'converged' if converged else 'not converged'}, ", end="")
    print(f"{calls} model calls")
    _describe(atoms, energy)
    write_extxyz(folder / "nio.extxyz", [canted, atoms])
    _landscape(ground, folder)
    print(f"wrote {folder / 'nio.extxyz'} (canted and relaxed, with spins, forces")
    print("      and magnetic forces), and the energy surface in")
    print(f"      {folder / 'nio_landscape.png'} and nio_landscape.npz")


def _describe(atoms: Atoms, reference: float) -> None:
    energy = atoms.get_potential_energy()
    forces = np.linalg.norm(atoms.get_forces(), axis=1)
    field = np.linalg.norm(atoms.calc.get_magnetic_forces(atoms), axis=1)
    torques = np.linalg.norm(atoms.calc.get_torques(atoms), axis=1)
    spins = get_spins(atoms)
    magnetisation = np.linalg.norm(spins.sum(axis=0)) / len(atoms)
    above = 1e3 * (energy - reference) / len(atoms)
    print(f"  energy                            {energy:14.6f} eV", end="")
    print(f"  ({above:+.3f} meV/atom)")
    print(f"  largest force                     {forces.max():14.6f} eV/A")
    print(f"  largest magnetic force -dE/dm     {field.max():14.6f} eV/mu_B")
    print(f"  largest torque m x (-dE/dm)       {torques.max():14.6f} eV")
    print(f"  magnetisation                     {magnetisation:14.6f} mu_B/atom")


def _landscape(atoms: Atoms, folder: Path) -> None:
    """Scan and draw the energy over displacement and rotations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from ..analysis.collective import (
        CollectiveRotation,
        Displacement,
        RelativeRotation,
    )
    from ..analysis.landscape import plot_landscape, scan

    oxygen = np.zeros((len(atoms), 3))
    oxygen[atoms.numbers == 8, 0] = 1.0
    displacement = Displacement(oxygen)
    relative = RelativeRotation.of_sublattices(atoms, axis=(1, 1, 1))
    collective = CollectiveRotation((1, 1, 1))
    shift, angle = np.linspace(-0.03, 0.03, 13), np.linspace(-30.0, 30.0, 13)
    turn = np.linspace(0.0, 180.0, 13)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.0), layout="constrained")
    surface = scan(
        atoms.calc, atoms, coordinates=[displacement, relative], grids=[shift, angle]
    )
    plot_landscape(surface, axes[0])
    axes[0].set_title("oxygen displacement D, sublattice rotation C", fontsize=10)
    rotation = scan(
        atoms.calc, atoms, coordinates=[relative, collective], grids=[angle, turn]
    )
    plot_landscape(rotation, axes[1])
    axes[1].set_title("sublattice rotation C, rotation of all spins R", fontsize=10)
    with written_whole(folder / "nio_landscape.png") as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
    surface.save(folder / "nio_landscape.npz")
