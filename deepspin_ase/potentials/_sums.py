"""Potentials made of potentials: sums, committees and time-reversal symmetry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import cpu as fused
from ..kernels import cuda as fused_cuda
from ..neighbors import PairList, build_pairs, once_per_list
from ..quantities import QUANTITIES
from ..system import System
from ._base import Potential
from ._prediction import Prediction
from ._registry import register
from .terms._sites import RadialTerm


def _intersection(
    sets: Sequence[frozenset[int] | None],
) -> frozenset[int] | None:
    known = [s for s in sets if s is not None]
    return frozenset.intersection(*known) if known else None


class _Members(Potential):
    """Several potentials seen as one; they share the pair list."""

    def __init__(self, members: Sequence[Potential]) -> None:
        super().__init__()
        if not members:
            raise ValueError(f"{type(self).__name__} needs at least one potential")
        for member in members:
            if not isinstance(member, Potential):
                raise TypeError(f"{member!r} is not a Potential")
        self.members = nn.ModuleList(members)
        self.uses_spins = any(m.uses_spins for m in members)
        self.species = _intersection([m.species for m in members])
        self.magnetic_species = _intersection(
            [m.magnetic_species for m in members if m.uses_spins]
        )

    @property
    def _each(self) -> list[Potential]:
        return [m for m in self.members if isinstance(m, Potential)]

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments, for saving and printing."""
        return {"members": self._each}

    @property
    def cutoff(self) -> float:
        """Largest cutoff of the members, A."""
        return max(m.cutoff for m in self._each)

    def pair_cutoff(self, system: System) -> float:
        """Return the distance out to which pairs are needed, A."""
        return max(m.pair_cutoff(system) for m in self._each)

    def check(self, system: System) -> None:
        """Raise ValueError where a part does not apply to ``system``."""
        for member in self._each:
            member.check(system)

    def _evaluate_members(
        self, system: System, pairs: PairList | None, **options: bool
    ) -> list[Prediction]:
        if pairs is None:
            self.check(system)
            pairs = build_pairs(system, self.pair_cutoff(system))
        return [m.evaluate(system, pairs, **options) for m in self._each]


@register
class Sum(_Members):
    """Sum of potentials: an exchange term on a lattice, a network on a baseline."""

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        return torch.stack([m(system, pairs) for m in self._each]).sum(0)

    def evaluate(
        self, system: System, pairs: PairList | None = None, **options: bool
    ) -> Prediction:
        """Add the members' predictions; see :meth:`Potential.evaluate`.

        Deviations of committees among the members add in quadrature.
        """
        return evaluate_sum(self, _terms(self), system, pairs, **options)


def evaluate_sum(
    whole: Potential,
    terms: Sequence[Potential],
    system: System,
    pairs: PairList | None,
    **options: bool,
) -> Prediction:
    """Evaluate a potential that is a sum of terms; see :meth:`Potential.evaluate`.

    Pair terms go through compiled kernels together, and terms that leave their
    derivatives to autograd are differentiated together.
    """
    if pairs is None:
        whole.check(system)
        pairs = build_pairs(system, whole.pair_cutoff(system))
    parts: list[Prediction] = []
    rest = list(terms)
    if fused_cuda.has_kernels(system) and not options.get("create_graph", False):
        compilable = [t for t in terms if fused.is_compilable(t)]
        found = fused.evaluate_pairs(compilable, system, pairs, **options)
        if found is not None:
            parts.append(found)
            rest = [t for t in terms if t not in compilable]
    plain = [t for t in rest if _by_autograd(t)]
    if len(plain) == len(terms):
        return Potential.evaluate(whole, system, pairs, **options)
    if plain:
        parts.append(Potential.evaluate(Sum(plain), system, pairs, **options))
    parts += [t.evaluate(system, pairs, **options) for t in rest if t not in plain]
    return _added(parts)


def _terms(potential: Sum) -> list[Potential]:
    """Return the terms of a sum, those of plain sums among them included."""
    parts = [_terms(m) if type(m) is Sum else [m] for m in potential._each]
    return [term for part in parts for term in part]


