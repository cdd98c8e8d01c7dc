"""The Atoms that a user holds, kept in step with a driver's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ...potentials import Prediction
from ...system import System

_ARRAYS = ("positions", "initial_magmoms", "momenta")


@dataclass(frozen=True)
class State:
    """Where a batch of structures is.

    Attributes
    ----------
    system : System
        float64, on the device of the model.
    momenta : (N, 3) tensor, ASE units
    prediction : Prediction, optional
        Of this very state, if it is known.
    """

    system: System
    momenta: Tensor
    prediction: Prediction | None = None


class Mirror:
    """Writes states into Atoms and notices what others change in them.

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
        """Bring the Atoms up to date."""
        system = state.system
        values = (system.positions, system.spins, state.momenta)
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
        """Return whether the Atoms are no longer what was written last."""
        return any(
            not np.array_equal(image.cell.array, part["cell"])
            or any(
                name not in image.arrays
                or not np.array_equal(image.arrays[name], part[name])
                for name in _ARRAYS
            )
            for image, part in zip(self.images, self._written, strict=False)
        )
