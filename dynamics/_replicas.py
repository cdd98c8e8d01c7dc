"""One or many structures in one driver, and values given once or per replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

#: A number for all replicas, or one for each.
PerReplica = float | Sequence[float]


def as_images(atoms: Atoms | Sequence[Atoms], values: dict[str, Any]) -> list[Atoms]:
    """Return the structures that run together.

    Parameters
    ----------
    atoms : Atoms or sequence of Atoms
        One Atoms is copied when one of ``values`` has several numbers; otherwise the
        objects themselves are returned.
    values : dict
        Arguments by name, each a number or one number per replica.

    Raises
    ------
    ValueError
        If numbers of replicas differ.
    """
    if not isinstance(atoms, Atoms | Sequence):
        raise TypeError(f"expected ase.Atoms, got {type(atoms).__name__}")
    given = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    for image in given:
        if not isinstance(image, Atoms):
            raise TypeError(f"expected ase.Atoms, got {type(image).__name__}")
    if not given:
        raise ValueError("expected at least one Atoms object")
    if len({id(image) for image in given}) < len(given):
        raise ValueError(
            "the same Atoms object is given twice: replicas need copies, atoms.copy()"
        )
    lengths = {
        name: len(np.atleast_1d(np.asarray(value, dtype=float)))
        for name, value in values.items()
        if value is not None and np.ndim(value) > 0
    }
    for name, length in lengths.items():
        if length == 0:
            raise ValueError(f"{name} is empty: give a number, or one for each replica")
    if not isinstance(atoms, Atoms):
        lengths["atoms"] = len(given)
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "numbers of replicas differ: "
            + ", ".join(f"{count} in {name}" for name, count in lengths.items())
        )
    count = next(iter(lengths.values()), 1)
    if count == len(given):
        return given
    replicas = [given[0].copy() for _ in range(count)]
    for replica in replicas:
        replica.calc = given[0].calc
    return replicas
