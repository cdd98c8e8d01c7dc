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
from ._start import add_start, by_element, set_moments

#: Quantities that are drawn, each with a figure.
_DRAWN = ("binder", "order", "susceptibility", "heat_capacity")


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
        help="model file, or name of a shipped model (default: the exchange table)",
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
        "-o", "--output", type=Path, default=Path("curie.npz"), help="curie.npz"
    )
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
        help="sweeps, or time steps (default: %(default)s)",
    )
    group.add_argument(
        "--equilibration", type=int, help="before them (default: a fifth of them)"
    )
    group.add_argument(
        "--method",
        choices=("monte-carlo", "langevin", "npt"),
        default="monte-carlo",
        help="atoms are fixed, move, or move with the cell (default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0)


def _add_doping(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("doping")
    group.add_argument(
        "--doping",
        nargs="+",
        metavar="ELEMENT=SHARE",
        help="species at random sites, such as Mg=0.1; X is a vacancy",
    )
    group.add_argument(
        "--sublattice",
        metavar="ELEMENT",
        help="whose sites (default: the only magnetic element)",
    )
    group.add_argument(
        "--doped-moments",
        nargs="+",
        metavar="ELEMENT=MU_B",
        help="lengths of the moments of what is put in (default: zero)",
    )
    group.add_argument(
        "--realizations", type=int, default=8, help="of each size (default: 8)"
    )


def _run(arguments: argparse.Namespace) -> int:
    output = arguments.output
    if output.suffix != ".npz":
        raise ValueError(f"{output} must end in .npz")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist")
    temperatures = _temperatures(arguments.temperatures)
    disorder = _disorder(arguments)
    atoms, model = _crystal(arguments)
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
            disorder=disorder,
            realizations=arguments.realizations,
            seed=arguments.seed,
            checkpoint=output.with_suffix(".samples"),
        )
        print(found)
        _keep(found, output)
    return 0


def _crystal(arguments: argparse.Namespace) -> tuple[Atoms, str | Potential]:
    """Return the cell and the model, both of an exchange table where it is one."""
    given = arguments.model
    if exchange_format(arguments.structure) is not None:
        table = read_exchange_table(arguments.structure)
        return table.atoms, table if given is None else given
    if given is None:
        raise ValueError(
            f"give --model: {arguments.structure} is a structure, not an exchange table"
        )
    return read_structure(arguments.structure), given


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


def _keep(found: TransitionResult, output: Path) -> None:
    """Write the numbers and the figures."""
    found.save(output)
    written = [output]
    for quantity in _DRAWN:
        path = output.with_name(f"{output.stem}_{quantity}.png")
        write_figure(path, plot_transition(found, quantity=quantity))
        written.append(path)
    print("wrote", ", ".join(map(str, written)))
