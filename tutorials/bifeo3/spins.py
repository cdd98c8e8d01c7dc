"""Crystals with disordered moments, labelled with the spin term of the reference.

python tutorials/bifeo3/spins.py data/training data/hot data/explored --output spins

Cells of 40 atoms, the smallest in which moments of next neighbors are independent, with
the displacements of the frames given: strained and rattled a little more, with the
order kept, changed or forgotten, and then canted; and spirals. The labels are those of
the spin Hamiltonian alone, for the lattice is another network's task: of ``exchange``
and of ``spin_orbit`` apart, as calculations without and with spin-orbit coupling tell
them apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from sample import CELLS, set_random_spins

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins, set_spins
from deepspin_ase.data import Dataset, Frame, read_dataset, write_dataset
from deepspin_ase.potentials import BismuthFerriteSpins, Potential

#: Share of spirals among cells made of ten atoms.
SPIRALS = 0.5

#: What the reference is without the rest.
PARTS: dict[str, Potential] = {
    "exchange": BismuthFerriteSpins(d_tilt=0.0, d_polar=0.0, K=0.0),
    "spin_orbit": BismuthFerriteSpins(J0=0.0, J2=0.0),
}


def disordered(frame: Frame, rng: np.random.Generator) -> Atoms:
    """Return a frame's crystal, larger, strained, rattled and with other moments."""
    atoms = frame.to_atoms()
    spiral = len(atoms) == 10 and rng.random() < SPIRALS
    if spiral:
        axis = int(rng.integers(3))
        atoms = atoms.repeat(np.where(np.arange(3) == axis, 4, 1))
    elif len(atoms) == 10:
        atoms = make_supercell(atoms, CELLS[40], wrap=False)
    elif len(atoms) == 20:
        atoms = atoms.repeat((1, 1, 2))
    strain = rng.normal(0, 0.005, (3, 3)) + rng.normal(0, 0.015) * np.eye(3)
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += rng.uniform(0, 0.04) * rng.normal(size=(len(atoms), 3))
    if spiral:
        set_spiral(atoms, axis, rng)
    else:
        set_random_spins(atoms, rng, kept=0.4)
    return atoms


def set_spiral(atoms: Atoms, axis: int, rng: np.random.Generator) -> None:
    """Turn moments in any plane, one or two times along an axis of the cell.

    Dzyaloshinskii-Moriya interactions, which cancel in collinear and hardly count in
    disordered crystals, then add up.
    """
    length = np.linalg.norm(get_spins(atoms), axis=1)
    signs = np.sign(get_spins(atoms) @ rng.normal(size=3))
    plane = np.linalg.qr(rng.normal(size=(3, 2)))[0]
    turns = rng.choice([-2, -1, 1, 2])
    phase = 2 * np.pi * turns * atoms.get_scaled_positions(wrap=False)[:, axis]
    directions = np.column_stack([np.cos(phase), np.sin(phase)]) @ plane.T
    set_spins(atoms, (signs * length)[:, None] * directions)
    cant_spins(atoms, rng.uniform(0.0, 0.2), seed=rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="+", help="folders of frames")
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--validation", type=int, default=60, help="of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("spins"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    frames = read_dataset(arguments.data)
    chosen = rng.choice(len(frames), arguments.count, replace=False)
    crystals = [disordered(frames[int(k)], rng) for k in chosen]
    for name, potential in PARTS.items():
        calculator = DeepSpinCalculator(potential)
        labelled = []
        for atoms in crystals:
            atoms.calc = calculator
            atoms.get_potential_energy()
            labelled.append(Frame.from_atoms(atoms))
        kept = arguments.validation
        write_dataset(arguments.output / name / "train", Dataset(labelled[kept:]))
        write_dataset(arguments.output / name / "valid", Dataset(labelled[:kept]))


if __name__ == "__main__":
    main()
