"""Predictions of a batch as the results of ASE calculators, structure by structure."""

from __future__ import annotations

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
    ends = np.cumsum(system.counts().cpu().numpy())
    spins, periodic = _array(system.spins), system.pbc.all(dim=1).tolist()
    quantities = {
        name: _array(values)
        for name in ("energy", *_PER_ATOM, "virial", "stress")
        if (values := getattr(prediction, name)) is not None
    }
    deviations = {k: _array(v) for k, v in (prediction.deviations or {}).items()}
    structures = []
    for k, end in enumerate(ends):
        own = slice(int(ends[k - 1]) if k else 0, int(end))

        def part(
            name: str, values: np.ndarray, k: int = k, own: slice = own
        ) -> np.ndarray:
            return values[own] if name in _PER_ATOM else values[k]

        energy = float(quantities["energy"][k])
        results: dict[str, Any] = {"energy": energy, "free_energy": energy}
        results |= {n: part(n, v) for n, v in quantities.items() if n != "energy"}
        if "magnetic_forces" in results:
            results["torques"] = np.cross(spins[own], results["magnetic_forces"])
        if "stress" in results:
            stress = results.pop("stress")
            if periodic[k]:
                results["stress"] = full_3x3_to_voigt_6_stress(stress)
        for name, values in deviations.items():
            found = part(name, values)
            results[f"{name}_deviation"] = float(found) if name == "energy" else found
        structures.append(results)
    return structures


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()
