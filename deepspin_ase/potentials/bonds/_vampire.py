"""Unit-cell files (``.ucf``) and materials (``.mat``) of VAMPIRE.

VAMPIRE: E = -1/2 sum_{i != j} e_i.J_ij.e_j - sum_i K (e_i.n)^2, every pair listed from
both ends, joule: numbers are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers
from numpy.typing import ArrayLike

from ..._files import make_folder, reading
from ._hamiltonian import BondHamiltonian
from ._tables import (
    HasBonds,
    PathLike,
    Rows,
    numbers,
    refuse,
    require_folder,
    uniaxial,
    with_moments,
    wrapped_sites,
    write_lines,
)

EXPECTED = "a unit-cell file of VAMPIRE"

#: Numbers of a bond by kind of exchange, old (a number) and new (a name).
_KINDS = {
    "0": 1,
    "1": 3,
    "2": 9,
    "isotropic": 1,
    "vectorial": 3,
    "tensorial": 9,
}

#: Units of energies behind an exclamation mark.
_UNITS = {"j": units.J, "j/link": units.J, "j/atom": units.J, "": units.J}
_UNITS |= {"ev": 1.0, "mev": 1e-3, "ev/atom": 1.0, "mev/atom": 1e-3}

_MATERIAL = re.compile(r"material\[(\d+)\]\s*:\s*([\w-]+)(?:\[\d+\])?\s*=\s*(.*)")


def recognizes(path: Path) -> bool:
    """Return whether a path is a unit-cell file, or a folder that holds one."""
    return path.suffix.lower() == ".ucf" or len(_unit_cells(path)) == 1


def _unit_cells(folder: Path) -> list[Path]:
    """Return the unit-cell files in a folder, none where it is no folder."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(path for path in found if path.suffix.lower() == ".ucf")


def read_vampire(
    path: PathLike,
    *,
    materials: PathLike | None = None,
    elements: str | Sequence[str] | None = None,
    moments: ArrayLike | None = None,
) -> BondHamiltonian:
    """Read a unit-cell file of VAMPIRE, with moments and anisotropies of its materials.

    Isotropic, vectorial (diagonal) and tensorial exchange; not exchange that is
    normalized by that of materials. Directions of moments are ``initial-spin-
    direction``, z without.

    Parameters
    ----------
    path : path
        The ``.ucf``, or the folder that holds it and no other.
    materials : path, optional
        The ``.mat``; by default the only one in the folder.
    elements : str or sequence of str, optional
        Of the sites, instead of ``material-element``.
    moments : (N,) or (N, 3) array, mu_B, optional
        Instead of those of the materials.

    Raises
    ------
    ValueError
        If there are no materials, or one lacks its element or moment, a unit is
        unknown, the file is damaged, or a folder holds none or several.

    Warns
    -----
    ExchangeTableWarning
        If bonds are listed from one end only, or from both with different numbers.
    """
    path = Path(path)
    if path.is_dir():
        cells = _unit_cells(path)
        if len(cells) != 1:
            raise ValueError(
                f"the folder {path} holds {len(cells)} .ucf files: name the one to read"
            )
        path = cells[0]
    with reading(path, EXPECTED):
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = [re.split(r"#", line)[0].split() for line in text.splitlines()]
        lines = [line for line in lines if line]
        size = np.array([float(x) for x in lines[0][:3]])
        shape = np.array([[float(x) for x in line[:3]] for line in lines[1:4]])
        cell = size[:, None] * shape
        count = int(lines[4][0])
        sites = lines[5 : 5 + count]
        places = np.array([[float(x) for x in row[1:4]] for row in sites])
        own = [int(row[4]) if len(row) > 4 else 0 for row in sites]
        head = lines[5 + count]
        kind = head[1].lower() if len(head) > 1 else "isotropic"
        if kind not in _KINDS:
            raise ValueError(
                f"exchange of type {kind} is not read, only isotropic, vectorial and "
                "tensorial"
            )
        rows = Rows(path, both_ends=True)
        listed = lines[6 + count :]
        if len(listed) != int(head[0]):
            raise ValueError(
                f"it announces {head[0]} interactions and lists {len(listed)}"
            )
        for line in listed:
            i, j, *shift = (int(x) for x in line[1:6])
            if not (0 <= i < count and 0 <= j < count):
                raise ValueError(f"a bond joins the sites {i} and {j} of {count}")
            values = [units.J * float(x) for x in line[6:]]
            rows.add(i, j, shift, _tensor(values, _KINDS[kind]))
        found = _materials(path, materials)
        symbols, spins, onsite = _of_materials(found, own, elements, moments)
        atoms = Atoms(symbols, scaled_positions=places, cell=cell, pbc=True)
        with_moments(atoms, spins, rows, moments)
    return rows.potential(atoms, onsite=onsite)


def _tensor(values: list[float], width: int) -> np.ndarray:
    if len(values) != width:
        raise ValueError(f"a bond has {len(values)} numbers instead of {width}")
    if width == 9:
        return np.array(values).reshape(3, 3)
    return np.diag(values if width == 3 else 3 * values)


def _materials(path: Path, given: PathLike | None) -> dict[int, dict[str, str]]:
    """Return the properties of materials by their numbers, from 0."""
    if given is None:
        there = sorted(path.parent.glob("*.mat"))
        if len(there) != 1:
            return {}
        given = there[0]
    found: dict[int, dict[str, str]] = {}
    text = Path(given).read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        match = _MATERIAL.match(re.split(r"#", line)[0].strip())
        if match is not None:
            number, key, value = match.groups()
            found.setdefault(int(number) - 1, {})[key] = value.strip()
    return found


