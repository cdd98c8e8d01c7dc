"""Potentials made of potentials: sums, committees and time-reversal symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from .._validate import as_symbols, atomic_numbers_of
from ..neighbors import PairList
from ..quantities import QUANTITIES
from ..system import System
from ._base import Potential, Predictor
from ._evaluation import Evaluation, Wanted, collected, differentiable
from ._kernels import Kernels
from ._prediction import Prediction
from ._registry import register


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
        self.is_local = all(m.is_local for m in members)
        self.external = any(m.external for m in members)
        self.gives_forces = all(m.gives_forces for m in members)
        self.gives_virial = all(m.gives_virial for m in members)
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

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the largest range of the members, A; None if one is not known."""
        counted = [m for m in self._each if m.uses_spins or not moments_only]
        found = [
            m.interaction_range(system, moments_only=moments_only) for m in counted
        ]
        known = [x for x in found if x is not None]
        return max([0.0, *known]) if len(known) == len(found) else None


@register
class Sum(_Members):
    """Sum of potentials: an exchange term on a lattice, a network on a baseline.

    Parameters
    ----------
    members : sequence of Potential
    elements : sequence of symbols, optional
        The elements that may occur, where the sum describes one material; others are
        refused. By default those that all members know.
    magnetic : sequence of symbols, optional
        Those of them that may carry a moment.
    """

    def __init__(
        self,
        members: Sequence[Potential],
        *,
        elements: Sequence[str] | None = None,
        magnetic: Sequence[str] | None = None,
    ) -> None:
        super().__init__(members)
        self.elements = as_symbols(elements)
        self.magnetic = as_symbols(magnetic)
        if self.elements is not None:
            self.species = frozenset(atomic_numbers_of(self.elements))
        if self.magnetic is not None:
            self.magnetic_species = frozenset(atomic_numbers_of(self.magnetic))

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments, for saving and printing."""
        limits = {"elements": self.elements, "magnetic": self.magnetic}
        given = {name: value for name, value in limits.items() if value is not None}
        return super().arguments() | given

    def check(self, system: System) -> None:
        """Raise ValueError for foreign atoms and misplaced moments."""
        if self.elements is not None or self.magnetic is not None:
            Potential.check(self, system)
        super().check(system)

    def terms(self) -> list[Potential]:
        """Return the terms of the members, those of sums among them included."""
        if type(self).forward is not Sum.forward:  # of a class derived from this one
            return [self]
        return [term for member in self._each for term in member.terms()]

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        return torch.stack([m(system, pairs) for m in self._each]).sum(0)


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

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        create_graph: bool,
        **wanted: Unpack[Wanted],
    ) -> Prediction:
        """Average the members' predictions; see :meth:`Potential.evaluate`."""
        parts = [differentiable(m, system, pairs, **wanted) for m in self._each]
        return _average(parts)

    def compiled(self, kernels: Kernels) -> Predictor:
        """Return what averages over compiled members."""
        return _CompiledCommittee([Evaluation(m, kernels) for m in self._each])


class _CompiledCommittee:
    """Mean of compiled potentials."""

    def __init__(self, members: Sequence[Evaluation]) -> None:
        self.members = members

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        create_graph: bool,
        **wanted: Unpack[Wanted],
    ) -> Prediction:
        return _average([member(system, pairs, **wanted) for member in self.members])


def _average(parts: Sequence[Prediction]) -> Prediction:
    """Return the mean of predictions with their standard deviations."""
    values = collected([part.quantities() for part in parts])
    stacks = {name: torch.stack(found) for name, found in values.items()}
    return parts[0].replace(
        **{name: stack.mean(0) for name, stack in stacks.items()},
        deviations={name: stack.std(0, correction=0) for name, stack in stacks.items()},
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
        self.is_local = potential.is_local
        self.external = potential.external
        self.gives_forces = potential.gives_forces
        self.gives_virial = potential.gives_virial
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

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the range of the potential, A."""
        return self.potential.interaction_range(system, moments_only=moments_only)

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        energies = self.potential(*_both(system, pairs))
        return 0.5 * (energies[: system.n_atoms] + energies[system.n_atoms :])

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        create_graph: bool,
        **wanted: Unpack[Wanted],
    ) -> Prediction:
        """Evaluate both orientations at once; see :meth:`Potential.evaluate`."""
        both = differentiable(self.potential, *_both(system, pairs), **wanted)
        return _mean_of_halves(both)

    def deviations(self, system: System, pairs: PairList) -> dict[str, Tensor]:
        """Return the estimates of the potential."""
        return self.potential.deviations(system, pairs)

    def compiled(self, kernels: Kernels) -> Predictor:
        """Return what evaluates both orientations of the compiled potential."""
        return _CompiledReversal(Evaluation(self.potential, kernels))


class _CompiledReversal:
    """(E(S) + E(-S))/2 of a compiled potential."""

    def __init__(self, evaluate: Evaluation) -> None:
        self.evaluate = evaluate

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        create_graph: bool,
        **wanted: Unpack[Wanted],
    ) -> Prediction:
        return _mean_of_halves(self.evaluate(*_both(system, pairs), **wanted))


def _both(system: System, pairs: PairList) -> tuple[System, PairList]:
    """Return a System and its time reversal as one, with their pairs."""
    turned = system.replace(spins=-system.spins)
    listed = pairs.derived(_twice, system.n_atoms).with_cutoff(pairs.cutoff)
    return System.cat([system, turned]), listed


def _twice(pairs: PairList, n_atoms: int) -> PairList:
    return pairs.repeated(2, n_atoms)


def _mean_of_halves(both: Prediction) -> Prediction:
    """Average a batch [S, -S]; quantities odd in S enter with their sign."""
    values = {"volume": both.volume.chunk(2)[0]}
    for name, value in both.quantities().items():
        first, second = value.chunk(2)
        values[name] = 0.5 * (first + QUANTITIES[name].time_reversal * second)
    return Prediction(**values, deviations=None)
