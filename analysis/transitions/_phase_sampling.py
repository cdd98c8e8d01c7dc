"""Sampling of phase diagrams over temperature, field, pressure, strain, composition.

>>> temperatures = np.linspace(50, 500, 4)  # K
>>> diagram = phase_diagram(atoms, temperatures, fields_T=[0, 50], steps=200)
>>> print(diagram.line("heat_capacity"))
>>> axes = diagram.plot(quantity="order")
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._distributed import map_tasks
from ..._validate import positive_numbers, whole
from ...spins import unit_vector
from ...symmetry import space_group
from .._model import Model, model_of
from .._statistics import mean_of_realizations
from ..order._structure_factor import structure_factor
from ._found_orders import found_orders, order_name, phase_name
from ._order_parameters import Volume
from ._phase_averages import averages, order_sizes
from ._phase_diagram import PhaseDiagram
from ._phase_runs import (
    TEMPERINGS,
    Run,
    chains_of_runs,
    driver_options,
    grid_axes,
    joined_runs,
    joined_samples,
    run_chain,
    run_joined,
    runs_of_points,
)
from ._size_averages import half_difference
from ._thermal_sampling import SamplingTask, ThermalSamples, check_run, model_data

#: Halves of a run that differ by more of their errors than this are not equilibrium.
_DRIFT = 4.0


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
    q: ArrayLike | str | None = None,
    orders: Mapping[str, ArrayLike] | None = None,
    observables: Mapping[str, Callable[[Atoms], float]] | None = None,
    sweep: str | None = None,
    tempering: str = "temperature",
    steps: int = 2000,
    equilibration: int | None = None,
    interval: int = 2,
    method: str = "monte-carlo",
    space_group_tolerance_A: float | None = None,
    options: Mapping[str, Any] | None = None,
    model: Model | None = None,
    seed: int = 0,
    client: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    observe: Callable[[PhaseDiagram], None] | None = None,
) -> PhaseDiagram:
    """Sample a magnet on a grid of temperatures, fields, pressures, strains, doping.

    All temperatures of a point run in one batch. In Monte Carlo they exchange
    configurations (parallel tempering), which takes them over barriers between phases;
    with ``tempering="field"`` all fields join the batch and exchange, too.
    With ``sweep`` every point begins where the one before has ended, up the axis and
    down again, without moves over barriers, which show as hysteresis.

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
        default that of the peak of the structure factor of its moments. With "auto"
        all points are first equilibrated once more, to see which orders there are: the
        strongest without field becomes the order, the others are added to ``orders``
        (:func:`.transitions.found_orders`).
    orders : {name: (3,) or (Q, 3) array}, optional
        Propagation vectors of other orders, which compete with it: the quantity
        "order NAME".
    observables : dict of functions, optional
        Of Atoms, each returns a number that is averaged as well, such as a
        polarization. :class:`.transitions.Density`,
        :class:`.transitions.PolarDisplacement`,
        :class:`.transitions.ElectricPolarization` and
        :class:`.transitions.OctahedralTilt` make some.
    sweep : {"temperature_K", "field_T", "pressure_GPa", "strain"}, optional
        Axis that is followed in both directions.
    tempering : {"temperature", "field", "none"}
        What replicas exchange configurations across in Monte Carlo without a sweep:
        temperatures, temperatures and fields, or nothing. Across a transition of first
        order in the field, such as a spin flop, exchange needs fields that are close.
    steps, equilibration, interval, model, seed, client, checkpoint, progress
        As for :func:`~deepspin_ase.analysis.curie_temperature`.
    method : {"monte-carlo", "langevin", "npt"}
        Fixed atoms, moving atoms, or moving atoms and cell
        (:class:`~deepspin_ase.dynamics.SpinLatticeNPT`); "volume", per atom in A^3,
        is then a quantity, too.
    space_group_tolerance_A : float, optional
        Where atoms move, the space groups of the mean structures are found with this
        tolerance; twice the error of the mean or more, and less than the displacements
        that matter. A run that goes through several domains has the symmetry of all.
    options : mapping, optional
        Of the driver.
    observe : callable, optional
        Called with the diagram so far whenever more of it is sampled.

    Raises
    ------
    ValueError
        If there is no model, an axis is not as described, moments are missing, q does
        not repeat with the structure, pressures are given without ``method="npt"``, a
        composition does not fit, or there is nothing to exchange across.

    Warns
    -----
    UserWarning
        If points are not in equilibrium, or an observable never varies.
    """
    temperatures = positive_numbers("temperatures_K", temperatures_K)
    if temperatures.ndim != 1 or (np.diff(temperatures) <= 0).any():
        raise ValueError(f"temperatures_K must ascend, got {temperatures}")
    _check_pressures(pressures_GPa, method, options or {})
    check_run(method, steps, interval)
    whole("realizations", realizations, 1)
    axes = grid_axes(fields_T, pressures_GPa, strains, compositions)
    axis = unit_vector(direction)
    possible = method == "monte-carlo" and sweep is None
    across_fields = _across_fields(tempering, axes, possible)
    tempered = across_fields or (tempering == "temperature" and len(temperatures) > 1)
    base = SamplingTask(
        model_data(model_of(atoms, model)),
        atoms,
        tuple(temperatures.tolist()),
        ((0.0, 0.0, 0.0),),
        atoms.cell.array,
        steps,
        steps // 5 if equilibration is None else equilibration,
        interval,
        method,
        options=driver_options(method, possible and tempered, sweep is not None)
        | dict(options or {}),
    )
    points = partial(
        runs_of_points,
        axes=axes,
        compositions=compositions,
        direction=axis,
        sublattice=sublattice,
        realizations=realizations,
        seed=seed,
    )
    together = partial(joined_runs, axes=axes) if across_fields else _one_by_one
    function = run_joined if across_fields else run_chain
    run = partial(map_tasks, function, client=client, progress=progress)

    def search() -> dict[str, np.ndarray]:
        folder = None if checkpoint is None else Path(checkpoint) / "search"
        scouts = together(points(replace(base, steps=interval), checkpoint=folder))
        seen = run([[r.task for r in chain] for chain in scouts], description="search")
        return _orders_of(scouts, seen, axis)

    waves = _order_and_others(atoms, q, search) | dict(orders or {})
    groups = {key: np.atleast_2d(np.asarray(w, float)) for key, w in waves.items()}
    name = order_name(atoms, groups[""])
    volume = {"volume": Volume()} if method == "npt" else {}
    base = replace(
        base,
        q=tuple(map(tuple, np.concatenate(list(groups.values())).tolist())),
        observables=volume | dict(observables or {}),
        mean_structure=space_group_tolerance_A is not None,
    )
    tasks = points(base, checkpoint=checkpoint)
    grid = axes | {"temperature_K": temperatures}
    chains = together(tasks)
    if sweep is not None:
        chains = chains_of_runs(tasks, grid, sweep)
        grid = {"sweep": np.array([1.0, -1.0])} | grid
    found: dict[Run, ThermalSamples] = {}
    collected = partial(
        _collected, grid, groups, axis, name, space_group_tolerance_A or 0.0
    )

    def finished(number: int, samples: list[ThermalSamples]) -> None:
        found.update(zip(chains[number], samples, strict=True))
        if observe is not None:
            observe(collected(found))

    run(
        [[r.task for r in chain] for chain in chains],
        description="points",
        finished=finished,
    )
    diagram = collected(found)
    _warn_of_drift(diagram)
    _warn_of_constants(diagram, list(observables or {}))
    return diagram


def _check_pressures(
    pressures: ArrayLike | None, method: str, options: Mapping[str, Any]
) -> None:
    if pressures is not None and method != "npt":
        raise ValueError('pressures_GPa need method="npt", in which the cell moves')
    if "pressure_GPa" in options:
        raise ValueError(
            "options have a pressure_GPa: give pressures_GPa, of which one will do"
        )


def _order_and_others(
    atoms: Atoms,
    q: ArrayLike | str | None,
    search: Callable[[], dict[str, np.ndarray]],
) -> dict[str, Any]:
    """Return waves of the order under "", and of others that were found with it."""
    if q is None:
        return {"": structure_factor(atoms).peak_q}
    if not isinstance(q, str):
        return {"": q}
    if q != "auto":
        raise ValueError(f'q must be propagation vectors or "auto", got {q!r}')
    first, *rest = search().items()
    return {"": first[1], **dict(rest)}


def _across_fields(
    tempering: str, axes: Mapping[str, np.ndarray], possible: bool
) -> bool:
    """Return whether replicas exchange across fields."""
    if tempering not in TEMPERINGS:
        raise ValueError(
            f"tempering must be one of {', '.join(TEMPERINGS)}, got {tempering!r}"
        )
    if tempering != "field":
        return False
    if not possible or len(axes.get("field_T", ())) < 2:
        raise ValueError(
            'tempering="field" needs fields_T of two points or more, '
            'method="monte-carlo" and no sweep'
        )
    return True


def _one_by_one(runs: Sequence[Run]) -> list[list[Run]]:
    return [[run] for run in runs]


def _orders_of(
    chains: Sequence[Sequence[Run]],
    samples: Sequence[Sequence[ThermalSamples]],
    direction: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the orders that runs have ended in, by name."""
    images, fields = [], []
    for chain, found in zip(chains, samples, strict=True):
        for run, part in zip(chain, found, strict=True):
            images += part.final
            fields += [field_of(run, direction)] * len(part.final)
    return found_orders(images, fields)


