"""Learning curve: errors over steps, in ``lcurve.csv``."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._files import append_text, atomic_write
from ._metrics import error_kinds

Row = Mapping[str, float]


class LearningCurve:
    """Rows of a learning curve, and the file to which each is appended.

    The file is for reading alone: a run that resumes has its rows from the checkpoint
    and writes the file anew.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[Row] = []

    def begin(self) -> None:
        """Write the rows so far in the place of an earlier file."""
        if not self._rows:
            self.path.unlink(missing_ok=True)
            return
        with atomic_write(self.path) as temporary:
            append_text(temporary, _text(self._rows, header=True))

    def append(self, row: Row) -> None:
        """Append a row; the first one gets a header.

        Raises
        ------
        OSError
            If it cannot be written; the file stays as it was.
        """
        append_text(self.path, _text([row], header=not self._rows))
        self._rows.append(row)

    def columns(self) -> dict[str, np.ndarray]:
        """Return an array per column."""
        names = list(self._rows[0]) if self._rows else []
        return {n: np.array([row[n] for row in self._rows]) for n in names}

    def state_dict(self) -> dict[str, Any]:
        """Return the rows as plain data and a tensor (rows, columns)."""
        columns = self.columns()
        return {
            "names": list(columns),
            "values": torch.from_numpy(np.array([*columns.values()]).T.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the rows that :meth:`state_dict` returned."""
        names, values = state["names"], state["values"].tolist()
        self._rows = [dict(zip(names, row, strict=True)) for row in values]

    def load_file(self, step: int) -> None:
        """Take the rows up to ``step`` from the file, if there is one.

        For checkpoints of earlier releases, which hold no rows.
        """
        if self.path.exists():
            columns = read_learning_curve(self.path)
            rows = zip(*(values.tolist() for values in columns.values()), strict=True)
            found = [dict(zip(columns, row, strict=True)) for row in rows]
            self._rows = [row for row in found if row["step"] <= step]


def _text(rows: Sequence[Row], *, header: bool) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_learning_curve(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read ``lcurve.csv``: an array per column.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no steps, or something else than a table of numbers.
    """
    path = Path(path)
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (ValueError, csv.Error) as error:
        raise _no_curve(path, str(error)) from error
    names = lines[0] if lines else []
    if "step" not in names or len(set(names)) < len(names):
        raise _no_curve(path, f"the columns are {', '.join(names) or 'missing'}")
    if len(lines) == 1:
        raise ValueError(f"{path} holds no steps")
    rows = []
    for k, line in enumerate(lines[1:], 2):
        try:
            rows.append([float(word) for word in line])
        except ValueError as error:
            raise _no_curve(path, f"line {k}: {error}") from None
        if len(line) != len(names):
            raise _no_curve(path, f"line {k} has {len(line)} of {len(names)} numbers")
    columns = dict(zip(names, np.array(rows).T, strict=True))
    if (np.diff(columns["step"]) <= 0).any():
        raise _no_curve(path, "the steps do not ascend")
    return columns


def _no_curve(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is damaged or no learning curve ({reason}); 'deepspin train "
        "--restart' writes that of a run anew"
    )


def brief(row: Mapping[str, float]) -> str:
    """Return the main errors of a line in thousandths of their units."""
    kind = "validation" if "validation_rmse_energy" in row else "training"
    return " ".join(
        f"{errors.symbol} {1e3 * row[f'{kind}_rmse_{name}']:.3g}m"
        for name, errors in error_kinds().items()
        if errors.symbol and f"{kind}_rmse_{name}" in row
    )
