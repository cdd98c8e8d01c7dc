"""``deepspin curie``: the transition temperature of a magnetic order."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from .._config import numbers
from .._figures import write_figure
from .._files import locked
from ..analysis.transitions import TransitionResult, curie_temperature, plot_transition
from ..build import random_alloy
from ..calculators._deepspin import DeepSpinCalculator
from ..io import read_structure
from ..potentials import Potential
from ..potentials.bonds import exchange_format, read_exchange_table
from ._curie_page import DRAWN, transition_page
from ._outcome import Outcome
from ._reports import add_report, check_report, write_report
from ._start import add_start, by_element, set_moments


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Transition temperature of the magnetic order of a crystal, from the Binder "
        "cumulants of several sizes. Averages and fits are kept in the output (.npz), "
        "figures drawn next to it; the same command resumes a run that was stopped, "
        "and goes on with more --steps. Doped crystals are averaged over realizations."
    )
    parser.add_argument(
        "structure",
        type=Path,
        help="cell with moments in order, or an exchange table such as exchange.out",
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        help="model file, or name of a model (default: the exchange table)",
    )
    parser.add_argument(
        "-T",
        "--temperatures",
        nargs="+",
        required=True,
        metavar="K",
        help="at least four that bracket the transition: numbers, or first:last:count",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("curie.npz"),
        help="file of averages and fits (default: %(default)s)",
    )
    add_report(parser)
    add_start(parser)
    _add_sampling(parser)
    _add_doping(parser)
    parser.set_defaults(run=_run)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=(4, 6, 8),
        help="repeats of the cell (default: 4 6 8)",
    )
    group.add_argument(
        "--q",
        nargs=3,
        type=float,
        help="propagation vector of the order, reciprocal lattice units of the cell; "
        "by default the peak of its structure factor",
    )
    group.add_argument(
        "--steps",
        type=int,
        default=10000,
        help="sweeps, or time steps, that are sampled (default: %(default)s)",
    )
    group.add_argument(
        "--equilibration",
        type=int,
        help="steps before (default: a fifth of those that are sampled)",
    )
    group.add_argument(
        "--method",
        choices=("monte-carlo", "langevin", "npt"),
        default="monte-carlo",
        help="atoms are fixed, move, or move with the cell (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the random numbers (default: %(default)s)",
    )


def _add_doping(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("doping")
    group.add_argument(
        "--doping",
        nargs="+",
        metavar="ELEMENT=SHARE",
        help="species at random sites, such as Mg=0.1; X is a vacancy, C@octahedral "
        "carbon between the sites",
    )
    group.add_argument(
        "--sublattice",
        metavar="ELEMENT",
        help="element that is replaced (default: the only magnetic one)",
    )
    group.add_argument(
        "--doped-moments",
        nargs="+",
        metavar="ELEMENT=MU_B",
        help="lengths of the moments of what is put in (default: zero)",
    )
    group.add_argument(
        "--realizations",
        type=int,
        default=8,
        help="number at each size (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> Outcome:
    output = arguments.output
    if output.suffix != ".npz":
        raise ValueError(f"{output} must end in .npz")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist")
    check_report(arguments.report)
    temperatures = _temperatures(arguments.temperatures)
    disorder = _disorder(arguments)
    atoms, model, own_disorder = _crystal(arguments)
    set_moments(atoms, arguments)
    with locked(output):
        found = curie_temperature(
            atoms,
            temperatures,
            sizes=arguments.sizes,
            q=arguments.q,
            steps=arguments.steps,
            equilibration=arguments.equilibration,
            method=arguments.method,
            model=DeepSpinCalculator(model),
            disorder=disorder or own_disorder,
            realizations=arguments.realizations,
            seed=arguments.seed,
            checkpoint=output.with_suffix(".samples"),
        )
        print(found)
        files = _keep(found, output)
    if arguments.report is not None:
        files += write_report(transition_page(found, atoms), arguments)
    sizes = [
        {
            "cells": size.size,
            "magnetic_atoms": size.n_magnetic,
            "crossing_with_next_K": next_size,
            "susceptibility_peak_K": susceptibility,
            "heat_capacity_peak_K": heat_capacity,
            "drift": size.drift.max(),
        }
        for size, next_size, susceptibility, heat_capacity in zip(
            found.sizes,
            [*found.crossings_K, None],
            found.susceptibility_peaks_K,
            found.heat_capacity_peaks_K,
            strict=True,
        )
    ]
    told = {
        "transition_K": found.temperature_K,
        "q": found.q,
        "temperatures_K": found.temperatures_K,
        "sizes": sizes,
        "files": files,
    }
    return Outcome(told)


def _crystal(arguments: argparse.Namespace) -> tuple[Atoms, str | Potential, Any]:
    """Return the cell, the model, and what draws species: of a table all from there."""
    given = arguments.model
    if exchange_format(arguments.structure) is not None:
        table = read_exchange_table(arguments.structure)
        model = table if given is None else given
        return table.parent, model, table.disordered if table.is_alloy else None
    if given is None:
        raise ValueError(
            f"give --model: {arguments.structure} is a structure, not an exchange table"
        )
    return read_structure(arguments.structure), given, None


def _disorder(arguments: argparse.Namespace) -> Any:
    """Return what makes realizations of a doped crystal; None for a perfect one."""
    if arguments.doping is None:
        for name in ("sublattice", "doped_moments"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} needs --doping")
        return None
    composition = by_element("--doping", arguments.doping, "Mg=0.1")
    moments = by_element("--doped-moments", arguments.doped_moments or [], "Co=1.7")

    def realize(supercell: Any, seed: int) -> Any:
        return random_alloy(
            supercell,
            composition,
            sublattice=arguments.sublattice,
            moments=moments,
            seed=seed,
        )

    return realize


def _temperatures(given: list[str]) -> np.ndarray:
    """Return temperatures of numbers and ranges first:last:count."""
    try:
        return np.array(numbers(given))
    except ValueError as error:
        raise ValueError(f"--temperatures: {error}") from None


def _keep(found: TransitionResult, output: Path) -> list[Path]:
    """Write the numbers and the figures; return the files."""
    found.save(output)
    written = [output]
    for quantity in DRAWN:
        path = output.with_name(f"{output.stem}_{quantity}.png")
        write_figure(path, plot_transition(found, quantity=quantity))
        written.append(path)
    print("wrote", ", ".join(map(str, written)))
    return written
