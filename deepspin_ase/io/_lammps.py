"""LAMMPS data files of atoms with moments (``atom_style spin``, ``units metal``).

Columns of the section ``Atoms`` are those of LAMMPS' manual (read_data):
atom-ID atom-type x y z spx spy spz sp, with a unit vector and its length in mu_B.
Files from before 2020 have atom-ID atom-type sp x y z spx spy spz.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.lammps import convert
from ase.data import atomic_masses, atomic_numbers
from ase.io.lammpsdata import read_lammps_data as read_plain
from numpy.typing import ArrayLike

from .._files import atomic_write, reading
from .._validate import path_first
from ..spins import get_spins, set_spins
from ._lammps_box import LammpsBox

logger = logging.getLogger(__name__)

_SECTION = re.compile(r"[A-Z][A-Za-z ]*$")
_PLAIN_COLUMNS, _SPIN_COLUMNS, _IMAGE_COLUMNS = 5, 4, 3

#: Deviation of a direction's length from one: LAMMPS writes at least six digits.
_UNIT = 1e-4


def write_lammps_data(
    path: str | os.PathLike[str],
    atoms: Atoms,
    *,
    elements: Sequence[str] | None = None,
) -> None:
    """Write a structure with its moments as a LAMMPS data file.

    LAMMPS prescribes the orientation of the cell: positions, velocities and
    moments are rotated with it (by :class:`LammpsBox
    <deepspin_ase.io._lammps_box.LammpsBox>`, whose text says what becomes of
    left-handed cells and of directions that are not periodic). Velocities are
    written where the atoms have momenta. What is periodic is not in the file:
    give LAMMPS the command ``boundary``.

    Parameters
    ----------
    path : path
        Written whole or not at all.
    atoms : Atoms
        With moments.
    elements : sequence of str, optional
        The elements of the atom types 1, 2, ..., such as the type map of a
        model; by default those present, in alphabetical order.

    Raises
    ------
    ValueError
        If moments are missing, an element is not in ``elements``, or atoms of
        one element have different masses, which LAMMPS keeps by type.
    TypeError
        If it is not given a path and Atoms, in this order.
    """
    path_first("write_lammps_data", path, atoms, Atoms)
    spins = get_spins(atoms)
    symbols = np.array(atoms.get_chemical_symbols())
    names = sorted(set(symbols)) if elements is None else list(elements)
    absent = sorted(set(symbols) - set(names))
    if absent:
        raise ValueError(
            f"{', '.join(absent)} is missing in elements={names}, which name the "
            "atom types"
        )
    box = LammpsBox.of(atoms)
    lines = [
        "atom_style spin, units metal, moments in mu_B",
        "",
        f"{len(atoms)} atoms",
        f"{len(names)} atom types",
        "",
        *_box_lines(box),
        *("", "Masses", ""),
        *(f"{k} {_mass(atoms, s)!r} # {s}" for k, s in enumerate(names, 1)),
        *("", "Atoms # spin", ""),
    ]
    types = [names.index(symbol) + 1 for symbol in symbols]
    positions = atoms.positions @ box.rotation
    columns = np.column_stack([positions, polar(spins @ box.rotation)])
    for k, (kind, values) in enumerate(zip(types, columns, strict=True), 1):
        lines.append(f"{k} {kind} {_numbers(values)}")
    if atoms.has("momenta"):
        lines += ["", "Velocities", ""]
        velocities = convert(atoms.get_velocities(), "velocity", "ASE", "metal")
        for k, values in enumerate(velocities @ box.rotation, 1):
            lines.append(f"{k} {_numbers(values)}")
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_lammps_data(
    path: str | os.PathLike[str],
    *,
    elements: Sequence[str] | None = None,
    pbc: bool | ArrayLike = True,
) -> Atoms:
    """Read a LAMMPS data file of ``atom_style spin`` in ``units metal``.

    Parameters
    ----------
    path : path
        From :func:`write_lammps_data`, LAMMPS' own ``write_data``, ...
    elements : sequence of str, optional
        The elements of the atom types 1, 2, ...; by default what type labels or
        the comments of the section ``Masses`` say, and what the masses suggest
        where these name no elements.
    pbc : bool or (3,) bools
        Which directions are periodic: the file does not say.

    Returns
    -------
    Atoms
        In the order of the atom-IDs, in LAMMPS' orientation, with moments
        (N, 3) in mu_B, and with velocities where the file has them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of another atom style, damaged, or its elements are unclear.

    Notes
    -----
    The order of the columns is recognised by where the unit vectors stand; a file
    in the order from before 2020 is logged as a warning.
    """
    with reading(path, "a LAMMPS data file of atom_style spin"):
        lines = Path(path).read_text("utf-8").splitlines()
        plain, rest = _atomic(lines)
        names = _elements(lines) if elements is None else list(elements)
        _check_head(lines, names)
        numbers = {k: atomic_numbers[s] for k, s in enumerate(names, 1)} or None
        atoms = read_plain(StringIO(plain), Z_of_type=numbers, read_image_flags=False)
        moments, images = rest[:, :_SPIN_COLUMNS], rest[:, _SPIN_COLUMNS:]
        set_spins(atoms, moments_of(moments))
        atoms.positions += images @ atoms.cell.array
    atoms.pbc = pbc
    atoms.info.clear()
    for name in ("id", "type"):
        del atoms.arrays[name]
    return atoms


def polar(spins: np.ndarray) -> np.ndarray:
    """Return spx, spy, spz, sp (N, 4) of moments (N, 3): unit vectors and lengths.

    Unit vectors are along z where there is no moment, since LAMMPS divides
    directions by their lengths.
    """
    lengths = np.linalg.norm(spins, axis=1, keepdims=True)
    along_z = np.broadcast_to([0.0, 0.0, 1.0], spins.shape)
    directions = np.where(lengths > 0.0, spins / np.where(lengths, lengths, 1), along_z)
    return np.concatenate([directions, lengths], axis=1)


def _box_lines(box: LammpsBox) -> Iterator[str]:
    for axis, low, length in zip("xyz", box.low, box.lengths, strict=True):
        yield f"{_numbers([low, low + length])} {axis}lo {axis}hi"
    if box.tilts.any():
        yield f"{_numbers(box.tilts)} xy xz yz"


def _numbers(values: ArrayLike) -> str:
    return " ".join(map(repr, np.asarray(values, dtype=float).tolist()))


def _mass(atoms: Atoms, symbol: str) -> float:
    masses = atoms.get_masses()[atoms.symbols == symbol]
    if not len(masses):
        return float(atomic_masses[atomic_numbers[symbol]])
    if np.ptp(masses) > 0.0:
        raise ValueError(
            f"the atoms of {symbol} have different masses, {masses.min()} to "
            f"{masses.max()} u, but LAMMPS has one mass for each atom type"
        )
    return float(masses[0])


def _words(line: str) -> list[str]:
    """Return the words of a line without its comment."""
    return line.partition("#")[0].split()


def _section(lines: Sequence[str], name: str) -> range:
    """Return which lines are the body of a section; none if there is no such one."""
    starts = [k for k, line in enumerate(lines) if _words(line) == name.split()]
    if not starts:
        return range(0)
    end = starts[0] + 1
    while end < len(lines) and not _SECTION.match(" ".join(_words(lines[end]))):
        end += 1
    return range(starts[0] + 1, end)


def _atomic(lines: Sequence[str]) -> tuple[str, np.ndarray]:
    """Return the file as one of atom_style atomic, and what that leaves out.

    That is, in the order of the atom-IDs, spx spy spz sp and the three image flags,
    zero where the file has none, as an array (N, 7).
    """
    body = _section(lines, "Atoms")
    if not body:
        raise ValueError("there is no section Atoms")
    style = lines[body.start - 1].partition("#")[2].strip()
    if style not in ("", "spin"):
        raise ValueError(f"its atom_style is {style}")
    rows: dict[int, list[str]] = {}
    for k in body:
        words = _words(lines[k])
        if not words:
            continue
        if len(words) == _PLAIN_COLUMNS + _SPIN_COLUMNS:
            words += ["0"] * _IMAGE_COLUMNS
        if len(words) != _PLAIN_COLUMNS + _SPIN_COLUMNS + _IMAGE_COLUMNS:
            raise ValueError(
                f"line {k + 1} has {len(words)} columns; expected atom-ID atom-type "
                "x y z spx spy spz sp, and three image flags or none"
            )
        if int(words[0]) in rows:
            raise ValueError(f"line {k + 1} repeats the atom-ID {words[0]}")
        rows[int(words[0])] = words
    counts = [words[0] for words in map(_words, lines) if words[1:] == ["atoms"]]
    if counts != [str(len(rows))]:
        said = counts[0] if counts else "no number of"
        raise ValueError(f"{said} atoms are announced, {len(rows)} are there")
    values = np.array([[float(w) for w in rows[k][2:]] for k in sorted(rows)])
    order = _order_of_columns(values)
    if not order and not style:
        raise ValueError(
            "neither spx spy spz after the positions nor the last three columns are "
            "unit vectors: its atom_style is another one; if it is spin, say so: "
            "Atoms # spin"
        )
    if order == "before 2020":
        logger.warning(
            "the columns are in LAMMPS' order from before 2020, sp x y z spx spy spz"
        )
        values[:, :7] = np.roll(values[:, :7], -1, axis=1)
    plain = [
        f"{k} {rows[k][1]} {_numbers(row[:3])}"
        for k, row in zip(sorted(rows), values, strict=True)
    ]
    before, after = lines[: body.start - 1], lines[body.stop :]
    text = "\n".join([*before, "Atoms # atomic", "", *plain, "", *after, ""])
    return text, values[:, 3:]


def _check_head(lines: Sequence[str], names: Sequence[str]) -> None:
    """Raise ValueError unless box, types and their elements are there."""
    words = [_words(line) for line in lines]
    if any(line[-1:] == ["avec"] for line in words):
        raise ValueError(
            "its box is given by avec, bvec and cvec, which is not read here: let "
            "LAMMPS write the file without triclinic/general"
        )
    for axis in "xyz":
        if not any(line[2:] == [f"{axis}lo", f"{axis}hi"] for line in words):
            raise ValueError(f"the bounds {axis}lo {axis}hi of the box are missing")
    counts = {int(line[0]) for line in words if line[1:] == ["atom", "types"]}
    if len(counts) != 1:
        raise ValueError(f"{len(counts)} numbers of atom types are announced")
    (count,) = counts
    masses = sum(bool(_words(lines[k])) for k in _section(lines, "Masses"))
    if masses not in (0, count) or (masses == 0 and not names):
        raise ValueError(
            f"it announces {count} atom types and has {masses} masses; give elements, "
            "those of the atom types"
        )


def _order_of_columns(values: np.ndarray) -> str:
    """Return the order of rows of seven numbers and image flags.

    ``"present"`` is x y z spx spy spz sp, ``"before 2020"`` sp x y z spx spy spz: where
    there are moments, with directions that are unit vectors. It is empty if neither is.
    """

    def are_directions(vectors: np.ndarray, lengths: np.ndarray) -> bool:
        found = np.linalg.norm(vectors[lengths != 0.0], axis=1)
        return bool((np.abs(found - 1.0) < _UNIT).all())

    if are_directions(values[:, 3:6], values[:, 6]) and values[:, 6].any():
        return "present"
    if are_directions(values[:, 4:7], values[:, 0]) and values[:, 0].any():
        return "before 2020"
    return ""


def moments_of(polar: np.ndarray) -> np.ndarray:
    """Return the moments (N, 3) of spx spy spz sp; directions may have any length.

    LAMMPS itself writes directions that are not numbers where there is no moment.
    """
    directions, lengths = polar[:, :3], polar[:, 3:]
    sizes = np.linalg.norm(directions, axis=1, keepdims=True)
    lost = np.flatnonzero((sizes == 0.0) & (lengths != 0.0))
    if len(lost):
        raise ValueError(
            f"atom {lost[0]} has a moment of {lengths[lost[0], 0]:g} mu_B without a "
            "direction: spx, spy and spz are zero"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths == 0.0, 0.0, directions * (lengths / sizes))


def _elements(lines: Sequence[str]) -> list[str]:
    """Return the elements that a file names for its types; none if it does not."""
    for section, comment in (("Atom Type Labels", False), ("Masses", True)):
        found = {}
        for k in _section(lines, section):
            text, _, remark = lines[k].partition("#")
            words = text.split()
            if words:
                name = remark.strip() if comment else words[-1]
                found[int(words[0])] = name
        names = [found[k] for k in sorted(found)]
        if names and all(name in atomic_numbers for name in names):
            return names
    return []


def is_lammps_data(path: Path) -> bool:
    """Return whether a file is a LAMMPS data file, by its header."""
    box = r"^[^#\n]*(\bxlo[ \t]+xhi|[\d.][ \t]+avec)\b"
    return bool(re.search(box, start_of(path), re.MULTILINE))


def start_of(path: Path) -> str:
    """Return the first few lines of a file."""
    with path.open("rb") as file:
        return file.read(4096).decode("utf-8", errors="replace")
