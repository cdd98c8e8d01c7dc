"""Frames that say what the DFT frames of NiO cannot: strain, hot atoms, long moments.

python tutorials/nio/prior.py DATA... --output prior

The DFT frames are of one cell, and no atom is farther than 0.015 A from its site. Two
sets of frames that count little in the loss hold the model elsewhere:

- ``elastic.extxyz``, four atoms: homogeneous strains up to 4 %, labelled by an equation
  of state and elastic constants;
- ``hot.extxyz``, 16 and 128 atoms: displacements up to 0.16 A, strains, any order of the
  moments and lengths of them, labelled by pair potentials and an exchange that are
  fitted to the DFT frames and to the elastic frames, and a Landau energy. The larger
  cells tell neighbors from their images, which the DFT frames cannot;
- ``orders.extxyz``: the same labels of collinear orders in strained crystals.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.units import GPa
from numpy.typing import ArrayLike

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, get_spins, set_spins
from deepspin_ase.build import perturbed
from deepspin_ase.data import Dataset, Frame, read_dataset, write_dataset
from deepspin_ase.potentials import (
    DampedCoulomb,
    Exponential,
    Landau,
    Potential,
    Radial,
    Sum,
    Switched,
)
from deepspin_ase.training import LinearFit, fit_baseline

#: Lattice constant (A) of the DFT frames, which are relaxed, and length of moments.
A, MOMENT = 4.1857, 1.277

#: Elastic constants C11, C12, C44 (GPa), see strain.py, and pressure derivative of the
#: bulk modulus.
ELASTIC, SLOPE = (387.0, 104.0, 92.0), 4.2

#: Length of free moments (mu_B) and stiffness of that length (eV/mu_B^2), see strain.py.
FREE, STIFFNESS = 1.279, 10.0

CUTOFF, SWITCH_FROM = 7.0, 5.0
CHARGES = {("Ni", "O"): -1.0, ("O", "O"): 1.0, ("Ni", "Ni"): 1.0}
REPULSION = {
    ("Ni", "O"): [(0.2, 2.1), (0.3, 2.1), (0.45, 2.1)],
    ("O", "O"): [(0.3, 2.98), (0.5, 2.98)],
    ("Ni", "Ni"): [(0.3, 2.98), (0.5, 2.98)],
}
#: Centers of the exchange as a function of distance, A: close to the shells of the
#: crystal, which need not be at them.
SHELLS = (2.9815, 4.2166)


def elastic_energy(strain: np.ndarray) -> float:
    """Return the energy of a formula unit, eV, of a logarithmic strain.

    Equation of state by Birch and Murnaghan, and a quadratic form of the rest.
    """
    c11, c12, c44 = np.array(ELASTIC) * GPa
    volume, y = A**3 / 4, np.exp(-2.0 / 3.0 * np.trace(strain))
    bulk_modulus = (c11 + 2.0 * c12) / 3.0
    state = (y - 1.0) ** 3 * SLOPE + (y - 1.0) ** 2 * (6.0 - 4.0 * y)
    rest = strain - np.eye(3) * np.trace(strain) / 3.0
    shear = rest - np.diag(np.diag(rest))
    return volume * (
        9.0 / 16.0 * bulk_modulus * state
        + 0.5 * (c11 - c12) * np.sum(np.diag(rest) ** 2)
        + c44 * np.sum(shear**2)
    )


def _stretched_energy(stretch: np.ndarray) -> float:
    """Return the energy of a formula unit, eV, of a deformation."""
    values, axes = np.linalg.eigh(stretch.T @ stretch)
    return elastic_energy(axes @ np.diag(0.5 * np.log(values)) @ axes.T)


#: Wave vectors of magnetic orders in the cubic cell.
ORDERS = {"II": (0.5, 0.5, 0.5), "I": (0.0, 0.0, 1.0), "ferromagnet": (0.0, 0.0, 0.0)}


def crystal(matrix: ArrayLike, order: str = "II") -> Atoms:
    """Return a supercell of the primitive cell in a magnetic order."""
    atoms = make_supercell(bulk("NiO", "rocksalt", A), matrix)
    pattern = antiferromagnetic(ORDERS[order], cell=A, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": MOMENT}, pattern=pattern)
    return atoms


def elastic_frames(count: int, rng: np.random.Generator) -> Dataset:
    """Return strained crystals of four atoms, the first without strain."""
    smallest = crystal([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    frames = []
    for k in range(count):
        strain = np.zeros((3, 3))
        if k:
            strain = rng.normal(0.0, 0.008, (3, 3))
            strain = 0.5 * (strain + strain.T)
            strain += (rng.uniform(-0.034, 0.034) - np.trace(strain) / 3) * np.eye(3)
        stretch = np.eye(3) + strain
        virial = np.zeros((3, 3))
        for x in np.ndindex(3, 3):
            step = np.zeros((3, 3))
            step[x] = 1e-5
            more, less = (
                _stretched_energy(stretch @ (np.eye(3) + s)) for s in (step, -step)
            )
            virial[x] = -2.0 * (more - less) / 2e-5
        atoms = smallest.copy()
        atoms.set_cell(smallest.cell.array @ stretch, scale_atoms=True)
        frames.append(
            Frame(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=atoms.pbc,
                spins=get_spins(atoms),
                energy=2.0 * _stretched_energy(stretch),
                forces=np.zeros((4, 3)),
                virial=0.5 * (virial + virial.T),
            )
        )
    return Dataset(frames)


def repeated(frames: Dataset, ground: Frame) -> Dataset:
    """Return frames of four atoms as frames of 32, about the energy of ``ground``."""
    some = []
    for frame in frames:
        atoms = frame.to_atoms().repeat(2)
        some.append(
            Frame(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=atoms.pbc,
                spins=get_spins(atoms),
                energy=8.0 * frame.energy + ground.energy,
            )
        )
    return Dataset(some)


def repulsion(rho: float, distance: float) -> Radial:
    """Return exp(-(r - distance)/rho), switched off."""
    return Switched(Exponential(rho, distance, CUTOFF), SWITCH_FROM)


def fitted(frames: Dataset) -> tuple[Potential, LinearFit]:
    """Return pair potentials, exchange and Landau energy, and the fit of the former.

    Parameters
    ----------
    frames : Dataset
        Of one composition.
    """
    found = fit_baseline(
        frames,
        near={bond: [repulsion(*s) for s in some] for bond, some in REPULSION.items()},
        coulomb=Switched(DampedCoulomb(0.2, CUTOFF), SWITCH_FROM),
        charges=CHARGES,
        magnetic=("Ni", "Ni"),
        shells=SHELLS,
        width=0.6,
        ridge=1e-6,
        zero_pressure=1.0,
    )
    landau = Landau((-STIFFNESS / 4.0, STIFFNESS / (8.0 * FREE**2)), elements=("Ni",))
    return Sum([*found.lattice, found.exchange, landau]), found.fit


def labelled(structures: Iterable[Atoms], teacher: Potential) -> Dataset:
    """Return structures with labels of a potential."""
    calculator = DeepSpinCalculator(teacher)
    frames = []
    for atoms in structures:
        calculator.calculate(atoms)
        atoms.calc = calculator
        frames.append(Frame.from_atoms(atoms))
    return Dataset(frames)


def ordered(count: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Return strained crystals in the three orders."""
    for order in ORDERS:
        yield from perturbed(
            crystal(2 * np.eye(3), order),
            count,
            displacement=0.0,
            strain=0.03,
            reduced_temperature=0.0,
            length=0.0,
            states=("canted",),
            seed=rng,
        )


