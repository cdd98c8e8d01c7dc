"""``exchange.out`` of TB2J.

TB2J: E = -sum_{i != j} [J e_i.e_j + e_i.J_ani.e_j + D.(e_i x e_j)] - sum_i e_i.A_i.e_i,
every pair twice, meV: bonds are half of ours, A_i is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._files import reading
from ._bonds import LEVI_CIVITA
from ._hamiltonian import BondHamiltonian
from ._tables import (
    NEGLIGIBLE,
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

EXPECTED = "exchange.out of TB2J"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NAME = r"(?:\d+\()?\s*([A-Za-z]\w*)\s*\)?"
#: i, j, R and J of a bond, old (``0(Fe1  )``) and new (``Fe1``).
_BOND = re.compile(
    rf"\s*{_NAME}\s+{_NAME}\s*\(\s*(-?\d+),\s*(-?\d+),\s*(-?\d+)\)\s*({_NUMBER})\s*\("
)
_BIQUADRATIC = re.compile(rf"Jprime:\s*({_NUMBER}),\s*B:\s*({_NUMBER})")
_UNIAXIAL = re.compile(rf"\s*([A-Za-z]\w*)\s+({_NUMBER})\s*\(([^)]*)\)")


def _found(text: str) -> list[float]:
    return [float(x) for x in re.findall(_NUMBER, text)]


def recognizes(path: Path) -> bool:
    """Return whether a file looks like one of TB2J."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(20000)
    return b"Cell (Angstrom):" in head and b"J_iso" in path.read_bytes()


def read_tb2j(
    path: PathLike, *, biquadratic: bool = False, moments: ArrayLike | None = None
) -> BondHamiltonian:
    """Read TB2J's ``exchange.out``, of old and new releases.

    J_iso, D, J_ani and single-ion anisotropies are read. Moments are those of the
    Wannier functions; atoms without bonds get none. Positions and cells have as few
    digits as in the file.

    Parameters
    ----------
    path : path
    biquadratic : bool
        Take J' and B of old releases, experimental there, instead of J_iso = J' + 2 B.
    moments : (N,) or (N, 3) array, mu_B, optional
        Instead of those of the file.

    Raises
    ------
    ValueError
        If the file lacks the cell, atoms or bonds, or is damaged.

    Warns
    -----
    ExchangeTableWarning
        If bonds are listed from one end only, or from both with different numbers.
    """
    path = Path(path)
    with reading(path, EXPECTED):
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines()
        cell = _cell(lines)
        names, positions, spins = _atoms(lines)
        site = {name: k for k, name in enumerate(names)}
        atoms = Atoms(
            [element_of(name, path) for name in names],
            positions=positions,
            cell=cell,
            pbc=True,
        )
        rows = Rows(path, both_ends=True)
        for block in _blocks(lines):
            first, second, *shift, J = block[0]
            for name in (first, second):
                if name not in site:
                    raise ValueError(
                        f"a bond names the site {name}, which is not among the atoms: "
                        f"{', '.join(names)}"
                    )
            values = _values(block[1], float(J), biquadratic)
            rows.add(site[first], site[second], map(int, shift), 2e-3 * values)
        if not rows.values:
            raise ValueError("there are no bonds in it")
        with_moments(atoms, spins, rows, moments)
        onsite = 1e-3 * _onsite(lines, site)
    if "dJ/dx" in text:
        rows.leave_out("derivatives by displacements (dJ/dx)")
    return rows.potential(atoms, onsite=onsite)


def _section(lines: list[str], title: str) -> int:
    """Return the number of the line after a title.

    Raises
    ------
    ValueError
        If it is not there.
    """
    for k, line in enumerate(lines):
        if line.strip().startswith(title):
            return k + 1
    raise ValueError(f"it lacks the section {title!r}")


def _cell(lines: list[str]) -> np.ndarray:
    start = _section(lines, "Cell (Angstrom):")
    rows = [_found(line) for line in lines[start : start + 3]]
    if [len(row) for row in rows] != [3, 3, 3]:
        raise ValueError("its cell is not three rows of three numbers")
    return np.array(rows)


