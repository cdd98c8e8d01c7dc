"""Runs of strained structures that sample the derivative of the energy by strain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_strain

from .._model import Model, model_of
from ..transitions._thermal_sampling import SamplingTask, model_data
from ._derivatives import STRAINS


@dataclass(frozen=True)
class Run:
    """How structures are sampled."""

    method: str
    steps: int
    equilibration: int | None
    interval: int
    options: Mapping[str, Any]
    seed: int

    def task(
        self,
        atoms: Atoms,
        model: Model | None,
        temperatures: np.ndarray,
        strain: np.ndarray,
        patterns: np.ndarray,
    ) -> SamplingTask:
        """Return the task of a strain (6,), with dE/d strain along patterns (P, 6)."""
        deform = voigt_6_to_full_3x3_strain(strain)
        image = atoms.copy()
        image.set_cell(atoms.cell.array @ deform, scale_atoms=True)
        observables = {
            f"strain {k}": Slope(np.einsum("k,kab->ab", p, STRAINS), deform)
            for k, p in enumerate(patterns)
        }
        start = self.steps // 5 if self.equilibration is None else self.equilibration
        return SamplingTask(
            model_data(model_of(atoms, model)),
            image,
            tuple(temperatures.tolist()),
            (0.0, 0.0, 0.0),
            image.cell.array,
            self.steps,
            start,
            interval=self.interval,
            method=self.method,
            options=self.options,
            seed=self.seed,
            observables=observables,
        )


@dataclass(frozen=True)
class Slope:
    """dE/ds, eV, of a cell (1 + strain) at strain + s pattern: an observable."""

    pattern: np.ndarray
    deform: np.ndarray

    def __call__(self, atoms: Atoms) -> float:
        assert atoms.calc is not None
        virial = atoms.calc.get_property("virial", atoms)
        return -float(np.sum(virial @ np.linalg.inv(self.deform) * self.pattern))
