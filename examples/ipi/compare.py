"""The run of i-PI again with ASE: how much the changes of the energies differ."""

import argparse

import numpy as np
from ase import units
from ase.md.verlet import VelocityVerlet

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.io import read_structure
from deepspin_ase.optimize import AdiabaticMoments

#: Of i-PI, amu; those of ASE are newer.
MASSES = {"Ni": 58.6934, "O": 15.9994}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("structure")
parser.add_argument("model")
parser.add_argument("--relax", choices=("directions", "lengths", "vectors"))
parser.add_argument("--output", default="nve.out", help="of i-PI")
arguments = parser.parse_args()

_, _, conserved, potential, kinetic, _ = np.loadtxt(arguments.output, unpack=True)
atoms = read_structure(arguments.structure)
atoms.set_masses([MASSES[symbol] for symbol in atoms.symbols])
atoms.calc = DeepSpinCalculator(arguments.model)
if arguments.relax is not None:
    atoms.calc = AdiabaticMoments(atoms.calc, arguments.relax)
dynamics = VelocityVerlet(atoms, 1.0 * units.fs)
found = [(atoms.get_potential_energy(), atoms.get_kinetic_energy())]
for _ in range(len(potential) - 1):
    dynamics.run(1)
    found.append((atoms.get_potential_energy(), atoms.get_kinetic_energy()))
for name, theirs, ours in zip(
    ("potential", "kinetic"), (potential, kinetic), np.transpose(found), strict=True
):
    change, expected = theirs - theirs[0], ours - ours[0]
    print(f"{name} energy: largest difference {abs(change - expected).max():.1e} eV")
print(f"{len(potential) - 1} steps; exchanged: {np.ptp(potential):.4f} eV")
print(f"conserved energy of i-PI: within {np.ptp(conserved):.1e} eV")