def field_of(run: Run, direction: np.ndarray) -> float:
    """Return the field of a run along a direction, T."""
    field = run.task.options.get("external_field_T", (0.0, 0.0, 0.0))
    return float(np.dot(field, direction))


def _collected(
    axes: dict[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
    direction: np.ndarray,
    name: str,
    tolerance: float,
    found: Mapping[Run, ThermalSamples],
) -> PhaseDiagram:
    """Average the samples that there are; NaN elsewhere."""
    shape = tuple(map(len, axes.values()))
    parts: dict[tuple[int, ...], dict[int, list[tuple[Run, ThermalSamples]]]] = {}
    for run, samples in found.items():
        at = parts.setdefault(run.point, {}).setdefault(run.realization, [])
        at.append((run, samples))
    quantities: dict[str, np.ndarray] = {}
    drift, phases = np.full(shape, np.nan), np.full(shape, "", dtype="U80")
    space_groups = phases.copy()
    named = {key or name: waves for key, waves in groups.items()}
    kept: list[list[ThermalSamples]] = [[] for _ in range(int(np.prod(shape[:-1])))]
    for point, by_realization in parts.items():
        rows, drifts = [], []
        for pieces in by_realization.values():
            row: dict[str, np.ndarray] = {}
            moved = np.full(shape[-1], np.nan)
            for run, samples in pieces:
                field = field_of(run, direction)
                pressure = float(run.task.options.get("pressure_GPa", 0.0))
                row_of = averages(samples, groups, direction, field, pressure)
                for key, values in row_of.items():
                    blank = np.full((shape[-1], 2), np.nan)
                    row.setdefault(key, blank)[run.temperatures] = values
                order = order_sizes(samples, groups)[""]
                moved[run.temperatures] = [half_difference(values) for values in order]
            rows.append(row)
            drifts.append(moved)
            pieces.sort(key=lambda piece: piece[1].temperatures_K[0])
            number = int(np.ravel_multi_index(point, shape[:-1])) if point else 0
            kept[number].append(joined_samples([samples for _, samples in pieces]))
        for key in rows[0]:
            blank = np.full((*shape, 2), np.nan)
            mean = mean_of_realizations([row[key] for row in rows])
            quantities.setdefault(key, blank)[point] = mean
        drift[point] = np.max(drifts, axis=0)
        in_field = field if "field_T" in axes else None
        for replica, warmth in enumerate(kept[number][0].temperatures_K):
            at = np.searchsorted(axes["temperature_K"], warmth)
            phases[point][at] = phase_name(
                kept[number], named, replica, direction, in_field
            )
            if kept[number][0].mean:
                structure = kept[number][0].mean[replica]
                space_groups[point][at] = space_group(structure, symprec=tolerance)
    others = {key: waves for key, waves in groups.items() if key}
    return PhaseDiagram(
        dict(axes),
        quantities,
        groups[""],
        drift,
        others,
        direction,
        kept,
        name,
        phases,
        space_groups,
    )


def _warn_of_drift(diagram: PhaseDiagram) -> None:
    moved = int((diagram.drift > _DRIFT).sum())
    if moved:
        warnings.warn(
            f"{moved} of {diagram.drift.size} points are not in equilibrium: the order "
            "of both halves of the run differs; sample longer, equilibrate longer",
            stacklevel=3,
        )


def _warn_of_constants(diagram: PhaseDiagram, observables: Sequence[str]) -> None:
    """Warn of observables that are the same in all samples of all points."""
    for name in observables:
        values = np.concatenate(
            [s.observables[name].ravel() for point in diagram.samples for s in point]
        )
        if np.ptp(values) <= 1e-9 * abs(values).max():
            warnings.warn(
                f"the observable {name!r} is {values[0]:g} in all samples of all "
                "points and tells no phases apart: does it depend on what moves here? "
                'Atoms move with method="langevin", the cell with method="npt"',
                stacklevel=3,
            )
