"""Model calls of a driver, for a batch of structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator

from .._validate import require_calculator
from ..calculators._deepspin import DeepSpinCalculator
from ..potentials import CompiledPotential, Prediction
from ..potentials._external import PotentialOf
from ..system import System


class Engine:
    """Source of energies, forces and fields of a driver.

    Attributes
    ----------
    compiled : CompiledPotential
    potential : Potential
    dtype : torch.dtype
        Of the evaluations.
    device : torch.device
        Of the state of the dynamics.
    n_calls : int
        Model calls so far.
    gives_forces, gives_virial : bool
        Whether predictions hold forces of atoms, and a virial, where they are asked
        for.
    """

    def __init__(self, compiled: CompiledPotential) -> None:
        self.compiled = compiled
        self.potential = compiled.potential
        self.dtype = compiled.dtype
        self.device = compiled.device
        self.n_calls = 0
        self.gives_forces = self.potential.gives_forces
        self.gives_virial = self.potential.gives_virial

    def check(self, system: System) -> None:
        """Raise ValueError where the model does not apply."""
        self.potential.check(system)

    def evaluate(
        self, system: System, *, forces: bool = True, virial: bool = False
    ) -> Prediction:
        """Evaluate a float64 System in the model's precision."""
        self.n_calls += 1
        return self.compiled.evaluate(system, forces=forces, virial=virial)

    def state_dict(self) -> dict[str, Any]:
        """Return the structures of the pair list: sums run in its order."""
        return self.compiled.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self.compiled.restore(state)


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
        return Engine(CompiledPotential(PotentialOf.of_images(images)))
    for k, image in enumerate(images):
        if image.calc is not first and not _same(first, image.calc):
            raise ValueError(
                f"structure {k} has another model than structure 0; replicas that "
                "run together share one"
            )
    return Engine(first.compiled.twin())


def _same(first: DeepSpinCalculator, other: Calculator | None) -> bool:
    if not isinstance(other, DeepSpinCalculator):
        return False
    if first.potential.external:
        field = first.external_field_T == other.external_field_T
        return field and first.bare_potential is other.bare_potential
    names = ("dtype", "backend")
    if any(first.parameters[n] != other.parameters[n] for n in names):
        return False
    mine, yours = first.potential.state_dict(), other.potential.state_dict()
    return (
        repr(first.potential) == repr(other.potential)
        and mine.keys() == yours.keys()
        and all(torch.equal(mine[k], yours[k].to(mine[k])) for k in mine)
    )
