"""Configurations of MLIP (``.cfg``) with moments: magnetic moment tensor potentials.

Columns per atom: ``id type cartes_x cartes_y cartes_z fx fy fz``, moments ``magmom_x
magmom_y magmom_z``, or ``magmom`` along z, and ``en_der_mx en_der_my en_der_mz`` or
``en_der_m``, which are read as -dE/dm as files of published sets have them; conjugacy
(:func:`deepspin_ase.data.check_dataset`) tells if a file has the other sign.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.stress import voigt_6_to_full_3x3_stress

from .._files import open_text
from ._frames import Frame

logger = logging.getLogger(__name__)

_MOMENTS = (("magmom_x", "magmom_y", "magmom_z"), ("magmom",))
_MAGNETIC = (("en_der_mx", "en_der_my", "en_der_mz"), ("en_der_m",))
_STRUCTURE = ("id", "type", "cartes_x", "cartes_y", "cartes_z", "fx", "fy", "fz")
_SECTIONS = ("Size", "Supercell", "AtomData", "Energy", "PlusStress", "Feature")
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def read_cfg(path: Path, type_map: Sequence[str] | None) -> list[Frame]:
    """Read all configurations of a file; ``type_map`` names the types 0, 1, ...

    Raises
    ------
    ValueError
        If a configuration is damaged, has no moments, or types have no elements.
    """
    with open_text(path) as stream:
        lines = stream.read().splitlines()
    starts = [k for k, line in enumerate(lines) if line.strip() == "BEGIN_CFG"]
    frames: list[Frame] = []
    unused: set[str] = set()
    for k, start in enumerate(starts):
        try:
            end = next(j for j in range(start, len(lines)) if "END_CFG" in lines[j])
            frames.append(_frame(lines[start + 1 : end], type_map, unused))
        except StopIteration:
            raise ValueError(f"{path}, frame {k}: there is no END_CFG") from None
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f"{path}, frame {k}: {error}") from error
    if not frames:
        raise ValueError(f"{path} holds no frames")
    if unused:
        logger.warning("%s: columns not read: %s", path, ", ".join(sorted(unused)))
    return frames


def _frame(
    lines: Sequence[str], type_map: Sequence[str] | None, unused: set[str]
) -> Frame:
    sections = dict(_sections(lines))
    count = int(sections["Size"][1][0])
    head, *rows = sections["AtomData"]
    if len(rows) != count or any(len(row) != len(head) for row in rows):
        raise ValueError(f"AtomData does not have {count} rows of {len(head)} columns")
    order = np.argsort([int(row[head.index("id")]) for row in rows], kind="stable")
    columns = {
        name: np.array([float(rows[j][c]) for j in order])
        for c, name in enumerate(head)
    }
    unused.update(set(head) - {*_STRUCTURE, *sum(_MOMENTS + _MAGNETIC, ())})
    spins, magnetic = (_vectors(columns, names) for names in (_MOMENTS, _MAGNETIC))
    if spins is None:
        raise ValueError(f"there are no moments among the columns {', '.join(head)}")
    labels: dict[str, Any] = {"magnetic_forces": magnetic}
    if "fx" in columns:
        labels["forces"] = np.stack([columns[x] for x in ("fx", "fy", "fz")], axis=1)
    if "Energy" in sections:
        labels["energy"] = float(sections["Energy"][1][0])
    if "PlusStress" in sections:
        names, values = sections["PlusStress"][:2]
        by_name = dict(zip(names, map(float, values), strict=True))
        plus = np.array([by_name[name] for name in _VOIGT])
        labels["virial"] = voigt_6_to_full_3x3_stress(plus)
    kinds = columns["type"].astype(int)
    if type_map is None:
        raise ValueError(
            "types have no elements: name those of the types 0, 1, ... by type_map "
            "(--type-map)"
        )
    if kinds.max() >= len(type_map):
        raise ValueError(f"type {kinds.max()} has no element in {list(type_map)}")
    lattice = [list(map(float, row)) for row in sections.get("Supercell", [[], []])[1:]]
    pbc = [k < len(lattice) for k in range(3)]
    return Frame(
        [atomic_numbers[type_map[kind]] for kind in kinds],
        np.stack([columns[f"cartes_{x}"] for x in "xyz"], axis=1),
        np.array(lattice + [[0.0] * 3] * (3 - len(lattice))),
        pbc,
        spins,
        **labels,
    )


def _sections(lines: Sequence[str]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield names of sections, with the words after the name and of the lines below."""
    name = ""
    rows: list[list[str]] = []
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0].rstrip(":") in _SECTIONS:
            if name:
                yield name, rows
            name, rows = words[0].rstrip(":"), [[w for w in words[1:] if w != ":"]]
        else:
            rows.append(words)
    if name:
        yield name, rows


def _vectors(
    columns: dict[str, np.ndarray], names: Sequence[Sequence[str]]
) -> np.ndarray | None:
    """Return vectors (N, 3) of three columns, or of one along z; None without."""
    for group in names:
        if set(group) <= columns.keys():
            values = np.stack([columns[name] for name in group], axis=1)
            return values if len(group) == 3 else values * np.array([[0.0, 0.0, 1.0]])
    return None
