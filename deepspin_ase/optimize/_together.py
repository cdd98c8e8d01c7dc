"""Many descents at once: one model call for all structures."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from .._progress import bar
from .._validate import positive, whole
from ..calculators._deepspin import DeepSpinCalculator
from ..system import check_structure
from ._descent import Descent
from ._filter import SpinLatticeFilter

logger = logging.getLogger(__name__)


def relax_together(
    images: Sequence[Atoms],
    *,
    fmax: float = 0.01,
    torque_max: float = 1e-4,
    stress_max: float = 5e-4,
    steps: int = 500,
    progress: bool | None = None,
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
    progress : bool, optional
        Progress bar; by default on a terminal.
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
    evaluate = partial(_give_results, calculator) if batched else _one_by_one
    evaluate(images)
    descents = {k: Descent(joint) for k, joint in enumerate(joints)}
    for k in list(descents):
        try:
            descents[k].begin()
        except CalculationFailed as error:
            logger.warning("structure %d is left out: %s", k, error)
            del descents[k]
    converged = [False] * len(images)
    with bar(total=len(images), progress=progress) as shown:
        while True:
            for k in list(descents):
                descent = descents[k]
                converged[k] = joints[k].converged(fmax)
                if converged[k] or descent.stuck or descent.calls >= steps:
                    del descents[k]
            shown.update(len(images) - len(descents) - shown.n)
            if not descents:
                return converged
            for descent in descents.values():
                descent.propose()
            evaluate([images[k] for k in descents])
            for descent in descents.values():
                descent.judge()


def _give_results(calculator: DeepSpinCalculator, images: Sequence[Atoms]) -> None:
    """Evaluate structures together and give each its results."""
    for image, results in zip(images, calculator.evaluate(images), strict=True):
        image.calc.take_results(image, results)


def _one_by_one(images: Sequence[Atoms]) -> None:
    """Leave it to each structure's own calculator."""
