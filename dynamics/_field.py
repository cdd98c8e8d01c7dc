"""External magnetic fields, constant or changing in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch

from ..potentials import Prediction
from ..system import System
from ..units import MU_B

#: A field in tesla, or a function of the time in fs that returns one.
FieldT: TypeAlias = Sequence[float] | np.ndarray | Callable[[float], Sequence[float]]


class ExternalField:
    """A uniform field; adds E = -mu_B sum m.B to what a model predicts.

    Raises
    ------
    ValueError
        If a field is not three finite numbers.
    """

    def __init__(self, field_T: FieldT | None) -> None:
        self.field_T = field_T
        if field_T is not None:
            self.at(0.0)

    @property
    def changes(self) -> bool:
        """Whether the field depends on time."""
        return callable(self.field_T)

    def at(self, time_fs: float) -> np.ndarray:
        """Return the field at a time, (3,), eV/mu_B."""
        value = self.field_T(time_fs) if callable(self.field_T) else self.field_T
        field = np.asarray(value, dtype=float)
        if field.shape != (3,) or not np.isfinite(field).all():
            raise ValueError(
                "external_field_T must be three finite numbers in tesla, or a "
                f"function of the time in fs that returns them; got {value!r}"
            )
        return MU_B * field

    def add(self, prediction: Prediction, system: System, time_fs: float) -> Prediction:
        """Return the prediction with the field's energy and magnetic forces."""
        if self.field_T is None:
            return prediction
        field = torch.as_tensor(self.at(time_fs)).to(system.spins)
        energies = -(system.spins @ field)
        assert prediction.magnetic_forces is not None
        # The field acts on atoms that carry a moment.
        has_moment = (system.spins != 0).any(dim=1, keepdim=True)
        return prediction.replace(
            energy=prediction.energy + system.sum(energies),
            energies=prediction.energies + energies,
            magnetic_forces=prediction.magnetic_forces + field * has_moment,
        )
