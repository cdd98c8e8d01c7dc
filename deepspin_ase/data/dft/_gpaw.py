"""GPAW with moments held by a quadratic penalty: the text log of a calculation.

Logs of :class:`~deepspin_ase.labels.GPAWEngine` name targets and penalty of the
constraint, ``MomentConstraint(targets={atom: [x, y, z], ...}, penalty=...)`` in mu_B
and eV/mu_B^2, whose field 2 penalty (M - target) is -dE/dM at the local moments M of
the log. The free energy is that of the constrained state without the penalty. Moments
of atoms that are not held are taken as zero. Logs have six decimals; there is no stress
in them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from .._frames import Frame
from ._tables import number, text_of

#: In the first lines of every log.
_BANNER = r"|__||  | ||/\| - "

_CONSTRAINT = re.compile(r"MomentConstraint\(targets=(\{.*?\}), penalty=([^)\s]+)\)")


def find_runs(path: Path) -> list[Path]:
    """Return a log that is named, or the logs with constraints in a folder."""
    if path.is_file():
        return [path] if _is_log(path) else []
    logs = [file for file in sorted(path.glob("*.txt*")) if _is_log(file)]
    return [log for log in logs if _CONSTRAINT.search(text_of(log))]


def _is_log(path: Path) -> bool:
    if not path.is_file():
        return False
    return _BANNER in text_of(path)[:200]


def read_run(path: Path) -> list[Frame]:
    """Return the frame of a log in a list."""
    try:
        return [_frame(text_of(path))]
    except (ValueError, IndexError, SyntaxError) as error:
        raise ValueError(f"{path}: {error or 'truncated'}") from error


def _frame(text: str) -> Frame:
    found = _CONSTRAINT.search(text)
    if not found:
        raise ValueError(
            "it names no constraint of moments (MomentConstraint), without which there "
            "are no magnetic forces; the format 'ase' reads the rest"
        )
    energies = re.findall(r"^\s*Free energy:\s+(\S+)$", text, re.MULTILINE)
    if "Converged in " not in text or not energies:
        raise ValueError("the density did not converge")
    if len(energies) > 1:
        raise ValueError(f"{len(energies)} calculations; logs of one are read")
    lines = text.splitlines()
    atoms = _rows(lines, "Atoms")
    cell = _rows(lines, "Unit cell")
    moments = _vectors(lines, "Local magnetic moments", len(atoms))
    targets, penalty = ast.literal_eval(found[1]), number(found[2])
    spins, magnetic = np.zeros_like(moments), np.zeros_like(moments)
    for atom, target in targets.items():
        spins[atom] = moments[atom]
        magnetic[atom] = 2.0 * penalty * (moments[atom] - target)
    forces = None
    if any(line.startswith("Forces") for line in lines):
        forces = _vectors(lines, "Forces", len(atoms))
    return Frame(
        [atomic_numbers[row[1]] for row in atoms],
        np.array([[number(x) for x in row[2:5]] for row in atoms]),
        np.array([[number(x) for x in row[1:4]] for row in cell]),
        [row[0] == "yes" for row in cell],
        spins,
        energy=number(energies[0]),
        forces=forces,
        magnetic_forces=magnetic,
    )


def _rows(lines: list[str], title: str) -> list[list[str]]:
    """Return the cells of a table below its title, without its head."""
    start = next((k for k, x in enumerate(lines) if x.startswith(title)), None)
    if start is None:
        raise ValueError(f"there is no table {title}")
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.split("|")[1:]])
    return rows[2:]


def _vectors(lines: list[str], title: str, count: int) -> np.ndarray:
    rows = _rows(lines, title)
    if len(rows) != count or any(len(row) < 4 for row in rows):
        raise ValueError(f"the table {title} does not have {count} vectors")
    return np.array([[number(x) for x in row[:3]] for row in rows])
