"""Phase diagrams over temperature, field, pressure, strain and composition.

>>> temperatures = np.linspace(50, 500, 4)  # K
>>> diagram = phase_diagram(atoms, temperatures, fields_T=[0, 50], steps=200)
>>> print(diagram.line("heat_capacity"))
>>> axes = diagram.plot(quantity="order")
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._distributed import map_tasks
from ..._figures import figure_axes
from ..._validate import positive_numbers, whole
from ...build import random_alloy
from ...spins import unit_vector
from ...units import MU_B
from .._model import Model, model_of
from .._result import Result, plots
from .._statistics import Estimate, mean_of_realizations, mean_with_error
from ..order._structure_factor import structure_factor
from ._crossing import peak
from ._fluctuations import binder_cumulant, heat_capacity, susceptibility
from ._size_averages import estimate_or_nan, half_difference
from ._thermal_sampling import (
    SamplingTask,
    ThermalSamples,
    check_run,
    model_data,
    run_sampling,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Halves of a run that differ by more of their errors than this are not equilibrium.
_DRIFT = 4.0

#: Sweeps between swaps of neighboring temperatures.
_EXCHANGE = 10

#: Axes of the points beside temperature, with their labels.
_LABELS = {
    "temperature_K": "temperature (K)",
    "field_T": "field (T)",
    "pressure_GPa": "pressure (GPa)",
    "strain": "strain",
    "composition": "share of sites",
}

_QUANTITIES = {
    "order": r"ordered moment ($\mu_B$)",
    "order_along": r"ordered moment along the field ($\mu_B$)",
    "order_across": r"ordered moment across the field ($\mu_B$)",
    "magnetization": r"moment along the field ($\mu_B$)",
    "susceptibility": r"susceptibility of the order ($\mu_B^2$/eV)",
    "field_susceptibility": r"susceptibility along the field ($\mu_B^2$/eV)",
    "heat_capacity": r"heat capacity ($k_B$)",
    "binder": "Binder cumulant",
    "energy": "energy (eV/atom)",
}


@dataclass(frozen=True, eq=False)
class PhaseDiagram(Result):
    """Averages at all points of a grid.

    Attributes
    ----------
    axes : dict of (n,) arrays
        Coordinates of the grid by name, "temperature_K" last; of those of
        "field_T", "pressure_GPa", "strain" and "composition" that were asked for.
    quantities : dict of arrays
        Value and standard error, the shape of the grid and 2. Per magnetic atom, in
        mu_B: "order", the moment with the propagation vectors, its parts "order_along"
        and "order_across" the field's direction, and "magnetization" along it;
        "susceptibility" of the order and "field_susceptibility", mu_B^2/eV;
        "heat_capacity" in k_B; "binder", U4 of the order; "energy" per atom, eV,
        without that of the field; and observables by their names. Errors are NaN where
        samples are too few for one.
    q : (Q, 3) array
        Propagation vectors, reciprocal lattice units of the cell.
    drift : array
        Difference of the mean order of both halves of the run, in standard errors.
    """

    axes: dict[str, np.ndarray]
    quantities: dict[str, np.ndarray]
    q: np.ndarray
    drift: np.ndarray

    def line(
        self, quantity: str = "heat_capacity", axis: str = "temperature_K"
    ) -> np.ndarray:
        """Return where a quantity has its peak along an axis, and the error.

        A transition line: the heat capacity or a susceptibility peaks there, in
        a finite cell near the transition of an infinite one. NaN where the highest
        value is at an end of the axis.

        Returns
        -------
        array
            The shape of the grid without the axis, and 2.

        Raises
        ------
        ValueError
            If there is no such quantity or axis, or the axis has fewer than four
            points.
        """
        table = self._table(quantity)
        position = self._position(axis)
        points = self.axes[axis]
        if len(points) < 4:
            raise ValueError(
                f"a peak along {axis} needs four points or more, got {len(points)}"
            )
        moved = np.moveaxis(table, position, -2)
        found = np.full((*moved.shape[:-2], 2), np.nan)
        for index in np.ndindex(*moved.shape[:-2]):
            known = np.isfinite(moved[index]).all(axis=1)
            if known.sum() >= 4:
                value, error = moved[index][known].T
                found[index] = peak(points[known], (value, error))
        return found

    def _table(self, quantity: str) -> np.ndarray:
        if quantity not in self.quantities:
            raise ValueError(
                f"quantity must be one of {', '.join(self.quantities)}, got "
                f"{quantity!r}"
            )
        return self.quantities[quantity]

    def _position(self, axis: str) -> int:
        if axis not in self.axes:
            raise ValueError(
                f"axis must be one of {', '.join(self.axes)}, got {axis!r}"
            )
        return list(self.axes).index(axis)


def phase_diagram(
    atoms: Atoms,
    temperatures_K: ArrayLike,
    *,
    fields_T: ArrayLike | None = None,
    direction: str | ArrayLike = "z",
    pressures_GPa: ArrayLike | None = None,
    strains: ArrayLike | None = None,
    compositions: Sequence[Mapping[str, float]] | None = None,
    sublattice: str | None = None,
    realizations: int = 4,
    q: ArrayLike | None = None,
    observables: Mapping[str, Callable[[Atoms], float]] | None = None,
    steps: int = 2000,
    equilibration: int | None = None,
    interval: int = 2,
    method: str = "monte-carlo",
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    seed: int = 0,
    client: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> PhaseDiagram:
    """Sample a magnet on a grid of temperatures, fields, pressures, strains, doping.

    All temperatures of a point run in one batch. In Monte Carlo they exchange
    configurations (parallel tempering), which takes them over barriers between phases.

    Parameters
    ----------
    atoms : Atoms
        The whole periodic structure, with moments to start from, in order.
    temperatures_K : (T,) array
        Positive, ascending.
    fields_T : (B,) array, optional
        Along ``direction``, T.
    direction : (3,) array or str
        Of the field; parts of the order are along and across it.
    pressures_GPa : (P,) array, optional
        The cell moves at these pressures, with ``method="npt"``.
    strains : (S,) array, optional
        Of all three lattice vectors; 0.01 makes them one percent longer.
    compositions : sequence of {symbol: share}, optional
        Of random alloys, see :func:`~deepspin_ase.build.random_alloy`; ``{}`` is the
        crystal. The axis has the sum of the shares.
    sublattice : symbol, optional
        Of the alloys.
    realizations : int
        Of each alloy; averages are over them.
    q : (3,) or (Q, 3) array, optional
        Propagation vectors of the order in reciprocal lattice units of ``atoms``; by
        default that of the peak of the structure factor of its moments.
    observables : dict of functions, optional
        Of Atoms, each returns a number that is averaged as well, such as a
        polarization: ``{"density": lambda a: len(a) / a.get_volume()}``.
    steps, equilibration, interval, model, seed, client, checkpoint, progress
        As for :func:`~deepspin_ase.analysis.curie_temperature`.
    method : {"monte-carlo", "langevin", "npt"}
        Fixed atoms, moving atoms, or moving atoms and cell
        (:class:`~deepspin_ase.dynamics.SpinLatticeNPT`).
    options : mapping, optional
        Of the driver.

    Raises
    ------
    ValueError
        If there is no model, an axis is not as described, moments are missing, q does
        not repeat with the structure, pressures are given without ``method="npt"``, or
        a composition does not fit.
    """
    temperatures = positive_numbers("temperatures_K", temperatures_K)
    if temperatures.ndim != 1 or (np.diff(temperatures) <= 0).any():
        raise ValueError(f"temperatures_K must ascend, got {temperatures}")
    if pressures_GPa is not None and method != "npt":
        raise ValueError('pressures_GPa need method="npt", in which the cell moves')
    check_run(method, steps, interval)
    whole("realizations", realizations, 1)
    axes = _axes(fields_T, pressures_GPa, strains, compositions)
    axis = unit_vector(direction)
    if q is None:
        q = structure_factor(atoms).peak_q
    waves = np.atleast_2d(np.asarray(q, dtype=float))
    base = SamplingTask(
        model_data(model_of(atoms, model)),
        atoms,
        tuple(temperatures.tolist()),
        tuple(map(tuple, waves.tolist())),
        atoms.cell.array,
        steps,
        steps // 5 if equilibration is None else equilibration,
        interval,
        method,
        options=_options(options, method, len(temperatures)),
        observables=dict(observables or {}),
    )
    points = list(itertools.product(*(range(len(v)) for v in axes.values())))
    tasks, owners = [], []
    for number, point in enumerate(points):
        given = dict(zip(axes, point, strict=True))
        count = realizations if _is_alloy(given, compositions) else 1
        for r in range(count):
            tasks.append(
                _task(
                    base,
                    {name: axes[name][k] for name, k in given.items()},
                    None
                    if compositions is None
                    else compositions[given["composition"]],
                    axis,
                    sublattice=sublattice,
                    seed=seed + 1000 * number + r,
                    checkpoint=_name(checkpoint, number, r),
                )
            )
            owners.append(number)
    found = map_tasks(
        partial(run_sampling, progress=False),
        tasks,
        client=client,
        description="points",
        progress=progress,
    )
    return _collected(axes, temperatures, waves, axis, tasks, owners, found)


def _axes(
    fields: ArrayLike | None,
    pressures: ArrayLike | None,
    strains: ArrayLike | None,
    compositions: Sequence[Mapping[str, float]] | None,
) -> dict[str, np.ndarray]:
    """Return the coordinates beside the temperature, by name."""
    axes = {}
    for name, values in (
        ("field_T", fields),
        ("pressure_GPa", pressures),
        ("strain", strains),
    ):
        if values is None:
            continue
        points = np.asarray(values, dtype=float)
        if points.ndim != 1 or not len(points) or not np.isfinite(points).all():
            raise ValueError(f"{name} must be finite numbers (n,), got {values!r}")
        if (np.diff(points) <= 0).any():
            raise ValueError(f"{name} must ascend, got {points}")
        axes[name] = points
    if compositions is not None:
        if not len(compositions):
            raise ValueError(
                "compositions are empty; give some, such as [{}, {'Mg': 0.1}]"
            )
        axes["composition"] = np.array([sum(c.values()) for c in compositions])
    return axes


def _options(
    given: Mapping[str, Any] | None, method: str, n_temperatures: int
) -> dict[str, Any]:
    """Return the options of the driver; neighboring temperatures exchange."""
    tempering = method == "monte-carlo" and n_temperatures > 1
    return ({"exchange_interval": _EXCHANGE} if tempering else {}) | dict(given or {})


def _is_alloy(
    point: Mapping[str, int], compositions: Sequence[Mapping[str, float]] | None
) -> bool:
    return compositions is not None and bool(compositions[point["composition"]])


def _task(
    base: SamplingTask,
    point: Mapping[str, float],
    composition: Mapping[str, float] | None,
    axis: np.ndarray,
    *,
    sublattice: str | None,
    seed: int,
    checkpoint: str | None,
) -> SamplingTask:
    """Return the task of a point."""
    atoms, options = base.atoms.copy(), dict(base.options)
    cell = base.cell
    if composition:
        atoms = random_alloy(atoms, composition, sublattice=sublattice, seed=seed)
    if "strain" in point:
        cell = cell * (1.0 + point["strain"])
        atoms.set_cell(cell, scale_atoms=True)
    if "field_T" in point:
        options["external_field_T"] = tuple((point["field_T"] * axis).tolist())
    if "pressure_GPa" in point:
        options["pressure_GPa"] = point["pressure_GPa"]
    return replace(
        base, atoms=atoms, cell=cell, options=options, seed=seed, checkpoint=checkpoint
    )


def _name(
    checkpoint: str | os.PathLike[str] | None, point: int, realization: int
) -> str | None:
    if checkpoint is None:
        return None
    return str(Path(checkpoint) / f"point{point}_{realization}")


def _collected(
    axes: dict[str, np.ndarray],
    temperatures: np.ndarray,
    waves: np.ndarray,
    axis: np.ndarray,
    tasks: Sequence[SamplingTask],
    owners: Sequence[int],
    found: Sequence[ThermalSamples],
) -> PhaseDiagram:
    """Average the samples of all points."""
    shape = (*map(len, axes.values()), len(temperatures))
    fields = [np.dot(t.options.get("external_field_T", (0, 0, 0)), axis) for t in tasks]
    averages = [_averages(s, axis, b) for s, b in zip(found, fields, strict=True)]
    drifts = [
        np.array([half_difference(order) for order in samples.order])
        for samples in found
    ]
    n_points = max(owners) + 1
    groups: list[list[int]] = [[] for _ in range(n_points)]
    for k, owner in enumerate(owners):
        groups[owner].append(k)
    quantities = {
        name: np.array(
            [
                mean_of_realizations([averages[k][name] for k in group])
                for group in groups
            ]
        ).reshape(*shape, 2)
        for name in averages[0]
    }
    drift = np.array([np.max([drifts[k] for k in group], axis=0) for group in groups])
    moved = int((drift > _DRIFT).sum())
    if moved:
        warnings.warn(
            f"{moved} of {drift.size} points are not in equilibrium: the order of both "
            "halves of the run differs; sample longer, equilibrate longer",
            stacklevel=3,
        )
    return PhaseDiagram(
        axes | {"temperature_K": temperatures}, quantities, waves, drift.reshape(shape)
    )


def _averages(
    samples: ThermalSamples, axis: np.ndarray, field: float
) -> dict[str, np.ndarray]:
    """Return the quantities (T, 2) of one run in a field along ``axis``, T."""
    n = samples.n_magnetic
    along = samples.order_vectors @ axis
    across = samples.order_vectors - along[..., None] * axis
    rows: dict[str, list[Estimate]] = {}
    for k, t in enumerate(samples.temperatures_K):
        m = samples.magnetization[k] @ axis
        energy = samples.energy[k]
        total = energy - MU_B * field * n * m
        order = samples.order[k]
        found = {
            "order": mean_with_error(order),
            "order_along": mean_with_error(np.linalg.norm(along[k], axis=-1)),
            "order_across": mean_with_error(
                np.linalg.norm(across[k].reshape(len(m), -1), axis=1)
            ),
            "magnetization": mean_with_error(m),
            "susceptibility": estimate_or_nan(susceptibility, order, t, n),
            "field_susceptibility": estimate_or_nan(_variance, m, t, n),
            "heat_capacity": estimate_or_nan(heat_capacity, total, t, n),
            "binder": estimate_or_nan(binder_cumulant, order),
            "energy": Estimate(*np.divide(mean_with_error(energy), samples.n_atoms)),
            **{
                name: mean_with_error(values[k])
                for name, values in samples.observables.items()
            },
        }
        for name, estimate in found.items():
            rows.setdefault(name, []).append(estimate)
    return {name: np.array(row, dtype=float) for name, row in rows.items()}


def _variance(along: np.ndarray, temperature: float, n_magnetic: int) -> Estimate:
    """Return the susceptibility of a component, whose sign counts, mu_B^2/eV."""
    shifted = along - along.min() + 1.0  # a size is what susceptibility takes
    return susceptibility(shifted, temperature, n_magnetic)


@plots(PhaseDiagram)
def plot_phase_diagram(
    result: PhaseDiagram,
    ax: Axes | None = None,
    *,
    quantity: str = "order",
    against: str | None = None,
    at: Mapping[str, float] | None = None,
    line: str | None = None,
) -> Axes:
    """Draw a quantity as a map over temperature and another axis, or as a curve.

    Parameters
    ----------
    quantity : str
        See :class:`PhaseDiagram`.
    against : str, optional
        The other axis; by default the first of several points. Without any, curves
        against temperature.
    at : {axis: value}, optional
        Points of the axes that are left; their first by default.
    line : str, optional
        Quantity whose peak along the temperature is drawn on the map.

    Raises
    ------
    ValueError
        If there is no such quantity or axis.
    """
    table = result._table(quantity)
    others = [name for name in result.axes if name != "temperature_K"]
    many = [name for name in others if len(result.axes[name]) > 1]
    if against is None and many:
        against = many[0]
    if against is not None:
        result._position(against)
    index: list[Any] = []
    for name in others:
        if name == against:
            index.append(slice(None))
            continue
        points = result.axes[name]
        wanted = (at or {}).get(name, points[0])
        index.append(int(np.argmin(abs(points - wanted))))
    chosen = table[tuple(index)]
    ax = figure_axes(ax)
    temperatures = result.axes["temperature_K"]
    label = _QUANTITIES.get(quantity, quantity)
    if against is None:
        value, error = chosen.T
        ax.errorbar(temperatures, value, error, fmt="o-", ms=4, capsize=2)
        ax.set(xlabel=_LABELS["temperature_K"], ylabel=label)
        return ax
    drawn = ax.pcolormesh(
        temperatures, result.axes[against], chosen[..., 0], shading="nearest"
    )
    ax.figure.colorbar(drawn, ax=ax, label=label)
    if line is not None:
        values = result.line(line)[tuple(index)]
        ax.errorbar(
            values[:, 0],
            result.axes[against],
            xerr=values[:, 1],
            fmt="wo-",
            ms=4,
            capsize=2,
            label=f"peak: {_QUANTITIES.get(line, line).partition(' (')[0]}",
        )
        ax.legend()
    ax.set(xlabel=_LABELS["temperature_K"], ylabel=_LABELS[against])
    return ax
