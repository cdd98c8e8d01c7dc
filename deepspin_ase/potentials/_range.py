"""What a potential was trained on, and structures that leave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

import torch
from ase.data import chemical_symbols
from torch import Tensor

from ..neighbors import PairList
from ..system import System
from ._registry import register

#: Titles, units and margins, relative, of the kinds of bounds. A structure may leave
#: them by the margin in silence.
KINDS = {
    "volume": ("volume per atom", "A^3", 0.01),
    "distance": ("shortest distance", "A", 0.03),
    "moment": ("length of the moments", "mu_B", 0.05),
    "features": ("features of", "standard deviations", 1.0),
}


@register
@dataclass(frozen=True)
class TrainingRange:
    """What a potential was trained on.

    Attributes
    ----------
    bounds : dict of (float, float)
        Least and largest values: ``volume``, per atom, A^3, of structures that are
        periodic in three directions; ``distance A-B``, between neighbors, A, the
        largest infinite; ``moment A``, |m| of atoms of an element that may carry
        moments, mu_B; ``features A``, distances of a network's features from their
        mean, in standard deviations.
    labels : tuple of str
        Quantities that the structures were labelled with.
    n_frames : int
    """

    bounds: dict[str, tuple[float, float]]
    labels: tuple[str, ...]
    n_frames: int

    def __post_init__(self) -> None:
        """Take what was read from a file, too."""
        bounds = {
            k: (float(low), float(high)) for k, (low, high) in self.bounds.items()
        }
        if unknown := {name.partition(" ")[0] for name in bounds} - KINDS.keys():
            raise ValueError(f"unknown bounds {', '.join(sorted(unknown))}")
        object.__setattr__(self, "bounds", bounds)
        object.__setattr__(self, "labels", tuple(map(str, self.labels)))
        object.__setattr__(self, "n_frames", int(self.n_frames))

    @classmethod
    def of(
        cls,
        structures: Iterable[tuple[System, PairList]],
        *,
        magnetic: frozenset[int] | None,
        labels: Iterable[str],
    ) -> TrainingRange:
        """Return the range of structures with their pairs.

        Parameters
        ----------
        structures : iterable of (System, PairList)
        magnetic : set of int, or None
            Atomic numbers that may carry moments; None for any.
        labels : iterable of str
        """
        bounds: dict[str, tuple[float, float]] = {}
        n_frames = 0
        for system, pairs in structures:
            n_frames += system.n_systems
            for name, (low, high) in extremes(system, pairs, magnetic).items():
                a, b = bounds.get(name, (inf, -inf))
                bounds[name] = min(a, low), max(b, high)
        return cls(dict(sorted(bounds.items())), tuple(labels), n_frames)

    @property
    def elements(self) -> frozenset[str]:
        """Elements that bounds are of; none of atoms that are alone."""
        return frozenset().union(*map(_elements_of, self.bounds))

    def extended(self, bounds: Mapping[str, tuple[float, float]]) -> TrainingRange:
        """Return a range with further bounds."""
        return replace(self, bounds=self.bounds | dict(bounds))

    def with_elements_of(self, earlier: TrainingRange) -> TrainingRange:
        """Return a range with the bounds of elements that only earlier frames had."""
        bounds = earlier.bounds.items()
        return self.extended(
            {k: v for k, v in bounds if not _elements_of(k) <= self.elements}
        )

    def __str__(self) -> str:
        lines = [f"{self.n_frames} frames with {', '.join(self.labels) or 'no labels'}"]
        for name in self.bounds:
            title, unit, _ = _described(name)
            lines.append(f"{title:<28}{self._limits(name, unit)}")
        return "\n".join(lines)

    def _limits(self, name: str, unit: str) -> str:
        low, high = self.bounds[name]
        if high == inf:
            return f"{low:.4g} {unit} and more"
        one = f"{low:.4g}" == f"{high:.4g}"
        return f"{low:.4g} {unit} alone" if one else f"{low:.4g} to {high:.4g} {unit}"

    def left_by(self, found: Mapping[str, tuple[float, float]]) -> dict[str, str]:
        """Return a sentence per bound that is left.

        Parameters
        ----------
        found : mapping
            As :func:`extremes` returns it.
        """
        sentences = {}
        for name, (least, most) in found.items():
            title, unit, margin = _described(name)
            if name not in self.bounds:
                sentences[name] = f"{title}: the model was trained on none"
                continue
            low, high = self.bounds[name]
            if least < low * (1.0 - margin):
                value = least
            elif high * (1.0 + margin) < most:
                value = most
            else:
                continue
            known = f"the model was trained on {self._limits(name, unit)}"
            if name == "volume" and "virial" not in self.labels:
                known += " and has seen no stress"
            sentences[name] = f"{title} {value:.4g} {unit}: {known}"
        return sentences


def _elements_of(name: str) -> frozenset[str]:
    """Return the elements that a bound is of."""
    symbols = name.partition(" ")[2]
    return frozenset(symbols.split("-") if symbols else ())


def _described(name: str) -> tuple[str, str, float]:
    """Return title, unit and margin of a bound."""
    kind, *elements = name.split()
    title, unit, margin = KINDS[kind]
    return " ".join([title, *elements]), unit, margin


@torch.no_grad()
def extremes(
    system: System, pairs: PairList, magnetic: frozenset[int] | None
) -> dict[str, tuple[float, float]]:
    """Return least and largest values of what :class:`TrainingRange` bounds.

    Lengths of moments are those of elements in ``magnetic``; if it is None, of elements
    of which an atom carries one.
    """
    found: dict[str, tuple[float, float]] = {}
    periodic = system.pbc.all(dim=1)
    if bool(periodic.any()):
        volume = (system.volume / system.counts())[periodic]
        found["volume"] = float(volume.min()), float(volume.max())
    elements, types = torch.unique(system.species, return_inverse=True)
    symbols = [chemical_symbols[z] for z in elements.tolist()]
    n = len(symbols)
    squares = pairs.vectors(system).square().sum(1)
    pair_types = types[pairs.i] * n + types[pairs.j]
    shortest = _least(squares, pair_types, n * n).sqrt()
    for k, distance in enumerate(shortest.tolist()):
        a, b = sorted((symbols[k // n], symbols[k % n]))
        if k // n <= k % n and distance < pairs.cutoff:
            found[f"distance {a}-{b}"] = distance, inf
    lengths = system.spins.norm(dim=1)
    least, most = _least(lengths, types, n), -_least(-lengths, types, n)
    for z, symbol, low, high in zip(
        elements.tolist(), symbols, least.tolist(), most.tolist(), strict=True
    ):
        if high > 0.0 if magnetic is None else z in magnetic:
            found[f"moment {symbol}"] = low, high
    return found


def _least(values: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Return the least value of each group, infinity where there is none."""
    start = values.new_full((n_groups,), torch.inf)
    return start.scatter_reduce(0, groups, values, "amin")
