"""``deepspin test``: comparison of a model with labelled data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._figures import write_figure
from .._files import atomic_write
from ..data import read_dataset
from ..potentials import (
    Potential,
    SymmetryViolations,
    load_card,
    load_potential,
    symmetry_violations,
)
from ..training import (
    Comparison,
    aligned,
    collect,
    compare,
    load_batches,
    plot_parity,
    plot_reliability,
)
from ..training._report import aligned_columns, table_of_errors
from ._options import add_columns, columns_of
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Errors of a model on labelled data, and how far it violates "
        "time reversal and global spin rotation."
    )
    parser.add_argument("model", help="model file, or name of a model")
    parser.add_argument("data", nargs="+", help="extxyz file or DeePMD folder")
    add_columns(parser)
    parser.add_argument(
        "--set",
        metavar="NAME",
        help="data set of the training, whose offset of energies and scale of moments "
        "hold for these data ('deepspin info MODEL' lists them)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        help="parity figure; its numbers go next to it, as .npz, and errors over their "
        "estimates, if the model has any, as NAME_reliability",
    )
    parser.add_argument(
        "--rotations",
        type=int,
        default=8,
        help="number of random spin rotations (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    potential = load_potential(arguments.model)
    options = {**_data_options(potential), "columns": columns_of(arguments)}
    datasets = [read_dataset(path, **options) for path in arguments.data]
    if arguments.set is not None:
        entry = _entry(load_card(arguments.model), arguments.set)
        datasets = [aligned(dataset, entry) for dataset in datasets]
    parts = [collect(load_batches(data, potential)) for data in datasets]
    batches = [batch for part in parts for batch in part]
    found = compare(potential, batches, deviations=True)
    violations = symmetry_violations(
        potential, [batch.system for batch in batches], n_rotations=arguments.rotations
    )
    lines = _errors(found)
    own: dict[str, dict[str, float]] = {}
    if len(parts) > 1:
        each = (compare(potential, part) for part in parts)
        own = {
            data.name: {kind: both.rmse for kind, both in errors.items()}
            for data, errors in zip(datasets, each, strict=True)
        }
        lines += ["", *aligned_columns(table_of_errors(own))]
    print("\n".join([*lines, "", *_symmetries(violations)]))
    errors = {
        name: {"rmse": x.rmse, "mae": x.mae, "unit": x.unit, "numbers": len(x.label)}
        for name, x in found.items()
    }
    told = {
        "errors": errors,
        "rmse_of_each": own,
        "symmetry_violations": _violations(violations),
        "files": [] if arguments.plot is None else _plot(arguments.plot, found),
    }
    return Outcome(told)


def _data_options(potential: Potential) -> Mapping[str, Any]:
    """Return what a model knows of types and pseudo-atoms in DeePMD folders."""
    places: list[Any] = [
        place
        for part in potential.modules()
        for place in (part, getattr(part, "config", None))
        if hasattr(place, "data_options")
    ]
    return places[0].data_options if places else {}


def _entry(card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a model's card says of a data set."""
    sets = card.get("sets", {})
    if name not in sets:
        known = ", ".join(map(repr, sets)) or "none"
        raise ValueError(f"--set {name}: the model's card names no such set; {known}")
    entry: Mapping[str, Any] = sets[name]
    return entry


def _errors(found: Mapping[str, Comparison]) -> list[str]:
    if not found:
        return ["the data carry no labels"]
    lines = [f"{'':<30}{'RMSE':>11}{'MAE':>11}  {'':<10}{'numbers':>9}"]
    for name, both in found.items():
        rmse, mae = 1e3 * both.rmse, 1e3 * both.mae
        lines.append(
            f"{name.replace('_', ' '):<30}{rmse:11.4f}{mae:11.4f}  "
            f"{'m' + both.unit:<10}{len(both.label):9d}"
        )
    return lines


def _symmetries(found: SymmetryViolations) -> list[str]:
    rows = (
        ("E(S) - E(-S)", found.time_reversal_energy, "meV/atom"),
        ("F_m(S) + F_m(-S)", found.time_reversal_magnetic_forces, "meV/mu_B"),
        ("E under spin rotations", found.spin_rotation_energy, "meV/atom"),
    )
    return [
        f"symmetry violations (rms over {found.n_structures} frames; "
        f"{found.n_rotations} rotations)",
        *(f"  {name:<28}{1e3 * value:11.4f}  {unit}" for name, value, unit in rows),
        "  (spin rotation: a violation only without spin-orbit coupling)",
    ]


def _violations(found: SymmetryViolations) -> dict[str, float]:
    """Return violations with units in their names."""
    magnetic_forces = found.time_reversal_magnetic_forces
    return {
        "time_reversal_energy_eV_per_atom": found.time_reversal_energy,
        "time_reversal_magnetic_forces_eV_per_mu_B": magnetic_forces,
        "spin_rotation_energy_eV_per_atom": found.spin_rotation_energy,
        "structures": found.n_structures,
        "rotations": found.n_rotations,
    }


def _plot(path: Path, found: Mapping[str, Comparison]) -> list[Path]:
    """Write the figures and their numbers; return the files."""
    if not found:
        raise ValueError("the data carry no labels: there is nothing to plot")
    write_figure(path, plot_parity(found)[0])
    written = [path, path.with_suffix(".npz")]
    if any(both.deviation is not None for both in found.values()):
        other = path.with_stem(f"{path.stem}_reliability")
        write_figure(other, plot_reliability(found)[0])
        written.append(other)
    numbers = {
        f"{name}_{kind}": getattr(both, kind)
        for name, both in found.items()
        for kind in ("label", "prediction", "deviation")
        if getattr(both, kind) is not None
    }
    with atomic_write(path.with_suffix(".npz")) as temporary:
        np.savez(temporary, **numbers)
    print("wrote", ", ".join(map(str, written)))
    return written
