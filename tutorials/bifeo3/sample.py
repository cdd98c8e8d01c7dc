"""Structures of BiFeO3 at random, labelled with the reference.

python tutorials/bifeo3/sample.py --counts 10:400 20:80 40:40 --seed 1 frames.extxyz

Ten-atom cells sample the landscape of homogeneous switching: polar displacements
and tilts of any direction, and the straight paths between variants. Supercells
carry waves of displacements and magnetic orders that ten atoms cannot. All are
strained, rattled and carry thermal, canted or random spins. Structures far above
the crystal are left out: the lattice reference is not to be trusted there.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from tqdm import tqdm

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins, set_spins
from deepspin_ase.data import Dataset, Frame, write_dataset
from deepspin_ase.potentials.materials.reference import (
    bifeo3_reference,
    bismuth_ferrite,
)

#: Cells by their number of atoms, in multiples of the ten-atom cell.
CELLS = {
    10: np.eye(3),
    20: np.array([[0, 0, 1], [1, -1, 0], [1, 1, -1]]),
    40: np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
    80: 2.0 * np.eye(3),
}
MOMENT = 4.0

#: Energy of R3c by the reference, eV/atom.
CRYSTAL = -6.2053

#: Frames with more energy above the crystal (eV/atom) or force (eV/A) are dropped.
MAX_ENERGY, MAX_FORCE = 0.25, 8.0


def homogeneous(rng: np.random.Generator) -> Atoms:
    """Return a cell with polar displacements and tilts of any direction."""
    polar, tilt = rng.uniform(-1.2, 1.2, (2, 3))
    return bismuth_ferrite(polar, tilt)


def on_path(rng: np.random.Generator) -> Atoms:
    """Return a point between two variants, polar and tilts advancing apart."""
    ends = rng.choice([-1.0, 1.0], (2, 3))
    tilts = ends * rng.choice([-1.0, 1.0], (2, 1))
    first, second = rng.beta(0.8, 0.8, 2)
    if rng.random() < 0.6:
        second = first
    return bismuth_ferrite(
        (1 - first) * ends[0] + first * ends[1],
        (1 - second) * tilts[0] + second * tilts[1],
    )


def variant(rng: np.random.Generator) -> Atoms:
    """Return a polar variant, scaled a little."""
    polar = rng.choice([-1.0, 1.0], 3)
    return bismuth_ferrite(polar * rng.normal(1, 0.1), polar * rng.normal(1, 0.1))


def add_waves(atoms: Atoms, rng: np.random.Generator, *, size: float) -> None:
    """Displace the sublattices of ``atoms`` in waves that fit the cell.

    The five sublattices of the perovskite move apart: tilts in and out of phase,
    antipolar shifts and acoustic waves are among them.
    """
    site = np.round(atoms.get_scaled_positions(wrap=False), 6)
    basis = atoms.arrays["sublattice"]
    for _ in range(3):
        q = rng.integers(-2, 3, 3)
        phase = 2 * np.pi * (site @ q + rng.random())
        amplitude = rng.normal(0, size / 3**0.5, (5, 3))
        atoms.positions += amplitude[basis] * np.cos(phase)[:, None]


def sampled(n_atoms: int, rng: np.random.Generator) -> Atoms:
    """Return a structure of ``n_atoms`` with spins."""
    kinds = (variant, on_path, homogeneous)
    weights = [0.3, 0.45, 0.25] if n_atoms == 10 else [0.5, 0.3, 0.2]
    atoms = kinds[rng.choice(3, p=weights)](rng)
    atoms.new_array("sublattice", np.array([0, 0, 1, 1, 2, 3, 4, 2, 3, 4]))
    if n_atoms > 10:
        atoms = make_supercell(atoms, CELLS[n_atoms], wrap=False)
        add_waves(atoms, rng, size=rng.uniform(0.0, 0.25))
    strain = rng.normal(0, 0.012, (3, 3)) + rng.normal(0, 0.008) * np.eye(3)
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += rng.uniform(0.01, 0.09) * rng.normal(size=(len(atoms), 3))
    set_random_spins(atoms, rng)
    del atoms.arrays["sublattice"]
    return atoms


def set_random_spins(
    atoms: Atoms, rng: np.random.Generator, *, kept: float = 0.6
) -> None:
    """Keep the order of ``atoms``, change it, or forget it; then cant the spins."""
    spins = get_spins(atoms)
    iron = atoms.numbers == 26
    spins[iron] *= rng.normal(1.0, 0.03, (iron.sum(), 1))
    kind = rng.choice(["kept", "layers", "random"], p=[kept, 0.2, 0.8 - kept])
    if kind == "layers":  # C, A and ferromagnetic orders
        q = rng.integers(0, 2, 3)
        layer = np.round(2 * atoms.get_scaled_positions(wrap=False) @ q)
        spins *= np.where(layer % 2, -1, 1)[:, None]
    elif kind == "random":
        directions = rng.normal(size=spins.shape)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        spins = directions * np.linalg.norm(spins, axis=1, keepdims=True)
    set_spins(atoms, spins)
    cant_spins(atoms, rng.uniform(0.02, 0.7), seed=rng)


def label(atoms: Atoms, calculator: DeepSpinCalculator) -> Frame | None:
    """Return ``atoms`` with labels, or None where they are far above the crystal."""
    calculator.calculate(atoms)
    results = calculator.results
    above = results["energy"] / len(atoms) - CRYSTAL
    if above > MAX_ENERGY or np.abs(results["forces"]).max() > MAX_FORCE:
        return None
    atoms.calc = calculator
    return Frame.from_atoms(atoms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", nargs="+", default=["10:100"], help="atoms:frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("output", help="folder of the data set")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    calculator = DeepSpinCalculator(bifeo3_reference(), dtype="float32")
    frames: list[Frame] = []
    for n_atoms, count in (map(int, text.split(":")) for text in arguments.counts):
        wanted = len(frames) + count
        with tqdm(total=count, unit=f"x{n_atoms} atoms") as bar:
            while len(frames) < wanted:
                frame = label(sampled(n_atoms, rng), calculator)
                if frame is not None:
                    frames.append(frame)
                    bar.update()
    write_dataset(arguments.output, Dataset(frames))


if __name__ == "__main__":
    main()
