"""Thermal expansion and elastocaloric entropy from fluctuations of the stress.

At fixed strain the stress changes with temperature as

    V d sigma/dT = (<W E> - <W><E>)/(k T^2),   W = dE/d strain,

which is the volume times minus the entropy that a strain brings in, -dS/d strain
(Maxwell's relation; D. C. Wallace, Thermodynamics of Crystals, Wiley 1972). Momenta
add -N k T/V to the stress of atoms that move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike

from ..._distributed import map_tasks
from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive_numbers
from ...calculators._deepspin import require_stress
from .._model import Model
from .._statistics import bootstrap, covariance
from ..transitions._thermal_sampling import ThermalSamples, check_run, run_sampling
from ._derivatives import elastic_constants
from ._model import with_calculator
from ._strained_runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = ("xx", "yy", "zz", "yz", "xz", "xy")


@dataclass(frozen=True, eq=False)
class ThermalExpansion(Result):
    """Thermal stress and expansion at T temperatures.

    Attributes
    ----------
    temperatures_K : (T,) array
    elastic : (6, 6) array, GPa
        Elastic constants at rest, at fixed directions of the moments; Voigt order.
    slope, slope_error : (T, 6) arrays, GPa/K
        d sigma/dT at fixed strain, with standard errors.
    expansion, expansion_error : (T, 6) arrays, 1/K
        d strain/dT at zero stress, -C^-1 d sigma/dT; shears 2 e_yz and so on.
    """

    temperatures_K: np.ndarray
    elastic: np.ndarray
    slope: np.ndarray
    slope_error: np.ndarray
    expansion: np.ndarray
    expansion_error: np.ndarray

    @property
    def linear(self) -> np.ndarray:
        """Mean coefficient of linear expansion, (T,), 1/K."""
        return np.asarray(self.expansion[:, :3].mean(axis=1))


@dataclass(frozen=True, eq=False)
class ElastocaloricChange(Result):
    """Isothermal entropy change between no strain and each of S strains.

    Attributes
    ----------
    temperatures_K : (T,) array
    strains : (S,) array
        Multiples of the pattern; zero first.
    pattern : (6,) array
        Voigt order, shears 2 e_yz and so on.
    entropy : (T, S) array, k_B per magnetic atom
        S(T, strain) - S(T, 0).
    error : (T, S) array
        Standard errors.
    """

    temperatures_K: np.ndarray
    strains: np.ndarray
    pattern: np.ndarray
    entropy: np.ndarray
    error: np.ndarray


def thermal_expansion(
    atoms: Atoms,
    temperatures_K: ArrayLike,
    *,
    steps: int = 5000,
    equilibration: int | None = None,
    interval: int = 5,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> ThermalExpansion:
    """Return thermal expansion from the fluctuations of stress and energy.

    With the default method the lattice is fixed, and what comes out is the magnetic
    part: the expansion that the disorder of the moments makes, with its anomaly at a
    transition. ``method="langevin"`` gives the sum with that of vibrations;
    :func:`~deepspin_ase.analysis.thermal_properties` that of quantum vibrations alone.

    Parameters
    ----------
    atoms : Atoms
        The whole periodic structure, at rest, with moments.
    temperatures_K : (T,) array
        Positive; all run in one batch.
    steps, equilibration, interval, method, options, model, seed, progress
        As for :func:`~deepspin_ase.analysis.curie_temperature`.

    Raises
    ------
    ValueError
        If there is no model or no stress, the structure is not at its minimum, samples
        are too few, temperatures are not positive, or moments are missing.
    """
    temperatures = positive_numbers("temperatures_K", temperatures_K)
    check_run(method, steps, interval)
    image = with_calculator(atoms, model)
    require_stress(image, purpose="thermal expansion")
    volume, elastic = image.get_volume(), elastic_constants(image)
    run = Run(method, steps, equilibration, interval, dict(options or {}), seed)
    task = run.task(atoms, model, temperatures, np.zeros(6), np.eye(6))
    samples = run_sampling(task, progress=progress)
    slopes = _slopes(samples, 6) / volume / units.GPa
    if method != "monte-carlo" or run.options.get("lattice_steps"):
        slopes[..., :3, 0] -= len(atoms) * units.kB / volume / units.GPa
    compliance = np.linalg.inv(elastic)
    return ThermalExpansion(
        temperatures,
        elastic,
        slopes[..., 0],
        slopes[..., 1],
        -slopes[..., 0] @ compliance,
        np.sqrt(slopes[..., 1] ** 2 @ compliance**2),
    )


def elastocaloric_change(
    atoms: Atoms,
    temperatures_K: ArrayLike,
    strains: ArrayLike,
    *,
    pattern: Sequence[float] = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    steps: int = 5000,
    equilibration: int | None = None,
    interval: int = 5,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    seed: int = 0,
    client: Any = None,
    progress: bool | None = None,
) -> ElastocaloricChange:
    """Return the entropy change of a magnet under strain at constant temperature.

    dS = -int (<W E> - <W><E>)/(k T^2) d strain along a path of strains, with the
    trapezoidal rule; use a fine grid where the stress changes fast with temperature.
    With the default method it is that of the moments alone.

    Parameters
    ----------
    atoms : Atoms
        The whole periodic structure without strain, with moments.
    temperatures_K : (T,) array
        Positive; all run in one batch for each strain.
    strains : (S,) array
        Ascending or descending from zero, which is added: multiples of ``pattern``.
    pattern : (6,) sequence
        Voigt order xx, yy, zz, yz, xz, xy, shears 2 e_yz and so on.
    steps, equilibration, interval, method, options, model, seed, client, progress
        As for :func:`~deepspin_ase.analysis.curie_temperature`.

    Raises
    ------
    ValueError
        If there is no model or no stress, temperatures or strains are not as described,
        samples are too few, or moments are missing.
    """
    temperatures = positive_numbers("temperatures_K", temperatures_K)
    check_run(method, steps, interval)
    require_stress(with_calculator(atoms, model), purpose="an elastocaloric effect")
    shape = np.asarray(pattern, dtype=float)
    if shape.shape != (6,) or not np.isfinite(shape).all() or not shape.any():
        raise ValueError(
            f"pattern must be six finite numbers, not all zero, got {pattern!r}"
        )
    path = np.concatenate([[0.0], np.asarray(strains, dtype=float).reshape(-1)])
    steps_of_path = np.diff(path)
    if not len(steps_of_path) or not (steps_of_path * steps_of_path[0] > 0).all():
        raise ValueError(f"strains must ascend or descend from zero, got {strains!r}")
    run = Run(method, steps, equilibration, interval, dict(options or {}), seed)
    tasks = [
        run.task(atoms, model, temperatures, strain * shape, shape[None])
        for strain in path
    ]
    found = map_tasks(
        partial(run_sampling, progress=False),
        tasks,
        client=client,
        description="strains",
        progress=progress,
    )
    slopes = -np.stack([_slopes(samples, 1)[:, 0] for samples in found], axis=1)
    slopes /= units.kB * found[0].n_magnetic
    # Weights of the trapezoidal rule up to each strain.
    weights = np.zeros((len(path), len(path)))
    for k, width in enumerate(steps_of_path):
        weights[k + 1 :, k : k + 2] += 0.5 * width
    return ElastocaloricChange(
        temperatures,
        path,
        shape,
        slopes[..., 0] @ weights.T,
        np.sqrt(slopes[..., 1] ** 2 @ weights.T**2),
    )


@plots(ThermalExpansion)
def plot_thermal_expansion(result: ThermalExpansion, ax: Axes | None = None) -> Axes:
    """Draw the coefficients along x, y and z against temperature."""
    ax = figure_axes(ax)
    for k, name in enumerate(_NAMES[:3]):
        ax.errorbar(
            result.temperatures_K,
            1e6 * result.expansion[:, k],
            1e6 * result.expansion_error[:, k],
            fmt="o-",
            ms=3,
            capsize=2,
            label=name,
        )
    ax.set(xlabel="temperature (K)", ylabel="thermal expansion (10⁻⁶/K)")
    ax.legend()
    return ax


@plots(ElastocaloricChange)
def plot_elastocaloric_change(
    result: ElastocaloricChange, ax: Axes | None = None
) -> Axes:
    """Draw the entropy change against temperature, a line for each strain."""
    ax = figure_axes(ax)
    for k, strain in enumerate(result.strains[1:], 1):
        ax.errorbar(
            result.temperatures_K,
            result.entropy[:, k],
            result.error[:, k],
            fmt="o-",
            ms=3,
            capsize=2,
            label=f"{100 * strain:g} %",
        )
    ax.set(xlabel="temperature (K)", ylabel=r"$\Delta S$ ($k_B$ per magnetic atom)")
    ax.legend()
    return ax


def _slopes(samples: ThermalSamples, count: int) -> np.ndarray:
    """Return d<dE/ds>/dT with errors, (T, count, 2), eV/K."""
    found = np.zeros((len(samples.temperatures_K), count, 2))
    for t, temperature in enumerate(samples.temperatures_K):
        energy = samples.energy[t] - samples.energy[t].mean()
        for k in range(count):
            work = samples.observables[f"strain {k}"][t]
            work = work - work.mean()
            columns = np.stack([work, energy, work * energy], axis=1)
            found[t, k] = bootstrap(columns, covariance)
            found[t, k] /= units.kB * temperature**2
    return found
