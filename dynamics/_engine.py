"""Model calls for a batch of structures: from a Potential, or any ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.stress import voigt_6_to_full_3x3_stress

from .._validate import require_calculator
from ..calculators._deepspin import DeepSpinCalculator
from ..calculators._magnetic import MagneticCalculator
from ..potentials import CompiledPotential, Prediction
from ..spins import set_spins
from ..system import System


class Engine:
    """Source of energies, forces and fields of a driver.

    Attributes
    ----------
    n_calls : int
        Model calls so far.
    device : torch.device
        Of the state of the dynamics.
    gives_virial : bool
        Whether predictions hold a virial where one is asked for.
    """

    n_calls: int
    device: torch.device
    gives_virial: bool = True

    def evaluate(
        self, system: System, *, forces: bool = True, virial: bool = False
    ) -> Prediction:
        """Evaluate a float64 System; results are float64 as well."""
        raise NotImplementedError

    def check(self, system: System) -> None:
        """Raise ValueError where the model does not apply."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a restart bit for bit needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""


class PotentialEngine(Engine):
    """Evaluates a Potential on its device."""

    def __init__(self, compiled: CompiledPotential) -> None:
        self.compiled = compiled
        self.potential = compiled.potential
        self.dtype = compiled.dtype
        self.device = compiled.device
        self.n_calls = 0

    def check(self, system: System) -> None:
        """Raise ValueError where the model does not apply."""
        self.potential.check(system)

    def evaluate(
        self, system: System, *, forces: bool = True, virial: bool = False
    ) -> Prediction:
        """Evaluate in the model's precision."""
        self.n_calls += 1
        return self.compiled.evaluate(system, forces=forces, virial=virial)

    def state_dict(self) -> dict[str, Any]:
        """Return the structures of the pair list: sums run in its order."""
        return self.compiled.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self.compiled.restore(state)


class CalculatorEngine(Engine):
    """Asks ASE calculators that have the property ``magnetic_forces``."""

    def __init__(self, images: Sequence[Atoms]) -> None:
        self.device = torch.device("cpu")
        self.n_calls = 0
        self._images = [image.copy() for image in images]
        self._calculators: list[Calculator] = [image.calc for image in images]
        self.gives_virial = all(map(_gives_virial, images))

    def evaluate(
        self, system: System, *, forces: bool = True, virial: bool = False
    ) -> Prediction:
        """Ask the calculator of every structure."""
        self.n_calls += 1
        results: dict[str, list[np.ndarray]] = {}
        for image, calculator, one in zip(
            self._images, self._calculators, system, strict=True
        ):
            image.positions[:] = one.positions.numpy()
            image.cell[:] = one.cell[0].numpy()
            set_spins(image, one.spins.numpy())
            found = {
                "energy": calculator.get_property("energy", image),
                "magnetic_forces": calculator.get_property("magnetic_forces", image),
            }
            if forces:
                found["forces"] = calculator.get_property("forces", image)
            if virial and self.gives_virial:
                found["virial"] = _virial(calculator, image)
            found["energies"] = _energies(calculator, found["energy"], len(image))
            for name, value in found.items():
                results.setdefault(name, []).append(np.asarray(value, dtype=float))
        stacked = {"energy", "virial"}
        tensors: dict[str, Any] = {
            name: torch.from_numpy(
                np.stack(values) if name in stacked else np.concatenate(values)
            )
            for name, values in results.items()
        }
        return Prediction(volume=system.volume, **tensors)


def _gives_virial(image: Atoms) -> bool:
    known = image.calc.implemented_properties
    if isinstance(image.calc, MagneticCalculator):
        return "virial" in known
    return "stress" in known and bool(image.pbc.all()) and image.cell.rank == 3


def _virial(calculator: Calculator, image: Atoms) -> np.ndarray:
    if isinstance(calculator, MagneticCalculator):
        return np.asarray(calculator.get_property("virial", image))
    stress = np.asarray(calculator.get_property("stress", image))
    full = stress if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)
    return -full * image.get_volume()


def _energies(calculator: Calculator, energy: float, n_atoms: int) -> np.ndarray:
    """Return the shares of the atoms, equal ones where there are none."""
    shares = calculator.results.get("energies")
    return np.full(n_atoms, energy / n_atoms) if shares is None else shares


def check_finite(prediction: Prediction, system: System, step: int) -> None:
    """Raise CalculationFailed if energies, forces or fields are not finite."""
    names = ("energy", "forces", "magnetic_forces")
    found = {n: v for n in names if (v := getattr(prediction, n)) is not None}
    # Sums of finite numbers are finite: one look instead of three.
    if bool(torch.isfinite(torch.stack([v.sum() for v in found.values()]).sum())):
        return
    for name, values in found.items():
        bad = torch.nonzero(~torch.isfinite(values))
        if len(bad):
            first = int(bad[0, 0])
            k = first if name == "energy" else int(system.index[first])
            raise CalculationFailed(
                f"the {name.replace('_', ' ')} of structure {k} is not finite at step "
                f"{step}; a shorter time step or a better model may help"
            )


def engine_of(images: Sequence[Atoms]) -> Engine:
    """Return the engine for structures with calculators.

    Raises
    ------
    ValueError
        If a calculator is missing or does not give magnetic forces, or the
        structures have different models.
    """
    for k, image in enumerate(images):
        require_calculator(image, "magnetic_forces", name=f"structure {k}")
    first = images[0].calc
    if not isinstance(first, DeepSpinCalculator):
        return CalculatorEngine(images)
    for k, image in enumerate(images):
        if image.calc is not first and not _same(first, image.calc):
            raise ValueError(
                f"structure {k} has another model than structure 0; replicas that "
                "run together share one"
            )
    return PotentialEngine(first.compiled.twin())


def _same(first: DeepSpinCalculator, other: Calculator | None) -> bool:
    if not isinstance(other, DeepSpinCalculator):
        return False
    names = ("dtype", "backend")
    if any(first.parameters[n] != other.parameters[n] for n in names):
        return False
    mine, yours = first.potential.state_dict(), other.potential.state_dict()
    return (
        repr(first.potential) == repr(other.potential)
        and mine.keys() == yours.keys()
        and all(torch.equal(mine[k], yours[k].to(mine[k])) for k in mine)
    )
