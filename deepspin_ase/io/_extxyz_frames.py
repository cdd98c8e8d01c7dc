"""Frames of an extxyz file, each looked at before ASE parses it.

ASE takes what it needs of a line and leaves the rest. Here a line must have the columns
that are announced, no more and no less, and every frame the atoms that it announces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ase import Atoms
from ase.io import extxyz

from .._files import open_text

_PROPERTIES = re.compile(r"""Properties\s*=\s*["'{]?([^\s"'}]+)""", re.IGNORECASE)


class _Place(NamedTuple):
    """Where a frame begins after the number of its atoms, and how long it is."""

    start: int
    n_atoms: int
    n_vectors: int


def read_frames(path: Path, index: int | slice) -> list[Atoms]:
    """Return the frames at ``index``; none where there are none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a frame lacks atoms or columns, or has too many, or whatever ASE's parser
        raises.
    """
    with open_text(path) as stream:
        places = list(_places(stream, index))
        chosen = places[index] if isinstance(index, slice) else _one(places, index)
        frames = []
        for place in chosen:
            stream.seek(place.start)
            # Not read_xyz: its reading of a line is an assert, which python -O drops.
            frame = extxyz._read_xyz_frame(stream, place.n_atoms, nvec=place.n_vectors)
            if frame.pbc.any() and not frame.cell.any():
                raise ValueError("a frame is periodic and has no Lattice")
            frames.append(frame)
    return frames


def _one(places: list[_Place], index: int) -> list[_Place]:
    return places[index:][:1] if -len(places) <= index else []


def _places(stream: IO[str], index: int | slice) -> Iterator[_Place]:
    """Yield the places of frames, at least up to the last one that is wanted."""
    last = index.stop if isinstance(index, slice) else index + 1
    enough = last if last is not None and last > 0 else None
    count, line = 0, stream.readline()
    while line.strip() and count != enough:
        where = f"frame {count}"
        try:
            n_atoms = int(line)
        except ValueError:
            raise ValueError(
                f"{where} begins with {line.strip()[:40]!r}, not a number of atoms"
            ) from None
        start = stream.tell()
        comment = stream.readline()
        if "\0" in comment:
            raise ValueError(f"{where} has null bytes in its second line")
        _check_rows(stream, n_atoms, _columns(comment), where)
        n_vectors, line = 0, stream.readline()
        while line.lstrip().startswith("VEC"):
            n_vectors, line = n_vectors + 1, stream.readline()
        yield _Place(start, n_atoms, n_vectors)
        count += 1
    if not line.strip() and stream.read().strip():
        raise ValueError(f"something follows a blank line after {count} frames")


def _columns(comment: str) -> int | None:
    """Return the number of columns that a frame announces, if it does."""
    found = _PROPERTIES.search(comment)
    if found is None:
        return None
    return sum(int(word) for word in found[1].split(":")[2::3])


def _check_rows(stream: IO[str], n_atoms: int, columns: int | None, where: str) -> None:
    for k in range(n_atoms):
        count = len(stream.readline().split())
        if not count:
            raise ValueError(f"{where} has {k} atoms; {n_atoms} are announced")
        if columns is not None and count != columns:
            raise ValueError(
                f"atom {k} of {where} has {count} columns; {columns} are announced"
            )
