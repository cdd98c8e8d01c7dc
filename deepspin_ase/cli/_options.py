"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add ``--columns``."""
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="QUANTITY=NAME",
        help="names of columns, such as moments=dft_spin magnetic_forces=mforce "
        "energy=REF_energy; usual ones are known",
    )


def add_run(parser: argparse.ArgumentParser, configuration: str) -> None:
    """Add the file of a run that goes on when it is called again, and ``--status``."""
    parser.add_argument("config", type=Path, help=f"YAML file; see {configuration}")
    parser.add_argument(
        "--status", action="store_true", help="say what is done, and do nothing"
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
