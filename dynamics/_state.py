"""State of a batch of structures, and what the parts of a driver share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..potentials import Prediction
from ..system import System
from ._constraints import Constraints


@dataclass(frozen=True)
class State:
    """State of a batch of structures.

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


class Stateful:
    """Part of a driver that changes while the driver runs.

    A driver keeps its parts in ``driver.parts``, saves and restores them with its
    checkpoints, and takes them back where a step fails.
    """

    def state_dict(self) -> Any:
        """Return the state as plain data.

        Nested dictionaries, lists, tensors, numbers, text and None. It is taken before
        every step: tensors are not copied, and never changed in place afterwards.
        """
        raise NotImplementedError

    def load_state_dict(self, state: Any) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        raise NotImplementedError

    def reset(self) -> None:
        """Discard what no longer holds where the driver's state has jumped."""


class ModelCall(Protocol):
    """A model call, external fields included."""

    def __call__(
        self,
        system: System,
        *,
        forces: bool = True,
        virial: bool = False,
        fraction: float = 1.0,
    ) -> Prediction:
        """Evaluate ``system`` after a ``fraction`` of the step."""


@dataclass
class Context:
    """View of a driver that baths and trial moves have.

    Attributes
    ----------
    dt : float, ASE time
    mass, lengths : (N, 1) tensors
        Of the atoms, amu, and of their moments, mu_B.
    constraints : Constraints
    generator : torch.Generator
    evaluate : callable
        Model calls, see :meth:`.drivers.SpinLatticeDynamics.evaluate`.
    check_rotation : callable
        Takes angular velocities (N, 3), rad per ASE time, and warns of large ones.
    zero_momentum : bool
        Whether the total momentum is kept at zero.
    index : (N,) int64 tensor
        The structure of each atom.
    """

    dt: float
    mass: Tensor
    lengths: Tensor
    constraints: Constraints
    generator: torch.Generator
    evaluate: ModelCall
    check_rotation: Callable[[Tensor], None]
    zero_momentum: bool
    index: Tensor

    def per_atom(self, values: np.ndarray) -> Tensor:
        """Return values per structure (B,) as a column (N, 1) on the device."""
        column = torch.from_numpy(values).to(self.index.device)
        return column[self.index][:, None]

    def normal(self) -> Tensor:
        """Return independent standard normal numbers (N, 3)."""
        return torch.randn(
            (len(self.index), 3),
            generator=self.generator,
            device=self.index.device,
            dtype=torch.float64,
        )

    def without_total_momentum(self, system: System, momenta: Tensor) -> Tensor:
        """Return the momenta (N, 3) in the frame of each structure's centre of mass."""
        velocity = system.sum(momenta) / system.sum(self.mass)
        return momenta - self.mass * velocity[system.index]


def on_device(value: Any, device: torch.device) -> Any:
    """Return nested plain data with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: on_device(v, device) for k, v in value.items()}
    if isinstance(value, list):
        return [on_device(v, device) for v in value]
    return value