def _of_materials(
    found: dict[int, dict[str, str]],
    own: Sequence[int],
    elements: str | Sequence[str] | None,
    moments: ArrayLike | None,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return elements, moments (n, 3), mu_B, and A (n, 3, 3), eV, of sites."""
    if elements is not None:
        given = [elements] * len(own) if isinstance(elements, str) else list(elements)
        if len(given) != len(own):
            raise ValueError(f"elements has {len(given)} symbols, for {len(own)} sites")
    symbols, spins, onsite = [], [], []
    for site, material in enumerate(own):
        values = found.get(material, {})
        symbol = values.get("material-element", "") if elements is None else given[site]
        if symbol not in atomic_numbers or symbol == "X":
            raise ValueError(
                f"the element of material {material + 1} is not known: give materials, "
                "the .mat file, or elements"
            )
        symbols.append(symbol)
        length, _ = _quantity(values.get("atomic-spin-moment", "0"))
        if length == 0.0 and moments is None:
            raise ValueError(
                f"the moment of material {material + 1} is not known: give materials, "
                "the .mat file, or moments"
            )
        spins.append(length * _direction(values.get("initial-spin-direction")))
        K, unit = _quantity(values.get("uniaxial-anisotropy-constant", "0"))
        if unit not in _UNITS:
            raise ValueError(f"the unit {unit!r} of an anisotropy is not known")
        n = _direction(values.get("uniaxial-anisotropy-direction"))
        onsite.append(K * _UNITS[unit] * np.outer(n, n))
    return symbols, np.array(spins), np.array(onsite)


def _quantity(text: str) -> tuple[float, str]:
    """Return a number and the unit behind an exclamation mark."""
    value, _, unit = text.partition("!")
    return float(value), unit.strip().lower()


def _direction(text: str | None) -> np.ndarray:
    """Return a unit vector; z for None and for words such as ``random``."""
    try:
        vector = np.array([float(x) for x in (text or "").split("!")[0].split(",")])
    except ValueError:
        vector = np.zeros(3)
    if vector.shape != (3,) or not vector.any():
        return np.array([0.0, 0.0, 1.0])
    return vector / np.linalg.norm(vector)


def write_vampire(model: BondHamiltonian | HasBonds, folder: PathLike) -> None:
    """Write ``vampire.UCF``, ``vampire.mat`` and an ``input`` for VAMPIRE.

    Every site is a separate material, which ``unit-cell-category`` ties to it (VAMPIRE
    6 makes all sites one material without). VAMPIRE places atoms in orthogonal cells
    only: of other cells, exchange is right and positions are not. Keywords are those of
    the sources of VAMPIRE 6; it was not run.

    Parameters
    ----------
    model : BondHamiltonian or ExchangeTensors
    folder : path
        Made if it is not there.

    Raises
    ------
    ValueError
        If an anisotropy has two axes, or there are fields at single sites, biquadratic
        or cubic terms or derivatives, or ``folder`` has the name of a file.
    """
    require_folder(folder, ".ucf", ".mat")
    fold = wrapped_sites(model)
    model = fold.model
    refuse(model, "VAMPIRE", "fields", "biquadratic", "cubic", "slopes")
    K, n = uniaxial(model, "VAMPIRE")
    folder = Path(folder)
    make_folder(folder)
    atoms = model.atoms
    lengths = atoms.cell.lengths()
    count = len(fold.names)
    lines = ["# Unit cell size (Angstrom):", numbers(lengths), "# Unit cell vectors:"]
    lines += [numbers(row) for row in atoms.cell.array / lengths[:, None]]
    lines += ["# Atoms num_atoms num_materials; id cx cy cz mat", f"{count} {count}"]
    lines += [f"{k} {numbers(fold.fractional[k])} {k}" for k in range(count)]
    lines += ["# Interactions; id i j dx dy dz Jxx ... Jzz (J)"]
    lines.append(f"{len(fold.order)} tensorial")
    for number, p in enumerate(fold.order):
        shift = " ".join(str(x) for x in fold.shift[p])
        tensor = numbers(model.tensors[p] / units.J, ".10e")
        lines.append(f"{number} {fold.i[p]} {fold.j[p]} {shift} {tensor}")
    write_lines(folder / "vampire.UCF", lines)
    lines = [f"material:num-materials={count}"]
    for k, name in enumerate(fold.names):
        properties = {
            "material-name": f"{name}{k + 1}",
            "material-element": name,
            "unit-cell-category": str(k + 1),
            "damping-constant": "0.1",
            "atomic-spin-moment": f"{fold.lengths[k]:.10f} !muB",
            "initial-spin-direction": numbers(fold.directions[k]).replace(" ", ","),
            "uniaxial-anisotropy-constant": f"{K[k] / units.J:.10e}",
            "uniaxial-anisotropy-direction": numbers(n[k]).replace(" ", ","),
        }
        lines += [f"material[{k + 1}]:{key}={v}" for key, v in properties.items()]
    write_lines(folder / "vampire.mat", lines)
    write_lines(folder / "input", _template(atoms))


def _template(atoms: Atoms) -> list[str]:
    """Return the lines of ``input``."""
    axes = list(zip("xyz", atoms.cell.lengths(), atoms.pbc, strict=True))
    return [
        *(f"create:periodic-boundaries-{axis}" for axis, _, on in axes if on),
        "material:file=vampire.mat",
        'material:unit-cell-file="vampire.UCF"',
        *(
            f"dimensions:system-size-{axis}={12 * x if on else x:.6f} !A"
            for axis, x, on in axes
        ),
        "sim:temperature=300",
        "sim:equilibration-time-steps=10000",
        "sim:loop-time-steps=10000",
        "sim:program=time-series",
        "sim:integrator=monte-carlo",
        "output:temperature",
        "output:mean-magnetisation-length",
    ]
