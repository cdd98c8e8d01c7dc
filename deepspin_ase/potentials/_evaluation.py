"""Evaluation of potentials term by term: compiled, by their own means, by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor
from typing_extensions import Unpack

from ..kernels import PairKernel
from ..neighbors import PairList
from ..system import System
from ._base import Potential, Predictor
from ._kernels import Kernels, Species
from ._prediction import Prediction

#: A term and what predicts its energy and derivatives.
_Part = tuple[Potential, Predictor]


class Wanted(TypedDict):
    """Which derivatives to compute; see :meth:`Potential.evaluate`."""

    forces: bool
    magnetic_forces: bool
    virial: bool


class Evaluation:
    """A potential taken apart for evaluations without a graph.

    Pair terms go through compiled kernels together, other terms through what they
    compile to (:meth:`Potential.compiled`), and those that leave their derivatives to
    autograd are differentiated together. All that is found out at the first call, and
    again at the next one after :meth:`refresh`.

    Parameters
    ----------
    potential : Potential
    kernels : Kernels
        Where compiled kernels are kept.
    """

    def __init__(self, potential: Potential, kernels: Kernels) -> None:
        self.potential = potential
        self.kernels = kernels
        self.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy potential and kernels: the rest is found out again."""
        return type(self), (self.potential, self.kernels)

    def refresh(self) -> None:
        """Take the potential as it is at the next call."""
        self._parts: list[_Part] = []
        self._by_species: dict[Species, tuple[PairKernel | None, list[_Part]]] = {}
        self._last: _Types | None = None

    def __call__(
        self,
        system: System,
        pairs: PairList,
        *,
        deviations: bool = False,
        **wanted: Unpack[Wanted],
    ) -> Prediction:
        """Evaluate a System that has passed the check of the potential."""
        if not self._parts:
            self._parts = [
                (term, term.compiled(self.kernels)) for term in self.potential.terms()
            ]
        system = system.detach()
        species, types = self._types(system.species)
        kernel, rest = self._divided(species)
        sums = None if kernel is None else kernel(system, pairs, types)
        if sums is None:
            found = _predicted(
                self._parts, system, pairs, deviations=deviations, **wanted
            )
            total = added(found)
            return self._with_further(total, system, pairs)
        energies, pull, gradients, work = (x.to(system.dtype) for x in sums)
        first = Prediction(
            energy=system.sum(energies),
            energies=energies,
            volume=system.volume,
            forces=pull if wanted["forces"] else None,
            magnetic_forces=-gradients if wanted["magnetic_forces"] else None,
            virial=work if wanted["virial"] else None,
        )
        found = _predicted(rest, system, pairs, deviations=deviations, **wanted)
        total = added([first, *found])
        return self._with_further(total, system, pairs)

    @torch.no_grad()
    def _with_further(
        self, total: Prediction, system: System, pairs: PairList
    ) -> Prediction:
        return _with_further(total, [term for term, _ in self._parts], system, pairs)

    def _divided(self, species: Species) -> tuple[PairKernel | None, list[_Part]]:
        """Return the kernel of the pair terms of these elements, and other terms."""
        if species not in self._by_species:
            described = [term.pair_term(species) for term, _ in self._parts]
            data = tuple(found for found in described if found is not None)
            kernel = self.kernels.pairs(self.potential, data, species)
            rest = [
                part
                for part, found in zip(self._parts, described, strict=True)
                if found is None
            ]
            self._by_species[species] = kernel, rest
        return self._by_species[species]

    def _types(self, numbers: Tensor) -> tuple[Species, Tensor]:
        """Return the elements that occur, and which of them each atom is, (N,)."""
        last = self._last
        if last is None or not last.are_of(numbers):
            last = self._last = _Types.of(numbers)
        return last.species, last.types


class _Types(NamedTuple):
    """Atomic numbers (N,), how often they had been written to, and what they are."""

    numbers: Tensor
    version: int
    values: Tensor
    species: Species
    types: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> _Types:
        species, types = torch.unique(numbers, return_inverse=True)
        elements = tuple(species.tolist())
        return cls(numbers, numbers._version, numbers.clone(), elements, types)

    def are_of(self, numbers: Tensor) -> bool:
        # To compare values means to wait for a device: the same tensor, not written to
        # since, needs no look.
        if self.numbers is numbers and self.version == numbers._version:
            return True
        return numbers.device.type == "cpu" and torch.equal(self.values, numbers)


