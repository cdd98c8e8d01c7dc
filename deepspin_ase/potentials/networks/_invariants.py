"""Invariant contractions of Cartesian moments, as a list of products.

The moments of an atom's neighborhood are polynomials' averages over its neighbors,

    A[n, c]    = sum_j R_n(r_ij) u^c                 of the lattice,
    B[n, c, a] = sum_j Q_n(r_ij) u^c s_j^a           of the spins,

with monomials u^c of the unit vector u to neighbor j and reduced moments s. What is
invariant is a polynomial in them and in the atom's own s. Everything is compiled into
one list of instructions

    value[out] += coefficient * value[first] * value[second],

which torch, the compiled kernels and exported models execute alike, forward, in
reverse, and in the direction of a displacement. Value 0 is the number one, so that
linear maps are products too.

Symmetries. Every lattice index and every spin index is contracted: among themselves
without spin-orbit coupling, so that lattice and spins rotate each on their own, or with
each other with it. Numbers of lattice indices are then even, for spins are axial
vectors that inversion leaves alone, and so are numbers of spins (time reversal).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

#: A product of two values with its coefficient.
Term = tuple[float, int, int]

#: Indices of a Cartesian component.
Index = tuple[int, ...]

#: Place of the value of a component.
Tensor = Callable[[Index], int]

AXES = (0, 1, 2)


class Monomials(NamedTuple):
    """Monomials of a unit vector up to a degree, by rising degree.

    Attributes
    ----------
    parent, axis : (C,) int64 arrays
        Monomial c is monomial ``parent[c]`` times component ``axis[c]`` of the
        vector; the first is one.
    place : dict
        Number of a monomial by its sorted axes.
    """

    parent: np.ndarray
    axis: np.ndarray
    place: dict[tuple[int, ...], int]

    @classmethod
    def up_to(cls, degree: int) -> Monomials:
        """Return all monomials of at most this degree."""
        axes = [
            chosen
            for length in range(degree + 1)
            for chosen in itertools.combinations_with_replacement(AXES, length)
        ]
        place = {chosen: c for c, chosen in enumerate(axes)}
        return cls(
            np.array([place[chosen[:-1]] for chosen in axes]),
            np.array([chosen[-1] if chosen else 0 for chosen in axes]),
            place,
        )


@dataclass(frozen=True)
class Layout:
    """Sizes of the moments, and where they are among the values.

    Values are, in order: one; the atom's own reduced moment (3); lattice moments by
    monomial and channel; spin moments by monomial, axis and channel; sums of |s_j|^2
    and of (s_i.s_j)^2 by spin channel; with spin-orbit coupling, sums of (s_i.u)^4 by
    lattice channel; then what the instructions make.

    Attributes
    ----------
    channels, spin_channels : int
        Radial functions R_n and Q_n.
    angular, spin_angular : int
        The first of them, whose moments have directions too.
    degree, spin_degree : int
        Of the monomials.
    four_body : int
        Channels that enter products of three moments.
    gates : int
        Scalars that products of two lattice moments are multiplied with.
    spin_orbit : bool
    """

    channels: int
    spin_channels: int
    angular: int
    spin_angular: int
    degree: int
    spin_degree: int
    four_body: int
    gates: int
    spin_orbit: bool

    @property
    def lattice(self) -> int:
        """Place of the first lattice moment."""
        return 4

    @property
    def spins(self) -> int:
        """Place of the first spin moment."""
        higher = n_monomials(self.degree) - 1
        return self.lattice + self.channels + higher * self.angular

    @property
    def squares(self) -> int:
        """Place of the first sum of |s_j|^2."""
        higher = n_monomials(self.spin_degree) - 1
        return self.spins + 3 * (self.spin_channels + higher * self.spin_angular)

    def lattice_moment(self, monomial: int, channel: int) -> int:
        """Return the place of a lattice moment."""
        if monomial == 0:
            return self.lattice + channel
        return self.lattice + self.channels + (monomial - 1) * self.angular + channel

    def spin_moment(self, monomial: int, axis: int, channel: int) -> int:
        """Return the place of a spin moment."""
        if monomial == 0:
            return self.spins + axis * self.spin_channels + channel
        row = 3 * (monomial - 1) + axis
        return self.spins + 3 * self.spin_channels + row * self.spin_angular + channel

    @property
    def biquadratic(self) -> int:
        """Place of the first sum of (s_i.s_j)^2."""
        return self.squares + self.spin_channels

    @property
    def quartic(self) -> int:
        """Place of the first sum of (s_i.u)^4."""
        return self.biquadratic + self.spin_channels

    @property
    def end(self) -> int:
        """Number of values before the first that an instruction makes."""
        return self.quartic + (self.channels if self.spin_orbit else 0)


class Factors(NamedTuple):
    """What radial functions are multiplied with before sums over neighbors.

    Attributes
    ----------
    out, first, second : (T,) int64 arrays
    coefficient : (T,) float64 array
        Instructions, whose values are: one, the direction to the neighbor, its reduced
        moment, that of the atom (3 each), and what they make.
    n_values : int
    rows : tuple of (int, int, int)
        Factor, first channel and number of channels: the moments in the order of
        :class:`Layout`. Channels of the lattice come before those of the spins.
    """

    out: np.ndarray
    first: np.ndarray
    second: np.ndarray
    coefficient: np.ndarray
    n_values: int
    rows: tuple[tuple[int, int, int], ...]


def n_monomials(degree: int) -> int:
    """Return the number of monomials of three variables up to a degree."""
    return (degree + 1) * (degree + 2) * (degree + 3) // 6


class Program(NamedTuple):
    """Instructions, sorted so that every value is complete before it is used.

    Attributes
    ----------
    out, first, second : (T,) int64 arrays
    coefficient : (T,) float64 array
    n_values : int
        The last ``n_features`` are the invariants.
    n_features : int
    levels : tuple of int
        Bounds between instructions that do not depend on each other.
    names : tuple of str
        Of the families of invariants, one per feature.
    """

    out: np.ndarray
    first: np.ndarray
    second: np.ndarray
    coefficient: np.ndarray
    n_values: int
    n_features: int
    levels: tuple[int, ...]
    names: tuple[str, ...]


class _Builder:
    """Collects values as sums of products."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.sums: list[list[Term]] = []
        self.level = [0] * start

    def add(self, terms: Iterable[Term]) -> int:
        """Return the place of a new value; equal products are joined."""
        joined: dict[tuple[int, int], float] = {}
        for coefficient, a, b in terms:
            key = (min(a, b), max(a, b))
            joined[key] = joined.get(key, 0.0) + coefficient
        kept = [(c, a, b) for (a, b), c in joined.items() if abs(c) > 1e-14]
        self.sums.append(kept)
        self.level.append(
            1 + max((max(self.level[a], self.level[b]) for _, a, b in kept), default=0)
        )
        return len(self.level) - 1

    def linear(self, terms: Iterable[tuple[float, int]]) -> int:
        """Return the place of a linear combination."""
        return self.add((c, 0, a) for c, a in terms)

    def product(self, a: int, b: int) -> int:
        """Return the place of a product."""
        return self.add([(1.0, a, b)])

    def tensor(
        self, value: Callable[[Index], int], rank: int, *, symmetric: bool = False
    ) -> Tensor:
        """Return a tensor whose components are made once."""
        if symmetric:
            choices = itertools.combinations_with_replacement(AXES, rank)
            table = {x: value(x) for x in choices}
            return lambda x: table[tuple(sorted(x))]
        table = {x: value(x) for x in itertools.product(AXES, repeat=rank)}
        return table.__getitem__

    def contract(
        self, a: Tensor, b: Tensor, left: int, inner: int, right: int = 0
    ) -> Tensor:
        """Return a tensor of rank left + right, symmetric in what is right.

        The last ``inner`` indices of ``a`` are contracted with the first of ``b``.
        """
        every = list(itertools.product(AXES, repeat=inner))

        def row(x: Index) -> Tensor:
            def component(y: Index) -> int:
                return self.add((1.0, a(x + z), b(z + y)) for z in every)

            return self.tensor(component, right, symmetric=True)

        rows = {x: row(x) for x in itertools.product(AXES, repeat=left)}
        return lambda x: rows[x[:left]](x[left:])


