"""Synchronization of Atoms with the tensors of a driver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from ...system import System
from .._state import State

_ARRAYS = ("positions", "initial_magmoms", "momenta", "numbers")


class AtomsSync:
    """Synchronization of Atoms with a state: written, and checked for changes.

    Attributes
    ----------
    images : list of Atoms
    """

    def __init__(self, images: Sequence[Atoms]) -> None:
        self.images = list(images)
        self._written: list[dict[str, np.ndarray]] = []
        for image in self.images:
            if not image.has("momenta"):
                image.set_momenta(np.zeros((len(image), 3)))

    def read(self, device: torch.device) -> State:
        """Return the state of the Atoms."""
        momenta = np.concatenate([image.get_momenta() for image in self.images])
        if not np.isfinite(momenta).all():
            raise ValueError("momenta are not finite")
        return State(
            System.from_atoms(self.images, device=device),
            torch.from_numpy(momenta).to(device),
        )

    def masses(self) -> np.ndarray:
        """Return the masses (N,).

        Raises
        ------
        ValueError
            If one is not positive.
        """
        masses = np.concatenate([image.get_masses() for image in self.images])
        if (masses <= 0).any():
            k = int(np.flatnonzero(masses <= 0)[0])
            raise ValueError(f"atom {k} has the mass {masses[k]}; it must be > 0")
        return masses

    def write(self, state: State) -> None:
        """Write a state into the Atoms."""
        system = state.system
        values = (system.positions, system.spins, state.momenta, system.species)
        parts = zip(*(system.split(x.cpu().numpy()) for x in values), strict=True)
        cells = system.cell.cpu().numpy()
        self._written = []
        for image, own, cell in zip(self.images, parts, cells, strict=True):
            part = dict(zip(_ARRAYS, own, strict=True))
            # Not by set_array: moments that ASE keeps as (N,) become (N, 3).
            image.arrays.update({name: part[name].copy() for name in _ARRAYS})
            image.cell[:] = cell
            self._written.append(part | {"cell": cell})

    def changed(self) -> bool:
        """Return whether the Atoms differ from what was written last."""
        return any(
            not np.array_equal(image.cell.array, part["cell"])
            or any(
                name not in image.arrays
                or not np.array_equal(image.arrays[name], part[name])
                for name in _ARRAYS
            )
            for image, part in zip(self.images, self._written, strict=False)
        )
