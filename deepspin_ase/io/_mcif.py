"""Magnetic CIF: the whole magnetic cell from the sites and operations of a file.

The tags are those of the magnetic CIF dictionary and of its first form, as MAGNDATA
(doi:10.1107/S1600576716012863) and FullProf, Jana, GSAS-II and ISODISTORT write them.
Moments are in mu_B along unit vectors of the lattice vectors.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import cellpar_to_cell
from ase.io.cif import CIFBlock, parse_cif

from ..spins import set_spins

#: Atoms closer than this, A, are one; moments of one closer than this, mu_B, agree.
_SAME_PLACE, _SAME_MOMENT = 0.05, 0.02

_CELL = [
    f"_cell_{name}"
    for name in (
        "length_a",
        "length_b",
        "length_c",
        "angle_alpha",
        "angle_beta",
        "angle_gamma",
    )
]

#: Tags of modulated structures, which have no magnetic cell.
_MODULATED = ("_cell_modulation_dimension", "_space_group_ssg_name")

_FLOAT = re.compile(r"([-+]?[0-9.]+(?:[eE][-+]?\d+)?)(?:\(\d*\))?$")
_TERM = re.compile(r"([-+]?)(\d*\.?\d*(?:/\d+)?)\*?([xyz]?)")


def has_moments(path: Path) -> bool:
    """Return whether a CIF file speaks of magnetic moments."""
    return "_atom_site_moment" in path.read_text("utf-8", errors="replace").lower()


def read_mcif(path: str | os.PathLike[str]) -> Atoms:
    """Return the magnetic cell of a magnetic CIF file, with moments (N, 3) in mu_B.

    Raises
    ------
    ValueError
        If the file is damaged, holds several structures, a modulated one, sites that
        are partly occupied or moments without operations, or if its operations
        contradict its moments.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        # ASE's parser knows version 1 of CIF; of version 2, files have lists.
        text = re.sub(r"^#\\#CIF_2\.0", "", text)
        text = re.sub(r"(?<=\s)(\[[^\]\n'\"]*\])(?=\s)", r"'\1'", text)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as of rows that are too short
            found = list(parse_cif(StringIO(text)))
        blocks = [block for block in found if _column(block, _MOMENT_LABELS)]
        if len(blocks) != 1:
            raise ValueError(f"{len(blocks)} blocks with moments; expected one")
        return _magnetic_cell(blocks[0])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # ASE's parser raises whatever the damage leads to
        raise ValueError(
            f"{path} is damaged or no magnetic CIF file "
            f"({type(error).__name__}: {error})"
        ) from error


_MOMENT_LABELS = ("_atom_site_moment.label", "_atom_site_moment_label")


def _magnetic_cell(block: CIFBlock) -> Atoms:
    if tags := [tag for tag in _MODULATED if block.get(tag)]:
        raise ValueError(
            f"{tags[0]} speaks of a modulated structure, which has no magnetic cell; "
            "write a commensurate approximant"
        )
    cell = cellpar_to_cell([_number(block[tag]) for tag in _CELL])
    lengths = np.linalg.norm(cell, axis=1)
    labels = [str(x) for x in _column(block, ["_atom_site_label"])]
    symbols = _symbols(block, labels)
    axes = [_numbers(_column(block, [f"_atom_site_fract_{x}"])) for x in "xyz"]
    places = np.stack(axes, axis=1)
    moments = _moments(block, labels) / lengths
    operations = list(_operations(block))
    atoms: list[tuple[str, np.ndarray, np.ndarray]] = []
    for name, place, moment in zip(symbols, places, moments, strict=True):
        for rotation, translation, reversal in operations:
            axial = reversal * round(np.linalg.det(rotation)) * rotation
            at, along = rotation @ place + translation, axial @ moment @ cell
            _add(atoms, cell, (name, at % 1.0, along))
    whole = Atoms(
        [name for name, _, _ in atoms],
        scaled_positions=[at for _, at, _ in atoms],
        cell=cell,
        pbc=True,
    )
    set_spins(whole, [moment for _, _, moment in atoms])
    return whole


def _add(
    atoms: list[tuple[str, np.ndarray, np.ndarray]],
    cell: np.ndarray,
    new: tuple[str, np.ndarray, np.ndarray],
) -> None:
    """Add an atom, unless it is there with the same element and moment."""
    symbol, place, moment = new
    for other, at, along in atoms:
        apart = place - at
        if np.linalg.norm((apart - np.round(apart)) @ cell) > _SAME_PLACE:
            continue
        if other != symbol:
            raise ValueError(f"{other} and {symbol} share a site at {_words(at)}")
        if np.abs(along - moment).max() > _SAME_MOMENT:
            raise ValueError(
                f"the operations give {symbol} at {_words(at)} two moments, "
                f"{_words(along)} and {_words(moment)} mu_B"
            )
        return
    atoms.append(new)


