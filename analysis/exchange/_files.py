"""Exchange tensors for other codes of spin dynamics.

Ours is E = -sum_{i<j} e_i.J_ij.e_j - sum_i e_i.A_i.e_i with pairs once, in eV. What
each function writes instead is in its docstring. Only magnetic atoms are written,
in the cell, with lattice translations to match. What a format cannot hold is refused
unless it is negligible: fields everywhere, anisotropy where a code takes one axis for
each atom, or none, and symmetric anisotropic exchange in Spirit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms, units

from ..._files import atomic_write
from ._tensors import ExchangeTensors

#: An axis describes A if it leaves out no more than this fraction of it.
_BIAXIAL = 1e-3

#: Anisotropies and fields below this, eV, are none.
_NEGLIGIBLE = 1e-9

#: Symmetric anisotropic exchange below this fraction of J is none (Spirit takes none).
_SYMMETRIC = 1e-6

Path_ = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class WrappedSites:
    """Magnetic sites within the cell, and the translations of pairs to match.

    Attributes
    ----------
    names : list of str
        Elements of the sites.
    fractional : (n, 3) array
    shift : (P, 3) integer array
    i, j : (P,) integer arrays
        Sites, numbered from zero.
    """

    names: list[str]
    fractional: np.ndarray
    shift: np.ndarray
    i: np.ndarray
    j: np.ndarray


def wrapped_sites(exchange: ExchangeTensors) -> WrappedSites:
    """Move the magnetic sites into the cell, and the pairs with them.

    Raises
    ------
    ValueError
        If the cell has fewer than three lattice vectors.
    """
    atoms, pairs = exchange.atoms, exchange.blocks
    if atoms.cell.rank < 3:
        raise ValueError(
            "these formats need three lattice vectors; set atoms.cell, with vacuum "
            "where the structure is not periodic"
        )
    fractional = atoms.cell.scaled_positions(atoms.positions[exchange.sites])
    home = np.floor(fractional + 1e-9) * atoms.pbc
    shift = pairs.shift + (home[pairs.j] - home[pairs.i]).astype(int)
    names = [atoms.symbols[k] for k in exchange.sites]
    return WrappedSites(names, fractional - home, shift, pairs.i, pairs.j)


def _refuse_others(exchange: ExchangeTensors, code: str, *parts: str) -> None:
    """Raise ValueError if there are ``onsite`` or ``fields`` that a code does not hold.

    Parameters
    ----------
    exchange : ExchangeTensors
    code : str
        For the message.
    *parts : str
        Attributes that its files have no place for.
    """
    names = {"onsite": "on-site anisotropy", "fields": "fields at single sites"}
    for part in parts:
        largest = np.abs(getattr(exchange, part)).max(initial=0.0)
        if largest > _NEGLIGIBLE:
            raise ValueError(
                f"{code} takes no {names[part]}, and there is up to "
                f"{1e3 * largest:.4g} meV of it; to write the rest, give "
                f"dataclasses.replace(exchange, {part}=0 * exchange.{part})"
            )


def _axes(exchange: ExchangeTensors, code: str) -> tuple[np.ndarray, np.ndarray]:
    """Return K (n,), eV, and n (n, 3) with A = K (n n - 1/3).

    Raises
    ------
    ValueError
        If an A has no such axis.
    """
    strengths, axes = [], []
    for site, A in zip(exchange.sites, exchange.onsite, strict=True):
        values, vectors = np.linalg.eigh(A)
        gaps = np.diff(values)
        # The axis is across the pair of eigenvalues that are closer.
        own = 2 if gaps[1] > gaps[0] else 0
        rest = min(gaps)
        if rest > max(_BIAXIAL * max(gaps), _NEGLIGIBLE):
            raise ValueError(
                f"the anisotropy of atom {site} has two axes (eigenvalues "
                f"{', '.join(f'{1e3 * v:.4g}' for v in values)} meV); {code} takes "
                "one. Give dataclasses.replace(exchange, onsite=...) with what to keep"
            )
        strengths.append(1.5 * values[own])
        axes.append(vectors[:, own])
    return np.array(strengths), np.array(axes)


def _numbers(values: Sequence[float] | np.ndarray, form: str = ".10f") -> str:
    return " ".join(f"{x:{form}}" for x in np.ravel(values))


def _write(path: Path, lines: Sequence[str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tb2j(exchange: ExchangeTensors, path: Path_) -> None:
    """Write TB2J's ``exchange.out``, which magnopy reads too.

    TB2J: E = -sum_{i != j} [J e_i.e_j + e_i.J_ani.e_j + D.(e_i x e_j)], every pair
    twice, meV: numbers are half of ours. Moments are those of the reference state.
    magnopy 0.6.1 gets our energies from the file.

    Parameters
    ----------
    exchange : ExchangeTensors
    path : path

    Raises
    ------
    ValueError
        If there are on-site anisotropies or fields, which the file does not hold.
    """
    _refuse_others(exchange, "exchange.out of TB2J", "onsite", "fields")
    atoms = exchange.atoms
    fold = wrapped_sites(exchange)
    places = fold.fractional @ atoms.cell.array
    count: dict[str, int] = {}
    names = []
    for element in fold.names:
        count[element] = count.get(element, 0) + 1
        names.append(f"{element}{count[element]}")
    line, rule = "=" * 90, "-" * 88
    moments = exchange.lengths[:, None] * exchange.directions
    lines = [line, "Information:", "Exchange parameters written by deepspin-ase.", line]
    lines += ["Cell (Angstrom):", *(_numbers(row) for row in atoms.cell.array), ""]
    lines += [line, "Atoms:", "(Note: magnetic atoms only; moments in mu_B.)"]
    lines.append("Atom_number x y z w_charge M(x) M(y) M(z)")
    for name, place, moment in zip(names, places, moments, strict=True):
        lines.append(f"{name} {_numbers(place)} 0.0 {_numbers(moment)}")
    lines += [f"Total 0.0 {_numbers(moments.sum(axis=0))}", "", line, "Exchange:"]
    lines.append("i j R J_iso(meV) vector distance(A)")
    half = 0.5e3
    for p in np.argsort(exchange.distances, kind="stable"):
        J, D = half * exchange.isotropic[p], half * exchange.dm[p]
        R = ", ".join(str(n) for n in fold.shift[p])
        vector = ", ".join(f"{x:.8f}" for x in exchange.vectors[p])
        lines += [
            rule,
            f"{names[fold.i[p]]} {names[fold.j[p]]} ({R}) {J:.10f} ({vector}) "
            f"{exchange.distances[p]:.8f}",
            f"J_iso: {J:.10f}",
            f"[Testing!] DMI: ({_numbers(D)})",
            "[Testing!]J_ani:",
        ]
        rows = half * exchange.anisotropic[p]
        lines += [f"[[{_numbers(rows[0])}]", f" [{_numbers(rows[1])}]"]
        lines.append(f" [{_numbers(rows[2])}]]")
    _write(Path(path), lines)


def write_uppasd(
    exchange: ExchangeTensors, folder: Path_, *, dm_sign: Literal[-1, 1] = -1
) -> None:
    """Write ``inpsd.dat``, ``posfile``, ``momfile``, ``jfile``, ... for UppASD.

    UppASD: E = -sum_{i != j} [J e_i.e_j + D.(e_i x e_j) + e_i.J_ani.e_j] + sum_i K
    (e_i.n)^2, every pair twice, mRy: exchange is half of ours, K the opposite of
    ours. ``dmfile`` and ``pdfile`` (symmetric anisotropic part) are written where
    they are not zero, ``kfile`` where there is anisotropy. Temperatures and steps
    in ``inpsd.dat`` are a template.

    The sign of the Dzyaloshinskii-Moriya energy has changed: it is -D.(e_i x e_j) in
    the sources from 2023-05-25 on, release 6.0.2 among them, and +D.(e_i x e_j) before
    and, in the development branch, again since 2026-07-31. Signs and factors are
    those of the sources; UppASD was not run.

    Parameters
    ----------
    exchange : ExchangeTensors
    folder : path
        Made if it is not there.
    dm_sign : {-1, 1}
        The sign of D.(e_i x e_j) in the energy of the version that will read the
        files; ``inpsd.dat`` says which was taken.

    Raises
    ------
    ValueError
        If an anisotropy has two axes, or there are fields at single sites.
    """
    if dm_sign not in (-1, 1):
        raise ValueError(f"dm_sign must be -1 or 1, got {dm_sign!r}")
    _refuse_others(exchange, "UppASD", "fields")
    folder = Path(folder)
    fold, atoms = wrapped_sites(exchange), exchange.atoms
    K, n = _axes(exchange, "UppASD")
    folder.mkdir(parents=True, exist_ok=True)
    to_mRy = 1e3 / units.Ry
    sites = range(len(exchange.sites))
    _write(
        folder / "posfile",
        [f"{k + 1} {k + 1} {_numbers(fold.fractional[k])}" for k in sites],
    )
    _write(
        folder / "momfile",
        [
            f"{k + 1} 1 {exchange.lengths[k]:.10f} {_numbers(exchange.directions[k])}"
            for k in sites
        ],
    )
    symmetric = 0.5 * to_mRy * exchange.anisotropic
    tables = {
        "exchange jfile": 0.5 * to_mRy * exchange.isotropic[:, None],
        "dm dmfile": -dm_sign * 0.5 * to_mRy * exchange.dm,
        "pd pdfile": symmetric[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]],
    }
    order = np.argsort(exchange.distances, kind="stable")
    sign = "-+"[dm_sign > 0]
    keywords = []
    for keyword, values in tables.items():
        if keyword != "exchange jfile" and np.abs(values).max(initial=0.0) < 1e-9:
            continue
        if keyword.startswith("dm "):
            keywords.append(f"# For versions with E = {sign} D.(e_i x e_j):")
        keywords.append(keyword.replace(" ", " ./"))
        _write(
            folder / keyword.split()[1],
            [
                f"{fold.i[p] + 1} {fold.j[p] + 1} "
                f"{' '.join(str(x) for x in fold.shift[p])} {_numbers(values[p])}"
                for p in order
            ],
        )
    if np.abs(K).max() > _NEGLIGIBLE:
        keywords.append("anisotropy ./kfile")
        _write(
            folder / "kfile",
            [
                f"{k + 1} 1 {-to_mRy * K[k]:.10f} 0.0 {_numbers(n[k])} 0.0"
                for k in sites
            ],
        )
    _write(folder / "inpsd.dat", _uppasd_input(atoms, keywords))


def _uppasd_input(atoms: Atoms, files: Sequence[str]) -> list[str]:
    """Return the lines of ``inpsd.dat``."""
    boundary = " ".join("P" if periodic else "0" for periodic in atoms.pbc)
    cells = " ".join("12" if periodic else "1" for periodic in atoms.pbc)
    first, second, third = (_numbers(row) for row in atoms.cell.array)
    return [
        "simid deepspin",
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


def write_vampire(exchange: ExchangeTensors, folder: Path_) -> None:
    """Write ``vampire.UCF``, ``vampire.mat`` and an ``input`` for VAMPIRE.

    VAMPIRE: E = -1/2 sum_{i != j} e_i.J_ij.e_j - sum_i K (e_i.n)^2, every pair
    listed from both ends, joule: numbers are ours. Every site is a separate
    material, which ``unit-cell-category`` ties to it (VAMPIRE 6 makes all sites one
    material without). VAMPIRE places atoms in orthogonal cells only: of other cells,
    exchange is right and positions are not. Keywords are those of the sources of
    VAMPIRE 6; it was not run.

    Parameters
    ----------
    exchange : ExchangeTensors
    folder : path
        Made if it is not there.

    Raises
    ------
    ValueError
        If an anisotropy has two axes, or there are fields at single sites.
    """
    _refuse_others(exchange, "VAMPIRE", "fields")
    folder = Path(folder)
    fold, atoms = wrapped_sites(exchange), exchange.atoms
    K, n = _axes(exchange, "VAMPIRE")
    folder.mkdir(parents=True, exist_ok=True)
    lengths = atoms.cell.lengths()
    count = len(exchange.sites)
    lines = ["# Unit cell size (Angstrom):", _numbers(lengths), "# Unit cell vectors:"]
    lines += [_numbers(row) for row in atoms.cell.array / lengths[:, None]]
    lines += ["# Atoms num_atoms num_materials; id cx cy cz mat", f"{count} {count}"]
    lines += [f"{k} {_numbers(fold.fractional[k])} {k}" for k in range(count)]
    order = np.argsort(exchange.distances, kind="stable")
    lines += ["# Interactions; id i j dx dy dz Jxx ... Jzz (J)"]
    lines.append(f"{len(order)} tensorial")
    for number, p in enumerate(order):
        shift = " ".join(str(x) for x in fold.shift[p])
        tensor = _numbers(exchange.tensors[p] / units.J, ".10e")
        lines.append(f"{number} {fold.i[p]} {fold.j[p]} {shift} {tensor}")
    _write(folder / "vampire.UCF", lines)
    _write(folder / "vampire.mat", _vampire_materials(exchange, fold.names, K, n))
    _write(folder / "input", _vampire_input(atoms))


def _vampire_materials(
    exchange: ExchangeTensors, names: Sequence[str], K: np.ndarray, n: np.ndarray
) -> list[str]:
    """Return the lines of ``vampire.mat``."""
    lines = [f"material:num-materials={len(names)}"]
    for k, name in enumerate(names):
        direction = ",".join(f"{x:.10f}" for x in exchange.directions[k])
        axis = ",".join(f"{x:.10f}" for x in n[k])
        properties = {
            "material-name": f"{name}{k + 1}",
            "material-element": name,
            "unit-cell-category": str(k + 1),
            "damping-constant": "0.1",
            "atomic-spin-moment": f"{exchange.lengths[k]:.10f} !muB",
            "initial-spin-direction": direction,
            "uniaxial-anisotropy-constant": f"{K[k] / units.J:.10e}",
            "uniaxial-anisotropy-direction": axis,
        }
        lines += [f"material[{k + 1}]:{key}={v}" for key, v in properties.items()]
    return lines


def _vampire_input(atoms: Atoms) -> list[str]:
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


def write_spirit(exchange: ExchangeTensors, path: Path_) -> None:
    """Write an input file (``.cfg``) for Spirit.

    Spirit: E = -sum_{<ij>} [J e_i.e_j + D.(e_i x e_j)] - sum_i K (e_i.n)^2, pairs
    once, meV: numbers are ours. It has no symmetric anisotropic exchange. Spirit 2.2.0
    gets our energies from the file.

    Parameters
    ----------
    exchange : ExchangeTensors
    path : path

    Raises
    ------
    ValueError
        If an anisotropy has two axes, or there are fields at single sites or symmetric
        anisotropic exchange.
    """
    _refuse_others(exchange, "Spirit", "fields")
    fold, atoms = wrapped_sites(exchange), exchange.atoms
    K, n = _axes(exchange, "Spirit")
    largest = np.abs(exchange.isotropic).max(initial=0.0)
    if np.abs(exchange.anisotropic).max(initial=0.0) > _SYMMETRIC * largest:
        raise ValueError(
            "Spirit takes no symmetric anisotropic exchange, and that of these tensors "
            f"reaches {1e3 * np.abs(exchange.anisotropic).max():.3g} meV"
        )
    count = len(exchange.sites)
    cells = " ".join("12" if periodic else "1" for periodic in atoms.pbc)
    lines = ["hamiltonian heisenberg_pairs", "bravais_vectors"]
    lines += [_numbers(row) for row in atoms.cell.array]
    lines += ["lattice_constant 1.0", "basis", str(count)]
    lines += [_numbers(row) for row in fold.fractional]
    lines += [f"mu_s {_numbers(exchange.lengths)}", f"n_basis_cells {cells}"]
    lines.append(f"boundary_conditions {_numbers(atoms.pbc.astype(int), 'd')}")
    lines += ["external_field_magnitude 0.0", "ddi_method none"]
    lines += [f"n_anisotropy {count}", "i K Kx Ky Kz"]
    lines += [f"{k} {1e3 * K[k]:.10f} {_numbers(n[k])}" for k in range(count)]
    # One of the two ways to list each pair.
    once = [
        p
        for p in np.argsort(exchange.distances, kind="stable")
        if (fold.i[p], *(-fold.shift[p])) <= (fold.j[p], *fold.shift[p])
    ]
    lines += [f"n_interaction_pairs {len(once)}"]
    lines.append("i j da db dc Jij Dij Dijx Dijy Dijz")
    for p in once:
        D = 1e3 * exchange.dm[p]
        lines.append(
            f"{fold.i[p]} {fold.j[p]} {_numbers(fold.shift[p], 'd')} "
            f"{1e3 * exchange.isotropic[p]:.10f} {np.linalg.norm(D):.10f} {_numbers(D)}"
        )
    _write(Path(path), lines)
