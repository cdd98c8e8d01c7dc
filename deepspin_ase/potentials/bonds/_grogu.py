"""Text files of GROGU (grogupy) as magnopy reads them.

The convention is written in the file; GROGU's own is E = 1/2 sum_{i != j} e_i.J_ij.e_j
+ sum_i e_i.K_i.e_i, every pair twice, meV: numbers are the opposite of ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._files import reading
from ._hamiltonian import BondHamiltonian
from ._tables import (
    HasBonds,
    PathLike,
    Rows,
    element_of,
    numbers,
    refuse,
    with_moments,
    wrapped_sites,
    write_lines,
)

EXPECTED = "a text file of GROGU for magnopy"

#: Moment of a spin 1, mu_B, in GROGU.
_G = 2.0


def recognizes(path: Path) -> bool:
    """Return whether a file looks like one of GROGU."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(100_000)
    return b"Hamiltonian convention" in head and b"Magnetic sites" in head


def read_grogu(path: PathLike, *, moments: ArrayLike | None = None) -> BondHamiltonian:
    """Read a text file of GROGU: tensors and on-site anisotropies.

    Moments are twice the spins of the file, along them.

    Parameters
    ----------
    path : path
    moments : (N,) or (N, 3) array, mu_B, optional
        Instead of those of the file.

    Raises
    ------
    ValueError
        If a section is missing or damaged.

    Warns
    -----
    ExchangeTableWarning
        If bonds have different numbers from both ends.
    """
    path = Path(path)
    with reading(path, EXPECTED):
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        pair, site, normalized = _convention(lines)
        start = _section(lines, "Cell (Ang)")
        cell = [[float(x) for x in line.split()] for line in lines[start : start + 3]]
        names, places, spins = _sites(lines)
        number = {name: k for k, name in enumerate(names)}
        lengths = np.linalg.norm(spins, axis=1)
        scale = np.ones(len(names)) if normalized else lengths
        rows = Rows(path, both_ends=False)
        for head, matrix in _matrices(lines, _section(lines, "Exchange tensor")):
            words = head.split()
            if len(words) < 5:
                raise ValueError(f"cannot read the bond {head!r}")
            i, j = (_number(number, name) for name in words[:2])
            tensor = -1e-3 * pair * scale[i] * scale[j] * matrix
            rows.add(i, j, (int(x) for x in words[2:5]), tensor)
        onsite = np.zeros((len(names), 3, 3))
        start = _section(lines, "Intra-atomic anisotropy")
        for head, matrix in _matrices(lines, start):
            k = _number(number, head.split()[0])
            onsite[k] = -1e-3 * site * scale[k] ** 2 * matrix
        symbols = [element_of(name, path) for name in names]
        atoms = Atoms(symbols, positions=places, cell=cell, pbc=True)
        with_moments(atoms, _G * spins, rows, moments)
    return rows.potential(atoms, onsite=onsite)


def _section(lines: list[str], title: str) -> int:
    """Return the number of the line after a title.

    Raises
    ------
    ValueError
        If it is not there.
    """
    for k, line in enumerate(lines):
        if line.startswith(title):
            return k + 1
    raise ValueError(f"it lacks the section {title!r}")


def _convention(lines: list[str]) -> tuple[float, float, bool]:
    """Return factors of a bond counted once and of a site, and for what they are.

    The last is whether for unit vectors, or else for spins.
    """
    words: dict[str, str] = {}
    start = _section(lines, "Hamiltonian convention")
    for line in lines[start : start + 4]:
        *name, value = line.split()
        words[" ".join(name).lower()] = value.lower()
    names = ("double counting", "normalized spins", "intra-atomic factor")
    if not {*names, "exchange factor"} <= words.keys():
        raise ValueError("its convention is not complete")
    twice, normalized = (words[name] in ("true", "1", "yes") for name in names[:2])
    factor = float(words["exchange factor"])
    return (2.0 if twice else 1.0) * factor, float(words[names[2]]), normalized


def _sites(lines: list[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return names, positions (n, 3), A, and spins (n, 3)."""
    start = _section(lines, "Magnetic sites")
    count = int(lines[start].split()[-1])
    rows = [line.split() for line in lines[start + 2 : start + 2 + count]]
    if any(len(row) != 8 for row in rows):
        raise ValueError(
            "a site is not a name, three coordinates and a spin with its direction"
        )
    values = np.array([[float(x) for x in row[1:]] for row in rows]).reshape(-1, 7)
    return [row[0] for row in rows], values[:, :3], values[:, 3:4] * values[:, 4:]


def _number(numbers_of: dict[str, int], name: str) -> int:
    if name not in numbers_of:
        raise ValueError(f"{name} is not among its sites: {', '.join(numbers_of)}")
    return numbers_of[name]


def _matrices(lines: list[str], start: int) -> list[tuple[str, np.ndarray]]:
    """Return the lines before matrices, with these, up to the end of a section."""
    found = []
    for k in range(start, len(lines)):
        if lines[k].startswith("==="):
            break
        if lines[k] == "Matrix":
            rows = [[float(x) for x in line.split()] for line in lines[k + 1 : k + 4]]
            found.append((lines[k - 1], np.array(rows).reshape(3, 3)))
    return found


def write_grogu(model: BondHamiltonian | HasBonds, path: PathLike) -> None:
    """Write a text file as GROGU does for magnopy.

    Spins are half the moments (g = 2). magnopy 0.6.1 gets our energies from the file.

    Parameters
    ----------
    model : BondHamiltonian or ExchangeTensors
    path : path

    Raises
    ------
    ValueError
        If there are fields, biquadratic or cubic terms or derivatives, which the file
        does not hold.
    """
    fold = wrapped_sites(model)
    model = fold.model
    refuse(model, "GROGU", "fields", "biquadratic", "cubic", "slopes")
    cell = model.atoms.cell.array
    names = [f"{name}{k + 1}" for k, name in enumerate(fold.names)]
    section, rule = 80 * "=", 80 * "-"
    lines = [section, "GROGU INFORMATION", "Written by deepspin-ase.", section]
    lines += ["Hamiltonian convention", "Double counting      true"]
    lines += ["Normalized spins     true", "Intra-atomic factor  +1"]
    lines += ["Exchange factor      +0.5", section, "Cell (Ang)"]
    lines += [*(numbers(row) for row in cell), section, "Magnetic sites"]
    lines += [
        f"Number of sites {len(names)}",
        "Name x (Ang) y (Ang) z (Ang) s sx sy sz",
    ]
    sites = zip(
        names, fold.fractional @ cell, fold.lengths, fold.directions, strict=True
    )
    for name, place, length, direction in sites:
        lines.append(f"{name} {numbers(place)} {length / _G:.10f} {numbers(direction)}")
    lines += [section, "Intra-atomic anisotropy tensor (meV)"]
    for name, A in zip(names, model.onsite[model.sites], strict=True):
        lines += [rule, name, "Matrix", *(numbers(row) for row in -1e3 * A)]
    lines += [rule, section, "Exchange tensor (meV)"]
    lines += [f"Number of pairs {len(fold.order)}", rule]
    lines.append("Name1 Name2 i j k d (Ang)")
    distances = model.distances
    for p in fold.order:
        shift = " ".join(str(x) for x in fold.shift[p])
        lines += [rule, f"{names[fold.i[p]]} {names[fold.j[p]]} {shift} "]
        lines[-1] += f"{distances[p]:.8f}"
        lines += ["Matrix", *(numbers(row) for row in -1e3 * model.tensors[p])]
    lines += [rule, section]
    write_lines(Path(path), lines)
