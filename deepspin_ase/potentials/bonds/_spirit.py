"""Input files (``.cfg``) of Spirit.

Spirit: E = -sum_{<ij>} [J e_i.e_j + D.(e_i x e_j)] - sum_i K (e_i.n)^2, pairs once,
meV: numbers are ours. It has no symmetric anisotropic exchange.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._files import reading
from ._bonds import LEVI_CIVITA
from ._hamiltonian import BondHamiltonian
from ._tables import (
    HasBonds,
    PathLike,
    Rows,
    elements_of,
    numbers,
    refuse,
    uniaxial,
    with_moments,
    wrapped_sites,
    write_lines,
)

EXPECTED = "an input file of Spirit"

#: Symmetric anisotropic exchange below this fraction of J is none (Spirit takes none).
_SYMMETRIC = 1e-6

_LATTICES = {
    "sc": np.eye(3),
    "bcc": 0.5 * (np.ones((3, 3)) - 2.0 * np.eye(3)),
    "fcc": 0.5 * (np.ones((3, 3)) - np.eye(3)),
}


def recognizes(path: Path) -> bool:
    """Return whether a file has the name of an input of Spirit, and its words."""
    named = path.suffix.lower() == ".cfg" and path.is_file()
    return named and b"mu_s" in path.read_bytes()


def read_spirit(
    path: PathLike,
    *,
    elements: str | Sequence[str] | None = None,
    moments: ArrayLike | None = None,
) -> BondHamiltonian:
    """Read an input file of Spirit with pairs (``hamiltonian heisenberg_pairs``).

    Pairs and anisotropies in the file itself. Fields, dipolar interactions, disorder
    and quadruplets are not read. Spirit's files have no directions of moments: z.

    Parameters
    ----------
    path : path
    elements : str or sequence of str, optional
        Of the basis; not in files other than those of :func:`write_spirit`.
    moments : (N,) or (N, 3) array, mu_B, optional
        Instead of those of the file.

    Raises
    ------
    ValueError
        If elements, pairs or the lattice are missing, or something cannot be read.

    Warns
    -----
    ExchangeTableWarning
        If there is an external field.
    """
    path = Path(path)
    with reading(path, EXPECTED):
        text = path.read_text(encoding="utf-8", errors="replace")
        noted = re.search(r"^#\s*elements:(.*)$", text, re.MULTILINE)
        spins_noted = re.findall(r"^#\s*moment:(.*)$", text, re.MULTILINE)
        lines = [re.split(r"#", line)[0].split() for line in text.splitlines()]
        lines = [line for line in lines if line]
        cell = _cell(lines)
        basis = _rows(lines, "basis", header=False) or [["0", "0", "0"]]
        places = np.array([[float(x) for x in row[:3]] for row in basis])
        symbols = elements_of(
            elements, noted.group(1).split() if noted else [], len(basis), path
        )
        boundary = _words(lines, "boundary_conditions") or ["1", "1", "1"]
        atoms = Atoms(
            symbols,
            scaled_positions=places,
            cell=cell,
            pbc=[word == "1" for word in boundary[:3]],
        )
        rows = _pairs(path, lines, cell, len(basis))
        lengths = [float(x) for x in _words(lines, "mu_s")]
        if len(lengths) != len(basis):
            raise ValueError(f"mu_s has {len(lengths)} moments, for {len(basis)} sites")
        spins = np.array(lengths)[:, None] * [0.0, 0.0, 1.0]
        if len(spins_noted) == len(basis):
            spins = np.array([[float(x) for x in line.split()] for line in spins_noted])
        with_moments(atoms, spins, rows, moments)
        onsite = _anisotropies(lines, len(basis), cell)
    if float((_words(lines, "external_field_magnitude") or ["0"])[0]):
        rows.leave_out("external fields, which drivers take,")
    return rows.potential(atoms, onsite=onsite)


def _words(lines: list[list[str]], keyword: str) -> list[str]:
    """Return the words behind a keyword; none where it is not there."""
    return next((line[1:] for line in lines if line[0] == keyword), [])


def _rows(lines: list[list[str]], keyword: str, *, header: bool) -> list[list[str]]:
    """Return the lines of a table, the first with its columns; none without it."""
    for k, line in enumerate(lines):
        if line[0] == keyword:
            start = k + 1
            words = line[1:]
            if not words:
                words, start = lines[start], start + 1
            return lines[start : start + int(words[0]) + header]
    return []


def _cell(lines: list[list[str]]) -> np.ndarray:
    """Return the lattice vectors (3, 3) as rows, A."""
    constant = _words(lines, "lattice_constant")
    if not constant:
        raise ValueError("it lacks the lattice_constant")
    name = (_words(lines, "bravais_lattice") or [""])[0]
    if name in _LATTICES:
        return float(constant[0]) * _LATTICES[name]
    for k, line in enumerate(lines):
        if line[0] in ("bravais_vectors", "bravais_matrix"):
            rows = [[float(x) for x in row[:3]] for row in lines[k + 1 : k + 4]]
            matrix = np.array(rows)
            # The matrix has the vectors as columns.
            matrix = matrix.T if line[0] == "bravais_matrix" else matrix
            return float(constant[0]) * matrix
    raise ValueError(
        "it lacks the lattice: bravais_vectors, bravais_matrix, or bravais_lattice sc, "
        "bcc or fcc"
    )


def _pairs(path: Path, lines: list[list[str]], cell: np.ndarray, count: int) -> Rows:
    """Return the bonds of the table of pairs."""
    table = _rows(lines, "n_interaction_pairs", header=True)
    if not table:
        raise ValueError(
            "it lists no pairs (n_interaction_pairs); shells of neighbors and files of "
            "pairs are not read"
        )
    columns = [name.lower() for name in table[0]]
    rows = Rows(path, both_ends=False)
    for line in table[1:]:
        if len(line) != len(columns):
            raise ValueError(
                f"a pair has {len(line)} columns instead of {len(columns)}"
            )
        values = dict(zip(columns, line, strict=True))
        i, j, *shift = (int(values[name]) for name in ("i", "j", "da", "db", "dc"))
        if not (0 <= i < count and 0 <= j < count):
            raise ValueError(f"a pair joins the sites {i} and {j} of {count}")
        D = _vector(values, "dij", cell)
        tensor = 1e-3 * float(values.get("jij", "0")) * np.eye(3)
        tensor += 1e-3 * np.einsum("c,cab->ab", D, LEVI_CIVITA)
        if (j, i, *(-x for x in shift)) in rows.values:
            raise ValueError(
                f"the pair {i}-{j} {tuple(shift)} is listed from both ends, which "
                "Spirit adds up: keep one, with the sum"
            )
        rows.add(i, j, shift, tensor)
    return rows


def _vector(values: dict[str, str], name: str, cell: np.ndarray) -> np.ndarray:
    """Return a vector from columns of its length and direction; zero without."""
    for letters, frame in (("xyz", np.eye(3)), ("abc", cell)):
        if f"{name}{letters[0]}" in values:
            direction = np.array([float(values[f"{name}{x}"]) for x in letters]) @ frame
            size = np.linalg.norm(direction)
            if size == 0.0:
                return np.zeros(3)
            given = float(values.get(name, size))
            return given * direction / size
    return np.zeros(3)


def _anisotropies(lines: list[list[str]], count: int, cell: np.ndarray) -> np.ndarray:
    """Return A (n, 3, 3), eV."""
    onsite = np.zeros((count, 3, 3))
    strength = float((_words(lines, "anisotropy_magnitude") or ["0"])[0])
    if strength:
        normal = np.array([float(x) for x in _words(lines, "anisotropy_normal")[:3]])
        normal /= np.linalg.norm(normal)
        onsite += 1e-3 * strength * np.outer(normal, normal)
    table = _rows(lines, "n_anisotropy", header=True)
    for line in table[1:]:
        values = dict(zip((name.lower() for name in table[0]), line, strict=True))
        axis = _vector({k: v for k, v in values.items() if k != "k"}, "k", cell)
        if axis.any():
            axis = axis / np.linalg.norm(axis)
        site = int(values["i"])
        if not 0 <= site < count:
            raise ValueError(f"an anisotropy is at site {site} of {count}")
        onsite[site] += 1e-3 * float(values["k"]) * np.outer(axis, axis)
    return onsite


def write_spirit(model: BondHamiltonian | HasBonds, path: PathLike) -> None:
    """Write an input file (``.cfg``) for Spirit.

    Spirit 2.2.0 gets our energies from the file. Elements and moments of the reference
    state are noted in comments.

    Parameters
    ----------
    model : BondHamiltonian or ExchangeTensors
    path : path

    Raises
    ------
    ValueError
        If an anisotropy has two axes, or there are fields at single sites, symmetric
        anisotropic exchange, biquadratic or cubic terms or derivatives.
    """
    fold = wrapped_sites(model)
    model = fold.model
    refuse(model, "Spirit", "fields", "biquadratic", "cubic", "slopes")
    K, n = uniaxial(model, "Spirit")
    isotropic, dm, anisotropic = model.isotropic, model.dm, model.anisotropic
    largest = np.abs(isotropic).max(initial=0.0)
    if np.abs(anisotropic).max(initial=0.0) > _SYMMETRIC * largest:
        raise ValueError(
            "Spirit takes no symmetric anisotropic exchange, and that of these tensors "
            f"reaches {1e3 * np.abs(anisotropic).max():.3g} meV"
        )
    atoms = model.atoms
    count = len(fold.names)
    cells = " ".join("12" if periodic else "1" for periodic in atoms.pbc)
    lines = [f"# elements: {' '.join(fold.names)}"]
    lines += [
        f"# moment: {numbers(m * e)}"
        for m, e in zip(fold.lengths, fold.directions, strict=True)
    ]
    lines += ["hamiltonian heisenberg_pairs", "bravais_vectors"]
    lines += [numbers(row) for row in atoms.cell.array]
    lines += ["lattice_constant 1.0", "basis", str(count)]
    lines += [numbers(row) for row in fold.fractional]
    lines += [f"mu_s {numbers(fold.lengths)}", f"n_basis_cells {cells}"]
    lines.append(f"boundary_conditions {numbers(atoms.pbc.astype(int), 'd')}")
    lines += ["external_field_magnitude 0.0", "ddi_method none"]
    lines += [f"n_anisotropy {count}", "i K Kx Ky Kz"]
    lines += [f"{k} {1e3 * K[k]:.10f} {numbers(n[k])}" for k in range(count)]
    once = fold.once
    lines += [f"n_interaction_pairs {len(once)}"]
    lines.append("i j da db dc Jij Dij Dijx Dijy Dijz")
    for p in once:
        D = 1e3 * dm[p]
        lines.append(
            f"{fold.i[p]} {fold.j[p]} {numbers(fold.shift[p], 'd')} "
            f"{1e3 * isotropic[p]:.10f} {np.linalg.norm(D):.10f} {numbers(D)}"
        )
    write_lines(Path(path), lines)
