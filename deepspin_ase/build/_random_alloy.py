"""Random alloys: species placed at random on the sites of a crystal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from numpy.typing import ArrayLike

from .._extras import require
from .._validate import finite, non_negative, positive, whole
from ..spins import get_spins, set_spins
from ._interstitials import KINDS, draw_sites, given_sites, interstitial_sites

#: Name of an empty site in a composition.
VACANCY = "X"

#: Numbers of atoms may differ by this part from what a composition asks for.
_MISFIT = 0.2

_METHODS = ("random", "sqs")


def random_alloy(
    atoms: Atoms,
    composition: Mapping[str, float],
    *,
    sublattice: str | ArrayLike | None = None,
    moments: Mapping[str, float] | None = None,
    method: str = "random",
    iterations: int = 100_000,
    interstitials: Mapping[str, ArrayLike] | None = None,
    min_distance: float = 0.0,
    seed: int | np.random.Generator | None = None,
) -> Atoms:
    """Return a copy of a crystal with other species on some of its sites, or between.

    The numbers of the species are fixed by the composition; the sites are drawn. Atoms
    keep their order, vacancies are left out, and interstitial atoms come last.

    Parameters
    ----------
    atoms : Atoms
        A supercell, large enough for the composition.
    composition : {symbol: share}
        Shares of the sites of the sublattice, between 0 and 1; what is left keeps its
        species. ``"X"`` is a vacancy: ``{"Mg": 0.1, "X": 0.02}``. Species on
        interstitial sites have the name of the sites with them, and shares of these:
        ``{"C@octahedral": 0.01}``, ``"tetrahedral"`` or ``"void"`` as in
        :func:`~deepspin_ase.build.interstitial_sites`, or names in ``interstitials``.
    sublattice : symbol, indices or mask, optional
        The sites: those of an element, or given ones. By default those of the only
        element that carries moments, or of the only element.
    moments : {symbol: mu_B}, optional
        Lengths of the moments of the species that are put in; zero by default. They
        point where the moment of the site did, or along z where it had none.
    method : {"random", "sqs"}
        Every arrangement with the same probability; or a special quasi-random
        structure, whose pair correlations are near those of an infinite random alloy
        (A. Zunger et al., Phys. Rev. Lett. 65, 353 (1990),
        doi:10.1103/PhysRevLett.65.353), the best of ``iterations`` that sqsgenerator
        draws (D. Gehringer, M. Friák and D. Holec, Comput. Phys. Commun. 286, 108664
        (2023), doi:10.1016/j.cpc.2023.108664; extra ``sqs``).
    iterations : int
        Of ``method="sqs"``, which interstitial atoms have no part in.
    interstitials : {name: (n, 3) array}, optional
        Positions of further interstitial sites, A.
    min_distance : float, A
        Between interstitial atoms, which are drawn one after the other.
    seed : int or numpy Generator, optional

    Raises
    ------
    ValueError
        If a symbol is no element, shares are not between 0 and 1 or add up to more,
        there are no such sites, the sublattice has to be named, numbers of atoms
        differ by more than a fifth from what the composition asks for, given sites are
        within 0.5 A of atoms, or interstitial atoms do not fit ``min_distance``.
    ImportError
        If sqsgenerator is needed and not installed.

    Examples
    --------
    >>> alloy = random_alloy(nio.repeat(2), {"Mg": 0.25}, sublattice="Ni", seed=1)
    >>> steel = random_alloy(iron.repeat(4), {"C@octahedral": 0.01}, seed=1)
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    whole("iterations", iterations, 1)
    non_negative("min_distance", min_distance)
    if not composition:
        raise ValueError("the composition is empty; give one such as {'Mg': 0.1}")
    between = {name: share for name, share in composition.items() if "@" in name}
    on_sites = {name: x for name, x in composition.items() if name not in between}
    given = {s: finite(f"moment of {s}", m) for s, m in (moments or {}).items()}
    put_in = {name.partition("@")[0] for name in composition}
    if unknown := set(given) - put_in:
        raise ValueError(
            f"moments are given of {', '.join(sorted(unknown))}, which the composition "
            "does not put in"
        )
    rng = np.random.default_rng(seed)
    alloy = atoms.copy()
    if on_sites:
        sites = _sites(atoms, sublattice)
        counts = _counts(on_sites, len(sites))
        chosen = _drawn(atoms[sites], counts, method, iterations, rng)
        alloy = _placed(atoms, sites, chosen, list(counts), given)
    if between:
        added = _interstitial(atoms, between, interstitials or {}, min_distance, rng)
        alloy = _with_interstitial(alloy, added, given)
    return alloy


