"""Potentials prepared for many evaluations on one device and in one precision."""

from __future__ import annotations

from typing import Any

import torch

from ..neighbors import NeighborList
from ..system import System
from ._base import Potential
from ._prediction import Prediction


class CompiledPotential:
    """A Potential with what repeated evaluations share: precision and pair list.

    Parameters
    ----------
    potential : Potential
        On the device and in the type of number that follow.
    device : torch.device
    dtype : torch.dtype
    skin : float
        Of the pair list, A.

    Attributes
    ----------
    neighbors : NeighborList
        Kept from call to call.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        device: torch.device,
        dtype: torch.dtype,
        skin: float = 0.5,
    ) -> None:
        self.potential = potential
        self.device = device
        self.dtype = dtype
        self.neighbors = NeighborList(skin)

    def twin(self) -> CompiledPotential:
        """Return one of the same potential with a separate pair list."""
        return CompiledPotential(
            self.potential,
            device=self.device,
            dtype=self.dtype,
            skin=self.neighbors.skin,
        )

    def replaced(self, potential: Potential) -> CompiledPotential:
        """Return one of another potential that shares the pair list."""
        other = self.twin()
        other.potential, other.neighbors = potential, self.neighbors
        return other

    def evaluate(
        self,
        system: System,
        *,
        forces: bool = True,
        magnetic_forces: bool = True,
        virial: bool = True,
    ) -> Prediction:
        """Evaluate a System of any device and type of number.

        Returns
        -------
        Prediction
            In float64, on the device of the potential.

        Raises
        ------
        ValueError
            If the potential does not apply to the system.
        """
        system = system.to(self.device, self.dtype)
        pairs = self.neighbors.update(system, self.potential.pair_cutoff(system))
        found = self.potential.evaluate(
            system,
            pairs,
            forces=forces,
            magnetic_forces=magnetic_forces,
            virial=virial,
        )
        return _double(found)

    def state(self) -> dict[str, Any]:
        """Return where the pair list was built: sums run in its order."""
        return self.neighbors.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state`."""
        self.neighbors.restore(state)


def _double(prediction: Prediction) -> Prediction:
    """Return a prediction in float64."""
    values = {"volume": prediction.volume, **prediction.quantities()}
    return Prediction(
        **{name: value.double() for name, value in values.items()},
        deviations={n: v.double() for n, v in prediction.deviations.items()},
    )
