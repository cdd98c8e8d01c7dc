"""ASE's constraints of atoms, applied to the tensors of a driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ..constraints import MASKS, fixed_spins, free_coordinates
from ..system import System


class Constraints:
    """Constraints of atoms and moments of a batch of structures.

    FixAtoms, FixCartesian and FixSpins are masks on the device of the dynamics. Any
    other of ASE's constraints is asked on the CPU, at every step.

    Attributes
    ----------
    free : (N, 3) tensor
        One where a coordinate may move, zero where it may not.
    free_spins : (N, 1) tensor
    any_atoms : bool
        Whether the lattice is constrained at all.
    """

    def __init__(self, images: Sequence[Atoms], device: torch.device) -> None:
        free = [free_coordinates(image) for image in images]
        self.free = torch.from_numpy(np.concatenate(free)).to(device)
        spins = np.concatenate([~fixed_spins(image) for image in images])
        self.free_spins = torch.from_numpy(spins.astype(float))[:, None].to(device)
        self._others = [
            [c for c in image.constraints if not isinstance(c, MASKS)]
            for image in images
        ]
        self._asked = any(self._others)
        # ASE's constraints want Atoms; these are the driver's own.
        self._images = [image.copy() for image in images]
        self.any_atoms = self._asked or bool((self.free == 0).any())

    def drift(
        self, system: System, momenta: Tensor, masses: Tensor, dt: float
    ) -> tuple[Tensor, Tensor]:
        """Return the positions after a drift of ``dt``, and the momenta."""
        positions = system.positions + dt * momenta / masses
        if not self._asked:
            return positions, momenta
        positions = self._ask(system, positions, _adjust_positions)
        return positions, (positions - system.positions) * masses / dt

    def forces(self, system: System, forces: Tensor) -> Tensor:
        """Return the forces that remain."""
        if self._asked:
            forces = self._ask(system, forces, _adjust_forces)
        return forces * self.free

    def momenta(self, system: System, momenta: Tensor) -> Tensor:
        """Return the momenta that remain."""
        if self._asked:
            momenta = self._ask(system, momenta, _adjust_momenta)
        return momenta * self.free

    def _ask(
        self,
        system: System,
        values: Tensor,
        adjust: Callable[[object, Atoms, np.ndarray], None],
    ) -> Tensor:
        array = values.detach().cpu().numpy().copy()
        for image, constraints, positions, own in zip(
            self._images,
            self._others,
            system.split(system.positions.cpu().numpy()),
            system.split(array),
            strict=True,
        ):
            image.positions[:] = positions
            for constraint in constraints:
                adjust(constraint, image, own)
        return torch.from_numpy(array).to(values)


def _adjust_positions(constraint: object, image: Atoms, array: np.ndarray) -> None:
    constraint.adjust_positions(image, array)  # type: ignore[attr-defined]


def _adjust_forces(constraint: object, image: Atoms, array: np.ndarray) -> None:
    # In dynamics, positions and momenta are constrained, not forces; but some
    # constraints are potentials in disguise.
    if hasattr(constraint, "redistribute_forces_md"):
        constraint.redistribute_forces_md(image, array)
    if hasattr(constraint, "adjust_potential_energy"):
        constraint.adjust_forces(image, array)  # type: ignore[attr-defined]


def _adjust_momenta(constraint: object, image: Atoms, array: np.ndarray) -> None:
    if hasattr(constraint, "adjust_momenta"):
        constraint.adjust_momenta(image, array)