def _atoms(lines: list[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return names, positions (N, 3), A, and moments (N, 3), mu_B."""
    names, positions, spins = [], [], []
    for line in lines[_section(lines, "Atoms:") :]:
        words = line.split()
        if not words or words[0].startswith(("(", "Atom")):
            continue
        if words[0] == "Total" or len(words) not in (6, 8):
            break
        values = [float(x) for x in words[1:]]
        names.append(words[0])
        positions.append(values[:3])
        spins.append([0.0, 0.0, values[4]] if len(values) == 5 else values[4:])
    if not names:
        raise ValueError("it lists no atoms")
    return names, np.array(positions), np.array(spins)


def _blocks(lines: list[str]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the numbers of the head of each bond, and the lines after it."""
    start = _section(lines, "Exchange:")
    head, rest = None, []
    for line in lines[start:]:
        found = _BOND.match(line)
        if found is None:
            rest.append(line)
            continue
        if head is not None:
            yield head, rest
        head, rest = found.groups(), []
    if head is not None:
        yield head, rest


def _values(lines: list[str], J: float, biquadratic: bool) -> np.ndarray:
    """Return a tensor, and B behind it where it is asked for, meV."""
    dm, anisotropic, square = np.zeros(3), np.zeros((3, 3)), None
    for k, line in enumerate(lines):
        if re.search(r"\bDMI:", line):
            dm = np.array(_found(line.split("DMI:")[1]))
        elif "J_ani:" in line:
            found = _found(" ".join(lines[k + 1 : k + 4]))
            anisotropic = np.array(found).reshape(3, 3)
        elif (match := _BIQUADRATIC.search(line)) is not None and biquadratic:
            J, square = (float(x) for x in match.groups())
    tensor = J * np.eye(3) + anisotropic + np.einsum("c,cab->ab", dm, LEVI_CIVITA)
    if biquadratic and square is None:
        raise ValueError("a bond has no J' and B: leave biquadratic out")
    return tensor if square is None else np.append(tensor.ravel(), square)


def _onsite(lines: list[str], site: dict[str, int]) -> np.ndarray:
    """Return A (N, 3, 3), meV, of tensors or of axes."""
    total = np.zeros((len(site), 3, 3))
    title = "Single Ion Anisotropy"
    if not any(line.strip().startswith(title) for line in lines):
        return total
    start = _section(lines, title)
    for k, line in enumerate(lines[start:], start):
        words = line.split()
        if line.startswith("===") or line.strip().startswith("Exchange:"):
            break
        if not words or words[0] not in site:
            continue
        along = _UNIAXIAL.match(line)
        if along is not None:
            axis = np.array(_found(along.group(3)))
            size = np.linalg.norm(axis)
            axis = axis / size if size else axis
            total[site[words[0]]] = float(along.group(2)) * np.outer(axis, axis)
        else:
            found = _found(" ".join([*words[1:], *lines[k + 1 : k + 3]]))
            total[site[words[0]]] = np.array(found).reshape(3, 3)
    return total


def write_tb2j(model: BondHamiltonian | HasBonds, path: PathLike) -> None:
    """Write TB2J's ``exchange.out``, which magnopy and pySpinW read too.

    Moments are those of the reference state. Anisotropies are written as TB2J 0.9
    does; magnopy 0.6.1 gets our energies of the bonds from the file and passes over
    anisotropies.

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
    refuse(model, EXPECTED, "fields", "biquadratic", "cubic", "slopes")
    cell = model.atoms.cell.array
    places = fold.fractional @ cell
    count: dict[str, int] = {}
    names = []
    for element in fold.names:
        count[element] = count.get(element, 0) + 1
        names.append(f"{element}{count[element]}")
    line, rule = "=" * 90, "-" * 88
    moments = fold.lengths[:, None] * fold.directions
    lines = [line, "Information:", "Exchange parameters written by deepspin-ase.", line]
    lines += ["Cell (Angstrom):", *(numbers(row) for row in cell), ""]
    lines += [line, "Atoms:", "(Note: magnetic atoms only; moments in mu_B.)"]
    lines.append("Atom_number x y z w_charge M(x) M(y) M(z)")
    for name, place, moment in zip(names, places, moments, strict=True):
        lines.append(f"{name} {numbers(place)} 0.0 {numbers(moment)}")
    lines += [f"Total 0.0 {numbers(moments.sum(axis=0))}", ""]
    onsite = model.onsite[model.sites]
    if np.abs(onsite).max(initial=0.0) > NEGLIGIBLE:
        lines += [line, "Single Ion Anisotropy:"]
        for row in ("A_xx A_xy A_xz", "A_yx A_yy A_yz", "A_zx A_zy A_zz"):
            lines.append(f"Atom_number {row}" if row[2:4] == "xx" else f"  {row}")
        for name, A in zip(names, 1e3 * onsite, strict=True):
            lines += [
                f"{name} {numbers(A[0])}",
                *(f"  {numbers(A[a])}" for a in (1, 2)),
            ]
            lines.append(rule)
    lines += [line, "Exchange:"]
    lines.append("i j R J_iso(meV) vector distance(A)")
    half = 0.5e3
    isotropic, dm, anisotropic = model.isotropic, model.dm, model.anisotropic
    vectors, distances = model.vectors, model.distances
    for p in fold.order:
        J = half * isotropic[p]
        R = ", ".join(str(n) for n in fold.shift[p])
        vector = ", ".join(f"{x:.8f}" for x in vectors[p])
        lines += [
            rule,
            f"{names[fold.i[p]]} {names[fold.j[p]]} ({R}) {J:.10f} ({vector}) "
            f"{distances[p]:.8f}",
            f"J_iso: {J:.10f}",
            f"[Testing!] DMI: ({numbers(half * dm[p])})",
            "[Testing!]J_ani:",
        ]
        rows = half * anisotropic[p]
        lines += [f"[[{numbers(rows[0])}]", f" [{numbers(rows[1])}]"]
        lines.append(f" [{numbers(rows[2])}]]")
    write_lines(Path(path), lines)
