"""Hysteresis loops from field sweeps."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._progress import bar
from ..._result import Result, plots
from ..._validate import non_negative, whole
from ...calculators._deepspin import DeepSpinCalculator
from ...dynamics import MonteCarlo
from ...optimize import relax_spins
from ...spins import cant_spins, get_spins, set_spins, unit_vector
from .._model import Model, model_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Angle by which spins are canted before each relaxation, rad (rms): no symmetry may
#: keep them at a maximum or a saddle point.
_NUDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Hysteresis(Result):
    """Mean moments along a sweep of the field.

    Attributes
    ----------
    fields_T : (F,) array
        In the order of the sweep.
    magnetization : (F, 3) array, mu_B
        Mean moment per magnetic atom.
    direction : (3,) array
        Of the field.
    """

    fields_T: np.ndarray
    magnetization: np.ndarray
    direction: np.ndarray

    @property
    def along(self) -> np.ndarray:
        """Mean moment (F,) along the field's direction, mu_B."""
        return np.asarray(self.magnetization @ self.direction)

    def coercive_fields_T(self) -> np.ndarray:
        """Fields at which the moment along the field changes sign, by interpolation."""
        m, b = self.along, self.fields_T
        (k,) = np.nonzero(m[:-1] * m[1:] < 0.0)
        return b[k] - m[k] * (b[k + 1] - b[k]) / (m[k + 1] - m[k])


def hysteresis(
    atoms: Atoms,
    fields_T: ArrayLike,
    *,
    direction: str | ArrayLike = "z",
    temperature_K: float = 0.0,
    sweeps: int = 200,
    torque_max: float | None = None,
    model: Model | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Hysteresis:
    """Sweep a field and follow the spins at fixed positions.

    At zero temperature the spins relax at each field to the next minimum
    (:func:`deepspin_ase.optimize.relax_spins`), as in an infinitely slow sweep;
    elsewhere :class:`~deepspin_ase.dynamics.MonteCarlo` makes ``sweeps`` sweeps at each
    field, in cones around the present directions, and the loop depends on their number.

    Parameters
    ----------
    atoms : Atoms
        With moments to start from, which are changed in place.
    fields_T : (F,) array, T
        In the order of the sweep, such as ``[5, 4, ..., -5, -4, ..., 5]``.
    direction : (3,) array or str
        Of positive fields.
    temperature_K : float
    sweeps : int
        At each field; the second half is averaged.
    torque_max : float, optional
        Of the relaxations, eV; by default as for :func:`relax_spins`, which follows the
        scale of the energy. A threshold that is not far below it makes spins switch
        too late.
    model : Potential, Calculator, path or str, optional
        As for :class:`~deepspin_ase.DeepSpinCalculator`, or a calculator that gives
        magnetic forces; by default that of ``atoms``. A field that it has is replaced
        in a copy; it stays as it is.
    seed : int
    progress : bool, optional
        Progress bar; by default on a terminal.

    Raises
    ------
    ValueError
        If there is no model, moments are missing, or arguments are not as described.
    RuntimeError
        If a relaxation does not converge.
    """
    given = model_of(atoms, model)
    fields = np.asarray(fields_T, dtype=float)
    if fields.ndim != 1 or len(fields) == 0 or not np.isfinite(fields).all():
        raise ValueError(f"fields_T must be finite numbers (F,), got {fields}")
    non_negative("temperature_K", temperature_K)
    whole("sweeps", sweeps, 2)
    magnetic = np.any(get_spins(atoms), axis=1)
    if not magnetic.any():
        raise ValueError("all moments are zero: set them with deepspin_ase.set_spins")
    axis = unit_vector(direction)
    rng = np.random.default_rng(seed)
    calculator = (
        copy.copy(given)
        if isinstance(given, DeepSpinCalculator)
        else DeepSpinCalculator(given)
    )
    swept = atoms.copy()
    swept.calc = calculator
    moments = []
    try:
        for field in bar(fields, progress=progress, desc="fields"):
            calculator.external_field_T = field * axis
            if temperature_K == 0.0:
                moments.append(_relaxed(swept, torque_max, field, rng)[magnetic])
            else:
                mean = _sampled(swept, temperature_K, sweeps, rng)
                moments.append(mean[magnetic])
    finally:
        set_spins(atoms, get_spins(swept))
    return Hysteresis(fields, np.array([m.mean(axis=0) for m in moments]), axis)


@plots(Hysteresis)
def plot_hysteresis(result: Hysteresis, ax: Axes | None = None) -> Axes:
    """Draw the moment along the field against the field."""
    ax = figure_axes(ax)
    ax.plot(result.fields_T, result.along, "o-", ms=3)
    ax.axhline(0.0, color="0.7", lw=0.8, zorder=0)
    ax.axvline(0.0, color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel="field (T)", ylabel=r"moment along the field ($\mu_B$)")
    return ax


def _relaxed(
    atoms: Atoms, torque_max: float | None, field: float, rng: np.random.Generator
) -> np.ndarray:
    cant_spins(atoms, 0.5 * _NUDGE**2, seed=int(rng.integers(2**31)))
    found = relax_spins(atoms, torque_max=torque_max, steps=2000)
    if not found.converged:
        raise RuntimeError(
            f"the spins did not relax at {field:g} T in {found.n_calls} model calls; "
            "allow a larger torque_max, or another step of the field"
        )
    return get_spins(atoms)


def _sampled(
    atoms: Atoms, temperature_K: float, sweeps: int, rng: np.random.Generator
) -> np.ndarray:
    driver = MonteCarlo(
        atoms,
        temperature_K=temperature_K,
        adaptation_steps=sweeps // 2,
        rng=rng,
        progress=False,
    )
    driver.run(sweeps // 2)
    total = np.zeros((len(atoms), 3))
    for _ in range(sweeps - sweeps // 2):
        driver.run(1)
        total += driver.state.system.spins.cpu().numpy()
    return total / (sweeps - sweeps // 2)
