"""Magnetic models of TACE, evaluated by TACE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from typing_extensions import Unpack

from ...system import System
from .._evaluation import Wanted
from .._external import atoms_of
from .._prediction import Prediction
from ._base import Adapter, full_virial

#: Result of TACE's calculator, and the input that goes with it.
_FORCES, _MOMENTS = "noncollinear_magnetic_forces", "initial_noncollinear_magmoms"


class TACEModel(Adapter):
    """Models of TACE (MIT) with non-collinear moments (``.pt``, ``.ckpt``, ``.pt2``).

    Structures are evaluated one after the other. Time reversal is not exact in them:
    ``TimeReversal(potential)`` makes it so.
    """

    prefix = "tace"
    package = "TACE"
    module = "tace"
    tested = "0.2.4"
    runs_code = True

    def load(self) -> Any:
        """Open the model; see :meth:`Adapter.load`."""
        kind = self.imported("tace.interface.ase").GeneralTACEAseCalc
        calculator = kind(
            str(self.path), keys={_MOMENTS: "initial_magmoms"}, dtype="float64"
        )
        if _FORCES not in calculator.target_property:
            raise self.wrong_kind("a model of TACE without magnetic forces")
        self.gives_virial = "stress" in calculator.target_property
        self.species = frozenset(int(z) for z in calculator.model.get_atomic_numbers())
        return calculator

    def ask(self, system: System, **wanted: Unpack[Wanted]) -> Prediction:
        """Ask TACE; see :meth:`External.ask`."""
        results: list[dict[str, np.ndarray]] = []
        for one in system:
            self.loaded.calculate(atoms_of(one))
            results.append({k: np.array(v) for k, v in self.loaded.results.items()})
        joined: dict[str, Any] = {
            "energy": np.array([float(found["energy"]) for found in results])
        }
        counts = system.counts().numpy()
        joined["energies"] = np.repeat(joined["energy"] / counts, counts)
        if wanted["forces"]:
            joined["forces"] = np.concatenate([found["forces"] for found in results])
        if wanted["magnetic_forces"]:
            joined["magnetic_forces"] = np.concatenate([x[_FORCES] for x in results])
        tensors = {k: torch.from_numpy(v.astype(float)) for k, v in joined.items()}
        if wanted["virial"] and self.gives_virial and bool(system.pbc.all()):
            stress = torch.tensor(np.stack([found["stress"] for found in results]))
            magnetic = torch.tensor(np.concatenate([x[_FORCES] for x in results]))
            tensors["virial"] = full_virial(
                -stress.double() * system.volume[:, None, None],
                system,
                magnetic.double(),
            )
        values: dict[str, Any] = tensors
        return Prediction(volume=system.volume, **values)
