"""Structures that a model leads to, labelled with the reference.

python tutorials/bifeo3/explore.py MODEL --seed 1 FOLDER

Where a model is trusted it must have been shown the reference: the images of its
bands between variants, rattled and strained, and snapshots of its dynamics, from 100
to 600 K, that start from these images. Those with more energy or force than sample.py
allows are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import thermalize_momenta
from barriers import MIDDLES
from sample import label
from tqdm import tqdm

from deepspin_ase import DeepSpinCalculator, cant_spins
from deepspin_ase.analysis import SpinLatticeNEB, interpolate
from deepspin_ase.data import Dataset, write_dataset
from deepspin_ase.dynamics import SpinLatticeLangevin
from deepspin_ase.optimize import relax
from deepspin_ase.potentials.materials.reference import (
    bifeo3_reference,
    bismuth_ferrite,
)


def band_images(calculator: DeepSpinCalculator) -> list[Atoms]:
    """Return the first halves of bands with the cell fixed and free.

    The other halves are their images under a symmetry.
    """
    images = []
    for polar, tilt in MIDDLES.values():
        for cell in (False, True):
            start = bismuth_ferrite()
            beyond = (np.sign(2 * np.array(mode) - 1) for mode in (polar, tilt))
            end = bismuth_ferrite(*beyond)
            for atoms in (start, end):
                atoms.calc = calculator
                relax(atoms, fmax=0.02, cell=cell)
            neb = SpinLatticeNEB(interpolate(start, end, 7), cell=cell)
            neb.run(fmax=0.05, steps=30)
            images += [image.copy() for image in neb.images[:4]]
    return images


def rattled(image: Atoms, rng: np.random.Generator) -> Atoms:
    """Return a copy that is strained, rattled and canted."""
    atoms = image.copy()
    strain = rng.normal(0, rng.uniform(0, 0.01), (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += rng.uniform(0.01, 0.08) * rng.normal(size=(len(atoms), 3))
    cant_spins(atoms, rng.uniform(0, 0.3), seed=rng)
    return atoms


def thermal(
    image: Atoms, calculator: DeepSpinCalculator, rng: np.random.Generator
) -> Iterator[Atoms]:
    """Yield snapshots of a run at 100 to 600 K that starts from ``image``."""
    atoms = image.copy()
    strain = rng.normal(0, 0.006, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.calc = calculator
    temperature = rng.uniform(100, 600)
    thermalize_momenta(atoms, temperature, rng=rng)
    driver = SpinLatticeLangevin(
        atoms,
        2 * units.fs,
        temperature_K=temperature,
        friction=0.02 / units.fs,
        damping=0.2,
        rng=int(rng.integers(2**31)),
    )
    for steps in (15, 25, 60):
        driver.run(steps)
        yield atoms.copy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rattled", type=int, default=4, help="copies of an image")
    parser.add_argument("--runs", type=int, default=2, help="runs from an image")
    parser.add_argument("output", help="folder of the data set")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    calculator = DeepSpinCalculator(arguments.model)
    images = band_images(calculator)
    found = list(images)
    for image in images:
        found += [rattled(image, rng) for _ in range(arguments.rattled)]
        for _ in range(arguments.runs):
            found += thermal(image, calculator, rng)
    reference = DeepSpinCalculator(bifeo3_reference(), dtype="float32")
    labelled = [label(atoms, reference) for atoms in tqdm(found)]
    frames = Dataset(frame for frame in labelled if frame is not None)
    write_dataset(arguments.output, frames)
    print(f"{len(frames)} of {len(found)} structures kept")


if __name__ == "__main__":
    main()
