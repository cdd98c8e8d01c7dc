"""DeePMD-kit models that run through their own TorchScript."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers
from torch import Tensor

from ...neighbors import PairList, build_pairs
from ...system import System
from ..base import Potential, Prediction
from .frozen import open_script
from .ops import declared_operators


class DeepmdScript(Potential):
    """A frozen model of DeePMD-kit as a Potential, whatever its descriptor.

    The program is given this package's pairs instead of its own search among
    all pairs, so that large systems and any subset of periodic directions work.
    Structures of a batch are evaluated one after the other, in the precision
    of the model. The per-atom energies of :meth:`forward` are differentiable,
    also twice. A model without spins does not see the moments.

    Such a potential can be a member of sums and committees, but cannot be
    stored in a ``model.pt``, which holds plain data only: keep the ``.pth``.

    Parameters
    ----------
    path : path
        A ``.pth`` file written by ``dp --pt freeze``.

    Raises
    ------
    ValueError
        If the model cannot run here; says what is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(path)
        script = open_script(path)
        # By device, in a dictionary that torch does not look into: the precision
        # of the program must not change with that of the potential.
        self._scripts = {torch.device("cpu"): _without_gradients(script)}
        symbols = list(script.get_type_map())
        unknown = [s for s in symbols if not atomic_numbers.get(s)]
        if unknown:
            raise ValueError(f"{path} has the types {unknown}, which are no elements")
        numbers = [atomic_numbers[symbol] for symbol in symbols]
        self.species = frozenset(numbers)
        self.uses_spins = bool(script.has_spin())
        scales = [0.0] * len(numbers)
        if self.uses_spins:
            if not hasattr(script, "virtual_scale_mask"):
                raise ValueError(
                    f"{path} is a {script.original_name}, which takes spins otherwise "
                    "than as pseudo-atoms; that is not supported"
                )
            scales = script.virtual_scale_mask.tolist()
            self.magnetic_species = frozenset(
                z for z, scale in zip(numbers, scales, strict=True) if scale
            )
        table = torch.zeros(max(atomic_numbers.values()) + 1, dtype=torch.int64)
        table[numbers] = torch.arange(len(numbers))
        self.register_buffer("_type_of", table, persistent=False)
        self._scales = torch.tensor(scales, dtype=torch.float64)
        self._cutoff = float(script.get_rcut())
        self._n_slots = int(script.get_nnei())
        self._reach = 2.0 if script.has_message_passing() else 1.0
        self._try_it(symbols[0])

    def arguments(self) -> dict[str, Any]:
        """Return the path."""
        return {"path": str(self.path)}

    @property
    def cutoff(self) -> float:
        """Largest distance of a site from its centre, A."""
        return self._cutoff

    def pair_cutoff(self, system: System) -> float:
        """Return the cutoff and the arms of the pseudo-atoms on both sides, A.

        Pseudo-atoms are centres only where messages pass between atoms.
        """
        scales = self._scales.to(system.device)[self._type_of[system.species]]
        arms = system.spins.detach().norm(dim=1) * scales
        return self.cutoff + self._reach * float(arms.max())

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV; differentiable in everything."""
        energies = [
            self._run(extended)["atom_energy"].flatten()
            for extended in self._structures(system, pairs)
        ]
        return torch.cat(energies).to(system.dtype)

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
        """Return energy and derivatives, which the program computes by itself.

        See :meth:`Potential.evaluate`.
        """
        if create_graph:
            return super().evaluate(
                system,
                pairs,
                forces=forces,
                magnetic_forces=magnetic_forces,
                virial=virial,
                create_graph=True,
            )
        self.check(system)
        system = System(*(x.detach() for x in vars(system).values()))
        if pairs is None:
            pairs = build_pairs(system, self.pair_cutoff(system))
        parts: dict[str, list[Tensor]] = {
            "energies": [],
            "forces": [],
            "magnetic_forces": [],
            "virial": [],
        }
        for extended in self._structures(system, pairs):
            output = self._run(extended)
            parts["energies"].append(output["atom_energy"].flatten())
            parts["forces"].append(extended.gather(output["extended_force"]))
            parts["virial"].append(output["virial"].view(1, 3, 3))
            parts["magnetic_forces"].append(
                extended.gather(output["extended_force_mag"])
                if self.uses_spins
                else torch.zeros_like(parts["forces"][-1])
            )
        results = {
            name: torch.cat(part).detach().to(system.dtype)
            for name, part in parts.items()
        }
        return Prediction(
            energy=system.sum(results["energies"]),
            energies=results["energies"],
            volume=system.volume,
            forces=results["forces"] if forces else None,
            magnetic_forces=results["magnetic_forces"] if magnetic_forces else None,
            virial=results["virial"] if virial else None,
        )

    def _structures(self, system: System, pairs: PairList) -> Iterator[_Extended]:
        """Yield the structures of a batch with their ghost atoms."""
        counts = system.counts().tolist()
        first = torch.tensor([0, *counts], device=system.device).cumsum(0)
        bounds = torch.searchsorted(pairs.i, first).tolist()
        start = 0
        for b, count in enumerate(counts):
            atoms, part = slice(start, start + count), slice(bounds[b], bounds[b + 1])
            yield _Extended.of(
                system.positions[atoms],
                system.spins[atoms],
                self._type_of[system.species[atoms]],
                system.cell[b],
                PairList(
                    pairs.i[part] - start,
                    pairs.j[part] - start,
                    pairs.shift[part],
                    pairs.cutoff,
                ),
                # One more than there are slots: only then does the program sort
                # the sites by distance and drop those beyond the cutoff.
                self._n_slots + 1,
            )
            start += count

    def _run(self, extended: _Extended) -> dict[str, Tensor]:
        """Run the program on one structure."""
        device = extended.positions.device
        if device not in self._scripts:
            script = open_script(self.path, device)
            self._scripts[device] = _without_gradients(script)
        inputs = [extended.positions, extended.types, extended.neighbours]
        if self.uses_spins:
            inputs.insert(2, extended.spins)
        with declared_operators(), torch.enable_grad():
            output: dict[str, Tensor] = self._scripts[device].forward_lower(
                *(x[None] for x in inputs), mapping=extended.owners[None]
            )
        return output

    def _try_it(self, symbol: str) -> None:
        """Raise ValueError if the program does not run on an atom."""
        atom = Atoms(symbol, magmoms=[[0.0, 0.0, 0.0]])
        try:
            self.evaluate(System.from_atoms(atom))
        except (RuntimeError, NotImplementedError) as error:
            reasons = [line for line in str(error).splitlines() if line.strip()]
            raise ValueError(
                f"{self.path} does not run without what DeePMD-kit would give it: "
                f"{reasons[-1].strip()}"
            ) from error


@dataclass(frozen=True)
class _Extended:
    """A structure of n atoms and the images of atoms that it needs, m in all.

    Attributes
    ----------
    positions, spins : (m, 3) tensors, A and mu_B
        Double precision.
    types : (m,) int64 tensor
    owners : (m,) int64 tensor
        The atom of which each is an image; the first n are the atoms.
    neighbours : (n, K) int64 tensor
        Positions of the neighbours among the m; -1 where there is none.
    """

    positions: Tensor
    spins: Tensor
    types: Tensor
    owners: Tensor
    neighbours: Tensor

    @classmethod
    def of(
        cls,
        positions: Tensor,
        spins: Tensor,
        types: Tensor,
        cell: Tensor,
        pairs: PairList,
        width: int,
    ) -> _Extended:
        """Add the images that pairs refer to; list at least ``width`` columns."""
        n = len(positions)
        site = pairs.j.clone()
        outside = pairs.shift.any(dim=1)
        keys = torch.cat([pairs.shift.long(), pairs.j[:, None]], dim=1)[outside]
        images, place = torch.unique(keys, dim=0, return_inverse=True)
        site[outside] = n + place
        owners = torch.cat([torch.arange(n, device=site.device), images[:, 3]])
        offset = images[:, :3].to(cell.dtype) @ cell
        counts = torch.bincount(pairs.i, minlength=n)
        column = torch.arange(len(site), device=site.device)
        column = column - (counts.cumsum(0) - counts)[pairs.i]
        neighbours = site.new_full((n, max(width, int(counts.max()))), -1)
        neighbours[pairs.i, column] = site
        return cls(
            torch.cat([positions, positions[images[:, 3]] + offset]).double(),
            spins[owners].double(),
            types[owners],
            owners,
            neighbours,
        )

    def gather(self, values: Tensor) -> Tensor:
        """Add values (1, m, 3) of images to those of their atoms, (n, 3)."""
        total = values.new_zeros(len(self.neighbours), 3)
        return total.index_add(0, self.owners, values[0])


def _without_gradients(script: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    for parameter in script.parameters():
        parameter.requires_grad_(False)
    return script
