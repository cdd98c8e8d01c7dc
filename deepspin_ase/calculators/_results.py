"""Predictions of a batch as the results of ASE calculators, structure by structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from ..potentials import Prediction
from ..quantities import QUANTITIES
from ..system import System


def results_of(prediction: Prediction, system: System) -> list[dict[str, Any]]:
    """Return the results of every structure by their ASE names.

    float64 arrays in the units of :class:`DeepSpinCalculator
    <deepspin_ase.DeepSpinCalculator>`; what was not predicted is left
    out, and stress where a direction is not periodic.
    """

    def parts(name: str, values: Tensor) -> Sequence[np.ndarray]:
        array = _array(values)
        return system.split(array) if QUANTITIES[name].per_atom else list(array)

    quantities = {n: parts(n, v) for n, v in prediction.quantities().items()}
    deviations = {n: parts(n, v) for n, v in prediction.deviations.items()}
    torques = _torques(prediction, system)
    stress = prediction.stress
    stresses = None if stress is None else _array(stress)
    periodic = system.pbc.all(dim=1).tolist()
    structures = []
    for k in range(system.n_systems):
        results = {name: _plain(values[k]) for name, values in quantities.items()}
        results["free_energy"] = results["energy"]
        if torques is not None:
            results["torques"] = torques[k]
        if stresses is not None and periodic[k]:
            results["stress"] = full_3x3_to_voigt_6_stress(stresses[k])
        for name, values in deviations.items():
            results[f"{name}_deviation"] = _plain(values[k])
        structures.append(results)
    return structures


def _torques(prediction: Prediction, system: System) -> list[np.ndarray] | None:
    """Return m x (-dE/dm), eV, by structure."""
    if prediction.magnetic_forces is None:
        return None
    # Not in torch, whose rounding depends on how long the arrays are.
    torques = np.cross(_array(system.spins), _array(prediction.magnetic_forces))
    return system.split(torques)


def _plain(value: np.ndarray) -> Any:
    """Return a number where there is no more than one."""
    return value if np.ndim(value) else float(value)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()
