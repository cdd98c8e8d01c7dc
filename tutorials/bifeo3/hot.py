"""Hot structures, chosen with the help of a model, labelled with the reference.

python tutorials/bifeo3/hot.py MODEL --count 100 --seed 1 FOLDER

As those of sample.py. What the model finds too far above the crystal is not labelled,
and of what is closer to it than others two in three are left out. Snapshots of the
model's dynamics from 100 to 600 K are among them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from explore import thermal
from sample import CELLS, CRYSTAL, label, on_path, sampled, variant
from tqdm import tqdm

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.data import Dataset, Frame, write_dataset
from deepspin_ase.potentials.materials.reference import bifeo3_reference

#: Largest energy above the crystal (eV/atom) and force (eV/A) by the model, a little
#: more than sample.py allows; energy below which structures are less welcome, and the
#: share of them that stays.
MAX_ENERGY, MAX_FORCE = 0.26, 9.0
COLD, SHARE = 0.07, 0.35

#: Frames of a hundred by the number of atoms, and from dynamics.
COUNTS = {10: 86, 20: 5, 40: 1, "dynamics": 8}


def snapshots(calculator: DeepSpinCalculator, rng: np.random.Generator) -> Iterator:
    """Yield snapshots of runs from variants and from points between them."""
    while True:
        atoms = (variant if rng.random() < 0.5 else on_path)(rng)
        cell = CELLS[int(rng.choice([10, 10, 20]))]
        yield from thermal(make_supercell(atoms, cell, wrap=False), calculator, rng)


def randomly(n_atoms: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Yield structures of sample.py."""
    while True:
        yield sampled(n_atoms, rng)


def wanted(atoms: Atoms, calculator: DeepSpinCalculator, draw: float) -> bool:
    """Return whether to label a structure; ``draw`` is random, 0 to 1."""
    calculator.calculate(atoms.copy())
    above = calculator.results["energy"] / len(atoms) - CRYSTAL
    if above > MAX_ENERGY or np.abs(calculator.results["forces"]).max() > MAX_FORCE:
        return False
    return above > COLD or draw < SHARE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=100, help="a multiple of 100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("output", help="folder of the data set")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    calculator = DeepSpinCalculator(arguments.model)
    reference = DeepSpinCalculator(bifeo3_reference(), dtype="float32")
    frames: list[Frame] = []
    for kind, share in COUNTS.items():
        structures = (
            snapshots(calculator, rng) if kind == "dynamics" else randomly(kind, rng)
        )
        count = len(frames) + share * arguments.count // 100
        with tqdm(total=count - len(frames), unit=f" {kind}") as bar:
            while len(frames) < count:
                atoms = next(structures)
                draw = 0.0 if kind == "dynamics" else rng.random()
                if not wanted(atoms, calculator, draw):
                    continue
                frame = label(atoms.copy(), reference)
                if frame is not None:
                    frames.append(frame)
                    bar.update()
    write_dataset(arguments.output, Dataset(frames))


if __name__ == "__main__":
    main()