def _traceless(indices: Index) -> list[tuple[float, Index]]:
    """Return the traceless part of u^indices in monomials of unit vectors.

    T = sum_k (-1)^k (2 l - 2 k - 1)!! / (2 l - 1)!! times the sum of all ways to pair
    2 k indices in Kronecker deltas (Applequist, J. Phys. A 22, 4303 (1989)).
    """
    rank = len(indices)
    result: dict[tuple[int, ...], float] = {}

    def pair(left: tuple[int, ...], k: int, first: int) -> None:
        factor = (-1.0) ** k
        for odd in range(2 * (rank - k) + 1, 2 * rank, 2):
            factor /= odd
        key = tuple(sorted(left))
        result[key] = result.get(key, 0.0) + factor
        # Pairs are chosen in rising order of their first index, so that each set of
        # pairs is counted once.
        for p in range(first, len(left)):
            for q in range(p + 1, len(left)):
                if left[p] == left[q]:
                    rest = left[:p] + left[p + 1 : q] + left[q + 1 :]
                    pair(rest, k + 1, p)

    pair(indices, 0, 0)
    return [(c, x) for x, c in result.items() if abs(c) > 1e-14]


class _Invariants:
    """All invariants of a layout.

    Spin moments are tensors whose first index is that of the spin.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.build = _Builder(layout.end)
        self.features: list[tuple[str, list[Term]]] = []
        self.place = Monomials.up_to(layout.degree).place
        self.lattice = [
            [
                self._lattice(degree, n)
                for n in range(layout.angular if degree else layout.channels)
            ]
            for degree in range(layout.degree + 1)
        ]
        self.spins = [
            [
                self._spins(degree, n)
                for n in range(layout.spin_angular if degree else layout.spin_channels)
            ]
            for degree in range(layout.spin_degree + 1)
        ]

    def _lattice(self, degree: int, n: int) -> Tensor:
        layout = self.layout

        def moment(x: Index) -> int:
            return layout.lattice_moment(self.place[x], n)

        return self._traceless(moment, degree)

    def _spins(self, degree: int, n: int) -> Tensor:
        layout = self.layout

        def along(axis: int) -> Tensor:
            def moment(x: Index) -> int:
                return layout.spin_moment(self.place[x], axis, n)

            return self._traceless(moment, degree)

        axes = [along(axis) for axis in AXES]
        return lambda x: axes[x[0]](x[1:])

    def _traceless(self, moment: Tensor, degree: int) -> Tensor:
        """Return the traceless part of moments that are symmetric."""
        if degree < 2:
            return moment

        def component(x: Index) -> int:
            return self.build.linear((c, moment(y)) for c, y in _traceless(x))

        return self.build.tensor(component, degree, symmetric=True)

    def keep(self, name: str, values: Sequence[int]) -> None:
        """Make features of values."""
        self.features += [(name, [(1.0, 0, v)]) for v in values]

    def products(self, name: str, first: Sequence[int], second: Sequence[int]) -> None:
        """Make features of all products of two lists of values."""
        pairs = itertools.product(first, second)
        self.features += [(name, [(1.0, a, b)]) for a, b in pairs]

    def squares(self, name: str, values: Sequence[int]) -> None:
        """Make features of all products within a list of values."""
        pairs = itertools.combinations_with_replacement(values, 2)
        self.features += [(name, [(1.0, a, b)]) for a, b in pairs]

    def crosses(
        self, name: str, first: Sequence[Tensor], second: Sequence[Tensor], rank: int
    ) -> None:
        """Make features of all full contractions of two lists of tensors."""
        self._full(name, itertools.product(first, second), rank)

    def pairs(self, name: str, tensors: Sequence[Tensor], rank: int) -> None:
        """Make features of all full contractions within a list of tensors."""
        pairs = itertools.combinations_with_replacement(tensors, 2)
        self._full(name, pairs, rank)

    def _full(
        self, name: str, pairs: Iterable[tuple[Tensor, Tensor]], rank: int
    ) -> None:
        every = list(itertools.product(AXES, repeat=rank))
        for a, b in pairs:
            self.features.append((name, [(1.0, a(x), b(x)) for x in every]))

    def everything(self) -> Program:
        """Return the program."""
        self._of_the_lattice()
        if self.layout.spin_channels:
            self._of_spins()
            self._of_three_spin_moments()
            if self.layout.spin_orbit:
                self._with_spin_orbit_coupling()
        if self.layout.gates:
            self._gated()
        for _, terms in self.features:
            self.build.add(terms)
        return _sorted(self.build, [name for name, _ in self.features])

    def _of_the_lattice(self) -> None:
        lattice, build, few = self.lattice, self.build, self.layout.four_body
        scalars = [a(()) for a in lattice[0]]
        self.keep("A0", scalars)
        self.squares("A0 A0", scalars[: self.layout.angular])
        for degree in range(1, len(lattice)):
            self.pairs(f"A{degree} A{degree}", lattice[degree], degree)
        if len(lattice) < 3 or not few:
            return
        vectors, matrices = lattice[1][:few], lattice[2][:few]
        for m in matrices:
            mapped = [build.contract(m, v, 1, 1) for v in vectors]
            for k, v in enumerate(vectors):
                self.crosses("A1 A2 A1", [v], mapped[k:], 1)
        for k, m in enumerate(matrices):
            for q, other in enumerate(matrices[k:], k):
                product = build.contract(m, other, 1, 1, 1)
                self.crosses("A2 A2 A2", [product], matrices[q:], 2)
        for m in matrices:
            if len(lattice) > 3:
                mapped = [build.contract(a, m, 1, 2) for a in lattice[3][:few]]
                self.crosses("A1 A2 A3", vectors, mapped, 1)
            if len(lattice) > 4:
                mapped = [build.contract(a, m, 2, 2) for a in lattice[4][:few]]
                self.crosses("A2 A2 A4", matrices, mapped, 2)

    def _gated(self) -> None:
        """Make products of invariants of two lattice moments with scalars.

        These are the atom's own |s|^2, if it may have one, and sums of the lattice:
        with them, forces of phases, volumes and lengths of moments differ.
        """
        layout, build = self.layout, self.build
        gates = [a(()) for a in self.lattice[0]]
        if layout.spin_channels:
            gates.insert(0, build.add((1.0, 1 + a, 1 + a) for a in AXES))
        families = {f"A{k} A{k}" for k in range(1, layout.degree + 1)}
        values = []
        for k, (name, terms) in enumerate(self.features):
            if name in families:
                values.append(build.add(terms))
                self.features[k] = (name, [(1.0, 0, values[-1])])
        self.products("gated", gates[: layout.gates], values)

    def _of_spins(self) -> None:
        """Make invariants that hold without spin-orbit coupling, of two moments."""
        layout, build, spins = self.layout, self.build, self.spins
        scalars = [a(()) for a in self.lattice[0]]
        own = build.add((1.0, 1 + a, 1 + a) for a in AXES)
        square = build.product(own, own)
        n = range(layout.spin_channels)
        neighbors = [layout.squares + k for k in n]
        self.keep("|s|^2, |s|^4", [own, square])
        self.products("|s|^6", [own], [square])
        self.products("|s|^2 A0", [own], scalars)
        self.products("|s|^4 A0", [square], scalars)
        self.keep("|s_j|^2", neighbors)
        self.keep("(s.s_j)^2", [layout.biquadratic + k for k in n])
        self.products("|s|^2 |s_j|^2", [own], neighbors)
        # Spin moments with the atom's own moment: tensors of the lattice.
        along = [
            [build.contract(_own, b, 0, 1, degree) for b in moments]
            for degree, moments in enumerate(spins)
        ]
        exchange = [s(()) for s in along[0]]
        self.keep("s B0", exchange)
        self.products("|s|^2 s B0", [own], exchange)
        few, spin_few = layout.angular, layout.spin_angular
        self.squares("(s B0)^2", exchange[:spin_few])
        self.products("s B0 A0", exchange, scalars[:few])
        self.products("|s_j|^2 A0", neighbors[:spin_few], scalars[:few])
        densities = [
            build.product(*x)
            for x in itertools.combinations_with_replacement(scalars[:few], 2)
        ]
        self.products("|s|^2 A0 A0", [own], densities)
        for degree, moments in enumerate(spins):
            self.pairs(f"B{degree} B{degree}", moments[:spin_few], degree + 1)
            if degree:
                self.pairs(f"(s B{degree})^2", along[degree], degree)
                self.crosses(
                    f"s B{degree} A{degree}",
                    along[degree],
                    self.lattice[degree],
                    degree,
                )

    def _of_three_spin_moments(self) -> None:
        """Make invariants of two spin moments and one of the lattice."""
        build, few = self.build, self.layout.four_body
        lattice = [moments[:few] for moments in self.lattice]
        spins = [moments[:few] for moments in self.spins]
        if len(spins) > 1:
            for v in lattice[1]:
                mapped = [build.contract(b, v, 1, 1) for b in spins[1]]
                self.crosses("B0 B1 A1", spins[0], mapped, 1)
        if len(spins) > 1 and len(lattice) > 2:
            for m in lattice[2]:
                for k, b in enumerate(spins[1]):
                    product = build.contract(b, m, 1, 1, 1)
                    self.crosses("B1 A2 B1", [product], spins[1][k:], 2)
        if len(spins) > 2:
            for m in lattice[2]:
                mapped = [build.contract(b, m, 1, 2) for b in spins[2]]
                self.crosses("B0 B2 A2", spins[0], mapped, 1)

    def _with_spin_orbit_coupling(self) -> None:
        """Make invariants in which indices of spins and lattice are contracted."""
        layout, build = self.layout, self.build
        lattice, spins = self.lattice, self.spins
        square = build.add((1.0, 1 + a, 1 + a) for a in AXES)
        quartic = [layout.quartic + n for n in range(layout.channels)]
        self.keep("(s.u)^4", quartic)
        self.products("|s|^2 (s.u)^4", [square], quartic)
        if len(lattice) > 2:
            # Uniaxial anisotropy, and exchange that is anisotropic for the same reason.
            mapped = [build.contract(m, _own, 1, 1) for m in lattice[2]]
            uniaxial = [build.contract(_own, t, 0, 1)(()) for t in mapped]
            self.keep("s A2 s", uniaxial)
            self.products("|s|^2 s A2 s", [square], uniaxial)
            self.squares("(s A2 s)^2", uniaxial)
            self.crosses("s A2 B0", mapped, spins[0], 1)
        if len(spins) > 1:
            # Dzyaloshinskii-Moriya interaction (s_i x s_j).(u_j x u_k), and that of two
            # neighbors about this atom.
            polar = [build.contract(_own, v, 0, 1)(()) for v in lattice[1]]
            self.squares("(s A1)^2", polar)
            traces = [build.linear((1.0, b((a, a))) for a in AXES) for b in spins[1]]
            mapped = [build.contract(b, _own, 1, 1) for b in spins[1]]
            self.products("tr B1 s A1", traces, polar)
            self.crosses("B1 s A1", mapped, lattice[1], 1)
            self.squares("(tr B1)^2", traces)
            turned = [_transposed(b) for b in spins[1]]
            for k, b in enumerate(spins[1]):
                self.crosses("B1 B1^T", [b], turned[k:], 2)
        if len(spins) > 2:
            dipolar = [_trace(build, b) for b in spins[2]]
            self.crosses("s tr B2", [_own], dipolar, 1)
            self.crosses("B0 tr B2", spins[0], dipolar, 1)


def _own(x: Index) -> int:
    """Return the place of a component of the atom's own moment."""
    return 1 + x[0]


