"""ABACUS with spin constraints (DeltaSpin): INPUT, STRU and ``running_scf.log``.

Checked by finite differences with 3.9.0. "Magnetic force (eV/uB)" is -dE/dM. With plane
waves, the printed energy is the sum of its parts (E_one_elec, E_Hartree, ...) and
contains sum_i lambda_i.M_i, which is taken off here; with atomic orbitals ABACUS takes
it off itself. Which of the two a log has is seen from the sum. With Hubbard
corrections, whose energy is no printed part, the basis decides, for version 3.9 only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr, Rydberg

from ..._files import existing
from .._frames import Frame
from ._tables import number, require_reached, table, text_of

#: kbar in eV/A^3.
_KBAR = 1.0 / 1602.1766208

#: Printed energies agree with sums of their parts to this, eV.
_SUM = 2e-3

_FORCES = "TOTAL-FORCE (eV/Angstrom)"
_STRESS = "TOTAL-STRESS (KBAR)"
_MOMENTS = "Total Magnetism (uB)"
_MAGNETIC = re.compile(r"\s*Magnetic force \((eV|Ry)/(?:u|mu_?)B\)", re.IGNORECASE)
_NAMED = re.compile(r"\s*(Magnetic force|TOTAL-FORCE|TOTAL-STRESS)\b", re.IGNORECASE)

#: Parts of the energy that are not summed.
_TOTALS = ("E_KohnSham", "E_KS(sigma->0)", "E_Harris", "E_band", "E_Fermi", "E_gap")


def find_runs(path: Path) -> list[Path]:
    """Return the folder of a run, given as such or by its log; none if it is none."""
    if path.is_file():
        path = path.parent.parent if path.name.startswith("running_") else path
    is_run = (path / "INPUT").is_file() and any(path.glob("OUT.*/running_*.log*"))
    return [path] if is_run else []


def read_run(folder: Path, *, with_field: bool | None = None) -> list[Frame]:
    """Return the frame of a run in a list.

    ``with_field`` says whether the printed energy contains sum lambda.M; by default the
    log has to tell.
    """
    inputs = _inputs(folder / "INPUT")
    if inputs.get("calculation", "scf") != "scf":
        raise ValueError(
            f"{folder}: a run of calculation {inputs['calculation']}; runs of "
            "calculation scf are read, one structure each"
        )
    output = folder / f"OUT.{inputs.get('suffix', 'ABACUS')}"
    log = existing(output / "running_scf.log")
    if not log.is_file():
        raise FileNotFoundError(f"{folder}: there is no {log}")
    try:
        structure = _read_stru(folder / inputs.get("stru_file", "STRU"))
        return [_frame(text_of(log), structure, inputs, with_field)]
    except (ValueError, IndexError, StopIteration) as error:
        raise ValueError(f"{log}: {error or 'truncated'}") from error


@dataclass(frozen=True)
class _Stru:
    """Structure, target moments, and which components are constrained."""

    numbers: list[int]
    cell: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    held: np.ndarray


def _frame(
    text: str, stru: _Stru, inputs: dict[str, str], with_field: bool | None
) -> Frame:
    lines, count = text.splitlines(), len(stru.numbers)
    if inputs.get("sc_mag_switch", "0") not in ("1", "true"):
        raise ValueError("moments were not constrained (sc_mag_switch)")
    if not stru.held.any():
        raise ValueError("moments were not constrained: no atom of STRU has sc 1 1 1")
    if "charge density convergence is achieved" not in text:
        raise ValueError("the density did not converge")
    _require_known_units(lines)
    heads = [(k, m.group(1)) for k, m in enumerate(map(_MAGNETIC.match, lines)) if m]
    if len(heads) != 1:
        raise ValueError(f"{len(heads)} tables of magnetic forces; expected one")
    moments = table(lines, _line(lines, _MOMENTS), count, 3, what=_MOMENTS)
    require_reached(moments, stru.targets, stru.held)
    ((start, unit),) = heads
    magnetic = table(lines, start, count, 3, what="Magnetic force")
    magnetic *= Rydberg if unit.lower() == "ry" else 1.0
    if with_field is None:
        energy, magnetic = _settled(lines, magnetic, moments, inputs, unit)
    else:
        energy = _energies(lines)[0] - with_field * float((magnetic * moments).sum())
    labels: dict[str, Any] = {}
    if _FORCES in text:
        labels["forces"] = table(lines, _line(lines, _FORCES), count, 3, what=_FORCES)
    if _STRESS in text:
        pressure = table(lines, _line(lines, _STRESS), 3, 3, what=_STRESS)
        labels["virial"] = pressure * _KBAR * abs(np.linalg.det(stru.cell))
    return Frame(
        stru.numbers,
        stru.positions,
        stru.cell,
        (True, True, True),
        moments,
        energy=energy,
        magnetic_forces=magnetic,
        **labels,
    )


def _require_known_units(lines: list[str]) -> None:
    """Raise ValueError if a table is in another unit than those that are read."""
    for line in filter(_NAMED.match, lines):
        known = _MAGNETIC.match(line) or line.strip().startswith((_FORCES, _STRESS))
        if not known:
            raise ValueError(f"the unit of the table {line.strip()!r} is not known")


def _settled(
    lines: list[str],
    magnetic: np.ndarray,
    moments: np.ndarray,
    inputs: dict[str, str],
    unit: str,
) -> tuple[float, np.ndarray]:
    """Return the energy without sum lambda.M, and -dE/dM.

    Raises
    ------
    ValueError
        If the log does not say which energy and sign it prints.
    """
    energy, parts = _energies(lines)
    work = float((magnetic * moments).sum())
    missing = energy - parts
    plane_waves = inputs.get("basis_type", "pw") == "pw"
    if abs(missing) <= _SUM and plane_waves and unit.lower() == "ev":
        return energy - work, magnetic
    if abs(missing + work) <= _SUM and abs(work) > _SUM:
        return energy, magnetic
    if abs(missing - work) <= _SUM and abs(work) > _SUM:
        # Older versions print +lambda of the Hamiltonian.
        return energy, -magnetic
    if (
        inputs.get("dft_plus_u", "0") != "0"
        and unit.lower() == "ev"
        and _is_checked(lines)
    ):
        return (energy - work if plane_waves else energy), magnetic
    raise ValueError(
        "neither its numbers nor its version say whether the energy contains lambda.M "
        "and what sign the magnetic forces have (checked: ABACUS 3.9); label some "
        "structures near each other, read them by the formats "
        "abacus/deltaspin/with-field and abacus/deltaspin/without-field, and see which "
        "is conjugate (deepspin data info --format)"
    )


def _is_checked(lines: list[str]) -> bool:
    return any(re.search(r"ABACUS v3\.9\b", line) for line in lines[:20])


def _energies(lines: list[str]) -> tuple[float, float]:
    """Return the last E_KohnSham, eV, and the sum of its parts."""
    start = max(k for k, line in enumerate(lines) if line.startswith(" E_KohnSham"))
    energy, parts = 0.0, 0.0
    for line in lines[start:]:
        words = line.split()
        if len(words) != 3 or not words[0].startswith("E_"):
            break
        if words[0] == "E_KohnSham":
            energy = number(words[2])
        elif words[0] not in _TOTALS:
            parts += number(words[2])
    return energy, parts


def _line(lines: list[str], title: str) -> int:
    """Return the last line with a title."""
    found = [k for k, line in enumerate(lines) if line.strip().startswith(title)]
    if not found:
        raise ValueError(f"there is no table {title}")
    return found[-1]


def _inputs(path: Path) -> dict[str, str]:
    """Return the keys of INPUT, in lower case, and their values."""
    rows = (
        re.split(r"[#/!]", line)[0] if "dir" not in line else line
        for line in path.read_text("utf-8").splitlines()
    )
    pairs = (row.split(maxsplit=1) for row in rows)
    return {
        p[0].lower(): p[1].strip().lower() if "suffix" not in p[0] else p[1].strip()
        for p in pairs
        if len(p) == 2
    }


def _read_stru(path: Path) -> _Stru:
    """Read a STRU file."""
    rows = [
        re.split(r"#|//", line)[0].split()
        for line in path.read_text("utf-8").splitlines()
    ]
    rows = [row for row in rows if row]
    heads = {row[0]: k for k, row in enumerate(rows)}
    for name in ("LATTICE_CONSTANT", "LATTICE_VECTORS", "ATOMIC_POSITIONS"):
        if name not in heads:
            raise ValueError(f"{path} has no {name}")
    scale = number(rows[heads["LATTICE_CONSTANT"] + 1][0]) * Bohr
    start = heads["LATTICE_VECTORS"] + 1
    vectors = rows[start : start + 3]
    cell = scale * np.array([[number(x) for x in row[:3]] for row in vectors])
    k = heads["ATOMIC_POSITIONS"] + 1
    kind = rows[k][0].lower()
    if kind not in ("cartesian", "direct", "cartesian_angstrom"):
        raise ValueError(f"{path}: positions are {kind}; expected Cartesian or Direct")
    k += 1
    numbers: list[int] = []
    atoms: list[list[str]] = []
    while k < len(rows):
        symbol = re.sub(r"[^A-Za-z].*", "", rows[k][0])
        if symbol not in atomic_numbers:
            raise ValueError(f"{path}: {rows[k][0]} names no element")
        count = int(rows[k + 2][0])
        numbers += [atomic_numbers[symbol]] * count
        atoms += rows[k + 3 : k + 3 + count]
        k += 3 + count
    if len(atoms) != len(numbers):
        raise ValueError(f"{path} is truncated")
    places = np.array([[number(x) for x in atom[:3]] for atom in atoms])
    scales = {"direct": cell, "cartesian": scale * np.eye(3)}
    return _Stru(
        numbers,
        cell,
        places @ scales.get(kind, np.eye(3)),
        np.array([_after(atom, ("mag", "magmom"), 0.0) for atom in atoms]),
        np.array([_after(atom, ("sc",), 1.0) for atom in atoms]) != 0.0,
    )


def _after(words: list[str], names: tuple[str, ...], default: float) -> list[float]:
    """Return the numbers after a keyword of an atom; one for z of a moment."""
    for k, word in enumerate(words):
        if word in names:
            values = []
            for following in words[k + 1 : k + 4]:
                try:
                    values.append(number(following))
                except ValueError:
                    break
            if len(values) == 1:
                return [0.0, 0.0, values[0]] if "mag" in names else 3 * values
            return values
    return [default] * 3
