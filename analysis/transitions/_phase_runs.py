"""The runs of a phase diagram: points, realizations, chains, and exchange."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ...build import random_alloy
from ._thermal_sampling import SamplingTask, ThermalSamples, run_sampling

#: What replicas exchange configurations across.
TEMPERINGS = ("none", "temperature", "field")

#: Sweeps between swaps of neighbors.
_EXCHANGE = 10


@dataclass(frozen=True, eq=False)
class Run:
    """A task, and where in the grid its samples belong.

    Attributes
    ----------
    task : SamplingTask
    point : tuple of int
        On the axes beside the temperature.
    realization : int
    first : int
        Of the temperatures of the grid.
    """

    task: SamplingTask
    point: tuple[int, ...]
    realization: int
    first: int = 0

    @property
    def temperatures(self) -> slice:
        """Those of the grid that are sampled."""
        return slice(self.first, self.first + len(self.task.temperatures_K))


def grid_axes(
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


def driver_options(method: str, tempering: bool, sweep: bool) -> dict[str, Any]:
    """Return options of the driver that suit the diagram."""
    if tempering:
        return {"exchange_interval": _EXCHANGE}
    # What crosses barriers would hide the hysteresis.
    return {"rotations": 0} if sweep and method == "monte-carlo" else {}


def runs_of_points(
    base: SamplingTask,
    axes: Mapping[str, np.ndarray],
    compositions: Sequence[Mapping[str, float]] | None,
    direction: np.ndarray,
    *,
    sublattice: str | None,
    realizations: int,
    seed: int,
    checkpoint: str | os.PathLike[str] | None,
) -> list[Run]:
    """Return a run of all temperatures for each point and realization."""
    runs = []
    points = itertools.product(*(range(len(v)) for v in axes.values()))
    for number, point in enumerate(points):
        given = dict(zip(axes, point, strict=True))
        composition = None
        if compositions is not None:
            composition = compositions[given["composition"]]
        for r in range(realizations if composition else 1):
            task = _task(
                base,
                {name: float(axes[name][k]) for name, k in given.items()},
                composition,
                direction,
                sublattice=sublattice,
                seed=seed + 1000 * number + r,
                checkpoint=_name(checkpoint, f"point{number}_{r}"),
            )
            runs.append(Run(task, point, r))
    return runs


def _task(
    base: SamplingTask,
    point: Mapping[str, float],
    composition: Mapping[str, float] | None,
    direction: np.ndarray,
    *,
    sublattice: str | None,
    seed: int,
    checkpoint: str | None,
) -> SamplingTask:
    """Return the task of a point."""
    assert isinstance(base.atoms, Atoms)
    atoms, options = base.atoms.copy(), dict(base.options)
    cell = base.cell
    if composition:
        atoms = random_alloy(atoms, composition, sublattice=sublattice, seed=seed)
    if "strain" in point:
        cell = cell * (1.0 + point["strain"])
        atoms.set_cell(cell, scale_atoms=True)
    if "field_T" in point:
        options["external_field_T"] = tuple((point["field_T"] * direction).tolist())
    if "pressure_GPa" in point:
        options["pressure_GPa"] = point["pressure_GPa"]
    return replace(
        base, atoms=atoms, cell=cell, options=options, seed=seed, checkpoint=checkpoint
    )


def joined_runs(runs: Sequence[Run], axes: Mapping[str, np.ndarray]) -> list[list[Run]]:
    """Return runs that differ in field alone together, by rising field."""
    position = list(axes).index("field_T")
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        rest = (*run.point[:position], *run.point[position + 1 :], run.realization)
        groups.setdefault(rest, []).append(run)
    return list(groups.values())


def chains_of_runs(
    runs: Sequence[Run], grid: Mapping[str, np.ndarray], sweep: str
) -> list[list[Run]]:
    """Return runs that follow each other, up the axis ``sweep`` and down again.

    Raises
    ------
    ValueError
        If there is no such axis, or it has fewer than two points.
    """
    swept = [name for name in grid if name != "composition"]
    if sweep not in swept or len(grid[sweep]) < 2:
        raise ValueError(
            f"sweep must be an axis of two points or more, one of {', '.join(swept)}; "
            f"got {sweep!r}"
        )
    position = list(grid).index(sweep)
    chains: dict[Any, list[Run]] = {}
    for run in runs:
        rest = (*run.point[:position], *run.point[position + 1 :], run.realization)
        pieces = _by_temperature(run) if sweep == "temperature_K" else [run]
        chains.setdefault(rest, []).extend(pieces)
    return [
        [
            Run(
                replace(
                    run.task,
                    seed=run.task.seed + 10_000_000 * (1 + back),
                    checkpoint=_name(run.task.checkpoint, ("up", "down")[back]),
                ),
                (back, *run.point),
                run.realization,
                run.first,
            )
            for back, direction in enumerate((1, -1))
            for run in chain[::direction]
        ]
        for chain in chains.values()
    ]


def _by_temperature(run: Run) -> list[Run]:
    """Return a run for each temperature of one."""
    return [
        replace(
            run,
            task=replace(
                run.task,
                temperatures_K=(temperature,),
                seed=run.task.seed + 100_000_000 * k,
                checkpoint=_name(run.task.checkpoint, str(k)),
            ),
            first=k,
        )
        for k, temperature in enumerate(run.task.temperatures_K)
    ]


def _name(folder: str | os.PathLike[str] | None, name: str) -> str | None:
    return None if folder is None else str(Path(folder) / name)


def run_chain(tasks: Sequence[SamplingTask]) -> list[ThermalSamples]:
    """Run tasks one after the other, each from where the one before has ended."""
    found: list[ThermalSamples] = []
    for task in tasks:
        if found:
            assert isinstance(task.atoms, Atoms)
            starts = [image.copy() for image in found[-1].final]
            if task.method != "npt":
                for start in starts:
                    start.set_cell(task.atoms.cell, scale_atoms=True)
            task = replace(task, atoms=tuple(starts))
        found.append(run_sampling(task, progress=False))
    return found


def run_joined(tasks: Sequence[SamplingTask]) -> list[ThermalSamples]:
    """Run tasks that differ in field alone as one, whose replicas exchange."""
    first, count = tasks[0], len(tasks[0].temperatures_K)
    fields = [task.options["external_field_T"] for task in tasks for _ in range(count)]
    task = replace(
        first,
        temperatures_K=first.temperatures_K * len(tasks),
        options={**first.options, "external_field_T": tuple(fields)},
    )
    found = run_sampling(task, progress=False)
    starts = range(0, len(fields), count)
    return [_part(found, slice(start, start + count)) for start in starts]


def _part(samples: ThermalSamples, replicas: slice) -> ThermalSamples:
    """Return the samples of some replicas."""
    series = ("temperatures_K", "order", "magnetization", "energy", "order_vectors")
    return replace(
        samples,
        **{name: getattr(samples, name)[replicas] for name in series},
        observables={n: rows[replicas] for n, rows in samples.observables.items()},
        final=samples.final[replicas],
        mean=samples.mean[replicas],
    )


def joined_samples(parts: Sequence[ThermalSamples]) -> ThermalSamples:
    """Return the samples of several runs, by temperature, as those of one."""
    if len(parts) == 1:
        return parts[0]
    series = ("temperatures_K", "order", "magnetization", "energy", "order_vectors")
    return ThermalSamples(
        **{n: np.concatenate([getattr(part, n) for part in parts]) for n in series},
        n_magnetic=parts[0].n_magnetic,
        n_atoms=parts[0].n_atoms,
        observables={
            name: np.concatenate([part.observables[name] for part in parts])
            for name in parts[0].observables
        },
        final=[image for part in parts for image in part.final],
        mean=[image for part in parts for image in part.mean],
    )
