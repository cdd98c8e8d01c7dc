"""Predictions of a batch as the results of ASE calculators, structure by structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from ..potentials import Prediction
from ..system import System

_PER_ATOM = ("energies", "forces", "magnetic_forces")


def results_of(prediction: Prediction, system: System) -> list[dict[str, Any]]:
    """Return the results of every structure by their ASE names.

    float64 arrays in the units of :class:`DeepSpinCalculator
    <deepspin_ase.DeepSpinCalculator>`; what was not predicted is left
    out, and stress where a direction is not periodic.
    """

    def parts(name: str, values: Tensor) -> Sequence[np.ndarray]:
        array = _array(values)
        return system.split(array) if name in _PER_ATOM else list(array)

    quantities = {
        name: parts(name, values)
        for name in ("energy", *_PER_ATOM, "virial", "stress")
        if (values := getattr(prediction, name)) is not None
    }
    found = prediction.deviations or {}
    deviations = {name: parts(name, values) for name, values in found.items()}
    spins, periodic = system.split(_array(system.spins)), system.pbc.all(dim=1).tolist()
    structures = []
    for k, own_spins in enumerate(spins):
        energy = float(quantities["energy"][k])
        results: dict[str, Any] = {"energy": energy, "free_energy": energy}
        results |= {n: v[k] for n, v in quantities.items() if n != "energy"}
        if "magnetic_forces" in results:
            results["torques"] = np.cross(own_spins, results["magnetic_forces"])
        if "stress" in results:
            stress = results.pop("stress")
            if periodic[k]:
                results["stress"] = full_3x3_to_voigt_6_stress(stress)
        for name, values in deviations.items():
            results[f"{name}_deviation"] = (
                float(values[k]) if name == "energy" else values[k]
            )
        structures.append(results)
    return structures


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()
