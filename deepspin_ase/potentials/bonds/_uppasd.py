"""Input files of UppASD: ``inpsd.dat`` and what it names.

UppASD: E = -sum_{i != j} [J e_i.e_j + s D.(e_i x e_j) + e_i.J_ani.e_j]
+ sum_i [K1 (e_i.n)^2 + K2 (e_i.n)^4], every pair twice, mRy: exchange is half of ours,
K1 the opposite of ours. Cubic anisotropy is + K1 (a^2 b^2 + ...) + K2 a^2 b^2 c^2.

The sign s of the Dzyaloshinskii-Moriya energy has changed: it is +1 (-D.(e_i x e_j)) in
the sources from 2023-05-25 on, release 6.0.2 among them, and -1 before and, in the
development branch, again since 2026-07-31.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._files import make_folder, reading
from ._bonds import LEVI_CIVITA
from ._hamiltonian import BondHamiltonian
from ._tables import (
    NEGLIGIBLE,
    HasBonds,
    PathLike,
    Rows,
    WrappedSites,
    elements_of,
    numbers,
    refuse,
    require_folder,
    uniaxial,
    with_moments,
    wrapped_sites,
    write_lines,
)

EXPECTED = "inpsd.dat of UppASD"

MRY = 1e-3 * units.Ry

#: Atoms at the ends of bonds are looked for within this, in lattice vectors.
_SAME_PLACE = 1e-3

#: Names of files in ``inpsd.dat``, and columns of numbers behind the vectors in them.
_TABLES = {"exchange": 1, "dm": 3, "pd": 6, "bq": 1}


#: What is not read, by keyword.
_LEFT_OUT = {
    "hfield": "external fields (hfield), which drivers take,",
    "do_dip": "dipolar interactions (do_dip), see DipoleDipole,",
    "biqdm": "biquadratic Dzyaloshinskii-Moriya interactions (biqdm)",
    "chir": "chiral interactions of three moments (chir)",
    "ring": "interactions of four moments (ring)",
}


def recognizes(path: Path) -> bool:
    """Return whether there is an ``inpsd.dat``."""
    return (path / "inpsd.dat").is_file() or path.name == "inpsd.dat"


@dataclass(frozen=True)
class _Input:
    """``inpsd.dat``: words by keyword, cell, and notes on elements."""

    path: Path
    words: dict[str, list[str]]
    cell: np.ndarray
    elements: list[str]

    def word(self, keyword: str, default: str) -> str:
        return self.words.get(keyword, [default])[0]

    def table(self, keyword: str) -> list[list[str]]:
        """Return the words of the lines of a file that is named."""
        name = self.words.get(keyword, [""])[0].strip("'\"")
        if not name:
            return []
        path = self.path.parent / name
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = [re.split(r"[!#]", line)[0].split() for line in lines]
        return [row for row in rows if row]


def read_uppasd(
    path: PathLike,
    *,
    elements: str | Sequence[str] | None = None,
    alat: float | None = None,
    dm_sign: Literal[-1, 1] = -1,
    moments: ArrayLike | None = None,
) -> BondHamiltonian:
    """Read an input of UppASD: positions, moments, exchange and anisotropies.

    The files named as ``posfile``, ``momfile``, ``exchange`` (with ``do_jtensor``,
    too), ``dm``, ``pd``, ``bq`` and ``anisotropy``, with ``maptype`` 1 and 2,
    ``posfiletype`` C and D, and ``Sym`` 0 to 3. As in UppASD bonds belong to types of
    atoms: those of a site are bonds of all sites of its type. Of random alloys
    (``do_ralloy``) the species of a site share its place, with their concentrations:
    see :meth:`BondHamiltonian.disordered`.

    Parameters
    ----------
    path : path
        ``inpsd.dat`` or its folder.
    elements : str or sequence of str, optional
        Of the sites, or of the species of an alloy; not in files other than those of
        :func:`write_uppasd`.
    alat : float, A, optional
        The unit of lengths; by default the file's ``alat``.
    dm_sign : {-1, 1}
        The sign of D.(e_i x e_j) in the energy of the version that the file is for.
    moments : (N,) or (N, 3) array, mu_B, optional
        Instead of those of the file.

    Raises
    ------
    ValueError
        If cell, unit, elements or positions are missing, there is no atom at the end
        of a bond, or something cannot be read.

    Warns
    -----
    ExchangeTableWarning
        If bonds are listed from one end only, or from both with different numbers, or
        there is something that is not read.
    """
    _check_sign(dm_sign)
    path = Path(path)
    path = path / "inpsd.dat" if path.is_dir() else path
    with reading(path, EXPECTED):
        found = _input(path)
        if alat is None:
            if "alat" not in found.words:
                raise ValueError(
                    f"{path} has no alat: give alat, the unit of its cell in A"
                )
            alat = 1e10 * float(found.word("alat", "").lower().replace("d", "e"))
        sites = _structure(found, alat, elements)
        rows = _bonds(found, sites, alat, -dm_sign)
        with_moments(sites.atoms, _moments(found, sites), rows, moments)
        onsite, cubic = _anisotropies(found, sites)
        boundary, cells = (
            found.words.get(word, ["0", "0", "0"])[:3] for word in ("bc", "ncell")
        )
        periodic = [word.upper() == "P" for word in boundary]
        rows.set_pbc(sites.atoms, periodic, [int(word) for word in cells])
    for keyword, what in _LEFT_OUT.items():
        if _is_on(found.words.get(keyword, ["0"])):
            rows.leave_out(what)
    shares = sites.shares
    return rows.potential(sites.atoms, onsite=onsite, cubic=cubic, shares=shares)


def _is_on(words: Sequence[str]) -> bool:
    """Return whether a number in front is not zero, or a file is named."""
    numeric = re.compile(r"[-+.\d]+([dDeE][-+]?\d+)?$")
    front = list(itertools.takewhile(numeric.match, words[:3]))
    if not front:
        return words[0].upper() not in ("", "N", "F")
    return any(float(word.lower().replace("d", "e")) for word in front)


def _check_sign(dm_sign: int) -> None:
    if dm_sign not in (-1, 1):
        raise ValueError(f"dm_sign must be -1 or 1, got {dm_sign!r}")


def _input(path: Path) -> _Input:
    """Read ``inpsd.dat``."""
    words: dict[str, list[str]] = {}
    elements: list[str] = []
    cell: list[float] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    left = 0
    for line in lines:
        noted = re.match(r"#\s*elements:\s*(.*)", line)
        if noted is not None:
            elements = noted.group(1).split()
        parts = re.split(r"[#!%]", line)[0].split()
        if not parts:
            continue
        if left or parts[0].lower() == "cell":
            if not left:
                parts, left, cell = parts[1:], 9, []
            for word in parts[:3]:
                cell.append(float(word.lower().replace("d", "e")))
                left -= 1
            continue
        words.setdefault(parts[0].lower(), parts[1:] or [""])
    if len(cell) != 9:
        raise ValueError("its cell is missing, or not nine numbers")
    return _Input(path, words, np.array(cell).reshape(3, 3), elements)


@dataclass(frozen=True)
class _Sites:
    """Sites, or species on sites in an alloy.

    Attributes
    ----------
    atoms : Atoms
    types : (n,) integer array
        Kinds of sites whose bonds are the same.
    labels : list of tuples
        What names them in files: their number, and in an alloy that of the species.
    shares : (n,) array
    """

    atoms: Atoms
    types: np.ndarray
    labels: list[tuple[int, ...]]
    shares: np.ndarray

    @property
    def width(self) -> int:
        """Columns that name a site."""
        return len(self.labels[0])

    def index(self, words: Sequence[str], name: str) -> int:
        """Return the site that the first words of a line name.

        Raises
        ------
        ValueError
            If there is none.
        """
        label = tuple(int(word) for word in words[: self.width])
        if label not in self.labels:
            species = f" with species {label[1]}" if len(label) > 1 else ""
            raise ValueError(
                f"{name} names site {label[0]}{species}, and posfile has "
                f"{len(self.labels)} of them"
            )
        return self.labels.index(label)


def _structure(
    found: _Input, alat: float, elements: str | Sequence[str] | None
) -> _Sites:
    """Return the sites of ``posfile``."""
    rows = found.table("posfile")
    if not rows:
        raise ValueError("it names no posfile, or an empty one")
    alloy = found.word("do_ralloy", "0") == "1"
    first = 4 if alloy else 2
    if min(map(len, rows)) < first + 3:
        raise ValueError(
            f"a line of posfile has fewer than {first + 3} columns: site, type"
            + (", species, concentration" if alloy else "")
            + " and position"
        )
    rows = sorted(rows, key=lambda row: [int(row[0]), int(row[2]) if alloy else 0])
    labels = [tuple(int(row[k]) for k in ((0, 2) if alloy else (0,))) for row in rows]
    numbered = sorted({label[0] for label in labels})
    if numbered != list(range(1, len(numbered) + 1)) or len(set(labels)) < len(rows):
        raise ValueError("posfile does not number its sites 1, 2, ...")
    places = np.array([[float(x) for x in row[first : first + 3]] for row in rows])
    if found.word("posfiletype", "C").upper() == "D":
        places = places @ found.cell
    kinds = [(int(row[1]), *label[1:]) for row, label in zip(rows, labels, strict=True)]
    species = max(label[-1] for label in labels)
    if alloy and not isinstance(elements, str) and len(elements or ()) == species:
        elements = [list(elements or ())[label[1] - 1] for label in labels]
    symbols = elements_of(elements, found.elements, len(rows), found.path)
    atoms = Atoms(symbols, positions=alat * places, cell=alat * found.cell)
    types = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
    shares = np.array([float(row[3]) if alloy else 1.0 for row in rows])
    return _Sites(atoms, types, labels, shares)


def _bonds(found: _Input, sites: _Sites, alat: float, dm_sign: int) -> Rows:
    """Return the bonds of all tables, with biquadratic numbers behind them."""
    cell, places = found.cell, sites.atoms.positions / alat
    mapped = int(found.word("maptype", "1"))
    if mapped not in (1, 2):
        raise ValueError(f"maptype {mapped} is not read, only 1 and 2")
    direct = found.word("posfiletype", "C").upper() == "D"
    tensors = found.word("do_jtensor", "0") == "1"
    total: dict[tuple[int, int, int, int, int], np.ndarray] = {}
    first = 2 * sites.width
    for keyword, width in _TABLES.items():
        width = 9 if keyword == "exchange" and tensors else width
        # Symmetry operations turn vectors, and not what belongs to them.
        own = _symmetry(found) if width == 1 else np.eye(3)[None]
        rows = Rows(found.path.parent / found.word(keyword, keyword), both_ends=True)
        for row in found.table(keyword):
            # Both sites, then the species of both.
            i, j = (sites.index(row[k:first:2], rows.path.name) for k in (0, 1))
            vector = np.array([float(x) for x in row[first : first + 3]])
            values = np.array([float(x) for x in row[first + 3 : first + 3 + width]])
            if len(values) != width:
                raise ValueError(
                    f"a line of {rows.path.name} has {len(row)} columns, not "
                    f"{first + 3 + width}"
                )
            if mapped == 2:
                vector = vector @ cell + places[j] - places[i]
            elif direct:
                vector = vector @ cell
            for turned in np.unique(np.round(own @ vector, 10), axis=0):
                _spread(rows, places, cell, sites.types, (i, j), turned, values)
        for bond, values in rows.values.items():
            sum_of = total.setdefault(bond, np.zeros(10))
            sum_of += _as_tensor(keyword, values, dm_sign)
    everything = Rows(found.path, both_ends=True)
    squares = any(values[9] for values in total.values())
    for bond, values in total.items():
        i, j, *shift = bond
        everything.add(i, j, shift, 2.0 * MRY * (values if squares else values[:9]))
    if not total:
        raise ValueError("it names no exchange file, or an empty one")
    return everything


def _spread(
    rows: Rows,
    places: np.ndarray,
    cell: np.ndarray,
    types: np.ndarray,
    pair: tuple[int, int],
    vector: np.ndarray,
    values: np.ndarray,
) -> None:
    """Add the bonds along a vector from all sites of the type of the first.

    Raises
    ------
    ValueError
        If there is no atom at the end of any of them.
    """
    inverse = np.linalg.inv(cell)
    ends = np.flatnonzero(types == types[pair[1]])
    any_found = False
    for start in np.flatnonzero(types == types[pair[0]]):
        scaled = (places[start] + vector - places[ends]) @ inverse
        off = np.abs(scaled - np.rint(scaled)).max(axis=1)
        if off.min() < _SAME_PLACE:
            end = int(off.argmin())
            rows.add(
                int(start), int(ends[end]), np.rint(scaled[end]).astype(int), values
            )
            any_found = True
    if not any_found:
        raise ValueError(
            f"{rows.path.name}: there is no atom at the end of the bond {pair[0] + 1} "
            f"{pair[1] + 1} along ({numbers(vector, '.4g')})"
        )


def _as_tensor(keyword: str, values: np.ndarray, dm_sign: int) -> np.ndarray:
    """Return a tensor and the biquadratic number behind it, (10,), mRy."""
    found = np.zeros(10)
    if keyword == "dm":
        found[:9] = dm_sign * np.einsum("c,cab->ab", values, LEVI_CIVITA).ravel()
    elif keyword == "pd":
        xx, yy, zz, xy, xz, yz = values
        found[:9] = xx, xy, xz, xy, yy, yz, xz, yz, zz
    elif keyword == "bq":
        found[9] = values[0]
    elif len(values) == 9:
        found[:9] = values
    else:
        found[:9] = values[0] * np.eye(3).ravel()
    return found


def _symmetry(found: _Input) -> np.ndarray:
    """Return the operations (P, 3, 3) of ``Sym``: none, cubic, square, hexagonal."""
    kind = int(found.word("sym", "0"))
    if kind == 0:
        return np.eye(3)[None]
    signs = [np.diag(s) for s in itertools.product((1.0, -1.0), repeat=3)]
    if kind in (1, 2):
        orders = list(itertools.permutations(range(3)))
        if kind == 2:
            orders = [order for order in orders if order[2] == 2]
            signs = [s for s in signs if s[2, 2] > 0]
        return np.array([s @ np.eye(3)[list(o)] for o in orders for s in signs])
    if kind == 3:
        angles = np.arange(6) * np.pi / 3.0
        turns = [
            np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
            for a in angles
        ]
        mirrors = [np.diag([1.0, y, z]) for y in (1, -1) for z in (1, -1)]
        return np.array([turn @ mirror for turn in turns for mirror in mirrors])
    raise ValueError(f"Sym {kind} is not read, only 0 to 3")


def _moments(found: _Input, sites: _Sites) -> np.ndarray:
    """Return the moments (N, 3) of ``momfile``, mu_B."""
    moments = np.zeros((len(sites.atoms), 3))
    for row in found.table("momfile"):
        site, values = sites.index(row, "momfile"), [float(x) for x in row[2:6]]
        if len(values) != 4:
            raise ValueError(f"momfile: cannot read the line {' '.join(row)!r}")
        direction = np.array(values[1:])
        length = np.linalg.norm(direction)
        if length == 0:
            raise ValueError(f"momfile: the moment of site {row[0]} has no direction")
        moments[site] = values[0] * direction / length
    return moments


def _anisotropies(found: _Input, sites: _Sites) -> tuple[np.ndarray, np.ndarray]:
    """Return A (N, 3, 3) and cubic K1, K2 (N, 2) of ``kfile``, eV."""
    count = len(sites.atoms)
    onsite, cubic = np.zeros((count, 3, 3)), np.zeros((count, 2))
    for row in found.table("anisotropy"):
        site, rest = sites.index(row, "kfile"), row[sites.width :]
        kind, (K1, K2, *axis) = int(rest[0]), (float(x) for x in rest[1:6])
        if kind == 2:
            cubic[site] = MRY * K1, MRY * K2
        elif kind == 1 and K2 == 0.0:
            n = np.array(axis) / (np.linalg.norm(axis) or 1.0)
            onsite[site] = -MRY * K1 * np.outer(n, n)
        elif kind != 0:
            raise ValueError(
                f"kfile: anisotropy of type {kind} with K2 = {K2:g} is not read, only "
                "uniaxial of second order (1) and cubic (2)"
            )
    return onsite, cubic


def write_uppasd(
    model: BondHamiltonian | HasBonds, folder: PathLike, *, dm_sign: Literal[-1, 1] = -1
) -> None:
    """Write ``inpsd.dat``, ``posfile``, ``momfile``, ``jfile``, ... for UppASD.

    ``dmfile``, ``pdfile`` (symmetric anisotropic part) and ``bqfile`` are written where
    they are not zero, ``kfile`` where there is anisotropy. Temperatures and steps
    in ``inpsd.dat`` are a template; elements are noted in a comment. Signs and factors
    are those of the sources; UppASD was not run.

    Parameters
    ----------
    model : BondHamiltonian or ExchangeTensors
    folder : path
        Made if it is not there.
    dm_sign : {-1, 1}
        The sign of D.(e_i x e_j) in the energy of the version that will read the
        files; ``inpsd.dat`` says which was taken.

    Raises
    ------
    ValueError
        If an anisotropy has two axes, a site has uniaxial and cubic anisotropy or
        cubic axes that are not Cartesian, there are fields at single sites or
        derivatives, or ``folder`` has the name of a file.
    """
    require_folder(folder, ".dat")
    _check_sign(dm_sign)
    fold = wrapped_sites(model, alloys=True)
    model = fold.model
    refuse(model, "UppASD", "fields", "slopes")
    names = _Names.of(model)
    anisotropies = _kfile(fold, names)
    folder = Path(folder)
    make_folder(folder)
    sites = range(len(model.sites))
    shares = [f"{model.shares[k]:.10f} " if model.is_alloy else "" for k in model.sites]
    write_lines(
        folder / "posfile",
        [
            f"{names.places[k]} {names[k]} {shares[k]}{numbers(fold.fractional[k])}"
            for k in sites
        ],
    )
    write_lines(
        folder / "momfile",
        [
            f"{names.places[k]} {names.species[k]} {fold.lengths[k]:.10f} "
            f"{numbers(fold.directions[k])}"
            for k in sites
        ],
    )
    half = 0.5 / MRY
    symmetric = half * model.anisotropic
    tables = {
        "exchange jfile": half * model.isotropic[:, None],
        "dm dmfile": -dm_sign * half * model.dm,
        "pd pdfile": symmetric[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]],
        "bq bqfile": half * model.biquadratic[:, None],
    }
    sign = "-+"[dm_sign > 0]
    keywords = ["do_ralloy 1"] if model.is_alloy else []
    for keyword, values in tables.items():
        if keyword != "exchange jfile" and np.abs(values).max(initial=0.0) < 1e-9:
            continue
        if keyword.startswith("dm "):
            keywords.append(f"# For versions with E = {sign} D.(e_i x e_j):")
        keywords.append(keyword.replace(" ", " ./"))
        write_lines(
            folder / keyword.split()[1],
            [
                f"{names.of_bond(fold.i[p], fold.j[p])} "
                f"{' '.join(str(x) for x in fold.shift[p])} {numbers(values[p])}"
                for p in fold.order
            ],
        )
    if anisotropies:
        keywords.append("anisotropy ./kfile")
        write_lines(folder / "kfile", anisotropies)
    write_lines(folder / "inpsd.dat", _template(fold, keywords))


@dataclass(frozen=True)
class _Names:
    """What names the magnetic sites in files: their places, of alloys the species too.

    Attributes
    ----------
    places, species : (n,) integer arrays
        From one; species by place.
    """

    places: np.ndarray
    species: np.ndarray
    is_alloy: bool

    @classmethod
    def of(cls, model: BondHamiltonian) -> _Names:
        places = np.unique(model.places[model.sites], return_inverse=True)[1] + 1
        before = [int((places[:k] == place).sum()) for k, place in enumerate(places)]
        return cls(places, np.array(before, dtype=int) + 1, model.is_alloy)

    def __getitem__(self, k: int) -> str:
        """Return the name of a site in ``kfile``, and its kind in ``posfile``."""
        own = self.places[k], self.species[k]
        return " ".join(map(str, own if self.is_alloy else own[:1]))

    def of_bond(self, i: int, j: int) -> str:
        """Return the names of both ends: sites, then species."""
        ends = [self.places[i], self.places[j]]
        if self.is_alloy:
            ends += [self.species[i], self.species[j]]
        return " ".join(map(str, ends))


def _kfile(fold: WrappedSites, names: _Names) -> list[str]:
    """Return the lines of ``kfile``; none without anisotropy."""
    model, sites = fold.model, fold.model.sites
    K, n = uniaxial(model, "UppASD")
    cubic = model.cubic[sites]
    if (np.abs(K) > NEGLIGIBLE)[cubic.any(axis=1)].any():
        raise ValueError(
            "UppASD takes uniaxial or cubic anisotropy, not both at a site"
        )
    frames = model.cubic_axes[sites][cubic.any(axis=1)]
    if not np.allclose(frames, np.eye(3), atol=1e-6):
        raise ValueError("UppASD takes cubic anisotropy along the Cartesian axes only")
    if not cubic.any() and np.abs(K).max(initial=0.0) <= NEGLIGIBLE:
        return []
    return [
        f"{names[k]} 2 {numbers(cubic[k] / MRY)} 0.0 0.0 1.0 0.0"
        if cubic[k].any()
        else f"{names[k]} 1 {-K[k] / MRY:.10f} 0.0 {numbers(n[k])} 0.0"
        for k in range(len(sites))
    ]


def _template(fold: WrappedSites, files: Sequence[str]) -> list[str]:
    """Return the lines of ``inpsd.dat``."""
    atoms = fold.model.atoms
    boundary = " ".join("P" if periodic else "0" for periodic in atoms.pbc)
    cells = " ".join("12" if periodic else "1" for periodic in atoms.pbc)
    first, second, third = (numbers(row) for row in atoms.cell.array)
    return [
        "simid deepspin",
        f"# elements: {' '.join(fold.names)}",
        f"ncell {cells}",
        f"BC {boundary}",
        f"cell {first}",
        f"     {second}",
        f"     {third}",
        "Sym 0",
        "posfile ./posfile",
        "posfiletype D",
        "momfile ./momfile",
        *files,
        "maptype 2",
        "alat 1.0e-10",
        "Initmag 3",
        "ip_mode M",
        "ip_mcanneal 1",
        "10000 300 1.0e-16 0.3",
        "mode M",
        "temp 300",
        "mcNstep 50000",
        "do_avrg Y",
        "do_cumu Y",
    ]