def _transposed(matrix: Tensor) -> Tensor:
    return lambda x: matrix((x[1], x[0]))


def _trace(build: _Builder, tensor: Tensor) -> Tensor:
    """Return the contraction of the first two of three indices."""
    return build.tensor(
        lambda x: build.linear((1.0, tensor((a, a, x[0]))) for a in AXES), 1
    )


def _sorted(build: _Builder, names: Sequence[str]) -> Program:
    """Return the instructions by level, without values that no feature needs."""
    n_features = len(names)
    last = len(build.level) - n_features
    needed = set(range(last, len(build.level)))
    for place in range(len(build.level) - 1, build.start - 1, -1):
        if place in needed:
            for _, a, b in build.sums[place - build.start]:
                needed.update((a, b))
    made = [p for p in range(build.start, last) if p in needed]
    made.sort(key=lambda p: build.level[p])
    number = {p: p for p in range(build.start)}
    for p in [*made, *range(last, len(build.level))]:
        number[p] = len(number)
    rows: list[tuple[int, int, int, int, float]] = []
    for p in [*made, *range(last, len(build.level))]:
        for c, a, b in build.sums[p - build.start]:
            rows.append((build.level[p], number[p], number[a], number[b], c))
    # Features come last among the values, but are ready at different levels.
    rows.sort(key=lambda row: (row[0], row[1]))
    level = np.array([row[0] for row in rows])
    bounds = [0, *(np.flatnonzero(np.diff(level)) + 1).tolist(), len(rows)]
    out, first, second = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
    return Program(
        out,
        first,
        second,
        np.array([row[4] for row in rows]),
        len(number),
        n_features,
        tuple(bounds),
        tuple(names),
    )


