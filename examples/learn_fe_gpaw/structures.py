"""Crystals to start from, and structures to test models on that nothing else knows."""

from __future__ import annotations

from ase.build import bulk

from deepspin_ase import set_spins
from deepspin_ase.build import perturbed
from deepspin_ase.io import write_extxyz

cell = bulk("Fe", "bcc", 2.80, cubic=True)
crystals = [cell, cell.repeat((2, 1, 1))]
for atoms in crystals:
    set_spins(atoms, {"Fe": 2.0})
write_extxyz("fe.extxyz", crystals)

scatter = {"displacement": 0.07, "strain": 0.01, "reduced_temperature": 0.05}
test = [
    structure
    for k, atoms in enumerate(crystals)
    for structure in perturbed(
        atoms, 7, **scatter, length=0.06, states=["canted"], seed=100 + k
    )
]
write_extxyz("test_structures.extxyz", test)
