"""Elastic constants, exchange and stiffness of moments of NiO by GPAW.

python tutorials/nio/strain.py --output strained

What the DFT frames of NiO do not hold, and prior.py needs: eight labels of four atoms,
half a minute each on a quiet core. PBE+U (5.3 eV) as in those frames, but collinear.
Differences of stresses and energies from the crystal count: the cut-off is low, and the
stress of the crystal itself, 25 GPa, is that of plane waves that change with the cell.
Needs GPAW. Labels that are there already are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from gpaw.new.ase_interface import GPAW
from tqdm import tqdm

from deepspin_ase import get_spins, set_spins
from deepspin_ase.data import Frame
from deepspin_ase.io import read_extxyz, write_extxyz
from deepspin_ase.labels._gpaw_constraint import MomentConstraint

#: Hubbard U (eV), cut-off (eV) and penalty (eV/mu_B^2).
U, CUTOFF, PENALTY = 5.3, 450.0, 4.0

#: Distances (A) in the relaxed crystal of the other frames: between atoms within layers
#: of moments, and between layers; a = 4.186 A with angles of 90.07 degrees.
NEAREST, LAYER = 2.960967, 2.414699

#: Length of the free moments, mu_B.
MOMENT = 1.72

#: Traceless strains are (-1, -1, 2)/3 of this.
SHEAR = 0.03


class CollinearMoment(MomentConstraint):
    """Moments along z, held by the same penalty in collinear calculations."""

    def update_non_local_hamiltonian(
        self, D_sii: Any, setup: Any, atom_index: int, dH_sii: Any
    ) -> float:
        """Add the field to the atomic Hamiltonians of both spins."""
        up, down = D_sii
        nothing = np.zeros_like(up)
        field = np.zeros((4, *up.shape))
        density = np.array([up + down, nothing, nothing, up - down])
        energy = super().update_non_local_hamiltonian(density, setup, atom_index, field)
        dH_sii[0] += field[3]
        dH_sii[1] -= field[3]
        return energy


def crystal(order: str) -> Atoms:
    """Return two formula units in order II or F (ferromagnetic), layers across z."""
    root = 3.0**0.5
    rows = [[1, 0, 0], [0.5, root / 2, 0], [0.5, 0.5 / root, 2 * LAYER / NEAREST]]
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.75, 0.75, 0.75], [0.25, 0.25, 0.25]]
    cell = NEAREST * np.array(rows)
    atoms = Atoms("Ni2O2", scaled_positions=sites, cell=cell, pbc=True)
    moments = MOMENT * np.array([1, 1 if order == "F" else -1, 0, 0])
    set_spins(atoms, np.outer(moments, [0, 0, 1]))
    return atoms


def strained(atoms: Atoms, strain: Any) -> Atoms:
    """Return the atoms with a symmetric strain."""
    atoms = atoms.copy()
    strain = np.diag(np.broadcast_to(strain, 3)) if np.ndim(strain) < 2 else strain
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def structures() -> dict[str, tuple[Atoms, bool]]:
    """Return structures by name, and whether their moments are held."""
    ordered, cubic = crystal("II"), cubic_axes()
    along = np.diag([-SHEAR / 3, -SHEAR / 3, 2 * SHEAR / 3])
    found = {
        "crystal": (ordered, False),
        "smaller": (strained(ordered, -0.03), False),
        "larger": (strained(ordered, 0.03), False),
        "along [111]": (strained(ordered, along), False),
        "along [001]": (strained(ordered, cubic.T @ along @ cubic), False),
        "ferromagnet": (crystal("F"), False),
    }
    for moment in (1.5, 1.85):
        held = ordered.copy()
        set_spins(held, get_spins(ordered) * moment / MOMENT)
        found[f"moments of {moment}"] = held, True
    return found


def cubic_axes() -> np.ndarray:
    """Return the cubic axes (rows) of the cells of order II."""
    normal, along = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])
    local = np.array([along, np.cross(normal, along), normal])
    cube = np.array([[1, -1, 0], [1, 1, -2], [1, 1, 1]]) / np.sqrt([[2], [6], [3]])
    return cube.T @ local


def labelled(atoms: Atoms, *, held: bool, log: Path) -> Frame:
    """Return the labels of a structure; free moments have no magnetic forces."""
    targets = get_spins(atoms)
    constraint = CollinearMoment({a: targets[a] for a in (0, 1)}, PENALTY)
    atoms = atoms.copy()
    atoms.calc = GPAW(
        mode={"name": "pw", "ecut": CUTOFF},
        xc="PBE",
        kpts={"size": (3, 3, 2), "gamma": True},
        setups={"Ni": f":d,{U}"},
        magmoms=targets[:, 2],
        occupations={"name": "fermi-dirac", "width": 0.05},
        convergence={"density": 1e-5, "eigenstates": 1e-6},
        extensions=[constraint] if held else [],
        txt=str(log),
    )
    energy = atoms.get_potential_energy(force_consistent=True)
    moments, fields = np.zeros((4, 3)), np.zeros((4, 3))
    moments[:2, 2] = atoms.calc.get_magnetic_moments()[:2]
    if held:
        for a in (0, 1):
            moments[a], fields[a] = constraint.moments[a], constraint.fields[a]
    return Frame(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        spins=moments,
        energy=energy,
        forces=atoms.get_forces(),
        magnetic_forces=fields,
        virial=-atoms.get_volume() * atoms.get_stress(voigt=False),
    )


def report(found: dict[str, Atoms]) -> None:
    """Print what follows from the labels."""
    crystal = found["crystal"]

    def stress(name: str) -> np.ndarray:
        difference = found[name].get_stress(voigt=False) - crystal.get_stress(
            voigt=False
        )
        return cubic_axes() @ difference @ cubic_axes().T / GPa

    def energy(name: str) -> float:
        difference = found[name].get_potential_energy() - crystal.get_potential_energy()
        return difference / 2.0

    for name in ("smaller", "larger"):
        x = (found[name].get_volume() / crystal.get_volume()) ** (1 / 3)
        curve = 1.5 * (x**-7 - x**-5)  # Birch and Murnaghan, with slope 4
        print(f"bulk modulus, {name}: {-stress(name)[0, 0] / curve:.0f} GPa")
    tetragonal, trigonal = stress("along [001]"), stress("along [111]")
    print(f"C11 - C12: {(tetragonal[2, 2] - tetragonal[0, 0]) / SHEAR:.0f} GPa")
    print(f"C44: {trigonal[0, 1] / (2 * SHEAR / 3):.0f} GPa")
    print(f"ferromagnet: {1e3 * energy('ferromagnet'):.1f} meV per formula unit")
    free = get_spins(crystal)[0, 2]
    for name in (name for name in found if name.startswith("moments")):
        change = get_spins(found[name])[0, 2] - free
        force = found[name].calc.results["magnetic_forces"][0, 2]
        print(
            f"{name}: {change:+.3f} mu_B, stiffness {-force / change:.1f} (magnetic "
            f"force), {2 * energy(name) / change**2:.1f} eV/mu_B^2 (energy)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("strained"), help="folder")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for k, (name, (atoms, held)) in enumerate(tqdm(structures().items())):
        path = folder / f"{k:02d}.extxyz"
        if not path.exists():
            frame = labelled(atoms, held=held, log=path.with_suffix(".txt"))
            write_extxyz(path, frame.to_atoms())
        found[name] = read_extxyz(path, -1)
    report(found)


if __name__ == "__main__":
    main()
