"""Relaxation of one structure, of moments alone, or of many structures in batches."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from .._digest import digest
from .._files import locked, require_different
from .._plausible import warn_of_unusual
from .._progress import bar
from .._result import Result
from .._validate import positive, require_calculator, whole
from ..calculators._deepspin import DeepSpinCalculator
from ..calculators._recorded import RecordedCalculator, RecordedResults, identity
from ..io._extxyz import current_results
from ..system import check_structure
from ._defaults import FMAX, SPINS_TORQUE_MAX, STRESS_MAX
from ._descent import Descent
from ._filter import SpinLatticeFilter
from ._lbfgs import SpinLatticeLBFGS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Relaxation(Result):
    """Result of a relaxation.

    Attributes
    ----------
    converged : bool
    n_calls : int
        Model calls.
    energy : float
        eV; p V included where there is a pressure. NaN where the model gives numbers
        that are not finite for the first structure.
    residuals : dict
        Largest ``force`` (eV/A), ``torque`` (eV) and ``stress`` (eV/A^3) that are
        left, of what was relaxed.
    history : dict of lists
        ``energy`` (eV) and residuals at the start and after every step.
    """

    converged: bool
    n_calls: int
    energy: float
    residuals: dict[str, float]
    history: dict[str, list[float]]

    @classmethod
    def of(cls, descent: Descent, *, converged: bool) -> Relaxation:
        """Return the result of a descent that ended where it is."""
        names = descent.history[0] if descent.history else ()
        return cls(
            converged=converged,
            n_calls=descent.n_calls,
            energy=descent.energy,
            residuals=descent.filter.residuals(),
            history={name: [x[name] for x in descent.history] for name in names},
        )


def relax(
    atoms: Atoms,
    *,
    fmax: float = FMAX,
    torque_max: float | None = None,
    stress_max: float = STRESS_MAX,
    steps: int = 1000,
    logfile: IO[str] | str | Path | None = None,
    trajectory: str | Path | None = None,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Relaxation:
    """Relax positions and moments together, and on request cell and lengths.

    Where symmetry makes all forces or torques vanish, as those of collinear moments,
    a saddle point counts as relaxed: :func:`deepspin_ase.cant_spins` and
    ``atoms.rattle`` lead off it.

    Parameters
    ----------
    atoms : Atoms
        Changed in place.
    fmax : float
        Largest force that is left, eV/A. Not scaled by the problem: the stiffness of
        bonds is 1 to 50 eV/A^2 in all matter, so that 0.01 eV/A is a hundredth of an
        angstrom at most, while that of moments spans six orders of magnitude.
    torque_max : float, optional
        Largest torque that is left, eV. By default 1e-4, and no moment is expected to
        rotate by more than 0.001 rad any more (nor its length, where it is free, to
        change by 0.1%): that is right for anisotropies of any size, also where the
        start is close to a maximum.
    stress_max : float
        Largest component of the stress that is left, eV/A^3; not scaled either, since
        0.08 GPa (the default) is a strain below 0.2% where elastic constants are above
        40 GPa.
    steps : int
        Largest number of steps.
    logfile, trajectory : path, optional
        See :class:`SpinLatticeLBFGS`.
    checkpoint : path, optional
        File that keeps the results of every model call. The same call, from the same
        structure, repeats its steps from there and goes on where it was stopped or
        killed, to the same bits; thresholds and ``steps`` may be others.
    **options
        Of :class:`SpinLatticeFilter`: ``cell=True``, ``magnitudes=True``, ...

    Raises
    ------
    ValueError
        As :class:`SpinLatticeFilter`, or if the checkpoint is damaged or of another
        model, structure or options.
    CalculationFailed
        If the model gives numbers that are not finite for the first structure.
    OSError
        If a file cannot be written, or another process writes to it.
    """
    arguments = {
        "fmax": fmax,
        "torque_max": torque_max,
        "stress_max": stress_max,
        "steps": steps,
        "logfile": logfile,
        "trajectory": trajectory,
        **options,
    }
    if checkpoint is None:
        return _relax(atoms, **arguments)
    require_different(trajectory=trajectory, logfile=logfile, checkpoint=checkpoint)
    require_calculator(atoms)
    calculator = atoms.calc
    known = inspect.signature(SpinLatticeFilter).bind(atoms, **options)
    known.apply_defaults()
    run = {
        name: repr(known.arguments[name]) for name in known.arguments if name != "atoms"
    }
    run |= {"model": identity(calculator), "structure": digest(atoms)}
    with locked(checkpoint):
        record = RecordedResults(checkpoint, run)
        atoms.calc = RecordedCalculator(calculator, record)
        try:
            return _relax(atoms, **arguments)
        finally:
            results = current_results(atoms)
            atoms.calc = calculator
            if isinstance(calculator, DeepSpinCalculator) and results:
                calculator.take_results(atoms, results)


def _relax(
    atoms: Atoms,
    *,
    fmax: float,
    torque_max: float,
    stress_max: float,
    steps: int,
    logfile: IO[str] | str | Path | None,
    trajectory: str | Path | None,
    **options: Any,
) -> Relaxation:
    coordinates = SpinLatticeFilter(atoms, **options)
    with SpinLatticeLBFGS(
        coordinates, logfile=logfile, trajectory=trajectory
    ) as optimizer:
        converged = optimizer.run(
            fmax=fmax, torque_max=torque_max, stress_max=stress_max, steps=steps
        )
    return Relaxation.of(optimizer.descent, converged=converged)


def relax_spins(
    atoms: Atoms, *, torque_max: float | None = None, steps: int = 500
) -> Relaxation:
    """Rotate the moments to a minimum of the energy, at fixed lattice and lengths.

    By Riemannian L-BFGS on the spheres of constant length.

    Parameters
    ----------
    atoms : Atoms
        Its calculator gives ``magnetic_forces`` (eV/mu_B). The moments are
        changed in place.
    torque_max : float, optional
        Converged when no torque m x (-dE/dm) exceeds this, eV. By default 1e-5, and no
        moment is expected to rotate by more than 0.001 rad any more.
    steps : int
        Largest number of model calls.

    Raises
    ------
    ValueError
        If the atoms carry no moments or no calculator.
    CalculationFailed
        If the model gives numbers that are not finite for the first structure.
    """
    whole("steps", steps, 1)
    coordinates = SpinLatticeFilter(atoms, positions=False, torque_max=torque_max)
    limit = SPINS_TORQUE_MAX if torque_max is None else torque_max
    descent = Descent(coordinates)
    descent.begin()
    while True:
        left = coordinates.residuals()
        logger.info(
            "call %d: energy %.6f eV, torque %.2e eV",
            descent.n_calls,
            descent.energy,
            left["torque"],
        )
        converged = left["torque"] <= limit and descent.converged(FMAX)
        if converged or not _step(descent, steps):
            return Relaxation.of(descent, converged=converged)


def _step(descent: Descent, most: int) -> bool:
    """Make one step within ``most`` model calls; return whether there was one."""
    while not descent.stuck and descent.n_calls < most:
        descent.propose()
        if descent.accept():
            return True
    return False


def relax_batch(
    images: Sequence[Atoms],
    *,
    fmax: float = FMAX,
    torque_max: float | None = None,
    stress_max: float = STRESS_MAX,
    steps: int = 500,
    progress: bool | None = None,
    **options: Any,
) -> list[Relaxation]:
    """Relax many structures with the same model, each on its own, in batched calls.

    The structures are changed in place, and keep calculators of their own with the
    results of the final state. One for which the model gives numbers that are not
    finite is left out.

    Parameters
    ----------
    images : sequence of Atoms
        All with one and the same calculator. A :class:`DeepSpinCalculator` evaluates
        all of them at once, any other one does one after the other.
    fmax, torque_max, stress_max : float
        eV/A, eV and eV/A^3, as for :func:`relax`.
    steps : int
        Largest number of model calls for a structure.
    progress : bool, optional
        Progress bar; by default on a terminal.
    **options
        Of :class:`SpinLatticeFilter`.

    Returns
    -------
    list of Relaxation
        One for each structure, in the same order.

    Raises
    ------
    ValueError
        As :class:`SpinLatticeFilter`; or if there are no structures, one is there
        twice, or they have several calculators.
    """
    warn_of_unusual("fmax", positive("fmax", fmax))
    whole("steps", steps, 1)
    images = [images] if isinstance(images, Atoms) else list(images)
    if not images or len({id(image) for image in images}) < len(images):
        raise ValueError("relax_batch takes structures, each of them once")
    for image in images:
        check_structure(image)
    calculator = images[0].calc
    for image in images:
        if image.calc is not calculator:
            raise ValueError(
                "structures that are relaxed in one batch share a calculator"
            )
    batched = isinstance(calculator, DeepSpinCalculator)
    for image in images:
        image.calc = (copy.copy if batched else copy.deepcopy)(calculator)
    options |= {"torque_max": torque_max, "stress_max": stress_max}
    descents = [Descent(SpinLatticeFilter(image, **options)) for image in images]
    evaluate = partial(_give_results, calculator) if batched else _one_by_one
    evaluate(images)
    found = [_begun(k, descent, fmax) for k, descent in enumerate(descents)]
    accepted = {k for k, result in enumerate(found) if result.residuals}
    running = {k: descents[k] for k in sorted(accepted)}
    with bar(total=len(images), progress=progress) as shown:
        while True:
            for k, descent in list(running.items()):
                # After a step that was taken back the state is as it was before.
                found[k] = (
                    _state(descent, fmax)
                    if k in accepted
                    else replace(found[k], n_calls=descent.n_calls)
                )
                if found[k].converged or descent.stuck or descent.n_calls >= steps:
                    del running[k]
            shown.update(len(images) - len(running) - shown.n)
            if not running:
                return found
            for descent in running.values():
                descent.propose()
            evaluate([images[k] for k in running])
            accepted = {k for k, descent in running.items() if descent.accept()}


def _begun(k: int, descent: Descent, fmax: float) -> Relaxation:
    """Begin a descent; the result has no residuals where the model fails."""
    try:
        descent.begin()
    except CalculationFailed as error:
        logger.warning("structure %d is left out: %s", k, error)
        return Relaxation(False, descent.n_calls, np.nan, {}, {})
    return _state(descent, fmax)


def _state(descent: Descent, fmax: float) -> Relaxation:
    """Return the result of a descent that ended where it is."""
    return Relaxation.of(descent, converged=descent.converged(fmax))


def _give_results(calculator: DeepSpinCalculator, images: Sequence[Atoms]) -> None:
    """Evaluate structures together and give each its results."""
    for image, results in zip(images, calculator.evaluate(images), strict=True):
        image.calc.take_results(image, results)


def _one_by_one(images: Sequence[Atoms]) -> None:
    """Leave it to each structure's own calculator."""