def moment_factors(program: Program, layout: Layout) -> np.ndarray:
    """Return the number (K,) of neighborhood moments that are factors of features."""
    factors = np.zeros(program.n_values, dtype=np.int64)
    factors[layout.lattice : layout.end] = 1
    for out, first, second in zip(
        program.out, program.first, program.second, strict=True
    ):
        factors[out] = max(factors[out], factors[first] + factors[second])
    return factors[-program.n_features :]


@lru_cache(maxsize=16)
def compile_factors(layout: Layout) -> Factors:
    """Return the instructions for what is summed over neighbors."""
    build = _Builder(10)
    direction, spin, own = (1, 2, 3), (4, 5, 6), (7, 8, 9)
    monomials = Monomials.up_to(layout.degree)
    powers = [0, *direction]
    for parent, axis in zip(monomials.parent[4:], monomials.axis[4:], strict=True):
        powers.append(build.product(powers[parent], direction[axis]))
    channels, start = layout.channels, layout.channels
    powers = powers[: len(monomials.parent)]
    rows = [
        (x, 0, layout.angular if degree else channels)
        for degree, x in enumerate(powers)
    ]
    if layout.spin_channels:
        for degree, x in enumerate(powers[: n_monomials(layout.spin_degree)]):
            count = layout.spin_angular if degree else layout.spin_channels
            factors = [build.product(x, s) for s in spin] if degree else spin
            rows += [(y, start, count) for y in factors]
        aligned = build.add((1.0, *x) for x in zip(own, spin, strict=True))
        for y in (
            build.add((1.0, s, s) for s in spin),
            build.product(aligned, aligned),
        ):
            rows.append((y, start, layout.spin_channels))
    if layout.spin_orbit:
        polar = build.add((1.0, *x) for x in zip(own, direction, strict=True))
        square = build.product(polar, polar)
        rows.append((build.product(square, square), 0, channels))
    terms = [
        (build.start + k, a, b, c)
        for k, total in enumerate(build.sums)
        for c, a, b in total
    ]
    table = np.array(terms).reshape(-1, 4)
    out, first, second = (table[:, k].astype(np.int64) for k in range(3))
    coefficient = table[:, 3].copy()
    return Factors(out, first, second, coefficient, len(build.level), tuple(rows))


@lru_cache(maxsize=16)
def compile_invariants(layout: Layout) -> Program:
    """Return the instructions for all invariants of a layout.

    Invariants of the lattice are of two bodies (A0), three (products of two moments)
    and four; those of spins contain the atom's own reduced moment s, the moments of
    its neighbors, or both.
    """
    return _Invariants(layout).everything()
