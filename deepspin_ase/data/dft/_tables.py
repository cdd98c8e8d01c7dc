"""Tables of numbers in text outputs."""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..._files import open_text

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][-+]?\d+)?$")

#: A moment may differ from the one that was asked for by this, mu_B.
REACHED = 0.01


def text_of(path: Path) -> str:
    """Return the text of an output, compressed or not; damaged letters are replaced.

    Raises
    ------
    ValueError
        If it is compressed and not complete.
    """
    try:
        with open_text(path, errors="replace") as stream:
            return stream.read()
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is no complete compressed file: {error}") from error


def number(word: str) -> float:
    """Return a number that Fortran wrote, with E or D.

    Raises
    ------
    ValueError
        If it is none, such as stars in a field that is too narrow.
    """
    if not _NUMBER.match(word):
        raise ValueError(f"{word!r} is no number")
    return float(word.replace("D", "E").replace("d", "e"))


def table(
    lines: Sequence[str], start: int, count: int, width: int, *, what: str
) -> np.ndarray:
    """Return the last ``width`` numbers of ``count`` rows after line ``start``.

    Rows may begin with labels or not. Rules and blank lines before the first row are
    skipped; they, words, and lines such as ``DAV: 8 ...`` end the table.

    Raises
    ------
    ValueError
        If there are fewer rows, or more, or something else than numbers in one.
    """
    rows: list[list[float]] = []
    for line in lines[start + 1 :]:
        words = line.split()
        if not words or set(line.strip()) == {"-"}:
            if rows:
                break
            continue
        numbers = all(map(_NUMBER.match, words[-width:]))
        if len(rows) == count and (words[0].endswith(":") or not numbers):
            break
        rows.append([number(word) for word in words[-width:]])
        if len(rows[-1]) < width:
            raise ValueError(f"the table {what} has rows of less than {width} numbers")
    if len(rows) != count:
        raise ValueError(f"the table {what} has {len(rows)} rows for {count} atoms")
    return np.array(rows)


def require_reached(moments: np.ndarray, targets: np.ndarray, held: np.ndarray) -> None:
    """Raise ValueError unless constrained components (bool) have their targets."""
    off = np.where(held, np.abs(moments - targets), 0.0)
    if off.max(initial=0.0) > REACHED:
        atom = int(off.max(axis=1).argmax())
        raise ValueError(
            f"the moment of atom {atom} is {off.max():.3g} mu_B off its target; "
            "converge the constraint further"
        )
