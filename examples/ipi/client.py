"""Energies, forces and stress for i-PI, by its socket, of a magnet.

i-PI moves atoms and cell and knows no moments: they are those of the structure that is
given here, and stay as they are or follow the atoms to the minimum of the energy.
"""

import argparse

from ase.calculators.socketio import SocketClient

from deepspin_ase import DeepSpinCalculator
from deepspin_ase.io import read_structure
from deepspin_ase.optimize import AdiabaticMoments

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("structure", help="with the moments, in the frame of i-PI's cell")
parser.add_argument("model", help="model file, or name of a model")
parser.add_argument(
    "--relax",
    choices=("directions", "lengths", "vectors"),
    help="what of the moments is relaxed at every call",
)
parser.add_argument("--socket", default="deepspin", help="its name in input.xml")
arguments = parser.parse_args()

atoms = read_structure(arguments.structure)
atoms.calc = DeepSpinCalculator(arguments.model)
if arguments.relax is not None:
    atoms.calc = AdiabaticMoments(atoms.calc, arguments.relax)
atoms.get_potential_energy()  # what is wrong with them is said before i-PI waits
SocketClient(unixsocket=arguments.socket).run(atoms, use_stress=True)