def _operations(block: CIFBlock) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield rotations (3, 3), translations (3,) and signs of time reversal."""
    own = _column(
        block,
        (
            "_space_group_symop_magn_operation.xyz",
            "_space_group_symop.magn_operation_xyz",
        ),
    )
    centerings = _column(
        block,
        (
            "_space_group_symop_magn_centering.xyz",
            "_space_group_symop.magn_centering_xyz",
        ),
    )
    if not own:
        plain = _column(
            block, ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
        )
        names = _column(
            block, ("_space_group_magn.number_bns", "_space_group_magn.number_og")
        )
        identities = all(str(x).replace(" ", "") == "x,y,z" for x in plain)
        if not (plain and identities) and names[:1] != ["1.1"]:
            raise ValueError(
                "moments without magnetic symmetry operations "
                "(_space_group_symop_magn_operation.xyz): the other atoms of the cell "
                "are not known; write the file with them, or in P1"
            )
        own = ["x,y,z,+1"]
    for one in own:
        rotation, translation, reversal = _operation(str(one))
        for center in centerings or ["x,y,z,+1"]:
            turn, shift, flip = _operation(str(center))
            yield turn @ rotation, turn @ translation + shift, flip * reversal


def _operation(text: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return rotation, translation and time reversal of ``"x+1/2,-y,z,-1"``."""
    parts = text.replace(" ", "").lower().split(",")
    if len(parts) != 4 or parts[3] not in ("1", "+1", "-1"):
        raise ValueError(f"{text!r} is no magnetic operation such as x,y+1/2,z,-1")
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    for row, part in enumerate(parts[:3]):
        for sign, size, axis in _terms(part, text):
            value = (-1.0 if sign == "-" else 1.0) * float(Fraction(size or "1"))
            if axis:
                rotation[row, "xyz".index(axis)] += value
            else:
                translation[row] += value
    if abs(abs(np.linalg.det(rotation)) - 1.0) > 1e-9:
        raise ValueError(f"{text!r} is no symmetry operation")
    return rotation, translation, int(parts[3])


def _terms(part: str, text: str) -> list[tuple[str, str, str]]:
    found = [match for match in _TERM.finditer(part) if match.group(0)]
    if "".join(match.group(0) for match in found) != part or not part:
        raise ValueError(f"{text!r} is no magnetic operation such as x,y+1/2,z,-1")
    return [(match.group(1), match.group(2), match.group(3)) for match in found]


def _symbols(block: CIFBlock, labels: Sequence[str]) -> list[str]:
    """Return the elements of the sites, whose types and labels may carry charges."""
    for k, value in enumerate(_column(block, ["_atom_site_occupancy"])):
        if abs(_number(value) - 1.0) > 1e-6:
            raise ValueError(
                f"the site {labels[k]} is occupied by {value}; models take whole atoms"
            )
    symbols = []
    for name in _column(block, ["_atom_site_type_symbol"]) or labels:
        letters = re.match(r"[A-Za-z]{1,2}", str(name))
        word = letters.group(0).capitalize() if letters else ""
        symbol = next((s for s in (word, word[:1]) if s in atomic_numbers), None)
        if symbol is None:
            raise ValueError(f"the site {name!r} names no element")
        symbols.append({"D": "H"}.get(symbol, symbol))
    return symbols


def _moments(block: CIFBlock, labels: Sequence[str]) -> np.ndarray:
    """Return moments (sites, 3) along the crystal axes, mu_B; zero where none is."""
    columns = []
    for axis in "xyz":
        column = _column(block, [f"{stem}crystalaxis_{axis}" for stem in _STEMS])
        if not column:
            raise ValueError(
                "moments are not given along the crystal axes "
                "(_atom_site_moment.crystalaxis_x, _y, _z)"
            )
        columns.append(_numbers(column))
    moments = np.zeros((len(labels), 3))
    named = _column(block, _MOMENT_LABELS)
    for label, vector in zip(named, np.stack(columns, axis=1), strict=True):
        if str(label) not in labels:
            raise ValueError(f"a moment belongs to {label}, which is no site")
        moments[labels.index(str(label))] = vector
    return moments


_STEMS = ("_atom_site_moment.", "_atom_site_moment_")


def _column(block: CIFBlock, names: Sequence[str]) -> list[object]:
    """Return the values of the first tag that the block has; none if it has none."""
    for name in names:
        value = block.get(name.lower())
        if value is not None:
            return list(value) if isinstance(value, list) else [value]
    return []


def _numbers(values: Sequence[object]) -> np.ndarray:
    return np.array([_number(value) for value in values])


def _number(value: object) -> float:
    """Return a number that may carry its uncertainty, as 1.234(5)."""
    if isinstance(value, int | float):
        return float(value)
    match = _FLOAT.match(str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is no number")
    return float(match.group(1))


def _words(vector: np.ndarray) -> str:
    return f"({', '.join(f'{x:.3f}' for x in vector)})"