def hot(repeat: int, count: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Return hot and strained crystals of 2 repeat^3 atoms.

    Half of them are about order II, the others about order I and the ferromagnet.
    """
    for order in ("II", *ORDERS):
        yield from perturbed(
            crystal(repeat * np.eye(3), order),
            count // 4,
            displacement=0.16,
            strain=0.035,
            reduced_temperature=1.0,
            length=0.15,
            seed=rng,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="folders of DFT frames for training")
    parser.add_argument("--output", type=Path, default=Path("prior"), help="folder")
    arguments = parser.parse_args()
    frames = read_dataset(arguments.data)
    rng = np.random.default_rng(0)
    elastic = elastic_frames(40, rng)
    ground = min(frames, key=lambda frame: frame.energy)
    teacher, fit = fitted(frames + repeated(elastic, ground))
    print(fit)
    j1, dj1, j2, dj2 = 1e3 * fit.coefficients[-4:]
    print(f"J1 {j1:.2f} meV (slope {dj1:.1f} meV/A), J2 {j2:.2f} meV ({dj2:.1f} meV/A)")
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_dataset(arguments.output / "elastic.extxyz", elastic)
    orders = labelled(ordered(8, rng), teacher)
    write_dataset(arguments.output / "orders.extxyz", orders)
    every = (*hot(2, 160, rng), *hot(4, 24, rng))
    write_dataset(arguments.output / "hot.extxyz", labelled(every, teacher))


if __name__ == "__main__":
    main()
