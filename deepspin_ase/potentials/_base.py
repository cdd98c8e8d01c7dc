"""The contract between potentials and everything that uses them."""

from __future__ import annotations

from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from ..neighbors import PairList, build_pairs
from ..system import System
from ._prediction import Prediction


class Potential(nn.Module):
    """Energy of atoms and moments; everything else is its derivative.

    A subclass implements :meth:`forward` in differentiable torch. Constructor
    arguments are kept as attributes of the same names: that is all that
    saving and printing a potential need. Potentials add: ``Sum([a, b])``.
    """

    #: Whether the energy depends on the moments.
    uses_spins: bool = True

    #: Atomic numbers that the potential knows; None for any.
    species: frozenset[int] | None = None

    #: Atomic numbers that may carry a moment; None for any.
    magnetic_species: frozenset[int] | None = None

    @property
    def cutoff(self) -> float:
        """Largest interaction distance between sites, A."""
        return 0.0

    def pair_cutoff(self, system: System) -> float:
        """Return the distance out to which pairs of atoms are needed, A."""
        return self.cutoff

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        raise NotImplementedError

    def check(self, system: System) -> None:
        """Raise ValueError where the potential does not apply to ``system``."""
        if self.species is None and self.magnetic_species is None:
            return
        present, carrying = _elements(system)
        if self.species is not None:
            for z in present:
                if z not in self.species:
                    known = ", ".join(chemical_symbols[k] for k in sorted(self.species))
                    raise ValueError(
                        f"the potential does not know the element "
                        f"{chemical_symbols[z]}; it knows {known}"
                    )
        if self.magnetic_species is not None and self.uses_spins:
            for z in carrying:
                if z not in self.magnetic_species:
                    raise ValueError(
                        f"{chemical_symbols[z]} carries a moment but is non-magnetic "
                        "in this potential; set its moments to zero"
                    )

    def evaluate(
        self,
        system: System,
        pairs: PairList | None = None,
        *,
        forces: bool = True,
        magnetic_forces: bool = True,
        virial: bool = True,
        create_graph: bool = False,
    ) -> Prediction:
        """Return the energy and the derivatives asked for.

        Parameters
        ----------
        system : System
        pairs : PairList, optional
            Complete out to ``pair_cutoff(system)``; built here if omitted.
        forces, magnetic_forces, virial : bool
            Which derivatives to compute.
        create_graph : bool
            Keep the graph, so that the results can be differentiated with
            respect to the potential's parameters.

        Raises
        ------
        ValueError
            If the potential does not apply to the system (see :meth:`check`).
        """
        self.check(system)
        if pairs is None:
            pairs = build_pairs(system, self.pair_cutoff(system))
        with torch.enable_grad():
            positions = system.positions.detach().requires_grad_(forces)
            spins = system.spins.detach().requires_grad_(magnetic_forces)
            moved = system.replace(positions=positions, spins=spins)
            strain = torch.zeros_like(system.cell).requires_grad_(virial)
            if virial:
                moved = moved.strained(strain)
            energies = self(moved, pairs)
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

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments, for saving and printing."""
        import inspect

        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    def extra_repr(self) -> str:
        """Show the constructor arguments where torch prints the module."""
        return ", ".join(
            f"{name}={value!r}"
            for name, value in self.arguments().items()
            if not isinstance(value, nn.Module | list | tuple)
        )

    def __add__(self, other: Potential) -> Potential:
        """Return the sum of two potentials."""
        from ._sums import Sum

        return Sum([self, other])


def _elements(system: System) -> tuple[list[int], list[int]]:
    """Return the atomic numbers that occur, and those that carry a moment.

    Counted where the System is, so that a device is waited for once.
    """
    carrying = (system.spins.detach().abs() > 0).any(dim=1)
    each = torch.stack([torch.ones_like(carrying), carrying]).int()
    counts = each.new_zeros(2, len(chemical_symbols))
    counts.index_add_(1, system.species, each)
    present, magnetic = (row.nonzero().flatten().tolist() for row in counts.cpu())
    return present, magnetic
