"""Barriers of homogeneous switching in the reference itself.

python tutorials/bifeo3/barriers.py [--cell] FOLDER

Between two variants that a symmetry operation exchanges, the path has its highest
point in the middle, where that operation is kept: the saddle point is found by
relaxing within the symmetry, which forces cannot leave. Writes barriers.json and,
as a data set, all structures on the way and rattled points between.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from deepspin_ase import DeepSpinCalculator, cant_spins, get_spins
from deepspin_ase.analysis import interpolate
from deepspin_ase.data import Dataset, Frame, write_dataset
from deepspin_ase.optimize import relax
from deepspin_ase.potentials.materials.reference import (
    bifeo3_reference,
    bismuth_ferrite,
)
from deepspin_ase.quantities import label_table

#: Polar vector and tilts in the middle of the paths from (1, 1, 1), (1, 1, 1). Other
#: choices of which tilts turn around are unstable: they fall back into variants. Half-way
#: to 109 degrees P grows along z; a start with less may overshoot to a lower saddle
#: point (215 meV/f.u.) with hardly any P, which the straight path does not lead to.
MIDDLES = {
    "71": ((1, 1, 0), (1, 1, 0)),
    "109": ((0, 0, 2), (1, 1, 0)),
    "180": ((0, 0, 0), (1, 1, 1)),
}


class Recorder(DeepSpinCalculator):
    """A calculator that keeps all it was asked for as frames."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.frames: list[Frame] = []

    def calculate(self, atoms: Atoms | None = None, *args: Any) -> None:
        """Evaluate the potential and keep the structure with its labels."""
        super().calculate(atoms, *args)
        labels = {name: self.results[name] for name in label_table()}
        self.frames.append(
            Frame(
                numbers=self.atoms.numbers,
                positions=self.atoms.positions,
                cell=self.atoms.cell.array,
                pbc=self.atoms.pbc,
                spins=get_spins(self.atoms),
                **labels,
            )
        )


def label_between(
    calculator: Recorder, ends: list[Atoms], rng: np.random.Generator
) -> None:
    """Evaluate rattled points on the straight line between two structures."""
    for atoms in interpolate(*ends, 9)[1:]:
        atoms.positions += rng.uniform(0, 0.025) * rng.normal(size=(len(atoms), 3))
        cant_spins(atoms, 0.05, seed=rng)
        calculator.calculate(atoms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", action="store_true", help="relax the cell too")
    parser.add_argument("output", help="folder")
    arguments = parser.parse_args()
    calculator = Recorder(bifeo3_reference(), dtype="float32")
    rng = np.random.default_rng(0)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    crystal = bismuth_ferrite()
    crystal.calc = calculator
    lowest = relax(crystal, fmax=0.01, cell=arguments.cell).energy
    heights: dict[str, float] = {}
    for name, modes in MIDDLES.items():
        saddle = bismuth_ferrite(*modes)
        saddle.calc = calculator
        found = relax(saddle, fmax=0.01, steps=60, cell=arguments.cell)
        heights[name] = 1e3 * (found.energy - lowest) / 2
        print(f"{name}: {heights[name]:.1f} meV/f.u., {found}", flush=True)
        label_between(calculator, [crystal, saddle], rng)
    (output / "barriers.json").write_text(json.dumps(heights, indent=1))
    write_dataset(output / "frames", Dataset(calculator.frames))


if __name__ == "__main__":
    main()
