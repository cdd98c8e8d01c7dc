"""VASP with constrained moments: the penalty of VASP itself, and three of DeltaSpin.

- ``I_CONSTRAINED_M`` of VASP: OSZICAR, with tables ``MW_int`` and ``lambda*MW_perp``.
  With the penalty E_p = sum_i lambda |MW_perp,i|^2 (1 and 2), -dE/dMW is
  2 lambda MW_perp at the moments that were reached; with E_p = sum_i lambda
  (|MW_i| - e_i.MW_i) (4) it is lambda (MW/|MW| - e); E = F - E_p. Tables are taken only
  if they agree with E_p.
- DeltaSpin for VASP 5.4: the terminal output, whose last block has everything on single
  lines. The magnetic force is minus the final lambda, which is compared.
- DeltaSpin for VASP 5.4 with OSZICAR: tables ``MW_current`` and ``Magnetic Force``.
- DeltaSpin for VASP 6: OUTCAR, with a final status and tables of moments and magnetic
  forces (lambda of L = E + lambda.(M - M_target)).

Structures, forces and stress are those of OUTCAR, or of the terminal output. Moments
are printed in the axes of SAXIS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from itertools import pairwise
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from ..._files import existing, uncompressed
from ...io._vasp import incar_tags, numbers_of, saxis_rotation
from .._frames import Frame
from ._tables import number, require_reached, table, text_of

_LOG_END = "Magnetization Difference from Target:"
_LOG_BEGUN = "delta lambda"
_FINAL = "DeltaSpin final constrained observables"
_PENALTY = "lambda*MW_perp"
_CURRENT = "MW_current"

#: In OSZICAR, what an ionic step begins with, and its energy, in dynamics too.
_HEADING = ["N", "E", "dE"]
_IONIC = re.compile(r"\s*\d+ (T=.*)?F= ")

#: Names that a terminal output is looked for by, in a folder.
_LOGS = ("*log*", "*.out", "*stdout*")

#: Sums over the tables agree with E_p to this part.
_AGREE = 0.02


def find_runs(path: Path) -> list[Path]:
    """Return the files with magnetic forces at a path: OUTCAR, OSZICAR or logs."""
    if path.is_file():
        return [path] if _kind(path) else []
    names = [existing(path / "OUTCAR"), existing(path / "OSZICAR")]
    names += sorted({file for pattern in _LOGS for file in path.glob(pattern)})
    runs = [file for file in names if file.is_file() and _kind(file)]
    one = bool(runs) and uncompressed(runs[0]).name in ("OUTCAR", "OSZICAR")
    return runs[:1] if one else runs


def _kind(path: Path) -> str:
    """Return which of the marks a file has; none if it is no output of these."""
    with path.open("rb") as file:
        if b"\0" in file.read(512) and uncompressed(path) == path:
            return ""
    text = text_of(path)
    marks = (_FINAL, _PENALTY, _CURRENT, _LOG_END, _LOG_BEGUN)
    return next((mark for mark in marks if mark in text), "")


def read_run(path: Path) -> list[Frame]:
    """Return the frames of a run, one for each ionic step."""
    try:
        kind = _kind(path)
        if kind == _LOG_BEGUN:
            raise ValueError("the run did not come to its end, a block with all labels")
        if kind == _LOG_END:
            return [_of_log(path)]
        return list(_of_steps(path))
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path}: {error or 'truncated'}") from error


# Terminal output of DeltaSpin for VASP 5.4


def _of_log(path: Path) -> Frame:
    text = text_of(path)
    atoms = _structure_beside(path)
    count = len(atoms)
    tags = _tags_beside(path)
    lines = text.splitlines()
    block = {
        line.rstrip().rstrip(":"): lines[k + 1]
        for k, line in enumerate(lines[:-1])
        if line.rstrip().endswith(":") and line[:1].isalpha()
    }

    def vectors(name: str) -> np.ndarray:
        if name not in block:
            raise ValueError(f"there is no {name} in the last block")
        numbers = [number(word) for word in block[name].split()]
        if len(numbers) != 3 * count:
            raise ValueError(f"{name} has {len(numbers)} numbers for {count} atoms")
        return np.array(numbers).reshape(count, 3)

    apart = atoms.cell.scaled_positions(
        vectors("Cartesian Coordinates") - atoms.positions
    )
    if np.abs((apart - np.round(apart)) @ atoms.cell.array).max() > 1e-4:
        raise ValueError("the positions are not those of the POSCAR beside it")
    _require_density(lines, tags)
    moments, magnetic = vectors("Magnetization"), vectors("Magnetic Force")
    off = vectors("Magnetization Difference from Target")
    require_reached(moments, moments - off, np.ones((count, 3), dtype=bool))
    starts = [k for k, line in enumerate(lines) if "final optimal lambda" in line]
    if starts:
        rows = lines[: starts[-1] + 1 + count]
        final = table(rows, starts[-1], count, 3, what="final optimal lambda")
        if np.abs(final + magnetic).max() > 1e-6:
            raise ValueError("the magnetic forces are not minus the final lambda")
    rotation = _rotation(tags)
    return Frame(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        moments @ rotation.T,
        energy=number(block["Energy"].strip()),
        forces=vectors("Atomic Force"),
        magnetic_forces=magnetic @ rotation.T,
    )


def _require_density(lines: list[str], tags: dict[str, str]) -> None:
    """Raise ValueError unless the last electronic step changed less than EDIFF."""
    steps = [x.split() for x in lines if re.match(r"\s*(DAV|RMM|CGA|DIA):\s+\d", x)]
    allowed = number(tags.get("EDIFF", "1E-4").split()[0])
    last = abs(number(steps[-1][3]))
    if last > allowed:
        raise ValueError(
            f"the last electronic step changed the energy by {last:.2g} eV, more than "
            f"EDIFF = {allowed:.2g}"
        )


# OUTCAR and OSZICAR


def _of_steps(path: Path) -> Iterator[Frame]:
    outcar = existing(path.with_name("OUTCAR"))
    if not outcar.is_file():
        raise ValueError("there is no OUTCAR beside it, with structure and forces")
    text = text_of(outcar)
    stream = StringIO(text)
    setattr(stream, "name", str(outcar))  # noqa: B010  ASE looks for files beside it
    images = ase.io.read(stream, index=":", format="vasp-out")
    reached = text.count("aborting loop because EDIFF is reached")
    if reached != len(images):
        raise ValueError(
            f"{reached} of {len(images)} ionic steps converged to EDIFF; run the "
            "others on, or take them out"
        )
    tags = _tags_beside(path)
    rotation = _rotation(tags)
    kind = _kind(path)
    steps = _split(text_of(path), kind)
    if len(steps) != len(images):
        raise ValueError(f"{len(steps)} steps with moments for {len(images)} in OUTCAR")
    for atoms, lines in zip(images, steps, strict=True):
        moments, magnetic, penalty = _MAGNETIC[kind](lines, atoms, tags)
        results = atoms.calc.results
        labels = {"forces": results.get("forces")}
        if results.get("stress") is not None:
            x, y, z, yz, xz, xy = results["stress"]
            stress = np.array([[x, xy, xz], [xy, y, yz], [xz, yz, z]])
            labels["virial"] = -atoms.get_volume() * stress
        yield Frame(
            atoms.numbers,
            atoms.positions,
            atoms.cell.array,
            atoms.pbc,
            moments @ rotation.T,
            energy=results["free_energy"] - penalty,
            magnetic_forces=magnetic @ rotation.T,
            **labels,
        )


def _split(text: str, kind: str) -> list[list[str]]:
    """Return the lines of each ionic step.

    OSZICAR has tables before and after the line with the energy of a step. A step
    begins with the heading of its electronic steps.
    """
    if kind == _FINAL:
        parts = text.split("DeltaSpin final status")[1:]
        return [part.splitlines() for part in parts]
    lines = text.splitlines()
    ends = [k for k, line in enumerate(lines) if _IONIC.match(line)]
    starts = [k for k, line in enumerate(lines) if line.split()[:3] == _HEADING]
    if len(ends) == 1:
        return [lines]
    bounds = [*starts, len(lines)]
    whole = len(starts) == len(ends) and all(
        first < end < last
        for first, end, last in zip(starts, ends, bounds[1:], strict=True)
    )
    if not whole:
        raise ValueError(
            f"{len(ends)} lines with energies of ionic steps and {len(starts)} "
            "headings of electronic steps do not alternate; a step may not be complete"
        )
    return [lines[a:b] for a, b in pairwise(bounds)]


def _of_penalty(
    lines: list[str], atoms: Atoms, tags: dict[str, str]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return MW, -dE/dMW and E_p of VASP's own constraint."""
    count = len(atoms)
    mode = tags.get("I_CONSTRAINED_M", "").split()[:1]
    if mode not in (["1"], ["2"], ["4"]):
        raise ValueError("I_CONSTRAINED_M of the INCAR beside it is none of 1, 2 and 4")
    targets = numbers_of(tags["M_CONSTR"])
    if targets.size != 3 * count:
        raise ValueError(f"M_CONSTR has {targets.size} entries for {count} atoms")
    targets = targets.reshape(count, 3)
    both = table(lines, _last(lines, "MW_int"), count, 6, what="MW_int")
    words = lines[_last(lines, "E_p")].replace("=", " ").split()
    penalty = number(words[words.index("E_p") + 1])
    strength = number(words[words.index("lambda") + 1])
    length = np.linalg.norm(targets, axis=1, keepdims=True)
    unit = targets / np.where(length > 0.0, length, 1.0)
    held = length > 0.0
    along = (both[:, :3] * unit).sum(axis=1, keepdims=True)
    base = targets if mode == ["2"] else along * unit
    off = np.where(held, both[:, :3] - base, 0.0)
    # The table has more digits than the moments. Whether it holds lambda MW_perp or
    # twice that is seen from E_p, and its sign from the moments.
    printed = table(lines, _last(lines, _PENALTY), count, 3, what=_PENALTY)
    printed *= np.sign((printed * off).sum()) / strength
    for precise in (printed, 0.5 * printed):
        moments = np.where(held, base + precise, both[:, :3])
        if mode == ["4"]:
            own = np.linalg.norm(moments, axis=1, keepdims=True)
            found = strength * float(((own - along) * held).sum())
            magnetic = strength * (moments / np.where(own > 0.0, own, 1.0) - unit)
        else:
            found = strength * float((precise**2).sum())
            magnetic = 2.0 * strength * precise
        if abs(found - penalty) <= _AGREE * penalty:
            return moments, np.where(held, magnetic, 0.0), penalty
    raise ValueError(
        f"the tables have a penalty of {found:.4g} eV, or four times that, and E_p is "
        f"{penalty:.4g} eV: they are not of this constraint"
    )


