"""Pair terms of Hamiltonians, all at once, in a compiled kernel.

Terms whose energy is a function of distance times a factor of the moments are added
up to one table for every pair of elements.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ... import _validate as _arguments
from ...neighbors import PairList
from ...potentials._base import Potential, Prediction
from ...potentials.radial import Radial, knots_of
from ...potentials.terms._exchange import Biquadratic, Heisenberg, MomentExchange
from ...potentials.terms._pairwise import PairPotential
from ...potentials.terms._sites import RadialTerm
from ...system import System
from ._geometry import Geometry
from ._tables import Curve, Jet, NotTabulable, elementwise_jet, joined
from ._threads import share

if TYPE_CHECKING:
    from ._pair_kernels import PairModel

logger = logging.getLogger(__name__)

#: Shortest distance of the tables, A; below, terms are evaluated themselves.
NEAREST = 0.5

#: Largest error of a slope, relative to the value or slope there, or to FLOOR.
TOLERANCE = 1e-11

#: Below this, eV or eV/A, errors count absolutely.
FLOOR = 1e-2

#: Fewest atoms that are worth a thread.
LEAST = 128


class _Term(NamedTuple):
    """What a table is made from: a term's function and its factors of the moments."""

    radial: Radial
    factors: tuple[tuple[str, float], ...]
    elements: tuple[str, str] | None


def _exchange(name: str, reference: str) -> Callable[[Any], dict[str, float]]:
    def factors(term: Any) -> dict[str, float]:
        subtracted = {reference: 1.0} if term.subtract_collinear else {}
        return {name: -1.0, **subtracted}

    return factors


#: Energies of the terms as multiples of :data:`.pair_kernels.FACTORS`.
_FACTORS: dict[type, Callable[[Any], dict[str, float]]] = {
    PairPotential: lambda term: {"one": 1.0},
    Heisenberg: _exchange("alignment", "carriers"),
    MomentExchange: _exchange("product", "lengths"),
    Biquadratic: lambda term: {"alignment^2": -1.0},
}


def is_compilable(potential: Potential) -> bool:
    """Tell whether a potential is a pair term that :func:`evaluate_pairs` knows.

    Derived classes may be anything, and functions that can change are not tabulated.
    """
    return (
        isinstance(potential, RadialTerm)
        and type(potential) in _FACTORS
        and potential.backend == "fused"
        and _is_constant(potential.radial)
    )


def _is_constant(radial: Any) -> bool:
    """Tell whether a function is made of frozen dataclasses and numbers all through."""
    try:
        return _consists_of_constants(radial)
    except TypeError:  # it has no hash
        return False


@lru_cache(maxsize=256)
def _consists_of_constants(value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float | str):
        return True
    if isinstance(value, tuple):
        return all(_consists_of_constants(v) for v in value)
    parameters = getattr(type(value), "__dataclass_params__", None)
    return (
        parameters is not None
        and parameters.frozen
        and all(
            _consists_of_constants(getattr(value, f.name))
            for f in dataclasses.fields(value)
        )
    )


def evaluate_pairs(
    terms: Sequence[Potential],
    system: System,
    pairs: PairList,
    *,
    forces: bool = True,
    magnetic_forces: bool = True,
    virial: bool = True,
    create_graph: bool = False,
) -> Prediction | None:
    """Evaluate the sum of pair terms in a kernel; see :meth:`Potential.evaluate`.

    Parameters
    ----------
    terms : sequence of Potential
        For all of which :func:`is_compilable` holds.

    Returns
    -------
    Prediction, or None
        None where only the terms themselves give the answer: there are none, a
        function is not smooth between its knots, atoms are very close, the input is
        not finite, or a graph is asked for.
    """
    if not terms or create_graph:
        return None
    species, types = _types(system.species)
    system = system.detach()
    model = _model(tuple(map(_described, terms)), species)
    if model is None:
        return None
    if system.device.type == "cpu":
        sums = _sums(model, system, pairs, types)
    else:
        from ..cuda._pair_terms import pair_sums

        sums = pair_sums(model, system, pairs, types)
    if sums is None:
        return None
    energies, pull, fields, work = (x.to(system.dtype) for x in sums)
    return Prediction(
        energy=system.sum(energies),
        energies=energies,
        volume=system.volume,
        forces=pull if forces else None,
        magnetic_forces=-fields if magnetic_forces else None,
        virial=work if virial else None,
    )


#: Elements and types by the tensor of atomic numbers, as often as it was written to.
_types_of: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _types(numbers: Tensor) -> tuple[tuple[int, ...], Tensor]:
    """Return the elements that occur, and which of them each atom is, (N,).

    Kept as long as the tensor lives: to look at it means to wait for its device.
    """
    known = _types_of.get(numbers)
    if known is None or known[0] != numbers._version:
        species, types = torch.unique(numbers, return_inverse=True)
        known = (numbers._version, tuple(species.tolist()), types)
        _types_of[numbers] = known
    return known[1], known[2]


