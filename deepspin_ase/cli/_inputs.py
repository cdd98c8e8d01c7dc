"""Structures that commands are given."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from ..io import read_structure


def read_magnetic(path: Path) -> Atoms:
    """Return the last structure of a file; raise ValueError if it has no moments."""
    atoms = read_structure(path)
    if not atoms.has("initial_magmoms"):
        raise ValueError(
            f"{path} carries no magnetic moments; give the structure that 'deepspin "
            f"relax {path} --moments ELEMENT=MU_B' writes"
        )
    return atoms
