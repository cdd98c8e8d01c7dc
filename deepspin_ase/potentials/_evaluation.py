"""Evaluation of potentials term by term: compiled, by their own means, by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..kernels import has_kernels
from ..neighbors import PairList
from ..system import System
from ._base import Potential
from ._compiled import pair_kernel, types_of
from ._prediction import Prediction


def evaluate(
    potential: Potential,
    system: System,
    pairs: PairList,
    *,
    forces: bool,
    magnetic_forces: bool,
    virial: bool,
    create_graph: bool,
) -> Prediction:
    """Evaluate a potential that has passed its check.

    Pair terms go through compiled kernels together, and terms that leave their
    derivatives to autograd are differentiated together. See
    :meth:`Potential.evaluate` for the parameters.
    """
    options = {
        "forces": forces,
        "magnetic_forces": magnetic_forces,
        "virial": virial,
        "create_graph": create_graph,
    }
    terms = rest = potential.terms()
    parts: list[Prediction] = []
    if not create_graph and has_kernels(system.device):
        compiled, rest = _by_pair_kernel(terms, system, pairs, options)
        parts += compiled
    plain: list[Potential] = []
    own: list[Prediction] = []
    for term in rest:
        found = term.predict(system, pairs, **options)
        if found is None:
            plain.append(term)
        else:
            own.append(found)
    if len(plain) == len(terms):
        parts.append(_by_autograd(potential, system, pairs, **options))
    elif plain:
        parts.append(_by_autograd(_sum_of(plain), system, pairs, **options))
    total = added(parts + own)
    with torch.set_grad_enabled(create_graph):
        further = collected([term.further_quantities(system, pairs) for term in terms])
    sums = {name: torch.stack(values).sum(0) for name, values in further.items()}
    return total.replace(**sums) if sums else total


def _by_pair_kernel(
    terms: Sequence[Potential],
    system: System,
    pairs: PairList,
    options: dict[str, bool],
) -> tuple[list[Prediction], list[Potential]]:
    """Evaluate the terms that compiled kernels take; return what is left."""
    species, types = types_of(system.species)
    described = [(term, term.pair_term(species)) for term in terms]
    data = tuple(found for _, found in described if found is not None)
    kernel = pair_kernel(data, species, system.device) if data else None
    if kernel is None:
        return [], list(terms)
    system = system.detach()
    sums = kernel(system, pairs, types)
    if sums is None:
        return [], list(terms)
    energies, pull, gradients, work = (x.to(system.dtype) for x in sums)
    prediction = Prediction(
        energy=system.sum(energies),
        energies=energies,
        volume=system.volume,
        forces=pull if options["forces"] else None,
        magnetic_forces=-gradients if options["magnetic_forces"] else None,
        virial=work if options["virial"] else None,
    )
    return [prediction], [term for term, found in described if found is None]


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
        energies = forward(moved, pairs)
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
    sums = {
        name: torch.stack(values).sum(0)
        for name, values in collected([part.quantities() for part in parts]).items()
    }
    deviations = {
        name: torch.stack(values).norm(dim=0)
        for name, values in collected([part.deviations for part in parts]).items()
    }
    return parts[0].replace(**sums, deviations=deviations)


def collected(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, list[Tensor]]:
    """Return the values by name, of those parts that have them."""
    values: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, value in part.items():
            values.setdefault(name, []).append(value)
    return values
