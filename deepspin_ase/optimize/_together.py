"""Many descents at once: one model call for all structures."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from tqdm import tqdm

from ..calculators._deepspin import DeepSpinCalculator
from ..calculators._results import results_of
from ..neighbors import NeighborList
from ..system import System, check_structure
from ._descent import Descent
from ._filter import SpinLatticeFilter, positive, whole

logger = logging.getLogger(__name__)

#: Atoms up to which structures share a model call.
_BATCH_ATOMS = 20_000


def relax_together(
    images: Sequence[Atoms],
    *,
    fmax: float = 0.01,
    torque_max: float = 1e-4,
    stress_max: float = 5e-4,
    steps: int = 500,
    progress: bool = True,
    **options: Any,
) -> list[bool]:
    """Relax many structures with the same model, each on its own, in batched calls.

    The structures are changed in place, and keep calculators of their own with the
    results of the final state.

    Parameters
    ----------
    images : sequence of Atoms
        All with one and the same calculator. A :class:`DeepSpinCalculator` is
        asked for all of them at once, any other one for one after the other.
    fmax, torque_max, stress_max : float
        eV/A, eV and eV/A^3.
    steps : int
        Largest number of model calls for a structure.
    progress : bool
        Show a progress bar in terminals.
    **options
        Of :class:`SpinLatticeFilter`.

    Returns
    -------
    list of bool
        Which structures converged.

    Raises
    ------
    ValueError
        As :class:`SpinLatticeFilter`; or if there are no structures, one is there
        twice, or they have several calculators.
    """
    positive("fmax", fmax)
    whole("steps", steps, 1)
    images = [images] if isinstance(images, Atoms) else list(images)
    if not images or len({id(image) for image in images}) < len(images):
        raise ValueError("relax_together takes structures, each of them once")
    for image in images:
        check_structure(image)
    calculator = images[0].calc
    for image in images:
        if image.calc is not calculator:
            raise ValueError("structures that are relaxed together share a calculator")
    batched = isinstance(calculator, DeepSpinCalculator)
    for image in images:
        image.calc = (copy.copy if batched else copy.deepcopy)(calculator)
    options |= {"torque_max": torque_max, "stress_max": stress_max}
    joints = [SpinLatticeFilter(image, **options) for image in images]
    evaluate = _Batch(calculator) if batched else _one_by_one
    evaluate(images)
    descents = {k: Descent(joint) for k, joint in enumerate(joints)}
    for k in list(descents):
        try:
            descents[k].begin()
        except CalculationFailed as error:
            logger.warning("structure %d is left out: %s", k, error)
            del descents[k]
    converged = [False] * len(images)
    with tqdm(total=len(images), disable=None if progress else True) as bar:
        while True:
            for k in list(descents):
                descent = descents[k]
                converged[k] = joints[k].converged(fmax)
                if converged[k] or descent.stuck or descent.calls >= steps:
                    del descents[k]
            bar.update(len(images) - len(descents) - bar.n)
            if not descents:
                return converged
            for descent in descents.values():
                descent.propose()
            evaluate([images[k] for k in descents])
            for descent in descents.values():
                descent.judge()


class _Batch:
    """Evaluates structures in one model call and gives each its results."""

    def __init__(self, calculator: DeepSpinCalculator) -> None:
        self._calculator = calculator
        self._neighbors = NeighborList(calculator.parameters["skin"])

    def __call__(self, images: Sequence[Atoms]) -> None:
        start = 0
        while start < len(images):
            stop, n_atoms = start, 0
            while stop < len(images) and (
                stop == start or n_atoms + len(images[stop]) <= _BATCH_ATOMS
            ):
                n_atoms += len(images[stop])
                stop += 1
            self._evaluate(images[start:stop])
            start = stop

    def _evaluate(self, images: Sequence[Atoms]) -> None:
        calculator = self._calculator
        potential = calculator.potential
        system = System.from_atoms(
            images,
            device=calculator.device,
            dtype=calculator.dtype,
            require_spins=potential.uses_spins,
        )
        pairs = self._neighbors.update(system, potential.pair_cutoff(system))
        prediction = potential.evaluate(system, pairs)
        for image, results in zip(images, results_of(prediction, system), strict=True):
            image.calc.take_results(image, results)


def _one_by_one(images: Sequence[Atoms]) -> None:
    """Leave it to each structure's own calculator."""
