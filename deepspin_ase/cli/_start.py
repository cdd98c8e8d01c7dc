"""Moments that a command starts from: arguments, and what they set."""

from __future__ import annotations

import argparse

from ase import Atoms

from ..orders import antiferromagnetic, collinear
from ..spins import set_spins


def add_start(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`set_moments` looks at."""
    start = parser.add_argument_group("moments to start from")
    start.add_argument(
        "--moments",
        nargs="+",
        metavar="ELEMENT=MU_B",
        help="lengths, such as Ni=1.277; by default the moments of the file",
    )
    start.add_argument(
        "--order",
        nargs=3,
        type=float,
        metavar="Q",
        help="antiferromagnetic order of this wave vector in reciprocal lattice units, "
        "with --moments; ferromagnetic by default",
    )
    start.add_argument(
        "--order-cell",
        type=float,
        metavar="A",
        help="edge of the cube along x, y, z that --order refers to; by default the "
        "cell of the file",
    )
    start.add_argument(
        "--direction",
        default="z",
        metavar="AXIS",
        help="axis of the order (default: %(default)s)",
    )


def set_moments(atoms: Atoms, arguments: argparse.Namespace) -> None:
    """Set the moments that were asked for, or see that the file has some."""
    if arguments.moments is None:
        if arguments.order is not None:
            raise ValueError("--order needs --moments, such as --moments Ni=1.277")
        if not atoms.has("initial_magmoms"):
            raise ValueError(
                f"{arguments.structure} carries no magnetic moments; give them with "
                "--moments ELEMENT=MU_B and, if they alternate, --order"
            )
        return
    lengths = by_element("--moments", arguments.moments, "Ni=1.277")
    order = collinear(arguments.direction)
    if arguments.order is not None:
        order = antiferromagnetic(
            arguments.order, direction=arguments.direction, cell=arguments.order_cell
        )
    set_spins(atoms, lengths, pattern=order)


def by_element(option: str, given: list[str], example: str) -> dict[str, float]:
    """Return numbers by element, of texts such as Ni=1.277.

    Raises
    ------
    ValueError
        If a text has another form, or an element stands twice.
    """
    found: dict[str, float] = {}
    for text in given:
        element, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(
                f"{option} takes ELEMENT=NUMBER, such as {example}, got {text!r}"
            ) from None
        if element in found:
            raise ValueError(f"{option} gives {element} twice")
        found[element] = value
    return found
