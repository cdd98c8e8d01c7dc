"""What files of exchange tables have in common: text, sites, what a format lacks."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import ArrayLike

from ..._files import atomic_write
from ...spins import get_spins, set_spins
from ._bonds import averaged_ends
from ._hamiltonian import BondHamiltonian

PathLike: TypeAlias = str | os.PathLike[str]

#: An axis describes A if it leaves out no more than this fraction of it.
_BIAXIAL = 1e-3

#: Energies below this, eV, are none.
NEGLIGIBLE = 1e-9

#: Ends of a bond that differ by more than this fraction of the largest tensor are worth
#: a warning: less is noise of the calculation.
_NOISE = 1e-3


class ExchangeTableWarning(UserWarning):
    """Something in an exchange table was completed, averaged or left out."""


class HasBonds(Protocol):
    """What can be written as bonds, such as ExchangeTensors."""

    def potential(self) -> BondHamiltonian:
        """Return the bonds."""


def as_bonds(model: BondHamiltonian | HasBonds) -> BondHamiltonian:
    """Return the bonds of a model.

    Raises
    ------
    TypeError
        If it has none.
    """
    if isinstance(model, BondHamiltonian):
        return model
    if not hasattr(model, "potential"):
        raise TypeError(
            "expected a BondHamiltonian or ExchangeTensors, got "
            f"{type(model).__name__}; of other potentials take exchange_tensors(atoms)"
        )
    return model.potential()


# Writing


@dataclass(frozen=True, eq=False)
class WrappedSites:
    """Magnetic sites within the cell, and the translations of bonds to match.

    Attributes
    ----------
    model : BondHamiltonian
    names : list of str
        Elements of the sites.
    fractional : (n, 3) array
    lengths : (n,) array, mu_B
    directions : (n, 3) array
        Unit vectors along the moments of the reference state; z where there is none.
    shift : (P, 3) integer array
    i, j : (P,) integer arrays
        Sites, numbered from zero.
    order : (P,) integer array
        The bonds by distance.
    """

    model: BondHamiltonian
    names: list[str]
    fractional: np.ndarray
    lengths: np.ndarray
    directions: np.ndarray
    shift: np.ndarray
    i: np.ndarray
    j: np.ndarray
    order: np.ndarray

    @property
    def once(self) -> list[int]:
        """Bonds by distance, each from one of its ends."""
        return [
            int(p)
            for p in self.order
            if (self.i[p], *(-self.shift[p])) <= (self.j[p], *self.shift[p])
        ]


def wrapped_sites(
    model: BondHamiltonian | HasBonds, *, alloys: bool = False
) -> WrappedSites:
    """Move the magnetic sites into the cell, and the bonds with them.

    Raises
    ------
    ValueError
        If the cell has fewer than three lattice vectors, or sites share places and
        not ``alloys``.
    """
    model = as_bonds(model)
    if model.is_alloy and not alloys:
        raise ValueError(
            "this format knows no alloys, whose sites share places or are empty in "
            "part: write one structure, `h.on(h.disordered(h.parent.repeat(4), seed))`"
        )
    atoms, sites = model.atoms, model.sites
    if atoms.cell.rank < 3:
        raise ValueError(
            "these formats need three lattice vectors; set atoms.cell, with vacuum "
            "where the structure is not periodic"
        )
    number = np.full(len(atoms), -1)
    number[sites] = np.arange(len(sites))
    i, j = number[model.i], number[model.j]
    fractional = atoms.cell.scaled_positions(atoms.positions[sites])
    home = np.floor(fractional + 1e-9) * atoms.pbc
    shift = model.shift + (home[j] - home[i]).astype(int)
    spins = get_spins(atoms)[sites]
    lengths = np.linalg.norm(spins, axis=1)
    z = np.array([0.0, 0.0, 1.0])
    directions = np.where(
        lengths[:, None] > 0, spins / np.maximum(lengths, 1e-300)[:, None], z
    )
    order = np.argsort(np.round(model.distances, 6), kind="stable")
    names = [atoms.symbols[k] for k in sites]
    return WrappedSites(
        model, names, fractional - home, lengths, directions, shift, i, j, order
    )


def require_folder(path: PathLike, *suffixes: str) -> None:
    """Raise ValueError if what is to be a folder has the name of a file in it."""
    path = Path(path)
    if path.suffix.lower() in suffixes:
        raise ValueError(
            f"{path} is the name of a file, and several are written: give their folder"
        )


def refuse(model: BondHamiltonian, code: str, *parts: str) -> None:
    """Raise ValueError if there is something that a code's files do not hold.

    Parameters
    ----------
    model : BondHamiltonian
    code : str
        For the message.
    *parts : str
        Attributes that its files have no place for.
    """
    names = {
        "onsite": "on-site anisotropy",
        "fields": "fields at single sites",
        "biquadratic": "biquadratic exchange",
        "cubic": "cubic anisotropy",
        "slopes": "derivatives of exchange by distance",
    }
    for part in parts:
        largest = np.abs(getattr(model, part)).max(initial=0.0)
        if largest > NEGLIGIBLE:
            unit = "meV/A" if part == "slopes" else "meV"
            raise ValueError(
                f"{code} takes no {names[part]}, and there is up to "
                f"{1e3 * largest:.4g} {unit} of it; to write the rest, give the "
                f"BondHamiltonian's changed({part}=None)"
            )


def uniaxial(model: BondHamiltonian, code: str) -> tuple[np.ndarray, np.ndarray]:
    """Return K (n,), eV, and n (n, 3) of the magnetic sites with A = K n n + const.

    Raises
    ------
    ValueError
        If an A has no such axis.
    """
    strengths, axes = [], []
    for site in model.sites:
        values, vectors = np.linalg.eigh(model.onsite[site])
        gaps = np.diff(values)
        # The axis is across the pair of eigenvalues that are closer.
        own = 2 if gaps[1] > gaps[0] else 0
        rest = min(gaps)
        if rest > max(_BIAXIAL * max(gaps), NEGLIGIBLE):
            raise ValueError(
                f"the anisotropy of atom {site} has two axes (eigenvalues "
                f"{', '.join(f'{1e3 * v:.4g}' for v in values)} meV); {code} takes "
                "one. Give the BondHamiltonian's changed(onsite=...) with what to keep"
            )
        strengths.append(values[own] - np.delete(values, own).mean())
        axes.append(vectors[:, own])
    return np.array(strengths), np.array(axes)


def numbers(values: Sequence[float] | np.ndarray, form: str = ".10f") -> str:
    """Return numbers as text, separated by blanks."""
    return " ".join(f"{x:{form}}" for x in np.ravel(values))


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


# Reading


def element_of(name: str, path: Path) -> str:
    """Return the element of a name such as ``Fe1`` or ``fe_up``.

    Raises
    ------
    ValueError
        If it does not begin with one.
    """
    letters = re.match(r"[A-Za-z]{0,2}", name)
    given = "" if letters is None else letters.group()
    for length in (2, 1):
        symbol = given[:length].capitalize()
        if len(symbol) == length and symbol in atomic_numbers:
            return symbol
    raise ValueError(
        f"{path}: the name {name!r} of a site does not begin with an element"
    )


def elements_of(
    given: str | Sequence[str] | None, noted: Sequence[str], count: int, path: Path
) -> list[str]:
    """Return the elements of ``count`` sites: as given, or as noted in a file.

    Raises
    ------
    ValueError
        If neither says them.
    """
    if given is None and not noted:
        raise ValueError(
            f"{path} does not say of which elements its {count} sites are: give "
            "elements, one symbol or one for each site"
        )
    found = [given] * count if isinstance(given, str) else list(given or noted)
    if len(found) != count:
        raise ValueError(f"elements has {len(found)} symbols, {path} {count} sites")
    for symbol in found:
        if symbol not in atomic_numbers or symbol == "X":
            raise ValueError(f"unknown element {symbol!r}")
    return found


@dataclass
class Rows:
    """Bonds as they are collected from a file: sites, translations and numbers.

    Attributes
    ----------
    path : Path
        For messages.
    both_ends : bool
        Whether the format lists every bond from both of its ends.
    """

    path: Path
    both_ends: bool

    def __post_init__(self) -> None:
        self.values: dict[tuple[int, int, int, int, int], np.ndarray] = {}

    def add(self, i: int, j: int, shift: Iterable[int], tensor: ArrayLike) -> None:
        """Add a tensor (3, 3), or further numbers behind it (k,), eV.

        Raises
        ------
        ValueError
            If the bond is there already with other numbers.
        """
        a, b, c = (int(x) for x in shift)
        bond = int(i), int(j), a, b, c
        values = np.ravel(np.asarray(tensor, dtype=float))
        known = self.values.setdefault(bond, values)
        if not np.allclose(known, values, rtol=1e-9, atol=1e-15):
            raise ValueError(
                f"{self.path} lists the bond {i}-{j} ({a}, {b}, {c}) twice, with "
                "different numbers; keep one of them, or their sum"
            )

    def leave_out(self, what: str) -> None:
        """Warn that something in the file was not read."""
        warnings.warn(
            f"{self.path}: {what} were not read", ExchangeTableWarning, stacklevel=4
        )

    def set_pbc(
        self, atoms: Atoms, periodic: Sequence[bool], cells: Sequence[int]
    ) -> None:
        """Make the crystal periodic, also where several cells have open ends.

        These are cut from a crystal, if bonds go from one to the next.
        """
        beyond = np.array([bond[2:] for bond in self.values]).reshape(-1, 3).any(axis=0)
        cut = ~np.array(periodic) & beyond & (np.array(cells) > 1)
        atoms.pbc = np.array(periodic) | cut
        if cut.any():
            self.leave_out(
                "open boundaries of several cells (this is their periodic crystal: set "
                "pbc of structures)"
            )

    def potential(self, atoms: Atoms, **terms: Any) -> BondHamiltonian:
        """Return the Hamiltonian of the bonds.

        Numbers from both ends are averaged, which leaves the energy as it is where a
        code sums over both.

        Warns
        -----
        ExchangeTableWarning
            If bonds are listed from one end only where the format lists both, or the
            ends differ by more than noise.
        """
        bonds = np.array(list(self.values), dtype=int).reshape(-1, 5)
        width = max((len(v) for v in self.values.values()), default=9)
        values = np.array(list(self.values.values())).reshape(-1, width)
        # One cell with open ends has nothing beyond them.
        inside = (bonds[:, 2:][:, ~atoms.pbc] == 0).all(axis=1)
        bonds, values = bonds[inside], values[inside]
        count = len(bonds)
        own = bonds[:, 0], bonds[:, 1], bonds[:, 2:]
        tensors, worst, lonely = averaged_ends(*own, values[:, :9].reshape(-1, 3, 3))
        if lonely and self.both_ends:
            warnings.warn(
                f"{self.path}: {lonely} of {count} bonds are listed from one end only; "
                "they were completed, so that each counts as one bond",
                ExchangeTableWarning,
                stacklevel=4,
            )
        largest = np.abs(tensors).max(initial=0.0)
        if worst > _NOISE * largest:
            warnings.warn(
                f"{self.path}: numbers from both ends of a bond differ by up to "
                f"{1e3 * worst:.3g} meV (the largest is {1e3 * largest:.3g} meV); "
                "means were taken",
                ExchangeTableWarning,
                stacklevel=4,
            )
        if width > 9:
            terms = terms | {"biquadratic": values[:, 9]}
        return BondHamiltonian(atoms, *own, tensors, **terms)


def with_moments(
    atoms: Atoms,
    moments: np.ndarray,
    bonds: Rows,
    given: ArrayLike | None = None,
) -> Atoms:
    """Return atoms with moments, those without bonds with none.

    Parameters
    ----------
    atoms : Atoms
    moments : (N, 3) array, mu_B
        Of the file.
    bonds : Rows
    given : (N,) or (N, 3) array, optional
        Instead.

    Raises
    ------
    ValueError
        If a site with bonds has no moment.
    """
    set_spins(atoms, moments if given is None else given)
    spins = get_spins(atoms)
    taking = np.zeros(len(atoms), dtype=bool)
    for i, j, *_ in bonds.values:
        taking[[i, j]] = True
    spins[~taking] = 0.0
    lacking = np.flatnonzero(taking & ~spins.any(axis=1))
    if len(lacking):
        raise ValueError(
            f"{bonds.path}: site {lacking[0]} has bonds and no moment; give moments, "
            "one for each site, in mu_B"
        )
    set_spins(atoms, spins)
    return atoms