def _by_autograd(potential: Potential) -> bool:
    """Tell whether a potential, or every term of it, has no derivatives of its own."""
    if isinstance(potential, Sum):
        return all(_by_autograd(member) for member in potential._each)
    own = type(potential).evaluate
    return own is Potential.evaluate or own is RadialTerm.evaluate


def _added(parts: Sequence[Prediction]) -> Prediction:
    sums = {
        name: torch.stack(values).sum(0)
        for name, values in _collected([part.quantities() for part in parts]).items()
    }
    deviations = {
        name: torch.stack(values).norm(dim=0)
        for name, values in _collected([part.deviations for part in parts]).items()
    }
    return parts[0].replace(**sums, deviations=deviations)


def _collected(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, list[Tensor]]:
    """Return the values by name, of those parts that have them."""
    values: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, value in part.items():
            values.setdefault(name, []).append(value)
    return values


@register
class Committee(_Members):
    """Mean of several potentials, with their standard deviations.

    ``Prediction.deviations`` holds the population standard deviation over the
    members of every quantity that was computed: the usual estimate of where a
    model is out of its depth (active learning: Zhang et al., Phys. Rev.
    Materials 3, 023804 (2019)).
    """

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        return torch.stack([m(system, pairs) for m in self._each]).mean(0)

    def evaluate(
        self, system: System, pairs: PairList | None = None, **options: bool
    ) -> Prediction:
        """Average the members' predictions; see :meth:`Potential.evaluate`."""
        parts = self._evaluate_members(system, pairs, **options)
        values = _collected([part.quantities() for part in parts])
        stacks = {name: torch.stack(found) for name, found in values.items()}
        return parts[0].replace(
            **{name: stack.mean(0) for name, stack in stacks.items()},
            deviations={
                name: stack.std(0, correction=0) for name, stack in stacks.items()
            },
        )


@register
class TimeReversal(Potential):
    """Exact time-reversal symmetry: (E(S) + E(-S)) / 2 of a potential.

    The pseudo-atom form does not know that the energy is even in the moments
    taken together; this wrapper makes it so with one batched evaluation of
    twice the size. External fields must be added outside of it.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.uses_spins = potential.uses_spins
        self.species = potential.species
        self.magnetic_species = potential.magnetic_species

    @property
    def cutoff(self) -> float:
        """Cutoff of the potential, A."""
        return self.potential.cutoff

    def pair_cutoff(self, system: System) -> float:
        """Return the distance out to which pairs are needed, A."""
        return self.potential.pair_cutoff(system)

    def check(self, system: System) -> None:
        """Raise ValueError where a part does not apply to ``system``."""
        self.potential.check(system)

    @staticmethod
    def _both(system: System, pairs: PairList) -> tuple[System, PairList]:
        reversed_ = system.replace(spins=-system.spins)
        listed = PairList(*_twice(pairs, system.n_atoms), pairs.cutoff)
        return System.cat([system, reversed_]), listed

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        energies = self.potential(*self._both(system, pairs))
        return 0.5 * (energies[: system.n_atoms] + energies[system.n_atoms :])

    def evaluate(
        self, system: System, pairs: PairList | None = None, **options: bool
    ) -> Prediction:
        """Evaluate both orientations at once; see :meth:`Potential.evaluate`."""
        if pairs is None:
            self.check(system)
            pairs = build_pairs(system, self.pair_cutoff(system))
        system, pairs = self._both(system, pairs)
        both = self.potential.evaluate(system, pairs, **options)
        return _mean_of_halves(both)


@once_per_list
def _twice(pairs: PairList, n_atoms: int) -> tuple[Tensor, Tensor, Tensor]:
    both = pairs.repeated(2, n_atoms)
    return both.i, both.j, both.shift


def _mean_of_halves(both: Prediction) -> Prediction:
    """Average a batch [S, -S]; quantities odd in S enter with their sign."""
    values = {"volume": both.volume.chunk(2)[0]}
    for name, value in both.quantities().items():
        first, second = value.chunk(2)
        values[name] = 0.5 * (first + QUANTITIES[name].time_reversal * second)
    return Prediction(**values, deviations=None)
