"""Structures of VASP: POSCAR with the moments of an INCAR beside it.

MAGMOM holds a number for each atom in collinear calculations, and three in
non-collinear ones, whose axes SAXIS turns: with the angles a = atan2(s_y, s_x) and
b = atan2(|(s_x, s_y)|, s_z), a moment is R_z(a) R_y(b) MAGMOM in Cartesian axes. A
number is along SAXIS (vasp.at/wiki, SAXIS).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from .._files import atomic_write
from .._validate import as_direction
from ..spins import get_spins, set_spins

logger = logging.getLogger(__name__)

#: Tags that :func:`write_vasp` sets in an INCAR.
_WRITTEN = ("MAGMOM", "SAXIS", "LNONCOLLINEAR")


def read_poscar(path: Path) -> Atoms:
    """Return the structure of a POSCAR or CONTCAR, with the moments of its INCAR.

    Atoms have no moments where there is no file ``INCAR`` in the same folder, or it
    has no MAGMOM, or ISPIN = 1.

    Raises
    ------
    ValueError
        If a file is damaged or MAGMOM has another number of entries.
    """
    (atoms,) = ase.io.read(path, index=":", format="vasp")
    incar = path.parent / "INCAR"
    if not incar.is_file():
        return atoms
    tags = incar_tags(incar)
    if "MAGMOM" in tags and tags.get("ISPIN") == "1" and not _has_vectors(tags):
        logger.warning(
            "%s: MAGMOM is not read, as VASP does not where ISPIN = 1", incar
        )
    elif "MAGMOM" in tags:
        try:
            moments = _cartesian(tags, len(atoms))
        except ValueError as error:
            raise ValueError(f"{incar}: {error}") from error
        set_spins(atoms, moments)
    return atoms


def write_vasp(
    folder: str | os.PathLike[str],
    atoms: Atoms,
    *,
    saxis: Sequence[float] = (0.0, 0.0, 1.0),
) -> None:
    """Write a POSCAR, and its moments into the INCAR beside it.

    Atoms are sorted by element, as they first appear. In an INCAR that is there,
    MAGMOM, SAXIS and LNONCOLLINEAR are replaced, and other lines are kept.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    atoms : Atoms
        With moments.
    saxis : (3,) numbers
        Axis that the z axis of MAGMOM stands for, of any length.

    Raises
    ------
    ValueError
        If moments are missing or malformed, or ``saxis`` has no length.
    """
    axis = as_direction("saxis", saxis)
    symbols = atoms.get_chemical_symbols()
    order = np.argsort([symbols.index(s) for s in symbols], kind="stable")
    inside = get_spins(atoms)[order] @ saxis_rotation(axis)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = StringIO()
    ase.io.write(text, atoms[order], format="vasp", direct=True)
    with atomic_write(folder / "POSCAR") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    incar = folder / "INCAR"
    lines = _without(incar.read_text("utf-8"), _WRITTEN) if incar.exists() else []
    rows = [" ".join(f"{x:.6f}" for x in moment + 0.0) for moment in inside]
    lines += ["LNONCOLLINEAR = .TRUE."]
    lines += [f"SAXIS = {' '.join(f'{x:.10f}' for x in axis)}"]
    lines += ["MAGMOM = " + " \\\n  ".join(rows)]
    with atomic_write(incar) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def incar_tags(path: Path) -> dict[str, str]:
    """Return the tags of an INCAR in capitals, and what is set for them first."""
    settings = reversed(_settings(path.read_text("utf-8")))
    return {tag: value for tag, value, _ in settings}


def _settings(text: str) -> list[tuple[str, str, range]]:
    """Return tag, value and lines of every setting of an INCAR."""
    lines = text.splitlines()
    found = []
    k = 0
    while k < len(lines):
        start, whole = k, _bare(lines[k])
        while whole.endswith("\\") and k + 1 < len(lines):
            k += 1
            whole = whole[:-1] + " " + _bare(lines[k])
        k += 1
        for part in whole.split(";"):
            tag, equals, value = part.partition("=")
            if equals:
                found.append((tag.strip().upper(), value.strip(), range(start, k)))
    return found


def _bare(line: str) -> str:
    """Return a line without its comment."""
    return re.split("[#!]", line, maxsplit=1)[0].rstrip()


def _without(text: str, tags: Sequence[str]) -> list[str]:
    """Return the lines of an INCAR that set none of ``tags``."""
    settings = _settings(text)
    drop = {k for tag, _, lines in settings if tag in tags for k in lines}
    shared = [t for t, _, lines in settings if t not in tags and drop & set(lines)]
    if shared:
        raise ValueError(
            f"{', '.join(shared)} stands on a line with one of {', '.join(tags)} in "
            "the INCAR; put it on a line of its own"
        )
    return [line for k, line in enumerate(text.splitlines()) if k not in drop]


def numbers_of(value: str) -> np.ndarray:
    """Return the numbers of a value such as ``"3*0.0 2 -2"``."""
    numbers: list[float] = []
    for word in value.split():
        count, star, number = word.rpartition("*")
        numbers += [float(number)] * (int(count) if star else 1)
    return np.array(numbers)


def _cartesian(tags: dict[str, str], n_atoms: int) -> np.ndarray:
    """Return the Cartesian moments (N, 3) of an INCAR."""
    moments = numbers_of(tags["MAGMOM"])
    axis = numbers_of(tags.get("SAXIS", "0 0 1"))
    if axis.shape != (3,) or not axis.any():
        raise ValueError(f"SAXIS must be three numbers, got {tags['SAXIS']!r}")
    vectors = _has_vectors(tags)
    expected = 3 * n_atoms if vectors else n_atoms
    if moments.size != expected:
        raise ValueError(
            f"MAGMOM has {moments.size} entries; {n_atoms} atoms take {n_atoms}, or "
            f"{3 * n_atoms} where LNONCOLLINEAR or LSORBIT is true, and it is "
            f"{'true' if vectors else 'not'} here"
        )
    if vectors:
        return moments.reshape(-1, 3) @ saxis_rotation(axis).T
    return moments[:, None] * axis / np.linalg.norm(axis)


def _has_vectors(tags: dict[str, str]) -> bool:
    """Return whether the moments of an INCAR are non-collinear."""
    return any(_is_true(tags.get(x, "")) for x in ("LNONCOLLINEAR", "LSORBIT"))


def _is_true(value: str) -> bool:
    """Return whether a logical tag is set: T, .T., .TRUE., ..."""
    return value.upper().lstrip(".").startswith("T")


def saxis_rotation(saxis: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the matrix R of m = R m', m' being in the axes of SAXIS."""
    x, y, z = saxis
    angles = [np.arctan2(y, x), np.arctan2(np.hypot(x, y), z)]
    return Rotation.from_euler("ZY", angles).as_matrix()


def is_poscar(path: Path) -> bool:
    """Return whether a file has the name of a structure of VASP."""
    name = path.name.upper()
    return path.suffix == ".vasp" or "POSCAR" in name or "CONTCAR" in name
