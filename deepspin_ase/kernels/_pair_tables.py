"""Pair terms of Hamiltonians as tables, which every back end reads.

The functions of distance of all terms that go with one invariant of the moments are
added up to one function for every pair of elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._data import PairTermData, TabulatedFunction
from ._tables import Curve, Jet, elementwise_jet, joined

#: Shortest distance of the tables, A; below, terms are evaluated themselves.
NEAREST = 0.5

#: Largest error of a slope, relative to the value or slope there, or to FLOOR.
TOLERANCE = 1e-11

#: Below this, eV or eV/A, errors count absolutely.
FLOOR = 1e-2

#: The invariant of pairs of any atoms, those of the angle and the lengths of two
#: moments, and those of their chirality e_i x e_j: its components, which change sign
#: with the order of the atoms, and its products with components of the bond's
#: direction.
LATTICE = ("one",)
ALIGNMENT = ("magnetic", "alignment", "alignment^2", "product", "lengths")
ORIENTED = tuple(f"chirality_{b}" for b in "xyz")
CHIRALITY = tuple(f"bond_{a} chirality_{b}" for a in "xyz" for b in "xyz") + ORIENTED

#: What back ends compute, in the order of the columns of the tables.
INVARIANTS = LATTICE + ALIGNMENT + CHIRALITY

#: Widths that tables can have: those of all invariants up to the end of a group.
WIDTHS = tuple(itertools.accumulate(map(len, (LATTICE, ALIGNMENT, CHIRALITY))))


class PairTables(NamedTuple):
    """Functions of distance for every pair of elements.

    Attributes
    ----------
    edges : (n_sections + 1,) float64, A
        Where the sections of the tables begin and end.
    tables : (cells, width, powers) float64
        Polynomials of the functions of the first ``width`` invariants by rising
        power, see :class:`deepspin_ase.kernels._tables.Table`.
    first, cells, inverse : (n_types, n_types, n_sections) uint64 and float64
        First cell and number of cells of each section, and 1/length of the cells.
    """

    edges: np.ndarray
    tables: np.ndarray
    first: np.ndarray
    cells: np.ndarray
    inverse: np.ndarray


def pair_tables(terms: Sequence[PairTermData], species: tuple[int, ...]) -> PairTables:
    """Tabulate the sum of pair terms.

    Parameters
    ----------
    terms : sequence of PairTermData
    species : tuple of int
        Atomic numbers, in the order in which the types of atoms count.

    Raises
    ------
    NotTabulable
        If a function is not smooth between its knots.
    """
    names = {name for term in terms for name, _ in term.invariants}
    last = max(INVARIANTS.index(name) for name in names)
    width = next(w for w in WIDTHS if w > last)
    edges = _edges([f for term in terms for _, f in term.functions])
    low, length = edges[:-1], edges.diff()
    n = len(species)
    # With an invariant that changes sign with the order, i-j has other tables than j-i.
    oriented = not names.isdisjoint(ORIENTED)
    keys = [(a, b) for a in range(n) for b in range(0 if oriented else a, n)]
    curves = [_Functions(terms, (species[a], species[b]), width) for a, b in keys]
    made = [curve.tabulate(low, length, TOLERANCE) for curve in curves]
    tables, starts, counts = joined(made, torch.float64, 1)
    first = np.zeros((n, n, len(low)), np.uint64)
    cells = np.zeros((n, n, len(low)))
    for k, (a, b) in enumerate(keys):
        first[a, b], cells[a, b] = starts[k], counts[k]
        if not oriented:
            first[b, a], cells[b, a] = starts[k], counts[k]
    by_function = np.ascontiguousarray(tables.transpose(0, 2, 1))
    return PairTables(edges.numpy(), by_function, first, cells, cells / length.numpy())


class _Functions(Curve):
    """The functions of distance of one pair of elements, one for each invariant."""

    def __init__(
        self, terms: Sequence[PairTermData], elements: tuple[int, int], width: int
    ) -> None:
        self.width = width
        self.parts: list[tuple[TabulatedFunction, list[tuple[int, float]]]] = []
        for term in terms:
            for pair, function in term.functions:
                if elements in (pair, pair[::-1]):
                    sign = 1.0 if elements == pair else -1.0
                    weights = [
                        (INVARIANTS.index(k), sign * w if k in ORIENTED else w)
                        for k, w in term.invariants
                    ]
                    self.parts.append((function, weights))

    def jet(self, x: Tensor) -> Jet:
        """Return values and derivatives, (n, width), at distances x (n,)."""
        sums = [x.new_zeros(len(x), self.width) for _ in range(3)]
        for function, weights in self.parts:
            found = elementwise_jet(function, x)
            for column, weight in weights:
                for total, values in zip(sums, found, strict=True):
                    total[:, column] += weight * values
        return sums[0], sums[1], sums[2]

    def weights(self, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Weigh with the inverse of the largest value or slope."""
        size = torch.maximum(value.abs().amax(1), slope.abs().amax(1))
        return 1.0 / size.clamp_min(FLOOR)


def _edges(functions: Sequence[TabulatedFunction]) -> Tensor:
    """Return the bounds of sections, A: knots of the functions, and some between."""
    # Longer than the shortest distance, also where no function acts.
    last = max([2.0 * NEAREST, *(function.cutoff for function in functions)])
    bounds = {NEAREST, last}
    for function in functions:
        ends = (*getattr(function, "knots", ()), function.cutoff)
        bounds |= {x for x in ends if NEAREST < x < last}
    between = NEAREST
    while (between := between * 2.0**0.5) < last:
        bounds.add(between)
    ordered = sorted(bounds)
    kept = [x for x, y in itertools.pairwise(ordered) if y - x > 1e-9]
    return torch.tensor([*kept, last], dtype=torch.float64)
