"""Learning curve: errors over steps, in ``lcurve.csv``."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._files import atomic_write
from ._metrics import error_kinds


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Append a line; a new file gets a header."""
    new = not path.exists()
    with open(path, "a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def drop_rows_after(path: Path, step: int) -> None:
    """Remove the rows after ``step``, from which a run resumes."""
    if not path.exists():
        return
    with open(path, newline="") as stream:
        reader = csv.DictReader(stream)
        rows = [row for row in reader if float(row["step"]) <= step]
    path.unlink()
    if rows:
        with atomic_write(path) as temporary, open(temporary, "w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def read_learning_curve(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read ``lcurve.csv``: an array per column.

    Raises
    ------
    ValueError
        If it holds no steps.
    """
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise ValueError(f"{path} holds no steps")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def brief(row: Mapping[str, float]) -> str:
    """Return the main errors of a line in thousandths of their units."""
    kind = "validation" if "validation_rmse_energy" in row else "training"
    return " ".join(
        f"{errors.symbol} {1e3 * row[f'{kind}_rmse_{name}']:.3g}m"
        for name, errors in error_kinds().items()
        if errors.symbol and f"{kind}_rmse_{name}" in row
    )
