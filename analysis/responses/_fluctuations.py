"""Responses at finite temperature from equilibrium fluctuations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive_numbers
from ...neighbors import build_pairs
from ...potentials import ElectricField
from ...system import System
from ...units import MU_B
from .._model import Model, model_of
from .._statistics import bootstrap, covariance
from ..transitions._thermal_sampling import (
    SamplingTask,
    check_run,
    model_data,
    run_sampling,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class ThermalResponse(Result):
    """Responses of a structure to weak fields at T temperatures.

    Of the whole structure, in the units of :class:`StaticResponse`; each with its
    standard errors.

    Attributes
    ----------
    temperatures_K : (T,) array
    magnetic, magnetic_error : (T, 3, 3) arrays, mu_B/T
        dM_a/dB_b of the total moment.
    electric, electric_error : (T, 3, 3) arrays, e A^2/V, optional
        d(V P_a)/dE_b.
    magnetoelectric, magnetoelectric_error : (T, 3, 3) arrays, mu_B A/V, optional
        dM_a/dE_b of the total moment.
    n_magnetic : int
        Number of magnetic atoms.
    """

    temperatures_K: np.ndarray
    magnetic: np.ndarray
    magnetic_error: np.ndarray
    electric: np.ndarray | None
    electric_error: np.ndarray | None
    magnetoelectric: np.ndarray | None
    magnetoelectric_error: np.ndarray | None
    n_magnetic: int


def thermal_response(
    atoms: Atoms,
    temperatures_K: ArrayLike,
    *,
    electric: ElectricField | None = None,
    steps: int = 5000,
    equilibration: int | None = None,
    interval: int = 2,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> ThermalResponse:
    """Return susceptibilities and magnetoelectric tensors from fluctuations.

    dX_a/df_b = (<X_a Y_b> - <X_a><Y_b>)/kT for the field f that acts on Y, with the
    total moment and V P for X and Y (R. Kubo, Rep. Prog. Phys. 29, 255 (1966),
    doi:10.1088/0034-4885/29/1/306). Of an order that the run does not leave it is the
    response of this order; where the domain or the axis changes in the run, that is
    part of it. Classical statistics.

    Parameters
    ----------
    atoms : Atoms
        The whole periodic structure, with moments.
    temperatures_K : (T,) array
        Positive; all run in one batch.
    electric : ElectricField, optional
        Whose charges and reference give V P; its own field does not act.
    steps, equilibration, interval, method, options, model, seed, progress
        As for :func:`~deepspin_ase.analysis.curie_temperature`. With the default
        method the lattice moves only with ``options={"lattice_steps": ...}``.

    Raises
    ------
    ValueError
        If there is no model, samples are too few, temperatures are not positive, or
        moments are missing.
    """
    temperatures = positive_numbers("temperatures_K", temperatures_K)
    check_run(method, steps, interval)
    observables = (
        {}
        if electric is None
        else {f"dipole {x}": _Dipole(electric, k) for k, x in enumerate("xyz")}
    )
    samples = run_sampling(
        SamplingTask(
            model_data(model_of(atoms, model)),
            atoms,
            tuple(temperatures.tolist()),
            (0.0, 0.0, 0.0),
            atoms.cell.array,
            steps,
            steps // 5 if equilibration is None else equilibration,
            interval=interval,
            method=method,
            options=options or {},
            seed=seed,
            observables=observables,
        ),
        progress=progress,
    )
    moments = samples.n_magnetic * samples.magnetization
    beta = 1.0 / (units.kB * temperatures)
    magnetic, magnetic_error = MU_B * _covariances(moments, moments, beta)
    found: dict[str, np.ndarray | None] = dict.fromkeys(
        (
            "electric",
            "electric_error",
            "magnetoelectric",
            "magnetoelectric_error",
        )
    )
    if electric is not None:
        dipoles = np.stack([samples.observables[name] for name in observables], -1)
        for name, x in (("electric", dipoles), ("magnetoelectric", moments)):
            found[name], found[f"{name}_error"] = _covariances(x, dipoles, beta)
    return ThermalResponse(
        temperatures_K=temperatures,
        magnetic=magnetic,
        magnetic_error=magnetic_error,
        n_magnetic=samples.n_magnetic,
        **found,
    )


@plots(ThermalResponse)
def plot_thermal_response(result: ThermalResponse, ax: Axes | None = None) -> Axes:
    """Draw the diagonal of dM/dB in mu_B/T per magnetic atom against temperature."""
    ax = figure_axes(ax)
    for k, label in enumerate("xyz"):
        ax.errorbar(
            result.temperatures_K,
            result.magnetic[:, k, k] / result.n_magnetic,
            result.magnetic_error[:, k, k] / result.n_magnetic,
            fmt="o-",
            ms=3,
            capsize=2,
            label=label * 2,
        )
    ax.set(xlabel="temperature (K)", ylabel=r"dM/dB ($\mu_B$/T per magnetic atom)")
    ax.legend()
    return ax


@dataclass(frozen=True)
class _Dipole:
    """A component of V P, e A, as an observable."""

    electric: ElectricField
    axis: int

    def __call__(self, atoms: Atoms) -> float:
        system = System.from_atoms(atoms)
        self.electric.check(system)
        pairs = build_pairs(system, self.electric.pair_cutoff(system))
        return float(self.electric.dipole(system, pairs)[0, self.axis])


def _covariances(x: np.ndarray, y: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return beta (<x_a y_b> - <x_a><y_b>) and errors, (2, T, 3, 3).

    Of series (T, F, 3).
    """
    found = np.zeros((2, len(beta), 3, 3))
    for t, factor in enumerate(beta):
        a_all, b_all = x[t] - x[t].mean(axis=0), y[t] - y[t].mean(axis=0)
        for k, a in enumerate(a_all.T):
            for m, b in enumerate(b_all.T):
                columns = np.stack([a, b, a * b], axis=1)
                found[:, t, k, m] = bootstrap(columns, covariance)
                found[:, t, k, m] *= factor
    return found
