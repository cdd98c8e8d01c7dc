"""LAMMPS dumps of text with moments (``atom_style spin``, ``units metal``)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from ase import Atoms

from ..spins import set_spins
from ._lammps import moments_of, start_of

logger = logging.getLogger(__name__)

_FRAME = "ITEM: TIMESTEP"


def is_lammps_dump(path: Path) -> bool:
    """Return whether a file is a LAMMPS dump of text, by its first line."""
    return start_of(path).startswith("ITEM: ")


@overload
def read_lammps_dump(
    path: str | os.PathLike[str],
    index: int = -1,
    *,
    elements: Sequence[str] | None = None,
) -> Atoms: ...


@overload
def read_lammps_dump(
    path: str | os.PathLike[str],
    index: slice,
    *,
    elements: Sequence[str] | None = None,
) -> list[Atoms]: ...


def read_lammps_dump(
    path: str | os.PathLike[str],
    index: int | slice = -1,
    *,
    elements: Sequence[str] | None = None,
) -> Atoms | list[Atoms]:
    """Read frames of a LAMMPS dump of text in ``units metal``.

    Moments are in the columns ``spx spy spz sp`` (``dump_modify colname``), or in four
    columns of one ``compute property/atom spx spy spz sp``, ``c_NAME[1]`` to
    ``c_NAME[4]``, which is recognised by unit vectors in the first three.

    Parameters
    ----------
    path : path
    index : int or slice
        Frames; the last by default.
    elements : sequence of str, optional
        The elements of the atom types 1, 2, ...; by default the column ``element``.

    Returns
    -------
    Atoms or list of Atoms
        In the order of the atom-IDs, in LAMMPS' orientation. Without moments where
        there are none in the file.

    Raises
    ------
    ValueError
        If the file is damaged, elements are not known, or columns may hold moments and
        are not recognised.
    """
    path = Path(path)
    try:
        lines = path.read_text("utf-8").splitlines()
        starts = [k for k, line in enumerate(lines) if line.startswith(_FRAME)]
        ends = [*starts[1:], len(lines)]
        parts = list(zip(starts, ends, strict=True))
        if isinstance(index, slice):
            return [_dumped(lines[a:b], elements) for a, b in parts[index]]
        start, end = parts[index]
        return _dumped(lines[start:end], elements)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} is no readable LAMMPS dump ({type(error).__name__}: {error})"
        ) from error


def _dumped(lines: list[str], elements: Sequence[str] | None) -> Atoms:
    items: dict[str, list[str]] = {}
    values: list[str] = []
    for line in lines:
        if line.startswith("ITEM: "):
            name, values = line.removeprefix("ITEM: "), []
            items[name] = values
        elif line.strip():
            values.append(line)
    count = int(items["NUMBER OF ATOMS"][0])
    box = next(name for name in items if name.startswith("BOX BOUNDS"))
    head = next(name for name in items if name.startswith("ATOMS"))
    names, rows = head.split()[1:], [row.split() for row in items[head]]
    if len(rows) != count or any(len(row) != len(names) for row in rows):
        raise ValueError(f"{count} atoms of {len(names)} columns are announced")
    cell, low, pbc = _dumped_box(box.split()[2:], items[box])
    table = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    atoms = Atoms(
        _dumped_elements(table, elements),
        positions=_dumped_positions(table, cell, low),
        cell=cell,
        pbc=pbc,
        celldisp=low,
    )
    moments = _dumped_moments(table)
    if moments is not None:
        set_spins(atoms, moments)
    if "id" in table:
        atoms = atoms[np.argsort(np.array(table["id"], dtype=int))]
    return atoms


def _dumped_box(
    words: Sequence[str], rows: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Return the cell, its corner and what is periodic of the section BOX BOUNDS."""
    bounds = np.array([row.split() for row in rows], dtype=float)
    if "abc" in words or bounds.shape not in ((3, 2), (3, 3)):
        raise ValueError("the box is a general triclinic one, or damaged")
    xy, xz, yz = bounds[:, 2] if bounds.shape == (3, 3) else np.zeros(3)
    low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
    # The bounds are those of a rectangular box around a tilted one.
    low -= [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high -= [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    cell = np.diag(high - low)
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return cell, low, [word == "pp" for word in words[-3:]]


def _dumped_elements(
    table: dict[str, list[str]], elements: Sequence[str] | None
) -> list[str]:
    if elements is not None:
        return [elements[int(kind) - 1] for kind in table["type"]]
    if "element" in table:
        return table["element"]
    raise ValueError(
        "types have no elements: give them as `elements`, or dump the column element "
        "(dump_modify element)"
    )


def _dumped_positions(
    table: dict[str, list[str]], cell: np.ndarray, low: np.ndarray
) -> np.ndarray:
    """Return positions (N, 3) from the columns that hold them, scaled or not."""
    for scaled, endings in ((False, ("u", "")), (True, ("su", "s"))):
        for ending in endings:
            names = [axis + ending for axis in "xyz"]
            if set(names) <= table.keys():
                values = np.array([table[name] for name in names], dtype=float).T
                return values @ cell + low if scaled else values
    raise ValueError("there are no positions x y z, xu yu zu, xs ys zs or xsu ysu zsu")


def _dumped_moments(table: dict[str, list[str]]) -> np.ndarray | None:
    """Return the moments (N, 3) of the columns of a dump; None if there are none."""
    named = ["spx", "spy", "spz", "sp"]
    if set(named) <= table.keys():
        return moments_of(np.array([table[name] for name in named], dtype=float).T)
    stems = {m.group(1) for m in map(re.compile(r"(c_\w+)\[1\]$").match, table) if m}
    for stem in sorted(stems):
        names = [f"{stem}[{k}]" for k in range(1, 5)]
        if not set(names) <= table.keys():
            continue
        values = np.array([table[name] for name in names], dtype=float).T
        directions, lengths = values[:, :3], values[:, 3]
        sizes = np.linalg.norm(directions[lengths > 0.0], axis=1)
        if len(sizes) and (np.abs(sizes - 1.0) < 1e-3).all():
            logger.info("moments are %s to %s, directions and lengths", *names[::3])
            return moments_of(values)
    left = [name for name in table if name.startswith(("c_", "sp"))]
    if left:
        raise ValueError(
            f"{', '.join(left)} may be moments: name them spx spy spz sp (dump_modify "
            "colname), or leave them out"
        )
    return None
