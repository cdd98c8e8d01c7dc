"""Magnets that several tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from deepspin_ase import DeepSpinCalculator, antiferromagnetic, cant_spins, set_spins
from deepspin_ase.data import Dataset, Frame
from deepspin_ase.potentials import Potential
from deepspin_ase.potentials.materials.reference import fe
from deepspin_ase.system import System

#: Lattice constant of NiO as the shipped model has it, A.
A_NIO = 4.186


def iron(n: int = 2, *, rattle: float = 0.05) -> Atoms:
    """bcc iron, rattled and canted, with lengths of moments that scatter."""
    atoms = bulk("Fe", a=2.8665, cubic=True).repeat(n)
    lengths = 2.36 * np.random.default_rng(3).uniform(0.95, 1.05, len(atoms))
    set_spins(atoms, lengths)
    cant_spins(atoms, 0.03, seed=2)
    atoms.rattle(rattle, seed=1)
    atoms.calc = DeepSpinCalculator(fe())
    return atoms


def nickel_oxide(repeat: Any = (2, 2, 2), model: Any = "NiO") -> Atoms:
    """NiO in AFM-II order, rattled and canted; oxygen carries no moment."""
    atoms = bulk("NiO", "rocksalt", A_NIO).repeat(repeat)
    order = antiferromagnetic((0.5, 0.5, 0.5), cell=A_NIO, direction=(1, 1, -2))
    set_spins(atoms, {"Ni": 1.277}, pattern=order)
    cant_spins(atoms, 0.03, seed=2)
    atoms.rattle(0.03, seed=1)
    atoms.calc = DeepSpinCalculator(model)
    return atoms


def rocksalt_afm(a: float, moment: float) -> Atoms:
    """Primitive cell of NiO in type-II order, of lattice constant a (A)."""
    places = a * np.array([(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1.5, 1.5, 1.5)])
    cell = 0.5 * a * (np.ones((3, 3)) + np.eye(3))
    atoms = Atoms("Ni2O2", positions=places, cell=cell, pbc=True)
    order = antiferromagnetic((0.5, 0.5, 0.5), direction=(1, 1, -2), cell=a)
    set_spins(atoms, {"Ni": moment}, pattern=order)
    return atoms


def triclinic() -> Atoms:
    """Return three magnetic sites of two elements and a bare one, low symmetry."""
    atoms = Atoms(
        "FeNiFeO",
        scaled_positions=[(0, 0, 0), (0.5, 0.45, 0.55), (0.1, 0.5, 0.9), (0.5, 0, 0.2)],
        cell=[(4.1, 0, 0), (0.7, 3.9, 0), (-0.5, 0.4, 4.4)],
        pbc=(True, True, False),
    )
    set_spins(atoms, [(1.0, 2.0, 0.5), (-0.3, 0.2, -0.9), (2.0, 0, -1.0), (0, 0, 0)])
    return atoms


def labelled(potential: Potential, images: list[Atoms], name: str = "made") -> Dataset:
    """Label structures by a potential: energy, forces, magnetic forces, virial."""
    frames = []
    for atoms in images:
        found = potential.evaluate(System.from_atoms(atoms))
        frames.append(
            Frame.from_atoms(atoms).replace(
                energy=float(found.energy[0]),
                forces=found.forces.numpy(),
                magnetic_forces=found.magnetic_forces.numpy(),
                virial=found.virial[0].numpy(),
            )
        )
    return Dataset(frames, name=name)
