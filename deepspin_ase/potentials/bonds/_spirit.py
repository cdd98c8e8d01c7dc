"""Input files (``.cfg``) of Spirit.

Spirit: E = -sum_{<ij>} [J e_i.e_j + D.(e_i x e_j)] - sum_i K (e_i.n)^2
- sum_i (K4/2) (a^4 + b^4 + c^4), pairs once, meV: numbers are ours, K4 our cubic K1 but
for a constant. It has no symmetric anisotropic exchange. Of shells of neighbors D is
along the bond from i to j (``dm_chirality`` 1), or along its cross product with z (2),
or opposite (-1, -2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
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

_HALF, _HIGH = 0.5, 0.75**0.5
_LATTICES = {
    "sc": np.eye(3),
    "bcc": 0.5 * (np.ones((3, 3)) - 2.0 * np.eye(3)),
    "fcc": 0.5 * (np.ones((3, 3)) - np.eye(3)),
    "hex2d": np.array([[_HIGH, -_HALF, 0], [_HIGH, _HALF, 0], [0, 0, 1]]),
    "hex2d60": np.array([[_HIGH, -_HALF, 0], [_HIGH, _HALF, 0], [0, 0, 1]]),
    "hex2d120": np.array([[_HALF, -_HIGH, 0], [_HALF, _HIGH, 0], [0, 0, 1]]),
}

#: Bonds whose lengths differ by less than this, relative, are of one shell.
_SHELL = 1e-3

#: What is not read, by the keyword and the values that mean none.
_LEFT_OUT = {
    "external_field_magnitude": ("external fields, which drivers take,", "0"),
    "ddi_method": ("dipolar interactions, see DipoleDipole,", "none"),
    "dd_radius": ("dipolar interactions, see DipoleDipole,", "0"),
    "n_interaction_quadruplets": ("interactions of four moments", "0"),
    "interaction_quadruplets_file": ("interactions of four moments", ""),
    "n_biaxial_anisotropy_axes": ("biaxial anisotropies", "0"),
    "atom_types": ("disorder and defects", "0"),
    "n_defects": ("defects", "0"),
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
    """Read an input file of Spirit: pairs, or shells of neighbors, and anisotropies.

    Tables stand in the file itself, or in those that it names, from its folder or the
    one above. Fields, dipolar interactions, defects, quadruplets and biaxial
    anisotropies are not read. Spirit's files have no directions of moments: z.

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
        If there is something that is not read.
    """
    path = Path(path)
    with reading(path, EXPECTED):
        text = path.read_text(encoding="utf-8", errors="replace")
        noted = re.search(r"^#\s*elements:(.*)$", text, re.MULTILINE)
        spins_noted = re.findall(r"^#\s*moment:(.*)$", text, re.MULTILINE)
        lines = _split(text)
        cell = _cell(lines)
        basis = _rows(lines, "basis", header=False) or [["0", "0", "0"]]
        places = np.array([[float(x) for x in row[:3]] for row in basis])
        symbols = elements_of(
            elements, noted.group(1).split() if noted else [], len(basis), path
        )
        boundary = _words(lines, "boundary_conditions") or ["0", "0", "0"]
        periodic = [word == "1" for word in boundary[:3]]
        cells = [int(word) for word in _words(lines, "n_basis_cells")[:3]]
        cells = cells or [100, 100, 1]
        several = np.array(periodic) | (np.array(cells) > 1)
        atoms = Atoms(symbols, scaled_positions=places, cell=cell, pbc=several)
        rows = _pairs(path, lines, atoms)
        lengths = [float(x) for x in _words(lines, "mu_s")]
        if len(lengths) != len(basis):
            raise ValueError(f"mu_s has {len(lengths)} moments, for {len(basis)} sites")
        spins = np.array(lengths)[:, None] * [0.0, 0.0, 1.0]
        if len(spins_noted) == len(basis):
            spins = np.array([[float(x) for x in line.split()] for line in spins_noted])
        with_moments(atoms, spins, rows, moments)
        onsite, cubic = _anisotropies(path, lines, len(basis), cell)
    rows.set_pbc(atoms, periodic, cells)
    for what in dict.fromkeys(
        what
        for keyword, (what, none) in _LEFT_OUT.items()
        if (_words(lines, keyword) or [none])[0] not in (none, f"{none}.0")
    ):
        rows.leave_out(what)
    return rows.potential(atoms, onsite=onsite, cubic=cubic)


def _split(text: str) -> list[list[str]]:
    """Return the words of the lines that have any."""
    lines = [
        re.split(r"#", line)[0].replace("=", " ").split() for line in text.splitlines()
    ]
    return [line for line in lines if line]


def _table(
    path: Path, lines: list[list[str]], count: str, file: str
) -> list[list[str]]:
    """Return a table, the first line with its columns, of the file or one it names.

    Parameters
    ----------
    path : Path
    lines : list of lists of str
    count, file : str
        Keywords of the number of its lines, and of the file that has it.
    """
    if table := _rows(lines, count, header=True):
        return table
    named = _words(lines, file)
    if not named:
        return []
    places = [folder / named[0] for folder in (path.parent, path.parent.parent)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(f"it names {named[0]}, which is not there")
    rows = _split(found.read_text(encoding="utf-8", errors="replace"))
    if rows and rows[0][0] == count:
        return _rows(rows, count, header=True)
    return rows


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
    constant = _words(lines, "lattice_constant") or ["1.0"]
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
        "it lacks the lattice: bravais_vectors, bravais_matrix, or bravais_lattice "
        f"{', '.join(_LATTICES)}"
    )


def _shells(path: Path, lines: list[list[str]], atoms: Atoms) -> Rows:
    """Return the bonds of shells of neighbors."""
    J, D = (
        [float(x) for x in _words(lines, name)[: int(_words(lines, count)[0])]]
        if _words(lines, count)
        else []
        for name, count in (("jij", "n_shells_exchange"), ("dij", "n_shells_dmi"))
    )
    rows = Rows(path, both_ends=True)
    if not (J or D):
        raise ValueError("it lists no shells (n_shells_exchange, n_shells_dmi)")
    cutoff, bonds = 2.0 * max(atoms.cell.lengths()), None
    while bonds is None or np.count_nonzero(bonds) < max(len(J), len(D)):
        cutoff *= 1.5
        i, j, shift, vectors = neighbor_list("ijSD", atoms, cutoff)
        distances = np.linalg.norm(vectors, axis=1)
        ordered = np.sort(distances)
        bonds = np.diff(ordered, prepend=0.0) > _SHELL * ordered
        if cutoff > 100.0 * max(atoms.cell.lengths()):
            raise ValueError("it has more shells than its crystal")
    radii = ordered[bonds]
    shell = np.searchsorted(radii, distances * (1.0 + _SHELL)) - 1
    chirality = int((_words(lines, "dm_chirality") or ["1"])[0])
    if abs(chirality) not in (1, 2):
        raise ValueError(f"dm_chirality must be 1, 2, -1 or -2, got {chirality}")
    along = vectors / distances[:, None]
    if abs(chirality) == 2:
        along = np.cross(along, [0.0, 0.0, 1.0])
    along *= np.sign(chirality)
    for k in np.flatnonzero(shell < max(len(J), len(D))):
        isotropic = J[shell[k]] if shell[k] < len(J) else 0.0
        twist = D[shell[k]] * along[k] if shell[k] < len(D) else np.zeros(3)
        rows.add(i[k], j[k], shift[k], 1e-3 * _tensor(isotropic, twist))
    return rows


def _tensor(J: float, D: np.ndarray) -> np.ndarray:
    return J * np.eye(3) + np.einsum("c,cab->ab", D, LEVI_CIVITA)


def _pairs(path: Path, lines: list[list[str]], atoms: Atoms) -> Rows:
    """Return the bonds of the table of pairs, or of shells."""
    cell, count = atoms.cell.array, len(atoms)
    table = _table(path, lines, "n_interaction_pairs", "interaction_pairs_file")
    if not table and _words(lines, "hamiltonian")[:1] == ["heisenberg_neighbours"]:
        return _shells(path, lines, atoms)
    if not table:
        raise ValueError(
            "it lists no pairs (n_interaction_pairs), and its hamiltonian is not "
            "heisenberg_neighbours"
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
        tensor = 1e-3 * _tensor(float(values.get("jij", "0")), D)
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


def _anisotropies(
    path: Path, lines: list[list[str]], count: int, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return A (n, 3, 3) and cubic K1, K2 (n, 2), eV."""
    onsite, cubic = np.zeros((count, 3, 3)), np.zeros((count, 2))
    cubic[:, 0] = 1e-3 * float(
        (_words(lines, "cubic_anisotropy_magnitude") or ["0"])[0]
    )
    strength = float((_words(lines, "anisotropy_magnitude") or ["0"])[0])
    if strength:
        normal = np.array([float(x) for x in _words(lines, "anisotropy_normal")[:3]])
        normal /= np.linalg.norm(normal)
        onsite += 1e-3 * strength * np.outer(normal, normal)
    table = _table(path, lines, "n_anisotropy", "anisotropy_file")
    for line in table[1:]:
        values = dict(zip((name.lower() for name in table[0]), line, strict=True))
        axis = _vector({k: v for k, v in values.items() if k != "k"}, "k", cell)
        size = float(np.linalg.norm(axis))
        axis, strength = axis / (size or 1.0), float(values.get("k", size))
        site = int(values["i"])
        if not 0 <= site < count:
            raise ValueError(f"an anisotropy is at site {site} of {count}")
        onsite[site] += 1e-3 * strength * np.outer(axis, axis)
        cubic[site, 0] += 1e-3 * float(values.get("k4", "0"))
    return onsite, cubic


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