def _drawn(
    sites: Atoms,
    counts: Mapping[str, int],
    method: str,
    iterations: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the species (n,) of sites, as numbers of ``counts``; -1 is as it was."""
    if method == "sqs":
        return _quasirandom(sites, counts, iterations, rng)
    kinds = np.repeat(np.arange(len(counts)), list(counts.values()))
    chosen = np.full(len(sites), -1)
    chosen[rng.permutation(len(sites))[: len(kinds)]] = kinds
    return chosen


def _interstitial(
    atoms: Atoms,
    composition: Mapping[str, float],
    given: Mapping[str, ArrayLike],
    min_distance: float,
    rng: np.random.Generator,
) -> Atoms:
    """Return the atoms between the sites, of a composition such as ``C@octahedral``."""
    kinds: dict[str, dict[str, float]] = {}
    for name, share in composition.items():
        symbol, _, kind = name.partition("@")
        if kind not in (*KINDS, *given):
            raise ValueError(
                f"there are no interstitial sites {kind!r} for {name!r}: take "
                f"{', '.join((*KINDS, *given))}, or give positions by interstitials="
            )
        if symbol == VACANCY:
            raise ValueError(f"{name!r}: a vacancy is at a site of the crystal")
        kinds.setdefault(kind, {})[symbol] = share
    sites, symbols, wanted = np.empty((0, 3)), [], []
    for kind, shares in kinds.items():
        known = (
            given_sites(kind, given[kind], atoms)
            if kind in given
            else interstitial_sites(atoms, kind)
        )
        indices = len(sites) + np.arange(len(known))
        sites = np.concatenate([sites, known])
        for symbol, count in _counts(shares, len(known)).items():
            symbols += [symbol] * count
            wanted.append((indices, count))
    drawn = draw_sites(sites, atoms, wanted, min_distance, rng)
    return Atoms(symbols, sites[np.concatenate(drawn)])


def _with_interstitial(
    alloy: Atoms, added: Atoms, moments: Mapping[str, float]
) -> Atoms:
    """Return the structure with atoms added at its end, whose moments are along z."""
    lengths = np.array([moments.get(symbol, 0.0) for symbol in added.symbols])
    spins = None
    if alloy.has("initial_magmoms") or lengths.any():
        spins = np.zeros((len(alloy) + len(added), 3))
        if alloy.has("initial_magmoms"):
            spins[: len(alloy)] = get_spins(alloy)
            del alloy.arrays["initial_magmoms"]
        spins[len(alloy) :, 2] = lengths
    alloy.extend(added)
    if spins is not None:
        set_spins(alloy, spins)
    return alloy


def _placed(
    atoms: Atoms,
    sites: np.ndarray,
    chosen: np.ndarray,
    symbols: Sequence[str],
    moments: Mapping[str, float],
) -> Atoms:
    """Return the structure with species ``chosen`` (n,) on its sites; -1 is as it was.

    Masses and charges that were set stay with the atoms that stay.
    """
    alloy = atoms.copy()
    spins = get_spins(atoms) if atoms.has("initial_magmoms") else None
    for kind, symbol in enumerate(symbols):
        if symbol == VACANCY:
            continue
        own = sites[chosen == kind]
        alloy.numbers[own] = atomic_numbers[symbol]
        for name, value in (
            ("masses", atomic_masses[atomic_numbers[symbol]]),
            ("initial_charges", 0.0),
        ):
            if alloy.has(name):
                alloy.arrays[name][own] = value
        if spins is not None or symbol in moments:
            spins = np.zeros((len(atoms), 3)) if spins is None else spins
            spins[own] = moments.get(symbol, 0.0) * _directions(spins[own])
    if spins is not None:
        set_spins(alloy, spins)
    empty = [kind for kind, symbol in enumerate(symbols) if symbol == VACANCY]
    del alloy[sites[np.isin(chosen, empty)]]
    return alloy


def _directions(spins: np.ndarray) -> np.ndarray:
    """Return unit vectors (n, 3) of moments; z where there is none."""
    lengths = np.linalg.norm(spins, axis=1, keepdims=True)
    along = np.divide(spins, lengths, out=np.zeros_like(spins), where=lengths > 0)
    return np.where(lengths > 0, along, (0.0, 0.0, 1.0))


def _sites(atoms: Atoms, sublattice: str | ArrayLike | None) -> np.ndarray:
    """Return the indices (n,) of the sites of a sublattice, ascending."""
    symbols = np.array(atoms.get_chemical_symbols())
    if sublattice is None:
        present = sorted(set(symbols))
        if len(present) > 1 and atoms.has("initial_magmoms"):
            present = sorted(set(symbols[get_spins(atoms).any(axis=1)]))
        if len(present) != 1:
            raise ValueError(
                "name the sublattice, such as sublattice='Ni': "
                + ("no atom carries a moment" if not present else ", ".join(present))
                + (" all could be meant" if present else "")
            )
        sublattice = present[0]
    if isinstance(sublattice, str):
        sites = np.flatnonzero(symbols == sublattice)
    else:
        sites = np.unique(np.arange(len(atoms))[np.asarray(sublattice)])
    if not len(sites):
        raise ValueError(
            f"there are no sites {sublattice!r} in {atoms.get_chemical_formula()}"
        )
    return sites


def _counts(composition: Mapping[str, float], n_sites: int) -> dict[str, int]:
    """Return the numbers of atoms of a composition.

    Raises
    ------
    ValueError
        If it is not one, or does not fit the number of sites.
    """
    counts = {}
    for symbol, value in composition.items():
        if symbol != VACANCY and symbol not in atomic_numbers:
            raise ValueError(
                f"{symbol!r} is no element; a vacancy is {VACANCY!r} in a composition"
            )
        share = positive(f"share of {symbol}", value)
        if share > 1.0:
            raise ValueError(
                f"the share of {symbol} is {share:g}: shares of the sites are between "
                "0 and 1, such as 0.1 for ten percent"
            )
        counts[symbol] = round(share * n_sites)
        if abs(counts[symbol] - share * n_sites) > _MISFIT * share * n_sites:
            near = max(counts[symbol], 1)
            raise ValueError(
                f"{share:g} of {n_sites} sites is {share * n_sites:g} {symbol}; the "
                f"nearest share that fits is {near / n_sites:.4g}: take it, or repeat "
                "the cell"
            )
    total = sum(composition.values())
    if total > 1.0 + 1e-9:
        raise ValueError(f"the shares of the composition add up to {total:g}, over 1")
    if sum(counts.values()) > n_sites:
        raise ValueError(
            f"{counts} are more than the {n_sites} sites: repeat the cell, or take "
            "shares that give whole numbers"
        )
    return counts


def _quasirandom(
    sites: Atoms, counts: Mapping[str, int], iterations: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the species (n,) of a special quasi-random structure, -1 for the host."""
    numbers = [*counts.values(), len(sites) - sum(counts.values())]
    kinds = [*range(len(counts)), -1]
    # Elements stand for the kinds: the program knows no vacancies, nor host.
    stand_ins = {1 + k: n for k, n in enumerate(numbers) if n}
    if len(stand_ins) < 2:
        return np.full(len(sites), kinds[next(iter(stand_ins)) - 1])
    if not sites.pbc.all():
        raise ValueError("a special quasi-random structure needs a periodic crystal")
    generator = require("sqsgenerator", "special quasi-random structures")
    found = generator.optimize(
        {
            "structure": {
                "lattice": sites.cell.array.tolist(),
                "coords": sites.get_scaled_positions().tolist(),
                "species": [1] * len(sites),
            },
            "composition": {
                "sites": "H",
                **{chemical_symbols[z]: n for z, n in stand_ins.items()},
            },
            "iterations": iterations,
            "sublattice_mode": "interact",
            "prec": "double",
            "seed": int(rng.integers(2**31)),
            "thread_config": 1,  # a seed needs one
        }
    )
    # Several may be as good: which one is called the best changes from run to run.
    _, best = min(found, key=lambda entry: entry[0])
    species = min(tuple(map(int, result.species)) for result in best)
    return np.array([kinds[z - 1] for z in species])