def _of_current(
    lines: list[str], atoms: Atoms, tags: dict[str, str]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return moments, magnetic forces and E_p of DeltaSpin's OSZICAR."""
    count = len(atoms)
    forces_at = _last(lines, "Magnetic Force")
    rows = table(lines, _last(lines, _CURRENT), count, 6, what=_CURRENT)
    moments, off = rows[:, :3], rows[:, 3:]
    require_reached(moments, moments - off, np.ones((count, 3), dtype=bool))
    magnetic = table(lines, forces_at, count, 3, what="Magnetic Force")
    penalties = [line.replace("=", " ").split() for line in lines if "E_p" in line]
    penalty = 0.0
    if penalties:
        words = penalties[-1]
        penalty = number(words[words.index("E_p") + 1])
    return moments, magnetic, penalty


def _of_final(
    lines: list[str], atoms: Atoms, tags: dict[str, str]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return moments and magnetic forces of the tables of DeltaSpin for VASP 6."""
    for name in ("SCF convergence", "Moment constraint"):
        said = next((x for x in lines if x.strip().startswith(name)), "")
        if said.rpartition(":")[2].strip() != "reached":
            raise ValueError(f"{name} was not reached")
    if not any("L=E+lambda.(M-M_target)" in x.replace(" ", "") for x in lines):
        raise ValueError("nothing says which sign the magnetic forces have")
    moments, listed = _by_ion(lines, "Mx", atoms)
    magnetic, known = _by_ion(lines, "MFx", atoms)
    if not (listed.all() and known.all()):
        missing = np.flatnonzero(~(listed & known))
        raise ValueError(
            f"there are no moments of the atoms {', '.join(map(str, missing))}, which "
            "are not constrained: give all a constraint"
        )
    return moments, magnetic, 0.0


def _by_ion(
    lines: list[str], column: str, atoms: Atoms
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of a table by the number of the ion, and which are there."""
    start = next(k for k, x in enumerate(lines) if column in x.split())
    first = lines[start].split().index(column)
    values, listed = np.zeros((len(atoms), 3)), np.zeros(len(atoms), dtype=bool)
    for line in lines[start + 1 :]:
        words = line.split()
        if set(line.strip()) == {"-"}:
            continue
        if not words or not words[0].isdigit():
            break
        atom = int(words[0]) - 1
        if words[1] != atoms.symbols[atom]:
            raise ValueError(f"ion {words[0]} is {words[1]}, not {atoms.symbols[atom]}")
        if words[2:5] == ["1", "1", "1"]:
            values[atom] = [number(word) for word in words[first : first + 3]]
            listed[atom] = True
    return values, listed


_MAGNETIC = {_PENALTY: _of_penalty, _CURRENT: _of_current, _FINAL: _of_final}


def _last(lines: list[str], mark: str) -> int:
    return max(k for k, line in enumerate(lines) if mark in line)


def _structure_beside(path: Path) -> Atoms:
    (atoms,) = ase.io.read(_beside(path, "POSCAR"), index=":", format="vasp")
    return atoms


def _tags_beside(path: Path) -> dict[str, str]:
    return incar_tags(_beside(path, "INCAR"))


def _beside(path: Path, name: str) -> Path:
    """Return an input file beside an output, by the ending of its name if there."""
    ending = path.stem[path.stem.rfind("_") :] if "_" in path.stem else ""
    for candidate in (path.with_name(name + ending), path.with_name(name)):
        if candidate.is_file():
            return candidate
    raise ValueError(f"there is no {name} beside it")


def _rotation(tags: dict[str, str]) -> np.ndarray:
    return saxis_rotation(numbers_of(tags.get("SAXIS", "0 0 1")))
