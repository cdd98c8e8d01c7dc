"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add ``--columns``."""
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="QUANTITY=NAME",
        help="names of columns, such as moments=dft_spin magnetic_forces=mforce "
        "energy=REF_energy; usual ones are known",
    )


def columns_of(arguments: argparse.Namespace) -> dict[str, str] | None:
    """Return the names of columns by their quantities."""
    return pairs("--columns", "QUANTITY=NAME, such as moments=spin", arguments.columns)


def pairs(
    option: str, expected: str, given: Sequence[str] | None
) -> dict[str, str] | None:
    """Return NAME=VALUE as a dictionary.

    Raises
    ------
    ValueError
        If one has no name or no value.
    """
    if given is None:
        return None
    parts = [text.partition("=") for text in given]
    if not all(name and value for name, _, value in parts):
        raise ValueError(f"{option} takes {expected}, got {' '.join(given)}")
    return {name: value for name, _, value in parts}