def _sums(
    model: PairModel, system: System, pairs: PairList, types: Tensor
) -> tuple[Tensor, ...] | None:
    """Return energies (N,), forces and dE/dm (N, 3), and virial (B, 3, 3).

    None where atoms are too close for the tables, or the input is not finite.
    """
    from ._pair_kernels import Moments, add_pairs

    finite = system.positions.sum() + system.spins.sum() + system.cell.sum()
    if not torch.isfinite(finite):
        return None
    geometry = Geometry.of(system, pairs, types)
    n, workers = system.n_atoms, torch.get_num_threads()
    lengths = system.spins.double().norm(dim=1)
    unit = system.spins.double() / lengths.clamp_min(1e-300)[:, None]
    moments = Moments(lengths.numpy(), unit.numpy())
    shapes = ((n,), (n, 3), (n, 3), (workers, system.n_systems, 3, 3))
    sums = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    *by_atom, virial = (x.numpy() for x in sums)
    done: list[bool] = []

    def work(worker: int, begin: int, end: int) -> None:
        own = (*by_atom, virial[worker])
        done.append(add_pairs(begin, end, geometry, moments, model, *own))

    share(work, n, least=LEAST, workers=workers)
    return (*sums[:3], sums[3].sum(0)) if all(done) else None


def _described(term: Any) -> _Term:
    factors = tuple(_FACTORS[type(term)](term).items())
    return _Term(term.radial, factors, term.elements)


class _Functions(Curve):
    """The functions of distance of one pair of elements, one for each factor."""

    def __init__(self, terms: Sequence[_Term], elements: tuple[int, int]) -> None:
        self.terms = [t for t in terms if _applies(t, elements)]

    def jet(self, x: Tensor) -> Jet:
        """Return values and derivatives, (n, 6), at distances x (n,)."""
        from ._pair_kernels import FACTORS

        sums = [x.new_zeros(len(x), len(FACTORS)) for _ in range(3)]
        for term in self.terms:
            found = elementwise_jet(term.radial, x)
            for name, weight in term.factors:
                for total, values in zip(sums, found, strict=True):
                    total[:, FACTORS.index(name)] += weight * values
        return sums[0], sums[1], sums[2]

    def weights(self, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Weigh with the inverse of the largest value or slope."""
        size = torch.maximum(value.abs().amax(1), slope.abs().amax(1))
        return 1.0 / size.clamp_min(FLOOR)


def _applies(term: _Term, elements: tuple[int, int]) -> bool:
    if term.elements is None:
        return True
    first, second = _arguments.numbers(term.elements)
    return elements in ((first, second), (second, first))


@lru_cache(maxsize=32)
def _model(terms: tuple[_Term, ...], species: tuple[int, ...]) -> PairModel | None:
    """Return the tables of a sum of terms; None where one cannot be tabulated."""
    from ._pair_kernels import PairModel

    edges = _edges([term.radial for term in terms])
    low, length = edges[:-1], edges.diff()
    n = len(species)
    keys = [(a, b) for a in range(n) for b in range(a, n)]
    try:
        curves = [_Functions(terms, (species[a], species[b])) for a, b in keys]
        made = [curve.tabulate(low, length, TOLERANCE) for curve in curves]
    except NotTabulable as error:
        logger.warning(
            "a pair term is %s A; it is evaluated itself, which is slower", error
        )
        return None
    tables, starts, counts = joined(made, torch.float64, 1)
    first = np.zeros((n, n, len(low)), np.uint64)
    cells = np.zeros((n, n, len(low)))
    for k, (a, b) in enumerate(keys):
        first[a, b] = first[b, a] = starts[k]
        cells[a, b] = cells[b, a] = counts[k]
    by_function = np.ascontiguousarray(tables.transpose(0, 2, 1))
    return PairModel(edges.numpy(), by_function, first, cells, cells / length.numpy())


def _edges(radials: Sequence[Radial]) -> Tensor:
    """Return the bounds of sections, A: knots of the functions, and some between."""
    last = max(radial.cutoff for radial in radials)
    bounds = {NEAREST, last}
    for radial in radials:
        bounds |= {x for x in (*knots_of(radial), radial.cutoff) if NEAREST < x < last}
    between = NEAREST
    while (between := between * 2.0**0.5) < last:
        bounds.add(between)
    ordered = sorted(bounds)
    kept = [x for x, y in itertools.pairwise(ordered) if y - x > 1e-9]
    return torch.tensor([*kept, last], dtype=torch.float64)