def differentiable(
    potential: Potential, system: System, pairs: PairList, **wanted: Unpack[Wanted]
) -> Prediction:
    """Evaluate a potential in torch, with the graph of its parameters."""
    terms = potential.terms()
    parts: list[_Part] = [(term, term) for term in terms]
    total = added(_predicted(parts, system, pairs, create_graph=True, **wanted))
    with torch.enable_grad():
        return _with_further(total, terms, system, pairs)


def _with_further(
    total: Prediction, terms: Sequence[Potential], system: System, pairs: PairList
) -> Prediction:
    """Add what terms predict besides the energy and its derivatives."""
    further = collected([term.further_quantities(system, pairs) for term in terms])
    sums = {name: reduce(torch.add, values) for name, values in further.items()}
    return total.replace(**sums) if sums else total


def _predicted(
    parts: Sequence[_Part],
    system: System,
    pairs: PairList,
    *,
    create_graph: bool = False,
    deviations: bool = False,
    **wanted: Unpack[Wanted],
) -> list[Prediction]:
    """Return predictions of terms, by autograd where their predictors give none."""
    predictions: list[Prediction] = []
    plain: list[Potential] = []
    estimates: list[Mapping[str, Tensor]] = []
    for term, predictor in parts:
        together = getattr(predictor, "predict_with_deviations", None)
        found = None
        if deviations and together is not None:
            found = together(system, pairs, **wanted)
        if found is None:
            found = predictor.predict(
                system, pairs, create_graph=create_graph, **wanted
            )
            known = term.deviations(system, pairs) if deviations else {}
            if found is None:
                plain.append(term)
                estimates.append(known)
            elif known:
                found = found.replace(deviations=known)
        if found is not None:
            predictions.append(found)
    if plain:
        forward = plain[0] if len(plain) == 1 else _sum_of(plain)
        found = _by_autograd(
            forward, system, pairs, create_graph=create_graph, **wanted
        )
        predictions.insert(0, found.replace(deviations=_in_quadrature(estimates)))
    return predictions


def _sum_of(terms: Sequence[Potential]) -> Callable[[System, PairList], Tensor]:
    """Return the per-atom energies of several terms as one function."""

    def forward(system: System, pairs: PairList) -> Tensor:
        return torch.stack([term(system, pairs) for term in terms]).sum(0)

    return forward


def _by_autograd(
    forward: Callable[[System, PairList], Tensor],
    system: System,
    pairs: PairList,
    *,
    forces: bool,
    magnetic_forces: bool,
    virial: bool,
    create_graph: bool,
) -> Prediction:
    """Differentiate per-atom energies."""
    with torch.enable_grad():
        positions = system.positions.detach().requires_grad_(forces)
        spins = system.spins.detach().requires_grad_(magnetic_forces)
        moved = system.replace(positions=positions, spins=spins)
        strain = torch.zeros_like(system.cell).requires_grad_(virial)
        if virial:
            moved = moved.strained(strain)
        energies = forward(moved, pairs.bound(moved))
        leaves = [leaf for leaf in (positions, spins, strain) if leaf.requires_grad]
        gradients: list[Tensor] = []
        if leaves and energies.requires_grad:
            found = torch.autograd.grad(
                energies.sum(), leaves, create_graph=create_graph, allow_unused=True
            )
            gradients = [
                torch.zeros_like(leaf) if g is None else -g
                for g, leaf in zip(found, leaves, strict=True)
            ]
        else:
            gradients = [torch.zeros_like(leaf) for leaf in leaves]
    results = iter(gradients)
    if not create_graph:
        energies = energies.detach()
    return Prediction(
        energy=system.sum(energies),
        energies=energies,
        volume=system.volume.detach(),
        forces=next(results) if forces else None,
        magnetic_forces=next(results) if magnetic_forces else None,
        virial=next(results) if virial else None,
    )


def added(parts: Sequence[Prediction]) -> Prediction:
    """Return the sum of predictions; deviations add in quadrature."""
    if len(parts) == 1:
        return parts[0]
    sums: dict[str, Tensor | None] = {
        name: reduce(torch.add, values)
        for name, values in collected([part.quantities() for part in parts]).items()
    }
    deviations = _in_quadrature([part.deviations for part in parts])
    if any(part.virial is None for part in parts):
        sums["virial"] = None
    return parts[0].replace(**sums, deviations=deviations)


def _in_quadrature(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the deviations of a sum whose parts err independently."""
    return {n: torch.stack(x).norm(dim=0) for n, x in collected(parts).items()}


def collected(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, list[Tensor]]:
    """Return the values by name, of those parts that have them."""
    values: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, value in part.items():
            values.setdefault(name, []).append(value)
    return values
